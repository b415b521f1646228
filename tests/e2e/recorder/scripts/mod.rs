//! The scripts.

mod commands;
mod files;
mod large;
mod logins;
mod mariadb;
mod mysql;
mod prepared;
mod text;

use crate::script::Script;

/// All scripts.
pub(crate) fn all() -> Vec<Script> {
    [
        commands::scripts(),
        text::scripts(),
        prepared::scripts(),
        files::scripts(),
        large::scripts(),
        mariadb::scripts(),
        mysql::scripts(),
        logins::scripts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A small table with rows.
const ACCOUNT: &[&str] = &[
    "CREATE TABLE account (id INT PRIMARY KEY, name VARCHAR(40), balance INT NOT NULL DEFAULT 7)",
    "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 200), (3, NULL, 300)",
];
