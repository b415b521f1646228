//! The tables and views that statements read. A view may call a function that writes, without a word of it in the
//! statement, and may stand where a table was a moment ago.
//!
//! So each name is looked at before the statement runs, in a local transaction the first time. From then on the
//! transaction keeps what it has read from being altered, unless it is rolled back to a savepoint before; what came
//! between the look and the statement is seen by another look before its COMMIT.

use atone_sql::{Statement, TableName, table_names};

use crate::Capture;
use crate::binding::tables::{FOREIGN_NAME, UNFOLDED};
use crate::error::SqlError;
use crate::outcome::Halt;
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
    /// Checks that what a statement reads does not write.
    ///
    /// # Errors
    /// It names a view that calls a function, or a name that is not known for sure.
    pub async fn check_reads(&mut self, sql: &[u8], statement: &Statement) -> Result<(), Halt> {
        self.check_reads_but(sql, written(statement)).await
    }

    /// The same of a statement that is only prepared.
    pub(crate) async fn check_reads_prepared(&mut self, sql: &[u8]) -> Result<(), Halt> {
        self.check_reads_but(sql, None).await
    }

    async fn check_reads_but(&mut self, sql: &[u8], written: Option<TableName>) -> Result<(), Halt> {
        if !self.in_transaction() {
            self.state.branch.begin_reading();
        }
        let vars = self.session_vars().await?;
        let Some(mut names) = table_names(sql, vars.mode) else {
            return Err(self.refusal("the statement is not understood"));
        };
        names.retain(|name| Some(name) != written.as_ref());
        let charset = vars.mode.charset;
        let known = |name: &TableName| {
            charset.can_encode(&name.name)
                && name.schema.as_ref().is_none_or(|schema| charset.can_encode(schema))
        };
        if !names.iter().all(known) {
            return Err(self.refusal(FOREIGN_NAME));
        }
        let Some(mut names) = qualified(names, vars.database.as_deref(), vars.names) else {
            return Err(self.refusal(UNFOLDED));
        };
        names.retain(|name| !self.state.branch.keeps(name));
        self.look_at(names).await
    }

    /// Checks that a view which a statement writes does not write elsewhere, by a function that it calls.
    pub(crate) async fn check_calls_of_view(&mut self, name: Qualified) -> Result<(), Halt> {
        let checked = self.look_at(vec![name]).await;
        if checked.is_err() {
            // The server might call it when it is asked about the statement
            self.command.text = None;
        }
        checked
    }

    async fn look_at(&mut self, names: Vec<Qualified>) -> Result<(), Halt> {
        match self.catalog.read_refusal(names.clone()).await {
            Ok(None) => {
                self.state.branch.read(names);
                Ok(())
            }
            Ok(Some(why)) => Err(self.refusal(&why)),
            Err(why) => {
                Err(SqlError::of_service(&self.xid(), "the service account cannot read views", &why).into())
            }
        }
    }

    /// Atone's own word: the server is not asked for its error.
    fn refusal(&self, why: &str) -> Halt {
        SqlError::refused(&self.xid(), why).into()
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
