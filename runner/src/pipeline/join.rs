//! A runner's place in the job: its term, its claims, and what it reads because of them.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_crds::contract::{FailureClass, Phase};
use tokio::time::Instant;

use super::{Pipeline, Turn};
use crate::commit::Verdict;
use crate::control::Control;
use crate::epoch::Epoch;
use crate::failpoint::Failpoint;
use crate::failure::Failure;
use crate::ids::{DataLoss, FirstClaim, Offset, Partition, TopicId};
use crate::progress::Scope;
use crate::source::SourceError;

/// Partitions are looked up again at the earliest so long after the last time, unless an epoch needs it.
const DISCOVER_EVERY: Duration = Duration::from_secs(5);
/// Lag and group offsets are seen to at the earliest so long after the last time.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

impl Pipeline {
    /// Takes the runner's place in the log: its term, its claims, its offsets. Gives up the open epoch first: what it
    /// read may not be ours any more. A runner that comes through is valid: whatever it waits for is not its user's to mend.
    pub(super) async fn join(&mut self, turn: &mut Turn) -> Result<Verdict, Failure> {
        std::mem::replace(&mut turn.epoch, Epoch::closed_to_all()).abort().await;
        self.intakes.assign(&BTreeMap::new()).await?;
        match self.committing.done().await? {
            Verdict::Fine | Verdict::StartOver => {}
            ended => return Ok(ended),
        }
        if turn.stopping {
            return Ok(Verdict::Fine);
        }
        match self.committing.idle()?.tick().await? {
            Verdict::Fine | Verdict::StartOver => {}
            ended => return Ok(ended),
        }
        if !self.discover(turn).await? {
            return Ok(Verdict::StartOver);
        }
        self.queries.restart().await?;
        turn.finished = false;
        self.rearm(turn);
        let verdict = self.settle(turn).await?;
        if verdict == Verdict::Fine {
            self.hub.found_valid();
        }
        Ok(verdict)
    }

    /// Reads the log's tail and settles what changed.
    pub(super) async fn look_around(&mut self, turn: &mut Turn) -> Result<Verdict, Failure> {
        match self.committing.idle()?.tick().await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        if turn.discovered_at.elapsed() >= DISCOVER_EVERY {
            self.discover(turn).await?;
        }
        self.settle(turn).await
    }

    /// Brings what this runner does in line with what the log gives it: asks for the wanted term, releases what
    /// belongs to others by now, claims what is its own, and reads it.
    pub(super) async fn settle(&mut self, turn: &mut Turn) -> Result<Verdict, Failure> {
        let wanted = self.control.borrow_and_update().clone();
        match self.committing.idle()?.ensure_term(&wanted).await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        match self.committing.idle()?.check_admission(&turn.discovered, &wanted)? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        if self.committing.idle()?.is_start_ours(&wanted) {
            return Ok(Verdict::StartDue);
        }
        let duties = self.committing.idle()?.duties(&turn.discovered, &wanted);
        if duties.release {
            // What was read of them so far is committed with the release. An epoch is named after a claim, and this may
            // be the end of one: nothing is read beside it.
            self.intakes.assign(&BTreeMap::new()).await?;
            match self.verify_topics(turn).await? {
                None => {}
                // Nothing is assigned any more: what was read so far is read again.
                Some(Verdict::Fine) => return Ok(Verdict::StartOver),
                Some(other) => return Ok(other),
            }
            let epoch = std::mem::replace(&mut turn.epoch, Epoch::closed_to_all());
            self.committing.start(epoch.close())?;
            return Ok(Verdict::Fine);
        }
        if !duties.claim.is_empty() {
            let Some(first) = self.first_claims(turn, &duties.unsettled).await? else {
                return Ok(Verdict::StartOver);
            };
            let committer = self.committing.idle()?;
            match committer.claim(&turn.discovered, first, &wanted).await? {
                Verdict::Fine => {}
                other => return Ok(other),
            }
            self.env.failpoints.reach(Failpoint::Claimed).await;
        }
        // Before a bounded read is planned: the ends are those of the topics that are read.
        if let Some(verdict) = self.check_topic_ids(turn).await? {
            return Ok(verdict);
        }
        if self.closing.bounded {
            match self.plan_ends(turn, &wanted).await? {
                Verdict::Fine => {}
                other => return Ok(other),
            }
        }
        if !self.read_owned(turn).await? {
            return Ok(Verdict::StartOver);
        }
        self.measure(turn).await;
        self.conclude(turn).await
    }

    /// Makes the savepoint that is asked for, and says where the runner stands now that all is settled.
    async fn conclude(&mut self, turn: &mut Turn) -> Result<Verdict, Failure> {
        let asked = self.settings.borrow_and_update().savepoint.clone();
        let committer = self.committing.idle()?;
        match committer.make_savepoint(asked.as_deref()).await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        let place = committer.place(&turn.discovered);
        let soon = place.is_awaited() && !committer.is_held();
        turn.look_at = soon.then(|| Instant::now() + self.closing.poll);
        self.hub.placed(place);
        self.hub.savepoints(committer.savepoints());
        if !turn.stopping {
            let owns = committer.owns_anything();
            self.hub.phase(if owns { Phase::Running } else { Phase::Waiting });
        }
        Ok(Verdict::Fine)
    }

    /// Reads owned partitions that the open epoch does not read yet. False if it reads some that are owned no more: a
    /// commit may give tasks up while the next epoch already reads them.
    async fn read_owned(&mut self, turn: &mut Turn) -> Result<bool, Failure> {
        let committer = self.committing.idle()?;
        let mut owned = committer.positions();
        if self.closing.bounded {
            // A partition that appeared after the ends were planned belongs to no bounded read, or to the next one.
            let ends = committer.ends().unwrap_or_default();
            owned.retain(|partition, _| ends.contains_key(partition));
        }
        let mut reading = turn.epoch.positions();
        if reading.keys().any(|partition| !owned.contains_key(partition)) {
            return Ok(false);
        }
        let new: BTreeMap<Partition, Offset> = owned
            .iter()
            .filter(|(partition, _)| !reading.contains_key(*partition))
            .map(|(partition, at)| (partition.clone(), *at))
            .collect();
        self.hub.assigned(owned);
        if new.is_empty() {
            if turn.epoch.is_stand_in() {
                // A bounded read over no partition still has a result.
                turn.epoch = committer.open(&reading);
            }
            return Ok(true);
        }
        turn.fresh |= reading.is_empty();
        reading.extend(new.clone());
        if turn.epoch.moved() {
            turn.epoch.extend(&new);
        } else {
            turn.epoch = committer.open(&reading);
        }
        self.intakes.assign(&reading).await?;
        Ok(true)
    }

    /// Looks up every partition there is now. False if the brokers could not say, after waiting a little; a bounded job
    /// fails instead when a topic is missing, for nobody may be there to create it.
    async fn discover(&mut self, turn: &mut Turn) -> Result<bool, Failure> {
        match self.intakes.discover().await {
            Ok(discovered) => {
                self.hub.recovered(Scope::Source);
                turn.backoff.reset();
                turn.discovered = discovered;
                turn.discovered_at = Instant::now();
                Ok(true)
            }
            Err(error) => {
                let missing = matches!(error, SourceError::TopicMissing { .. });
                let failure = Failure::from(error);
                let waits = failure.is_external() || (missing && !self.closing.bounded) || self.committing.is_joined();
                if !waits || failure.class == FailureClass::Internal {
                    return Err(failure);
                }
                self.hold_out(turn, &failure).await;
                Ok(false)
            }
        }
    }

    /// Where partitions start that the log does not know, given which of them appeared later than the job began. `None`
    /// if the brokers could not say.
    async fn first_claims(
        &mut self,
        turn: &mut Turn,
        unsettled: &[(Partition, bool)],
    ) -> Result<Option<BTreeMap<Partition, FirstClaim>>, Failure> {
        let mut first = BTreeMap::new();
        for appeared_later in [true, false] {
            let these = unsettled.iter().filter(|(_, later)| *later == appeared_later);
            let partitions: Vec<Partition> = these.map(|(partition, _)| partition.clone()).collect();
            match self.intakes.start_offsets(&partitions, appeared_later).await {
                Ok(starts) => first.extend(starts.into_iter().map(|(partition, start)| {
                    let found = turn.discovered.iter().find(|found| found.partition == partition);
                    let topic_id = found.and_then(|found| found.topic_id.clone()).map(TopicId);
                    (partition, FirstClaim { start, topic_id })
                })),
                Err(error) => {
                    self.hold_out_external(turn, error).await?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(first))
    }

    /// Fixes the ends of a bounded read in the log, unless they are fixed already, and reads no further.
    async fn plan_ends(&mut self, turn: &mut Turn, wanted: &Control) -> Result<Verdict, Failure> {
        if self.committing.idle()?.ends().is_none() {
            let partitions: Vec<Partition> = turn.discovered.iter().map(|found| found.partition.clone()).collect();
            let ends = match self.intakes.end_offsets(&partitions).await {
                Ok(ends) => ends,
                Err(error) => {
                    self.hold_out_external(turn, error).await?;
                    return Ok(Verdict::StartOver);
                }
            };
            let whole = self.queries.holds_epoch();
            match self.committing.idle()?.plan(ends, whole, wanted).await? {
                Verdict::Fine => {}
                other => return Ok(other),
            }
            self.env.failpoints.reach(Failpoint::Planned).await;
        }
        if let Some(ends) = self.committing.idle()?.ends() {
            self.hub.ends(ends.clone());
            self.intakes.bound(ends);
        }
        Ok(Verdict::Fine)
    }

    /// Waits after a failure of the brokers, if waiting can help.
    async fn hold_out_external(&mut self, turn: &mut Turn, error: SourceError) -> Result<(), Failure> {
        let failure = Failure::from(error);
        if !failure.is_external() {
            return Err(failure);
        }
        self.hold_out(turn, &failure).await;
        Ok(())
    }

    /// Before an epoch is committed: are its topics still the ones it was read from? `None`: they are.
    pub(super) async fn verify_topics(&mut self, turn: &mut Turn) -> Result<Option<Verdict>, Failure> {
        if !self.discover(turn).await? {
            return Ok(Some(Verdict::Fine));
        }
        self.check_topic_ids(turn).await
    }

    /// Compares the topics that were found last with those the log knows. One that was deleted and created again has
    /// another id, and its offsets mean other messages. `None`: they are the same.
    async fn check_topic_ids(&mut self, turn: &mut Turn) -> Result<Option<Verdict>, Failure> {
        if self.recreated(turn)?.is_empty() {
            return Ok(None);
        }
        // What was found last may be older than what another runner recorded before it gave the partition up.
        if !self.discover(turn).await? {
            return Ok(Some(Verdict::StartOver));
        }
        let owned = self.committing.idle()?.positions();
        let recreated = self.recreated(turn)?;
        for (partition, (_, reason)) in &recreated {
            if self.intakes.by_name(partition.source.as_str()).is_none_or(|intake| intake.fail_on_data_loss) {
                return Err(Failure::new(FailureClass::Data, "TopicRecreated", reason.clone()));
            }
        }
        if recreated.is_empty() {
            return Ok(None);
        }
        let partitions: Vec<Partition> = recreated.keys().cloned().collect();
        let starts = match self.intakes.start_offsets(&partitions, true).await {
            Ok(starts) => starts,
            Err(error) => {
                self.hold_out_external(turn, error).await?;
                return Ok(Some(Verdict::StartOver));
            }
        };
        let losses = recreated.into_iter().filter_map(|(partition, (id, reason))| {
            let (expected, resumed) = (*owned.get(&partition)?, *starts.get(&partition)?);
            Some(DataLoss { partition, expected, resumed, topic_id: Some(id), reason })
        });
        self.lose(turn, losses.collect()).await.map(Some)
    }

    /// The owned partitions whose topic, as it was found last, is not the one that the log knows: its id and the reason.
    fn recreated(&mut self, turn: &Turn) -> Result<BTreeMap<Partition, (TopicId, String)>, Failure> {
        let committer = self.committing.idle()?;
        let owned = committer.positions();
        let mut recreated = BTreeMap::new();
        for found in turn.discovered.iter().filter(|found| owned.contains_key(&found.partition)) {
            if let (Some(now), Some(before)) = (&found.topic_id, committer.topic_id(&found.partition))
                && before.0 != *now
            {
                let reason = format!(
                    "topic '{}' was deleted and created again (its id was {before}, now it is {now}): what was not \
                     read of the old one is lost; set failOnDataLoss: false on source '{}' to go on from the start of \
                     the new one",
                    found.partition.topic, found.partition.source
                );
                recreated.insert(found.partition.clone(), (TopicId(now.clone()), reason));
            }
        }
        Ok(recreated)
    }

    /// Sees to what others look at: how far behind the job is, and the group's offsets. Nothing depends on it, and a
    /// failure is not the job's.
    async fn measure(&mut self, turn: &mut Turn) {
        if turn.stopping || turn.measured_at.is_some_and(|at| at.elapsed() < MEASURE_EVERY) {
            return;
        }
        turn.measured_at = Some(Instant::now());
        let Ok(committer) = self.committing.idle() else { return };
        let committed = committer.positions();
        self.intakes.note_group_offsets(&committed).await;
        self.hub.ends(self.intakes.ends_now(&committed).await);
    }

    /// The brokers do not hold the offset that was to be read next.
    pub(super) async fn out_of_range(
        &mut self,
        turn: &mut Turn,
        index: usize,
        partition: &Partition,
        held: (Offset, Offset),
        error: SourceError,
    ) -> Result<Verdict, Failure> {
        match self.committing.done().await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        // A topic that was created again shows itself like this as well, and then the offsets mean nothing. The
        // partition is read again only once it is assigned again: whatever comes of this, it is not just to go on.
        match self.verify_topics(turn).await? {
            None => {}
            Some(Verdict::Fine) => return Ok(Verdict::StartOver),
            Some(other) => return Ok(other),
        }
        let Some(expected) = self.committing.idle()?.positions().get(partition).copied() else {
            return Ok(Verdict::StartOver);
        };
        let (low, high) = held;
        let resumed = expected.max(low).min(high.max(low));
        if resumed == expected {
            // Only what was not committed yet is not there any more.
            self.hold_out(turn, &error.into()).await;
            return Ok(Verdict::StartOver);
        }
        if self.intakes.get(index).fail_on_data_loss {
            return Err(error.into());
        }
        let reason = error.to_string();
        self.lose(turn, vec![DataLoss { partition: partition.clone(), expected, resumed, topic_id: None, reason }])
            .await
    }

    /// Gives up offsets that are gone, on the record, and goes on behind them. The open epoch is read again.
    async fn lose(&mut self, turn: &mut Turn, losses: Vec<DataLoss>) -> Result<Verdict, Failure> {
        for DataLoss { partition, expected, resumed, reason, .. } in &losses {
            tracing::warn!(%partition, %expected, %resumed, reason, "data loss, recorded in the job log");
        }
        std::mem::replace(&mut turn.epoch, Epoch::closed_to_all()).abort().await;
        match self.committing.idle()?.record_losses(losses).await? {
            Verdict::Fine => Ok(Verdict::StartOver),
            other => Ok(other),
        }
    }
}
