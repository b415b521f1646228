//! One of each kind of statement that is captured.

use atone_tests::Flavor;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Params, Value};

/// What is there before.
pub(crate) const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE, v INT NOT NULL, s VARCHAR(20))",
    "INSERT INTO t VALUES (1, 1, 1, 'a'), (2, 2, 2, 'b'), (3, 3, 3, 'c'), (4, NULL, 4, NULL)",
    "CREATE TABLE g (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "INSERT INTO g VALUES (1, 1), (2, 2)",
    "CREATE TABLE k (k VARCHAR(20) PRIMARY KEY, v INT)",
    "CREATE TABLE p (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE)",
    "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)",
    "INSERT INTO c VALUES (1, 1), (2, 1), (3, 2)",
    "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE a_log (n INT AUTO_INCREMENT PRIMARY KEY, id INT)",
    "INSERT INTO a VALUES (1, 1), (2, 2)",
    "CREATE TRIGGER a_u AFTER UPDATE ON a FOR EACH ROW INSERT INTO a_log (id) VALUES (NEW.id)",
    "CREATE TRIGGER a_i AFTER INSERT ON a FOR EACH ROW INSERT INTO a_log (id) VALUES (NEW.id)",
    "CREATE VIEW tv AS SELECT id, v FROM t WHERE id < 100",
    "CREATE TABLE prior (id INT PRIMARY KEY, n INT NOT NULL)",
    "INSERT INTO prior VALUES (1, 0), (2, 0)",
];

/// What is compared.
pub(crate) const TABLES: [&str; 8] = ["t", "g", "k", "p", "c", "a", "a_log", "prior"];

/// A statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    pub(crate) text: &'static str,
    /// Run before it, in the same local transaction, undisturbed.
    pub(crate) before: &'static [&'static str],
    /// It is prepared, and has these parameters.
    pub(crate) params: Option<&'static [i64]>,
    /// The only server that has it.
    only: Option<Flavor>,
    /// It ends the local transaction.
    pub(crate) ends: bool,
    /// It loads a file.
    file: Option<&'static str>,
}

impl Statement {
    const fn of(text: &'static str) -> Self {
        Self { text, before: &[], params: None, only: None, ends: false, file: None }
    }

    const fn prepared(text: &'static str, params: &'static [i64]) -> Self {
        Self { params: Some(params), ..Self::of(text) }
    }

    const fn on_mariadb(self) -> Self {
        Self { only: Some(Flavor::MariaDb), ..self }
    }

    const fn ending(text: &'static str, before: &'static [&'static str]) -> Self {
        Self { before, ends: true, ..Self::of(text) }
    }

    pub(crate) fn runs_on(&self, flavor: Flavor) -> bool {
        self.only.is_none_or(|only| only == flavor)
    }

    /// Runs it.
    pub(crate) async fn run(&self, conn: &mut Conn) -> mysql_async::Result<()> {
        if let Some(file) = self.file {
            conn.set_infile_handler(async move {
                use futures::StreamExt as _;
                let piece = std::io::Result::Ok(bytes::Bytes::from_static(file.as_bytes()));
                Ok(futures::stream::iter([piece]).boxed())
            });
        }
        match self.params {
            Some(params) => {
                let values: Vec<Value> = params.iter().map(|n| Value::Int(*n)).collect();
                let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
                conn.exec_drop(self.text, params).await
            }
            None => conn.query_drop(self.text).await,
        }
    }
}

/// All of them.
pub(crate) const STATEMENTS: &[Statement] = &[
    Statement::of("UPDATE t SET v = v + 1 WHERE id = 1"),
    Statement::of("UPDATE t SET v = v + 1 WHERE v > 1 ORDER BY id LIMIT 2"),
    Statement::of("UPDATE t SET id = id + 100 WHERE id IN (1, 2)"),
    Statement::of("UPDATE t SET v = 9 WHERE id IN (SELECT id FROM p)"),
    Statement::of("UPDATE t SET v = 9 WHERE id IN (SELECT id FROM p) AND RAND() < 2"),
    Statement::of("UPDATE tv SET v = 5 WHERE id = 2"),
    Statement::of("DELETE FROM t WHERE v > 2"),
    Statement::of("UPDATE t JOIN p ON p.id = t.id SET t.v = 7"),
    Statement::of("DELETE t FROM t JOIN p ON p.id = t.id WHERE p.v = 2"),
    Statement::of("INSERT INTO t VALUES (11, 11, 1, 'x'), (12, 12, 1, 'x')"),
    Statement::of("INSERT INTO g (v) VALUES (1), (2)"),
    Statement::of("INSERT INTO g VALUES (NULL, 1), (500, 2)"),
    Statement::of("INSERT INTO t VALUES (10 + 1, 11, 1, 'x')"),
    Statement::of("INSERT INTO k VALUES ('a\u{e9} b', 1)"),
    Statement::of("INSERT IGNORE INTO t VALUES (1, 1, 1, 'x'), (12, 12, 1, 'x')"),
    Statement::of("INSERT INTO t VALUES (1, 1, 1, 'x'), (13, 13, 1, 'x') ON DUPLICATE KEY UPDATE v = v + 1"),
    Statement::of("INSERT INTO k VALUES ('n', 1) ON DUPLICATE KEY UPDATE v = v + 1"),
    Statement::of("REPLACE INTO t VALUES (1, 1, 9, 'x')"),
    Statement::of("REPLACE INTO p VALUES (1, 9)"),
    Statement::of("INSERT INTO t SELECT id + 20, NULL, v, 'x' FROM p"),
    Statement::of("INSERT INTO g (v) SELECT v FROM p"),
    Statement::of("DELETE FROM p WHERE id = 1"),
    Statement::of("UPDATE p SET id = id + 50 WHERE id = 1"),
    Statement::of("UPDATE a SET v = v + 1"),
    Statement::of("INSERT INTO a VALUES (7, 7)"),
    Statement {
        file: Some("21\t21\t1\tx\n22\t22\t1\ty\n"),
        ..Statement::of("LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
    },
    Statement::prepared("UPDATE t SET v = v + ? WHERE id = ?", &[5, 2]),
    Statement::prepared("INSERT INTO t VALUES (?, 31, 1, 'x') ON DUPLICATE KEY UPDATE v = 1", &[31]),
    Statement::of("INSERT INTO t VALUES (11, 11, 1, 'x') RETURNING id, v").on_mariadb(),
    Statement::prepared("DELETE FROM t WHERE id = ? RETURNING id, v", &[1]).on_mariadb(),
    Statement::ending("COMMIT", &["UPDATE t SET v = v + 1 WHERE id = 1", "DELETE FROM p WHERE id = 1"]),
    Statement::ending("BEGIN", &["INSERT INTO t VALUES (11, 11, 1, 'x')"]),
];
