//! What statements that write rows have in common: reading images, and the ways in which such a statement ends.

use std::sync::Arc;

use atone_sql::NO_LIMIT;
use atone_undo::{ImageError, Key, Row, Table, UniqueKey, quote_identifier};
use atone_wire::Malformed;
use atone_wire::error_code::is_unrelated_to_rows;

use crate::Capture;
use crate::error::{End, SqlError};
use crate::flight::{Flight, Reply, Rows, flights};
use crate::outcome::Halt;
use atone_facts::{TableInfo, Write, capture_refusal, is_refused_by_tools_only};

/// How many keys one SELECT names.
pub(crate) const KEYS_PER_SELECT: usize = 500;

/// How often a statement is tried again because the table was altered meanwhile.
pub(crate) const MAX_TRIES: usize = 3;

impl Capture<'_> {
    /// Why triggers keep a table from being written like this, if they do.
    pub(crate) fn triggers_refuse(&self, info: &TableInfo, write: Write) -> Option<SqlError> {
        let (table, triggers) = (&info.table, &info.facts.triggers);
        let why = capture_refusal(table, triggers, write)?;
        let error = if is_refused_by_tools_only(table, triggers, write) {
            SqlError::being_altered
        } else {
            SqlError::refused
        };
        Some(error(&self.xid(), &why))
    }

    /// Why these rows of a table, each of which is named once, cannot be in the branch beside those that it has: they
    /// would be too many.
    pub(crate) fn too_many<'a>(
        &self,
        table: &Table,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> Option<String> {
        self.too_many_new(self.state.branch.new_rows(table, keys))
    }

    /// The same of so many rows that the branch does not have.
    pub(crate) fn too_many_new(&self, rows: usize) -> Option<String> {
        let limit = self.limits.max_branch_rows;
        let above = self.state.branch.rows().saturating_add(rows) > limit;
        above.then(|| format!("more than max_branch_rows = {limit} rows in one branch"))
    }

    /// Reads rows as they are now, and locks them.
    pub(crate) async fn rows_now(
        &mut self,
        keys: Vec<(Arc<Table>, Vec<Key>)>,
    ) -> Result<Vec<(Arc<Table>, Vec<Row>)>, Halt> {
        let mut out: Vec<(Arc<Table>, Vec<Row>)> = Vec::new();
        let count = keys.iter().map(|(_, keys)| keys.len()).sum();
        let selects = self.heavy.run(count, || after_selects(keys));
        let mut sent = selects.iter();
        for flight in flights(selects.iter().map(|(_, select)| select)) {
            for (reply, (table, select)) in self.run_flight(flight).await?.into_iter().zip(&mut sent) {
                let rows = match reply {
                    Reply::Rows(rows) => rows,
                    Reply::TooLarge => return Err(self.above_bytes("the after images are").into()),
                    Reply::Err(_) | Reply::Ok(_) => return Err(Halt::broken("an after image without rows")),
                };
                let images = self.heavy.run(rows.rows.len(), || decode(table, &rows));
                let images = images.map_err(|e| self.unread(e))?;
                if rows.warnings(self.capabilities)? > 0
                    && let Some(what) = self.warning_of(table, select).await?
                {
                    let name = format!("{}.{}", table.schema, table.name);
                    let why = format!("the server warns of what it has read of {name}: {what}");
                    return Err(why.into());
                }
                out.push((table.clone(), images));
            }
        }
        Ok(out)
    }

    /// The rows that have these keys now, locked.
    pub(crate) async fn rows_at(&mut self, table: &Arc<Table>, keys: Vec<Key>) -> Result<Vec<Row>, Halt> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.rows_now(vec![(table.clone(), keys)]).await?;
        Ok(found.into_iter().flat_map(|(_, rows)| rows).collect())
    }

    /// What the server warns of that bears on the rows of a read, which are locked. It does not where something is
    /// going out of use, a charset for example, as MySQL says for the weight of a key.
    async fn warning_of(&mut self, table: &Table, select: &[u8]) -> Result<Option<String>, End> {
        let mut flight = Flight::default();
        flight.push(select);
        flight.push("SHOW WARNINGS");
        let replies = self.run_flight(flight).await?;
        let [Reply::Rows(read), Reply::Rows(list)] = replies.as_slice() else {
            return Err(End::Broken("warnings without rows".into()));
        };
        for at in 0..list.rows.len() {
            let cells = list.cells(at)?;
            let text = |i: usize| {
                String::from_utf8_lossy(cells.get(i).copied().flatten().unwrap_or_default()).into_owned()
            };
            if !is_unrelated_to_rows(text(1).parse().unwrap_or_default()) {
                return Ok(Some(format!("{} {}", text(1), text(2))));
            }
        }
        // A small max_error_count cuts the list
        let whole = list.rows.len() >= usize::from(read.warnings(self.capabilities)?);
        let known = whole || (!self.mariadb && table.has_deprecated_charset());
        Ok((!known).then(|| "a warning that max_error_count hides".to_owned()))
    }

    /// Why a statement of which a value cannot be read does not run, or does not stay.
    pub(crate) fn unread(&self, unread: Unread) -> Halt {
        match unread {
            Unread::Lost(why) => SqlError::not_restorable(&self.xid(), &why).into(),
            Unread::End(end) => end.into(),
        }
    }
}

/// Why the rows of an image cannot be used.
#[derive(Debug)]
pub(crate) enum Unread {
    /// A value is above `max_allowed_packet`, in a sentence.
    Lost(String),
    /// The session must end.
    End(End),
}

impl Unread {
    /// What does not decode.
    pub(crate) fn of(table: &Table, error: &ImageError) -> Unread {
        match error {
            ImageError::Lost { .. } => Unread::Lost(format!("{}.{}: {error}", table.schema, table.name)),
            _ => Unread::End(End::Broken(format!("an image does not decode: {error}"))),
        }
    }
}

impl From<Malformed> for Unread {
    fn from(error: Malformed) -> Unread {
        Unread::End(error.into())
    }
}

impl From<Unread> for End {
    fn from(unread: Unread) -> End {
        match unread {
            Unread::Lost(why) => End::Broken(why),
            Unread::End(end) => end,
        }
    }
}

/// Decodes the rows of an image.
pub(crate) fn decode(table: &Table, rows: &Rows) -> Result<Vec<Row>, Unread> {
    if rows.columns.len() != table.image_width() {
        return Err(Unread::End(End::Broken("an image of another width".into())));
    }
    decode_beside(table, rows)
}

/// Decodes rows that begin with an image.
pub(crate) fn decode_beside(table: &Table, rows: &Rows) -> Result<Vec<Row>, Unread> {
    let width = table.image_width();
    (0..rows.rows.len())
        .map(|i| {
            let cells = rows.cells(i)?;
            let other = || Unread::End(End::Broken("an image of another width".into()));
            let image = cells.get(..width).ok_or_else(other)?;
            table.decode_row(image).map_err(|e| Unread::of(table, &e))
        })
        .collect()
}

/// The locking read of the rows of a table for which a condition holds.
pub(crate) fn locking_read(table: &Table, condition: &[u8]) -> Vec<u8> {
    locking_read_through(table, None, condition)
}

/// The same where the condition names rows by the key that identifies them.
pub(crate) fn locking_read_by_key(table: &Table, condition: &[u8]) -> Vec<u8> {
    locking_read_through(table, table.keys.first(), condition)
}

/// The same where the condition names rows by this unique key. A server may find it cheaper to read all of a small
/// table, and would then wait for rows that others have locked.
pub(crate) fn locking_read_through(table: &Table, key: Option<&UniqueKey>, condition: &[u8]) -> Vec<u8> {
    let list = table.image_select_list(&quote_identifier(&table.name));
    let index = key.map_or_else(String::new, UniqueKey::force);
    let mut out = format!("SELECT {list} FROM {}{index} WHERE ", table.quoted()).into_bytes();
    out.extend_from_slice(condition);
    out.extend_from_slice(NO_LIMIT);
    out.extend_from_slice(b" FOR UPDATE");
    out
}

/// The locking reads of the rows with these keys, each of a bounded number.
pub(crate) fn locking_reads(table: &Table, keys: &[Key]) -> impl Iterator<Item = Vec<u8>> {
    let qualifier = quote_identifier(&table.name);
    keys.chunks(KEYS_PER_SELECT)
        .map(move |chunk| locking_read_by_key(table, table.keys_predicate(&qualifier, chunk).as_bytes()))
}

/// The table with the columns of its key only.
pub(crate) fn key_only(table: &Table) -> Table {
    let key = table.keys.first();
    let columns = key.map(|k| k.columns.as_slice()).unwrap_or_default();
    Table {
        schema: table.schema.clone(),
        name: table.name.clone(),
        columns: columns.iter().filter_map(|&c| table.columns.get(c).cloned()).collect(),
        keys: key
            .map(|k| UniqueKey {
                name: k.name.clone(),
                columns: (0..columns.len()).collect(),
                prefixes: k.prefixes.clone(),
            })
            .into_iter()
            .collect(),
    }
}

/// The locking reads of these rows, each of a bounded number.
fn after_selects(keys: Vec<(Arc<Table>, Vec<Key>)>) -> Vec<(Arc<Table>, Vec<u8>)> {
    let mut out = Vec::new();
    for (table, keys) in keys {
        out.extend(locking_reads(&table, &keys).map(|select| (table.clone(), select)));
    }
    out
}
