//! Two servers of a kind with TLS, and a proxy in front of the first.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::certificates::Certificates;
use atone_tests::daemon::Daemon;
use atone_tests::server::{ADMIN, APP, RAW};
use atone_tests::wire::{Greeting, Login, RawConn, Session, payload};
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, PerFlavor, paths};

use crate::script::Setting;

/// The servers and the proxy that the tests of a flavor share.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) cluster: Cluster,
    pub(crate) proxy: Daemon,
    /// Without TLS on either leg.
    pub(crate) plain: u16,
    /// With TLS on both.
    pub(crate) tls: u16,
    _dir: tempfile::TempDir,
}

/// Larger than any packet that a script sends, in bytes.
const MAX_ALLOWED_PACKET: usize = 128 << 20;

impl Setup {
    /// The one that the tests of a flavor share.
    pub(crate) async fn shared(flavor: Flavor) -> Result<Arc<Setup>> {
        static SHARED: PerFlavor<Setup> = PerFlavor::new();
        SHARED.get(flavor, Self::start(flavor)).await
    }

    async fn start(flavor: Flavor) -> Result<Setup> {
        let dir = paths::fresh_dir("recorder-")?;
        let certificates = Certificates::new(dir.path(), "atone recorder")?;
        certificates.issue("both", &["127.0.0.1"])?;
        let file = |name: &str| certificates.file(name).display().to_string();
        let mut server_options = vec![
            format!("--ssl-cert={}", file("both.pem")),
            format!("--ssl-key={}", file("both.key")),
            format!("--max-allowed-packet={MAX_ALLOWED_PACKET}"),
            "--performance-schema=ON".to_owned(),
            "--local-infile=ON".to_owned(),
            "--default-time-zone=+00:00".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--server-id=7".to_owned(),
            "--max-connect-errors=100000".to_owned(),
        ];
        server_options.push("--log-bin=binlog".to_owned());
        server_options.push("--sync-binlog=0".to_owned());
        let options = ClusterOptions { server_options, ..ClusterOptions::default() };
        let cluster = Cluster::start_with(flavor, options).await?;
        let tls =
            format!("listen_tls = {{ {} }}\nserver_tls = {{ mode = 'required' }}", certificates.pair("both"));
        let (proxy, ports) = cluster.proxy_with(dir.path(), &["", &tls]).await?;
        let [plain, tls] = ports[..] else { bail!("two listeners were to be made") };
        // caching_sha2_password remembers who was here; both servers shall know the same
        for bank in [Bank::One, Bank::Two] {
            for account in [APP, ADMIN, (RAW, "")] {
                cluster.server(bank).connect(account, None).await?.disconnect().await?;
            }
        }
        for bank in [Bank::One, Bank::Two] {
            let mut admin = Admin::open(cluster.server(bank).port()).await?;
            for statement in plugins(flavor) {
                admin.run(statement).await?;
            }
        }
        Ok(Setup { cluster, proxy, plain, tls, _dir: dir })
    }

    /// The proxy's port for this setting.
    pub(crate) fn through(&self, setting: &Setting) -> u16 {
        if setting.tls { self.tls } else { self.plain }
    }

    /// The server's port.
    pub(crate) fn straight(&self, bank: Bank) -> u16 {
        self.cluster.server(bank).port()
    }
}

/// What the scripts need of each server.
fn plugins(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MariaDb => &["INSTALL SONAME 'auth_ed25519'"],
        Flavor::MySql => &[
            "INSTALL COMPONENT 'file://component_query_attributes'",
            "INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so'",
            "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'",
        ],
    }
}

/// What is offered on a port.
pub(crate) async fn greeting(port: u16) -> Result<Greeting> {
    let mut conn = RawConn::connect(port).await?;
    let (_, packet) = conn.read().await?.context("closed before the greeting")?;
    Greeting::parse(&packet)
}

/// An administrator on a server, for what is not recorded.
#[derive(Debug)]
pub(crate) struct Admin(Session);

impl Admin {
    /// Logs in.
    pub(crate) async fn open(port: u16) -> Result<Self> {
        Ok(Self(Session::open(&Login::new(port, ADMIN).minimal()).await?))
    }

    /// Runs a statement, whatever it returns.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        let command = payload::query(self.0.capabilities, sql.as_bytes(), &[]);
        self.0.send(&command).await?;
        let reply = self.0.receive(&command, None).await?;
        let last = reply.last().map(|(_, packet)| packet);
        ensure!(last.is_some_and(|last| last.kind != "ERR" && last.kind != "closed"), "{sql}: {last:?}");
        Ok(())
    }
}
