//! Another build's coordinator and proxy, beside those of a cluster.

use std::path::Path;

use anyhow::Result;

use crate::cluster::{Bank, Cluster, proxy_config};
use crate::daemon::Daemon;
use crate::paths;
use crate::ports::free_port;

/// A coordinator and a proxy of another build, in front of a cluster's servers. They end when this is dropped.
///
/// Their coordinator knows nothing of the cluster's locks: what runs through both at the same time has to be on
/// different rows.
#[derive(Debug)]
pub struct OtherBuild {
    /// The coordinator.
    pub coordinator: Daemon,
    /// The proxy in front of both servers.
    pub proxy: Daemon,
    proxy_ports: [u16; 2],
    // Removed when both have ended
    _dir: tempfile::TempDir,
}

impl OtherBuild {
    /// Starts both from the binaries in `build`, and waits until they serve. Their configuration has only keys that
    /// every build reads.
    pub async fn start(cluster: &Cluster, build: &Path) -> Result<Self> {
        let dir = paths::fresh_dir("other-")?;
        let (rpc, coordinator_http, proxy_http) = (free_port()?, free_port()?, free_port()?);
        let proxy_ports = [free_port()?, free_port()?];
        let coordinator_config = format!(
            "[listen]\nrpc = \"127.0.0.1:{rpc}\"\nhttp = \"127.0.0.1:{coordinator_http}\"\n\
             [store]\nkind = \"embedded\"\npath = \"{}\"\n[transaction]\ndefault_timeout = \"60s\"\n",
            dir.path().join("data").display(),
        );
        let servers = [&cluster.bank1, &cluster.bank2];
        let proxy_config = proxy_config(rpc, proxy_http, servers, proxy_ports);
        let coordinator =
            Daemon::prepare("atone-coordinator", dir.path(), &coordinator_config, coordinator_http)?;
        let proxy = Daemon::prepare("atone-proxy", dir.path(), &proxy_config, proxy_http)?;
        let mut both = Self {
            coordinator: coordinator.of_build(build),
            proxy: proxy.of_build(build),
            proxy_ports,
            _dir: dir,
        };
        both.coordinator.restart().await?;
        both.proxy.restart().await?;
        Ok(both)
    }

    /// The port on which the proxy listens for this server.
    pub fn proxy_port(&self, bank: Bank) -> u16 {
        match bank {
            Bank::One => self.proxy_ports[0],
            Bank::Two => self.proxy_ports[1],
        }
    }

    /// The ends of both logs, for a failure's report.
    pub fn log_tails(&self) -> String {
        [self.coordinator.log_tail(40), self.proxy.log_tail(40)].concat()
    }
}
