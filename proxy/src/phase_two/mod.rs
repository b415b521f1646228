//! Phase two: what the coordinator asks to be done with branches that have committed locally.
//!
//! Everything here can be done twice: the transaction that restores the rows marks the undo row as restored, and a branch
//! without an undo row gets a marker that makes a late local COMMIT fail.

mod foreign_keys;

use std::collections::HashMap;
use std::sync::Arc;

use atone_api::Xid;
use atone_api::proto::{BranchRef, Work, WorkKind, WorkOutcome, WorkResult};
use atone_undo::{
    ConflictReport, Key, LOG_STATUS_MARKER, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, Row, RowChange,
    TableChanges, UNDO_LOG_TABLE, UndoRecord, Value, Verdict, insert_marker_sql, inverse, judge,
    quote_identifier, session_setup,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Value as Cell};

use crate::backend::{Backend, UndoLogError};

/// How many keys one SELECT of current rows names.
const KEYS_PER_SELECT: usize = 500;

/// Why a job could not be done.
#[derive(Debug)]
enum Failure {
    /// Later perhaps.
    Retry(String),
    /// Not without an operator.
    Stuck(ConflictReport),
    /// A row was changed by an outsider.
    Conflict(ConflictReport),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match &error {
            // What an operator has to mend: a table, column or privilege that is missing, a value that does not fit
            Error::Server(e)
                if matches!(
                    e.code,
                    1005 | 1044
                        | 1045
                        | 1049
                        | 1054
                        | 1064
                        | 1142
                        | 1143
                        | 1146
                        | 1227
                        | 1235
                        | 1264
                        | 1265
                        | 1292
                        | 1364
                        | 1366
                        | 1406
                        | 1442
                        | 1451
                        | 1452
                        | 3105
                        | 3819
                        | 4025
                ) =>
            {
                Failure::Stuck(ConflictReport::new(format!("the server says: {} {}", e.code, e.message)))
            }
            _ => Failure::Retry(error.to_string()),
        }
    }
}

fn stuck(reason: impl Into<String>) -> Failure {
    Failure::Stuck(ConflictReport::new(reason))
}

/// Does one piece of work and tells the coordinator.
pub async fn run(backend: Arc<Backend>, work: Work) {
    let Ok(_permit) = backend.phase_two.acquire().await else { return };
    let (outcome, detail) = match perform(&backend, &work).await {
        Ok(outcome) => (outcome, String::new()),
        Err(Failure::Retry(why)) => (WorkOutcome::Retry, why),
        Err(Failure::Stuck(report)) => (WorkOutcome::Stuck, report.to_json()),
        Err(Failure::Conflict(report)) => (WorkOutcome::Conflict, report.to_json()),
    };
    if outcome != WorkOutcome::Done {
        tracing::info!(backend = backend.name, work = work.work_id, kind = ?work.kind(), ?outcome, detail, "phase two");
    }
    metrics::counter!("atone_phase_two_total", "resource" => backend.name.clone(), "outcome" => outcome.as_str_name())
        .increment(1);
    backend.coordinator.work_result(WorkResult { work_id: work.work_id, outcome: outcome.into(), detail });
}

async fn perform(backend: &Backend, work: &Work) -> Result<WorkOutcome, Failure> {
    let undo_log = format!("{}.{}", quote_identifier(&work.schema), quote_identifier(UNDO_LOG_TABLE));
    match (work.kind(), work.branches.as_slice()) {
        (WorkKind::Purge, branches) => purge(backend, &undo_log, branches).await,
        (WorkKind::Check, [branch]) => {
            let mut conn = backend.pool.get_conn().await?;
            Ok(match undo_row(backend, &mut conn, work, &undo_log, branch).await? {
                Found::Record(..) | Found::Restored => WorkOutcome::Committed,
                Found::Marker => WorkOutcome::Absent,
            })
        }
        (WorkKind::Rollback, [branch]) => rollback(backend, work, &undo_log, branch).await,
        _ => Err(stuck("work of unknown kind, or for another number of branches than one")),
    }
}

/// Deletes the undo rows of branches whose global transaction has committed.
async fn purge(backend: &Backend, undo_log: &str, branches: &[BranchRef]) -> Result<WorkOutcome, Failure> {
    let mut conn = backend.pool.get_conn().await?;
    for chunk in branches.chunks(1000) {
        let ids: Vec<String> = chunk.iter().map(|b| b.branch_id.to_string()).collect();
        // Another coordinator may have given out the same numbers
        let xids = chunk.iter().map(|b| Xid::new(&b.xid).map(|xid| format!("'{}'", xid.as_str())));
        let xids: Vec<String> = xids.collect::<Result<_, _>>().map_err(|e| stuck(e.to_string()))?;
        let sql = format!(
            "DELETE FROM {undo_log} WHERE branch_id IN ({}) AND xid IN ({}) \
             AND log_status IN ({LOG_STATUS_UNDO}, {LOG_STATUS_RESTORED})",
            ids.join(","),
            xids.join(",")
        );
        match conn.query_drop(sql).await {
            Ok(()) => {}
            // The schema or the table is gone, and its rows with it
            Err(Error::Server(e)) if matches!(e.code, 1146 | 1049) => return Ok(WorkOutcome::Done),
            Err(e) => return Err(e.into()),
        }
    }
    if backend.is_sweep_due(undo_log) {
        sweep(&mut conn, undo_log).await?;
    }
    Ok(WorkOutcome::Done)
}

type UndoRow = (i32, Vec<u8>, Vec<u8>);

/// What there is of a branch in undo_log.
enum Found {
    /// `context` and `rollback_info`.
    Record(Vec<u8>, Vec<u8>),
    /// Its rows were restored before.
    Restored,
    /// It never committed and never will.
    Marker,
}

/// The undo row of a branch. Where there is none, a marker is left, after which there never will be.
async fn undo_row(
    backend: &Backend,
    conn: &mut Conn,
    work: &Work,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<Found, Failure> {
    let select =
        format!("SELECT log_status, context, rollback_info FROM {undo_log} WHERE branch_id = ? AND xid = ?");
    // Twice: the branch may commit between the look and the marker, which then collides
    for _ in 0..2 {
        let row: Option<UndoRow> = match conn.exec_first(&select, (branch.branch_id, &branch.xid)).await {
            Ok(row) => row,
            Err(Error::Server(e)) if e.code == 1146 => {
                backend.forget_undo_log(&work.schema);
                backend.ensure_undo_log(&work.schema).await.map_err(|e| match e {
                    UndoLogError::Server(e) => Failure::from(e),
                    unusable => stuck(format!("{}.undo_log: {unusable}", work.schema)),
                })?;
                None
            }
            Err(e) => return Err(e.into()),
        };
        match row {
            Some((LOG_STATUS_UNDO, context, info)) => return Ok(Found::Record(context, info)),
            Some((LOG_STATUS_RESTORED, ..)) => return Ok(Found::Restored),
            Some((LOG_STATUS_MARKER, ..)) => return Ok(Found::Marker),
            Some((other, ..)) => {
                return Err(stuck(format!("the undo row has the unknown log_status {other}")));
            }
            None => {}
        }
        let marker = insert_marker_sql(&work.schema, &branch.xid, branch.branch_id);
        match conn.query_drop(marker).await {
            Ok(()) => return Ok(Found::Marker),
            Err(Error::Server(e)) if e.code == 1062 => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::Retry("the undo row appears and disappears".into()))
}

/// Deletes markers and leftovers of more than a day, some at a time: no local COMMIT is on its way for that long.
async fn sweep(conn: &mut Conn, undo_log: &str) -> Result<(), Failure> {
    let sql = format!(
        "DELETE FROM {undo_log} WHERE log_status IN ({LOG_STATUS_MARKER}, {LOG_STATUS_RESTORED}) \
         AND log_created < UTC_TIMESTAMP(6) - INTERVAL 1 DAY LIMIT 1000"
    );
    Ok(conn.query_drop(sql).await?)
}

async fn rollback(
    backend: &Backend,
    work: &Work,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<WorkOutcome, Failure> {
    let mut conn = backend.pool.get_conn().await?;
    let mariadb = backend.is_mariadb(&mut conn).await?;
    conn.query_drop(session_setup(mariadb).join(";")).await?;
    let (context, info) = match undo_row(backend, &mut conn, work, undo_log, branch).await? {
        Found::Record(context, info) => (context, info),
        Found::Restored => return Ok(WorkOutcome::Done),
        Found::Marker => return Ok(WorkOutcome::Absent),
    };
    let record = std::str::from_utf8(&context)
        .map_err(|e| e.to_string())
        .and_then(|context| UndoRecord::decode(context, &info).map_err(|e| e.to_string()))
        .map_err(|why| stuck(format!("the undo record does not decode: {why}")))?;
    if record.xid != branch.xid || record.branch_id != branch.branch_id {
        return Err(stuck(format!(
            "the undo record is of another branch: {} {}",
            record.xid, record.branch_id
        )));
    }
    if record.resource != backend.name {
        return Err(stuck(format!("the undo record is of another resource: {}", record.resource)));
    }
    conn.query_drop("START TRANSACTION").await?;
    match restore(&mut conn, undo_log, branch, &record).await {
        Ok(()) => {
            conn.query_drop("COMMIT").await?;
            Ok(WorkOutcome::Done)
        }
        Err(failure) => {
            conn.query_drop("ROLLBACK").await?;
            Err(failure)
        }
    }
}

/// Restores all rows of a record inside of an open transaction, and marks the undo row so.
async fn restore(
    conn: &mut Conn,
    undo_log: &str,
    branch: &BranchRef,
    record: &UndoRecord,
) -> Result<(), Failure> {
    let lock = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ? FOR UPDATE");
    let held: Option<i32> = conn.exec_first(lock, (branch.branch_id, &branch.xid)).await?;
    if held != Some(LOG_STATUS_UNDO) {
        return Err(Failure::Retry("the undo row went away".into()));
    }
    let mut report = ConflictReport::new("rows were changed since by others than this transaction");
    let mut wanted: Vec<(&TableChanges, Vec<&RowChange>)> = Vec::new();
    for changes in &record.tables {
        same_columns(conn, changes).await?;
        let current = current_rows(conn, changes).await?;
        let mut restore = Vec::new();
        for change in &changes.rows {
            let now = current.get(&key_of(changes, change)?).map(|row| row.values.as_slice());
            match judge(&changes.table, change, now) {
                Verdict::Restore => restore.push(change),
                Verdict::AlreadyRestored => {}
                Verdict::Conflict { columns } => report.add(&changes.table, change, now, &columns),
            }
        }
        wanted.push((changes, restore));
    }
    if !report.rows.is_empty() {
        return Err(Failure::Conflict(report));
    }
    for (changes, rows) in &wanted {
        for statement in inverse(&changes.table, rows) {
            conn.query_drop(&statement.sql).await?;
            if conn.affected_rows() != statement.rows {
                return Err(stuck(format!(
                    "a compensating statement found {} rows of {}",
                    conn.affected_rows(),
                    statement.rows
                )));
            }
        }
    }
    for (changes, rows) in wanted.iter().filter(|(_, rows)| !rows.is_empty()) {
        // Triggers, checks or a type that rounds may have bent what was written: look again before it is final
        let current = current_rows(conn, changes).await?;
        for change in rows {
            let now = current.get(&key_of(changes, change)?).map(|row| row.values.as_slice());
            if !is_restored(changes, change, now) {
                let mut report = ConflictReport::new("the compensation does not bring the row back exactly");
                report.add(&changes.table, change, now, &[]);
                return Err(Failure::Stuck(report));
            }
        }
    }
    for (changes, rows) in wanted.iter().filter(|(_, rows)| !rows.is_empty()) {
        foreign_keys::check(conn, changes, rows).await?;
    }
    let done = format!(
        "UPDATE {undo_log} SET log_status = {LOG_STATUS_RESTORED}, context = '', rollback_info = '', \
         log_modified = UTC_TIMESTAMP(6) WHERE branch_id = ? AND xid = ?"
    );
    conn.exec_drop(done, (branch.branch_id, &branch.xid)).await?;
    Ok(())
}

fn is_restored(changes: &TableChanges, change: &RowChange, now: Option<&[Value]>) -> bool {
    match (&change.before, now) {
        (None, None) => true,
        (Some(before), Some(now)) => {
            let columns = &changes.table.columns;
            before.iter().zip(now).zip(columns).all(|((b, n), column)| column.generated || b == n)
        }
        _ => false,
    }
}

fn key_of(changes: &TableChanges, change: &RowChange) -> Result<Key, Failure> {
    let values = change.before.as_ref().or(change.after.as_ref());
    values.map(|v| changes.table.key_of(v)).ok_or_else(|| stuck("the undo record has a row without images"))
}

/// The table must have the columns that the images have; else a restored row would not be whole.
async fn same_columns(conn: &mut Conn, changes: &TableChanges) -> Result<(), Failure> {
    let table = &changes.table;
    let now: Vec<String> = conn
        .exec(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             ORDER BY ORDINAL_POSITION",
            (&table.schema, &table.name),
        )
        .await?;
    if now.is_empty() {
        return Err(stuck(format!("the table {}.{} is gone", table.schema, table.name)));
    }
    if !now.iter().eq(table.columns.iter().map(|c| &c.name)) {
        return Err(stuck(format!(
            "the columns of {}.{} have changed: they are {}",
            table.schema,
            table.name,
            now.join(", ")
        )));
    }
    Ok(())
}

/// The rows of a record as they are now, locked.
async fn current_rows(conn: &mut Conn, changes: &TableChanges) -> Result<HashMap<Key, Row>, Failure> {
    let table = &changes.table;
    let keys: Vec<Key> =
        changes.rows.iter().map(|change| key_of(changes, change)).collect::<Result<_, _>>()?;
    let qualifier = quote_identifier(&table.name);
    let mut out = HashMap::with_capacity(keys.len());
    for chunk in keys.chunks(KEYS_PER_SELECT) {
        let sql = format!(
            "SELECT {} FROM {} WHERE {} FOR UPDATE",
            table.image_select_list(&qualifier),
            table.quoted(),
            table.keys_predicate(&qualifier, chunk)
        );
        let rows: Vec<mysql_async::Row> = conn.query(sql).await?;
        for row in rows {
            let cells = row.unwrap();
            let cells: Vec<Option<&[u8]>> = cells
                .iter()
                .map(|cell| match cell {
                    Cell::NULL => Ok(None),
                    Cell::Bytes(bytes) => Ok(Some(bytes.as_slice())),
                    _ => Err(stuck("a current row that is not text")),
                })
                .collect::<Result<_, _>>()?;
            let row =
                table.decode_row(&cells).map_err(|e| stuck(format!("a current row does not decode: {e}")))?;
            out.insert(row.key(table), row);
        }
    }
    Ok(out)
}
