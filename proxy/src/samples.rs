//! Tables for unit tests.

use atone_undo::{Column, Kind, Table, UniqueKey};

/// `name INT NOT NULL`
pub(crate) fn column(name: &str) -> Column {
    Column {
        name: name.into(),
        kind: Kind::Int,
        column_type: "int".into(),
        charset: None,
        collation: None,
        nullable: false,
        generated: false,
        auto_increment: false,
    }
}

/// A table of such columns, of which the first is the key.
pub(crate) fn table(columns: &[&str]) -> Table {
    Table {
        schema: "s".into(),
        name: "t".into(),
        columns: columns.iter().map(|name| column(name)).collect(),
        keys: vec![UniqueKey { name: "PRIMARY".into(), columns: vec![0], prefixes: vec![None] }],
    }
}
