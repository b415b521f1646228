//! What the open local transaction has changed so far: rows with their first before image. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use atone_facts::{Qualified, TableInfo, compensates_by_replacing};
use atone_undo::{
    Assigned, Image, Key, Obstacle, Row, RowChange, Table, TableChanges, UndoRecord, Value, obstacle,
};

/// Whether a touched row must be there when the branch commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was inserted, or changed where it stood.
    Present,
    /// It was deleted.
    Absent,
    /// Either may be: a statement failed half-way or a savepoint was rolled back to.
    Unknown,
}

#[derive(Clone, Debug)]
struct Entry {
    table: usize,
    key: Key,
    before: Option<Row>,
    presence: Presence,
}

/// The rows that a local transaction has touched.
#[derive(Debug, Default)]
pub struct Branch {
    tables: Vec<Arc<Table>>,
    entries: Vec<Entry>,
    seen: HashMap<(usize, Key), usize>,
    savepoints: Vec<(String, usize)>,
    bytes: usize,
    assumptions: Vec<Assumption>,
    /// A statement has run whose triggers fire even where it changes no row.
    fired: bool,
    /// What statements have read, and whether the transaction keeps it as it is since.
    reads: HashMap<Qualified, bool>,
}

/// A table as a statement took it to be.
#[derive(Clone, Debug)]
pub struct Assumption {
    /// What was known of it.
    pub info: Arc<TableInfo>,
    /// Foreign keys that point at it matter: rows were deleted, or indexed columns updated.
    pub as_parent: bool,
    /// It was looked at while the transaction kept it from being altered, and still does.
    pub held: bool,
}

impl Assumption {
    fn is(&self, info: &Arc<TableInfo>) -> bool {
        Arc::ptr_eq(&self.info, info)
            || self.info.table == info.table
                && self.info.facts == info.facts
                && self.info.references == info.references
    }
}

/// A row that the statement has touched: its key, how it was before, and whether it is there now.
#[derive(Debug, PartialEq)]
pub(crate) struct Touched {
    pub(crate) key: Key,
    pub(crate) before: Option<Row>,
    pub(crate) presence: Presence,
}

/// The branch as it will be recorded.
#[derive(Debug)]
pub struct Changes {
    /// Per table the rows that differ.
    pub tables: Vec<TableChanges<Image>>,
    /// Per table ("schema.table") the global row locks.
    pub locks: Vec<(String, Vec<String>)>,
}

/// Why a branch must not commit.
#[derive(Debug, PartialEq, Eq)]
pub enum NotCommitted {
    /// A sentence.
    Because(String),
    /// A row of this table could not be put back.
    Obstacle(Arc<Table>, Obstacle),
}

impl From<String> for NotCommitted {
    fn from(why: String) -> NotCommitted {
        NotCommitted::Because(why)
    }
}

/// About what a touched row takes beside its image, in bytes: its keys, and its places in the lists.
pub const ROW_BYTES: usize = 256;

/// About how much memory a touched row takes, in bytes.
pub fn row_bytes(row: &Row) -> usize {
    ROW_BYTES + row.long_bytes()
}

impl Branch {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether neither rows nor savepoints are known of it.
    pub fn is_untouched(&self) -> bool {
        self.entries.is_empty() && self.savepoints.is_empty()
    }

    /// How many rows were touched.
    pub fn rows(&self) -> usize {
        self.entries.len()
    }

    /// About how many bytes the before images take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was touched, and no trigger can have fired.
    pub fn is_clean(&self) -> bool {
        self.entries.is_empty() && !self.fired
    }

    /// Notes that a statement has run whose triggers fire even where it changes no row.
    pub fn fired(&mut self) {
        self.fired = true;
    }

    /// Notes what a statement takes a table to be.
    pub fn assume(&mut self, info: &Arc<TableInfo>, as_parent: bool) {
        match self.assumptions.iter_mut().find(|assumed| assumed.is(info)) {
            Some(assumed) => assumed.as_parent |= as_parent,
            None => self.assumptions.push(Assumption { info: info.clone(), as_parent, held: false }),
        }
    }

    /// Forgets what a statement that has not run took a table to be, where no other has written it.
    pub fn drop_assumption(&mut self, info: &Arc<TableInfo>) {
        let table = &info.table;
        if !self.tables.iter().any(|t| t.schema == table.schema && t.name == table.name) {
            self.assumptions.retain(|assumed| !assumed.is(info));
        }
    }

    /// Notes that a table was looked at while the transaction keeps it from being altered.
    pub fn hold(&mut self, info: &Arc<TableInfo>) {
        self.assume(info, false);
        for assumed in self.assumptions.iter_mut().filter(|assumed| assumed.is(info)) {
            assumed.held = true;
        }
    }

    /// Whether it was, and still is kept.
    pub fn holds(&self, info: &Arc<TableInfo>) -> bool {
        self.assumptions.iter().any(|assumed| assumed.held && assumed.is(info))
    }

    /// A statement stands at the beginning of a local transaction, and has read nothing yet.
    pub(crate) fn begin_reading(&mut self) {
        self.reads.clear();
    }

    /// Notes tables and views that a statement reads, which were looked at.
    pub fn read(&mut self, names: Vec<Qualified>) {
        self.reads.extend(names.into_iter().map(|name| (name, true)));
    }

    /// The server may have let go of what the transaction has met, and read.
    pub fn forget_holds(&mut self) {
        for assumed in &mut self.assumptions {
            assumed.held = false;
        }
        for kept in self.reads.values_mut() {
            *kept = false;
        }
    }

    /// Whether a table or view was looked at before, and is kept as it was.
    pub(crate) fn keeps(&self, name: &Qualified) -> bool {
        self.reads.get(name).is_some_and(|kept| *kept)
    }

    /// All tables and views that were read.
    pub(crate) fn reads(&self) -> Vec<Qualified> {
        self.reads.keys().cloned().collect()
    }

    /// What the statements took their tables to be.
    pub fn assumptions(&self) -> &[Assumption] {
        &self.assumptions
    }

    /// A statement stands at the beginning of a local transaction: what others took their tables to be is without
    /// effect.
    pub fn begin(&mut self) {
        self.assumptions.clear();
        self.fired = false;
    }

    fn entry(&self, table: &Table, key: &Key) -> Option<&Entry> {
        let found = self.tables.iter().position(|t| t.schema == table.schema && t.name == table.name);
        let at = self.seen.get(&(found?, key.clone()))?;
        self.entries.get(*at)
    }

    /// What is in it, line by line.
    #[cfg(test)]
    pub(crate) fn shown(&self) -> String {
        let values = |values: Vec<Value>| {
            let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            shown.join(", ")
        };
        let line = |entry: &Entry| {
            let name = self.tables.get(entry.table).map_or("?", |table| table.name.as_str());
            let presence = format!("{:?}", entry.presence).to_lowercase();
            let before = match &entry.before {
                Some(row) => format!("before ({})", values(row.values.to_values())),
                None => "new".to_owned(),
            };
            format!("journal {name}({}): {presence}, {before}\n", values(entry.key.0.clone()))
        };
        self.entries.iter().map(line).collect()
    }

    /// Whether this row is there, where it was touched.
    pub fn presence(&self, table: &Table, key: &Key) -> Option<Presence> {
        self.entry(table, key).map(|entry| entry.presence)
    }

    /// Whether this row was touched.
    pub fn has(&self, table: &Table, key: &Key) -> bool {
        self.entry(table, key).is_some()
    }

    /// How many of these rows of a table, each of which is named once, were not touched.
    pub fn new_rows<'a>(&self, table: &Table, keys: impl IntoIterator<Item = &'a Key>) -> usize {
        let found = self.tables.iter().position(|t| t.schema == table.schema && t.name == table.name);
        let touched = |key: &&Key| found.is_some_and(|at| self.seen.contains_key(&(at, (*key).clone())));
        keys.into_iter().filter(|key| !touched(key)).count()
    }

    /// Whether this row was there before the transaction, where it was touched.
    pub fn had(&self, table: &Table, key: &Key) -> bool {
        self.entry(table, key).is_some_and(|entry| entry.before.is_some())
    }

    /// Why a row could not be put back in a rollback.
    fn obstacle(
        &self,
        table: &Table,
        before: &[Value],
        after: Option<&[Value]>,
        packet_bytes: usize,
    ) -> Option<Obstacle> {
        let fires = || {
            let mut same = self.assumptions.iter().map(|assumed| &assumed.info);
            same.any(|info| {
                info.table.schema == table.schema
                    && info.table.name == table.name
                    && compensates_by_replacing(&info.facts.triggers)
            })
        };
        let stays = after.filter(|after| !table.changes_key(before, after) && !fires());
        let Some(after) = stays else { return obstacle(table, before, Assigned::Row, packet_bytes) };
        let changed = (0..before.len()).filter(|&at| before.get(at) != after.get(at)).collect();
        obstacle(table, before, Assigned::Columns(&changed), packet_bytes)
    }

    /// The schema of the first table written.
    pub fn schema(&self) -> Option<&str> {
        self.tables.first().map(|t| t.schema.as_str())
    }

    /// Forgets everything: the local transaction has ended.
    pub fn clear(&mut self) {
        *self = Branch::default();
    }

    /// Whether `table` was touched with another definition in this transaction.
    pub fn conflicts_with(&self, table: &Table) -> bool {
        self.tables.iter().any(|t| t.schema == table.schema && t.name == table.name && **t != *table)
    }

    fn table_index(&mut self, table: &Arc<Table>) -> usize {
        let found = self.tables.iter().position(|t| t.schema == table.schema && t.name == table.name);
        found.unwrap_or_else(|| {
            self.tables.push(table.clone());
            self.tables.len() - 1
        })
    }

    /// Notes a row: `before` counts only where the row was not touched before in this transaction.
    pub fn touch(&mut self, table: &Arc<Table>, key: Key, before: Option<Row>, presence: Presence) {
        let t = self.table_index(table);
        if let Some(&at) = self.seen.get(&(t, key.clone())) {
            self.entries[at].presence = presence;
            return;
        }
        self.bytes += before.as_ref().map_or(ROW_BYTES, row_bytes);
        self.seen.insert((t, key.clone()), self.entries.len());
        self.entries.push(Entry { table: t, key, before, presence });
    }

    /// A savepoint was set; an older one of the same name is gone.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.retain(|(n, _)| n != name);
        self.savepoints.push((name.to_string(), self.entries.len()));
    }

    /// The transaction was rolled back to a savepoint: rows first touched after it are as they were.
    pub fn rollback_to(&mut self, name: &str) {
        // The server lets go of what was locked after it
        self.forget_holds();
        let Some(at) = self.savepoints.iter().position(|(n, _)| n == name) else { return };
        let keep = self.savepoints[at].1;
        self.savepoints.truncate(at + 1);
        for entry in self.entries.drain(keep..) {
            self.bytes = self.bytes.saturating_sub(entry.before.as_ref().map_or(ROW_BYTES, row_bytes));
            self.seen.remove(&(entry.table, entry.key));
        }
        for entry in &mut self.entries {
            entry.presence = Presence::Unknown;
        }
    }

    /// A savepoint was released, and those set after it.
    pub fn release(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().position(|(n, _)| n == name) {
            self.savepoints.truncate(at);
        }
    }

    /// The tables touched, each with the keys of its rows.
    pub fn keys(&self) -> Vec<(Arc<Table>, Vec<Key>)> {
        let mut out: Vec<(Arc<Table>, Vec<Key>)> =
            self.tables.iter().map(|t| (t.clone(), Vec::new())).collect();
        for entry in &self.entries {
            out[entry.table].1.push(entry.key.clone());
        }
        out.retain(|(_, keys)| !keys.is_empty());
        out
    }

    /// Pairs the before images with the rows as they are now. `after` holds, per table as [`Branch::keys`] gave them,
    /// the rows found. What has to be put back must fit a packet of `packet_bytes`.
    ///
    /// # Errors
    /// A row that must be there and is not, or the other way round, or one that was not asked for: something changed
    /// rows that were not captured, so that this transaction must not commit.
    pub fn changes(
        &self,
        after: Vec<(Arc<Table>, Vec<Row>)>,
        packet_bytes: usize,
    ) -> Result<Changes, NotCommitted> {
        let mut found: HashMap<(usize, Key), Row> = HashMap::new();
        for (table, rows) in after {
            let t = self
                .tables
                .iter()
                .position(|x| x.schema == table.schema && x.name == table.name)
                .ok_or_else(|| "an after image of a table that was not touched".to_owned())?;
            for row in rows {
                let key = row.key(&table);
                if !self.seen.contains_key(&(t, key.clone())) {
                    let why = format!("a row of {}.{} changed under another key", table.schema, table.name);
                    return Err(why.into());
                }
                found.insert((t, key), row);
            }
        }
        let mut changes: Vec<TableChanges<Image>> =
            self.tables.iter().map(|t| TableChanges { table: (**t).clone(), rows: Vec::new() }).collect();
        let mut locks: Vec<Vec<String>> = vec![Vec::new(); self.tables.len()];
        for entry in &self.entries {
            let table = &self.tables[entry.table];
            let after = found.remove(&(entry.table, entry.key.clone()));
            let wrong = match entry.presence {
                Presence::Present => after.is_none(),
                Presence::Absent => after.is_some(),
                Presence::Unknown => false,
            };
            if wrong {
                let why = format!("a row of {}.{} is not as its statement left it", table.schema, table.name);
                return Err(why.into());
            }
            let rows = [entry.before.as_ref(), after.as_ref()];
            let [before, after] = rows.map(|row| row.map(|row| &row.values));
            if before == after {
                continue;
            }
            // Only what was there has to be put back
            if let Some(before) = before.map(Image::to_values) {
                let after = after.map(Image::to_values);
                if let Some(obstacle) = self.obstacle(table, &before, after.as_deref(), packet_bytes) {
                    return Err(NotCommitted::Obstacle(table.clone(), obstacle));
                }
            }
            locks[entry.table]
                .extend(rows.into_iter().flatten().flat_map(|r| r.lock_keys.iter().map(|k| k.0.clone())));
            changes[entry.table].rows.push(RowChange { before: before.cloned(), after: after.cloned() });
        }
        let mut out = Vec::new();
        for (change, mut keys) in changes.iter().zip(locks) {
            keys.sort_unstable();
            keys.dedup();
            if !keys.is_empty() {
                out.push((format!("{}.{}", change.table.schema, change.table.name), keys));
            }
        }
        changes.retain(|c| !c.rows.is_empty());
        Ok(Changes { tables: changes, locks: out })
    }
}

impl Changes {
    /// The undo record of these changes.
    pub fn into_record(self, xid: &str, branch_id: u64, resource: &str) -> UndoRecord<Image> {
        UndoRecord { xid: xid.into(), branch_id, resource: resource.into(), tables: self.tables }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atone_facts::samples;
    use atone_undo::LockKey;

    const MIB: usize = 1 << 20;

    fn table() -> Arc<Table> {
        Arc::new(samples::table(&["id", "v"]))
    }

    fn row(id: i128, v: i128) -> Row {
        Row::of(&[Value::Int(id), Value::Int(v)], vec![LockKey(id.to_string())])
    }

    fn key(id: i128) -> Key {
        Key(vec![Value::Int(id)])
    }

    #[test]
    fn the_first_before_image_counts() {
        let (t, mut b) = (table(), Branch::default());
        b.touch(&t, key(1), Some(row(1, 10)), Presence::Present);
        b.touch(&t, key(1), Some(row(1, 20)), Presence::Present);
        let changes = b.changes(vec![(t, vec![row(1, 30)])], MIB).unwrap();
        assert_eq!(changes.tables[0].rows.len(), 1);
        assert_eq!(changes.tables[0].rows[0].before, Some(row(1, 10).values));
        assert_eq!(changes.tables[0].rows[0].after, Some(row(1, 30).values));
        assert_eq!(changes.locks, [("s.t".to_string(), vec!["1".to_string()])]);
    }

    #[test]
    fn what_is_as_before_is_neither_recorded_nor_locked() {
        let (t, mut b) = (table(), Branch::default());
        b.touch(&t, key(1), Some(row(1, 10)), Presence::Present);
        b.touch(&t, key(2), None, Presence::Present);
        b.touch(&t, key(2), Some(row(2, 1)), Presence::Absent);
        let changes = b.changes(vec![(t, vec![row(1, 10)])], MIB).unwrap();
        assert!(changes.tables.is_empty() && changes.locks.is_empty());
    }

    #[test]
    fn rolling_back_to_a_savepoint_forgets_what_came_after() {
        let (t, mut b) = (table(), Branch::default());
        b.touch(&t, key(1), Some(row(1, 10)), Presence::Present);
        b.savepoint("a");
        b.touch(&t, key(2), Some(row(2, 10)), Presence::Absent);
        b.touch(&t, key(1), Some(row(1, 11)), Presence::Absent);
        b.rollback_to("a");
        assert_eq!(b.rows(), 1);
        let changes = b.changes(vec![(t.clone(), vec![row(1, 11)])], MIB).unwrap();
        assert_eq!(changes.tables[0].rows.len(), 1);
        b.rollback_to("a");
        b.release("a");
        b.rollback_to("a");
        assert_eq!(b.rows(), 1);
    }

    #[test]
    fn rows_that_are_not_as_they_must_be_stop_the_commit() {
        let (t, mut b) = (table(), Branch::default());
        b.touch(&t, key(1), None, Presence::Present);
        assert!(b.changes(vec![], MIB).is_err());
        assert!(b.changes(vec![(t.clone(), vec![row(1, 1), row(9, 9)])], MIB).is_err());
        b.touch(&t, key(1), Some(row(1, 1)), Presence::Absent);
        assert!(b.changes(vec![(t, vec![row(1, 1)])], MIB).is_err());
    }
}
