//! Sessions whose `character_set_client` is not Unicode: characters that hold quotes and backslashes, and names in
//! that charset.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_sql::Charset;
use atone_tests::{Bank, Cluster, Flavor, sql};
use encoding_rs::Encoding;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};

atone_tests::shared_tests!(sessions_in_each, names_that_cannot_be_said, letters_are_the_servers, escapes);

/// A charset, its encoder, a word for names, and letters some of which hold a backslash, a quote or a `@`.
const CHARSETS: &[(&str, &Encoding, &str, &str)] = &[
    ("gbk", encoding_rs::GBK, "订单", "縗誠乗ABC乣"),
    ("big5", encoding_rs::BIG5, "訂單", "功許蓋餐一"),
    ("sjis", encoding_rs::SHIFT_JIS, "注文", "表能ソ十ﾊﾝ"),
    ("cp932", encoding_rs::SHIFT_JIS, "注文", "表能ソ十ﾊﾝ"),
    ("gb18030", encoding_rs::GB18030, "订单", "縗誠乗ABC乣𠀀"),
    ("ujis", encoding_rs::EUC_JP, "注文", "表能ソ十"),
    ("euckr", encoding_rs::EUC_KR, "주문", "똠방각하"),
    ("latin1", encoding_rs::WINDOWS_1252, "prénom", "àéîõü\u{a0}×"),
    ("cp1251", encoding_rs::WINDOWS_1251, "имя", "привет№"),
    ("koi8r", encoding_rs::KOI8_R, "имя", "привет"),
];

fn charsets(
    c: &Cluster,
) -> impl Iterator<Item = &'static (&'static str, &'static Encoding, &'static str, &'static str)> {
    let mariadb = c.flavor() == Flavor::MariaDb;
    CHARSETS.iter().filter(move |(charset, ..)| !(mariadb && *charset == "gb18030"))
}

async fn run(conn: &mut Conn, encoding: &'static Encoding, statement: &str) -> Result<()> {
    conn.query_drop(encoding.encode(statement).0.as_ref()).await.with_context(|| statement.to_owned())
}

/// The statements of an application in such a charset.
async fn session(
    conn: &mut Conn,
    charset: &str,
    encoding: &'static Encoding,
    word: &str,
    text: &str,
    mariadb: bool,
) -> Result<()> {
    sql::run(conn, format!("SET NAMES {charset}")).await?;
    let (table, other) = (format!("`{word}`"), format!("`{word}2`"));
    for statement in [
        format!("UPDATE {table} SET v = '{text}', {other} = {other} + 1 WHERE id IN (1, 2)"),
        format!(
            "INSERT INTO {table} (id, v, {other}) VALUES (10, '{text}''{text};', 5), (11, \"{text}\", 6)"
        ),
        format!(
            "INSERT INTO {table} VALUES (1, '{text}', 9), (12, '', 1) ON DUPLICATE KEY UPDATE {other} = 3, v = CONCAT(v, '{text}')"
        ),
        format!("DELETE FROM {table} WHERE v = '{text}' AND {other} > 5 ORDER BY {other} LIMIT 1"),
        format!(
            "UPDATE {table} AS x JOIN {table} AS y ON x.id = y.id SET x.v = '{text}\\\\' WHERE x.{other} = 2 /* {text} */"
        ),
        format!(
            "REPLACE INTO {table} SELECT id + 20, '{text}', {other} FROM {table} WHERE v LIKE '%{text}%'"
        ),
        format!("UPDATE {word} SET v = ';@`' WHERE id = 3; UPDATE {word} SET {word}2 = 8 WHERE v = '{text}'"),
    ] {
        run(conn, encoding, &statement).await?;
    }
    if mariadb {
        // MySQL reads such a text in another charset
        let prepare = format!("PREPARE p FROM 'UPDATE {table} SET v = \"{text}\" WHERE id = 3'");
        run(conn, encoding, &prepare).await?;
        sql::run(conn, "EXECUTE p").await?;
    }
    let update = format!("UPDATE {table} SET v = ?, {other} = ? WHERE id = ?");
    let update = conn.prep(encoding.encode(&update).0.as_ref()).await?;
    let param = Value::Bytes(encoding.encode(&format!("\\'{text}'")).0.into_owned());
    conn.exec_drop(&update, (param, 7, 2)).await?;
    Ok(())
}

/// A session in each charset does bound what it does straight, and a rollback puts everything back.
async fn sessions_in_each(c: Arc<Cluster>) -> Result<()> {
    let mariadb = c.flavor() == Flavor::MariaDb;
    for &(charset, encoding, word, text) in charsets(&c) {
        let mut tables = Vec::new();
        for bound in [false, true] {
            let schema = c.schema(&format!("{charset}_{bound}")).await?;
            let mut direct = c.direct(Bank::One, &schema).await?;
            let other = format!("{word}2");
            sql::run_all(
                &mut direct,
                &[
                    &format!("CREATE TABLE `{word}` (id INT PRIMARY KEY, v VARCHAR(80) CHARACTER SET utf8mb4, `{other}` INT, UNIQUE KEY `{other}` (`{other}`, id))"),
                    &format!("INSERT INTO `{word}` VALUES (1, 'a', 1), (2, 'b', 2), (3, '{text}', 3)"),
                ],
            )
            .await?;
            let all = format!("SELECT id, HEX(v), `{other}` FROM `{word}` ORDER BY id");
            let before = c.rows(Bank::One, &schema, &all).await?;
            if !bound {
                session(&mut c.direct(Bank::One, &schema).await?, charset, encoding, word, text, mariadb)
                    .await
                    .context(charset)?;
                tables.push(c.rows(Bank::One, &schema, &all).await?);
                continue;
            }
            let mut conn = c.app(Bank::One, &schema).await?;
            let xid = sql::start_global(&mut conn).await?;
            session(&mut conn, charset, encoding, word, text, mariadb).await.context(charset)?;
            tables.push(c.rows(Bank::One, &schema, &all).await?);
            c.roll_back_global(&mut conn, &xid).await?;
            assert_eq!(c.rows(Bank::One, &schema, &all).await?, before, "{charset}");
            c.wait_for_purge(Bank::One, &schema).await?;
        }
        assert_ne!(tables[0].len(), 3, "{charset}");
        assert_eq!(tables[0], tables[1], "{charset}");
    }
    Ok(())
}

/// A table with a name that the session's charset does not have: nothing of it can be read, and it is said.
async fn names_that_cannot_be_said(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("unsayable").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, v INT, `имя` INT)",
            "INSERT INTO t VALUES (1, 1, 1)",
            "CREATE TABLE u (id INT PRIMARY KEY, `a—b` INT)",
            "INSERT INTO u VALUES (1, 1)",
        ],
    )
    .await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    for charset in ["latin1", "big5", "ascii"] {
        sql::run(&mut conn, format!("SET NAMES {charset}")).await?;
        for statement in
            ["UPDATE t SET v = 2 WHERE id = 1", "INSERT INTO t VALUES (2, 2, 2)", "DELETE FROM u"]
        {
            let error = sql::refused(&mut conn, statement).await?;
            error.expect_naming(1235, "42000", &xid)?;
            ensure!(error.message.contains("utf8mb4"), "{charset}: {statement}: {error:?}");
        }
    }
    // Dashes are at different places in Unicode
    sql::run(&mut conn, "SET NAMES gbk").await?;
    let error = conn.query_drop(&b"UPDATE u SET `a\xa1\xaab` = 2"[..]).await;
    sql::server_error(error, "UPDATE")?.expect_naming(1235, "42000", &xid)?;
    // Its names were understood in the same local transaction
    sql::run_all(
        &mut conn,
        &["SET NAMES utf8mb4", "BEGIN", "UPDATE t SET v = 3 WHERE id = 1", "SET NAMES latin1"],
    )
    .await?;
    sql::refused(&mut conn, "COMMIT").await?.expect_naming(1235, "42000", &xid)?;
    sql::run_all(&mut conn, &["SET NAMES utf8mb4", "COMMIT", "ROLLBACK GLOBAL TRANSACTION"]).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT v FROM t").await?, ["1"]);
    Ok(())
}

/// What names are compared by: each letter that is known of a charset is the server's.
async fn letters_are_the_servers(c: Arc<Cluster>) -> Result<()> {
    let mut admin = c.server(Bank::One).admin().await?;
    let known =
        sql::rows(&mut admin, "SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
            .await?;
    let (mut compared, mut others) = (0, Vec::new());
    for row in known {
        let (name, width) = row.split_once('|').context("a row")?;
        if ["ucs2", "utf16", "utf16le", "utf32", "swe7", "binary"].contains(&name) || name.starts_with("utf8")
        {
            continue;
        }
        let charset = Charset::of(name).with_context(|| format!("{name} is not known"))?;
        let mut texts: Vec<Vec<u8>> = (0x80..=0xff).map(|byte| vec![byte]).collect();
        if width != "1" {
            let second = (0x30..=0xff_u8).filter(|byte| *byte != 0x5c || name != "ujis");
            texts.extend(second.flat_map(|second| (0x80..=0xff).map(move |first| vec![first, second])));
        }
        if name == "gb18030" {
            texts.extend((0..4000_u32).map(|n| {
                let digit = |n: u32| u8::try_from(0x30 + n % 10).unwrap_or_default();
                let lead = |n: u32| u8::try_from(0x81 + n % 126).unwrap_or_default();
                vec![lead(n * 31), digit(n * 7), lead(n * 17), digit(n * 3)]
            }));
        }
        if matches!(name, "ujis" | "eucjpms") {
            texts.extend((0xa1..=0xfe).flat_map(|a| (0xa1..=0xfe).map(move |b| vec![0x8f, a, b])));
        }
        let texts: Vec<(Vec<u8>, String)> = texts
            .into_iter()
            .filter_map(|bytes| {
                let read = String::from_utf8(charset.decode_value(&bytes).into_owned()).ok()?;
                (read.chars().count() == 1 && read.chars().all(|c| u32::from(c) < 0x10_ff00))
                    .then_some((bytes, read))
            })
            .collect();
        for texts in texts.chunks(400) {
            let list: Vec<String> = texts
                .iter()
                .map(|(bytes, _)| {
                    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("HEX(CONVERT(_{name} 0x{hex} USING utf8mb4))")
                })
                .collect();
            let answer = sql::rows(&mut admin, format!("SELECT {}", list.join(", "))).await?;
            for ((bytes, read), server) in texts.iter().zip(answer.first().context("no row")?.split('|')) {
                let ours: String = read.bytes().map(|byte| format!("{byte:02X}")).collect();
                if ours != server {
                    others.push(format!("{name} {bytes:02x?} {read} {server}"));
                }
                compared += 1;
            }
        }
    }
    ensure!(others.is_empty(), "{} of {compared}: {others:?}", others.len());
    ensure!(compared > 60_000, "{compared} letters");
    Ok(())
}

/// The server takes a backslash for the escape of a character's first byte only.
async fn escapes(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("escaped_part").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "SET NAMES sjis").await?;
    let error = conn.query_drop(&b"UPDATE account SET name = '\\\x95\x5c' WHERE id = 1 -- '"[..]).await;
    sql::server_error(error, "UPDATE")?.expect_naming(1235, "42000", &xid)?;
    conn.query_drop(&b"UPDATE account SET name = '\\\\\x95\x5c' WHERE id = 1"[..]).await?;
    sql::run(&mut conn, "SET sql_mode = 'NO_BACKSLASH_ESCAPES'").await?;
    conn.query_drop(&b"UPDATE account SET name = '\\\x95\x5c' WHERE id = 2"[..]).await?;
    if c.flavor() == Flavor::MySql {
        let error = conn.query_drop(&b"PREPARE p FROM 'UPDATE account SET name = \"\x95\x5c\"'"[..]).await;
        sql::server_error(error, "PREPARE")?.expect_naming(1235, "42000", &xid)?;
    }
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}
