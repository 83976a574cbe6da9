//! The form of blobs: pinned, checked, and read by bucket.

use std::sync::Arc;

use arrow::array::{Array, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millrace_joblog::Millis;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use twox_hash::XxHash64;

use super::{Query, texts};
use crate::state::blob::{Beginning, BlobError, Closings, Header, Kind, Layout, Section, begin, open};
use crate::state::{BucketSet, KeyedState, StateError, StateSpec, WindowColumns};

const WINDOW: Option<WindowColumns> = Some(WindowColumns { start: Some(0), end: 1 });
const FIXTURE: &[u8] = include_bytes!("../../../fixtures/state/format-1.blob");

fn table() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("window_start", time.clone(), false),
        Field::new("window_end", time, false),
        Field::new("city", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
    ]))
}

/// Rows of (start of a window of one second, in seconds; city; price).
fn rows(of: &[(i64, Option<&str>, Option<f64>)]) -> RecordBatch {
    let time = |seconds: Vec<i64>| {
        TimestampMicrosecondArray::from_iter_values(seconds.into_iter().map(|at| at * 1_000_000)).with_timezone("UTC")
    };
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(time(of.iter().map(|row| row.0).collect())),
        Arc::new(time(of.iter().map(|row| row.0 + 1).collect())),
        Arc::new(of.iter().map(|row| row.1).collect::<StringArray>()),
        Arc::new(of.iter().map(|row| row.2).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(table(), columns).unwrap()
}

fn query() -> Query {
    Query::new(
        &table(),
        "SELECT window_start, window_end, city, count(*), sum(price), avg(price), max(city) \
         FROM t GROUP BY window_start, window_end, city",
    )
}

/// The state whose base the fixture is.
fn fixture_state(query: &Query) -> KeyedState {
    let mut state = query.state(WINDOW);
    let first =
        [(10, Some("Köln"), Some(1.5)), (10, None, Some(2.0)), (11, Some("Genève"), None), (9, Some("x"), None)];
    let second = [(10, Some("Köln"), Some(2.5)), (12, Some(""), Some(-1.0))];
    state.merge(query.partial(&rows(&first))).unwrap();
    state.close(Millis(10_000)).unwrap();
    state.merge(query.partial(&rows(&second))).unwrap();
    state
}

/// Without what a new version of Arrow or zstd may write differently.
fn without_bytes(mut header: Header) -> Header {
    for section in &mut header.sections {
        *section = Section { bytes: 0, raw_bytes: 0, checksum: String::new(), buckets: section.buckets.clone() };
    }
    header
}

#[test]
fn the_pinned_blob_is_read_and_what_is_written_is_the_same() {
    let query = query();
    let state = KeyedState::restore(query.spec(WINDOW), [FIXTURE], &BucketSet::ALL, Some(Millis(10_000))).unwrap();
    let finished = query.finish(state.all().unwrap());
    assert_eq!(
        finished,
        [
            "1970-01-01T00:00:10Z | 1970-01-01T00:00:11Z | Köln | 2 | 4.000000000e0 | 2.000000000e0 | Köln",
            "1970-01-01T00:00:10Z | 1970-01-01T00:00:11Z | NULL | 1 | 2.000000000e0 | 2.000000000e0 | NULL",
            "1970-01-01T00:00:11Z | 1970-01-01T00:00:12Z | Genève | 1 | NULL | NULL | Genève",
            "1970-01-01T00:00:12Z | 1970-01-01T00:00:13Z |  | 1 | -1.000000000e0 | -1.000000000e0 | ",
        ]
    );
    let pinned = open(FIXTURE).unwrap().header;
    assert_eq!(pinned.kind, Kind::Base);
    assert_eq!(pinned.watermark, Some(10_000));
    assert_eq!(pinned.closings, Some(Closings { first: 11_000_000, last: 13_000_000 }));
    for again in [state, fixture_state(&query)] {
        let written = again.base(&BucketSet::ALL).unwrap().encode().unwrap();
        assert_eq!(without_bytes(open(&written).unwrap().header), without_bytes(pinned.clone()));
        let read = KeyedState::restore(query.spec(WINDOW), [&written[..]], &BucketSet::ALL, None).unwrap();
        assert_eq!(query.finish(read.all().unwrap()), finished);
    }
}

#[test]
fn windows_closed_since_a_blob_was_written_are_left_out() {
    let query = query();
    let restore =
        |watermark| KeyedState::restore(query.spec(WINDOW), [FIXTURE], &BucketSet::ALL, Some(Millis(watermark)));
    assert_eq!(restore(10_999).unwrap().size().groups, 4);
    assert_eq!(restore(11_000).unwrap().size().groups, 2);
    let closed = restore(13_000).unwrap();
    assert_eq!((closed.size().groups, closed.watermark()), (0, Some(Millis(13_000))));
}

/// Many groups, so that there are many sections.
fn large(query: &Query) -> (KeyedState, Vec<u8>) {
    let mut state = query.state(WINDOW);
    let cities: Vec<String> = (0..40_000).map(|city| format!("city {city}")).collect();
    for window in 0..2 {
        let of: Vec<_> = cities.iter().map(|city| (window, Some(city.as_str()), Some(1.0))).collect();
        state.merge(query.partial(&rows(&of))).unwrap();
    }
    let blob = state.base(&BucketSet::ALL).unwrap().encode().unwrap();
    (state, blob)
}

#[test]
fn the_owner_of_some_buckets_reads_only_the_sections_that_have_them() {
    let query = query();
    let (state, blob) = large(&query);
    let layout = open(&blob).unwrap();
    assert_eq!(layout.header.sections.len(), 32);
    let mine: BucketSet = (0..=255).filter(|bucket| bucket % 4 == 1).collect();
    let sections = layout.sections_of(&mine);
    assert_eq!(sections.len(), 8);
    let bytes: u64 = sections.iter().map(|(_, range)| range.end - range.start).sum();
    assert!(bytes < blob.len() as u64 / 3);
    let mut part = query.state(WINDOW);
    for (section, range) in sections {
        let bytes = &blob[range.start as usize..range.end as usize];
        part.load(&layout, section, bytes, &mine, None).unwrap();
    }
    let mut wanted = Vec::new();
    for batch in state.all().unwrap() {
        let buckets = state.buckets(&batch).unwrap();
        let kept: arrow::array::BooleanArray = buckets.iter().map(|bucket| Some(mine.contains(*bucket))).collect();
        wanted.push(arrow::compute::filter_record_batch(&batch, &kept).unwrap());
    }
    assert_eq!(texts(&part.all().unwrap()), texts(&wanted));
    let groups = part.size().groups;
    assert!((19_000..21_000).contains(&groups), "{groups}");
}

#[test]
fn both_windows_of_a_key_are_in_its_one_bucket() {
    let query = query();
    let (_, blob) = large(&query);
    let layout = open(&blob).unwrap();
    for (_, rows) in layout.header.sections.iter().flat_map(|section| &section.buckets) {
        assert_eq!(rows % 2, 0);
    }
}

#[test]
fn the_beginning_of_a_blob_says_how_much_more_it_needs() {
    assert_eq!(begin(b"").unwrap(), Beginning::Needs(24));
    assert_eq!(begin(&FIXTURE[..10]).unwrap(), Beginning::Needs(24));
    let Beginning::Needs(wanted) = begin(&FIXTURE[..24]).unwrap() else { panic!("complete already") };
    let Beginning::Ready(layout) = begin(&FIXTURE[..wanted as usize]).unwrap() else { panic!("still incomplete") };
    assert_eq!(*layout, open(FIXTURE).unwrap());
    assert_eq!(layout.bytes(), FIXTURE.len() as u64);
}

fn restore_fixture(bytes: &[u8]) -> Result<KeyedState, StateError> {
    KeyedState::restore(query().spec(WINDOW), [bytes], &BucketSet::ALL, None)
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let query = query();
    let spec = query.spec(WINDOW);
    for at in 0..FIXTURE.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = FIXTURE.to_vec();
            damaged[at] ^= change;
            let restored = KeyedState::restore(spec.clone(), [&damaged[..]], &BucketSet::ALL, None);
            assert!(restored.is_err(), "byte {at} of {}", FIXTURE.len());
        }
        let cut = KeyedState::restore(spec.clone(), [&FIXTURE[..at]], &BucketSet::ALL, None);
        assert!(cut.is_err(), "cut at {at}");
    }
    let longer = [FIXTURE, b"x"].concat();
    assert!(matches!(restore_fixture(&longer), Err(StateError::Blob(BlobError::Length { .. }))));
}

/// A blob with this header and body, all checksums of the lead right.
fn blob_of(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut blob = b"MLRSTATE".to_vec();
    blob.extend_from_slice(&1_u32.to_le_bytes());
    blob.extend_from_slice(&(header.len() as u32).to_le_bytes());
    blob.extend_from_slice(&XxHash64::oneshot(0, header).to_le_bytes());
    blob.extend_from_slice(header);
    blob.extend_from_slice(body);
    blob
}

/// The fixture with another header and, where the header has it so, another body.
fn forged(change: impl Fn(&mut Header), body: Option<Vec<u8>>) -> Vec<u8> {
    let layout = open(FIXTURE).unwrap();
    let at = layout.sections_of(&BucketSet::ALL)[0].1.start as usize;
    let mut header = layout.header;
    change(&mut header);
    if let Some(body) = &body {
        header.sections[0].bytes = body.len() as u64;
        header.sections[0].checksum = format!("{:016x}", XxHash64::oneshot(0, body));
    }
    let body = body.unwrap_or_else(|| FIXTURE[at..].to_vec());
    blob_of(&serde_json::to_vec(&header).unwrap(), &body)
}

#[test]
fn a_blob_that_contradicts_itself_is_refused_however_right_its_checksums() {
    assert!(restore_fixture(&forged(|_| (), None)).is_ok());
    type Change = fn(&mut Header);
    let changes: [Change; 7] = [
        |header| header.rows += 1,
        |header| header.sections[0].buckets[0].1 += 1,
        |header| header.sections[0].raw_bytes += 1,
        |header| header.sections[0].raw_bytes = u64::MAX,
        |header| header.shape.columns[2] = "town: text".to_owned(),
        |header| header.sections.push(header.sections[0].clone()),
        |header| {
            header.rows += 1;
            header.sections[0].buckets[0].1 += 1;
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(restore_fixture(&forged(change, None)).is_err(), "change {number}");
    }
    assert!(restore_fixture(&blob_of(b"{}", b"")).is_err());
    assert!(restore_fixture(&blob_of(b"not json", b"")).is_err());
}

#[test]
fn a_section_of_garbage_or_cut_off_is_an_error_however_right_its_checksum() {
    let mut random = StdRng::seed_from_u64(3);
    let layout = open(FIXTURE).unwrap();
    let (section, range) = layout.sections_of(&BucketSet::ALL)[0].clone();
    let packed = &FIXTURE[range.start as usize..range.end as usize];
    let raw = zstd::bulk::decompress(packed, layout.header.sections[section].raw_bytes as usize).unwrap();
    for at in (0..raw.len()).step_by(8) {
        let body = zstd::bulk::compress(&raw[..at], 1).unwrap();
        let cut = forged(|header| header.sections[0].raw_bytes = at as u64, Some(body));
        // The stream's last 8 bytes only say that it ends.
        assert_eq!(restore_fixture(&cut).is_ok(), at + 8 >= raw.len(), "cut at {at} of {}", raw.len());
    }
    for _ in 0..200 {
        let mut damaged = packed.to_vec();
        let at = random.random_range(0..damaged.len());
        damaged.truncate(at);
        assert!(restore_fixture(&forged(|_| (), Some(damaged))).is_err());
    }
    assert!(restore_fixture(&forged(|_| (), Some(vec![7; 100]))).is_err());
}

#[test]
fn another_format_stage_or_schema_is_refused_with_both_named() {
    let mut newer = FIXTURE.to_vec();
    newer[8] = 2;
    let error = restore_fixture(&newer).err().unwrap();
    assert!(error.to_string().contains("format 2 and this version of millrace reads format 1"), "{error}");
    assert!(matches!(restore_fixture(b"PAR1 and more"), Err(StateError::Blob(BlobError::Magic))));

    let query = query();
    let spec = StateSpec { stage: "other/1".to_owned(), ..query.spec(WINDOW) };
    let error = KeyedState::restore(spec, [FIXTURE], &BucketSet::ALL, None).err().unwrap();
    assert_eq!(error.to_string(), "a state blob is of stage 'test/0' and was to be read as stage 'other/1'");

    let other = Query::new(
        &table(),
        "SELECT window_start, window_end, city, count(*), min(price) FROM t GROUP BY window_start, window_end, city",
    );
    let error = KeyedState::restore(other.spec(WINDOW), [FIXTURE], &BucketSet::ALL, None).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, StateError::Blob(BlobError::Schema { .. })), "{text}");
    for part in ["'test/0'", "max(t.city)", "min(t.price)", "undo the change"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let error = KeyedState::restore(query.spec(None), [FIXTURE], &BucketSet::ALL, None).err().unwrap();
    assert!(error.to_string().contains("no windows"), "{error}");
}

#[test]
fn a_snapshot_is_encoded_while_its_state_goes_on() {
    let query = query();
    let mut state = fixture_state(&query);
    let before = query.finish(state.all().unwrap());
    let snapshot = state.base(&BucketSet::ALL).unwrap();
    let encoding = std::thread::spawn(move || snapshot.encode().unwrap());
    state.merge(query.partial(&rows(&[(10, Some("Köln"), Some(9.0)), (20, Some("new"), None)]))).unwrap();
    let blob = encoding.join().unwrap();
    let then = KeyedState::restore(query.spec(WINDOW), [&blob[..]], &BucketSet::ALL, None).unwrap();
    assert_eq!(query.finish(then.all().unwrap()), before);
}

#[test]
fn a_state_that_is_only_partly_wanted_is_only_partly_written() {
    let query = query();
    let (state, _) = large(&query);
    let some: BucketSet = [3, 77].into_iter().collect();
    let snapshot = state.base(&some).unwrap();
    assert_eq!(snapshot.buckets(), some);
    assert!((400..900).contains(&snapshot.groups()), "{}", snapshot.groups());
    let blob = snapshot.encode().unwrap();
    let Layout { header, .. } = open(&blob).unwrap();
    assert_eq!(header.sections.len(), 1);
    assert!(state.base(&BucketSet::NONE).unwrap().is_empty());
}
