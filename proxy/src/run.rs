//! The daemon: from its configuration to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use atone_api::Client;
use atone_api::proto::Work;
use atone_config::KeyError;
use metrics_exporter_prometheus::PrometheusBuilder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::config::Config;
use crate::listener::Listener;
use crate::memory::Memory;
use crate::{http, listener, local_waits, phase_two};

/// How much phase-two work may wait in this process; the coordinator gives out the rest again.
const WORK_QUEUE: usize = 1024;

/// Runs the proxy until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(config: Config) -> anyhow::Result<()> {
    for deprecated in &config.deprecated {
        tracing::warn!("{deprecated}");
    }
    raise_file_limit(&config);
    let metrics = PrometheusBuilder::new().install_recorder().context("metrics")?;
    let resources: Vec<String> = config.backend.iter().map(|b| b.name.clone()).collect();
    let (work_tx, work_rx) = mpsc::channel(WORK_QUEUE);
    let coordinator =
        Client::connect(config.coordinator.clone(), proxy_id(), resources, work_tx).context("coordinator")?;
    if let Some(own) = config.backend.iter().find_map(|backend| backend.own_certificate.as_ref()) {
        tracing::info!("listeners without listen_tls.cert show a certificate {own}");
    }
    // Before any listener is open: who sees one may send SIGHUP
    let mut hup = signal(SignalKind::hangup())?;
    let mut backends = Vec::new();
    let memory = Memory::new(config.limits.max_memory);
    for backend in &config.backend {
        let made = Backend::new(backend, &config.limits, memory.clone(), coordinator.clone())
            .map_err(anyhow::Error::msg)?;
        backends.push(Arc::new(made));
    }
    let (drain, draining) = watch::channel(false);
    let sessions = TaskTracker::new();
    let services = TaskTracker::new();
    let mut bound = Vec::new();
    for (backend, config) in backends.iter().zip(&config.backend) {
        let socket = Listener::bind(&config.listen)
            .await
            .with_context(|| format!("{}: {}", config.name, config.listen))?;
        bound.push(format!("{}={}", config.name, socket.address()?));
        services.spawn(listener::serve(backend.clone(), socket, draining.clone(), sessions.clone()));
    }
    let http_socket =
        TcpListener::bind(config.http).await.with_context(|| format!("http: {}", config.http))?;
    tracing::info!("listening {} http={}", bound.join(" "), http_socket.local_addr()?);
    let all = Arc::new(backends);
    let router = http::router(http::Health { backends: all.clone(), metrics });
    let mut stop = draining.clone();
    services.spawn(async move {
        let stopped = async move {
            let _ = stop.wait_for(|d| *d).await;
        };
        if let Err(error) = axum::serve(http_socket, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "http");
        }
    });
    let workers = tokio::spawn(give_out_work(all.clone(), work_rx));
    let mut ready = JoinSet::new();
    for backend in all.iter().cloned() {
        ready.spawn(local_waits::watch(backend.clone()));
        ready.spawn(async move { backend.catalog.pool().keep_ready(backend.limits.connect_timeout()).await });
    }

    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => reload_certificates(&all),
        }
    }
    tracing::info!(sessions = sessions.len(), "draining");
    drain.send_replace(true);
    sessions.close();
    services.close();
    if tokio::time::timeout(config.limits.timeouts.drain_timeout, sessions.wait()).await.is_err() {
        tracing::warn!(sessions = sessions.len(), "drain_timeout is over: the rest is cut");
    }
    workers.abort();
    ready.abort_all();
    // Outcomes of branches that the coordinator has not read yet; without them it would have to ask
    if coordinator.is_connected()
        && let Err(error) = coordinator.flush().await
    {
        tracing::warn!(%error, "reports were not read by the coordinator");
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), services.wait()).await;
    Ok(())
}

/// File descriptors beside those of clients: listeners, the coordinator, the service account's connections.
const OTHER_FILES: u64 = 100;

/// Raises the number of files that this process may have open to what the system allows it. Says whether that is
/// enough for the clients that may come.
fn raise_file_limit(config: &Config) {
    let Rlimit { current: was, maximum } = getrlimit(Resource::Nofile);
    if was != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    tracing::info!(open_files, was = was.unwrap_or(u64::MAX), "limit of open files");
    // A client's connection and its own connection to the server
    let clients = (config.limits.max_connections as u64).saturating_mul(2 * config.backend.len() as u64);
    let needed = clients.saturating_add(OTHER_FILES);
    if open_files < needed {
        tracing::warn!(
            open_files,
            needed,
            "limits.max_connections of every backend cannot be reached: too few files may be open"
        );
    }
}

/// Reads the listeners' certificates again, for connections to come.
fn reload_certificates(backends: &[Arc<Backend>]) {
    for backend in backends {
        let Some(tls) = &backend.listen_tls else { continue };
        match tls.reload() {
            Ok(()) => tracing::info!(backend = backend.name, "certificates reloaded"),
            Err(KeyError { key, reason }) => {
                tracing::error!(backend = backend.name, key, reason, "the former certificates stay in use");
            }
        }
    }
}

async fn give_out_work(backends: Arc<Vec<Arc<Backend>>>, mut queue: mpsc::Receiver<Work>) {
    while let Some(work) = queue.recv().await {
        match backends.iter().find(|b| b.name == work.resource) {
            Some(backend) => {
                tokio::spawn(phase_two::run(backend.clone(), work));
            }
            None => tracing::error!(work.resource, "work for a resource that this proxy does not have"),
        }
    }
}

/// Unique for each start of the process.
fn proxy_id() -> String {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("proxy-{}-{nanos:x}", std::process::id())
}
