//! Deadlocks of which one half is at a server: a session waits there for a row lock, and who has it waits for a
//! global lock.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::{APP, SERVICE};
use atone_tests::sql::{Waiting, start};
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;
use tokio::time::timeout;

atone_tests::owned_tests!(
    ClusterOptions { server_options: vec!["--performance-schema=ON".into()], ..ClusterOptions::default() } =>
    deadlocks_with_a_row_lock_at_a_server,
    without_the_right,
);

/// A deadlock has to be over by then: half the time until the lock wait times out would be 25 s.
const FOUND: Duration = Duration::from_secs(3);
/// So long several looks take, and what they lead to.
const LOOKS: Duration = Duration::from_millis(1_500);

async fn grant_process(c: &Cluster) -> Result<()> {
    for bank in [Bank::One, Bank::Two] {
        let mut admin = c.server(bank).admin().await?;
        sql::run(&mut admin, format!("GRANT PROCESS ON *.* TO '{}'@'%'", SERVICE.0)).await?;
    }
    Ok(())
}

async fn joined(conn: Result<Conn>, xid: &str) -> Result<Conn> {
    let mut conn = conn?;
    sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
    Ok(conn)
}

/// Waits until this many statements on the table have been running for a while: they take milliseconds where they do
/// not wait. (What InnoDB lists is not asked: who asks it all the time keeps it from being made anew.)
async fn until_blocked(c: &Cluster, bank: Bank, waiting: &Waiting) -> Result<()> {
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%account%' AND ID <> CONNECTION_ID()";
    let mut seen = 0;
    until("a statement waits at the server", SOON, || {
        seen += 1;
        async move {
            let mut admin = c.server(bank).admin().await?;
            let runs = sql::cell(&mut admin, query).await? != "0";
            ensure!(!waiting.is_finished(), "the statement did not wait");
            Ok((runs && seen > 3).then_some(()))
        }
    })
    .await
}

async fn deadlocks_with_a_row_lock_at_a_server(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    grant_process(c).await?;
    the_simple_one(c, c.proxy_port(Bank::One)).await?;
    let (second, ports) = c.second_proxy().await?;
    the_simple_one(c, ports[0]).await?;
    the_other_session_holds_the_row(c, ports[1]).await?;
    drop(second);
    three_over_two_servers(c).await?;
    chains_are_left_alone(c).await
}

/// G1 holds the global lock of row 1 and waits at the server for row 2, which G2 has locked; G2's COMMIT waits for
/// the global lock.
async fn the_simple_one(c: &Cluster, port_of_two: u16) -> Result<()> {
    for own in [false, true] {
        let schema = c.bank_schema("local").await?;
        let mut one = c.app(Bank::One, &schema).await?;
        let xid_one = sql::start_global(&mut one).await?;
        let mut two = sql::connect(port_of_two, APP, Some(&schema)).await?;
        let xid_two = sql::start_global(&mut two).await?;
        sql::run(&mut one, "UPDATE account SET balance = 1 WHERE id = 1").await?;
        sql::run_all(
            &mut two,
            &[
                "BEGIN",
                "UPDATE account SET balance = balance + 10 WHERE id = 2",
                "UPDATE account SET balance = balance + 10 WHERE id = 1",
            ],
        )
        .await?;
        // By key the statement itself waits; by name it is the read of its before image.
        let statement = if own {
            "UPDATE account SET balance = 2 WHERE name = 'bob'"
        } else {
            "UPDATE account SET balance = 2 WHERE id = 2"
        };
        let one = start(one, statement);
        until_blocked(c, Bank::One, &one).await?;
        let begun = Instant::now();
        let error = sql::refused(&mut two, "COMMIT").await?;
        let took = begun.elapsed();
        error.expect_naming(1213, "40001", &xid_two)?;
        ensure!(error.message.contains("deadlock") && error.message.contains(&xid_one), "{error:?}");
        ensure!(error.message.contains("at the server of bank1"), "{error:?}");
        ensure!(took < FOUND, "found only after {took:?}");
        println!("found after {took:?}: {}", error.message);
        let (mut one, result) = timeout(FOUND, one).await??;
        result?;
        sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid_one, "committed", SOON).await?;
        // Run again, as a driver would after 1213.
        sql::run_all(
            &mut two,
            &["BEGIN", "UPDATE account SET balance = balance + 10 WHERE id = 2", "COMMIT"],
        )
        .await?;
        sql::run(&mut two, "COMMIT GLOBAL TRANSACTION").await?;
        assert_eq!(c.accounts(Bank::One, &schema).await?[..2], ["1|ann|1", "2|bob|12"]);
    }
    Ok(())
}

/// The row is locked by another session of G2, through another proxy, than the one that waits for the global lock.
async fn the_other_session_holds_the_row(c: &Cluster, port_of_holder: u16) -> Result<()> {
    let schema = c.bank_schema("sessions").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let xid_one = sql::start_global(&mut one).await?;
    let one_on_two = joined(c.app(Bank::Two, &schema).await, &xid_one).await?;
    let mut two = c.app(Bank::One, &schema).await?;
    let xid_two = sql::start_global(&mut two).await?;
    let mut two_on_two = joined(sql::connect(port_of_holder, APP, Some(&schema)).await, &xid_two).await?;
    sql::run(&mut one, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run_all(&mut two_on_two, &["BEGIN", "UPDATE account SET balance = 20 WHERE id = 2"]).await?;
    let waiting = start(one_on_two, "UPDATE account SET balance = 2 WHERE id = 2");
    until_blocked(c, Bank::Two, &waiting).await?;
    let begun = Instant::now();
    let error = sql::refused(&mut two, "UPDATE account SET balance = 10 WHERE id = 1").await?;
    error.expect_naming(1213, "40001", &xid_two)?;
    ensure!(error.message.contains(&xid_one) && error.message.contains("bank2"), "{error:?}");
    ensure!(begun.elapsed() < FOUND, "found only after {:?}", begun.elapsed());
    sql::run(&mut two_on_two, "ROLLBACK").await?;
    let (_one_on_two, result) = timeout(FOUND, waiting).await??;
    result?;
    sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
    sql::run(&mut two, "ROLLBACK GLOBAL TRANSACTION").await
}

/// G1 waits at server 1 for G2, G2 at server 2 for G3, and G3 for a global lock of G1.
async fn three_over_two_servers(c: &Cluster) -> Result<()> {
    let schema = c.bank_schema("three").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let xid_one = sql::start_global(&mut one).await?;
    let mut two = c.app(Bank::One, &schema).await?;
    let xid_two = sql::start_global(&mut two).await?;
    let two_on_two = joined(c.app(Bank::Two, &schema).await, &xid_two).await?;
    let mut three = c.app(Bank::One, &schema).await?;
    let xid_three = sql::start_global(&mut three).await?;
    let mut three_on_two = joined(c.app(Bank::Two, &schema).await, &xid_three).await?;
    sql::run(&mut one, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run_all(&mut two, &["BEGIN", "UPDATE account SET balance = 2 WHERE id = 2"]).await?;
    sql::run_all(&mut three_on_two, &["BEGIN", "UPDATE account SET balance = 3 WHERE id = 3"]).await?;
    let one = start(one, "UPDATE account SET balance = 1 WHERE id = 2");
    let two_on_two = start(two_on_two, "UPDATE account SET balance = 2 WHERE id = 3");
    until_blocked(c, Bank::One, &one).await?;
    until_blocked(c, Bank::Two, &two_on_two).await?;
    let begun = Instant::now();
    let error = sql::refused(&mut three, "UPDATE account SET balance = 3 WHERE id = 1").await?;
    error.expect_naming(1213, "40001", &xid_three)?;
    for part in [&*xid_one, &*xid_two, "at the server of bank1", "at the server of bank2"] {
        ensure!(error.message.contains(part), "{part}: {error:?}");
    }
    ensure!(begun.elapsed() < FOUND, "found only after {:?}", begun.elapsed());
    sql::run(&mut three_on_two, "ROLLBACK").await?;
    let (_two_on_two, result) = timeout(FOUND, two_on_two).await??;
    result?;
    sql::run(&mut two, "COMMIT").await?;
    sql::run(&mut two, "COMMIT GLOBAL TRANSACTION").await?;
    let (mut one, result) = timeout(FOUND, one).await??;
    result?;
    sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
    sql::run(&mut three, "ROLLBACK GLOBAL TRANSACTION").await
}

/// G3 waits at the server for G2, and G2 for a global lock of G1, which works on: nobody is refused. What G3 has
/// waited for is over then, and makes no cycle with what it does later.
async fn chains_are_left_alone(c: &Cluster) -> Result<()> {
    let schema = c.bank_schema("chain").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut one).await?;
    let mut two = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut two).await?;
    let mut three = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut three).await?;
    sql::run(&mut one, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run_all(
        &mut two,
        &[
            "BEGIN",
            "UPDATE account SET balance = balance + 10 WHERE id = 1",
            "UPDATE account SET balance = balance + 10 WHERE id = 2",
        ],
    )
    .await?;
    sql::run_all(&mut three, &["BEGIN", "UPDATE account SET balance = balance + 10 WHERE id = 3"]).await?;
    let three = start(three, "UPDATE account SET balance = balance + 100 WHERE id = 2");
    until_blocked(c, Bank::One, &three).await?;
    let two = start(two, "COMMIT");
    let begun = Instant::now();
    while begun.elapsed() < LOOKS {
        assert_eq!(sql::cell(&mut one, "SELECT balance FROM account WHERE id = 1").await?, "1");
        ensure!(!two.is_finished() && !three.is_finished(), "a statement did not wait");
    }
    sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
    let (mut two, result) = timeout(FOUND, two).await??;
    result?;
    let (three, result) = timeout(FOUND, three).await??;
    result?;
    // Now G3's COMMIT waits for G2's global lock of row 2: what G3 waited for at the server must not count any more.
    let three = start(three, "COMMIT");
    let begun = Instant::now();
    while begun.elapsed() < LOOKS {
        sql::run(&mut two, "UPDATE account SET balance = balance + 1 WHERE id = 1").await?;
        ensure!(!three.is_finished(), "it did not wait");
    }
    sql::run(&mut two, "COMMIT GLOBAL TRANSACTION").await?;
    let (mut three, result) = timeout(FOUND, three).await??;
    result?;
    sql::run(&mut three, "COMMIT GLOBAL TRANSACTION").await
}

/// Without PROCESS the wait ends as it did: by the server's timeout. The log says why, once.
async fn without_the_right(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("rightless").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut one).await?;
    let mut two = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut two).await?;
    sql::run_all(
        &mut one,
        &["SET SESSION innodb_lock_wait_timeout = 2", "UPDATE account SET balance = 1 WHERE id = 1"],
    )
    .await?;
    sql::run_all(
        &mut two,
        &[
            "BEGIN",
            "UPDATE account SET balance = balance + 10 WHERE id = 2",
            "UPDATE account SET balance = balance + 10 WHERE id = 1",
        ],
    )
    .await?;
    let two = start(two, "COMMIT");
    let error = sql::refused(&mut one, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    ensure!(error.code == 1205 && !error.message.starts_with("atone:"), "it is the server's own: {error:?}");
    sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
    let (mut two, result) = timeout(FOUND, two).await??;
    result?;
    sql::run(&mut two, "COMMIT GLOBAL TRANSACTION").await?;
    let log = c.proxy.log();
    let said = log.matches("is not to be seen").count();
    ensure!(said == 1 && log.contains("PROCESS"), "said {said} times");
    Ok(())
}
