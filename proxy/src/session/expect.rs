//! What commands are answered with.

use atone_wire::command;
use atone_wire::reply::Expect;

/// The flags of `COM_STMT_EXECUTE` that ask for a cursor.
pub(super) const CURSOR_TYPES: u8 = 0b111;
/// Where they stand.
const CURSOR_AT: usize = 5;

/// What an execution is answered with.
pub(super) fn of_execution(payload: &[u8]) -> Expect {
    let cursor = payload.get(CURSOR_AT).is_some_and(|flags| flags & CURSOR_TYPES != 0);
    if cursor { Expect::Cursor } else { Expect::Results }
}

/// What a command is answered with.
pub(super) fn expected(byte: u8) -> Expect {
    match byte {
        command::QUERY | command::STMT_EXECUTE | command::PROCESS_INFO | command::STMT_BULK_EXECUTE => {
            Expect::Results
        }
        command::STMT_PREPARE => Expect::Prepare,
        command::FIELD_LIST => Expect::FieldList,
        command::STMT_FETCH => Expect::Rows,
        command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::TABLE_DUMP => Expect::Endless,
        _ => Expect::Single,
    }
}
