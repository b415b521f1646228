//! Two servers, a coordinator and a proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use mysql_async::{Conn, OptsBuilder};

use crate::cli::{self, Output};
use crate::daemon::Daemon;
use crate::flavor::Flavor;
use crate::paths;
use crate::per_flavor::PerFlavor;
use crate::ports::{free_port, preferably};
use crate::rest::Rest;
use crate::server::{APP, SERVICE, Server};
use crate::sql;
use crate::wait::until;

/// How long phase two may take in a test before it counts as not happening.
pub const SOON: Duration = Duration::from_secs(20);

/// One of the two servers; also the name of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bank {
    /// `bank1`.
    One,
    /// `bank2`.
    Two,
}

impl Bank {
    /// The resource's name.
    pub fn resource(self) -> &'static str {
        match self {
            Bank::One => "bank1",
            Bank::Two => "bank2",
        }
    }
}

/// What may differ from one cluster to the next.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// `transaction.default_timeout` of the coordinator.
    pub default_timeout: String,
    /// More lines for the coordinator's `[transaction]` section.
    pub coordinator_transaction: String,
    /// Lines of the proxy's `[limits]` section.
    pub proxy_limits: String,
    /// Lines of the proxy's `[timeouts]` section.
    pub proxy_timeouts: String,
    /// More options for both servers.
    pub server_options: Vec<String>,
    /// The server program; by default the flavor's.
    pub server_program: Option<PathBuf>,
    /// Take the ports of the documentation's examples where they are free.
    pub documented_ports: bool,
}

impl ClusterOptions {
    /// What is known of a table is believed for an hour.
    pub fn believing() -> Self {
        Self { proxy_timeouts: "metadata_ttl = \"1h\"\n".to_owned(), ..Self::default() }
    }
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            default_timeout: "60s".to_owned(),
            coordinator_transaction: String::new(),
            proxy_limits: String::new(),
            proxy_timeouts: String::new(),
            server_options: Vec::new(),
            server_program: None,
            documented_ports: false,
        }
    }
}

/// Two servers, a coordinator and a proxy, all running.
#[derive(Debug)]
pub struct Cluster {
    flavor: Flavor,
    dir: tempfile::TempDir,
    /// The first server.
    pub bank1: Server,
    /// The second server.
    pub bank2: Server,
    /// The coordinator.
    pub coordinator: Daemon,
    /// The proxy in front of both servers.
    pub proxy: Daemon,
    proxy_ports: [u16; 2],
    rpc_port: u16,
    next_schema: AtomicU32,
}

impl Cluster {
    /// Starts everything and waits until it serves.
    pub async fn start(flavor: Flavor) -> Result<Self> {
        Self::start_with(flavor, ClusterOptions::default()).await
    }

    /// Starts everything and waits until it serves.
    pub async fn start_with(flavor: Flavor, options: ClusterOptions) -> Result<Self> {
        let program = match &options.server_program {
            Some(program) => program.clone(),
            None => flavor.server_program()?,
        };
        let server_options: Vec<&str> = options.server_options.iter().map(String::as_str).collect();
        let (bank1, bank2) = tokio::join!(
            Server::start_with(flavor, &program, &server_options),
            Server::start_with(flavor, &program, &server_options)
        );
        let (bank1, bank2) = (bank1?, bank2?);
        let dir = paths::fresh_dir("atone-")?;
        let port = |documented| if options.documented_ports { preferably(documented) } else { free_port() };
        let (rpc_port, http_port, proxy_http) = (port(7091)?, port(7092)?, port(7094)?);
        let proxy_ports = [port(4001)?, port(4002)?];
        let coordinator_config = format!(
            "[listen]\nrpc = \"127.0.0.1:{rpc_port}\"\nhttp = \"127.0.0.1:{http_port}\"\n\
             [store]\nkind = \"embedded\"\npath = \"{}\"\n\
             [transaction]\ndefault_timeout = \"{}\"\n{}",
            dir.path().join("data").display(),
            options.default_timeout,
            options.coordinator_transaction,
        );
        let mut proxy_config = proxy_config(rpc_port, proxy_http, [&bank1, &bank2], proxy_ports);
        proxy_config += &format!("[limits]\n{}[timeouts]\n{}", options.proxy_limits, options.proxy_timeouts);
        let mut cluster = Self {
            flavor,
            coordinator: Daemon::prepare("atone-coordinator", dir.path(), &coordinator_config, http_port)?,
            proxy: Daemon::prepare("atone-proxy", dir.path(), &proxy_config, proxy_http)?,
            dir,
            bank1,
            bank2,
            proxy_ports,
            rpc_port,
            next_schema: AtomicU32::new(1),
        };
        cluster.coordinator.restart().await?;
        cluster.proxy.restart().await?;
        Ok(cluster)
    }

    /// One more proxy in front of the same servers, and its ports. It ends when it is dropped.
    pub async fn second_proxy(&self) -> Result<(Daemon, [u16; 2])> {
        let (http, ports) = (free_port()?, [free_port()?, free_port()?]);
        let dir = self.dir.path().join("second");
        std::fs::create_dir_all(&dir)?;
        let config = proxy_config(self.rpc_port, http, [&self.bank1, &self.bank2], ports);
        let mut proxy = Daemon::prepare("atone-proxy", &dir, &config, http)?;
        proxy.restart().await?;
        Ok((proxy, ports))
    }

    /// One more proxy. For each of `listeners` it has a listener on a TCP port in front of the first server; they are
    /// more lines of a `[[backend]]`. The resources are `own0`, `own1` and so on. Ends when it is dropped.
    pub async fn proxy_with(&self, dir: &Path, listeners: &[impl AsRef<str>]) -> Result<(Daemon, Vec<u16>)> {
        let (mut proxy, ports) = self.prepare_proxy(dir, listeners, "")?;
        proxy.restart().await?;
        Ok((proxy, ports))
    }

    /// The same, not started yet, with these further sections.
    pub fn prepare_proxy(
        &self,
        dir: &Path,
        listeners: &[impl AsRef<str>],
        sections: &str,
    ) -> Result<(Daemon, Vec<u16>)> {
        let http = free_port()?;
        let mut config =
            format!("coordinator = [\"http://127.0.0.1:{}\"]\nhttp = \"127.0.0.1:{http}\"\n", self.rpc_port);
        let mut ports = Vec::new();
        for (n, more) in listeners.iter().enumerate() {
            let more = more.as_ref();
            let port = free_port()?;
            config += &format!("[[backend]]\nname = \"own{n}\"\n{more}\n");
            let line = |key: &str, value: String| {
                let given = more.lines().any(|line| line.starts_with(&format!("{key} =")));
                if given { String::new() } else { format!("{key} = \"{value}\"\n") }
            };
            config += &line("listen", format!("127.0.0.1:{port}"));
            config += &line("address", format!("127.0.0.1:{}", self.bank1.port()));
            config += &line("user", SERVICE.0.to_owned());
            config += &line("password", SERVICE.1.to_owned());
            ports.push(port);
        }
        config += sections;
        Ok((Daemon::prepare("atone-proxy", dir, &config, http)?, ports))
    }

    /// The cluster that the tests of one program share, one a flavor. Tests that kill or configure need their own.
    pub async fn shared(flavor: Flavor) -> Result<Arc<Self>> {
        static SHARED: PerFlavor<Cluster> = PerFlavor::new();
        SHARED.get(flavor, Self::start(flavor)).await
    }

    /// The kind of its servers.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// One of the servers.
    pub fn server(&self, bank: Bank) -> &Server {
        match bank {
            Bank::One => &self.bank1,
            Bank::Two => &self.bank2,
        }
    }

    /// The port on which the proxy listens for this server.
    pub fn proxy_port(&self, bank: Bank) -> u16 {
        match bank {
            Bank::One => self.proxy_ports[0],
            Bank::Two => self.proxy_ports[1],
        }
    }

    /// The coordinator's port for proxies.
    pub fn rpc_port(&self) -> u16 {
        self.rpc_port
    }

    /// The folder of the daemons: configs, logs, the coordinator's data.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The coordinator's REST interface.
    pub fn rest(&self) -> &Rest {
        self.coordinator.rest()
    }

    /// A schema of its own on both servers, empty.
    pub async fn schema(&self, name: &str) -> Result<String> {
        let name = format!("{name}_{}", self.next_schema.fetch_add(1, Ordering::Relaxed));
        for bank in [Bank::One, Bank::Two] {
            let mut conn = self.server(bank).admin().await?;
            sql::run(&mut conn, format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await?;
            conn.disconnect().await?;
        }
        Ok(name)
    }

    /// Drops a schema that is done with. With hundreds of them MariaDB takes long to find a table's foreign keys, since
    /// it opens every table for it.
    pub async fn drop_schema(&self, name: &str) -> Result<()> {
        for bank in [Bank::One, Bank::Two] {
            let mut conn = self.server(bank).admin().await?;
            sql::run(&mut conn, format!("DROP DATABASE `{name}`")).await?;
            conn.disconnect().await?;
        }
        Ok(())
    }

    /// A schema on both servers with the table `account (id INT PRIMARY KEY, name VARCHAR(40), balance INT)` and the
    /// rows 1, 2 and 3, with 100 each.
    pub async fn bank_schema(&self, name: &str) -> Result<String> {
        let name = self.schema(name).await?;
        for bank in [Bank::One, Bank::Two] {
            let mut conn = self.direct(bank, &name).await?;
            sql::run_all(
                &mut conn,
                &[
                    "CREATE TABLE account (id INT PRIMARY KEY, name VARCHAR(40), balance INT NOT NULL)",
                    "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 100), (3, NULL, 100)",
                ],
            )
            .await?;
            conn.disconnect().await?;
        }
        Ok(name)
    }

    /// The application's connection through the proxy.
    pub async fn app(&self, bank: Bank, schema: &str) -> Result<Conn> {
        sql::connect(self.proxy_port(bank), APP, Some(schema)).await
    }

    /// Options for the application's connection through the proxy.
    pub fn app_options(&self, bank: Bank, schema: &str) -> OptsBuilder {
        sql::options(self.proxy_port(bank), APP, Some(schema))
    }

    /// The application's connection around the proxy.
    pub async fn direct(&self, bank: Bank, schema: &str) -> Result<Conn> {
        self.server(bank).connect(APP, Some(schema)).await
    }

    /// All rows of a query, asked around the proxy.
    pub async fn rows(&self, bank: Bank, schema: &str, query: &str) -> Result<Vec<String>> {
        let mut conn = self.direct(bank, schema).await?;
        let rows = sql::rows(&mut conn, query).await?;
        conn.disconnect().await?;
        Ok(rows)
    }

    /// The rows of `account` as `id|name|balance`.
    pub async fn accounts(&self, bank: Bank, schema: &str) -> Result<Vec<String>> {
        self.rows(bank, schema, "SELECT id, name, balance FROM account ORDER BY id").await
    }

    /// Waits until the first server's connection `id` is in a statement like this.
    pub async fn until_running(&self, id: u32, pattern: &str) -> Result<()> {
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND INFO LIKE '{pattern}'"
        );
        until(&format!("connection {id} runs {pattern}"), SOON, || async {
            let mut admin = self.server(Bank::One).admin().await?;
            Ok((sql::cell(&mut admin, &query).await? != "0").then_some(()))
        })
        .await
    }

    /// Rolls a global transaction back, and waits for it.
    pub async fn roll_back_global(&self, conn: &mut Conn, xid: &str) -> Result<()> {
        sql::run(conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        self.rest().wait_for_status(xid, "rolled_back", SOON).await?;
        Ok(())
    }

    /// The rows of `undo_log` of this schema as `branch_id|xid|log_status`, without markers of branches that never
    /// committed; none where there is no such table.
    pub async fn undo_list(&self, bank: Bank, schema: &str) -> Result<Vec<String>> {
        let there = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME = 'undo_log'"
        );
        let mut conn = self.direct(bank, schema).await?;
        let mut rows = Vec::new();
        if sql::cell(&mut conn, &there).await? != "0" {
            let list = "SELECT branch_id, xid, log_status FROM undo_log WHERE log_status <> 1 ORDER BY 1";
            rows = sql::rows(&mut conn, list).await?;
        }
        conn.disconnect().await?;
        Ok(rows)
    }

    /// How many rows [`Cluster::undo_list`] has.
    pub async fn undo_rows(&self, bank: Bank, schema: &str) -> Result<usize> {
        Ok(self.undo_list(bank, schema).await?.len())
    }

    /// Waits until the schema has no undo rows on this server.
    pub async fn wait_for_purge(&self, bank: Bank, schema: &str) -> Result<()> {
        let what = format!("undo_log of {schema} on {} is purged", bank.resource());
        let purged =
            until(&what, SOON, || async { Ok((self.undo_rows(bank, schema).await? == 0).then_some(())) })
                .await;
        match purged {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(format!("left: {:?}", self.undo_list(bank, schema).await?))),
        }
    }

    /// Runs the operator's command line against this cluster's coordinator.
    pub async fn atone(&self, args: &[&str]) -> Result<Output> {
        let env = [("ATONE_COORDINATOR", self.rest().base()), ("NO_COLOR", "1")];
        cli::run(&paths::binary("atone")?, args, &env, &[]).await
    }

    /// Runs `atone undo …` with the proxy's config and this server.
    pub async fn atone_undo(&self, bank: Bank, args: &[&str]) -> Result<Output> {
        let config = self.proxy.config().to_string_lossy().into_owned();
        let mut all = vec!["undo"];
        all.extend_from_slice(args);
        all.extend_from_slice(&["--config", &config, "--resource", bank.resource()]);
        self.atone(&all).await
    }

    /// The ends of all logs, for a failure's report.
    pub fn log_tails(&self) -> String {
        [
            self.coordinator.log_tail(80),
            self.proxy.log_tail(80),
            self.bank1.log_tail(25),
            self.bank2.log_tail(25),
        ]
        .concat()
    }
}

/// The configuration of a proxy in front of these servers.
pub(crate) fn proxy_config(rpc_port: u16, http_port: u16, servers: [&Server; 2], ports: [u16; 2]) -> String {
    let mut config =
        format!("coordinator = [\"http://127.0.0.1:{rpc_port}\"]\nhttp = \"127.0.0.1:{http_port}\"\n");
    for ((bank, server), port) in [Bank::One, Bank::Two].into_iter().zip(servers).zip(ports) {
        config += &format!(
            "[[backend]]\nname = \"{}\"\nlisten = \"127.0.0.1:{port}\"\naddress = \"127.0.0.1:{}\"\nuser = \"{}\"\n\
             password = \"{}\"\n",
            bank.resource(),
            server.port(),
            SERVICE.0,
            SERVICE.1,
        );
    }
    config
}
