//! Holds, savepoints, rewinds, edits and skipped records.

use super::*;
use crate::decide::*;
use crate::history::{Past, PastError, since};
use crate::safeguard::{Safeguard, without};

async fn held(command: &mut Runner) -> Appended<HoldDecision> {
    command
        .append(|view| match hold(view, "test", false) {
            HoldDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
}

async fn saved(command: &mut Runner, name: &str) -> Appended<SavepointDecision> {
    command
        .append(|view| match savepoint(view, name) {
            SavepointDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
}

async fn rewound(command: &mut Runner, target: RewindTarget, policy: Option<Policy>) -> Appended<RewindDecision> {
    rewound_for(command, target, policy, None).await
}

async fn rewound_for(
    command: &mut Runner,
    target: RewindTarget,
    policy: Option<Policy>,
    start: Option<WantedStart>,
) -> Appended<RewindDecision> {
    let after = since(command.log.fold(), &target).unwrap().next();
    let records = command.log.records(after).await.unwrap();
    let past = Past::read(command.log.fold(), &target, &records).unwrap();
    let policies = policy.map(|policy| (orders(), policy)).into_iter().collect();
    let request = RewindRequest { target, past, policies, start };
    command
        .append(|view| match rewind(view, &request) {
            RewindDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
}

async fn drain(command: &mut Runner) {
    let notes: Vec<Note> = {
        let work = command.log.fold().work_of(command.incarnation);
        work.map(|(seq, output, _)| Note { seq, output: output.clone() }).collect()
    };
    won(command.note(&notes).await);
}

#[tokio::test]
async fn a_hold_takes_every_task_and_nobody_claims_until_it_is_released() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let epoch = runner.epoch(0, 10);
    let mut command = Runner::open(&memory, 2).await;
    won(held(&mut command).await);
    assert_eq!(declined(runner.commit(&epoch).await), CommitDecision::Lost { tasks: [reads(0)].into() });
    assert!(matches!(declined(runner.claim(true).await), ClaimDecision::Held(_)));
    let mut third = Runner::open(&memory, 3).await;
    assert!(matches!(declined(held(&mut third).await), HoldDecision::Other(_)));
    assert!(matches!(release(&third.log.view(), false), ReleaseDecision::Other(_)));
    let released = third.append(|view| match release(view, true) {
        ReleaseDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(released.await);
    runner.catch_up().await;
    won(runner.claim(false).await);
    assert_eq!(runner.owned().len(), 7);
    // The epoch's objects carry a claim that is gone: it is read again.
    assert_eq!(declined(runner.commit(&epoch).await), CommitDecision::Lost { tasks: BTreeSet::new() });
    runner.committed(0, 10).await;
}

#[tokio::test]
async fn a_rewind_drains_retracts_and_hands_the_job_back() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let kept = runner.committed(0, 10).await;
    won(saved(&mut runner, "before-fix").await);
    let undone = runner.committed(0, 5).await;
    runner.committed(1, 7).await;
    let files: usize = runner.log.fold().pending().len();
    assert_eq!(files, 3);

    let mut command = Runner::open(&memory, 2).await;
    let target = RewindTarget::Savepoint("before-fix".into());
    assert_eq!(declined(rewound(&mut command, target.clone(), None).await), RewindDecision::NotHeld);
    won(held(&mut command).await);
    let RewindDecision::Drain { notes } = declined(rewound(&mut command, target.clone(), None).await) else { panic!() };
    assert_eq!(notes.len(), 3);
    drain(&mut command).await;
    let missing = declined(rewound(&mut command, target.clone(), None).await);
    assert_eq!(missing, RewindDecision::PolicyMissing { outputs: [orders()].into() });
    let rewind = won(rewound(&mut command, target, Some(Policy::Retract)).await);
    let Body::Rewind(record) = &rewind.record().entries[0].body else { panic!() };
    let RewindPolicy::Retract { files } = &record.outputs[&orders()] else { panic!() };
    assert_eq!(files.len(), 2, "exactly what was published after the savepoint");
    assert!(undone > kept);

    let fold = command.log.fold();
    assert_eq!(fold.partition(&partition(0)).unwrap().offset, Offset(10));
    assert_eq!(fold.partition(&partition(1)).unwrap().offset, Offset(0));
    assert!(fold.held().is_none());
    runner.catch_up().await;
    won(runner.claim(false).await);
    runner.committed(0, 5).await;
    // Whoever deletes the files says so: the command, or the output's publisher if the command died.
    assert_eq!(runner.log.fold().retractions().len(), 1);
    let note = Note { seq: rewind.seq(), output: orders() };
    won(runner.append(|view| retracted(view, std::slice::from_ref(&note)).map_or(Ok(()), Err)).await);
    assert!(runner.log.fold().retractions().is_empty());
    assert_eq!(fold_all(&memory).unwrap(), *runner.log.fold());
}

fn start(revision: &str, nonce: Option<i64>, generation: Option<u64>) -> WantedStart {
    let point = StartPoint { savepoint: "before-fix".into(), nonce };
    let start = StartFrom { point, revision: Revision(revision.into()) };
    WantedStart { start, generation: generation.map(Generation) }
}

#[tokio::test]
async fn a_revision_begins_at_its_savepoint_once_and_the_one_before_reads_no_further() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let (before, number) = (runner.revision.0.clone(), runner.log.fold().term().unwrap().generation.0);
    runner.committed(0, 10).await;
    won(saved(&mut runner, "before-fix").await);
    runner.committed(0, 5).await;

    let mut command = Runner::open(&memory, 2).await;
    won(held(&mut command).await);
    drain(&mut command).await;
    let target = RewindTarget::Savepoint("before-fix".into());
    let retract = Some(Policy::Retract);
    // The revision that runs is where it is, and none that the log has left behind takes it back.
    for late in [start(&before, None, None), start("late", None, Some(number))] {
        let refused = rewound_for(&mut command, target.clone(), retract, Some(late)).await;
        assert_eq!(declined(refused), RewindDecision::NotDue);
    }
    let fixed = start("fixed", None, Some(number + 1));
    let rewind = won(rewound_for(&mut command, target.clone(), retract, Some(fixed.clone())).await);
    assert_eq!(command.log.fold().awaited_revision(), Some(&fixed.start.revision));
    runner.catch_up().await;
    assert!(matches!(declined(runner.claim(true).await), ClaimDecision::StaleTerm(_)));

    let mut next = Runner::open(&memory, 3).await;
    next.revision = fixed.start.revision.clone();
    next.generation = Some(Generation(number + 1));
    next.pod = Some(7);
    won(next.begin().await);
    let note = Note { seq: rewind.seq(), output: orders() };
    won(next.append(|view| retracted(view, std::slice::from_ref(&note)).map_or(Ok(()), Err)).await);
    next.committed(0, 6).await;
    let fold = next.log.fold();
    assert_eq!((fold.partition(&partition(0)).unwrap().offset, fold.awaited_revision()), (Offset(16), None));
    // An edit of the spec keeps its startFrom, and takes nothing back; another nonce does.
    assert!(!is_start_due(fold, &start("edited", None, Some(number + 2))));
    assert!(is_start_due(fold, &start("edited", Some(1), Some(number + 2))));
    assert_eq!(fold_all(&memory).unwrap(), *fold);
}

#[tokio::test]
async fn a_rewind_to_a_record_undoes_what_came_after_it_also_across_rewinds_and_edits() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut stood = BTreeMap::new();
    let mut point = |runner: &Runner| {
        let seq = runner.log.fold().next().previous().unwrap();
        let offsets: Vec<i64> = runner.log.fold().partitions().values().map(|state| state.offset.0).collect();
        stood.insert(seq, offsets);
    };
    let mut command = Runner::open(&memory, 2).await;
    point(&runner);
    for round in 0..4 {
        runner.committed(round % 2, 10 + i64::from(round)).await;
        point(&runner);
        command.catch_up().await;
        won(held(&mut command).await);
        drain(&mut command).await;
        if round == 1 {
            let offsets = [(partition(0), Offset(3))].into();
            let edited = command.append(|view| match edit(view, &offsets, &BTreeMap::new()) {
                EditDecision::Propose(proposal) => Err(proposal),
                other => Ok(other),
            });
            won(edited.await);
        } else {
            won(rewound(&mut command, RewindTarget::Seq(Seq(0)), Some(Policy::Duplicate)).await);
        }
        point(&command);
        runner.catch_up().await;
        won(runner.claim(false).await);
        runner.committed(1, 2).await;
        point(&runner);
    }
    command.catch_up().await;
    let records = command.log.records(Seq(0)).await.unwrap();
    for (seq, offsets) in &stood {
        let past = Past::read(command.log.fold(), &RewindTarget::Seq(*seq), &records).unwrap();
        let found: Vec<i64> = past.positions.values().map(|position| position.offset.0).collect();
        assert_eq!(found, *offsets, "at {seq}");
    }
}

#[tokio::test]
async fn a_rewind_beyond_what_is_kept_is_refused_and_a_savepoint_still_works() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    runner.committed(0, 10).await;
    won(saved(&mut runner, "early").await);
    for _ in 0..40 {
        let mut epoch = runner.epoch(0, 1);
        epoch.published = runner.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
        won(runner.commit(&epoch).await);
        let _ = runner.log.maintain().await.unwrap();
    }
    let mut command = Runner::open(&memory, 2).await;
    won(held(&mut command).await);
    drain(&mut command).await;
    assert!(command.log.records(Seq(0)).await.is_err());
    let gone = Past::read(command.log.fold(), &RewindTarget::Seq(Seq(1)), &[]);
    assert!(matches!(gone, Err(PastError::Incomplete { .. })));
    let target = RewindTarget::Savepoint("early".into());
    let past = Past::read(command.log.fold(), &target, &[]).unwrap();
    let mut request = RewindRequest { target, past, policies: BTreeMap::new(), start: None };
    request.policies.extend([(orders(), Policy::Retract), (screen(), Policy::NewPath)]);
    let refused = rewind(&command.log.view(), &request);
    assert_eq!(refused, RewindDecision::NotRetractable { outputs: [orders()].into() });
    request.policies.insert(orders(), Policy::NewPath);
    let appended = command.append(|view| match rewind(view, &request) {
        RewindDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(appended.await);
    assert_eq!(command.log.fold().partition(&partition(0)).unwrap().offset, Offset(10));
}

/// A job that committed ten rows, and a command that holds its log and has published them.
async fn held_and_drained(memory: &MemoryStore) -> (Runner, Runner) {
    let mut runner = Runner::begun(memory, 1).await;
    runner.committed(0, 10).await;
    let mut command = Runner::open(memory, 2).await;
    won(held(&mut command).await);
    drain(&mut command).await;
    (runner, command)
}

#[tokio::test]
async fn an_edit_that_has_rows_read_again_needs_a_policy_for_every_output() {
    let memory = MemoryStore::new();
    let (_, mut command) = held_and_drained(&memory).await;
    let back = [(partition(0), Offset(4))].into();
    let view = command.log.view();
    let both: BTreeSet<OutputName> = [orders(), screen()].into();
    assert_eq!(edit(&view, &back, &BTreeMap::new()), EditDecision::PolicyMissing { outputs: both });
    let mut policies: BTreeMap<_, _> = [(orders(), Policy::Retract), (screen(), Policy::Duplicate)].into();
    let stuck = EditDecision::NotRetractable { outputs: [orders()].into() };
    assert_eq!(edit(&view, &back, &policies), stuck);
    let silent = without(Some(Safeguard::PolicyForRowsReadAgain), || edit(&view, &back, &BTreeMap::new()));
    assert!(matches!(silent, EditDecision::Propose(_)), "{silent:?}");

    // Forwards nothing is read again, and a policy would say nothing.
    let forth = [(partition(0), Offset(40))].into();
    let EditDecision::Propose(proposal) = edit(&view, &forth, &policies) else { panic!("not proposed") };
    let Some(Body::Edit(forth)) = proposal.bodies().next() else { panic!("no edit") };
    assert!(forth.outputs.is_empty());

    policies.insert(orders(), Policy::Duplicate);
    let edited = command.append(|view| match edit(view, &back, &policies) {
        EditDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(edited.await);
    let mut runner = Runner::begun(&memory, 3).await;
    assert_eq!(runner.log.fold().partition(&partition(0)).unwrap().offset, Offset(4));
    runner.committed(0, 6).await;
}

#[tokio::test]
async fn after_an_edit_with_a_new_path_nobody_works_until_a_term_has_one() {
    let memory = MemoryStore::new();
    let (mut runner, mut command) = held_and_drained(&memory).await;
    let back = [(partition(0), Offset(4))].into();
    let policies = [(orders(), Policy::NewPath), (screen(), Policy::Duplicate)].into();
    let edited = command.append(|view| match edit(view, &back, &policies) {
        EditDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(edited.await);
    runner.catch_up().await;
    assert!(matches!(declined(runner.claim(true).await), ClaimDecision::StaleTerm(Some(_))));
    let mut moved = Runner::open(&memory, 3).await;
    moved.revision = "r2".into();
    moved.outputs.insert(orders(), "s3://lake/orders-again".into());
    won(moved.begin().await);
    moved.committed(0, 10).await;
    assert_eq!(fold_all(&memory).unwrap(), *moved.log.fold());
}

#[tokio::test]
async fn after_a_rewind_with_a_new_path_nobody_works_until_a_term_has_one() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    runner.committed(0, 10).await;
    let mut command = Runner::open(&memory, 2).await;
    won(held(&mut command).await);
    drain(&mut command).await;
    won(rewound(&mut command, RewindTarget::Seq(Seq(0)), Some(Policy::NewPath)).await);
    runner.catch_up().await;
    assert!(matches!(declined(runner.claim(true).await), ClaimDecision::StaleTerm(Some(_))));
    let refused = declined(runner.new_term().await);
    assert!(matches!(refused, TermDecision::Refused(TermRefusal::ForeignOutput { .. })), "{refused:?}");

    let mut moved = Runner::open(&memory, 3).await;
    moved.revision = "r2".into();
    moved.outputs.insert(orders(), "s3://lake/orders-again".into());
    won(moved.begin().await);
    moved.committed(0, 10).await;
    assert_eq!(fold_all(&memory).unwrap(), *moved.log.fold());
}

#[tokio::test]
async fn what_a_new_path_left_behind_is_never_retracted() {
    for by_edit in [false, true] {
        let memory = MemoryStore::new();
        let mut runner = Runner::begun(&memory, 1).await;
        runner.committed(0, 10).await;
        let mut command = Runner::open(&memory, 2).await;
        won(held(&mut command).await);
        drain(&mut command).await;
        if by_edit {
            let back = [(partition(0), Offset(4))].into();
            let policies = [(orders(), Policy::NewPath), (screen(), Policy::Duplicate)].into();
            let edited = command.append(|view| match edit(view, &back, &policies) {
                EditDecision::Propose(proposal) => Err(proposal),
                other => Ok(other),
            });
            won(edited.await);
        } else {
            won(rewound(&mut command, RewindTarget::Seq(Seq(0)), Some(Policy::NewPath)).await);
        }
        let mut moved = Runner::open(&memory, 3).await;
        moved.revision = "r2".into();
        moved.outputs.insert(orders(), "s3://lake/orders-again".into());
        won(moved.begin().await);
        let epoch = moved.epoch(0, 10);
        won(moved.commit(&epoch).await);

        let records = moved.log.records(Seq(1)).await.unwrap();
        let past = Past::read(moved.log.fold(), &RewindTarget::Seq(Seq(0)), &records).unwrap();
        let retractable: Vec<String> =
            past.retractable(&orders()).unwrap().into_iter().map(|file| file.staged).collect();
        let since: Vec<String> = epoch.intents[&orders()].staged().map(str::to_owned).collect();
        assert_eq!(retractable, since, "by an edit: {by_edit}");
        assert!(past.taken_back_by.is_none());
    }
}

#[tokio::test]
async fn nobody_goes_to_a_point_whose_rows_a_rewind_took_back() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    runner.committed(0, 10).await;
    won(saved(&mut runner, "early").await);
    let between = runner.committed(0, 5).await;
    won(saved(&mut runner, "between").await);
    let mut command = Runner::open(&memory, 2).await;
    let mut back = async |target: RewindTarget| {
        command.catch_up().await;
        won(held(&mut command).await);
        if !command.log.fold().pending().is_empty() {
            drain(&mut command).await;
        }
        let outcome = rewound(&mut command, target, Some(Policy::Retract)).await;
        if command.log.fold().held().is_some() {
            won(command
                .append(|view| match release(view, false) {
                    ReleaseDecision::Propose(proposal) => Err(proposal),
                    other => Ok(other),
                })
                .await);
        }
        outcome
    };
    let first = won(back(RewindTarget::Savepoint("early".into())).await).seq();
    let refused = declined(back(RewindTarget::Seq(between)).await);
    assert_eq!(refused, RewindDecision::TakenBack { by: first });
    won(back(RewindTarget::Seq(first)).await);
    won(back(RewindTarget::Savepoint("early".into())).await);
    runner.catch_up().await;
    assert_eq!(runner.log.fold().savepoints().keys().collect::<Vec<_>>(), ["early"]);
    assert_eq!(runner.log.fold().partition(&partition(0)).unwrap().offset, Offset(10));
}

#[tokio::test]
async fn nobody_goes_back_to_offsets_of_a_topic_that_is_another_now() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let before = runner.committed(0, 10).await;
    won(saved(&mut runner, "before").await);
    let loss = DataLoss {
        partition: partition(0),
        expected: Offset(10),
        resumed: Offset(3),
        topic_id: Some("topic-2".into()),
        reason: "created again".into(),
    };
    let created = won(runner.commit(&Commit { data_loss: vec![loss], ..Commit::default() }).await).seq();
    runner.committed(0, 20).await;
    let mut command = Runner::open(&memory, 2).await;
    won(held(&mut command).await);
    drain(&mut command).await;
    let another = RewindDecision::TopicRecreated { partitions: [partition(0)].into() };
    for target in [RewindTarget::Seq(before), RewindTarget::Savepoint("before".into())] {
        assert_eq!(declined(rewound(&mut command, target, Some(Policy::Retract)).await), another);
    }
    // Nor does a record that says so, of a faulty writer, or by a savepoint whose records are deleted.
    let target = RewindTarget::Savepoint("before".into());
    let past = Past::read(command.log.fold(), &target, &[]).unwrap();
    assert_eq!(past.recreated, [partition(0)].into());
    let policies = [(orders(), Policy::Duplicate), (screen(), Policy::Duplicate)].into();
    let request = RewindRequest { target, past, policies, start: None };
    let view = command.log.view();
    let forged = without(Some(Safeguard::SameTopic), || match rewind(&view, &request) {
        RewindDecision::Propose(proposal) => proposal.into_slot(command.incarnation, Attempt(99), Millis(0)),
        other => panic!("{other:?}"),
    });
    let breach = view.fold.with(view.fold.next(), &forged).unwrap_err().breach;
    assert_eq!(breach, crate::fold::Breach::RewindTarget);
    // In the topic that is there now one goes where one likes.
    won(rewound(&mut command, RewindTarget::Seq(created), Some(Policy::Retract)).await);
    assert_eq!(command.log.fold().partition(&partition(0)).unwrap().offset, Offset(3));
}

#[tokio::test]
async fn a_command_that_holds_the_log_finishes_what_another_left_to_be_deleted() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    runner.committed(0, 10).await;
    let mut died = Runner::open(&memory, 2).await;
    won(held(&mut died).await);
    drain(&mut died).await;
    let rewind = won(rewound(&mut died, RewindTarget::Seq(Seq(0)), Some(Policy::Retract)).await);
    let note = Note { seq: rewind.seq(), output: orders() };
    let mut second = Runner::open(&memory, 3).await;
    assert!(retracted(&second.log.view(), std::slice::from_ref(&note)).is_none());
    won(held(&mut second).await);
    won(second.append(|view| retracted(view, std::slice::from_ref(&note)).map_or(Ok(()), Err)).await);
    assert!(second.log.fold().retractions().is_empty());
}

#[tokio::test]
async fn a_record_that_cannot_be_published_is_skipped_by_an_audited_command() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut seqs = Vec::new();
    for _ in 0..2 {
        let mut epoch = runner.epoch(0, 1);
        epoch.intents = [(screen(), runner.rows_to_show())].into();
        seqs.push(won(runner.commit(&epoch).await).seq());
    }
    let mut command = Runner::open(&memory, 2).await;
    assert_eq!(skip_publish(&command.log.view(), &screen(), seqs[0], "x"), SkipDecision::NotHeld);
    won(held(&mut command).await);
    assert_eq!(skip_publish(&command.log.view(), &screen(), seqs[1], "x"), SkipDecision::First(seqs[0]));
    assert_eq!(skip_publish(&command.log.view(), &orders(), seqs[0], "x"), SkipDecision::NothingPending);
    let skipped = command.append(|view| match skip_publish(view, &screen(), seqs[0], "/tmp/rows.json") {
        SkipDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(skipped.await);
    assert_eq!(command.log.fold().first_pending(&screen()), Some(seqs[1]));
}

#[tokio::test]
async fn savepoints_have_unique_names_and_an_end() {
    let memory = MemoryStore::new();
    let mut empty = Runner::open(&memory, 9).await;
    assert_eq!(declined(saved(&mut empty, "a").await), SavepointDecision::EmptyLog);
    let mut runner = Runner::begun(&memory, 1).await;
    won(saved(&mut runner, "a").await);
    assert_eq!(declined(saved(&mut runner, "a").await), SavepointDecision::Exists);
    for count in 1..crate::limits::MAX_SAVEPOINTS {
        won(saved(&mut runner, &format!("s{count}")).await);
    }
    assert_eq!(declined(saved(&mut runner, "one-too-many").await), SavepointDecision::TooMany);
    assert_eq!(delete_savepoint(&runner.log.view(), "b"), SavepointDecision::Missing);
    let deleted = runner.append(|view| match delete_savepoint(view, "a") {
        SavepointDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(deleted.await);
    won(saved(&mut runner, "one-too-many").await);
}
