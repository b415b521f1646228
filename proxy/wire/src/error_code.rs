//! Error numbers of the servers, by their names in MySQL's error message reference.

#![allow(missing_docs, reason = "each name is the server's own")]

pub const ER_CON_COUNT_ERROR: u16 = 1040;
pub const ER_BAD_DB_ERROR: u16 = 1049;
pub const ER_TOO_LONG_IDENT: u16 = 1059;
pub const ER_WRONG_DB_NAME: u16 = 1102;
pub const ER_WRONG_TABLE_NAME: u16 = 1103;
pub const ER_TABLEACCESS_DENIED_ERROR: u16 = 1142;
pub const ER_NO_SUCH_TABLE: u16 = 1146;
pub const ER_TOO_MANY_USER_CONNECTIONS: u16 = 1203;
pub const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;
pub const ER_USER_LIMIT_REACHED: u16 = 1226;
pub const ER_WRONG_OBJECT: u16 = 1347;
pub const ER_VIEW_INVALID: u16 = 1356;
pub const ER_TRG_DOES_NOT_EXIST: u16 = 1360;
pub const ER_BINLOG_STMT_MODE_AND_ROW_ENGINE: u16 = 1665;
pub const ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: u16 = 1792;
