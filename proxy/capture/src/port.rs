//! The two interfaces of the capture to the world: the session's server connection, and what the service account knows.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atone_facts::{
    AuditTable, NumberedTable, Qualified, ReadError, ServiceError, Stale, TableError, TableInfo,
    UncommittedNumbers, UndoLogError, ViewDefinition,
};
use atone_undo::{Row, Table};
use atone_wire::Malformed;
use atone_wire::response::ErrPacket;
use bytes::Bytes;

use crate::error::{End, SqlError};
use crate::flight::{Flight, Replies, Reply};
use crate::journal::Assumption;
use crate::settings::Vars;

/// Something that is waited for.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The session's connection to its server, and the client that waits for it.
pub trait Server: Send + Sync {
    /// The status flags that the server sent last.
    fn status(&self) -> u16;

    /// The XID that the session is bound to, or nothing.
    fn xid(&self) -> String;

    /// How many bytes stand before the text of a statement in its packet.
    fn prefix_bytes(&self) -> usize;

    /// Runs one flight and collects its replies, whatever they are: the last one is an error where a statement
    /// failed, and those after it did not run. `vars`: the session's, as far as they are known.
    ///
    /// # Errors
    /// The connection broke, or one packet was above `max_branch_bytes`.
    fn run<'a>(&'a mut self, flight: Flight, vars: Option<Arc<Vars>>) -> Step<'a, Result<Replies, End>>;

    /// Runs a statement that answers with rows, in the protocol that the application has used for its own.
    ///
    /// # Errors
    /// The connection broke.
    fn run_for_rows<'a>(
        &'a mut self,
        text: &'a [u8],
        vars: Option<Arc<Vars>>,
    ) -> Step<'a, Result<Replies, End>>;

    /// Has the server prepare a text, which runs nothing of it, and forget it; the error that it has against it.
    ///
    /// # Errors
    /// The connection broke.
    fn prepare<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Option<ErrPacket>, End>>;

    /// Runs a LOAD DATA LOCAL so that the server asks for the file, takes the file from the client, and gives the
    /// server an empty one: it must not be loaded before its rows are known.
    ///
    /// # Errors
    /// A connection broke.
    fn ask_for_file<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Asked, End>>;

    /// Registers a branch and takes all its locks. A client that goes away meanwhile gives up its wait, and so does a
    /// KILL of the session on the server, or of its statement.
    ///
    /// # Errors
    /// A connection broke.
    fn register<'a>(&'a mut self, branch: Registration) -> Step<'a, Result<u64, NotRegistered>>;

    /// Tells the coordinator what has become of a registered branch. Nobody waits for that.
    fn report(&self, branch_id: u64, committed: bool);
}

/// What came of asking for the client's file.
#[derive(Debug)]
pub enum Asked {
    /// It is here; the statement has had an empty one instead, and this is what the server says to that.
    File(Bytes, Reply),
    /// It is longer than `max_statement_bytes`.
    TooLong,
    /// The server has not asked for it.
    Failed(ErrPacket),
}

/// A branch to be registered.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The schema whose undo_log has its record.
    pub schema: String,
    /// For each table its name and the keys of the rows to be locked.
    pub locks: Vec<(String, Vec<String>)>,
    /// How long locks are waited for, in milliseconds.
    pub wait_timeout_ms: u64,
    /// MariaDB's `max_statement_time`, where it is set.
    pub max_statement_time: Option<Duration>,
}

/// Why a branch is not registered.
#[derive(Debug)]
pub enum NotRegistered {
    /// The coordinator says so, or the wait has ended.
    Refused(SqlError),
    /// The statement that waits on the server has failed.
    Failed(ErrPacket),
    /// The connection, or the session, has ended.
    End(End),
}

impl From<End> for NotRegistered {
    fn from(end: End) -> NotRegistered {
        NotRegistered::End(end)
    }
}

impl From<Malformed> for NotRegistered {
    fn from(malformed: Malformed) -> NotRegistered {
        NotRegistered::End(malformed.into())
    }
}

/// What the service account knows of the server's tables, views and undo_logs.
pub trait Catalog: Send + Sync {
    /// The resource's name.
    fn resource(&self) -> &str;

    /// What there is to know of a table, whose column definitions the session sees as `probe`.
    ///
    /// # Errors
    /// [`TableError`]
    fn table<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
        probe: &'a [u8],
    ) -> Step<'a, Result<Arc<TableInfo>, TableError>>;

    /// Whether a table is what it was taken for.
    ///
    /// # Errors
    /// [`Stale`]
    fn verify<'a>(&'a self, info: &'a Arc<TableInfo>, as_parent: bool) -> Step<'a, Result<(), Stale>>;

    /// The same of all tables and reads of a branch. It begins at once, and is waited for later.
    ///
    /// # Errors
    /// [`Stale`]
    fn begin_verify(
        &self,
        assumptions: Vec<Assumption>,
        reads: Vec<Qualified>,
    ) -> Step<'static, Result<(), Stale>>;

    /// Why reading one of these may write: it is a view that calls a function.
    ///
    /// # Errors
    /// What has kept the service account from looking.
    fn read_refusal<'a>(&'a self, names: Vec<Qualified>) -> Step<'a, Result<Option<String>, ServiceError>>;

    /// The definition of a view, where the service account sees it.
    ///
    /// # Errors
    /// What has kept the service account from looking.
    fn view<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> Step<'a, Result<Option<ViewDefinition>, ServiceError>>;

    /// Looks whether the undo_log of a schema is fit for undo records, and makes it where it is missing.
    ///
    /// # Errors
    /// [`UndoLogError`]
    fn ensure_undo_log<'a>(&'a self, schema: &'a str) -> Step<'a, Result<(), UndoLogError>>;

    /// Whether a branch's undo record is there, committed.
    ///
    /// # Errors
    /// What has kept the service account from looking.
    fn has_undo_row<'a>(
        &'a self,
        schema: &'a str,
        xid: &'a str,
        branch_id: u64,
    ) -> Step<'a, Result<bool, ServiceError>>;

    /// The number below which a table to which triggers add rows generates none from now on.
    ///
    /// # Errors
    /// What has kept the service account from looking.
    fn first_number<'a>(&'a self, log: &'a AuditTable) -> Step<'a, Result<i128, ServiceError>>;

    /// The numbers from `first` on of rows that somebody has inserted and not committed, among so many rows at most.
    ///
    /// # Errors
    /// What has kept the service account from looking.
    fn uncommitted<'a>(
        &'a self,
        numbered: &'a NumberedTable,
        first: i128,
        limit: usize,
    ) -> Step<'a, Result<UncommittedNumbers, ServiceError>>;

    /// Which of these numbers are those of committed rows, looked for so many at once.
    ///
    /// # Errors
    /// What has kept the service account from looking.
    fn committed<'a>(
        &'a self,
        numbered: &'a NumberedTable,
        ids: &'a [i128],
        at_once: usize,
    ) -> Step<'a, Result<HashSet<i128>, ServiceError>>;

    /// The committed rows that SELECTs of a table's image list find, as other sessions see them.
    ///
    /// # Errors
    /// [`ReadError`]
    fn committed_rows<'a>(
        &'a self,
        table: &'a Table,
        selects: &'a [String],
    ) -> Step<'a, Result<Vec<Row>, ReadError>>;
}
