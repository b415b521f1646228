//! One file for each kind of statement: from its tokens to a [`crate::Statement`].

pub(crate) mod get_diagnostics;
pub(crate) mod insert;
pub(crate) mod load;
mod multi_table;
pub(crate) mod prepared;
pub(crate) mod query;
pub(crate) mod set;
pub(crate) mod transaction;
pub(crate) mod update_delete;
