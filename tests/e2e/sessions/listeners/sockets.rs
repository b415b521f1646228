//! Unix sockets, IPv6, and what TCP connections are set to.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::daemon::Daemon;
use atone_tests::own::Own;
use atone_tests::ports::free_port;
use atone_tests::server::{ADMIN, APP, SERVICE};
use atone_tests::{Bank, Flavor, cli, paths, sql, wait};
use mysql_async::{ChangeUserOpts, OptsBuilder};

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

fn by_socket(path: &Path, account: (&str, &str)) -> OptsBuilder {
    OptsBuilder::default()
        .user(Some(account.0))
        .pass(Some(account.1))
        .socket(Some(path.display().to_string()))
        .stmt_cache_size(0)
}

pub(crate) async fn a_unix_socket(s: Arc<Own>) -> Result<()> {
    let schema = s.cluster.bank_schema("unix").await?;
    for name in ["tcp.sock", "unix.sock"] {
        let path = s.dir().join(name);
        let metadata = std::fs::symlink_metadata(&path)?;
        ensure!(metadata.file_type().is_socket() && metadata.permissions().mode() & 0o777 == 0o777);
        let mut conn = sql::connect_with(by_socket(&path, APP).db_name(Some(&schema))).await?;
        let xid = sql::start_global(&mut conn).await?;
        sql::run(&mut conn, "UPDATE account SET balance = 0").await?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        s.cluster.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        let balances = sql::rows(&mut conn, "SELECT balance FROM account").await?;
        ensure!(balances == ["100", "100", "100"], "{balances:?}");
        let through = sql::refused_login(by_socket(&path, (APP.0, "wrong"))).await?;
        ensure!(through.0 == 1045 && !through.1.contains("atone"), "{through:?}");
    }
    Ok(())
}

fn config(s: &Own, socket: &Path, http: u16) -> String {
    format!(
        "coordinator = [\"http://127.0.0.1:{}\"]\nhttp = \"127.0.0.1:{http}\"\n[[backend]]\nname = \"own\"\n\
         listen = \"unix:{}\"\naddress = \"127.0.0.1:{}\"\nuser = \"{}\"\npassword = \"{}\"\n",
        s.cluster.rpc_port(),
        socket.display(),
        s.cluster.server(Bank::One).port(),
        SERVICE.0,
        SERVICE.1
    )
}

pub(crate) async fn the_file_of_a_socket(s: Arc<Own>) -> Result<()> {
    let dir = paths::fresh_dir("socket-")?;
    let path = dir.path().join("a.sock");
    let http = free_port()?;
    let mut proxy = Daemon::prepare("atone-proxy", dir.path(), &config(&s, &path, http), http)?;
    // The end removes it
    proxy.restart().await?;
    sql::connect_with(by_socket(&path, APP)).await?.disconnect().await?;
    proxy.sigterm().await?;
    ensure!(!path.exists(), "the file is left behind");
    // A kill does not; the next start replaces it
    proxy.restart().await?;
    proxy.kill9()?;
    ensure!(path.exists());
    proxy.restart().await?;
    sql::connect_with(by_socket(&path, APP)).await?.disconnect().await?;

    // Somebody listens there: he is left alone, also when the second ends
    let other = paths::fresh_dir("socket-")?;
    let http = free_port()?;
    let file = other.path().join("proxy.toml");
    std::fs::write(&file, config(&s, &path, http))?;
    refused(&file).await?;
    sql::connect_with(by_socket(&path, APP)).await?.disconnect().await?;
    // Another's file with the name is not removed at the end
    std::fs::rename(&path, dir.path().join("b.sock"))?;
    let _elsewhere = UnixListener::bind(&path)?;
    proxy.sigterm().await?;
    ensure!(path.exists(), "another's file was removed");

    // What is no socket is never replaced
    let precious = other.path().join("precious");
    std::fs::write(&precious, "data")?;
    std::fs::write(&file, config(&s, &precious, http))?;
    refused(&file).await?;
    ensure!(std::fs::read(&precious)? == b"data");
    Ok(())
}

async fn refused(config: &Path) -> Result<()> {
    let args = ["--config", &config.display().to_string()];
    let output = cli::run(&paths::binary("atone-proxy")?, &args, &[("RUST_BACKTRACE", "0")], &[]).await?;
    ensure!(output.code == 1 && output.stderr.contains("in use"), "{output:?}");
    Ok(())
}

pub(crate) async fn ipv6(s: Arc<Own>) -> Result<()> {
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        // The word is what a reader of the output looks for
        eprintln!("SKIPPED: there is no IPv6 here");
        return Ok(());
    };
    let port = free.local_addr()?.port();
    drop(free);
    let dir = paths::fresh_dir("ipv6-")?;
    let listen = format!("listen = '[::1]:{port}'\nlisten_proxy_protocol = ['10.0.0.0/8', '2001:db8::/32']");
    let (_proxy, _) = s.cluster.proxy_with(dir.path(), &[listen]).await?;
    let options = sql::options(port, APP, None).ip_or_hostname("::1");
    let mut conn = sql::connect_with(options).await?;
    ensure!(sql::cell(&mut conn, "SELECT 42").await? == "42");
    Ok(())
}

/// The timers of established TCP connections between these ports, as `/proc/net/tcp` has them; 2 is keepalive's.
fn timers(local: Option<u16>, remote: Option<u16>) -> Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/net/tcp")?;
    let has = |address: &str, port: Option<u16>| {
        port.is_none_or(|port| address.rsplit(':').next() == Some(format!("{port:04X}").as_str()))
    };
    Ok(text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|f| f.len() > 5 && f[3] == "01" && has(f[1], local) && has(f[2], remote))
        .map(|f| f[5].split(':').next().unwrap_or_default().to_owned())
        .collect())
}

pub(crate) async fn signs_of_life(s: Arc<Own>) -> Result<()> {
    let dir = paths::fresh_dir("keepalive-")?;
    // A server that says nothing, so that there is one connection to it
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let to = server.local_addr()?.port();
    for (timeouts, timer) in [("", "02"), ("[timeouts]\ntcp_keepalive = \"0s\"", "00")] {
        let line = format!("address = '127.0.0.1:{to}'");
        // Nor one of the service account
        let sections = format!("[limits]\nmin_service_connections = 0\n{timeouts}");
        let (mut proxy, ports) = s.cluster.prepare_proxy(dir.path(), &[line], &sections)?;
        proxy.launch()?;
        let _client = wait::until("the listener is open", SOON, || async {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", ports[0])).await.ok())
        })
        .await?;
        let _server = server.accept().await?;
        let legs = (timers(Some(ports[0]), None)?, timers(None, Some(to))?);
        ensure!(legs == (vec![timer.to_owned()], vec![timer.to_owned()]), "{timeouts}: {legs:?}");
    }
    Ok(())
}

async fn own_name() -> Result<String> {
    let id = paths::on_path("id").context("there is no `id`")?;
    Ok(cli::run(&id, &["-un"], &[], &[]).await?.success()?.trim().to_owned())
}

/// Whoever reaches the server by its socket is the proxy's user there: nobody else may profit from that.
pub(crate) async fn the_proxys_own_user(s: Arc<Own>) -> Result<()> {
    let me = own_name().await?;
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    let plugin = match s.cluster.flavor() {
        Flavor::MariaDb => "VIA unix_socket",
        Flavor::MySql => {
            sql::run(&mut admin, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'").await?;
            "WITH auth_socket"
        }
    };
    sql::run(&mut admin, format!("DROP USER IF EXISTS '{me}'@'localhost'")).await?;
    sql::run(&mut admin, format!("CREATE USER '{me}'@'localhost' IDENTIFIED {plugin}")).await?;
    let whoami = "SELECT CURRENT_USER()";
    // It is what it looks like, without the proxy
    let server = s.cluster.server(Bank::One).socket();
    let mut straight = sql::connect_with(by_socket(&server, (&me, ""))).await?;
    ensure!(sql::cell(&mut straight, whoami).await? == format!("{me}@localhost"));

    let refusal = sql::refused_login(sql::options(s.ports[2], (&me, ""), None)).await.context("by TCP")?;
    ensure!(refusal.0 == 1045 && refusal.1.starts_with("atone: Access denied"), "{refusal:?}");
    let mut conn = sql::connect(s.ports[2], APP, None).await?;
    let other = ChangeUserOpts::new().with_user(Some(me.clone())).with_pass(Some(String::new()));
    let error = sql::server_error(conn.change_user(other.clone()).await, "a change to the proxy's user")?;
    ensure!(error.code == 1045 && error.message.starts_with("atone: "), "{error:?}");
    ensure!(sql::cell(&mut conn, "SELECT 1").await.is_err(), "the connection is still open");

    // The same user on the client's side
    let mut conn = sql::connect_with(by_socket(&s.dir().join("unix.sock"), (&me, ""))).await?;
    ensure!(sql::cell(&mut conn, whoami).await? == format!("{me}@localhost"));
    let mut conn = sql::connect_with(by_socket(&s.dir().join("unix.sock"), APP)).await?;
    conn.change_user(other).await?;
    ensure!(sql::cell(&mut conn, whoami).await? == format!("{me}@localhost"));
    match s.cluster.flavor() {
        Flavor::MariaDb => Ok(()),
        Flavor::MySql => two_factors(&s, &me).await,
    }
}

/// An account of MySQL with a password and, as its second factor, the user that the client is to the system.
async fn two_factors(s: &Own, me: &str) -> Result<()> {
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    let factors = format!("WITH caching_sha2_password BY 'first' AND IDENTIFIED WITH auth_socket AS '{me}'");
    sql::run_all(
        &mut admin,
        &["SET GLOBAL authentication_policy = '*,*'", &format!("CREATE USER two IDENTIFIED {factors}")],
    )
    .await?;
    let program = s.cluster.flavor().client_program("mysql")?;
    let sockets = [s.cluster.server(Bank::One).socket(), s.dir().join("unix.sock")];
    for socket in sockets.map(|socket| format!("--socket={}", socket.display())) {
        for (password, let_in) in [("--password1=first", true), ("--password1=wrong", false)] {
            let args = ["--no-defaults", &socket, "-u", "two", password, "-N", "-e", "SELECT CURRENT_USER()"];
            let output = cli::run(&program, &args, &[], &[]).await?;
            ensure!((output.stdout.trim() == "two@%") == let_in, "{socket}: {output:?}");
            ensure!(output.stderr.contains("ERROR 1045") != let_in, "{socket}: {output:?}");
        }
    }
    Ok(())
}

/// A Unix socket is a private leg: clients send passwords in the clear there.
pub(crate) async fn passwords_over_a_unix_socket(s: Arc<Own>) -> Result<()> {
    if s.cluster.flavor() == Flavor::MariaDb {
        // It has no plugin that its own clients would send a password in the clear for
        return Ok(());
    }
    let mut admin = s.cluster.server(Bank::One).admin().await?;
    for socket in ["tcp.sock", "unix.sock"] {
        sql::run(&mut admin, "DROP USER IF EXISTS fresh").await?;
        sql::run(&mut admin, "CREATE USER fresh IDENTIFIED WITH caching_sha2_password BY 'f-pw'").await?;
        let path = format!("--socket={}", s.dir().join(socket).display());
        let program = s.cluster.flavor().client_program("mysql")?;
        for password in ["-pwrong", "-pf-pw", "-pf-pw", "-pwrong"] {
            let args = ["--no-defaults", &path, "-u", "fresh", password, "-N", "-e", "SELECT CURRENT_USER()"];
            let output = cli::run(&program, &args, &[], &[]).await?;
            if password == "-pwrong" {
                ensure!(output.stderr.contains("ERROR 1045"), "{socket}: {output:?}");
            } else {
                ensure!(output.success()?.trim() == "fresh@%", "{socket}");
            }
        }
    }
    let mut conn = sql::connect_with(by_socket(&s.dir().join("unix.sock"), ADMIN)).await?;
    ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == format!("{}@%", ADMIN.0));
    Ok(())
}
