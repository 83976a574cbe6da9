//! The console output: each epoch's rows as a table, in the shape of Spark's console sink.
//!
//! Rows are formatted as they arrive and only as many as will be shown, so an epoch of any size costs a table of a few
//! rows. The table is printed when the epoch is published.

use std::fmt::Write as _;
use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

mod cell;
#[cfg(test)]
mod tests;

/// No column is narrower than this.
const MIN_WIDTH: usize = 3;

/// The line above and below a batch's number.
const RULE: &str = "-------------------------------------------";

/// A table of the first rows of an epoch, and how many there were in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleTable {
    header: Vec<String>,
    cells: Vec<Vec<String>>,
    limit: usize,
    truncate: Option<usize>,
    rows: u64,
}

impl ConsoleTable {
    /// A table that shows at most `rows` rows and cuts cells to `truncate` characters (`None` shows them whole).
    pub fn new(schema: &Schema, rows: usize, truncate: Option<usize>) -> Self {
        let header = schema.fields().iter().map(|field| cell::on_one_line(field.name())).collect();
        Self { header, cells: Vec::new(), limit: rows, truncate, rows: 0 }
    }

    /// Adds rows; those beyond the limit are only counted.
    pub fn push(&mut self, batch: &RecordBatch) {
        let room = self.limit - self.cells.len();
        for row in 0..batch.num_rows().min(room) {
            let cells = batch.columns().iter().map(|column| cut(cell::text(column, row), self.truncate));
            self.cells.push(cells.collect());
        }
        self.rows += batch.num_rows() as u64;
    }

    /// How many rows were added, shown or not.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of text held.
    pub fn buffered_bytes(&self) -> usize {
        self.cells.iter().flatten().map(String::len).sum()
    }

    /// The table of these batches, which share the schema.
    pub fn render(schema: &Schema, batches: &[RecordBatch], rows: usize, truncate: Option<usize>) -> String {
        let mut table = Self::new(schema, rows, truncate);
        for batch in batches {
            table.push(batch);
        }
        table.to_text()
    }

    /// The table as text, each line ended. Cells are aligned to the right, or to the left when they are shown whole.
    pub fn to_text(&self) -> String {
        let widths = self.widths();
        let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(*width))).collect::<String>() + "+\n";
        let mut out = rule.clone();
        self.push_row(&mut out, &self.header, &widths);
        out.push_str(&rule);
        for row in &self.cells {
            self.push_row(&mut out, row, &widths);
        }
        out.push_str(&rule);
        if self.rows > self.cells.len() as u64 {
            let rows = if self.limit == 1 { "row" } else { "rows" };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "only showing top {} {rows}", self.limit);
        }
        out
    }

    /// Prints the table under its batch's number, with the output's name if one is given (for jobs with several).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, batch: u64, output: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
        let title = match output {
            Some(output) => format!("Batch: {batch} ({output})"),
            None => format!("Batch: {batch}"),
        };
        // One write, so that tables of outputs that print at the same time do not mix.
        out.write_all(format!("{RULE}\n{title}\n{RULE}\n{}\n", self.to_text()).as_bytes())?;
        out.flush()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![MIN_WIDTH; self.header.len()];
        for row in std::iter::once(&self.header).chain(&self.cells) {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = cell::width(text).max(*width);
            }
        }
        widths
    }

    fn push_row(&self, out: &mut String, row: &[String], widths: &[usize]) {
        for (text, width) in row.iter().zip(widths) {
            let padding = " ".repeat(width - cell::width(text));
            out.push('|');
            if self.truncate.is_some() {
                out.push_str(&padding);
                out.push_str(text);
            } else {
                out.push_str(text);
                out.push_str(&padding);
            }
        }
        out.push_str("|\n");
    }
}

/// At most `limit` characters; the last three are dots if something was cut off and there is room for them.
fn cut(text: String, limit: Option<usize>) -> String {
    let Some(limit) = limit else { return text };
    if text.chars().nth(limit).is_none() {
        return text;
    }
    if limit < 4 {
        return text.chars().take(limit).collect();
    }
    text.chars().take(limit - 3).chain("...".chars()).collect()
}
