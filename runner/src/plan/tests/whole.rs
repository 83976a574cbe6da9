//! Queries that run once over a bounded read.

use super::*;

/// `count` orders from `first` on, each with one item.
fn many_orders(first: usize, count: usize) -> RecordBatch {
    let line = |id: usize| {
        format!(
            r#"{{"order_id": {id}, "customer_id": "customer-{id}", "total": {}, "status": "paid", "items": [{{"product_id": {}}}], "_topic": "t", "_partition": 0, "_offset": {id}}}"#,
            id % 100,
            id % 7
        )
    };
    let lines: Vec<String> = (first..first + count).map(line).collect();
    rows(&orders().schema, &lines.join("\n"))
}

async fn with_limit(sql: &str, memory_limit: usize) -> Plan {
    Plan::new(vec![orders()], &[], &[complete(sql)], PlanOptions { bounded: true, memory_limit }).await.unwrap()
}

#[tokio::test]
async fn memory_grows_with_the_groups_and_not_with_the_rows() {
    let mut plan = with_limit("SELECT total, count(*) AS n FROM orders GROUP BY total ORDER BY total", 16 << 20).await;
    let batch = many_orders(0, 10_000);
    let one_batch = needed(&plan, "orders", &batch).get_array_memory_size();
    let rounds = 400;
    assert!(one_batch * rounds > 16 << 20, "the rows together exceed the limit");
    for _ in 0..rounds {
        run(&mut plan, "orders", &batch).await.unwrap();
    }
    let results = plan.finish(noon()).await.unwrap();
    let shown = table(&results[0].batches);
    assert_eq!(shown.len(), 4 + 100);
    assert_eq!(shown[3], format!("| 0.0   | {} |", 100 * rounds));
}

#[tokio::test]
async fn the_memory_limit_ends_the_query_with_its_name() {
    let mut plan = with_limit("SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id", 1 << 20).await;
    let mut failure = None;
    for round in 0..100 {
        if let Err(error) = run(&mut plan, "orders", &many_orders(round * 5_000, 5_000)).await {
            failure = Some(error);
            break;
        }
    }
    let error = match failure {
        Some(error) => error,
        None => plan.finish(noon()).await.unwrap_err(),
    };
    assert!(
        matches!(&error, RunError::Memory { output, limit, .. } if output == "out" && *limit == 1 << 20),
        "{error}"
    );
    assert!(error.to_string().contains("memory limit of 1 MiB"), "{error}");
}

#[tokio::test]
async fn a_join_of_a_source_with_itself_reads_it_once() {
    let sql = "SELECT a.order_id, b.n FROM orders a JOIN (SELECT total, count(*) AS n FROM orders GROUP BY total) b
               ON a.total = b.total WHERE a.order_id < 3 ORDER BY a.order_id";
    let mut plan = with_limit(sql, 64 << 20).await;
    for round in 0..20 {
        run(&mut plan, "orders", &many_orders(round * 1000, 1000)).await.unwrap();
    }
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(table(&results[0].batches)[3..6], ["| 0        | 200 |", "| 1        | 200 |", "| 2        | 200 |"]);
}

#[tokio::test]
async fn rows_that_wait_for_the_other_side_of_a_join_count_against_the_limit() {
    let sql = "SELECT a.order_id FROM orders a JOIN orders b ON a.customer_id = b.customer_id";
    let mut plan = with_limit(sql, 4 << 20).await;
    let mut failure = None;
    for round in 0..200 {
        if let Err(error) = run(&mut plan, "orders", &many_orders(round * 5000, 5000)).await {
            failure = Some(error);
            break;
        }
    }
    assert!(matches!(failure, Some(RunError::Memory { .. })), "{failure:?}");
}

#[tokio::test]
async fn a_query_that_has_enough_rows_takes_no_more() {
    let mut plan = with_limit("SELECT order_id FROM orders LIMIT 5", 16 << 20).await;
    for round in 0..200 {
        run(&mut plan, "orders", &many_orders(round * 100, 100)).await.unwrap();
    }
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(table(&results[0].batches).len(), 4 + 5);
}

#[tokio::test]
async fn a_read_without_rows_has_a_result() {
    let mut plan = with_limit("SELECT count(*) AS n, max(total) AS m FROM orders", 16 << 20).await;
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(table(&results[0].batches)[3], "| 0 |   |");
    let mut plan = with_limit("SELECT status, count(*) AS n FROM orders GROUP BY status", 16 << 20).await;
    let results = plan.finish(noon()).await.unwrap();
    assert!(results[0].batches.is_empty());
}

#[tokio::test]
async fn a_failing_row_ends_the_query_with_its_name() {
    let mut plan = with_limit("SELECT sum(CAST(status AS INT)) AS n FROM orders", 16 << 20).await;
    let mut failure = None;
    for _ in 0..10 {
        if let Err(error) = run(&mut plan, "orders", &three_orders()).await {
            failure = Some(error);
            break;
        }
    }
    let error = match failure {
        Some(error) => error,
        None => plan.finish(noon()).await.unwrap_err(),
    };
    assert!(matches!(&error, RunError::Row { output, .. } if output == "out"), "{error}");
}

#[tokio::test]
async fn append_and_complete_outputs_share_one_read() {
    let outputs = [
        output("rows", OutputMode::Append, "SELECT order_id FROM orders"),
        output("totals", OutputMode::Complete, "SELECT sum(total) AS s FROM orders"),
    ];
    let mut plan = planned(vec![orders()], &[], &outputs, true).await;
    assert!(!plan.is_whole(0) && plan.is_whole(1));
    let results = run(&mut plan, "orders", &three_orders()).await.unwrap();
    assert_eq!(results.iter().map(|(output, _)| *output).collect::<Vec<_>>(), [0]);
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].output, 1);
    assert_eq!(table(&results[0].batches)[3], "| 32.0 |");
}

#[tokio::test]
async fn now_stands_still_while_a_whole_read_runs() {
    let outputs = [complete("SELECT now() AS n, count(*) AS c FROM orders GROUP BY now()")];
    let mut plan = planned(vec![orders()], &[], &outputs, true).await;
    let batch = needed(&plan, "orders", &three_orders());
    for seconds in [1_767_614_400, 1_767_614_460, 1_767_614_520] {
        let time = DateTime::from_timestamp(seconds, 0).unwrap();
        plan.run("orders", &batch, time).await.unwrap();
    }
    let results = plan.finish(noon()).await.unwrap();
    assert_eq!(table(&results[0].batches)[3], "| 2026-01-05T12:00:00Z | 9 |");
    assert_eq!(results[0].batches[0].num_rows(), 1);
}

#[tokio::test]
async fn subqueries_and_several_sources_run_over_the_whole_read() {
    let clicks = SourceTable { name: "clicks".to_owned(), ..orders() };
    let sql = "SELECT o.order_id, (SELECT count(*) FROM clicks) AS clicks FROM orders o
               WHERE o.order_id IN (SELECT order_id FROM clicks) AND o.total >= (SELECT min(total) FROM orders)
               ORDER BY o.order_id";
    let mut plan = planned(vec![orders(), clicks], &[], &[complete(sql)], true).await;
    run(&mut plan, "orders", &many_orders(0, 50)).await.unwrap();
    run(&mut plan, "clicks", &many_orders(48, 10)).await.unwrap();
    run(&mut plan, "orders", &many_orders(50, 50)).await.unwrap();
    let results = plan.finish(noon()).await.unwrap();
    let shown = table(&results[0].batches);
    assert_eq!(shown.len(), 4 + 10);
    assert_eq!(shown[3], "| 48       | 10     |");
}

#[tokio::test]
async fn dropping_the_plan_stops_its_queries() {
    let mut plan = with_limit("SELECT count(*) AS n FROM orders", 16 << 20).await;
    run(&mut plan, "orders", &three_orders()).await.unwrap();
    let pool = Arc::clone(&plan.session.pool);
    drop(plan);
    while Arc::strong_count(&pool) > 1 {
        tokio::task::yield_now().await;
    }
}
