//! What became of the pods of a namespace, in the order in which the API server tells it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use millrace_crds::contract::TermRequest;

use super::play;

/// Something that happened to a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// It was created.
    Created,
    /// It was told another term than before.
    Told(TermRequest),
    /// It was asked to go.
    Deleted,
    /// It is gone.
    Gone,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Instant,
    pub pod: String,
    pub uid: String,
    pub ordinal: u32,
    pub number: i64,
    pub revision: i64,
    pub what: What,
}

impl Event {
    /// The job whose pod it is.
    pub fn job(&self) -> &str {
        self.pod.rsplitn(3, '-').nth(2).unwrap()
    }
}

/// Everything that happened, and the pods as they are.
#[derive(Debug, Default)]
pub struct History {
    pub events: Vec<Event>,
    /// By uid.
    pub pods: BTreeMap<String, Pod>,
}

impl History {
    /// Notes how a pod is now.
    pub fn note(&mut self, pod: Pod) {
        let before = self.pods.insert(play::uid(&pod).to_owned(), pod.clone());
        if before.is_none() {
            self.push(&pod, What::Created);
        }
        let told = play::term(&pod);
        if told != before.as_ref().and_then(play::term)
            && let Some(term) = told
        {
            self.push(&pod, What::Told(term));
        }
        if play::is_going(&pod) && !before.as_ref().is_some_and(play::is_going) {
            self.push(&pod, What::Deleted);
        }
    }

    /// Notes that a pod is gone.
    pub fn note_gone(&mut self, pod: &Pod) {
        if let Some(last) = self.pods.remove(play::uid(pod)) {
            if !play::is_going(&last) {
                self.push(&last, What::Deleted);
            }
            self.push(&last, What::Gone);
        }
    }

    fn push(&mut self, pod: &Pod, what: What) {
        self.events.push(Event {
            at: Instant::now(),
            pod: play::name(pod).to_owned(),
            uid: play::uid(pod).to_owned(),
            ordinal: play::ordinal(pod),
            number: play::number(pod),
            revision: play::revision(pod),
            what,
        });
    }

    /// Where in the history something first happened.
    pub fn first(&self, happened: impl Fn(&Event) -> bool) -> Option<usize> {
        self.events.iter().position(happened)
    }

    /// Where in the history something last happened.
    pub fn last(&self, happened: impl Fn(&Event) -> bool) -> Option<usize> {
        self.events.iter().rposition(happened)
    }

    /// How often a pod was asked to go.
    pub fn deletions(&self) -> usize {
        self.events.iter().filter(|event| event.what == What::Deleted).count()
    }

    /// Names of pods in the order of their creation.
    pub fn created(&self) -> Vec<String> {
        self.events.iter().filter(|event| event.what == What::Created).map(|event| event.pod.clone()).collect()
    }

    /// The longest time for which two pods that were not asked to go had the same seat.
    pub fn longest_double(&self) -> Duration {
        let mut live: BTreeMap<_, Vec<(String, Instant)>> = BTreeMap::new();
        let mut longest = Duration::ZERO;
        for event in &self.events {
            let of_seat = live.entry((event.job(), event.revision, event.ordinal)).or_default();
            match event.what {
                What::Created => of_seat.push((event.uid.clone(), event.at)),
                What::Deleted => {
                    if let [_, .., (_, second)] = of_seat.as_slice() {
                        longest = longest.max(event.at - *second);
                    }
                    of_seat.retain(|(uid, _)| *uid != event.uid);
                }
                What::Told(_) | What::Gone => {}
            }
        }
        for of_seat in live.values() {
            if let [_, .., (_, second)] = of_seat.as_slice() {
                longest = longest.max(second.elapsed());
            }
        }
        longest
    }
}
