//! The REST API, the health checks and the metrics.

mod answer;
mod routes;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::coordinator::Coordinator;
use answer::Problem;

/// The longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// The description of this API.
pub const OPENAPI: &str = include_str!("http/openapi.json");

/// Every route, by method and path: what the description has to describe.
pub const ROUTES: [(&str, &str); 11] = [
    ("post", "/v1/transactions"),
    ("get", "/v1/transactions"),
    ("get", "/v1/transactions/{xid}"),
    ("post", "/v1/transactions/{xid}/commit"),
    ("post", "/v1/transactions/{xid}/rollback"),
    ("post", "/v1/transactions/{xid}/branches/{branch_id}/resolve"),
    ("get", "/v1/locks"),
    ("get", "/openapi.json"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/metrics"),
];

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// There after recovery.
    pub(crate) coordinator: Arc<OnceLock<Arc<Coordinator>>>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) ending: CancellationToken,
}

impl Shared {
    /// The coordinator, if it serves.
    fn coordinator(&self) -> Result<&Arc<Coordinator>, Problem> {
        if self.ending.is_cancelled() {
            return Err(Problem::unavailable("the coordinator is ending"));
        }
        match self.coordinator.get() {
            None => Err(Problem::unavailable("the coordinator is recovering from its store")),
            Some(coordinator) if coordinator.failed().is_cancelled() => {
                Err(Problem::unavailable("the coordinator's store failed"))
            }
            Some(coordinator) => Ok(coordinator),
        }
    }
}

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/transactions", post(routes::begin).get(routes::transactions))
        .route("/v1/transactions/{xid}", get(routes::transaction))
        .route("/v1/transactions/{xid}/commit", post(routes::commit))
        .route("/v1/transactions/{xid}/rollback", post(routes::rollback))
        .route("/v1/transactions/{xid}/branches/{branch_id}/resolve", post(routes::resolve))
        .route("/v1/locks", get(routes::locks))
        .route("/openapi.json", get(routes::openapi))
        .route("/livez", get(routes::livez))
        .route("/readyz", get(routes::readyz))
        .route("/metrics", get(routes::metrics))
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}
