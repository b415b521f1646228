//! The service account's connections. Each begins with the settings of [`atone_undo::connection_setup`], and keeps
//! them.
//!
//! A server session keeps the rights that the account had when the session began: new grants on all schemas, and by
//! roles, come later or never. So all connections are given up when the account's rights have changed
//! ([`KnownRights`]).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atone_undo::connection_setup;
use atone_wire::error_code::{ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Pool, SslOpts};

use crate::reader::Reader;
use crate::rights::{KnownRights, MAX_TRIES, RIGHTS_SQL, RightsChanged, parse_rights, read_rights};
use crate::rows::Typed;

/// How many read-only connections are kept.
pub const MAX_READERS: usize = 4;
/// How often connections that should stand ready are opened.
const READY_INTERVAL: Duration = Duration::from_secs(1);
/// Makes a connection that was used before like a new one.
const RENEW_SQL: [&str; 2] =
    ["ROLLBACK", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE"];

/// TLS of the service account's connections. It is not used on Unix sockets.
#[derive(Clone, Debug)]
pub struct ServiceTls {
    /// What the driver needs.
    pub options: SslOpts,
    /// A server that offers no TLS is used without it.
    pub is_optional: bool,
}

/// The service account's connections.
#[derive(Clone, Debug)]
pub struct ServicePool {
    options: Opts,
    /// For a server that offers no TLS, where that is optional.
    plain_options: Option<Opts>,
    rights: KnownRights,
    pools: Arc<Mutex<Pools>>,
    /// How many connections stand ready, whatever the server has left for others.
    ready: usize,
    /// Held while two connections are taken.
    pairs: Arc<tokio::sync::Mutex<()>>,
}

/// Whether the server takes no more connections.
fn is_full(error: &Error) -> bool {
    const FULL: [u16; 3] = [ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED];
    matches!(error, Error::Server(e) if FULL.contains(&e.code))
}

/// Connections that were all opened under the same version of the rights.
#[derive(Debug)]
struct Pools {
    version: u64,
    pool: Pool,
    plain: Option<Pool>,
    /// Read-only connections that are not in use.
    readers: Vec<Conn>,
}

impl Pools {
    fn new(version: u64, options: &Opts, plain: Option<&Opts>) -> Pools {
        let pool = |options: &Opts| Pool::new(options.clone());
        Pools { version, pool: pool(options), plain: plain.map(pool), readers: Vec::new() }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServicePool {
    /// Connects nowhere yet. `ready` is the least number of connections of the options' pool.
    pub fn new(options: OptsBuilder, tls: Option<ServiceTls>, ready: usize) -> ServicePool {
        let known = KnownRights::default();
        let noted = known.clone();
        let options = options.after_connect(move |conn| {
            let noted = noted.clone();
            Box::pin(async move {
                for statement in connection_setup() {
                    conn.query_drop(statement).await?;
                }
                let rights = read_rights(conn).await?;
                // A change of them is found out before the connection is used
                noted.note(rights);
                Ok(())
            })
        });
        let plain = Opts::from(options.clone());
        let (options, plain_options) = match tls.filter(|_| plain.socket().is_none()) {
            None => (plain, None),
            Some(tls) => (Opts::from(options.ssl_opts(Some(tls.options))), tls.is_optional.then_some(plain)),
        };
        let pools = Arc::new(Mutex::new(Pools::new(0, &options, plain_options.as_ref())));
        ServicePool { options, plain_options, rights: known, pools, ready, pairs: Arc::default() }
    }

    /// The present connections; those from under other rights are given up.
    fn pools(&self) -> MutexGuard<'_, Pools> {
        let version = self.rights.version();
        let mut pools = locked(&self.pools);
        if pools.version < version {
            *pools = Pools::new(version, &self.options, self.plain_options.as_ref());
        }
        pools
    }

    /// A connection for a read that depends on the account's rights.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn reader(&self) -> Result<Reader, Error> {
        let version = self.rights.version();
        Ok(Reader::new(self.get_conn().await?, version, &self.rights))
    }

    /// Reads on a read-only connection. These stay apart from the pool: to take a connection from there and to give it
    /// back takes longer than a read. They must not write: MariaDB calls functions when it shows a view whose
    /// definition has them among the arguments of some built-in functions.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn read_only<T, F>(&self, read: impl Fn(Reader) -> F) -> Result<T, Error>
    where
        F: Future<Output = (Reader, Result<T, Error>)> + Send,
    {
        let since = self.rights.version();
        loop {
            let (kept, version) = {
                let mut pools = self.pools();
                (pools.readers.pop(), pools.version)
            };
            let was_kept = kept.is_some();
            let conn = match kept {
                Some(conn) => conn,
                None => {
                    let mut conn = self.get_conn().await?;
                    conn.query_drop("SET SESSION TRANSACTION READ ONLY").await?;
                    conn
                }
            };
            let (reader, result) = read(Reader::new(conn, since, &self.rights)).await;
            match &result {
                Ok(_) | Err(Error::Server(_)) => {
                    let mut pools = self.pools();
                    if pools.version == version && pools.readers.len() < MAX_READERS {
                        pools.readers.push(reader.into_conn());
                    }
                }
                Err(Error::Other(_)) => {}
                // The server has closed the connection since it was last used
                Err(_) if was_kept => continue,
                Err(_) => {}
            }
            return result;
        }
    }

    /// A connection whose packets may be as long as the server's global `max_allowed_packet` says now. A connection of
    /// the pool has the value from when it was opened.
    ///
    /// # Errors
    /// What the server or the system says.
    async fn current_conn(&self) -> Result<Conn, Error> {
        loop {
            let mut conn = self.get_conn().await?;
            let sizes: Option<(u64, u64)> = conn
                .first_text_row("SELECT @@SESSION.max_allowed_packet, @@GLOBAL.max_allowed_packet LIMIT 1")
                .await?;
            match sizes {
                Some((own, global)) if own < global => conn.disconnect().await?,
                _ => return Ok(conn),
            }
        }
    }

    /// Two connections, the first as [`ServicePool::current_conn`], the second for reads that depend on the account's
    /// rights.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn pair(&self) -> Result<(Conn, Reader), Error> {
        // If everybody took one and waited for another, a server with few connections left would serve nobody
        let _turn = self.pairs.lock().await;
        let first = self.current_conn().await?;
        for _ in 0..MAX_TRIES {
            let version = self.rights.version();
            let conn = self.get_conn().await?;
            if self.rights.version() == version {
                return Ok((first, Reader::new(conn, version, &self.rights)));
            }
        }
        Err(RightsChanged.into())
    }

    /// A connection of the pool, or a new one.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn get_conn(&self) -> Result<Conn, Error> {
        let (mut tries, mut worn) = (1, 0);
        loop {
            let (got, version) = self.checkout().await;
            let kept = match &got {
                Err(e) if is_full(e) => self.pools().readers.pop(),
                _ => None,
            };
            let mut conn = kept.map_or(got, Ok)?;
            match self.renew(&mut conn).await {
                Ok(()) => {}
                // The server has ended it since it was last used
                Err(_) if worn < self.ready + MAX_READERS => {
                    worn += 1;
                    let _ = conn.disconnect().await;
                    continue;
                }
                Err(e) => return Err(e),
            }
            if self.rights.version() == version {
                return Ok(conn);
            }
            if tries == MAX_TRIES {
                return Err(RightsChanged.into());
            }
            tries += 1;
        }
    }

    /// A connection as it is, and the version of the rights under which it was opened.
    async fn checkout(&self) -> (Result<Conn, Error>, u64) {
        let (pool, plain, version) = {
            let pools = self.pools();
            (pools.pool.clone(), pools.plain.clone(), pools.version)
        };
        let conn = match (pool.get_conn().await, plain) {
            (Err(Error::Driver(DriverError::NoClientSslFlagFromServer)), Some(plain)) => {
                plain.get_conn().await
            }
            // It has not said whether it offers TLS, and connections without may stand ready
            (Err(e), Some(plain)) if is_full(&e) => plain.get_conn().await,
            (got, _) => got,
        };
        (conn, version)
    }

    /// Makes a connection like a new one: without a transaction that was left open, or a level for the next one. The
    /// account's rights are asked for as well: the connection keeps those that it began with.
    async fn renew(&self, conn: &mut Conn) -> Result<(), Error> {
        let ([rollback, level], [show_grants, literal]) = (RENEW_SQL, RIGHTS_SQL);
        let [_, _, grants, literal] = conn.results([rollback, level, show_grants, literal]).await?;
        self.rights.note(parse_rights(grants, literal)?);
        Ok(())
    }

    /// Keeps connections ready, for work that must go on while clients hold all other connections that the server
    /// takes.
    pub async fn keep_ready(&self, connect_timeout: Duration) {
        if self.ready == 0 {
            return;
        }
        let mut complete = true;
        loop {
            let why = match tokio::time::timeout(connect_timeout, self.make_ready()).await {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e.to_string()),
                Err(_) => Some("no answer in connect_timeout".into()),
            };
            if let Some(why) = why.as_ref().filter(|_| complete) {
                tracing::warn!(why, "fewer than min_service_connections stand ready");
            }
            complete = why.is_none();
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// Opens what is missing of the connections that stand ready. The pool finds out which of them the server has
    /// closed: it checks each before it hands it out.
    async fn make_ready(&self) -> Result<(), Error> {
        let wanted = {
            let pools = self.pools();
            let in_use = |pool: &Pool| pool.metrics().connections_in_use.load(Ordering::Relaxed);
            let in_use = in_use(&pools.pool) + pools.plain.as_ref().map_or(0, in_use);
            // Read-only connections do not come back to the pool
            let come_back = in_use.saturating_sub(pools.readers.len());
            self.ready.saturating_sub(come_back)
        };
        let mut held = Vec::with_capacity(wanted);
        for _ in 0..wanted {
            held.push(self.checkout().await.0?);
        }
        Ok(())
    }
}
