//! The packets themselves: status flags, session tracking, warnings and info texts of each reply.

use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::server::APP;
use atone_tests::wire::{Login, Session, caps, payload};
use atone_tests::{Bank, Cluster, Flavor, sql};

use super::{T, T_ROWS};

atone_tests::shared_tests!(status_flags, session_tracking, small_capabilities);

/// The whole reply to a statement, a line a packet.
async fn answer(s: &mut Session, sql: &str) -> Result<Vec<String>> {
    let command = payload::query(s.capabilities, sql.as_bytes(), &[]);
    s.send(&command).await?;
    Ok(s.receive(&command, None).await?.into_iter().map(|(_, packet)| packet.to_string()).collect())
}

/// The replies to these statements are the same bound, and straight on the other server.
async fn same(c: &Cluster, capabilities: u64, statements: &[&str]) -> Result<()> {
    let schema = c.schema("packets").await?;
    for bank in [Bank::One, Bank::Two] {
        sql::run_all(&mut c.direct(bank, &schema).await?, &[T, T_ROWS]).await?;
    }
    let xid = c.rest().begin(serde_json::json!({})).await?;
    let login = |port| {
        let mut login = Login::new(port, APP).schema(&schema);
        login.capabilities = capabilities;
        if c.flavor() == Flavor::MariaDb {
            login.capabilities &= !caps::LONG_PASSWORD;
        }
        login
    };
    let mut bound = Session::open(&login(c.proxy_port(Bank::One))).await?;
    let mut plain = Session::open(&login(c.server(Bank::Two).port())).await?;
    answer(&mut bound, &format!("SET @atone_xid = '{xid}'")).await?;
    for sql in statements {
        let (a, b) = (answer(&mut bound, sql).await?, answer(&mut plain, sql).await?);
        ensure!(a == b, "{sql}\nbound:    {a:#?}\nstraight: {b:#?}");
    }
    c.rest().rollback(&xid).await?;
    Ok(())
}

async fn status_flags(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        caps::FULL,
        &[
            "UPDATE t SET a = 1 WHERE id = 1",
            "UPDATE t SET a = 2 WHERE id IN (1, 2)",
            "DELETE FROM t WHERE id = 77",
            "SELECT id FROM t WHERE id = 1",
            "BEGIN",
            "UPDATE t SET a = 1 WHERE id = 1",
            "DELETE FROM t WHERE id = 6",
            "INSERT INTO t (id) VALUES (8)",
            "SELECT id FROM t WHERE id = 8",
            "SAVEPOINT s",
            "ROLLBACK TO s",
            "COMMIT",
            "SET autocommit = 0",
            "DO 1",
            "UPDATE t SET a = 4 WHERE id = 1",
            "COMMIT",
            "DELETE FROM t WHERE id = 1",
            "SET autocommit = 1",
            "DO 1",
            "START TRANSACTION READ ONLY",
            "SELECT id FROM t WHERE id = 8",
            "COMMIT",
            "BEGIN",
            "UPDATE t SET nothing = 1",
            "INSERT INTO t (id) VALUES (8)",
            "ROLLBACK",
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
            "UPDATE t SET b = '\\' WHERE id = 2",
            "COMMIT",
        ],
    )
    .await
}

async fn session_tracking(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        caps::FULL,
        &[
            "SET session_track_schema = 1, session_track_state_change = 1",
            "SET session_track_system_variables = 'autocommit,sql_mode,time_zone'",
            "UPDATE t SET a = 1 WHERE id = 1",
            "UPDATE t SET a = 2 WHERE id > 3",
            "SET sql_mode = ''",
            "UPDATE t SET a = 'x' WHERE id > 3",
            "SET @a = 1",
            "DELETE FROM t WHERE id = 6",
            "INSERT INTO t (id) VALUES (9)",
            "BEGIN",
            "UPDATE t SET a = 3 WHERE id = 1",
            "COMMIT",
        ],
    )
    .await
}

async fn small_capabilities(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        caps::MINIMAL | caps::CONNECT_WITH_DB,
        &[
            "UPDATE t SET a = 1 WHERE id = 1",
            "UPDATE t SET a = 1 WHERE id = 77",
            "UPDATE t SET a = 2 WHERE id IN (1, 2)",
            "UPDATE t SET a = 2 WHERE id = 77 AND a > RAND()",
            "INSERT INTO t (id) VALUES (8), (9)",
            "SET sql_mode = ''",
            "UPDATE t SET a = 'x' WHERE id = 1",
            "SHOW WARNINGS",
            "DELETE FROM t WHERE id = 9",
        ],
    )
    .await
}
