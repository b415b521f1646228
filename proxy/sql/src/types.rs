//! What [`crate::analyze`] says about a statement.

use std::ops::Range;

/// A range of byte offsets into the SQL text that was analyzed.
pub type Span = Range<usize>;

/// What a statement is and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// What the statement is.
    pub statement: Statement,
    /// The XID hint that the text carries, if any. Given whatever the statement is.
    pub xid_hint: Option<XidHint>,
    /// Byte offset of every `?` placeholder, in order: the parameter's index is the position in this list.
    pub placeholders: Vec<usize>,
    /// Where the statement's own text ends: before a `;`, blanks and comments at the end. More clauses could be
    /// appended here. 0 for [`Statement::Empty`].
    pub terminator: usize,
    /// The statement assigns `@atone_xid`, or may do so ([`Statement::SetXid`] and [`Statement::TouchesXid`]
    /// always; [`Statement::Refused`] perhaps). A session that lets it through must look at the variable afterwards.
    pub touches_xid: bool,
    /// The session's system variables that a SET assigns, in lower case, in order; `names` for SET NAMES and
    /// SET CHARACTER SET, `transaction` for SET TRANSACTION.
    pub session_variables: Vec<String>,
}

/// A XID given inside of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XidHint {
    /// The XID: 1 to 128 characters of `A-Z a-z 0-9 . : _ -`.
    pub xid: String,
    /// The text to blank before the statement is forwarded: the whole comment, or only `XID(…)` where an
    /// optimizer-hint comment holds other hints as well.
    pub span: Span,
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
    /// `START GLOBAL TRANSACTION JOIN value`: binds the session to one that is there, as [`Statement::SetXid`] does.
    JoinGlobal(XidValue),
    /// `COMMIT GLOBAL TRANSACTION`.
    CommitGlobal,
    /// `ROLLBACK GLOBAL TRANSACTION`.
    RollbackGlobal,
    /// `SET @atone_xid = value`, and nothing else assigned.
    SetXid(XidValue),
    /// Writes no rows, but assigns `@atone_xid` in another way than [`Statement::SetXid`]: the variable has to be
    /// read afterwards.
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
    /// A SET whose items include the session's `autocommit`, perhaps beside others.
    SetAutocommit(AutocommitValue),
    /// SET of session or user variables, SET NAMES, SET CHARACTER SET, SET TRANSACTION. Writes no rows.
    Set,
    /// `USE schema`; the name unquoted.
    Use(String),
    /// INSERT of literal rows into one table.
    Insert(Insert),
    /// UPDATE of one table, or DELETE from one.
    Dml(Dml),
    /// UPDATE or DELETE over several tables.
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

/// `LOAD DATA LOCAL INFILE … INTO TABLE …`, without user variables and SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The table.
    pub table: TableRef,
    /// [`OnConflict::Ignore`] or [`OnConflict::Replace`].
    pub on_conflict: OnConflict,
    /// The file's charset, in lower case, where it is given.
    pub charset: Option<String>,
    /// How the file is split.
    pub format: LoadFormat,
    /// The columns that the fields are for, unquoted; all of the table's where there is no list.
    pub columns: Option<Vec<String>>,
}

/// How LOAD DATA splits a file into lines and fields. Separators are ASCII; the first bytes of `field_end` and `line_end`
/// differ, and neither holds `enclosed` or `escaped`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFormat {
    /// `FIELDS TERMINATED BY`; not empty.
    pub field_end: Vec<u8>,
    /// `[OPTIONALLY] ENCLOSED BY`.
    pub enclosed: Option<u8>,
    /// `ESCAPED BY`.
    pub escaped: Option<u8>,
    /// `LINES STARTING BY`; empty where every line counts from its first byte.
    pub line_start: Vec<u8>,
    /// `LINES TERMINATED BY`; not empty.
    pub line_end: Vec<u8>,
    /// `IGNORE n LINES`.
    pub ignored_lines: u64,
}

impl Default for LoadFormat {
    /// What the servers take where nothing is given.
    fn default() -> Self {
        Self {
            field_end: b"\t".to_vec(),
            enclosed: None,
            escaped: Some(b'\\'),
            line_start: Vec::new(),
            line_end: b"\n".to_vec(),
            ignored_lines: 0,
        }
    }
}

/// Where the text of a statement is that is prepared by SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementText {
    /// Here: unquoted, in the client's charset.
    Literal(Vec<u8>),
    /// In this user variable.
    Variable(Span),
}

/// `PREPARE name FROM …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// In lower case, as the server compares it: ASCII letters, digits, `_` and `$`.
    pub name: String,
    /// The statement.
    pub source: StatementText,
}

/// What an EXECUTE runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecuteWhat {
    /// What was prepared under this name, which is as in [`Prepare`].
    Named(String),
    /// MariaDB's EXECUTE IMMEDIATE.
    Immediate(StatementText),
}

/// `EXECUTE … [USING @a, …]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// What it runs.
    pub what: ExecuteWhat,
    /// The user variables that are the parameters.
    pub using: Vec<Span>,
}

/// What `@atone_xid` is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XidValue {
    /// A string literal, unquoted. Not checked: it may be empty (unbind) or no valid XID.
    Literal(String),
    /// `NULL`: unbind.
    Null,
    /// The parameter of this index.
    Placeholder(usize),
}

/// What `autocommit` is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutocommitValue {
    /// 1, ON or TRUE.
    On,
    /// 0, OFF or FALSE.
    Off,
    /// DEFAULT, a parameter or an expression, or it was assigned twice: the server's status flag tells afterwards.
    Unknown,
}

/// A number from the diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagnosticNumber {
    /// `ROW_COUNT()`
    RowCount,
    /// `@@warning_count`
    WarningCount,
    /// `@@error_count`
    ErrorCount,
}

/// One place where a SELECT reads a number from the diagnostics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiagnosticRead {
    /// Which number.
    pub number: DiagnosticNumber,
    /// The call, from the name to the closing parenthesis, or the whole variable.
    pub span: Span,
    /// The whole item of the (first) select list that holds the place, where that item has no alias: the server
    /// names the result column by the item's text, so whoever replaces the place must add this text as the alias.
    /// Several places may share an item.
    pub unaliased_item: Option<Span>,
}

/// Why a statement is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A short sentence for the error message, e.g. `CALL may write rows that are not captured`.
    pub reason: String,
    /// The statement is addressed to Atone itself (a malformed START GLOBAL TRANSACTION or XID hint, any refused
    /// statement with a XID hint, a packet that binds and does more): it must be refused in an unbound session too. All other refusals
    /// concern bound sessions only.
    pub for_atone: bool,
    /// It is refused for words of Atone's own, of which the server knows nothing.
    pub about_atone: bool,
    /// It is refused for the call of what may be a stored function or procedure: the statement that does no more than to call
    /// that, with nothing.
    pub call: Option<String>,
}

/// A table as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRef {
    /// The schema, unquoted, where the name is qualified.
    pub schema: Option<String>,
    /// The table's name, unquoted, in the case in which it was written.
    pub name: String,
    /// The alias, unquoted.
    pub alias: Option<String>,
    /// The whole reference as written: `schema.name [AS alias] [index hints]`.
    pub span: Span,
}

impl TableRef {
    /// A table that no text of a statement names: without alias, and with an empty span.
    pub fn named(schema: Option<String>, name: String) -> Self {
        Self { schema, name, alias: None, span: 0..0 }
    }
}

/// `column = value` of an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// What stands before the column's name, unquoted: the table's name or alias, perhaps behind a schema.
    pub qualifiers: Vec<String>,
    /// The column's name, unquoted, without qualifiers.
    pub column: String,
    /// The whole assignment.
    pub span: Span,
    /// The value: an expression or `DEFAULT`.
    pub value: Span,
}

/// An UPDATE of one table, or a DELETE from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dml {
    /// The verb. A hint is written after it.
    pub verb: Span,
    /// CTEs before the verb, with their keyword (MySQL).
    pub with: Option<Span>,
    /// The table.
    pub table: TableRef,
    /// What becomes of the rows.
    pub action: DmlAction,
    /// IGNORE was given: rows that cannot be changed or deleted stay as they are, with a warning.
    pub ignore: bool,
    /// The condition, without WHERE.
    pub where_clause: Option<Span>,
    /// The ORDER BY clause, with its keywords.
    pub order_by: Option<Span>,
    /// The LIMIT clause, with its keyword: one number or placeholder.
    pub limit: Option<Span>,
    /// WHERE or ORDER BY might choose other rows when evaluated a second time: clock, random and session functions,
    /// user and system variables, a LIMIT in a subquery. Such a condition has to be evaluated once only.
    pub volatile: bool,
    /// WHERE or ORDER BY holds a subquery. (In a SELECT … FOR UPDATE it is a snapshot read, in the UPDATE itself a
    /// locking one.)
    pub subquery: bool,
    /// Where the condition is but a conjunction of `column = literal or placeholder`, each column once, and there is
    /// no LIMIT: the columns (unquoted, as written) and the values' text. The server's conversions hold for the
    /// comparison: `int_column = '5x'` finds 5.
    pub pinned: Option<Vec<(String, Span)>>,
}

/// What a [`Dml`] does with the rows that it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DmlAction {
    /// What is assigned, in order; at least one.
    Update(Vec<Assignment>),
    /// The rows are deleted.
    Delete {
        /// MariaDB's RETURNING, with its keyword: the statement answers with rows. It comes after all other clauses.
        returning: Option<Span>,
    },
}

impl Dml {
    /// What an UPDATE assigns, in order; `None` for a DELETE.
    pub fn assignments(&self) -> Option<&[Assignment]> {
        match &self.action {
            DmlAction::Update(assignments) => Some(assignments),
            DmlAction::Delete { .. } => None,
        }
    }

    /// The RETURNING clause of a DELETE, with its keyword.
    pub fn returning(&self) -> Option<&Span> {
        match &self.action {
            DmlAction::Update(_) => None,
            DmlAction::Delete { returning } => returning.as_ref(),
        }
    }

    /// The statement is a DELETE.
    pub fn deletes(&self) -> bool {
        matches!(self.action, DmlAction::Delete { .. })
    }
}

/// An UPDATE or DELETE of rows of several tables, or of one that is joined with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The verb: behind it stand hints.
    pub verb: Span,
    /// CTEs in front, with their keyword (MySQL).
    pub with: Option<Span>,
    /// The table references as written.
    pub references: Span,
    /// The tables that are named in them outside of derived tables: base tables, views and CTEs; at least one.
    pub tables: Vec<TableRef>,
    /// A row of one table may stand beside no row of another: LEFT and RIGHT JOIN.
    pub outer: bool,
    /// What becomes of the rows.
    pub action: JoinedAction,
    /// The condition, without WHERE. There is no clause behind it.
    pub where_clause: Option<Span>,
    /// IGNORE was given.
    pub ignore: bool,
    /// The condition might choose other rows when it is evaluated again: clock and random functions, a LIMIT in a subquery.
    pub volatile: bool,
}

/// What a [`Joined`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinedAction {
    /// What is assigned; at least one.
    Update(Vec<Assignment>),
    /// From which tables rows are deleted: indices into [`Joined::tables`]; at least one.
    Delete(Vec<usize>),
}

/// What an INSERT does with a row that another one keeps out, by a unique key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// It fails: plain INSERT.
    Fail,
    /// The row is left out, with a warning: INSERT IGNORE.
    Ignore,
    /// The other row goes first: REPLACE.
    Replace,
    /// The other row is changed: ON DUPLICATE KEY UPDATE, with what it assigns.
    Update(Vec<Assignment>),
}

/// The query of an INSERT … SELECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceQuery {
    /// The whole query.
    pub span: Span,
    /// The text that reads the same rows, under the locks that the statement takes.
    pub read: Vec<u8>,
    /// It has other values each time that it is read: it calls UUID(), RAND() or the like.
    pub random: bool,
}

/// An INSERT or REPLACE, with VALUES, SET or SELECT, into one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The table; it has no alias.
    pub table: TableRef,
    /// The column list, unquoted and without qualifiers; `None` where there is none.
    pub columns: Option<Vec<String>>,
    /// The rows; at least one, all of the same length: that of `columns` where given. A row may be empty
    /// (`VALUES ()`): every column takes its default. No row where there is a `query`.
    pub rows: Vec<Vec<InsertValue>>,
    /// From the column list, or what stands in its place, to the end of the rows.
    pub body: Span,
    /// A value assigns a user variable, or what LAST_INSERT_ID() is.
    pub has_side_effects: bool,
    /// All rows with their parentheses, in the form with VALUES.
    pub values: Option<Span>,
    /// Where the rows come from, in the form with SELECT.
    pub query: Option<SourceQuery>,
    /// What becomes of rows that are there already.
    pub on_conflict: OnConflict,
    /// IGNORE was given: rows that cannot be inserted are left out, with a warning.
    pub ignore: bool,
    /// The rows have an alias, for ON DUPLICATE KEY UPDATE: `VALUES (…) AS new`.
    pub row_alias: bool,
    /// It answers with rows: MariaDB's RETURNING.
    pub returning: bool,
}

/// A value of an INSERT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertValue {
    /// The keyword DEFAULT.
    Default,
    /// NULL.
    Null,
    /// A constant: a number with or without a sign, a string (adjacent ones, with an introducer, N'…'), hex, bit,
    /// TRUE, FALSE, DATE '…'.
    Literal(Span),
    /// The parameter of this index.
    Placeholder(usize),
    /// Any other expression.
    Expression(Span),
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

impl Refusal {
    /// A refusal that holds in bound sessions.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), for_atone: false, about_atone: false, call: None }
    }

    /// A refusal that holds in unbound sessions too.
    pub(crate) fn for_atone(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), for_atone: true, about_atone: true, call: None }
    }
}
