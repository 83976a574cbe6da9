//! Puts the operator together: client, election, controllers, endpoints, signals.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::build::Defaults;
use crate::controller::{self, Scope};
use crate::http::{self, Health};
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::{client, logging};

/// What a cluster is called that may not be asked for its uid and was given no name.
const NAMELESS_CLUSTER: &str = "cluster";

/// Runs the operator until it is told to stop or loses the lead.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    logging::init(args.log_format, &args.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(args));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::new(Arc::clone(&metrics)));
    let address = http::serve(args.http, Arc::clone(&health)).await?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving /metrics, /livez, /readyz");
    tokio::spawn(Arc::clone(&health).beat());

    let client = client::connect(Arc::clone(&metrics)).await?;
    let identity = args.identity.clone().unwrap_or_else(host_name);
    let mut election = (!args.no_leader_election)
        .then(|| Election::new(client.clone(), &args.lease_namespace, &args.lease_name, &identity));
    if let Some(election) = &mut election {
        // One that waits for the lead is as it should be.
        health.ready.store(true, Ordering::Relaxed);
        tokio::select! {
            () = election.acquire() => {}
            _ = term.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        health.ready.store(false, Ordering::Relaxed);
    }
    metrics.leader.set(1);
    let defaults = Defaults {
        image: args.runner_image.clone(),
        image_pull_policy: args.runner_image_pull_policy.clone().filter(|policy| !policy.is_empty()),
        cluster: cluster(&client, args.cluster.clone()).await,
    };
    tracing::info!(identity, cluster = defaults.cluster, image = defaults.image, "leading");
    let work = reconcile_all(&args, &client, &defaults, &metrics, &health, &identity);
    let lost = async {
        match &mut election {
            Some(election) => election.keep().await,
            None => std::future::pending().await,
        }
    };
    let stopped = tokio::select! {
        () = work => anyhow::bail!("the controllers ended"),
        () = lost => false,
        _ = term.recv() => true,
        _ = interrupt.recv() => true,
    };
    if !stopped {
        anyhow::bail!("another operator leads, or the lease could not be renewed; starting over");
    }
    tracing::info!("stopping; runners go on");
    if let Some(election) = &mut election {
        let _ = tokio::time::timeout(Duration::from_secs(5), election.resign()).await;
    }
    Ok(())
}

/// Reconciles the jobs of every namespace that was named, or of all.
async fn reconcile_all(
    args: &Args,
    client: &Client,
    defaults: &Defaults,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    identity: &str,
) {
    let named: Vec<String> =
        args.namespaces.iter().map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    let scopes: Vec<Option<String>> = if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() };
    let missing = Arc::new(AtomicUsize::new(scopes.len()));
    let controllers = scopes.into_iter().map(|namespace| {
        let scope = Scope { namespace, concurrency: args.concurrency, identity: identity.to_owned() };
        let (health, missing) = (Arc::clone(health), Arc::clone(&missing));
        controller::run(client.clone(), scope, defaults.clone(), Arc::clone(metrics), move || {
            if missing.fetch_sub(1, Ordering::SeqCst) == 1 {
                health.ready.store(true, Ordering::Relaxed);
            }
        })
    });
    futures::future::select_all(controllers.map(Box::pin)).await;
}

/// What this cluster is called in checkpoints: the uid of a namespace that every cluster has and none has twice.
async fn cluster(client: &Client, named: Option<String>) -> String {
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        return name;
    }
    match Api::<Namespace>::all(client.clone()).get("kube-system").await {
        Ok(namespace) => namespace.uid().unwrap_or_else(|| NAMELESS_CLUSTER.to_owned()),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot read the namespace kube-system to tell this cluster from others; give it a name by --cluster if \
                 several clusters share a bucket"
            );
            NAMELESS_CLUSTER.to_owned()
        }
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/etc/hostname")
        .map_or_else(|_| "millrace-operator".to_owned(), |name| name.trim().to_owned())
}
