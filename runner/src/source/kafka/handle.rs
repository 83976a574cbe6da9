//! One librdkafka client, shared by whoever uses it or holds memory of it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::context::Context;

/// How many events are served at a time, so that a flood of them cannot hold up a caller.
const EVENTS_AT_ONCE: usize = 1_000;

/// A librdkafka client. Closing one waits for its threads and, in a group, for the brokers; that is done on a thread of
/// its own, so that dropping the last handle never blocks whoever does.
pub(super) struct Handle {
    consumer: Arc<BaseConsumer<Context>>,
    /// Messages handed out by librdkafka and not yet given back.
    messages_out: AtomicUsize,
}

impl Handle {
    /// Makes a client; it connects by itself, later.
    pub(super) fn open(config: &ClientConfig, context: Context) -> Result<Self, KafkaError> {
        let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        Ok(Self { consumer: Arc::new(consumer), messages_out: AtomicUsize::new(0) })
    }

    pub(super) fn context(&self) -> &Context {
        self.consumer.context()
    }

    /// Passes waiting log lines and errors to the context; takes a millisecond when there are none. For the client that
    /// reads this cannot meet a message: it is in no group, so messages arrive only in the queue they were asked for with.
    pub(super) fn serve_events(&self) {
        for _ in 0..EVENTS_AT_ONCE {
            // A log line is served and then waited on for the rest of the time; an error ends the call.
            if self.consumer.poll(Duration::from_millis(1)).is_none() {
                return;
            }
        }
    }

    pub(super) fn messages_taken(&self, count: usize) {
        self.messages_out.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn messages_returned(&self, count: usize) {
        self.messages_out.fetch_sub(count, Ordering::Relaxed);
    }

    /// How many messages are held outside librdkafka's own queue.
    pub(super) fn messages_out(&self) -> usize {
        self.messages_out.load(Ordering::Relaxed)
    }
}

impl Deref for Handle {
    type Target = BaseConsumer<Context>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let last = Arc::clone(&self.consumer);
        let close = move || {
            // The field itself goes right after this drop; once it has, the closing happens here.
            while Arc::strong_count(&last) > 1 {
                thread::sleep(Duration::from_millis(1));
            }
            drop(last);
        };
        if let Err(error) = thread::Builder::new().name("kafka-close".to_owned()).spawn(close) {
            tracing::debug!("no thread to close a kafka client on ({error}); closing it here");
        }
    }
}
