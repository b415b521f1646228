//! UPDATEs that assign columns of the key that identifies rows: which key each row will have. Pure.
//!
//! The read of the before images works the new keys out; it may be wrong, where the server converts a value in a way
//! that is not foreseen. So the rows at the old and the new keys are counted before and after the statement, which
//! runs on the imaged rows only: as many as before means that none of them went elsewhere.

use atone_sql::{Assignment, Mode, Repeated, repeatable};
use atone_undo::{Column, Key, Kind, Row, Table, Value, quote_identifier};

use crate::error::End;
use crate::flight::Rows;
use crate::text::same_name;
use atone_facts::{ColumnDefault, TableInfo};

/// What an UPDATE assigns to the key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moves {
    /// For each column of the key the expression that gives its new value; `None` where it stays.
    parts: Vec<Option<String>>,
}

/// What is assigned to the columns of the key; `None` where nothing is. `qualifier` is the table's name in the
/// statement.
///
/// # Errors
/// Why the new keys cannot be told before the statement.
pub(crate) fn moves(
    sql: &[u8],
    assignments: &[Assignment],
    info: &TableInfo,
    qualifier: &str,
    mode: Mode,
) -> Result<Option<Moves>, String> {
    let table = &info.table;
    let key = table.keys.first().ok_or("the table has no key")?;
    let mut parts: Vec<Option<String>> = vec![None; key.columns.len()];
    let mut moved = false;
    for (nth, assignment) in assignments.iter().enumerate() {
        let name = &assignment.column;
        let part = key.columns.iter().position(|&c| same_name(&table.columns[c].name, name));
        let Some(part) = part else { continue };
        let c = key.columns[part];
        let column = &table.columns[c];
        let value = match repeatable(sql, assignment, assignments, mode).map_err(|r| r.reason)? {
            Repeated::Default if info.defaults.get(c) == Some(&ColumnDefault::Constant) => {
                format!("DEFAULT({qualifier}.{})", quote_identifier(&column.name)).into_bytes()
            }
            Repeated::Default => return Err(format!("the key column {name} takes its default")),
            Repeated::Expression { names } => {
                // From left to right: it reads what was assigned before it
                let before = assignments.iter().take(nth);
                let mut before = before.map(|a| a.column.to_lowercase());
                if let Some(read) = before.find(|column| names.contains(column)) {
                    return Err(format!(
                        "the key column {name} is assigned from {read}, which is assigned too"
                    ));
                }
                // The server converts neither as it stores it
                let odd = |c: &&Column| {
                    matches!(c.kind, Kind::Geometry | Kind::Vector) && names.contains(&c.name.to_lowercase())
                };
                if let Some(odd) = table.columns.iter().find(odd) {
                    return Err(format!(
                        "the key column {name} is assigned from {}, of the type {}",
                        odd.name, odd.column_type
                    ));
                }
                sql.get(assignment.value.clone()).unwrap_or_default().to_vec()
            }
        };
        if parts[part].is_some() {
            return Err(format!("the key column {name} is assigned twice"));
        }
        let value = String::from_utf8(value).map_err(|_| "a key is assigned from text that is not UTF-8")?;
        parts[part] = Some(stored_as(column, &value).ok_or_else(|| {
            format!("the key column {name} is assigned, and is of the type {}", column.column_type)
        })?);
        moved = true;
    }
    Ok(moved.then_some(Moves { parts }))
}

/// `(10,2)` of `decimal(10,2) unsigned`.
fn precision(column: &Column) -> &str {
    let ty = column.column_type.as_str();
    match (ty.find('('), ty.find(')')) {
        (Some(open), Some(close)) if open < close => &ty[open..=close],
        _ => "",
    }
}

/// The expression that reads what a column stores of a value, in the form of an image.
fn stored_as(column: &Column, value: &str) -> Option<String> {
    let precision = precision(column);
    let charset = column.charset.as_deref();
    Some(match column.kind {
        Kind::Int | Kind::Year | Kind::Other => format!("({value})"),
        Kind::Bit => format!("({value})+0"),
        Kind::Char | Kind::Text => format!("CAST(CONVERT(({value}) USING {}) AS BINARY)", charset?),
        Kind::Enum | Kind::Set => format!("CAST(({value}) AS BINARY)"),
        Kind::Binary if column.column_type.starts_with("binary") => {
            format!("CAST(({value}) AS BINARY{precision})")
        }
        Kind::Binary => format!("CAST(({value}) AS BINARY)"),
        Kind::Decimal => format!("CAST(({value}) AS DECIMAL{precision})"),
        Kind::Float | Kind::Double => format!("({value})*1e0"),
        Kind::Date => format!("CAST(({value}) AS DATE)"),
        Kind::Time => format!("CAST(({value}) AS TIME{precision})"),
        Kind::DateTime => format!("CAST(({value}) AS DATETIME{precision})"),
        Kind::Timestamp => format!("UNIX_TIMESTAMP(CAST(({value}) AS DATETIME{precision}))"),
        Kind::Document | Kind::Json | Kind::Geometry | Kind::Vector => return None,
    })
}

/// The value that a cell of such an expression stands for; `None` where that is not plain.
fn predicted(column: &Column, cell: Option<&[u8]>) -> Option<Value> {
    let cell = cell?;
    match column.kind {
        Kind::Int | Kind::Year => integer(std::str::from_utf8(cell).ok()?).map(Value::Int),
        _ => column.decode_cell(Some(cell)).ok().filter(|value| column.may_hold(value)),
    }
}

/// The integer that a number is stored as: halves go away from zero.
fn integer(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: i128 = whole.parse().ok()?;
    let away = if whole.starts_with('-') { -1 } else { 1 };
    let rounds = fraction.as_bytes().first().is_some_and(|digit| *digit >= b'5');
    Some(if rounds { n + away } else { n })
}

impl Moves {
    /// The expressions to read beside the image.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flatten().map(String::as_str)
    }

    /// The new keys of the imaged rows, one for each, from the cells after the image; `None` where it cannot be told.
    pub(crate) fn keys(&self, table: &Table, images: &[Row], rows: &Rows) -> Result<Vec<Option<Key>>, End> {
        let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
        let mut out = Vec::with_capacity(images.len());
        for (i, image) in images.iter().enumerate() {
            let cells = rows.cells(i)?;
            let mut cascaded = cells.iter().skip(table.image_width());
            let old = image.key(table).0;
            let parts = self.parts.iter().zip(columns).zip(old);
            let key = parts.map(|((part, &c), old)| match part {
                None => Some(old),
                Some(_) => {
                    let cell = cascaded.next().copied().flatten();
                    table.columns.get(c).and_then(|column| predicted(column, cell))
                }
            });
            // All cells are taken, whether or not one before them can be told
            let key: Vec<Option<Value>> = key.collect();
            out.push(key.into_iter().collect::<Option<_>>().map(Key));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_integers_are_stored() {
        for (text, stored) in
            [("7", Some(7)), ("-7.5", Some(-8)), ("7.4999", Some(7)), ("2.50", Some(3)), ("-0.5", Some(-1))]
        {
            assert_eq!(integer(text), stored, "{text}");
        }
        for text in ["", "x", "1e5", "1.x", "1.5e0", ".5"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
