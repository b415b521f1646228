//! Questions about a whole text, whatever statements it contains, that need no analysis.

mod packet_checks;
mod splitting;
mod table_locks;
mod table_names;

pub use packet_checks::{
    may_change_parsing, may_concern_atone, may_have_hint, may_list_user_variables, may_name_xid, may_prepare,
};
pub use splitting::{NextStatement, may_have_several_statements, next_statement};
pub use table_locks::{TableLocks, table_locks};
pub use table_names::{TableName, table_names};

pub(crate) use packet_checks::may_be_for_atone;
