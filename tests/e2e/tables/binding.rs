//! How sessions are bound to global transactions, and the errors that the contract names.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::{ADMIN, APP};
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql};
use mysql_async::prelude::Queryable as _;
use serde_json::json;

atone_tests::shared_tests!(
    spellings,
    joining,
    around_the_proxy,
    the_variable,
    unbinding,
    reset_and_change_user_unbind,
    wide_results,
    hints_bind_one_statement,
    comments_bind_one_statement,
    hints_are_read_in_the_sessions_mode,
    unknown_xid,
    ended_transaction,
    rolled_back_transaction,
    binding_after_unbound_writes,
    binding_inside_a_local_transaction,
    ending_while_unbound,
    starting_while_bound,
    switching_transactions,
    closing_a_session_keeps_the_transaction,
    closing_a_session_drops_its_open_branch,
);

atone_tests::owned_tests!(
    // MySQL has the list of user variables in it
    ClusterOptions { server_options: vec!["--performance-schema=ON".into()], ..ClusterOptions::default() } =>
    sweeping_variables,
);

async fn spellings(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("spellings").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for (start, name, timeout_ms) in [
        ("START GLOBAL TRANSACTION", "", 60_000),
        ("start global transaction;", "", 60_000),
        ("/* hello */ START\tGLOBAL\n TRANSACTION -- bye", "", 60_000),
        ("START GLOBAL TRANSACTION NAME 'it''s one'", "it's one", 60_000),
        ("Start Global Transaction Timeout 7", "", 7_000),
        ("START GLOBAL TRANSACTION NAME 'x' TIMEOUT 9", "x", 9_000),
    ] {
        sql::run(&mut conn, start).await?;
        let xid = sql::xid(&mut conn).await?.with_context(|| format!("{start}: no XID"))?;
        assert!(
            xid.len() <= 128 && xid.chars().all(|c| c.is_ascii_alphanumeric() || ".:_-".contains(c)),
            "{xid}"
        );
        let transaction = c.rest().transaction(&xid).await?;
        assert_eq!(transaction["name"].as_str().unwrap_or_default(), name, "{start}");
        assert_eq!(transaction["timeout_ms"], json!(timeout_ms), "{start}");
        sql::run(&mut conn, "rollback global transaction ;").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    }
    for bad in [
        "START GLOBAL TRANSACTION NAME",
        "START GLOBAL TRANSACTION TIMEOUT 'x'",
        "START GLOBAL TRANSACTION TIMEOUT 0",
        "START GLOBAL TRANSACTION TIMEOUT 99999999999",
        "START GLOBAL TRANSACTION READ ONLY",
        "COMMIT GLOBAL TRANSACTION NOW",
        "START GLOBAL",
    ] {
        let error = sql::refused(&mut conn, bad).await?;
        assert_ne!(error.code, 0, "{bad}");
        assert_eq!(sql::xid(&mut conn).await?, None, "{bad} bound the session");
    }
    Ok(())
}

/// Another session's global transaction is joined, in text and prepared.
async fn joining(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("joining").await?;
    let mut first = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut first).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let before = c.accounts(Bank::One, &schema).await?;
    for (nth, join) in
        ["START GLOBAL TRANSACTION JOIN '{}'", "start /* x */ global\ttransaction join \"{}\";"]
            .iter()
            .enumerate()
    {
        sql::run(&mut conn, join.replace("{}", &xid)).await?;
        assert_eq!(sql::xid(&mut conn).await?, Some(xid.clone()), "{join}");
        sql::run(&mut conn, format!("UPDATE account SET balance = balance - 1 WHERE id = {}", nth + 1))
            .await?;
        sql::run(&mut conn, "SET @atone_xid = NULL").await?;
    }
    let join = conn.prep("START GLOBAL TRANSACTION JOIN ?").await?;
    conn.exec_drop(&join, (xid.as_str(),)).await?;
    assert_eq!(sql::xid(&mut conn).await?, Some(xid.clone()));
    sql::run(&mut conn, "UPDATE account SET balance = balance - 1 WHERE id = 3").await?;
    // As with the SET: the same again, and another one where nothing is open
    conn.exec_drop(&join, (xid.as_str(),)).await?;
    let other = c.rest().begin(json!({})).await?;
    conn.query_drop(format!("START GLOBAL TRANSACTION JOIN '{other}'")).await?;
    assert_eq!(sql::xid(&mut conn).await?, Some(other.clone()));
    let error = sql::refused(&mut conn, "START GLOBAL TRANSACTION JOIN 'nobody:1'").await?;
    error.expect_naming(1397, "XAE04", "nobody:1")?;
    assert_eq!(sql::xid(&mut conn).await?, Some(other), "the binding is as it was");
    for bad in ["JOIN", "JOIN ''", "JOIN NULL", "JOIN 'a' 'b', 'c'", "JOIN x", "JOIN 'x' TIMEOUT 3"] {
        sql::refused(&mut conn, format!("START GLOBAL TRANSACTION {bad}")).await?.expect(1235, "42000")?;
    }
    sql::run(&mut first, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, before);
    let error = sql::refused(&mut conn, format!("START GLOBAL TRANSACTION JOIN '{xid}'")).await?;
    error.expect_naming(1402, "XA100", &xid)?;
    let mut unbound = c.app(Bank::One, &schema).await?;
    sql::run_all(&mut unbound, &["BEGIN", "UPDATE account SET balance = 0 WHERE id = 1"]).await?;
    let late = c.rest().begin(json!({})).await?;
    let error = sql::refused(&mut unbound, format!("START GLOBAL TRANSACTION JOIN '{late}'")).await?;
    error.expect_naming(1400, "XAE09", &late)
}

/// A client on the server's host that asks for the server's socket leaves the proxy by itself: the SET goes through
/// then as any user variable does, and the JOIN is an error.
async fn around_the_proxy(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("around").await?;
    let xid = c.rest().begin(json!({})).await?;
    let mut conn = sql::connect_with(c.app_options(Bank::One, &schema).prefer_socket(true)).await?;
    let set = format!("SET @atone_xid = '{xid}'");
    sql::run_all(&mut conn, &[&set, "UPDATE account SET balance = 7 WHERE id = 1"]).await?;
    let branches = c.rest().transaction(&xid).await?["branches"].as_array().map(Vec::len);
    assert_eq!(branches, Some(0), "the client has stayed with the proxy: this test shows nothing");
    let error = sql::refused(&mut conn, format!("START GLOBAL TRANSACTION JOIN '{xid}'")).await?;
    assert_eq!((error.code, error.message.starts_with("atone:")), (1064, false), "{error:?}");
    Ok(())
}

async fn the_variable(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("variable").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    assert_eq!(sql::rows(&mut conn, "SELECT @atone_xid").await?, ["NULL"]);
    let xid = sql::start_global(&mut conn).await?;
    // An ordinary user variable: it takes part in expressions.
    assert_eq!(
        sql::rows(&mut conn, "SELECT CONCAT(@ATONE_XID, '!'), @atone_xid IS NULL").await?,
        [format!("{xid}!|0")]
    );
    // Binding to the same again changes nothing.
    sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut conn, format!("SET @`atone_xid` := \"{xid}\"")).await?;
    assert_eq!(sql::xid(&mut conn).await?.as_deref(), Some(xid.as_str()));
    sql::run(&mut conn, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    assert_eq!(c.rest().locks(&xid).await?.len(), 1);
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(sql::rows(&mut conn, "SELECT @atone_xid").await?, ["NULL"]);
    Ok(())
}

async fn unbinding(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unbinding").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for unbind in ["SET @atone_xid = NULL", "SET @atone_xid = ''", "set @atone_xid := null"] {
        let xid = sql::start_global(&mut conn).await?;
        sql::run(&mut conn, "UPDATE account SET balance = balance + 1 WHERE id = 1").await?;
        sql::run(&mut conn, unbind).await?;
        // Not captured any more, and not waiting for the lock either: an outsider.
        sql::run(&mut conn, "UPDATE account SET balance = balance + 1 WHERE id = 2").await?;
        assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{unbind}");
        c.rest().commit(&xid).await?.expect(200)?;
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?[..2], ["1|ann|103", "2|bob|103"]);
    // Unbinding ends no local transaction of its own accord: what was written bound stays a branch.
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 0 WHERE id = 3"]).await?;
    match conn.query_drop("SET @atone_xid = NULL").await {
        Ok(()) => sql::run(&mut conn, "COMMIT").await?,
        Err(mysql_async::Error::Server(error)) => {
            assert!(error.message.starts_with("atone:"), "{error:?}");
            sql::run(&mut conn, "COMMIT").await?;
        }
        Err(other) => return Err(other.into()),
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?[2], "3|NULL|0");
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[2], "3|NULL|100");
    Ok(())
}

/// Tools that set each user variable in the list of them to NULL do not mean to leave the global transaction.
async fn sweeping_variables(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.bank_schema("sweeping").await?;
    // Who may read the list
    let mut conn = sql::connect(c.proxy_port(Bank::One), ADMIN, Some(&schema)).await?;
    let lists: &[&str] = match c.flavor() {
        Flavor::MariaDb => &[
            "SELECT variable_name FROM information_schema.user_variables WHERE variable_value IS NOT NULL",
            "SELECT VARIABLE_NAME FROM `information_schema`.`USER_VARIABLES`",
            "SHOW USER_VARIABLES",
        ],
        Flavor::MySql => &[
            "SELECT variable_name FROM performance_schema.user_variables_by_thread WHERE variable_value IS NOT NULL",
            "SELECT CAST(`VARIABLE_NAME` AS CHAR) FROM `performance_schema`.`user_variables_by_thread`",
        ],
    };
    // And what is left of the other variables
    let sweeps: &[(&[&str], &str)] = &[
        (&["SET @a=NULL,@atone_xid=NULL,@b=NULL"], ""),
        (&["SET @atone_xid=NULL"], "1x"),
        (
            &[
                "SET @a = NULL",
                "SHOW WARNINGS",
                "SET @b = NULL",
                "SELECT @@warning_count",
                "SET @atone_xid = NULL",
            ],
            "",
        ),
        (&["SET foreign_key_checks = 1, sql_safe_updates = 0", "SET @b=NULL, @`Atone_Xid` := NULL"], "1"),
    ];
    for list in lists {
        for (sweep, left) in sweeps {
            for open in [false, true] {
                let xid = sql::start_global(&mut conn).await?;
                sql::run(&mut conn, "SET @a = 1, @b = 'x'").await?;
                if open {
                    sql::run_all(
                        &mut conn,
                        &["BEGIN", "UPDATE account SET balance = balance + 1 WHERE id = 1"],
                    )
                    .await?;
                }
                let names: Vec<String> = sql::rows(&mut conn, list).await?;
                assert!(names.iter().any(|name| name.contains("atone_xid")), "{list}: {names:?}");
                sql::run_all(&mut conn, sweep).await.with_context(|| format!("{sweep:?}"))?;
                assert_eq!(sql::xid(&mut conn).await?.as_deref(), Some(xid.as_str()), "{list}: {sweep:?}");
                assert_eq!(&sql::cell(&mut conn, "SELECT CONCAT_WS('', @a, @b)").await?, left, "{sweep:?}");
                sql::run(&mut conn, "UPDATE account SET balance = balance + 1 WHERE id = 2").await?;
                if open {
                    sql::run(&mut conn, "COMMIT").await?;
                }
                assert_eq!(c.rest().locks(&xid).await?.len(), 1 + usize::from(open), "{sweep:?}");
                sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
                c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            }
        }
        // Where it is meant: by '', or after a statement that has nothing to do with the list
        for leave in [
            &["SET @atone_xid = ''"][..],
            &["UPDATE account SET balance = balance WHERE id = 3", "SET @atone_xid = NULL"],
            &["BEGIN", "COMMIT", "SET @a = NULL, @atone_xid = NULL"],
        ] {
            let xid = sql::start_global(&mut conn).await?;
            sql::rows(&mut conn, list).await?;
            sql::run_all(&mut conn, leave).await?;
            assert_eq!(sql::xid(&mut conn).await?, None, "{leave:?}");
            sql::run(&mut conn, "UPDATE account SET balance = balance WHERE id = 2").await?;
            assert!(c.rest().locks(&xid).await?.is_empty());
            c.rest().rollback(&xid).await?.expect(200)?;
        }
    }
    // The same by SQL's own statements
    let list = lists[0];
    let text = "SELECT CONCAT('SET ', GROUP_CONCAT(CONCAT('@`', CONVERT(variable_name USING utf8mb4), '`=NULL'))) INTO @sweep FROM LIST";
    let table = match c.flavor() {
        Flavor::MariaDb => "information_schema.user_variables",
        Flavor::MySql => "performance_schema.user_variables_by_thread",
    };
    let text = text.replace("LIST", table);
    for sweep in [
        &[text.as_str(), "PREPARE x FROM @sweep", "EXECUTE x", "DEALLOCATE PREPARE x"][..],
        &[
            format!("PREPARE x FROM '{list}'").as_str(),
            "EXECUTE x",
            "DEALLOCATE PREPARE x",
            "SET @atone_xid = NULL",
        ],
        &[list, "PREPARE y FROM 'SET @atone_xid = NULL'", "EXECUTE y"],
        &[list, "PREPARE y FROM 'SELECT 1'", "EXECUTE y", "SET @a = NULL, @atone_xid = NULL"],
        &[list, "SAVEPOINT s", "EXECUTE IMMEDIATE 'SET @atone_xid = NULL'"],
    ] {
        if c.flavor() == Flavor::MySql && sweep.iter().any(|statement| statement.contains("IMMEDIATE")) {
            continue;
        }
        let xid = sql::start_global(&mut conn).await?;
        sql::run(&mut conn, "SET @a = 1, @sweep = ''").await?;
        for statement in sweep {
            conn.query_iter(*statement).await.with_context(|| (*statement).to_owned())?.drop_result().await?;
        }
        assert_eq!(sql::xid(&mut conn).await?.as_deref(), Some(xid.as_str()), "{sweep:?}");
        sql::run(&mut conn, "UPDATE account SET balance = balance + 1 WHERE id = 2").await?;
        assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{sweep:?}");
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    }
    // MariaDB's way to lose them all
    if c.flavor() == Flavor::MariaDb {
        let xid = sql::start_global(&mut conn).await?;
        sql::refused(&mut conn, "FLUSH USER_VARIABLES").await?.expect_naming(1235, "42000", &xid)?;
        assert_eq!(sql::xid(&mut conn).await?, Some(xid));
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    }
    Ok(())
}

async fn reset_and_change_user_unbind(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("reset").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for change_user in [false, true] {
        let xid = sql::start_global(&mut conn).await?;
        sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 5 WHERE id = 1"]).await?;
        if change_user {
            let opts = mysql_async::ChangeUserOpts::new()
                .with_user(Some(APP.0.to_owned()))
                .with_pass(Some(APP.1.to_owned()))
                .with_db_name(Some(schema.clone()));
            conn.change_user(opts).await?;
        } else {
            conn.reset().await?;
        }
        assert_eq!(sql::xid(&mut conn).await?, None);
        // The open local transaction was rolled back; nothing is captured any more.
        assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
        sql::run_all(
            &mut conn,
            &["UPDATE account SET balance = 6 WHERE id = 1", "UPDATE account SET balance = 100 WHERE id = 1"],
        )
        .await?;
        assert_eq!(c.rest().transaction(&xid).await?["branches"], json!([]));
        c.rest().rollback(&xid).await?.expect(200)?;
    }
    Ok(())
}

/// What is read beside the application's statements comes in its `character_set_results`, which may have no single
/// bytes for the letters of ASCII.
async fn wide_results(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("wide_results").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let other = c.rest().begin(json!({})).await?;
    for charset in ["utf16", "utf16le", "utf32", "ucs2"] {
        let wide = format!("SET character_set_results = {charset}");
        sql::run(&mut conn, &wide).await?;
        for bind in [
            "START GLOBAL TRANSACTION".to_owned(),
            format!("START GLOBAL TRANSACTION JOIN '{other}'"),
            format!("SET @atone_xid = '{other}'"),
            format!("UPDATE /*+ XID('{other}') */ account SET balance = 0 WHERE id = 1"),
            format!("UPDATE account SET balance = 0 WHERE id = 1 /* xid='{other}' */"),
        ] {
            let refused = sql::refused(&mut conn, &bind).await.with_context(|| bind.clone())?;
            refused.expect(1235, "42000").with_context(|| bind.clone())?;
        }
        sql::run(&mut conn, "SET character_set_results = utf8mb4").await?;
        let xid = sql::start_global(&mut conn).await?;
        sql::run(&mut conn, "UPDATE account SET balance = 5 WHERE id = 2").await?;
        sql::run(&mut conn, &wide).await?;
        for statement in [
            "UPDATE account SET balance = 0 WHERE id = 1",
            "DELETE FROM account",
            "INSERT INTO account VALUES (9, 'x', 1)",
        ] {
            sql::refused(&mut conn, statement).await?.expect_naming(1235, "42000", &xid)?;
        }
        sql::run(&mut conn, "SET character_set_results = utf8mb4").await?;
        sql::run(&mut conn, "UPDATE account SET balance = 6 WHERE id = 3").await?;
        sql::run(&mut conn, &wide).await?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        sql::run(&mut conn, "SET character_set_results = utf8mb4").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    c.rest().rollback(&other).await?.expect(200)?;
    Ok(())
}

async fn hints_bind_one_statement(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("hints").await?;
    let xid = c.rest().begin(json!({})).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, format!("UPDATE /*+ XID('{xid}') */ account SET balance = 1 WHERE id = 1")).await?;
    sql::run(&mut conn, format!("INSERT /*+ xid('{xid}') */ INTO account VALUES (4, 'dee', 4)")).await?;
    conn.exec_drop(format!("DELETE /*+ XID('{xid}') */ FROM account WHERE id = ?"), (3,)).await?;
    assert_eq!(sql::xid(&mut conn).await?, None, "the session itself stays unbound");
    sql::run(&mut conn, "UPDATE account SET balance = 77 WHERE id = 2").await?;
    assert_eq!(c.rest().locks(&xid).await?.len(), 3);
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|77", "3|NULL|100"]);
    let error =
        sql::refused(&mut conn, "UPDATE /*+ XID('nobody:1') */ account SET balance = 1 WHERE id = 1").await?;
    error.expect_naming(1397, "XAE04", "nobody:1")
}

async fn comments_bind_one_statement(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("comments").await?;
    let xid = c.rest().begin(json!({})).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::run(&mut conn, format!("UPDATE account SET balance = 1 WHERE id = 1 /*xid='{xid}'*/")).await?;
    let encoded = xid.replace(':', "%3A");
    sql::run(
        &mut conn,
        format!("DELETE FROM account WHERE id = 2 /* controller='index',xid='{encoded}',route='%2Fx' */"),
    )
    .await?;
    // The whole local transaction that such a statement runs in is the branch.
    sql::run(&mut conn, "BEGIN").await?;
    sql::run(&mut conn, format!("UPDATE account SET balance = 2 WHERE id = 3 /*xid='{xid}'*/")).await?;
    sql::run(&mut conn, "INSERT INTO account VALUES (8, 'x', 1)").await?;
    sql::run(&mut conn, "COMMIT").await?;
    sql::run(&mut conn, "INSERT INTO account VALUES (9, 'x', 1)").await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100", "9|x|1"]);
    Ok(())
}

/// A statement that binds itself is read under the `sql_mode` of its session, as the server reads it.
async fn hints_are_read_in_the_sessions_mode(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("modes").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "CREATE TABLE note (id INT PRIMARY KEY, a VARCHAR(40), b VARCHAR(40))",
            "INSERT INTO note VALUES (1, 'a', 'b')",
        ],
    )
    .await?;
    let rows = async || c.rows(Bank::One, &schema, "SELECT id, HEX(a), HEX(b) FROM note ORDER BY id").await;
    let before = rows().await?;
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02X}")).collect::<String>();
    for (mode, statement, param, after) in [
        (
            "NO_BACKSLASH_ESCAPES",
            r"UPDATE note SET a = 'c:\', b = 'x' WHERE id = 1 /*xid='{xid}'*/",
            None,
            [r"c:\", "x"],
        ),
        (
            "NO_BACKSLASH_ESCAPES",
            r"UPDATE /*+ XID('{xid}') */ note SET a = 'c:\', b = ' x' WHERE id = 1",
            None,
            [r"c:\", " x"],
        ),
        (
            "NO_BACKSLASH_ESCAPES",
            "UPDATE /*+ XID('{xid}') */ note SET a = ? WHERE id = 1",
            Some(r"it's \n"),
            [r"it's \n", "b"],
        ),
        ("ANSI_QUOTES", r#"UPDATE "note" SET "a" = "b" WHERE "id" = 1 /*xid='{xid}'*/"#, None, ["b", "b"]),
        ("ANSI_QUOTES", r#"UPDATE "note" SET "a" = '"' WHERE "id" = 1 /*xid='{xid}'*/"#, None, ["\"", "b"]),
        (
            "ANSI_QUOTES",
            r#"UPDATE "note" SET "b" = ? WHERE "id" = 1 /*xid='{xid}'*/"#,
            Some(r#"\"'"#),
            ["a", r#"\"'"#],
        ),
        ("", r#"UPDATE note SET a = "it's", b = '\'' WHERE id = 1 /*xid='{xid}'*/"#, None, ["it's", "'"]),
    ] {
        let xid = c.rest().begin(json!({})).await?;
        let mut conn = c.app(Bank::One, &schema).await?;
        sql::run(&mut conn, format!("SET sql_mode = '{mode}'")).await?;
        let statement = statement.replace("{xid}", &xid);
        let said = || format!("{mode}: {statement}");
        match param {
            Some(param) => conn.exec_drop(&statement, (param,)).await.with_context(said)?,
            None => sql::run(&mut conn, &statement).await.with_context(said)?,
        }
        assert_eq!(rows().await?, [format!("1|{}|{}", hex(after[0]), hex(after[1]))], "{}", said());
        assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{}", said());
        c.rest().rollback(&xid).await?.expect(200)?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        assert_eq!(rows().await?, before, "{}", said());
    }
    Ok(())
}

async fn unknown_xid(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unknown").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::refused(&mut conn, "SET @atone_xid = 'nobody-knows:1'").await?.expect_naming(
        1397,
        "XAE04",
        "nobody-knows:1",
    )?;
    for bad in ["SET @atone_xid = 'white space'", "SET @atone_xid = 'quo''te'"] {
        sql::refused(&mut conn, bad).await?.expect(1397, "XAE04")?;
    }
    sql::refused(&mut conn, format!("SET @atone_xid = '{}'", "x".repeat(129)))
        .await?
        .expect(1397, "XAE04")?;
    assert_eq!(sql::xid(&mut conn).await?, None);
    sql::run(&mut conn, "UPDATE account SET balance = 1 WHERE id = 1").await
}

async fn ended_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("ended").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = c.rest().begin(json!({})).await?;
    sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
    c.rest().commit(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    sql::refused(&mut conn, "DELETE FROM account").await?.expect_naming(1399, "XAE07", &xid)?;
    assert_eq!(c.accounts(Bank::One, &schema).await?.len(), 3);
    let mut other = c.app(Bank::One, &schema).await?;
    sql::refused(&mut other, format!("SET @atone_xid = '{xid}'")).await?.expect_naming(1399, "XAE07", &xid)
}

async fn rolled_back_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("rolled").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    sql::refused(&mut conn, "COMMIT").await?.expect_naming(1402, "XA100", &xid)?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    let mut other = c.app(Bank::One, &schema).await?;
    sql::refused(&mut other, format!("SET @atone_xid = '{xid}'"))
        .await?
        .expect_naming(1402, "XA100", &xid)?;
    sql::refused(&mut conn, "COMMIT GLOBAL TRANSACTION").await?.expect_naming(1402, "XA100", &xid)?;
    sql::run(&mut conn, "SET @atone_xid = NULL").await?;
    sql::run(&mut conn, "UPDATE account SET balance = 2 WHERE id = 1").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|2");
    Ok(())
}

async fn binding_after_unbound_writes(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("late").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = c.rest().begin(json!({})).await?;
    sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    sql::refused(&mut conn, format!("SET @atone_xid = '{xid}'")).await?.expect(1400, "XAE09")?;
    sql::refused(&mut conn, "START GLOBAL TRANSACTION").await?.expect(1400, "XAE09")?;
    sql::refused(&mut conn, format!("DELETE FROM account WHERE id = 2 /*xid='{xid}'*/"))
        .await?
        .expect(1400, "XAE09")?;
    // The local transaction is untouched by that.
    sql::run(&mut conn, "COMMIT").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|1");
    sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn binding_inside_a_local_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("inside").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = c.rest().begin(json!({})).await?;
    // Read only so far: it may still become a branch.
    sql::run_all(&mut conn, &["BEGIN", "SELECT balance FROM account WHERE id = 1"]).await?;
    sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run_all(&mut conn, &["UPDATE account SET balance = 1 WHERE id = 1", "COMMIT"]).await?;
    assert_eq!(c.rest().locks(&xid).await?.len(), 1);
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    Ok(())
}

async fn ending_while_unbound(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unbound_end").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for statement in ["COMMIT GLOBAL TRANSACTION", "ROLLBACK GLOBAL TRANSACTION"] {
        let error = sql::refused(&mut conn, statement).await?;
        assert!(error.message.starts_with("atone:"), "{error:?}");
    }
    sql::run(&mut conn, "SELECT 1").await
}

async fn starting_while_bound(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("nested").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    let error = sql::refused(&mut conn, "START GLOBAL TRANSACTION").await?;
    error.expect_naming(1400, "XAE09", &xid)?;
    // The first one is as it was.
    assert_eq!(sql::xid(&mut conn).await?.as_deref(), Some(xid.as_str()));
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    Ok(())
}

async fn switching_transactions(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("switch").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let (a, b) = (c.rest().begin(json!({})).await?, c.rest().begin(json!({})).await?);
    for (xid, id) in [(&a, 1), (&b, 2), (&a, 3)] {
        sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
        sql::run(&mut conn, format!("UPDATE account SET balance = 0 WHERE id = {id}")).await?;
    }
    c.rest().rollback(&a).await?.expect(200)?;
    c.rest().commit(&b).await?.expect(200)?;
    c.rest().wait_for_status(&a, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|0", "3|NULL|100"]);
    Ok(())
}

async fn closing_a_session_keeps_the_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("closed").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    conn.disconnect().await?;
    assert_eq!(c.rest().transaction(&xid).await?["status"], "active");
    c.rest().commit(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|1");
    Ok(())
}

async fn closing_a_session_drops_its_open_branch(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("dropped").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    drop(conn);
    // Its row lock goes with the connection.
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "UPDATE account SET balance = 55 WHERE id = 1").await?;
    c.rest().commit(&xid).await?.expect(200)?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|55");
    Ok(())
}
