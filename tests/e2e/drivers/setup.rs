//! The servers, and a proxy in front of the first with a listener of each transport. The second server is reached
//! directly.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use atone_tests::certificates::Certificates;
use atone_tests::cluster::SOON;
use atone_tests::daemon::Daemon;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, PerFlavor, paths, sql, wait};
use serde_json::Value;

/// The account that connections change to.
pub(crate) const OTHER: (&str, &str) = ("other", "other-pw");

/// The servers and the proxy that the tests of a flavor share.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) cluster: Cluster,
    pub(crate) certificates: Certificates,
    pub(crate) proxy: Daemon,
    plain_port: u16,
    tls_port: u16,
    _dir: tempfile::TempDir,
}

impl Setup {
    /// The one of this flavor, started by who comes first.
    pub(crate) async fn shared(flavor: Flavor) -> Result<Arc<Self>> {
        static SHARED: PerFlavor<Setup> = PerFlavor::new();
        SHARED.get(flavor, Self::start(flavor)).await
    }

    async fn start(flavor: Flavor) -> Result<Self> {
        let dir = paths::fresh_dir("drivers-")?;
        let certificates = Certificates::new(&dir.path().join("ca"), "atone drivers")?;
        for name in ["server", "listener"] {
            certificates.issue(name, &["127.0.0.1", "localhost"])?;
        }
        let file = |name: &str| certificates.file(name).display().to_string();
        let options = ClusterOptions {
            server_options: vec![
                format!("--ssl-ca={}", file("ca.pem")),
                format!("--ssl-cert={}", file("server.pem")),
                format!("--ssl-key={}", file("server.key")),
                "--max-allowed-packet=64M".to_owned(),
                // The large values would wait for the log to be written out.
                match flavor {
                    Flavor::MariaDb => "--innodb-log-file-size=256M".to_owned(),
                    Flavor::MySql => "--innodb-redo-log-capacity=256M".to_owned(),
                },
                "--innodb-flush-log-at-trx-commit=2".to_owned(),
                // MySQL has the list of user variables in it
                "--performance-schema=ON".to_owned(),
            ],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start_with(flavor, options).await?;
        for bank in [Bank::One, Bank::Two] {
            let mut admin = cluster.server(bank).admin().await?;
            let (user, password) = OTHER;
            sql::run(&mut admin, format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")).await?;
            sql::run(&mut admin, format!("GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO '{user}'@'%'"))
                .await?;
        }
        let tls = format!(
            "listen_tls = {{ {}, require = true }}\nserver_tls = {{ mode = 'verify-ca', ca = '{}' }}",
            certificates.pair("listener"),
            file("ca.pem"),
        );
        let (proxy, ports) = cluster.proxy_with(dir.path(), &["", &tls]).await?;
        let [plain_port, tls_port] = ports[..] else { bail!("two listeners were to be made") };
        Ok(Self { cluster, certificates, proxy, plain_port, tls_port, _dir: dir })
    }

    /// Where the proxy listens.
    pub(crate) fn proxy_port(&self, tls: bool) -> u16 {
        if tls { self.tls_port } else { self.plain_port }
    }

    /// How many connections the proxy has accepted so far.
    pub(crate) async fn accepted(&self) -> Result<f64> {
        let metrics = self.proxy.rest().get("/metrics").await?;
        let counted = metrics.text.lines().filter(|line| line.starts_with("atone_connections_total{"));
        Ok(counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// The rows of all tables of a schema, asked around the proxy.
    pub(crate) async fn dump(&self, bank: Bank, schema: &str) -> Result<Vec<String>> {
        let mut dump = Vec::new();
        for table in self.cluster.rows(bank, schema, "SHOW TABLES").await? {
            if table != "undo_log" {
                let rows =
                    self.cluster.rows(bank, schema, &format!("SELECT * FROM `{table}` ORDER BY 1")).await?;
                dump.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
            }
        }
        Ok(dump)
    }

    /// Waits until the only global transaction of this name has this status; returns it with its branches.
    pub(crate) async fn ended(&self, name: &str, status: &str) -> Result<Value> {
        let rest = self.cluster.rest();
        let list = rest.get(&format!("/v1/transactions?name={name}")).await?.expect(200)?;
        let xid = match list["transactions"].as_array().map(Vec::as_slice) {
            Some([only]) => only["xid"].as_str().context("no xid")?.to_owned(),
            _ => bail!("not one transaction of the name {name}: {list}"),
        };
        rest.wait_for_status(&xid, status, SOON).await
    }

    /// Empties MySQL's cache of passwords, so that the next login has to show the whole password.
    pub(crate) async fn forget_passwords(&self) -> Result<()> {
        for bank in [Bank::One, Bank::Two] {
            sql::run(&mut self.cluster.server(bank).admin().await?, "FLUSH PRIVILEGES").await?;
        }
        // The service account and the administrator of these tests may need theirs in the cache again.
        let ready = || async { Ok((self.proxy.rest().get("/readyz").await?.status == 200).then_some(())) };
        wait::until("the proxy is ready", SOON, ready).await
    }

    /// The ends of all logs.
    pub(crate) fn log_tails(&self) -> String {
        self.proxy.log_tail(60) + &self.cluster.coordinator.log_tail(20)
    }
}
