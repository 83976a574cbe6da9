//! Which offsets a manifest asks for, partition by partition; looking them up is somebody else's.

use std::collections::BTreeMap;

use millrace_crds::{Ending, PartitionOffset, Starting};

use super::SourceError;
use crate::ids::{Offset, Partition};

/// In a list of offsets per partition: the partition's first offset, as Spark writes it.
const EARLIEST: i64 = -2;
/// In a list of offsets per partition: the partition's end, as Spark writes it.
const LATEST: i64 = -1;

/// What is to be looked up for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The first offset there is.
    Earliest,
    /// The end that a `read_committed` reader sees.
    Latest,
    /// The first message at or after this time (milliseconds since 1970); the end if there is none.
    Timestamp(i64),
    /// This offset, which must be within what the broker holds.
    Exact(i64),
}

/// Where reading begins. A partition that appeared later begins at its first offset whatever the manifest says: all of
/// it was written while the job ran.
pub(super) fn starts(
    source: &str,
    starting: &Starting,
    partitions: &[Partition],
    appeared_later: bool,
) -> Result<BTreeMap<Partition, Wanted>, SourceError> {
    if appeared_later {
        return Ok(all(partitions, Wanted::Earliest));
    }
    match starting {
        Starting::Earliest => Ok(all(partitions, Wanted::Earliest)),
        Starting::Latest => Ok(all(partitions, Wanted::Latest)),
        Starting::Timestamp(millis) => Ok(all(partitions, Wanted::Timestamp(*millis))),
        Starting::ByPartition(listed) => {
            let (wanted, unlisted) = by_partition(source, listed, partitions)?;
            if unlisted.is_empty() {
                return Ok(wanted);
            }
            let names: Vec<String> = unlisted.iter().map(ToString::to_string).collect();
            Err(SourceError::Settings {
                source_name: source.to_owned(),
                reason: format!(
                    "startingOffsetsByPartition has no offset for {}; list every partition (offset -2 is the earliest, \
                     -1 the latest)",
                    names.join(", ")
                ),
            })
        }
    }
}

/// Where a bounded read ends. Partitions that a list leaves out end where they end now.
pub(super) fn ends(
    source: &str,
    ending: Option<&Ending>,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, Wanted>, SourceError> {
    match ending {
        None | Some(Ending::Latest) => Ok(all(partitions, Wanted::Latest)),
        Some(Ending::Timestamp(millis)) => Ok(all(partitions, Wanted::Timestamp(*millis))),
        Some(Ending::ByPartition(listed)) => {
            let (mut wanted, unlisted) = by_partition(source, listed, partitions)?;
            wanted.extend(unlisted.into_iter().map(|partition| (partition, Wanted::Latest)));
            Ok(wanted)
        }
    }
}

/// The offset a lookup found, or why it cannot be used. `found` is what the broker knows: its first offset, its end, and
/// for a timestamp the first message at or after it, if there is one.
pub(super) fn settle(
    partition: &Partition,
    wanted: Wanted,
    low: Offset,
    high: Offset,
    at_timestamp: Option<Offset>,
) -> Result<Offset, SourceError> {
    match wanted {
        Wanted::Earliest => Ok(low),
        Wanted::Latest => Ok(high),
        Wanted::Timestamp(_) => Ok(at_timestamp.unwrap_or(high)),
        Wanted::Exact(offset) if offset < low.0 || offset > high.0 => Err(SourceError::OffsetOutOfRange {
            partition: partition.clone(),
            wanted: offset,
            low: low.0,
            high: high.0,
        }),
        Wanted::Exact(offset) => Ok(Offset(offset)),
    }
}

fn all(partitions: &[Partition], wanted: Wanted) -> BTreeMap<Partition, Wanted> {
    partitions.iter().map(|partition| (partition.clone(), wanted)).collect()
}

/// What the list says about these partitions, and those it does not mention.
fn by_partition(
    source: &str,
    listed: &[PartitionOffset],
    partitions: &[Partition],
) -> Result<(BTreeMap<Partition, Wanted>, Vec<Partition>), SourceError> {
    let offsets: BTreeMap<(&str, i32), i64> =
        listed.iter().map(|entry| ((entry.topic.as_str(), entry.partition), entry.offset)).collect();
    let mut wanted = BTreeMap::new();
    let mut unlisted = Vec::new();
    for partition in partitions {
        let Some(&offset) = offsets.get(&(partition.topic.as_str(), partition.partition)) else {
            unlisted.push(partition.clone());
            continue;
        };
        let meaning = match offset {
            EARLIEST => Wanted::Earliest,
            LATEST => Wanted::Latest,
            0.. => Wanted::Exact(offset),
            _ => {
                return Err(SourceError::Settings {
                    source_name: source.to_owned(),
                    reason: format!(
                        "offset {offset} of {partition} is none: use 0 and up, -2 (earliest) or -1 (latest)"
                    ),
                });
            }
        };
        wanted.insert(partition.clone(), meaning);
    }
    Ok((wanted, unlisted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn partition(number: i32) -> Partition {
        Partition { source: "orders".into(), topic: "t".into(), partition: number }
    }

    fn listed(entries: &[(i32, i64)]) -> Vec<PartitionOffset> {
        entries.iter().map(|&(partition, offset)| PartitionOffset { topic: "t".into(), partition, offset }).collect()
    }

    #[test]
    fn a_partition_that_appeared_later_begins_at_the_earliest_offset_whatever_the_manifest_says() {
        let wanted = starts("orders", &Starting::Latest, &[partition(3)], true).unwrap();
        assert_eq!(wanted, BTreeMap::from([(partition(3), Wanted::Earliest)]));
    }

    #[test]
    fn offsets_by_partition_have_sparks_meaning() {
        let starting = Starting::ByPartition(listed(&[(0, 17), (1, -1), (2, -2), (9, 4)]));
        let wanted = starts("orders", &starting, &[partition(0), partition(1), partition(2)], false).unwrap();
        assert_eq!(wanted.into_values().collect::<Vec<_>>(), vec![Wanted::Exact(17), Wanted::Latest, Wanted::Earliest]);
    }

    #[test]
    fn partitions_without_a_starting_offset_are_named() {
        let starting = Starting::ByPartition(listed(&[(1, 5)]));
        let error = starts("orders", &starting, &[partition(0), partition(1), partition(2)], false).unwrap_err();
        assert!(error.to_string().contains("no offset for orders/t/0, orders/t/2"), "{error}");
    }

    #[test]
    fn partitions_without_an_ending_offset_end_where_they_end_now() {
        let ending = Ending::ByPartition(listed(&[(1, 5)]));
        let wanted = ends("orders", Some(&ending), &[partition(0), partition(1)]).unwrap();
        assert_eq!(wanted, BTreeMap::from([(partition(0), Wanted::Latest), (partition(1), Wanted::Exact(5))]));
    }

    #[test]
    fn an_offset_the_broker_does_not_hold_is_refused_with_what_it_holds() {
        let check = |offset| settle(&partition(0), Wanted::Exact(offset), Offset(10), Offset(20), None);
        assert_eq!(check(10).unwrap(), Offset(10));
        assert_eq!(check(20).unwrap(), Offset(20));
        for outside in [9, 21] {
            let error = check(outside).unwrap_err();
            assert!(matches!(error, SourceError::OffsetOutOfRange { low: 10, high: 20, .. }), "{error}");
        }
    }

    #[test]
    fn a_time_after_the_last_message_is_the_end() {
        let at = |found| settle(&partition(0), Wanted::Timestamp(5), Offset(0), Offset(8), found).unwrap();
        assert_eq!(at(None), Offset(8));
        assert_eq!(at(Some(Offset(3))), Offset(3));
    }
}
