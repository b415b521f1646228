//! One backend: its address, its service account, and what its sessions share.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atone_api::Client;
use atone_catalog::{Catalog, ServiceTls};
use atone_config::KeyError;
use atone_undo::SESSION_IDLE_S;
use mysql_async::{OptsBuilder, PoolConstraints, PoolOpts};
use tokio::sync::Semaphore;

use crate::compressed::Compression;
use crate::config::{Address, BackendConfig, Limits, Network, ProxyProtocol};
use crate::memory::Memory;
use crate::net::Stream;
use crate::own_user::OwnUser;
use crate::tls::{self, Acceptor, Connector, ListenTls, ServerTlsMode, TlsOffer};
use crate::waits::{Activity, Bound, Waits};

/// One backend, shared by its sessions and by phase two.
pub struct Backend {
    /// The resource's name.
    pub name: String,
    /// The server.
    pub address: Address,
    /// Bounds.
    pub limits: Limits,
    /// What images may take of the process's memory.
    pub memory: Memory,
    /// The service account: its connections, and what it knows of tables.
    pub catalog: Catalog,
    /// TLS with applications, unless it is off.
    pub listen_tls: Option<Acceptor>,
    /// Whether the configuration asks for it, so that it is offered whatever the server offers.
    pub listen_tls_asked_for: bool,
    /// TLS with the server, unless it is disabled.
    pub server_tls: Option<Connector>,
    /// When TLS with the server is used.
    pub server_tls_mode: ServerTlsMode,
    /// Compression on both legs.
    pub compression: Compression,
    /// The networks whose connections begin with a PROXY header.
    pub listen_proxy_protocol: Vec<Network>,
    /// The PROXY header that connections to the server begin with.
    pub server_proxy_protocol: Option<ProxyProtocol>,
    /// This process's user, as a server behind a Unix socket sees it.
    pub own_user: Option<OwnUser>,
    /// The coordinator.
    pub coordinator: Client,
    /// How many client connections there are.
    pub connections: AtomicUsize,
    /// The bound sessions, and which of them wait for the server.
    pub(crate) waits: Arc<Waits>,
    /// Phase-two jobs at a time.
    pub phase_two: Semaphore,
    swept: Mutex<HashMap<String, Instant>>,
}

/// The longest packet that the service account's connections read, in bytes: the protocol's own limit.
const MAX_SERVICE_PACKET_BYTES: usize = 1 << 30;
/// How often old markers are looked for in each undo_log.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Backend {
    /// Sets a backend up; connects nowhere yet.
    ///
    /// # Errors
    /// An address that does not parse.
    pub fn new(
        config: &BackendConfig,
        limits: &Limits,
        memory: Memory,
        coordinator: Client,
    ) -> Result<Backend, String> {
        let address = config.address.clone();
        let ready = limits.min_service_connections;
        // More than the least are closed when they are given back
        let constraints = PoolConstraints::new(ready, limits.max_service_connections())
            .ok_or("limits.min_service_connections")?;
        let mut opts = OptsBuilder::default()
            .user(Some(&config.user))
            .pass(Some(&config.secret))
            .prefer_socket(false)
            .tcp_keepalive(limits.tcp_keepalive())
            .client_found_rows(true)
            // What it may send is asked of the server; a row that it reads may be longer
            .max_allowed_packet(Some(MAX_SERVICE_PACKET_BYTES))
            .wait_timeout(Some(SESSION_IDLE_S))
            .stmt_cache_size(64)
            .pool_opts(PoolOpts::default().with_constraints(constraints).with_reset_connection(false));
        opts = match &address {
            Address::Tcp(host, port) => opts.ip_or_hostname(host).tcp_port(*port),
            Address::Unix(path) => opts.socket(Some(path.display().to_string())),
        };
        tls::install_crypto();
        let said = |e: KeyError| format!("{}.{e}", config.name);
        let own = config.own_certificate.clone();
        let listen_tls = match &config.listen_tls {
            TlsOffer::Always(tls) => Some(Acceptor::new(tls.clone(), own)),
            TlsOffer::AsServer if own.is_some() => Some(Acceptor::new(ListenTls::default(), own)),
            TlsOffer::AsServer | TlsOffer::Off => None,
        };
        let tls = tls::service_options(&config.server_tls).map(|options| ServiceTls {
            options,
            // This account is no client's: it takes what it can get
            is_optional: matches!(config.server_tls.mode, ServerTlsMode::Preferred | ServerTlsMode::AsClient),
        });
        Ok(Backend {
            memory,
            name: config.name.clone(),
            limits: limits.clone(),
            catalog: Catalog::new(opts, tls, ready),
            listen_tls: listen_tls.transpose().map_err(said)?,
            listen_tls_asked_for: matches!(config.listen_tls, TlsOffer::Always(_)),
            server_tls: Connector::new(&config.server_tls, &address).map_err(said)?,
            server_tls_mode: config.server_tls.mode,
            compression: Compression::new(config),
            listen_proxy_protocol: config.listen_proxy_protocol.clone(),
            server_proxy_protocol: config.server_proxy_protocol,
            own_user: match &address {
                Address::Tcp(..) => None,
                Address::Unix(_) => Some(OwnUser::find()?),
            },
            address,
            coordinator,
            connections: AtomicUsize::new(0),
            waits: Arc::default(),
            phase_two: Semaphore::new(limits.phase_two_concurrency),
            swept: Mutex::default(),
        })
    }

    /// Bounds of what sessions capture.
    pub(crate) fn capture_limits(&self) -> atone_capture::Limits {
        atone_capture::Limits {
            max_branch_rows: self.limits.max_branch_rows,
            max_branch_bytes: self.limits.max_branch_bytes,
            max_statement_bytes: self.limits.max_statement_bytes,
            undo_compress_bytes: self.limits.undo_compress_bytes,
            metadata_ttl: self.limits.metadata_ttl(),
        }
    }

    /// Connects to the server for a client.
    ///
    /// # Errors
    /// What the system says, or `TimedOut` after `connect_timeout`.
    pub async fn connect(&self) -> io::Result<Stream> {
        let keepalive = self.limits.tcp_keepalive();
        tokio::time::timeout(self.limits.connect_timeout(), Stream::connect(&self.address, keepalive)).await?
    }

    /// Whether the service account can log in and be answered.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), String> {
        match tokio::time::timeout(self.limits.connect_timeout(), self.catalog.ping()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("backend {}: {e}", self.name)),
            Err(_) => Err(format!("backend {}: no answer in connect_timeout", self.name)),
        }
    }

    /// Whether an hour has passed since old markers were deleted from this table; the caller does it then.
    pub fn is_sweep_due(&self, undo_log: &str) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = swept.get(undo_log).is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL);
        if due {
            swept.insert(undo_log.to_string(), Instant::now());
        }
        due
    }

    /// Lists a session as bound, as long as what is returned is there.
    pub(crate) fn list_bound(&self, activity: &Arc<Activity>, xid: &str) -> Arc<Bound> {
        self.waits.list_bound(activity, xid)
    }
}
