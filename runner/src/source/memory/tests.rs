#![allow(clippy::unwrap_used)]

use futures::FutureExt;

use super::*;

fn partition(number: i32) -> Partition {
    Partition { source: "orders".into(), topic: "t".into(), partition: number }
}

fn source_from(kafka: &MemoryKafka, starting: Starting) -> MemorySource {
    kafka.source("orders", &Topics::List(vec!["t".into()]), starting, None, 2)
}

fn kafka_with(partitions: usize, records: usize) -> MemoryKafka {
    let kafka = MemoryKafka::new();
    kafka.create_topic("t", partitions);
    for number in 0..partitions {
        for record in 0..records {
            kafka.append("t", number as i32, Record::value(format!("{number}/{record}"))).unwrap();
        }
    }
    kafka
}

async fn assign(source: &mut MemorySource, starts: &[(i32, i64)]) {
    let starts = starts.iter().map(|&(number, offset)| (partition(number), Offset(offset))).collect();
    source.assign(&starts).await.unwrap();
}

fn offsets_of(fetched: &Fetched) -> Vec<i64> {
    (0..fetched.messages.len()).map(|index| fetched.messages.message(index).offset.0).collect()
}

/// Everything that can be returned without waiting, as (partition, offsets, position, at end).
fn drain(source: &mut MemorySource) -> Vec<(i32, Vec<i64>, i64, bool)> {
    let mut seen = Vec::new();
    while let Some(fetched) = source.next().now_or_never() {
        let fetched = fetched.unwrap();
        seen.push((fetched.partition.partition, offsets_of(&fetched), fetched.position.0, fetched.at_end));
    }
    seen
}

#[tokio::test]
async fn partitions_take_turns_and_each_end_is_reported_once() {
    let kafka = kafka_with(2, 3);
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 0), (1, 0)]).await;
    assert_eq!(
        drain(&mut source),
        vec![(0, vec![0, 1], 2, false), (1, vec![0, 1], 2, false), (0, vec![2], 3, true), (1, vec![2], 3, true)]
    );
    kafka.append("t", 1, Record::value("late"));
    assert_eq!(drain(&mut source), vec![(1, vec![3], 4, true)]);
}

#[tokio::test]
async fn positions_move_past_markers_and_compacted_records() {
    let kafka = kafka_with(1, 3);
    kafka.compact("t", 0, Offset(1));
    kafka.append_gap("t", 0, 2);
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 0)]).await;
    assert_eq!(drain(&mut source), vec![(0, vec![0, 2], 3, false), (0, vec![], 5, true)]);
}

#[tokio::test]
async fn an_open_transaction_is_not_seen_until_it_is_committed_and_never_if_aborted() {
    let kafka = kafka_with(1, 1);
    kafka.open_transaction("t", 0);
    kafka.append("t", 0, Record::value("aborted"));
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 0)]).await;
    assert_eq!(drain(&mut source), vec![(0, vec![0], 1, true)]);
    assert_eq!(source.end_offsets(&[partition(0)]).await.unwrap()[&partition(0)], Offset(1));
    kafka.close_transaction("t", 0, false);
    assert_eq!(drain(&mut source), vec![(0, vec![], 3, true)]);
    kafka.open_transaction("t", 0);
    kafka.append("t", 0, Record::value("committed"));
    kafka.close_transaction("t", 0, true);
    assert_eq!(drain(&mut source), vec![(0, vec![3], 5, true)]);
}

#[tokio::test]
async fn waiting_ends_when_something_is_appended_and_nothing_unassigned_is_returned() {
    let kafka = kafka_with(2, 1);
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 0), (1, 0)]).await;
    drain(&mut source);
    source.unassign(&[partition(0)]).await.unwrap();
    let append = async {
        kafka.append("t", 0, Record::value("unseen"));
        tokio::task::yield_now().await;
        kafka.append("t", 1, Record::value("seen"));
    };
    let (fetched, ()) = tokio::join!(source.next(), append);
    let fetched = fetched.unwrap();
    assert_eq!((fetched.partition.partition, offsets_of(&fetched)), (1, vec![1]));
}

#[tokio::test]
async fn a_topic_that_is_created_again_has_another_id_and_old_offsets_are_out_of_range() {
    let kafka = kafka_with(1, 5);
    let mut source = source_from(&kafka, Starting::Earliest);
    let before = source.discover().await.unwrap();
    assign(&mut source, &[(0, 0)]).await;
    drain(&mut source);
    kafka.delete_topic("t");
    assert!(matches!(source.next().await, Err(SourceError::TopicMissing { topic, .. }) if topic == "t"));
    assert!(matches!(source.discover().await, Err(SourceError::TopicMissing { .. })));
    assert!(source.next().now_or_never().is_none(), "said once");
    kafka.create_topic("t", 1);
    assert_ne!(before, source.discover().await.unwrap());
    let error = source.next().await.err().unwrap();
    assert!(matches!(error, SourceError::OffsetOutOfRange { wanted: 5, low: 0, high: 0, .. }), "{error}");
    assert!(source.next().now_or_never().is_none(), "stopped");
    assign(&mut source, &[(0, 0)]).await;
    kafka.append("t", 0, Record::value("new"));
    assert_eq!(drain(&mut source), vec![(0, vec![0], 1, true)]);
}

#[tokio::test]
async fn expired_offsets_are_out_of_range() {
    let kafka = kafka_with(1, 5);
    kafka.expire("t", 0, Offset(3));
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 1)]).await;
    let error = source.next().await.err().unwrap();
    assert!(matches!(error, SourceError::OffsetOutOfRange { wanted: 1, low: 3, high: 5, .. }), "{error}");
    assert_eq!(source.start_offsets(&[partition(0)], false).await.unwrap()[&partition(0)], Offset(3));
}

#[tokio::test]
async fn starting_by_time_is_the_first_message_not_older() {
    let kafka = kafka_with(1, 0);
    for timestamp in [10, 30, 20, 40] {
        kafka.append("t", 0, Record { timestamp: Some(timestamp), ..Record::default() });
    }
    for (from, offset) in [(5, 0), (20, 1), (31, 3), (41, 4)] {
        let mut source = source_from(&kafka, Starting::Timestamp(from));
        assert_eq!(
            source.start_offsets(&[partition(0)], false).await.unwrap()[&partition(0)],
            Offset(offset),
            "{from}"
        );
        assert_eq!(source.start_offsets(&[partition(0)], true).await.unwrap()[&partition(0)], Offset(0), "{from}");
    }
}

#[tokio::test]
async fn patterns_are_for_whole_names_and_new_topics_and_partitions_are_found() {
    let kafka = kafka_with(1, 0);
    kafka.create_topic("orders-a", 1);
    let mut source = kafka.source("orders", &Topics::Pattern("orders-.".into()), Starting::Earliest, None, 10);
    let names = |found: Vec<Discovered>| -> Vec<String> { found.iter().map(|d| d.partition.to_string()).collect() };
    assert_eq!(names(source.discover().await.unwrap()), vec!["orders/orders-a/0"]);
    kafka.create_topic("orders-b", 1);
    kafka.create_topic("more-orders-b", 1);
    kafka.create_topic("orders-bb", 1);
    kafka.grow_topic("orders-a", 2);
    assert_eq!(
        names(source.discover().await.unwrap()),
        vec!["orders/orders-a/0", "orders/orders-a/1", "orders/orders-b/0"]
    );
}

#[tokio::test]
async fn injected_faults_come_in_order_and_end() {
    let kafka = kafka_with(1, 1);
    kafka.fail(Call::Next, Fault::Denied, 1);
    kafka.fail(Call::Next, Fault::Unreachable, 1);
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 0)]).await;
    assert!(matches!(source.next().await, Err(SourceError::Denied { .. })));
    assert!(matches!(source.next().await, Err(SourceError::Unreachable { .. })));
    kafka.set_down(true);
    assert!(source.next().now_or_never().is_none());
    assert!(matches!(source.discover().await, Err(SourceError::Unreachable { .. })));
    kafka.set_down(false);
    assert_eq!(drain(&mut source), vec![(0, vec![0], 1, true)]);
    source.note_group_offsets(&BTreeMap::from([(partition(0), Offset(1))])).await.unwrap();
    assert_eq!(kafka.group_offsets()[&partition(0)], Offset(1));
}

#[tokio::test]
async fn null_keys_tombstones_and_headers_are_kept_apart_from_empty_ones() {
    let kafka = kafka_with(1, 0);
    let headers = vec![("a".to_owned(), None), ("a".to_owned(), Some(Vec::new()))];
    kafka.append("t", 0, Record { key: Some(Vec::new()), headers: headers.clone(), ..Record::default() });
    let mut source = source_from(&kafka, Starting::Earliest);
    assign(&mut source, &[(0, 0)]).await;
    let fetched = source.next().await.unwrap();
    let message = fetched.messages.message(0);
    assert_eq!((message.key, message.payload, message.timestamp), (Some(&b""[..]), None, None));
    assert_eq!(fetched.messages.headers(0), headers);
}
