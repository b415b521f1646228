//! The process: arguments, logs, sockets, signals, and an orderly end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::store::embedded::EmbeddedStore;
use crate::{http, metrics, rpc};

/// How long requests that are under way may take once the daemon is to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// The coordinator of global transactions.
#[derive(Debug, Parser)]
#[command(name = "atone-coordinator", version, about)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The format of the logs, which go to stderr. RUST_LOG sets their levels.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The whole program: 0 after an orderly end, 2 for a configuration that can't be used, 1 for anything else.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("atone-coordinator: {error}");
            return ExitCode::from(2);
        }
    };
    start_logs(args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("atone-coordinator: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(config));
    // What still runs has had its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr);
    // It fails only when logs were started before.
    let _ = match format {
        LogFormat::Text => logs.try_init().is_ok(),
        LogFormat::Json => logs.json().try_init().is_ok(),
    };
}

/// Serves until a signal or a failure.
async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ending = CancellationToken::new();
    let shared = http::Shared {
        coordinator: Arc::new(OnceLock::new()),
        metrics: metrics::install()?,
        ending: ending.clone(),
    };
    // HTTP first: it answers that the rest is not ready yet.
    let http_listener =
        TcpListener::bind(&config.http).await.with_context(|| format!("listen.http {}", config.http))?;
    let http_address = http_listener.local_addr()?;
    let http_server = axum::serve(http_listener, http::router(shared.clone()))
        .with_graceful_shutdown(ending.clone().cancelled_owned());
    let http_server = tokio::spawn(http_server.into_future());

    let opened = tokio::task::spawn_blocking({
        let (path, core, ending) = (config.store_path.clone(), config.core.clone(), ending.clone());
        move || Coordinator::open(Box::new(EmbeddedStore::open(&path)?), core, ending)
    });
    let (coordinator, journal) = opened.await??;

    let rpc_listener =
        TcpListener::bind(&config.rpc).await.with_context(|| format!("listen.rpc {}", config.rpc))?;
    let rpc_address = rpc_listener.local_addr()?;
    let rpc_server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_adaptive_window(Some(true))
        .add_service(rpc::service(coordinator.clone()))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(rpc_listener).with_nodelay(Some(true)),
            ending.clone().cancelled_owned(),
        );
    let rpc_server = tokio::spawn(rpc_server);
    let timers = tokio::spawn(coordinator.clone().run_timers());
    let failed = coordinator.failed().clone();
    let is_set = shared.coordinator.set(coordinator.clone()).is_ok();
    debug_assert!(is_set, "it is set once");
    tracing::info!("listening rpc={rpc_address} http={http_address}");

    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
        _ = interrupt.recv() => tracing::info!("SIGINT: ending"),
        () = failed.cancelled() => {}
    }
    ending.cancel();
    coordinator.hub().end_streams();
    let servers = async {
        let (http, rpc, timers) = tokio::join!(http_server, rpc_server, timers);
        for error in [http.err(), rpc.err(), timers.err()].into_iter().flatten() {
            tracing::warn!(%error, "a server did not end as it should");
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, servers).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    close(coordinator, shared, journal).await;
    if failed.is_cancelled() {
        anyhow::bail!("the coordinator failed; it has to be started again");
    }
    tracing::info!("ended");
    Ok(())
}

/// Lets the journal write what is left and close the store.
async fn close(coordinator: Arc<Coordinator>, shared: http::Shared, journal: std::thread::JoinHandle<()>) {
    coordinator.close();
    drop(coordinator);
    drop(shared);
    let joined = tokio::task::spawn_blocking(move || journal.join());
    match tokio::time::timeout(Duration::from_secs(1), joined).await {
        Ok(Ok(Ok(()))) => {}
        Ok(_) => tracing::error!("the writer's thread panicked"),
        // What was answered is durable all the same; the store is repaired at the next start.
        Err(_) => tracing::warn!("the store could not be closed in time"),
    }
}
