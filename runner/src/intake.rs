//! The inputs of a job as the pipeline holds them: a source, its decoder, and what happens to bad rows.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use futures::future::select_all;
use millrace_crds::OnError;

use crate::batch::{Fetched, Header, Messages, RawMessage};
use crate::decode::Decoder;
use crate::ids::{Offset, Partition};
use crate::source::{Discovered, Source, SourceError};

/// One source with its decoder.
pub struct Intake {
    /// Its name in the manifest.
    pub name: String,
    /// Where messages come from.
    pub source: Box<dyn Source>,
    /// What turns them into rows.
    pub decoder: Box<dyn Decoder>,
    /// What happens to those that do not decode.
    pub on_error: OnError,
    /// Whether offsets the brokers no longer hold stop the job.
    pub fail_on_data_loss: bool,
    /// The output that takes dead letters, if `on_error` has one.
    pub dead_letters: Option<usize>,
}

/// All sources of a job.
pub struct Intakes {
    intakes: Vec<Intake>,
    /// Where a bounded read ends; empty for an unbounded one.
    ends: BTreeMap<Partition, Offset>,
    bounded: bool,
    assigned: BTreeSet<Partition>,
}

impl Intakes {
    /// The sources, none of them assigned.
    pub fn new(intakes: Vec<Intake>) -> Self {
        Self { intakes, ends: BTreeMap::new(), bounded: false, assigned: BTreeSet::new() }
    }

    /// Fixes where each partition ends: no message at or behind its end is returned.
    pub fn bound(&mut self, ends: BTreeMap<Partition, Offset>) {
        self.ends = ends;
        self.bounded = true;
    }

    /// The source at this index.
    pub fn get(&mut self, index: usize) -> &mut Intake {
        &mut self.intakes[index]
    }

    /// The source of that name.
    pub fn by_name(&mut self, name: &str) -> Option<&mut Intake> {
        self.intakes.iter_mut().find(|intake| intake.name == name)
    }

    /// Whether a bounded read stands at its end in every partition of `positions`. Never for an unbounded one.
    pub fn have_read_all(&self, positions: &BTreeMap<Partition, Offset>) -> bool {
        self.bounded
            && positions.iter().all(|(partition, at)| self.ends.get(partition).is_none_or(|end| at >= end))
    }

    /// Whether any partition is assigned.
    pub fn is_reading(&self) -> bool {
        !self.assigned.is_empty()
    }

    /// Every partition of every source as the brokers know them now.
    ///
    /// # Errors
    /// The first source's that fails.
    pub async fn discover(&mut self) -> Result<Vec<Discovered>, SourceError> {
        let mut all = Vec::new();
        for intake in &mut self.intakes {
            all.extend(intake.source.discover().await?);
        }
        Ok(all)
    }

    /// Where partitions never read before begin.
    ///
    /// # Errors
    /// The first source's that fails.
    pub async fn start_offsets(
        &mut self,
        partitions: &[Partition],
        appeared_later: bool,
    ) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        let mut starts = BTreeMap::new();
        for intake in &mut self.intakes {
            let of = of_source(partitions, &intake.name);
            if !of.is_empty() {
                starts.extend(intake.source.start_offsets(&of, appeared_later).await?);
            }
        }
        Ok(starts)
    }

    /// Where a bounded read of these partitions ends.
    ///
    /// # Errors
    /// The first source's that fails.
    pub async fn end_offsets(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        let mut ends = BTreeMap::new();
        for intake in &mut self.intakes {
            let of = of_source(partitions, &intake.name);
            if !of.is_empty() {
                ends.extend(intake.source.end_offsets(&of).await?);
            }
        }
        Ok(ends)
    }

    /// The ends of these partitions now, as far as the brokers say.
    pub async fn ends_now(&mut self, committed: &BTreeMap<Partition, Offset>) -> BTreeMap<Partition, Offset> {
        let partitions: Vec<Partition> = committed.keys().cloned().collect();
        let mut ends = BTreeMap::new();
        for intake in &mut self.intakes {
            let of = of_source(&partitions, &intake.name);
            if of.is_empty() {
                continue;
            }
            match intake.source.watermarks(&of).await {
                Ok(found) => ends.extend(found.into_iter().map(|(partition, (_, end))| (partition, end))),
                Err(error) => tracing::debug!(%error, "the lag is not known"),
            }
        }
        ends
    }

    /// Tells the Kafka groups what is committed, for lag tools.
    pub async fn note_group_offsets(&mut self, committed: &BTreeMap<Partition, Offset>) {
        for intake in &mut self.intakes {
            let of = committed.iter().filter(|(partition, _)| partition.source.as_str() == intake.name);
            let of: BTreeMap<_, _> = of.map(|(partition, at)| (partition.clone(), *at)).collect();
            if of.is_empty() {
                continue;
            }
            if let Err(error) = intake.source.note_group_offsets(&of).await {
                tracing::debug!(%error, "the group's offsets are not noted");
            }
        }
    }

    /// Reads exactly these partitions from these offsets on.
    ///
    /// # Errors
    /// The first source's that fails.
    pub async fn assign(&mut self, starts: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        for intake in &mut self.intakes {
            let of = |partition: &&Partition| partition.source.as_str() == intake.name;
            let gone: Vec<_> = self.assigned.iter().filter(of).filter(|p| !starts.contains_key(*p)).cloned().collect();
            if !gone.is_empty() {
                intake.source.unassign(&gone).await?;
            }
            // A partition at its end is not read at all: there is nothing for us.
            let mine: BTreeMap<_, _> = starts
                .iter()
                .filter(|(partition, _)| of(partition))
                .filter(|(partition, at)| self.ends.get(*partition).is_none_or(|end| *at < end))
                .map(|(partition, at)| (partition.clone(), *at))
                .collect();
            if !mine.is_empty() {
                intake.source.assign(&mine).await?;
            }
        }
        self.assigned = starts.keys().cloned().collect();
        Ok(())
    }

    /// The next messages of any source, with the source's index. Cancellation-safe.
    ///
    /// # Errors
    /// The source's.
    pub async fn next(&mut self) -> (usize, Result<Fetched, SourceError>) {
        let waiting = self.intakes.iter_mut().map(|intake| intake.source.next().boxed());
        let (fetched, index, _) = select_all(waiting).await;
        (index, fetched.map(|fetched| trim(fetched, &self.ends)))
    }
}

fn of_source(partitions: &[Partition], source: &str) -> Vec<Partition> {
    partitions.iter().filter(|partition| partition.source.as_str() == source).cloned().collect()
}

/// Cuts off what lies at or behind the end of a bounded read.
fn trim(fetched: Fetched, ends: &BTreeMap<Partition, Offset>) -> Fetched {
    match ends.get(&fetched.partition) {
        Some(end) if fetched.position > *end => {
            let keep = count_below(&*fetched.messages, *end);
            let bytes = if keep == 0 { 0 } else { fetched.bytes * keep / fetched.messages.len() };
            Fetched {
                partition: fetched.partition,
                messages: Box::new(Prefix { messages: fetched.messages, len: keep }),
                position: *end,
                at_end: true,
                bytes,
            }
        }
        _ => fetched,
    }
}

/// How many messages lie below `end`; offsets rise, so a binary search finds it.
fn count_below(messages: &dyn Messages, end: Offset) -> usize {
    let (mut low, mut high) = (0, messages.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if messages.message(middle).offset < end { low = middle + 1 } else { high = middle }
    }
    low
}

/// The first messages of a set.
struct Prefix {
    messages: Box<dyn Messages>,
    len: usize,
}

impl Messages for Prefix {
    fn len(&self) -> usize {
        self.len
    }

    fn message(&self, index: usize) -> RawMessage<'_> {
        self.messages.message(index)
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.messages.headers(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(Vec<i64>);

    impl Messages for Numbers {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn message(&self, index: usize) -> RawMessage<'_> {
            RawMessage { offset: Offset(self.0[index]), timestamp: None, key: None, payload: None }
        }
        fn headers(&self, _index: usize) -> Vec<Header> {
            Vec::new()
        }
    }

    fn fetched(offsets: &[i64], position: i64) -> Fetched {
        Fetched {
            partition: Partition::new("orders", "t", 0),
            messages: Box::new(Numbers(offsets.to_vec())),
            position: Offset(position),
            at_end: false,
            bytes: 10 * offsets.len(),
        }
    }

    #[test]
    fn nothing_at_or_behind_the_end_of_a_bounded_read_is_kept() {
        let ends = BTreeMap::from([(Partition::new("orders", "t", 0), Offset(5))]);
        for (offsets, position, kept) in
            [(vec![3, 4, 5, 6], 7, 2), (vec![5, 6], 7, 0), (vec![2, 4, 9], 10, 2), (vec![], 8, 0)]
        {
            let cut = trim(fetched(&offsets, position), &ends);
            assert_eq!((cut.messages.len(), cut.position, cut.at_end), (kept, Offset(5), true), "{offsets:?}");
        }
        let whole = trim(fetched(&[1, 2], 3), &ends);
        assert_eq!((whole.messages.len(), whole.position), (2, Offset(3)));
    }
}
