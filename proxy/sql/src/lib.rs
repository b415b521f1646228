//! Says what a session's statements are and where their parts are, exact to the byte.
//!
//! Nothing here does I/O or knows tables: text in, facts out. What is not understood is refused
//! ([`Statement::Refused`]), never passed as harmless. The text is read as bytes and sliced, never printed anew.
//!
//! In a text, every byte below 0x80 must be an ASCII character. A text in another charset is decoded first
//! ([`Charset`]).
//!
//! What can't be seen from a statement's text is up to the caller: triggers, cascades, views that call stored
//! functions, the kind of the table.
//!
//! Each module uses only modules above it in this list, as `tests/layers.rs` checks:
//!
//! | module | what it knows |
//! | --- | --- |
//! | `types` | what [`analyze`] says |
//! | `lex` | charset, SQL mode, parameters; bytes to tokens |
//! | `clause` | parts that several kinds of statements have |
//! | `screen` | questions about a whole text that need no analysis |
//! | `xid` | XID hints and `@atone_xid` |
//! | `evaluate` | expressions that are evaluated apart from their statement |
//! | `statement` | one file for each kind of statement |
//! | `analysis` | [`analyze`]: which kind of statement it is |
//! | `definition` | views and triggers |

mod analysis;
mod clause;
mod definition;
mod evaluate;
mod lex;
#[cfg(test)]
mod properties;
mod screen;
mod statement;
mod types;
mod xid;

pub use analysis::{analyze, concerns_atone, may_write, unreadable};
pub use definition::{
    ColumnInput, MirrorBody, MirrorDelete, SingleTableView, TriggerBody, TriggerInsert, select_of_view,
    single_table_view, trigger_action, trigger_body,
};
pub use evaluate::{Evaluable, NO_LIMIT, Repeated, evaluable, evaluates_without_effects, repeatable};
pub use lex::{Charset, Marks, Mode, Parameterized, UnsupportedMode, without_mark};
pub use screen::{
    NextStatement, TableLocks, TableName, may_change_parsing, may_concern_atone, may_have_hint,
    may_have_several_statements, may_list_user_variables, may_name_xid, may_prepare, next_statement,
    table_locks, table_names,
};
pub use statement::get_diagnostics::{GetDiagnostics, get_diagnostics};
pub use types::{
    Analysis, Assignment, AutocommitValue, DiagnosticNumber, DiagnosticRead, Dml, DmlAction, Execute,
    ExecuteWhat, Insert, InsertValue, Joined, JoinedAction, Load, LoadFormat, OnConflict, Prepare, Refusal,
    SourceQuery, Span, Statement, StatementText, TableRef, XidHint, XidValue, could_assign,
};
