//! The tables and views that statements read. A view may call a function that writes, without a word of it in the statement,
//! and may stand where a table was a moment ago.
//!
//! So each name is looked at before the statement runs, in a local transaction the first time. From then on the transaction
//! keeps what it has read from being altered, unless it is rolled back to a savepoint before; what came between the look
//! and the statement is seen by another look before its COMMIT.

use atone_sql::{Statement, TableName, table_names};

use crate::Capture;
use crate::binding::tables::{FOREIGN_NAME, UNFOLDED};
use crate::error::{End, SqlError};
use atone_facts::{Qualified, qualified};

/// The table that a statement writes and names alone: what it is, is looked at when it is held.
fn written(statement: &Statement) -> Option<TableName> {
    let table = match statement {
        Statement::Insert(insert) => &insert.table,
        Statement::Dml(dml) => &dml.table,
        Statement::Load(load) => &load.table,
        _ => return None,
    };
    Some(TableName { schema: table.schema.clone(), name: table.name.clone() })
}

impl Capture<'_> {
    /// Why a statement may write behind its text: it reads a view that calls a function.
    pub async fn writing_view(&mut self, sql: &[u8], statement: &Statement) -> Result<Option<SqlError>, End> {
        self.writing_view_but(sql, written(statement)).await
    }

    /// Why the preparing of a statement may write: it names a view that calls a function.
    pub(crate) async fn writing_when_prepared(&mut self, sql: &[u8]) -> Result<Option<SqlError>, End> {
        self.writing_view_but(sql, None).await
    }

    async fn writing_view_but(
        &mut self,
        sql: &[u8],
        written: Option<TableName>,
    ) -> Result<Option<SqlError>, End> {
        if !self.in_transaction() {
            self.state.branch.begin_reading();
        }
        let vars = self.session_vars().await?;
        let Some(mut names) = table_names(sql, vars.mode) else {
            return Ok(Some(SqlError::refused(&self.xid(), "the statement is not understood")));
        };
        names.retain(|name| Some(name) != written.as_ref());
        let charset = vars.mode.charset;
        let known = |name: &TableName| {
            charset.can_encode(&name.name)
                && name.schema.as_ref().is_none_or(|schema| charset.can_encode(schema))
        };
        if !names.iter().all(known) {
            return Ok(Some(SqlError::refused(&self.xid(), FOREIGN_NAME)));
        }
        let Some(mut names) = qualified(names, vars.database.as_deref(), vars.names) else {
            return Ok(Some(SqlError::refused(&self.xid(), UNFOLDED)));
        };
        names.retain(|name| !self.state.branch.keeps(name));
        self.look_at(names).await
    }

    /// Why a view that a statement writes may write elsewhere: it calls a function.
    pub(crate) async fn calls_of_view(&mut self, name: Qualified) -> Result<Option<SqlError>, End> {
        self.look_at(vec![name]).await
    }

    async fn look_at(&mut self, names: Vec<Qualified>) -> Result<Option<SqlError>, End> {
        let xid = self.xid();
        match self.catalog.read_refusal(names.clone()).await {
            Ok(None) => {
                self.state.branch.read(names);
                Ok(None)
            }
            Ok(Some(why)) => Ok(Some(SqlError::refused(&xid, &why))),
            Err(why) => Ok(Some(SqlError::of_service(&xid, "the service account cannot read views", &why))),
        }
    }

    /// Whether what the local transaction has read is what it was taken for: nothing that writes.
    pub async fn reads_are_kept(&self) -> Result<(), SqlError> {
        let reads = self.state.branch.reads();
        if reads.is_empty() {
            return Ok(());
        }
        let seen = self.catalog.begin_verify(Vec::new(), reads).await;
        seen.map_err(|stale| self.stale(stale))
    }
}
