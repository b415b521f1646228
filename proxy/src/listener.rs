//! Accepts clients of one backend.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atone_wire::frame::put_packet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::error::SqlError;
use crate::net::Stream;
use crate::session::Session;

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counts a connection as long as it lives.
struct Counted(Arc<Backend>);

impl Drop for Counted {
    fn drop(&mut self) {
        let now = self.0.connections.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("atone_connections", "resource" => self.0.name.clone()).set(now as f64);
    }
}

/// Serves clients until `draining` turns true. Sessions are spawned on `sessions`.
pub async fn serve(
    backend: Arc<Backend>,
    listener: TcpListener,
    mut draining: watch::Receiver<bool>,
    sessions: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|d| *d) => return,
        };
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                accept_failed(&e).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let limit = backend.limits.max_connections;
        let now = backend.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let counted = Counted(backend.clone());
        metrics::gauge!("atone_connections", "resource" => backend.name.clone()).set(now as f64);
        metrics::counter!("atone_connections_total", "resource" => backend.name.clone()).increment(1);
        let (backend, draining) = (backend.clone(), draining.clone());
        sessions.spawn(async move {
            let _counted = counted;
            if now > limit {
                let mut out = Vec::new();
                put_packet(&mut out, 0, &SqlError::too_many_connections(limit).early_packet());
                let _ = stream.write_all(&out).await;
                let _ = stream.shutdown().await;
                return;
            }
            Session::serve(backend, Stream::Tcp(stream), draining).await;
        });
    }
}

async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "accept");
    // A connection that was reset meanwhile is no reason to pause; too many open files is
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
