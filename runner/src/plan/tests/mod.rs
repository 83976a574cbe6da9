#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod expressions;
mod faults;
mod names;
mod refusals;
mod repeat;
mod scenarios;
mod whole;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use arrow::util::pretty::pretty_format_batches;
use chrono::{DateTime, Utc};
use millrace_crds::{ConsoleSink, Output, OutputMode, Sink, View};

use super::{Place, Plan, PlanError, PlanOptions, RunError, SourceTable};

fn kafka_fields() -> Vec<Field> {
    let header =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
    vec![
        Field::new("_key", DataType::Binary, true),
        Field::new("_topic", DataType::Utf8, false),
        Field::new("_partition", DataType::Int32, false),
        Field::new("_offset", DataType::Int64, false),
        Field::new("_timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new_list("_headers", Field::new("element", DataType::Struct(header), false), true),
    ]
}

/// A source with these columns and Kafka's.
fn source(name: &str, fields: Vec<Field>) -> SourceTable {
    let fields: Vec<Field> = fields.into_iter().chain(kafka_fields()).collect();
    SourceTable { name: name.to_owned(), schema: Arc::new(Schema::new(fields)) }
}

/// S1's orders.
fn orders() -> SourceTable {
    let item = Fields::from(vec![
        Field::new("product_id", DataType::Int32, true),
        Field::new("product_name", DataType::Utf8, true),
        Field::new("quantity", DataType::Int32, true),
        Field::new("unit_price", DataType::Float64, true),
        Field::new("subtotal", DataType::Float64, true),
    ]);
    source(
        "orders",
        vec![
            Field::new("order_id", DataType::Int32, true),
            Field::new("customer_id", DataType::Utf8, true),
            Field::new("timestamp", DataType::Utf8, true),
            Field::new_list("items", Field::new("element", DataType::Struct(item), true), true),
            Field::new("total", DataType::Float64, true),
            Field::new("status", DataType::Utf8, true),
        ],
    )
}

/// Three orders: of two items, of one, of none.
fn three_orders() -> RecordBatch {
    rows(
        &orders().schema,
        r#"
        {"order_id": 1, "customer_id": "ada", "timestamp": "2026-01-05T10:00:00", "total": 30.5, "status": "paid",
         "items": [{"product_id": 7, "product_name": "pen", "quantity": 3, "unit_price": 1.5, "subtotal": 4.5},
                   {"product_id": 8, "product_name": "ink", "quantity": 2, "unit_price": 13.0, "subtotal": 26.0}],
         "_key": "616461", "_topic": "commandes-json", "_partition": 0, "_offset": 10, "_timestamp": "2026-01-05T10:00:01Z"}
        {"order_id": 2, "customer_id": "bob", "timestamp": "2026-01-05T10:00:05", "total": 1.5, "status": "cancelled",
         "items": [{"product_id": 7, "product_name": "pen", "quantity": 1, "unit_price": 1.5, "subtotal": 1.5}],
         "_key": "626f62", "_topic": "commandes-json", "_partition": 1, "_offset": 4, "_timestamp": "2026-01-05T10:00:06Z"}
        {"order_id": 3, "customer_id": null, "timestamp": null, "total": null, "status": "paid", "items": [],
         "_key": null, "_topic": "commandes-json", "_partition": 0, "_offset": 11, "_timestamp": "2026-01-05T10:00:07Z"}
        "#,
    )
}

/// Rows from JSON; binary columns are written in hexadecimal.
fn rows(schema: &SchemaRef, json: &str) -> RecordBatch {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(100_000).build_decoder().unwrap();
    let consumed = decoder.decode(json.as_bytes()).unwrap();
    assert_eq!(consumed, json.len());
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema)))
}

fn view(name: &str, sql: &str) -> View {
    View { name: name.to_owned(), sql: sql.to_owned() }
}

fn output(name: &str, mode: OutputMode, sql: &str) -> Output {
    let sink = Sink::Console(ConsoleSink { rows: 20, truncate: None });
    Output { name: name.to_owned(), sql: sql.to_owned(), mode, sink }
}

fn append(sql: &str) -> Output {
    output("out", OutputMode::Append, sql)
}

fn complete(sql: &str) -> Output {
    output("out", OutputMode::Complete, sql)
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_614_400, 0).unwrap() // 2026-01-05T12:00:00Z
}

async fn planned(sources: Vec<SourceTable>, views: &[View], outputs: &[Output], bounded: bool) -> Plan {
    match Plan::new(sources, views, outputs, PlanOptions::new(bounded)).await {
        Ok(plan) => plan,
        Err(errors) => panic!("{}", texts(&errors).join("\n")),
    }
}

async fn refused(views: &[View], outputs: &[Output], bounded: bool) -> Vec<PlanError> {
    match Plan::new(vec![orders()], views, outputs, PlanOptions::new(bounded)).await {
        Ok(plan) => panic!("planned: {}", plan.explain()),
        Err(errors) => errors,
    }
}

fn texts(errors: &[PlanError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The message of the only error of one append query over orders.
async fn why_refused(sql: &str) -> String {
    let errors = texts(&refused(&[], &[append(sql)], false).await);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.into_iter().next().unwrap()
}

/// The needed columns of a batch that has all.
fn needed(plan: &Plan, source: &str, batch: &RecordBatch) -> RecordBatch {
    batch.project(plan.needed_columns(source)).unwrap()
}

/// Runs a batch that has all columns and returns each output's rows as tables.
async fn run(plan: &mut Plan, source: &str, batch: &RecordBatch) -> Result<Vec<(usize, Vec<String>)>, RunError> {
    let batch = needed(plan, source, batch);
    let results = plan.run(source, &batch, noon()).await?;
    Ok(results.iter().map(|rows| (rows.output, table(&rows.batches))).collect())
}

fn table(batches: &[RecordBatch]) -> Vec<String> {
    pretty_format_batches(batches).unwrap().to_string().lines().map(str::to_owned).collect()
}

/// The rows of one append query over [`three_orders`], as a table.
async fn query(sql: &str) -> Vec<String> {
    query_with(&[], sql).await
}

async fn query_with(views: &[View], sql: &str) -> Vec<String> {
    let mut plan = planned(vec![orders()], views, &[append(sql)], false).await;
    let mut results = run(&mut plan, "orders", &three_orders()).await.unwrap();
    results.pop().map_or_else(Vec::new, |(_, table)| table)
}

/// The columns of the result of one append query over orders.
async fn columns(views: &[View], sql: &str) -> Vec<String> {
    let plan = planned(vec![orders()], views, &[append(sql)], false).await;
    plan.output_schema(0).fields().iter().map(|field| field.name().clone()).collect()
}
