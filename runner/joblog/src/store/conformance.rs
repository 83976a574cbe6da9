//! What every store must do, checked on every implementation, real servers included.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Seq;
use crate::paths;
use crate::store::{LogStore, ProbeError, PutIfAbsent, StoreError, probe};

/// Writers that race for one key.
const WRITERS: usize = 8;
/// Races run.
const RACES: u64 = 25;

/// What a store did wrong.
#[derive(Debug, thiserror::Error)]
pub enum Nonconformance {
    /// It broke a rule.
    #[error("{rule}: {found}")]
    Rule {
        /// The rule.
        rule: &'static str,
        /// What it did instead.
        found: String,
    },
    /// The probe refused it.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A request failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs every check. The store must be empty.
pub async fn run(store: Arc<dyn LogStore>) -> Result<(), Nonconformance> {
    what_was_written_is_read(&*store).await?;
    a_create_is_exclusive(&*store).await?;
    a_list_holds_its_folder_only(&*store).await?;
    a_delete_is_idempotent(&*store).await?;
    one_writer_wins_each_race(&store).await?;
    a_reader_sees_whole_objects(&store).await?;
    probe(&*store).await?;
    probe(&*store).await?;
    Ok(())
}

async fn what_was_written_is_read(store: &dyn LogStore) -> Result<(), Nonconformance> {
    expect("a missing object reads as none", &None, &store.get("state/none").await?)?;
    expect("a missing object is not there", &false, &store.head("state/none").await?)?;
    for bytes in ["one", "", "a longer text than before"] {
        store.put("state/blob", Bytes::from_static(bytes.as_bytes())).await?;
        expect("a put replaces", &Some(Bytes::from_static(bytes.as_bytes())), &store.get("state/blob").await?)?;
    }
    expect("an object that was put is there", &true, &store.head("state/blob").await?)
}

async fn a_create_is_exclusive(store: &dyn LogStore) -> Result<(), Nonconformance> {
    let key = paths::slot(Seq(0));
    let first = store.put_if_absent(&key, Bytes::from_static(b"first")).await?;
    expect("a create of a new key succeeds", &PutIfAbsent::Created, &first)?;
    for _ in 0..2 {
        let again = store.put_if_absent(&key, Bytes::from_static(b"again")).await?;
        expect("a create of an existing key is refused", &PutIfAbsent::Exists, &again)?;
        expect("and changes nothing", &Some(Bytes::from_static(b"first")), &store.get(&key).await?)?;
    }
    let seal = paths::seal(paths::Segment(0));
    expect("an empty object can be created", &PutIfAbsent::Created, &store.put_if_absent(&seal, Bytes::new()).await?)?;
    expect("and is there", &true, &store.head(&seal).await?)?;
    store.delete(std::slice::from_ref(&key)).await?;
    let after = store.put_if_absent(&key, Bytes::from_static(b"after")).await?;
    expect("a deleted key can be created again", &PutIfAbsent::Created, &after)
}

async fn a_list_holds_its_folder_only(store: &dyn LogStore) -> Result<(), Nonconformance> {
    expect("a folder that is not there lists as empty", &Vec::<String>::new(), &store.list("snapshots").await?)?;
    for seq in [11, 2, 100] {
        store.put_if_absent(&paths::snapshot(Seq(seq)), Bytes::from_static(b"{}")).await?;
    }
    store.put("snapshots-not/one", Bytes::from_static(b"x")).await?;
    let sorted: Vec<String> = [2, 11, 100].map(|seq| paths::snapshot(Seq(seq))).to_vec();
    expect("a list holds its folder, sorted", &sorted, &store.list("snapshots").await?)
}

async fn a_delete_is_idempotent(store: &dyn LogStore) -> Result<(), Nonconformance> {
    let keys: Vec<String> = (0..20).map(|n| format!("staged/{n}")).collect();
    for key in &keys[..10] {
        store.put(key, Bytes::from_static(b"x")).await?;
    }
    store.delete(&keys).await?;
    store.delete(&keys).await?;
    store.delete(&[]).await?;
    expect("what was deleted is gone", &Vec::<String>::new(), &store.list("staged").await?)
}

async fn one_writer_wins_each_race(store: &Arc<dyn LogStore>) -> Result<(), Nonconformance> {
    for race in 0..RACES {
        let key = paths::slot(Seq(1000 + race));
        let put = |writer: usize| {
            let (store, key) = (Arc::clone(store), key.clone());
            tokio::spawn(async move { (writer, store.put_if_absent(&key, Bytes::from(body(writer))).await) })
        };
        let mut winners = BTreeSet::new();
        for reply in futures::future::join_all((0..WRITERS).map(put)).await {
            let Ok((writer, outcome)) = reply else { continue };
            // An error leaves the outcome open: the writer may have won without knowing.
            if matches!(outcome, Ok(PutIfAbsent::Created)) {
                winners.insert(writer);
            }
        }
        let found = store.get(&key).await?.unwrap_or_default();
        let known: Vec<String> = winners.iter().map(|writer| body(*writer)).collect();
        if known.len() > 1 || known.first().is_some_and(|winner| *winner != found) {
            let found = format!("{} were told that they won; the object is {:?}", known.len(), found.get(..9));
            return Err(Nonconformance::Rule { rule: "of racing creates one wins, and its bytes are kept", found });
        }
    }
    Ok(())
}

async fn a_reader_sees_whole_objects(store: &Arc<dyn LogStore>) -> Result<(), Nonconformance> {
    for race in 0..RACES {
        let key = paths::slot(Seq(2000 + race));
        let writing = tokio::spawn({
            let (store, key) = (Arc::clone(store), key.clone());
            async move { store.put_if_absent(&key, Bytes::from(body(1))).await }
        });
        loop {
            let done = writing.is_finished();
            match store.get(&key).await? {
                Some(bytes) if bytes == body(1) => break,
                Some(bytes) => {
                    let found = format!("{} of {} bytes", bytes.len(), body(1).len());
                    return Err(Nonconformance::Rule { rule: "a reader sees all of an object or none", found });
                }
                None if done => {
                    let found = "none".to_owned();
                    return Err(Nonconformance::Rule { rule: "a create that is done is seen", found });
                }
                None => tokio::task::yield_now().await,
            }
        }
    }
    Ok(())
}

/// Long enough for a store that writes in pieces to be caught at it.
fn body(writer: usize) -> String {
    format!("writer {writer} ").repeat(20_000)
}

fn expect<T: PartialEq + std::fmt::Debug>(rule: &'static str, wanted: &T, found: &T) -> Result<(), Nonconformance> {
    if wanted == found {
        return Ok(());
    }
    Err(Nonconformance::Rule { rule, found: format!("{found:?} instead of {wanted:?}") })
}
