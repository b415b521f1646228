//! Which values: what is put back equals what was there, to the byte.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::case::check_queries;
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, Flavor, sql};

atone_tests::shared_tests!(
    numbers,
    numbers_that_cannot_be_put_back,
    times,
    texts,
    other_types,
    identifiers,
    compensation
);

/// A column: its definition, how it is shown to the bit, and what it holds before and is given.
type Column = (&'static str, &'static str, &'static [&'static str], &'static str);

/// Each column alone in a table: updated, deleted and inserted in a session with these settings.
async fn columns(c: &Cluster, settings: &[&str], columns: &[Column]) -> Result<()> {
    for (kind, shown, before, given) in columns {
        let table = format!("CREATE TABLE t (id INT PRIMARY KEY, v {kind} NULL)");
        let rows: Vec<String> =
            (1..).zip(*before).map(|(id, value)| format!("INSERT INTO t VALUES ({id}, {value})")).collect();
        let mut setup =
            vec!["SET time_zone = '+00:00'", "SET sql_mode = 'ALLOW_INVALID_DATES'", table.as_str()];
        setup.extend(rows.iter().map(String::as_str));
        let update = format!("UPDATE t SET v = {given}");
        let insert = format!("INSERT INTO t VALUES (50, {given})");
        let mut statements = settings.to_vec();
        statements.extend([
            update.as_str(),
            "UPDATE t SET v = NULL WHERE id = 1",
            insert.as_str(),
            "DELETE FROM t",
        ]);
        check_queries(c, &setup, &[&format!("SELECT id, {shown} FROM t ORDER BY id")], &statements).await?;
    }
    Ok(())
}

/// Numbers in a column that rounds them when it is assigned them.
async fn numbers_that_cannot_be_put_back(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(()); // Stores 0 whichever way it comes
    }
    let schema = c.schema("zeros").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, v DOUBLE(12,3) NOT NULL)",
            "INSERT INTO t VALUES (1, 5), (2, 7), (3, 5)",
            "UPDATE t JOIN (SELECT 5e0 AS was, -0e0 AS z UNION ALL SELECT 7e0, -0.0001e0) d ON v = was SET v = z",
            "UPDATE t SET v = 7.125 WHERE id = 3",
        ],
    )
    .await?;
    let rows =
        async || c.rows(Bank::One, &schema, "SELECT id, CAST(v * 1e0 AS CHAR) FROM t ORDER BY id").await;
    let before = ["1|-0", "2|-0.0001", "3|7.125"];
    assert_eq!(rows().await?, before);
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in ["DELETE FROM t WHERE id = 1", "UPDATE t SET v = 5 WHERE id = 2"] {
        sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid)?;
    }
    sql::run(&mut app, "DELETE FROM t WHERE id = 3").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(rows().await?, before);
    Ok(())
}

async fn numbers(c: Arc<Cluster>) -> Result<()> {
    columns(
        &c,
        &[],
        &[
            ("FLOAT", "CAST(v * 1e0 AS CHAR)", &["0.1", "16777217", "-0e0", "1e-40"], "3"),
            ("FLOAT(7,2)", "CAST(v * 1e0 AS CHAR)", &["-0.001", "99999.99", "12345.67", "-99999.99"], "3"),
            (
                "DOUBLE(12,3)",
                "CAST(v * 1e0 AS CHAR)",
                &["-0.0001", "999999999.999", "123456789.123", "-0.1"],
                "3",
            ),
            ("DOUBLE(255,30)", "CAST(v * 1e0 AS CHAR)", &["-1e-40", "1e200", "0.1"], "3"),
            ("DOUBLE", "CAST(v * 1e0 AS CHAR)", &["-0e0", "1.7976931348623157e308", "0.1", "5e-324"], "3"),
            (
                "DECIMAL(65,30)",
                "v + 0",
                &[
                    "12345678901234567890123456789012345.123456789012345678901234567891",
                    "-0.000000000000000000000000000001",
                ],
                "0",
            ),
            ("BIGINT UNSIGNED", "v + 0", &["18446744073709551615", "9223372036854775808"], "0"),
            ("BIT(1)", "v + 0", &["b'1'", "b'0'"], "b'1'"),
            ("BIT(64)", "v + 0", &["0xFFFFFFFFFFFFFFFF", "0"], "1"),
            ("YEAR", "v + 0", &["0000", "1901", "2155"], "2024"),
            ("TINYINT(1)", "v + 0", &["1", "0", "-5", "127"], "2"),
            ("INT(7) UNSIGNED ZEROFILL", "v + 0", &["5", "4294967295"], "1"),
        ],
    )
    .await
}

async fn times(c: Arc<Cluster>) -> Result<()> {
    // The hour that comes twice in Berlin on 2024-10-27, in a session that calls both 02:30
    let timestamps: &[Column] = &[
        (
            "TIMESTAMP(6)",
            "UNIX_TIMESTAMP(v)",
            &["FROM_UNIXTIME(1729989000.123456)", "FROM_UNIXTIME(1729992600)", "FROM_UNIXTIME(1)"],
            "FROM_UNIXTIME(1729990000)",
        ),
        ("TIMESTAMP", "UNIX_TIMESTAMP(v)", &["FROM_UNIXTIME(2147483647)", "0"], "FROM_UNIXTIME(5)"),
    ];
    for zone in ["SET time_zone = '+02:00'", "SET time_zone = 'SYSTEM'"] {
        columns(&c, &[zone], timestamps).await?;
    }
    columns(
        &c,
        &[],
        &[
            (
                "DATE",
                "HEX(v)",
                &["'0000-00-00'", "'2024-02-31'", "'2024-00-00'", "'9999-12-31'"],
                "'2024-01-01'",
            ),
            (
                "DATETIME(6)",
                "HEX(v)",
                &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00.000001'"],
                "'2024-01-01'",
            ),
            ("DATETIME(2)", "HEX(v)", &["'2024-02-30 10:00:00.25'"], "'2024-01-01'"),
            ("TIME(3)", "HEX(v)", &["'838:59:59.000'", "'-838:59:59.000'", "'-00:00:00.001'"], "'10:00:00'"),
        ],
    )
    .await
}

async fn texts(c: Arc<Cluster>) -> Result<()> {
    let all: &[Column] = &[
        (
            "VARCHAR(20) CHARACTER SET utf8mb4",
            "HEX(v)",
            &["'\u{1F600} \u{e9}'", "'x  '", "''", "X'00275C220A1A'"],
            "'y'",
        ),
        ("CHAR(9) CHARACTER SET latin1", "HEX(v)", &["'\u{e9}t\u{e9}  '", "''", "0x80819FFF"], "'z '"),
        ("VARCHAR(20) CHARACTER SET utf16", "HEX(v)", &["'\u{1F600}'", "'a '"], "'q'"),
        ("VARCHAR(20) CHARACTER SET sjis", "HEX(v)", &["_sjis 0x835C", "'\\\\'"], "'q'"),
        ("VARCHAR(20) CHARACTER SET gbk", "HEX(v)", &["_gbk 0xBF5C"], "'q'"),
        ("VARBINARY(20)", "HEX(v)", &["0x00FF275C0A1A", "''", "'  '"], "'q'"),
        ("BINARY(4)", "HEX(v)", &["0x00", "'ab'", "0x20202020"], "'q'"),
        ("ENUM('a','b')", "CONCAT(v + 0, ':', HEX(v))", &["'a'", "'b'"], "'b'"),
        ("SET('x','y')", "CONCAT(v + 0, ':', HEX(v))", &["''", "'x,y'"], "'y'"),
    ];
    columns(&c, &[], all).await?;
    // Cannot say what the columns hold
    columns(&c, &["SET NAMES latin1"], &all[..4]).await?;
    columns(&c, &["SET character_set_results = NULL"], &all[2..5]).await?;
    columns(&c, &["SET sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'"], &all[..1]).await?;
    columns(&c, &["SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'"], &all[1..2]).await?;
    // The error value of an ENUM, which is no text
    let setup = [
        "SET sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY, v ENUM('a','') NULL)",
        "INSERT IGNORE INTO t VALUES (1, 'wrong'), (2, ''), (3, NULL)",
    ];
    let shown = ["SELECT id, v + 0 FROM t ORDER BY id"];
    check_queries(&c, &setup, &shown, &["UPDATE t SET v = 'a'", "DELETE FROM t WHERE id = 1"]).await
}

async fn other_types(c: Arc<Cluster>) -> Result<()> {
    let mut all: Vec<Column> = vec![
        ("LONGBLOB", "HEX(v)", &["REPEAT(0x00FF, 70000)", "''"], "'x'"),
        (
            "JSON",
            "HEX(CAST(v AS CHAR))",
            &[
                "'{\"b\": 1.0, \"a\": [1, \"x\", null], \"n\": 18446744073709551615}'",
                "'null'",
                "'1.10'",
                "'-0.0'",
            ],
            "'[]'",
        ),
        (
            "GEOMETRY",
            "HEX(v)",
            &["ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0 0, 1 1)')"],
            "ST_GeomFromText('POINT(0 0)')",
        ),
    ];
    match c.flavor() {
        Flavor::MySql => all.push((
            "VECTOR(3)",
            "HEX(v)",
            &["STRING_TO_VECTOR('[0.1,-2,3e5]')"],
            "STRING_TO_VECTOR('[1,2,3]')",
        )),
        Flavor::MariaDb => {
            all.push(("INET6", "HEX(v)", &["'2001:db8::1'", "'::ffff:1.2.3.4'"], "'::'"));
            all.push((
                "UUID",
                "HEX(v)",
                &["'123e4567-e89b-12d3-a456-426655440000'"],
                "'00000000-0000-0000-0000-000000000001'",
            ));
        }
    }
    columns(&c, &[], &all).await
}

async fn identifiers(c: Arc<Cluster>) -> Result<()> {
    for name in ["`select`", "`with space`", "`q``t`", "`d.t`", "`UPPER`", "`\u{e9}t\u{e9}`"] {
        let table = format!("CREATE TABLE {name} ({name} INT PRIMARY KEY, `order` INT, `a``b` INT)");
        let rows = format!("INSERT INTO {name} VALUES (1, 1, 1), (2, 2, 2)");
        let update = format!("UPDATE {name} SET `order` = 5, `a``b` = 6 WHERE {name} = 1");
        let delete = format!("DELETE FROM {name} WHERE `order` = 2");
        let insert = format!("INSERT INTO {name} VALUES (3, 3, 3)");
        check_queries(&c, &[&table, &rows], &[name], &[&update, &delete, &insert]).await?;
    }
    Ok(())
}

async fn compensation(c: Arc<Cluster>) -> Result<()> {
    // What was there could not be written under the settings that a session begins with
    let setup = [
        "SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
        "SET check_constraint_checks = 1",
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, d DATE NOT NULL, p INT, n INT CHECK (n < 100), \
         FOREIGN KEY (p) REFERENCES parent (id))",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO t VALUES (0, '0000-00-00', 1, 1), (5, '2024-02-31', 2, 99)",
    ];
    let setup: Vec<&str> = setup
        .into_iter()
        .filter(|sql| c.flavor() == Flavor::MariaDb || !sql.contains("check_constraint_checks"))
        .collect();
    let shown = ["SELECT id, HEX(d), p, n FROM t ORDER BY id", "parent"];
    for settings in [
        "SET sql_mode = 'TRADITIONAL'",
        "SET time_zone = '-08:00', foreign_key_checks = 1",
        "SET unique_checks = 0, SESSION sql_mode = ''",
        "SET NAMES latin1",
    ] {
        check_queries(
            &c,
            &setup,
            &shown,
            &[
                settings,
                "BEGIN",
                // Children first: a rollback has to go the other way
                "DELETE FROM t",
                "DELETE FROM parent",
                "INSERT INTO parent VALUES (3)",
                "INSERT INTO t VALUES (7, '2024-01-01', 3, 7)",
                "COMMIT",
            ],
        )
        .await?;
    }
    Ok(())
}
