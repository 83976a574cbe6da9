//! Against librdkafka's in-process mock cluster. What it does not do (transactions, times, growing topics, TLS, SASL) is
//! tested on real brokers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::time::Duration;

use millrace_crds::{Ending, PartitionOffset, Starting, Topics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::*;

struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    fn new() -> Self {
        let mock = MockCluster::new(1).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("linger.ms", "1")
            .set("batch.num.messages", "1000")
            .create()
            .unwrap();
        Self { mock, producer }
    }

    fn with_topic(topic: &str, partitions: i32) -> Self {
        let cluster = Self::new();
        cluster.mock.create_topic(topic, partitions, 1).unwrap();
        cluster
    }

    /// Writes `values` to a partition.
    fn produce(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = String>) {
        for value in values {
            self.send(BaseRecord::to(topic).partition(partition).key("k").payload(&value));
        }
        self.flush();
    }

    fn send(&self, mut record: BaseRecord<'_, str, str>) {
        while let Err((error, same)) = self.producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull));
            self.producer.poll(Duration::from_millis(10));
            record = same;
        }
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn kafka(&self, topics: Topics) -> Kafka {
        Kafka {
            bootstrap_servers: self.mock.bootstrap_servers(),
            topics,
            starting: Starting::Earliest,
            ending: None,
            fail_on_data_loss: true,
            tls: None,
            authentication: None,
            properties: BTreeMap::new(),
        }
    }

    fn source(&self, topic: &str) -> KafkaSource {
        open_source(&self.kafka(Topics::List(vec![topic.to_owned()])))
    }
}

fn open_source(kafka: &Kafka) -> KafkaSource {
    KafkaSource::open("orders", kafka, "millrace.local.test.orders", &Secrets::new("/nowhere")).unwrap()
}

fn partition(topic: &str, number: i32) -> Partition {
    Partition { source: "orders".into(), topic: topic.into(), partition: number }
}

fn starts(topic: &str, offsets: &[(i32, i64)]) -> BTreeMap<Partition, Offset> {
    offsets.iter().map(|&(number, offset)| (partition(topic, number), Offset(offset))).collect()
}

fn offsets_of(fetched: &Fetched) -> Vec<i64> {
    (0..fetched.messages.len()).map(|index| fetched.messages.message(index).offset.0).collect()
}

/// Nothing here takes long; what would is a hang.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("an answer within 30 s")
}

async fn next(source: &mut KafkaSource) -> Fetched {
    soon(source.next()).await.unwrap()
}

/// Reads until every partition's position is at its end offset and the end was reported; the messages of each.
async fn read_to_ends(
    source: &mut KafkaSource,
    ends: &BTreeMap<Partition, Offset>,
) -> BTreeMap<Partition, Vec<(i64, String)>> {
    let mut seen: BTreeMap<Partition, Vec<(i64, String)>> = BTreeMap::new();
    let mut open: Vec<Partition> = ends.keys().cloned().collect();
    while !open.is_empty() {
        let fetched = next(source).await;
        let messages = seen.entry(fetched.partition.clone()).or_default();
        let mut bytes = 0;
        for index in 0..fetched.messages.len() {
            let message = fetched.messages.message(index);
            let payload = message.payload.unwrap_or_default();
            bytes += payload.len() + message.key.map_or(0, <[u8]>::len);
            assert!(messages.last().is_none_or(|(last, _)| *last < message.offset.0), "offsets rise");
            assert!(message.offset < fetched.position);
            messages.push((message.offset.0, String::from_utf8(payload.to_vec()).unwrap()));
        }
        assert_eq!(bytes, fetched.bytes);
        if fetched.at_end && fetched.position == ends[&fetched.partition] {
            open.retain(|partition| *partition != fetched.partition);
        }
    }
    seen
}

#[tokio::test]
async fn every_message_of_every_partition_is_read_in_order_and_the_ends_are_reported() {
    let cluster = Cluster::with_topic("t", 3);
    for number in 0..3 {
        cluster.produce("t", number, (0..5_000).map(|n| format!("{number}/{n}")));
    }
    let mut source = cluster.source("t");
    let found = soon(source.discover()).await.unwrap();
    let partitions: Vec<Partition> = found.iter().map(|discovered| discovered.partition.clone()).collect();
    assert_eq!(partitions, vec![partition("t", 0), partition("t", 1), partition("t", 2)]);
    let ids: std::collections::BTreeSet<_> = found.iter().map(|discovered| discovered.topic_id.clone()).collect();
    assert!(ids.len() == 1 && !ids.contains(&None), "one topic, one id: {ids:?}");

    let starts = soon(source.start_offsets(&partitions, false)).await.unwrap();
    let ends = soon(source.end_offsets(&partitions)).await.unwrap();
    assert_eq!(ends.values().collect::<Vec<_>>(), vec![&Offset(5_000); 3]);
    source.assign(&starts).await.unwrap();
    let seen = read_to_ends(&mut source, &ends).await;
    for number in 0..3 {
        let expected: Vec<(i64, String)> = (0..5_000).map(|n| (n, format!("{number}/{n}"))).collect();
        assert!(seen[&partition("t", number)] == expected, "partition {number}");
    }

    cluster.produce("t", 1, ["late".to_owned()]);
    let fetched = next(&mut source).await;
    assert_eq!((fetched.partition.partition, offsets_of(&fetched), fetched.position), (1, vec![5_000], Offset(5_001)));
}

#[tokio::test]
async fn null_keys_tombstones_headers_and_timestamps_arrive_as_they_were_sent() {
    let cluster = Cluster::with_topic("t", 1);
    let headers = OwnedHeaders::new()
        .insert(KafkaHeader { key: "trace", value: Some("a") })
        .insert(KafkaHeader { key: "trace", value: Some("") })
        .insert(KafkaHeader { key: "none", value: None::<&str> });
    cluster.send(BaseRecord::to("t").partition(0).payload("no key").timestamp(1_700_000_000_123));
    cluster.send(BaseRecord::to("t").partition(0).key("gone").headers(headers));
    cluster.send(BaseRecord::to("t").partition(0).key("").payload(""));
    cluster.flush();
    let mut source = cluster.source("t");
    source.assign(&starts("t", &[(0, 0)])).await.unwrap();
    let mut rows = Vec::new();
    let mut all_headers = Vec::new();
    while rows.len() < 3 {
        let fetched = next(&mut source).await;
        for index in 0..fetched.messages.len() {
            let message = fetched.messages.message(index);
            rows.push((message.key.map(<[u8]>::to_vec), message.payload.map(<[u8]>::to_vec)));
            all_headers.push(fetched.messages.headers(index));
            if message.offset == Offset(0) {
                assert_eq!(message.timestamp, Some(1_700_000_000_123));
            }
        }
    }
    assert_eq!(
        rows,
        vec![(None, Some(b"no key".to_vec())), (Some(b"gone".to_vec()), None), (Some(vec![]), Some(vec![]))]
    );
    let sent = vec![
        ("trace".to_owned(), Some(b"a".to_vec())),
        ("trace".to_owned(), Some(Vec::new())),
        ("none".to_owned(), None),
    ];
    assert_eq!(all_headers, vec![Vec::new(), sent, Vec::new()]);
}

#[tokio::test]
async fn what_is_not_taken_is_not_fetched() {
    const MESSAGES: i64 = 60_000;
    let cluster = Cluster::with_topic("t", 2);
    for number in 0..2 {
        cluster.produce("t", number, (0..MESSAGES).map(|_| "x".repeat(20)));
    }
    let mut kafka = cluster.kafka(Topics::List(vec!["t".into()]));
    kafka.properties.insert("queued.min.messages".into(), "1000".into());
    kafka.properties.insert("fetch.message.max.bytes".into(), "50000".into());
    let mut source = open_source(&kafka);
    source.assign(&starts("t", &[(0, 0), (1, 0)])).await.unwrap();
    // The first call takes what the channel has room for; the reader then holds another batch and waits, and librdkafka
    // has its queue and one fetch of each partition.
    let first = next(&mut source).await;
    let most = 4 * 10_000;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..75 {
        ticks.tick().await;
        let buffered = source.buffered();
        assert!(buffered <= most, "{buffered} messages in memory");
    }
    assert!(source.buffered() > 1_000, "and something is ready");
    let mut read = first.messages.len();
    drop(first);
    while read < 2 * MESSAGES as usize {
        read += next(&mut source).await.messages.len();
    }
    assert_eq!(read, 2 * MESSAGES as usize);
    soon(async {
        while source.buffered() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_move_nothing_of_the_old_assignment_is_returned() {
    let cluster = Cluster::with_topic("t", 2);
    for number in 0..2 {
        cluster.produce("t", number, (0..20_000).map(|n| n.to_string()));
    }
    let mut source = cluster.source("t");
    for round in 0..10 {
        source.assign(&starts("t", &[(0, 0)])).await.unwrap();
        next(&mut source).await;
        // More of the old assignment is on its way in every queue there is.
        let target = 19_000 + round;
        source.assign(&starts("t", &[(0, target)])).await.unwrap();
        let mut at = target;
        while at < 20_000 {
            let fetched = next(&mut source).await;
            assert_eq!(offsets_of(&fetched), (at..fetched.position.0).collect::<Vec<_>>());
            at = fetched.position.0;
        }
    }
    source.assign(&starts("t", &[(0, 0), (1, 0)])).await.unwrap();
    next(&mut source).await;
    source.unassign(&[partition("t", 0)]).await.unwrap();
    let mut at = None;
    while at < Some(Offset(20_000)) {
        let fetched = next(&mut source).await;
        assert_eq!(fetched.partition, partition("t", 1));
        at = Some(fetched.position);
    }
}

#[tokio::test]
async fn next_may_be_cancelled_at_any_time() {
    let cluster = Cluster::with_topic("t", 1);
    cluster.produce("t", 0, (0..30_000).map(|n| n.to_string()));
    let mut source = cluster.source("t");
    source.assign(&starts("t", &[(0, 0)])).await.unwrap();
    let mut at = 0;
    while at < 30_000 {
        let Ok(fetched) = tokio::time::timeout(Duration::from_micros(200), source.next()).await else { continue };
        let fetched = fetched.unwrap();
        assert_eq!(offsets_of(&fetched), (at..fetched.position.0).collect::<Vec<_>>());
        at = fetched.position.0;
    }
}

#[tokio::test]
async fn messages_outlive_the_source_they_came_from() {
    let cluster = Cluster::with_topic("t", 1);
    cluster.produce("t", 0, ["still here".to_owned()]);
    let mut source = cluster.source("t");
    source.assign(&starts("t", &[(0, 0)])).await.unwrap();
    let fetched = next(&mut source).await;
    drop(source);
    let elsewhere = std::thread::spawn(move || fetched.messages.message(0).payload.map(<[u8]>::to_vec));
    assert_eq!(elsewhere.join().unwrap(), Some(b"still here".to_vec()));
}

#[tokio::test]
async fn starting_offsets_are_looked_up() {
    let cluster = Cluster::with_topic("t", 2);
    cluster.produce("t", 0, (0..10).map(|n| n.to_string()));
    cluster.produce("t", 1, (0..3).map(|n| n.to_string()));
    let partitions = [partition("t", 0), partition("t", 1)];
    let mut kafka = cluster.kafka(Topics::List(vec!["t".into()]));
    let listed = |offsets: [i64; 2]| -> Vec<PartitionOffset> {
        (0..).zip(offsets).map(|(partition, offset)| PartitionOffset { topic: "t".into(), partition, offset }).collect()
    };
    for (starting, expected) in [
        (Starting::Earliest, [0, 0]),
        (Starting::Latest, [10, 3]),
        (Starting::ByPartition(listed([4, -1])), [4, 3]),
        (Starting::ByPartition(listed([-2, 3])), [0, 3]),
    ] {
        kafka.starting = starting.clone();
        let mut source = open_source(&kafka);
        let starts = soon(source.start_offsets(&partitions, false)).await.unwrap();
        assert_eq!(starts.values().map(|offset| offset.0).collect::<Vec<_>>(), expected, "{starting:?}");
        let later = soon(source.start_offsets(&partitions, true)).await.unwrap();
        assert_eq!(later.values().map(|offset| offset.0).collect::<Vec<_>>(), [0, 0], "{starting:?}");
    }

    kafka.starting = Starting::ByPartition(listed([11, 0]));
    let error = soon(open_source(&kafka).start_offsets(&partitions, false)).await.unwrap_err();
    assert!(matches!(&error, SourceError::OffsetOutOfRange { wanted: 11, low: 0, high: 10, .. }), "{error}");

    kafka.ending = Some(Ending::ByPartition(listed([7, 2])));
    let mut source = open_source(&kafka);
    let ends = soon(source.end_offsets(&partitions)).await.unwrap();
    assert_eq!(ends.values().map(|offset| offset.0).collect::<Vec<_>>(), [7, 2]);
    let watermarks = soon(source.watermarks(&partitions)).await.unwrap();
    assert_eq!(watermarks[&partitions[0]], (Offset(0), Offset(10)));
}

#[tokio::test]
async fn an_offset_out_of_range_is_reported_and_the_partition_can_be_assigned_again() {
    let cluster = Cluster::with_topic("t", 2);
    cluster.produce("t", 0, (0..10).map(|n| n.to_string()));
    let mut source = cluster.source("t");
    source.assign(&starts("t", &[(0, 99)])).await.unwrap();
    let error = soon(source.next()).await.err().unwrap();
    assert!(
        matches!(&error, SourceError::OffsetOutOfRange { partition: at, wanted: 99, low: 0, high: 10 } if *at == partition("t", 0)),
        "{error}"
    );
    source.assign(&starts("t", &[(0, 8)])).await.unwrap();
    assert_eq!(offsets_of(&next(&mut source).await), vec![8, 9]);
}

#[tokio::test]
async fn a_pattern_finds_topics_as_they_appear() {
    let cluster = Cluster::with_topic("orders-a", 1);
    let mut source = open_source(&cluster.kafka(Topics::Pattern("orders-.".into())));
    let names = |found: &[Discovered]| found.iter().map(|found| found.partition.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&soon(source.discover()).await.unwrap()), ["orders/orders-a/0"]);
    for topic in ["orders-b", "more-orders-b", "orders-bb"] {
        cluster.mock.create_topic(topic, 2, 1).unwrap();
    }
    let found = soon(source.discover()).await.unwrap();
    assert_eq!(names(&found), ["orders/orders-a/0", "orders/orders-b/0", "orders/orders-b/1"]);
    assert_ne!(found[0].topic_id, found[1].topic_id);
    let mut none = open_source(&cluster.kafka(Topics::Pattern("nothing.*".into())));
    assert_eq!(soon(none.discover()).await.unwrap(), vec![]);
    let bad = KafkaSource::open("orders", &cluster.kafka(Topics::Pattern("(".into())), "g", &Secrets::new("/nowhere"));
    assert!(bad.err().unwrap().to_string().contains("topicPattern '('"));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_named_with_its_brokers() {
    let cluster = Cluster::new();
    cluster
        .mock
        .topic_error("metrics", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let mut source = cluster.source("metrics");
    let error = soon(source.discover()).await.unwrap_err();
    let brokers = cluster.mock.bootstrap_servers();
    assert_eq!(
        error.to_string(),
        format!("topic 'metrics' does not exist on {brokers}; create it, or correct source 'orders'")
    );
    assert!(matches!(error, SourceError::TopicMissing { .. }));
}

#[tokio::test]
async fn a_topic_that_goes_away_while_it_is_read_is_reported() {
    let cluster = Cluster::with_topic("t", 1);
    cluster.produce("t", 0, ["x".to_owned()]);
    let mut kafka = cluster.kafka(Topics::List(vec!["t".into()]));
    kafka.properties.insert("topic.metadata.propagation.max.ms".into(), "0".into());
    kafka.properties.insert("topic.metadata.refresh.interval.ms".into(), "500".into());
    let mut source = open_source(&kafka);
    source.assign(&starts("t", &[(0, 0)])).await.unwrap();
    next(&mut source).await;
    cluster.mock.topic_error("t", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let error = soon(async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    })
    .await;
    assert!(matches!(&error, SourceError::TopicMissing { topic, .. } if topic == "t"), "{error}");
    assert!(matches!(soon(source.discover()).await, Err(SourceError::TopicMissing { .. })));
}

#[tokio::test]
async fn no_right_on_a_topic_is_denial() {
    let cluster = Cluster::with_topic("t", 1);
    cluster
        .mock
        .topic_error("t", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .unwrap();
    let error = soon(cluster.source("t").discover()).await.unwrap_err();
    assert!(matches!(&error, SourceError::Denied { reason, .. } if reason.contains("topic 't'")), "{error}");
}

#[tokio::test]
async fn brokers_that_are_not_there_are_unreachable_with_the_systems_reason() {
    let mut kafka = Cluster::new().kafka(Topics::List(vec!["t".into()]));
    // Bound and never listened on: whoever connects is refused.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    kafka.bootstrap_servers = address.to_string();
    let mut source = open_source(&kafka);
    let error = soon(source.discover()).await.unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { reason, .. } if reason.contains("refused")), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn brokers_that_stay_away_are_reported_by_next_and_reading_goes_on_when_they_are_back() {
    let cluster = Cluster::with_topic("t", 1);
    cluster.produce("t", 0, ["before".to_owned()]);
    let mut source = cluster.source("t");
    source.assign(&starts("t", &[(0, 0)])).await.unwrap();
    let mut position = 0;
    while position < 1 {
        position = next(&mut source).await.position.0;
    }
    cluster.mock.broker_down(-1).unwrap();
    let error = soon(async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    })
    .await;
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    cluster.mock.broker_up(-1).unwrap();
    cluster.produce("t", 0, ["after".to_owned()]);
    let fetched = soon(async {
        loop {
            match source.next().await {
                Ok(fetched) if !fetched.messages.is_empty() => return fetched,
                Ok(_) | Err(SourceError::Unreachable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert_eq!(fetched.messages.message(0).payload, Some(&b"after"[..]));
}

#[tokio::test]
async fn offsets_noted_in_the_group_are_there_for_lag_tools() {
    let cluster = Cluster::with_topic("t", 2);
    let mut source = cluster.source("t");
    soon(source.note_group_offsets(&starts("t", &[(0, 7), (1, 9)]))).await.unwrap();
    soon(source.note_group_offsets(&starts("t", &[(0, 8)]))).await.unwrap();
    let brokers = cluster.mock.bootstrap_servers();
    let noted = tokio::task::spawn_blocking(move || {
        let tool: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "millrace.local.test.orders")
            .create()
            .unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_range("t", 0, 1);
        tool.committed_offsets(list, Duration::from_secs(10)).unwrap().to_topic_map()
    })
    .await
    .unwrap();
    assert_eq!(noted[&("t".to_owned(), 0)], rdkafka::Offset::Offset(8));
    assert_eq!(noted[&("t".to_owned(), 1)], rdkafka::Offset::Offset(9));
}

#[tokio::test]
async fn settings_that_do_not_fit_together_are_refused_when_the_source_is_opened() {
    let mut kafka = Cluster::new().kafka(Topics::List(vec!["t".into()]));
    kafka.properties.insert("ssl.ca.pem".into(), "not a certificate".into());
    kafka.properties.insert("security.protocol".into(), "ssl".into());
    let error = KafkaSource::open("orders", &kafka, "g", &Secrets::new("/nowhere")).err().unwrap();
    assert!(error.to_string().contains("ssl.ca.pem"), "{error}");
}
