//! sqlx.

mod common;

use anyhow::{Context as _, Result, bail};
use common::*;
use futures_util::TryStreamExt as _;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions, MySqlRow, MySqlSslMode,
};
use sqlx::{ConnectOptions as _, Connection as _, Either, Executor as _, MySql, Row as _, Statement as _};
use sqlx::{MySqlConnection, TypeInfo as _, ValueRef as _};

type Query<'q> = sqlx::query::Query<'q, MySql, MySqlArguments>;

fn options() -> Result<MySqlConnectOptions> {
    let options = MySqlConnectOptions::new()
        .host(&env("HOST"))
        .port(port()?)
        .username(&env("USER"))
        .password(&env("PASSWORD"))
        .database(&env("SCHEMA"));
    Ok(match ca() {
        Some(ca) => options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(ca),
        None => options.ssl_mode(MySqlSslMode::Disabled),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut db = options()?.connect().await?;
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
        reset(&mut db).await?;
        pool().await?;
    }
    db.close().await?;
    section("end");
    Ok(())
}

/// The columns as they came, whatever the protocol.
fn row(row: &MySqlRow) -> Result<String> {
    let mut cells = Vec::new();
    for n in 0..row.len() {
        let raw = row.try_get_raw(n)?;
        let kind = raw.type_info().name().to_owned();
        let value: Option<Vec<u8>> = row.try_get_unchecked(n)?;
        cells.push(format!("{kind} {}", value.map_or("NULL".to_owned(), |value| bytes(&value))));
    }
    Ok(cells.join(" | "))
}

/// In the text protocol, with all results.
async fn query(db: &mut MySqlConnection, label: &str, sql: impl AsRef<str>) -> Result<()> {
    let mut results = db.fetch_many(sqlx::raw_sql(sql.as_ref()));
    while let Some(result) = results.try_next().await? {
        match result {
            Either::Left(done) => show(label, format!("{} {}", done.rows_affected(), done.last_insert_id())),
            Either::Right(one) => show(label, row(&one)?),
        }
    }
    Ok(())
}

/// Prepared, with all results.
async fn exec(db: &mut MySqlConnection, label: &str, query: Query<'_>) -> Result<()> {
    let mut results = db.fetch_many(query);
    while let Some(result) = results.try_next().await? {
        match result {
            Either::Left(done) => show(label, format!("{} {}", done.rows_affected(), done.last_insert_id())),
            Either::Right(one) => show(label, row(&one)?),
        }
    }
    Ok(())
}

fn failed<T>(label: &str, result: Result<T>) -> Result<()> {
    let Err(error) = result else { bail!("{label}: no error") };
    let server = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    match server.and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>()) {
        Some(server) => show(label, format!("{} {:?} {}", server.number(), server.code(), server.message())),
        None => show(label, error),
    }
    Ok(())
}

async fn login(db: &mut MySqlConnection) -> Result<()> {
    section("login");
    query(db, "version", "SELECT VERSION(), DATABASE(), CURRENT_USER()").await?;
    query(db, "charset", "SELECT @@character_set_client, @@character_set_results, @@collation_connection")
        .await?;
    query(db, "modes", "SELECT @@sql_mode, @@time_zone, @@autocommit").await?;
    let status = sqlx::query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").fetch_one(&mut *db).await?;
    show("tls", !status.try_get::<String, _>(1)?.is_empty());
    query(db, "compression", "SHOW SESSION STATUS LIKE 'Compression'").await
}

async fn text(db: &mut MySqlConnection) -> Result<()> {
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

async fn prepared(db: &mut MySqlConnection) -> Result<()> {
    section("prepared");
    let marks = vec!["?"; 26].join(", ");
    let insert = format!("INSERT INTO types ({COLUMNS}) VALUES ({marks})");
    exec(db, "clear", sqlx::query("DELETE FROM types WHERE id > ?").bind(0)).await?;
    let some = sqlx::query(&insert)
        .bind(-1i8)
        .bind(2u8)
        .bind(-3i16)
        .bind(4i32)
        .bind(-5i32)
        .bind(6i64)
        .bind(u64::MAX)
        .bind(1.25f32)
        .bind(-1e200f64)
        .bind("-123456789.0123456789")
        .bind(&[2u8, 1][..])
        .bind(1999)
        .bind("2024-02-29")
        .bind("25:01:02.000017")
        .bind("2024-02-29 23:59:59.999999")
        .bind("2001-02-03 04:05:06.789")
        .bind("日本")
        .bind("it's \"😀\" \\ \0 ?")
        .bind("x".repeat(60000))
        .bind("é")
        .bind(vec![0u8, 1, 2, 3])
        .bind(b"\xff'\\\"\0".to_vec())
        .bind("")
        .bind("three")
        .bind("y,z")
        .bind(r#"{"a": "😀"}"#);
    exec(db, "inserted", some).await?;
    let mut none = sqlx::query(&insert);
    for _ in 0..26 {
        none = none.bind(None::<String>);
    }
    exec(db, "inserted again", none).await?;
    let read = format!("SELECT {COLUMNS} FROM types WHERE id > ? ORDER BY id");
    exec(db, "read", sqlx::query(&read).bind(-1)).await?;
    // One that is kept and executed with other types, and one that is not kept.
    for n in 0..3 {
        exec(db, "kept", sqlx::query("SELECT ? + 1, ?").bind(n).bind(format!("é{n}"))).await?;
        exec(db, "kept", sqlx::query("SELECT ? + 1, ?").bind("5").bind(None::<i64>)).await?;
        exec(db, "not kept", sqlx::query("SELECT ?, 'x'").bind(n).persistent(false)).await?;
    }
    show("kept", db.cached_statements_size());
    db.clear_cached_statements().await?;
    failed("syntax", db.prepare("SELEKT ?").await.map_err(Into::into))
}

async fn batch(db: &mut MySqlConnection) -> Result<()> {
    section("batch");
    query(db, "create", "CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))").await?;
    let mut many = sqlx::QueryBuilder::<MySql>::new("INSERT INTO many ");
    many.push_values(1..=1000, |mut row, n| {
        row.push_bind(n)
            .push_bind((n % 7 != 0).then(|| format!("näme {n}")))
            .push_bind("2026-01-01 00:00:00.000001");
    });
    exec(db, "inserted", many.build()).await?;
    query(db, "there", "SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many").await
}

async fn blobs(db: &mut MySqlConnection, prepared: bool) -> Result<()> {
    query(db, "create", "CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)").await?;
    query(db, "clear", "DELETE FROM large").await?;
    for length in [MIB, 17 * MIB, 0] {
        let read = "SELECT LENGTH(data), CRC32(data), data FROM large WHERE id = ";
        if prepared {
            let insert =
                sqlx::query("INSERT INTO large VALUES (?, ?)").bind(length as u64).bind(blob(length));
            exec(db, "inserted", insert).await?;
            exec(db, "read back", sqlx::query(&format!("{read}?")).bind(length as u64)).await?;
        } else {
            let sql = format!("INSERT INTO large VALUES ({length}, {})", literal(&blob(length)));
            query(db, "inserted", sql).await?;
            query(db, "read back", format!("{read}{length}")).await?;
        }
    }
    Ok(())
}

async fn streaming(db: &mut MySqlConnection) -> Result<()> {
    section("streaming");
    let (mut count, mut total) = (0u64, 0i64);
    let mut rows = sqlx::query_as::<_, (i32, Option<String>)>(
        "SELECT a.id, b.name FROM many a JOIN many b ON b.id <= 10 ORDER BY a.id, b.id",
    )
    .fetch(&mut *db);
    while let Some((id, _)) = rows.try_next().await? {
        count += 1;
        total += i64::from(id);
    }
    drop(rows);
    show("rows", format!("{count} {total}"));
    let mut left = sqlx::raw_sql(JOIN).fetch(&mut *db);
    show("first", row(&left.try_next().await?.context("no row")?)?);
    drop(left);
    query(db, "still in order", "SELECT 'yes'").await
}

async fn multi(db: &mut MySqlConnection) -> Result<()> {
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

async fn procedure(db: &mut MySqlConnection) -> Result<()> {
    section("procedure");
    query(db, "create", shared("procedure")?).await?;
    query(db, "call", "CALL counted(20, @twice)").await?;
    exec(db, "prepared call", sqlx::query("CALL counted(?, @twice)").bind(30)).await?;
    query(db, "out", "SELECT @twice").await
}

async fn transaction(db: &mut MySqlConnection) -> Result<()> {
    section("transaction");
    let count = "SELECT COUNT(*), MAX(id) FROM many";
    for commit in [true, false] {
        let mut tx = db.begin().await?;
        query(
            &mut tx,
            "insert",
            "INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001",
        )
        .await?;
        // Inside another it is a savepoint.
        let mut inner = tx.begin().await?;
        query(&mut inner, "delete", "DELETE FROM many").await?;
        inner.rollback().await?;
        tx.begin().await?.commit().await?;
        query(&mut tx, "inside", count).await?;
        if commit {
            tx.commit().await?
        } else {
            tx.rollback().await?
        }
        query(db, "after", count).await?;
    }
    // Dropped without an end: rolled back before the next statement.
    let mut tx = db.begin().await?;
    query(&mut tx, "delete", "DELETE FROM many").await?;
    drop(tx);
    query(db, "after", count).await
}

async fn errors(db: &mut MySqlConnection) -> Result<()> {
    section("errors");
    for sql in FAILING {
        failed("error", query(db, "", sql).await)?;
    }
    let insert = sqlx::query("INSERT INTO many VALUES (?, ?, NULL)").bind(1).bind("a");
    failed("prepared", exec(db, "", insert).await)?;
    failed("login", options()?.password("wrong").connect().await.map_err(Into::into))?;
    failed("login", options()?.database("nowhere").connect().await.map_err(Into::into))?;
    query(db, "still in order", "SELECT 'yes'").await
}

async fn warnings(db: &mut MySqlConnection) -> Result<()> {
    section("warnings");
    query(db, "value", "SELECT CAST('12abc' AS SIGNED), 1 / 0").await?;
    query(db, "warnings", "SHOW WARNINGS").await?;
    query(db, "note", "CREATE TABLE IF NOT EXISTS many (id INT)").await?;
    query(db, "note", "SHOW WARNINGS").await
}

async fn metadata(db: &mut MySqlConnection) -> Result<()> {
    section("metadata");
    let statement = db.prepare(METADATA).await?;
    for column in statement.columns() {
        show("column", format!("{column:?}"));
    }
    let described = db.describe("SELECT id, v FROM types WHERE id = ? AND v = ?").await?;
    show("described", format!("{described:?}"));
    Ok(())
}

async fn reset(db: &mut MySqlConnection) -> Result<()> {
    section("reset");
    db.ping().await?;
    let mut killed = options()?.connect().await?;
    let id: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(&mut killed).await?;
    query(db, "kill", format!("KILL {id}")).await?;
    let there = format!("SELECT id FROM information_schema.processlist WHERE id = {id}");
    while sqlx::query(&there).fetch_optional(&mut *db).await?.is_some() {}
    show("killed", killed.ping().await.is_err());
    query(db, "still in order", "SELECT 'yes'").await
}

async fn pool() -> Result<()> {
    section("pool");
    let pool = MySqlPoolOptions::new().max_connections(3).connect_with(options()?).await?;
    let mut tasks = Vec::new();
    for n in 0..30i64 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            sqlx::query_scalar::<_, i64>("SELECT ? + 1").bind(n).fetch_one(&pool).await
        }));
    }
    for task in tasks {
        show("answer", task.await??);
    }
    show("connections", pool.size() <= 3);
    pool.close().await;
    Ok(())
}

/// Runs DML between the two statements of the environment; what it prints has to be the same with and without them.
async fn bound(db: &mut MySqlConnection) -> Result<()> {
    section("bound");
    if !env("BEGIN").is_empty() {
        db.execute(sqlx::raw_sql(&env("BEGIN"))).await?;
    }
    for (label, sql) in [
        ("insert", "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)"),
        ("insert rows", "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)"),
        ("update by key", "UPDATE account SET balance = balance - 10.25 WHERE id = 1"),
        ("update by name", "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'"),
        ("update of nothing", "UPDATE account SET balance = balance WHERE id = 1"),
        ("delete", "DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1"),
        // PIPES_AS_CONCAT, which the driver sets.
        ("concatenated", "UPDATE account SET name = name || '!' WHERE name = 'a'"),
    ] {
        query(db, label, sql).await?;
    }
    let insert = "INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)";
    let some = sqlx::query(insert)
        .bind(3)
        .bind("2026-05-05 05:05:05.000005")
        .bind("it's \"ü\" \\")
        .bind(blob(MIB))
        .bind("{\"b\": [1]}")
        .bind(1e-7);
    exec(db, "insert", some).await?;
    let none = |id: i32| {
        let query =
            sqlx::query(insert).bind(id).bind(None::<String>).bind(None::<String>).bind(None::<Vec<u8>>);
        query.bind(None::<String>).bind(None::<f64>)
    };
    exec(db, "again", none(4)).await?;
    failed("duplicate key", exec(db, "", none(4)).await)?;
    let update = sqlx::query("UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)");
    exec(db, "update", update.bind(0.25).bind(None::<String>).bind(1).bind(3)).await?;
    exec(db, "delete", sqlx::query("DELETE FROM note WHERE id = ?").bind(2)).await?;
    exec(db, "read", sqlx::query("SELECT * FROM note WHERE id < ?").bind(4)).await?;
    let mut many = sqlx::QueryBuilder::<MySql>::new("INSERT INTO account (name, balance) ");
    many.push_values(0..20, |mut row, n| {
        row.push_bind(format!("n{n}")).push_bind(n);
    });
    exec(db, "batch", many.build()).await?;
    for commit in [true, false] {
        let mut tx = db.begin().await?;
        exec(
            &mut tx,
            "update",
            sqlx::query("UPDATE account SET balance = ? WHERE id IN (2, 3, 4)").bind(commit),
        )
        .await?;
        let mut inner = tx.begin().await?;
        query(&mut inner, "delete", "DELETE FROM account").await?;
        inner.rollback().await?;
        exec(&mut tx, "insert", sqlx::query("INSERT INTO account VALUES (?, 'inside', 1)").bind(500)).await?;
        if commit {
            tx.commit().await?;
            query(db, "delete", "DELETE FROM account WHERE id = 500").await?;
        } else {
            tx.rollback().await?;
        }
    }
    query(db, "account", "SELECT * FROM account ORDER BY id").await?;
    exec(db, "note", sqlx::query("SELECT * FROM note ORDER BY id")).await?;
    if !env("END").is_empty() {
        db.execute(sqlx::raw_sql(&env("END"))).await?;
    }
    query(db, "still in order", "SELECT 'yes'").await
}
