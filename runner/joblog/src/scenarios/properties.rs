//! A snapshot changes no meaning, whatever the history.

use proptest::prelude::*;

use super::*;
use crate::decide::{hold, release, savepoint};
use crate::snapshot::Snapshot;

#[derive(Debug, Clone)]
enum Step {
    Commit { partition: i32, rows: i64 },
    Show,
    Publish,
    Restart,
    Rescale(u32),
    Save,
    HoldAndRelease,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4i32, 1..50i64).prop_map(|(partition, rows)| Step::Commit { partition, rows }),
        2 => Just(Step::Show),
        3 => Just(Step::Publish),
        1 => Just(Step::Restart),
        1 => (1..4u32).prop_map(Step::Rescale),
        1 => Just(Step::Save),
        1 => Just(Step::HoldAndRelease),
    ]
}

async fn run(steps: &[Step]) -> MemoryStore {
    let memory = MemoryStore::new();
    let mut number = 1;
    let mut runner = Runner::begun(&memory, number).await;
    for step in steps {
        match step {
            Step::Commit { partition, rows } if runner.owned().contains(&reads(*partition)) => {
                let epoch = runner.epoch(*partition, *rows);
                let _ = runner.commit(&epoch).await; // backpressure is an outcome too
            }
            Step::Commit { .. } => {}
            Step::Show => {
                let mut epoch = Commit { batch_time: Some(Millis(5)), ..Commit::default() };
                epoch.intents.insert(screen(), runner.rows_to_show());
                let _ = runner.commit(&epoch).await;
            }
            Step::Publish => {
                let notes: Vec<Note> = {
                    let work = runner.log.fold().work_of(runner.incarnation);
                    work.map(|(seq, output, _)| Note { seq, output: output.clone() }).collect()
                };
                let _ = runner.note(&notes).await;
            }
            Step::Restart => {
                number += 1;
                let parallelism = runner.parallelism;
                runner = Runner::open(&memory, number).await;
                runner.parallelism = parallelism;
                let _ = runner.begin().await;
            }
            Step::Rescale(parallelism) => {
                runner.parallelism = *parallelism;
                let _ = runner.new_term().await;
                let _ = runner.commit(&Commit::default()).await;
                let _ = runner.claim(true).await;
            }
            Step::Save => {
                let name = format!("at-{}", runner.log.fold().next());
                let _ = runner
                    .append(|view| match savepoint(view, &name) {
                        crate::decide::SavepointDecision::Propose(proposal) => Err(proposal),
                        other => Ok(other),
                    })
                    .await;
            }
            Step::HoldAndRelease => {
                let _ = runner
                    .append(|view| match hold(view, "test", true) {
                        crate::decide::HoldDecision::Propose(proposal) => Err(proposal),
                        other => Ok(other),
                    })
                    .await;
                let _ = runner
                    .append(|view| match release(view, true) {
                        crate::decide::ReleaseDecision::Propose(proposal) => Err(proposal),
                        other => Ok(other),
                    })
                    .await;
                let _ = runner.claim(true).await;
            }
        }
    }
    memory
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_of_a_snapshot_and_the_records_after_it_is_the_fold_of_all(
        steps in proptest::collection::vec(step(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let memory = block_on(run(&steps));
        let slots = slots(&memory);
        let all = fold_all(&memory).unwrap();
        let cut = cut.index(slots.len());
        let mut fold = Fold::empty();
        for (seq, slot) in &slots[..=cut] {
            fold.apply(*seq, slot).unwrap();
        }
        let snapshot = Snapshot::of(&fold).unwrap();
        let mut fold = Snapshot::decode(&snapshot.key(), &snapshot.encode().unwrap()).unwrap().into_fold();
        for (seq, slot) in &slots[cut + 1..] {
            fold.apply(*seq, slot).unwrap();
        }
        prop_assert_eq!(fold, all);
    }
}
