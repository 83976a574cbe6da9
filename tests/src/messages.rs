//! The messages of the scenarios, made up but always the same: message `i` of a kind and seed is a pure function of both,
//! so that any range can be produced again, in pieces, by anyone.

use std::fmt::Write;

/// One Kafka message to be produced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The partition that it goes to.
    pub partition: i32,
    /// The key; none is Kafka's null key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Kafka's timestamp, milliseconds since 1970.
    pub timestamp: i64,
}

/// What the messages are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// S1–S4: orders with an array of items, 291 bytes on average, keyed by customer.
    NestedOrders,
    /// S9, S10: orders without items, about 120 bytes, keyed by customer.
    FlatOrders,
    /// S5: log lines of an application, no key.
    Logs,
    /// S6: a server's load, keyed by server.
    Metrics,
    /// S7, S8: events with a level, no key.
    Events,
    /// S14: transactions, keyed by customer.
    Transactions,
}

/// A sequence of messages without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// What they are about.
    pub kind: Kind,
    /// Another seed gives other messages.
    pub seed: u64,
    /// How many partitions they are spread over: by key where there is one, else in turn.
    pub partitions: i32,
}

/// Message 0 is of this time, 2025-01-01T00:00:00 UTC in milliseconds since 1970; each later one is a millisecond younger.
pub const FIRST_TIMESTAMP: i64 = 1_735_689_600_000;

const CUSTOMERS: u64 = 100_000;
const SERVERS: u64 = 50;
const STATUSES: [&str; 5] = ["pending", "confirmed", "shipped", "delivered", "cancelled"];
const PRODUCTS: [&str; 8] = ["Keyboard", "Mouse", "Monitor", "Webcam", "Headset", "Laptop", "Dock", "Café au lait"];
const LEVELS: [&str; 10] = ["INFO", "INFO", "INFO", "INFO", "DEBUG", "DEBUG", "WARN", "WARN", "ERROR", "FATAL"];
const MODULES: [&str; 5] = ["auth", "payment", "catalog", "shipping", "search"];

impl Messages {
    /// Messages of that kind with seed 1.
    pub fn new(kind: Kind, partitions: i32) -> Messages {
        Messages { kind, seed: 1, partitions }
    }

    /// Message number `index`. Costs two or three allocations and about a microsecond.
    pub fn get(&self, index: u64) -> Message {
        let mut dice = Dice::new(self.seed, index);
        let time = Time(index);
        let mut text = String::with_capacity(420);
        let key = match self.kind {
            Kind::NestedOrders => Some(nested_order(&mut text, index, time, &mut dice)),
            Kind::FlatOrders => Some(flat_order(&mut text, index, time, &mut dice)),
            Kind::Logs => log_line(&mut text, index, time, &mut dice),
            Kind::Metrics => Some(metric(&mut text, time, &mut dice)),
            Kind::Events => event(&mut text, index, time, &mut dice),
            Kind::Transactions => Some(transaction(&mut text, index, time, &mut dice)),
        };
        let spread = key.as_ref().map_or(index, |key| key.number) % u64::from(self.partitions.unsigned_abs().max(1));
        Message {
            partition: spread as i32,
            key: key.map(|key| key.text.into_bytes()),
            value: Some(text.into_bytes()),
            timestamp: FIRST_TIMESTAMP + index as i64,
        }
    }
}

struct Key {
    number: u64,
    text: String,
}

impl Key {
    fn customer(dice: &mut Dice) -> Key {
        let number = dice.below(CUSTOMERS);
        Key { number, text: format!("C{number:05}") }
    }
}

fn nested_order(out: &mut String, index: u64, time: Time, dice: &mut Dice) -> Key {
    let customer = Key::customer(dice);
    put(out, format_args!(r#"{{"order_id":{index},"customer_id":"{}","timestamp":"{time}","items":["#, customer.text));
    let mut total = 0;
    // One to three items, fewer threes: so that the mean size is right.
    for position in 0..1 + dice.below(25) / 10 {
        let product = dice.below(PRODUCTS.len() as u64);
        let quantity = 1 + dice.below(5);
        let price = 100 + dice.below(20_000);
        let subtotal = quantity * price;
        total += subtotal;
        let separator = if position == 0 { "" } else { "," };
        let name = PRODUCTS[product as usize];
        put(out, format_args!(r#"{separator}{{"product_id":{product},"product_name":"{name}","quantity":{quantity},"#));
        put(out, format_args!(r#""unit_price":{},"subtotal":{}}}"#, Cents(price), Cents(subtotal)));
    }
    put(out, format_args!(r#"],"total":{},"status":"{}"}}"#, Cents(total), dice.one_of(&STATUSES)));
    customer
}

fn flat_order(out: &mut String, index: u64, time: Time, dice: &mut Dice) -> Key {
    let customer = Key::customer(dice);
    put(out, format_args!(r#"{{"order_id":"O{index}","customer_id":"{}","amount":"#, customer.text));
    put(out, format_args!(r#"{},"timestamp":"{time}","status":"#, Cents(100 + dice.below(100_000))));
    put(out, format_args!(r#""{}"}}"#, dice.one_of(&STATUSES)));
    customer
}

fn log_line(out: &mut String, index: u64, time: Time, dice: &mut Dice) -> Option<Key> {
    let (level, module, user) = (dice.one_of(&LEVELS), dice.one_of(&MODULES), dice.below(CUSTOMERS));
    put(out, format_args!(r#"{{"timestamp":"{time}","level":"{level}","module":"{module}","#));
    put(out, format_args!(r#""message":"request {index} of \"{module}\" done","request_id":"r-{index:08x}","#));
    put(out, format_args!(r#""user_id":"u{user}","duration_ms":{}}}"#, dice.below(2_000)));
    None
}

fn metric(out: &mut String, time: Time, dice: &mut Dice) -> Key {
    let number = dice.below(SERVERS);
    let server = Key { number, text: format!("server-{number:02}") };
    let mut percent = || Cents(dice.below(10_000));
    let (cpu, memory, disk) = (percent(), percent(), percent());
    put(out, format_args!(r#"{{"timestamp":"{time}","server":"{}","cpu":{cpu},"memory":{memory},"#, server.text));
    put(
        out,
        format_args!(r#""disk":{disk},"network_in":{},"network_out":{}}}"#, dice.below(1 << 30), dice.below(1 << 30)),
    );
    server
}

fn event(out: &mut String, index: u64, time: Time, dice: &mut Dice) -> Option<Key> {
    let (level, module) = (dice.one_of(&LEVELS), dice.one_of(&MODULES));
    put(out, format_args!(r#"{{"level":"{level}","message":"event {index} in {module}","timestamp":"{time}"}}"#));
    None
}

fn transaction(out: &mut String, index: u64, time: Time, dice: &mut Dice) -> Key {
    let customer = Key::customer(dice);
    put(out, format_args!(r#"{{"transaction_id":"T{index}","customer_id":"{}","product":"#, customer.text));
    let (product, amount) = (dice.one_of(&PRODUCTS), Cents(100 + dice.below(100_000)));
    put(out, format_args!(r#""{product}","amount":{amount},"timestamp":"{time}"}}"#));
    customer
}

fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(arguments);
}

/// An amount in hundredths, shown as a decimal number.
struct Cents(u64);

impl std::fmt::Display for Cents {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// A time of day in milliseconds after [`FIRST_TIMESTAMP`], shown as `2025-01-01T00:00:00.000`. Right for January, which
/// is 2.6 thousand million messages.
#[derive(Clone, Copy)]
struct Time(u64);

impl std::fmt::Display for Time {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (day, hour, minute, second) = (1 + seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(out, "2025-01-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}")
    }
}

/// The random numbers of one message (the SplitMix64 sequence).
struct Dice(u64);

impl Dice {
    fn new(seed: u64, index: u64) -> Dice {
        // Far apart starting points: otherwise neighbours would share a shifted sequence.
        Dice(Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ index).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KINDS: [Kind; 6] =
        [Kind::NestedOrders, Kind::FlatOrders, Kind::Logs, Kind::Metrics, Kind::Events, Kind::Transactions];

    #[test]
    fn a_message_depends_on_its_number_and_seed_alone() {
        for kind in KINDS {
            let messages = Messages::new(kind, 4);
            assert_eq!(messages.get(77), messages.get(77));
            assert_ne!(messages.get(77).value, messages.get(78).value);
            assert_ne!(messages.get(77).value, Messages { seed: 2, ..messages }.get(77).value);
        }
    }

    #[test]
    fn every_value_is_json_and_every_partition_gets_some() {
        for kind in KINDS {
            let mut seen = [0; 4];
            for index in 0..1_000 {
                let message = Messages::new(kind, 4).get(index);
                serde_json::from_slice::<serde_json::Value>(&message.value.unwrap()).unwrap();
                seen[message.partition as usize] += 1;
            }
            assert!(seen.iter().all(|&count| count > 100), "{kind:?}: {seen:?}");
        }
    }

    #[test]
    fn nested_orders_have_the_size_of_those_that_the_figures_are_about() {
        let messages = Messages::new(Kind::NestedOrders, 4);
        let bytes: usize = (0..10_000).map(|index| messages.get(1_000_000 + index).value.unwrap().len()).sum();
        assert!((286..=296).contains(&(bytes / 10_000)), "mean size {}", bytes / 10_000);
    }

    #[test]
    fn the_text_of_a_time_is_the_kafka_timestamp() {
        assert_eq!(Time(0).to_string(), "2025-01-01T00:00:00.000");
        assert_eq!(Time(86_400_000 + 3_600_000 * 5 + 61_007).to_string(), "2025-01-02T05:01:01.007");
    }
}
