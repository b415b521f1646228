//! Parts that several kinds of statements have: spans, tables, assignments; and why a statement is refused.

use std::ops::Range;

/// A range of byte offsets into the SQL text that was analyzed.
pub type Span = Range<usize>;

/// Why a statement is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A short sentence for the error message, e.g. `CALL may write rows that are not captured`.
    pub reason: String,
    /// The statement is addressed to Atone: a malformed START GLOBAL TRANSACTION or XID hint, any refused statement
    /// with an XID hint, a packet that binds and does more. It is refused in an unbound session too; all other refusals
    /// concern bound sessions only.
    pub for_atone: bool,
    /// The reason is syntax of Atone's own, which the server does not know.
    pub atone_syntax: bool,
    /// If the reason is a call of what may be a stored function or procedure: a statement that only calls it, without
    /// arguments.
    pub call: Option<String>,
}

impl Refusal {
    /// A refusal that holds in bound sessions.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), for_atone: false, atone_syntax: false, call: None }
    }

    /// A refusal that holds in unbound sessions too.
    pub(crate) fn for_atone(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), for_atone: true, atone_syntax: true, call: None }
    }
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
    /// A table that is in no statement's text: without alias, and with an empty span.
    pub fn named(schema: Option<String>, name: String) -> Self {
        Self { schema, name, alias: None, span: 0..0 }
    }

    /// Whether a qualifier may mean this table: never false if the server reads it so.
    pub fn matches_qualifier(&self, schema: Option<&str>, name: &str) -> bool {
        let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        let schemas = match (schema, &self.schema, &self.alias) {
            (Some(schema), Some(own), None) => same(schema, own),
            _ => true,
        };
        schemas && same(name, self.alias.as_deref().unwrap_or(&self.name))
    }
}

/// `column = value` of an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// What is before the column's name, unquoted: the table's name or alias, perhaps after a schema.
    pub qualifiers: Vec<String>,
    /// The column's name, unquoted, without qualifiers.
    pub column: String,
    /// The whole assignment.
    pub span: Span,
    /// The value: an expression or `DEFAULT`.
    pub value: Span,
}

/// Whether an assignment's qualifiers may mean this table.
pub fn could_assign(assignment: &Assignment, table: &TableRef) -> bool {
    match assignment.qualifiers.as_slice() {
        [] => true,
        [name] => table.matches_qualifier(None, name),
        [.., schema, name] => table.matches_qualifier(Some(schema), name),
    }
}
