//! What a rollback does with one table's changes: judge each row against what is there now, and put back the before
//! images.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::image::{Key, Value};
use crate::kind::Kind;
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

/// The statements that put back the before images of these rows, in order: deletes, then updates, then inserts, so
/// that no unique key collides in between. Where other rows are restored too, an update that changes a further unique
/// key (or spells the key differently) becomes a delete and an insert of the full row.
///
/// All values are literals in the text.
pub fn inverse(table: &Table, rows: &[&RowChange]) -> Vec<Statement> {
    Inverse::new(table, rows, MAX_STATEMENT_BYTES, false, false).collect()
}

/// The same, one statement at a time, each of about `max_bytes` of text at most where it has several rows; long
/// values are parameters. Each row is deleted by a statement of its own. Otherwise a server may find it cheaper to
/// read all of a small table than to look for many rows in it. It would then wait for rows that others have locked.
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

/// What a rollback assigns of a row.
#[derive(Clone, Copy, Debug)]
pub enum Assigned<'a> {
    /// All of it: it is inserted again.
    Row,
    /// No more than these columns, as indices.
    Columns(&'a BTreeSet<usize>),
}

impl Assigned<'_> {
    fn has(&self, column: usize) -> bool {
        match self {
            Assigned::Row => true,
            Assigned::Columns(columns) => columns.contains(&column),
        }
    }
}

/// Why a row cannot be put back exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The column's value has no literal that gives it.
    Value {
        /// The column's name.
        column: String,
        /// What of it is lost.
        what: String,
    },
    /// The statement that does it is longer than a packet may be.
    Packet {
        /// What it needs, in bytes.
        needed_bytes: usize,
    },
}

/// Why a rollback could not assign what it has to of a before image, if it could not, where a packet has
/// `packet_bytes`.
pub fn obstacle(
    table: &Table,
    before: &[Value],
    assigned: Assigned<'_>,
    packet_bytes: usize,
) -> Option<Obstacle> {
    let columns = || {
        let all = table.columns.iter().zip(before).enumerate();
        all.filter(|(at, (column, _))| !column.generated && assigned.has(*at)).map(|(_, of)| of)
    };
    let lost = columns().find_map(|(column, value)| {
        let what = match value {
            Value::Document(document) => document.lost_type().map(|kind| format!("a {kind} in it")),
            value => (!column.takes_back(value)).then(|| "digits beyond its type".to_owned()),
        };
        Some(Obstacle::Value { column: column.name.clone(), what: what? })
    });
    if lost.is_some() {
        return lost;
    }
    let long: usize = columns().map(|(_, value)| value.long_bytes()).sum();
    if long < packet_bytes / 16 && long < LONG_VALUE_BYTES {
        return None;
    }
    let inverse = Inverse::new(table, &[], packet_bytes / 4, true, false);
    let spelled = |name: String, literal: String| format!("{name} = {literal}");
    let (sql, params) = inverse.with_values(before, |at| assigned.has(at), spelled);
    let condition = table.predicate("", &[table.key_of(before)], Session::Compensation);
    let sql = format!("{sql}{}{condition}{STATEMENT_FRAME}", table.quoted());
    let needed_bytes = Statement { sql, params, rows: 1 }.needed_bytes();
    (needed_bytes >= packet_bytes).then_some(Obstacle::Packet { needed_bytes })
}

/// What a parameter has beside its bytes, and a command beside its parameters, in bytes at most.
const EXECUTE_BYTES: usize = 32;
/// About what a statement has besides names, values and its condition.
const STATEMENT_FRAME: &str = "INSERT INTO () VALUES () ; UPDATE SET WHERE";
/// Parameters that are longer than this together travel one by one, as the driver sends them.
const MAX_TOGETHER_BYTES: usize = (1 << 24) - 1;

impl Statement {
    /// How long the longest packet is that carries it, in bytes at most.
    pub fn needed_bytes(&self) -> usize {
        let text = self.sql.len() + EXECUTE_BYTES;
        if self.params.is_empty() {
            return text;
        }
        let together: usize = self.params.iter().map(|param| param.len() + EXECUTE_BYTES).sum();
        let longest = self.params.iter().map(|param| param.len() + EXECUTE_BYTES).max().unwrap_or(0);
        let params = if together < MAX_TOGETHER_BYTES { together } else { longest };
        text.max(params + EXECUTE_BYTES)
    }
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
                // Nothing of it can be assigned
                (Some(before), Some(after)) if differing(table, before, after).is_empty() => {}
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
        let differing = differing(table, before, after);
        let of = |column: usize| differing.contains(&column);
        let (mut sql, params) = self.with_values(before, of, |name, literal| format!("{name} = {literal}"));
        for (at, column) in table.columns.iter().enumerate() {
            // Assigned itself, no ON UPDATE CURRENT_TIMESTAMP fires
            let may_follow = matches!(column.kind, Kind::Timestamp | Kind::DateTime) && !column.generated;
            if may_follow && !of(at) {
                let name = quote_identifier(&column.name);
                sql.push_str(&format!(", {name} = {name}"));
            }
        }
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
        Some(self.with_values(values, |_| true, |_, literal| literal))
    }

    /// The values of a row's columns as literals, or parameters where they are long, each as `shown` shows it beside
    /// its column.
    fn with_values(
        &self,
        values: &[Value],
        of: impl Fn(usize) -> bool,
        shown: impl Fn(String, String) -> String,
    ) -> (String, Vec<Vec<u8>>) {
        let written = |above_bytes: usize| {
            let mut params = Vec::new();
            let mut sql = String::new();
            let columns = self.table.columns.iter().zip(values).enumerate();
            for (_, (column, value)) in columns.filter(|(at, (c, _))| !c.generated && of(*at)) {
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
