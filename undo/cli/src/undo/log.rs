//! Reading `undo_log` rows of a server.

use atone_undo::{
    LOG_STATUS_MARKER, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, RecordError, UNDO_LOG_TABLE, UndoRecord,
    quote_identifier,
};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};

use crate::Failure;

/// The columns that a table must have to be an undo log.
const COLUMNS: &str = "branch_id, xid, context, rollback_info, log_status, \
                       DATE_FORMAT(log_created, '%Y-%m-%d %H:%i:%s.%f') AS log_created";

/// What an undo row holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// The changes of a branch.
    Undo(UndoRecord),
    /// This branch must never commit.
    Marker,
    /// The rows are restored; the row is about to go.
    Restored,
    /// It does not decode.
    Bad {
        /// Why.
        reason: String,
        /// The first bytes of `rollback_info`.
        head: Vec<u8>,
    },
}

/// One row of an `undo_log`.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) schema: String,
    pub(crate) xid: String,
    pub(crate) branch_id: i64,
    pub(crate) context: String,
    /// Length of `rollback_info`.
    pub(crate) bytes: usize,
    /// UTC.
    pub(crate) created: String,
    pub(crate) content: Content,
}

/// How much of an undecodable record is shown.
const HEAD_BYTES: usize = 256;

impl LogRow {
    /// `undo`, `marker`, `restored` or `undecodable`.
    pub(crate) fn status(&self) -> &'static str {
        match self.content {
            Content::Undo(_) => "undo",
            Content::Marker => "marker",
            Content::Restored => "restored",
            Content::Bad { .. } => "undecodable",
        }
    }
}

fn failed(error: mysql_async::Error) -> Failure {
    Failure::Failed(error.to_string())
}

/// The schemas that have an undo log, or the one that was asked for.
pub(crate) async fn schemas(conn: &mut Conn, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
    if let Some(schema) = wanted {
        return Ok(vec![schema.to_owned()]);
    }
    conn.query(format!(
        "SELECT table_schema AS s FROM information_schema.tables \
         WHERE table_name = '{UNDO_LOG_TABLE}' AND table_type = 'BASE TABLE' ORDER BY table_schema"
    ))
    .await
    .map_err(failed)
}

/// The XID as an SQL string, whatever was typed or read.
pub(crate) fn xid_literal(xid: &str) -> String {
    if xid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'_' | b'-')) {
        return format!("'{xid}'");
    }
    let digits: String = xid.bytes().map(|b| format!("{b:02x}")).collect();
    format!("CONVERT(X'{digits}' USING utf8mb4)")
}

/// Which rows to read.
#[derive(Debug, Default)]
pub(crate) struct Filter<'a> {
    pub(crate) xid: Option<&'a str>,
    /// At most this many.
    pub(crate) limit: u64,
}

/// Reads a schema's rows in the order of their branches, one at a time; `each` is called for every row.
pub(crate) async fn read(
    conn: &mut Conn,
    schema: &str,
    filter: &Filter<'_>,
    mut each: impl FnMut(LogRow),
) -> Result<(), Failure> {
    let mut sql = format!(
        "SELECT {COLUMNS} FROM {}.{} WHERE 1 = 1",
        quote_identifier(schema),
        quote_identifier(UNDO_LOG_TABLE)
    );
    if let Some(xid) = filter.xid {
        sql.push_str(&format!(" AND xid = {}", xid_literal(xid)));
    }
    sql.push_str(&format!(" ORDER BY branch_id, xid LIMIT {}", filter.limit));
    let mut result = conn.query_iter(sql).await.map_err(failed)?;
    while let Some(row) = result.next().await.map_err(failed)? {
        each(log_row(schema, row)?);
    }
    result.drop_result().await.map_err(failed)
}

fn log_row(schema: &str, row: Row) -> Result<LogRow, Failure> {
    let cells = row.unwrap();
    let Ok([branch_id, xid, context, info, status, created]) = <[Value; 6]>::try_from(cells) else {
        return Err(Failure::Failed(format!("the undo_log of {schema} gives another number of columns")));
    };
    let bytes = |value: Value| match value {
        Value::Bytes(bytes) => bytes,
        Value::NULL => Vec::new(),
        other => other.as_sql(true).into_bytes(),
    };
    let text = |value: Value| String::from_utf8_lossy(&bytes(value)).into_owned();
    let number = |value: Value| {
        let text = text(value);
        text.parse::<i64>()
            .map_err(|_| Failure::Failed(format!("the undo_log of {schema} has the number {text:?}")))
    };
    let branch_id = number(branch_id)?;
    let status = number(status)?;
    let (xid, context, info) = (text(xid), text(context), bytes(info));
    let content = content(&xid, branch_id, status, &context, &info);
    Ok(LogRow {
        schema: schema.to_owned(),
        xid,
        branch_id,
        context,
        bytes: info.len(),
        created: text(created),
        content,
    })
}

fn content(xid: &str, branch_id: i64, status: i64, context: &str, info: &[u8]) -> Content {
    let bad = |reason: String| Content::Bad { reason, head: info.iter().copied().take(HEAD_BYTES).collect() };
    if status == i64::from(LOG_STATUS_MARKER) {
        return if info.is_empty() { Content::Marker } else { bad("a marker that is not empty".to_owned()) };
    }
    if status == i64::from(LOG_STATUS_RESTORED) {
        return if info.is_empty() { Content::Restored } else { bad("restored, but not empty".to_owned()) };
    }
    if status != i64::from(LOG_STATUS_UNDO) {
        return bad(format!("the log_status {status} is not known"));
    }
    match UndoRecord::decode(context, info).map_err(|e: RecordError| e.to_string()) {
        Ok(record) if record.xid != xid || i64::try_from(record.branch_id) != Ok(branch_id) => {
            bad(format!("the record is that of branch {} of {}", record.branch_id, record.xid))
        }
        Ok(record) => Content::Undo(record),
        Err(reason) => bad(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (UndoRecord, atone_undo::Encoded) {
        let record = UndoRecord {
            xid: "x:1".to_owned(),
            branch_id: 5,
            resource: "bank1".to_owned(),
            tables: Vec::new(),
        };
        let encoded = record.encode().unwrap();
        (record, encoded)
    }

    #[test]
    fn contents() {
        let (record, encoded) = record();
        let read = |xid: &str, id, status, info: &[u8]| content(xid, id, status, &encoded.context, info);
        assert!(matches!(read("x:1", 5, 0, &encoded.rollback_info), Content::Undo(r) if r == record));
        assert!(matches!(read("x:1", 5, 1, b""), Content::Marker));
        assert!(matches!(read("x:1", 5, 2, b""), Content::Restored));
        for (content, why) in [
            (read("x:2", 5, 0, &encoded.rollback_info), "branch 5 of x:1"),
            (read("x:1", 6, 0, &encoded.rollback_info), "branch 5 of x:1"),
            (read("x:1", 5, 0, b"{}"), "2 bytes"),
            (read("x:1", 5, 1, b"x"), "marker"),
            (read("x:1", 5, 7, b""), "log_status 7"),
        ] {
            let Content::Bad { reason, .. } = content else { panic!("{why}") };
            assert!(reason.contains(why), "{reason}");
        }
    }
}
