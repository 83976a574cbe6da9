//! The batch-consume call: the one place where messages come out of librdkafka, and the memory they lie in.
//!
//! librdkafka's message-at-a-time interface costs several times more processor time than asking for thousands at once,
//! which the safe bindings do not offer. What is written here by hand is kept to that:
//!
//! - [`FetchQueue`] is one librdkafka queue into which every partition of a source is fetched;
//! - [`Fetcher`] takes batches out of it and sorts them by partition;
//! - [`MessageSet`] owns the messages of one partition, where librdkafka put them, and gives them back when dropped.
//!
//! Invariants that the `unsafe` blocks rely on:
//!
//! 1. A client outlives its queues, topics and messages: each of them holds an `Arc<Handle>`, dropped after it.
//! 2. A message pointer that librdkafka returned is owned by exactly one value and destroyed exactly once.
//! 3. librdkafka never changes a message it has returned, except that reading headers parses them on first use.
//! 4. librdkafka's functions may be called from any thread (its documentation: the library is thread-safe).
//!
//! Cost per message: no allocation and no copy here; a pointer moved, its key and value lengths added up.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings::{self as rd, rd_kafka_message_t, rd_kafka_queue_t, rd_kafka_resp_err_t, rd_kafka_topic_t};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;

use super::handle::Handle;
use crate::batch::{Header, Messages, RawMessage};
use crate::ids::Offset;

/// The queue of everything that one source fetches.
pub(super) struct FetchQueue {
    raw: NonNull<rd_kafka_queue_t>,
    handle: Arc<Handle>,
}

// SAFETY: invariant 4; the pointer is valid until drop and librdkafka locks the queue it points to.
unsafe impl Send for FetchQueue {}
// SAFETY: as above.
unsafe impl Sync for FetchQueue {}

impl FetchQueue {
    /// A new, empty queue; `None` if librdkafka gives none (it is out of memory).
    pub(super) fn new(handle: Arc<Handle>) -> Option<Self> {
        // SAFETY: the client's pointer is valid while `handle` lives.
        let raw = NonNull::new(unsafe { rd::rd_kafka_queue_new(handle.client().native_ptr()) })?;
        Some(Self { raw, handle })
    }

    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Makes a fetch that is waiting for messages return what it has.
    pub(super) fn wake(&self) {
        // SAFETY: `raw` is valid until drop.
        unsafe { rd::rd_kafka_queue_yield(self.raw.as_ptr()) }
    }

    /// How many messages and events librdkafka holds ready.
    pub(super) fn len(&self) -> usize {
        // SAFETY: `raw` is valid until drop.
        unsafe { rd::rd_kafka_queue_length(self.raw.as_ptr()) }
    }

    /// Starts fetching a partition from an offset on; it must not be fetched already.
    pub(super) fn start(&self, topic: &Topic, partition: i32, offset: Offset) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: both pointers are valid and belong to one client.
        let started =
            unsafe { rd::rd_kafka_consume_start_queue(topic.raw.as_ptr(), partition, offset.0, self.raw.as_ptr()) };
        if started == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// Stops fetching a partition. When this returns, nothing of it comes out of the queue any more: librdkafka counts
    /// up the partition's version first and drops what carries an older one.
    pub(super) fn stop(&self, topic: &Topic, partition: i32) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: the topic's pointer is valid.
        let stopped = unsafe { rd::rd_kafka_consume_stop(topic.raw.as_ptr(), partition) };
        if stopped == 0 { Ok(()) } else { Err(last_error()) }
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new and destroyed only here; `handle` is dropped afterwards.
        unsafe { rd::rd_kafka_queue_destroy(self.raw.as_ptr()) }
    }
}

/// librdkafka's own object for a topic; stays on the thread that made it.
pub(super) struct Topic {
    raw: NonNull<rd_kafka_topic_t>,
    _handle: Arc<Handle>,
}

impl Topic {
    /// The topic with this name; asks no broker.
    pub(super) fn new(handle: &Arc<Handle>, name: &str) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client is valid, the name is copied, and no configuration means the client's.
        let raw = unsafe { rd::rd_kafka_topic_new(handle.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        let raw = NonNull::new(raw).ok_or_else(last_error)?;
        Ok(Self { raw, _handle: Arc::clone(handle) })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_topic_new and destroyed only here, before `_handle`.
        unsafe { rd::rd_kafka_topic_destroy(self.raw.as_ptr()) }
    }
}

fn last_error() -> RDKafkaErrorCode {
    // SAFETY: reads the calling thread's error code, which librdkafka itself has set.
    unsafe { rd::rd_kafka_last_error() }.into()
}

/// What one fetch gave of one partition, in the order it came.
pub(super) struct Part {
    pub topic: String,
    pub partition: i32,
    pub messages: MessageSet,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// The position after this part; `None` when there was only an error.
    pub position: Option<Offset>,
    /// Whether the end of the partition was met after the last message.
    pub at_end: bool,
    /// What went wrong with the partition, if anything did.
    pub error: Option<PartError>,
}

/// An error that librdkafka put into the queue in place of a message.
pub(super) struct PartError {
    pub code: RDKafkaErrorCode,
    pub reason: String,
    /// The offset it was at, or a negative number.
    pub offset: i64,
}

/// Takes messages out of a queue; lives on one thread.
pub(super) struct Fetcher {
    queue: Arc<FetchQueue>,
    /// Where librdkafka writes its pointers; empty between calls.
    received: Vec<*mut rd_kafka_message_t>,
    /// Which part a topic's address and a partition number belong to; only meaningful within a call.
    index: HashMap<(usize, i32), usize>,
}

impl Fetcher {
    pub(super) fn new(queue: Arc<FetchQueue>) -> Self {
        Self { queue, received: Vec::new(), index: HashMap::new() }
    }

    /// Waits up to `wait` for a first message or event, then up to `linger` for more, `max` in all.
    pub(super) fn fetch(&mut self, max: usize, wait: Duration, linger: Duration) -> Vec<Part> {
        self.received.reserve(max);
        if self.receive(1, wait) > 0 && max > 1 {
            self.receive(max - 1, linger);
        }
        self.queue.handle.messages_taken(self.received.len());
        self.sort()
    }

    /// Appends at most `max` pointers to `received`.
    fn receive(&mut self, max: usize, timeout: Duration) -> usize {
        let room = self.received.spare_capacity_mut();
        let max = max.min(room.len());
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is valid and `room` has space for `max` pointers.
        let count =
            unsafe { rd::rd_kafka_consume_batch_queue(self.queue.raw.as_ptr(), millis, room.as_mut_ptr().cast(), max) };
        let count = usize::try_from(count).unwrap_or(0).min(max);
        // SAFETY: librdkafka has initialised the first `count` of them.
        unsafe { self.received.set_len(self.received.len() + count) };
        count
    }

    fn sort(&mut self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        self.index.clear();
        let mut current = None;
        let count = self.received.len();
        for raw in self.received.drain(..) {
            let Some(message) = NonNull::new(raw) else { continue };
            // SAFETY: invariants 2 and 3: nobody else has this message yet.
            let (topic, partition) = unsafe { ((*message.as_ptr()).rkt, (*message.as_ptr()).partition) };
            let key = (topic as usize, partition);
            let at = match current {
                Some((same, at)) if same == key => at,
                _ => *self.index.entry(key).or_insert_with(|| {
                    parts.push(Part::new(topic_name(topic), partition, &self.queue.handle, count.min(1_024)));
                    parts.len() - 1
                }),
            };
            current = Some((key, at));
            parts[at].push(message);
        }
        parts
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        debug_assert!(self.received.is_empty(), "every received message has been handed on");
    }
}

impl Part {
    fn new(topic: String, partition: i32, handle: &Arc<Handle>, expected: usize) -> Self {
        Self {
            topic,
            partition,
            messages: MessageSet {
                messages: Vec::with_capacity(expected),
                parsing: Mutex::new(()),
                handle: Arc::clone(handle),
            },
            bytes: 0,
            position: None,
            at_end: false,
            error: None,
        }
    }

    fn push(&mut self, message: NonNull<rd_kafka_message_t>) {
        let raw = message.as_ptr();
        // SAFETY: invariant 3. The code is read as the integer that it is in C, because a newer broker may send one
        // that the bindings' enumeration does not have.
        let (code, offset) = unsafe { (ptr::addr_of!((*raw).err).cast::<i32>().read(), (*raw).offset) };
        if code == 0 {
            // SAFETY: invariant 3.
            self.bytes += unsafe { (*raw).len + (*raw).key_len };
            self.position = Some(Offset(offset + 1));
            self.at_end = false;
            self.messages.messages.push(message);
            return;
        }
        let code = rd_kafka_resp_err_t::try_from(code).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from);
        if code == RDKafkaErrorCode::PartitionEOF {
            self.position = self.position.max(Some(Offset(offset)));
            self.at_end = true;
        } else {
            // SAFETY: invariant 3; the value of an error is its text, of this length.
            let reason = unsafe { bytes((*raw).payload.cast(), (*raw).len) }.unwrap_or_default();
            self.error = Some(PartError { code, reason: String::from_utf8_lossy(reason).into_owned(), offset });
        }
        // SAFETY: invariant 2; the message is not stored anywhere.
        unsafe { rd::rd_kafka_message_destroy(raw) };
        self.messages.handle.messages_returned(1);
    }
}

fn topic_name(topic: *mut rd_kafka_topic_t) -> String {
    if topic.is_null() {
        return String::new();
    }
    // SAFETY: the topic is kept alive by the message it was read from, and its name is a C string that never changes.
    unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(topic)) }.to_string_lossy().into_owned()
}

/// # Safety
/// `data` is null or points to `len` bytes that live and stay as they are for `'a`.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    if data.is_null() { None } else { Some(unsafe { slice::from_raw_parts(data, len) }) }
}

/// Messages of one partition in the memory that librdkafka received them into. They can be kept for as long as one
/// likes, and the client with them; dropping the set gives the memory back.
pub(super) struct MessageSet {
    messages: Vec<NonNull<rd_kafka_message_t>>,
    /// Held while headers are parsed, the one thing that changes a message.
    parsing: Mutex<()>,
    /// Dropped after the messages.
    handle: Arc<Handle>,
}

// SAFETY: messages are owned (invariant 2) and librdkafka's functions do not care for threads (invariant 4).
unsafe impl Send for MessageSet {}
// SAFETY: invariant 3, and `parsing` keeps the one exception to a single thread at a time; parsing headers writes no
// field that `message` reads.
unsafe impl Sync for MessageSet {}

impl Messages for MessageSet {
    fn len(&self) -> usize {
        self.messages.len()
    }

    fn message(&self, index: usize) -> RawMessage<'_> {
        let raw = self.messages[index].as_ptr();
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives as long as `self`; key and value are null or have the length beside them.
        unsafe {
            let timestamp = rd::rd_kafka_message_timestamp(raw, &raw mut kind);
            RawMessage {
                offset: Offset((*raw).offset),
                timestamp: (timestamp >= 0).then_some(timestamp),
                key: bytes((*raw).key.cast(), (*raw).key_len),
                payload: bytes((*raw).payload.cast(), (*raw).len),
            }
        }
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        let raw = self.messages[index].as_ptr();
        let _one_at_a_time = self.parsing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = ptr::null_mut();
        // SAFETY: the message lives as long as `self`, and `parsing` is held.
        let found = unsafe { rd::rd_kafka_message_headers(raw, &raw mut list) };
        if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Vec::new();
        }
        let mut headers = Vec::new();
        loop {
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the list belongs to the message; an index past its end is answered by an error.
            let found = unsafe {
                rd::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut len)
            };
            if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return headers;
            }
            // SAFETY: the name is a C string and the value null or `len` bytes, both owned by the message.
            let header = unsafe {
                (CStr::from_ptr(name).to_string_lossy().into_owned(), bytes(value.cast(), len).map(<[u8]>::to_vec))
            };
            headers.push(header);
        }
    }
}

impl Drop for MessageSet {
    fn drop(&mut self) {
        for message in &self.messages {
            // SAFETY: invariant 2, and by invariant 1 the client is still there.
            unsafe { rd::rd_kafka_message_destroy(message.as_ptr()) };
        }
        self.handle.messages_returned(self.messages.len());
    }
}
