//! One backend: its address, its service account's connections, and what is known of its tables.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use atone_api::Client;
use atone_config::KeyError;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, PoolConstraints, PoolOpts};
use tokio::sync::{OnceCell, Semaphore};

use atone_undo::{LOG_STATUS_MARKER, SESSION_IDLE_S, UNDO_LOG_TABLE, quote_identifier};

use crate::compressed::Compression;
use crate::config::{Address, BackendConfig, Limits, Network, ProxyProtocol};
use crate::memory::Memory;
use crate::meta::Metadata;
use crate::net::Stream;
use crate::own_user::OwnUser;
use crate::service::ServicePool;
use crate::tls::{self, Acceptor, Connector, ListenTls, ServerTlsMode, TlsOffer};
use crate::typed::Typed;
use crate::undo_logs::{UndoLogError, UndoLogs};
use crate::views::Views;
use crate::waits::Waits;

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
    /// The service account's connections.
    pub pool: ServicePool,
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
    /// What is known of tables.
    pub metadata: Metadata,
    /// How many client connections there are.
    pub connections: AtomicUsize,
    /// The bound sessions, and which of them wait for the server.
    pub(crate) waits: Waits,
    /// What is known of views.
    pub(crate) views: Views,
    /// Phase-two jobs at a time.
    pub phase_two: Semaphore,
    mariadb: OnceCell<bool>,
    undo_logs: UndoLogs,
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
        Ok(Backend {
            memory,
            name: config.name.clone(),
            limits: limits.clone(),
            pool: ServicePool::new(opts, &config.server_tls, ready),
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
            metadata: Metadata::default(),
            connections: AtomicUsize::new(0),
            waits: Waits::default(),
            views: Views::default(),
            phase_two: Semaphore::new(limits.phase_two_concurrency),
            mariadb: OnceCell::new(),
            undo_logs: UndoLogs::default(),
            swept: Mutex::default(),
        })
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
        let look = async {
            let mut conn = self.pool.get_conn().await?;
            conn.query_drop("DO 0").await
        };
        match tokio::time::timeout(self.limits.connect_timeout(), look).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("backend {}: {e}", self.name)),
            Err(_) => Err(format!("backend {}: no answer in connect_timeout", self.name)),
        }
    }

    /// Whether the server is MariaDB; asked once.
    ///
    /// # Errors
    /// What the server says to the service account.
    pub async fn is_mariadb(&self, conn: &mut Conn) -> Result<bool, mysql_async::Error> {
        let look = async {
            let version: Option<String> = conn.first_text_row("SELECT VERSION()").await?;
            Ok(version.unwrap_or_default().contains("MariaDB"))
        };
        self.mariadb.get_or_try_init(|| look).await.copied()
    }

    /// Looks whether the undo_log of a schema is fit for undo records, and makes it where it is missing.
    ///
    /// # Errors
    /// [`UndoLogError`]
    pub async fn ensure_undo_log(&self, schema: &str) -> Result<(), UndoLogError> {
        self.undo_logs.ensure(&self.pool, schema).await
    }

    /// Whether a branch's undo record is there, committed.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn has_undo_row(
        &self,
        schema: &str,
        xid: &str,
        branch_id: u64,
    ) -> Result<bool, mysql_async::Error> {
        let mut conn = self.pool.get_conn().await?;
        let undo_log = format!("{}.{UNDO_LOG_TABLE}", quote_identifier(schema));
        let sql = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ?");
        let status: Option<i32> = conn.first_row(sql, (branch_id, xid)).await?;
        Ok(status.is_some_and(|status| status != LOG_STATUS_MARKER))
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
}
