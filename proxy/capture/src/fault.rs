//! What an error of the server's in a statement of the proxy's own means: for the local transaction, for the
//! statement that it served, for the connection. Decided here and nowhere else.
//!
//! Such an error unwinds as [`End::Fault`] up to the command that met it, past everything that would have followed:
//! nothing is read again, taken for something else, or run after it. Only errors of a statement's text come back to
//! who asked for them, since they cannot have ended anything.

use atone_wire::error_code::*;
use atone_wire::response::ErrPacket;

use crate::error::SqlError;
pub use crate::error::{Extent, Fault};
use crate::outcome::with_context;

/// What an error's code says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something is wrong with the statement's text, or with what its user may do. Nothing has ended but the
    /// statement, which has done nothing.
    Text,
    /// The local transaction has ended.
    Transaction,
    /// The connection ends.
    Connection,
    /// It may have ended the local transaction: the server's status flags tell.
    Uncertain,
}

/// What an error's code says by itself.
pub fn class(code: u16, mariadb: bool) -> Class {
    match code {
        // Deadlock; the lock table is full; XA: rolled back
        ER_LOCK_TABLE_FULL | ER_LOCK_DEADLOCK | ER_XA_RBTIMEOUT | ER_XA_RBDEADLOCK => Class::Transaction,
        // Changed since the snapshot was taken, under innodb_snapshot_isolation; MySQL means a row of another engine
        ER_CHECKREAD if mariadb => Class::Transaction,
        // Shutdown, KILL, aborted or broken connections, disconnected for inactivity
        ER_SERVER_SHUTDOWN
        | ER_NORMAL_SHUTDOWN
        | ER_GOT_SIGNAL
        | ER_SHUTDOWN_COMPLETE
        | ER_FORCING_CLOSE
        | ER_ABORTING_CONNECTION
        | ER_NET_READ_ERROR
        | ER_NET_READ_INTERRUPTED
        | ER_NET_ERROR_ON_WRITE
        | ER_NET_WRITE_INTERRUPTED
        | ER_NEW_ABORTING_CONNECTION
        | ER_CONNECTION_KILLED
        | CR_SERVER_GONE_ERROR
        | CR_SERVER_LOST
        | CR_SERVER_LOST_EXTENDED
        | ER_SESSION_WAS_KILLED
        | ER_CLIENT_INTERACTION_TIMEOUT => Class::Connection,
        // Rights
        ER_DBACCESS_DENIED_ERROR
        | ER_ACCESS_DENIED_ERROR
        | ER_TABLEACCESS_DENIED_ERROR
        | ER_COLUMNACCESS_DENIED_ERROR
        | ER_SPECIFIC_ACCESS_DENIED_ERROR
        | ER_VIEW_NO_EXPLAIN
        | ER_VIEW_INVALID
        | ER_PROCACCESS_DENIED_ERROR => Class::Text,
        // Names
        ER_NO_DB_ERROR
        | ER_BAD_DB_ERROR
        | ER_BAD_TABLE_ERROR
        | ER_NON_UNIQ_ERROR
        | ER_BAD_FIELD_ERROR
        | ER_DUP_FIELDNAME
        | ER_NONUNIQ_TABLE
        | ER_KEY_COLUMN_DOES_NOT_EXITS
        | ER_TABLE_NOT_LOCKED
        | ER_UNKNOWN_TABLE
        | ER_UNKNOWN_CHARACTER_SET
        | ER_NO_SUCH_TABLE
        | ER_UNKNOWN_SYSTEM_VARIABLE
        | ER_UNKNOWN_COLLATION
        | ER_SP_DOES_NOT_EXIST => Class::Text,
        // Syntax, and what is not allowed where it stands
        ER_PARSE_ERROR
        | ER_EMPTY_QUERY
        | ER_UPDATE_TABLE_USED
        | ER_FIELD_SPECIFIED_TWICE
        | ER_INVALID_GROUP_FUNC_USE
        | ER_WRONG_VALUE_COUNT_ON_ROW
        | ER_MIX_OF_GROUP_FUNC_AND_FIELDS
        | ER_WRONG_USAGE
        | ER_WRONG_NUMBER_OF_COLUMNS_IN_SELECT
        | ER_NOT_SUPPORTED_YET
        | ER_WRONG_FK_DEF
        | ER_KEY_REF_DO_NOT_MATCH_TABLE_REF
        | ER_OPERAND_COLUMNS
        | ER_SUBQUERY_NO_1_ROW
        | ER_ILLEGAL_REFERENCE
        | ER_DERIVED_MUST_HAVE_ALIAS => Class::Text,
        // A default that there is not, a regular expression
        ER_REGEXP_ERROR | ER_NO_DEFAULT_FOR_FIELD => Class::Text,
        ER_REGEXP_ILLEGAL_ARGUMENT..=ER_REGEXP_PATTERN_TOO_BIG => Class::Text,
        // Types, collations, values that do not compare or convert
        ER_ILLEGAL_PARAMETER_DATA_TYPES2_FOR_OPERATION | ER_ILLEGAL_PARAMETER_DATA_TYPE_FOR_OPERATION
            if mariadb =>
        {
            Class::Text
        }
        ER_WRONG_ARGUMENTS
        | ER_COLLATION_CHARSET_MISMATCH
        | ER_CUT_VALUE_GROUP_CONCAT
        | ER_WARN_DATA_OUT_OF_RANGE
        | ER_CANT_AGGREGATE_2COLLATIONS
        | ER_CANT_AGGREGATE_3COLLATIONS
        | ER_CANT_AGGREGATE_NCOLLATIONS
        | ER_TRUNCATED_WRONG_VALUE
        | ER_INVALID_CHARACTER_STRING
        | ER_DIVISION_BY_ZERO
        | ER_TRUNCATED_WRONG_VALUE_FOR_FIELD
        | ER_ILLEGAL_VALUE_FOR_TYPE
        | ER_WRONG_VALUE_FOR_TYPE
        | ER_WRONG_VALUE
        | ER_WRONG_PARAMCOUNT_TO_NATIVE_FCT
        | ER_WRONG_PARAMETERS_TO_NATIVE_FCT
        | ER_DATA_OUT_OF_RANGE => Class::Text,
        ER_GIS_INVALID_DATA
        | ER_INVALID_JSON_TEXT
        | ER_INVALID_JSON_TEXT_IN_PARAM
        | ER_INVALID_JSON_PATH
        | ER_INVALID_JSON_CHARSET
        | ER_CANNOT_CONVERT_STRING
        | ER_IMPOSSIBLE_STRING_CONVERSION => Class::Text,
        _ => Class::Uncertain,
    }
}

/// What has ended with an error of this class, by whether a local transaction was open before and is open now.
pub fn extent(class: Class, was_open: bool, is_open: bool) -> Extent {
    match class {
        Class::Text => Extent::Statement,
        Class::Connection => Extent::Connection,
        Class::Transaction => Extent::Transaction,
        Class::Uncertain if was_open && !is_open => Extent::Transaction,
        Class::Uncertain => Extent::Statement,
    }
}

/// Whether an error says of itself that only a wait has ended, or the time for it: what was waited for can be asked
/// for again.
pub fn ended_a_wait(code: u16) -> bool {
    matches!(
        code,
        ER_LOCK_WAIT_TIMEOUT
            | ER_QUERY_INTERRUPTED
            | ER_STATEMENT_TIMEOUT
            | ER_QUERY_TIMEOUT
            | ER_LOCK_NOWAIT
    )
}

/// Whether a client takes the local transaction to be still open after this error, and runs only the statement again.
fn implies_open(code: u16) -> bool {
    matches!(code, ER_LOCK_WAIT_TIMEOUT | ER_LOCK_NOWAIT)
}

/// How far the application's current statement has got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The local transaction was begun for it.
    pub alone: bool,
    /// It has run, and what it has changed is not in the journal yet.
    pub wrote: bool,
    /// It has run after the savepoint of ours.
    pub savepoint: bool,
}

/// The error for a client whose whole local transaction was rolled back by us after this one. `alone`: it was that
/// of one statement, of which nothing stays with any error.
pub(crate) fn of_rolled_back(error: ErrPacket, xid: &str, alone: bool) -> ErrPacket {
    if !implies_open(error.code) && (alone || !ended_a_wait(error.code)) {
        return error;
    }
    SqlError::deadlock(xid, &with_context("the undo record cannot be written", &error)).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_what_a_code_does_not() {
        // innodb_rollback_on_timeout
        for code in [1205, 1317, 1969, 3024, 3572, 1290, 1836, 1104, 1153, 1301, 1040, 1180, 9999] {
            assert_eq!(extent(class(code, true), true, true), Extent::Statement, "{code}");
            assert_eq!(extent(class(code, true), true, false), Extent::Transaction, "{code}");
            assert_eq!(extent(class(code, true), false, false), Extent::Statement, "{code}");
        }
    }

    #[test]
    fn some_codes_tell_by_themselves() {
        for code in [1213, 1020, 1614] {
            assert_eq!(extent(class(code, true), true, true), Extent::Transaction, "{code}");
        }
        assert_eq!(class(1020, false), Class::Uncertain, "MySQL's is of another engine");
        for code in [1053, 1927, 2013, 3169, 4031] {
            assert_eq!(extent(class(code, false), true, true), Extent::Connection, "{code}");
        }
        for code in [1142, 1146, 1054, 1064, 1267, 1525] {
            assert_eq!(class(code, false), Class::Text, "{code}");
        }
    }

    #[test]
    fn a_client_that_was_rolled_back_does_not_run_one_statement_again() {
        let error = |code| ErrPacket { code, sql_state: *b"HY000", message: Vec::new() };
        for code in [1205, 1317, 1969, 3024, 3572] {
            assert_eq!(
                of_rolled_back(error(code), "x", false).code,
                1213,
                "{code} may be a wait to be repeated"
            );
        }
        assert_eq!(of_rolled_back(error(1205), "x", true).code, 1213);
        assert_eq!(of_rolled_back(error(1317), "x", true).code, 1317);
        assert_eq!(of_rolled_back(error(1290), "x", false).code, 1290);
    }
}
