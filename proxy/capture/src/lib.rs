//! Capture: what a statement of a bound session changes is imaged before it runs, and told from what has come of it
//! after.
//!
//! ```text
//! before image        which rows it will change, read and locked
//! the statement       restricted to these rows, or taken back where it has met others
//! journal             the rows, with their first before images, until the local COMMIT
//! after image         read at the COMMIT, before the undo record
//! ```
//!
//! Nothing here knows a socket: the session's server connection is a [`Server`], what the service account knows is a
//! [`Catalog`]. A statement comes to a [`Done`](outcome::Done) or a [`Halt`](outcome::Halt); the session answers its
//! client by that.

pub mod binding;
pub mod collation;
pub mod commit;
pub mod diagnostics;
pub mod effect;
pub mod effects;
pub mod error;
pub mod fault;
pub mod flight;
pub mod heavy;
pub mod images;
pub mod insert;
pub mod journal;
pub mod odd;
pub mod outcome;
pub mod own_error;
pub mod own_rows;
pub mod params;
pub mod port;
pub mod reach;
pub mod restorable;
pub mod run;
pub mod settings;
pub mod text;
#[cfg(test)]
mod transcripts;
pub mod update_delete;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use atone_sql::{Marks, Mode};
use atone_undo::Kind;
use atone_wire::caps::status;
use bytes::Bytes;

use crate::binding::tables::SeenTable;
use crate::diagnostics::{EarlierDiagnostics, Kept};
use crate::fault::Progress;
use crate::flight::Rows;
use crate::heavy::Heavy;
use crate::journal::Branch;
use crate::port::{Catalog, Server};
use crate::settings::Vars;

/// Bounds of what is captured.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most rows of a branch.
    pub max_branch_rows: usize,
    /// The most bytes of before images of a branch, and of a result that is read.
    pub max_branch_bytes: usize,
    /// The longest statement, and the longest file of a LOAD DATA, in bytes.
    pub max_statement_bytes: usize,
    /// Undo records of more bytes are compressed.
    pub undo_compress_bytes: usize,
    /// How long is believed what is known of a table.
    pub metadata_ttl: Duration,
}

/// What a session knows from one statement to the next.
#[derive(Debug, Default)]
pub struct State {
    /// What the open local transaction has changed.
    pub branch: Branch,
    /// Session variables that bear on reading statements; `None` when something may have changed them.
    pub vars: Option<Arc<Vars>>,
    /// Tables seen not to be hidden by a temporary one, by their quoted names.
    pub tables: HashMap<String, SeenTable>,
    /// The schemas whose undo_log was seen not to be hidden by a temporary one.
    pub undo_logs: HashSet<String>,
    /// The diagnostics of a statement after which others were run.
    pub diagnostics: Kept,
    /// `autocommit` is off although the status flags say that it is on: MySQL's do so in a session that has it from
    /// the global variable, until it is set to 1.
    pub autocommit_hidden: bool,
}

impl State {
    /// Something has changed on which the column definitions depend: session variables, or the tables.
    pub(crate) fn forget_digests(&mut self) {
        self.tables.values_mut().for_each(SeenTable::forget_digest);
    }
}

/// What belongs to one statement only.
#[derive(Debug, Default)]
pub struct Command {
    /// How far it has got.
    pub progress: Progress,
    /// It is one of the executions of a bulk, which ends the local transaction that was begun for it.
    pub in_bulk: bool,
    /// The diagnostics of its condition, where that ran apart from it.
    pub earlier: Option<EarlierDiagnostics>,
    /// The server may list warnings of it that its OK packet does not count.
    pub uncounted_warnings: bool,
    /// The rows that it is to be answered with, instead of its OK.
    pub returned: Option<Rows>,
    /// Its text, by which the server can be asked what it has against it.
    pub text: Option<Bytes>,
    /// It and what stands after it in its packet, where something does.
    pub with_rest: Option<Bytes>,
    /// The client's file, for the LOAD DATA that runs.
    pub file: Option<Bytes>,
    /// The local transaction is being committed: what that reads was counted when its rows were touched.
    pub commits: bool,
    /// A reply to a statement of ours was dropped, as there was no memory for it, of which there is so much, in bytes.
    pub out_of_memory: Option<usize>,
    /// The kinds of columns beside which MySQL's UPDATE and DELETE may read a parameter of the current execution
    /// otherwise than its SELECT.
    pub odd: Vec<Kind>,
}

/// The capture of one statement: what it works on, and what it works with.
pub struct Capture<'a> {
    /// The session's own connection.
    pub server: &'a mut dyn Server,
    /// What the service account knows.
    pub catalog: &'a dyn Catalog,
    /// What the session knows.
    pub state: &'a mut State,
    /// The current statement.
    pub command: &'a mut Command,
    /// Bounds.
    pub limits: Limits,
    /// How work of many rows is done.
    pub heavy: Heavy,
    /// The server is MariaDB.
    pub mariadb: bool,
    /// The capabilities in force on the connection.
    pub capabilities: u64,
    /// How literals are marked that stand for parameters.
    pub marks: Marks,
}

impl std::fmt::Debug for Capture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("command", &self.command).finish_non_exhaustive()
    }
}

impl Capture<'_> {
    /// The XID that the session is bound to, or nothing, for messages.
    pub fn xid(&self) -> String {
        self.server.xid()
    }

    /// Whether a local transaction is open on the server.
    pub fn in_transaction(&self) -> bool {
        self.server.status() & (status::IN_TRANS | status::IN_TRANS_READONLY) != 0
    }

    /// Whether each statement outside of an explicit transaction commits by itself.
    pub fn autocommit(&self) -> bool {
        self.server.status() & status::AUTOCOMMIT != 0 && !self.state.autocommit_hidden
    }

    /// Whether a statement stands alone and must be wrapped in a local transaction.
    pub fn stands_alone(&self) -> bool {
        self.autocommit() && !self.in_transaction()
    }

    /// Whether the local transaction was begun for the current statement, and ends with it.
    pub fn is_alone(&self) -> bool {
        self.command.progress.alone && !self.command.in_bulk
    }

    /// How statements are read as far as is known without asking the server.
    pub fn assumed_mode(&self) -> Mode {
        settings::assumed_mode(self.state.vars.as_deref(), self.mariadb, self.marks)
    }
}
