//! What `atone-undo` reads and restores, on real servers: every type, every charset, under hostile session settings.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::{Flavor, Server, run, sql};
use atone_undo::{
    Column, Key, Kind, Row, RowChange, Table, TableChanges, UndoRecord, UniqueKey, Verdict, insert_part_sql,
    inverse, judge, session_setup, undo_log_ddl,
};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};

/// The definition of a table, from `information_schema`.
async fn load(conn: &mut Conn, schema: &str, name: &str) -> Result<Table> {
    type ColumnRow = (String, String, String, Option<String>, Option<String>, String, String);
    let columns: Vec<ColumnRow> = conn
        .query(format!(
            "SELECT column_name, data_type, column_type, character_set_name, collation_name, is_nullable, extra \
             FROM information_schema.columns WHERE table_schema='{schema}' AND table_name='{name}' \
             ORDER BY ordinal_position"
        ))
        .await?;
    let columns: Vec<Column> = columns
        .into_iter()
        .map(|(name, data_type, column_type, charset, collation, nullable, extra)| {
            let kind = Kind::from_data_type(&data_type, &column_type)
                .with_context(|| format!("{data_type} is not supported"))?;
            Ok(Column {
                name,
                kind,
                column_type,
                charset,
                collation,
                nullable: nullable == "YES",
                generated: extra.to_uppercase().contains(" GENERATED"),
                auto_increment: extra.contains("auto_increment"),
            })
        })
        .collect::<Result<_>>()?;
    let parts: Vec<(String, String, Option<u32>)> = conn
        .query(format!(
            "SELECT index_name, column_name, sub_part FROM information_schema.statistics \
             WHERE table_schema='{schema}' AND table_name='{name}' AND non_unique=0 \
             ORDER BY index_name<>'PRIMARY', index_name, seq_in_index"
        ))
        .await?;
    let mut keys: Vec<UniqueKey> = Vec::new();
    for (key, column, prefix) in parts {
        let at = columns.iter().position(|c| c.name == column).context("no such column")?;
        if keys.last().is_none_or(|k| k.name != key) {
            keys.push(UniqueKey { name: key, columns: Vec::new(), prefixes: Vec::new() });
        }
        let last = keys.last_mut().context("no key")?;
        last.columns.push(at);
        last.prefixes.push(prefix);
    }
    Ok(Table { schema: schema.to_owned(), name: name.to_owned(), columns, keys })
}

/// All rows of a table, by the text of their primary lock key.
async fn images(conn: &mut Conn, table: &Table, condition: &str) -> Result<Vec<Row>> {
    let query = format!(
        "SELECT {} FROM {} AS q WHERE {condition} FOR UPDATE",
        table.image_select_list("q"),
        table.quoted()
    );
    let rows: Vec<mysql_async::Row> = conn.query(&query).await.with_context(|| query.clone())?;
    let mut found = Vec::new();
    for row in rows {
        let cells: Vec<Option<Vec<u8>>> = row
            .unwrap()
            .into_iter()
            .map(|cell| match cell {
                Value::NULL => Ok(None),
                Value::Bytes(bytes) => Ok(Some(bytes)),
                other => bail!("{other:?} in the text protocol"),
            })
            .collect::<Result<_>>()?;
        let cells: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
        found.push(table.decode_row(&cells)?);
    }
    found.sort_by_key(|row| row.key(table));
    Ok(found)
}

/// Settings that bend what a careless reader or writer sees.
const HOSTILE: &[&[&str]] = &[
    &["SET NAMES utf8mb4"],
    &["SET NAMES latin1", "SET time_zone='-11:00'", "SET sql_mode='PAD_CHAR_TO_FULL_LENGTH'"],
    &[
        "SET NAMES utf8mb4",
        "SET time_zone='+13:00'",
        "SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'",
    ],
    &[
        "SET NAMES ascii",
        "SET sql_mode='STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'",
    ],
    &[
        "SET NAMES cp1251",
        "SET collation_connection=utf8mb4_bin",
        "SET sql_mode='NO_UNSIGNED_SUBTRACTION,IGNORE_SPACE'",
    ],
    &[
        "SET NAMES utf8mb4",
        "SET character_set_results=NULL",
        "SET sql_safe_updates=1",
        "SET div_precision_increment=0",
    ],
    &["SET NAMES utf8mb4", "SET character_set_results=latin1", "SET lc_time_names='de_DE'"],
];

async fn restored_exactly(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mut conn = server.admin().await?;
    let mariadb = flavor == Flavor::MariaDb;
    sql::run_all(
        &mut conn,
        &[
            "CREATE DATABASE x",
            "USE x",
            "SET NAMES utf8mb4",
            "SET time_zone='+00:00'",
            "SET sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
        ],
    )
    .await?;
    let only_here = if mariadb {
        "uid UUID, ip4 INET4, ip6 INET6, doc JSON, zero TIMESTAMP NULL"
    } else {
        "vec VECTOR(3), doc JSON, zero TIMESTAMP NULL"
    };
    let srid = if mariadb { "" } else { "SRID 4326" };
    sql::run(
        &mut conn,
        format!(
            "CREATE TABLE `every ``type``` (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, \
             t TINYINT(1), i INT(8) ZEROFILL, dec65 DECIMAL(65,30), dez DECIMAL(6,2) ZEROFILL, \
             f FLOAT, f2 FLOAT(7,3), d DOUBLE, d2 DOUBLE(12,2), b1 BIT(1), b64 BIT(64), y YEAR, \
             day DATE, tm TIME, tm6 TIME(6), dt DATETIME, dt6 DATETIME(6), ts TIMESTAMP NULL, ts6 TIMESTAMP(6) NULL, \
             c CHAR(10) CHARACTER SET utf8mb4, cu CHAR(10) CHARACTER SET ucs2, v VARCHAR(100) CHARACTER SET utf8mb4, \
             l VARCHAR(300) CHARACTER SET latin1, g VARCHAR(50) CHARACTER SET gbk, sj TEXT CHARACTER SET sjis, \
             u16 TEXT CHARACTER SET utf16, u32 TEXT CHARACTER SET utf32, cp VARCHAR(300) CHARACTER SET cp1251, \
             e ENUM('a','é','c') CHARACTER SET latin1, e0 ENUM('','b'), s SET('x','y','z'), s0 SET('','q'), \
             bin BINARY(4), vb VARBINARY(300), bl LONGBLOB, geo GEOMETRY, pt POINT {srid}, \
             twice INT GENERATED ALWAYS AS (t * 2) VIRTUAL, kept INT GENERATED ALWAYS AS (t + 1) STORED, \
             touched TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), \
             {only_here})"
        ),
    )
    .await?;
    let all_bytes = hex(&(0..=255u8).collect::<Vec<_>>());
    let table = "`every ``type```";
    let statements = [
        format!("INSERT INTO {table} (id) VALUES (0), (18446744073709551615)"),
        format!(
            "INSERT INTO {table} (id, t, i, dec65, dez, f, f2, d, d2, b1, b64, y, day, tm, tm6, dt, dt6, ts, ts6, zero) VALUES \
             (1, -128, 5, '-99999999999999999999999999999999999.999999999999999999999999999999', 1.5, 0.1, 1.1, 1e308, 1.1, \
              1, b'1111111111111111111111111111111111111111111111111111111111111111', 0, '0000-00-00', '-838:59:59', \
              '-00:00:00.000001', '0000-00-00 00:00:00', '9999-12-31 23:59:59.999999', '1970-01-01 00:00:01', \
              '2038-01-19 03:14:07.999999', '0000-00-00'), \
             (2, 127, 4294967295, '0.000000000000000000000000000001', 0, '-0', '-0.0', '-0', '-0', 0, 0, 1901, '2021-02-31', \
              '838:59:59', '838:59:59.000000', '2020-00-00 00:00:00', '1000-01-01 00:00:00', '2024-10-27 00:30:00', \
              '2024-10-27 01:30:00.5', NULL), \
             (3, 0, 0, '1e34', 9999.99, 3.4028234e38, 1234.567, 4.9406564584124654e-324, 9999999999.99, NULL, 1, 2155, '9999-12-31', \
              '00:00:00', '12:34:56.7', '2024-03-31 02:30:00', '2024-03-31 02:30:00.123456', '2024-03-31 02:30:00', \
              '2024-03-31 02:30:00.1', NULL), \
             (4, 1, 1, 1, 1, 1.17549435e-38, 0.001, 2.2250738585072014e-308, 0.01, 1, 2, 1970, '0001-01-01', '00:00:01', \
              '00:00:00.1', '1969-12-31 23:59:59', '2000-02-29 00:00:00', '2000-02-29 00:00:00', NULL, NULL), \
             (5, 2, 2, 2, 2, 16777217, 9999.999, 0.1e0+0.2e0, 1234567.89, 0, 3, 2000, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        ),
        format!(
            "INSERT INTO {table} (id, c, cu, v, l, g, sj, u16, u32, cp, e, e0, s, s0, bin, vb, bl) VALUES \
             (10, 'ab  ', 'ab  ', 'ab  ', {all_bytes}, _gbk 0xC4E3, _sjis 0x835C, _utf8mb4'a😀', _utf8mb4'😀 ', {all_bytes}, \
              'é', '', 'x,z', '', 0x00, {all_bytes}, {all_bytes}), \
             (11, '', '', '', '', '', '', '', '', '', '', 'b', '', ',q', '', '', ''), \
             (12, _utf8mb4 0xF09F9880, 'é', 'it''s \"q\" \\\\ \\0\\n\\r\\Z %_', 'plain', 'plain', 'plain', 'plain', 'plain', 'plain', \
              'a', 0, 'x,y,z', 'q', 0x61202000, 'plain ', 'plain'), \
             (13, 'ü', 'x', _utf8mb4 0x00C3A900, _latin1 0xE9, _gbk 0x8160, _sjis 0x5C, '日本', '日本', 'привет', \
              2, 1, 3, 3, 0xFFFFFFFF, 0x2020, 0x30784142)"
        ),
        format!(
            "UPDATE {table} SET geo=ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))'), pt=ST_GeomFromText('POINT(1 2)', 4326) WHERE id=1"
        ),
        // 'x' is no member: the error value, beside the empty member of e0.
        format!("INSERT INTO {table} (id, e, e0) VALUES (20, 'x', 'x')"),
        if mariadb {
            format!("INSERT INTO {table} (id, doc) VALUES (31, '[1.10]')")
        } else {
            format!(
                "INSERT INTO {table} (id, doc) VALUES (31, JSON_OBJECT('a', 1.10, 'b\"é', JSON_ARRAY(1.00, 1e0, 1.5, \
                 -0.1234567890123456789012345678, 12345678901234567890123456, 1.50, 'x1.10'), 'u', JSON_ARRAY(CAST(7 AS UNSIGNED)))), \
                 (32, CAST(7.70 AS JSON))"
            )
        },
        if mariadb {
            format!(
                "INSERT INTO {table} (id, uid, ip4, ip6, doc) VALUES (30, '123e4567-e89b-12d3-a456-426614174000', \
                 '192.168.0.1', '2001:db8::ff00:42:8329', '{{\"b\": 1.0,\"a\":[1,  \"é😀\"]}}')"
            )
        } else {
            format!(
                "INSERT INTO {table} (id, vec, doc) VALUES (30, STRING_TO_VECTOR('[1.5,-0.25,3e-20]'), \
                 '{{\"b\": 1.0, \"aa\": [1, \"é😀\\\\n\", 1e308, -0.0, 18446744073709551615, null, true]}}')"
            )
        },
    ];
    for statement in &statements {
        sql::run(&mut conn, statement).await?;
    }
    let table = load(&mut conn, "x", "every `type`").await?;
    let checksum = format!("CHECKSUM TABLE {} EXTENDED", table.quoted());
    sql::run_all(&mut conn, &["SET sql_mode=DEFAULT", "SET time_zone='+00:00'"]).await?;
    let before = images(&mut conn, &table, "1=1").await?;
    ensure!(before.len() == if mariadb { 14 } else { 15 }, "{} rows", before.len());
    let stored = sql::cell(&mut conn, &checksum).await?;

    // The same images under every session, and every key found by its predicate.
    for settings in HOSTILE {
        let mut session = server.admin().await?;
        sql::run_all(&mut session, settings).await?;
        let seen = images(&mut session, &table, "1=1").await?;
        for (was, is) in before.iter().zip(&seen) {
            assert_eq!(was, is, "under {settings:?}");
        }
        assert_eq!(before.len(), seen.len());
        session.disconnect().await?;
    }

    let mut undo = server.admin().await?;
    for setting in session_setup(mariadb) {
        sql::run(&mut undo, setting).await?;
    }
    let rows = |before: &[Row], after: &[Row]| -> Vec<RowChange> {
        let mut all: BTreeMap<Key, RowChange> = BTreeMap::new();
        for row in before {
            all.insert(row.key(&table), RowChange { before: Some(row.values.to_values()), after: None });
        }
        for row in after {
            all.entry(row.key(&table)).or_insert(RowChange { before: None, after: None }).after =
                Some(row.values.to_values());
        }
        all.into_values().collect()
    };
    // Everything changed, everything deleted, and something inserted: undone to the byte each time, by a record that
    // went through the server.
    sql::run(&mut conn, undo_log_ddl("x")).await?;
    sql::run(&mut conn, "SET sql_mode='NO_BACKSLASH_ESCAPES,ANSI_QUOTES'").await?;
    let name = table.quoted();
    for (branch_id, damage) in [
        format!("UPDATE {name} SET t=3, i=9, dec65=9, f=9, d=9, b64=9, y=1999, day='2001-01-01', tm6='1:1:1', dt6=NOW(), ts6=NOW(), \
             c='other', cu='other', v='other', l='other', g='other', u16='other', e='c', e0='b', s='y', s0='q', bin='x', vb='x', bl='x', \
             geo=ST_GeomFromText('POINT(9 9)'), pt=ST_GeomFromText('POINT(9 9)', 4326), doc='{{}}', zero=NOW()"),
        format!("DELETE FROM {name}"),
        format!("INSERT INTO {name} (id, v) VALUES (100, 'new'), (101, 'new')"),
        format!("DELETE FROM {name} WHERE id > 10"),
    ]
    .iter()
    .enumerate()
    {
        sql::run(&mut conn, damage).await?;
        let after = images(&mut conn, &table, "1=1").await?;
        assert_ne!(sql::cell(&mut conn, &checksum).await?, stored);
        let changes = rows(&before, &after);
        let record = UndoRecord {
            xid: "x:1".to_owned(),
            branch_id: branch_id as u64,
            resource: "bank1".to_owned(),
            tables: vec![TableChanges { table: table.clone(), rows: changes }],
        };
        sql::run(&mut conn, "SET NAMES latin1").await?;
        let insert = insert_part_sql("x", &record.xid, record.branch_id, 1, &record.encode()?);
        conn.query_drop(insert).await?;
        let (context, info): (String, Vec<u8>) = undo
            .query_first(format!("SELECT context, rollback_info FROM x.undo_log WHERE branch_id={branch_id}"))
            .await?
            .context("no undo row")?;
        let read = UndoRecord::decode(&context, &info)?;
        assert_eq!(read, record);
        let changes = &read.tables[0].rows;
        for change in changes {
            let current = after.iter().find(|r| change.after == Some(r.values.to_values()));
            assert_ne!(judge(&table, change, current.map(|r| r.values.to_values()).as_deref()), Verdict::AlreadyRestored);
        }
        let changed: Vec<&RowChange> = changes.iter().filter(|c| c.before != c.after).collect();
        for statement in inverse(&read.tables[0].table, &changed) {
            let result = undo.query_iter(&statement.sql).await.with_context(|| statement.sql.clone())?;
            let affected = result.affected_rows();
            result.drop_result().await?;
            assert_eq!(affected, statement.rows, "{}", statement.sql);
        }
        let restored = images(&mut undo, &table, "1=1").await?;
        for (was, is) in before.iter().zip(&restored) {
            assert_eq!(was, is, "after {damage}");
        }
        assert_eq!(restored.len(), before.len());
        assert_eq!(sql::cell(&mut conn, &checksum).await?, stored, "after {damage}");
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02X}"))
}

/// Keys of every type are found by their predicate, and only they, in every session.
async fn keys_are_found(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mut conn = server.admin().await?;
    sql::run_all(
        &mut conn,
        &[
            "CREATE DATABASE x",
            "USE x",
            "SET time_zone='+00:00'",
            "SET sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
        ],
    )
    .await?;
    let mut tables = Vec::new();
    for (at, (column, values)) in [
        ("BIGINT UNSIGNED", "(0),(5),(18446744073709551615)"),
        ("DECIMAL(10,3)", "(-1.5),(0),(2.125)"),
        ("DOUBLE", "(-1.5),(0),(1e308),(0.1)"),
        ("FLOAT", "(-1.5),(0.1),(3e38)"),
        ("BIT(64)", "(0),(1),(b'1111111111111111111111111111111111111111111111111111111111111111')"),
        ("YEAR", "(0),(1901),(2001)"),
        ("DATE", "('0000-00-00'),('2020-00-00'),('2021-02-31'),('2020-02-29')"),
        ("TIME(3)", "('-838:59:59'),('0:0:0.001'),('12:00:00')"),
        ("DATETIME(6)", "('0000-00-00'),('2021-02-31 10:00:00.5'),('2020-02-29 00:00:00.000001')"),
        ("TIMESTAMP(2)", "('1970-01-01 00:00:01'),('2024-10-27 00:30:00.25'),('2024-10-27 01:30:00.25')"),
        ("TIMESTAMP", "('0000-00-00'),('2024-10-27 00:30:00')"),
        (
            "CHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
            "('a'),('b '),(_utf8mb4 0xF09F9880),('')",
        ),
        ("VARCHAR(10) CHARACTER SET latin1", "('a'),(_latin1 0xE9),(''),('q''\\\\')"),
        ("VARCHAR(10) CHARACTER SET gbk", "('a'),(_gbk 0xC4E3)"),
        ("VARCHAR(10) CHARACTER SET utf16", "('a'),(_utf16 0xD83DDE00)"),
        ("VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "('a'),('A'),('á')"),
        ("ENUM('a','é')", "('a'),('é'),(0)"),
        ("ENUM('','é')", "('é'),(0),(1)"),
        ("SET('x','y')", "(''),('x'),('x,y')"),
        ("BINARY(3)", "(0x00),(0x61),(0xFFFFFF)"),
        ("VARBINARY(10)", "(''),(0x00),(0x6100),(0xFF)"),
        ("UUID", "('123e4567-e89b-12d3-a456-426614174000')"),
        ("INET6", "('::1'),('2001:db8::1')"),
    ]
    .iter()
    .enumerate()
    {
        if flavor == Flavor::MySql && matches!(*column, "UUID" | "INET6") {
            continue;
        }
        let name = format!("k{at}");
        let default = if column.starts_with("TIMESTAMP") { " DEFAULT '2001-01-01'" } else { "" };
        sql::run(&mut conn, format!("CREATE TABLE {name} (k {column} NOT NULL{default}, part INT NOT NULL, PRIMARY KEY (k, part), UNIQUE alone (k))")).await?;
        let tuples = values.replace("),(", ", 1),(");
        let tuples = tuples.strip_suffix(')').context("no tuple")?;
        sql::run(&mut conn, format!("INSERT INTO {name} (k, part) VALUES {tuples}, 1)")).await?;
        let composite = load(&mut conn, "x", &name).await?;
        let mut single = composite.clone();
        single.keys.reverse();
        tables.push(composite);
        tables.push(single);
    }
    sql::run(&mut conn, "SET sql_mode=DEFAULT").await?;
    for table in &tables {
        let all = images(&mut conn, table, "1=1").await?;
        for settings in HOSTILE {
            let mut session = server.admin().await?;
            sql::run_all(&mut session, settings).await?;
            for row in &all {
                let found =
                    images(&mut session, table, &table.keys_predicate("q", &[row.key(table)])).await?;
                assert_eq!(found, std::slice::from_ref(row), "{:?} under {settings:?}", table.columns[0]);
            }
            let keys: Vec<Key> = all.iter().skip(1).map(|row| row.key(table)).collect();
            let found = images(&mut session, table, &table.keys_predicate("q", &keys)).await?;
            assert_eq!(found, all[1..], "{:?} under {settings:?}", table.columns[0]);
            session.disconnect().await?;
        }
        // And restored from nothing by the compensation.
        let mut undo = server.admin().await?;
        for setting in session_setup(flavor == Flavor::MariaDb) {
            sql::run(&mut undo, setting).await?;
        }
        let gone: Vec<RowChange> =
            all.iter().map(|row| RowChange { before: None, after: Some(row.values.to_values()) }).collect();
        for statement in inverse(table, &gone.iter().collect::<Vec<_>>()) {
            let result = undo.query_iter(&statement.sql).await.with_context(|| statement.sql.clone())?;
            assert_eq!(result.affected_rows(), statement.rows, "{}", statement.sql);
            result.drop_result().await?;
        }
        let back: Vec<RowChange> =
            all.iter().map(|row| RowChange { before: Some(row.values.to_values()), after: None }).collect();
        for statement in inverse(table, &back.iter().collect::<Vec<_>>()) {
            sql::run(&mut undo, &statement.sql).await?;
        }
        assert_eq!(images(&mut undo, table, "1=1").await?, all, "{:?}", table.columns[0]);
    }
    Ok(())
}

/// Two texts that the server calls equal have the same lock key, under every kind of collation.
async fn equal_texts_lock_together(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mut conn = server.admin().await?;
    sql::run_all(&mut conn, &["CREATE DATABASE x", "USE x", "SET NAMES utf8mb4"]).await?;
    let mut collations = vec![
        "utf8mb4_general_ci",
        "utf8mb4_unicode_ci",
        "utf8mb4_unicode_520_ci",
        "utf8mb4_bin",
        "utf8mb4_german2_ci",
        "latin1_swedish_ci",
        "latin1_german1_ci",
        "latin1_german2_ci",
        "latin1_bin",
        "latin1_general_cs",
        "ascii_general_ci",
        "gbk_chinese_ci",
        "sjis_japanese_ci",
        "utf16_unicode_ci",
        "ucs2_general_ci",
        "utf32_bin",
        "cp1251_general_ci",
        "latin2_czech_cs",
    ];
    if flavor == Flavor::MariaDb {
        collations.extend([
            "utf8mb4_nopad_bin",
            "utf8mb4_unicode_nopad_ci",
            "utf8mb4_thai_520_w2",
            "utf8mb4_uca1400_ai_ci",
            "utf8mb4_uca1400_as_cs",
        ]);
    } else {
        collations.extend([
            "utf8mb4_0900_ai_ci",
            "utf8mb4_0900_as_cs",
            "utf8mb4_0900_bin",
            "utf8mb4_ja_0900_as_cs_ks",
            "utf8mb4_de_pb_0900_ai_ci",
        ]);
    }
    let texts = [
        "a",
        "A",
        "a ",
        "a  ",
        "á",
        "Á",
        "ä",
        "ae",
        "AE",
        "æ",
        "ss",
        "ß",
        "SS",
        "a\u{2003}",
        "a\u{3000}",
        "a\u{a0}",
        "a\t",
        "a\u{0}",
        "a\u{301}",
        "o",
        "ö",
        "oe",
        "",
        " ",
        "\u{3000}",
        "z",
        "ž",
        "c",
        "ch",
        "CH",
        "я",
        "Я",
        "か",
        "カ",
        "ガ",
        "か\u{3099}",
        "a\u{ad}",
        "\u{200b}a",
        "b",
    ];
    for collation in collations {
        let charset = collation.split('_').next().unwrap();
        sql::run(
            &mut conn,
            format!(
                "CREATE TABLE t (id INT PRIMARY KEY, k VARCHAR(20) CHARACTER SET {charset} COLLATE {collation} NOT NULL)"
            ),
        )
        .await?;
        for (id, text) in texts.iter().enumerate() {
            let text = text.as_bytes();
            sql::run(
                &mut conn,
                format!(
                    "INSERT IGNORE INTO t VALUES ({id}, _utf8mb4 {})",
                    if text.is_empty() { "''".into() } else { hex(text) }
                ),
            )
            .await?;
        }
        for (length, prefix) in [("k", None), ("k(2)", Some(2))] {
            let mut table = load(&mut conn, "x", "t").await?;
            table.keys.push(UniqueKey { name: "k".to_owned(), columns: vec![1], prefixes: vec![prefix] });
            let mut keys: BTreeMap<i128, String> = BTreeMap::new();
            for row in images(&mut conn, &table, "1=1").await? {
                let Some(atone_undo::Value::Int(id)) = row.values.get(0) else { bail!("no id") };
                keys.insert(id, row.lock_keys[1].0.clone());
            }
            let compared = match prefix {
                None => ("a.k".to_owned(), "b.k".to_owned()),
                Some(n) => (format!("LEFT(a.k,{n})"), format!("LEFT(b.k,{n})")),
            };
            let equal: Vec<(i128, i128)> = conn
                .query::<(i64, i64), _>(format!(
                    "SELECT a.id, b.id FROM t a JOIN t b ON {} = {}",
                    compared.0, compared.1
                ))
                .await?
                .into_iter()
                .map(|(a, b)| (a.into(), b.into()))
                .collect();
            for (a, b) in &equal {
                let text = |id: &i128| texts[usize::try_from(*id).unwrap()];
                assert_eq!(keys[a], keys[b], "{collation} {length}: {:?} = {:?}", text(a), text(b));
            }
            let distinct: std::collections::BTreeSet<&String> = keys.values().collect();
            ensure!(distinct.len() > 5, "{collation}: only {} lock keys", distinct.len());
        }
        sql::run(&mut conn, "DROP TABLE t").await?;
    }
    Ok(())
}

macro_rules! both {
    ($($name:ident),*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn mariadb() {
                run::run_alone(Flavor::MariaDb, super::$name(Flavor::MariaDb));
            }

            #[test]
            fn mysql() {
                run::run_alone(Flavor::MySql, super::$name(Flavor::MySql));
            }
        }
    )*};
}

both!(restored_exactly, keys_are_found, equal_texts_lock_together);
