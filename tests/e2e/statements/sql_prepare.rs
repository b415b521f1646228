//! PREPARE, EXECUTE and EXECUTE IMMEDIATE in a bound session: what they run is captured as the statement itself is.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::case::check_queries;
use atone_tests::effects::q;
use atone_tests::{Bank, Cluster, Flavor, sql};

atone_tests::shared_tests!(executed, values, immediate, refused, prepared_out_of_sight);

const T: &str =
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), d DOUBLE, x VARBINARY(20), y YEAR)";
/// Without YEAR, beside which MySQL reads small literals otherwise than parameters.
const PLAIN: &str =
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), d DOUBLE, x VARBINARY(20), y INT)";
const ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one', 0.5, 'x', 2003), (2, 20, 'zwölf', -1e30, NULL, 2020), (3, NULL, NULL, NULL, '', 0)";

async fn executed(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &[
            "PREPARE p FROM 'UPDATE t SET a = a + 1 WHERE id < 3'",
            "EXECUTE p",
            "EXECUTE P",
            "SELECT ROW_COUNT()",
        ][..],
        &[
            "PREPARE p FROM 'DELETE FROM t WHERE id = ?'",
            "SET @id = 2",
            "EXECUTE p USING @id",
            "DEALLOCATE PREPARE p",
        ],
        &[
            "PREPARE p FROM 'INSERT INTO t (id, b) VALUES (?, ?), (?, UPPER(?))'",
            "SET @a = 10, @b = 'it''s \\\\ ö', @c = 11",
            "EXECUTE p USING @a, @b, @c, @b",
            "EXECUTE p USING @a, @b, @c, @b",
            "SHOW WARNINGS",
        ],
        &[
            "PREPARE `p` FROM \"SELECT a FROM t WHERE id = ?\"",
            "SET @id = 1",
            "EXECUTE p USING @id",
            "DROP PREPARE p",
        ],
        // The name is taken again, for better or worse
        &[
            "PREPARE p FROM 'UPDATE t SET a = 1'",
            "PREPARE p FROM 'UPDATE t SET a = 2'",
            "EXECUTE p",
            "DEALLOCATE PREPARE p",
        ],
        &[
            "BEGIN",
            "SET @text = 'UPDATE t SET b = ? WHERE id IN (?, ?)', @one = 1, @three = 3, @v = 'via'",
            "PREPARE q FROM @text",
            "SAVEPOINT s",
            "EXECUTE q USING @v, @one, @three",
            "ROLLBACK TO s",
            "EXECUTE q USING @v, @three, @three",
            "PREPARE c FROM 'COMMIT'",
            "EXECUTE c",
        ],
        // What the server refuses
        &["PREPARE p FROM 'UPDATE nowhere SET a = 1'", "PREPARE p FROM 'SELEC'", "DEALLOCATE PREPARE never"],
        &["PREPARE p FROM 'UPDATE t SET a = ?'", "EXECUTE p", "SET @a = 1", "EXECUTE p USING @a, @a"],
        &["SET @n = NULL", "PREPARE p FROM @n"],
    ] {
        check_queries(&c, &[PLAIN, ROWS], &["t"], statements).await?;
    }
    Ok(())
}

/// Variables of all types come as the parameters that they are.
async fn values(c: Arc<Cluster>) -> Result<()> {
    for (set, column) in [
        ("@v = 7", "a"),
        ("@v = -9223372036854775808", "d"),
        ("@v = 18446744073709551615", "d"),
        ("@v = 1.50", "b"),
        ("@v = 1e0", "b"),
        ("@v = 0.1e0", "d"),
        ("@v = -1.7976931348623157e308", "d"),
        ("@v = NULL", "a"),
        ("@v = ''", "b"),
        ("@v = 'a''b\\\\c\\n'", "b"),
        ("@v = _latin1 0xE9", "b"),
        ("@v = x'00FF27'", "x"),
        ("@v = CAST('bin' AS BINARY)", "x"),
        ("@v = 3", "y"),
        ("@v = TRUE", "a"),
        ("@v = CAST('2026-01-02' AS DATE)", "b"),
    ] {
        let set = format!("SET {set}");
        let update = format!("PREPARE p FROM 'UPDATE t SET {column} = ? WHERE id <= 2'");
        let statements = [set.as_str(), update.as_str(), "EXECUTE p USING @v", "SHOW WARNINGS", "SELECT @v"];
        check_queries(&c, &[T, ROWS], &["t"], &statements).await?;
    }
    Ok(())
}

async fn immediate(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() != Flavor::MariaDb {
        return Ok(());
    }
    for statements in [
        &["EXECUTE IMMEDIATE 'UPDATE t SET a = 5 WHERE id = 1'", "SELECT ROW_COUNT()"][..],
        &["SET @a = 5, @b = 2", "EXECUTE IMMEDIATE 'UPDATE t SET a = ? WHERE id = ?' USING @a, @b"],
        &["SET @text = 'DELETE FROM t'", "EXECUTE IMMEDIATE @text"],
        &["EXECUTE IMMEDIATE 'SELECT b FROM t WHERE id = 2'"],
        &["SET @text = NULL", "EXECUTE IMMEDIATE @text"],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    Ok(())
}

/// What is refused as a statement is refused as a prepared one.
async fn refused(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("sql_prepare").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            T,
            ROWS,
            "CREATE FUNCTION f() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE t SET a = a + 1; RETURN 1; END",
            "CREATE PROCEDURE sets() UPDATE t SET a = 99",
            "CREATE TABLE u (id INT PRIMARY KEY)",
            "CREATE VIEW writes AS SELECT f() AS x",
        ],
    )
    .await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    for text in
        ["CALL sets()", "DO f()", "SELECT f()", "SELECT x FROM writes", "TRUNCATE TABLE t", "DROP TABLE u"]
    {
        let prepare = format!("PREPARE p FROM '{text}'");
        if c.flavor() == Flavor::MariaDb && text.contains("()") {
            // It may call functions when it prepares
            sql::refused(&mut conn, &prepare).await?.expect(1235, "42000")?;
            continue;
        }
        match q(&prepare).run(&mut conn).await?.error {
            // So it may those of a view
            Some(error) if text.contains("writes") => error.expect(1235, "42000")?,
            Some(error) => anyhow::bail!("{prepare}: {error:?}"),
            None => sql::refused(&mut conn, "EXECUTE p").await?.expect(1235, "42000")?,
        }
    }
    for statement in
        ["EXECUTE p USING 1", "PREPARE `p q` FROM 'SELECT 1'", "PREPARE p FROM CONCAT('SELECT ', 1)"]
    {
        let error = sql::refused(&mut conn, statement).await?;
        // MySQL knows no expressions there
        let unknown = c.flavor() == Flavor::MySql && !statement.contains("p q");
        assert_eq!(error.code, if unknown { 1064 } else { 1235 }, "{statement}: {error:?}");
    }
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?, before);
    Ok(())
}

/// Nobody has looked at what an unbound session prepares: what is under a name by then is not known.
async fn prepared_out_of_sight(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("sql_prepared").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, &[T, ROWS]).await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, "PREPARE p FROM 'UPDATE t SET a = 1'").await?;
    sql::start_global(&mut conn).await?;
    sql::refused(&mut conn, "EXECUTE p").await?.expect(1235, "42000")?;
    sql::run(&mut conn, "PREPARE p FROM 'UPDATE t SET b = b'").await?;
    sql::run(&mut conn, "EXECUTE p").await?;
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    sql::run(&mut conn, "PREPARE p FROM 'UPDATE t SET a = 2'").await?;
    sql::start_global(&mut conn).await?;
    sql::refused(&mut conn, "EXECUTE p").await?.expect(1235, "42000")?;
    // Another schema by now
    sql::run(&mut conn, "PREPARE q FROM 'UPDATE t SET a = 3'").await?;
    sql::run(&mut conn, format!("USE {}", c.schema("sql_prepared_elsewhere").await?)).await?;
    sql::refused(&mut conn, "EXECUTE q").await?.expect(1235, "42000")?;
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?, before);
    Ok(())
}
