//! Passwords in all combinations of legs: each works, or is refused before it is shown.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::server::APP;
use atone_tests::{Bank, Flavor, sql};

use super::client;
use super::setup::{Listener, Setup};

/// Makes the server forget that it has seen this account's password.
async fn forget(s: &Setup, account: (&str, &str)) -> Result<()> {
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    let (user, password) = account;
    sql::run(
        &mut admin,
        format!("ALTER USER '{user}'@'%' IDENTIFIED WITH caching_sha2_password BY '{password}'"),
    )
    .await
}

pub(crate) async fn full_caching_sha2(s: Arc<Setup>) -> Result<()> {
    if s.cluster.flavor() == Flavor::MariaDb {
        // MariaDB 10.11 does not have it.
        return Ok(());
    }
    // Longer than one digest, so that every byte of the salt is used.
    let account = ("sha2", "a password that is longer than the salt is");
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    sql::run(
        &mut admin,
        format!("CREATE USER '{}'@'%' IDENTIFIED WITH caching_sha2_password BY '{}'", account.0, account.1),
    )
    .await?;
    // TLS from the client: whatever the other leg is.
    for listener in [Listener::Bank1, Listener::PlainServer, Listener::Unix, Listener::Preferred] {
        forget(&s, account).await?;
        for round in ["full", "cached"] {
            let mut conn = sql::connect_with(s.tls(listener, account)?)
                .await
                .with_context(|| format!("{listener:?}, {round}"))?;
            ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == "sha2@%");
            conn.disconnect().await?;
        }
        forget(&s, account).await?;
        client(&s, s.port(listener)?, account, &["--ssl-mode=REQUIRED"])
            .await?
            .success()
            .with_context(|| format!("the server's client on {listener:?}"))?;
    }
    // No TLS on either leg: the client and the server do it between themselves.
    forget(&s, account).await?;
    sql::connect_with(s.plain(Listener::Plain, account)?).await?.disconnect().await?;
    // No TLS from the client, but with the server, which wants the password itself: the proxy's own key hides it.
    for listener in [Listener::Bank1, Listener::PlainClient, Listener::Unix] {
        for round in ["full", "cached"] {
            if round == "full" {
                forget(&s, account).await?;
            }
            let mut conn = sql::connect_with(s.plain(listener, account)?)
                .await
                .with_context(|| format!("{listener:?}, {round}"))?;
            ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == "sha2@%");
            conn.disconnect().await?;
        }
        forget(&s, account).await?;
        let args = ["--ssl-mode=DISABLED", "--get-server-public-key"];
        client(&s, s.port(listener)?, account, &args)
            .await?
            .success()
            .with_context(|| format!("the server's client on {listener:?}"))?;
        forget(&s, account).await?;
        let wrong = client(&s, s.port(listener)?, (account.0, "wrong"), &args).await?;
        ensure!(wrong.code != 0 && wrong.stderr.contains("1045"), "{wrong:?}");
    }
    Ok(())
}

pub(crate) async fn full_sha256(s: Arc<Setup>) -> Result<()> {
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    let plugin = "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'sha256_password'";
    if sql::rows(&mut admin, plugin).await? != ["ACTIVE"] {
        return Ok(());
    }
    sql::run(&mut admin, "CREATE USER 'sha256'@'%' IDENTIFIED WITH sha256_password BY 's-pw'").await?;
    let account = ("sha256", "s-pw");
    for listener in [Listener::Bank1, Listener::PlainServer, Listener::Unix] {
        client(&s, s.port(listener)?, account, &["--ssl-mode=REQUIRED"])
            .await?
            .success()
            .with_context(|| format!("{listener:?}"))?;
        let wrong = client(&s, s.port(listener)?, ("sha256", "wrong"), &["--ssl-mode=REQUIRED"]).await?;
        ensure!(wrong.code != 0 && wrong.stderr.contains("1045"), "{wrong:?}");
    }
    let args = ["--ssl-mode=DISABLED", "--get-server-public-key"];
    // The server takes a Unix socket for no better than TCP here; behind TLS it wants the password itself.
    for listener in [Listener::Plain, Listener::Unix, Listener::Bank1] {
        client(&s, s.port(listener)?, account, &args)
            .await?
            .success()
            .with_context(|| format!("{listener:?}"))?;
        let wrong = client(&s, s.port(listener)?, ("sha256", "wrong"), &args).await?;
        ensure!(wrong.code != 0 && wrong.stderr.contains("1045"), "{wrong:?}");
    }
    Ok(())
}

pub(crate) async fn change_user(s: Arc<Setup>) -> Result<()> {
    let (account, mysql) = (("other", "o-pw"), s.cluster.flavor() == Flavor::MySql);
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    sql::run(&mut admin, "CREATE USER other@'%' IDENTIFIED BY 'o-pw'").await?;
    let to = mysql_async::ChangeUserOpts::new()
        .with_user(Some(account.0.to_owned()))
        .with_pass(Some(account.1.to_owned()));
    for listener in [Listener::Bank1, Listener::PlainServer, Listener::Unix, Listener::Plain] {
        let options = match listener {
            Listener::Plain => s.plain(listener, APP)?,
            _ => s.tls(listener, APP)?,
        };
        let mut conn = sql::connect_with(options).await?;
        if mysql {
            forget(&s, account).await?;
        }
        for round in ["full", "cached"] {
            conn.change_user(to.clone()).await.with_context(|| format!("{listener:?}, {round}"))?;
            ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == "other@%");
            ensure!(sql::cell(&mut conn, "SELECT 42").await? == "42");
        }
    }
    if mysql {
        s.cluster.server(Bank::One).connect(APP, None).await?.disconnect().await?;
        let mut conn = sql::connect_with(s.plain(Listener::Bank1, APP)?).await?;
        forget(&s, account).await?;
        conn.change_user(to).await?;
        ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == "other@%");
    }
    Ok(())
}

pub(crate) async fn wrong_passwords(s: Arc<Setup>) -> Result<()> {
    let account = (APP.0, "wrong");
    let straight =
        sql::refused_login(sql::options(s.cluster.server(Bank::One).port(), account, None)).await?;
    for listener in [Listener::Bank1, Listener::PlainServer, Listener::Preferred] {
        let refusal = sql::refused_login(s.tls(listener, account)?).await?;
        assert_eq!(refusal, straight, "{listener:?}");
    }
    Ok(())
}
