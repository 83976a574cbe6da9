//! Whose job it is.

use super::*;
use crate::decide::{StartDecision, StartRefusal, TermDecision, TermRefusal, start};
use crate::history::Past;

async fn refused(runner: &mut Runner) -> StartRefusal {
    match declined(runner.begin().await) {
        Begin::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_recreated_job_continues_under_its_uid_and_the_deleted_one_never_returns() {
    let memory = MemoryStore::new();
    let mut deleted = Runner::begun(&memory, 7).await;
    deleted.committed(0, 10).await;
    let job = deleted.log.fold().home().unwrap().job;

    let mut recreated = Runner::open(&memory, 1).await; // pod numbers begin again
    recreated.home.kubernetes_uid = Some("uid-2".into());
    recreated.generation = Some(Generation(1));
    won(recreated.begin().await);
    assert_eq!(recreated.log.fold().home().unwrap().job, job);
    assert_eq!(recreated.log.fold().partition(&partition(0)).unwrap().offset, Offset(10));

    let epoch = deleted.epoch(0, 5);
    assert!(matches!(declined(deleted.commit(&epoch).await), CommitDecision::Superseded(_)));
    let mut pod_of_deleted = Runner::open(&memory, 8).await;
    let refusal = refused(&mut pod_of_deleted).await;
    assert!(matches!(refusal, StartRefusal::Replaced { .. }), "{refusal}");
    recreated.committed(0, 5).await;
}

#[tokio::test]
async fn another_home_is_refused_until_it_takes_over() {
    let memory = MemoryStore::new();
    let mut cluster = Runner::begun(&memory, 1).await;
    let mut laptop = Runner::open(&memory, 2).await;
    laptop.home = Home { place: "laptop:/tmp/checkpoint".into(), kubernetes_uid: None };
    laptop.pod = None;
    let refusal = refused(&mut laptop).await;
    assert!(refusal.to_string().contains("cluster/shop/orders"), "{refusal}");

    let take_over = Start { permission: Permission::TakeOver, ..laptop.start() };
    let (wanted, request) = (laptop.wanted(), laptop.request(laptop.log.fold(), false));
    let appended = laptop
        .append(|view| match begin(view, &take_over, &wanted, &request) {
            Begin::Propose { proposal, .. } => Err(proposal),
            other => Ok(other),
        })
        .await;
    won(appended);
    assert_eq!(laptop.owned().len(), 7);
    let epoch = cluster.epoch(0, 1);
    assert!(matches!(declined(cluster.commit(&epoch).await), CommitDecision::Superseded(_)));
}

#[tokio::test]
async fn a_copied_checkpoint_is_refused_until_it_is_forked_and_then_writes_elsewhere() {
    let memory = MemoryStore::new();
    let mut original = Runner::begun(&memory, 1).await;
    original.committed(0, 10).await;
    let job = original.log.fold().home().unwrap().job;
    let copy = Runner::open(&memory, 2).await;
    let elsewhere = Start { location: "s3://lake/copy".into(), ..copy.start() };
    let StartDecision::Refused(refusal) = start(&copy.log.view(), &elsewhere) else { panic!("not refused") };
    assert!(matches!(refusal, StartRefusal::OtherLocation { .. }), "{refusal}");

    let fork = Start { permission: Permission::Fork, ..elsewhere };
    let mut wanted = copy.wanted();
    let request = copy.request(copy.log.fold(), false);
    let Begin::Term(TermDecision::Refused(refusal)) = begin(&copy.log.view(), &fork, &wanted, &request) else {
        panic!("a fork may write over the original")
    };
    assert!(matches!(refusal, TermRefusal::ForeignOutput { .. }), "{refusal}");
    wanted.outputs = [(orders(), "s3://lake/copied".into()), (screen(), "console:copy".into())].into();
    let mut copy = copy;
    let appended = copy
        .append(|view| match begin(view, &fork, &wanted, &request) {
            Begin::Propose { proposal, .. } => Err(proposal),
            other => Ok(other),
        })
        .await;
    won(appended);
    assert_ne!(copy.log.fold().home().unwrap().job, job);
    // Its rewinds take back what it published itself, and nothing of the original's.
    let own = copy.committed(0, 5).await;
    let target = RewindTarget::Seq(Seq(0));
    let records = copy.log.records(Seq(1)).await.unwrap();
    let past = Past::read(copy.log.fold(), &target, &records).unwrap();
    assert!(records.iter().flat_map(|(_, slot)| slot.commits()).count() == 2);
    let files = past.retractable(&orders()).unwrap();
    let staged: Vec<&str> = files.iter().map(|file| file.staged.as_str()).collect();
    let pending = &copy.log.fold().pending()[&own][&orders()];
    assert_eq!(staged, pending.intents.staged().collect::<Vec<_>>());
    assert_eq!(fold_all(&memory).unwrap(), *copy.log.fold());
}

#[tokio::test]
async fn a_fork_in_place_waits_for_what_is_decided() {
    let memory = MemoryStore::new();
    let mut original = Runner::begun(&memory, 1).await;
    original.committed(0, 1).await;
    let fork = Start {
        permission: Permission::Fork,
        home: Home { place: "x".into(), kubernetes_uid: None },
        ..original.start()
    };
    let decision = start(&original.log.view(), &fork);
    assert!(matches!(decision, StartDecision::Refused(StartRefusal::Unpublished { count: 1, .. })), "{decision:?}");
}
