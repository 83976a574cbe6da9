//! Expressions over small batches, and what they give.

use super::*;

/// The only column of the result, a row an entry.
async fn column(sql: &str) -> Vec<String> {
    let table = query(sql).await;
    let cell = |line: &String| line.trim_matches('|').trim().to_owned();
    table.iter().skip(3).take(table.len().saturating_sub(4)).map(cell).collect()
}

#[tokio::test]
async fn case_takes_the_first_branch_that_holds() {
    let sql = "SELECT CASE WHEN total > 10 THEN 'large' WHEN total IS NULL THEN 'unknown' ELSE 'small' END AS size FROM orders";
    assert_eq!(column(sql).await, ["large", "small", "unknown"]);
}

#[tokio::test]
async fn casts_convert_between_types() {
    assert_eq!(column("SELECT CAST(total AS INT) AS x FROM orders").await, ["30", "1", ""]);
    assert_eq!(column("SELECT CAST(order_id AS STRING) || '!' AS x FROM orders").await, ["1!", "2!", "3!"]);
    assert_eq!(column("SELECT CAST(_key AS STRING) AS x FROM orders").await, ["ada", "bob", ""]);
    assert_eq!(column("SELECT TRY_CAST(status AS INT) AS x FROM orders WHERE order_id = 1").await, [""]);
    assert_eq!(
        column("SELECT CAST(timestamp AS TIMESTAMP) AS x FROM orders").await,
        ["2026-01-05T10:00:00", "2026-01-05T10:00:05", ""]
    );
}

#[tokio::test]
async fn strings_are_cut_changed_and_joined() {
    assert_eq!(column("SELECT upper(status) AS x FROM orders").await, ["PAID", "CANCELLED", "PAID"]);
    assert_eq!(column("SELECT substr(status, 1, 2) AS x FROM orders").await, ["pa", "ca", "pa"]);
    assert_eq!(
        column("SELECT concat(customer_id, '/', status) AS x FROM orders").await,
        ["ada/paid", "bob/cancelled", "/paid"]
    );
    assert_eq!(column("SELECT length(trim('  ab ')) AS x FROM orders WHERE order_id = 1").await, ["2"]);
    assert_eq!(column("SELECT split_part(timestamp, 'T', 1) AS x FROM orders").await, ["2026-01-05", "2026-01-05", ""]);
    assert_eq!(column("SELECT coalesce(customer_id, 'nobody') AS x FROM orders").await, ["ada", "bob", "nobody"]);
    assert_eq!(column("SELECT status AS x FROM orders WHERE status LIKE 'can%'").await, ["cancelled"]);
}

#[tokio::test]
async fn dates_are_taken_apart_and_rounded() {
    assert_eq!(column("SELECT date_part('hour', _timestamp) AS x FROM orders").await, ["10", "10", "10"]);
    assert_eq!(
        column("SELECT date_trunc('minute', _timestamp) AS x FROM orders WHERE order_id = 2").await,
        ["2026-01-05T10:00:00Z"]
    );
    assert_eq!(column("SELECT CAST(_timestamp AS DATE) AS x FROM orders WHERE order_id = 1").await, ["2026-01-05"]);
    assert_eq!(
        column("SELECT to_char(_timestamp, '%d.%m.%Y') AS x FROM orders WHERE order_id = 1").await,
        ["05.01.2026"]
    );
    assert_eq!(
        column("SELECT _timestamp + INTERVAL '1 day' AS x FROM orders WHERE order_id = 1").await,
        ["2026-01-06T10:00:01Z"]
    );
    assert_eq!(
        column("SELECT to_timestamp(timestamp) AS x FROM orders WHERE to_timestamp(timestamp) < _timestamp").await,
        ["2026-01-05T10:00:00", "2026-01-05T10:00:05"]
    );
}

#[tokio::test]
async fn regular_expressions_match_replace_and_extract() {
    assert_eq!(column("SELECT status AS x FROM orders WHERE regexp_like(status, '^p.*d$')").await, ["paid", "paid"]);
    assert_eq!(column("SELECT status AS x FROM orders WHERE status RLIKE 'l{2}'").await, ["cancelled"]);
    assert_eq!(column("SELECT order_id AS x FROM orders WHERE status NOT RLIKE 'l{2}'").await, ["1", "3"]);
    assert_eq!(
        column("SELECT regexp_replace(timestamp, '[^0-9]', '', 'g') AS x FROM orders WHERE order_id = 1").await,
        ["20260105100000"]
    );
    assert_eq!(
        column("SELECT regexp_match(timestamp, 'T(\\d+)')[1] AS x FROM orders WHERE order_id = 1").await,
        ["10"]
    );
}

#[tokio::test]
async fn nested_fields_and_elements_are_reached() {
    assert_eq!(column("SELECT items[1].product_name AS x FROM orders").await, ["pen", "pen", ""]);
    assert_eq!(column("SELECT items[-1]['product_name'] AS x FROM orders").await, ["ink", "pen", ""]);
    assert_eq!(column("SELECT cardinality(items) AS x FROM orders").await, ["2", "1", "0"]);
    assert_eq!(column("SELECT array_length(_headers) AS x FROM orders WHERE order_id = 1").await, [""]);
}

#[tokio::test]
async fn unnest_gives_no_row_for_an_empty_or_missing_array() {
    let schema = orders().schema;
    let batch = rows(
        &schema,
        r#"{"order_id": 1, "items": [{"product_id": 7}, null], "_topic": "t", "_partition": 0, "_offset": 0}
           {"order_id": 2, "items": [], "_topic": "t", "_partition": 0, "_offset": 1}
           {"order_id": 3, "items": null, "_topic": "t", "_partition": 0, "_offset": 2}
           {"order_id": 4, "items": [{"product_id": 9}], "_topic": "t", "_partition": 0, "_offset": 3}"#,
    );
    let views = [
        view("dropping", "SELECT order_id, unnest(items) AS item FROM orders"),
        view("keeping", "SELECT order_id, unnest_outer(items) AS item FROM orders"),
    ];
    let outputs = [
        append("SELECT order_id, item.product_id FROM dropping"),
        append("SELECT order_id, item.product_id FROM keeping"),
    ];
    let mut plan = planned(vec![orders()], &views, &outputs, false).await;
    let results = run(&mut plan, "orders", &batch).await.unwrap();
    assert_eq!(
        results[0].1[3..6],
        ["| 1        | 7          |", "| 1        |            |", "| 4        | 9          |"]
    );
    assert_eq!(results[0].1.len(), 7);
    assert_eq!(
        results[1].1[3..8],
        [
            "| 1        | 7          |",
            "| 1        |            |",
            "| 2        |            |",
            "| 3        |            |",
            "| 4        | 9          |",
        ]
    );
}

#[tokio::test]
async fn explode_is_unnest() {
    let views = [view("items", "SELECT order_id, explode(items) AS item FROM orders")];
    let exploded = query_with(&views, "SELECT item.product_id FROM items").await;
    let views = [view("items", "SELECT order_id, unnest(items) AS item FROM orders")];
    assert_eq!(exploded, query_with(&views, "SELECT item.product_id FROM items").await);
    assert_eq!(exploded.len(), 4 + 3);
}

#[tokio::test]
async fn now_is_the_batch_time_and_not_the_time_of_planning() {
    let sql = "SELECT now() AS n, current_timestamp AS c, current_date AS d FROM orders WHERE now() > _timestamp";
    let mut plan = planned(vec![orders()], &[], &[append(sql)], false).await;
    let batch = needed(&plan, "orders", &three_orders());
    for (seconds, shown) in [
        (1_767_614_400, "| 2026-01-05T12:00:00Z | 2026-01-05T12:00:00Z | 2026-01-05 |"),
        (1_767_700_800, "| 2026-01-06T12:00:00Z | 2026-01-06T12:00:00Z | 2026-01-06 |"),
    ] {
        let time = DateTime::from_timestamp(seconds, 0).unwrap();
        let results = plan.run("orders", &batch, time).await.unwrap();
        assert_eq!(table(&results[0].batches)[3..6], [shown, shown, shown]);
    }
    let early = DateTime::from_timestamp(0, 0).unwrap();
    assert!(plan.run("orders", &batch, early).await.unwrap().is_empty());
}

#[tokio::test]
async fn strings_and_bytes_leave_the_plan_in_one_type_each() {
    let sql = "SELECT substr(status, 2) AS a, status || 'x' AS b, CAST(order_id AS STRING) AS c, _key AS d,
                      regexp_replace(status, 'a', 'b') AS e, arrow_cast(status, 'Utf8View') AS f FROM orders";
    let plan = planned(vec![orders()], &[], &[append(sql)], false).await;
    for field in plan.output_schema(0).fields() {
        let expected =
            if field.name() == "d" { vec![DataType::Binary] } else { vec![DataType::Utf8, DataType::LargeUtf8] };
        assert!(expected.contains(field.data_type()), "{field:?}");
    }
}
