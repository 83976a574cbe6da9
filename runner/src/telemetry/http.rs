//! The runner's HTTP endpoints: `/metrics`, `/status`, `/startz`, `/livez`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::progress::ProgressHub;

/// The media type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Starts serving on `address` and returns the address it listens on (port 0 picks a free one). The server ends with
/// the runtime.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, hub: Arc<ProgressHub>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/startz", get(startz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(hub);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the http server ended");
        }
    });
    Ok(bound)
}

async fn metrics(State(hub): State<Arc<ProgressHub>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], hub.metrics().render()).into_response()
}

async fn status(State(hub): State<Arc<ProgressHub>>) -> Response {
    Json(hub.status()).into_response()
}

/// Started: manifest, queries, sinks, store, checkpoint and Kafka were found valid.
async fn startz(State(hub): State<Arc<ProgressHub>>) -> Response {
    verdict(hub.started())
}

/// Alive: the loop turned lately.
async fn livez(State(hub): State<Arc<ProgressHub>>) -> Response {
    verdict(hub.alive())
}

/// Ready: it holds every task that the log's term gives it and makes progress (committed, or polled and caught up, within the progress deadline).
async fn readyz(State(hub): State<Arc<ProgressHub>>) -> Response {
    verdict(hub.ready())
}

fn verdict(judged: Result<(), String>) -> Response {
    match judged {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
