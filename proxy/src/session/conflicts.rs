//! INSERT IGNORE, REPLACE and ON DUPLICATE KEY UPDATE: which rows stand in the way, and what the statement must have made
//! of them. Pure.

use std::collections::HashMap;

use atone_sql::{Insert, InsertValue, OnConflict, bare};
use atone_undo::{Column, Key, Row, Table, quote_identifier};

use super::inject::Vars;
use super::keys::{bits_by_number, looked_for, places, same_name};
use crate::branch::Presence;
use crate::meta::{ColumnDefault, TableInfo};

/// For each row the conditions under which another row keeps it out: one for each unique key that can.
pub(super) type Conditions = Vec<Vec<Vec<u8>>>;

/// What stands in the way of each row.
///
/// # Errors
/// Why it can't be known.
pub(super) fn conditions(
    sql: &[u8],
    insert: &Insert,
    info: &TableInfo,
    vars: &Vars,
) -> Result<Conditions, String> {
    let table = &info.table;
    let places = places(insert, info)?;
    if let OnConflict::Update(assignments) = &insert.on_conflict {
        if info.key_follows_update {
            return Err("an UPDATE changes the table's key, which has a column with ON UPDATE".into());
        }
        let key = table.keys.first().ok_or("the table has no key")?;
        for assignment in assignments {
            let assigns = |&c: &usize| same_name(&table.columns[c].name, &assignment.column);
            let value = sql.get(assignment.value.clone()).unwrap_or_default();
            if key.columns.iter().any(assigns) && !keeps(value, &assignment.column) {
                return Err(format!("ON DUPLICATE KEY UPDATE assigns the key column {}", assignment.column));
            }
        }
    }
    let mut out = Vec::with_capacity(insert.rows.len());
    for row in &insert.rows {
        let mut row_conditions = Vec::new();
        for key in &table.keys {
            if key.prefixes.iter().any(Option::is_some) {
                return Err(format!("the unique key {} is over a part of a column", key.name));
            }
            let mut condition = Vec::new();
            let mut conflicts = true;
            for &c in &key.columns {
                let value = places[c].and_then(|place| row.get(place));
                match part(sql, &table.columns[c], info.defaults.get(c), value, vars)? {
                    None => conflicts = false,
                    Some(text) => {
                        if !condition.is_empty() {
                            condition.extend_from_slice(b" AND ");
                        }
                        condition.extend_from_slice(quote_identifier(&table.columns[c].name).as_bytes());
                        condition.extend_from_slice(b" = ");
                        condition.extend_from_slice(&text);
                    }
                }
            }
            if conflicts && !condition.is_empty() {
                row_conditions.push(condition);
            }
        }
        out.push(row_conditions);
    }
    Ok(out)
}

/// Whether a value is `LAST_INSERT_ID(column)`, which leaves the column as it is and is the usual way to learn its value.
fn keeps(value: &[u8], column: &str) -> bool {
    let text: String =
        String::from_utf8_lossy(value).chars().filter(|c| !c.is_whitespace() && *c != '`').collect();
    let inner = text.to_ascii_uppercase();
    let inner = inner.strip_prefix("LAST_INSERT_ID(").and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(|inner| inner == column.to_ascii_uppercase())
}

/// What a key's column is compared with; `None` where it is NULL or new, which conflicts with nothing.
fn part(
    sql: &[u8],
    column: &Column,
    default: Option<&ColumnDefault>,
    value: Option<&InsertValue>,
    vars: &Vars,
) -> Result<Option<Vec<u8>>, String> {
    let name = &column.name;
    if column.generated {
        return Err(format!("the unique column {name} is generated"));
    }
    match value {
        Some(InsertValue::Default) if column.auto_increment && vars.zero_is_no_default() => {
            Ok(Some(b"0".to_vec()))
        }
        None | Some(InsertValue::Default) if column.auto_increment => Ok(None),
        None | Some(InsertValue::Default) => match default {
            Some(ColumnDefault::Null) => Ok(None),
            Some(ColumnDefault::Constant) => Ok(Some(format!("DEFAULT({})", quote_identifier(name)).into())),
            // The server refuses the row, or stores what the counts do not fit
            Some(ColumnDefault::Missing) => Ok(Some(b"NULL".to_vec())),
            _ => Err(format!("the unique column {name} takes a default that only the server knows")),
        },
        Some(InsertValue::Null) if column.nullable || column.auto_increment => Ok(None),
        Some(InsertValue::Null) => Ok(Some(b"NULL".to_vec())),
        Some(InsertValue::Placeholder(_)) => {
            Err(format!("the unique column {name} has a parameter without a value"))
        }
        Some(InsertValue::Expression(_)) => Err(format!("the unique column {name} comes from an expression")),
        Some(InsertValue::Literal(span)) => {
            let text = sql.get(span.clone()).unwrap_or_default();
            let plain = bare(text, vars.mode.marks);
            bits_by_number(column, plain)?;
            if column.auto_increment && plain == b"0" {
                return Ok(vars.zero_is_no_default().then(|| text.to_vec()));
            }
            if column.auto_increment && plain.iter().all(|b| !b.is_ascii_digit() || *b == b'0') {
                return Err(format!("0 for the auto-increment column {name}"));
            }
            Ok(Some(looked_for(column, text, vars).to_vec()))
        }
    }
}

/// The condition that finds every row that stands in the way.
pub(super) fn any_of(conditions: &Conditions) -> Vec<u8> {
    let mut out = Vec::new();
    for condition in conditions.iter().flatten() {
        out.extend_from_slice(if out.is_empty() { b"(" } else { b" OR (" });
        out.extend_from_slice(condition);
        out.push(b')');
    }
    out
}

/// A row that the statement has touched: its key, how it was before, and whether it is there now.
#[derive(Debug, PartialEq)]
pub(super) struct Touched {
    pub(super) key: Key,
    pub(super) before: Option<Row>,
    pub(super) presence: Presence,
}

/// What the server said, and how the application counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) affected_rows: u64,
    /// How many rows the statement gives.
    pub(super) rows: usize,
    /// `CLIENT_FOUND_ROWS`
    pub(super) found_rows: bool,
}

/// Tells what the statement did from the rows as they were and as they are, and checks that it fits what the server counted.
///
/// # Errors
/// A sentence where it does not fit: a row was changed that was not imaged.
pub(super) fn touched(
    table: &Table,
    on_conflict: &OnConflict,
    counted: Counted,
    before: Vec<Row>,
    after: &[Row],
) -> Result<Vec<Touched>, String> {
    let mut now: HashMap<Key, &Row> = after.iter().map(|row| (row.key(table), row)).collect();
    if now.len() != after.len() {
        return Err("a row was read twice".into());
    }
    let (mut changed, mut gone, mut unchanged) = (0u64, 0u64, 0u64);
    let mut out = Vec::new();
    for row in before {
        let key = row.key(table);
        let presence = match now.remove(&key) {
            None => {
                gone += 1;
                Presence::Absent
            }
            Some(same) if same.values == row.values => {
                unchanged += 1;
                continue;
            }
            Some(_) => {
                changed += 1;
                Presence::Present
            }
        };
        out.push(Touched { key, before: Some(row), presence });
    }
    let new = now.len() as u64;
    let mut inserted: Vec<Key> = now.into_keys().collect();
    // In the order of the statement, as far as that can be told
    let place = |key: &Key| after.iter().position(|row| row.key(table) == *key);
    inserted.sort_by_cached_key(place);
    out.extend(inserted.into_iter().map(|key| Touched { key, before: None, presence: Presence::Present }));
    let affected = counted.affected_rows;
    let fits = match on_conflict {
        OnConflict::Fail => changed + gone + unchanged == 0 && affected == new,
        OnConflict::Ignore => changed == 0 && gone == 0 && affected == new,
        OnConflict::Update(_) => {
            let least = new + 2 * changed;
            let most = least + if counted.found_rows { unchanged } else { 0 };
            gone == 0 && (least..=most).contains(&affected)
        }
        OnConflict::Replace => {
            let rows = counted.rows as u64;
            let least = rows + changed + gone;
            after.len() == counted.rows && (least..=least + unchanged).contains(&affected)
        }
    };
    if fits {
        Ok(out)
    } else {
        Err(format!(
            "the server counts {affected} rows, where {new} are new, {changed} changed and {gone} gone"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use atone_undo::Value;

    fn table() -> Table {
        samples::table(&["id", "n"])
    }

    fn row(id: i128, n: i128) -> Row {
        Row { values: vec![Value::Int(id), Value::Int(n)], lock_keys: Vec::new() }
    }

    fn check(
        on_conflict: &OnConflict,
        affected_rows: u64,
        rows: usize,
        before: &[Row],
        after: &[Row],
    ) -> bool {
        let counted = Counted { affected_rows, rows, found_rows: false };
        touched(&table(), on_conflict, counted, before.to_vec(), after).is_ok()
    }

    #[test]
    fn what_the_server_counts_must_fit() {
        let (ignore, replace) = (OnConflict::Ignore, OnConflict::Replace);
        let update = OnConflict::Update(Vec::new());
        let (old, new, other) = (row(1, 1), row(1, 2), row(2, 2));
        let [old, new, other] = [&[old][..], &[new][..], &[other][..]];
        assert!(check(&ignore, 0, 1, old, old));
        assert!(check(&ignore, 1, 2, old, &[old, other].concat()));
        assert!(!check(&ignore, 0, 1, &[], other));
        assert!(!check(&ignore, 1, 1, old, new));
        assert!(check(&update, 0, 1, old, old));
        assert!(check(&update, 2, 1, old, new));
        assert!(check(&update, 1, 1, &[], other));
        assert!(check(&update, 3, 2, old, &[new, other].concat()));
        assert!(!check(&update, 1, 1, old, old));
        // A row that was not imaged was changed
        assert!(!check(&update, 2, 1, &[], other));
        assert!(!check(&update, 1, 1, old, other));
        assert!(check(&replace, 1, 1, &[], other));
        assert!(check(&replace, 2, 1, old, new));
        assert!(check(&replace, 2, 1, old, other));
        assert!(check(&replace, 1, 1, old, old));
        assert!(!check(&replace, 2, 1, &[], other));
        assert!(!check(&replace, 1, 1, old, other));
        assert!(!check(&replace, 2, 2, old, new));
        let found = Counted { affected_rows: 1, rows: 1, found_rows: true };
        assert!(touched(&table(), &update, found, old.to_vec(), old).is_ok());
    }

    #[test]
    fn touched_rows_carry_their_before_image() {
        let counted = Counted { affected_rows: 3, rows: 2, found_rows: false };
        let all = touched(&table(), &OnConflict::Replace, counted, vec![row(1, 1)], &[row(3, 1), row(2, 1)]);
        let key = |id| Key(vec![Value::Int(id)]);
        let new = |id| Touched { key: key(id), before: None, presence: Presence::Present };
        let gone = Touched { key: key(1), before: Some(row(1, 1)), presence: Presence::Absent };
        assert_eq!(all, Ok(vec![gone, new(3), new(2)]));
    }

    #[test]
    fn the_usual_way_to_learn_the_id_assigns_nothing() {
        assert!(keeps(b"LAST_INSERT_ID( `id` )", "ID"));
        assert!(!keeps(b"LAST_INSERT_ID(id + 1)", "id"));
        assert!(!keeps(b"id", "n"));
    }
}
