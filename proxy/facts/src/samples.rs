//! Plain tables for unit tests, of this crate and of those above it.

use std::sync::Arc;

use atone_undo::{Column, Kind, Table, UniqueKey};

use crate::TableInfo;

/// What is known of a plain table.
pub fn info(table: Table) -> TableInfo {
    TableInfo {
        table: Arc::new(table),
        is_view: false,
        refuse_any: None,
        facts: Default::default(),
        references: Default::default(),
        indexed: Vec::new(),
        implied: Vec::new(),
        key_follows_update: false,
        defaults: Vec::new(),
        hidden: Vec::new(),
    }
}

/// `name INT NOT NULL`
pub fn column(name: &str) -> Column {
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
pub fn table(columns: &[&str]) -> Table {
    Table {
        schema: "s".into(),
        name: "t".into(),
        columns: columns.iter().map(|name| column(name)).collect(),
        keys: vec![UniqueKey { name: "PRIMARY".into(), columns: vec![0], prefixes: vec![None] }],
    }
}
