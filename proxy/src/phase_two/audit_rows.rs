//! Rows that triggers add to other tables while a branch is rolled back: they go before the rollback commits, so that
//! it leaves nothing.
//!
//! They are found as those of a statement are (`capture/effects/audit.rs`): by numbers that are generated after a look
//! at the counter of their table, held by this transaction, and seen by nobody else.

use std::collections::HashSet;

use atone_catalog::first_number;
use atone_facts::{AuditTable, NUMBERS_PER_READ, NumberedTable};
use atone_undo::{Statement, UndoRecord, Value, quote_identifier};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::Failure;
use super::restore::{ROWS_PER_BATCH, run_batch};
use crate::backend::Backend;

/// Tables to which triggers will add rows, each with a number below which none is generated.
#[derive(Debug, Default)]
pub(super) struct AuditRows(Vec<(AuditTable, i128)>);

/// Keeps a table from being altered until the transaction ends.
pub(super) async fn lock_metadata(conn: &mut Conn, quoted: &str) -> Result<(), Failure> {
    Ok(conn.query_drop(format!("SELECT 1 FROM {quoted} LIMIT 0")).await?)
}

impl AuditRows {
    /// Of tables that are held.
    pub(super) async fn of(conn: &mut Conn, tables: Vec<AuditTable>) -> Result<AuditRows, Failure> {
        let mut out = AuditRows::default();
        for table in tables {
            if !out.0.iter().any(|(known, _)| *known == table) {
                let first = first_number(conn, &table).await?;
                out.0.push((table, first));
            }
        }
        Ok(out)
    }

    /// Deletes what triggers have added since.
    pub(super) async fn delete_added(
        &self,
        backend: &Backend,
        conn: &mut Conn,
        record: &UndoRecord,
    ) -> Result<(), Failure> {
        for (table, first) in &self.0 {
            let restored = restored(record, table);
            let numbered = NumberedTable::new(table.quoted(), &table.column);
            let mut next = Some(*first);
            while let Some(first) = next {
                let page = backend.catalog.uncommitted(&numbered, first, NUMBERS_PER_READ).await?;
                next = page.next;
                let ids: Vec<i128> = page.ids.into_iter().filter(|id| !restored.contains(id)).collect();
                for ids in ids.chunks(ROWS_PER_BATCH) {
                    let mut own = lockable(conn, table, ids).await?;
                    let committed = backend.catalog.committed(&numbered, &own, ROWS_PER_BATCH).await?;
                    own.retain(|id| !committed.contains(id));
                    delete(conn, table, &own).await?;
                }
            }
        }
        Ok(())
    }
}

/// The rows of the table that the rollback itself puts back.
fn restored(record: &UndoRecord, audit: &AuditTable) -> HashSet<i128> {
    let changes =
        record.tables.iter().filter(|c| c.table.schema == audit.schema && c.table.name == audit.name);
    let mut out = HashSet::new();
    for changes in changes {
        let before = changes.rows.iter().filter_map(|row| row.before.as_ref());
        out.extend(before.filter_map(|before| match changes.table.key_of(before).0.as_slice() {
            [Value::Int(id)] => Some(*id),
            _ => None,
        }));
    }
    out
}

/// Which of these rows this transaction can lock: its own, and committed ones.
async fn lockable(conn: &mut Conn, table: &AuditTable, ids: &[i128]) -> Result<Vec<i128>, Failure> {
    let column = quote_identifier(&table.column);
    // One by one, so that no other row is locked, and no gap
    let one = |id| {
        format!(
            "SELECT CAST({column} AS CHAR) FROM {} FORCE INDEX (PRIMARY) WHERE {column} = {id} FOR UPDATE SKIP LOCKED",
            table.quoted()
        )
    };
    let mut out = Vec::new();
    if ids.is_empty() {
        return Ok(out);
    }
    let mut result = conn.query_iter(ids.iter().map(one).collect::<Vec<_>>().join(";")).await?;
    for _ in ids {
        while let Some(row) = result.next().await? {
            let id = row.get_opt::<String, _>(0).and_then(Result::ok).and_then(|id| id.parse().ok());
            out.push(id.ok_or_else(|| super::stuck("a number of a row does not decode"))?);
        }
    }
    result.drop_result().await?;
    Ok(out)
}

async fn delete(conn: &mut Conn, audit: &AuditTable, ids: &[i128]) -> Result<(), Failure> {
    let (table, column) = (audit.quoted(), quote_identifier(&audit.column));
    // One by one: to find several a server may read the whole of a small table, and wait for others
    let one = |id| Statement {
        sql: format!("DELETE FROM {table} WHERE {column} = {id}"),
        params: Vec::new(),
        rows: 1,
    };
    run_batch(conn, ids.iter().map(one).collect()).await
}
