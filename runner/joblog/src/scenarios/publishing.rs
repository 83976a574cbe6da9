//! Who publishes what, in which order, and who says so.

use super::*;
use crate::decide::NoteDecision;
use crate::limits::MAX_UNPUBLISHED;

fn of(seq: Seq, output: OutputName) -> Note {
    Note { seq, output }
}

fn work(runner: &Runner) -> Vec<Note> {
    let work = runner.log.fold().work_of(runner.incarnation);
    work.map(|(seq, output, _)| of(seq, output.clone())).collect()
}

#[tokio::test]
async fn a_commit_carries_the_notes_of_earlier_records_for_free() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let first = runner.committed(0, 10).await;
    assert_eq!(work(&runner), [of(first, orders())]);
    let mut epoch = runner.epoch(0, 10);
    epoch.published = vec![of(first, orders())];
    let second = won(runner.commit(&epoch).await).seq();
    assert_eq!(work(&runner), [of(second, orders())]);
}

#[tokio::test]
async fn an_idle_job_notes_what_it_published_once() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let seq = runner.committed(0, 10).await;
    let notes = [of(seq, orders())];
    won(runner.note(&notes).await);
    assert_eq!(declined(runner.note(&notes).await), NoteDecision::Nothing);
    assert!(runner.log.fold().pending().is_empty());
    // An epoch with nothing but notes is a note as well.
    let seq = runner.committed(0, 10).await;
    let epoch = Commit { published: vec![of(seq, orders())], ..Commit::default() };
    let noted = won(runner.commit(&epoch).await);
    assert!(matches!(noted.record().entries[0].body, Body::Published(_)));
    // A restart finds nothing to publish again.
    let restarted = Runner::begun(&memory, 2).await;
    assert!(work(&restarted).is_empty());
}

#[tokio::test]
async fn what_a_fenced_decider_left_is_swept_up_by_the_publisher() {
    let memory = MemoryStore::new();
    let mut dead = Runner::begun(&memory, 1).await;
    let seq = dead.committed(0, 10).await;
    let mut next = Runner::begun(&memory, 2).await;
    assert_eq!(work(&next), [of(seq, orders())]);
    won(next.note(&[of(seq, orders())]).await);
    // The fenced one may have published too. It has nothing to say about it.
    assert!(matches!(declined(dead.note(&[of(seq, orders())]).await), NoteDecision::Superseded(_)));
}

#[tokio::test]
async fn an_ordered_output_is_published_and_noted_by_its_publisher_in_order() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut seqs = Vec::new();
    for _ in 0..3 {
        let mut epoch = runner.epoch(0, 1);
        epoch.intents = [(screen(), runner.rows_to_show())].into();
        seqs.push(won(runner.commit(&epoch).await).seq());
    }
    assert_eq!(declined(runner.note(&[of(seqs[1], screen())]).await), NoteDecision::Nothing);
    won(runner.note(&[of(seqs[1], screen()), of(seqs[0], screen())]).await);
    assert_eq!(runner.log.fold().published_through(&screen()), Some(seqs[1]));
    let next = Runner::begun(&memory, 2).await;
    assert_eq!(work(&next), [of(seqs[2], screen())]);
    assert!(work(&runner).is_empty() || runner.log.fold().next() < next.log.fold().next());
}

#[tokio::test]
async fn a_decider_that_is_not_the_publisher_leaves_an_ordered_output_alone() {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = two_ordinals(&memory).await;
    let publisher_is_zero = zero.owned().contains(&Task::Publisher(screen()));
    let (decider, publisher) = if publisher_is_zero { (&mut one, &mut zero) } else { (&mut zero, &mut one) };
    let number = (0..4).find(|number| decider.owned().contains(&reads(*number))).unwrap();
    let mut epoch = decider.epoch(number, 1);
    epoch.intents.insert(screen(), decider.rows_to_show());
    let seq = won(decider.commit(&epoch).await).seq();
    publisher.catch_up().await;
    assert_eq!(work(decider), [of(seq, orders())]);
    assert_eq!(work(publisher), [of(seq, screen())]);
    assert_eq!(declined(decider.note(&[of(seq, screen())]).await), NoteDecision::Nothing);
    won(publisher.note(&[of(seq, screen())]).await);
}

#[tokio::test]
async fn at_most_four_records_are_decided_beyond_the_published_point() {
    for output in [orders(), screen()] {
        let memory = MemoryStore::new();
        let mut runner = Runner::begun(&memory, 1).await;
        let mut seqs = Vec::new();
        let mut epoch = Commit::default();
        for count in 0..=MAX_UNPUBLISHED {
            epoch = runner.epoch(0, 1);
            let intents = if output == screen() { runner.rows_to_show() } else { runner.file(1) };
            epoch.intents = [(output.clone(), intents)].into();
            match runner.commit(&epoch).await {
                Appended::Won(won) => seqs.push(won.seq()),
                Appended::Declined(CommitDecision::Backpressure { outputs }) => {
                    assert_eq!(count, MAX_UNPUBLISHED);
                    assert_eq!(outputs, [output.clone()].into());
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seqs.len(), MAX_UNPUBLISHED);
        epoch.published = vec![of(seqs[0], output.clone())];
        won(runner.commit(&epoch).await);
    }
}

#[tokio::test]
async fn what_a_decider_left_that_owns_nothing_any_more_is_swept_up() {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = two_ordinals(&memory).await;
    let of_ordinal_one =
        |runners: u32, task: &Task| crate::owner(task, Parallelism::new(runners).unwrap()) == Ordinal(1);
    let tasks: BTreeSet<Task> = zero.owned().into_iter().chain(one.owned()).collect();
    let runners = (3..1_000).find(|runners| !tasks.iter().any(|task| of_ordinal_one(*runners, task))).unwrap();
    let number = (0..4).find(|number| one.owned().contains(&reads(*number))).unwrap();
    one.parallelism = runners;
    won(one.new_term().await);
    // Its last epoch gives everything away, and it dies before it publishes. Whoever follows it on its ordinal has nothing
    // to claim.
    let seq = one.committed(number, 10).await;
    assert_eq!(one.owned(), BTreeSet::new());
    zero.catch_up().await;
    drop(zero.commit(&Commit::default()).await);
    let mut publisher = Runner::open(&memory, 3).await;
    publisher.ordinal = crate::owner(&Task::Publisher(orders()), Parallelism::new(runners).unwrap());
    publisher.parallelism = runners;
    won(publisher.begin().await);
    assert_eq!(work(&publisher), [of(seq, orders())]);
    won(publisher.note(&[of(seq, orders())]).await);
}
