//! What [`crate::analyze`] says about a statement.

mod part;
mod session;
mod write;

pub use part::{Assignment, Refusal, Span, TableRef, could_assign};
pub use session::{
    AutocommitValue, DiagnosticNumber, DiagnosticRead, Execute, ExecuteWhat, Prepare, StatementText, XidHint,
    XidValue,
};
pub use write::{
    Dml, DmlAction, Insert, InsertValue, Joined, JoinedAction, Load, LoadFormat, OnConflict, SourceQuery,
};

/// What a statement is and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// What the statement is.
    pub statement: Statement,
    /// The XID hint in the text, whatever the statement is.
    pub xid_hint: Option<XidHint>,
    /// Byte offset of every `?` placeholder, in order: the parameter's index is the position in this list.
    pub placeholders: Vec<usize>,
    /// The end of the statement's own text, before a final `;`, blanks and comments. Clauses can be added here. 0 for
    /// [`Statement::Empty`].
    pub terminator: usize,
    /// The statement assigns `@atone_xid`, or may do so: [`Statement::SetXid`] and [`Statement::TouchesXid`] always,
    /// [`Statement::Refused`] perhaps. A session that forwards it must read the variable afterwards.
    pub touches_xid: bool,
    /// The session's system variables that a SET assigns, in lower case, in order; `names` for SET NAMES and
    /// SET CHARACTER SET, `transaction` for SET TRANSACTION.
    pub session_variables: Vec<String>,
}

impl Analysis {
    /// Whether the statement is Atone's own, or was meant to be: no server is to be asked what it has against it.
    pub fn is_of_atone(&self) -> bool {
        match &self.statement {
            Statement::Refused(refusal) => refusal.atone_syntax || self.touches_xid,
            other => other.binds(),
        }
    }
}

/// The kinds of statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Nothing but blanks and comments.
    Empty,
    /// `START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds]`.
    StartGlobal {
        /// The text after NAME.
        name: Option<String>,
        /// The number after TIMEOUT, in seconds.
        timeout_s: Option<u64>,
    },
    /// `START GLOBAL TRANSACTION JOIN value`: binds the session to one that exists, as [`Statement::SetXid`] does.
    JoinGlobal(XidValue),
    /// `COMMIT GLOBAL TRANSACTION`.
    CommitGlobal,
    /// `ROLLBACK GLOBAL TRANSACTION`.
    RollbackGlobal,
    /// `SET @atone_xid = value`, and nothing else assigned.
    SetXid(XidValue),
    /// Writes no rows, but assigns `@atone_xid` in another way than [`Statement::SetXid`]: the variable must be read
    /// afterwards.
    TouchesXid,
    /// `BEGIN [WORK]` or `START TRANSACTION …`.
    Begin {
        /// `READ ONLY` was given.
        read_only: bool,
        /// `WITH CONSISTENT SNAPSHOT` was given.
        consistent_snapshot: bool,
    },
    /// `COMMIT [WORK] …`.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
        /// `RELEASE`.
        release: bool,
    },
    /// `ROLLBACK [WORK] …`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
        /// `RELEASE`.
        release: bool,
    },
    /// `SAVEPOINT name`; the name unquoted and in lower case, as the server compares it.
    Savepoint(String),
    /// `ROLLBACK [WORK] TO [SAVEPOINT] name`; the name as in [`Statement::Savepoint`].
    RollbackTo(String),
    /// `RELEASE SAVEPOINT name`; the name as in [`Statement::Savepoint`].
    ReleaseSavepoint(String),
    /// A SET whose items include the session's `autocommit`, perhaps with others.
    SetAutocommit(AutocommitValue),
    /// SET of session or user variables, SET NAMES, SET CHARACTER SET, SET TRANSACTION. Writes no rows.
    Set,
    /// `USE schema`; the name unquoted.
    Use(String),
    /// INSERT or REPLACE into one table.
    Insert(Insert),
    /// UPDATE of one table, or DELETE from one.
    Dml(Dml),
    /// UPDATE or DELETE of several tables.
    Joined(Joined),
    /// LOAD DATA LOCAL.
    Load(Load),
    /// `PREPARE name FROM …`.
    Prepare(Prepare),
    /// `EXECUTE name …`, `EXECUTE IMMEDIATE …`: runs what was prepared.
    Execute(Execute),
    /// `DEALLOCATE PREPARE name`, `DROP PREPARE name`; the name in lower case.
    Deallocate(String),
    /// Writes no rows: SELECT (locking ones too), TABLE, VALUES, WITH … SELECT, SHOW, EXPLAIN, DO, ….
    Read,
    /// A read of the diagnostics of the statement before it: SHOW WARNINGS, SHOW ERRORS, SHOW COUNT(*) …,
    /// GET DIAGNOSTICS, a query other than a plain SELECT that reads `@@warning_count` or `@@error_count`.
    Diagnostics,
    /// A plain SELECT that reads numbers from the diagnostics of the statement before it.
    SelectsDiagnostics {
        /// Every place, in order.
        reads: Vec<DiagnosticRead>,
    },
    /// Not to be run in a bound session.
    Refused(Refusal),
}

impl Statement {
    /// Whether it binds the session, unbinds it or ends its global transaction, or may do so.
    pub fn binds(&self) -> bool {
        matches!(
            self,
            Statement::StartGlobal { .. }
                | Statement::JoinGlobal(_)
                | Statement::CommitGlobal
                | Statement::RollbackGlobal
                | Statement::SetXid(_)
                | Statement::TouchesXid
        )
    }
}
