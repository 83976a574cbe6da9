//! The operator's HTTP endpoints: `/metrics`, `/livez`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// The media type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The runtime is stuck when nothing turned for so long.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What the endpoints tell.
#[derive(Debug)]
pub struct Health {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the caches are filled, or another operator leads.
    pub ready: AtomicBool,
    turned: std::sync::Mutex<Instant>,
}

impl Health {
    /// Not ready yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ready: AtomicBool::new(false), turned: std::sync::Mutex::new(Instant::now()) }
    }

    /// Notes that the runtime turns, again and again.
    pub async fn beat(self: Arc<Self>) {
        loop {
            if let Ok(mut turned) = self.turned.lock() {
                *turned = Instant::now();
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

/// Starts serving and returns the address it listens on.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, health: Arc<Health>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the http server ended");
        }
    });
    Ok(bound)
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], health.metrics.render()).into_response()
}

async fn livez(State(health): State<Arc<Health>>) -> Response {
    let alive = health.turned.lock().is_ok_and(|turned| turned.elapsed() < STUCK_AFTER);
    verdict(alive, "nothing turned for a minute\n")
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    verdict(health.ready.load(Ordering::Relaxed), "the caches are not filled yet\n")
}

fn verdict(good: bool, reason: &'static str) -> Response {
    match good {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}
