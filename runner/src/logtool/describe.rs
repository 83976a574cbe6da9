//! A record in one line, for people.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};
use millrace_joblog::record::{
    Body, Commit, EditPolicy, Intents, Note, RewindPolicy, RewindTarget, SavepointAction, Slot, Writer,
};

use crate::ids::{Incarnation, Millis, Seq};

/// How many things of a kind are named before the rest are counted.
const NAMED: usize = 3;

/// One line about a record: seq, time, kinds of its entries, what they say, who wrote it. Columns are separated by two
/// spaces.
pub fn line(seq: Seq, slot: &Slot) -> String {
    let kinds: Vec<&str> = slot.entries.iter().map(|entry| kind(&entry.body)).collect();
    let what: Vec<String> =
        slot.entries.iter().map(|entry| what(&entry.body)).filter(|what| !what.is_empty()).collect();
    let (at, by) = slot.entries.first().map(|entry| (time(entry.at), writer(&entry.writer))).unwrap_or_default();
    format!("{:>6}  {at}  {:<10}  {}  {by}", seq.0, kinds.join("+"), what.join("; "))
}

/// A time as people and machines read it, in UTC.
pub fn time(at: Millis) -> String {
    match DateTime::from_timestamp_millis(at.0) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => format!("{} ms", at.0),
    }
}

/// The first digits of an incarnation: enough to tell a few apart.
pub fn short(incarnation: Incarnation) -> String {
    incarnation.0.simple().to_string().chars().take(8).collect()
}

/// The name of an entry's kind, as in the record's JSON.
pub fn kind(body: &Body) -> &'static str {
    match body {
        Body::Init(_) => "init",
        Body::Adopt(_) => "adopt",
        Body::Term(_) => "term",
        Body::Claim(_) => "claim",
        Body::Commit(_) => "commit",
        Body::Published(_) => "published",
        Body::Plan(_) => "plan",
        Body::Complete(_) => "complete",
        Body::Hold(_) => "hold",
        Body::Release(_) => "release",
        Body::Savepoint(_) => "savepoint",
        Body::Rewind(_) => "rewind",
        Body::Retracted(_) => "retracted",
        Body::Edit(_) => "edit",
        Body::SkipPublish(_) => "skipPublish",
        Body::Truncate(_) => "truncate",
    }
}

fn what(body: &Body) -> String {
    match body {
        Body::Init(init) => format!("job {} at {}", init.job, init.home.place),
        Body::Adopt(adopt) => format!("job {} now at {} ({:?})", adopt.job, adopt.home.place, adopt.reason),
        Body::Term(term) => {
            let revision: String = term.revision.as_str().chars().take(12).collect();
            format!("generation {}, revision {revision}, {} runner(s)", term.generation, term.parallelism)
        }
        Body::Claim(claim) => format!("ordinal {} takes {}", claim.ordinal, list(&claim.tasks)),
        Body::Commit(commit) => commit_what(commit),
        Body::Published(published) => noted(&published.notes),
        Body::Plan(plan) => {
            format!("ends {}", list(plan.ends.iter().map(|(partition, end)| format!("{partition} at {end}"))))
        }
        Body::Hold(hold) => hold.reason.clone(),
        Body::Complete(_) | Body::Release(_) => String::new(),
        Body::Savepoint(savepoint) => match savepoint.action {
            SavepointAction::Create => savepoint.name.clone(),
            SavepointAction::Delete => format!("{} deleted", savepoint.name),
        },
        Body::Rewind(rewind) => {
            let target = match &rewind.target {
                RewindTarget::Seq(seq) => format!("to record {seq}"),
                RewindTarget::Savepoint(name) => format!("to savepoint {name}"),
            };
            let moved = rewind.positions.iter().filter(|(_, moved)| moved.from != moved.to);
            let moved = moved.map(|(partition, m)| format!("{partition} {} → {}", m.from.offset, m.to.offset));
            let policies = rewind.outputs.iter().map(|(output, policy)| match policy {
                RewindPolicy::Retract { files } => format!("{output} retracts {} file(s)", files.len()),
                RewindPolicy::NewPath => format!("{output} goes on elsewhere"),
                RewindPolicy::Duplicate => format!("{output} keeps its rows"),
            });
            let start = rewind.start.iter().map(|start| format!("where revision {} begins", start.revision));
            join([target, list(start), list(moved), list(policies)])
        }
        Body::Retracted(retracted) => {
            list(retracted.notes.iter().map(|note| format!("{} of rewind {}", note.output, note.seq)))
        }
        Body::Edit(edit) => {
            let moved = edit.offsets.iter().map(|(partition, s)| format!("{partition} {} → {}", s.from, s.to));
            let policies = edit.outputs.iter().map(|(output, policy)| match policy {
                EditPolicy::NewPath => format!("{output} goes on elsewhere"),
                EditPolicy::Duplicate => format!("{output} gets rows twice"),
            });
            join([list(moved), list(policies)])
        }
        Body::SkipPublish(skip) => format!("{} of record {}, exported to {}", skip.output, skip.seq, skip.exported),
        Body::Truncate(truncate) => format!("below {}", truncate.below),
    }
}

fn commit_what(commit: &Commit) -> String {
    let mut read = format!("{} rows", commit.counters.rows_in);
    if commit.counters.rows_bad > 0 {
        // Writing to a string cannot fail.
        let _ = write!(read, ", {} bad", commit.counters.rows_bad);
    }
    let ranges = commit.ranges.iter().map(|(partition, range)| format!("{partition} [{},{})", range.from, range.to));
    let lost = commit
        .data_loss
        .iter()
        .map(|loss| format!("data loss: {} went from {} to {}", loss.partition, loss.expected, loss.resumed));
    let outputs = commit.intents.iter().map(|(output, intents)| match intents {
        Intents::Parquet { files } => {
            let rows: u64 = files.iter().map(|file| file.rows).sum();
            format!("{output} {rows} rows in {} file(s)", files.len())
        }
        Intents::Console { blob } | Intents::Kafka { blob } | Intents::Delta { blob } => {
            format!("{output} {} rows", blob.rows)
        }
    });
    let released =
        if commit.released.is_empty() { String::new() } else { format!("released {}", list(&commit.released)) };
    join([read, list(ranges), list(lost), list(outputs), noted(&commit.published), released])
}

fn noted(notes: &[Note]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    format!("published {}", list(notes.iter().map(|note| format!("{} of {}", note.output, note.seq))))
}

fn writer(writer: &Writer) -> String {
    match writer.ordinal {
        Some(ordinal) => format!("by {} as {ordinal}", short(writer.incarnation)),
        None => format!("by {}", short(writer.incarnation)),
    }
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let more = items.len().saturating_sub(NAMED);
    if more > 1 {
        items.truncate(NAMED);
        items.push(format!("{more} more"));
    }
    items.join(", ")
}

fn join(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn slot(body: &str) -> Slot {
        let writer = r#"{"incarnation":"00000000-0000-4000-8000-0000000000ab","attempt":7,"ordinal":0,"rank":{"home":0,"pod":3}}"#;
        let text = format!(
            r#"{{"format":1,"entries":[{{"writer":{writer},"generation":2,"at":1767225600000,"body":{body}}}]}}"#
        );
        Slot::decode("log/42", text.as_bytes()).unwrap()
    }

    #[test]
    fn a_commit_says_what_it_read_wrote_and_published() {
        let commit = slot(
            r#"{"commit":{"ranges":{"orders/t/0":{"from":100,"to":250}},
            "intents":{"table":{"parquet":{"files":[{"staged":"s","target":"t","bytes":5,"rows":150}]}}},
            "published":[{"seq":41,"output":"table"}],"counters":{"rowsIn":150,"rowsBad":2}}}"#,
        );
        assert_eq!(
            line(Seq(42), &commit),
            "    42  2026-01-01T00:00:00.000Z  commit      150 rows, 2 bad; orders/t/0 [100,250); table 150 rows in 1 file(s); \
             published table of 41  by 00000000 as 0"
        );
    }

    #[test]
    fn many_things_of_a_kind_are_counted_and_few_are_named() {
        assert_eq!(list([1, 2, 3, 4]), "1, 2, 3, 4");
        assert_eq!(list([1, 2, 3, 4, 5]), "1, 2, 3, 2 more");
        assert_eq!(list(Vec::<u8>::new()), "");
    }

    #[test]
    fn a_rewind_says_where_to_and_what_becomes_of_the_outputs() {
        let rewind = slot(
            r#"{"rewind":{"target":{"savepoint":"before-fix"},
            "positions":{"orders/t/0":{"from":{"offset":9},"to":{"offset":4}},"orders/t/1":{"from":{"offset":1},"to":{"offset":1}}},
            "outputs":{"a":{"retract":{"files":[{"target":"t","staged":"s","bytes":1}]}},"b":"duplicate"}}}"#,
        );
        let line = line(Seq(3), &rewind);
        assert!(
            line.contains("to savepoint before-fix; orders/t/0 9 → 4; a retracts 1 file(s), b keeps its rows"),
            "{line}"
        );
    }
}
