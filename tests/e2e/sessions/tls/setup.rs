//! Servers with TLS, certificates, and proxies with every combination of legs in front of them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::certificates::Certificates;
use atone_tests::daemon::Daemon;
use atone_tests::ports::free_port;
use atone_tests::server::SERVICE_RIGHTS;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, PerFlavor, paths, sql};
use mysql_async::{OptsBuilder, SslOpts};

/// The service account of the proxies with TLS: it may not come without.
pub(crate) const SERVICE: (&str, &str) = ("atone_tls", "secret");

/// How the two legs of a listener are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    /// TLS offered; TLS with the server, checked in full, to the first server.
    Bank1,
    /// TLS offered; TLS with the server, its authority checked, to the second server.
    Bank2,
    /// TLS offered, not used with the server.
    PlainServer,
    /// TLS not offered, but used with the server.
    PlainClient,
    /// Neither.
    Plain,
    /// TLS 1.3 with a client's certificate required.
    Strict,
    /// TLS offered, the server by its Unix socket.
    Unix,
    /// TLS with the server preferred, where it offers it.
    Preferred,
    /// TLS offered; with the server as the client has it, which is what holds where nothing is said.
    AsClient,
    /// Nothing is said of either leg.
    Own,
    /// The same, the server by its Unix socket.
    OwnUnix,
}

const LISTENERS: [Listener; 11] = [
    Listener::Bank1,
    Listener::Bank2,
    Listener::PlainServer,
    Listener::PlainClient,
    Listener::Plain,
    Listener::Strict,
    Listener::Unix,
    Listener::Preferred,
    Listener::AsClient,
    Listener::Own,
    Listener::OwnUnix,
];

/// The servers, and one proxy that has all the listeners.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) cluster: Cluster,
    pub(crate) certificates: Certificates,
    ports: [u16; LISTENERS.len()],
    pub(crate) proxy: Daemon,
    _dir: tempfile::TempDir,
}

impl Setup {
    /// The one that the tests of a flavor share.
    pub(crate) async fn shared(flavor: Flavor) -> Result<Arc<Setup>> {
        static SHARED: PerFlavor<Setup> = PerFlavor::new();
        SHARED.get(flavor, Self::start(flavor)).await
    }

    async fn start(flavor: Flavor) -> Result<Setup> {
        let dir = paths::fresh_dir("tls-")?;
        let certificates = Certificates::new(&dir.path().join("ca"), "atone tests")?;
        certificates.issue("server", &["127.0.0.1"])?;
        certificates.issue("listener", &["127.0.0.1"])?;
        certificates.issue("client", &["somebody"])?;
        let file = |name: &str| certificates.file(name).display().to_string();
        let server_options = vec![
            format!("--ssl-ca={}", file("ca.pem")),
            format!("--ssl-cert={}", file("server.pem")),
            format!("--ssl-key={}", file("server.key")),
        ];
        let options = ClusterOptions { server_options, ..ClusterOptions::default() };
        let cluster = Cluster::start_with(flavor, options).await?;
        for bank in [Bank::One, Bank::Two] {
            let mut admin = cluster.server(bank).admin().await?;
            let (user, password) = SERVICE;
            sql::run(&mut admin, format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"))
                .await?;
            sql::run(&mut admin, format!("GRANT {SERVICE_RIGHTS} ON *.* TO '{user}'@'%'")).await?;
        }
        let http = free_port()?;
        let mut ports = [0; LISTENERS.len()];
        let mut config = head(&cluster, http);
        for (listener, port) in LISTENERS.into_iter().zip(&mut ports) {
            *port = free_port()?;
            config += &backend(&cluster, &certificates, listener, *port);
        }
        let mut proxy = Daemon::prepare("atone-proxy", dir.path(), &config, http)?;
        proxy.restart().await?;
        Ok(Setup { cluster, certificates, ports, proxy, _dir: dir })
    }

    /// The port of a listener.
    pub(crate) fn port(&self, listener: Listener) -> Result<u16> {
        let at = LISTENERS.iter().position(|l| *l == listener).context("no such listener")?;
        Ok(self.ports[at])
    }

    /// Options for a client without TLS.
    pub(crate) fn plain(&self, listener: Listener, account: (&str, &str)) -> Result<OptsBuilder> {
        Ok(sql::options(self.port(listener)?, account, None))
    }

    /// Options for a client with TLS that checks the listener's certificate.
    pub(crate) fn tls(&self, listener: Listener, account: (&str, &str)) -> Result<OptsBuilder> {
        let trusted = match listener {
            // The proxy has made its certificate for itself
            Listener::Own | Listener::OwnUnix => unchecked(),
            _ => self.certificates.trusted(),
        };
        Ok(self.plain(listener, account)?.ssl_opts(Some(trusted)))
    }
}

/// A client's options that take any certificate.
pub(crate) fn unchecked() -> SslOpts {
    SslOpts::default().with_danger_accept_invalid_certs(true)
}

/// What a proxy's configuration begins with.
pub(crate) fn head(cluster: &Cluster, http: u16) -> String {
    format!("coordinator = [\"http://127.0.0.1:{}\"]\nhttp = \"127.0.0.1:{http}\"\n", cluster.rpc_port())
}

fn backend(cluster: &Cluster, certificates: &Certificates, listener: Listener, port: u16) -> String {
    let address = |bank: Bank| format!("127.0.0.1:{}", cluster.server(bank).port());
    let socket = cluster.server(Bank::One).socket();
    let ca = certificates.file("ca.pem").display().to_string();
    let offered = format!("listen_tls = {{ {} }}\n", certificates.pair("listener"));
    let identity = format!("server_tls = {{ mode = 'verify-identity', ca = '{ca}' }}\n");
    let required = "server_tls = { mode = 'required' }\n".to_owned();
    let disabled = "server_tls = { mode = 'disabled' }\n".to_owned();
    let off = "listen_tls = 'off'\n".to_owned();
    let tls = SERVICE;
    let plain = atone_tests::server::SERVICE;
    let (name, address, account, listen, server) = match listener {
        Listener::Bank1 => ("bank1", address(Bank::One), tls, offered, identity),
        Listener::Bank2 => (
            "bank2",
            address(Bank::Two),
            tls,
            offered,
            format!("server_tls = {{ mode = 'verify-ca', ca = '{ca}', {} }}\n", certificates.pair("client")),
        ),
        Listener::PlainServer => ("plain-server", address(Bank::One), plain, offered, disabled),
        Listener::PlainClient => ("plain-client", address(Bank::One), tls, off, required),
        Listener::Plain => ("plain", address(Bank::One), plain, off, disabled),
        Listener::Strict => (
            "strict",
            address(Bank::One),
            tls,
            format!(
                "listen_tls = {{ {}, client_ca = '{ca}', require = true, min_version = '1.3' }}\n",
                certificates.pair("listener")
            ),
            required,
        ),
        Listener::Unix => ("unix", format!("unix:{}", socket.display()), plain, offered, disabled),
        Listener::AsClient => ("as-client", address(Bank::One), tls, offered, String::new()),
        Listener::Own => ("own", address(Bank::One), tls, String::new(), String::new()),
        Listener::OwnUnix => {
            ("own-unix", format!("unix:{}", socket.display()), plain, String::new(), String::new())
        }
        Listener::Preferred => (
            "preferred",
            address(Bank::One),
            tls,
            offered,
            "server_tls = { mode = 'preferred' }\n".to_owned(),
        ),
    };
    format!(
        "[[backend]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\naddress = \"{address}\"\nuser = \"{}\"\n\
         password = \"{}\"\n{listen}{server}",
        account.0, account.1
    )
}

/// A proxy of its own with one backend, which is given but for its listener; not yet started.
pub(crate) fn proxy(cluster: &Cluster, dir: &Path, backend: &str) -> Result<(Daemon, u16)> {
    let (http, port) = (free_port()?, free_port()?);
    ensure!(!backend.contains("listen ="), "the listener is added here");
    let config = format!(
        "{}[[backend]]\nname = \"own\"\nlisten = \"127.0.0.1:{port}\"\n{backend}",
        head(cluster, http)
    );
    Ok((Daemon::prepare("atone-proxy", dir, &config, http)?, port))
}
