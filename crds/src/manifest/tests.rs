#![allow(clippy::unwrap_used)]
use super::*;

fn errors(text: &str) -> String {
    parse(text, "job.yaml").unwrap_err().to_string()
}

/// The job of scenario S1 with everything that a manifest can say.
const ORDERS: &str = include_str!("../../fixtures/orders.yaml");

#[test]
fn probe() {
    println!("{:#?}", parse(ORDERS, "orders.yaml").map_err(|e| e.to_string()));
    let bad = include_str!("../../fixtures/bad.yaml");
    println!("{}", errors(bad));
    println!("{}", errors("kind: Deployment\nspec: 5"));
    println!("{}", errors("kind: StreamingJobs\nspec: 5"));
    println!("{}", errors("a: 1\na: 2"));
}
