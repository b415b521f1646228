//! What a rollback does with one table's changes: judge each row against what is there now, and put back the before
//! images.

use crate::image::{Key, Value};
use crate::literal::{self, Session};
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
    /// How many rows it must change; any other count means that the compensation must not be committed.
    pub rows: u64,
}

/// The length at which a DELETE or INSERT of many rows is cut, in bytes. A single row may be longer.
pub const MAX_STATEMENT_BYTES: usize = 1 << 20;
/// The most rows that one DELETE or INSERT names.
const MAX_STATEMENT_ROWS: usize = 500;

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

/// The settings under which the compensation runs, as SET statements in order. They must be set on a connection of its
/// own before its transaction begins.
///
/// The SQL mode is permissive, so that what was stored under another mode (zero dates, the ENUM error value) can be
/// stored again. A permissive server also clamps silently: whoever runs the statements must read the rows again and
/// [`judge`] them as [`Verdict::AlreadyRestored`] before the local COMMIT.
pub fn session_setup(mariadb: bool) -> Vec<String> {
    let mut settings = vec![
        "SET NAMES utf8mb4",
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'",
        "SET SESSION foreign_key_checks = 0",
        "SET SESSION unique_checks = 1",
        "SET SESSION sql_safe_updates = 0",
        "SET SESSION sql_auto_is_null = 0",
        "SET SESSION sql_select_limit = DEFAULT",
        "SET SESSION innodb_lock_wait_timeout = 5",
        // Locking reads see the latest rows under every level; this one also keeps an absent row absent.
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION TRANSACTION READ WRITE",
    ];
    if mariadb {
        settings.extend(["SET SESSION check_constraint_checks = 0", "SET SESSION max_statement_time = 0"]);
    } else {
        settings.push("SET SESSION max_execution_time = 0");
    }
    settings.into_iter().map(str::to_owned).collect()
}

/// The statements that put back the before images of these rows, in order: deletes, then updates, then inserts, so that
/// no unique key collides in between. An update that changes a further unique key (or spells the key differently)
/// while other rows are restored too is a delete and an insert of the full row.
pub fn inverse(table: &Table, rows: &[&RowChange]) -> Vec<Statement> {
    let mut deletes: Vec<Key> = Vec::new();
    let mut updates: Vec<(&[Value], &[Value])> = Vec::new();
    let mut inserts: Vec<&[Value]> = Vec::new();
    for row in rows {
        match (row.before.as_deref(), row.after.as_deref()) {
            (None, None) => {}
            (None, Some(after)) => deletes.push(table.key_of(after)),
            (Some(before), None) => inserts.push(before),
            (Some(before), Some(after)) if rows.len() > 1 && changes_a_key(table, before, after) => {
                deletes.push(table.key_of(after));
                inserts.push(before);
            }
            (Some(before), Some(after)) => updates.push((before, after)),
        }
    }
    let mut statements = Vec::new();
    delete_statements(table, &deletes, &mut statements);
    for (before, after) in updates {
        statements.push(update_statement(table, before, after));
    }
    insert_statements(table, &inserts, &mut statements);
    statements
}

fn changes_a_key(table: &Table, before: &[Value], after: &[Value]) -> bool {
    // A unique key over a generated column changes with it.
    table.keys.iter().flat_map(|key| &key.columns).any(|&c| before.get(c) != after.get(c))
}

fn delete_statements(table: &Table, keys: &[Key], statements: &mut Vec<Statement>) {
    let head = format!("DELETE FROM {} WHERE ", table.quoted());
    let mut rest = keys;
    while !rest.is_empty() {
        let mut bytes = head.len();
        let mut count = 0;
        for key in rest.iter().take(MAX_STATEMENT_ROWS) {
            bytes += table.predicate("", std::slice::from_ref(key), Session::Compensation).len() + 4;
            if count > 0 && bytes > MAX_STATEMENT_BYTES {
                break;
            }
            count += 1;
        }
        let (batch, later) = rest.split_at(count);
        statements.push(Statement {
            sql: format!("{head}{}", table.predicate("", batch, Session::Compensation)),
            rows: batch.len() as u64,
        });
        rest = later;
    }
}

fn update_statement(table: &Table, before: &[Value], after: &[Value]) -> Statement {
    // Every column is assigned, so that no ON UPDATE CURRENT_TIMESTAMP fires.
    let assignments: Vec<String> = table
        .columns
        .iter()
        .zip(before)
        .filter(|(column, _)| !column.generated)
        .map(|(column, value)| {
            format!("{} = {}", quote_identifier(&column.name), literal::assign(column, value))
        })
        .collect();
    let key = table.key_of(after);
    Statement {
        sql: format!(
            "UPDATE {} SET {} WHERE {}",
            table.quoted(),
            assignments.join(", "),
            table.predicate("", &[key], Session::Compensation)
        ),
        rows: 1,
    }
}

fn insert_statements(table: &Table, rows: &[&[Value]], statements: &mut Vec<Statement>) {
    let names: Vec<String> =
        table.columns.iter().filter(|c| !c.generated).map(|c| quote_identifier(&c.name)).collect();
    let head = format!("INSERT INTO {} ({}) VALUES ", table.quoted(), names.join(", "));
    let mut sql = String::new();
    let mut count: usize = 0;
    for values in rows {
        let cells: Vec<String> = table
            .columns
            .iter()
            .zip(*values)
            .filter(|(column, _)| !column.generated)
            .map(|(column, value)| literal::assign(column, value))
            .collect();
        let tuple = format!("({})", cells.join(", "));
        if count > 0 && (sql.len() + tuple.len() + 2 > MAX_STATEMENT_BYTES || count >= MAX_STATEMENT_ROWS) {
            statements.push(Statement { sql: std::mem::take(&mut sql), rows: count as u64 });
            count = 0;
        }
        sql.push_str(if count == 0 { &head } else { ", " });
        sql.push_str(&tuple);
        count += 1;
    }
    if count > 0 {
        statements.push(Statement { sql, rows: count as u64 });
    }
}
