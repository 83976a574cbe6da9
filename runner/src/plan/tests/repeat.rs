//! A plan is made once and run for months.

use super::*;
use crate::plan::PlannedQuery;

const SQL: &str = "SELECT order_id, upper(status) AS status, total FROM orders WHERE total > 1
                   UNION ALL SELECT order_id, 'item', item.subtotal FROM items";

#[tokio::test]
async fn a_thousand_runs_give_what_fresh_plans_give_and_leave_nothing_behind() {
    let views = [view("items", "SELECT order_id, unnest(items) AS item FROM orders")];
    let mut plan = planned(vec![orders()], &views, &[append(SQL)], false).await;
    let whole = three_orders();
    for round in 0..1000 {
        let batch = whole.slice(round % 3, 1 + round % (3 - round % 3));
        let reused = run(&mut plan, "orders", &batch).await.unwrap();
        if round % 100 == 0 {
            let mut fresh = planned(vec![orders()], &views, &[append(SQL)], false).await;
            assert_eq!(reused, run(&mut fresh, "orders", &batch).await.unwrap(), "round {round}");
        }
        assert_eq!(plan.session.pool.reserved(), 0, "round {round}");
    }
    let PlannedQuery::PerBatch(query) = &plan.outputs[0].query else { panic!("an append query runs per batch") };
    assert_eq!(metrics_of(query.plan()), 0, "the cached plan itself never runs");
}

/// How many measurements a plan and its children hold.
fn metrics_of(plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>) -> usize {
    let own = plan.metrics().map_or(0, |metrics| metrics.iter().count());
    own + plan.children().into_iter().map(metrics_of).sum::<usize>()
}

#[tokio::test]
async fn an_empty_batch_gives_no_rows() {
    let mut plan = planned(vec![orders()], &[], &[append("SELECT * FROM orders")], false).await;
    let empty = RecordBatch::new_empty(orders().schema);
    assert!(run(&mut plan, "orders", &empty).await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_of_a_failed_run_do_not_reach_the_next() {
    let sql = "SELECT order_id, CAST(status AS INT) AS n FROM orders UNION ALL SELECT order_id, 0 FROM orders";
    let mut plan = planned(vec![orders()], &[], &[append(sql)], false).await;
    run(&mut plan, "orders", &three_orders()).await.unwrap_err();
    let good =
        rows(&orders().schema, r#"{"order_id": 9, "status": "1", "_topic": "t", "_partition": 0, "_offset": 0}"#);
    let results = run(&mut plan, "orders", &good).await.unwrap();
    assert_eq!(results[0].1[3..5], ["| 9        | 1 |", "| 9        | 0 |"]);
    assert_eq!(results[0].1.len(), 6);
}

#[tokio::test]
async fn a_query_over_two_sources_runs_with_the_other_one_empty() {
    let other = |name: &str| SourceTable { name: name.to_owned(), ..orders() };
    let sql = "SELECT 'north' AS region, order_id FROM north UNION ALL SELECT 'south', order_id FROM south";
    let outputs = [append(sql), append("SELECT total FROM south")];
    let mut plan = planned(vec![other("north"), other("south")], &[], &outputs, false).await;
    assert_eq!(plan.outputs_of("north"), [0]);
    assert_eq!(plan.outputs_of("south"), [0, 1]);
    let results = run(&mut plan, "north", &three_orders().slice(0, 1)).await.unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].1[3..4], ["| north  | 1        |"]);
    assert_eq!(results[0].1.len(), 5);
    let results = run(&mut plan, "south", &three_orders().slice(0, 1)).await.unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].1[3..4], ["| south  | 1        |"]);
}

#[tokio::test]
async fn explain_tells_what_is_read_and_kept() {
    let views = [view("items", "SELECT order_id, unnest(items) AS item FROM orders")];
    let outputs = [
        output("paid", OutputMode::Append, "SELECT total FROM orders WHERE status = 'paid'"),
        output(
            "products",
            OutputMode::Complete,
            "SELECT item.product_id, count(*) AS n FROM items GROUP BY item.product_id",
        ),
    ];
    let text = planned(vec![orders()], &views, &outputs, true).await.explain();
    for expected in [
        "source orders: decodes 3 of 12 columns: items, total, status",
        "output paid (append)",
        "state: none",
        "output products (complete)",
        "once over the whole read",
        "columns: product_id Int32, n Int64",
        "StreamScan: source=orders",
        "TableScan: orders",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn a_plan_can_move_between_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Plan>();
}
