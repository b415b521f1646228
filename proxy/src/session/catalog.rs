//! What the service account knows, as the capture of a session's statements asks for it.

use std::sync::Arc;

use crate::backend::Backend;
use crate::capture::journal::Met;
use crate::capture::port::{Beside, Catalog, Cells, Seen, Step};
use crate::meta::{LogTable, MetaError, Stale, TableInfo};
use crate::service::ServiceError;
use crate::undo_logs::UndoLogError;
use crate::views::{Qualified, shown};

/// A backend's service account.
#[derive(Debug)]
pub(super) struct SessionCatalog {
    pub(super) backend: Arc<Backend>,
    pub(super) mariadb: bool,
}

impl Catalog for SessionCatalog {
    fn resource(&self) -> &str {
        &self.backend.name
    }

    fn table<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
        probe: &'a [u8],
    ) -> Step<'a, Result<Arc<TableInfo>, MetaError>> {
        Box::pin(async move {
            let Backend { metadata, pool, limits, .. } = &*self.backend;
            let ttl = limits.metadata_ttl();
            let read = metadata.table(pool, schema, name, probe, ttl, self.mariadb).await;
            if read.as_ref().is_ok_and(|info| info.refuse_any.is_some()) {
                // It need not be so any more
                metadata.forget(schema, name);
                return metadata.table(pool, schema, name, probe, ttl, self.mariadb).await;
            }
            read
        })
    }

    fn verify<'a>(&'a self, info: &'a Arc<TableInfo>, as_parent: bool) -> Step<'a, Result<(), Stale>> {
        let Backend { metadata, pool, .. } = &*self.backend;
        Box::pin(metadata.verify(pool, info, as_parent, self.mariadb))
    }

    fn begin_verify(&self, met: Vec<Met>, reads: Vec<Qualified>) -> Step<'static, Result<(), Stale>> {
        let (backend, mariadb) = (self.backend.clone(), self.mariadb);
        let look = tokio::spawn(async move {
            for met in met {
                backend.metadata.verify(&backend.pool, &met.info, met.as_parent, mariadb).await?;
            }
            backend.views.verify(&backend.pool, reads, mariadb).await
        });
        Box::pin(async move {
            let failed = |e| Stale::Changed(format!("the tables could not be looked at: {e}"));
            look.await.unwrap_or_else(|e| Err(failed(e)))
        })
    }

    fn verify_reads<'a>(&'a self, reads: Vec<Qualified>) -> Step<'a, Result<(), Stale>> {
        Box::pin(self.backend.views.verify(&self.backend.pool, reads, self.mariadb))
    }

    fn view_refusal<'a>(&'a self, names: Vec<Qualified>) -> Step<'a, Result<Option<String>, ServiceError>> {
        Box::pin(self.backend.views.refusal(&self.backend.pool, names, self.mariadb))
    }

    fn view<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> Step<'a, Result<Option<(String, Vec<String>)>, ServiceError>> {
        Box::pin(async move {
            let looked = self.backend.pool.look(|mut conn| async {
                let shown = shown(&mut conn, schema, name).await;
                (conn, shown)
            });
            Ok(looked.await?)
        })
    }

    fn ensure_undo_log<'a>(&'a self, schema: &'a str) -> Step<'a, Result<(), UndoLogError>> {
        Box::pin(self.backend.ensure_undo_log(schema))
    }

    fn has_undo_row<'a>(
        &'a self,
        schema: &'a str,
        xid: &'a str,
        branch_id: u64,
    ) -> Step<'a, Result<bool, ServiceError>> {
        Box::pin(async move { Ok(self.backend.has_undo_row(schema, xid, branch_id).await?) })
    }

    fn first_number<'a>(&'a self, log: &'a LogTable) -> Step<'a, Result<i128, ServiceError>> {
        Box::pin(async move {
            let mut conn = self.backend.pool.get_conn().await?;
            Ok(log.first_number(&mut conn).await?)
        })
    }
}

impl Beside for SessionCatalog {
    fn rows_beside<'a>(&'a self, seen: Seen, select: String) -> Step<'a, Result<Vec<Cells>, ServiceError>> {
        self.backend.pool.rows_beside(seen, select)
    }
}
