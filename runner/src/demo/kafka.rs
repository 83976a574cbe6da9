//! An in-process Kafka for the demo: librdkafka's mock cluster, filled with orders.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};

use super::orders::Order;

/// The topic of the demo.
pub const TOPIC: &str = "commandes-json";
/// Its partitions.
pub const PARTITIONS: i32 = 4;
/// The most orders the demo takes: the mock broker keeps only 5 MB of compressed messages a partition.
pub const MAX_ORDERS: u64 = 200_000;

/// How long a full producer queue may stay full before the demo gives up.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A running mock cluster with the demo's topic. It ends when this is dropped.
pub struct DemoKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl DemoKafka {
    /// Starts one mock broker on loopback and creates the topic.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn start() -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic(TOPIC, PARTITIONS, 1)?;
        Ok(Self { cluster })
    }

    /// Where clients connect.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

/// Produces the orders numbered `0..count`, spread evenly over `duration`, and returns when the broker has them all.
///
/// # Errors
/// librdkafka's, among them a queue that stayed full for too long.
pub fn produce(bootstrap_servers: &str, count: u64, duration: Duration) -> Result<(), KafkaError> {
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("enable.idempotence", "true")
        .create_with_context(Deliveries::default())?;
    let started = Instant::now();
    for number in 0..count {
        if number % 500 == 0 {
            let due = duration.mul_f64(number as f64 / count as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        let order = Order::new(number);
        send(&producer, &order.customer, &order.json())?;
    }
    producer.flush(SEND_TIMEOUT)?;
    match producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Hands one message to the producer, waiting while its queue is full.
fn send(producer: &ThreadedProducer<Deliveries>, key: &str, value: &str) -> Result<(), KafkaError> {
    let deadline = Instant::now() + SEND_TIMEOUT;
    let mut record = BaseRecord::to(TOPIC).key(key).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned))
                if Instant::now() < deadline =>
            {
                record = returned;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Remembers the first delivery that failed.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}
