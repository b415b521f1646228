//! Views and triggers, from their definitions as the servers return them.

mod mirror;
mod trigger;
mod view;

pub use mirror::{MirrorBody, MirrorDelete};
pub use trigger::{ColumnInput, TriggerBody, TriggerInsert, trigger_action, trigger_body};
pub use view::{SingleTableView, select_of_view, single_table_view};
