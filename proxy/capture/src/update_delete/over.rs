//! The texts of a statement over several tables: which tables it writes, the read of their rows, and the statement on
//! the rows imaged. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use atone_sql::{Analysis, Assignment, Joined, JoinedAction, NO_LIMIT, TableRef, could_assign};
use atone_undo::{Key, Row, quote_identifier};

use crate::effect::Effect;
use crate::error::End;
use crate::flight::Rows;
use crate::images::Unread;
use crate::text::same_name;
use crate::update_delete::restrict::no_row;
use atone_facts::TableInfo;

/// A table that the statement writes.
pub(crate) struct Written<'a> {
    reference: &'a TableRef,
    pub(crate) info: Arc<TableInfo>,
    /// The column definitions that go with `info`.
    pub(crate) probe: Vec<u8>,
    /// The name by which the clauses refer to it.
    qualifier: String,
}

impl<'a> Written<'a> {
    pub(crate) fn new(reference: &'a TableRef, info: Arc<TableInfo>, probe: Vec<u8>) -> Written<'a> {
        let qualifier = reference.alias.as_deref().map_or_else(|| info.table.quoted(), quote_identifier);
        Written { reference, info, probe, qualifier }
    }

    /// Why an UPDATE of several tables that assigns a column of this one's key is refused.
    pub(crate) fn assigned_key(&self, assignments: &[Assignment]) -> Option<String> {
        let table = &self.info.table;
        let key = table.keys.first()?;
        let names: Vec<&str> =
            key.columns.iter().filter_map(|&c| table.columns.get(c)).map(|c| c.name.as_str()).collect();
        let of_key = |a: &&Assignment| names.iter().any(|name| same_name(name, &a.column));
        let found = assignments.iter().filter(|a| could_assign(a, self.reference)).find(of_key)?;
        Some(format!("an UPDATE of several tables assigns the key column {}", found.column))
    }

    /// What the statement does to its rows.
    pub(crate) fn effect(&self, action: &JoinedAction) -> Effect {
        match action {
            JoinedAction::Update(assignments) => {
                let own = assignments.iter().filter(|a| could_assign(a, self.reference));
                let own = own.map(|a| a.column.as_str());
                // One without a qualifier may be of another table, which is then no column of this one
                let columns = &self.info.table.columns;
                Effect::updated(
                    &self.info,
                    own.filter(|name| columns.iter().any(|c| same_name(&c.name, name))),
                )
            }
            JoinedAction::Delete(_) => Effect::Deleted,
        }
    }
}

/// The tables that assignments write, as indices. `columns` are the names of the columns of each table.
///
/// # Errors
/// Why it cannot be told.
pub(crate) fn targets(
    assignments: &[Assignment],
    tables: &[TableRef],
    columns: &[Vec<String>],
) -> Result<Vec<usize>, String> {
    let mut out: Vec<usize> = Vec::new();
    for assignment in assignments {
        let column = &assignment.column;
        let has = |at: usize| {
            let names = columns.get(at).map(Vec::as_slice).unwrap_or_default();
            !assignment.qualifiers.is_empty() || names.iter().any(|name| same_name(name, column))
        };
        let could = |(at, table): (usize, &TableRef)| could_assign(assignment, table) && has(at);
        let mut found = tables.iter().enumerate().filter(|found| could(*found)).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(only), None) => out.push(only),
            _ => return Err(format!("which table the assigned column {column} is of cannot be told")),
        }
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// The locking read of the rows of all tables that are written, side by side.
pub(crate) fn image_sql(sql: &[u8], joined: &Joined, written: &[Written<'_>], mariadb: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(with) = &joined.with {
        out.extend_from_slice(sql.get(with.clone()).unwrap_or_default());
        out.push(b' ');
    }
    out.extend_from_slice(b"SELECT ");
    let lists: Vec<String> = written.iter().map(|w| w.info.table.image_select_list(&w.qualifier)).collect();
    out.extend_from_slice(lists.join(",").as_bytes());
    out.extend_from_slice(b" FROM ");
    out.extend_from_slice(sql.get(joined.references.clone()).unwrap_or_default());
    if let Some(span) = &joined.where_clause {
        out.extend_from_slice(b" WHERE ");
        out.extend_from_slice(sql.get(span.clone()).unwrap_or_default());
    }
    out.extend_from_slice(NO_LIMIT);
    out.extend_from_slice(locks(joined, written, mariadb).as_bytes());
    out
}

/// The locking clauses. What is only read is locked as the statement itself does it, where that can be said: a lock for
/// update asks for more rights.
fn locks(joined: &Joined, written: &[Written<'_>], mariadb: bool) -> String {
    let name = |table: &TableRef| table.alias.clone().unwrap_or_else(|| table.name.clone());
    let mut seen = HashSet::new();
    let distinct = joined.tables.iter().all(|table| seen.insert(name(table).to_lowercase()));
    if mariadb || !distinct {
        return " FOR UPDATE".to_owned();
    }
    let of = |tables: &mut dyn Iterator<Item = &TableRef>| {
        tables.map(|table| quote_identifier(&name(table))).collect::<Vec<_>>().join(",")
    };
    let is_written = |table: &&TableRef| written.iter().any(|w| std::ptr::eq(w.reference, *table));
    let mut out = format!(" FOR UPDATE OF {}", of(&mut written.iter().map(|w| w.reference)));
    let read = of(&mut joined.tables.iter().filter(|table| !is_written(table)));
    if !read.is_empty() {
        out.push_str(" FOR SHARE OF ");
        out.push_str(&read);
    }
    out
}

/// Decodes the rows of that read: for each table its rows, each once.
pub(crate) fn decode_written(written: &[Written<'_>], rows: &Rows) -> Result<Vec<Vec<Row>>, Unread> {
    let mut out: Vec<Vec<Row>> = written.iter().map(|_| Vec::new()).collect();
    let mut seen: Vec<HashSet<Key>> = written.iter().map(|_| HashSet::new()).collect();
    for i in 0..rows.rows.len() {
        let cells = rows.cells(i)?;
        let mut rest = cells.as_slice();
        for ((written, images), seen) in written.iter().zip(&mut out).zip(&mut seen) {
            let table = &written.info.table;
            let (image, others) = rest
                .split_at_checked(table.image_width())
                .ok_or_else(|| Unread::End(End::Broken("an image of another width".into())))?;
            rest = others;
            let key = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
            if key.iter().any(|&c| image.get(c).copied().flatten().is_none()) {
                continue; // no row of this table: that of another has no match
            }
            let row = table.decode_row(image).map_err(|e| Unread::of(table, &e))?;
            if seen.insert(row.key(table)) {
                images.push(row);
            }
        }
        if !rest.is_empty() {
            return Err(Unread::End(End::Broken("an image of another width".into())));
        }
    }
    Ok(out)
}

/// The statement with one more condition.
fn with_condition(sql: &[u8], joined: &Joined, analysis: &Analysis, condition: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match &joined.where_clause {
        Some(span) => {
            out.extend_from_slice(sql.get(..span.start).unwrap_or_default());
            out.push(b'(');
            out.extend_from_slice(sql.get(span.clone()).unwrap_or_default());
            out.extend_from_slice(b") AND ");
        }
        None => {
            out.extend_from_slice(sql.get(..analysis.terminator).unwrap_or_default());
            out.extend_from_slice(b" WHERE ");
        }
    }
    out.extend_from_slice(condition.as_bytes());
    out
}

/// The statement restricted to the rows imaged: `keys` are those of each table that it writes.
pub(crate) fn restricted_sql(
    sql: &[u8],
    joined: &Joined,
    analysis: &Analysis,
    written: &[Written<'_>],
    keys: &[Vec<Key>],
) -> Vec<u8> {
    let conditions: Vec<String> = written
        .iter()
        .zip(keys)
        .map(|(written, keys)| {
            let (table, qualifier) = (&written.info.table, &written.qualifier);
            let mut condition = no_row(table, qualifier);
            if !keys.is_empty() {
                // With an alternative the server cannot look rows up by the keys: it joins the tables as it would
                // have done
                condition = format!("{} OR {condition}", table.keys_predicate(qualifier, keys));
            }
            if joined.outer
                && let Some(column) =
                    table.keys.first().and_then(|key| table.columns.get(*key.columns.first()?))
            {
                // A row of another table without a match in this one
                condition.push_str(&format!(" OR {qualifier}.{} IS NULL", quote_identifier(&column.name)));
            }
            format!("({condition})")
        })
        .collect();
    with_condition(sql, joined, analysis, &conditions.join(" AND "))
}

/// The statement so that it changes no row, whatever its condition.
pub(crate) fn nowhere_sql(sql: &[u8], joined: &Joined, analysis: &Analysis) -> Vec<u8> {
    with_condition(sql, joined, analysis, "1=0")
}
