//! Each variable that could bend what is read or written, set globally; then a branch of 80 rows that is rolled back,
//! and one that is committed.

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::effects::q;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql, wait};
use mysql_async::Conn;
use serde_json::Value;

atone_tests::owned_tests!(ClusterOptions::default() => each_variable, large_joins, what_init_connect_sets, hidden_keys,
    autocommit_off_from_the_start);

/// A variable, its value, and what an application has to set in order to write at all.
type Bent = (&'static str, &'static str, Option<&'static str>);

const BOTH: &[Bent] = &[
    ("sql_select_limit", "12", None),
    ("sql_select_limit", "1", None),
    ("max_join_size", "1", Some("SET SESSION sql_big_selects = 1")),
    ("autocommit", "0", None),
    ("completion_type", "'CHAIN'", None),
    ("completion_type", "'RELEASE'", None),
    ("sql_mode", "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES'", None),
    ("group_concat_max_len", "4", None),
    ("max_sort_length", "64", None),
    ("sql_notes", "0", None),
    ("max_error_count", "0", None),
    ("time_zone", "'-11:00'", None),
    ("foreign_key_checks", "1", None),
];

const MARIADB: &[Bent] = &[
    ("tx_read_only", "ON", Some("SET SESSION TRANSACTION READ WRITE")),
    ("tx_isolation", "'SERIALIZABLE'", None),
    ("tx_isolation", "'READ-UNCOMMITTED'", None),
    ("sql_quote_show_create", "0", None),
    ("sql_safe_updates", "1", None),
    ("sql_auto_is_null", "1", None),
    ("old_mode", "'ZERO_DATE_TIME_CAST,UTF8_IS_UTF8MB3'", None),
    ("in_predicate_conversion_threshold", "2", None),
    ("innodb_snapshot_isolation", "1", None),
];

const MYSQL: &[Bent] = &[
    ("transaction_read_only", "ON", Some("SET SESSION TRANSACTION READ WRITE")),
    ("transaction_isolation", "'SERIALIZABLE'", None),
    ("transaction_isolation", "'READ-UNCOMMITTED'", None),
    ("range_optimizer_max_mem_size", "1", None),
    ("sql_require_primary_key", "1", None),
    ("sql_generate_invisible_primary_key", "1", None),
    ("information_schema_stats_expiry", "0", None),
];

const ROWS: &str = "SELECT * FROM t ORDER BY id";
/// How many rows the statements change.
const CHANGED: u64 = 80;

/// Tables on both servers, and sessions that were there before a variable was bent.
struct Before {
    schema: String,
    one: Conn,
    other: Conn,
}

impl Before {
    async fn of(c: &Cluster) -> Result<Before> {
        let schema = c.schema("globals").await?;
        let mut out = Before {
            one: c.server(Bank::One).admin().await?,
            other: c.server(Bank::Two).admin().await?,
            schema,
        };
        let rows: Vec<String> = (1..=40).map(|id| format!("({id}, {id}, 'row {id}')")).collect();
        for conn in [&mut out.one, &mut out.other] {
            sql::run(conn, format!("USE {}", out.schema)).await?;
            sql::run(conn, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))").await?;
            sql::run(conn, format!("INSERT INTO t VALUES {}", rows.join(","))).await?;
        }
        Ok(out)
    }

    async fn set(&mut self, variable: &str, value: &str) -> Result<()> {
        for conn in [&mut self.one, &mut self.other] {
            sql::run(conn, format!("SET GLOBAL {variable} = {value}")).await?;
        }
        Ok(())
    }

    /// Runs statements bound and straight, compares what a client sees, and ends the global transaction; `Some` with
    /// its XID where they have changed all that they were to change.
    async fn branch(&mut self, c: &Cluster, fix: Option<&str>, end: &str) -> Result<bool> {
        let mut bound = c.app(Bank::One, &self.schema).await?;
        let mut plain = c.direct(Bank::Two, &self.schema).await?;
        if let Some(fix) = fix {
            sql::run(&mut bound, fix).await?;
            sql::run(&mut plain, fix).await?;
        }
        let before = sql::rows(&mut self.one, ROWS).await?;
        let xid = c.rest().begin(serde_json::json!({})).await?;
        sql::run(&mut bound, format!("SET @atone_xid = '{xid}'")).await?;
        let rows: Vec<String> = (101..=140).map(|id| format!("({id}, {id}, 'new {id}')")).collect();
        for statement in [
            "BEGIN".to_owned(),
            format!("INSERT INTO t VALUES {}", rows.join(",")),
            "UPDATE t SET v = v + 1000 WHERE id <= 30".to_owned(),
            "DELETE FROM t WHERE id BETWEEN 31 AND 40".to_owned(),
            "COMMIT".to_owned(),
        ] {
            let (one, other) = (q(&statement).run(&mut bound).await?, q(&statement).run(&mut plain).await?);
            ensure!(one == other, "{statement}\nbound:    {one:?}\nstraight: {other:?}");
        }
        let (one, other) = (sql::rows(&mut self.one, ROWS).await?, sql::rows(&mut self.other, ROWS).await?);
        ensure!(one == other, "the rows differ\nbound:    {one:?}\nstraight: {other:?}");
        let all = one != before && one.len() == 70;
        if all {
            self.command_line(c, &xid).await?;
        }
        let (status, after) = if end == "commit" {
            c.rest().commit(&xid).await?.expect(200)?;
            ("committed", one)
        } else {
            c.rest().rollback(&xid).await?.expect(200)?;
            ("rolled_back", before.clone())
        };
        c.rest().wait_for_status(&xid, status, SOON).await?;
        let found = sql::rows(&mut self.one, ROWS).await?;
        ensure!(found == after, "after the {end}\nexpected: {after:?}\nfound:    {found:?}");
        self.purged().await?;
        for conn in [&mut self.one, &mut self.other] {
            let back = "UPDATE t SET v = id";
            let rows: Vec<String> = (31..=40).map(|id| format!("({id}, {id}, 'row {id}')")).collect();
            sql::run(conn, "DELETE FROM t WHERE id > 100").await?;
            sql::run(conn, format!("INSERT IGNORE INTO t VALUES {}", rows.join(","))).await?;
            sql::run(conn, back).await?;
        }
        Ok(all)
    }

    async fn purged(&mut self) -> Result<()> {
        let there = sql::cell(
            &mut self.one,
            format!(
                "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'undo_log'",
                self.schema
            ),
        )
        .await?;
        if there == "0" {
            return Ok(());
        }
        let one = tokio::sync::Mutex::new(&mut self.one);
        wait::until("the undo_log is purged", SOON, || async {
            let left =
                sql::cell(*one.lock().await, "SELECT COUNT(*) FROM undo_log WHERE log_status <> 1").await?;
            Ok((left == "0").then_some(()))
        })
        .await
    }

    /// What the command line says of a branch that would be rolled back.
    async fn command_line(&self, c: &Cluster, xid: &str) -> Result<()> {
        let said = c.atone_undo(Bank::One, &["sql", xid, "--json"]).await?.success()?;
        let said: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let tables = said["branches"][0]["tables"].as_array().with_context(|| said.to_string())?;
        let statements = tables.iter().flat_map(|table| table["statements"].as_array().into_iter().flatten());
        let rows: u64 = statements.filter_map(|statement| statement["rows"].as_u64()).sum();
        ensure!(rows == CHANGED && said["branches"][0]["obstacle"].is_null(), "{said}");
        let shown = c.atone_undo(Bank::One, &["show", xid, "--json"]).await?.success()?;
        ensure!(!shown.contains("conflict") || shown.contains("\"conflicts\":0"), "{shown}");
        Ok(())
    }

    async fn both_ends(&mut self, c: &Cluster, fix: Option<&str>) -> Result<bool> {
        let all = self.branch(c, fix, "rollback").await?;
        Ok(self.branch(c, fix, "commit").await? && all)
    }
}

async fn each_variable(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let mut before = Before::of(&c).await?;
    let more = if c.flavor() == Flavor::MariaDb { MARIADB } else { MYSQL };
    for (variable, value, fix) in BOTH.iter().chain(more) {
        let what = || format!("{variable} = {value}, {fix:?}");
        let was = sql::cell(&mut before.one, format!("SELECT @@global.{variable}")).await?;
        before.set(variable, value).await.with_context(what)?;
        // A session that is there keeps what it has
        c.proxy.restart().await.with_context(what)?;
        let all = before.both_ends(&c, *fix).await.with_context(what)?;
        ensure!(all, "{}: not all was changed", what());
        let was = if was.parse::<u64>().is_ok() { was } else { format!("'{was}'") };
        before.set(variable, &was).await.with_context(what)?;
    }
    Ok(())
}

/// The limit holds for the reads before a statement as for the application's own: an error, and nothing has run.
async fn large_joins(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("joins").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["UPDATE account SET balance = 1 WHERE id = 1", "SET SESSION max_join_size = 1"])
        .await?;
    let error = sql::refused(&mut app, "UPDATE account SET balance = balance + 1").await?;
    ensure!(error.code == 1104, "{error:?}");
    ensure!(c.accounts(Bank::One, &schema).await? == ["1|ann|1", "2|bob|100", "3|NULL|100"]);
    sql::run(&mut app, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(c.accounts(Bank::One, &schema).await? == ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn what_init_connect_sets(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let mut before = Before::of(&c).await?;
    for set in [
        "SET SESSION sql_select_limit = 3, SESSION autocommit = 0, SESSION timestamp = 86400",
        "SET SESSION sql_big_selects = 1, SESSION sql_quote_show_create = 0, SESSION sql_auto_is_null = 1, \
         SESSION foreign_key_checks = 1, SESSION time_zone = '+09:00', SESSION sql_mode = 'ANSI'",
    ] {
        before.set("init_connect", &format!("'{}'", set.replace('\'', "''"))).await?;
        c.proxy.restart().await?;
        ensure!(before.both_ends(&c, None).await.context(set)?, "{set}: not all was changed");
    }
    Ok(())
}

/// MySQL hides the keys that it has generated by itself.
async fn hidden_keys(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    if c.flavor() == Flavor::MariaDb {
        return Ok(());
    }
    let schema = c.schema("hidden").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run_all(
        &mut admin,
        &[
            &format!("USE {schema}"),
            "SET SESSION sql_generate_invisible_primary_key = 1",
            "CREATE TABLE g (v INT NOT NULL)",
            "INSERT INTO g VALUES (1), (2), (3)",
            "SET GLOBAL show_gipk_in_create_table_and_information_schema = 0",
        ],
    )
    .await?;
    c.proxy.restart().await?;
    let rows = "SELECT my_row_id, v FROM g ORDER BY 1";
    let before = sql::rows(&mut admin, rows).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["DELETE FROM g WHERE v = 2", "ROLLBACK GLOBAL TRANSACTION"]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    let after = sql::rows(&mut admin, rows).await?;
    ensure!(after == before, "expected: {before:?}\nfound:    {after:?}");
    Ok(())
}

/// A session that has autocommit off from the global variable, which MySQL does not tell in its status flags: what it
/// changes is of one local transaction, up to any of its ends.
async fn autocommit_off_from_the_start(c: Harmable) -> Result<()> {
    const READ: &str = "SELECT v FROM t ORDER BY id";
    let mut c = c.lock().await;
    let schema = c.schema("off").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    let begin = [&format!("USE {schema}"), "CREATE TABLE t (id INT PRIMARY KEY, v INT)"];
    sql::run_all(&mut admin, &begin).await?;
    sql::run_all(&mut admin, &["INSERT INTO t VALUES (1, 1), (2, 2)", "SET GLOBAL autocommit = 0"]).await?;
    c.proxy.restart().await?;
    for renewed in ["new", "reset", "changed"] {
        for (end, commits) in [
            ("SET autocommit = 1", true),
            ("SET SESSION autocommit = ON", true),
            ("SET @@session.autocommit = 1, sql_mode = 'ANSI_QUOTES'", true),
            ("COMMIT", true),
            ("BEGIN", true),
            ("ROLLBACK", false),
        ] {
            let what = || format!("a {renewed} session, {end}");
            let mut app = c.app(Bank::One, &schema).await?;
            match renewed {
                "reset" => ensure!(app.reset().await?, "COM_RESET_CONNECTION is not supported"),
                "changed" => {
                    let same = mysql_async::ChangeUserOpts::default().with_db_name(Some(schema.clone()));
                    app.change_user(same).await?;
                }
                _ => {}
            }
            let xid = sql::start_global(&mut app).await.with_context(what)?;
            let changes =
                ["UPDATE t SET v = v + 10", "SELECT * FROM t", "UPDATE t SET v = v + 10 WHERE id = 1"];
            sql::run_all(&mut app, &changes).await?;
            ensure!(sql::rows(&mut admin, READ).await? == ["1", "2"], "{}: committed too early", what());
            sql::run(&mut app, end).await.with_context(what)?;
            let expected = if commits { ["21", "12"] } else { ["1", "2"] };
            ensure!(sql::rows(&mut admin, READ).await? == expected, "{}: what it has committed", what());
            let quoted = if end.contains("ANSI") { "\"t\"" } else { "t" };
            sql::run(&mut app, format!("DELETE FROM {quoted} WHERE id = 2")).await.with_context(what)?;
            let expected = match (commits, end.starts_with("SET")) {
                (_, true) => &["21"][..],
                (true, false) => &["21", "12"],
                (false, false) => &["1", "2"],
            };
            ensure!(
                sql::rows(&mut admin, READ).await? == expected,
                "{}: what it has committed behind it",
                what()
            );
            sql::run_all(&mut app, &["ROLLBACK", "ROLLBACK GLOBAL TRANSACTION"]).await.with_context(what)?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            ensure!(sql::rows(&mut admin, READ).await? == ["1", "2"], "{}: it was not put back", what());
        }
    }
    Ok(())
}
