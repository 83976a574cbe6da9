//! The form in which state is written: one blob per checkpoint, read as a whole or by bucket.
//!
//! ```text
//! "MLRSTATE"                    8 bytes
//! format number                 4 bytes, little-endian
//! length of the header          4 bytes
//! checksum of the header        8 bytes: xxh64 with seed 0
//! header                        JSON, see [`Header`]
//! sections, one after another   each zstd over an Arrow IPC stream of partial rows
//! ```
//!
//! The rows of a section are sorted by bucket, and the header says which buckets a section holds and how many rows of
//! each: whoever takes over some buckets reads the header, then the byte ranges of the sections that have any of them.
//! A section holds one bucket, or, when there are few rows, all buckets that leave the same remainder divided by the
//! number of sections. Nothing is decoded before its checksum was found right: damage is an error, never a fault of the
//! decoder. Against someone who forges checksums too there is no defence but the store's own rights.

use std::io::Cursor;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::bucket::BucketSet;
use super::hash;

const MAGIC: &[u8; 8] = b"MLRSTATE";
/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;
/// Bytes before the header.
const LEAD: usize = 24;
/// No header is longer: 256 sections of 256 buckets are a tenth of it.
const MAX_HEADER: usize = 16 << 20;
/// No section is longer, packed or not.
const MAX_SECTION: u64 = 2 << 30;
/// The fastest: state is written far more often than it is read.
const COMPRESSION: i32 = 1;

/// What is wrong with a blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It ends too early, or too late.
    #[error("a state blob is cut off or too long: {found} bytes of {what} instead of {wanted}")]
    Length {
        /// Of what part.
        what: &'static str,
        /// The bytes that are there.
        found: u64,
        /// The bytes that belong there.
        wanted: u64,
    },
    /// It is something else.
    #[error("this is not a state blob of millrace")]
    Magic,
    /// It was written by a version that is newer, or too old.
    #[error(
        "a state blob has format {found} and this version of millrace reads format {FORMAT}; run the version that wrote it"
    )]
    Format {
        /// Its format.
        found: u32,
    },
    /// Its bytes are not those that were written.
    #[error(
        "a state blob is damaged: the checksum of {what} is wrong; restore the object from a backup, or rewind the job to before it"
    )]
    Damaged {
        /// Of what part.
        what: &'static str,
    },
    /// Its parts do not fit together.
    #[error("a state blob contradicts itself: {0}")]
    Inconsistent(String),
    /// It holds the state of another stage.
    #[error("a state blob is of stage '{found}' and was to be read as stage '{wanted}'")]
    Stage {
        /// The stage it is of.
        found: String,
        /// The stage that reads it.
        wanted: String,
    },
    /// The query changed so that its state cannot go on.
    #[error(
        "the state of stage '{stage}' was written as ({found}) and the query now keeps ({wanted}); \
         undo the change, or give the query a new name to start its state anew"
    )]
    Schema {
        /// Whose state.
        stage: String,
        /// What was written.
        found: String,
        /// What is wanted.
        wanted: String,
    },
    /// It cannot be written.
    #[error("a state blob cannot be written: {0}")]
    Write(String),
}

/// Whether a blob holds everything or only what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// All groups of its buckets: it replaces every blob before it.
    Base,
    /// The groups changed since the blob before it.
    Delta,
}

/// What tells one kind of rows from another: it must be the same where a blob is written and where it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shape {
    /// The columns as `name: type`, group columns first.
    pub columns: Vec<String>,
    /// How many are group columns.
    pub group_columns: usize,
    /// The column with the start of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_start: Option<usize>,
    /// The column that closes groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_end: Option<usize>,
    /// The hash that made the buckets.
    pub hash: String,
}

/// When the groups of a blob close, in the unit of the column that closes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Closings {
    /// The first.
    pub first: i64,
    /// The last. A blob is dead once the watermark has passed it.
    pub last: i64,
}

/// The first part of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Base or delta.
    pub kind: Kind,
    /// Whose state.
    pub stage: String,
    /// What its rows are.
    pub shape: Shape,
    /// A checksum of the shape, for comparing it by eye.
    pub fingerprint: String,
    /// The watermark that had closed windows, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// When its groups close; absent if any of them never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closings: Option<Closings>,
    /// Rows in all sections.
    pub rows: u64,
    /// The sections in their order.
    pub sections: Vec<Section>,
}

/// One section of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Section {
    /// Its bytes in the blob.
    pub bytes: u64,
    /// Its bytes before compression.
    pub raw_bytes: u64,
    /// The xxh64, with seed 0, of its bytes in the blob; 16 hexadecimal digits.
    pub checksum: String,
    /// Its buckets in the order of its rows, and how many rows each has.
    pub buckets: Vec<(u8, u32)>,
}

/// What a section is made from.
#[derive(Debug)]
pub(super) struct SectionRows {
    /// Its buckets in the order of its rows, and how many rows each has.
    pub buckets: Vec<(u8, u32)>,
    /// Its rows.
    pub rows: Vec<RecordBatch>,
}

/// The beginning of a blob, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// More bytes are needed: so many from the blob's start.
    Needs(u64),
    /// All that is to be known before its sections are read.
    Ready(Box<Layout>),
}

/// A blob's header and where its sections are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The header.
    pub header: Header,
    /// Where the first section begins.
    body: u64,
}

impl Shape {
    /// Its checksum.
    pub fn fingerprint(&self) -> String {
        // A list of texts and numbers always has a JSON form.
        checksum(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// In words, for errors.
    pub fn describe(&self) -> String {
        let windows = match (self.window_start, self.window_end) {
            (_, None) => "no windows".to_owned(),
            (None, Some(end)) => format!("windows closed by column {}", end + 1),
            (Some(start), Some(end)) => format!("windows in columns {} and {}", start + 1, end + 1),
        };
        let (groups, columns) = (self.group_columns, self.columns.join(", "));
        format!("{columns}; {groups} of them grouped by, {windows}, hash {}", self.hash)
    }
}

impl Layout {
    /// The blob's length.
    pub fn bytes(&self) -> u64 {
        self.body + self.header.sections.iter().map(|section| section.bytes).sum::<u64>()
    }

    /// The sections that hold any of `buckets`, by number, and their bytes in the blob.
    pub fn sections_of(&self, buckets: &BucketSet) -> Vec<(usize, Range<u64>)> {
        let mut found = Vec::new();
        let mut at = self.body;
        for (number, section) in self.header.sections.iter().enumerate() {
            let range = at..at + section.bytes;
            at = range.end;
            if section.buckets.iter().any(|(bucket, _)| buckets.contains(*bucket)) {
                found.push((number, range));
            }
        }
        found
    }

    /// Checks that it is the state of `stage` and of that shape.
    ///
    /// # Errors
    /// Naming both, if it is not.
    pub fn expect(&self, stage: &str, shape: &Shape) -> Result<(), BlobError> {
        let Header { stage: found, shape: written, .. } = &self.header;
        if found != stage {
            return Err(BlobError::Stage { found: found.clone(), wanted: stage.to_owned() });
        }
        if written != shape {
            let (stage, found, wanted) = (stage.to_owned(), written.describe(), shape.describe());
            return Err(BlobError::Schema { stage, found, wanted });
        }
        Ok(())
    }

    /// The rows of a section from its bytes.
    ///
    /// # Errors
    /// If they are not the bytes that were written.
    pub fn decode(&self, section: usize, bytes: &[u8]) -> Result<Vec<RecordBatch>, BlobError> {
        let Some(section) = self.header.sections.get(section) else {
            return Err(BlobError::Inconsistent(format!("it has no section {section}")));
        };
        check_length("a section", bytes.len() as u64, section.bytes)?;
        if checksum(bytes) != section.checksum {
            return Err(BlobError::Damaged { what: "a section" });
        }
        let unreadable = |error: &dyn std::fmt::Display| BlobError::Inconsistent(error.to_string());
        let raw = zstd::bulk::decompress(bytes, section.raw_bytes as usize).map_err(|error| unreadable(&error))?;
        check_length("a section, unpacked,", raw.len() as u64, section.raw_bytes)?;
        let reader = StreamReader::try_new(Cursor::new(raw), None).map_err(|error| unreadable(&error))?;
        let batches: Vec<_> = reader.collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows != section.rows() {
            let counted = section.rows();
            return Err(BlobError::Inconsistent(format!("a section of {counted} rows holds {rows}")));
        }
        Ok(batches)
    }
}

impl Section {
    fn rows(&self) -> u64 {
        self.buckets.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }
}

/// Reads the beginning of a blob from its first bytes, as many as are at hand.
///
/// # Errors
/// If it is no blob, one of another format, or damaged.
pub fn begin(bytes: &[u8]) -> Result<Beginning, BlobError> {
    if !bytes.iter().zip(MAGIC).all(|(found, wanted)| found == wanted) {
        return Err(BlobError::Magic);
    }
    let Some(lead) = bytes.get(..LEAD) else { return Ok(Beginning::Needs(LEAD as u64)) };
    let number = |at: usize| u32::from_le_bytes([lead[at], lead[at + 1], lead[at + 2], lead[at + 3]]);
    let format = number(8);
    if format != FORMAT {
        return Err(BlobError::Format { found: format });
    }
    let length = number(12) as usize;
    if length > MAX_HEADER {
        return Err(BlobError::Inconsistent(format!("a header of {length} bytes")));
    }
    let Some(text) = bytes.get(LEAD..LEAD + length) else { return Ok(Beginning::Needs((LEAD + length) as u64)) };
    if XxHash64::oneshot(0, text).to_le_bytes() != lead[16..24] {
        return Err(BlobError::Damaged { what: "the header" });
    }
    let header: Header = serde_json::from_slice(text).map_err(|error| BlobError::Inconsistent(error.to_string()))?;
    check(&header)?;
    Ok(Beginning::Ready(Box::new(Layout { header, body: (LEAD + length) as u64 })))
}

/// Reads the beginning of a blob that is there as a whole.
///
/// # Errors
/// As [`begin`]; or if it is not as long as its header says.
pub fn open(blob: &[u8]) -> Result<Layout, BlobError> {
    match begin(blob)? {
        Beginning::Needs(wanted) => Err(BlobError::Length { what: "a blob", found: blob.len() as u64, wanted }),
        Beginning::Ready(layout) => {
            check_length("a blob", blob.len() as u64, layout.bytes())?;
            Ok(*layout)
        }
    }
}

/// Writes a blob: `header` without its sections, and the rows of each section with their buckets.
pub(super) fn write(mut header: Header, schema: &Schema, sections: &[SectionRows]) -> Result<Vec<u8>, BlobError> {
    let fault = |error: &dyn std::fmt::Display| BlobError::Write(error.to_string());
    let mut body = Vec::new();
    for SectionRows { buckets, rows } in sections {
        let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(|error| fault(&error))?;
        for batch in rows {
            writer.write(batch).map_err(|error| fault(&error))?;
        }
        let raw = writer.into_inner().map_err(|error| fault(&error))?;
        let packed = zstd::bulk::compress(&raw, COMPRESSION).map_err(|error| fault(&error))?;
        let (bytes, raw_bytes) = (packed.len() as u64, raw.len() as u64);
        if bytes.max(raw_bytes) > MAX_SECTION {
            return Err(BlobError::Write(format!("{raw_bytes} bytes for {} buckets are too many", buckets.len())));
        }
        header.sections.push(Section { bytes, raw_bytes, checksum: checksum(&packed), buckets: buckets.clone() });
        body.extend_from_slice(&packed);
    }
    let text = serde_json::to_vec(&header).map_err(|error| fault(&error))?;
    if text.len() > MAX_HEADER {
        return Err(BlobError::Write(format!("a header of {} bytes is too long", text.len())));
    }
    let mut blob = Vec::with_capacity(LEAD + text.len() + body.len());
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&FORMAT.to_le_bytes());
    blob.extend_from_slice(&(text.len() as u32).to_le_bytes());
    blob.extend_from_slice(&XxHash64::oneshot(0, &text).to_le_bytes());
    blob.extend_from_slice(&text);
    blob.extend_from_slice(&body);
    Ok(blob)
}

/// The name of the hash that this version makes buckets with.
pub(super) fn hash_name() -> String {
    hash::NAME.to_owned()
}

fn check(header: &Header) -> Result<(), BlobError> {
    let fail = |reason: &str| Err(BlobError::Inconsistent(reason.to_owned()));
    if header.fingerprint != header.shape.fingerprint() {
        return fail("its fingerprint is not that of its columns");
    }
    if header.sections.iter().any(|section| section.bytes.max(section.raw_bytes) > MAX_SECTION) {
        return fail("a section is too long");
    }
    let rows: u64 = header.sections.iter().map(Section::rows).fold(0, u64::saturating_add);
    if rows != header.rows {
        return fail("its sections do not have as many rows as it says");
    }
    let mut seen = BucketSet::NONE;
    for (bucket, _) in header.sections.iter().flat_map(|section| &section.buckets) {
        if seen.contains(*bucket) {
            return fail("a bucket is in it twice");
        }
        seen.insert(*bucket);
    }
    Ok(())
}

fn check_length(what: &'static str, found: u64, wanted: u64) -> Result<(), BlobError> {
    if found == wanted { Ok(()) } else { Err(BlobError::Length { what, found, wanted }) }
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash64::oneshot(0, bytes))
}
