//! The operator's arguments.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Brings StreamingJobs about as runner pods.
#[derive(Debug, Parser)]
#[command(name = "millrace-operator", version, about, max_term_width = 110)]
pub struct Args {
    /// Namespaces to look after, separated by commas; empty: all.
    #[arg(long, env = "MILLRACE_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Image of the runners of jobs that name none.
    #[arg(long, env = "MILLRACE_RUNNER_IMAGE")]
    pub runner_image: String,
    /// When that image is pulled: Always, IfNotPresent or Never; default: Kubernetes decides by the tag.
    #[arg(long, env = "MILLRACE_RUNNER_IMAGE_PULL_POLICY")]
    pub runner_image_pull_policy: Option<String>,
    /// What this cluster is called in the checkpoints of its jobs; default: the uid of the namespace kube-system.
    #[arg(long, env = "MILLRACE_CLUSTER")]
    pub cluster: Option<String>,
    /// Address of /metrics, /livez and /readyz; port 0 picks a free one.
    #[arg(long, env = "MILLRACE_HTTP", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Name of the Lease by which one of several operators leads.
    #[arg(long, env = "MILLRACE_LEASE_NAME", default_value = "millrace-operator")]
    pub lease_name: String,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// Name of this operator in the Lease; default: the host's.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Lead without asking for the Lease. Every write is safe from a second operator; two only waste requests.
    #[arg(long, env = "MILLRACE_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
    /// How many jobs are reconciled at a time.
    #[arg(long, env = "MILLRACE_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// How log lines are written to standard error.
    #[arg(long, value_enum, env = "MILLRACE_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// Which log lines are written, as `level` or `target=level,…`.
    #[arg(long, env = "MILLRACE_LOG", default_value = "info,kube_client=warn,kube_runtime=warn")]
    pub log_level: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
