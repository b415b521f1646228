//! The table `undo_log`, in the schema of the branch's first written table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::literal;
use crate::record::{Encoded, MAX_PARTS};
use crate::table::quote_identifier;

/// The table's name.
pub const UNDO_LOG_TABLE: &str = "undo_log";
/// `log_status` of a row that holds an undo record, or the first part of one.
pub const LOG_STATUS_UNDO: i32 = 0;
/// `log_status` of what is left of a record after its rows were restored, until the coordinator knows that for good.
/// Its `rollback_info` is empty.
pub const LOG_STATUS_RESTORED: i32 = 2;
/// `log_status` of a marker: this branch must never commit. Its `rollback_info` is empty.
pub const LOG_STATUS_MARKER: i32 = 1;
/// `log_status` of a row that holds another part of a record than the first. Its `xid` is that of [`part_xid`].
pub const LOG_STATUS_PART: i32 = 3;
/// Stands between the XID and the part's number in the column `xid` of such a row; no XID has it.
pub const PART_SEPARATOR: char = '#';
/// The length of the column `xid`.
const MAX_XID_CHARS: usize = 128;
/// What is longer is written in base64 where it must not stand as text, in bytes.
const MAX_HEX_BYTES: usize = 1 << 10;

/// What the column `xid` holds for a part of a record: the XID itself for the first, `xid#2` and so on for others.
pub fn part_xid(xid: &str, part: usize) -> String {
    if part <= 1 { xid.to_owned() } else { format!("{xid}{PART_SEPARATOR}{part}") }
}

/// The most parts for which the column `xid` has room after this XID.
pub fn parts_for(xid: &str) -> usize {
    match MAX_XID_CHARS.saturating_sub(xid.len() + 1) {
        0 => 1,
        digits @ 1..=4 => 10_usize.pow(digits as u32) - 1,
        _ => MAX_PARTS,
    }
}

/// The condition that holds for all rows of a branch: its record with all parts, or its marker. `xid` is an SQL literal
/// or placeholder, as is `branch_id`.
pub fn branch_condition(branch_id: &str, xid: &str) -> String {
    format!("branch_id = {branch_id} AND SUBSTRING_INDEX(xid, '{PART_SEPARATOR}', 1) = {xid}")
}

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

/// The INSERT of one part of a branch's undo record; the first is 1. It is one statement without a `;`, which no SQL
/// mode or client charset bends. Times are UTC.
pub fn insert_part_sql(schema: &str, xid: &str, branch_id: u64, part: usize, encoded: &Encoded) -> Vec<u8> {
    let status = if part <= 1 { LOG_STATUS_UNDO } else { LOG_STATUS_PART };
    insert(schema, &part_xid(xid, part), branch_id, &encoded.context, &encoded.rollback_info, status)
}

/// The most bytes of `rollback_info` for which the statement of [`insert_part_sql`], with `more` bytes after it, fits
/// a packet of `packet_bytes`; at least one.
pub fn part_bytes(packet_bytes: usize, more: usize) -> usize {
    // Base64 takes most: four digits for three bytes; hexadecimal digits are only for what is short
    (packet_bytes.saturating_sub(MAX_INSERT_BYTES + more) / 4 * 3).max(1)
}

/// What the statement has besides `rollback_info` at most, in bytes: a schema's name of 64 characters, doubled
/// backticks, an XID and a context of 128 characters as digits, and the words between; and what is short enough for
/// hexadecimal digits.
const MAX_INSERT_BYTES: usize = 2048 + MAX_HEX_BYTES;

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
    let mut sql = head;
    sql.reserve(info.len() / 3 * 4 + 128);
    // JSON is full of double quotes, which stand in a single-quoted string in every SQL mode; what else might be read
    // in two ways goes as digits.
    match std::str::from_utf8(info) {
        Ok(text) if info.iter().all(|b| matches!(b, 0x20..=0x7E) && !matches!(b, b'\'' | b'\\')) => {
            sql.extend(["_binary'", text, "'"]);
        }
        _ if info.len() <= MAX_HEX_BYTES => sql.extend(["0x", &hex::encode(info)]),
        _ => {
            // What does not decode is NULL, which the column refuses
            sql.push_str("FROM_BASE64(_utf8mb4'");
            BASE64.encode_string(info, &mut sql);
            sql.push_str("')");
        }
    }
    sql.push_str(&format!(", {status}, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))"));
    sql.into_bytes()
}
