//! Several statements in one packet: each is treated on its own, and the reply looks as the server's own.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row};

atone_tests::shared_tests!(
    results_in_a_bound_session,
    one_packet_from_begin_to_end,
    rolled_back_by_another_packet,
    an_error_ends_the_packet,
    a_refusal_ends_the_packet,
    hints_in_a_packet,
    a_mode_set_within_the_packet,
    bodies_stay_whole,
    unbound_packets_stay_whole,
);

/// What each statement of a packet is answered with.
async fn results(conn: &mut Conn, packet: &str) -> Result<Vec<String>> {
    // The driver does not tell an OK at the end from no result at all
    let packet = format!("{packet}; SELECT 'end'");
    let mut out = Vec::new();
    let mut result = conn.query_iter(&packet).await.with_context(|| packet.clone())?;
    while !result.is_empty() {
        let ok =
            format!("{} {} {}", result.affected_rows(), result.last_insert_id().unwrap_or(0), result.info());
        let has_rows = result.columns().is_some_and(|columns| !columns.is_empty());
        let rows: Vec<Row> = result.collect().await.with_context(|| packet.clone())?;
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let cells = (0..row.len()).map(|i| row.as_ref(i).map(sql::text).unwrap_or_default());
                cells.collect::<Vec<_>>().join("|")
            })
            .collect();
        out.push(if has_rows { rows.join(" ") } else { ok });
    }
    assert_eq!(out.pop().as_deref(), Some("end"), "{packet}: {out:?}");
    Ok(out)
}

const PACKET: &str = "SELECT 1; UPDATE account SET balance = balance + 1 WHERE id < 3; \
     INSERT INTO account VALUES (7, 'x;y', 7); SELECT id, name FROM account ORDER BY id; \
     DELETE FROM account WHERE id = 7; SELECT ROW_COUNT();;";

async fn results_in_a_bound_session(c: Arc<Cluster>) -> Result<()> {
    let (plain, bound) = (c.bank_schema("plain").await?, c.bank_schema("several").await?);
    let packet = PACKET.trim_end_matches(';');
    for around in ["", "BEGIN"] {
        let mut direct = c.direct(Bank::One, &plain).await?;
        let mut app = c.app(Bank::One, &bound).await?;
        sql::start_global(&mut app).await?;
        if !around.is_empty() {
            sql::run(&mut direct, around).await?;
            sql::run(&mut app, around).await?;
        }
        let expected = results(&mut direct, packet).await?;
        assert_eq!(expected.len(), 6);
        assert_eq!(results(&mut app, packet).await?, expected, "{around}");
        if !around.is_empty() {
            sql::run(&mut direct, "COMMIT").await?;
        }
        sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
        assert_eq!(c.accounts(Bank::One, &bound).await?, c.accounts(Bank::One, &plain).await?);
    }
    Ok(())
}

async fn one_packet_from_begin_to_end(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("whole").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let all = "UPDATE account SET balance = 1 WHERE id = 1; START GLOBAL TRANSACTION NAME 'a;b'; \
               UPDATE account SET balance = 2 WHERE id = 2; SELECT @atone_xid; COMMIT GLOBAL TRANSACTION; \
               UPDATE account SET balance = 3 WHERE id = 3; SELECT @atone_xid IS NULL";
    let answers = results(&mut conn, all).await?;
    assert_eq!(answers.len(), 7, "{answers:?}");
    assert_eq!(answers[6], "1");
    let transaction = c.rest().transaction(&answers[3]).await?;
    assert_eq!(
        (transaction["name"].as_str(), transaction["status"].as_str()),
        (Some("a;b"), Some("committed"))
    );
    assert_eq!(transaction["branches"].as_array().map(Vec::len), Some(1));
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|2", "3|NULL|3"]);
    Ok(())
}

async fn rolled_back_by_another_packet(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("undone").await?;
    let before = c.accounts(Bank::One, &schema).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    results(
        &mut conn,
        "BEGIN; UPDATE account SET balance = 0; SAVEPOINT s; DELETE FROM account; ROLLBACK TO s; COMMIT; \
         INSERT INTO account VALUES (9, 'new', 9)",
    )
    .await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?.len(), 4);
    results(&mut conn, "SELECT 1; ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, before);
    Ok(())
}

async fn an_error_ends_the_packet(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("failing").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    let error = sql::refused(
        &mut conn,
        "UPDATE account SET balance = 5 WHERE id = 1; INSERT INTO account VALUES (1, 'dup', 0); \
         UPDATE account SET balance = 5 WHERE id = 2",
    )
    .await?;
    assert_eq!((error.code, error.state.as_str()), (1062, "23000"));
    // The connection is in step: each further statement has its own answer
    assert_eq!(results(&mut conn, "SELECT 4; SELECT 5").await?, ["4", "5"]);
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|5", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn a_refusal_ends_the_packet(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("refusing").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    for refused in [
        "UPDATE account SET balance = balance + 1 WHERE id = 1; DROP TABLE account; DELETE FROM account",
        "SELECT 1; UPDATE account SET balance = 9 /*! ; DELETE FROM account */; DELETE FROM account",
        "SELECT 1; CREATE PROCEDURE p() BEGIN DELETE FROM account; END",
    ] {
        sql::refused(&mut conn, refused).await?.expect_naming(1235, "42000", &xid)?;
    }
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|101", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn hints_in_a_packet(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("hinted").await?;
    let xid = c.rest().begin(serde_json::json!({})).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    results(
        &mut conn,
        &format!(
            "UPDATE account SET balance = 1 WHERE id = 1; UPDATE /*+ XID('{xid}') */ account SET balance = 2 WHERE id = 2; \
             UPDATE account SET balance = 3 WHERE id = 3 /* xid='{xid}' */; SELECT 1"
        ),
    )
    .await?;
    c.rest().rollback(&xid).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn a_mode_set_within_the_packet(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("modes").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    // After the SET a backslash is no escape, so that the next string ends before the third statement
    let answers = results(
        &mut conn,
        r"SET sql_mode = 'NO_BACKSLASH_ESCAPES'; UPDATE account SET name = '\'; UPDATE account SET balance = 0 WHERE name = '\'",
    )
    .await?;
    assert_eq!(answers.len(), 3);
    assert_eq!(c.accounts(Bank::One, &schema).await?, [r"1|\|0", r"2|\|0", r"3|\|0"]);
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn bodies_stay_whole(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("bodies").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let answers = results(
        &mut conn,
        "CREATE PROCEDURE p() BEGIN SELECT 'GLOBAL', @'x'; UPDATE account SET balance = 0; END",
    )
    .await?;
    assert_eq!(answers.len(), 1);
    assert_eq!(results(&mut conn, "CALL p(); SELECT 2").await?.len(), 3);
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|0");
    // What is in a body binds nothing, so that a body with something for Atone is not taken
    let error =
        sql::refused(&mut conn, "CREATE PROCEDURE q() BEGIN SET @atone_xid = 'x'; SELECT 1; END").await?;
    error.expect(1235, "42000")
}

async fn unbound_packets_stay_whole(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unbound").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let counting =
        "SHOW STATUS LIKE 'Questions'; SELECT 'GLOBAL', @'x'; SELECT 2; SHOW STATUS LIKE 'Questions'";
    let mut counts = Vec::new();
    for conn in [&mut direct, &mut app] {
        let answers = results(conn, counting).await?;
        let count = |i: usize| {
            let answer: &String = &answers[i];
            answer.rsplit('|').next().and_then(|n| n.parse::<u64>().ok()).context("no count")
        };
        counts.push((answers.len(), count(3)? - count(0)?));
    }
    assert_eq!(counts[0], counts[1]);
    Ok(())
}
