//! TLS on both legs of the proxy, each by itself.

mod as_client;
mod checks;
mod half_closed;
mod passwords;
mod setup;

use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::server::APP;
use atone_tests::{Bank, Flavor, cli, run, sql};

use setup::{Listener, Setup};

/// Makes of each function `async fn(Arc<Setup>) -> Result<()>` two tests, one a flavor.
macro_rules! tls_tests {
    ($($name:ident in $module:path),+ $(,)?) => { $(
        mod $name {
            use super::*;
            #[test]
            fn mariadb() {
                run::run_alone(Flavor::MariaDb, shared(Flavor::MariaDb, |setup| async move {
                    use $module as module;
                    module::$name(setup).await
                }));
            }
            #[test]
            fn mysql() {
                run::run_alone(Flavor::MySql, shared(Flavor::MySql, |setup| async move {
                    use $module as module;
                    module::$name(setup).await
                }));
            }
        }
    )+ };
}

tls_tests!(
    each_leg_by_itself in crate::tls,
    a_bound_transfer in crate::tls,
    large_packets in crate::tls,
    command_line_clients in crate::tls,
    operators_commands in crate::tls,
    accounts_that_require_tls in crate::tls::as_client,
    clients_that_say_nothing_of_tls in crate::tls::as_client,
    a_server_that_offers_none in crate::tls::as_client,
    the_proxys_own_certificate in crate::tls::as_client,
    clients_that_check_by_password in crate::tls::as_client,
    half_closed_connections in crate::tls::half_closed,
    full_caching_sha2 in crate::tls::passwords,
    full_sha256 in crate::tls::passwords,
    change_user in crate::tls::passwords,
    wrong_passwords in crate::tls::passwords,
    a_listener_that_requires_tls in crate::tls::checks,
    nonsense_instead_of_tls in crate::tls::checks,
    a_server_that_is_not_trusted in crate::tls::checks,
    a_server_without_tls in crate::tls::checks,
    the_servers_own_certificates in crate::tls::checks,
    certificates_are_reloaded in crate::tls::checks,
);

async fn shared<F, Fut>(flavor: Flavor, test: F) -> Result<()>
where
    F: FnOnce(Arc<Setup>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let setup = Setup::shared(flavor).await?;
    let result = test(Arc::clone(&setup)).await;
    result.map_err(|error| error.context(setup.proxy.log_tail(60)))
}

/// The cipher of the leg between the proxy and the server; empty without TLS.
async fn server_cipher(conn: &mut mysql_async::Conn) -> Result<String> {
    let row = sql::cell(conn, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
    Ok(row.trim_start_matches("Ssl_cipher|").to_owned())
}

async fn each_leg_by_itself(s: Arc<Setup>) -> Result<()> {
    for (listener, client_may, server_does, as_client) in [
        (Listener::Bank1, true, true, false),
        (Listener::Bank2, true, true, false),
        (Listener::PlainServer, true, false, false),
        (Listener::PlainClient, false, true, false),
        (Listener::Plain, false, false, false),
        (Listener::Unix, true, false, false),
        (Listener::Preferred, true, true, false),
        (Listener::AsClient, true, true, true),
        (Listener::Own, true, true, true),
        (Listener::OwnUnix, true, true, true),
    ] {
        // MySQL's cache has to know the password where the legs differ
        drop(s.cluster.server(Bank::One).connect(APP, None).await?);
        drop(s.cluster.server(Bank::Two).connect(APP, None).await?);
        let mut plain = sql::connect_with(s.plain(listener, APP)?).await?;
        let has_tls = !server_cipher(&mut plain).await?.is_empty();
        ensure!(has_tls == (server_does && !as_client), "{listener:?}, plain client");
        let secure = sql::connect_with(s.tls(listener, APP)?).await;
        ensure!(secure.is_ok() == client_may, "{listener:?}: {secure:?}");
        if let Ok(mut secure) = secure {
            ensure!(server_cipher(&mut secure).await?.is_empty() != server_does, "{listener:?}, TLS client");
            ensure!(sql::cell(&mut secure, "SELECT CURRENT_USER()").await? == format!("{}@%", APP.0));
            secure.disconnect().await?;
        }
        plain.disconnect().await?;
    }
    Ok(())
}

/// Between two servers, with TLS on all four legs: once committed, once rolled back.
async fn a_bound_transfer(s: Arc<Setup>) -> Result<()> {
    let schema = s.cluster.bank_schema("tls").await?;
    let before = s.cluster.accounts(Bank::One, &schema).await?;
    for (end, status) in [("ROLLBACK", "rolled_back"), ("COMMIT", "committed")] {
        let mut one = sql::connect_with(s.tls(Listener::Bank1, APP)?.db_name(Some(&schema))).await?;
        let mut two = sql::connect_with(s.tls(Listener::Bank2, APP)?.db_name(Some(&schema))).await?;
        ensure!(!server_cipher(&mut one).await?.is_empty());
        ensure!(!server_cipher(&mut two).await?.is_empty());
        let xid = sql::start_global(&mut one).await?;
        sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
        sql::run_all(
            &mut one,
            &[
                "BEGIN",
                "UPDATE account SET balance = balance - 30 WHERE id = 1",
                "INSERT INTO account VALUES (9, 'zoe', 0)",
                "COMMIT",
            ],
        )
        .await?;
        sql::run(&mut two, "UPDATE account SET balance = balance + 30 WHERE id = 2").await?;
        sql::run(&mut one, format!("{end} GLOBAL TRANSACTION")).await?;
        s.cluster.rest().wait_for_status(&xid, status, SOON).await?;
        if end == "ROLLBACK" {
            assert_eq!(s.cluster.accounts(Bank::One, &schema).await?, before);
            assert_eq!(s.cluster.accounts(Bank::Two, &schema).await?, before);
        }
        s.cluster.wait_for_purge(Bank::One, &schema).await?;
        s.cluster.wait_for_purge(Bank::Two, &schema).await?;
    }
    let (one, two) =
        (s.cluster.accounts(Bank::One, &schema).await?, s.cluster.accounts(Bank::Two, &schema).await?);
    assert_eq!(one, ["1|ann|70", "2|bob|100", "3|NULL|100", "9|zoe|0"]);
    assert_eq!(two, ["1|ann|100", "2|bob|130", "3|NULL|100"]);
    Ok(())
}

async fn large_packets(s: Arc<Setup>) -> Result<()> {
    let mut conn = sql::connect_with(s.tls(Listener::Bank1, APP)?).await?;
    let row = "REPEAT('abcdefgh', 1000000)";
    let rows =
        sql::rows(&mut conn, format!("SELECT {row} UNION ALL SELECT {row} UNION ALL SELECT {row}")).await?;
    assert_eq!(rows.iter().map(String::len).collect::<Vec<_>>(), [8_000_000; 3]);
    let text = "x".repeat(6_000_000);
    assert_eq!(sql::cell(&mut conn, format!("SELECT LENGTH('{text}')")).await?, "6000000");
    assert_eq!(sql::cell(&mut conn, "SELECT 42").await?, "42");
    Ok(())
}

/// Runs the server's own client program through a listener.
pub(crate) async fn client(
    s: &Setup,
    port: u16,
    account: (&str, &str),
    more: &[&str],
) -> Result<cli::Output> {
    let (port, password) = (port.to_string(), format!("-p{}", account.1));
    let mut args = vec!["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", account.0, &password];
    args.extend_from_slice(more);
    args.extend_from_slice(&["-N", "-e", "SELECT CURRENT_USER()"]);
    cli::run(&s.cluster.flavor().client_program("mysql")?, &args, &[], &[]).await
}

async fn command_line_clients(s: Arc<Setup>) -> Result<()> {
    let ca = format!("--ssl-ca={}", s.certificates.file("ca.pem").display());
    let (verify, tls12): (&[&str], _) = match s.cluster.flavor() {
        Flavor::MariaDb => (&["--ssl", "--ssl-verify-server-cert", &ca], "--tls-version=TLSv1.2"),
        Flavor::MySql => (&["--ssl-mode=VERIFY_IDENTITY", &ca], "--tls-version=TLSv1.2"),
    };
    for listener in [Listener::Bank1, Listener::PlainServer, Listener::Unix] {
        let output = client(&s, s.port(listener)?, APP, verify).await?.success()?;
        assert_eq!(output.trim(), format!("{}@%", APP.0));
    }
    let older = client(&s, s.port(Listener::Bank1)?, APP, &[verify, &[tls12]].concat()).await?.success()?;
    assert_eq!(older.trim(), format!("{}@%", APP.0));
    // Where it is not offered the client refuses by itself.
    let output = client(&s, s.port(Listener::Plain)?, APP, verify).await?;
    assert!(output.code != 0, "{output:?}");
    Ok(())
}

/// `atone undo` reads the same configuration and goes the same way.
async fn operators_commands(s: Arc<Setup>) -> Result<()> {
    let schema = s.cluster.bank_schema("cli").await?;
    let mut one = sql::connect_with(s.tls(Listener::Bank1, APP)?.db_name(Some(&schema))).await?;
    let mut two = sql::connect_with(s.tls(Listener::Bank2, APP)?.db_name(Some(&schema))).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
    for conn in [&mut one, &mut two] {
        sql::run(conn, "UPDATE account SET balance = 0 WHERE id = 1").await?;
    }
    let config = s.proxy.config().to_string_lossy().into_owned();
    for resource in ["bank1", "bank2", "plain-client"] {
        let args = ["undo", "ls", "--config", &config, "--resource", resource, "--schema", &schema];
        let shown = s.cluster.atone(&args).await?.success()?;
        ensure!(shown.contains(&xid), "{resource}: {shown}");
    }
    sql::run(&mut one, "ROLLBACK GLOBAL TRANSACTION").await?;
    s.cluster.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    Ok(())
}
