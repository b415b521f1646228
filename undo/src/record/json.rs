//! The record's JSON structure.

use serde::{Deserialize, Serialize, Serializer};

use super::cells::{CellsOut, RowsIn};
use super::{RecordError, RowChange, TableChanges, malformed};
use crate::kind::Kind;
use crate::packed::{Image, Values};
use crate::table::{Column, Table, UniqueKey};

#[derive(Serialize)]
#[serde(bound = "")]
pub(super) struct RecordOut<'a, I: Values> {
    pub(super) format: &'static str,
    pub(super) version: u32,
    pub(super) xid: &'a str,
    pub(super) branch_id: u64,
    pub(super) resource: &'a str,
    pub(super) tables: TablesOut<'a, I>,
}

/// Each table is laid out when its turn comes.
pub(super) struct TablesOut<'a, I>(pub(super) &'a [TableChanges<I>]);

impl<I: Values> Serialize for TablesOut<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(table_out))
    }
}

#[derive(Serialize)]
#[serde(bound = "")]
struct TableOut<'a, I: Values> {
    schema: &'a str,
    table: &'a str,
    columns: Vec<ColumnJson>,
    keys: Vec<KeyJson>,
    rows: RowsOut<'a, I>,
}

struct RowsOut<'a, I>(&'a TableChanges<I>);

impl<'a, I: Values> Serialize for RowsOut<'a, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = &self.0.table;
        let row = |row: &'a RowChange<I>| RowOut {
            before: image(table, row.before.as_ref()),
            after: image(table, row.after.as_ref()),
        };
        serializer.collect_seq(self.0.rows.iter().map(row))
    }
}

fn image<'a, I: Values>(table: &'a Table, image: Option<&'a I>) -> Option<CellsOut<'a>> {
    image.map(|image| CellsOut { table, values: image.values() })
}

#[derive(Serialize)]
struct RowOut<'a> {
    before: Option<CellsOut<'a>>,
    after: Option<CellsOut<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordIn {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) xid: String,
    pub(super) branch_id: u64,
    pub(super) resource: String,
    pub(super) tables: Vec<TableIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableIn {
    schema: String,
    table: String,
    columns: Vec<ColumnJson>,
    keys: Vec<KeyJson>,
    rows: RowsIn,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnJson {
    name: String,
    kind: Kind,
    #[serde(rename = "type")]
    column_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    collation: Option<String>,
    nullable: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    generated: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    auto_increment: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyJson {
    name: String,
    columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<Option<u32>>,
}

impl ColumnJson {
    fn of(column: &Column) -> Self {
        ColumnJson {
            name: column.name.clone(),
            kind: column.kind,
            column_type: column.column_type.clone(),
            charset: column.charset.clone(),
            collation: column.collation.clone(),
            nullable: column.nullable,
            generated: column.generated,
            auto_increment: column.auto_increment,
        }
    }

    fn into_column(self) -> Column {
        Column {
            name: self.name,
            kind: self.kind,
            column_type: self.column_type,
            charset: self.charset,
            collation: self.collation,
            nullable: self.nullable,
            generated: self.generated,
            auto_increment: self.auto_increment,
        }
    }
}

fn table_out<I: Values>(changes: &TableChanges<I>) -> TableOut<'_, I> {
    let table = &changes.table;
    TableOut {
        schema: &table.schema,
        table: &table.name,
        columns: table.columns.iter().map(ColumnJson::of).collect(),
        keys: table
            .keys
            .iter()
            .map(|key| KeyJson {
                name: key.name.clone(),
                columns: key
                    .columns
                    .iter()
                    .filter_map(|&c| table.columns.get(c))
                    .map(|c| c.name.clone())
                    .collect(),
                prefixes: if key.prefixes.iter().all(Option::is_none) {
                    Vec::new()
                } else {
                    key.prefixes.clone()
                },
            })
            .collect(),
        rows: RowsOut(changes),
    }
}

pub(super) fn table_in(read: TableIn) -> Result<TableChanges<Image>, RecordError> {
    let columns: Vec<Column> = read.columns.into_iter().map(ColumnJson::into_column).collect();
    let position = |name: &str| {
        columns
            .iter()
            .position(|c| c.name == name)
            .ok_or_else(|| malformed(format!("a key names the column {name:?}, which is not there")))
    };
    let mut keys = Vec::with_capacity(read.keys.len());
    for key in read.keys {
        let parts = key.columns.iter().map(|name| position(name)).collect::<Result<Vec<_>, _>>()?;
        if key.prefixes.len() > parts.len() {
            return Err(malformed("a key has more prefixes than columns"));
        }
        keys.push(UniqueKey { name: key.name, columns: parts, prefixes: key.prefixes });
    }
    let rows = read.rows.of(&columns)?;
    Ok(TableChanges { table: Table { schema: read.schema, name: read.table, columns, keys }, rows })
}
