//! That undo records can be written: the undo_log of each schema is there and fit for them before a statement runs,
//! and no temporary table of the session hides it.

use atone_undo::{UNDO_LOG_TABLE, quote_identifier};

use crate::Capture;
use crate::binding::hold::Taken;
use crate::binding::tables::is_temporary;
use crate::error::{End, SqlError};
use crate::fault::{Class, class};
use crate::flight::Reply;
use atone_facts::UndoLogError;

/// A schema, and why its undo_log cannot be used.
pub(crate) type NoUndoLog = (String, UndoLogError);

impl Capture<'_> {
    /// Looks at the undo_log of each schema of these tables, and makes those that are missing.
    pub(crate) async fn ensure_undo_logs(&self, tables: &[Taken<'_>]) -> Result<(), NoUndoLog> {
        let mut schemas: Vec<&str> = tables.iter().map(|taken| taken.info.table.schema.as_str()).collect();
        schemas.sort_unstable();
        schemas.dedup();
        for schema in schemas {
            if let Err(e) = self.catalog.ensure_undo_log(schema).await {
                return Err((schema.to_owned(), e));
            }
        }
        Ok(())
    }

    /// What the application is told where the undo_log of a schema cannot be used.
    pub(crate) fn no_undo_log(&self, schema: &str, error: &UndoLogError) -> SqlError {
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

    /// Whether a temporary table of this session hides the undo_log of a schema: undo records would go there, and
    /// with it.
    pub(crate) async fn hides_undo_log(&mut self, schema: &str) -> Result<bool, End> {
        if self.state.undo_logs.contains(schema) {
            return Ok(false);
        }
        let show =
            format!("SHOW CREATE TABLE {}.{}", quote_identifier(schema), quote_identifier(UNDO_LOG_TABLE));
        match self.try_one(show).await? {
            Reply::Rows(rows) if !rows.rows.is_empty() && is_temporary(&rows)? => return Ok(true),
            // There is none to be seen; what this means for the undo record the COMMIT will tell
            _ => {}
        }
        self.state.undo_logs.insert(schema.to_owned());
        Ok(false)
    }
}
