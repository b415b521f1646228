//! Views and triggers, from their definitions as the servers return them.

mod mirror;
mod trigger;
mod view;

pub use mirror::{MirrorBody, Take};
pub use trigger::{Given, TriggerBody, TriggerInsert, trigger_action, trigger_body};
pub use view::{ViewOfOne, select_of_view, view_of_one};
