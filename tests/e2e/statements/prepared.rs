//! Prepared statements whose text would mean something else by the time they are executed, or whose parameters are no
//! literals.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Params, Value};

atone_tests::shared_tests!(another_schema, another_sql_mode, the_same_again, compared_otherwise);

const T: &[&str] = &["CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))", "INSERT INTO t VALUES (1, 'old')"];
const V: &str = "SELECT v FROM t";

/// An unqualified name belongs to the schema in which the statement was prepared.
async fn another_schema(c: Arc<Cluster>) -> Result<()> {
    let (there, here) = (c.schema("prepared_there").await?, c.schema("prepared_here").await?);
    for schema in [&there, &here] {
        sql::run_all(&mut c.direct(Bank::One, schema).await?, T).await?;
    }
    let mut conn = c.app(Bank::One, &there).await?;
    let unbound = conn.prep("UPDATE t SET v = 'unbound' WHERE id = 1").await?;
    let read = conn.prep("SELECT v FROM t WHERE id = ?").await?;
    sql::run(&mut conn, format!("USE {here}")).await?;
    sql::start_global(&mut conn).await?;
    sql::server_error(conn.exec_drop(&unbound, ()).await, "prepared unbound")?.expect(1235, "42000")?;
    sql::server_error(conn.exec_drop(&read, (1,)).await, "a read")?.expect(1235, "42000")?;
    let bound = conn.prep("UPDATE t SET v = 'bound' WHERE id = ?").await?;
    sql::run(&mut conn, format!("USE {there}")).await?;
    sql::server_error(conn.exec_drop(&bound, (1,)).await, "prepared bound")?.expect(1235, "42000")?;
    assert_eq!(
        (c.rows(Bank::One, &there, V).await?, c.rows(Bank::One, &here, V).await?),
        (vec!["old".into()], vec!["old".into()])
    );
    // Back where it was prepared
    sql::run(&mut conn, format!("USE {here}")).await?;
    conn.exec_drop(&bound, (1,)).await?;
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(
        (c.rows(Bank::One, &there, V).await?, c.rows(Bank::One, &here, V).await?),
        (vec!["old".into()], vec!["bound".into()])
    );
    Ok(())
}

/// Whether `"old"` is a text or a column was decided when the statement was prepared.
async fn another_sql_mode(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("prepared_mode").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, T).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, "SET sql_mode = ''").await?;
    let text = conn.prep("UPDATE t SET v = \"v\" WHERE id = 1").await?;
    sql::run(&mut conn, "SET sql_mode = 'ANSI_QUOTES'").await?;
    sql::start_global(&mut conn).await?;
    sql::server_error(conn.exec_drop(&text, ()).await, "ANSI_QUOTES")?.expect(1235, "42000")?;
    let column = conn.prep("UPDATE t SET v = CONCAT(\"v\", '!') WHERE id = 1").await?;
    conn.exec_drop(&column, ()).await?;
    sql::run(&mut conn, "SET sql_mode = ''").await?;
    sql::server_error(conn.exec_drop(&column, ()).await, "no ANSI_QUOTES")?.expect(1235, "42000")?;
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, V).await?, ["old!"]);
    Ok(())
}

/// What changes nothing of that is no reason to refuse anything.
async fn the_same_again(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("prepared_again").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, T).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, "SET NAMES utf8mb4").await?;
    let unbound = conn.prep("UPDATE t SET v = CONCAT(v, ?) WHERE id = 1").await?;
    sql::run_all(&mut conn, &["SELECT 'user', 1", "SET @a = 1", "SET time_zone = '+01:00'"]).await?;
    sql::start_global(&mut conn).await?;
    conn.exec_drop(&unbound, ("+",)).await?;
    let bound = conn.prep("UPDATE t SET v = CONCAT(v, ?) WHERE id = 1").await?;
    sql::run_all(&mut conn, &["SET NAMES utf8mb4", "SET autocommit = 1", "SET @b = 2"]).await?;
    conn.exec_drop(&bound, ("-",)).await?;
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, V).await?, ["old+-"]);
    Ok(())
}

/// Beside a YEAR MySQL reads a literal below 100 as one of two digits, beside a TIME it rounds a parameter: each is
/// what it is to the server by itself.
async fn compared_otherwise(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("prepared_odd").await?;
    let setup = [
        "CREATE TABLE y (k YEAR PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE h (k TIME PRIMARY KEY, v VARCHAR(20))",
        "INSERT INTO y VALUES (2003, 'old'), (2004, 'four')",
        "INSERT INTO h VALUES ('34:11:12', 'old')",
    ];
    for bank in [Bank::One, Bank::Two] {
        sql::run_all(&mut c.direct(bank, &schema).await?, &setup).await?;
    }
    let time = |micros| Value::Time(false, 1, 10, 11, 12, micros);
    let mut conn = c.app(Bank::One, &schema).await?;
    let mut plain = c.direct(Bank::Two, &schema).await?;
    let reads = ["SELECT * FROM y ORDER BY k", "SELECT * FROM h ORDER BY k"];
    let xid = sql::start_global(&mut conn).await?;
    for (statement, param) in [
        ("UPDATE y SET v = 'new' WHERE k = ?", Value::Int(2003)),
        ("UPDATE y SET v = 'newer' WHERE v = ?", Value::Bytes(b"3".to_vec())),
        ("INSERT INTO h SELECT '01:00', v FROM y WHERE k = ?", Value::Int(4)),
        ("INSERT INTO h SELECT '02:00', v FROM h WHERE LENGTH(v) = ?", Value::Int(3)),
        ("INSERT INTO h VALUES ('03:00', (SELECT MAX(v) FROM y WHERE k = ?))", Value::Int(4)),
        ("INSERT INTO y VALUES (?, 'small')", Value::Int(7)),
        ("INSERT IGNORE INTO y VALUES (?, 'smaller')", Value::Int(7)),
        ("UPDATE h SET v = 'new' WHERE v = (SELECT MAX(v) FROM y WHERE k > ?)", Value::Int(4)),
        ("UPDATE h SET v = ?", time(1000)),
        ("UPDATE h SET v = 'new' WHERE k = ?", time(0)),
        ("UPDATE y SET v = ? WHERE k > 2000", Value::Int(3)),
    ] {
        let what = format!("{statement} {param:?}");
        let params = Params::Positional(vec![param]);
        conn.exec_drop(statement, params.clone()).await.context(statement)?;
        plain.exec_drop(statement, params).await?;
        assert_eq!(conn.affected_rows(), plain.affected_rows(), "{what}");
        for read in reads {
            assert_eq!(sql::rows(&mut conn, read).await?, sql::rows(&mut plain, read).await?, "{statement}");
        }
    }
    // An UPDATE looks a YEAR up by a year of two digits, and rounds a TIME; a SELECT does not
    for (statement, param) in [
        ("UPDATE y SET v = 'new' WHERE k = ?", Value::Int(3)),
        ("DELETE y FROM y JOIN h WHERE y.k = ?", Value::Int(3)),
        ("DELETE FROM h WHERE k = ?", time(1000)),
        ("DELETE x FROM h AS x JOIN h AS z ON x.k = z.k WHERE z.k = ?", time(1000)),
    ] {
        let done = conn.exec_drop(statement, Params::Positional(vec![param])).await;
        match c.flavor() {
            Flavor::MySql => sql::server_error(done, statement)?.expect(1235, "42000")?,
            Flavor::MariaDb => done?,
        }
    }
    // The bytes of an emoji in UTF-8, of which one is no character in cp1251
    for conn in [&mut conn, &mut plain] {
        sql::run(conn, "SET character_set_client = cp1251").await?;
    }
    for text in ["\u{1f600}", "\u{e9}"] {
        let statement = "UPDATE y SET v = ? WHERE k = 2003";
        let (bound, other) =
            (conn.exec_drop(statement, (text,)).await, plain.exec_drop(statement, (text,)).await);
        let code = |done: mysql_async::Result<()>| done.err().map(|e| e.to_string());
        assert_eq!(code(bound), code(other), "{text}");
    }
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, reads[0]).await?, ["2003|old", "2004|four"]);
    Ok(())
}
