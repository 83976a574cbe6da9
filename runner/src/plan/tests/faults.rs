//! Mistakes in SQL: named, placed, with what was probably meant; all of them at once.

use super::*;

#[tokio::test]
async fn an_unknown_column_is_named_with_its_place_and_what_was_meant() {
    assert_eq!(
        why_refused("SELECT order_id,\n       custmer_id\nFROM orders").await,
        "output 'out': there is no column 'custmer_id'; did you mean 'customer_id'?\n  \
         at line 2, column 8:\n         custmer_id\n         ^"
    );
}

#[tokio::test]
async fn an_unknown_column_like_no_other_gets_the_list() {
    let why = why_refused("SELECT order_id FROM orders WHERE warehouse = 1").await;
    assert!(
        why.contains(
            "there is no column 'warehouse'; columns: order_id, customer_id, timestamp, items, total, status, _key"
        ),
        "{why}"
    );
    assert!(why.contains("line 1, column 35:"), "{why}");
}

#[tokio::test]
async fn every_unknown_column_of_a_select_list_is_reported() {
    let errors = texts(&refused(&[], &[append("SELECT order_idd, totl FROM orders")], false).await);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].contains("'order_id'?") && errors[1].contains("'total'?"), "{errors:#?}");
}

#[tokio::test]
async fn an_unknown_field_of_a_struct_is_named_with_what_was_meant() {
    let views = [view("items", "SELECT unnest(items) AS item FROM orders")];
    let errors = texts(&refused(&views, &[append("SELECT item.quantty AS q FROM items")], false).await);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("'quantty'") && errors[0].contains("did you mean 'quantity'?"), "{}", errors[0]);
    assert!(errors[0].contains("line 1, column 13:"), "{}", errors[0]);
}

#[tokio::test]
async fn an_unknown_qualifier_is_named_with_what_was_meant() {
    let views = [view("items", "SELECT unnest(items) AS item FROM orders")];
    let errors = texts(&refused(&views, &[append("SELECT itm.quantity FROM items")], false).await);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("there is no column 'itm.quantity'; did you mean 'item'?"), "{}", errors[0]);
}

#[tokio::test]
async fn an_unknown_table_is_named_with_what_was_meant() {
    assert_eq!(
        why_refused("SELECT order_id FROM ordrs").await,
        "output 'out': there is no source or view named 'ordrs'; did you mean 'orders'?\n  \
         at line 1, column 22:\n  SELECT order_id FROM ordrs\n                       ^"
    );
    let why = why_refused("SELECT order_id FROM lake.orders").await;
    assert!(why.contains("there is no source or view named 'lake.orders'"), "{why}");
}

#[tokio::test]
async fn an_unknown_function_is_named_with_what_was_meant() {
    let why = why_refused("SELECT uper(status) AS s FROM orders").await;
    assert!(why.starts_with("output 'out': there is no function 'uper'; did you mean 'upper'?"), "{why}");
    assert!(why.contains("line 1, column 8:"), "{why}");
}

#[tokio::test]
async fn a_syntax_error_is_placed() {
    let why = why_refused("SELECT order_id\nFROM orders\nWHERE total >").await;
    assert!(why.starts_with("output 'out': the SQL does not parse: Expected: an expression, found: EOF"), "{why}");
    assert!(why.contains("line 3, column 14:"), "{why}");
    let why = why_refused("SELECT order_id FRM orders WHERE").await;
    assert!(why.contains("does not parse"), "{why}");
    let why = why_refused("SELECT 'abc FROM orders").await;
    assert!(why.contains("Unterminated string literal") && why.contains("line 1, column 8:"), "{why}");
}

#[tokio::test]
async fn types_that_do_not_fit_are_refused_in_the_view_that_has_them() {
    let views = [view("v", "SELECT order_id FROM orders WHERE items > 1")];
    let errors = refused(&views, &[append("SELECT order_id FROM v")], false).await;
    assert_eq!(errors.len(), 1, "{:#?}", texts(&errors));
    assert_eq!(errors[0].place, Place::View("v".to_owned()));
}

#[tokio::test]
async fn every_mistake_of_the_manifest_is_reported_at_once_and_none_twice() {
    let views = [
        view("a", "SELECT nope FROM orders"),
        view("b", "SELECT x FROM a"),
        view("orders", "SELECT total FROM orders"),
        view("early", "SELECT total FROM late"),
        view("late", "SELECT total FROM orders"),
    ];
    let outputs = [
        output("one", OutputMode::Append, "SELECT x FROM b"),
        output("two", OutputMode::Append, "SELECT totl FROM late"),
        output("three", OutputMode::Append, "SELEKT 1"),
        output("four", OutputMode::Append, "SELECT total FROM orders"),
        output("five", OutputMode::Append, "SELECT o.total, o.total AS total FROM orders o"),
    ];
    let errors = refused(&views, &outputs, false).await;
    let places: Vec<String> = errors.iter().map(|error| error.place.to_string()).collect();
    assert_eq!(
        places,
        ["view 'a'", "view 'orders'", "view 'early'", "output 'two'", "output 'three'", "output 'five'"],
        "{:#?}",
        texts(&errors)
    );
    assert!(errors[2].message.contains("view 'late' is declared further down"), "{}", errors[2]);
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused() {
    let sql = "SELECT a.order_id, b.order_id FROM orders a JOIN orders b ON a.order_id = b.order_id";
    let errors = texts(&refused(&[], &[complete(sql)], true).await);
    assert!(errors[0].contains("two columns are called 'order_id'"), "{errors:#?}");
}

#[tokio::test]
async fn a_long_line_is_shown_around_the_place() {
    let filler = "order_id + ".repeat(30);
    let why = why_refused(&format!("SELECT {filler} totl AS x FROM orders")).await;
    let lines: Vec<&str> = why.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() < 130), "{why}");
    let (shown, caret) = (lines[lines.len() - 2], lines[lines.len() - 1]);
    let at = caret.chars().position(|c| c == '^').unwrap();
    assert_eq!(shown.chars().skip(at).take(4).collect::<String>(), "totl", "{why}");
}

#[tokio::test]
async fn a_value_that_does_not_suit_fails_the_run_and_names_the_output() {
    let outputs = [output("numbers", OutputMode::Append, "SELECT CAST(status AS INT) AS n FROM orders")];
    let mut plan = planned(vec![orders()], &[], &outputs, false).await;
    let error = run(&mut plan, "orders", &three_orders()).await.unwrap_err();
    assert!(matches!(&error, RunError::Row { output, .. } if output == "numbers"), "{error}");
    assert!(error.to_string().contains("paid") && error.to_string().contains("TRY_CAST"), "{error}");
}

#[tokio::test]
async fn a_batch_with_other_columns_is_refused() {
    let mut plan = planned(vec![orders()], &[], &[append("SELECT total FROM orders")], false).await;
    let error = plan.run("orders", &three_orders(), noon()).await.unwrap_err();
    assert!(matches!(error, RunError::Batch { .. }), "{error}");
    let other = three_orders().project(&[0]).unwrap();
    let error = plan.run("orders", &other, noon()).await.unwrap_err();
    assert!(error.to_string().contains("it has 'order_id' (Int32) where 'total' (Float64) belongs"), "{error}");
    let error = plan.run("clicks", &other, noon()).await.unwrap_err();
    assert!(matches!(error, RunError::UnknownSource { .. }), "{error}");
}

#[tokio::test]
async fn a_place_behind_letters_of_several_bytes_is_counted_in_letters() {
    let why = why_refused("SELECT 'été à Noël — 日本' AS x, totl FROM orders").await;
    let lines: Vec<&str> = why.lines().collect();
    let at = lines[lines.len() - 1].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[lines.len() - 2].chars().skip(at).take(4).collect::<String>(), "totl", "{why}");
}

/// Chains of the kinds that nest: `times` links each.
fn chains(times: usize) -> Vec<String> {
    let repeat = |link: &str, between: &str| vec![link; times].join(between);
    vec![
        format!("SELECT total FROM orders WHERE {}", repeat("total = 1", " OR ")),
        format!("SELECT total FROM orders WHERE {} > 1", repeat("total", " + ")),
        format!("SELECT {} AS t FROM orders", repeat("status", " || ")),
        format!("SELECT total{} AS t FROM orders", repeat("::INT", "")),
        format!("SELECT total{} AS t FROM orders", repeat(" IS NULL", "")),
        repeat("SELECT total FROM orders", " UNION ALL "),
    ]
}

/// The test's thread has the 2 MiB that a runtime's thread has.
#[tokio::test]
async fn long_chains_are_planned_and_run() {
    for sql in chains(240) {
        let mut plan = planned(vec![orders()], &[], &[append(&sql)], false).await;
        run(&mut plan, "orders", &three_orders()).await.unwrap();
    }
}

#[tokio::test]
async fn chains_that_would_overflow_the_stack_are_refused_up_to_the_longest_text_there_can_be() {
    for times in [300, 2_500] {
        for sql in chains(times) {
            let why = why_refused(&sql).await;
            assert!(why.contains("nested more than 256 deep"), "{why}");
        }
    }
    let longest = format!("SELECT 1{} AS t FROM orders", "+1".repeat(32_000));
    assert!(why_refused(&longest).await.contains("nested more than 256 deep"));
    let joins = format!("SELECT 1 AS one FROM orders{}", ",orders".repeat(300));
    assert!(why_refused(&joins).await.contains("joins that are nested more than 256 deep"));
    // The parser gives up on these by itself, in its own words.
    for (open, close) in [("(", ")"), ("NOT ", ""), ("CASE WHEN true THEN ", " END"), ("- ", ""), ("upper(", ")")] {
        why_refused(&format!("SELECT {}total{} AS t FROM orders", open.repeat(2_000), close.repeat(2_000))).await;
    }
}
