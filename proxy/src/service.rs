//! The service account's connections. Each begins with the settings of [`atone_undo::connection_setup`], and keeps them.
//!
//! A session goes on with rights that the account had when it began: what is granted on all schemas, and by roles, comes
//! later or never. So where the account's rights are others than they were, all connections are given up, and what may be
//! seen is what the account's grants are: [`ServicePool::begin`] and [`ServicePool::judged`] stand around each look.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atone_undo::connection_setup;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Pool};

use crate::rights::Rights;
use crate::tls::{self, ServerTls, ServerTlsMode};
use crate::typed::Typed;

/// How many connections are kept for looks.
pub(crate) const MAX_LOOKING: usize = 4;
/// How often a look begins again since the account's rights have changed meanwhile.
const MAX_TRIES: usize = 3;
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
    /// Connects nowhere yet.
    pub fn new(options: OptsBuilder, server_tls: &ServerTls) -> ServicePool {
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
        ServicePool { options, plain_options, known, pools: Arc::new(Mutex::new(pools)) }
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
    /// longer than a look.
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
                None => self.get_conn().await?,
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

    /// A connection, one that was used before if there is one.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn get_conn(&self) -> Result<Conn, Error> {
        let mut tries = 1;
        loop {
            let (pool, plain, changes) = {
                let pools = self.pools();
                (pools.pool.clone(), pools.plain.clone(), pools.changes)
            };
            let conn = match (pool.get_conn().await, plain) {
                (Err(Error::Driver(DriverError::NoClientSslFlagFromServer)), Some(plain)) => {
                    plain.get_conn().await
                }
                (got, _) => got,
            }?;
            if locked(&self.known).changes == changes {
                return Ok(conn);
            }
            if tries == MAX_TRIES {
                return Err(Error::Other(CHANGED.into()));
            }
            tries += 1;
        }
    }
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
