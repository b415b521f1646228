//! Tables for unit tests.

use std::sync::Arc;

use atone_undo::{Column, Kind, Table, UniqueKey};

use crate::meta::TableInfo;

/// What is known of a plain table.
pub(crate) fn info(table: Table) -> TableInfo {
    TableInfo {
        table: Arc::new(table),
        is_view: false,
        refuse_any: None,
        facts: crate::meta::Facts::default(),
        references: Default::default(),
        indexed: Vec::new(),
        implied: Vec::new(),
        key_follows_update: false,
        defaults: Vec::new(),
        hidden: Vec::new(),
    }
}

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
