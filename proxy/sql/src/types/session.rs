//! Statements that concern the session: `@atone_xid`, autocommit, prepared statements, diagnostics.

use super::part::Span;

/// An XID that a comment in a statement gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XidHint {
    /// The XID: 1 to 128 characters of `A-Z a-z 0-9 . : _ -`.
    pub xid: String,
    /// The text to blank before the statement is forwarded: the whole comment, or only `XID(…)` in a comment that has
    /// other optimizer hints as well.
    pub span: Span,
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
    /// DEFAULT, a parameter or an expression, or it was assigned twice: only the server's status flag says.
    Unknown,
}

/// Where PREPARE gets the text of a statement from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementText {
    /// A literal: unquoted, in the client's charset.
    Literal(Vec<u8>),
    /// This user variable.
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
    /// The item of the (first) select list that contains the place, if that item has no alias. The server names the
    /// result column by the item's text, so who replaces the place must add this text as the alias. Several places may
    /// share an item.
    pub unaliased_item: Option<Span>,
}
