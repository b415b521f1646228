//! What a table's name stands for in this session, and whether its rows can be captured.

use std::sync::Arc;
use std::time::Instant;

use atone_sql::{Charset, TableRef};
use atone_undo::{Kind, Table, quote_identifier};
use atone_wire::Malformed;
use atone_wire::error_code::{ER_NO_DB_ERROR, ER_TABLEACCESS_DENIED_ERROR};
use atone_wire::response::ErrPacket;

use crate::Capture;
use crate::error::{End, SqlError};
use crate::flight::{Reply, Rows};
use crate::outcome::Halt;
use crate::settings::{UNSAYABLE, Vars};
use atone_facts::is_system_schema;
use atone_facts::{TableError, TableInfo, have_no_effect, without_tool_triggers};

/// A table that this session has looked at.
#[derive(Clone, Debug)]
pub struct SeenTable {
    read_at: Instant,
    info: Arc<TableInfo>,
    digest: Vec<u8>,
}

impl SeenTable {
    /// The column definitions may be others by now.
    pub(crate) fn forget_digest(&mut self) {
        self.digest.clear();
    }
}

/// How many tables a session remembers; beyond it all are forgotten, which costs a look each.
const MAX_SEEN_TABLES: usize = 1000;
/// Why a name cannot be followed whose letters the session's charset says.
pub(crate) const FOREIGN_NAME: &str = "a table's name with characters that are no letters, or that character_set_client does not have: use utf8mb4";
/// Why a name cannot be followed under `lower_case_table_names`.
pub(crate) const UNFOLDED: &str = "a table's or schema's name as the server does not store it (lower_case_table_names): write it as SHOW TABLES shows it";
/// What the service account could not do.
pub(crate) const UNREAD: &str = "the service account cannot read table metadata";
const ALTERED: &str = "the table was altered since this local transaction wrote it";

/// What a table's name stands for in this session.
pub enum Resolved {
    /// A table whose rows can be captured, and the column definitions that the session sees.
    Table(Arc<TableInfo>, Vec<u8>),
    /// A temporary table: needs no undo.
    Temporary,
    /// A view, by its schema and name.
    View(String, String),
    /// Refused, or unknown to the server: this is the answer.
    Answer(ErrPacket),
}

fn has_char_key(table: &Table) -> bool {
    let key = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    key.iter().any(|&c| table.columns.get(c).is_some_and(|column| column.kind == Kind::Char))
}

/// Whether a SHOW CREATE TABLE has shown a temporary table.
pub(crate) fn is_temporary(shown: &Rows) -> Result<bool, Malformed> {
    let cells = shown.cells(0)?;
    Ok(cells.get(1).copied().flatten().is_some_and(|text| text.starts_with(b"CREATE TEMPORARY TABLE")))
}

/// The cheap statement whose column definitions tell whether a table is what its metadata says.
pub(crate) fn probe_sql(table: &Table) -> String {
    format!("SELECT * FROM {} LIMIT 0", table.quoted())
}

/// The column definitions as one text: equal as long as the session sees the same table.
pub(crate) fn digest(vars: &Vars, rows: &Rows) -> Vec<u8> {
    let mut out = vars.charset_results.clone().into_bytes();
    for column in &rows.columns {
        out.extend_from_slice(&(column.len() as u32).to_le_bytes());
        out.extend_from_slice(column);
    }
    out
}

impl Capture<'_> {
    /// Why a statement that may write a table in any way is refused: its triggers are not looked at.
    pub(crate) fn any_trigger_refuses(&self, info: &TableInfo) -> Option<SqlError> {
        let triggers = &info.facts.triggers;
        if have_no_effect(triggers) {
            return None;
        }
        let names: Vec<&str> = triggers.iter().map(|t| t.name.as_str()).collect();
        let why = format!("{}.{} has the triggers {}", info.table.schema, info.table.name, names.join(", "));
        let passes = have_no_effect(&without_tool_triggers(triggers));
        let error = if passes { SqlError::being_altered } else { SqlError::refused };
        Some(error(&self.xid(), &why))
    }

    /// The schema and name that a table reference means.
    fn names(&self, table: &TableRef, vars: &Vars) -> Result<(String, String), SqlError> {
        let schema = table.schema.clone().or_else(|| vars.database.clone());
        let schema = schema.ok_or(SqlError {
            code: ER_NO_DB_ERROR,
            state: b"3D000",
            message: "No database selected".into(),
        })?;
        match (vars.names.stored(&schema), vars.names.stored(&table.name)) {
            (Some(schema), Some(name)) => Ok((schema, name)),
            _ => Err(SqlError::refused(&self.xid(), UNFOLDED)),
        }
    }

    /// Finds out what a table's name stands for.
    pub(crate) async fn resolve(&mut self, table: &TableRef, vars: &Vars) -> Result<Resolved, End> {
        if !self.in_transaction() {
            self.state.branch.begin();
        }
        let resolved = self.resolve_name(table, vars).await?;
        if let Resolved::Table(info, _) = &resolved {
            self.state.branch.assume(info, false);
        }
        Ok(resolved)
    }

    /// The same without a note of it.
    pub async fn resolve_name(&mut self, table: &TableRef, vars: &Vars) -> Result<Resolved, End> {
        let xid = self.xid();
        let (schema, name) = match self.names(table, vars) {
            Ok(names) => names,
            Err(error) => return Ok(Resolved::Answer(error.err())),
        };
        let quoted = format!("{}.{}", quote_identifier(&schema), quote_identifier(&name));
        if !vars.mode.charset.can_encode(&quoted) {
            return Ok(Resolved::Answer(SqlError::refused(&xid, FOREIGN_NAME).err()));
        }
        if is_system_schema(&schema) {
            let why = format!("{schema} is a schema of the server's own");
            return Ok(Resolved::Answer(SqlError::refused(&xid, &why).err()));
        }
        if name.eq_ignore_ascii_case(atone_undo::UNDO_LOG_TABLE) {
            let why = "undo_log is written by Atone only";
            return Ok(Resolved::Answer(SqlError::refused(&xid, why).err()));
        }
        let ttl = self.limits.metadata_ttl;
        let seen = self.state.tables.get(&quoted);
        if let Some(SeenTable { read_at, info, digest }) = seen
            && !digest.is_empty()
            && read_at.elapsed() < ttl
        {
            // Whether it is still so is seen when the statement runs
            let (info, digest) = (info.clone(), digest.clone());
            return Ok(if self.state.branch.conflicts_with(&info.table) {
                Resolved::Answer(SqlError::refused(&xid, ALTERED).err())
            } else {
                Resolved::Table(info, digest)
            });
        }
        if seen.is_none() {
            // MariaDB calls functions of a view that it shows
            if self.mariadb {
                match self.check_calls_of_view((schema.clone(), name.clone())).await {
                    Ok(()) => {}
                    Err(Halt::End(end)) => return Err(end),
                    Err(Halt::Stopped(why)) => return Ok(Resolved::Answer(why.error(&xid).err())),
                    Err(_) => return Err(End::Broken("a check of a view has run a statement".into())),
                }
            }
            match self.try_one(format!("SHOW CREATE TABLE {quoted}")).await? {
                // Whoever may use a view need not be allowed to see what it is
                Reply::Err(e)
                    if e.code == ER_TABLEACCESS_DENIED_ERROR && e.message.starts_with(b"SHOW VIEW") =>
                {
                    return Ok(Resolved::View(schema, name));
                }
                Reply::Err(e) => return Ok(Resolved::Answer(e)),
                // A view comes with its charset and collation
                Reply::Rows(rows) if rows.width > 2 => return Ok(Resolved::View(schema, name)),
                Reply::Rows(rows) if is_temporary(&rows)? => return Ok(Resolved::Temporary),
                Reply::Rows(_) => {}
                _ => return Err(End::Broken("SHOW CREATE TABLE without rows".into())),
            }
        }
        let probe = match self.try_one(format!("SELECT * FROM {quoted} LIMIT 0")).await? {
            Reply::Rows(rows) => digest(vars, &rows),
            Reply::Err(e) => return Ok(Resolved::Answer(e)),
            _ => return Err(End::Broken("SELECT without columns".into())),
        };
        let read_at = Instant::now();
        let resolved = self.table_info(&schema, &name, probe).await?;
        if let Resolved::Table(info, digest) = &resolved {
            if self.state.tables.len() >= MAX_SEEN_TABLES {
                self.state.tables.clear();
            }
            let seen = SeenTable { read_at, info: info.clone(), digest: digest.clone() };
            self.state.tables.insert(quoted, seen);
        }
        Ok(resolved)
    }

    /// The statement has met the table in another form than its metadata.
    pub(crate) fn forget_table(&mut self, table: &Table) {
        let same =
            |seen: &SeenTable| seen.info.table.schema == table.schema && seen.info.table.name == table.name;
        for seen in self.state.tables.values_mut().filter(|seen| same(seen)) {
            seen.forget_digest();
        }
    }

    async fn table_info(&mut self, schema: &str, name: &str, probe: Vec<u8>) -> Result<Resolved, End> {
        let xid = self.xid();
        let refused = |why: &str| Resolved::Answer(SqlError::refused(&xid, why).err());
        let info = match self.catalog.table(schema, name, &probe).await {
            Ok(info) => info,
            Err(TableError::NoTable(t)) => {
                return Ok(refused(&format!("the service account sees no table {t}")));
            }
            Err(TableError::Unread(e)) => {
                let error = SqlError::of_service(&xid, UNREAD, &e);
                return Ok(Resolved::Answer(error.err()));
            }
        };
        if info.is_view {
            // It stands where a table was when the session looked
            return Ok(Resolved::View(schema.to_owned(), name.to_owned()));
        }
        if let Some(why) = &info.refuse_any {
            return Ok(refused(why));
        }
        if self.state.branch.conflicts_with(&info.table) {
            return Ok(refused(ALTERED));
        }
        let charset = self.assumed_mode().charset;
        if charset != Charset::PLAIN
            && !info.table.columns.iter().all(|column| charset.can_encode(&column.name))
        {
            return Ok(refused(UNSAYABLE));
        }
        let padded = self.state.vars.as_ref().is_none_or(|v| v.sql_mode.contains("PAD_CHAR_TO_FULL_LENGTH"));
        if padded && has_char_key(&info.table) {
            return Ok(refused("sql_mode PAD_CHAR_TO_FULL_LENGTH bends the comparison of a CHAR key"));
        }
        if let Err(e) = self.catalog.ensure_undo_log(&info.table.schema).await {
            return Ok(Resolved::Answer(self.no_undo_log(&info.table.schema, &e).err()));
        }
        if self.hides_undo_log(&info.table.schema).await? {
            return Ok(refused(&format!("a temporary table hides {}.undo_log", info.table.schema)));
        }
        Ok(Resolved::Table(info, probe))
    }
}
