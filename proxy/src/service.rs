//! The service account's connections. Each begins with the settings of [`atone_undo::connection_setup`], and keeps them.

use std::sync::{Arc, Mutex, PoisonError};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Pool};

use crate::tls::{self, ServerTls, ServerTlsMode};

/// How many connections are kept for looks.
pub(crate) const MAX_LOOKING: usize = 4;

/// Makes the next SELECT see what others have committed, and nothing else, whatever the server's default isolation level is.
///
/// # Errors
/// What the server says.
pub async fn see_committed(conn: &mut Conn) -> Result<(), Error> {
    // For one transaction, which the SELECT is: the connection is shared with phase two
    conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await
}

/// The service account's connections, with TLS as `server_tls` says.
#[derive(Clone, Debug)]
pub struct ServicePool {
    pool: Pool,
    /// For a server that does not offer TLS, where it is only preferred.
    plain: Option<Pool>,
    /// Connections that have looked at something, and will again.
    looking: Arc<Mutex<Vec<Conn>>>,
}

impl ServicePool {
    /// Connects nowhere yet.
    pub fn new(options: OptsBuilder, server_tls: &ServerTls) -> ServicePool {
        let plain = Opts::from(options.clone());
        let Some(ssl) = tls::service_options(server_tls) else {
            return ServicePool { pool: Pool::new(plain), plain: None, looking: Arc::default() };
        };
        let pool = Pool::new(Opts::from(options.ssl_opts(Some(ssl))));
        let preferred = server_tls.mode == ServerTlsMode::Preferred;
        ServicePool { pool, plain: preferred.then(|| Pool::new(plain)), looking: Arc::default() }
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
            let kept = self.looking.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let was_kept = kept.is_some();
            let conn = match kept {
                Some(conn) => conn,
                None => self.get_conn().await?,
            };
            let (conn, looked) = look(conn).await;
            match &looked {
                Ok(_) | Err(Error::Server(_)) => {
                    let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
                    if looking.len() < MAX_LOOKING {
                        looking.push(conn);
                    }
                }
                // The server has closed it meanwhile
                Err(_) if was_kept => continue,
                Err(_) => {}
            }
            return looked;
        }
    }

    /// A connection, one that was used before if there is one.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn get_conn(&self) -> Result<Conn, Error> {
        match (self.pool.get_conn().await, &self.plain) {
            (Err(Error::Driver(DriverError::NoClientSslFlagFromServer)), Some(plain)) => {
                plain.get_conn().await
            }
            (got, _) => got,
        }
    }
}
