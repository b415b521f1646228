//! What statements that write rows have in common: reading images, and the ways in which such a statement ends.

use atone_sql::NO_LIMIT;
use atone_undo::{ImageError, Key, Row, Table, UniqueKey, quote_identifier};
use atone_wire::Malformed;

use crate::Capture;
use crate::error::{End, SqlError};
use crate::flight::Rows;
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

    /// Why rows that `are` too many bytes end a statement.
    pub fn above_bytes(&self, are: &str) -> String {
        format!("{are} above max_branch_bytes = {}", self.limits.max_branch_bytes)
    }

    /// Why these rows of a table, each of which is named once, cannot be in the branch beside those that it has: they would be
    /// too many.
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

/// The same where the condition names rows by this unique key. A server may find it cheaper to read all of a small table, and
/// would then wait for rows that others have locked.
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
