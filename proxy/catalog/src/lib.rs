//! What the service account knows of a server, and the connections on which it asks.
//!
//! [`Catalog`] is the front door. It answers with facts ([`atone_facts`]) and [`ServiceError`]s, and keeps connections
//! to itself. Phase two writes through the service account as well: it takes connections from [`Catalog::pool`].

mod audit;
mod batch;
mod cache;
mod error;
mod foreign_keys;
mod others;
mod pool;
mod reader;
mod rights;
mod rows;
mod single_flight;
mod table;
mod triggers;
mod undo_log;
mod views;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use atone_facts::{
    AuditTable, NumberedTable, Qualified, ReadError, ServiceError, Stale, TableError, TableId, TableInfo,
    UncommittedNumbers, UndoLogError, ViewDefinition,
};
use atone_undo::{LOG_STATUS_MARKER, Row, Table, UNDO_LOG_TABLE, quote_identifier};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder};
use tokio::sync::OnceCell;

pub use audit::first_number;
pub use batch::{group_by_place, table_chunks, union_of_tables};
pub use error::service_error;
pub use pool::{MAX_READERS, ServicePool, ServiceTls};
pub use reader::Reader;
pub use rows::{Typed, image, literal};

use cache::TableCache;
use rights::retry;
use undo_log::UndoLogs;
use views::Views;

/// The service account at one server.
#[derive(Debug)]
pub struct Catalog {
    pool: ServicePool,
    tables: TableCache,
    views: Views,
    undo_logs: UndoLogs,
    mariadb: OnceCell<bool>,
}

impl Catalog {
    /// Connects nowhere yet. `min_connections` is the least number of connections of the options' pool: so many stand
    /// ready, whatever the server has left for others.
    pub fn new(options: OptsBuilder, tls: Option<ServiceTls>, min_connections: usize) -> Catalog {
        Catalog {
            pool: ServicePool::new(options, tls, min_connections),
            tables: TableCache::default(),
            views: Views::default(),
            undo_logs: UndoLogs::default(),
            mariadb: OnceCell::new(),
        }
    }

    /// The account's connections.
    pub fn pool(&self) -> &ServicePool {
        &self.pool
    }

    /// Whether the account can log in and is answered.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), ServiceError> {
        let mut conn = self.pool.get_conn().await.map_err(service_error)?;
        conn.query_drop("DO 0").await.map_err(service_error)
    }

    /// Whether the server is MariaDB; asked once.
    ///
    /// # Errors
    /// What the server says.
    pub async fn is_mariadb(&self, conn: &mut Conn) -> Result<bool, Error> {
        let ask = async {
            let version: Option<String> = conn.first_text_row("SELECT VERSION()").await?;
            Ok(version.unwrap_or_default().contains("MariaDB"))
        };
        self.mariadb.get_or_try_init(|| ask).await.copied()
    }

    /// A table. It is taken from the cache if it was read less than `ttl` ago under the same `digest`: the column
    /// definitions that the application's session sees.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn table(
        &self,
        id: TableId<'_>,
        digest: &[u8],
        ttl: Duration,
        mariadb: bool,
    ) -> Result<Arc<TableInfo>, TableError> {
        self.tables.table(&self.pool, id, digest, ttl, mariadb).await
    }

    /// Tables as they are now, without the foreign keys that point at them. A packet may be so many bytes long.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn current_tables(
        &self,
        ids: &[TableId<'_>],
        packet_bytes: usize,
        mariadb: bool,
    ) -> Result<Vec<TableInfo>, TableError> {
        let read =
            || async { batch::read_all(&mut self.pool.reader().await?, ids, packet_bytes, mariadb).await };
        retry(read).await.map_err(service_error)?
    }

    /// Whether the table still is what `info` says; `with_references` also looks at the foreign keys that point at it,
    /// which matter to statements that have deleted rows or updated indexed columns.
    ///
    /// A transaction that has written a table keeps it from being altered until it ends, and its triggers and foreign
    /// keys from coming and going. So what is read before its COMMIT is what its statements have met.
    ///
    /// # Errors
    /// [`Stale`]
    pub async fn verify(&self, info: &TableInfo, with_references: bool, mariadb: bool) -> Result<(), Stale> {
        self.tables.verify(&self.pool, info, with_references, mariadb).await
    }

    /// Why a statement that names these tables and views may write more than its text shows; `None` if it cannot.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn read_refusal(
        &self,
        names: Vec<Qualified>,
        mariadb: bool,
    ) -> Result<Option<String>, ServiceError> {
        self.views.refusal(&self.pool, names, mariadb).await
    }

    /// Whether the names that a local transaction has read, and keeps, are those of tables and of views that write
    /// nothing.
    ///
    /// # Errors
    /// [`Stale`]
    pub async fn verify_reads(&self, names: Vec<Qualified>, mariadb: bool) -> Result<(), Stale> {
        match self.read_refusal(names, mariadb).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(Stale::Changed(format!("what was read was altered meanwhile: {why}"))),
            Err(why) => Err(Stale::Unread(why)),
        }
    }

    /// The definition of a view; `None` where the server does not show it.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn view(&self, schema: &str, name: &str) -> Result<Option<ViewDefinition>, ServiceError> {
        views::view(&self.pool, schema, name).await.map_err(service_error)
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
    pub async fn has_undo_row(&self, schema: &str, xid: &str, branch_id: u64) -> Result<bool, ServiceError> {
        let undo_log = format!("{}.{UNDO_LOG_TABLE}", quote_identifier(schema));
        let sql = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ?");
        let read = async {
            let status: Option<i32> = self.pool.get_conn().await?.first_row(sql, (branch_id, xid)).await?;
            Ok(status.is_some_and(|status| status != LOG_STATUS_MARKER))
        };
        read.await.map_err(service_error)
    }

    /// A number below which none is generated in an audit table from now on, as long as nobody can alter it.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn first_number(&self, log: &AuditTable) -> Result<i128, ServiceError> {
        let read = async { first_number(&mut self.pool.get_conn().await?, log).await };
        read.await.map_err(service_error)
    }

    /// The numbers from `first` on of rows that somebody has inserted and not committed, among so many rows at most.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn uncommitted(
        &self,
        numbered: &NumberedTable,
        first: i128,
        limit: usize,
    ) -> Result<UncommittedNumbers, ServiceError> {
        let read =
            async { others::uncommitted(&mut self.pool.get_conn().await?, numbered, first, limit).await };
        read.await.map_err(service_error)
    }

    /// Which of these numbers are those of committed rows, looked for so many at once.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn committed(
        &self,
        numbered: &NumberedTable,
        ids: &[i128],
        at_once: usize,
    ) -> Result<HashSet<i128>, ServiceError> {
        let read =
            async { others::committed(&mut self.pool.get_conn().await?, numbered, ids, at_once).await };
        read.await.map_err(service_error)
    }

    /// The committed rows that SELECTs of the table's image list find, as other sessions see them.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn committed_rows(&self, table: &Table, selects: &[String]) -> Result<Vec<Row>, ReadError> {
        let read = async { others::committed_rows(&mut self.pool.get_conn().await?, selects).await };
        let rows = read.await.map_err(service_error)?;
        rows.into_iter().map(|row| image(table, row)).collect::<Result<_, _>>().map_err(ReadError::Undecoded)
    }

    /// The sum of the counts of committed rows that these SELECTs give.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn count_committed(&self, selects: &[String]) -> Result<u64, ServiceError> {
        let read = async { others::count_committed(&mut self.pool.get_conn().await?, selects).await };
        read.await.map_err(service_error)
    }
}
