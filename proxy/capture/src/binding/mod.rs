//! What the names of a statement stand for, and that this stays so to the end of the local transaction.

pub mod hold;
pub mod reads;
pub mod tables;
pub mod undo_log;
pub mod views;
