//! The service account's connections. Each begins with the settings of [`atone_undo::connection_setup`], and keeps them.
//!
//! A session goes on with rights that the account had when it began: what is granted on all schemas, and by roles, comes
//! later or never. So where the account's rights are others than they were, all connections are given up, and what may be
//! seen is what the account's grants are: [`ServicePool::begin`] and [`ServicePool::judged`] stand around each look.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atone_undo::connection_setup;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Pool};

use crate::rights::{RIGHTS_SQL, Rights};
use crate::tls::{self, ServerTls, ServerTlsMode};
use crate::typed::Typed;

/// How many connections are kept for looks.
pub(crate) const MAX_LOOKING: usize = 4;
/// How often a look begins again since the account's rights have changed meanwhile.
const MAX_TRIES: usize = 3;
/// How often it is seen to that connections stand ready.
const READY_INTERVAL: Duration = Duration::from_secs(1);
/// Makes a connection that was used before what a new one is.
const RENEW_SQL: [&str; 2] =
    ["ROLLBACK", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE"];
/// Why it does.
const CHANGED: &str = "the service account's rights have changed meanwhile";

/// Makes the next SELECT see what others have committed, and nothing else, whatever the server's default isolation level is.
///
/// # Errors
/// What the server says.
pub async fn see_committed(conn: &mut Conn) -> Result<(), Error> {
    // For one transaction, which the SELECT is: the connection is shared with phase two
    conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await
}

/// What has kept the service account from its work, in the words of the server, the driver or the system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServiceError {
    /// Code and message, where it is the server that has said it.
    pub(crate) server: Option<(u16, String)>,
    text: String,
}

impl ServiceError {
    /// The server's code.
    pub fn code(&self) -> Option<u16> {
        self.server.as_ref().map(|(code, _)| *code)
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> ServiceError {
        let server = match &error {
            Error::Server(e) => Some((e.code, e.message.clone())),
            _ => None,
        };
        ServiceError { server, text: error.to_string() }
    }
}

/// The service account's connections, with TLS as `server_tls` says.
#[derive(Clone, Debug)]
pub struct ServicePool {
    /// As they are wanted.
    options: Opts,
    /// For a server that does not offer TLS, where it is only preferred.
    plain_options: Option<Opts>,
    known: Arc<Mutex<Known>>,
    pools: Arc<Mutex<Pools>>,
    /// How many connections stand ready, whatever the server has left for others.
    ready: usize,
    /// Who takes two connections has this meanwhile.
    pairs: Arc<tokio::sync::Mutex<()>>,
}

/// Whether the server takes no more connections: `ER_CON_COUNT_ERROR`, `ER_TOO_MANY_USER_CONNECTIONS`, `ER_USER_LIMIT_REACHED`.
fn is_full(error: &Error) -> bool {
    matches!(error, Error::Server(e) if matches!(e.code, 1040 | 1203 | 1226))
}

/// What the account may do.
#[derive(Debug, Default)]
struct Known {
    rights: Option<Arc<Rights>>,
    /// How often they were others than before.
    changes: u64,
}

impl Known {
    /// Takes note of the rights as they are now; whether they are those that were known.
    fn note(&mut self, rights: Rights) -> bool {
        let same = self.rights.as_ref().is_none_or(|known| **known == rights);
        if !same || self.rights.is_none() {
            self.changes += u64::from(!same);
            self.rights = Some(Arc::new(rights));
        }
        same
    }
}

/// Connections that were all made under the same rights.
#[derive(Debug)]
struct Pools {
    changes: u64,
    pool: Pool,
    plain: Option<Pool>,
    /// Connections that have looked at something, and will again.
    looking: Vec<Conn>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServicePool {
    /// Connects nowhere yet. `ready` is the least number of connections of the options' pool.
    pub fn new(options: OptsBuilder, server_tls: &ServerTls, ready: usize) -> ServicePool {
        let known = Arc::new(Mutex::new(Known::default()));
        let noted = known.clone();
        let options = options.after_connect(move |conn| {
            let noted = noted.clone();
            Box::pin(async move {
                for statement in connection_setup() {
                    conn.query_drop(statement).await?;
                }
                let rights = Rights::read(conn).await?;
                // Where they are others it is found out before the connection is used
                locked(&noted).note(rights);
                Ok(())
            })
        });
        let plain = Opts::from(options.clone());
        let ssl = tls::service_options(server_tls).filter(|_| plain.socket().is_none());
        let (options, plain_options) = match ssl {
            None => (plain, None),
            Some(ssl) => {
                // This account is no client's: it takes what it can get
                let preferred = matches!(server_tls.mode, ServerTlsMode::Preferred | ServerTlsMode::AsClient);
                (Opts::from(options.ssl_opts(Some(ssl))), preferred.then_some(plain))
            }
        };
        let pools = Pools {
            changes: 0,
            pool: Pool::new(options.clone()),
            plain: plain_options.clone().map(Pool::new),
            looking: Vec::new(),
        };
        let pools = Arc::new(Mutex::new(pools));
        ServicePool { options, plain_options, known, pools, ready, pairs: Arc::default() }
    }

    /// The connections of now; those from under other rights are given up.
    fn pools(&self) -> MutexGuard<'_, Pools> {
        let changes = locked(&self.known).changes;
        let mut pools = locked(&self.pools);
        if pools.changes < changes {
            *pools = Pools {
                changes,
                pool: Pool::new(self.options.clone()),
                plain: self.plain_options.clone().map(Pool::new),
                looking: Vec::new(),
            };
        }
        pools
    }

    /// What stands in front of a look that depends on the account's rights, and is given to [`ServicePool::judged`].
    pub(crate) fn begin(&self) -> u64 {
        locked(&self.known).changes
    }

    /// The account's rights, read behind a look on a connection that was got behind its beginning.
    ///
    /// # Errors
    /// They are others than the connection may have begun with: see [`ServicePool::again`].
    pub(crate) fn judged(&self, begun: u64, rights: Rights) -> Result<Arc<Rights>, Error> {
        let mut known = locked(&self.known);
        match (known.note(rights), &known.rights) {
            (true, Some(rights)) if known.changes == begun => Ok(rights.clone()),
            _ => Err(Error::Other(CHANGED.into())),
        }
    }

    /// Looks again where the account's rights have changed meanwhile.
    ///
    /// # Errors
    /// What the last look says.
    pub(crate) async fn again<T, E, F>(look: impl Fn() -> F) -> Result<T, E>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut tries = 1;
        loop {
            match look().await {
                Err(e) if tries < MAX_TRIES && e.to_string().contains(CHANGED) => tries += 1,
                looked => return looked,
            }
        }
    }

    /// Looks at something. Connections for that stay apart from the pool: to take one from there and to give it back takes
    /// longer than a look. They can write nothing: MariaDB calls functions when it shows a view whose definition has them among
    /// the arguments of some built-in functions.
    ///
    /// # Errors
    /// What the server or the system says.
    pub(crate) async fn look<T, F>(&self, look: impl Fn(Conn) -> F) -> Result<T, Error>
    where
        F: Future<Output = (Conn, Result<T, Error>)> + Send,
    {
        loop {
            let (kept, changes) = {
                let mut pools = self.pools();
                (pools.looking.pop(), pools.changes)
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
            let (conn, looked) = look(conn).await;
            match &looked {
                Ok(_) | Err(Error::Server(_)) => {
                    let mut pools = self.pools();
                    if pools.changes == changes && pools.looking.len() < MAX_LOOKING {
                        pools.looking.push(conn);
                    }
                }
                // The server has closed it meanwhile
                Err(Error::Other(_)) => {}
                Err(_) if was_kept => continue,
                Err(_) => {}
            }
            return looked;
        }
    }

    /// A connection whose packets may be as long as the server's global `max_allowed_packet` says now: those that are kept
    /// have what it said when they were opened.
    ///
    /// # Errors
    /// What the server or the system says.
    pub(crate) async fn conn_of_now(&self) -> Result<Conn, Error> {
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

    /// Two connections, the first as [`ServicePool::conn_of_now`], and the beginning of a look on the second.
    ///
    /// # Errors
    /// What the server or the system says.
    pub(crate) async fn pair(&self) -> Result<(Conn, Look), Error> {
        // Where the server has few left, those who have one each and want another would all get none
        let _turn = self.pairs.lock().await;
        let first = self.conn_of_now().await?;
        for _ in 0..MAX_TRIES {
            let begun = self.begin();
            let conn = self.get_conn().await?;
            if self.begin() == begun {
                return Ok((first, Look { conn, begun }));
            }
        }
        Err(Error::Other(CHANGED.into()))
    }

    /// A connection, one that was used before if there is one.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn get_conn(&self) -> Result<Conn, Error> {
        let (mut tries, mut worn) = (1, 0);
        loop {
            let (got, changes) = self.checkout().await;
            let kept = match &got {
                Err(e) if is_full(e) => self.pools().looking.pop(),
                _ => None,
            };
            let mut conn = kept.map_or(got, Ok)?;
            match self.renew(&mut conn).await {
                Ok(()) => {}
                // The server has ended it since it was last used
                Err(_) if worn < self.ready + MAX_LOOKING => {
                    worn += 1;
                    let _ = conn.disconnect().await;
                    continue;
                }
                Err(e) => return Err(e),
            }
            if locked(&self.known).changes == changes {
                return Ok(conn);
            }
            if tries == MAX_TRIES {
                return Err(Error::Other(CHANGED.into()));
            }
            tries += 1;
        }
    }

    /// A connection as it is, and under which rights it was made.
    async fn checkout(&self) -> (Result<Conn, Error>, u64) {
        let (pool, plain, changes) = {
            let pools = self.pools();
            (pools.pool.clone(), pools.plain.clone(), pools.changes)
        };
        let conn = match (pool.get_conn().await, plain) {
            (Err(Error::Driver(DriverError::NoClientSslFlagFromServer)), Some(plain)) => {
                plain.get_conn().await
            }
            // It has not said whether it offers TLS, and some may be ready
            (Err(e), Some(plain)) if is_full(&e) => plain.get_conn().await,
            (got, _) => got,
        };
        (conn, changes)
    }

    /// Makes a connection what a new one is: without a transaction that was left open, or a level for the next one. What the account
    /// may do is asked, as it is of a new one: the connection goes on with the rights that it began with.
    async fn renew(&self, conn: &mut Conn) -> Result<(), Error> {
        let ([rollback, level], [show_grants, literal]) = (RENEW_SQL, RIGHTS_SQL);
        let [_, _, grants, literal] = conn.results([rollback, level, show_grants, literal]).await?;
        locked(&self.known).note(Rights::of(grants, literal)?);
        Ok(())
    }

    /// Keeps connections ready, so that what has to be done goes on where clients hold all others that the server takes.
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

    /// Opens what is missing of the connections that stand ready. Those that the server has closed meanwhile are found out: the pool
    /// looks at each before it gives it out.
    async fn make_ready(&self) -> Result<(), Error> {
        let wanted = {
            let pools = self.pools();
            let in_use = |pool: &Pool| pool.metrics().connections_in_use.load(Ordering::Relaxed);
            let in_use = in_use(&pools.pool) + pools.plain.as_ref().map_or(0, in_use);
            // Those that are kept for looks do not come back
            let come_back = in_use.saturating_sub(pools.looking.len());
            self.ready.saturating_sub(come_back)
        };
        let mut held = Vec::with_capacity(wanted);
        for _ in 0..wanted {
            held.push(self.checkout().await.0?);
        }
        Ok(())
    }
}

/// A connection for a look that depends on the account's rights.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) conn: Conn,
    /// See [`ServicePool::begin`].
    pub(crate) begun: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_others_count_as_a_change() {
        let rights = |grant: &str| Rights::parse(&[format!("GRANT {grant} ON *.* TO `a`@`%`")], false);
        let mut known = Known::default();
        assert!(known.note(rights("SELECT")) && known.note(rights("SELECT")) && known.changes == 0);
        assert!(!known.note(rights("SELECT, TRIGGER")) && known.note(rights("SELECT, TRIGGER")));
        assert!(!known.note(rights("SELECT")) && known.changes == 2);
    }

    #[tokio::test]
    async fn a_look_begins_again_where_the_rights_have_changed() {
        let count = std::cell::Cell::new(0);
        let look = |fails: usize| {
            count.set(0);
            let count = &count;
            ServicePool::again(move || async move {
                count.set(count.get() + 1);
                if count.get() <= fails { Err(Error::Other(CHANGED.into())) } else { Ok(()) }
            })
        };
        assert!(look(1).await.is_ok());
        assert_eq!(count.get(), 2);
        assert!(look(9).await.is_err());
        assert_eq!(count.get(), MAX_TRIES);
    }
}
