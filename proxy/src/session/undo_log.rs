//! That undo records can be written: the undo_log of each schema is there and fit for them before a statement runs, and no
//! temporary table of the session stands in front of it.

use atone_undo::{UNDO_LOG_TABLE, quote_identifier};

use super::Session;
use super::fault::{Class, class};
use super::hold::Taken;
use super::inject::Reply;
use super::tables::is_temporary;
use crate::error::{End, SqlError};
use crate::undo_logs::UndoLogError;

/// A schema, and why its undo_log cannot be used.
pub(super) type NoUndoLog = (String, UndoLogError);

impl Session {
    /// Looks at the undo_log of each schema of these tables, and makes those that are missing.
    pub(super) fn ensure_undo_logs(
        &self,
        tables: &[Taken<'_>],
    ) -> impl Future<Output = Result<(), NoUndoLog>> + Send + use<> {
        let mut schemas: Vec<String> = tables.iter().map(|taken| taken.info.table.schema.clone()).collect();
        schemas.sort_unstable();
        schemas.dedup();
        let backend = self.backend.clone();
        async move {
            for schema in schemas {
                if let Err(e) = backend.catalog.ensure_undo_log(&schema).await {
                    return Err((schema, e));
                }
            }
            Ok(())
        }
    }

    /// What the application is told where the undo_log of a schema cannot be used.
    pub(super) fn no_undo_log(&self, schema: &str, error: &UndoLogError) -> SqlError {
        let what = format!("{schema}.undo_log cannot be made or used");
        match error {
            // It may be there the next time
            UndoLogError::Unread(e)
                if e.code().is_none_or(|code| class(code, self.mariadb) != Class::Text) =>
            {
                SqlError::of_service(&self.xid(), &what, e)
            }
            error => SqlError::refused(&self.xid(), &format!("{what}: {error}")),
        }
    }

    /// Whether a temporary table of this session hides the undo_log of a schema: undo records would go there, and with it.
    pub(super) async fn hides_undo_log(&mut self, schema: &str) -> Result<bool, End> {
        if self.undo_logs.contains(schema) {
            return Ok(false);
        }
        let show =
            format!("SHOW CREATE TABLE {}.{}", quote_identifier(schema), quote_identifier(UNDO_LOG_TABLE));
        match self.try_one(show).await? {
            Reply::Rows(rows) if !rows.rows.is_empty() && is_temporary(&rows)? => return Ok(true),
            // There is none to be seen; what this means for the undo record the COMMIT will tell
            _ => {}
        }
        self.undo_logs.insert(schema.to_owned());
        Ok(false)
    }
}
