//! How names are found, and what `*` stands for.

use super::*;

const FORMAT: [&str; 6] = ["order_id", "customer_id", "timestamp", "items", "total", "status"];

fn camel() -> SourceTable {
    let address = Fields::from(vec![Field::new("zipCode", DataType::Utf8, true)]);
    source(
        "Clicks",
        vec![
            Field::new("customerId", DataType::Utf8, true),
            Field::new("select", DataType::Utf8, true),
            Field::new("address", DataType::Struct(address), true),
        ],
    )
}

async fn camel_columns(sql: &str) -> Vec<String> {
    let plan = planned(vec![camel()], &[], &[append(sql)], false).await;
    plan.output_schema(0).fields().iter().map(|field| field.name().clone()).collect()
}

#[tokio::test]
async fn a_star_leaves_kafkas_columns_out_unless_they_are_named() {
    assert_eq!(columns(&[], "SELECT * FROM orders").await, FORMAT);
    let mut expected = FORMAT.to_vec();
    expected.push("_offset");
    assert_eq!(columns(&[], "SELECT *, _offset FROM orders").await, expected);
    assert_eq!(columns(&[], "SELECT o.*, o._offset FROM orders AS o").await, expected);
}

#[tokio::test]
async fn a_star_over_a_view_gives_what_the_view_selects() {
    let views = [view("v", "SELECT order_id, _offset FROM orders")];
    assert_eq!(columns(&views, "SELECT * FROM v").await, ["order_id", "_offset"]);
    let views = [view("v", "SELECT * FROM orders")];
    assert_eq!(columns(&views, "SELECT * FROM v").await, FORMAT);
    assert_eq!(columns(&[], "SELECT * FROM (SELECT total, _topic FROM orders)").await, ["total", "_topic"]);
}

#[tokio::test]
async fn a_star_over_a_common_table_expression_gives_what_it_selects() {
    let sql = "WITH orders AS (SELECT *, _offset FROM orders WHERE total > 1) SELECT * FROM orders";
    let mut expected = FORMAT.to_vec();
    expected.push("_offset");
    assert_eq!(columns(&[], sql).await, expected);
}

#[tokio::test]
async fn a_star_can_leave_out_more() {
    let expected = ["order_id", "customer_id", "timestamp", "total", "status"];
    assert_eq!(columns(&[], "SELECT * EXCEPT (items) FROM orders").await, expected);
    assert_eq!(columns(&[], "SELECT * EXCLUDE (Items) FROM orders").await, expected);
    assert_eq!(columns(&[], "SELECT * EXCEPT (ITEMS, _offset) FROM orders").await, expected);
}

#[tokio::test]
async fn a_star_over_a_join_leaves_kafkas_columns_of_both_sides_out() {
    let views = [view("paid", "SELECT order_id AS id, _offset AS at FROM orders WHERE status = 'paid'")];
    let sql = "SELECT * FROM orders o JOIN paid p ON o.order_id = p.id";
    let plan = planned(vec![orders()], &views, &[complete(sql)], true).await;
    let names: Vec<String> = plan.output_schema(0).fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["order_id", "customer_id", "timestamp", "items", "total", "status", "id", "at"]);
    let sql = "SELECT * FROM orders JOIN (SELECT order_id, 1 AS one FROM orders) AS x USING (order_id)";
    let plan = planned(vec![orders()], &[], &[complete(sql)], true).await;
    let names: Vec<String> = plan.output_schema(0).fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["order_id", "customer_id", "timestamp", "items", "total", "status", "one"]);
}

#[tokio::test]
async fn names_are_found_in_any_case_and_keep_the_declared_spelling() {
    assert_eq!(camel_columns("SELECT customerId FROM Clicks").await, ["customerId"]);
    assert_eq!(
        camel_columns("SELECT CUSTOMERID, c.customerid AS CustId FROM clicks c WHERE customerid = 'x'").await,
        ["customerId", "CustId"]
    );
    assert_eq!(
        camel_columns("SELECT address.zipcode, Clicks.address.ZIPCODE AS z FROM clicks").await,
        ["zipCode", "z"]
    );
    assert_eq!(
        camel_columns("WITH Recent AS (SELECT customerId AS Who FROM clicks) SELECT WHO FROM recent").await,
        ["Who"]
    );
}

#[tokio::test]
async fn a_name_that_exists_as_written_wins_over_another_spelling() {
    let both = source("t", vec![Field::new("id", DataType::Utf8, true), Field::new("ID", DataType::Int32, true)]);
    let plan = planned(vec![both], &[], &[append("SELECT ID AS a, id AS b FROM t")], false).await;
    let schema = plan.output_schema(0);
    assert_eq!(schema.field(0).data_type(), &DataType::Int32);
    assert_eq!(schema.field(1).data_type(), &DataType::Utf8);
}

#[tokio::test]
async fn quotes_and_backquotes_both_quote_names() {
    assert_eq!(camel_columns(r#"SELECT `select`, "customerId" FROM `Clicks`"#).await, ["select", "customerId"]);
}

#[tokio::test]
async fn a_field_of_a_struct_is_called_like_the_field() {
    let views = [view("items", "SELECT order_id, unnest(items) AS item FROM orders")];
    let sql = "SELECT order_id, item.product_id, items.item.quantity, item['subtotal'], i.item.unit_price AS price FROM items JOIN items AS i USING (order_id)";
    let plan = planned(
        vec![orders()],
        &views,
        &[complete(
            &sql.replace("SELECT order_id, item.product_id", "SELECT order_id, items.item.product_id")
                .replace("item['subtotal']", "items.item['subtotal']"),
        )],
        true,
    )
    .await;
    let names: Vec<String> = plan.output_schema(0).fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["order_id", "product_id", "quantity", "subtotal", "price"]);
    assert_eq!(
        columns(&views, "SELECT item.product_id, items.item.quantity FROM items").await,
        ["product_id", "quantity"]
    );
}

#[tokio::test]
async fn only_the_columns_that_queries_read_are_needed() {
    let outputs = [
        append("SELECT order_id, total FROM orders WHERE status = 'paid'"),
        append("SELECT _offset, total FROM orders"),
    ];
    let plan = planned(vec![orders()], &[], &outputs, false).await;
    let schema = plan.needed_schema("orders").unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["order_id", "total", "status", "_offset"]);
    assert!(plan.needed_columns("nothing").is_empty());
}

#[tokio::test]
async fn counting_rows_needs_one_cheap_column() {
    let mut plan = planned(vec![orders()], &[], &[complete("SELECT count(*) AS n FROM orders")], true).await;
    let schema = plan.needed_schema("orders").unwrap();
    assert_eq!(schema.fields().len(), 1);
    assert_eq!(schema.field(0).name(), "_offset");
    run(&mut plan, "orders", &three_orders()).await.unwrap();
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(table(&results[0].batches)[3], "| 3 |");
}
