//! What is put back equals what was there, to the bit: types, charsets, modes, names, unique keys, sizes.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::case::{Case, check, check_queries};
use atone_tests::cluster::SOON;
use atone_tests::effects::q;
use atone_tests::{Bank, Cluster, Flavor, sql};

atone_tests::shared_tests!(
    value_types,
    collated_keys,
    odd_identifiers,
    sql_modes,
    session_settings,
    unique_keys,
    a_large_branch,
);

type Column = (&'static str, &'static str, [&'static str; 3]);

const COLUMNS: &[Column] = &[
    ("i8", "TINYINT", ["-128", "127", "0"]),
    ("u64", "BIGINT UNSIGNED", ["18446744073709551615", "9223372036854775808", "0"]),
    ("b1", "TINYINT(1)", ["1", "0", "-5"]),
    ("f", "FLOAT", ["0.1", "3.4028234e38", "16777217"]),
    ("d", "DOUBLE", ["-0e0", "1.7976931348623157e308", "0.1"]),
    (
        "dec1",
        "DECIMAL(65,30)",
        [
            "12345678901234567890123456789012345.123456789012345678901234567891",
            "-0.000000000000000000000000000001",
            "0",
        ],
    ),
    ("bit1", "BIT(1)", ["b'1'", "b'0'", "b'1'"]),
    ("bit64", "BIT(64)", ["0xFFFFFFFFFFFFFFFF", "b'1'", "0"]),
    ("y", "YEAR", ["0000", "1901", "2155"]),
    ("dt", "DATE", ["'1000-01-01'", "'9999-12-31'", "'2024-02-29'"]),
    (
        "dt6",
        "DATETIME(6)",
        ["'2024-03-31 02:30:00.000001'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'"],
    ),
    ("ts6", "TIMESTAMP(6) NULL", ["'2024-10-27 02:30:00.123456'", "NULL", "'1971-01-01 00:00:01'"]),
    ("tm", "TIME(3)", ["'838:59:59.000'", "'-838:59:59.000'", "'-00:00:00.001'"]),
    ("ch", "CHAR(10) CHARACTER SET latin1", ["'\u{e9}t\u{e9}  '", "''", "'a'"]),
    ("vl", "VARCHAR(20) CHARACTER SET latin1", ["0x80819FFF41", "'x  '", "NULL"]),
    ("vu", "VARCHAR(20) CHARACTER SET utf8mb4", ["'\u{1F600} \u{e9}'", "0x610062", "'\\\\ \\' \\\" \\n'"]),
    ("v16", "VARCHAR(20) CHARACTER SET utf16", ["'\u{1F600}'", "'a '", "''"]),
    ("vs", "VARCHAR(20) CHARACTER SET sjis", ["_sjis 0x835C", "'\\\\'", "''"]),
    ("vb", "VARBINARY(40)", ["0x00FF275C0A1A", "''", "'  '"]),
    ("bi", "BINARY(4)", ["0x00", "'ab'", "0x20202020"]),
    ("bl", "LONGBLOB", ["REPEAT(0x00FF, 50000)", "''", "NULL"]),
    ("tx", "MEDIUMTEXT", ["REPEAT('\u{e9}', 70000)", "''", "NULL"]),
    ("en", "ENUM('a','B','it''s','')", ["'it''s'", "''", "2"]),
    ("se", "SET('x','y','z')", ["'x,z'", "''", "7"]),
    (
        "js",
        "JSON",
        ["'{\"b\": 1.0, \"a\": [1, \"x\", null], \"big\": 18446744073709551615}'", "'null'", "NULL"],
    ),
    (
        "ge",
        "GEOMETRY",
        ["ST_GeomFromText('POINT(1.5 -2)')", "NULL", "ST_GeomFromText('LINESTRING(0 0, 1 1)')"],
    ),
];

const MARIADB_COLUMNS: &[Column] = &[
    ("i6", "INET6", ["'2001:db8::1'", "'::ffff:1.2.3.4'", "NULL"]),
    ("uu", "UUID", ["'123e4567-e89b-12d3-a456-426655440000'", "NULL", "NULL"]),
];

/// A query that shows every column to the bit: bytes as stored, floats with all their digits, no time zone.
fn exact(columns: &[Column]) -> String {
    let shown: String = columns
        .iter()
        .map(|(name, kind, _)| match kind.split(['(', ' ']).next() {
            Some("FLOAT" | "DOUBLE") => format!(", CAST(`{name}` * 1e0 AS CHAR)"),
            Some("TIMESTAMP") => format!(", UNIX_TIMESTAMP(`{name}`)"),
            Some("BIT" | "YEAR" | "DECIMAL" | "TINYINT" | "BIGINT") => format!(", `{name}` + 0"),
            _ => format!(", HEX(`{name}`)"),
        })
        .collect();
    format!("SELECT id{shown}, g, UNIX_TIMESTAMP(touched) FROM t ORDER BY id")
}

async fn value_types(c: Arc<Cluster>) -> Result<()> {
    let mut columns = COLUMNS.to_vec();
    if c.flavor() == Flavor::MariaDb {
        columns.extend_from_slice(MARIADB_COLUMNS);
    }
    let definition: String = columns.iter().map(|(name, kind, _)| format!(", `{name}` {kind}")).collect();
    let table = format!(
        "CREATE TABLE t (id INT PRIMARY KEY{definition}, g INT GENERATED ALWAYS AS (id * 2) STORED, \
         touched TIMESTAMP(6) NOT NULL DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP(6))"
    );
    let names: String = columns.iter().map(|(name, _, _)| format!(", `{name}`")).collect();
    let row = |id: usize| {
        let values: String = columns.iter().map(|(_, _, values)| format!(", {}", values[id - 1])).collect();
        format!("INSERT INTO t (id{names}) VALUES ({id}{values})")
    };
    let query = exact(&columns);
    let (one, two, three) = (row(1), row(2), row(3));
    let zone = "SET time_zone = '+00:00'";
    let setup = [zone, &table, &one, &two];
    let copy: Vec<String> =
        columns.iter().map(|(name, _, values)| format!("`{name}` = {}", values[2])).collect();
    let update = format!("UPDATE t SET {}, touched = '2021-01-01 00:00:00' WHERE id = 1", copy.join(", "));
    for statements in [
        &[zone, &update][..],
        &[zone, "DELETE FROM t"],
        &[zone, &three, "UPDATE t SET i8 = 1, touched = touched WHERE id = 3"],
        // Under a session that can't even say what the columns hold.
        &[
            "SET NAMES latin1",
            "SET SESSION time_zone = '-08:00'",
            "UPDATE t SET vu = 'x', ts6 = '2024-01-01 00:00:00', touched = '2021-01-01 00:00:00'",
            "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
            "UPDATE t SET vl = 'back\\slash', touched = '2021-01-01 00:00:00' WHERE id = 2",
            "DELETE FROM t WHERE id = 1",
            "SET SESSION sql_mode = DEFAULT",
            "SET NAMES utf8mb4",
        ],
    ] {
        check_queries(&c, &setup, &[&query], statements).await?;
    }
    // ON UPDATE CURRENT_TIMESTAMP differs from server to server; it must come back all the same.
    let schema = c.schema("touched").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, &setup).await?;
    let before = sql::rows(&mut direct, &query).await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run(&mut bound, "UPDATE t SET b1 = b1 + 1 WHERE id = 1").await?;
    assert_ne!(sql::rows(&mut direct, &query).await?, before);
    sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(sql::rows(&mut direct, &query).await?, before);
    Ok(())
}

async fn collated_keys(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE t (k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)",
        "INSERT INTO t VALUES ('Anna', 1), ('über', 2), ('trail ', 3)",
        "CREATE TABLE n (k VARBINARY(20) PRIMARY KEY, v INT)",
        "INSERT INTO n VALUES (0x00FF41, 1), ('', 2), (0x5C27, 3)",
    ];
    let tables = &["SELECT HEX(k), v FROM t ORDER BY v, 1", "SELECT HEX(k), v FROM n ORDER BY v, 1"];
    for statements in [
        &["UPDATE t SET v = 9 WHERE k = 'ANNA'"][..],
        &["UPDATE t SET v = 9 WHERE k = 'UBER'"],
        &["DELETE FROM t WHERE k = 'trail'"],
        &["UPDATE n SET v = v + 1"],
        &["DELETE FROM n WHERE k = 0x00FF41", "INSERT INTO n VALUES (0x00FF42, 1)"],
    ] {
        check_queries(&c, setup, tables, statements).await?;
    }
    // Keys that the collation holds for equal are one lock.
    let schema = c.schema("collated").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &setup[..2]).await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut one).await?;
    sql::run(&mut one, "DELETE FROM t WHERE k = 'Anna'").await?;
    sql::start_global(&mut other).await?;
    sql::run(&mut other, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    sql::refused(&mut other, "INSERT INTO t VALUES ('ANNA', 5)").await?.expect(1205, "HY000")?;
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;
    sql::run(&mut one, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn odd_identifiers(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE `Od``d tab.le` (`order` INT PRIMARY KEY, `a b` INT, `é``x` VARCHAR(9), `select` INT)",
        "INSERT INTO `Od``d tab.le` VALUES (1, 1, 'x', 1), (2, 2, 'y', 2)",
    ];
    let statements = [
        "UPDATE `Od``d tab.le` SET `a b` = 5, `é``x` = 'z' WHERE `order` = 1",
        "DELETE FROM `Od``d tab.le` WHERE `select` = 2",
        "INSERT INTO `Od``d tab.le` (`select`, `order`) VALUES (1, 3)",
    ];
    check_queries(&c, setup, &["`Od``d tab.le`"], &statements).await
}

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b CHAR(40))";
const T_ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one'), (2, 20, 'two'), (3, 30, NULL), (4, 40, 'a b ')";

async fn sql_modes(c: Arc<Cluster>) -> Result<()> {
    for (mode, statements) in [
        (
            "ANSI_QUOTES",
            &["UPDATE \"t\" SET \"b\" = 'q\"' WHERE \"id\" = 1", "INSERT INTO \"t\" (\"id\") VALUES (7)"][..],
        ),
        (
            "NO_BACKSLASH_ESCAPES",
            &["UPDATE t SET b = 'a\\' WHERE id = 1", "INSERT INTO t (id, b) VALUES (7, '\\''x')"],
        ),
        (
            "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE",
            &["UPDATE t SET a = 1", "DELETE FROM t WHERE id = 2"],
        ),
        ("ANSI", &["UPDATE t SET b = 'x' || 'y' WHERE id = 1"]),
        ("PAD_CHAR_TO_FULL_LENGTH", &["UPDATE t SET a = 1", "DELETE FROM t WHERE id = 4"]),
    ] {
        let mut steps = vec![q(&format!("SET SESSION sql_mode = '{mode}'"))];
        steps.extend(statements.iter().map(|s| q(s)));
        steps.push(q("SET SESSION sql_mode = DEFAULT"));
        check(&c, Case { name: mode, setup: &[T, T_ROWS], tables: &["t"], steps }).await?;
    }
    Ok(())
}

async fn session_settings(c: Arc<Cluster>) -> Result<()> {
    for setting in
        ["sql_safe_updates = 1", "sql_select_limit = 1", "foreign_key_checks = 0", "big_tables = 1"]
    {
        let set = format!("SET SESSION {setting}");
        let reset = format!("SET SESSION {} = DEFAULT", setting.split(' ').next().unwrap_or_default());
        let statements =
            [&set, "UPDATE t SET a = 1 WHERE id > 2", "DELETE FROM t WHERE id IN (1, 2)", &reset];
        check_queries(&c, &[T, T_ROWS], &["t"], &statements).await?;
    }
    Ok(())
}

async fn unique_keys(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE t (id INT PRIMARY KEY, mail VARCHAR(20) UNIQUE, x INT, y INT, UNIQUE KEY xy (x, y))",
        "INSERT INTO t VALUES (1, 'a', 1, 1), (2, 'b', 1, 2), (3, NULL, NULL, 1)",
    ];
    for statements in [
        // The unique values move around among the rows.
        &[
            "UPDATE t SET mail = 'c' WHERE id = 1",
            "UPDATE t SET mail = 'a' WHERE id = 2",
            "UPDATE t SET mail = 'b' WHERE id = 1",
        ][..],
        &["BEGIN", "UPDATE t SET mail = 'c' WHERE id = 1", "UPDATE t SET mail = 'a' WHERE id = 2", "COMMIT"],
        &["DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (9, 'a', 1, 1)"],
        &["UPDATE t SET y = y + 10 ORDER BY y DESC"],
        &["UPDATE t SET mail = 'a' WHERE id = 2"],
    ] {
        check_queries(&c, setup, &["t"], statements).await?;
    }
    // A deleted row's unique value stays locked: another transaction can't take it while it may have to come back.
    let schema = c.schema("unique").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, setup).await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run(&mut one, "DELETE FROM t WHERE id = 1").await?;
    sql::start_global(&mut other).await?;
    sql::run(&mut other, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    sql::refused(&mut other, "INSERT INTO t VALUES (8, 'a', 8, 8)").await?.expect(1205, "HY000")?;
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;
    sql::run(&mut one, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(
        c.rows(Bank::One, &schema, "SELECT id, mail FROM t ORDER BY id").await?,
        ["1|a", "2|b", "3|NULL"]
    );
    Ok(())
}

async fn a_large_branch(c: Arc<Cluster>) -> Result<()> {
    const ROWS: usize = 5000;
    let schema = c.schema("large").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(100))").await?;
    let values: Vec<String> = (0..ROWS).map(|id| format!("({id}, 'value {id}')")).collect();
    sql::run(&mut direct, format!("INSERT INTO t VALUES {}", values.join(","))).await?;
    let sum = "SELECT COUNT(*), SUM(CRC32(CONCAT(id, v))) FROM t";
    let before = sql::rows(&mut direct, sum).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "UPDATE t SET v = CONCAT(v, '!')", "DELETE FROM t WHERE id % 2 = 1"])
        .await?;
    let more: Vec<String> = (ROWS..2 * ROWS).map(|id| format!("({id}, 'new {id}')")).collect();
    sql::run(&mut app, format!("INSERT INTO t VALUES {}", more.join(","))).await?;
    sql::run(&mut app, "COMMIT").await?;
    let transaction = c.rest().transaction(&xid).await?;
    assert_eq!(transaction["branches"][0]["locks"].as_u64(), Some(2 * ROWS as u64), "{transaction}");
    assert_ne!(sql::rows(&mut direct, sum).await?, before);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(sql::rows(&mut direct, sum).await?, before);
    Ok(())
}
