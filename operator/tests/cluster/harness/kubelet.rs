//! The played scheduler and kubelet of one namespace: they bind every pod, report of it what the test wants them to, and
//! remove it after it was asked to go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::history::History;
use super::{play, runtime};

/// With how many pods something is done at a time.
const AT_A_TIME: usize = 16;
/// How long a runner takes to end after its pod was asked to go.
const GRACE: Duration = Duration::from_millis(500);

/// What is reported of a pod; `Null`: nothing yet.
type Play = Arc<dyn Fn(&Pod) -> Value + Send + Sync>;

/// The played kubelet. Dropping it ends it.
pub struct Kubelet {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    pods: Api<Pod>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    play: Play,
    /// By pod name: what is played for these instead.
    apart: HashMap<String, Play>,
    /// By pod name: where its runner answers.
    addresses: HashMap<String, IpAddr>,
    /// Whether pods that were asked to go do so.
    removes: bool,
    history: History,
}

/// What was done with pods, by their uid.
#[derive(Default)]
struct Reported {
    statuses: HashMap<String, Value>,
    bound: HashSet<String>,
    going: HashMap<String, Instant>,
}

impl Kubelet {
    /// A kubelet whose runners work.
    pub fn start(client: Client, namespace: &str) -> Self {
        let state = State {
            play: Arc::new(play::works),
            apart: HashMap::new(),
            addresses: HashMap::new(),
            removes: true,
            history: History::default(),
        };
        let pods = Api::namespaced(client, namespace);
        let shared = Arc::new(Shared { pods, state: Mutex::new(state), changed: Notify::new() });
        let task = runtime().spawn(Arc::clone(&shared).run());
        Self { shared, task }
    }

    /// What is reported of all pods from now on.
    pub fn plays(&self, play: impl Fn(&Pod) -> Value + Send + Sync + 'static) {
        let mut state = self.shared.state();
        state.play = Arc::new(play);
        state.apart.clear();
        drop(state);
        self.shared.changed.notify_one();
    }

    /// What is reported of one pod from now on.
    pub fn plays_one(&self, pod: &str, play: impl Fn(&Pod) -> Value + Send + Sync + 'static) {
        self.shared.state().apart.insert(pod.to_owned(), Arc::new(play));
        self.shared.changed.notify_one();
    }

    /// Where a pod's runner answers.
    pub fn places(&self, pod: &str, address: IpAddr) {
        self.shared.state().addresses.insert(pod.to_owned(), address);
        self.shared.changed.notify_one();
    }

    /// Whether pods that were asked to go do so from now on.
    pub fn removes(&self, removes: bool) {
        self.shared.state().removes = removes;
        self.shared.changed.notify_one();
    }

    /// Looks at what happened.
    pub fn history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.shared.state().history)
    }

    /// Forgets what happened so far.
    pub fn forget(&self) {
        self.shared.state().history.events.clear();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn run(self: Arc<Self>) {
        let mut events = watcher::watcher(self.pods.clone(), watcher::Config::default()).boxed();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let reported = Mutex::new(Reported::default());
        // Uids of pods that something is still to be done with.
        let mut due: BTreeSet<String> = BTreeSet::new();
        loop {
            let mut now: BTreeSet<String> = tokio::select! {
                event = events.try_next() => self.note(event).into_iter().collect(),
                () = self.changed.notified() => self.state().history.pods.keys().cloned().collect(),
                _ = tick.tick() => std::mem::take(&mut due),
            };
            // What has happened besides, so that nothing is done by what was.
            while let Some(event) = events.try_next().now_or_never() {
                now.extend(self.note(event));
            }
            let tended = stream::iter(now).map(|uid| {
                let this = &self;
                let pod = this.state().history.pods.get(&uid).cloned();
                let reported = &reported;
                async move {
                    // What failed, for instance because the pod changed meanwhile, is tried again.
                    let done = match pod {
                        Some(pod) => this.tend(&pod, reported).await.unwrap_or(false),
                        None => true,
                    };
                    (!done).then_some(uid)
                }
            });
            let left: Vec<Option<String>> = tended.buffer_unordered(AT_A_TIME).collect().await;
            due.extend(left.into_iter().flatten());
        }
    }

    /// Notes what the API server tells; the uid of the pod that something may be done with.
    fn note(&self, event: Result<Option<Event<Pod>>, watcher::Error>) -> Option<String> {
        match event {
            Ok(Some(Event::Apply(pod) | Event::InitApply(pod))) => {
                let uid = play::uid(&pod).to_owned();
                self.state().history.note(pod);
                Some(uid)
            }
            Ok(Some(Event::Delete(pod))) => {
                self.state().history.note_gone(&pod);
                None
            }
            _ => None,
        }
    }

    /// Does what is to be done with a pod; whether that was all.
    async fn tend(&self, pod: &Pod, reported: &Mutex<Reported>) -> Result<bool, kube::Error> {
        let (name, uid) = (play::name(pod), play::uid(pod));
        if play::is_going(pod) {
            let since = *reported.lock().unwrap().going.entry(uid.to_owned()).or_insert_with(Instant::now);
            if self.state().removes && since.elapsed() >= GRACE {
                let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
                let now = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(preconditions),
                    ..DeleteParams::default()
                };
                self.pods.delete(name, &now).await?;
                return Ok(true);
            }
            return Ok(false);
        }
        let (play, address) = {
            let state = self.state();
            let play = state.apart.get(name).unwrap_or(&state.play);
            (Arc::clone(play), state.addresses.get(name).copied())
        };
        let mut status = play(pod);
        if let Some(address) = address {
            status["podIP"] = address.to_string().into();
            status["podIPs"] = json!([{ "ip": address.to_string() }]);
        }
        if status.is_null() || reported.lock().unwrap().statuses.get(uid) == Some(&status) {
            return Ok(true);
        }
        let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        if status["phase"] != "Pending" && !is_bound && !reported.lock().unwrap().bound.contains(uid) {
            let target = json!({ "apiVersion": "v1", "kind": "Node", "name": "played" });
            let binding =
                json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name }, "target": target });
            let _: Value = self.pods.create_subresource("binding", name, &PostParams::default(), &binding).await?;
            reported.lock().unwrap().bound.insert(uid.to_owned());
        }
        let body = json!({ "metadata": { "uid": uid }, "status": status });
        self.pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&body)).await?;
        reported.lock().unwrap().statuses.insert(uid.to_owned(), status);
        Ok(true)
    }
}
