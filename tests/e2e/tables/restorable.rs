//! What cannot be read, or put back, exactly is refused before it is changed: long values under a small
//! `max_allowed_packet`, documents of MySQL's JSON with members that no text gives. What a statement does not write
//! is left as it is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql};
use mysql_async::Conn;

fn options() -> ClusterOptions {
    ClusterOptions {
        server_options: vec![format!("--max-allowed-packet={PACKET}")],
        ..ClusterOptions::default()
    }
}

atone_tests::owned_tests!(options() =>
    long_values_that_are_not_written,
    long_values_that_are_written,
    a_packet_that_has_become_smaller,
);
atone_tests::shared_tests!(documents, only_what_differs_is_assigned);

/// How long it may take to undo dozens of branches of long rows.
const MANY: Duration = Duration::from_secs(100);
/// The servers' `max_allowed_packet`, in bytes.
const PACKET: usize = 256 << 10;
/// Lengths of values, in percent of it.
const LENGTHS: [usize; 7] = [51, 60, 75, 99, 100, 101, 130];
/// A column, its type, and a value of `{n}` bytes.
const COLUMNS: [(&str, &str, &str); 6] = [
    ("u", "LONGTEXT CHARACTER SET utf8mb4", "REPEAT('é', {n} DIV 2)"),
    ("l", "LONGTEXT CHARACTER SET latin1", "REPEAT('é', {n})"),
    ("w", "LONGTEXT CHARACTER SET ucs2", "REPEAT('é', {n} DIV 2)"),
    ("g", "LONGTEXT CHARACTER SET gbk", "REPEAT('中', {n} DIV 2)"),
    ("b", "LONGBLOB", "REPEAT(CHAR(0, 255 USING binary), {n} DIV 2)"),
    ("j", "JSON", "CONCAT('[\"', REPEAT('x', {n} - 4), '\"]')"),
];

async fn set_packet(c: &Cluster, bytes: usize) -> Result<()> {
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run(&mut admin, format!("SET GLOBAL max_allowed_packet = {bytes}")).await
}

/// A schema with a row for each column and length, whose number is 1000 times the column's place and the length in
/// percent; and a session that may read and write all of them.
async fn long_rows(c: &Cluster) -> Result<(String, Conn)> {
    let schema = c.schema("long").await?;
    set_packet(c, 8 * PACKET).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    set_packet(c, PACKET).await?;
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    let columns = columns.join(", ");
    // Short ones stand after the long ones
    let create =
        format!("CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL, {columns}, note TEXT, memo BLOB)");
    sql::run(&mut direct, create).await?;
    for (place, (name, _, value)) in COLUMNS.iter().enumerate() {
        for percent in LENGTHS {
            let (id, n) = (place * 1000 + percent, PACKET * percent / 200 * 2);
            let value = value.replace("{n}", &n.to_string());
            sql::run(&mut direct, format!("INSERT INTO t (id, v, {name}) VALUES ({id}, 0, {value})")).await?;
        }
    }
    Ok((schema, direct))
}

/// All rows, each value by its length and hash.
async fn content(direct: &mut Conn) -> Result<Vec<String>> {
    let shown: Vec<String> = COLUMNS
        .iter()
        .map(|(name, ..)| format!("{name} IS NULL, LENGTH({name}), SHA2({name}, 256)"))
        .collect();
    sql::rows(direct, &format!("SELECT id, v, {} FROM t ORDER BY id", shown.join(", "))).await
}

/// Whether the row's document is one of MySQL's whose text is above the packet: nobody can read it.
fn is_unreadable(c: &Cluster, name: &str, percent: usize) -> bool {
    c.flavor() == Flavor::MySql && name == "j" && percent > 100
}

/// The answer to a statement for which the packet is too small: of a document that cannot be read the server may say
/// it itself.
fn is_above_packet(refused: &sql::ServerError, document: bool) -> Result<()> {
    ensure!(refused.code == 1153 || (document && refused.code == 1301), "{refused:?}");
    ensure!(refused.message.contains("max_allowed_packet"), "{refused:?}");
    Ok(())
}

async fn long_values_that_are_not_written(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut direct) = long_rows(c).await?;
    let before = content(&mut direct).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    for explicit in [false, true] {
        let xid = sql::start_global(&mut app).await?;
        if explicit {
            sql::run(&mut app, "BEGIN").await?;
        }
        for (place, (name, ..)) in COLUMNS.iter().enumerate() {
            for percent in LENGTHS {
                let update = format!("UPDATE t SET v = v + 1 WHERE id = {}", place * 1000 + percent);
                if is_unreadable(c, name, percent) {
                    let refused = sql::refused(&mut app, &update).await?;
                    is_above_packet(&refused, true)?;
                } else {
                    sql::run(&mut app, &update).await.context(update)?;
                }
            }
        }
        if explicit {
            sql::run(&mut app, "COMMIT").await?;
        }
        ensure!(content(&mut direct).await? != before, "nothing has changed");
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", MANY).await?;
        let after = content(&mut direct).await?;
        ensure!(after == before, "expected {before:?}\nfound {after:?}");
    }
    Ok(())
}

async fn long_values_that_are_written(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut direct) = long_rows(c).await?;
    let renamed: Vec<String> = COLUMNS.iter().map(|(name, ..)| format!("{name} AS a_{name}")).collect();
    let view = format!("CREATE VIEW seen AS SELECT {}, v AS a_v, id AS a FROM t", renamed.join(", "));
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE parent (id INT PRIMARY KEY, n INT)",
            "CREATE TABLE few AS SELECT id FROM t",
            "ALTER TABLE few ADD PRIMARY KEY (id)",
            view.as_str(),
            "CREATE TABLE child (id INT PRIMARY KEY, p INT, b LONGBLOB, \
             FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
            "INSERT INTO parent (id) VALUES (75), (130)",
        ],
    )
    .await?;
    for percent in [75, 130] {
        let blob = format!("REPEAT('z', {})", PACKET / 100 * percent);
        sql::run(&mut direct, format!("INSERT INTO child VALUES ({percent}, {percent}, {blob})")).await?;
    }
    let before = content(&mut direct).await?;
    let children = "SELECT id, p, LENGTH(b), SHA2(b, 256) FROM child ORDER BY id";
    let children_before = sql::rows(&mut direct, children).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    for (place, (name, ..)) in COLUMNS.iter().enumerate() {
        for percent in LENGTHS {
            let id = place * 1000 + percent;
            let mut statements = vec![format!("UPDATE t SET {name} = NULL WHERE id = {id}")];
            if [75, 130].contains(&percent) {
                statements.extend([
                    format!("DELETE FROM t WHERE id = {id}"),
                    format!("UPDATE t SET {name} = NULL WHERE id + 0 = {id}"),
                    format!("REPLACE INTO t (id, v) VALUES ({id}, 7)"),
                    format!("INSERT INTO t (id, v) VALUES ({id}, 7) ON DUPLICATE KEY UPDATE {name} = NULL"),
                    format!(
                        "UPDATE t JOIN parent ON parent.id = {percent} SET t.{name} = NULL WHERE t.id = {id}"
                    ),
                    format!("UPDATE t SET id = id + 100000 WHERE id = {id}"),
                ]);
            }
            // The ways that images are read by, which do not differ by the column's type
            if [75, 130].contains(&percent) && *name == "l" {
                statements.extend([
                    format!("UPDATE seen SET a_{name} = NULL WHERE a = {id}"),
                    format!("UPDATE seen AS x SET x.a_{name} = NULL WHERE x.a + 0 = {id} LIMIT 1"),
                    format!("DELETE FROM seen WHERE a = {id}"),
                    format!(
                        "INSERT INTO seen (a, a_v) VALUES ({id}, 7) ON DUPLICATE KEY UPDATE a_{name} = NULL"
                    ),
                    format!("REPLACE INTO seen (a, a_v) VALUES ({id}, 7)"),
                    format!("REPLACE INTO t (id, v) SELECT id, 7 FROM few WHERE id = {id}"),
                    format!(
                        "INSERT INTO t (id, v) SELECT id, 7 FROM few WHERE id = {id} \
                         ON DUPLICATE KEY UPDATE t.{name} = NULL"
                    ),
                    format!(
                        "UPDATE t, parent SET t.{name} = NULL, parent.n = 1 \
                         WHERE t.id = {id} AND parent.id = {percent}"
                    ),
                    format!("DELETE t, few FROM t JOIN few ON few.id = t.id WHERE t.id = {id}"),
                ]);
            }
            for statement in statements {
                let xid = sql::start_global(&mut app).await?;
                let case = async {
                    sql::run_all(&mut app, &["BEGIN", "UPDATE t SET v = v + 1 WHERE id = 51"]).await?;
                    if percent < 100 {
                        sql::run(&mut app, &statement).await?;
                    } else {
                        let refused = sql::refused(&mut app, &statement).await?;
                        is_above_packet(&refused, c.flavor() == Flavor::MySql && *name == "j")?;
                    }
                    // What was written before is still there, to be committed
                    sql::run(&mut app, "COMMIT").await?;
                    ensure!(sql::cell(&mut direct, "SELECT v FROM t WHERE id = 51").await? == "1");
                    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
                    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
                    let after = content(&mut direct).await?;
                    ensure!(after == before, "expected {before:?}\nfound {after:?}");
                    Ok(())
                };
                case.await.context(statement.clone())?;
            }
        }
    }
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "DELETE FROM parent WHERE id = 75").await?;
    sql::refused(&mut app, "DELETE FROM parent WHERE id = 130").await?.expect_naming(1153, "08S01", &xid)?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(sql::rows(&mut direct, children).await? == children_before);
    Ok(())
}

/// A record that was written under a larger packet waits for the packet to be as large again.
async fn a_packet_that_has_become_smaller(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    set_packet(c, 4 * PACKET).await?;
    let (schema, mut direct) = long_rows(c).await?;
    let before = content(&mut direct).await?;
    set_packet(c, 4 * PACKET).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    for (place, (name, ..)) in COLUMNS.iter().enumerate() {
        set_packet(c, 4 * PACKET).await?;
        let xid = sql::start_global(&mut app).await?;
        let id = place * 1000 + 130;
        sql::run(&mut app, format!("UPDATE t SET {name} = NULL WHERE id = {id}")).await?;
        set_packet(c, PACKET).await?;
        // The session's own packet is as large as it was; phase two's would not be
        let more = format!("UPDATE t SET {name} = NULL WHERE id = {}", place * 1000 + 101);
        sql::refused(&mut app, &more).await?.expect_naming(1153, "08S01", &xid)?;
        // Connections of the service account that are open have the packet of then
        kill_service(c).await?;
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        let failed = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
        let said = failed["branches"][0]["detail"]["reason"].as_str().unwrap_or_default().to_owned();
        ensure!(said.contains("max_allowed_packet"), "the reason is {said}");
        set_packet(c, 4 * PACKET).await?;
        c.atone(&["tx", "rollback", &xid]).await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        let after = content(&mut direct).await?;
        ensure!(after == before, "{name}: expected {before:?}\nfound {after:?}");
    }
    Ok(())
}

/// Ends the connections of the service account.
async fn kill_service(c: &Cluster) -> Result<()> {
    let mut admin = c.server(Bank::One).admin().await?;
    let ids = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{}'",
        atone_tests::server::SERVICE.0
    );
    for id in sql::rows(&mut admin, &ids).await? {
        // It may be gone by itself
        let _ = sql::run(&mut admin, format!("KILL {id}")).await;
    }
    Ok(())
}

/// The number of a document, what makes it, and the type of a member that no text gives, if there is one.
const DOCUMENTS: [(u32, &str, Option<&str>); 12] = [
    (1, "'{\"a\": 1, \"b\": [1, 2.5, \"x\", null, true, {\"c\": -3}], \"u\": 18446744073709551615}'", None),
    (
        2,
        "JSON_OBJECT('p', 1.10, 'q', CAST(1.5 AS DECIMAL(10,1)), 'r', 2.5e0, 's', CAST(7 AS DECIMAL(5,0)))",
        None,
    ),
    (
        3,
        "JSON_ARRAY(JSON_ARRAY(), CAST(5 AS UNSIGNED), JSON_OBJECT('x\"y', JSON_ARRAY(CAST(-1.0 AS DECIMAL(4,1)))))",
        None,
    ),
    (4, "JSON_EXTRACT(JSON_ARRAY(CAST(1.50 AS DECIMAL(9,2))), '$[0]')", None),
    (5, "JSON_OBJECT('at', CAST('2020-01-01 10:00:00' AS DATETIME(6)))", Some("DATETIME")),
    (6, "JSON_ARRAY(CAST('2020-01-01' AS DATE), 1.5)", Some("DATE")),
    (7, "JSON_OBJECT('t', JSON_OBJECT('t', CAST('10:00:00' AS TIME)))", Some("TIME")),
    (8, "JSON_OBJECT('b', X'00FF')", Some("BLOB")),
    (9, "JSON_OBJECT('b', b'101')", Some("B")),
    (10, "JSON_EXTRACT(JSON_ARRAY(CAST('2020-01-01' AS DATE)), '$[0]')", Some("DATE")),
    (11, "NULL", None),
    (12, "'\"base64:type15:AP8=\"'", None),
];

/// Each document by its text and the types of all its members.
async fn types(direct: &mut Conn) -> Result<Vec<String>> {
    let all = "SELECT id, k, v, CAST(j AS CHAR), JSON_TYPE(j), (SELECT GROUP_CONCAT(JSON_TYPE(m) ORDER BY n) \
               FROM JSON_TABLE(j, '$**.*' COLUMNS (n FOR ORDINALITY, m JSON PATH '$')) x), \
               (SELECT GROUP_CONCAT(JSON_TYPE(m) ORDER BY n) \
               FROM JSON_TABLE(j, '$**[*]' COLUMNS (n FOR ORDINALITY, m JSON PATH '$')) x) FROM d ORDER BY id";
    sql::rows(direct, all).await
}

async fn documents(c: std::sync::Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        // There a document is its text
        return Ok(());
    }
    let schema = c.schema("documents").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE d (id INT PRIMARY KEY, k INT UNIQUE, v INT NOT NULL, j JSON)")
        .await?;
    for (id, document, _) in DOCUMENTS {
        sql::run(&mut direct, format!("INSERT INTO d VALUES ({id}, {id}, 0, {document})")).await?;
    }
    let before = types(&mut direct).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    // One that is not written stays as it is
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE d SET v = v + 1").await?;
    sql::run(&mut app, "UPDATE d SET v = v + 1 WHERE id = 5").await?;
    sql::run(&mut app, "INSERT INTO d VALUES (5, 5, 1, NULL) ON DUPLICATE KEY UPDATE v = 9").await?;
    ensure!(types(&mut direct).await? != before);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    let after = types(&mut direct).await?;
    ensure!(after == before, "expected {before:?}\nfound {after:?}");
    for (id, _, lost) in DOCUMENTS {
        for statement in [
            format!("UPDATE d SET j = '{{}}' WHERE id = {id}"),
            format!("UPDATE d SET j = JSON_SET(COALESCE(j, '{{}}'), '$.new', 1) WHERE id + 0 = {id}"),
            format!("DELETE FROM d WHERE id = {id}"),
            format!("REPLACE INTO d VALUES ({id}, {id}, 5, '1')"),
            format!("INSERT INTO d VALUES ({id}, {id}, 1, NULL) ON DUPLICATE KEY UPDATE j = '[]'"),
            // A unique value may move among rows, which are inserted again then
            format!("UPDATE d SET k = 100 WHERE id = {id}"),
            format!("UPDATE d SET id = 100 WHERE id = {id}"),
        ] {
            let xid = sql::start_global(&mut app).await?;
            let case = async {
                match lost {
                    None => sql::run(&mut app, &statement).await?,
                    Some(kind) => {
                        let refused = sql::refused(&mut app, &statement).await?;
                        refused.expect_naming(1235, "42000", &xid)?;
                        let named =
                            refused.message.contains("the column j") && refused.message.contains(kind);
                        ensure!(named, "{}", refused.message);
                        ensure!(types(&mut direct).await? == before, "something has changed");
                    }
                }
                sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
                c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
                let after = types(&mut direct).await?;
                ensure!(after == before, "expected {before:?}\nfound {after:?}");
                Ok(())
            };
            case.await.context(statement.clone())?;
        }
    }
    // MySQL takes a JSON_SET of an equal number for no change. A change of a type alone is one, and one by an
    // outsider is a conflict
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE d SET j = JSON_OBJECT('p', 1.10, 'q', 1.5e0, 'r', 2.5e0, 's', CAST(7 AS DECIMAL(5,0))) WHERE id = 2").await?;
    ensure!(types(&mut direct).await? != before);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(types(&mut direct).await? == before);
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE d SET v = 5 WHERE id = 2").await?;
    sql::run(&mut direct, "UPDATE d SET j = JSON_OBJECT('p', 1.10, 'q', 1.5e0, 'r', 2.5e0, 's', CAST(7 AS DECIMAL(5,0))) WHERE id = 2").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let failed = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    ensure!(failed["branches"][0]["detail"]["rows"][0]["columns"][0] == "j", "{failed}");
    sql::run(&mut direct, "UPDATE d SET j = JSON_OBJECT('p', 1.10, 'q', CAST(1.5 AS DECIMAL(10,1)), 'r', 2.5e0, 's', CAST(7 AS DECIMAL(5,0))) WHERE id = 2")
        .await?;
    c.atone(&["tx", "rollback", &xid]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(types(&mut direct).await? == before);
    Ok(())
}

/// Columns that the server changes by itself stay as they were all the same.
async fn only_what_differs_is_assigned(c: std::sync::Arc<Cluster>) -> Result<()> {
    let schema = c.schema("assigned").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(9), g INT AS (v + 1) STORED, \
             a TIMESTAMP(6) NULL DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP(6), \
             b DATETIME DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP, f DOUBLE(9,3))",
            "INSERT INTO t (id, v, s, f) VALUES (1, 1, 'x', 0.125), (2, 2, 'y', NULL), (3, 3, 'z', 1)",
        ],
    )
    .await?;
    let all = "SELECT id, v, s, g, UNIX_TIMESTAMP(a), b, f FROM t ORDER BY id";
    let before = sql::rows(&mut direct, all).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for update in
        ["v = v + 1 WHERE id = 1", "v = v + 1, a = a, b = b WHERE id = 2", "v = v + 1, b = b WHERE id = 3"]
    {
        sql::run(&mut app, format!("UPDATE t SET {update}")).await?;
    }
    let shown = c.atone_undo(Bank::One, &["sql", &xid]).await?.stdout;
    let updates: Vec<&str> = shown.lines().filter(|line| line.starts_with("UPDATE ")).collect();
    ensure!(
        updates.len() == 3 && updates.iter().all(|u| !u.contains("`s` =") && !u.contains("`g`")),
        "{shown}"
    );
    ensure!(shown.contains("SET `v` = 2, `a` = `a`, `b` = `b` WHERE (`id` = 2)"), "{shown}");
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(sql::rows(&mut direct, all).await? == before);
    Ok(())
}
