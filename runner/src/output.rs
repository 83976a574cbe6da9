//! The outputs of a job as the pipeline holds them: a name, a schema, and where the rows go.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millrace_crds::ConsoleSink;

use crate::sink::console::ConsoleTable;
use crate::sink::{EpochName, EpochWriter, Sink, SinkError, StagedFile};

/// One output. The dead letters of a source are an output too, behind the declared ones.
#[derive(Clone)]
pub struct OutputSlot {
    /// Its name: the manifest's, or [`dead_letter_output`]'s.
    pub name: String,
    /// The columns of its rows.
    pub schema: SchemaRef,
    /// Where they go.
    pub target: Target,
}

/// Where the rows of an output go.
#[derive(Clone)]
pub enum Target {
    /// Into files: staged, then published.
    Files {
        /// The sink.
        sink: Arc<dyn Sink>,
        /// The folder as a URL or an absolute path, without a slash at the end: what the job log calls it.
        url: String,
    },
    /// Onto standard output, once decided: for looking.
    Console(ConsoleSink),
}

/// What takes the rows of one output in one epoch.
pub enum OutputWriter {
    /// Open files.
    Files(Box<dyn EpochWriter>),
    /// Rows to be shown, as many as are shown.
    Console(ConsoleTable),
}

/// What an output staged for one epoch.
pub enum Staged {
    /// Finished files.
    Files(Vec<StagedFile>),
    /// Rows to be shown.
    Console(ConsoleTable),
}

impl OutputSlot {
    /// Opens the writer of an epoch.
    pub fn open(&self, name: EpochName) -> OutputWriter {
        match &self.target {
            Target::Files { sink, .. } => OutputWriter::Files(sink.open(&self.schema, name)),
            Target::Console(settings) => {
                OutputWriter::Console(ConsoleTable::new(&self.schema, settings.rows, settings.truncate))
            }
        }
    }

    /// The sink, if the output goes into files.
    pub fn files(&self) -> Option<(&Arc<dyn Sink>, &str)> {
        match &self.target {
            Target::Files { sink, url } => Some((sink, url)),
            Target::Console(_) => None,
        }
    }
}

impl OutputWriter {
    /// Adds rows.
    ///
    /// # Errors
    /// The sink's.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        match self {
            Self::Files(writer) => writer.write(batch).await,
            Self::Console(table) => {
                table.push(&batch);
                Ok(())
            }
        }
    }

    /// Finishes what is open.
    ///
    /// # Errors
    /// The sink's.
    pub async fn finish(self) -> Result<Staged, SinkError> {
        match self {
            Self::Files(writer) => writer.finish().await.map(Staged::Files),
            Self::Console(table) => Ok(Staged::Console(table)),
        }
    }

    /// Gives it up.
    pub async fn abort(self) {
        if let Self::Files(writer) = self {
            writer.abort().await;
        }
    }
}

impl Staged {
    /// Rows of it.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Files(files) => files.iter().map(|file| file.rows).sum(),
            Self::Console(table) => table.rows(),
        }
    }
}

/// The name of the output that takes the dead letters of a source. The dot keeps it apart from declared names, which
/// are SQL identifiers.
pub fn dead_letter_output(source: &str) -> String {
    format!("{source}.deadLetter")
}
