//! Accepts clients of one backend.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atone_wire::frame::put_packet;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::config::Listen;
use crate::net::{Peer, Stream, tune};
use crate::session::Session;
use atone_capture::error::SqlError;

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long somebody behind a socket file may take to show that he is there.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// Who may connect to a Unix socket: everybody, as with the servers' own. The server asks for a password.
const SOCKET_MODE: u32 = 0o777;

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket, whose file goes with it.
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file; removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |m: std::fs::Metadata| (m.dev(), m.ino()) == (self.device, self.inode);
        if std::fs::symlink_metadata(&self.path).is_ok_and(same)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the socket's file is left behind");
        }
    }
}

impl Listener {
    /// Opens a listener. The file of a socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` where somebody listens there, or a file that is no socket has that name.
    pub async fn bind(listen: &Listen) -> io::Result<Listener> {
        let path = match listen {
            Listen::Tcp(address) => return Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => path,
        };
        let listener = match UnixListener::bind(path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_stale(path).await => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        let metadata = std::fs::symlink_metadata(path)?;
        let file = SocketFile { path: path.clone(), device: metadata.dev(), inode: metadata.ino() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        Ok(Listener::Unix(listener, file))
    }

    /// Where it listens, as the configuration has it, with the port that it got.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<Listen> {
        match self {
            Listener::Tcp(listener) => Ok(Listen::Tcp(listener.local_addr()?)),
            Listener::Unix(_, file) => Ok(Listen::Unix(file.path.clone())),
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer { address: Some(address), local: stream.local_addr().ok() };
                Ok((Stream::Tcp(stream), peer))
            }
            Listener::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), Peer::default())),
        }
    }
}

/// Whether this is a socket that nobody listens on.
async fn is_stale(path: &Path) -> bool {
    if !std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        return false;
    }
    let probe = tokio::time::timeout(PROBE_LIMIT, UnixStream::connect(path)).await;
    matches!(probe, Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused)
}

/// Counts a connection as long as it lives.
struct Counted(Arc<Backend>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("atone_connections", "resource" => self.0.name.clone()).decrement(1.0);
    }
}

/// Serves clients until `draining` turns true. Sessions are spawned on `sessions`.
pub async fn serve(
    backend: Arc<Backend>,
    listener: Listener,
    mut draining: watch::Receiver<bool>,
    sessions: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|d| *d) => return,
        };
        let (mut stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                accept_failed(&e).await;
                continue;
            }
        };
        if let Stream::Tcp(stream) = &stream
            && let Err(error) = tune(stream, backend.limits.tcp_keepalive())
        {
            tracing::debug!(%error, "socket options");
        }
        let limit = backend.limits.max_connections;
        let now = backend.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let counted = Counted(backend.clone());
        metrics::gauge!("atone_connections", "resource" => backend.name.clone()).increment(1.0);
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
            Session::serve(backend, stream, peer, draining).await;
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
