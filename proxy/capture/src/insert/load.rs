//! LOAD DATA LOCAL in a bound session: the client's file is taken whole, its rows take the way of literal ones, and the
//! statement then runs with the file as it is.

use std::sync::Arc;

use atone_sql::{Analysis, Insert, InsertValue, Load, OnConflict};
use atone_undo::Table;

use crate::Capture;
use crate::binding::hold::Reached;
use crate::error::SqlError;
use crate::flight::Reply;
use crate::insert::Target;
use crate::insert::conflicts::conditions;
use crate::insert::load_file;
use crate::insert::select::generated_column;
use crate::insert::values::text_literal;
use crate::outcome::{Done, Halt};
use crate::port::Asked;
use atone_facts::TableInfo;

/// Charsets in which separators that are ASCII are found byte by byte.
const CHARSETS: [&str; 5] = ["ascii", "latin1", "utf8", "utf8mb3", "utf8mb4"];

impl Capture<'_> {
    /// LOAD DATA LOCAL.
    pub async fn load(&mut self, sql: &[u8], load: &Load, analysis: &Analysis) -> Result<Done, Halt> {
        let text = sql.get(..analysis.terminator).unwrap_or(sql);
        let Reached::Table { info, view } = self.reach(&load.table).await? else {
            return Ok(Done::Temporary);
        };
        if view.is_some() {
            return Err(Halt::stop("LOAD DATA into a view is not supported"));
        }
        if let Some(error) = self.any_trigger_refuses(&info) {
            return Err(error.into());
        }
        let charset = self.file_charset(load).await?;
        if load.columns.is_none() && !takes_all_columns(&info) {
            let why = "LOAD DATA without a list of columns, into a table with generated or invisible ones";
            return Err(Halt::stop(why));
        }
        let (file, reply) = match self.server.ask_for_file(text).await? {
            Asked::File(file, reply) => (file, reply),
            Asked::TooLong => {
                return Err(SqlError::too_large(&self.xid(), self.limits.max_statement_bytes).into());
            }
            Asked::Failed(error) => return Err(Halt::Failed(error)),
        };
        let written =
            self.heavy.run_text(file.len(), || written_out(text, load, &info.table, &file, &charset))?;
        let Some((source, insert)) = written else {
            // A file without rows has been loaded
            return match reply {
                Reply::Ok(ok) => Ok(ok.into()),
                _ => Err(Halt::broken("a LOAD DATA answered with rows")),
            };
        };
        self.state.branch.fired();
        let target = Target {
            text: &source,
            run: Some(text),
            insert: &insert,
            info: &info,
            named: load.columns.as_ref(),
            view: None,
            trigger_targets: &[],
            as_select: false,
        };
        self.command.file = Some(file);
        let done = self.load_rows(target).await;
        self.command.file = None;
        done
    }

    async fn load_rows(&mut self, target: Target<'_>) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        let count = target.insert.rows.len();
        let conditions = self.heavy.run(count, || conditions(target.text, target.insert, target.info, &vars));
        let meets_none = conditions.is_ok_and(|all| all.iter().all(Vec::is_empty));
        match generated_column(target.insert, target.info).filter(|_| meets_none) {
            Some(column) => self.insert_generated(target, column).await,
            None => self.insert_known(target).await,
        }
    }

    /// The file's charset, where its rows can be told.
    async fn file_charset(&mut self, load: &Load) -> Result<String, Halt> {
        let charset = match &load.charset {
            Some(charset) => charset.clone(),
            None => match self.run_one("SELECT @@character_set_database").await? {
                Reply::Rows(rows) => {
                    let cells = rows.cells(0)?;
                    String::from_utf8_lossy(cells.first().copied().flatten().unwrap_or_default()).into_owned()
                }
                _ => return Err(Halt::broken("a session variable without a row")),
            },
        };
        let known = CHARSETS.contains(&charset.as_str());
        if known { Ok(charset) } else { Err(format!("LOAD DATA of a file in the charset {charset}").into()) }
    }
}

/// Whether LOAD DATA without a list of columns fills all of them; false also where it only may not.
fn takes_all_columns(info: &TableInfo) -> bool {
    let generated = info.table.columns.iter().any(|column| column.generated);
    !generated && !info.facts.definition.contains("INVISIBLE")
}

/// The rows of a file as an INSERT of literals: a text, which is the statement's with the literals after it, and where
/// its values are in that. `None` where the file has no rows.
fn written_out(
    text: &[u8],
    load: &Load,
    table: &Arc<Table>,
    file: &[u8],
    charset: &str,
) -> Result<Option<(Vec<u8>, Insert)>, String> {
    let whole = match charset {
        "latin1" => true,
        "ascii" => file.is_ascii(),
        _ => std::str::from_utf8(file).is_ok(),
    };
    if !whole {
        return Err(format!("the file is not in the charset {charset}"));
    }
    let width = load.columns.as_ref().map_or(table.columns.len(), Vec::len);
    let rows = load_file::rows(file, &load.format, width)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut source = text.to_vec();
    let mut out = Vec::with_capacity(rows.len());
    for fields in rows {
        let mut row = Vec::with_capacity(width);
        for field in fields {
            row.push(match field {
                None => InsertValue::Null,
                Some(field) => {
                    let begin = source.len();
                    source.extend_from_slice(&text_literal(&field, charset));
                    InsertValue::Literal(begin..source.len())
                }
            });
        }
        out.push(row);
    }
    let insert = Insert {
        table: load.table.clone(),
        columns: load.columns.clone(),
        rows: out,
        body: 0..0,
        values: None,
        has_side_effects: false,
        query: None,
        on_conflict: match &load.on_conflict {
            OnConflict::Replace => OnConflict::Replace,
            _ => OnConflict::Ignore,
        },
        ignore: load.on_conflict != OnConflict::Replace,
        row_alias: false,
        returning: false,
    };
    Ok(Some((source, insert)))
}
