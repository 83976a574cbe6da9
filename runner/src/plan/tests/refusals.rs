//! What cannot be run correctly is refused when it is planned.

use datafusion::logical_expr::Volatility;

use super::*;

/// Queries that one micro-batch cannot answer, and the construct that the refusal names.
const STATEFUL: [(&str, &str); 22] = [
    ("SELECT count(*) FROM orders", "count"),
    ("SELECT status, sum(total) FROM orders GROUP BY status", "GROUP BY"),
    ("SELECT status FROM orders GROUP BY status HAVING count(*) > 1", "GROUP BY"),
    ("SELECT DISTINCT status FROM orders", "DISTINCT"),
    ("SELECT DISTINCT ON (status) status, total FROM orders", "DISTINCT"),
    ("SELECT total FROM orders ORDER BY total", "ORDER BY"),
    ("SELECT total FROM orders LIMIT 5", "LIMIT"),
    ("SELECT total FROM orders OFFSET 5", "LIMIT"),
    ("SELECT row_number() OVER (ORDER BY total) AS n FROM orders", "OVER"),
    ("SELECT sum(total) OVER (PARTITION BY status) AS n FROM orders", "OVER"),
    ("SELECT a.total FROM orders a JOIN orders b ON a.order_id = b.order_id", "join"),
    ("SELECT a.total FROM orders a LEFT JOIN orders b ON a.order_id = b.order_id", "join"),
    ("SELECT a.total FROM orders a, orders b", "join"),
    ("SELECT total FROM orders UNION SELECT total FROM orders", "UNION"),
    ("SELECT total FROM orders INTERSECT SELECT total FROM orders", "INTERSECT"),
    ("SELECT total FROM orders EXCEPT SELECT total FROM orders", "EXCEPT"),
    ("SELECT total FROM orders WHERE order_id IN (SELECT order_id FROM orders)", "IN over a query"),
    ("SELECT total FROM orders o WHERE EXISTS (SELECT 1 FROM orders p WHERE p.order_id = o.order_id)", "EXISTS"),
    ("SELECT total FROM orders WHERE total > (SELECT max(total) FROM orders)", "a query as a value"),
    ("SELECT n FROM (SELECT count(*) AS n FROM orders)", "count"),
    ("WITH c AS (SELECT status, count(*) AS n FROM orders GROUP BY status) SELECT n FROM c", "GROUP BY"),
    ("SELECT total FROM orders UNION ALL (SELECT total FROM orders ORDER BY total)", "ORDER BY"),
];

#[tokio::test]
async fn what_needs_state_is_refused_in_append_and_update_mode() {
    for mode in [OutputMode::Append, OutputMode::Update] {
        for (sql, construct) in STATEFUL {
            for (bounded, fix) in [(false, "availableNow"), (true, "outputMode: complete")] {
                let errors = texts(&refused(&[], &[output("totals", mode, sql)], bounded).await);
                assert_eq!(errors.len(), 1, "{sql}: {errors:#?}");
                assert!(errors[0].starts_with("output 'totals': "), "{sql}: {}", errors[0]);
                assert!(errors[0].contains(construct), "{sql}: {}", errors[0]);
                assert!(errors[0].contains(fix), "{sql}: {}", errors[0]);
            }
        }
    }
}

#[tokio::test]
async fn what_needs_state_runs_in_complete_mode_over_a_bounded_read() {
    for (sql, _) in STATEFUL {
        let sql = sql.replace("SELECT count(*) FROM", "SELECT count(*) AS n FROM");
        let mut plan = planned(vec![orders()], &[], &[complete(&sql)], true).await;
        run(&mut plan, "orders", &three_orders()).await.unwrap();
        let results = plan.finish(noon()).await.unwrap();
        assert_eq!(results.len(), 1, "{sql}");
    }
}

#[tokio::test]
async fn the_refusal_points_at_the_construct_also_within_a_view() {
    assert_eq!(
        why_refused("SELECT status,\n       count(*) AS n\nFROM orders GROUP BY status").await,
        "output 'out': the aggregate count(*) with GROUP BY: this needs state across micro-batches, which is not supported yet; \
         with `trigger: {availableNow: {}}` and `outputMode: complete` the query runs once over everything the topics hold\n  \
         at line 3, column 13:\n  FROM orders GROUP BY status\n              ^"
    );
    let views = [view("sorted", "SELECT total FROM orders ORDER BY total"), view("above", "SELECT * FROM sorted")];
    let errors = texts(&refused(&views, &[append("SELECT total FROM above")], false).await);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("output 'out': ORDER BY: "), "{}", errors[0]);
    assert!(errors[0].contains("at view 'sorted', line 1, column 26:"), "{}", errors[0]);
}

#[tokio::test]
async fn everything_that_needs_state_is_named_at_once() {
    let why = why_refused("SELECT status, count(*) AS n FROM orders GROUP BY status ORDER BY n LIMIT 3").await;
    assert!(why.contains("the aggregate count(*) with GROUP BY, ORDER BY, LIMIT: "), "{why}");
}

#[tokio::test]
async fn complete_mode_is_refused_on_an_endless_read() {
    let errors = texts(&refused(&[], &[complete("SELECT count(*) AS n FROM orders")], false).await);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("outputMode complete over an endless read"), "{}", errors[0]);
}

#[tokio::test]
async fn functions_that_differ_from_run_to_run_are_refused_in_every_mode() {
    for (sql, name) in [
        ("SELECT random() AS r FROM orders", "random()"),
        ("SELECT uuid() AS u FROM orders", "uuid()"),
        ("SELECT total FROM orders WHERE random() < 0.1", "random()"),
    ] {
        let why = why_refused(sql).await;
        assert!(why.contains(&format!("{name} gives another value each time it runs")), "{why}");
        let errors = texts(&refused(&[], &[complete(sql)], true).await);
        assert!(errors[0].contains("rows computed again after a crash would differ"), "{}", errors[0]);
    }
    let in_subquery = complete("SELECT total FROM orders WHERE total > (SELECT max(random()) FROM orders)");
    assert_eq!(refused(&[], &[in_subquery], true).await.len(), 1);
}

#[tokio::test]
async fn rows_that_come_from_no_source_are_refused() {
    for sql in [
        "SELECT 1 AS one",
        "SELECT total FROM orders UNION ALL SELECT 1.0",
        "SELECT total FROM orders UNION ALL VALUES (1.0)",
    ] {
        let why = why_refused(sql).await;
        assert!(why.contains("rows that come from no source"), "{sql}: {why}");
    }
    let errors = texts(&refused(&[], &[complete("SELECT 1 AS one")], true).await);
    assert!(errors[0].contains("rows that come from no source"), "{}", errors[0]);
}

#[tokio::test]
async fn what_is_not_a_query_over_sources_is_refused() {
    let cases = [
        ("DROP TABLE orders", "the SQL is not a query"),
        ("INSERT INTO orders SELECT * FROM orders", "the SQL is not a query"),
        ("EXPLAIN SELECT 1", "the SQL is not a query"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        (" ", "the SQL is empty"),
        (
            "WITH RECURSIVE r AS (SELECT total FROM orders UNION ALL SELECT total FROM r) SELECT * FROM r",
            "WITH RECURSIVE is not supported",
        ),
        ("SELECT * FROM generate_series(1, 3)", "function 'generate_series' cannot stand in FROM"),
        ("SELECT * FROM orders, unnest(items)", "unnest in FROM is not supported"),
        ("SELECT item FROM orders LATERAL VIEW explode(items) e AS item", "LATERAL VIEW is not supported"),
        ("SELECT $1 AS x FROM orders", "laceholder"),
    ];
    for (sql, expected) in cases {
        let errors = texts(&refused(&[], &[append(sql)], false).await);
        assert!(errors[0].contains(expected), "{sql}: {errors:#?}");
    }
}

#[tokio::test]
async fn elements_are_not_counted_from_zero() {
    let why = why_refused("SELECT items[0].product_id AS p FROM orders").await;
    assert!(why.contains("elements are counted from 1"), "{why}");
    assert!(why.contains("[1] for the first"), "{why}");
}

#[tokio::test]
async fn windows_over_event_time_are_refused_by_name() {
    let why = why_refused("SELECT count(*) AS n FROM orders GROUP BY window(_timestamp, '5 minutes')").await;
    assert!(why.contains("event-time windows (window)"), "{why}");
}

#[tokio::test]
async fn clauses_that_would_have_no_effect_are_refused() {
    let cases = [
        ("SELECT total FROM orders TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT total FROM (SELECT total FROM orders) AS o TABLESAMPLE (10 ROWS)", "TABLESAMPLE"),
        ("SELECT total FROM orders FOR UPDATE", "FOR UPDATE"),
        ("SELECT total INTO other FROM orders", "INTO"),
        ("SELECT total FROM orders DISTRIBUTE BY total", "DISTRIBUTE BY"),
        ("SELECT total FROM orders PREWHERE total > 1", "PREWHERE"),
        ("SELECT total FROM orders LIMIT 1 BY status", "LIMIT BY"),
        ("FROM orders SELECT total", "FROM before SELECT"),
        ("SELECT total FROM orders |> WHERE total > 1", "|>"),
    ];
    for (sql, clause) in cases {
        let errors = texts(&refused(&[], &[complete(sql)], true).await);
        assert!(errors[0].contains(&format!("{clause} is not supported")), "{sql}: {errors:#?}");
    }
}

#[tokio::test]
async fn every_function_that_is_not_a_pure_one_is_known() {
    let plan = planned(vec![orders()], &[], &[append("SELECT total FROM orders")], false).await;
    let state = plan.session.ctx.state();
    let mut found: Vec<&str> = state
        .scalar_functions()
        .values()
        .filter(|function| function.signature().volatility != Volatility::Immutable)
        .map(|function| function.name())
        .chain(
            state
                .higher_order_functions()
                .values()
                .filter(|function| function.signature().volatility != Volatility::Immutable)
                .map(|function| function.name()),
        )
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, ["current_date", "file_row_index", "input_file_name", "now", "random", "uuid"]);
}
