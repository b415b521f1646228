//! Clients that hold all connections that a server takes.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::{APP, SERVICE};
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;
use tokio::sync::Mutex;

const MAX_CONNECTIONS: usize = 24;
/// As docs/proxy.example.toml says it.
const READY: usize = 4;

fn small(ready: &str) -> ClusterOptions {
    ClusterOptions {
        server_options: vec![format!("--max-connections={MAX_CONNECTIONS}")],
        proxy_limits: ready.to_owned(),
        ..ClusterOptions::default()
    }
}

atone_tests::owned_tests!(small("min_service_connections = 0\n") => the_servers_own_error_is_told);
atone_tests::owned_tests!(small("") => phase_two_goes_on);

const OF_SERVICE: &str = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER =";

/// The ids of the service account's connections.
async fn of_service(admin: &Arc<Mutex<Conn>>) -> Result<Vec<String>> {
    sql::rows(&mut *admin.lock().await, format!("{OF_SERVICE} '{}'", SERVICE.0)).await
}

async fn admin(c: &Cluster) -> Result<Arc<Mutex<Conn>>> {
    Ok(Arc::new(Mutex::new(c.server(Bank::One).admin().await?)))
}

/// Takes all connections that are left.
async fn fill(c: &Cluster, schema: &str) -> Result<Vec<Conn>> {
    let mut held = Vec::new();
    for _ in 0..=MAX_CONNECTIONS {
        match Conn::new(sql::options(c.server(Bank::One).port(), APP, Some(schema))).await {
            Ok(conn) => held.push(conn),
            Err(mysql_async::Error::Server(e)) if e.code == 1040 => return Ok(held),
            Err(other) => return Err(other).context("filling"),
        }
    }
    bail!("the server takes more than {MAX_CONNECTIONS} connections")
}

/// Without connections that stand ready.
async fn the_servers_own_error_is_told(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.bank_schema("full").await?;
    let admin = admin(c).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    until("the service account is gone", SOON, || async {
        Ok(of_service(&admin).await?.is_empty().then_some(()))
    })
    .await?;
    let held = fill(c, &schema).await?;
    for ahead in [None, Some("BEGIN")] {
        if let Some(begin) = ahead {
            sql::run(&mut app, begin).await?;
        }
        let error = sql::refused(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;
        error.expect_naming(1040, "08004", &xid)?;
        ensure!(error.message.contains("Too many connections"), "{}", error.message);
    }
    sql::run(&mut app, "COMMIT").await?;
    for conn in held {
        conn.disconnect().await?;
    }
    let count = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}'", APP.0);
    until("the clients are gone", SOON, || async {
        Ok((sql::cell(&mut *admin.lock().await, &count).await? == "1").then_some(()))
    })
    .await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?.first().map(String::as_str), Some("1|ann|100"));
    sql::run(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    c.roll_back_global(&mut app, &xid).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?.first().map(String::as_str), Some("1|ann|100"));
    Ok(())
}

/// With those that stand ready, which are opened again when they have been lost.
async fn phase_two_goes_on(c: Harmable) -> Result<()> {
    const TRANSACTIONS: usize = 6;
    let c = &*c.lock().await;
    let schema = c.schema("ready").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await?;
    let admin = admin(c).await?;
    let mut apps = Vec::new();
    for id in 0..TRANSACTIONS {
        sql::run(&mut direct, format!("INSERT INTO t VALUES ({id}, 1)")).await?;
        let mut app = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        sql::run(&mut app, format!("UPDATE t SET v = 2 WHERE id = {id}")).await?;
        apps.push((app, xid));
    }
    let lost = of_service(&admin).await?;
    for id in &lost {
        sql::run(&mut *admin.lock().await, format!("KILL {id}")).await?;
    }
    until("connections stand ready", SOON, || async {
        let now = of_service(&admin).await?;
        Ok((now.len() >= READY && now.iter().all(|id| !lost.contains(id))).then_some(()))
    })
    .await?;
    let held = fill(c, &schema).await?;
    ensure!(!held.is_empty(), "the server was full before");
    let xids: Vec<String> = apps.iter().map(|(_, xid)| xid.clone()).collect();
    let ends = apps.into_iter().map(|(mut app, _)| async move {
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        Ok::<Conn, anyhow::Error>(app)
    });
    let mut apps = futures::future::try_join_all(ends).await?;
    for xid in &xids {
        c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    }
    let left = format!("SELECT COUNT(*) FROM {schema}.t WHERE v <> 1");
    assert_eq!(sql::cell(&mut *admin.lock().await, &left).await?, "0");
    // And so do statements of bound sessions.
    let app = apps.last_mut().context("no session")?;
    let xid = sql::start_global(app).await?;
    sql::run(app, "UPDATE t SET v = 3 WHERE id = 1").await?;
    sql::run(app, "COMMIT GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    let more = Conn::new(sql::options(c.server(Bank::One).port(), APP, Some(&schema))).await;
    ensure!(matches!(more, Err(mysql_async::Error::Server(e)) if e.code == 1040), "the server was not full");
    drop(held);
    Ok(())
}
