//! Producing to a real Kafka, with every codec and with transactions.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use crate::Result;
use crate::messages::{Message, Messages};
use crate::servers::kafka::{Kafka, Login};

/// How the producer compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its messages become visible.
    Commit,
    /// Its messages stay in the log but are never delivered to a `read_committed` reader.
    Abort,
}

/// A producer to one broker. It is idempotent: a message goes into the log once, in the order of sending.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    failed: Arc<AtomicU64>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Producer {
    /// A producer that comes in by `login`.
    ///
    /// # Errors
    ///
    /// When librdkafka cannot make it.
    pub fn new(kafka: &Kafka, login: Login, codec: Codec) -> Result<Producer> {
        Producer::make(kafka, login, codec, None)
    }

    /// A producer whose messages all belong to transactions; see [`Producer::transaction`].
    ///
    /// # Errors
    ///
    /// When librdkafka cannot make it or the broker does not answer.
    pub fn transactional(kafka: &Kafka, codec: Codec, transactional_id: &str) -> Result<Producer> {
        let producer = Producer::make(kafka, Login::Plaintext, codec, Some(transactional_id))?;
        producer.inner.init_transactions(PATIENCE)?;
        Ok(producer)
    }

    /// Queues one message; waits while the queue (64 MB) is full.
    ///
    /// # Errors
    ///
    /// When the message is refused at once, for example because it is too large.
    pub fn send(&self, topic: &str, message: &Message) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(message.partition).timestamp(message.timestamp);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Some(value) = &message.value {
            record = record.payload(value);
        }
        let mut waited = Duration::ZERO;
        while let Err((error, refused)) = self.inner.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) || waited > PATIENCE {
                return Err(error).with_context(|| format!("producing to {topic}"));
            }
            let pause = Duration::from_millis(20);
            self.inner.poll(pause);
            waited += pause;
            record = refused;
        }
        Ok(())
    }

    /// Sends the messages of that range of numbers.
    ///
    /// # Errors
    ///
    /// As for [`Producer::send`].
    pub fn send_range(&self, topic: &str, messages: &Messages, range: Range<u64>) -> Result<()> {
        for index in range {
            self.send(topic, &messages.get(index))?;
            if index % 1_000 == 0 {
                self.inner.poll(Duration::ZERO);
            }
        }
        Ok(())
    }

    /// Waits until the broker has acknowledged everything sent.
    ///
    /// # Errors
    ///
    /// When it did not within a minute, or refused a message.
    pub fn flush(&self) -> Result<()> {
        self.inner.flush(PATIENCE)?;
        match self.failed.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            failed => bail!("{failed} messages were not delivered"),
        }
    }

    /// Runs `fill` inside a transaction and ends it.
    ///
    /// # Errors
    ///
    /// When `fill` fails (the transaction stays open) or the broker refuses.
    pub fn transaction(&self, ending: Ending, fill: impl FnOnce(&Producer) -> Result<()>) -> Result<()> {
        self.inner.begin_transaction()?;
        fill(self)?;
        // Also before an abort, which would otherwise drop what is still queued: aborted messages must be in the log.
        self.flush()?;
        match ending {
            Ending::Commit => self.inner.commit_transaction(PATIENCE)?,
            Ending::Abort => self.inner.abort_transaction(PATIENCE)?,
        }
        Ok(())
    }

    fn make(kafka: &Kafka, login: Login, codec: Codec, transactional_id: Option<&str>) -> Result<Producer> {
        let mut config = kafka.client(login);
        config.set("enable.idempotence", "true").set("compression.type", codec.name());
        config.set("linger.ms", "10").set("batch.size", "1000000").set("message.max.bytes", "33554432");
        config.set("queue.buffering.max.messages", "500000").set("queue.buffering.max.kbytes", "65536");
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        let failed = Arc::new(AtomicU64::new(0));
        let inner = BaseProducer::from_config_and_context(&config, Deliveries { failed: failed.clone() })?;
        Ok(Producer { inner, failed })
    }
}

/// Produces the messages of that range of numbers to the topic, and returns once the broker has them.
///
/// # Errors
///
/// When the broker refuses one or does not answer.
pub fn produce(kafka: &Kafka, topic: &str, messages: &Messages, range: Range<u64>, codec: Codec) -> Result<()> {
    let producer = Producer::new(kafka, Login::Plaintext, codec)?;
    producer.send_range(topic, messages, range)?;
    producer.flush()
}

/// Counts what the broker did not take.
struct Deliveries {
    failed: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
