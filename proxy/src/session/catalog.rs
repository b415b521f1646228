//! What the service account knows, as the capture of a session's statements asks for it.

use std::collections::HashSet;
use std::sync::Arc;

use atone_facts::{
    AuditTable, NumberedTable, Qualified, ReadError, ServiceError, Stale, TableError, TableInfo,
    UncommittedNumbers, UndoLogError, ViewDefinition,
};
use atone_undo::{Row, Table};

use crate::backend::Backend;
use atone_capture::journal::Assumption;
use atone_capture::port::{Catalog, Step};

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
    ) -> Step<'a, Result<Arc<TableInfo>, TableError>> {
        let ttl = self.backend.limits.metadata_ttl();
        Box::pin(self.backend.catalog.table((schema, name), probe, ttl, self.mariadb))
    }

    fn verify<'a>(&'a self, info: &'a Arc<TableInfo>, as_parent: bool) -> Step<'a, Result<(), Stale>> {
        Box::pin(self.backend.catalog.verify(info, as_parent, self.mariadb))
    }

    fn begin_verify(
        &self,
        assumptions: Vec<Assumption>,
        reads: Vec<Qualified>,
    ) -> Step<'static, Result<(), Stale>> {
        let (backend, mariadb) = (self.backend.clone(), self.mariadb);
        let look = tokio::spawn(async move {
            for assumptions in assumptions {
                backend.catalog.verify(&assumptions.info, assumptions.as_parent, mariadb).await?;
            }
            backend.catalog.verify_reads(reads, mariadb).await
        });
        Box::pin(async move {
            let failed = |e| Err(Stale::Changed(format!("the tables could not be looked at: {e}")));
            look.await.unwrap_or_else(failed)
        })
    }

    fn read_refusal<'a>(&'a self, names: Vec<Qualified>) -> Step<'a, Result<Option<String>, ServiceError>> {
        Box::pin(self.backend.catalog.read_refusal(names, self.mariadb))
    }

    fn view<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> Step<'a, Result<Option<ViewDefinition>, ServiceError>> {
        Box::pin(self.backend.catalog.view(schema, name))
    }

    fn ensure_undo_log<'a>(&'a self, schema: &'a str) -> Step<'a, Result<(), UndoLogError>> {
        Box::pin(self.backend.catalog.ensure_undo_log(schema))
    }

    fn has_undo_row<'a>(
        &'a self,
        schema: &'a str,
        xid: &'a str,
        branch_id: u64,
    ) -> Step<'a, Result<bool, ServiceError>> {
        Box::pin(self.backend.catalog.has_undo_row(schema, xid, branch_id))
    }

    fn first_number<'a>(&'a self, log: &'a AuditTable) -> Step<'a, Result<i128, ServiceError>> {
        Box::pin(self.backend.catalog.first_number(log))
    }

    fn uncommitted<'a>(
        &'a self,
        numbered: &'a NumberedTable,
        first: i128,
        limit: usize,
    ) -> Step<'a, Result<UncommittedNumbers, ServiceError>> {
        Box::pin(self.backend.catalog.uncommitted(numbered, first, limit))
    }

    fn committed<'a>(
        &'a self,
        numbered: &'a NumberedTable,
        ids: &'a [i128],
        at_once: usize,
    ) -> Step<'a, Result<HashSet<i128>, ServiceError>> {
        Box::pin(self.backend.catalog.committed(numbered, ids, at_once))
    }

    fn committed_rows<'a>(
        &'a self,
        table: &'a Table,
        selects: &'a [String],
    ) -> Step<'a, Result<Vec<Row>, ReadError>> {
        Box::pin(self.backend.catalog.committed_rows(table, selects))
    }
}
