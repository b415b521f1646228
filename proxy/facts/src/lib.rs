//! Facts about a server's tables, views and accounts, and what follows from them: what can be captured and undone
//! exactly.
//!
//! Nothing here does I/O or reads a clock. What a server has answered comes in as rows; `atone-catalog` asks for them.

mod audit;
mod column_default;
mod definition;
mod error;
mod foreign_key;
mod mirror;
mod names;
mod numbered;
mod rights;
mod rows;
#[doc(hidden)]
pub mod samples;
mod table;
mod trigger;
mod undo_log;
mod view;

pub use audit::{AuditTable, WrittenColumn, WrittenTable, audit_table};
pub use column_default::ColumnDefault;
pub use definition::without_auto_increment;
pub use error::{ReadError, ServiceError, Stale, TableError, UndoLogError};
pub use foreign_key::{ForeignKey, References, Rule, RuleRow, UsageRow, are_all_keys_seen};
pub use mirror::{Mirror, is_refused_by_tools_only, mirror, without_tool_triggers};
pub use names::{NameCase, Qualified, SYSTEM_SCHEMAS, TableId, is_system_schema, qualified};
pub use numbered::{NUMBERS_PER_READ, NumberedTable, UncommittedNumbers, number_list};
pub use rights::Rights;
pub use rows::{BASE_TABLE, ColumnRow, IndexRow, TableRow};
pub use table::{Facts, TableInfo};
pub use trigger::{
    Trigger, TriggerRow, Write, audit_tables_of, capture_refusal, compensates_by_replacing,
    first_with_effect, have_no_effect, mirror_of, undo_refusal,
};
pub use undo_log::{UndoLogColumn, unfit_columns, unfit_keys, unfit_rights, unfit_table};
pub use view::{ViewDefinition, ViewEffect, effect_of_view};
