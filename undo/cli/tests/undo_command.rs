//! `atone undo` on real servers: what it shows, and that the SQL it prints restores the rows.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use anyhow::{Result, ensure};
use atone_tests::cli::{self, Output};
use atone_tests::server::SERVICE;
use atone_tests::{Flavor, Server, run, sql};
use atone_undo::{
    Column, Kind, Layout, RowChange, Table, TableChanges, UndoRecord, UniqueKey, Value, insert_marker_sql,
    insert_part_sql, undo_log_ddl,
};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

fn account() -> Table {
    let column = |name: &str, kind, column_type: &str| Column {
        name: name.to_owned(),
        kind,
        column_type: column_type.to_owned(),
        charset: None,
        collation: None,
        nullable: false,
        generated: false,
        auto_increment: false,
    };
    Table {
        schema: "bank".to_owned(),
        name: "account".to_owned(),
        columns: vec![column("id", Kind::Int, "int"), column("balance", Kind::Decimal, "decimal(10,2)")],
        keys: vec![UniqueKey { name: "PRIMARY".to_owned(), columns: vec![0], prefixes: Vec::new() }],
    }
}

fn row(id: i128, balance: &str) -> Option<Vec<Value>> {
    Some(vec![Value::Int(id), Value::Text(balance.to_owned())])
}

/// Two branches of one transaction: 1: 100 → 90 → 80, 2: inserted, 3: deleted.
async fn prepare(conn: &mut Conn) -> Result<()> {
    sql::run_all(
        conn,
        &[
            "CREATE DATABASE bank",
            "CREATE TABLE bank.account (id INT PRIMARY KEY, balance DECIMAL(10,2) NOT NULL)",
            "INSERT INTO bank.account VALUES (1, 80), (2, 5)",
            &undo_log_ddl("bank"),
        ],
    )
    .await?;
    log_branches(conn, Layout::ONE_ROW).await
}

/// The undo rows of both branches, and a marker of another transaction.
async fn log_branches(conn: &mut Conn, layout: Layout) -> Result<()> {
    let branches = [
        (
            10,
            vec![
                RowChange { before: row(1, "100.00"), after: row(1, "90.00") },
                RowChange { before: None, after: row(2, "5.00") },
            ],
        ),
        (
            11,
            vec![
                RowChange { before: row(1, "90.00"), after: row(1, "80.00") },
                RowChange { before: row(3, "7.00"), after: None },
            ],
        ),
    ];
    for (branch_id, rows) in branches {
        let record = UndoRecord {
            xid: "x:1".to_owned(),
            branch_id,
            resource: "bank1".to_owned(),
            tables: vec![TableChanges { table: account(), rows }],
        };
        for (part, row) in (1..).zip(record.encode_rows(layout)?) {
            conn.query_drop(insert_part_sql("bank", "x:1", branch_id, part, &row)).await?;
        }
    }
    conn.query_drop(insert_marker_sql("bank", "x:2", 12)).await?;
    Ok(())
}

struct Tool {
    dir: tempfile::TempDir,
    port: u16,
}

impl Tool {
    fn new(port: u16) -> Result<Self> {
        let tool = Tool { dir: tempfile::tempdir()?, port };
        let config = format!(
            "coordinator = ['http://127.0.0.1:7091']\n[[backend]]\nname = 'bank1'\nlisten = '127.0.0.1:4001'\n\
             address = '127.0.0.1:{port}'\nuser = '{}'\npassword_file = '{}'\n",
            SERVICE.0,
            tool.dir.path().join("password").display()
        );
        std::fs::write(tool.dir.path().join("password"), format!("{}\n", SERVICE.1))?;
        std::fs::write(tool.config(), config)?;
        Ok(tool)
    }

    fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("proxy.toml")
    }

    async fn run(&self, args: &[&str]) -> Result<Output> {
        let config = self.config().display().to_string();
        let mut all = vec!["undo"];
        all.extend(args);
        all.extend(["--config", &config]);
        atone(&all).await
    }
}

async fn atone(args: &[&str]) -> Result<Output> {
    cli::run(Path::new(env!("CARGO_BIN_EXE_atone")), args, &[("NO_COLOR", "1")], b"").await
}

/// Runs what `atone undo sql` printed.
async fn run_script(server: &Server, script: &str) -> Result<()> {
    let mut client = server.admin().await?;
    for statement in script
        .lines()
        .map(|l| l.split(" -- ").next().unwrap())
        .filter(|l| !l.starts_with("--") && !l.is_empty())
    {
        sql::run(&mut client, statement.trim_end_matches(';')).await?;
    }
    Ok(())
}

/// Records look the same however they are laid out; what is not whole is told.
async fn records_of_every_layout_are_shown(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mut conn = server.admin().await?;
    prepare(&mut conn).await?;
    let tool = Tool::new(server.port())?;
    let shown = async |command: &[&str]| -> Result<String> {
        let text = tool.run(command).await?.success()?;
        // Lengths, times and what takes the undo rows away differ
        let same = |l: &&str| !l.contains(" bytes, ") && !l.contains("`undo_log`");
        Ok(text.lines().filter(same).collect::<Vec<_>>().join("\n"))
    };
    let expected = [shown(&["show", "x:1"]).await?, shown(&["sql", "x:1"]).await?];
    for (compress_bytes, part_bytes) in [(1, usize::MAX), (1, 100), (0, 300)] {
        sql::run_all(
            &mut conn,
            &[
                "DELETE FROM bank.undo_log",
                "DELETE FROM bank.account",
                "INSERT INTO bank.account VALUES (1, 80), (2, 5)",
            ],
        )
        .await?;
        log_branches(&mut conn, Layout { compress_bytes, part_bytes }).await?;
        let list = tool.run(&["ls"]).await?.success()?;
        assert_eq!(list.lines().count(), 4, "{list}");
        let stored =
            sql::cell(&mut conn, "SELECT SUM(LENGTH(rollback_info)) FROM bank.undo_log WHERE branch_id = 10")
                .await?;
        assert_eq!(list.lines().nth(1).unwrap().split_whitespace().nth(5), Some(stored.as_str()), "{list}");
        assert_eq!([shown(&["show", "x:1"]).await?, shown(&["sql", "x:1"]).await?], expected);
        run_script(&server, &tool.run(&["sql", "x:1"]).await?.success()?).await?;
        let rows = sql::rows(&mut conn, "SELECT id, balance FROM bank.account ORDER BY id").await?;
        assert_eq!(rows, ["1|100.00", "3|7.00"]);
        assert_eq!(sql::rows(&mut conn, "SELECT xid FROM bank.undo_log").await?, ["x:2"]);
    }

    sql::run(&mut conn, "DELETE FROM bank.undo_log").await?;
    for (damage, why) in [
        ("DELETE FROM bank.undo_log WHERE branch_id = 10 AND xid = 'x:1#2'", "in the place of part 2"),
        ("DELETE FROM bank.undo_log WHERE branch_id = 10 AND xid = 'x:1'", "whose first part is gone"),
        (
            "UPDATE bank.undo_log SET xid = 'x:1#99' WHERE branch_id = 10 AND xid = 'x:1#3'",
            "in the place of part 3",
        ),
        (
            "INSERT INTO bank.undo_log SELECT branch_id, 'x:1#4', context, rollback_info, log_status, log_created, \
             log_modified FROM bank.undo_log WHERE branch_id = 10 AND xid = 'x:1#3'",
            "there are 4",
        ),
        ("UPDATE bank.undo_log SET context = '' WHERE branch_id = 10 AND xid = 'x:1#2'", "is not understood"),
        ("UPDATE bank.undo_log SET rollback_info = '' WHERE branch_id = 10 AND xid = 'x:1#2'", "has 0 bytes"),
    ] {
        log_branches(&mut conn, Layout { compress_bytes: 0, part_bytes: 200 }).await?;
        sql::run(&mut conn, damage).await?;
        for command in [&["ls"][..], &["show", "x:1"], &["sql", "x:1"]] {
            let output = tool.run(command).await?;
            assert_eq!(output.code, 1, "{damage}: {output:?}");
            assert!(output.stdout.contains(why), "{damage}: {output:?}");
            assert!(output.stderr.contains("do not decode"), "{damage}: {output:?}");
        }
        sql::run(&mut conn, "DELETE FROM bank.undo_log").await?;
    }
    Ok(())
}

mod records_of_every_layout_are_shown {
    use super::*;

    #[test]
    fn mariadb() {
        run::run_alone(Flavor::MariaDb, super::records_of_every_layout_are_shown(Flavor::MariaDb));
    }

    #[test]
    fn mysql() {
        run::run_alone(Flavor::MySql, super::records_of_every_layout_are_shown(Flavor::MySql));
    }
}

async fn undo_logs_are_shown(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mut conn = server.admin().await?;
    prepare(&mut conn).await?;
    let tool = Tool::new(server.port())?;

    let list = tool.run(&["ls"]).await?.success()?;
    let words: Vec<Vec<&str>> = list.lines().map(|l| l.split_whitespace().collect()).collect();
    ensure!(words.len() == 4, "{list}");
    assert_eq!(words[1][..5], ["x:1", "10", "bank1", "bank", "undo"]);
    assert_eq!(words[1][8..], ["bank.account:", "2"], "{list}");
    assert_eq!(words[3][..5], ["x:2", "12", "-", "bank", "marker"]);
    let json: serde_json::Value =
        serde_json::from_str(&tool.run(&["ls", "--json", "--limit", "2"]).await?.success()?)?;
    assert_eq!((json["undo"].as_array().unwrap().len(), &json["more"]), (2, &serde_json::json!(true)));

    // The earlier branch is restorable although the row is not as it left it: the later branch is undone first.
    let show = tool.run(&["show", "x:1", "10"]).await?.success()?;
    for line in [
        "bank.account id=1  updated  restorable",
        "     balance  100.00  90.00  80.00",
        "bank.account id=2  inserted  restorable",
        "     balance  (no row)  5.00   5.00",
    ] {
        ensure!(show.lines().any(|l| l == line), "no {line:?} in\n{show}");
    }
    assert!(tool.run(&["show", "x:2"]).await?.success()?.contains("can never commit"));
    let missing = tool.run(&["show", "x:1", "99"]).await?;
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("no undo row of branch 99 of x:1"), "{}", missing.stderr);

    // The printed SQL restores the rows.
    let script = tool.run(&["sql", "x:1"]).await?.success()?;
    run_script(&server, &script).await?;
    let rows = sql::rows(&mut conn, "SELECT id, balance FROM bank.account ORDER BY id").await?;
    assert_eq!(rows, ["1|100.00", "3|7.00"]);
    assert_eq!(sql::rows(&mut conn, "SELECT xid FROM bank.undo_log").await?, ["x:2"], "undone once");

    sql::run(&mut conn, "DELETE FROM bank.undo_log").await?;
    log_branches(&mut conn, Layout::ONE_ROW).await?;
    let show = tool.run(&["show", "x:1"]).await?.success()?;
    assert_eq!(show.matches("already restored").count(), 3, "branch 10 takes row 1 further back:\n{show}");

    // An outsider's change is a conflict, and the SQL then ends in ROLLBACK.
    sql::run_all(&mut conn, &["DELETE FROM bank.account", "INSERT INTO bank.account VALUES (1, 81), (2, 5)"])
        .await?;
    let show = tool.run(&["show", "x:1", "11"]).await?.success()?;
    assert!(show.contains("bank.account id=1  updated  conflict: balance"), "{show}");
    assert!(show.lines().any(|l| l == "  *  balance  90.00   80.00  81.00"), "{show}");
    let script = tool.run(&["sql", "x:1", "11"]).await?.success()?;
    assert!(script.contains("-- CONFLICT `bank`.`account`: id=1 was changed since: balance"), "{script}");
    assert!(script.contains("ROLLBACK; -- it would stop here") && !script.contains("COMMIT"), "{script}");
    let json: serde_json::Value =
        serde_json::from_str(&tool.run(&["show", "x:1", "11", "--json"]).await?.success()?)?;
    let first = &json[0]["tables"][0]["rows"][0];
    assert_eq!(first["verdict"], "conflict");
    assert_eq!(first["columns"], serde_json::json!(["balance"]));
    assert_eq!(first["current"]["balance"], "81.00");

    // A table that is gone, and a row that does not decode, are told and fail.
    sql::run(&mut conn, "ALTER TABLE bank.account DROP COLUMN balance").await?;
    let gone = tool.run(&["show", "x:1", "11"]).await?;
    assert_eq!(gone.code, 1);
    assert!(
        gone.stdout.contains("the current rows can't be read") && gone.stdout.contains("90.00"),
        "{gone:?}"
    );
    sql::run(
        &mut conn,
        "UPDATE bank.undo_log SET rollback_info = CONCAT(rollback_info, 0x1B0A) WHERE branch_id = 11",
    )
    .await?;
    for command in [&["ls"][..], &["show", "x:1"], &["sql", "x:1"]] {
        let output = tool.run(command).await?;
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stdout.contains("its context says"), "{output:?}");
        assert!(output.stderr.contains("1 undo row(s) do not decode"), "{output:?}");
        assert!(!output.stdout.contains('\x1b'));
    }
    assert!(
        tool.run(&["show", "x:1"])
            .await?
            .stdout
            .contains(r#"rollback_info  {"format":"atone-undo""#.replace('"', "\\\"").as_str())
    );

    // By DSN, over TCP and over the socket.
    let dsn = format!("mysql://{}:{}@127.0.0.1:{}/?prefer_socket=false", SERVICE.0, SERVICE.1, tool.port);
    assert_eq!(atone(&["undo", "ls", "--dsn", &dsn]).await?.stdout, tool.run(&["ls"]).await?.stdout);
    let socket = server.socket().display().to_string().replace('/', "%2F");
    let dsn = format!("mysql://{}:{}@localhost/?socket={socket}", SERVICE.0, SERVICE.1);
    assert_eq!(atone(&["undo", "ls", "--dsn", &dsn]).await?.stdout, tool.run(&["ls"]).await?.stdout);
    let wrong = format!("mysql://{}:wrong@127.0.0.1:{}/", SERVICE.0, tool.port);
    let refused = atone(&["undo", "ls", "--dsn", &wrong]).await?;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("does not let us in"), "{}", refused.stderr);
    Ok(())
}

mod undo_logs_are_shown {
    use super::*;

    #[test]
    fn mariadb() {
        run::run_alone(Flavor::MariaDb, super::undo_logs_are_shown(Flavor::MariaDb));
    }

    #[test]
    fn mysql() {
        run::run_alone(Flavor::MySql, super::undo_logs_are_shown(Flavor::MySql));
    }
}

/// `docs/undo-format.md` tells DBAs how to read a record on the server.
async fn servers_read_records(flavor: Flavor) -> Result<()> {
    let server = Server::start(flavor).await?;
    let mut conn = server.admin().await?;
    prepare(&mut conn).await?;
    let value = sql::rows(
        &mut conn,
        "SELECT JSON_VALUE(CONVERT(rollback_info USING utf8mb4), '$.tables[0].rows[0].before.balance') \
         FROM bank.undo_log WHERE log_status = 0 ORDER BY branch_id",
    )
    .await?;
    assert_eq!(value, ["100.00", "90.00"]);
    let rows = sql::rows(
        &mut conn,
        "SELECT u.branch_id, j.id, j.before_balance, j.after_balance FROM bank.undo_log u, \
         JSON_TABLE(CONVERT(u.rollback_info USING utf8mb4), '$.tables[*].rows[*]' COLUMNS (\
         id INT PATH '$.after.id', before_balance DECIMAL(10,2) PATH '$.before.balance', \
         after_balance DECIMAL(10,2) PATH '$.after.balance')) j \
         WHERE u.log_status = 0 AND j.id = 1 ORDER BY u.branch_id",
    )
    .await?;
    assert_eq!(rows, ["10|1|100.00|90.00", "11|1|90.00|80.00"]);
    let whole = sql::rows(
        &mut conn,
        "SELECT CONCAT('format=1;encoding=json;crc32=', LPAD(LOWER(HEX(CRC32(rollback_info))), 8, '0'), ';bytes=', \
         LENGTH(rollback_info)) = context FROM bank.undo_log WHERE log_status = 0",
    )
    .await?;
    assert_eq!(whole, ["1", "1"]);

    sql::run(&mut conn, "DELETE FROM bank.undo_log").await?;
    log_branches(&mut conn, Layout { compress_bytes: 1, part_bytes: usize::MAX }).await?;
    let value = sql::rows(
        &mut conn,
        "SELECT JSON_VALUE(CONVERT(IF(context LIKE '%zlib%', UNCOMPRESS(rollback_info), rollback_info) USING utf8mb4), \
         '$.tables[0].rows[0].before.balance') FROM bank.undo_log WHERE log_status = 0 ORDER BY branch_id",
    )
    .await?;
    assert_eq!(value, ["100.00", "90.00"]);
    let whole = sql::rows(
        &mut conn,
        "SELECT CONCAT('format=2;encoding=json+zlib;crc32=', LPAD(LOWER(HEX(CRC32(rollback_info))), 8, '0'), ';bytes=', \
         UNCOMPRESSED_LENGTH(rollback_info), ';stored=', LENGTH(rollback_info), ';parts=1') = context \
         FROM bank.undo_log WHERE log_status = 0",
    )
    .await?;
    assert_eq!(whole, ["1", "1"]);
    Ok(())
}

mod servers_read_records {
    use super::*;

    #[test]
    fn mariadb() {
        run::run_alone(Flavor::MariaDb, super::servers_read_records(Flavor::MariaDb));
    }

    #[test]
    fn mysql() {
        run::run_alone(Flavor::MySql, super::servers_read_records(Flavor::MySql));
    }
}
