//! A cluster with one more proxy, whose listeners differ: what tests of the legs share.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::daemon::Daemon;
use crate::{Cluster, ClusterOptions, Flavor, PerFlavor, paths};

/// A cluster, and one more proxy in front of its first server.
#[derive(Debug)]
pub struct Own {
    /// The cluster.
    pub cluster: Cluster,
    /// The proxy.
    pub proxy: Daemon,
    /// The TCP ports of its listeners; nobody listens on one whose listener is elsewhere.
    pub ports: Vec<u16>,
    dir: tempfile::TempDir,
}

impl Own {
    /// Starts both; each of `listeners` is more lines of a `[[backend]]`, in which `DIR` is the proxy's folder and
    /// `SERVER` the first server's Unix socket.
    pub async fn start(flavor: Flavor, options: ClusterOptions, listeners: &[&str]) -> Result<Self> {
        let cluster = Cluster::start_with(flavor, options).await?;
        let dir = paths::fresh_dir("own-")?;
        let path = dir.path().display().to_string();
        let socket = cluster.bank1.socket().display().to_string();
        let lines: Vec<String> =
            listeners.iter().map(|lines| lines.replace("DIR", &path).replace("SERVER", &socket)).collect();
        let (proxy, ports) = cluster.proxy_with(dir.path(), &lines).await?;
        Ok(Self { cluster, proxy, ports, dir })
    }

    /// The proxy's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a test on the one that is shared; a failure comes with the end of the proxy's log.
    pub async fn test<S, T>(
        flavor: Flavor,
        shared: &PerFlavor<Own>,
        start: S,
        test: impl FnOnce(Arc<Own>) -> T,
    ) -> Result<()>
    where
        S: Future<Output = Result<Own>>,
        T: Future<Output = Result<()>>,
    {
        let own = shared.get(flavor, start).await?;
        let result = test(Arc::clone(&own)).await;
        result.map_err(|error| error.context(own.proxy.log_tail(60)))
    }
}

/// Makes of each function `async fn(Arc<Own>) -> Result<()>` two tests, one a flavor. `$start` is
/// `async fn(Flavor) -> Result<Own>`.
#[macro_export]
macro_rules! own_tests {
    ($start:path => $($name:path as $module:ident),+ $(,)?) => {
        static SHARED: $crate::PerFlavor<$crate::own::Own> = $crate::PerFlavor::new();
        $(
            mod $module {
                use super::*;
                fn run(flavor: $crate::Flavor) {
                    let test = $crate::own::Own::test(flavor, &SHARED, $start(flavor), $name);
                    $crate::run::run_alone(flavor, test);
                }
                #[test]
                fn mariadb() {
                    run($crate::Flavor::MariaDb);
                }
                #[test]
                fn mysql() {
                    run($crate::Flavor::MySql);
                }
            }
        )+
    };
}
