//! The harness of the tests on a real Kubernetes cluster, that of `KUBECONFIG`: a namespace for each test, jobs in it, load
//! from outside, what the job log and another engine say of the result, and faults of pods, nodes and servers.

pub mod bench;
pub mod cluster;
pub mod command;
pub mod diagnosis;
pub mod job;
pub mod joblog;
pub mod load;
pub mod manifest;
pub mod node;
pub mod oracle;
pub mod outage;
pub mod pods;
pub mod space;
pub mod within;

/// The harness's result: its errors are read by people, in a failing test.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;
