//! Logging in through the proxy with the server's own accounts and plugins.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::server::{ADMIN, APP};
use atone_tests::{Bank, Cluster, Flavor, cli, sql};

atone_tests::shared_tests!(
    own_accounts,
    refusals_are_the_servers,
    native_password,
    caching_sha2_password,
    change_user,
    default_schema_and_charset,
);

async fn own_accounts(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("login").await?;
    for account in [APP, ADMIN] {
        let mut conn = sql::connect(c.proxy_port(Bank::One), account, Some(&schema)).await?;
        assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, format!("{}@%", account.0));
        assert_eq!(sql::cell(&mut conn, "SELECT DATABASE()").await?, schema);
    }
    let mut conn = sql::connect(c.proxy_port(Bank::One), APP, None).await?;
    assert_eq!(sql::cell(&mut conn, "SELECT DATABASE()").await?, "NULL");
    Ok(())
}

async fn refusals_are_the_servers(c: Arc<Cluster>) -> Result<()> {
    let (proxy, server) = (c.proxy_port(Bank::One), c.server(Bank::One).port());
    for (account, schema) in [
        ((APP.0, "wrong"), None),
        ((APP.0, ""), None),
        (("nobody", "x"), None),
        ((APP.0, APP.1), Some("no_such_schema")),
    ] {
        if account.0 == "nobody" && c.flavor() == Flavor::MySql {
            // MySQL pretends that an unknown account uses any one of its plugins, which the driver may not know.
            continue;
        }
        let through = sql::refused_login(sql::options(proxy, account, schema)).await?;
        let straight = sql::refused_login(sql::options(server, account, schema)).await?;
        assert_eq!(through, straight, "{account:?} {schema:?}");
        assert!([1045, 1049].contains(&through.0), "{through:?}");
    }
    // A refusal harms nobody.
    sql::connect(proxy, APP, None).await?.disconnect().await?;
    Ok(())
}

async fn native_password(c: Arc<Cluster>) -> Result<()> {
    let mut admin = c.server(Bank::One).admin().await?;
    if sql::rows(
        &mut admin,
        "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'mysql_native_password'",
    )
    .await?
        != ["ACTIVE"]
    {
        // Since 9.0 MySQL does not have it any more.
        assert_eq!(c.flavor(), Flavor::MySql, "MariaDB has mysql_native_password");
        return Ok(());
    }
    let create = match c.flavor() {
        Flavor::MariaDb => {
            "CREATE USER native@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('n-pw')"
        }
        Flavor::MySql => "CREATE USER native@'%' IDENTIFIED WITH mysql_native_password BY 'n-pw'",
    };
    sql::run(&mut admin, create).await?;
    let mut conn = sql::connect(c.proxy_port(Bank::One), ("native", "n-pw"), None).await?;
    assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, "native@%");
    let (code, _) =
        sql::refused_login(sql::options(c.proxy_port(Bank::One), ("native", "n-pW"), None)).await?;
    assert_eq!(code, 1045);
    Ok(())
}

/// Logs in with the server's own client program.
async fn login_by_client(c: &Cluster, user: &str, password: &str, fetch_key: bool) -> Result<cli::Output> {
    let port = c.proxy_port(Bank::One).to_string();
    let password = format!("-p{password}");
    let mut args = vec!["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", user, &password];
    if c.flavor() == Flavor::MySql {
        // By TLS the password would go in the clear.
        args.push("--ssl-mode=DISABLED");
    }
    if fetch_key {
        args.push("--get-server-public-key");
    }
    args.extend_from_slice(&["-N", "-e", "SELECT CURRENT_USER()"]);
    cli::run(&c.flavor().client_program("mysql")?, &args, &[], &[]).await
}

async fn caching_sha2_password(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        // MariaDB 10.11 does not have it; its clients do, for MySQL's sake.
        return Ok(());
    }
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run(&mut admin, "CREATE USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY 's-pw'").await?;
    // The server has not seen the password yet: without TLS the client needs the server's RSA key, and says so.
    let refused = login_by_client(&c, "sha2", "s-pw", false).await?;
    assert!(refused.code != 0 && refused.stderr.contains("2061"), "{refused:?}");
    let full = login_by_client(&c, "sha2", "s-pw", true).await?.success().context("full authentication")?;
    assert_eq!(full.trim(), "sha2@%");
    // Now it has: the fast path does without the key.
    let fast = login_by_client(&c, "sha2", "s-pw", false).await?.success().context("the fast path")?;
    assert_eq!(fast.trim(), "sha2@%");
    let wrong = login_by_client(&c, "sha2", "s-pW", true).await?;
    assert!(wrong.code != 0 && wrong.stderr.contains("1045"), "{wrong:?}");
    // A driver in pure Rust, full and fast.
    sql::run(&mut admin, "ALTER USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY 'other'").await?;
    for _ in 0..2 {
        let mut conn = sql::connect(c.proxy_port(Bank::One), ("sha2", "other"), None).await?;
        assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, "sha2@%");
    }
    Ok(())
}

async fn change_user(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("change_user").await?;
    let mut conn = sql::connect(c.proxy_port(Bank::One), APP, None).await?;
    let opts = |password: &str| {
        mysql_async::ChangeUserOpts::new()
            .with_user(Some(ADMIN.0.to_owned()))
            .with_pass(Some(password.to_owned()))
            .with_db_name(Some(schema.clone()))
    };
    conn.change_user(opts(ADMIN.1)).await?;
    assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, format!("{}@%", ADMIN.0));
    assert_eq!(sql::cell(&mut conn, "SELECT DATABASE()").await?, schema);
    assert!(conn.change_user(opts("wrong")).await.is_err());
    Ok(())
}

async fn default_schema_and_charset(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("defaults").await?;
    let query = "SELECT @@character_set_client, @@collation_connection, @@sql_mode, @@time_zone, @@autocommit, \
                 @@transaction_isolation, @@innodb_lock_wait_timeout";
    let query = match c.flavor() {
        Flavor::MariaDb => query.replace("transaction_isolation", "tx_isolation"),
        Flavor::MySql => query.to_owned(),
    };
    let through = sql::rows(&mut c.app(Bank::One, &schema).await?, &query).await?;
    let straight = sql::rows(&mut c.direct(Bank::One, &schema).await?, &query).await?;
    assert_eq!(through, straight);
    Ok(())
}
