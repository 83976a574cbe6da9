//! The demo's orders: made from their number alone, so that what must arrive can be computed without keeping it.

use serde_json::{Value, json};

const PRODUCTS: [(&str, f64); 8] = [
    ("Flour 1 kg", 1.25),
    ("Oat flakes", 2.5),
    ("Rye bread", 3.75),
    ("Mill stone", 480.0),
    ("Sieve", 12.5),
    ("Sack", 0.75),
    ("Spelt 5 kg", 9.25),
    ("Bran", 1.5),
];
const STATUSES: [&str; 4] = ["created", "paid", "shipped", "cancelled"];

/// One order of the demo.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its number, from 0; also its `order_id`.
    pub number: u64,
    /// The customer: the message's key.
    pub customer: String,
    /// The product's index, quantity and subtotal of each item.
    pub items: Vec<(usize, u64, f64)>,
    /// The sum of the subtotals; every price is a multiple of a quarter, so the sum is exact.
    pub total: f64,
}

impl Order {
    /// The order with this number.
    pub fn new(number: u64) -> Self {
        let mixed = mix(number);
        let items: Vec<_> = (0..1 + mixed % 3)
            .map(|line| {
                let draw = mix(number.wrapping_mul(31).wrapping_add(line + 1));
                let product = (draw % PRODUCTS.len() as u64) as usize;
                let quantity = 1 + (draw >> 8) % 9;
                (product, quantity, PRODUCTS[product].1 * quantity as f64)
            })
            .collect();
        let total = items.iter().map(|item| item.2).sum();
        Self { number, customer: format!("customer-{:04}", (mixed >> 16) % 5_000), items, total }
    }

    /// The message's value.
    pub fn json(&self) -> String {
        let items: Vec<Value> = self
            .items
            .iter()
            .map(|(product, quantity, subtotal)| {
                let (name, price) = PRODUCTS[*product];
                json!({
                    "product_id": product, "product_name": name, "quantity": quantity,
                    "unit_price": price, "subtotal": subtotal,
                })
            })
            .collect();
        json!({
            "order_id": self.number,
            "customer_id": self.customer,
            "timestamp": timestamp(self.number),
            "items": items,
            "total": self.total,
            "status": STATUSES[(mix(self.number) >> 40) as usize % STATUSES.len()],
        })
        .to_string()
    }
}

/// What the tables must hold in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Orders.
    pub orders: u64,
    /// Items of all orders.
    pub items: u64,
    /// The sum of all totals.
    pub revenue: f64,
}

impl Totals {
    /// Those of the first `count` orders.
    pub fn of(count: u64) -> Self {
        (0..count).map(Order::new).fold(Self::default(), |sum, order| Self {
            orders: sum.orders + 1,
            items: sum.items + order.items.len() as u64,
            revenue: sum.revenue + order.total,
        })
    }
}

/// A second each from the start of 2026, as ISO text without a zone.
fn timestamp(number: u64) -> String {
    let (day, second) = (number / 86_400 % 28 + 1, number % 86_400);
    format!("2026-01-{day:02}T{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Scrambles a number (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_order_is_the_same_each_time_and_its_total_is_the_sum_of_its_items() {
        for number in [0, 1, 99_999] {
            let order = Order::new(number);
            assert_eq!(order, Order::new(number));
            let message: Value = serde_json::from_str(&order.json()).unwrap();
            let sum: f64 =
                message["items"].as_array().unwrap().iter().map(|item| item["subtotal"].as_f64().unwrap()).sum();
            assert_eq!(message["total"].as_f64().unwrap(), sum);
            assert_eq!(message["order_id"], number);
        }
    }
}
