//! The demo's proof: the tables, read back from disk with SQL, against what was produced.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::orders::Totals;

/// What the tables hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Counts and sum.
    pub totals: Totals,
    /// Orders that stand in the table more than once.
    pub doubled: u64,
    /// The products that earned most, as a table.
    pub best: String,
}

/// Rows in all Parquet files of a table, read from the files' footers alone.
///
/// # Errors
/// A file that cannot be read as Parquet; a table that does not exist yet has no rows.
pub fn count_rows(table: &Path) -> io::Result<u64> {
    let mut rows = 0;
    for path in files(table)? {
        let reader = SerializedFileReader::new(File::open(path)?).map_err(io::Error::other)?;
        rows += u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
    }
    Ok(rows)
}

/// Queries both tables.
///
/// # Errors
/// Reading the files or running the queries failed, or a table has no file.
pub async fn query(commandes: &Path, items: &Path) -> Result<Found, DataFusionError> {
    let context = SessionContext::new();
    for (name, path) in [("commandes", commandes), ("items", items)] {
        let batches = read(path)?;
        let schema = batches
            .first()
            .map(RecordBatch::schema)
            .ok_or_else(|| DataFusionError::Execution(format!("table '{name}' has no rows")))?;
        context.register_table(name, Arc::new(MemTable::try_new(schema, vec![batches])?))?;
    }
    let orders =
        one(&context, "SELECT count(*), count(DISTINCT order_id), coalesce(sum(total), 0.0) FROM commandes").await?;
    let items = one(&context, "SELECT count(*) FROM items").await?;
    let best = context
        .sql(
            "SELECT product_name, count(*) AS lines, sum(quantity) AS quantity, sum(subtotal) AS revenue \
             FROM items GROUP BY product_name ORDER BY revenue DESC LIMIT 3",
        )
        .await?
        .collect()
        .await?;
    let rows = integer(&orders[0]);
    Ok(Found {
        totals: Totals {
            orders: rows,
            items: integer(&items[0]),
            revenue: orders[2].as_primitive::<Float64Type>().value(0),
        },
        doubled: rows - integer(&orders[1]),
        best: pretty_format_batches(&best)?.to_string(),
    })
}

fn integer(column: &ArrayRef) -> u64 {
    u64::try_from(column.as_primitive::<Int64Type>().value(0)).unwrap_or(0)
}

/// The columns of the single row that an aggregate gives.
async fn one(context: &SessionContext, sql: &str) -> Result<Vec<ArrayRef>, DataFusionError> {
    let batches = context.sql(sql).await?.collect().await?;
    let row = batches.into_iter().find(|batch| batch.num_rows() == 1);
    row.map(|batch| batch.columns().to_vec()).ok_or_else(|| DataFusionError::Execution(format!("no row from: {sql}")))
}

fn read(table: &Path) -> io::Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for path in files(table)? {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(io::Error::other)?;
        for batch in reader {
            batches.push(batch.map_err(io::Error::other)?);
        }
    }
    Ok(batches)
}

/// What any reader of the folder would take for data: `*.parquet`, in name order, nothing below `_…`.
fn files(table: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(table) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
