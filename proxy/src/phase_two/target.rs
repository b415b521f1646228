//! What there will be once all branches of a transaction are undone. A foreign key that dangles after one of them may
//! be whole again after the next.
//!
//! Statements without foreign key checks write children before their parents, or delete parents first, and each may be
//! a branch of its own. Undone one after the other, in whatever order, none can wait for the others. So what dangles
//! after one is judged by what the others, still to be undone, will put back by their records. A branch whose turn
//! comes later judges what it does itself.

use std::collections::{HashMap, HashSet};

use atone_api::proto::BranchRef;
use atone_catalog::Typed;
use atone_facts::TableError;
use atone_undo::{Key, LOG_STATUS_UNDO, Table, UNDO_LOG_TABLE, UndoRecord, Value, quote_identifier};
use mysql_async::Error;

use super::restore::read_rows;
use super::{Failure, undo_rows};
use crate::backend::Backend;
use crate::heavy::heavy;

/// How many children that dangle are looked at; more of them stop the branch.
const MAX_ORPHANS: usize = 10_000;

/// The rows of one table as the transaction will leave them, those that it has touched.
type Rows = HashMap<Key, Option<Vec<Value>>>;

/// The other branches of a transaction on this server that are still to be undone.
pub(super) struct Target<'a> {
    backend: &'a Backend,
    branch: &'a BranchRef,
    mariadb: bool,
    packet_bytes: usize,
    /// By schema and name, with the columns by which the rows are known. Read when something dangles.
    tables: Option<HashMap<(String, String), (Table, Rows)>>,
}

impl<'a> Target<'a> {
    /// Seen from this branch. Nothing is read yet.
    pub(super) fn new(
        backend: &'a Backend,
        branch: &'a BranchRef,
        mariadb: bool,
        packet_bytes: usize,
    ) -> Self {
        Target { backend, branch, mariadb, packet_bytes, tables: None }
    }

    /// Whether children that dangle now will not in the end. `orphans_sql` reads them by a select list for the
    /// qualifier `c`, and a number of rows at most. Each side is a table whose columns are those of the foreign key.
    pub(super) async fn resolves_orphans(
        &mut self,
        conn: &mut mysql_async::Conn,
        child: &Table,
        parent: &Table,
        orphans_sql: impl Fn(&str, usize) -> String,
    ) -> Result<bool, Failure> {
        if self.tables.is_none() {
            self.tables = Some(self.read().await?);
        }
        let Some(tables) = self.tables.as_ref().filter(|tables| !tables.is_empty()) else { return Ok(false) };
        let Some(current) = self.current_table(child).await? else { return Ok(false) };
        let Some(columns) = places(&current, child) else { return Ok(false) };
        let select = orphans_sql(&current.image_select_list("`c`"), MAX_ORPHANS + 1);
        let orphans = read_rows(conn, &current, &select).await?;
        if orphans.len() > MAX_ORPHANS {
            return Ok(false);
        }
        let of = |table: &Table| tables.get(&(table.schema.clone(), table.name.clone()));
        let parents = of(parent).map(|(table, rows)| heavy(rows.len(), || values(table, parent, rows)));
        let parents = parents.unwrap_or_default();
        // Rows are known by the same columns
        let children = of(child).filter(|(table, _)| key_names(table) == key_names(&current));
        Ok(orphans.iter().all(|orphan| {
            let value = at(&columns, &orphan.values.to_values());
            if parents.contains(&value) {
                return true;
            }
            let Some((table, rows)) = children else { return false };
            match (rows.get(&orphan.key(&current)), places(table, child)) {
                // It goes, or refers to another row then: whether that one is there its own branch looks at
                (Some(None), _) => true,
                (Some(Some(row)), Some(columns)) => at(&columns, row) != value,
                _ => false,
            }
        }))
    }

    /// The table as it is, with the key that identifies its rows.
    async fn current_table(&self, table: &Table) -> Result<Option<Table>, Failure> {
        let id = [(table.schema.as_str(), table.name.as_str())];
        let read = match self.backend.catalog.current_tables(&id, self.packet_bytes, self.mariadb).await {
            Ok(read) => read,
            Err(TableError::NoTable(_)) => return Ok(None),
            Err(TableError::Unread(e)) => return Err(e.into()),
        };
        let info = read.into_iter().next().filter(|info| info.refuse_any.is_none());
        Ok(info.map(|info| (*info.table).clone()))
    }

    /// Reads the undo records of the other branches: of rows that several have changed the earliest counts, which is
    /// undone last.
    async fn read(&self) -> Result<HashMap<(String, String), (Table, Rows)>, Failure> {
        let mut records: Vec<UndoRecord> = Vec::new();
        let mut conn = self.backend.catalog.pool().get_conn().await?;
        let schemas: Vec<String> = conn
            .text_rows(format!(
                "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = '{UNDO_LOG_TABLE}' \
                 AND TABLE_TYPE = 'BASE TABLE'"
            ))
            .await?;
        for schema in schemas {
            let undo_log = format!("{}.{}", quote_identifier(&schema), quote_identifier(UNDO_LOG_TABLE));
            let select = format!(
                "SELECT branch_id FROM {undo_log} WHERE xid = ? AND log_status = {LOG_STATUS_UNDO} AND branch_id <> ?"
            );
            let ids: Vec<u64> = match conn.rows(select, (&self.branch.xid, self.branch.branch_id)).await {
                Ok(ids) => ids,
                // Another table of that name, of which nothing is concluded
                Err(Error::Server(_)) => continue,
                Err(e) => return Err(e.into()),
            };
            for branch_id in ids {
                let branch = BranchRef { branch_id, ..self.branch.clone() };
                let record = undo_rows::read(&mut conn, &undo_log, &branch, None).await?.record;
                if record.xid == branch.xid && record.branch_id == branch_id {
                    records.push(record);
                }
            }
        }
        records.sort_by_key(|record| record.branch_id);
        let rows = records.iter().flat_map(|record| &record.tables).map(|changes| changes.rows.len()).sum();
        Ok(heavy(rows, || merge(records)))
    }
}

/// What becomes of the rows of these records, which are in the order of their branches.
fn merge(records: Vec<UndoRecord>) -> HashMap<(String, String), (Table, Rows)> {
    let mut out: HashMap<(String, String), (Table, Rows)> = HashMap::new();
    for changes in records.into_iter().flat_map(|record| record.tables) {
        let table = changes.table;
        let id = (table.schema.clone(), table.name.clone());
        let (known, rows) = out.entry(id).or_insert_with(|| (table.clone(), Rows::new()));
        if *known != table {
            // It was altered between the branches: nothing is concluded from rows that may be known by others
            rows.clear();
            known.columns.clear();
            known.keys.clear();
            continue;
        }
        for row in changes.rows {
            if let Some(values) = row.before.as_ref().or(row.after.as_ref()) {
                rows.entry(table.key_of(values)).or_insert(row.before);
            }
        }
    }
    out
}

/// Where the columns of one side of a foreign key are in a table.
fn places(table: &Table, side: &Table) -> Option<Vec<usize>> {
    let place = |name: &str| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    side.columns.iter().map(|c| place(&c.name)).collect()
}

fn at(columns: &[usize], values: &[Value]) -> Key {
    Key(columns.iter().map(|&c| values.get(c).cloned().unwrap_or(Value::Null)).collect())
}

/// The values that the columns of a foreign key will have in rows that will be there.
fn values(table: &Table, side: &Table, rows: &Rows) -> HashSet<Key> {
    let Some(columns) = places(table, side) else { return HashSet::new() };
    rows.values().flatten().map(|row| at(&columns, row)).collect()
}

fn key_names(table: &Table) -> Option<Vec<&str>> {
    let key = table.keys.first()?;
    key.columns.iter().map(|&c| table.columns.get(c).map(|c| c.name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use atone_facts::samples;
    use atone_undo::{RowChange, TableChanges};

    use super::*;

    type Image = Option<[i128; 2]>;

    fn record(branch_id: u64, rows: &[(Image, Image)], columns: &[&str]) -> UndoRecord {
        let image = |values: &Image| values.map(|v| v.into_iter().map(Value::Int).collect());
        let rows = rows.iter().map(|(b, a)| RowChange { before: image(b), after: image(a) }).collect();
        let tables = vec![TableChanges { table: samples::table(columns), rows }];
        UndoRecord { xid: "x:1".into(), branch_id, resource: "bank".into(), tables }
    }

    #[test]
    fn of_several_branches_the_earliest_counts() {
        let columns = ["id", "v"];
        let records = vec![
            record(1, &[(Some([1, 7]), None), (None, Some([2, 1]))], &columns),
            record(2, &[(None, Some([1, 8])), (Some([3, 5]), Some([3, 6]))], &columns),
        ];
        let all = merge(records);
        let (table, rows) = all.values().next().unwrap();
        let there = values(table, &samples::table(&["v"]), rows);
        assert_eq!(there, [5, 7].map(|n| Key(vec![Value::Int(n)])).into());
        assert_eq!(rows.get(&Key(vec![Value::Int(2)])), Some(&None));
        assert!(values(table, &samples::table(&["w"]), rows).is_empty());
    }

    #[test]
    fn nothing_is_concluded_of_a_table_that_was_altered_between() {
        let rows = [(Some([1, 7]), None)];
        let all = merge(vec![record(1, &rows, &["id", "v"]), record(2, &rows, &["id", "w"])]);
        let (table, rows) = all.values().next().unwrap();
        assert!(rows.is_empty() && values(table, &samples::table(&["v"]), rows).is_empty());
    }
}
