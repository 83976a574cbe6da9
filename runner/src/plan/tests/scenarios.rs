//! The first users' queries, as they are written in `examples/`.

use super::*;

const ITEMS: &str = "SELECT order_id, customer_id, timestamp, unnest(items) AS item FROM orders";

#[tokio::test]
async fn s1_writes_orders_and_items_from_one_read() {
    let views = [view("items", ITEMS)];
    let outputs = [
        output(
            "commandes",
            OutputMode::Append,
            "SELECT order_id, customer_id, timestamp, total, status, CAST(_key AS STRING) AS customer_key,
                    _partition AS partition, _offset AS offset, _timestamp AS kafka_timestamp
             FROM orders",
        ),
        output(
            "items",
            OutputMode::Append,
            "SELECT order_id, item.product_id, item['product_name'], item.quantity, item.subtotal FROM items",
        ),
    ];
    let mut plan = planned(vec![orders()], &views, &outputs, false).await;
    assert_eq!(plan.outputs_of("orders"), [0, 1]);
    let results = run(&mut plan, "orders", &three_orders()).await.unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(
        results[0].1,
        [
            "+----------+-------------+---------------------+-------+-----------+--------------+-----------+--------+----------------------+",
            "| order_id | customer_id | timestamp           | total | status    | customer_key | partition | offset | kafka_timestamp      |",
            "+----------+-------------+---------------------+-------+-----------+--------------+-----------+--------+----------------------+",
            "| 1        | ada         | 2026-01-05T10:00:00 | 30.5  | paid      | ada          | 0         | 10     | 2026-01-05T10:00:01Z |",
            "| 2        | bob         | 2026-01-05T10:00:05 | 1.5   | cancelled | bob          | 1         | 4      | 2026-01-05T10:00:06Z |",
            "| 3        |             |                     |       | paid      |              | 0         | 11     | 2026-01-05T10:00:07Z |",
            "+----------+-------------+---------------------+-------+-----------+--------------+-----------+--------+----------------------+",
        ]
    );
    assert_eq!(
        results[1].1,
        [
            "+----------+------------+--------------+----------+----------+",
            "| order_id | product_id | product_name | quantity | subtotal |",
            "+----------+------------+--------------+----------+----------+",
            "| 1        | 7          | pen          | 3        | 4.5      |",
            "| 1        | 8          | ink          | 2        | 26.0     |",
            "| 2        | 7          | pen          | 1        | 1.5      |",
            "+----------+------------+--------------+----------+----------+",
        ]
    );
}

#[tokio::test]
async fn s2_ranks_products_over_a_bounded_read() {
    let views = [view("items", ITEMS)];
    let ranking = complete(
        "SELECT item.product_id, item.product_name, count(*) AS orders, sum(item.quantity) AS quantity,
                sum(item.subtotal) AS revenue
         FROM items GROUP BY item.product_id, item.product_name ORDER BY revenue DESC",
    );
    let mut plan = planned(vec![orders()], &views, &[ranking], true).await;
    for _ in 0..2 {
        assert!(run(&mut plan, "orders", &three_orders()).await.unwrap().is_empty());
    }
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(
        table(&results[0].batches),
        [
            "+------------+--------------+--------+----------+---------+",
            "| product_id | product_name | orders | quantity | revenue |",
            "+------------+--------------+--------+----------+---------+",
            "| 8          | ink          | 2      | 4        | 52.0    |",
            "| 7          | pen          | 4      | 8        | 12.0    |",
            "+------------+--------------+--------+----------+---------+",
        ]
    );
}

#[tokio::test]
async fn s3_shows_new_orders() {
    let mut plan = planned(vec![orders()], &[], &[append("SELECT * FROM orders")], false).await;
    let results = run(&mut plan, "orders", &three_orders()).await.unwrap();
    assert_eq!(results[0].1.len(), 4 + 3);
    assert!(!results[0].1[1].contains("_offset"), "{}", results[0].1[1]);
}

fn logs() -> SourceTable {
    let text = ["timestamp", "level", "module", "message", "request_id", "user_id"];
    let mut fields: Vec<Field> = text.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    fields.push(Field::new("duration_ms", DataType::Int32, true));
    source("logs", fields)
}

#[tokio::test]
async fn s5_counts_logs_by_level_and_by_module() {
    let outputs = [
        output(
            "levels",
            OutputMode::Complete,
            "SELECT level, count(*) AS n FROM logs GROUP BY level ORDER BY n DESC, level",
        ),
        output(
            "modules",
            OutputMode::Complete,
            "SELECT module, count(*) AS n, avg(duration_ms) AS mean_ms FROM logs GROUP BY module ORDER BY module",
        ),
    ];
    let mut plan = planned(vec![logs()], &[], &outputs, true).await;
    let kafka = r#""_topic": "logs-application", "_partition": 0, "_offset": 0"#;
    let line = |level: &str, module: &str, ms: &str| {
        format!(r#"{{"level": "{level}", "module": "{module}", "duration_ms": {ms}, {kafka}}}"#)
    };
    for (level, module, ms) in
        [("INFO", "auth", "10"), ("ERROR", "cart", "40"), ("INFO", "auth", "20"), ("INFO", "cart", "null")]
    {
        run(&mut plan, "logs", &rows(&logs().schema, &line(level, module, ms))).await.unwrap();
    }
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(
        table(&results[0].batches),
        ["+-------+---+", "| level | n |", "+-------+---+", "| INFO  | 3 |", "| ERROR | 1 |", "+-------+---+"]
    );
    assert_eq!(
        table(&results[1].batches),
        [
            "+--------+---+---------+",
            "| module | n | mean_ms |",
            "+--------+---+---------+",
            "| auth   | 2 | 15.0    |",
            "| cart   | 2 | 40.0    |",
            "+--------+---+---------+",
        ]
    );
}

#[tokio::test]
async fn s6_puts_the_most_loaded_server_first() {
    let metrics = source(
        "metrics",
        vec![
            Field::new("timestamp", DataType::Utf8, true),
            Field::new("server", DataType::Utf8, true),
            Field::new("cpu", DataType::Float64, true),
            Field::new("memory", DataType::Float64, true),
        ],
    );
    let schema = Arc::clone(&metrics.schema);
    let sql = "SELECT server, avg(cpu) AS cpu, avg(memory) AS memory FROM metrics GROUP BY server ORDER BY cpu DESC";
    let mut plan = planned(vec![metrics], &[], &[complete(sql)], true).await;
    let batch = rows(
        &schema,
        r#"{"server": "a", "cpu": 10, "memory": 50, "_topic": "metrics", "_partition": 0, "_offset": 0}
           {"server": "b", "cpu": 90, "memory": 20, "_topic": "metrics", "_partition": 0, "_offset": 1}
           {"server": "a", "cpu": 30, "memory": 70, "_topic": "metrics", "_partition": 0, "_offset": 2}"#,
    );
    run(&mut plan, "metrics", &batch).await.unwrap();
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(
        table(&results[0].batches),
        [
            "+--------+------+--------+",
            "| server | cpu  | memory |",
            "+--------+------+--------+",
            "| b      | 90.0 | 20.0   |",
            "| a      | 20.0 | 60.0   |",
            "+--------+------+--------+",
        ]
    );
}

#[tokio::test]
async fn s7_keeps_errors_and_raises_alerts_of_the_fatal_ones() {
    let fields = ["level", "message", "timestamp"].map(|name| Field::new(name, DataType::Utf8, true));
    let events = source("events", fields.to_vec());
    let schema = Arc::clone(&events.schema);
    let outputs = [
        output("errors", OutputMode::Append, "SELECT * FROM events WHERE level IN ('ERROR', 'FATAL')"),
        output("alerts", OutputMode::Append, "SELECT message, timestamp FROM events WHERE level = 'FATAL'"),
    ];
    let mut plan = planned(vec![events], &[], &outputs, false).await;
    let kafka = r#""_topic": "events", "_partition": 0, "_offset": 0"#;
    let batch = |levels: &[&str]| {
        let lines: Vec<String> =
            levels.iter().map(|level| format!(r#"{{"level": "{level}", "message": "m", {kafka}}}"#)).collect();
        rows(&schema, &lines.join("\n"))
    };
    let counts = |results: Vec<(usize, Vec<String>)>| -> Vec<(usize, usize)> {
        results.iter().map(|(output, table)| (*output, table.len() - 4)).collect()
    };
    let results = run(&mut plan, "events", &batch(&["INFO", "ERROR", "FATAL", "WARN"])).await.unwrap();
    assert_eq!(counts(results), [(0, 2), (1, 1)]);
    let results = run(&mut plan, "events", &batch(&["ERROR"])).await.unwrap();
    assert_eq!(counts(results), [(0, 1)]);
    let results = run(&mut plan, "events", &batch(&["INFO"])).await.unwrap();
    assert_eq!(counts(results), []);
}
