//! Statements that write rows: UPDATE, DELETE, INSERT, REPLACE, LOAD DATA.

use super::part::{Assignment, Span, TableRef};

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
    /// WHERE or ORDER BY may choose other rows when it is evaluated again: clock, random and session functions, user
    /// and system variables, a LIMIT in a subquery. Such a condition must be evaluated only once.
    pub volatile: bool,
    /// WHERE or ORDER BY contains a subquery. A SELECT … FOR UPDATE reads it from a snapshot, the UPDATE itself under
    /// locks.
    pub subquery: bool,
    /// The columns (unquoted, as written) and the values' text, if the condition only says `column = literal or
    /// placeholder AND …`, with each column once. `None` if there is a LIMIT. The server converts values as it compares
    /// them: `int_column = '5x'` finds 5.
    pub equalities: Option<Vec<(String, Span)>>,
}

/// What a [`Dml`] does with the rows that it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DmlAction {
    /// What is assigned, in order; at least one.
    Update(Vec<Assignment>),
    /// The rows are deleted.
    Delete {
        /// MariaDB's RETURNING, with its keyword: the statement returns rows. It comes after all other clauses.
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
    /// The verb. A hint is written after it.
    pub verb: Span,
    /// CTEs before the verb, with their keyword (MySQL).
    pub with: Option<Span>,
    /// The table references as written.
    pub references: Span,
    /// The tables that they name outside of derived tables: base tables, views and CTEs; at least one.
    pub tables: Vec<TableRef>,
    /// A row of one table may be joined with no row of another: LEFT and RIGHT JOIN.
    pub outer: bool,
    /// What becomes of the rows.
    pub action: JoinedAction,
    /// The condition, without WHERE. No clause follows it.
    pub where_clause: Option<Span>,
    /// IGNORE was given.
    pub ignore: bool,
    /// The condition may choose other rows when it is evaluated again: clock and random functions, a LIMIT in a
    /// subquery.
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

/// What an INSERT does with a row whose unique key another row has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// It fails: plain INSERT.
    Fail,
    /// The row is skipped, with a warning: INSERT IGNORE.
    Ignore,
    /// The other row is deleted first: REPLACE.
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
    /// It gives other values each time that it is read: it calls UUID(), RAND() or the like.
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
    /// From the column list, or what is in its place, to the end of the rows.
    pub body: Span,
    /// A value assigns a user variable, or sets LAST_INSERT_ID().
    pub has_side_effects: bool,
    /// All rows with their parentheses, in the form with VALUES.
    pub values: Option<Span>,
    /// Where the rows come from, in the form with SELECT.
    pub query: Option<SourceQuery>,
    /// What it does with rows that are there already.
    pub on_conflict: OnConflict,
    /// IGNORE was given: rows that cannot be inserted are skipped, with a warning.
    pub ignore: bool,
    /// The rows have an alias, for ON DUPLICATE KEY UPDATE: `VALUES (…) AS new`.
    pub row_alias: bool,
    /// It returns rows: MariaDB's RETURNING.
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

/// How LOAD DATA splits a file into lines and fields. Separators are ASCII. The first bytes of `field_end` and
/// `line_end` differ, and neither contains `enclosed` or `escaped`.
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
    /// The servers' defaults.
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
