//! What is checked of the other side, and what it is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atone_tests::certificates::Certificates;
use atone_tests::cluster::SOON;
use atone_tests::server::{APP, SERVICE};
use atone_tests::wire::{RawConn, error_packet};
use atone_tests::{Bank, Flavor, Server, paths, sql, wait};

use super::client;
use super::setup::{self, Listener, Setup};

pub(crate) async fn a_listener_that_requires_tls(s: Arc<Setup>) -> Result<()> {
    let refusal = sql::refused_login(s.plain(Listener::Strict, APP)?).await?;
    ensure!(refusal.0 == 3159, "{refusal:?}");
    ensure!(
        refusal.1.starts_with("atone: Connections using insecure transport are prohibited"),
        "{refusal:?}"
    );
    // Without a certificate, and with one of another authority.
    let none = sql::connect_with(s.tls(Listener::Strict, APP)?).await;
    ensure!(none.is_err(), "a client without a certificate was let in");
    let dir = paths::fresh_dir("tls-other-")?;
    let other = Certificates::new(dir.path(), "other")?;
    other.issue("client", &["somebody"])?;
    let stranger = other.trusted_as("client").with_root_certs(vec![s.certificates.file("ca.pem").into()]);
    let stranger = sql::connect_with(s.plain(Listener::Strict, APP)?.ssl_opts(Some(stranger))).await;
    ensure!(stranger.is_err(), "a client with a stranger's certificate was let in");
    // With the right one, but too low a version.
    let file = |name: &str| s.certificates.file(name).display().to_string();
    let (ca, cert, key) = (
        format!("--ssl-ca={}", file("ca.pem")),
        format!("--ssl-cert={}", file("client.pem")),
        format!("--ssl-key={}", file("client.key")),
    );
    let port = s.port(Listener::Strict)?;
    let older = client(&s, port, APP, &[&ca, &cert, &key, "--tls-version=TLSv1.2"]).await?;
    ensure!(older.code != 0, "{older:?}");
    client(&s, port, APP, &[&ca, &cert, &key]).await?.success()?;

    let identity = s.certificates.trusted_as("client");
    let mut conn = sql::connect_with(s.plain(Listener::Strict, APP)?.ssl_opts(Some(identity))).await?;
    ensure!(sql::cell(&mut conn, "SELECT 42").await? == "42");
    Ok(())
}

/// The start of a request for TLS.
const SSL_REQUEST: [u8; 36] = [
    32, 0, 0, 1, 0x85, 0xae, 0x0f, 0, 0, 0, 0, 1, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0,
];

pub(crate) async fn nonsense_instead_of_tls(s: Arc<Setup>) -> Result<()> {
    let port = s.port(Listener::Bank1)?;
    let mut bystander = sql::connect_with(s.tls(Listener::Bank1, APP)?).await?;
    for more in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300], &[0x16, 3, 1, 0xff, 0xff, 0], b""] {
        let mut raw = RawConn::connect(port).await?;
        raw.read().await?.context("no greeting")?;
        raw.send_bytes(&[&SSL_REQUEST, more].concat()).await?;
        raw.finish().await?;
        // A TLS alert is no packet; what counts is that it ends
        while let Ok(Some(_)) = raw.read().await {}
    }
    // A request for TLS with a login after it in the same packet.
    let mut raw = RawConn::connect(port).await?;
    raw.read().await?.context("no greeting")?;
    let mut whole = SSL_REQUEST.to_vec();
    whole[0] = 32 + 5;
    whole.extend_from_slice(b"raw\0\0");
    raw.send_bytes(&whole).await?;
    let (_, packet) = raw.read().await?.context("no answer")?;
    let (code, message) = error_packet(&packet).context("no error packet")?;
    ensure!(code == 1043 && message.starts_with("atone:"), "{code} {message}");
    ensure!(sql::cell(&mut bystander, "SELECT 42").await? == "42");
    Ok(())
}

/// A proxy whose server is not what `server_tls` wants: it is not ready, and says why to a client.
async fn expect_untrusted(s: &Setup, dir: &Path, address: &str, server_tls: &str) -> Result<()> {
    let backend = format!(
        "address = \"{address}\"\nuser = \"{}\"\npassword = \"{}\"\nserver_tls = {{ {server_tls} }}\n",
        SERVICE.0, SERVICE.1
    );
    let (mut proxy, port) = setup::proxy(&s.cluster, dir, &backend)?;
    proxy.launch()?;
    wait::until("the proxy says that it is not ready", SOON, || async {
        let answer = proxy.rest().get("/readyz").await;
        Ok(answer.ok().filter(|a| a.status == 503 && a.text.contains("backend own")))
    })
    .await?;
    let refusal = sql::refused_login(sql::options(port, APP, None)).await?;
    ensure!(refusal.0 == 1429 && refusal.1.starts_with("atone: backend own"), "{refusal:?}");
    ensure!(refusal.1.contains("TLS"), "{refusal:?}");
    Ok(())
}

pub(crate) async fn a_server_that_is_not_trusted(s: Arc<Setup>) -> Result<()> {
    let dir = paths::fresh_dir("tls-wrong-")?;
    Certificates::new(dir.path(), "other")?;
    let (other, right) = (dir.path().join("ca.pem"), s.certificates.file("ca.pem"));
    let port = s.cluster.server(Bank::One).port();
    for (host, mode, ca) in [
        ("127.0.0.1", "verify-ca", &other),
        ("127.0.0.1", "verify-identity", &other),
        // Signed by the right authority, but made out for the address only.
        ("localhost", "verify-identity", &right),
    ] {
        let tls = format!("mode = '{mode}', ca = '{}'", ca.display());
        expect_untrusted(&s, dir.path(), &format!("{host}:{port}"), &tls)
            .await
            .with_context(|| format!("{host} {mode}"))?;
    }
    // The same server under the same wrong name, whose name does not matter.
    let backend = format!(
        "address = \"localhost:{port}\"\nuser = \"{}\"\npassword = \"{}\"\n\
         server_tls = {{ mode = 'verify-ca', ca = '{}' }}\n",
        setup::SERVICE.0,
        setup::SERVICE.1,
        right.display()
    );
    let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &backend)?;
    proxy.restart().await?;
    drop(s.cluster.server(Bank::One).connect(APP, None).await?);
    let mut conn = sql::connect(port, APP, None).await?;
    ensure!(!super::server_cipher(&mut conn).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_server_without_tls(s: Arc<Setup>) -> Result<()> {
    let flavor = s.cluster.flavor();
    let off = if flavor == Flavor::MariaDb { "--skip-ssl" } else { "--tls-version=" };
    let server = Server::start_with(flavor, &flavor.server_program()?, &[off]).await?;
    let address = format!("127.0.0.1:{}", server.port());
    let dir = paths::fresh_dir("tls-none-")?;
    expect_untrusted(&s, dir.path(), &address, "mode = 'required'").await?;
    let ca = s.certificates.file("ca.pem").display().to_string();
    expect_untrusted(&s, dir.path(), &address, &format!("mode = 'verify-ca', ca = '{ca}'")).await?;

    let backend = format!(
        "address = \"{address}\"\nuser = \"{}\"\npassword = \"{}\"\nserver_tls = {{ mode = 'preferred' }}\n\
         listen_tls = {{ {} }}\n",
        SERVICE.0,
        SERVICE.1,
        s.certificates.pair("listener")
    );
    let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &backend)?;
    proxy.restart().await?;
    let trusted = Some(s.certificates.trusted());
    for tls in [None, trusted] {
        let mut conn = sql::connect_with(sql::options(port, APP, None).ssl_opts(tls)).await?;
        ensure!(super::server_cipher(&mut conn).await?.is_empty());
    }
    Ok(())
}

/// MySQL makes itself an authority and a certificate without names at its first start.
pub(crate) async fn the_servers_own_certificates(s: Arc<Setup>) -> Result<()> {
    if s.cluster.flavor() == Flavor::MariaDb {
        return Ok(());
    }
    let server = Server::mysql().await?;
    let mut admin = server.admin().await?;
    let data = sql::cell(&mut admin, "SELECT @@datadir").await?;
    let ca = Path::new(&data).join("ca.pem");
    let dir = paths::fresh_dir("tls-auto-")?;
    let tls = format!("mode = 'verify-ca', ca = '{}'", ca.display());
    for tls in ["mode = 'required'", &tls] {
        let backend = format!(
            "address = \"127.0.0.1:{}\"\nuser = \"{}\"\npassword = \"{}\"\nserver_tls = {{ {tls} }}\n",
            server.port(),
            SERVICE.0,
            SERVICE.1
        );
        let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &backend)?;
        proxy.restart().await?;
        drop(server.connect(APP, None).await?);
        let mut conn = sql::connect(port, APP, None).await?;
        ensure!(!super::server_cipher(&mut conn).await?.is_empty());
    }
    let tls = format!("mode = 'verify-identity', ca = '{}'", ca.display());
    expect_untrusted(&s, dir.path(), &format!("127.0.0.1:{}", server.port()), &tls).await
}

pub(crate) async fn certificates_are_reloaded(s: Arc<Setup>) -> Result<()> {
    let dir = paths::fresh_dir("tls-reload-")?;
    let first = Certificates::new(&dir.path().join("first"), "first")?;
    first.issue("listener", &["127.0.0.1"])?;
    let second = Certificates::new(&dir.path().join("second"), "second")?;
    second.issue("listener", &["127.0.0.1"])?;
    let backend = format!(
        "address = \"127.0.0.1:{}\"\nuser = \"{}\"\npassword = \"{}\"\nlisten_tls = {{ {} }}\n",
        s.cluster.server(Bank::One).port(),
        SERVICE.0,
        SERVICE.1,
        first.pair("listener")
    );
    let (mut proxy, port) = setup::proxy(&s.cluster, dir.path(), &backend)?;
    proxy.restart().await?;
    let options = |trusted: &Certificates| sql::options(port, APP, None).ssl_opts(Some(trusted.trusted()));
    let mut old = sql::connect_with(options(&first)).await?;
    ensure!(sql::connect_with(options(&second)).await.is_err(), "the wrong authority was believed");

    for name in ["listener.pem", "listener.key"] {
        std::fs::copy(second.file(name), first.file(name))?;
    }
    ensure!(sql::connect_with(options(&first)).await.is_ok(), "nobody has asked for the new certificate yet");
    proxy.hang_up()?;
    let logged = |what: &'static str| {
        let proxy = &proxy;
        wait::until(what, Duration::from_secs(10), move || async move {
            Ok(proxy.log().contains(what).then_some(()))
        })
    };
    logged("certificates reloaded").await?;
    sql::connect_with(options(&second)).await?.disconnect().await?;
    ensure!(sql::connect_with(options(&first)).await.is_err(), "the old certificate is still shown");
    // Who was connected stays so.
    ensure!(sql::cell(&mut old, "SELECT 42").await? == "42");

    std::fs::write(first.file("listener.key"), "nonsense")?;
    proxy.hang_up()?;
    logged("the former certificates stay in use").await?;
    sql::connect_with(options(&second)).await?.disconnect().await?;
    proxy.check_running()?;
    Ok(())
}
