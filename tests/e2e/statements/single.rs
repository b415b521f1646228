//! Clients that did not ask for several statements in a packet (CLIENT_MULTI_STATEMENTS), as most drivers by default:
//! a `;` in a literal, a comment or a quoted name makes no second statement, and nothing of a bound session reaches
//! the server unread. And what a session must not have when it is bound: table locks, changes that are kept from
//! replicas.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::server::{ADMIN, APP};
use atone_tests::wire::{Compression, Login, Session, caps, error_packet, payload};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;
use serde_json::json;

atone_tests::shared_tests!(
    semicolons_that_end_nothing,
    semicolons_in_refused_statements,
    semicolons_in_statements_for_atone,
    semicolons_in_hinted_statements,
    semicolons_under_other_modes,
    several_statements_are_refused_by_the_server,
    packets_out_of_order,
    hints_in_other_charsets,
    table_locks_before_binding,
    changes_kept_from_replicas,
    procedures_with_cursors,
);

/// A client whose packets hold one statement.
struct Single {
    session: Session,
    what: &'static str,
}

impl Single {
    async fn open(port: u16, account: (&str, &str), schema: &str, capabilities: u64) -> Result<Single> {
        let mut login = Login::new(port, account).schema(schema);
        login.capabilities = capabilities & !caps::MULTI_STATEMENTS;
        let what = if capabilities == caps::MINIMAL { "fewest capabilities" } else { "today's capabilities" };
        Ok(Single { session: Session::open(&login).await?, what })
    }

    /// Each kind of client, through the proxy.
    async fn each(c: &Cluster, schema: &str) -> Result<Vec<Single>> {
        let port = c.proxy_port(Bank::One);
        let mut out = Vec::new();
        for capabilities in [caps::MINIMAL, caps::FULL] {
            out.push(Single::open(port, APP, schema, capabilities).await?);
        }
        Ok(out)
    }

    /// What a statement is answered with: the error's code and message, or nothing.
    async fn run(&mut self, statement: &[u8]) -> Result<Option<(u16, String)>> {
        let query = payload::query(self.session.capabilities, statement, &[]);
        let answer = self.session.conn().command(&query).await?.context("the connection was closed")?;
        let error = error_packet(&answer);
        if error.is_none() {
            ensure!(answer.first() == Some(&0), "{}: rows or worse: {answer:?}", self.what);
        }
        Ok(error)
    }

    async fn ok(&mut self, statement: impl AsRef<[u8]>) -> Result<()> {
        let statement = statement.as_ref();
        let shown = String::from_utf8_lossy(statement).into_owned();
        match self.run(statement).await? {
            None => Ok(()),
            Some(error) => anyhow::bail!("{}: {shown}: {error:?}", self.what),
        }
    }

    async fn fails(&mut self, statement: impl AsRef<[u8]>, code: u16) -> Result<String> {
        let statement = statement.as_ref();
        let shown = String::from_utf8_lossy(statement).into_owned();
        match self.run(statement).await? {
            Some((got, message)) if got == code => Ok(message),
            other => anyhow::bail!("{}: {shown}: expected {code}, got {other:?}", self.what),
        }
    }

    /// Binds the session to a transaction that is begun elsewhere.
    async fn bind(&mut self, c: &Cluster) -> Result<String> {
        let xid = c.rest().begin(json!({})).await?;
        self.ok(format!("SET @atone_xid = '{xid}'")).await?;
        Ok(xid)
    }
}

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

/// Rolls a transaction back, which brings back what was there.
async fn comes_back(c: &Cluster, schema: &str, xid: &str, what: &str) -> Result<()> {
    c.rest().rollback(xid).await?.expect(200)?;
    c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, BEFORE, "{what}");
    Ok(())
}

async fn semicolons_that_end_nothing(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("semicolons").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE `a;b` (id INT PRIMARY KEY, `c;d` VARCHAR(40))").await?;
    for mut client in Single::each(&c, &schema).await? {
        for statement in [
            "UPDATE account SET name = 'Tom &amp; Jerry' WHERE id = 1",
            "UPDATE account SET name = \"a;b\" WHERE id = 1",
            "UPDATE account SET name = 'it''s; \\'x;' WHERE id = 1",
            "UPDATE account /* a;b */ SET balance = 1 WHERE id = 1",
            "UPDATE account SET balance = 1 -- a;b\n WHERE id = 1",
            "UPDATE account SET balance = 1 # a;b\n WHERE id = 1; -- done",
            "UPDATE account SET balance = 1 WHERE id = 1; /* done */ ;",
            "INSERT INTO account VALUES (9, ';', 9)",
            "INSERT INTO `a;b` (id, `c;d`) VALUES (1, 'x'); ",
            "DELETE FROM account WHERE name = 'ann' AND name <> ';'",
            "REPLACE INTO account VALUES (1, 'x;y', 5)",
            "INSERT INTO account VALUES (1, 'x', 5) ON DUPLICATE KEY UPDATE name = ';x'",
        ] {
            let what = format!("{}: {statement}", client.what);
            for local in [false, true] {
                let xid = client.bind(&c).await?;
                if local {
                    client.ok("BEGIN").await?;
                }
                client.ok(statement).await.with_context(|| what.clone())?;
                if local {
                    client.ok("COMMIT").await?;
                }
                assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{what}");
                comes_back(&c, &schema, &xid, &what).await?;
                assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM `a;b`").await?, [""; 0], "{what}");
            }
        }
    }
    Ok(())
}

async fn semicolons_in_refused_statements(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("refused_semicolons").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE PROCEDURE p(x VARCHAR(9)) SELECT x").await?;
    for mut client in Single::each(&c, &schema).await? {
        let xid = client.bind(&c).await?;
        for statement in [
            "TRUNCATE /*;*/ account",
            "DROP TABLE/*;*/account",
            "CREATE TABLE n (id INT /* ; */)",
            "ALTER TABLE account COMMENT = ';'",
            "CALL p(';')",
            "CREATE PROCEDURE p() BEGIN DELETE FROM account; DELETE FROM account; END",
        ] {
            let error = client.run(statement.as_bytes()).await?;
            let refused =
                error.as_ref().is_some_and(|(code, text)| *code == 1235 && text.starts_with("atone:"));
            assert!(refused, "{}: {statement}: {error:?}", client.what);
        }
        // What the server would not run either is for the server to explain
        client.fails("DELETE /*;*/ FROM account; /*!50000 , */", 1064).await?;
        assert_eq!(c.rest().locks(&xid).await?.len(), 0);
        comes_back(&c, &schema, &xid, client.what).await?;
    }
    Ok(())
}

async fn semicolons_in_statements_for_atone(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("atone_semicolons").await?;
    for mut client in Single::each(&c, &schema).await? {
        client.ok("START GLOBAL TRANSACTION NAME 'a;b'").await?;
        client.ok("UPDATE account SET balance = 1 WHERE id = 1").await?;
        client.ok("COMMIT GLOBAL TRANSACTION /* a;b */").await?;
        client.ok("UPDATE account SET balance = 100 WHERE id = 1").await?;
        for binds in [
            "SET @atone_xid = 'XID' /* a;b */",
            "SET @atone_xid = 'XID' -- ;x",
            "SET @`atone_xid` := 'XID'; # ;",
        ] {
            let xid = c.rest().begin(json!({})).await?;
            client.ok(binds.replace("XID", &xid)).await?;
            client.ok("UPDATE account SET balance = 1 WHERE id = 1").await?;
            assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{}: {binds}", client.what);
            client.ok("SET @atone_xid = NULL /* ; x */").await?;
            comes_back(&c, &schema, &xid, binds).await?;
        }
    }
    Ok(())
}

async fn semicolons_in_hinted_statements(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("hinted_semicolons").await?;
    for mut client in Single::each(&c, &schema).await? {
        for statement in [
            "UPDATE /*+ XID('~') */ account SET name = 'a;b' WHERE id = 1",
            "UPDATE account SET name = 'a;b' WHERE id = 1 /*a=';',xid='~'*/",
            "UPDATE account SET balance = 1 /* ; */ WHERE id = 1 /*xid='~'*/",
        ] {
            let xid = c.rest().begin(json!({})).await?;
            client.ok(statement.replace('~', &xid)).await?;
            assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{}: {statement}", client.what);
            comes_back(&c, &schema, &xid, statement).await?;
        }
        let xid = c.rest().begin(json!({})).await?;
        let several = format!("UPDATE /*+ XID('{xid}') */ account SET balance = 1; DELETE FROM account");
        client.fails(&several, 1064).await?;
        comes_back(&c, &schema, &xid, &several).await?;
    }
    Ok(())
}

async fn semicolons_under_other_modes(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("mode_semicolons").await?;
    for mut client in Single::each(&c, &schema).await? {
        for (mode, statement, fails) in [
            ("ANSI_QUOTES", "UPDATE account SET \"name\" = 'a;b' WHERE id = 1", 0),
            ("NO_BACKSLASH_ESCAPES", "UPDATE account SET name = 'a\\' WHERE name <> ';' AND id = 1", 0),
            ("", "UPDATE account SET name = 'a\\' WHERE name <> ;' WHERE id = 1", 0),
            // One text in a mode with escapes, several statements in one without
            (
                "NO_BACKSLASH_ESCAPES",
                "UPDATE account SET name = 'a\\' WHERE id = 1; DELETE FROM account -- '",
                1064,
            ),
        ] {
            client.ok(format!("SET SESSION sql_mode = '{mode}'")).await?;
            let xid = client.bind(&c).await?;
            if fails == 0 {
                client.ok(statement).await?;
                assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{}: {statement}", client.what);
            } else {
                client.fails(statement, fails).await?;
            }
            comes_back(&c, &schema, &xid, statement).await?;
        }
    }
    Ok(())
}

async fn several_statements_are_refused_by_the_server(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("several_of_single").await?;
    for capabilities in [caps::MINIMAL, caps::FULL] {
        let mut straight = Single::open(c.server(Bank::One).port(), APP, &schema, capabilities).await?;
        let mut client = Single::open(c.proxy_port(Bank::One), APP, &schema, capabilities).await?;
        for statement in [
            "SELECT 1; SELECT 2",
            "UPDATE account SET balance = 1 WHERE id = 1; DELETE FROM account",
            "DELETE FROM account;\nTRUNCATE account; DROP TABLE account",
            "SET @a = ';'; DELETE FROM account",
            "BEGIN; DELETE FROM account; COMMIT",
        ] {
            let expected = straight.fails(statement, 1064).await?;
            assert_eq!(client.fails(statement, 1064).await?, expected, "{statement}, unbound");
            let xid = client.bind(&c).await?;
            // The session has had several statements of the proxy's own in a packet by then
            client.ok("UPDATE account SET balance = 5 WHERE id = 2").await?;
            assert_eq!(client.fails(statement, 1064).await?, expected, "{statement}, bound");
            client.ok("SET @atone_xid = NULL").await?;
            assert_eq!(client.fails(statement, 1064).await?, expected, "{statement}, unbound again");
            comes_back(&c, &schema, &xid, statement).await?;
        }
    }
    Ok(())
}

async fn packets_out_of_order(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("out_of_order").await?;
    for compression in [Compression::None, Compression::Zlib] {
        let mut login = Login::new(c.proxy_port(Bank::One), APP).schema(&schema).minimal();
        login.compression = compression;
        let mut client = Single { session: Session::open(&login).await?, what: "out of order" };
        let xid = client.bind(&c).await?;
        let conn = client.session.conn();
        conn.restart(0);
        conn.send(5, b"\x03DELETE FROM account").await?;
        let (_, answer) = conn.read().await?.context("no answer")?;
        if compression == Compression::None {
            assert_eq!(error_packet(&answer).map(|(code, _)| code), Some(1156));
            ensure!(conn.read().await?.is_none(), "the connection goes on");
        } else {
            // Only the numbers of compressed packets count: a command as any other
            assert_eq!((error_packet(&answer), c.rest().locks(&xid).await?.len()), (None, 3));
        }
        comes_back(&c, &schema, &xid, "out of order").await?;
    }
    Ok(())
}

async fn hints_in_other_charsets(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("charsets").await?;
    for mut client in Single::each(&c, &schema).await? {
        client.ok("SET NAMES gbk").await?;
        let xid = c.rest().begin(json!({})).await?;
        // Nothing of Atone's in it
        client.ok(b"UPDATE account SET name = '\xbf\x5c' WHERE id = 3 /* x */").await?;
        client.ok("UPDATE account SET name = NULL WHERE id = 3").await?;
        // The second byte of 縗 is a backslash: as ASCII, the quote after it would not end the text
        let mut statement = b"UPDATE account SET name = '\xbf\x5c' WHERE id = 1 /*xid='".to_vec();
        statement.extend_from_slice(format!("{xid}'*/").as_bytes());
        client.ok(&statement).await?;
        let mut statement = b"SET @n = '\xbf\x5c', @atone_xid = '".to_vec();
        statement.extend_from_slice(format!("{xid}'").as_bytes());
        client.ok(&statement).await?;
        client.ok(b"UPDATE account SET name = '\xbf\x5c;' WHERE id = 2").await?;
        let branches = c.rest().transaction(&xid).await?["branches"].as_array().map(Vec::len);
        assert_eq!(branches, Some(2), "{}", client.what);
        comes_back(&c, &schema, &xid, client.what).await?;
    }
    Ok(())
}

async fn table_locks_before_binding(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("table_locks").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let mut other = c.direct(Bank::One, &schema).await?;
    sql::run(&mut other, "SET lock_wait_timeout = 1").await?;
    let mut takes = vec![
        "LOCK TABLES account WRITE".to_owned(),
        "/* x */ lock table account read".to_owned(),
        "SELECT 1; LOCK TABLES account WRITE".to_owned(),
    ];
    if c.flavor() == Flavor::MariaDb {
        // MySQL prepares no such statement
        sql::run(&mut conn, "PREPARE s FROM 'LOCK TABLES account WRITE'").await?;
        takes.push("EXECUTE s".to_owned());
    }
    for take in &takes {
        let xid = c.rest().begin(json!({})).await?;
        sql::run(&mut conn, take).await?;
        for bind in [
            format!("SET @atone_xid = '{xid}'"),
            "START GLOBAL TRANSACTION".to_owned(),
            format!("UPDATE /*+ XID('{xid}') */ account SET balance = 1 WHERE id = 1"),
            format!("SET @a = 1, @atone_xid = '{xid}'"),
        ] {
            let error = sql::refused(&mut conn, &bind).await?;
            assert_eq!(error.code, 1192, "{take}, {bind}: {error:?}");
            assert_eq!(sql::rows(&mut conn, "SELECT @atone_xid").await?, ["NULL"], "{take}, {bind}");
            // They are held still
            let held = other.query_drop("UPDATE account SET balance = 100 WHERE id = 1").await;
            assert!(held.is_err(), "{take}, {bind}");
        }
        sql::run(&mut conn, "UNLOCK TABLES").await?;
        sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
        sql::run(&mut conn, "UPDATE account SET balance = 1 WHERE id = 1").await?;
        sql::run(&mut conn, "SET @atone_xid = NULL").await?;
        comes_back(&c, &schema, &xid, take).await?;
    }
    // What releases them by itself, or never had them
    for statements in [
        vec!["LOCK TABLES account WRITE", "START TRANSACTION", "COMMIT"],
        vec!["LOCK TABLES account WRITE", "UNLOCK TABLES"],
        vec!["SELECT 'LOCK TABLES account WRITE'"],
        vec!["PREPARE t FROM 'SELECT 1'", "EXECUTE t"],
    ] {
        sql::run_all(&mut conn, &statements).await?;
        sql::start_global(&mut conn).await?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    }
    sql::run(&mut conn, "LOCK TABLES account WRITE").await?;
    conn.reset().await?;
    sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    Ok(())
}

async fn changes_kept_from_replicas(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("replicas").await?;
    let mut conn = sql::connect(c.proxy_port(Bank::One), ADMIN, Some(&schema)).await?;
    let mut variables = vec![("sql_log_bin", "1", ["0", "OFF", "1 - 1", "@@foreign_key_checks - 1"])];
    if c.flavor() == Flavor::MariaDb {
        variables.push(("skip_replication", "0", ["1", "ON", "0 + 1", "@@foreign_key_checks"]));
    }
    for (name, usual, others) in variables {
        for other in others {
            let xid = sql::start_global(&mut conn).await?;
            for set in [format!("SET SESSION {name} = {other}"), format!("SET @a = 1, @@{name} := {other}")] {
                let error = sql::refused(&mut conn, &set).await?;
                assert_eq!(error.code, 1235, "{set}: {error:?}");
            }
            sql::run(&mut conn, format!("SET SESSION {name} = {usual}")).await?;
            sql::run(&mut conn, "UPDATE account SET balance = 1 WHERE id = 1").await?;
            sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            // Unbound it may be set, and then keeps from binding
            sql::run(&mut conn, format!("SET SESSION {name} = {other}")).await?;
            let xid = c.rest().begin(json!({})).await?;
            for bind in [
                format!("SET @atone_xid = '{xid}'"),
                "START GLOBAL TRANSACTION".to_owned(),
                format!("UPDATE /*+ XID('{xid}') */ account SET balance = 1 WHERE id = 1"),
            ] {
                let error = sql::refused(&mut conn, &bind).await?;
                assert_eq!(error.code, 1235, "{name} = {other}, {bind}: {error:?}");
                assert!(error.message.contains(name), "{error:?}");
                assert_eq!(sql::rows(&mut conn, "SELECT @atone_xid").await?, ["NULL"], "{bind}");
            }
            sql::run(&mut conn, format!("SET SESSION {name} = {usual}")).await?;
            comes_back(&c, &schema, &xid, other).await?;
        }
    }
    Ok(())
}

/// Procedures with cursors of their own set the flag of a cursor in results that are none; and what a procedure makes
/// of an error after a result's definitions is followed by the client or by nobody.
async fn procedures_with_cursors(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("cursors").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE PROCEDURE p() BEGIN DECLARE n INT; DECLARE cur CURSOR FOR SELECT id FROM account; OPEN cur; FETCH cur INTO n; \
             SELECT n; SELECT id, name FROM account; CLOSE cur; END",
            "CREATE PROCEDURE h() BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; \
             SELECT (SELECT id FROM account WHERE id >= a.id) FROM account a ORDER BY id DESC; SELECT 7; END",
        ],
    )
    .await?;
    for capabilities in [caps::MINIMAL, caps::FULL & !caps::DEPRECATE_EOF, caps::FULL] {
        for call in ["CALL p()", "CALL h()"] {
            let mut replies = Vec::new();
            for port in [c.server(Bank::One).port(), c.proxy_port(Bank::One)] {
                let mut login = Login::new(port, APP).schema(&schema);
                login.capabilities =
                    (capabilities | caps::PS_MULTI_RESULTS | caps::MULTI_RESULTS) & !caps::COMPRESS;
                let mut session = Session::open(&login).await?;
                let query = payload::query(session.capabilities, call.as_bytes(), &[]);
                session.send(&query).await?;
                // What it is answered with is over where the server answers something else
                let last = payload::query(session.capabilities, b"SELECT 'the end' FROM account", &[]);
                let mut packets = Vec::new();
                let conn = session.conn();
                conn.send(0, &last).await?;
                let mut ends = 0;
                while ends < 3 {
                    let (seq, _, packet) = conn.read_whole().await?.context("the connection was closed")?;
                    ends += usize::from(packet == b"\x07the end");
                    packets.push((seq, packet));
                }
                replies.push(packets);
            }
            assert_eq!(replies[0], replies[1], "{call}, {capabilities:x}");
        }
    }
    Ok(())
}
