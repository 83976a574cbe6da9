//! Names that every stage shares: those of the job log.

pub use millrace_joblog::ids::{Millis, Revision};
pub use millrace_joblog::record::{DataLoss, FirstClaim, Range};
pub use millrace_joblog::{
    Generation, Incarnation, JobUid, Offset, Ordinal, OutputName, Partition, Rank, Seq, SourceName, Task, TopicId,
};
