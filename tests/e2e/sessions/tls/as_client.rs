//! Where nothing is said of TLS: the proxy has a certificate of its own, and each leg is as the other one.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::daemon::Daemon;
use atone_tests::ports::free_port;
use atone_tests::server::{APP, SERVICE};
use atone_tests::wire::{Greeting, RawConn, caps};
use atone_tests::{Bank, Flavor, Server, cli, paths, sql};
use mysql_async::SslOpts;

use super::setup::{self, Listener, Setup, unchecked};
use super::{client, server_cipher};

/// What is offered on a port.
async fn offered(port: u16) -> Result<u64> {
    let mut conn = RawConn::connect(port).await?;
    let (_, packet) = conn.read().await?.context("closed before the greeting")?;
    Ok(Greeting::parse(&packet)?.capabilities)
}

/// They come in over TLS, and only so.
pub(crate) async fn accounts_that_require_tls(s: Arc<Setup>) -> Result<()> {
    let account = ("tls_only", "t-pw");
    let server = s.cluster.server(Bank::One);
    let mut admin = server.admin().await?;
    sql::run(&mut admin, "CREATE USER tls_only@'%' IDENTIFIED BY 't-pw' REQUIRE SSL").await?;
    let straight = sql::refused_login(sql::options(server.port(), account, None)).await?;
    for listener in [Listener::AsClient, Listener::Own, Listener::OwnUnix] {
        let mut conn =
            sql::connect_with(s.tls(listener, account)?).await.with_context(|| format!("{listener:?}"))?;
        ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == "tls_only@%");
        ensure!(!server_cipher(&mut conn).await?.is_empty());
        let to = mysql_async::ChangeUserOpts::new()
            .with_user(Some(account.0.to_owned()))
            .with_pass(Some(account.1.to_owned()));
        conn.change_user(to).await?;
        let refusal = sql::refused_login(s.plain(listener, account)?).await?;
        ensure!(refusal.0 == straight.0 && !refusal.1.contains("atone"), "{listener:?}: {refusal:?}");
    }
    Ok(())
}

/// The first login of an account, before MySQL has cached its password, by clients as they are installed.
pub(crate) async fn clients_that_say_nothing_of_tls(s: Arc<Setup>) -> Result<()> {
    let account = ("unasked", "u-pw");
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    sql::run(&mut admin, "CREATE USER unasked@'%' IDENTIFIED BY 'u-pw'").await?;
    for listener in [Listener::AsClient, Listener::Own, Listener::OwnUnix] {
        for of in [Flavor::MariaDb, Flavor::MySql] {
            let program = match (of.client_program("mysql"), s.cluster.flavor()) {
                (program, own) if own == of => program?,
                // MySQL's client does not have mysql_native_password any more
                (Ok(program), Flavor::MySql) if !of.skipped() => program,
                _ => continue,
            };
            let mut at = Vec::new();
            for port in [s.cluster.server(Bank::One).port(), s.port(listener)?] {
                // MySQL forgets what it has cached
                sql::run(&mut admin, "ALTER USER unasked@'%' IDENTIFIED BY 'u-pw'").await?;
                let (port, password) = (port.to_string(), format!("-p{}", account.1));
                // A certificate that no authority has signed is the servers' own default too
                let unchecked: &[&str] =
                    if of == Flavor::MariaDb { &["--skip-ssl-verify-server-cert"] } else { &[] };
                let args = ["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", account.0, &password];
                let ask = ["-N", "-e", "SELECT CURRENT_USER(); SHOW STATUS LIKE 'Ssl_cipher'"];
                let output = cli::run(&program, &[&args, unchecked, &ask].concat(), &[], &[]).await?;
                at.push(output.success().with_context(|| format!("{of}'s client on {listener:?}"))?);
            }
            ensure!(at[0].starts_with("unasked@%") && at[0] == at[1], "{listener:?}, {of}: {at:?}");
        }
    }
    Ok(())
}

/// Nor does the listener offer TLS then, unless it was told to: in which case nobody's TLS ends in plain text.
pub(crate) async fn a_server_that_offers_none(s: Arc<Setup>) -> Result<()> {
    let flavor = s.cluster.flavor();
    let off = if flavor == Flavor::MariaDb { "--skip-ssl" } else { "--tls-version=" };
    let server = Server::start_with(flavor, &flavor.server_program()?, &[off]).await?;
    let straight = offered(server.port()).await?;
    ensure!(straight & caps::SSL == 0, "the server offers TLS");
    let backend = format!(
        "address = \"127.0.0.1:{}\"\nuser = \"{}\"\npassword = \"{}\"\n",
        server.port(),
        SERVICE.0,
        SERVICE.1
    );
    let dir = paths::fresh_dir("tls-none-")?;
    let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &backend)?;
    proxy.restart().await?;
    ensure!(offered(port).await? == straight);
    sql::connect(port, APP, None).await?.disconnect().await?;

    let told = format!("{backend}listen_tls = {{ {} }}\n", s.certificates.pair("listener"));
    let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &told)?;
    proxy.restart().await?;
    ensure!(offered(port).await? == straight | caps::SSL);
    sql::connect(port, APP, None).await?.disconnect().await?;
    let tls = sql::options(port, APP, None).ssl_opts(Some(s.certificates.trusted()));
    let refusal = sql::refused_login(tls).await?;
    ensure!(refusal.0 == 1429 && refusal.1.starts_with("atone: backend own"), "{refusal:?}");
    ensure!(refusal.1.contains("does not offer TLS, which the client has"), "{refusal:?}");
    Ok(())
}

/// Kept in `tls_dir`, for clients that are told to trust it; else another one with each start.
pub(crate) async fn the_proxys_own_certificate(s: Arc<Setup>) -> Result<()> {
    let dir = paths::fresh_dir("tls-own-")?;
    let kept = dir.path().join("kept");
    let backend = format!(
        "address = \"127.0.0.1:{}\"\nuser = \"{}\"\npassword = \"{}\"\n",
        s.cluster.server(Bank::One).port(),
        setup::SERVICE.0,
        setup::SERVICE.1
    );
    let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &backend)?;
    let text = std::fs::read_to_string(proxy.config())?;
    std::fs::write(proxy.config(), format!("tls_dir = '{}'\n{text}", kept.display()))?;
    proxy.restart().await?;
    let certificate = kept.join("server-cert.pem");
    let trusting = SslOpts::default()
        .with_root_certs(vec![certificate.clone().into()])
        .with_disable_built_in_roots(true);
    let login = || sql::options(port, APP, None).ssl_opts(Some(trusting.clone()));
    sql::connect_with(login()).await?.disconnect().await?;
    let ca = format!("--ssl-ca={}", certificate.display());
    let verify: &[&str] = match s.cluster.flavor() {
        Flavor::MariaDb => &["--ssl", "--ssl-verify-server-cert", &ca],
        Flavor::MySql => &["--ssl-mode=VERIFY_IDENTITY", &ca],
    };
    client(&s, port, APP, verify).await?.success()?;
    proxy.sigterm().await?;
    proxy.restart().await?;
    sql::connect_with(login()).await?.disconnect().await?;

    // Without the folder it is another one
    std::fs::write(proxy.config(), &text)?;
    proxy.restart().await?;
    ensure!(sql::connect_with(login()).await.is_err(), "a former certificate is believed");
    sql::connect_with(sql::options(port, APP, None).ssl_opts(Some(unchecked()))).await?.disconnect().await?;

    // Where none can be kept the proxy does not start
    std::fs::write(proxy.config(), format!("tls_dir = '{}'\n{text}", proxy.config().display()))?;
    let config = proxy.config().to_string_lossy().into_owned();
    let refused =
        cli::run(&paths::binary("atone-proxy")?, &["--config", &config], &[("RUST_BACKTRACE", "0")], &[])
            .await?;
    ensure!(refused.code == 2 && refused.stderr.contains(": tls_dir: "), "{refused:?}");
    Ok(())
}

/// MariaDB's clients from 11.4 on: the server proves by the password which certificate is its own. Only hosts that
/// are not called `127.0.0.1` or `localhost` are checked so.
pub(crate) async fn clients_that_check_by_password(s: Arc<Setup>) -> Result<()> {
    const HOST: &str = "127.0.0.2";
    let flavor = s.cluster.flavor();
    let program = flavor.client_program("mysql")?;
    let help = cli::run(&program, &["--no-defaults", "--help"], &[], &[]).await?.success()?;
    let checks = help.lines().any(|line| line.split_whitespace().eq(["ssl-verify-server-cert", "TRUE"]));
    if flavor == Flavor::MySql || !checks {
        // MySQL's clients have no such check, and older ones of MariaDB's check nothing by default
        return Ok(());
    }
    let dir = paths::fresh_dir("tls-check-")?;
    let kept = dir.path().join("kept");
    let (http, own, servers) = (free_port()?, free_port()?, free_port()?);
    let mut config = format!("tls_dir = '{}'\n{}", kept.display(), setup::head(&s.cluster, http));
    for (name, port, tls) in [
        ("own", own, String::new()),
        ("servers", servers, format!("listen_tls = {{ {} }}\n", s.certificates.pair("server"))),
    ] {
        config += &format!(
            "[[backend]]\nname = \"{name}\"\nlisten = \"{HOST}:{port}\"\naddress = \"127.0.0.1:{}\"\nuser = \"{}\"\n\
             password = \"{}\"\n{tls}",
            s.cluster.server(Bank::One).port(),
            setup::SERVICE.0,
            setup::SERVICE.1
        );
    }
    let mut proxy = Daemon::prepare("atone-proxy", dir.path(), &config, http)?;
    proxy.restart().await?;
    let ca = format!("--ssl-ca={}", kept.join("server-cert.pem").display());
    for (port, option, is_let_in) in [
        (servers, "--ssl", true),
        (own, "--ssl", false),
        (own, "--skip-ssl-verify-server-cert", true),
        (own, &ca, true),
    ] {
        let (port, password) = (port.to_string(), format!("-p{}", APP.1));
        let args =
            ["--no-defaults", "-h", HOST, "-P", &port, "-u", APP.0, &password, option, "-e", "SELECT 42"];
        let output = cli::run(&program, &args, &[], &[]).await?;
        ensure!((output.code == 0) == is_let_in, "{option}: {output:?}");
        ensure!(is_let_in || output.stderr.contains("ERROR 2026"), "{output:?}");
    }
    Ok(())
}
