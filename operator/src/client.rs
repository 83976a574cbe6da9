//! The API server's client, with every request counted.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::{Layer, Service};

use crate::metrics::{CallLabel, Metrics};

/// A client for the cluster that the environment names: the pod's own, or that of a kubeconfig.
///
/// # Errors
/// There is none, or its credentials cannot be read.
pub async fn connect(metrics: Arc<Metrics>) -> anyhow::Result<Client> {
    let config = Config::infer().await?;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Counting(metrics)).build())
}

struct Counting(Arc<Metrics>);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, metrics: Arc::clone(&self.0) }
    }
}

/// A service whose requests are counted.
struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let resource = resource(request.uri().path());
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let verb = if watch { "WATCH" } else { request.method().as_str() }.to_owned();
        let metrics = Arc::clone(&self.metrics);
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            metrics.api_calls.get_or_create(&CallLabel { verb, resource, code }).inc();
            answer
        }
        .boxed()
    }
}

/// The resource of a path, without names: `pods`, `streamingjobs/status`.
fn resource(path: &str) -> String {
    let mut parts = path.trim_matches('/').split('/');
    // /api/v1/… or /apis/<group>/<version>/…
    let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
    let mut parts: Vec<&str> = parts.skip(skipped).collect();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    match parts.as_slice() {
        [] => "discovery".to_owned(),
        [kind] | [kind, _] => (*kind).to_owned(),
        [kind, _, rest @ ..] => format!("{kind}/{}", rest.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_resource_and_not_by_name() {
        for (path, name) in [
            ("/api/v1/namespaces/shop/pods/orders-0-1", "pods"),
            ("/api/v1/pods", "pods"),
            ("/apis/millrace.dev/v1alpha1/namespaces/shop/streamingjobs/orders/status", "streamingjobs/status"),
            ("/apis/millrace.dev/v1alpha1/streamingjobs", "streamingjobs"),
            ("/api/v1/namespaces/kube-system", "namespaces"),
        ] {
            assert_eq!(resource(path), name, "{path}");
        }
    }
}
