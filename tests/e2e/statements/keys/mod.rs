//! INSERT whose keys only the server knows: from expressions and defaults, generated ones mixed with given ones, from
//! queries.

mod expressions;
mod generated;
mod queries;

use anyhow::Result;
use atone_tests::Cluster;
use atone_tests::case::{Case, check};
use atone_tests::effects::{Step, q};

const TABLES: &[&str] = &[
    "CREATE TABLE src (a INT PRIMARY KEY, b INT, m VARCHAR(20))",
    "INSERT INTO src VALUES (1, 10, 'one'), (2, 20, 'two'), (3, 30, NULL)",
    "CREATE TABLE n (id INT PRIMARY KEY, v INT)",
    "INSERT INTO n VALUES (1, 1), (2, 2)",
    "CREATE TABLE s (id VARCHAR(40) COLLATE utf8mb4_bin PRIMARY KEY, v INT)",
    "CREATE TABLE b (id VARBINARY(16) PRIMARY KEY, v INT)",
    "CREATE TABLE d (day DATE, at DATETIME(3), v INT, PRIMARY KEY (day, at))",
    "CREATE TABLE k (id INT AUTO_INCREMENT PRIMARY KEY, m VARCHAR(20) UNIQUE, v INT)",
    "INSERT INTO k VALUES (1, 'a', 1), (2, 'b', 2)",
    "CREATE TABLE pairs (id INT AUTO_INCREMENT, b DECIMAL(5, 2), v INT, PRIMARY KEY (id, b))",
    "CREATE TABLE two (a INT, b INT DEFAULT 7, v INT, PRIMARY KEY (a, b))",
    "CREATE TABLE x (id DECIMAL(20, 5) PRIMARY KEY, v INT)",
    "CREATE TABLE hidden (a INT INVISIBLE DEFAULT 5, id INT PRIMARY KEY, b INT INVISIBLE, v INT)",
    "CREATE TABLE f4 (id BINARY(4), at DATETIME(1), n DECIMAL(5, 2), v INT, PRIMARY KEY (id, at, n))",
    "CREATE TABLE dbl (id DOUBLE PRIMARY KEY, v INT)",
];
const CONTENT: &[&str] = &[
    "SELECT * FROM n ORDER BY id",
    "SELECT * FROM s ORDER BY id",
    "SELECT HEX(id), v FROM b ORDER BY id",
    "SELECT * FROM d ORDER BY day, at",
    "SELECT * FROM k ORDER BY id",
    "SELECT * FROM pairs ORDER BY id",
    "SELECT * FROM two ORDER BY a, b",
    "SELECT * FROM x ORDER BY id",
    "SELECT * FROM dbl ORDER BY id",
    "SELECT HEX(id), at, n, v FROM f4 ORDER BY v, n",
    "SELECT a, id, b, v FROM hidden",
];

async fn compare(c: &Cluster, name: &str, steps: Vec<Step>) -> Result<()> {
    let mut begun = vec![q("BEGIN")];
    begun.extend(steps.iter().cloned());
    begun.push(q("COMMIT"));
    for steps in [steps, begun] {
        check(c, Case { name, setup: TABLES, tables: CONTENT, steps }).await?;
    }
    Ok(())
}
