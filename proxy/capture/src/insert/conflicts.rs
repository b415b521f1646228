//! INSERT IGNORE, REPLACE and ON DUPLICATE KEY UPDATE: which rows stand in the way, and what the statement must have
//! made of them. Pure.

use std::collections::{HashMap, HashSet};

use atone_sql::{Insert, InsertValue, OnConflict, without_mark};
use atone_undo::{Column, Key, Kind, Row, Table, UniqueKey, quote_identifier};

use crate::images::{KEYS_PER_SELECT, locking_read_through};
use crate::insert::keys::{bits_by_number, looked_for, places};
use crate::journal::{Presence, Touched};
use crate::settings::Vars;
use crate::text::same_name;
use atone_facts::{ColumnDefault, TableInfo};

/// What a row gives for the columns of one unique key, by which another row can keep it out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Point {
    /// Which of the table's unique keys.
    pub(crate) key: usize,
    /// What each of its columns is compared with.
    parts: Vec<Operand>,
}

/// What a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Operand {
    text: Vec<u8>,
    /// It may stand in a list with others: all of them are compared as each is by itself.
    listed: bool,
}

/// For each row where another row can keep it out: one point for each unique key that can.
pub(crate) type Conditions = Vec<Vec<Point>>;

/// How many points one SELECT names where they cannot stand in a list: each row found is compared with half of them.
const POINTS_PER_SELECT: usize = 100;
/// Integers of so many digits are compared as such, however many stand in a list.
const DIGITS: usize = 18;

/// What stands in the way of each row.
///
/// # Errors
/// Why it can't be known.
pub(crate) fn conditions(
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
        for (nth, key) in table.keys.iter().enumerate() {
            if key.prefixes.iter().any(Option::is_some) {
                return Err(format!("the unique key {} is over a part of a column", key.name));
            }
            let mut parts = Vec::with_capacity(key.columns.len());
            for &c in &key.columns {
                let value = places[c].and_then(|place| row.get(place));
                parts.push(part(sql, &table.columns[c], info.defaults.get(c), value, vars)?);
            }
            let parts: Option<Vec<Operand>> = parts.into_iter().collect();
            if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
                row_conditions.push(Point { key: nth, parts });
            }
        }
        out.push(row_conditions);
    }
    Ok(out)
}

/// Whether a value is `LAST_INSERT_ID(column)`, which leaves the column as it is and is the usual way to learn its
/// value.
fn keeps(value: &[u8], column: &str) -> bool {
    const FUNCTION: &str = "LAST_INSERT_ID";
    let text = String::from_utf8_lossy(value);
    let Some((function, inner)) = text.trim().split_at_checked(FUNCTION.len()) else { return false };
    let inner = inner.trim_start().strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
    let Some(inner) = inner.filter(|_| function.eq_ignore_ascii_case(FUNCTION)).map(str::trim) else {
        return false;
    };
    (same_name(inner, column) && !inner.contains('`'))
        || inner.to_uppercase() == quote_identifier(column).to_uppercase()
}

/// What a key's column is compared with; `None` where it is NULL or new, which conflicts with nothing.
fn part(
    sql: &[u8],
    column: &Column,
    default: Option<&ColumnDefault>,
    value: Option<&InsertValue>,
    vars: &Vars,
) -> Result<Option<Operand>, String> {
    let name = &column.name;
    if column.generated {
        return Err(format!("the unique column {name} is generated"));
    }
    match value {
        Some(InsertValue::Default) if column.auto_increment && vars.zero_is_no_default() => {
            Ok(Some(Operand::alone(b"0")))
        }
        None | Some(InsertValue::Default) if column.auto_increment => Ok(None),
        None | Some(InsertValue::Default) => match default {
            Some(ColumnDefault::Null) => Ok(None),
            Some(ColumnDefault::Constant) => {
                Ok(Some(Operand::alone(format!("DEFAULT({})", quote_identifier(name)).as_bytes())))
            }
            // The server refuses the row, or stores what the counts do not fit
            Some(ColumnDefault::Missing) => Ok(Some(Operand::alone(b"NULL"))),
            _ => Err(format!("the unique column {name} takes a default that only the server knows")),
        },
        Some(InsertValue::Null) if column.nullable || column.auto_increment => Ok(None),
        Some(InsertValue::Null) => Ok(Some(Operand::alone(b"NULL"))),
        Some(InsertValue::Placeholder(_)) => {
            Err(format!("the unique column {name} has a parameter without a value"))
        }
        Some(InsertValue::Expression(_)) => Err(format!("the unique column {name} comes from an expression")),
        Some(InsertValue::Literal(span)) => {
            let text = sql.get(span.clone()).unwrap_or_default();
            let plain = without_mark(text, vars.mode.marks);
            bits_by_number(column, plain)?;
            if column.auto_increment && plain == b"0" {
                return Ok(vars.zero_is_no_default().then(|| Operand::alone(text)));
            }
            if column.auto_increment && plain.iter().all(|b| !b.is_ascii_digit() || *b == b'0') {
                return Err(format!("0 for the auto-increment column {name}"));
            }
            Ok(Some(Operand::of(column, looked_for(column, text, vars), plain)))
        }
    }
}

impl Operand {
    fn alone(text: &[u8]) -> Operand {
        Operand { text: text.to_vec(), listed: false }
    }

    /// What a column is compared with to find the row that a literal keeps out; `plain` is the literal without its
    /// mark.
    fn of(column: &Column, literal: &[u8], plain: &[u8]) -> Operand {
        let digits = plain.strip_prefix(b"-").unwrap_or(plain);
        let integer = (1..=DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let is_text = matches!(column.kind, Kind::Char | Kind::Text);
        if is_text && integer && (digits == plain && digits == b"0" || !digits.starts_with(b"0")) {
            // A number, which the column stores as this text: compared as a number it would be looked for in all rows
            return Operand { text: [b"'", plain, b"'"].concat(), listed: true };
        }
        let unmarked = literal.len() == plain.len();
        let quoted = is_text && plain.starts_with(b"'");
        Operand {
            text: literal.to_vec(),
            listed: unmarked && (quoted || integer && column.kind == Kind::Int),
        }
    }
}

impl Point {
    /// The condition under which a row stands there.
    fn condition(&self, table: &Table) -> Vec<u8> {
        let columns = table.keys.get(self.key).map(|key| key.columns.as_slice()).unwrap_or_default();
        let names = columns.iter().filter_map(|&c| table.columns.get(c));
        let part = |(column, operand): (&Column, &Operand)| {
            [quote_identifier(&column.name).as_bytes(), b" = ", &operand.text].concat()
        };
        names.zip(&self.parts).map(part).collect::<Vec<_>>().join(&b" AND "[..])
    }

    /// Whether it may stand in a list with others of its key.
    fn is_listed(&self) -> bool {
        matches!(self.parts.as_slice(), [only] if only.listed)
    }
}

/// The condition that finds what stands at these points of one key, all of which may stand in a list or none.
fn any_of(table: &Table, points: &[&Point]) -> Vec<u8> {
    if let [first, _, ..] = points
        && points.iter().all(|point| point.is_listed())
        && let Some(column) =
            table.keys.get(first.key).and_then(|key| table.columns.get(*key.columns.first()?))
    {
        let values: Vec<&[u8]> =
            points.iter().flat_map(|point| &point.parts).map(|part| part.text.as_slice()).collect();
        return [quote_identifier(&column.name).as_bytes(), b" IN (", &values.join(&b","[..]), b")"].concat();
    }
    let conditions: Vec<Vec<u8>> = points.iter().map(|point| point.condition(table)).collect();
    [b"(", conditions.join(&b") OR ("[..]).as_slice(), b")"].concat()
}

/// The locking reads of all that stands in the way of the rows: for each unique key those of a bounded number of
/// points, which lock what they find and no more. A condition over several keys would have the server read all of the
/// table.
pub(crate) fn reads(info: &TableInfo, conditions: &Conditions, vars: &Vars) -> Vec<Vec<u8>> {
    let table = &info.table;
    let mut seen = HashSet::new();
    let mut groups: Vec<[Vec<&Point>; 2]> = table.keys.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for point in conditions.iter().flatten() {
        if seen.insert(point)
            && let Some(group) = groups.get_mut(point.key)
        {
            group[usize::from(point.is_listed())].push(point);
        }
    }
    let mut out = Vec::new();
    for (key, [single, listed]) in table.keys.iter().zip(&groups) {
        let index = info.usable(key, vars.mode.charset);
        let chunks = single.chunks(POINTS_PER_SELECT).chain(listed.chunks(KEYS_PER_SELECT));
        out.extend(chunks.map(|chunk| locking_read_through(table, index, &any_of(table, chunk))));
    }
    out
}

/// For each row of a REPLACE, the statements that count how many of them are found by all of their unique keys at
/// once; nothing where two rows give the same.
pub(crate) fn counts(info: &TableInfo, conditions: &Conditions, vars: &Vars) -> Option<Vec<Vec<u8>>> {
    let table = &info.table;
    let distinct: HashSet<&Vec<Point>> = conditions.iter().collect();
    if distinct.len() != conditions.len() {
        return None;
    }
    let mut groups: Vec<Vec<Vec<u8>>> = table.keys.iter().map(|_| Vec::new()).collect();
    for row in conditions {
        let all: Vec<Vec<u8>> = row.iter().map(|point| point.condition(table)).collect();
        groups.get_mut(row.first()?.key)?.push(all.join(&b" AND "[..]));
    }
    let mut out = Vec::new();
    for (key, rows) in table.keys.iter().zip(&groups) {
        let index = info.usable(key, vars.mode.charset).map_or_else(String::new, UniqueKey::force);
        for chunk in rows.chunks(POINTS_PER_SELECT) {
            let head = format!("SELECT COUNT(*) FROM {}{index} WHERE (", table.quoted());
            out.push(
                [head.as_bytes(), chunk.join(&b") OR ("[..]).as_slice(), b") LIMIT 1 FOR UPDATE"].concat(),
            );
        }
    }
    Some(out)
}

/// What the server said, and how the application counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) affected_rows: u64,
    /// How many rows the statement gives.
    pub(crate) rows: usize,
    /// `CLIENT_FOUND_ROWS`
    pub(crate) found_rows: bool,
}

/// Tells what the statement did from the rows as they were and as they are, and checks that it fits what the server
/// counted.
///
/// # Errors
/// A sentence where it does not fit: a row was changed that was not imaged.
pub(crate) fn touched(
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
    // In the order of the statement, as far as that can be told
    let inserted = after.iter().map(|row| row.key(table)).filter(|key| now.contains_key(key));
    out.extend(inserted.map(|key| Touched { key, before: None, presence: Presence::Present }));
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
    use atone_facts::samples;
    use atone_undo::Value;

    fn table() -> Table {
        samples::table(&["id", "n"])
    }

    fn row(id: i128, n: i128) -> Row {
        Row::of(&[Value::Int(id), Value::Int(n)], Vec::new())
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
        assert!(keeps(b"last_insert_id (`i``d`)", "i`d") && keeps(b"LAST_INSERT_ID(`i d`) ", "i d"));
        assert!(!keeps(b"LAST_INSERT_ID(`i``d`)", "id") && !keeps(b"LAST_INSERT_ID(`i d`)", "id"));
        assert!(!keeps(b"LAST_INSERT_ID(i d)", "id"));
        assert!(!keeps(b"LAST_INSERT_ID(id + 1)", "id"));
        assert!(!keeps(b"id", "n"));
    }
}
