//! Tables that were altered between a branch's COMMIT and its rollback.
//!
//! A rollback leaves what there would be if the branch had never been and the table had been altered then. It is done
//! where that can be told from the columns' names: each column of the record is there under its name with a type that
//! holds the same values, and the key still identifies rows. A column that the branch did not change may be gone. The
//! rest must tell that it has not taken the name of another one ([`MissingColumns`](atone_undo::MissingColumns)).
//! Where columns stand in another order, the rows must tell that they have not exchanged their names
//! ([`Exchanges`](atone_undo::Exchanges)). A column that was added keeps its value in rows that stand; rows that are
//! inserted again get its default, as they would have had from the ALTER. All else stops the branch.

use std::collections::HashSet;

use atone_facts::{
    AuditTable, ColumnDefault, Mirror, TableInfo, Write, audit_tables_of, compensates_by_replacing,
    mirror_of, undo_refusal,
};
use atone_undo::{Column, Kind, MissingColumn, RowChange, Table, UniqueKey, Value, quote_identifier};

/// A record's table as it is now.
#[derive(Debug)]
pub(super) struct Adapted {
    /// The record's columns, in its order, as they are now, without those that are gone.
    pub(super) table: Table,
    /// Those that are gone.
    pub(super) gone: Vec<MissingColumn>,
    /// Where each of them stands among the table's columns.
    pub(super) places: Vec<usize>,
    /// A condition under which a row's added columns have what an ALTER gives them, where there are such columns.
    pub(super) untouched: Option<String>,
    /// Rows are deleted and inserted, since triggers fire for UPDATE.
    pub(super) replaces: bool,
    /// The tables to which triggers add rows meanwhile.
    pub(super) audit_tables: Vec<AuditTable>,
    /// The table that triggers keep equal to it meanwhile.
    pub(super) mirror: Option<Mirror>,
}

impl Adapted {
    /// What triggers write meanwhile is the same.
    pub(super) fn triggers_write_as(&self, other: &Adapted) -> bool {
        self.audit_tables == other.audit_tables && self.mirror == other.mirror
    }
}

/// What the rollback of these rows does to their table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    insert: bool,
    update: bool,
    delete: bool,
}

/// Whether the rollback deletes the row as it is, even if another one takes its place.
pub(super) fn is_deleted(table: &Table, change: &RowChange, replaces: bool) -> bool {
    match (&change.before, &change.after) {
        (None, _) => true,
        (_, None) => false,
        _ if replaces => true,
        (Some(before), Some(after)) => table.changes_key(before, after),
    }
}

fn needs(table: &Table, rows: &[RowChange], replaces: bool) -> Needs {
    let mut needs = Needs::default();
    for row in rows {
        let deleted = row.after.is_some() && is_deleted(table, row, replaces);
        needs.delete |= deleted;
        needs.insert |= row.before.is_some() && (row.after.is_none() || deleted);
        needs.update |= row.before.is_some() && row.after.is_some() && !replaces;
    }
    needs
}

/// Finds the record's columns and key in the table as it is now.
///
/// # Errors
/// Why its rows cannot be restored exactly, in a sentence.
pub(super) fn adapt(recorded: &Table, rows: &[RowChange], now: &TableInfo) -> Result<Adapted, String> {
    let name = format!("{}.{}", recorded.schema, recorded.name);
    if let Some(why) = &now.refuse_any {
        return Err(why.clone());
    }
    let find =
        |column: &Column| now.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(&column.name));
    let found: Vec<Option<usize>> = recorded.columns.iter().map(find).collect();
    let gone = MissingColumn::all(&recorded.columns, &found, &now.table.columns);
    let is_given = |column: &&MissingColumn| recorded.columns.get(column.at).is_some_and(|c| !c.generated);
    if let Some(column) = gone.iter().filter(is_given).find(|column| is_changed(rows, column.at)) {
        let all: Vec<&str> = now.table.columns.iter().map(|c| c.name.as_str()).collect();
        return Err(format!(
            "the columns of {name} have changed: {} gone or renamed, which the branch has changed; there are {}",
            column.name,
            all.join(", ")
        ));
    }
    let (kept, places): (Vec<usize>, Vec<usize>) =
        found.iter().enumerate().filter_map(|(at, place)| Some((at, (*place)?))).unzip();
    let mut columns = Vec::with_capacity(places.len());
    for (&at, place) in kept.iter().zip(&places) {
        let (Some(was), Some(is)) = (recorded.columns.get(at), now.table.columns.get(*place)) else {
            return Err(format!("the columns of {name} have changed"));
        };
        if !holds_the_same(was, is) || (was.charset != is.charset && has_bytes(rows, at)) {
            return Err(format!(
                "the column {} of {name} was {} and is {}",
                was.name, was.column_type, is.column_type
            ));
        }
        let mut is = is.clone();
        if was.kind == Kind::Json {
            // All that the record has of a document is its text
            is.kind = Kind::Json;
        }
        columns.push(is);
    }
    let mut table =
        Table { schema: recorded.schema.clone(), name: recorded.name.clone(), columns, keys: Vec::new() };
    table.keys = keys(recorded, now, &kept, &places).ok_or_else(|| {
        format!("no unique key of {name} is over the columns by which the branch's rows are known")
    })?;
    let triggers = &now.facts.triggers;
    let replaces = compensates_by_replacing(triggers);
    let in_record = |key: &UniqueKey| UniqueKey {
        columns: key.columns.iter().filter_map(|&c| kept.get(c).copied()).collect(),
        ..key.clone()
    };
    let as_recorded = Table { keys: table.keys.iter().map(in_record).collect(), ..recorded.clone() };
    let needs = needs(&as_recorded, rows, replaces);
    let renamed = |gone: &MissingColumn| gone.renamed(&found, &now.table.columns);
    if let Some((column, new)) = gone.iter().filter(is_given).find_map(|gone| Some((gone, renamed(gone)?)))
        && needs.insert
    {
        let new = now.table.columns.get(new).map(|c| c.name.as_str()).unwrap_or_default();
        return Err(format!(
            "the columns of {name} have changed: {} is gone, or renamed to {new}, which rows that are inserted again would \
             have to be given",
            column.name
        ));
    }
    let undone = [
        (needs.insert, Write::Delete),
        (needs.delete, Write::Insert),
        (needs.update, Write::Update { keys: false }),
    ];
    for (_, write) in undone.into_iter().filter(|(needed, _)| *needed) {
        if let Some(why) = undo_refusal(&table, triggers, write) {
            return Err(why);
        }
    }
    let fired = [(needs.insert, "INSERT"), (needs.update, "UPDATE"), (needs.delete, "DELETE")];
    let fired: Vec<&str> = fired.into_iter().filter(|(needed, _)| *needed).map(|(_, event)| event).collect();
    let audit_tables = audit_tables_of(triggers, &fired).into_iter().cloned().collect();
    let mirror = mirror_of(triggers, &fired).cloned();
    let known: HashSet<usize> = places.iter().copied().collect();
    let mut untouched = Vec::new();
    for (at, column) in now.table.columns.iter().enumerate() {
        if known.contains(&at) || column.generated {
            continue;
        }
        let default = now.defaults.get(at).unwrap_or(&ColumnDefault::Unknown);
        let known = matches!(default, ColumnDefault::Null | ColumnDefault::Constant | ColumnDefault::Missing);
        if needs.insert && (!known || column.auto_increment) {
            return Err(format!(
                "{name} has the new column {}, whose value rows that are inserted again cannot be given",
                column.name
            ));
        }
        if needs.update && now.implied.contains(&at) {
            return Err(format!("{name} has the new column {}, which follows every UPDATE", column.name));
        }
        let quoted = quote_identifier(&column.name);
        match default {
            ColumnDefault::Null => untouched.push(format!("{quoted} IS NULL")),
            ColumnDefault::Constant => untouched.push(format!("{quoted} <=> DEFAULT({quoted})")),
            _ if needs.delete => {
                return Err(format!(
                    "{name} has the new column {}, of which it cannot be told whether it was changed since",
                    column.name
                ));
            }
            _ => {}
        }
    }
    let untouched = (needs.delete && !untouched.is_empty()).then(|| untouched.join(" AND "));
    Ok(Adapted { table, gone, places, untouched, replaces, audit_tables, mirror })
}

/// Whether a row has been given another value in this column.
fn is_changed(rows: &[RowChange], column: usize) -> bool {
    rows.iter().any(|row| match (&row.before, &row.after) {
        (Some(before), Some(after)) => before.get(column) != after.get(column),
        _ => false,
    })
}

fn has_bytes(rows: &[RowChange], column: usize) -> bool {
    let images = rows.iter().flat_map(|row| [&row.before, &row.after]).flatten();
    images.into_iter().any(|values| matches!(values.get(column), Some(Value::Bytes(_))))
}

/// Whether values of the column as it was are read and written alike as it is now. Those that it cannot hold any more
/// are found out when they are read again.
fn holds_the_same(was: &Column, is: &Column) -> bool {
    if was.generated != is.generated {
        return false;
    }
    let documents = was.kind == Kind::Json && is.kind == Kind::Document;
    if was.column_type == is.column_type && (was.kind == is.kind || documents) {
        return true;
    }
    match (was.kind, is.kind) {
        (Kind::Char | Kind::Text, Kind::Char | Kind::Text) => true,
        (Kind::Int, Kind::Int) | (Kind::Binary, Kind::Binary) | (Kind::Bit, Kind::Bit) => true,
        (Kind::Decimal, Kind::Decimal) => scale(&was.column_type) == scale(&is.column_type),
        (Kind::Enum, Kind::Enum) | (Kind::Set, Kind::Set) => {
            // Members were added after the others
            let members = was.column_type.strip_suffix(')').unwrap_or(&was.column_type);
            is.column_type.strip_prefix(members).is_some_and(|rest| rest.starts_with(','))
                && !is.column_type.contains("''")
        }
        _ => false,
    }
}

/// The digits after the point of a DECIMAL: all that stands after the comma.
fn scale(column_type: &str) -> Option<&str> {
    column_type.split_once(',').map(|(_, scale)| scale)
}

/// The record's identifying key, if it still is one, and the other unique keys there are, over those of the record's
/// columns that are `kept`.
fn keys(recorded: &Table, now: &TableInfo, kept: &[usize], places: &[usize]) -> Option<Vec<UniqueKey>> {
    let identifying = recorded.keys.first()?;
    let columns: Vec<usize> =
        identifying.columns.iter().map(|c| kept.iter().position(|k| k == c)).collect::<Option<_>>()?;
    let ours: HashSet<usize> = columns.iter().map(|&c| places.get(c).copied()).collect::<Option<_>>()?;
    let still = now.table.keys.iter().find(|key| {
        key.columns.len() == ours.len()
            && key.columns.iter().all(|c| ours.contains(c))
            && key.prefixes.iter().all(Option::is_none)
            && key
                .columns
                .iter()
                .all(|&c| now.table.columns.get(c).is_some_and(|c| !c.nullable && !c.generated))
    })?;
    // By the name that it has now
    let mut keys =
        vec![UniqueKey { name: still.name.clone(), columns, prefixes: identifying.prefixes.clone() }];
    for key in now.table.keys.iter().filter(|key| key.name != still.name) {
        let columns: Vec<usize> =
            key.columns.iter().filter_map(|c| places.iter().position(|place| place == c)).collect();
        if !columns.is_empty() {
            keys.push(UniqueKey { name: key.name.clone(), columns, prefixes: key.prefixes.clone() });
        }
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atone_facts::samples;

    fn now(columns: &[&str]) -> TableInfo {
        let mut info = samples::info(samples::table(columns));
        info.defaults = vec![ColumnDefault::Null; columns.len()];
        info
    }

    fn row(before: Option<[i128; 2]>, after: Option<[i128; 2]>) -> RowChange {
        let values = |v: [i128; 2]| v.into_iter().map(Value::Int).collect();
        RowChange { before: before.map(values), after: after.map(values) }
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let recorded = samples::table(&["id", "v"]);
        let rows = [row(Some([1, 1]), Some([1, 2]))];
        let adapted = adapt(&recorded, &rows, &now(&["id", "v"])).unwrap();
        assert_eq!((adapted.table, adapted.untouched), (recorded.clone(), None));
        let adapted = adapt(&recorded, &rows, &now(&["id", "new", "v"])).unwrap();
        assert_eq!((adapted.table, adapted.untouched), (recorded.clone(), None));
        assert!(adapt(&recorded, &rows, &now(&["id", "w"])).unwrap_err().contains("v gone or renamed"));
        assert!(adapt(&recorded, &rows, &now(&["v", "id"])).unwrap_err().contains("no unique key"));
    }

    #[test]
    fn columns_that_are_gone() {
        let recorded = samples::table(&["id", "v", "w"]);
        let values = |v: [i128; 3]| Some(v.into_iter().map(Value::Int).collect());
        let change = |before, after| [RowChange { before, after }];
        let update = change(values([1, 1, 7]), values([1, 2, 7]));
        let adapted = adapt(&recorded, &update, &now(&["id", "v"])).unwrap();
        assert_eq!(adapted.table, samples::table(&["id", "v"]));
        assert_eq!((adapted.gone[0].at, adapted.gone[0].beside.as_slice()), (2, &[1][..]));
        let stops = |rows: &[RowChange], columns: &[&str]| adapt(&recorded, rows, &now(columns)).unwrap_err();
        assert!(stops(&update, &["id", "w"]).contains("v gone or renamed, which the branch has changed"));
        assert!(stops(&update, &["v", "w"]).contains("no unique key"));
        // Rows that come again would have to be given it
        let delete = change(values([1, 1, 7]), None);
        assert!(adapt(&recorded, &delete, &now(&["id", "v"])).is_ok());
        assert!(stops(&delete, &["id", "v", "x"]).contains("renamed to x"));
        assert!(adapt(&recorded, &update, &now(&["id", "v", "x"])).is_ok());
    }

    #[test]
    fn rows_that_go_must_not_have_been_changed_in_a_new_column() {
        let recorded = samples::table(&["id", "v"]);
        let mut table = now(&["id", "v", "new"]);
        let delete = [row(None, Some([1, 2]))];
        let insert = [row(Some([1, 2]), None)];
        assert_eq!(adapt(&recorded, &delete, &table).unwrap().untouched.as_deref(), Some("`new` IS NULL"));
        assert_eq!(adapt(&recorded, &insert, &table).unwrap().untouched, None);
        table.defaults[2] = ColumnDefault::Expression("uuid()".into());
        assert!(adapt(&recorded, &delete, &table).is_err() && adapt(&recorded, &insert, &table).is_err());
        table.defaults[2] = ColumnDefault::Missing;
        assert!(adapt(&recorded, &delete, &table).is_err() && adapt(&recorded, &insert, &table).is_ok());
    }

    #[test]
    fn types_that_hold_the_same_values() {
        let column = |kind, ty: &str| Column { kind, column_type: ty.into(), ..samples::column("c") };
        let same = |a: (Kind, &str), b: (Kind, &str)| holds_the_same(&column(a.0, a.1), &column(b.0, b.1));
        assert!(same((Kind::Int, "int"), (Kind::Int, "bigint unsigned")));
        assert!(same((Kind::Char, "char(5)"), (Kind::Text, "varchar(9)")));
        assert!(!same((Kind::Int, "int"), (Kind::Text, "varchar(9)")));
        assert!(same((Kind::Decimal, "decimal(5,2)"), (Kind::Decimal, "decimal(9,2)")));
        assert!(!same((Kind::Decimal, "decimal(5,2)"), (Kind::Decimal, "decimal(9,3)")));
        assert!(same((Kind::Enum, "enum('a')"), (Kind::Enum, "enum('a','b')")));
        assert!(!same((Kind::Enum, "enum('a','b')"), (Kind::Enum, "enum('a','c')")));
        assert!(!same((Kind::Enum, "enum('a')"), (Kind::Enum, "enum('b','a')")));
        assert!(!same((Kind::DateTime, "datetime(6)"), (Kind::DateTime, "datetime")));
    }
}
