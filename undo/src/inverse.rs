//! What a rollback does with one table's changes: judge each row against what is there now, and put back the before
//! images.

use std::iter::Peekable;
use std::vec::IntoIter;

use crate::image::{Key, Value};
use crate::literal::{self, Long, Session};
use crate::record::RowChange;
use crate::table::{Table, quote_identifier};

/// What may be done with a changed row, given what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The row is as the branch left it: restore it.
    Restore,
    /// The row is as before the branch: nothing to do.
    AlreadyRestored,
    /// Somebody else changed the row since.
    Conflict {
        /// Indices of the columns in which the current row differs from the branch's after image; empty where the row
        /// is there or gone against expectation.
        columns: Vec<usize>,
    },
}

/// One statement of the compensation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The statement's text (utf8mb4), without a `;`.
    pub sql: String,
    /// The bytes that stand for each `?` of the text: values that are too long for it. Empty from [`inverse`].
    pub params: Vec<Vec<u8>>,
    /// How many rows it must change; any other count means that the compensation must not be committed.
    pub rows: u64,
}

/// The length at which a DELETE or INSERT of many rows is cut, in bytes. A single row may be longer.
pub const MAX_STATEMENT_BYTES: usize = 1 << 20;
/// The most rows that one DELETE or INSERT names.
const MAX_STATEMENT_ROWS: usize = 500;
/// Values of more bytes may be parameters.
const LONG_VALUE_BYTES: usize = 16 << 10;
/// The same in a statement that is too long all the same: a table may have a thousand columns.
const LONG_IN_MANY_BYTES: usize = 256;

/// Compares a changed row with the row that is there now. Generated columns follow from the others.
pub fn judge(table: &Table, change: &RowChange, current: Option<&[Value]>) -> Verdict {
    let same = |image: Option<&[Value]>| match (image, current) {
        (None, None) => true,
        (Some(image), Some(current)) => differing(table, image, current).is_empty(),
        _ => false,
    };
    if same(change.after.as_deref()) {
        return Verdict::Restore;
    }
    if same(change.before.as_deref()) {
        return Verdict::AlreadyRestored;
    }
    let columns = match (change.after.as_deref(), current) {
        (Some(after), Some(current)) => differing(table, after, current),
        _ => Vec::new(),
    };
    Verdict::Conflict { columns }
}

/// The columns, other than generated ones, in which two images differ.
pub(crate) fn differing(table: &Table, a: &[Value], b: &[Value]) -> Vec<usize> {
    (0..table.columns.len())
        .filter(|&c| table.columns.get(c).is_some_and(|column| !column.generated) && a.get(c) != b.get(c))
        .collect()
}

/// The statements that put back the before images of these rows, in order: deletes, then updates, then inserts, so that
/// no unique key collides in between. An update that changes a further unique key (or spells the key differently)
/// while other rows are restored too is a delete and an insert of the full row.
///
/// All values are literals in the text.
pub fn inverse(table: &Table, rows: &[&RowChange]) -> Vec<Statement> {
    Inverse::new(table, rows, MAX_STATEMENT_BYTES, false, false).collect()
}

/// The same, one statement at a time, each of about `max_bytes` of text at most where it has several rows; long values are
/// parameters.
/// Each row is deleted by a statement of its own: a server may find it cheaper to read all of a small table than to look for
/// many rows in it, and would then wait for rows that others have locked.
pub fn inverse_for<'a>(
    table: &'a Table,
    rows: &[&'a RowChange],
    max_bytes: usize,
) -> impl Iterator<Item = Statement> + use<'a> {
    Inverse { rows_per_delete: 1, ..Inverse::new(table, rows, max_bytes, true, false) }
}

/// As [`inverse_for`], with a delete and an insert of the full row for each update: for a table whose triggers fire for
/// UPDATE only.
pub fn replacing_inverse_for<'a>(
    table: &'a Table,
    rows: &[&'a RowChange],
    max_bytes: usize,
) -> impl Iterator<Item = Statement> + use<'a> {
    Inverse { rows_per_delete: 1, ..Inverse::new(table, rows, max_bytes, true, true) }
}

/// What is left to do.
struct Inverse<'a> {
    table: &'a Table,
    max_bytes: usize,
    params: bool,
    rows_per_delete: usize,
    deletes: Peekable<IntoIter<&'a [Value]>>,
    updates: IntoIter<(&'a [Value], &'a [Value])>,
    inserts: IntoIter<&'a [Value]>,
    /// A row's values for an INSERT that did not fit the last one.
    tuple: Option<(String, Vec<Vec<u8>>)>,
}

impl<'a> Inverse<'a> {
    fn new(table: &'a Table, rows: &[&'a RowChange], max_bytes: usize, params: bool, replace: bool) -> Self {
        let (mut deletes, mut updates, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match (row.before.as_deref(), row.after.as_deref()) {
                (None, None) => {}
                (None, Some(after)) => deletes.push(after),
                (Some(before), None) => inserts.push(before),
                (Some(before), Some(after))
                    if replace || (rows.len() > 1 && table.changes_key(before, after)) =>
                {
                    deletes.push(after);
                    inserts.push(before);
                }
                (Some(before), Some(after)) => updates.push((before, after)),
            }
        }
        Inverse {
            table,
            max_bytes,
            params,
            rows_per_delete: MAX_STATEMENT_ROWS,
            deletes: deletes.into_iter().peekable(),
            updates: updates.into_iter(),
            inserts: inserts.into_iter(),
            tuple: None,
        }
    }

    fn delete(&mut self) -> Option<Statement> {
        let head = format!("DELETE FROM {} WHERE ", self.table.quoted());
        let mut keys: Vec<Key> = Vec::new();
        let mut bytes = head.len();
        while let Some(values) = self.deletes.peek() {
            let key = self.table.key_of(values);
            bytes += self.table.predicate("", std::slice::from_ref(&key), Session::Compensation).len() + 4;
            if !keys.is_empty() && (bytes > self.max_bytes || keys.len() >= self.rows_per_delete) {
                break;
            }
            keys.push(key);
            self.deletes.next();
        }
        (!keys.is_empty()).then(|| Statement {
            sql: format!("{head}{}", self.table.predicate("", &keys, Session::Compensation)),
            params: Vec::new(),
            rows: keys.len() as u64,
        })
    }

    fn update(&mut self) -> Option<Statement> {
        let (before, after) = self.updates.next()?;
        let table = self.table;
        let key = table.key_of(after);
        // Every column is assigned, so that no ON UPDATE CURRENT_TIMESTAMP fires.
        let (mut sql, params) = self.with_values(before, |name, literal| format!("{name} = {literal}"));
        sql.insert_str(0, &format!("UPDATE {} SET ", table.quoted()));
        sql.push_str(" WHERE ");
        sql.push_str(&table.predicate("", &[key], Session::Compensation));
        Some(Statement { sql, params, rows: 1 })
    }

    fn insert(&mut self) -> Option<Statement> {
        let names: Vec<String> =
            self.table.columns.iter().filter(|c| !c.generated).map(|c| quote_identifier(&c.name)).collect();
        let mut sql = format!("INSERT INTO {} ({}) VALUES ", self.table.quoted(), names.join(", "));
        let mut params = Vec::new();
        let mut rows = 0;
        while let Some((tuple, long)) = self.tuple.take().or_else(|| self.tuple()) {
            // A row with parameters stands alone
            let full = sql.len() + tuple.len() + 4 > self.max_bytes || rows as usize >= MAX_STATEMENT_ROWS;
            if rows > 0 && (full || !long.is_empty()) {
                self.tuple = Some((tuple, long));
                break;
            }
            sql.push_str(if rows == 0 { "(" } else { ", (" });
            sql.push_str(&tuple);
            sql.push(')');
            rows += 1;
            if !long.is_empty() {
                params = long;
                break;
            }
        }
        (rows > 0).then_some(Statement { sql, params, rows })
    }

    fn tuple(&mut self) -> Option<(String, Vec<Vec<u8>>)> {
        let values = self.inserts.next()?;
        Some(self.with_values(values, |_, literal| literal))
    }

    /// The values of a row as literals, or parameters where they are long, each as `shown` shows it beside its column.
    fn with_values(
        &self,
        values: &[Value],
        shown: impl Fn(String, String) -> String,
    ) -> (String, Vec<Vec<u8>>) {
        let written = |above_bytes: usize| {
            let mut params = Vec::new();
            let mut sql = String::new();
            for (column, value) in self.table.columns.iter().zip(values).filter(|(c, _)| !c.generated) {
                let literal = if self.params {
                    let mut long = Long { above_bytes, params: &mut params };
                    literal::assign_long(column, value, &mut long)
                } else {
                    literal::assign(column, value)
                };
                if !sql.is_empty() {
                    sql.push_str(", ");
                }
                sql.push_str(&shown(quote_identifier(&column.name), literal));
            }
            (sql, params)
        };
        let (sql, params) = written(LONG_VALUE_BYTES);
        if self.params && sql.len() > self.max_bytes { written(LONG_IN_MANY_BYTES) } else { (sql, params) }
    }
}

impl Iterator for Inverse<'_> {
    type Item = Statement;

    fn next(&mut self) -> Option<Statement> {
        self.delete().or_else(|| self.update()).or_else(|| self.insert())
    }
}
