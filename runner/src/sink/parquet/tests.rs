#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use super::Memory;
use crate::sink::names::StagedName;
use crate::sink::{EpochName, Published, Sink, SinkError, StagedFile};
use support::{Faulty, Place, epoch, numbers, small};

/// Orders with a list of structs, as in the first scenario, with nulls at every level.
fn orders(rows: usize) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter((0..rows * 2).map(|i| (i % 3 > 0).then(|| format!("p{i}")))));
    let prices: ArrayRef =
        Arc::new(Float64Array::from_iter((0..rows * 2).map(|i| (i % 5 > 0).then_some(i as f64 / 4.0))));
    let item_fields = vec![Field::new("name", DataType::Utf8, true), Field::new("price", DataType::Float64, true)];
    let items = StructArray::new(item_fields.into(), vec![names, prices], None);
    let element = Arc::new(Field::new("element", items.data_type().clone(), true));
    let valid = (0..rows).map(|i| i % 7 > 0).collect::<Vec<_>>();
    let lists = ListArray::new(element, OffsetBuffer::from_lengths(vec![2; rows]), Arc::new(items), Some(valid.into()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(0..rows as i64).with_timezone("UTC"))),
        ("status", Arc::new(StringArray::from_iter_values((0..rows).map(|i| ["new", "paid", "sent"][i % 3])))),
        ("items", Arc::new(lists)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

async fn stage(place: &Place, batches: &[RecordBatch], name: EpochName) -> Vec<StagedFile> {
    let mut writer = place.sink.open(&batches[0].schema(), name);
    for batch in batches {
        writer.write(batch.clone()).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn publish_all(place: &Place, files: &[StagedFile]) {
    for file in files {
        assert_eq!(place.sink.publish(file).await.unwrap(), Published::Done);
        place.sink.discard(&file.staged).await.unwrap();
    }
}

#[tokio::test]
async fn nested_rows_come_back_as_they_were_on_disk_and_in_memory() {
    for compression in support::COMPRESSIONS {
        for place in [Place::disk(small().compression(compression)), Place::memory(small().compression(compression))] {
            let whole = orders(1000);
            let batches = [whole.slice(0, 10), whole.slice(10, 500), whole.slice(510, 490)];
            place.sink.check(&whole.schema()).await.unwrap();
            let files = stage(&place, &batches, epoch(0)).await;
            publish_all(&place, &files).await;
            assert_eq!(files.len(), 1);
            assert_eq!(files[0].rows, 1000);
            assert_eq!(place.names().await, [files[0].target.clone()]);
            assert_eq!(place.size(&files[0].target).await, files[0].bytes);
            let read = place.read(&files[0].target).await;
            assert_eq!(concat_batches(&whole.schema(), &read).unwrap(), whole);
        }
    }
}

#[tokio::test]
async fn a_file_name_says_its_codec_and_no_reader_takes_a_staged_one() {
    let place = Place::memory(small());
    let files = stage(&place, &[numbers(0..3)], epoch(4)).await;
    assert_eq!(files[0].staged, "_millrace/staged/0f5cab99-1111-2222/00000000000000000007-in-car-4-0.staged");
    assert_eq!(files[0].target, "part-0f5cab99-in-car-4-0.zstd.parquet");
    assert_eq!(place.sink.list_staged(&epoch(4).job_uid).await.unwrap(), [files[0].staged.clone()]);
    assert!(StagedName::parse(&files[0].staged).is_some());
}

#[tokio::test]
async fn what_another_job_staged_for_the_same_table_is_not_listed() {
    for place in [Place::disk(small()), Place::memory(small())] {
        let another = EpochName { job_uid: "another".to_owned(), ..epoch(0) };
        let (ours, theirs) =
            (stage(&place, &[numbers(0..3)], epoch(0)).await, stage(&place, &[numbers(3..6)], another).await);
        assert_eq!(place.sink.list_staged(&epoch(0).job_uid).await.unwrap(), [ours[0].staged.clone()]);
        publish_all(&place, &ours).await;
        publish_all(&place, &theirs).await;
        assert_eq!(place.names().await.len(), 2, "the files of both");
    }
}

#[tokio::test]
async fn an_epoch_without_rows_stages_nothing() {
    let place = Place::disk(small());
    let empty = numbers(0..0);
    assert_eq!(stage(&place, &[empty.clone(), empty], epoch(0)).await, []);
    assert_eq!(place.sink.list_staged(&epoch(0).job_uid).await.unwrap(), Vec::<String>::new());
    assert_eq!(place.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn partition_columns_become_folders_and_leave_the_files() {
    for place in [Place::disk(small().partition_by(&["status"])), Place::memory(small().partition_by(&["status"]))] {
        let whole = orders(300);
        let files = stage(&place, &[whole.slice(0, 150), whole.slice(150, 150)], epoch(0)).await;
        publish_all(&place, &files).await;
        let folders: Vec<&str> = files.iter().map(|file| file.target.split_once('/').unwrap().0).collect();
        assert_eq!(folders, ["status=new", "status=paid", "status=sent"]);
        assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [100, 100, 100]);
        let read = place.read(&files[1].target).await;
        let columns: Vec<String> = read[0].schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(columns, ["id", "at", "items"]);
        let ids: Vec<i64> = read.iter().flat_map(|batch| support::int64(batch, "id")).collect();
        assert_eq!(ids, (0..300).filter(|id| id % 3 == 1).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn files_end_near_their_size_and_hold_every_row_once() {
    let place = Place::memory(small().file_bytes(100_000));
    let batches: Vec<RecordBatch> = (0..20).map(|round| support::incompressible(round, 5_000, 1)).collect();
    let files = stage(&place, &batches, epoch(0)).await;
    publish_all(&place, &files).await;
    assert!(files.len() > 3, "{} files", files.len());
    for file in files.iter().rev().skip(1) {
        assert!((80_000..200_000).contains(&file.bytes), "{} bytes", file.bytes);
    }
    let mut wanted: Vec<i64> = batches.iter().flat_map(|batch| support::int64(batch, "v")).collect();
    wanted.sort_unstable();
    assert_eq!(place.all_numbers().await, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_has_been_open_too_long_is_closed_within_the_epoch() {
    let place = Place::memory(small().file_age(Duration::from_secs(60)));
    let mut writer = place.sink.open(&numbers(0..1).schema(), epoch(0));
    for minute in 0..3 {
        writer.write(numbers(minute..minute + 1)).await.unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
    }
    let files = writer.finish().await.unwrap();
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [3]);

    let mut writer = place.sink.open(&numbers(0..1).schema(), epoch(1));
    for minute in 0..3 {
        writer.write(numbers(minute..minute + 1)).await.unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
    }
    let files = writer.finish().await.unwrap();
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn more_partitions_than_open_files_make_more_files_but_lose_nothing() {
    let place = Place::memory(small().partition_by(&["k"]).open_files(4));
    let batch = support::keyed(0..2_000, 40);
    let mut writer = place.sink.open(&batch.schema(), epoch(0));
    for start in (0..2_000).step_by(250) {
        writer.write(batch.slice(start, 250)).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    publish_all(&place, &files).await;
    let folders: BTreeSet<&str> = files.iter().map(|file| file.target.split_once('/').unwrap().0).collect();
    assert_eq!(folders.len(), 40);
    assert_eq!(place.all_numbers().await, (0..2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_partition_that_keeps_coming_is_not_the_one_that_is_closed() {
    let place = Place::memory(small().partition_by(&["k"]).open_files(2));
    let rows = support::keyed(0..100, 10);
    let mut writer = place.sink.open(&rows.schema(), epoch(0));
    for other in 1..10 {
        writer.write(rows.slice(0, 1)).await.unwrap();
        writer.write(rows.slice(other, 1)).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    assert_eq!(files.iter().filter(|file| file.target.starts_with("k=0/")).count(), 1);
    assert_eq!(files.len(), 10);
}

#[tokio::test]
async fn memory_stays_bounded_while_millions_of_values_are_written() {
    let bounds = Memory { row_group_bytes: 1 << 20, part_bytes: 256 << 10, open_bytes: 4 << 20, ..Memory::default() };
    let place = Place::memory(small().memory(bounds).partition_by(&["k"]).file_bytes(1 << 30));
    let mut writer = place.sink.open(&support::keyed(0..1, 1).schema(), epoch(0));
    let mut most = 0;
    for round in 0..200 {
        writer.write(support::incompressible(round, 10_000, 8)).await.unwrap();
        most = most.max(writer.buffered_bytes());
    }
    let files = writer.finish().await.unwrap();
    let staged: u64 = files.iter().map(|file| file.bytes).sum();
    assert!(staged > 12 << 20, "{staged} bytes staged");
    assert!(most < 8 << 20, "{most} bytes buffered");
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 2_000_000);
}

#[tokio::test]
async fn little_memory_makes_more_row_groups_before_it_makes_more_files() {
    let bounds = Memory { open_bytes: 1 << 20, ..Memory::default() };
    let place = Place::memory(small().memory(bounds).partition_by(&["k"]));
    let mut writer = place.sink.open(&support::keyed(0..1, 1).schema(), epoch(0));
    for round in 0..30 {
        writer.write(support::keyed(round * 10_000..(round + 1) * 10_000, 8)).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    publish_all(&place, &files).await;
    assert!((8..16).contains(&files.len()), "{} files", files.len());
    assert_eq!(place.all_numbers().await, (0..300_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_file_may_be_larger_than_the_memory_for_open_files() {
    let bounds = Memory { row_group_bytes: 1 << 20, part_bytes: 256 << 10, open_bytes: 1 << 20, ..Memory::default() };
    let place = Place::disk(small().memory(bounds).file_bytes(1 << 30));
    let mut writer = place.sink.open(&support::keyed(0..1, 1).schema(), epoch(0));
    for round in 0..50 {
        writer.write(support::incompressible(round, 10_000, 1)).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    publish_all(&place, &files).await;
    assert_eq!(files.len(), 1);
    assert!(files[0].bytes > 3 << 20);
    assert_eq!(place.size(&files[0].target).await, files[0].bytes);
    assert_eq!(place.read(&files[0].target).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 500_000);
}

#[tokio::test]
async fn giving_an_epoch_up_leaves_nothing() {
    let bounds = Memory { row_group_bytes: 64 << 10, part_bytes: 32 << 10, ..Memory::default() };
    for place in [
        Place::disk(small().memory(bounds.clone()).partition_by(&["k"]).open_files(2)),
        Place::memory(small().memory(bounds.clone()).partition_by(&["k"]).open_files(2)),
    ] {
        let mut writer = place.sink.open(&support::keyed(0..1, 1).schema(), epoch(0));
        for round in 0..10 {
            writer.write(support::incompressible(round, 10_000, 5)).await.unwrap();
        }
        writer.abort().await;
        assert_eq!(place.names().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn publishing_twice_equals_publishing_once() {
    for place in [Place::disk(small()), Place::memory(small())] {
        let files = stage(&place, &[numbers(0..10)], epoch(0)).await;
        for _ in 0..3 {
            assert_eq!(place.sink.publish(&files[0]).await.unwrap(), Published::Done);
        }
        let mut wanted = vec![files[0].staged.clone(), files[0].target.clone()];
        wanted.sort();
        assert_eq!(place.names().await, wanted);
    }
}

#[tokio::test]
async fn publishing_after_discarding_finds_nothing_and_keeps_the_file() {
    for place in [Place::disk(small()), Place::memory(small())] {
        let files = stage(&place, &[numbers(0..10)], epoch(0)).await;
        publish_all(&place, &files).await;
        assert_eq!(place.sink.publish(&files[0]).await.unwrap(), Published::Missing);
        assert_eq!(place.all_numbers().await, (0..10).collect::<Vec<_>>());
        place.sink.discard(&files[0].staged).await.unwrap();
        place
            .sink
            .discard_all(&[files[0].staged.clone(), "_millrace/staged/0f5cab99-1111-2222/none".to_owned()])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn retracting_removes_what_was_published_and_only_that() {
    for place in [Place::disk(small()), Place::memory(small())] {
        let files = stage(&place, &[numbers(0..10)], epoch(0)).await;
        publish_all(&place, &files).await;
        assert_eq!(place.sink.retract(&files[0]).await.unwrap(), Published::Done);
        assert_eq!(place.sink.retract(&files[0]).await.unwrap(), Published::Missing);
        assert_eq!(place.names().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_file_that_was_rewritten_is_not_retracted() {
    for place in [Place::disk(small()), Place::memory(small())] {
        let files = stage(&place, &[numbers(0..10)], epoch(0)).await;
        publish_all(&place, &files).await;
        let target = place.path(&files[0].target);
        let mut bytes = place.store.get(&target).await.unwrap().bytes().await.unwrap().to_vec();
        bytes[10] ^= 1;
        place.store.put(&target, bytes.into()).await.unwrap();
        assert_eq!(place.sink.retract(&files[0]).await.unwrap(), Published::Changed);
        assert_eq!(place.names().await, [files[0].target.clone()]);
    }
}

#[tokio::test]
async fn two_incarnations_and_epochs_never_write_the_same_name() {
    let place = Place::memory(small().file_bytes(1).partition_by(&["k"]));
    let mut names = BTreeSet::new();
    let mut count = 0;
    for incarnation in ["one", "two"] {
        for number in 0..3 {
            let name = EpochName { incarnation: incarnation.to_owned(), ..epoch(number) };
            let files = stage(&place, &[support::keyed(0..50, 5)], name).await;
            count += files.len() * 2;
            names.extend(files.into_iter().flat_map(|file| [file.staged, file.target]));
        }
    }
    assert_eq!(names.len(), count);
    assert!(count >= 60, "{count}");
}

#[tokio::test]
async fn a_full_disk_names_the_path_and_shows_no_half_file() {
    let place = Place::faulty(small(), Faulty::full_disk());
    let mut writer = place.sink.open(&numbers(0..1).schema(), epoch(0));
    writer.write(numbers(0..10)).await.unwrap();
    match writer.finish().await {
        Err(SinkError::Full { output, path }) => {
            assert_eq!(output, "t");
            assert!(path.contains("lake/t"), "{path}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(place.names().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_unavailable_after_a_while() {
    let place = Place::faulty(small(), Faulty::that_hangs());
    let mut writer = place.sink.open(&numbers(0..1).schema(), epoch(0));
    writer.write(numbers(0..10)).await.unwrap();
    let asked = tokio::time::Instant::now();
    match writer.finish().await {
        Err(SinkError::Unavailable { reason, .. }) => assert!(reason.contains("no answer within 20 s"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn after_a_failure_a_writer_takes_no_more_rows() {
    let bounds = Memory { row_group_bytes: 16 << 10, part_bytes: 1 << 10, ..Memory::default() };
    let place = Place::faulty(small().memory(bounds), Faulty::full_disk());
    let mut writer = place.sink.open(&support::keyed(0..1, 1).schema(), epoch(0));
    let mut failed = 0;
    for round in 0..10 {
        failed += usize::from(writer.write(support::incompressible(round, 10_000, 1)).await.is_err());
    }
    assert!(failed >= 8, "{failed} of 10 writes failed");
    assert!(writer.finish().await.is_err());
    assert_eq!(place.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn timestamps_are_stored_in_microseconds() {
    let place = Place::memory(small());
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_999), None, Some(-1)]));
    let batch = RecordBatch::try_from_iter_with_nullable([("at", nanos, true)]).unwrap();
    place.sink.check(&batch.schema()).await.unwrap();
    let files = stage(&place, &[batch], epoch(0)).await;
    publish_all(&place, &files).await;
    let read = place.read(&files[0].target).await;
    let stored = read[0].column(0).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
    assert_eq!(stored.iter().collect::<Vec<_>>(), [Some(1), None, Some(0)]);
}

#[tokio::test]
async fn what_readers_could_not_read_is_refused_before_the_first_epoch() {
    let place = Place::memory(small());
    let refusal = async |fields: Vec<Field>| match place.sink.check(&Arc::new(Schema::new(fields))).await {
        Err(SinkError::User { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let twice = vec![Field::new("id", DataType::Int64, true), Field::new("id", DataType::Utf8, true)];
    assert!(refusal(twice).await.contains("two columns are named 'id'"));
    assert!(refusal(vec![Field::new("x", DataType::Null, true)]).await.contains("CAST(NULL AS STRING)"));
    let duration = DataType::new_list(DataType::Duration(TimeUnit::Second), true);
    assert!(refusal(vec![Field::new("d", duration, true)]).await.contains("column 'd'"));
    let partitioned = Place::memory(small().partition_by(&["price"]));
    let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Float64, true)]));
    assert!(matches!(partitioned.sink.check(&schema).await, Err(SinkError::User { .. })));
}

#[tokio::test]
async fn the_check_leaves_nothing_behind() {
    for place in [Place::disk(small()), Place::memory(small())] {
        place.sink.check(&numbers(0..1).schema()).await.unwrap();
        assert_eq!(place.names().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn rows_of_another_schema_are_a_fault_and_not_a_crash() {
    let place = Place::memory(small());
    let mut writer = place.sink.open(&numbers(0..1).schema(), epoch(0));
    let other: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let written = writer.write(RecordBatch::try_from_iter([("v", other)]).unwrap()).await;
    let finished = writer.finish().await;
    assert!(written.is_err() || finished.is_err());
    let found: Vec<_> = place.store.list(None).try_collect().await.unwrap();
    assert_eq!(found.len(), 0);
}

mod on_s3 {
    use super::*;
    use crate::storage::tests::server::{Server, lake};

    async fn place(wanted: support::Wanted) -> (tempfile::TempDir, Server, Place) {
        let server = Server::start().await;
        let (dir, stores) = server.stores();
        let place = Place::over(wanted, stores.data_store(&lake("kafka/t")).unwrap());
        (dir, server, place)
    }

    #[tokio::test]
    async fn an_epoch_of_one_small_file_costs_one_put_one_copy_and_one_delete() {
        let (_dir, server, place) = place(small()).await;
        let files = stage(&place, &[orders(2_000), orders(2_000)], epoch(0)).await;
        publish_all(&place, &files).await;
        assert_eq!(server.requests(), ["PUT", "COPY", "DELETE"]);
        assert_eq!(server.objects(), [format!("/lake/kafka/t/{}", files[0].target)]);
    }

    #[tokio::test]
    async fn many_staged_files_are_discarded_with_one_request() {
        let (_dir, server, place) = place(small().partition_by(&["k"])).await;
        let files = stage(&place, &[support::keyed(0..100, 10)], epoch(0)).await;
        let staged: Vec<String> = files.iter().map(|file| file.staged.clone()).collect();
        place.sink.discard_all(&staged).await.unwrap();
        assert_eq!(server.requests().iter().filter(|request| *request == "DELETE").count(), 1);
        assert_eq!(server.objects(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_large_file_goes_in_parts_of_one_size_and_comes_back_whole() {
        let bounds = Memory { row_group_bytes: 64 << 10, part_bytes: 50 << 10, ..Memory::default() };
        let (_dir, server, place) = place(small().memory(bounds)).await;
        let batches: Vec<RecordBatch> = (0..5).map(|round| support::incompressible(round, 10_000, 1)).collect();
        let files = stage(&place, &batches, epoch(0)).await;
        publish_all(&place, &files).await;
        let parts = server.requests().iter().filter(|request| *request == "PART").count() as u64;
        assert_eq!(parts, files[0].bytes.div_ceil(50 << 10));
        let read = place.read(&files[0].target).await;
        let values: Vec<i64> = read.iter().flat_map(|batch| support::int64(batch, "v")).collect();
        let wanted: Vec<i64> = batches.iter().flat_map(|batch| support::int64(batch, "v")).collect();
        assert_eq!(values, wanted);
    }

    #[tokio::test]
    async fn retracting_looks_once_and_deletes_once() {
        let (_dir, server, place) = place(small()).await;
        let files = stage(&place, &[numbers(0..10)], epoch(0)).await;
        publish_all(&place, &files).await;
        assert_eq!(place.sink.retract(&files[0]).await.unwrap(), Published::Done);
        assert_eq!(server.requests()[3..], ["HEAD", "DELETE"]);
        assert_eq!(place.sink.retract(&files[0]).await.unwrap(), Published::Missing);
    }

    #[tokio::test]
    async fn a_missing_bucket_is_not_a_missing_file() {
        let (_dir, server, place) = place(small()).await;
        let files = stage(&place, &[numbers(0..10)], epoch(0)).await;
        server.script(&[(404, "NoSuchBucket")]);
        match place.sink.publish(&files[0]).await {
            Err(SinkError::User { reason, .. }) => {
                assert!(reason.contains("s3://lake/kafka/t") && reason.contains("create the bucket"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_right_that_is_missing_is_found_by_the_check() {
        for answers in [&[(403, "AccessDenied")][..], &[(200, ""), (403, "AccessDenied")][..]] {
            let (_dir, server, place) = place(small()).await;
            server.script(answers);
            match place.sink.check(&numbers(0..1).schema()).await {
                Err(SinkError::User { reason, .. }) => assert!(reason.contains("grant the credentials"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
