//! Which rows a statement names by itself: keys of inserted rows, and conditions that hold for one row at most. Pure.

use atone_sql::{Insert, InsertValue, Span, without_mark};
use atone_undo::{Column, Key, Kind, Table, Value, quote_identifier};

use crate::settings::Vars;
use crate::text::same_name;
use atone_facts::{ColumnDefault, TableInfo};

/// Where the keys of inserted rows come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InsertKeys {
    /// Known to the byte before the statement runs, but for the generated part: per row the key, with `None` where the
    /// server generates the value.
    Known(Vec<Vec<Option<Value>>>),
    /// Only the server can say how the literals are stored: per row the literals' texts, `None` where it generates.
    Literals(Vec<Vec<Option<Vec<u8>>>>),
    /// Numbers of this column, of which some are given and some are generated: per row the one that is given.
    Mixed(usize, Vec<Option<i128>>),
}

/// Finds the keys of the rows of an INSERT.
///
/// # Errors
/// Why they can't be known.
pub(crate) fn insert_keys(
    sql: &[u8],
    insert: &Insert,
    info: &TableInfo,
    vars: &Vars,
) -> Result<InsertKeys, String> {
    let table = &info.table;
    let key = table.keys.first().ok_or("the table has no key")?;
    let places = places(insert, info)?;
    let (mut known, mut literals) = (Vec::new(), Vec::new());
    let mut all_known = true;
    let mut numbers: Option<(usize, Vec<Option<i128>>)> = None;
    for row in &insert.rows {
        let (mut row_known, mut row_literals) = (Vec::new(), Vec::new());
        for &c in &key.columns {
            let column = &table.columns[c];
            let value = places[c].and_then(|place| row.get(place));
            let part = key_part(sql, column, info.defaults.get(c), value, vars)?;
            if column.auto_increment {
                let number = match &part {
                    Part::Known(Value::Int(n), _) => Some(*n),
                    _ => None,
                };
                numbers.get_or_insert_with(|| (c, Vec::new())).1.push(number);
            }
            match part {
                Part::Generated => {
                    row_known.push(None);
                    row_literals.push(None);
                }
                Part::Known(value, text) => {
                    row_known.push(Some(value));
                    row_literals.push(Some(text));
                }
                Part::Literal(text) => {
                    all_known = false;
                    row_known.push(None);
                    row_literals.push(Some(text));
                }
            }
        }
        known.push(row_known);
        literals.push(row_literals);
    }
    if let Some((column, numbers)) = numbers
        && numbers.iter().any(Option::is_some)
        && numbers.iter().any(Option::is_none)
    {
        return Ok(InsertKeys::Mixed(column, numbers));
    }
    Ok(if all_known { InsertKeys::Known(known) } else { InsertKeys::Literals(literals) })
}

/// For each column its place in the rows of values.
pub fn places(insert: &Insert, info: &TableInfo) -> Result<Vec<Option<usize>>, String> {
    let columns = &info.table.columns;
    if insert.rows.iter().any(|r| !r.is_empty() && r.len() != width(insert, info)) {
        return Err("rows of another length than the column list".into());
    }
    let place = |(c, column): (usize, &Column)| match &insert.columns {
        None if info.hidden.contains(&c) => None,
        None => Some(c - info.hidden.iter().filter(|&&hidden| hidden < c).count()),
        Some(names) => names.iter().position(|n| same_name(n, &column.name)),
    };
    Ok(columns.iter().enumerate().map(place).collect())
}

/// How many values a row has.
pub(crate) fn width(insert: &Insert, info: &TableInfo) -> usize {
    insert.columns.as_ref().map_or(info.table.columns.len().saturating_sub(info.hidden.len()), Vec::len)
}

enum Part {
    Generated,
    Known(Value, Vec<u8>),
    Literal(Vec<u8>),
}

fn key_part(
    sql: &[u8],
    column: &Column,
    default: Option<&ColumnDefault>,
    value: Option<&InsertValue>,
    vars: &Vars,
) -> Result<Part, String> {
    let name = &column.name;
    match value {
        Some(InsertValue::Default) if column.auto_increment && vars.zero_is_no_default() => {
            Ok(Part::Known(Value::Int(0), b"0".to_vec()))
        }
        None | Some(InsertValue::Default) if column.auto_increment => Ok(Part::Generated),
        None | Some(InsertValue::Default) => match default {
            Some(ColumnDefault::Constant) => {
                Ok(Part::Literal(format!("DEFAULT({})", quote_identifier(name)).into_bytes()))
            }
            // The server refuses the row; should it not, no row is found under this
            Some(ColumnDefault::Null | ColumnDefault::Missing) => Ok(Part::Literal(b"NULL".to_vec())),
            _ => Err(format!("the key column {name} takes a default that only the server knows")),
        },
        Some(InsertValue::Null) if column.auto_increment => Ok(Part::Generated),
        Some(InsertValue::Null) => Ok(Part::Literal(b"NULL".to_vec())),
        Some(InsertValue::Placeholder(_)) => {
            Err(format!("the key column {name} has a parameter without a value"))
        }
        Some(InsertValue::Expression(_)) => Err(format!("the key column {name} comes from an expression")),
        Some(InsertValue::Literal(span)) => {
            let text = sql.get(span.clone()).unwrap_or_default();
            let plain = without_mark(text, vars.mode.marks);
            bits_by_number(column, plain)?;
            let part = match stored(column, plain, vars) {
                Some(value) => Part::Known(value, text.to_vec()),
                None => Part::Literal(looked_for(column, text, vars).to_vec()),
            };
            if column.auto_increment {
                return match part {
                    Part::Known(Value::Int(0), _) if !vars.zero_is_no_default() => Ok(Part::Generated),
                    Part::Known(..) => Ok(part),
                    _ => Err(format!("the auto-increment column {name} is given as other than an integer")),
                };
            }
            Ok(part)
        }
    }
}

/// What a value is looked for by: beside a YEAR a literal below 100 is a year of two digits, as it is where it is
/// stored, and a parameter is not.
pub(crate) fn looked_for<'a>(column: &Column, literal: &'a [u8], vars: &Vars) -> &'a [u8] {
    if column.kind == Kind::Year { without_mark(literal, vars.mode.marks) } else { literal }
}

/// A text is stored in a BIT column by its bytes, but compared with it as the number that it spells.
///
/// # Errors
/// The literal is for such a column, and is no number.
pub(crate) fn bits_by_number(column: &Column, literal: &[u8]) -> Result<(), String> {
    let digits = |b: &u8| b.is_ascii_digit();
    let coded = |prefixes: [&[u8]; 2]| prefixes.iter().any(|prefix| literal.starts_with(prefix));
    let number =
        literal.iter().all(digits) || coded([b"0x", b"0b"]) || coded([b"b'", b"B'"]) || coded([b"x'", b"X'"]);
    if column.kind != Kind::Bit || number || literal.eq_ignore_ascii_case(b"NULL") {
        return Ok(());
    }
    Err(format!("the BIT column {} is a part of a key, and is given as other than an integer", column.name))
}

/// The value that a literal is stored as, where that is plain.
fn stored(column: &Column, text: &[u8], vars: &Vars) -> Option<Value> {
    match column.kind {
        Kind::Int => {
            let digits = plain_string(text, vars).unwrap_or_else(|| text.to_vec());
            let n = integer(&digits)?;
            in_range(&column.column_type, n).then_some(Value::Int(n))
        }
        Kind::Char | Kind::Text => {
            let value = plain_string(text, vars)?;
            let value = String::from_utf8(value).ok()?;
            // The literal goes from the client's charset through the connection's to the column's
            let fits = |charset: &str| {
                value.is_ascii()
                    || charset == "utf8mb4"
                    || (charset.starts_with("utf8") && value.chars().all(|c| u32::from(c) <= 0xffff))
            };
            let unicode = fits(&vars.charset_client) && fits(&vars.charset_connection);
            let charset = column.charset.as_deref().unwrap_or_default();
            let known = charset.starts_with("utf8") || matches!(charset, "latin1" | "ascii");
            let holds = known && fits(charset);
            let length = declared_length(&column.column_type)?;
            let value =
                if column.kind == Kind::Char { value.trim_end_matches(' ').to_string() } else { value };
            (unicode && holds && value.chars().count() <= length).then_some(Value::Text(value))
        }
        _ => None,
    }
}

fn integer(text: &[u8]) -> Option<i128> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn in_range(column_type: &str, n: i128) -> bool {
    let ty = column_type.to_ascii_lowercase();
    let bits = match ty.split(|c: char| !c.is_ascii_alphanumeric()).next() {
        Some("tinyint") => 8,
        Some("smallint") => 16,
        Some("mediumint") => 24,
        Some("int" | "integer") => 32,
        Some("bigint") => 64,
        _ => return false,
    };
    if ty.contains("unsigned") || ty.contains("zerofill") {
        (0..1i128 << bits).contains(&n)
    } else {
        (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(&n)
    }
}

fn declared_length(column_type: &str) -> Option<usize> {
    column_type.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

/// The content of a string literal in single quotes without introducer; `None` for anything else.
fn plain_string(text: &[u8], vars: &Vars) -> Option<Vec<u8>> {
    let inner = text.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' => {
                // only a doubled one is inside; anything else is a second string
                if bytes.next() != Some(b'\'') {
                    return None;
                }
                out.push(b'\'');
            }
            b'\\' if !vars.mode.no_backslash_escapes => match bytes.next()? {
                b'0' => out.push(0),
                b'b' => out.push(8),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'Z' => out.push(26),
                // these two keep their backslash
                escaped @ (b'%' | b'_') => out.extend_from_slice(&[b'\\', escaped]),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    Some(out)
}

/// Whether a conjunction of `column = literal` holds for one row at most: it names every key column, each with a
/// literal that is compared in the column's own type.
pub(crate) fn names_one_row(sql: &[u8], equalities: &[(String, Span)], table: &Table, vars: &Vars) -> bool {
    let Some(key) = table.keys.first() else { return false };
    key.columns.iter().all(|&c| {
        let column = &table.columns[c];
        equalities.iter().any(|(name, span)| {
            let text = without_mark(sql.get(span.clone()).unwrap_or_default(), vars.mode.marks);
            same_name(name, &column.name)
                && match column.kind {
                    Kind::Int => {
                        integer(&plain_string(text, vars).unwrap_or_else(|| text.to_vec())).is_some()
                    }
                    Kind::Char | Kind::Text => plain_string(text, vars).is_some(),
                    _ => false,
                }
        })
    })
}

/// For each inserted row whose key only the server can work out the condition that finds it, with the row's number
/// where it is generated.
pub(crate) fn literal_predicates(
    table: &Table,
    rows: &[Vec<Option<Vec<u8>>>],
    numbers: impl Iterator<Item = u64>,
) -> Vec<Vec<u8>> {
    let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let part = |(&c, literal): (&usize, &Option<Vec<u8>>), number: u64| {
        let column = &table.columns[c];
        let mut out = quote_identifier(&column.name).into_bytes();
        out.extend_from_slice(b" = ");
        match literal {
            Some(text) => out.extend_from_slice(&compared(column, text)),
            None => out.extend_from_slice(number.to_string().as_bytes()),
        }
        out
    };
    let row = |(row, number): (&Vec<Option<Vec<u8>>>, u64)| {
        columns.iter().zip(row).map(|pair| part(pair, number)).collect::<Vec<_>>().join(&b" AND "[..])
    };
    rows.iter().zip(numbers).map(row).collect()
}

/// What a column is compared with to find the row in which a literal was stored: as the column holds it.
pub(crate) fn compared(column: &Column, literal: &[u8]) -> Vec<u8> {
    let digits = column.column_type.split_once('(').map(|(_, rest)| format!("({rest}"));
    let digits = digits.as_deref().and_then(|d| d.split_inclusive(')').next()).unwrap_or_default();
    let as_type = match column.kind {
        Kind::Date => "DATE".to_owned(),
        Kind::Time => format!("TIME{digits}"),
        Kind::DateTime | Kind::Timestamp => format!("DATETIME{digits}"),
        Kind::Decimal => format!("DECIMAL{digits}"),
        Kind::Binary if column.column_type.starts_with("binary") => format!("BINARY{digits}"),
        _ => return literal.to_vec(),
    };
    [b"CAST(", literal, b" AS ", as_type.as_bytes(), b")"].concat()
}

/// Whether a literal is compared with a column's values byte by byte, so that no other value than the one stored is
/// equal to it.
fn bytewise(column: &Column, literal: &[u8]) -> bool {
    column.kind == Kind::Binary && (literal.starts_with(b"_binary 0x") || literal.starts_with(b"0x"))
}

/// Whether the conditions of [`literal_predicates`] can only find the rows in which the literals were stored.
pub(crate) fn finds_no_others(table: &Table, rows: &[Vec<Option<Vec<u8>>>]) -> bool {
    let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let exact = |(&c, literal): (&usize, &Option<Vec<u8>>)| {
        let column = table.columns.get(c);
        column.zip(literal.as_ref()).is_none_or(|(column, literal)| bytewise(column, literal))
    };
    rows.iter().all(|row| columns.iter().zip(row).all(exact))
}

/// Fills the generated parts of known keys with the rows' numbers.
pub(crate) fn generated_keys(rows: Vec<Vec<Option<Value>>>, numbers: impl Iterator<Item = u64>) -> Vec<Key> {
    let key = |(row, number): (Vec<Option<Value>>, u64)| {
        Key(row.into_iter().map(|part| part.unwrap_or(Value::Int(number.into()))).collect())
    };
    rows.into_iter().zip(numbers).map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atone_facts::samples;
    use atone_sql::{Mode, Statement, analyze};
    use atone_undo::UniqueKey;

    fn vars() -> Vars {
        Vars::of_tests()
    }

    fn column(name: &str, kind: Kind, ty: &str, auto: bool) -> Column {
        Column {
            kind,
            column_type: ty.into(),
            charset: Some("utf8mb4".into()),
            auto_increment: auto,
            ..samples::column(name)
        }
    }

    fn table(key: Vec<Column>) -> Table {
        let columns = (0..key.len()).collect();
        Table {
            schema: "s".into(),
            name: "t".into(),
            columns: key,
            keys: vec![UniqueKey { name: "PRIMARY".into(), columns, prefixes: vec![] }],
        }
    }

    fn info(table: &Table) -> TableInfo {
        TableInfo {
            defaults: vec![ColumnDefault::Missing; table.columns.len()],
            ..samples::info(table.clone())
        }
    }

    fn keys_of(sql: &str, table: &Table) -> Result<InsertKeys, String> {
        match analyze(sql.as_bytes(), Mode::default()).statement {
            Statement::Insert(insert) => insert_keys(sql.as_bytes(), &insert, &info(table), &vars()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn integer_and_string_keys_are_known() {
        let ints = table(vec![column("id", Kind::Int, "int(11)", false)]);
        let want = InsertKeys::Known(vec![vec![Some(Value::Int(1))], vec![Some(Value::Int(-2))]]);
        assert_eq!(keys_of("INSERT INTO t (ID) VALUES (1), (-2)", &ints), Ok(want));
        let strings = table(vec![column("id", Kind::Text, "varchar(5)", false)]);
        let want = InsertKeys::Known(vec![vec![Some(Value::Text("it's".into()))]]);
        assert_eq!(keys_of("INSERT INTO t VALUES ('it''s')", &strings), Ok(want));
    }

    #[test]
    fn what_the_server_converts_is_left_to_it() {
        let ints = table(vec![column("id", Kind::Int, "tinyint(4)", false)]);
        for literal in ["1.5", "'1x'", "300", "1e0", "0x10"] {
            let got = keys_of(&format!("INSERT INTO t VALUES ({literal})"), &ints);
            assert_eq!(
                got,
                Ok(InsertKeys::Literals(vec![vec![Some(literal.as_bytes().to_vec())]])),
                "{literal}"
            );
        }
        let strings = table(vec![column("id", Kind::Text, "varchar(2)", false)]);
        for literal in ["'abc'", "12", "_latin1'a'"] {
            let got = keys_of(&format!("INSERT INTO t VALUES ({literal})"), &strings);
            assert!(matches!(got, Ok(InsertKeys::Literals(_))), "{literal}: {got:?}");
        }
    }

    #[test]
    fn auto_increment_is_generated_or_given() {
        let mut auto = table(vec![column("id", Kind::Int, "int", true)]);
        auto.columns.push(column("v", Kind::Int, "int", false));
        let want = || InsertKeys::Known(vec![vec![None], vec![None]]);
        assert_eq!(keys_of("INSERT INTO t (v) VALUES (1), (2)", &auto), Ok(want()));
        assert_eq!(keys_of("INSERT INTO t VALUES (NULL, 1), (0, 2)", &auto), Ok(want()));
        let mixed = InsertKeys::Mixed(0, vec![None, Some(7)]);
        assert_eq!(keys_of("INSERT INTO t VALUES (NULL, 1), (7, 2)", &auto), Ok(mixed));
        assert!(keys_of("INSERT INTO t VALUES ('x', 1)", &auto).is_err());
        let keys = generated_keys(vec![vec![None], vec![None]], [10, 15].into_iter());
        assert_eq!(keys, [Key(vec![Value::Int(10)]), Key(vec![Value::Int(15)])]);
    }

    #[test]
    fn what_was_not_evaluated_is_refused() {
        let mut ints = table(vec![column("id", Kind::Int, "int", false)]);
        ints.columns.push(column("v", Kind::Int, "int", false));
        assert!(keys_of("INSERT INTO t VALUES (1+1, 1)", &ints).is_err());
        // The server refuses it by itself
        let nothing = InsertKeys::Literals(vec![vec![Some(b"NULL".to_vec())]]);
        assert_eq!(keys_of("INSERT INTO t (v) VALUES (1)", &ints), Ok(nothing));
        let days = column("day", Kind::Date, "date", false);
        assert_eq!(
            compared(&days, b"TIMESTAMP '2024-01-01 10:00:00'"),
            b"CAST(TIMESTAMP '2024-01-01 10:00:00' AS DATE)"
        );
        let times = column("at", Kind::Timestamp, "timestamp(3)", false);
        assert_eq!(compared(&times, b"DATE '2024-01-01'"), b"CAST(DATE '2024-01-01' AS DATETIME(3))");
        let bytes = column("b", Kind::Binary, "binary(4)", false);
        assert_eq!(compared(&bytes, b"'ab'"), b"CAST('ab' AS BINARY(4))");
        let variable = column("b", Kind::Binary, "varbinary(4)", false);
        assert_eq!(compared(&variable, b"0x6162"), b"0x6162");
    }

    #[test]
    fn bits_are_given_as_numbers() {
        let bits = table(vec![column("b", Kind::Bit, "bit(8)", false)]);
        for literal in ["48", "0x30", "b'1'", "X'30'", "NULL"] {
            assert!(keys_of(&format!("INSERT INTO t VALUES ({literal})"), &bits).is_ok(), "{literal}");
        }
        for literal in ["'0'", "1.5", "_binary '1'", "DATE '2024-01-01'"] {
            assert!(keys_of(&format!("INSERT INTO t VALUES ({literal})"), &bits).is_err(), "{literal}");
        }
    }

    #[test]
    fn a_condition_pins_one_row_only_in_the_keys_own_type() {
        let check = |sql: &str, table: &Table| match analyze(sql.as_bytes(), Mode::default()).statement {
            Statement::Dml(u) => {
                u.equalities.is_some_and(|p| names_one_row(sql.as_bytes(), &p, table, &vars()))
            }
            other => panic!("{other:?}"),
        };
        let ints = table(vec![column("id", Kind::Int, "int", false)]);
        assert!(check("UPDATE t SET v=1 WHERE id=5", &ints));
        assert!(check("UPDATE t SET v=1 WHERE id='5' AND v=2", &ints));
        assert!(!check("UPDATE t SET v=1 WHERE v=5", &ints));
        assert!(!check("UPDATE t SET v=1 WHERE id=5.5", &ints));
        let strings = table(vec![column("id", Kind::Text, "varchar(5)", false)]);
        assert!(check("UPDATE t SET v=1 WHERE id='x'", &strings));
        assert!(!check("UPDATE t SET v=1 WHERE id=0", &strings), "matches every word");
    }
}
