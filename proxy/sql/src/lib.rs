//! Says what the statements of a session are and where their parts are, exact to the byte.
//!
//! Nothing here does I/O or knows tables: text in, facts out. What is not understood is refused
//! ([`Statement::Refused`]), never passed as harmless. The text is read as bytes and sliced, never printed anew.
//!
//! Holds for texts in which the bytes below 0x80 are ASCII wherever they stand; a text in another charset is read
//! as such a one first ([`Charset`]).
//!
//! What can't be seen from a statement's text is up to the caller: triggers, cascades, views that call stored
//! functions, the kind of the table.

mod analysis;
mod attention;
mod charset;
mod condition;
mod confirm;
mod dml;
mod functions;
mod get_diagnostics;
mod hint;
mod insert;
mod joined;
mod lexer;
mod load;
mod marks;
mod mirror;
mod mode;
mod named;
mod names;
#[cfg(test)]
mod properties;
mod quoting;
mod read;
mod reading;
mod references;
mod repeat;
mod session;
mod set;
mod several;
mod table_locks;
mod text;
mod translate;
mod trigger;
mod types;
mod variables;
mod view;

pub use analysis::{analyze, may_write, unreadable};
pub use attention::{
    may_change_reading, may_have_hint, may_list_user_variables, may_name_xid, may_prepare, needs_attention,
};
pub use charset::Charset;
pub use functions::evaluates_quietly;
pub use get_diagnostics::{GetDiagnostics, get_diagnostics};
pub use hint::{MAX_XID_LEN, is_valid_xid};
pub use joined::could_assign;
pub use marks::{Lifted, Marks, bare};
pub use mirror::{MirrorBody, Take};
pub use mode::{Mode, UnsupportedMode};
pub use names::{TableName, table_names};
pub use reading::{Evaluable, NO_LIMIT, evaluable};
pub use repeat::{Repeated, repeatable};
pub use several::{NextStatement, concerns_atone, may_be_several, next_statement};
pub use table_locks::{TableLocks, table_locks};
pub use trigger::{Given, TriggerBody, TriggerInsert, trigger_action, trigger_body};
pub use types::{
    Analysis, Assignment, AutocommitValue, DiagnosticNumber, DiagnosticRead, Dml, DmlAction, Execute,
    ExecuteWhat, Insert, InsertValue, Joined, JoinedAction, Load, LoadFormat, OnConflict, Prepare, Refusal,
    SourceQuery, Span, Statement, StatementText, TableRef, XidHint, XidValue,
};
pub use view::{ViewOfOne, select_of_view, view_of_one};
