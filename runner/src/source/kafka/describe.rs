//! Describing topics: partitions and topic ids in one request. The safe bindings have no call that tells topic ids.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings::{self as rd, rd_kafka_admin_op_t, rd_kafka_resp_err_t};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;

use super::handle::Handle;

/// What the brokers know of one topic.
#[derive(Debug)]
pub(super) struct Description {
    pub name: String,
    /// The id in Kafka's own spelling (base64); `None` from brokers that know none.
    pub id: Option<String>,
    pub partitions: Vec<i32>,
    pub internal: bool,
    pub error: RDKafkaErrorCode,
}

/// Asks one broker about these topics, in the order given; blocks for at most `timeout`. Creates no topic.
///
/// Every broker knows this. Left to itself librdkafka would ask the controller and wait for one, which a cluster may lack
/// for a while (and the mock cluster always does).
pub(super) fn describe(
    handle: &Handle,
    broker: i32,
    topics: &[String],
    timeout: Duration,
) -> Result<Vec<Description>, RDKafkaErrorCode> {
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(topic.as_str()).map_err(|_| RDKafkaErrorCode::InvalidTopic))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let client = handle.client().native_ptr();
    let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);

    // SAFETY: the client lives as long as `handle`. Each object is made here, handed only to functions of its own kind,
    // and destroyed by its `Owned`, the event last of all that is read from it. librdkafka copies the topic names.
    unsafe {
        let queue = Owned::new(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy)?;
        let collection = Owned::new(
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            rd::rd_kafka_TopicCollection_destroy,
        )?;
        let options = Owned::new(
            rd::rd_kafka_AdminOptions_new(client, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd::rd_kafka_AdminOptions_destroy,
        )?;
        check(rd::rd_kafka_AdminOptions_set_request_timeout(options.raw, millis, ptr::null_mut(), 0))?;
        check(rd::rd_kafka_AdminOptions_set_broker(options.raw, broker, ptr::null_mut(), 0))?;
        rd::rd_kafka_DescribeTopics(client, collection.raw, options.raw, queue.raw);

        let event = rd::rd_kafka_queue_poll(queue.raw, millis);
        if event.is_null() {
            return Err(RDKafkaErrorCode::OperationTimedOut);
        }
        let event = Owned::new(event, rd::rd_kafka_event_destroy)?;
        check(rd::rd_kafka_event_error(event.raw))?;
        let result = rd::rd_kafka_event_DescribeTopics_result(event.raw);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let list = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok((0..count).map(|at| description(*list.add(at))).collect())
    }
}

/// # Safety
/// `topic` is a valid description, owned by an event that outlives this call.
unsafe fn description(topic: *const rd::rd_kafka_TopicDescription_t) -> Description {
    // SAFETY: the caller's promise; everything read belongs to the description.
    unsafe {
        let mut count = 0;
        let list = rd::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        Description {
            name: CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned(),
            id: topic_id(rd::rd_kafka_TopicDescription_topic_id(topic)),
            partitions: (0..count).map(|at| rd::rd_kafka_TopicPartitionInfo_partition(*list.add(at))).collect(),
            internal: rd::rd_kafka_TopicDescription_is_internal(topic) != 0,
            // A null error is no error.
            error: rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(topic)).into(),
        }
    }
}

/// # Safety
/// `id` is null or a valid id that nobody else is using.
unsafe fn topic_id(id: *const rd::rd_kafka_Uuid_t) -> Option<String> {
    if id.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; the text lives as long as the id and is copied at once.
    unsafe {
        let (high, low) = (rd::rd_kafka_Uuid_most_significant_bits(id), rd::rd_kafka_Uuid_least_significant_bits(id));
        let text = rd::rd_kafka_Uuid_base64str(id);
        if (high, low) == (0, 0) || text.is_null() {
            return None;
        }
        Some(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

fn check(code: rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
}

/// An object of librdkafka's and the function that destroys it.
struct Owned<T> {
    raw: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `raw` is null, or valid and not destroyed by anybody else; `destroy` is the function for its kind.
    unsafe fn new(raw: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        if raw.is_null() {
            return Err(RDKafkaErrorCode::CriticalSystemResource);
        }
        Ok(Self { raw, destroy })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: what `new` was promised.
        unsafe { (self.destroy)(self.raw) }
    }
}
