//! What the kubelet and Prometheus ask: `/livez`, `/readyz`, `/metrics`, over plain HTTP inside the pod. Says nothing of any mailbox.

pub mod metrics;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use metrics::{CONTENT_TYPE, Metrics};

/// Once told to stop, requests under way have this long.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What the probes answer.
#[derive(Debug, Default)]
pub struct Readiness {
    listed: AtomicBool,
    watch_dead: AtomicBool,
}

impl Readiness {
    /// The first list of resources is complete: ready from now on.
    pub fn listed(&self) {
        self.listed.store(true, Ordering::Relaxed);
    }

    /// Whether the watch has been silent for so long that it must be dead; the kubelet then starts the pod anew.
    pub fn watch_dead(&self, dead: bool) {
        self.watch_dead.store(dead, Ordering::Relaxed);
    }

    /// Whether the pod may be counted on.
    pub fn is_ready(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// Whether the process does its work.
    pub fn is_live(&self) -> bool {
        !self.watch_dead.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

/// Serves until told to stop.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Arc<Readiness>, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(Shared { metrics, readiness });
    let stopping = stop.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stopping.cancelled().await });
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_DEADLINE).await;
    };
    tokio::select! {
        served = async { serving.await } => served,
        () = overdue => Ok(()),
    }
}

async fn livez(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    probe(shared.readiness.is_live(), "the watch of the API server is dead\n")
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    probe(shared.readiness.is_ready(), "the first list of MailboxCollectors is not complete\n")
}

fn probe(good: bool, otherwise: &'static str) -> (StatusCode, &'static str) {
    if good { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) }
}

async fn text(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.metrics.text() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, CONTENT_TYPE)], text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn probes_and_figures_are_served_and_serving_ends_when_told() {
        crate::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (readiness, stop) = (Arc::new(Readiness::default()), CancellationToken::new());
        let server = tokio::spawn(serve(listener, Metrics::new(), Arc::clone(&readiness), stop.clone()));
        let status = async |path: &str| reqwest::get(format!("{base}{path}")).await.unwrap().status().as_u16();
        assert_eq!(status("/livez").await, 200);
        assert_eq!(status("/readyz").await, 503);
        readiness.listed();
        assert_eq!(status("/readyz").await, 200);
        readiness.watch_dead(true);
        assert_eq!(status("/livez").await, 503);
        assert_eq!(status("/elsewhere").await, 404);
        let metrics = reqwest::get(format!("{base}/metrics")).await.unwrap();
        assert_eq!(metrics.headers()["content-type"], CONTENT_TYPE);
        assert!(metrics.text().await.unwrap().ends_with("# EOF\n"));
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
