//! Reading `undo_log` rows of a server.

use atone_undo::{
    Encoded, LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, PART_SEPARATOR,
    RecordError, UNDO_LOG_TABLE, UndoRecord, part_xid, quote_identifier,
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
    /// Length of `rollback_info`, all parts together.
    pub(crate) bytes: usize,
    /// How many rows of the undo log hold it.
    pub(crate) parts: usize,
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

/// Reads a schema's undo records and markers, one at a time; `each` is called for every one: first for those of one row
/// in the order of their branches, then for those in several parts, then for parts whose record is gone.
pub(crate) async fn read(
    conn: &mut Conn,
    schema: &str,
    filter: &Filter<'_>,
    mut each: impl FnMut(LogRow),
) -> Result<(), Failure> {
    let table = format!("{}.{}", quote_identifier(schema), quote_identifier(UNDO_LOG_TABLE));
    let mut sql = format!(
        "SELECT {COLUMNS}, (SELECT COUNT(*) FROM {table} p WHERE p.branch_id = u.branch_id \
         AND p.log_status = {LOG_STATUS_PART} AND SUBSTRING_INDEX(p.xid, '{PART_SEPARATOR}', 1) = u.xid) AS others \
         FROM {table} u WHERE log_status <> {LOG_STATUS_PART}"
    );
    let of_xid = filter.xid.map(xid_literal);
    if let Some(xid) = &of_xid {
        sql.push_str(&format!(" AND xid = {xid}"));
    }
    sql.push_str(&format!(" ORDER BY branch_id, xid LIMIT {}", filter.limit));
    let mut in_parts: Vec<Cells> = Vec::new();
    let mut result = conn.query_iter(sql).await.map_err(failed)?;
    while let Some(row) = result.next().await.map_err(failed)? {
        let cells = Cells::of(schema, row)?;
        if cells.others > 0 {
            in_parts.push(cells);
        } else {
            each(cells.into_log_row(schema, Vec::new()));
        }
    }
    result.drop_result().await.map_err(failed)?;
    for cells in in_parts {
        let mut parts: Vec<Cells> = Vec::new();
        let xid = xid_literal(&cells.xid);
        let sql = format!(
            "SELECT {COLUMNS}, 0 AS others FROM {table} WHERE branch_id = {} AND log_status = {LOG_STATUS_PART} \
             AND SUBSTRING_INDEX(xid, '{PART_SEPARATOR}', 1) = {xid} ORDER BY LENGTH(xid), xid",
            cells.branch_id
        );
        let mut result = conn.query_iter(sql).await.map_err(failed)?;
        while let Some(row) = result.next().await.map_err(failed)? {
            parts.push(Cells::of(schema, row)?);
        }
        result.drop_result().await.map_err(failed)?;
        each(cells.into_log_row(schema, parts));
    }
    let mut sql = format!(
        "SELECT {}, 0 AS others FROM {table} p WHERE p.log_status = {LOG_STATUS_PART} AND NOT EXISTS (SELECT 1 FROM {table} f \
         WHERE f.branch_id = p.branch_id AND f.xid = SUBSTRING_INDEX(p.xid, '{PART_SEPARATOR}', 1) \
         AND f.log_status = {LOG_STATUS_UNDO})",
        COLUMNS.replace("rollback_info", "LEFT(rollback_info, 256)")
    );
    if let Some(xid) = &of_xid {
        sql.push_str(&format!(" AND SUBSTRING_INDEX(p.xid, '{PART_SEPARATOR}', 1) = {xid}"));
    }
    sql.push_str(&format!(" ORDER BY p.branch_id, p.xid LIMIT {}", filter.limit));
    let mut result = conn.query_iter(sql).await.map_err(failed)?;
    while let Some(row) = result.next().await.map_err(failed)? {
        each(Cells::of(schema, row)?.into_log_row(schema, Vec::new()));
    }
    result.drop_result().await.map_err(failed)
}

/// A row as it stands in the table.
#[derive(Debug)]
struct Cells {
    branch_id: i64,
    xid: String,
    context: String,
    info: Vec<u8>,
    status: i64,
    created: String,
    /// How many other parts there are, where it is a first one.
    others: i64,
}

impl Cells {
    fn of(schema: &str, row: Row) -> Result<Cells, Failure> {
        let cells = row.unwrap();
        let Ok([branch_id, xid, context, info, status, created, others]) = <[Value; 7]>::try_from(cells)
        else {
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
        Ok(Cells {
            branch_id: number(branch_id)?,
            xid: text(xid),
            context: text(context),
            info: bytes(info),
            status: number(status)?,
            created: text(created),
            others: number(others)?,
        })
    }

    fn into_log_row(self, schema: &str, parts: Vec<Cells>) -> LogRow {
        let bytes = self.info.len() + parts.iter().map(|part| part.info.len()).sum::<usize>();
        LogRow {
            schema: schema.to_owned(),
            xid: self.xid.clone(),
            branch_id: self.branch_id,
            context: self.context.clone(),
            bytes,
            parts: parts.len() + 1,
            created: self.created.clone(),
            content: content(self, parts),
        }
    }
}

fn content(first: Cells, others: Vec<Cells>) -> Content {
    let head: Vec<u8> = first.info.iter().copied().take(HEAD_BYTES).collect();
    let bad = |reason: String| Content::Bad { reason, head: head.clone() };
    let status = i32::try_from(first.status).unwrap_or(-1);
    match status {
        LOG_STATUS_MARKER if first.info.is_empty() => return Content::Marker,
        LOG_STATUS_MARKER => return bad("a marker that is not empty".to_owned()),
        LOG_STATUS_RESTORED if first.info.is_empty() => return Content::Restored,
        LOG_STATUS_RESTORED => return bad("restored, but not empty".to_owned()),
        LOG_STATUS_PART => return bad("a part of a record whose first part is gone".to_owned()),
        LOG_STATUS_UNDO => {}
        _ => return bad(format!("the log_status {} is not known", first.status)),
    }
    let misplaced = (2..).zip(&others).find(|(part, row)| row.xid != part_xid(&first.xid, *part));
    if let Some((part, row)) = misplaced {
        return bad(format!("{:?} is in the place of part {part}", row.xid));
    }
    let (xid, branch_id) = (first.xid, first.branch_id);
    let rows = std::iter::once((first.context, first.info))
        .chain(others.into_iter().map(|row| (row.context, row.info)))
        .map(|(context, rollback_info)| Encoded { context, rollback_info })
        .collect();
    match UndoRecord::decode_rows(rows).map_err(|e: RecordError| e.to_string()) {
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
    use atone_undo::Layout;

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

    fn cells(xid: &str, branch_id: i64, status: i64, context: &str, info: &[u8]) -> Cells {
        let created = String::new();
        Cells {
            branch_id,
            xid: xid.into(),
            context: context.into(),
            info: info.to_vec(),
            status,
            created,
            others: 0,
        }
    }

    #[test]
    fn contents() {
        let (record, encoded) = record();
        let read = |xid: &str, id, status, info: &[u8]| {
            content(cells(xid, id, status, &encoded.context, info), Vec::new())
        };
        assert!(matches!(read("x:1", 5, 0, &encoded.rollback_info), Content::Undo(r) if r == record));
        assert!(matches!(read("x:1", 5, 1, b""), Content::Marker));
        assert!(matches!(read("x:1", 5, 2, b""), Content::Restored));
        for (content, why) in [
            (read("x:2", 5, 0, &encoded.rollback_info), "branch 5 of x:1"),
            (read("x:1", 6, 0, &encoded.rollback_info), "branch 5 of x:1"),
            (read("x:1", 5, 0, b"{}"), "2 bytes"),
            (read("x:1", 5, 1, b"x"), "marker"),
            (read("x:1", 5, 3, b"x"), "first part is gone"),
            (read("x:1", 5, 7, b""), "log_status 7"),
        ] {
            let Content::Bad { reason, .. } = content else { panic!("{why}") };
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn parts() {
        let (record, _) = record();
        let rows = record.encode_rows(Layout { compress_bytes: 1, part_bytes: 20 }).unwrap();
        let all: Vec<Cells> = (1..)
            .zip(&rows)
            .map(|(part, row)| {
                let status = if part == 1 { 0 } else { 3 };
                cells(&part_xid("x:1", part), 5, status, &row.context, &row.rollback_info)
            })
            .collect();
        assert!(all.len() > 2);
        let read = |mut cells: Vec<Cells>| {
            let first = cells.remove(0);
            content(first, cells)
        };
        let copy = || all.iter().map(|c| cells(&c.xid, 5, c.status, &c.context, &c.info));
        assert!(matches!(read(copy().collect()), Content::Undo(r) if r == record));
        for (bad, why) in [
            (copy().take(2).collect::<Vec<_>>(), "there are 2"),
            (copy().enumerate().filter(|(n, _)| *n != 1).map(|(_, c)| c).collect(), "place of part 2"),
        ] {
            let Content::Bad { reason, .. } = read(bad) else { panic!("{why}") };
            assert!(reason.contains(why), "{reason}");
        }
    }
}
