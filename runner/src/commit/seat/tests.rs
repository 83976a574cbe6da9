#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

//! Processes of several homes on one log in memory: which of them take a place in it.

use std::sync::Arc;

use millrace_joblog::decide::{Permission, Start};
use millrace_joblog::record::Home;
use millrace_joblog::store::MemoryStore;
use millrace_joblog::{JobLog, Limits};

use super::*;
use crate::commit::Place;
use crate::env::{Env, LogClock};
use crate::ids::{Generation, Incarnation, JobUid, Ordinal, Revision};
use crate::progress::ProgressHub;

async fn process(memory: &MemoryStore, uid: &str, ordinal: u32, revision: &str) -> Committer {
    let env = Env::system();
    let incarnation = Incarnation(env.uuid());
    let clock = Arc::new(LogClock(env.clone()));
    let log = JobLog::open(Arc::new(memory.clone()), clock, incarnation, Limits::STANDARD).await.unwrap();
    let home = Home { place: "cluster/default/job".to_owned(), kubernetes_uid: Some(uid.to_owned()) };
    let fresh_job = JobUid(env.uuid());
    let identity = Identity {
        incarnation,
        ordinal: Ordinal(ordinal),
        pod: Some(1),
        revision: Revision(revision.to_owned()),
        start: Start { home, location: "mem://log".to_owned(), fresh_job, permission: Permission::None },
        outputs: BTreeMap::new(),
        accept_moved_outputs: false,
        begins: None,
    };
    let hub = ProgressHub::new("job", revision, ordinal, &incarnation.to_string(), Duration::from_secs(60));
    Committer::new(env, Arc::new(hub), log, identity, Arc::new(Vec::new()))
}

fn told(generation: u64, revision: &str, parallelism: u32) -> Control {
    Control { generation: Some(Generation(generation)), revision: Revision(revision.to_owned()), parallelism }
}

async fn claim(process: &mut Committer, wanted: &Control) -> Verdict {
    process.claim(&[], BTreeMap::new(), wanted).await.unwrap()
}

#[tokio::test]
async fn a_process_that_began_without_a_claim_takes_no_place_in_the_home_that_replaced_its_own() {
    let memory = MemoryStore::new();
    // There is no place for it yet, so that it claims nothing.
    let mut early = process(&memory, "uid-1", 1, "r1").await;
    assert_eq!(claim(&mut early, &told(1, "r1", 1)).await, Verdict::Fine);
    assert!(early.is_joined() && !early.owns_anything());
    let mut next = process(&memory, "uid-2", 0, "r1").await;
    assert_eq!(claim(&mut next, &told(1, "r1", 4)).await, Verdict::Fine);
    assert_eq!(early.tick().await.unwrap(), Verdict::Fine);
    let wanted = told(2, "r1", 9);
    assert!(matches!(early.ensure_term(&wanted).await.unwrap(), Verdict::Superseded(_)));
    assert!(matches!(claim(&mut early, &wanted).await, Verdict::Superseded(_)));
    assert_eq!(next.tick().await.unwrap(), Verdict::Fine);
    assert_eq!(next.fold().term().unwrap().generation, Generation(1));
}

#[tokio::test]
async fn a_process_told_of_a_later_revision_brings_no_generation_from_another_home() {
    let memory = MemoryStore::new();
    claim(&mut process(&memory, "uid-1", 0, "r1").await, &told(7, "r1", 1)).await;
    let mut outdated = process(&memory, "uid-2", 0, "r1").await;
    assert_eq!(claim(&mut outdated, &told(2, "r2", 1)).await, Verdict::Fine);
    assert!(!outdated.is_joined(), "there is nothing for it to work in");
    let mut current = process(&memory, "uid-2", 0, "r2").await;
    claim(&mut current, &told(2, "r2", 1)).await;
    assert!(current.owns_anything());
    assert_eq!(current.fold().term().unwrap().generation, Generation(2));
}

#[tokio::test]
async fn a_term_that_is_late_is_put_right_by_those_who_found_the_later_one_in_place() {
    let memory = MemoryStore::new();
    let mut late = process(&memory, "uid-1", 1, "r1").await;
    claim(&mut late, &told(1, "r1", 2)).await;
    // Told of the third division, which is as the first: there is nothing to write.
    let mut current = process(&memory, "uid-1", 0, "r1").await;
    claim(&mut current, &told(3, "r1", 2)).await;
    assert_eq!(current.fold().term().unwrap().generation, Generation(1));
    // The second one arrives with a runner that has not heard of the third.
    late.ensure_term(&told(2, "r1", 4)).await.unwrap();
    assert_eq!(late.fold().term().unwrap().parallelism, Parallelism::new(4).unwrap());
    current.tick().await.unwrap();
    current.ensure_term(&told(3, "r1", 2)).await.unwrap();
    let term = current.fold().term().unwrap();
    assert_eq!((term.generation, term.parallelism), (Generation(3), Parallelism::new(2).unwrap()));
}

#[tokio::test]
async fn a_process_of_a_revision_that_is_yet_to_come_writes_nothing_and_takes_over_once_its_term_is_wanted() {
    let memory = MemoryStore::new();
    let mut old = process(&memory, "uid-1", 0, "r1").await;
    claim(&mut old, &told(1, "r1", 1)).await;
    let before = memory.objects();
    let mut candidate = process(&memory, "uid-1", 0, "r2").await;
    for _ in 0..2 {
        assert_eq!(candidate.tick().await.unwrap(), Verdict::Fine);
        assert_eq!(candidate.check_admission(&[], &told(1, "r1", 1)).unwrap(), Verdict::Fine);
        assert_eq!(claim(&mut candidate, &told(1, "r1", 1)).await, Verdict::Fine);
    }
    assert!(!candidate.is_joined());
    assert_eq!(candidate.place(&[]), Place::OtherTerm);
    assert_eq!(memory.objects(), before);
    claim(&mut candidate, &told(2, "r2", 1)).await;
    assert_eq!(candidate.place(&[]), Place::Whole);
    assert!(matches!(old.tick().await.unwrap(), Verdict::Superseded(_)));
    assert_eq!(old.place(&[]), Place::OtherTerm);
}

#[tokio::test]
async fn a_process_that_waits_learns_that_the_log_would_refuse_it() {
    let memory = MemoryStore::new();
    let mut old = process(&memory, "uid-1", 0, "r1").await;
    old.identity.outputs.insert(OutputName("orders".to_owned()), "s3://lake/orders".to_owned());
    claim(&mut old, &told(1, "r1", 1)).await;
    let refusal = |process: &Committer| process.check_admission(&[], &told(1, "r1", 1)).unwrap_err().message;
    let mut moved = process(&memory, "uid-1", 0, "r2").await;
    moved.identity.outputs.insert(OutputName("orders".to_owned()), "s3://lake/elsewhere".to_owned());
    assert!(refusal(&moved).contains("s3://lake/elsewhere"));
    moved.identity.accept_moved_outputs = true;
    assert_eq!(moved.check_admission(&[], &told(1, "r1", 1)).unwrap(), Verdict::Fine);
    let mut foreign = process(&memory, "uid-1", 0, "r2").await;
    foreign.identity.start.home.place = "cluster/default/other".to_owned();
    assert!(refusal(&foreign).contains("belongs to cluster/default/job"));
    // The StreamingJob was created again: its first runner will adopt the log, and that of the old one is refused then.
    let mut recreated = process(&memory, "uid-2", 0, "r2").await;
    assert_eq!(recreated.check_admission(&[], &told(1, "r1", 1)).unwrap(), Verdict::Fine);
    claim(&mut recreated, &told(1, "r2", 1)).await;
    let late = process(&memory, "uid-1", 0, "r2").await;
    assert!(refusal(&late).contains("was replaced by another of that name"));
}

#[tokio::test]
async fn a_process_waits_for_tasks_until_their_owner_releases_them_and_has_no_place_beyond_the_division() {
    let memory = MemoryStore::new();
    let discovered: Vec<Discovered> =
        (0..4).map(|number| Discovered { partition: Partition::new("in", "t", number), topic_id: None }).collect();
    let starts = || {
        let start = FirstClaim { start: Offset(0), topic_id: None };
        discovered.iter().map(|found| (found.partition.clone(), start.clone())).collect::<BTreeMap<_, _>>()
    };
    let mut old = process(&memory, "uid-1", 0, "r1").await;
    old.claim(&discovered, starts(), &told(1, "r1", 1)).await.unwrap();
    assert_eq!(old.place(&discovered), Place::Whole);
    let mut new = process(&memory, "uid-1", 1, "r1").await;
    assert_eq!(new.place(&discovered), Place::Surplus);
    new.claim(&discovered, BTreeMap::new(), &told(2, "r1", 2)).await.unwrap();
    assert_eq!(new.place(&discovered), Place::Waiting(2));
    assert!(new.place(&discovered).is_awaited());
    old.tick().await.unwrap();
    assert!(old.duties(&discovered, &told(2, "r1", 2)).release);
}
