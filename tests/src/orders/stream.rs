//! The orders in the topic: so many at once, or a stream of them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::PARTITIONS;
use crate::Result;
use crate::messages::{Kind, Messages};
use crate::produce::{Codec, Producer};
use crate::servers::kafka::{Kafka, Login};

/// One message in so many does not decode.
const BAD_EVERY: u64 = 97;

/// A topic that is being produced to by a thread.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Produces the orders of that range of numbers, one in 97 of which does not decode, and returns once the broker has them.
///
/// # Errors
///
/// When the broker refuses one or does not answer.
pub fn produce(kafka: &Kafka, topic: &str, range: Range<u64>) -> Result<()> {
    let producer = Producer::new(kafka, Login::Plaintext, Codec::Lz4)?;
    send(&producer, topic, range)?;
    producer.flush()
}

fn send(producer: &Producer, topic: &str, range: Range<u64>) -> Result<()> {
    let messages = Messages::new(Kind::NestedOrders, PARTITIONS);
    for index in range {
        let mut message = messages.get(index);
        if index % BAD_EVERY == 50 {
            message.value = Some(format!("order {index}, on paper").into_bytes());
        }
        producer.send(topic, &message)?;
    }
    Ok(())
}

impl Stream {
    /// Produces about `rate` orders a second to the topic, from order 0 on, until it is finished. A broker that is away for
    /// less than a minute only delays it.
    ///
    /// # Errors
    ///
    /// When no producer can be made.
    pub fn start(kafka: &Kafka, topic: &str, rate: u64) -> Result<Stream> {
        const PULSE: Duration = Duration::from_millis(20);
        let producer = Producer::new(kafka, Login::Plaintext, Codec::Lz4)?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, topic) = (stop.clone(), sent.clone(), topic.to_owned());
        let pulse = (rate / 50).max(1);
        let thread = std::thread::spawn(move || {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                send(&producer, &topic, next..next + pulse)?;
                next += pulse;
                counted.store(next, Ordering::Relaxed);
                std::thread::sleep(PULSE);
            }
            producer.flush()
        });
        Ok(Stream { stop, sent, thread: Some(thread) })
    }

    /// How many orders were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops producing, and returns once the broker has everything: how many orders there are.
    ///
    /// # Errors
    ///
    /// When the broker did not take them.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the stream was finished before")?;
        thread.join().map_err(|_| anyhow!("the producing thread panicked"))??;
        Ok(self.sent())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
