//! Tables for tests.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use atone_undo::{Column, Kind, Table, UniqueKey};

pub fn column(name: &str, data_type: &str, column_type: &str) -> Column {
    Column {
        name: name.to_owned(),
        kind: Kind::from_data_type(data_type, column_type).unwrap(),
        column_type: column_type.to_owned(),
        charset: None,
        collation: None,
        nullable: true,
        generated: false,
        auto_increment: false,
    }
}

pub fn text(name: &str, column_type: &str, charset: &str, collation: &str) -> Column {
    let data_type = column_type.split('(').next().unwrap();
    Column {
        charset: Some(charset.to_owned()),
        collation: Some(collation.to_owned()),
        ..column(name, data_type, column_type)
    }
}

pub fn not_null(column: Column) -> Column {
    Column { nullable: false, ..column }
}

pub fn unique(name: &str, columns: &[usize]) -> UniqueKey {
    UniqueKey { name: name.to_owned(), columns: columns.to_vec(), prefixes: Vec::new() }
}

pub fn table(columns: Vec<Column>, keys: Vec<UniqueKey>) -> Table {
    Table { schema: "bank".to_owned(), name: "account".to_owned(), columns, keys }
}

/// One column of every kind, after the key `id`.
pub fn all_kinds() -> Table {
    table(
        vec![
            not_null(Column { auto_increment: true, ..column("id", "bigint", "bigint unsigned") }),
            column("n", "int", "int"),
            column("amount", "decimal", "decimal(65,30)"),
            column("f", "float", "float"),
            column("d", "double", "double"),
            column("bits", "bit", "bit(64)"),
            column("y", "year", "year"),
            column("day", "date", "date"),
            column("at", "time", "time(3)"),
            column("dt", "datetime", "datetime(6)"),
            column("ts", "timestamp", "timestamp(6)"),
            text("c", "char(5)", "utf8mb4", "utf8mb4_general_ci"),
            text("v", "varchar(50)", "latin1", "latin1_swedish_ci"),
            text("zh", "varchar(50)", "gbk", "gbk_chinese_ci"),
            text("e", "enum('a','b')", "utf8mb4", "utf8mb4_general_ci"),
            text("e0", "enum('','b')", "utf8mb4", "utf8mb4_general_ci"),
            text("s", "set('a','b')", "utf8mb4", "utf8mb4_general_ci"),
            column("bin", "varbinary", "varbinary(100)"),
            column("doc", "json", "json"),
            column("geo", "point", "point"),
            column("vec", "vector", "vector(3)"),
            column("uid", "uuid", "uuid"),
            Column { generated: true, ..column("twice", "int", "int") },
        ],
        vec![unique("PRIMARY", &[0])],
    )
}
