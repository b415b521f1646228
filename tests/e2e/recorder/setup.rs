//! Two servers of a kind with TLS, and a proxy in front of the first.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::daemon::Daemon;
use atone_tests::ports::free_port;
use atone_tests::server::{ADMIN, APP, RAW, SERVICE};
use atone_tests::wire::{Greeting, Login, RawConn, Session, payload};
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, paths};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::OnceCell;

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
        static MARIADB: OnceCell<Arc<Setup>> = OnceCell::const_new();
        static MYSQL: OnceCell<Arc<Setup>> = OnceCell::const_new();
        let cell = if flavor == Flavor::MariaDb { &MARIADB } else { &MYSQL };
        cell.get_or_try_init(|| async { Ok(Arc::new(Self::start(flavor).await?)) }).await.cloned()
    }

    async fn start(flavor: Flavor) -> Result<Setup> {
        let dir = paths::fresh_dir("recorder-")?;
        let file = |name: &str| dir.path().join(name).display().to_string();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
        std::fs::write(file("cert.pem"), certificate.pem())?;
        std::fs::write(file("key.pem"), key.serialize_pem())?;
        let mut server_options = vec![
            format!("--ssl-cert={}", file("cert.pem")),
            format!("--ssl-key={}", file("key.pem")),
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
        let (http, plain, tls) = (free_port()?, free_port()?, free_port()?);
        let address = cluster.server(Bank::One).port();
        let (user, password) = SERVICE;
        let backend = |name: &str, port: u16| {
            format!(
                "[[backend]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\naddress = \"127.0.0.1:{address}\"\n\
                 user = \"{user}\"\npassword = \"{password}\"\n"
            )
        };
        let config = format!(
            "coordinator = [\"http://127.0.0.1:{}\"]\nhttp = \"127.0.0.1:{http}\"\n{}{}\
             listen_tls = {{ cert = '{}', key = '{}' }}\nserver_tls = {{ mode = 'required' }}\n",
            cluster.rpc_port(),
            backend("plain", plain),
            backend("tls", tls),
            file("cert.pem"),
            file("key.pem"),
        );
        let mut proxy = Daemon::prepare("atone-proxy", dir.path(), &config, http)?;
        proxy.restart().await?;
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
