//! Rows that this transaction has inserted, told from those of others: it holds them, and a session beside it does
//! not see them.

use std::collections::HashSet;

use atone_undo::{Key, Row, Table, Value, quote_identifier};

use crate::Capture;
use crate::flight::{Reply, flights};
use crate::images::{KEYS_PER_SELECT, decode, key_only, locking_read, locking_read_by_key};
use crate::journal::Presence;
use crate::outcome::Halt;
use atone_facts::ReadError;
use atone_facts::{NumberedTable, number_list};

/// How many rows of others may lie between those of a statement.
pub(crate) const MAX_FOREIGN_ROWS: usize = 10_000;

impl Capture<'_> {
    /// The rows with one of these numbers that this transaction has inserted, and that were not there for it before,
    /// looked for so many at once: one by one no other row is locked, and no gap, even where a server had rather read
    /// the whole of a small index.
    pub(crate) async fn own_rows(
        &mut self,
        table: &Table,
        column: usize,
        ids: &[i128],
        at_once: usize,
    ) -> Result<Vec<Row>, Halt> {
        let (Some(name), Some(numbered)) =
            (table.columns.get(column).map(|column| quote_identifier(&column.name)), numbered(table, column))
        else {
            return Err(Halt::stop("the table has no such column"));
        };
        let leads = table.keys.first().is_some_and(|key| key.columns.first() == Some(&column));
        let selects = ids.chunks(at_once).map(|chunk| {
            let condition = format!("{name} IN ({})", number_list(chunk)).into_bytes();
            let mut select =
                if leads { locking_read_by_key(table, &condition) } else { locking_read(table, &condition) };
            select.extend_from_slice(b" SKIP LOCKED");
            select
        });
        let mut rows = Vec::new();
        for flight in flights(selects) {
            for reply in self.run_flight(flight).await? {
                match reply {
                    Reply::Rows(found) => {
                        let found = self.heavy.run(found.rows.len(), || decode(table, &found));
                        rows.extend(found.map_err(|e| self.unread(e))?);
                    }
                    Reply::TooLarge => return Err(self.above_bytes("the rows are").into()),
                    Reply::Err(_) | Reply::Ok(_) => return Err(Halt::broken("an image without rows")),
                }
            }
        }
        let committed = match self.catalog.committed(&numbered, ids, KEYS_PER_SELECT).await {
            Ok(committed) => committed,
            Err(e) => return Err(format!("the service account cannot read {}: {e}", table.name).into()),
        };
        rows.retain(|row| match self.state.branch.presence(table, &row.key(table)) {
            None => matches!(row.values.get(column), Some(Value::Int(id)) if !committed.contains(&id)),
            // It was gone for this transaction, which holds it locked
            Some(presence) => presence == Presence::Absent,
        });
        Ok(rows)
    }

    /// Whether rows that this transaction holds were not there before a statement of it: nobody else sees them, and
    /// those that it has touched before were gone.
    pub(crate) async fn are_new(&self, table: &Table, rows: &[Row]) -> bool {
        let mut keys: Vec<Key> = Vec::with_capacity(rows.len());
        for key in rows.iter().map(|row| row.key(table)) {
            match self.state.branch.presence(table, &key) {
                None => keys.push(key),
                Some(Presence::Absent) => {}
                Some(Presence::Present | Presence::Unknown) => return false,
            }
        }
        self.committed_keys(table, &keys).await.is_ok_and(|committed| committed.is_empty())
    }

    /// Whether rows with keys at which there was none can be those of a statement of this transaction: others have
    /// committed none with such a key. Keys at which the transaction has found a row of its own or of theirs are locked
    /// since.
    pub(crate) async fn are_own(&self, table: &Table, mut keys: Vec<Key>) -> bool {
        keys.retain(|key| !self.state.branch.had(table, key));
        match self.committed_keys(table, &keys).await {
            // Under a collation another key may be found that counts as equal
            Ok(committed) => keys.iter().all(|key| !committed.contains(key)),
            Err(_) => false,
        }
    }

    /// The keys that another session finds in the table under these.
    async fn committed_keys(&self, table: &Table, keys: &[Key]) -> Result<HashSet<Key>, ReadError> {
        if keys.is_empty() {
            return Ok(HashSet::new());
        }
        let (qualifier, only) = (quote_identifier(&table.name), key_only(table));
        let list = only.image_select_list(&qualifier);
        let select = |chunk| {
            let condition = table.keys_predicate(&qualifier, chunk);
            format!("SELECT {list} FROM {}{} WHERE {condition}", table.quoted(), table.force_key())
        };
        let selects: Vec<String> = keys.chunks(KEYS_PER_SELECT).map(select).collect();
        let rows = self.catalog.committed_rows(&only, &selects).await?;
        Ok(rows.iter().map(|row| row.key(&only)).collect())
    }
}

/// The table by the numbers in this column.
pub(crate) fn numbered(table: &Table, column: usize) -> Option<NumberedTable> {
    table.columns.get(column).map(|column| NumberedTable::new(table.quoted(), &column.name))
}
