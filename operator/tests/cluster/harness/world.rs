//! A namespace of its own in the shared API server, with a played kubelet, and an operator that looks after it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope as Scope};
use kube::{Api, Client, Config, Resource, ResourceExt};
use millrace_crds::spec::{StreamingJob, StreamingJobStatus};
use millrace_tests::servers::apiserver::ApiServer;
use millrace_tests::servers::{checkout, scratch, unique};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::job::Manifest;
use super::kubelet::Kubelet;
use super::operator::Operator;
use super::{block_on, play};

/// How long anything may take that should come at once, on a machine that has other things to do.
pub const SOON: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// A namespace.
pub struct World {
    pub namespace: String,
    pub kubelet: Kubelet,
    client: Client,
    kubeconfig: PathBuf,
    directory: TempDir,
}

impl World {
    /// A new namespace that refuses pods without the restricted security context.
    pub fn new() -> Self {
        static ADMINISTRATOR: OnceLock<PathBuf> = OnceLock::new();
        let server = ApiServer::shared().unwrap();
        let kubeconfig = ADMINISTRATOR.get_or_init(|| {
            install(server);
            server.kubeconfig(None).unwrap()
        });
        Self::within(kubeconfig.clone())
    }

    /// A new namespace of the API server that a kubeconfig names.
    pub fn within(kubeconfig: PathBuf) -> Self {
        let client = client(&kubeconfig);
        let namespace = unique("test");
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let object = json!({ "metadata": { "name": namespace, "labels": labels } });
        let object: Namespace = serde_json::from_value(object).unwrap();
        block_on(Api::all(client.clone()).create(&PostParams::default(), &object)).unwrap();
        let kubelet = block_on(async { Kubelet::start(client.clone(), &namespace) });
        Self { namespace, kubelet, client, kubeconfig, directory: scratch("operator").unwrap() }
    }

    /// An operator that looks after this namespace and asks for no lead.
    pub fn operator(&self) -> Operator {
        self.operator_with(&["--no-leader-election"])
    }

    /// An operator that looks after this namespace.
    pub fn operator_with(&self, arguments: &[&str]) -> Operator {
        self.operator_of(&self.kubeconfig, arguments)
    }

    /// An operator that looks after this namespace with the rights of a kubeconfig.
    pub fn operator_of(&self, kubeconfig: &Path, arguments: &[&str]) -> Operator {
        let own = ["--namespaces", &self.namespace, "--lease-namespace", &self.namespace];
        Operator::start(self.directory.path(), kubeconfig, &[&own, arguments].concat())
    }

    /// An operator that looks after all namespaces with the rights of a kubeconfig.
    pub fn operator_everywhere(&self, kubeconfig: &Path, arguments: &[&str]) -> Operator {
        let own = ["--lease-namespace", &self.namespace];
        Operator::start(self.directory.path(), kubeconfig, &[&own, arguments].concat())
    }

    /// Objects of a type in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = Scope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The administrator's client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What `kubectl apply --server-side` does.
    pub fn apply(&self, manifest: &Manifest) {
        let params = PatchParams::apply("kubectl").force();
        block_on(self.api::<StreamingJob>().patch(manifest.name(), &params, &Patch::Apply(&manifest.0))).unwrap();
    }

    /// What `kubectl patch --type merge` does.
    pub fn patch(&self, job: &str, change: Value) {
        let change = Patch::Merge(change);
        block_on(self.api::<StreamingJob>().patch(job, &PatchParams::default(), &change)).unwrap();
    }

    /// Writes into a job's status, as only an operator should.
    pub fn patch_status(&self, job: &str, change: Value) {
        let change = json!({ "status": change });
        let kind = ApiResource::erase::<StreamingJob>(&());
        let jobs: Api<DynamicObject> = Api::namespaced_with(self.client(), &self.namespace, &kind);
        block_on(jobs.patch_status(job, &PatchParams::default(), &Patch::Merge(change))).unwrap();
    }

    /// Creates an object of any type in this namespace.
    pub fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = Scope> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        block_on(self.api::<K>().create(&PostParams::default(), &object)).unwrap()
    }

    /// Deletes a job as `kubectl delete` does.
    pub fn delete_job(&self, job: &str) {
        self.delete_job_and(job, PropagationPolicy::Background);
    }

    /// Deletes a job, and what it owns in this way.
    pub fn delete_job_and(&self, job: &str, policy: PropagationPolicy) {
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        block_on(self.api::<StreamingJob>().delete(job, &params)).unwrap();
    }

    /// Deletes a pod as `kubectl delete` does.
    pub fn delete_pod(&self, pod: &str) {
        block_on(self.api::<Pod>().delete(pod, &DeleteParams::default())).unwrap();
    }

    /// Does what the garbage collector does some time after an owner is gone.
    pub fn collect_garbage(&self, owner: &str) {
        self.collect::<Pod>(owner);
        self.collect::<ConfigMap>(owner);
        self.collect::<PodDisruptionBudget>(owner);
    }

    fn collect<K>(&self, owner: &str)
    where
        K: Resource<DynamicType = (), Scope = Scope> + Clone + Debug + DeserializeOwned,
    {
        for object in self.list::<K>() {
            if object.owner_references().iter().any(|reference| reference.uid == owner) {
                let _ = block_on(self.api::<K>().delete(&object.name_any(), &DeleteParams::default())).unwrap();
            }
        }
    }

    /// All objects of a type.
    pub fn list<K>(&self) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = Scope> + Clone + Debug + DeserializeOwned,
    {
        block_on(self.api::<K>().list(&ListParams::default())).unwrap().items
    }

    /// A job.
    pub fn job(&self, name: &str) -> StreamingJob {
        block_on(self.api::<StreamingJob>().get(name)).unwrap()
    }

    /// A job as a client has it that knows nothing of its type.
    pub fn raw_job(&self, name: &str) -> Value {
        let kind = ApiResource::erase::<StreamingJob>(&());
        let jobs: Api<DynamicObject> = Api::namespaced_with(self.client(), &self.namespace, &kind);
        serde_json::to_value(block_on(jobs.get(name)).unwrap()).unwrap()
    }

    /// A job's status.
    pub fn status(&self, job: &str) -> StreamingJobStatus {
        self.job(job).status.unwrap_or_default()
    }

    /// A condition, if it is about the job's spec as it is now.
    pub fn condition(&self, job: &str, kind: &str) -> Option<Condition> {
        let job = self.job(job);
        let conditions = job.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == kind)?;
        (found.observed_generation == job.metadata.generation).then_some(found)
    }

    /// The pods of a job that were not asked to go, by ordinal and number.
    pub fn pods(&self, job: &str) -> Vec<Pod> {
        let selected = ListParams::default().labels(&format!("millrace.dev/job={job}"));
        let mut pods = block_on(self.api::<Pod>().list(&selected)).unwrap().items;
        pods.retain(|pod| !play::is_going(pod));
        pods.sort_by_key(|pod| (play::ordinal(pod), play::number(pod)));
        pods
    }

    /// Names of these pods.
    pub fn names(&self, job: &str) -> Vec<String> {
        self.pods(job).iter().map(|pod| play::name(pod).to_owned()).collect()
    }

    /// Uids of these pods.
    pub fn uids(&self, job: &str) -> Vec<String> {
        self.pods(job).iter().map(|pod| play::uid(pod).to_owned()).collect()
    }

    /// Waits until something is there.
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.within_time(what, SOON, look)
    }

    /// Waits until something is there; on giving up it shows the namespace.
    pub fn within_time<T>(&self, what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < bound {
            if let Some(value) = look() {
                return value;
            }
            std::thread::sleep(POLL);
        }
        panic!("gave up waiting for {what} after {bound:?}\n{}", self.describe());
    }

    /// Waits until something holds.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        self.until(what, || holds().then_some(()));
    }

    /// Looks again and again for `time` whether something holds all the time.
    pub fn stays(&self, what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            assert!(holds(), "it did not stay so: {what}\n{}", self.describe());
            std::thread::sleep(POLL);
        }
    }

    /// Waits until a condition of the spec as it is now has a status and a reason.
    pub fn wait_for(&self, job: &str, kind: &str, status: &str, reason: &str) -> Condition {
        self.until(&format!("{kind}={status} ({reason})"), || {
            self.condition(job, kind).filter(|found| found.status == status && found.reason == reason)
        })
    }

    /// Waits until a job runs as its spec has it, with so many pods and none that goes.
    pub fn wait_until_runs(&self, job: &str, pods: usize) {
        self.wait_for(job, "Ready", "True", "Running");
        self.wait_for(job, "Reconciling", "False", "Settled");
        self.wait(&format!("{pods} pods"), || self.names(job).len() == pods);
    }

    /// The namespace in words, for a failing test.
    fn describe(&self) -> String {
        let mut text = String::new();
        for job in self.list::<StreamingJob>() {
            let status = serde_json::to_string_pretty(&job.status).unwrap();
            text += &format!("job {} generation {:?}: {status}\n", job.name_any(), job.metadata.generation);
        }
        for pod in self.list::<Pod>() {
            let status = serde_json::to_string(&pod.status).unwrap();
            text += &format!("pod {} going: {} {status}\n", play::name(&pod), play::is_going(&pod));
        }
        let events = self.kubelet.history(|history| history.events.clone());
        for event in events.iter().rev().take(40).rev() {
            text += &format!("{:?} {} {:?}\n", event.at.elapsed(), event.pod, event.what);
        }
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            text += &millrace_tests::servers::process::tail(&entry.unwrap().path());
        }
        text
    }
}

/// A client for the API server that a kubeconfig names.
pub fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    })
}

/// Installs the resource definition and waits until it is served.
pub fn install(server: &ApiServer) {
    let definition = std::fs::read_to_string(checkout().join("crds/streamingjobs.yaml")).unwrap();
    let path =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/streamingjobs.millrace.dev?fieldManager=kubectl";
    let applied = server.request("PATCH", path, &definition).unwrap();
    assert!(applied.status < 300, "{}", applied.body);
    millrace_tests::wait::until("the definition to be served", SOON, || {
        let listed = server.request("GET", "/apis/millrace.dev/v1alpha1/namespaces/default/streamingjobs", "")?;
        Ok((listed.status == 200).then_some(()))
    })
    .unwrap();
}
