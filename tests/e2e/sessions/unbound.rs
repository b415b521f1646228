//! A session that never binds can't tell the proxy from the server.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use atone_tests::effects::{e, q, same_effects};
use atone_tests::server::{ADMIN, APP};
use atone_tests::{Bank, Cluster, Flavor, cli, paths, sql};
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    same_effects_as_straight,
    several_results,
    large_values,
    large_results,
    local_infile,
    many_sessions,
    killed_queries,
    sysbench,
    dumps,
    closed_connections,
);

async fn same_effects_as_straight(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unbound").await?;
    let mut through = c.app(Bank::One, &schema).await?;
    let mut straight = c.direct(Bank::Two, &schema).await?;
    let none = None::<i32>;
    let steps = [
        q("SELECT * FROM account ORDER BY id"),
        q("SELECT 1 AS `a b`, NULL, 'x', 1.50, 0xFF, NOW() IS NULL"),
        q("UPDATE account SET balance = balance + 1"),
        q("UPDATE account SET balance = 'x' WHERE id = 1"),
        q("REPLACE INTO account VALUES (1, 'replaced', 1)"),
        q("INSERT IGNORE INTO account VALUES (1, 'ignored', 1)"),
        q("SHOW WARNINGS"),
        q("INSERT INTO account VALUES (1, 'x', 1) ON DUPLICATE KEY UPDATE balance = balance + 5"),
        q("INSERT INTO account SELECT id + 10, name, balance FROM account"),
        q("SELECT ROW_COUNT()"),
        q("CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT)"),
        q("INSERT INTO other (t) VALUES ('a'), ('b')"),
        q("SELECT LAST_INSERT_ID()"),
        q("UPDATE account, other SET balance = 0 WHERE account.id = other.id"),
        q("CREATE PROCEDURE p(IN n INT) BEGIN SELECT n; SELECT n + 1; UPDATE account SET balance = n; END"),
        q("BEGIN"),
        q("DELETE FROM account"),
        q("SAVEPOINT a"),
        q("ROLLBACK TO a"),
        q("ROLLBACK"),
        q("SELECT COUNT(*) FROM account"),
        q("LOCK TABLES account WRITE"),
        q("UNLOCK TABLES"),
        q("PREPARE s FROM 'SELECT ?'"),
        q("EXECUTE s USING @nothing"),
        q("XA START 'a'"),
        q("XA END 'a'"),
        q("XA ROLLBACK 'a'"),
        q("TRUNCATE TABLE other"),
        q("SELECT @atone_xid"),
        // What the lexer here cannot read
        q(
            "CREATE FUNCTION js(a INT) RETURNS INT LANGUAGE JAVASCRIPT AS $$ let s = \"x@'y\"; global.z = `;${s}`; return a; $$",
        ),
        q("SELECT @'a', @\"b\" FROM (SELECT 1 AS $x) d; SELECT @`c`, $x FROM (SELECT 2 AS $x) d"),
        q("SELECT @'a' /*! /* nested */ */"),
        q("SELECT `à`.à, @'a', @'à' FROM (SELECT 1 AS à) AS `à`"),
        q("SET @'a' = 1, @$b = 2"),
        q("SELECT 'START GLOBAL TRANSACTION', '@atone_xid', '/*+ XID(1) */'"),
        q("no such statement"),
        q(""),
        q("SELECT * FROM nowhere"),
        q("USE nowhere"),
        e("SELECT ?, ?, ?", &[&1, &"two", &none]),
        e("INSERT INTO account VALUES (?, ?, ?)", &[&50, &"fifty", &50]),
        e("INSERT INTO account VALUES (?, ?, ?)", &[&50, &"fifty", &50]),
        e("SELECT * FROM account WHERE id > ? ORDER BY id", &[&1]),
        e("nonsense ?", &[&1]),
    ];
    same_effects(&mut through, &mut straight, &steps).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, c.accounts(Bank::Two, &schema).await?);
    // Nothing of Atone is left in the schema.
    let tables = c.rows(Bank::One, &schema, "SHOW TABLES").await?;
    assert_eq!(tables, ["account", "other"]);
    assert_eq!(through.server_version(), straight.server_version());
    Ok(())
}

async fn several_results(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("results").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(
        &mut conn,
        "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2, 3; UPDATE account SET balance = 0; END",
    )
    .await?;
    let mut result = conn.query_iter("CALL p()").await?;
    let one: Vec<i32> = result.collect().await?;
    let two: Vec<(i32, i32)> = result.collect().await?;
    assert_eq!((one, two), (vec![1], vec![(2, 3)]));
    result.drop_result().await?;
    let mut result = conn.query_iter("SELECT 1; SELECT 2; UPDATE account SET balance = 5; SELECT 3").await?;
    let one: Vec<i32> = result.collect().await?;
    let two: Vec<i32> = result.collect().await?;
    assert_eq!((one, two), (vec![1], vec![2]));
    assert_eq!(result.affected_rows(), 3);
    let _: Vec<mysql_async::Row> = result.collect().await?;
    let three: Vec<i32> = result.collect().await?;
    assert_eq!(three, [3]);
    result.drop_result().await?;
    // An error in the middle ends the rest.
    let error = sql::server_error(
        conn.query_drop("SELECT 1; SELECT nosuch; UPDATE account SET balance = 9").await,
        "",
    )?;
    assert_eq!(error.code, 1054);
    assert_eq!(sql::cell(&mut conn, "SELECT MAX(balance) FROM account").await?, "5");
    Ok(())
}

async fn large_values(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("large").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, "CREATE TABLE b (id INT PRIMARY KEY, v LONGBLOB)").await?;
    // Around the border at which a packet is split in two.
    for (id, length) in [(1, 0xff_ffff - 64), (2, 0xff_ffff), (3, 100_000)] {
        let value: Vec<u8> = (0..length).map(|n: usize| (n % 251) as u8).collect();
        let limit: usize = sql::cell(&mut conn, "SELECT @@max_allowed_packet").await?.parse()?;
        let result = conn.exec_drop("INSERT INTO b VALUES (?, ?)", (id, &value)).await;
        if result.is_err() && length + 1000 > limit {
            // The server refuses it by an error or by closing the connection; this session only is over.
            conn = c.app(Bank::One, &schema).await?;
            continue;
        }
        result?;
        let back: Option<Vec<u8>> = conn.exec_first("SELECT v FROM b WHERE id = ?", (id,)).await?;
        assert!(back.as_ref() == Some(&value), "{length} bytes came back changed");
        let back: Option<Vec<u8>> = conn.query_first(format!("SELECT v FROM b WHERE id = {id}")).await?;
        assert!(back.as_ref() == Some(&value), "{length} bytes came back changed in the text protocol");
    }
    Ok(())
}

async fn large_results(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("rows").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, "CREATE TABLE n (id INT PRIMARY KEY, v CHAR(100))").await?;
    for thousand in 0..20 {
        let values: Vec<String> =
            (0..1000).map(|n| format!("({}, REPEAT('x', 90))", thousand * 1000 + n)).collect();
        sql::run(&mut conn, format!("INSERT INTO n VALUES {}", values.join(","))).await?;
    }
    let ids: Vec<(i32, String)> =
        conn.query("SELECT id, v FROM n UNION ALL SELECT id + 20000, v FROM n").await?;
    assert_eq!(ids.len(), 40_000);
    assert!(ids.iter().enumerate().all(|(n, (id, v))| n as i32 == *id && v.len() == 90));
    Ok(())
}

async fn local_infile(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("infile").await?;
    let file = c.dir().join(format!("{schema}.csv"));
    std::fs::write(&file, (0..5000).map(|n| format!("{n},row {n}\n")).collect::<String>())?;
    let load = format!(
        "CREATE TABLE l (id INT PRIMARY KEY, v VARCHAR(20)); \
         LOAD DATA LOCAL INFILE '{}' INTO TABLE l FIELDS TERMINATED BY ','; SELECT COUNT(*), MAX(v) FROM l;",
        file.display()
    );
    let text =
        client(&c, c.proxy_port(Bank::One), &schema, &["--local-infile=1", "-N"], load.as_bytes()).await?;
    assert_eq!(text.trim(), "5000\trow 999");
    Ok(())
}

async fn many_sessions(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("sessions").await?;
    let mut tasks = Vec::new();
    for n in 0..60 {
        let (c, schema) = (Arc::clone(&c), schema.clone());
        tasks.push(tokio::spawn(async move {
            let mut conn = c.app(if n % 2 == 0 { Bank::One } else { Bank::Two }, &schema).await?;
            for m in 0..10 {
                let answer: Option<i32> = conn.exec_first("SELECT CAST(? + ? AS SIGNED)", (n, m)).await?;
                anyhow::ensure!(answer == Some(n + m), "{n} + {m} is not {answer:?}");
            }
            conn.disconnect().await?;
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn killed_queries(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("kill").await?;
    let mut victim = c.app(Bank::One, &schema).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    let id = sql::cell(&mut victim, "SELECT CONNECTION_ID()").await?;
    assert_eq!(victim.id().to_string(), id, "the greeting's connection id is the server's own");
    let sleeping = tokio::spawn(async move { (victim.query_drop("SELECT SLEEP(30)").await, victim) });
    let killed = atone_tests::wait::until("the victim sleeps", atone_tests::cluster::SOON, || {
        let id = id.clone();
        let c = Arc::clone(&c);
        async move {
            let query = format!(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND INFO LIKE '%SLEEP%'"
            );
            let mut admin = c.server(Bank::One).admin().await?;
            Ok((sql::cell(&mut admin, &query).await? == "1").then_some(()))
        }
    });
    killed.await?;
    sql::run(&mut other, format!("KILL QUERY {id}")).await?;
    let (_result, mut victim) = sleeping.await?;
    assert_eq!(sql::cell(&mut victim, "SELECT 5").await?, "5", "the session goes on");
    sql::run(&mut other, format!("KILL {id}")).await?;
    assert!(victim.query_drop("SELECT 1").await.is_err(), "the session is over");
    Ok(())
}

/// Runs the flavor's client program as the administrator.
async fn client(c: &Cluster, port: u16, schema: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let port = port.to_string();
    let password = format!("-p{}", ADMIN.1);
    let mut all = vec!["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", ADMIN.0, &password];
    all.extend_from_slice(&["--default-character-set=utf8mb4", c.flavor().without_tls()]);
    if c.flavor() == Flavor::MySql {
        all.push("--get-server-public-key");
    }
    all.extend_from_slice(args);
    all.push(schema);
    cli::run(&c.flavor().client_program("mysql")?, &all, &[], input).await?.success()
}

async fn dump(c: &Cluster, port: u16, schema: &str) -> Result<String> {
    let port = port.to_string();
    let password = format!("-p{}", ADMIN.1);
    let mut args = vec!["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", ADMIN.0, &password];
    args.push(c.flavor().without_tls());
    if c.flavor() == Flavor::MySql {
        args.extend_from_slice(&["--get-server-public-key", "--set-gtid-purged=OFF", "--no-tablespaces"]);
    }
    args.extend_from_slice(&[
        "--skip-dump-date",
        "--skip-comments",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
    ]);
    args.extend_from_slice(&["--single-transaction", schema]);
    cli::run(&c.flavor().client_program("mysqldump")?, &args, &[], &[]).await?.success()
}

/// Objects of all kinds.
const OBJECTS: &str = r#"
CREATE TABLE parent (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) COLLATE utf8mb4_bin UNIQUE, made TIMESTAMP(3) NULL) AUTO_INCREMENT = 100 COMMENT 'it''s a "comment"';
CREATE TABLE child (p INT NOT NULL, n SMALLINT UNSIGNED NOT NULL, v DECIMAL(20,6), g INT AS (n * 2) VIRTUAL, s INT AS (n + 1) STORED,
  PRIMARY KEY (p, n), KEY (v), FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE, CHECK (n < 60000));
CREATE TABLE parts (id INT, d DATE, PRIMARY KEY (id, d)) PARTITION BY RANGE (YEAR(d)) (PARTITION p0 VALUES LESS THAN (2020), PARTITION p1 VALUES LESS THAN MAXVALUE);
CREATE TABLE kinds (id INT PRIMARY KEY, b BLOB, t TEXT CHARACTER SET latin1, j JSON, e ENUM('a','b'), f SET('x','y'), g GEOMETRY, bi BIT(9), y YEAR, FULLTEXT KEY (t)) ENGINE = InnoDB;
CREATE TABLE `od``d na.me` (`select` INT PRIMARY KEY) ENGINE = MyISAM;
INSERT INTO parent (name, made) VALUES ('a', '2024-01-01 00:00:00.123'), ('A', NULL), ('é\'"\\ 😀', NULL);
INSERT INTO child (p, n, v) VALUES (100, 1, 1.5), (100, 2, NULL), (101, 1, -99999999999999.999999);
INSERT INTO parts VALUES (1, '2019-01-01'), (2, '2024-01-01');
INSERT INTO kinds VALUES (1, 0x00FF275C0A0D1A, 'é', '{"a": [1, 2.5, null]}', 'b', 'x,y', ST_GeomFromText('POINT(1 2)'), b'101', 2024), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO `od``d na.me` VALUES (1);
CREATE VIEW v AS SELECT p.name, c.v FROM parent p JOIN child c ON c.p = p.id;
CREATE VIEW w AS SELECT * FROM v WHERE v > 0;
DELIMITER //
CREATE TRIGGER tr BEFORE INSERT ON child FOR EACH ROW BEGIN SET NEW.v = COALESCE(NEW.v, 0); END//
CREATE PROCEDURE pr(IN a INT, OUT b INT) BEGIN SELECT COUNT(*) + a INTO b FROM parent; END//
CREATE FUNCTION fu(a INT) RETURNS INT DETERMINISTIC RETURN a * 2//
CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01 00:00:00' DO DELETE FROM parts WHERE id < 0//
DELIMITER ;
"#;

async fn dumps(c: Arc<Cluster>) -> Result<()> {
    let (source, through, straight) =
        (c.schema("dump_a").await?, c.schema("dump_b").await?, c.schema("dump_c").await?);
    let (server, proxy) = (c.server(Bank::One).port(), c.proxy_port(Bank::One));
    client(&c, server, &source, &[], OBJECTS.as_bytes()).await?;
    let mut rows = String::from("INSERT INTO parts VALUES ");
    rows += &(10..20_000).map(|n| format!("({n}, '2024-01-01')")).collect::<Vec<_>>().join(",");
    client(&c, server, &source, &[], rows.as_bytes()).await?;

    let reference = dump(&c, server, &source).await?;
    assert!(reference.contains("CREATE") && reference.contains("TRIGGER") && reference.len() > 100_000);
    let by_proxy = dump(&c, proxy, &source).await?;
    assert!(
        by_proxy == reference,
        "a dump through the proxy differs: {}",
        first_difference(&by_proxy, &reference)
    );

    client(&c, proxy, &through, &[], reference.as_bytes()).await.context("import through the proxy")?;
    client(&c, server, &straight, &[], reference.as_bytes()).await.context("import straight")?;
    let (through_dump, straight_dump) =
        (dump(&c, server, &through).await?, dump(&c, server, &straight).await?);
    let strip = |text: &str, name: &str| text.replace(name, "SCHEMA");
    let (a, b) = (strip(&through_dump, &through), strip(&straight_dump, &straight));
    assert!(a == b, "an import through the proxy differs: {}", first_difference(&a, &b));
    assert!(a == strip(&reference, &source), "the import differs from its source");
    Ok(())
}

fn first_difference(a: &str, b: &str) -> String {
    let (a_line, b_line) =
        a.lines().zip(b.lines()).find(|(a, b)| a != b).unwrap_or(("(one is shorter)", "(one is shorter)"));
    let cut = |line: &str| line.chars().take(300).collect::<String>();
    format!("`{}` and `{}`", cut(a_line), cut(b_line))
}

async fn sysbench(c: Arc<Cluster>) -> Result<()> {
    let program = paths::on_path("sysbench").context("there is no sysbench: apt-get install sysbench")?;
    let schema = c.schema("sbtest").await?;
    let port = c.proxy_port(Bank::One).to_string();
    let options = [
        "oltp_read_write",
        "--db-driver=mysql",
        "--mysql-host=127.0.0.1",
        &format!("--mysql-port={port}"),
        &format!("--mysql-user={}", APP.0),
        &format!("--mysql-password={}", APP.1),
        &format!("--mysql-db={schema}"),
        "--tables=2",
        "--table-size=1000",
        "--threads=4",
        "--events=1000",
        "--time=60",
    ];
    let step = |name: &'static str, more: &'static [&'static str]| {
        let mut args: Vec<&str> = options.to_vec();
        args.extend_from_slice(more);
        args.push(name);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let program = program.clone();
        async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = cli::run(&program, &args, &[], &[]).await?;
            if output.code != 0 {
                bail!("sysbench {name} failed: {}\n{}", output.stdout, output.stderr);
            }
            Ok(output.stdout)
        }
    };
    step("prepare", &[]).await?;
    for more in [&["--db-ps-mode=auto"][..], &["--db-ps-mode=disable"]] {
        let report = step("run", more).await?;
        let line = |name: &str| {
            report
                .lines()
                .find(|line| line.trim().starts_with(name))
                .map(str::trim)
                .unwrap_or_default()
                .to_owned()
        };
        assert!(line("transactions:").split_whitespace().nth(1) == Some("1000"), "{report}");
        assert!(line("reconnects:").split_whitespace().nth(1) == Some("0"), "{report}");
    }
    step("cleanup", &[]).await?;
    Ok(())
}

async fn closed_connections(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("closed").await?;
    let mut ids = Vec::new();
    for n in 0..20 {
        let mut conn = c.app(Bank::One, &schema).await?;
        ids.push(conn.id().to_string());
        if n % 2 == 0 {
            conn.disconnect().await?;
        } else {
            // Without a word, in the middle of a transaction.
            sql::run(&mut conn, "BEGIN").await?;
            drop(conn);
        }
    }
    let query =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID IN ({})", ids.join(","));
    let mut admin = c.server(Bank::One).admin().await?;
    let admin = tokio::sync::Mutex::new(&mut admin);
    atone_tests::wait::until(
        "the server's sessions end with the clients'",
        atone_tests::cluster::SOON,
        || async {
            let mut admin = admin.lock().await;
            Ok((sql::cell(&mut admin, &query).await? == "0").then_some(()))
        },
    )
    .await
}
