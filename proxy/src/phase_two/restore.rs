//! Putting a branch's rows back, in one local transaction and some rows at a time.

use std::collections::HashMap;

use atone_api::proto::BranchRef;
use atone_catalog::{Reader, Typed, image, table_chunks};
use atone_facts::{AuditTable, Mirror, TableError, TableId, TableInfo};
use atone_undo::{
    ConflictReport, Exchanges, Key, MissingColumns, Row, RowChange, Statement, Table, TableChanges, Value,
    Verdict, inverse_for, judge, quote_identifier, replacing_inverse_for,
};
use atone_wire::error_code::{ER_NO_SUCH_TABLE, is_unrelated_to_rows};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, Value as Cell};

use super::adapt::{Adapted, adapt, is_deleted};
use super::audit_rows::{self, AuditRows};
use super::target::Target;
use super::{Failure, foreign_keys, stuck, undo_rows};
use crate::backend::Backend;
use crate::heavy::heavy;

/// How many rows are read, and how many statements are sent, at a time.
pub(super) const ROWS_PER_BATCH: usize = 500;
/// How many bytes of images such a batch has, and of statements; a single row may have more.
const BATCH_BYTES: usize = 1 << 20;

/// The rows of one table that are to be put back.
struct Wanted<'a> {
    changes: &'a TableChanges,
    rows: Vec<&'a RowChange>,
    /// See [`super::adapt::Adapted`].
    replaces: bool,
}

/// Restores all rows of a branch inside of an open transaction, and marks the undo row so.
pub(super) async fn restore(
    backend: &Backend,
    conn: &mut Conn,
    mut reader: Reader,
    mariadb: bool,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<(), Failure> {
    let resource = &backend.name;
    let mut loaded = undo_rows::load(conn, undo_log, branch, &backend.memory).await?;
    let record = &mut loaded.record;
    if record.xid != branch.xid || record.branch_id != branch.branch_id {
        return Err(stuck(format!(
            "the undo record is of another branch: {} {}",
            record.xid, record.branch_id
        )));
    }
    if record.resource != *resource {
        return Err(stuck(format!("the undo record is of another resource: {}", record.resource)));
    }
    let packet_bytes: Option<u64> = conn.first_text_row("SELECT @@max_allowed_packet").await?;
    let packet_bytes = packet_bytes.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let mut report = ConflictReport::new("rows were changed since by others than this transaction");
    let mut untouched = Vec::with_capacity(record.tables.len());
    let mut written = Vec::new();
    let all_adapted = current_tables(conn, (&mut reader, mariadb), &record.tables, packet_bytes).await?;
    for (changes, adapted) in record.tables.iter_mut().zip(all_adapted) {
        changes.table = adapted.table;
        written.extend(adapted.audit_tables);
        let values = heavy(changes.rows.len(), || MissingColumns::take(&adapted.gone, &mut changes.rows));
        untouched.push(((adapted.gone, values), adapted.places, adapted.untouched, adapted.replaces));
    }
    let audit_rows = AuditRows::of(&mut reader, written).await?;
    // Others may use it meanwhile
    drop(reader);
    let record = &loaded.record;
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for (changes, (gone, places, untouched, replaces)) in record.tables.iter().zip(untouched) {
        let all: Vec<&RowChange> = changes.rows.iter().collect();
        let mut restore = Vec::new();
        let mut exchanges = Exchanges::new(&changes.table, &places);
        let mut gone = MissingColumns::new(&changes.table, &gone.0, gone.1);
        let mut nth = 0;
        for batch in batches(&all, packet_bytes) {
            let current = rows_left(conn, changes, batch).await?;
            for change in batch {
                let now = current.get(&key_of(changes, change)?).map(|row| row.values.to_values());
                let now = now.as_deref();
                exchanges.add_row(change, now);
                gone.add_row(nth, change, now);
                nth += 1;
                match judge(&changes.table, change, now) {
                    Verdict::Restore => restore.push(*change),
                    Verdict::AlreadyRestored => {}
                    Verdict::Conflict { columns } => report.add(&changes.table, change, now, &columns),
                }
            }
        }
        if let Some(why) = exchanges.refusal().or_else(|| gone.refusal()) {
            return Err(stuck(why));
        }
        if let Some(untouched) = untouched {
            new_columns_untouched(conn, changes, &restore, (&untouched, replaces), packet_bytes).await?;
        }
        wanted.push(Wanted { changes, rows: restore, replaces });
    }
    if !report.rows.is_empty() {
        return Err(Failure::Conflict(report));
    }
    for wanted in &wanted {
        compensate(conn, wanted, packet_bytes).await?;
    }
    audit_rows.delete_added(backend, conn, record).await?;
    for Wanted { changes, rows, .. } in &wanted {
        // Triggers, checks or a type that rounds may have bent what was written: look again before it is final
        for batch in batches(rows, packet_bytes) {
            let current = current_rows(conn, changes, batch).await?;
            for change in batch {
                let now = current.get(&key_of(changes, change)?).map(|row| row.values.to_values());
                let now = now.as_deref();
                if !is_restored(changes, change, now) {
                    let mut report =
                        ConflictReport::new("the compensation does not bring the row back exactly");
                    report.add(&changes.table, change, now, &[]);
                    return Err(Failure::Stuck(report));
                }
            }
        }
    }
    let restored: Vec<(&Table, &[&RowChange])> = wanted
        .iter()
        .filter(|wanted| !wanted.rows.is_empty())
        .map(|wanted| (&wanted.changes.table, wanted.rows.as_slice()))
        .collect();
    let target = Target::new(backend, branch, mariadb, packet_bytes);
    foreign_keys::check(conn, &restored, target, packet_bytes).await?;
    loaded.mark_restored(conn, undo_log, branch).await
}

/// Runs the compensation of one table's rows: short statements many at a time, long values as parameters.
async fn compensate(
    conn: &mut Conn,
    Wanted { changes, rows, replaces }: &Wanted<'_>,
    packet_bytes: usize,
) -> Result<(), Failure> {
    let batch_bytes = BATCH_BYTES.min(packet_bytes / 4);
    let mut batch: Vec<Statement> = Vec::new();
    let mut bytes = 0;
    let statements: Box<dyn Iterator<Item = Statement> + Send> = if *replaces {
        Box::new(replacing_inverse_for(&changes.table, rows, batch_bytes))
    } else {
        Box::new(inverse_for(&changes.table, rows, batch_bytes))
    };
    for statement in statements {
        if !statement.params.is_empty() {
            run_batch(conn, std::mem::take(&mut batch)).await?;
            bytes = 0;
            run_long(conn, statement, packet_bytes).await?;
            continue;
        }
        if !batch.is_empty() && (bytes + statement.sql.len() > batch_bytes || batch.len() >= ROWS_PER_BATCH) {
            run_batch(conn, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
        bytes += statement.sql.len() + 1;
        batch.push(statement);
    }
    run_batch(conn, batch).await
}

fn miscounted(found: u64, statement_rows: u64) -> Failure {
    stuck(format!("a compensating statement found {found} rows of {statement_rows}"))
}

/// Runs statements without parameters in one packet.
pub(super) async fn run_batch(conn: &mut Conn, statements: Vec<Statement>) -> Result<(), Failure> {
    if statements.is_empty() {
        return Ok(());
    }
    let counts: Vec<u64> = statements.iter().map(|s| s.rows).collect();
    let mut sql = String::with_capacity(statements.iter().map(|s| s.sql.len() + 1).sum());
    for statement in statements {
        if !sql.is_empty() {
            sql.push(';');
        }
        sql.push_str(&statement.sql);
    }
    let mut result = conn.query_iter(sql).await?;
    let mut wrong = None;
    for rows in counts {
        if wrong.is_none() && result.affected_rows() != rows {
            wrong = Some(miscounted(result.affected_rows(), rows));
        }
        if result.next().await?.is_some() {
            return Err(stuck("a compensating statement answered with rows"));
        }
    }
    result.drop_result().await?;
    wrong.map_or(Ok(()), Err)
}

/// Runs a statement whose long values are parameters: they travel as they are, in packets of their own where they are
/// long.
async fn run_long(conn: &mut Conn, statement: Statement, packet_bytes: usize) -> Result<(), Failure> {
    let needed = statement.needed_bytes();
    if needed >= packet_bytes {
        return Err(stuck(format!(
            "a row of {needed} bytes cannot be restored with max_allowed_packet = {packet_bytes}"
        )));
    }
    let prepared = conn.prep(&statement.sql).await?;
    let params = statement.params.into_iter().map(Cell::Bytes).collect();
    let ran = conn.exec_drop(&prepared, Params::Positional(params)).await;
    let found = conn.affected_rows();
    conn.close(prepared).await?;
    ran?;
    if found == statement.rows { Ok(()) } else { Err(miscounted(found, statement.rows)) }
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

/// About how much memory a row takes while it is looked at, in bytes.
fn size(change: &RowChange) -> usize {
    [&change.before, &change.after].into_iter().flatten().flatten().map(|v| v.long_bytes() + 16).sum()
}

/// Cuts rows into batches of bounded numbers of rows and bytes.
fn batches<'a, 'b>(
    mut rows: &'b [&'a RowChange],
    packet_bytes: usize,
) -> impl Iterator<Item = &'b [&'a RowChange]> {
    // Their keys must fit one statement, twice as long where they are written as digits
    let limit = BATCH_BYTES.min(packet_bytes / 4);
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut count = 0;
        for change in rows.iter().take(ROWS_PER_BATCH) {
            bytes += size(change);
            if count > 0 && bytes > limit {
                break;
            }
            count += 1;
        }
        let (batch, later) = rows.split_at(count);
        rows = later;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The record's tables as they are now, and what that means for their rows.
async fn current_tables(
    conn: &mut Conn,
    (reader, mariadb): (&mut Reader, bool),
    all: &[TableChanges],
    packet_bytes: usize,
) -> Result<Vec<Adapted>, Failure> {
    let all: Vec<&TableChanges> = all.iter().collect();
    // From here on they stay as they are until the transaction ends
    lock_metadata(conn, &all, packet_bytes).await?;
    let now = read((reader, mariadb), &ids(&all), packet_bytes).await?;
    let mut adapted = adapt_all(&all, &now)?;
    let fires = |adapted: &Adapted| !adapted.audit_tables.is_empty() || adapted.mirror.is_some();
    let firing: Vec<usize> = (0..adapted.len()).filter(|&at| fires(&adapted[at])).collect();
    if firing.is_empty() {
        return Ok(adapted);
    }
    for adapted in &adapted {
        for written in adapted
            .audit_tables
            .iter()
            .map(AuditTable::quoted)
            .chain(adapted.mirror.iter().map(Mirror::quoted))
        {
            audit_rows::lock_metadata(conn, &written).await?;
        }
    }
    // What triggers write was looked at when it could still be altered
    let changes: Vec<&TableChanges> = firing.iter().map(|&at| all[at]).collect();
    let now = read((reader, mariadb), &ids(&changes), packet_bytes).await?;
    let again = adapt_all(&changes, &now)?;
    for ((at, again), own) in firing.into_iter().zip(again).zip(&now) {
        if !again.triggers_write_as(&adapted[at]) {
            return Err(Failure::Retry("a table that a trigger writes was altered meanwhile".into()));
        }
        if let Some(mirror) = &again.mirror {
            let id = [(mirror.schema.as_str(), mirror.name.as_str())];
            let copies = read((reader, mariadb), &id, packet_bytes).await?;
            if let Some(why) = copies.iter().find_map(|copy| mirror.unfit(own, copy)) {
                let (table, mirror) = (&own.table, mirror.quoted());
                let (schema, name) = (&table.schema, &table.name);
                return Err(stuck(format!("triggers of {schema}.{name} keep the rows of {mirror}: {why}")));
            }
        }
        adapted[at] = again;
    }
    Ok(adapted)
}

/// Takes the metadata locks of tables, many with one packet.
async fn lock_metadata(conn: &mut Conn, all: &[&TableChanges], packet_bytes: usize) -> Result<(), Failure> {
    let select = |changes: &TableChanges| format!("SELECT 1 FROM {} LIMIT 0", changes.table.quoted());
    let ids = ids(all);
    let mut rest = all;
    for chunk in table_chunks(&ids, packet_bytes) {
        let (some, others) = rest.split_at(chunk.len());
        rest = others;
        let selects: Vec<String> = some.iter().map(|changes| select(changes)).collect();
        match conn.all_results(&selects).await {
            Err(mysql_async::Error::Server(e)) if e.code == ER_NO_SUCH_TABLE => {}
            looked => {
                looked?;
                continue;
            }
        }
        // Which of them is it?
        for (changes, select) in some.iter().zip(selects) {
            match conn.query_drop(select).await {
                Err(mysql_async::Error::Server(e)) if e.code == ER_NO_SUCH_TABLE => {
                    let table = &changes.table;
                    return Err(stuck(format!("the table {}.{} is gone", table.schema, table.name)));
                }
                looked => looked?,
            }
        }
    }
    Ok(())
}

fn ids<'a>(all: &[&'a TableChanges]) -> Vec<TableId<'a>> {
    all.iter().map(|changes| (changes.table.schema.as_str(), changes.table.name.as_str())).collect()
}

/// Tables as they are.
async fn read(
    (reader, mariadb): (&mut Reader, bool),
    ids: &[TableId<'_>],
    packet_bytes: usize,
) -> Result<Vec<TableInfo>, Failure> {
    match reader.tables(ids, packet_bytes, mariadb).await {
        Ok(now) => Ok(now),
        Err(TableError::NoTable(name)) => Err(stuck(format!("the table {name} is gone"))),
        Err(TableError::Unread(e)) => Err(e.into()),
    }
}

fn adapt_all(all: &[&TableChanges], now: &[TableInfo]) -> Result<Vec<Adapted>, Failure> {
    all.iter()
        .zip(now)
        .map(|(changes, now)| adapt(&changes.table, &changes.rows, now).map_err(stuck))
        .collect()
}

/// Rows that the rollback deletes must not have been changed by others in columns that are new.
async fn new_columns_untouched(
    conn: &mut Conn,
    changes: &TableChanges,
    rows: &[&RowChange],
    (untouched, replaces): (&str, bool),
    packet_bytes: usize,
) -> Result<(), Failure> {
    let table = &changes.table;
    let gone: Vec<&RowChange> = rows.iter().copied().filter(|row| is_deleted(table, row, replaces)).collect();
    for batch in batches(&gone, packet_bytes) {
        let keys: Vec<Key> =
            batch.iter().filter_map(|row| row.after.as_ref().map(|after| table.key_of(after))).collect();
        let touched: Option<u8> = conn
            .first_text_row(format!(
                "SELECT 1 FROM {} WHERE {} AND NOT ({untouched}) LIMIT 1 FOR UPDATE",
                table.quoted(),
                table.keys_predicate(&quote_identifier(&table.name), &keys)
            ))
            .await?;
        if touched.is_some() {
            return Err(stuck(format!(
                "rows of {}.{} that the rollback takes away were changed since in a column that is new",
                table.schema, table.name
            )));
        }
    }
    Ok(())
}

/// Rows of a record as they are now, locked.
async fn current_rows(
    conn: &mut Conn,
    changes: &TableChanges,
    rows: &[&RowChange],
) -> Result<HashMap<Key, Row>, Failure> {
    let table = &changes.table;
    let keys: Vec<Key> = rows.iter().map(|change| key_of(changes, change)).collect::<Result<_, _>>()?;
    let found = read_rows(conn, table, &select(table, &keys)).await?;
    Ok(found.into_iter().map(|row| (row.key(table), row)).collect())
}

/// The same before anything is restored: a row that the branch has left and that is not among those read is looked for
/// by itself before it is taken for gone. Its key may be spelled otherwise now, and count as equal.
///
/// A row that a read does not give afterwards has been deleted by a statement whose rows were counted.
async fn rows_left(
    conn: &mut Conn,
    changes: &TableChanges,
    rows: &[&RowChange],
) -> Result<HashMap<Key, Row>, Failure> {
    let table = &changes.table;
    let mut out = current_rows(conn, changes, rows).await?;
    for change in rows.iter().filter(|change| change.after.is_some()) {
        let key = key_of(changes, change)?;
        if !out.contains_key(&key) {
            let found = read_rows(conn, table, &select(table, std::slice::from_ref(&key))).await?;
            out.extend(found.into_iter().next().map(|row| (key, row)));
        }
    }
    Ok(out)
}

/// Reads and locks the rows of these keys.
fn select(table: &Table, keys: &[Key]) -> String {
    let qualifier = quote_identifier(&table.name);
    format!(
        "SELECT {} FROM {}{} WHERE {} FOR UPDATE",
        table.image_select_list(&qualifier),
        table.quoted(),
        table.force_key(),
        table.keys_predicate(&qualifier, keys)
    )
}

pub(super) async fn read_rows(conn: &mut Conn, table: &Table, sql: &str) -> Result<Vec<Row>, Failure> {
    let mut out = Vec::new();
    let mut result = conn.query_iter(sql).await?;
    while let Some(row) = result.next().await? {
        out.push(image(table, row).map_err(|e| stuck(format!("a current row does not decode: {e}")))?);
    }
    drop(result);
    if conn.get_warnings() > 0 {
        // Nothing else that was asked for gives reason to one
        let warnings: Vec<(String, u16, String)> = conn.text_rows("SHOW WARNINGS").await?;
        let told = warnings.into_iter().filter(|(_, code, _)| !is_unrelated_to_rows(*code));
        let said: Vec<String> = told.take(3).map(|(_, code, message)| format!("{code} {message}")).collect();
        if !said.is_empty() {
            let name = format!("{}.{}", table.schema, table.name);
            return Err(stuck(format!("the server warns of what it reads of {name}: {}", said.join("; "))));
        }
    }
    Ok(out)
}
