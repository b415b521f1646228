//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::backend::Backend;

/// What the handlers look at.
#[derive(Clone)]
pub struct Health {
    /// All backends.
    pub backends: Arc<Vec<Arc<Backend>>>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
}

/// The routes.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(health): State<Health>| async move { health.metrics.render() }))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    let mut reasons = Vec::new();
    for backend in health.backends.iter() {
        if !backend.coordinator.is_connected() && reasons.is_empty() {
            reasons.push("the coordinator does not answer".to_string());
        }
        if let Err(why) = backend.check().await {
            reasons.push(why);
        }
    }
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("; ")))
}
