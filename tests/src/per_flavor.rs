//! What the tests of a program share, one a flavor.

use std::future::Future;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::OnceCell;

use crate::Flavor;

/// One of each flavor, started by who comes first; for a `static`.
#[derive(Debug, Default)]
pub struct PerFlavor<T> {
    mariadb: OnceCell<Arc<T>>,
    mysql: OnceCell<Arc<T>>,
}

impl<T> PerFlavor<T> {
    /// None of them started.
    pub const fn new() -> Self {
        Self { mariadb: OnceCell::const_new(), mysql: OnceCell::const_new() }
    }

    /// The one of this flavor.
    pub async fn get(&self, flavor: Flavor, start: impl Future<Output = Result<T>>) -> Result<Arc<T>> {
        let cell = match flavor {
            Flavor::MariaDb => &self.mariadb,
            Flavor::MySql => &self.mysql,
        };
        cell.get_or_try_init(|| async { Ok(Arc::new(start.await?)) }).await.cloned()
    }
}
