//! Images, the undo record and inverse SQL, without I/O.
//!
//! A branch changes rows. For each changed row the proxy keeps an image from before and one from after; both are
//! exact to the byte whatever the session's settings are ([`table`], [`image`]). They are written as one JSON record
//! into `undo_log`, in the same local transaction as the changes ([`record`], [`undo_log`]). A rollback compares the
//! current row with both images ([`judge`]) and puts the before image back ([`inverse`]), or reports what an outsider
//! changed ([`conflict`]).
//!
//! The format is specified in `docs/undo-format.md`.
#![forbid(unsafe_code)]

mod branch_rows;
mod charset;
pub mod conflict;
mod document;
mod exchange;
pub mod image;
mod inverse;
mod kind;
mod literal;
mod lock_key;
mod missing_columns;
mod packed;
pub mod record;
mod session;
pub mod table;
mod temporal;
pub mod undo_log;

pub use branch_rows::{BranchRows, RowHead, judge_rows};
pub use conflict::{ConflictReport, ConflictRow};
pub use document::Document;
pub use exchange::Exchanges;
pub use image::{ImageError, Key, LockKey, Row, Value};
pub use inverse::{
    Assigned, MAX_STATEMENT_BYTES, Obstacle, Statement, Verdict, inverse, inverse_for, judge, obstacle,
    replacing_inverse_for,
};
pub use kind::Kind;
pub use missing_columns::{MissingColumn, MissingColumns};
pub use packed::{Image, Values};
pub use record::{Encoded, Layout, RecordError, RowChange, TableChanges, UndoRecord};
pub use session::{SESSION_IDLE_S, connection_setup, session_setup, session_variables};
pub use table::{Column, Table, UniqueKey, quote_identifier};
pub use undo_log::{
    LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, PART_SEPARATOR, UNDO_LOG_TABLE,
    branch_condition, insert_marker_sql, insert_part_sql, part_bytes, part_xid, undo_log_ddl,
};
