//! The table `undo_log`, in the schema of the branch's first written table.

use crate::literal;
use crate::record::Encoded;
use crate::table::quote_identifier;

/// The table's name.
pub const UNDO_LOG_TABLE: &str = "undo_log";
/// `log_status` of a row that holds an undo record.
pub const LOG_STATUS_UNDO: i32 = 0;
/// `log_status` of what is left of a record after its rows were restored, until the coordinator knows that for good. Its
/// `rollback_info` is empty.
pub const LOG_STATUS_RESTORED: i32 = 2;
/// `log_status` of a marker: this branch must never commit. Its `rollback_info` is empty.
pub const LOG_STATUS_MARKER: i32 = 1;

/// Creates the table where it is missing. The primary key makes a late local commit collide with a marker; it begins
/// with the branch id, which rises, so that rows are appended.
pub fn undo_log_ddl(schema: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {}.{} (\
         branch_id BIGINT NOT NULL, \
         xid VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         context VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
         rollback_info LONGBLOB NOT NULL, \
         log_status INT NOT NULL, \
         log_created DATETIME(6) NOT NULL, \
         log_modified DATETIME(6) NOT NULL, \
         PRIMARY KEY (branch_id, xid)) ENGINE=InnoDB",
        quote_identifier(schema),
        quote_identifier(UNDO_LOG_TABLE)
    )
}

/// The INSERT of a branch's undo record: one statement without a `;`, which no SQL mode or client charset bends. Times
/// are UTC.
pub fn insert_undo_sql(schema: &str, xid: &str, branch_id: u64, encoded: &Encoded) -> Vec<u8> {
    insert(schema, xid, branch_id, &encoded.context, &encoded.rollback_info, LOG_STATUS_UNDO)
}

/// The INSERT of a marker for a branch that has no undo record: it fails with 1062 where the record is there after all.
pub fn insert_marker_sql(schema: &str, xid: &str, branch_id: u64) -> Vec<u8> {
    insert(schema, xid, branch_id, "", b"", LOG_STATUS_MARKER)
}

fn insert(schema: &str, xid: &str, branch_id: u64, context: &str, info: &[u8], status: i32) -> Vec<u8> {
    let head = format!(
        "INSERT INTO {}.{} (branch_id, xid, context, rollback_info, log_status, log_created, log_modified) \
         VALUES ({branch_id}, {}, {}, ",
        quote_identifier(schema),
        quote_identifier(UNDO_LOG_TABLE),
        literal::utf8(xid),
        literal::utf8(context),
    );
    let mut sql = Vec::with_capacity(head.len() + info.len() * 2 + 80);
    sql.extend_from_slice(head.as_bytes());
    // JSON is full of double quotes, which stand in a single-quoted string in every SQL mode; what else might be read
    // in two ways goes as hex digits, twice as long.
    if info.iter().all(|b| matches!(b, 0x20..=0x7E) && !matches!(b, b'\'' | b'\\')) {
        sql.extend_from_slice(b"_binary'");
        sql.extend_from_slice(info);
        sql.push(b'\'');
    } else {
        sql.extend_from_slice(b"0x");
        sql.extend_from_slice(hex::encode(info).as_bytes());
    }
    sql.extend_from_slice(format!(", {status}, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))").as_bytes());
    sql
}
