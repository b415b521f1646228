//! The service account's connections. Each begins with the settings of [`atone_undo::connection_setup`], and keeps them.
//!
//! A server session keeps the rights that the account had when the session began: new grants on all schemas, and by roles, come
//! later or never. So a change of the account's rights makes all connections be closed and opened anew. The rights have a
//! version, which counts their changes. Each read that depends on rights notes the version before it gets its connection, and
//! compares it with the version behind the read: [`Reader`] does both.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atone_facts::{MetaError, Rights, TableInfo};
use atone_undo::connection_setup;
use atone_wire::error_code::{ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Pool, Row, SslOpts};

use crate::batch::{TableId, read_all};
use crate::error::service_error;
use crate::rights::{RIGHTS_SQL, parse_rights, read_rights};
use crate::rows::Typed;

/// How many read-only connections are kept.
pub const MAX_READERS: usize = 4;
/// How often a read is tried while the account's rights change.
const MAX_TRIES: usize = 3;
/// How often connections that should stand ready are opened.
const READY_INTERVAL: Duration = Duration::from_secs(1);
/// Makes a connection that was used before like a new one.
const RENEW_SQL: [&str; 2] =
    ["ROLLBACK", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE"];

/// The account's rights changed during a read.
#[derive(Debug, thiserror::Error)]
#[error("the service account's rights have changed meanwhile")]
struct RightsChanged;

impl From<RightsChanged> for Error {
    fn from(changed: RightsChanged) -> Error {
        Error::Other(Box::new(changed))
    }
}

fn is_rights_change(error: &Error) -> bool {
    matches!(error, Error::Other(error) if error.is::<RightsChanged>())
}

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
    known: Arc<Mutex<Known>>,
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

/// The account's rights, as last read.
#[derive(Debug, Default)]
struct Known {
    rights: Option<Arc<Rights>>,
    /// How often they have changed.
    version: u64,
}

impl Known {
    /// Notes the rights as they are now. Returns whether they are those that were known.
    fn note(&mut self, rights: Rights) -> bool {
        let same = self.rights.as_ref().is_none_or(|known| **known == rights);
        if !same || self.rights.is_none() {
            self.version += u64::from(!same);
            self.rights = Some(Arc::new(rights));
        }
        same
    }
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
        let known = Arc::new(Mutex::new(Known::default()));
        let noted = known.clone();
        let options = options.after_connect(move |conn| {
            let noted = noted.clone();
            Box::pin(async move {
                for statement in connection_setup() {
                    conn.query_drop(statement).await?;
                }
                let rights = read_rights(conn).await?;
                // A change of them is found out before the connection is used
                locked(&noted).note(rights);
                Ok(())
            })
        });
        let plain = Opts::from(options.clone());
        let (options, plain_options) = match tls.filter(|_| plain.socket().is_none()) {
            None => (plain, None),
            Some(tls) => (Opts::from(options.ssl_opts(Some(tls.options))), tls.is_optional.then_some(plain)),
        };
        let pools = Arc::new(Mutex::new(Pools::new(0, &options, plain_options.as_ref())));
        ServicePool { options, plain_options, known, pools, ready, pairs: Arc::default() }
    }

    /// The present connections; those from under other rights are given up.
    fn pools(&self) -> MutexGuard<'_, Pools> {
        let version = self.version();
        let mut pools = locked(&self.pools);
        if pools.version < version {
            *pools = Pools::new(version, &self.options, self.plain_options.as_ref());
        }
        pools
    }

    /// The version of the rights.
    fn version(&self) -> u64 {
        locked(&self.known).version
    }

    /// A connection for a read that depends on the account's rights.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn reader(&self) -> Result<Reader, Error> {
        let version = self.version();
        Ok(self.reader_since(version, self.get_conn().await?))
    }

    /// The connection was got when the rights had this version, or later.
    fn reader_since(&self, version: u64, conn: Conn) -> Reader {
        Reader { conn, version, known: self.known.clone() }
    }

    /// Reads again where the account's rights have changed meanwhile.
    ///
    /// # Errors
    /// What the last try says.
    pub(crate) async fn retry<T, F>(read: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut tries = 1;
        loop {
            match read().await {
                Err(e) if tries < MAX_TRIES && is_rights_change(&e) => tries += 1,
                result => return result,
            }
        }
    }

    /// Reads on a read-only connection. These stay apart from the pool: to take a connection from there and to give it back
    /// takes longer than a read. They must not write: MariaDB calls functions when it shows a view whose definition has them
    /// among the arguments of some built-in functions.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn read_only<T, F>(&self, read: impl Fn(Reader) -> F) -> Result<T, Error>
    where
        F: Future<Output = (Reader, Result<T, Error>)> + Send,
    {
        let since = self.version();
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
            let (reader, result) = read(self.reader_since(since, conn)).await;
            match &result {
                Ok(_) | Err(Error::Server(_)) => {
                    let mut pools = self.pools();
                    if pools.version == version && pools.readers.len() < MAX_READERS {
                        pools.readers.push(reader.conn);
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

    /// A connection whose packets may be as long as the server's global `max_allowed_packet` says now. A connection of the pool
    /// has the value from when it was opened.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn conn_of_now(&self) -> Result<Conn, Error> {
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

    /// Two connections, the first as [`ServicePool::conn_of_now`], the second for reads that depend on the account's rights.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn pair(&self) -> Result<(Conn, Reader), Error> {
        // If everybody took one and waited for another, a server with few connections left would serve nobody
        let _turn = self.pairs.lock().await;
        let first = self.conn_of_now().await?;
        for _ in 0..MAX_TRIES {
            let version = self.version();
            let conn = self.get_conn().await?;
            if self.version() == version {
                return Ok((first, self.reader_since(version, conn)));
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
            if self.version() == version {
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

    /// Makes a connection like a new one: without a transaction that was left open, or a level for the next one. The account's
    /// rights are asked for as well: the connection keeps those that it began with.
    async fn renew(&self, conn: &mut Conn) -> Result<(), Error> {
        let ([rollback, level], [show_grants, literal]) = (RENEW_SQL, RIGHTS_SQL);
        let [_, _, grants, literal] = conn.results([rollback, level, show_grants, literal]).await?;
        locked(&self.known).note(parse_rights(grants, literal)?);
        Ok(())
    }

    /// Keeps connections ready, for work that must go on while clients hold all other connections that the server takes.
    pub async fn keep_ready(&self, connect_timeout: Duration) {
        if self.ready == 0 {
            return;
        }
        let mut complete = true;
        loop {
            let why = match tokio::time::timeout(connect_timeout, self.make_ready()).await {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e.to_string()),
                Err(_) => Some("no answer in connect_timeout_ms".into()),
            };
            if let Some(why) = why.as_ref().filter(|_| complete) {
                tracing::warn!(why, "fewer than min_service_connections stand ready");
            }
            complete = why.is_none();
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// Opens what is missing of the connections that stand ready. The pool finds out which of them the server has closed: it
    /// checks each before it hands it out.
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

/// A connection for reads that depend on the account's rights. It knows the version that these had when it was got.
#[derive(Debug)]
pub struct Reader {
    conn: Conn,
    version: u64,
    known: Arc<Mutex<Known>>,
}

impl Reader {
    /// The account's rights, by the server's answers to [`RIGHTS_SQL`] behind a read.
    ///
    /// # Errors
    /// They are others than the connection may have begun with: see [`ServicePool::retry`].
    pub(crate) fn rights(&self, grants: Vec<Row>, literal: Vec<Row>) -> Result<Arc<Rights>, Error> {
        self.current(parse_rights(grants, literal)?)
    }

    /// The same, asked for on this connection.
    pub(crate) async fn read_rights(&mut self) -> Result<Arc<Rights>, Error> {
        let rights = read_rights(&mut self.conn).await?;
        self.current(rights)
    }

    fn current(&self, rights: Rights) -> Result<Arc<Rights>, Error> {
        let mut known = locked(&self.known);
        match (known.note(rights), &known.rights) {
            (true, Some(rights)) if known.version == self.version => Ok(rights.clone()),
            _ => Err(RightsChanged.into()),
        }
    }

    /// Tables as they are now, without the foreign keys that point at them. A packet may be so many bytes long.
    ///
    /// # Errors
    /// [`MetaError`]
    pub async fn tables(
        &mut self,
        ids: &[TableId<'_>],
        packet_bytes: usize,
        mariadb: bool,
    ) -> Result<Vec<TableInfo>, MetaError> {
        read_all(self, ids, packet_bytes, mariadb).await.map_err(service_error)?
    }
}

impl Deref for Reader {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_others_count_as_a_change() {
        let rights = |grant: &str| Rights::parse(&[format!("GRANT {grant} ON *.* TO `a`@`%`")], false);
        let mut known = Known::default();
        assert!(known.note(rights("SELECT")) && known.note(rights("SELECT")) && known.version == 0);
        assert!(!known.note(rights("SELECT, TRIGGER")) && known.note(rights("SELECT, TRIGGER")));
        assert!(!known.note(rights("SELECT")) && known.version == 2);
    }

    #[tokio::test]
    async fn a_read_begins_again_where_the_rights_have_changed() {
        let count = std::cell::Cell::new(0);
        let read = |fails: usize| {
            count.set(0);
            let count = &count;
            ServicePool::retry(move || async move {
                count.set(count.get() + 1);
                if count.get() <= fails { Err(RightsChanged.into()) } else { Ok(()) }
            })
        };
        assert!(read(1).await.is_ok());
        assert_eq!(count.get(), 2);
        assert!(read(9).await.is_err());
        assert_eq!(count.get(), MAX_TRIES);
    }
}
