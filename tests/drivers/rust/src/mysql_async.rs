//! mysql_async.

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use common::*;
use futures_util::{StreamExt as _, TryStreamExt as _};
use mysql_async::prelude::{Protocol, Queryable};
use mysql_async::{
    Compression, Conn, Error, IsolationLevel, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts,
    QueryResult, Row, SslOpts, TxOpts, Value, WhiteListFsHandler,
};

fn options() -> Result<OptsBuilder> {
    let tls =
        ca().map(|ca| SslOpts::default().with_root_certs(vec![ca.into()]).with_disable_built_in_roots(true));
    Ok(OptsBuilder::default()
        .ip_or_hostname(env("HOST"))
        .tcp_port(port()?)
        .user(Some(env("USER")))
        .pass(Some(env("PASSWORD")))
        .db_name(Some(env("SCHEMA")))
        .prefer_socket(false)
        .ssl_opts(tls)
        .compression((env("COMPRESS") == "1").then(Compression::default))
        .local_infile_handler(Some(WhiteListFsHandler::new([PathBuf::from(env("TMP")).join("rows.txt")]))))
}

async fn connect() -> Result<Conn> {
    Ok(Conn::new(options()?).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut db = connect().await?;
    if env("MODE") == "bound" {
        bound(&mut db).await?;
    } else {
        login(&mut db).await?;
        text(&mut db).await?;
        prepared(&mut db).await?;
        batch(&mut db).await?;
        section("blobs");
        blobs(&mut db, false).await?;
        section("blobs-prepared");
        blobs(&mut db, true).await?;
        streaming(&mut db).await?;
        multi(&mut db).await?;
        procedure(&mut db).await?;
        transaction(&mut db).await?;
        errors(&mut db).await?;
        warnings(&mut db).await?;
        metadata(&mut db).await?;
        load_data(&mut db).await?;
        reset(&mut db).await?;
        pool().await?;
    }
    db.disconnect().await?;
    section("end");
    Ok(())
}

fn value(value: &Value) -> String {
    match value {
        Value::Bytes(b) => bytes(b),
        other => format!("{other:?}"),
    }
}

/// Prints all results of a statement.
async fn results<P: Protocol>(label: &str, mut result: QueryResult<'_, '_, P>) -> Result<()> {
    loop {
        let (affected, id, warnings) = (result.affected_rows(), result.last_insert_id(), result.warnings());
        let info = result.info().into_owned();
        let Some(columns) = result.columns() else {
            show(label, format!("{affected} {id:?} {warnings} {info:?}"));
            if result.is_empty() {
                // An error in a later statement.
                return Ok(result.drop_result().await?);
            }
            let _: Vec<Row> = result.collect().await?;
            continue;
        };
        if !columns.is_empty() {
            let names: Vec<_> = columns.iter().map(|column| column.name_str().into_owned()).collect();
            show(label, format!("{names:?}"));
        }
        let rows: Vec<Row> = result.collect().await?;
        for row in rows {
            let cells = row.unwrap();
            show(label, cells.iter().map(value).collect::<Vec<_>>().join(" | "));
        }
        if columns.is_empty() {
            show(label, format!("{affected} {id:?} {warnings} {info:?}"));
        }
        if result.is_empty() {
            return Ok(result.drop_result().await?);
        }
    }
}

async fn query(db: &mut Conn, label: &str, sql: impl AsRef<str>) -> Result<()> {
    let result = db.query_iter(sql.as_ref()).await?;
    results(label, result).await
}

async fn exec(db: &mut Conn, label: &str, sql: &str, params: impl Into<Params> + Send) -> Result<()> {
    let result = db.exec_iter(sql, params.into()).await?;
    results(label, result).await
}

fn failed<T>(label: &str, result: Result<T>) -> Result<()> {
    let Err(error) = result else { bail!("{label}: no error") };
    match error.downcast_ref::<Error>() {
        Some(Error::Server(server)) => {
            show(label, format!("{} {} {}", server.code, server.state, server.message));
        }
        _ => show(label, error),
    }
    Ok(())
}

async fn login(db: &mut Conn) -> Result<()> {
    section("login");
    show("server", format!("{:?}", db.server_version()));
    query(db, "version", "SELECT VERSION(), DATABASE(), CURRENT_USER()").await?;
    query(db, "charset", "SELECT @@character_set_client, @@character_set_results, @@collation_connection")
        .await?;
    let id: Option<u32> = db.query_first("SELECT CONNECTION_ID()").await?;
    show("connection id is the server's", id == Some(db.id()));
    let cipher: Option<(String, String)> = db.query_first("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
    show("tls", cipher.is_some_and(|(_, cipher)| !cipher.is_empty()));
    query(db, "compression", "SHOW SESSION STATUS LIKE 'Compression'").await
}

async fn text(db: &mut Conn) -> Result<()> {
    section("text");
    query(db, "create", shared("types")?).await?;
    query(db, "insert", shared("insert")?).await?;
    query(db, "read", "SELECT * FROM types ORDER BY id").await?;
    query(db, "update", "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3").await?;
    query(db, "update of nothing", "UPDATE types SET i32 = 5 WHERE id = 1").await?;
    query(db, "delete", "DELETE FROM types WHERE id = 2").await?;
    query(db, "generated key", "INSERT INTO types (v) VALUES ('a'), ('b')").await?;
    query(db, "left", "SELECT id, v FROM types ORDER BY id").await
}

fn values() -> Vec<Value> {
    vec![
        (-1).into(),
        2.into(),
        (-3).into(),
        4.into(),
        (-5).into(),
        6.into(),
        u64::MAX.into(),
        1.25f32.into(),
        (-1e200).into(),
        "-123456789.0123456789".into(),
        vec![2u8, 1].into(),
        1999.into(),
        Value::Date(2024, 2, 29, 0, 0, 0, 0),
        Value::Time(true, 1, 1, 1, 2, 17),
        Value::Date(2024, 2, 29, 23, 59, 59, 999_999),
        Value::Date(2001, 2, 3, 4, 5, 6, 789_000),
        "日本".into(),
        "it's \"😀\" \\ \0 ?".into(),
        "x".repeat(60000).into(),
        "é".into(),
        vec![0u8, 1, 2, 3].into(),
        b"\xff'\\\"\0".to_vec().into(),
        "".into(),
        "three".into(),
        "y,z".into(),
        r#"{"a": "😀"}"#.into(),
    ]
}

async fn prepared(db: &mut Conn) -> Result<()> {
    section("prepared");
    let all = values();
    let marks = vec!["?"; all.len()].join(", ");
    let insert = format!("INSERT INTO types ({COLUMNS}) VALUES ({marks})");
    exec(db, "clear", "DELETE FROM types WHERE id > ?", (0,)).await?;
    exec(db, "inserted", &insert, all.clone()).await?;
    exec(db, "inserted again", &insert, vec![Value::NULL; all.len()]).await?;
    exec(db, "read", &format!("SELECT {COLUMNS} FROM types WHERE id > ? ORDER BY id"), (-1,)).await?;
    exec(db, "found", "SELECT i32, v FROM types WHERE v = ?", (all[17].clone(),)).await?;
    // Several statements at a time, closed in another order.
    let one = db.prep("SELECT ? + 1, ?").await?;
    let two = db.prep("UPDATE types SET v = ? WHERE i8 = ?").await?;
    show("prepared", format!("{} {} {}", one.num_params(), one.num_columns(), two.num_columns()));
    for value in ["a".into(), Value::NULL, 3.5.into(), vec![255u8].into(), Value::Time(false, 0, 1, 2, 3, 4)]
    {
        let result = db.exec_iter(&one, (1, value)).await?;
        results("one", result).await?;
        let result = db.exec_iter(&two, ("b", -1)).await?;
        results("two", result).await?;
    }
    db.close(one).await?;
    let result = db.exec_iter(&two, ("last", -1)).await?;
    results("two", result).await?;
    db.close(two).await?;
    failed("syntax", db.prep("SELEKT ?").await.map_err(Into::into))
}

async fn batch(db: &mut Conn) -> Result<()> {
    section("batch");
    query(db, "create", "CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))").await?;
    let rows =
        (1..=1000).map(|n| (n, (n % 7 != 0).then(|| format!("näme {n}")), "2026-01-01 00:00:00.000001"));
    let mut tx = db.start_transaction(TxOpts::default()).await?;
    tx.exec_batch("INSERT INTO many VALUES (?, ?, ?)", rows).await?;
    tx.commit().await?;
    query(db, "there", "SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many").await
}

async fn blobs(db: &mut Conn, prepared: bool) -> Result<()> {
    query(db, "create", "CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)").await?;
    query(db, "clear", "DELETE FROM large").await?;
    for length in [MIB, 17 * MIB, 0] {
        let read = "SELECT LENGTH(data), CRC32(data), data FROM large WHERE id = ";
        if prepared {
            exec(db, "inserted", "INSERT INTO large VALUES (?, ?)", (length, blob(length))).await?;
            exec(db, "read back", &format!("{read}?"), (length,)).await?;
        } else {
            let sql = format!("INSERT INTO large VALUES ({length}, {})", literal(&blob(length)));
            query(db, "inserted", sql).await?;
            query(db, "read back", format!("{read}{length}")).await?;
        }
    }
    Ok(())
}

async fn streaming(db: &mut Conn) -> Result<()> {
    section("streaming");
    let (mut count, mut total) = (0u64, 0i64);
    let mut rows = db.exec_stream::<(i64, Option<String>, Value), _, _>(JOIN, ()).await?;
    while let Some((id, _, _)) = rows.try_next().await? {
        count += 1;
        total += id;
    }
    drop(rows);
    show("rows", format!("{count} {total}"));
    let mut left = db.query_stream::<Row, _>(JOIN).await?;
    show("first", left.next().await.is_some());
    drop(left);
    query(db, "still in order", "SELECT 'yes'").await
}

async fn multi(db: &mut Conn) -> Result<()> {
    section("multi");
    query(
        db,
        "several",
        "SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0",
    )
    .await?;
    failed(
        "in the middle",
        query(db, "several", "SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'").await,
    )?;
    query(db, "still in order", "SELECT 'yes'").await
}

async fn procedure(db: &mut Conn) -> Result<()> {
    section("procedure");
    query(db, "create", shared("procedure")?).await?;
    query(db, "call", "CALL counted(20, @twice)").await?;
    exec(db, "prepared call", "CALL counted(?, @twice)", (30,)).await?;
    query(db, "out", "SELECT @twice").await
}

async fn transaction(db: &mut Conn) -> Result<()> {
    section("transaction");
    for commit in [true, false] {
        let mut options = TxOpts::default();
        options.with_isolation_level(Some(IsolationLevel::ReadCommitted)).with_consistent_snapshot(true);
        let mut tx = db.start_transaction(options).await?;
        tx.query_drop("INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001").await?;
        tx.query_drop("SAVEPOINT here").await?;
        tx.query_drop("DELETE FROM many").await?;
        tx.query_drop("ROLLBACK TO SAVEPOINT here").await?;
        let inside: Option<(u64, u64)> = tx.query_first("SELECT COUNT(*), MAX(id) FROM many").await?;
        show("inside", format!("{inside:?}"));
        if commit {
            tx.commit().await?
        } else {
            tx.rollback().await?
        }
        query(db, "after", "SELECT COUNT(*), MAX(id) FROM many").await?;
    }
    let mut options = TxOpts::default();
    options.with_readonly(Some(true));
    let mut tx = db.start_transaction(options).await?;
    failed("read only", tx.query_drop("DELETE FROM many").await.map_err(Into::into))?;
    // Dropped without an end: the driver rolls it back before the next statement.
    drop(tx);
    query(db, "after", "SELECT COUNT(*), MAX(id) FROM many").await
}

async fn errors(db: &mut Conn) -> Result<()> {
    section("errors");
    for sql in FAILING {
        failed("error", query(db, "", sql).await)?;
    }
    failed("prepared", exec(db, "", "INSERT INTO many VALUES (?, ?, ?)", (1, "a", Value::NULL)).await)?;
    failed("login", Conn::new(options()?.pass(Some("wrong"))).await.map_err(Into::into))?;
    query(db, "still in order", "SELECT 'yes'").await
}

async fn warnings(db: &mut Conn) -> Result<()> {
    section("warnings");
    query(db, "value", "SELECT CAST('12abc' AS SIGNED), 1 / 0").await?;
    show("count", db.get_warnings());
    query(db, "warnings", "SHOW WARNINGS").await?;
    query(db, "note", "CREATE TABLE IF NOT EXISTS many (id INT)").await?;
    query(db, "note", "SHOW WARNINGS").await
}

async fn metadata(db: &mut Conn) -> Result<()> {
    section("metadata");
    let result = db.query_iter(METADATA).await?;
    for column in result.columns_ref() {
        show("column", format!("{column:?}"));
    }
    result.drop_result().await?;
    let statement = db.prep(format!("{METADATA} WHERE id = ?")).await?;
    for column in statement.columns().iter().chain(statement.params()) {
        show("prepared", format!("{column:?}"));
    }
    Ok(db.close(statement).await?)
}

async fn load_data(db: &mut Conn) -> Result<()> {
    section("load-data");
    let file = PathBuf::from(env("TMP")).join("rows.txt");
    let mut rows = String::new();
    for n in 5001..=8000 {
        writeln!(rows, "{n}\tname é {n}\t\\N")?;
    }
    std::fs::write(&file, rows)?;
    let sql = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE many CHARACTER SET utf8mb4", file.display());
    query(db, "loaded", &sql).await?;
    query(db, "there", "SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000").await?;
    std::fs::remove_file(&file)?;
    // The driver gives up the connection.
    failed("no file", query(&mut connect().await?, "", &sql).await)?;
    query(db, "still in order", "SELECT 'yes'").await
}

async fn reset(db: &mut Conn) -> Result<()> {
    section("reset");
    db.ping().await?;
    query(db, "set", "SET @here = 1, sql_mode = 'ANSI'").await?;
    show("reset", db.reset().await?);
    query(db, "reset", "SELECT @here, @@sql_mode = @@GLOBAL.sql_mode, DATABASE()").await?;
    let other = mysql_async::ChangeUserOpts::new()
        .with_user(Some(env("OTHER_USER")))
        .with_pass(Some(env("OTHER_PASSWORD")))
        .with_db_name(Some("information_schema".to_owned()));
    db.change_user(other).await?;
    query(db, "user", "SELECT CURRENT_USER(), DATABASE()").await?;
    let own = mysql_async::ChangeUserOpts::new()
        .with_user(Some(env("USER")))
        .with_pass(Some(env("PASSWORD")))
        .with_db_name(Some(env("SCHEMA")));
    db.change_user(own).await?;
    query(db, "user", "SELECT CURRENT_USER(), DATABASE()").await?;
    let mut killed = connect().await?;
    query(db, "kill", format!("KILL {}", killed.id())).await?;
    let there = format!("SELECT id FROM information_schema.processlist WHERE id = {}", killed.id());
    while db.query_first::<u32, _>(&there).await?.is_some() {}
    show("killed", killed.ping().await.is_err());
    Ok(())
}

async fn pool() -> Result<()> {
    section("pool");
    let size = PoolOpts::default().with_constraints(PoolConstraints::new(1, 1).context("constraints")?);
    let pool = Pool::new(options()?.pool_opts(size.with_reset_connection(true)));
    let mut first = pool.get_conn().await?;
    let id = first.id();
    query(&mut first, "set", "SET @here = 1").await?;
    drop(first);
    let mut again = pool.get_conn().await?;
    show("the same", again.id() == id);
    query(&mut again, "left", "SELECT @here").await?;
    drop(again);
    Ok(pool.disconnect().await?)
}

/// Runs DML between the two statements of the environment; what it prints has to be the same with and without them.
async fn bound(db: &mut Conn) -> Result<()> {
    section("bound");
    if !env("BEGIN").is_empty() {
        db.query_drop(env("BEGIN")).await?;
    }
    for (label, sql) in [
        ("insert", "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)"),
        ("insert rows", "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)"),
        ("update by key", "UPDATE account SET balance = balance - 10.25 WHERE id = 1"),
        ("update by name", "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'"),
        ("update of nothing", "UPDATE account SET balance = balance WHERE id = 1"),
        ("delete", "DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1"),
        (
            "several",
            "UPDATE note SET d = 1 WHERE id = 1; INSERT INTO account (name, balance) VALUES ('m', 1); SELECT 1",
        ),
    ] {
        query(db, label, sql).await?;
    }
    let insert = "INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)";
    let at = Value::Date(2026, 5, 5, 5, 5, 5, 5);
    exec(db, "insert", insert, (3, at, "it's \"ü\" \\", blob(MIB), "{\"b\": [1]}", 1e-7)).await?;
    exec(
        db,
        "again",
        insert,
        vec![4.into(), Value::NULL, Value::NULL, Value::NULL, Value::NULL, Value::NULL],
    )
    .await?;
    exec(db, "update", "UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)", (0.25, Value::NULL, 1, 3))
        .await?;
    exec(db, "delete", "DELETE FROM note WHERE id = ?", (2,)).await?;
    exec(db, "read", "SELECT * FROM note WHERE id < ?", (4,)).await?;
    db.exec_batch("INSERT INTO account (name, balance) VALUES (?, ?)", (0..20).map(|n| (format!("n{n}"), n)))
        .await?;
    failed("duplicate key", query(db, "", "INSERT INTO account (name, balance) VALUES ('ann', 1)").await)?;
    failed(
        "duplicate key",
        exec(db, "", insert, (3, Value::NULL, Value::NULL, Value::NULL, Value::NULL, Value::NULL)).await,
    )?;
    for (id, commit) in [(500, true), (501, false)] {
        let mut tx = db.start_transaction(TxOpts::default()).await?;
        tx.exec_drop("UPDATE account SET balance = ? WHERE id IN (2, 3, 4)", (u8::from(commit),)).await?;
        tx.query_drop("SAVEPOINT here").await?;
        tx.query_drop("DELETE FROM account").await?;
        tx.query_drop("ROLLBACK TO SAVEPOINT here").await?;
        tx.exec_drop("INSERT INTO account VALUES (?, ?, 1)", (id, format!("inside {id}"))).await?;
        if commit { tx.commit().await? } else { tx.rollback().await? }
    }
    query(db, "account", "SELECT * FROM account ORDER BY id").await?;
    exec(db, "note", "SELECT * FROM note ORDER BY id", ()).await?;
    if !env("END").is_empty() {
        db.query_drop(env("END")).await?;
    }
    query(db, "still in order", "SELECT 'yes'").await
}
