//! LOAD DATA LOCAL in a bound session: the client's file is taken whole, its rows take the way of literal ones, and the
//! statement then runs with the file as it is.

use std::sync::Arc;

use atone_sql::{Analysis, Insert, InsertValue, Load, OnConflict};
use atone_undo::Table;
use atone_wire::frame::{HEADER, Header};
use bytes::{Buf, Bytes};

use super::Session;
use super::conflicts::conditions;
use super::hold::Reached;
use super::inject::{Flight, Reply};
use super::insert::Target;
use super::insert_select::generated_column;
use super::outcome::{Done, Halt};
use super::values::text_literal;
use crate::error::{End, SqlError};
use crate::heavy::{heavy, heavy_text};
use crate::load_file;
use crate::meta::TableInfo;

/// How many bytes of a file are sent in one packet.
const PIECE_BYTES: usize = 1 << 20;
/// Charsets in which separators that are ASCII are found byte by byte.
const CHARSETS: [&str; 5] = ["ascii", "latin1", "utf8", "utf8mb3", "utf8mb4"];

impl Session {
    /// LOAD DATA LOCAL.
    pub(super) async fn load(&mut self, sql: &[u8], load: &Load, analysis: &Analysis) -> Result<Done, Halt> {
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
        let (file, reply) = self.ask_for_file(text).await?;
        let written = heavy_text(file.len(), || written_out(text, load, &info.table, &file, &charset))?;
        let Some((source, insert)) = written else {
            // A file without rows has been loaded
            return match reply {
                Reply::Ok(ok) => Ok(ok.into()),
                _ => Err(Halt::broken("a LOAD DATA answered with rows")),
            };
        };
        self.branch.fired();
        let target = Target {
            text: &source,
            run: Some(text),
            insert: &insert,
            info: &info,
            named: load.columns.as_ref(),
            view: None,
            logs: &[],
            as_select: false,
        };
        self.file = Some(file);
        let done = self.load_rows(target).await;
        self.file = None;
        done
    }

    async fn load_rows(&mut self, target: Target<'_>) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        let count = target.insert.rows.len();
        let conditions = heavy(count, || conditions(target.text, target.insert, target.info, &vars));
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

    /// Runs the statement so that the server asks for the file, takes the file from the client, and gives the server an
    /// empty one: it must not be loaded before its rows are known. Returns the file, and what the server says to the empty one.
    async fn ask_for_file(&mut self, text: &[u8]) -> Result<(Bytes, Reply), Halt> {
        let mut flight = Flight::default();
        flight.push(text);
        self.send_flight(&flight).await?;
        let (packet, seq) = self.numbered_packet().await?;
        match packet.first() {
            Some(0xfb) => {}
            Some(0xff) => {
                return Err(Halt::Failed(atone_wire::response::ErrPacket::parse(&packet)?));
            }
            _ => return Err(Halt::broken("a LOAD DATA that asks for no file")),
        }
        self.send_packet(&packet).await?;
        let file = self.take_file().await?;
        self.send_file_packet(seq.wrapping_add(1), b"").await?;
        let (reply, _) = self.read_reply().await?;
        if let Reply::Err(error) = reply {
            // It has loaded nothing yet, and would not run
            return Err(Halt::Failed(error));
        }
        match file {
            Some(file) => Ok((file, reply)),
            None => Err(SqlError::too_large(&self.xid(), self.backend.limits.max_statement_bytes).into()),
        }
    }

    /// Reads the packets of the client's file, up to the empty one; nothing where they are above `max_statement_bytes`.
    async fn take_file(&mut self) -> Result<Option<Bytes>, End> {
        let limit = self.backend.limits.max_statement_bytes;
        let mut file = Vec::new();
        let mut too_long = false;
        self.expect_more(true);
        loop {
            self.client.fill_to(HEADER).await.map_err(End::Client)?;
            let Some(Header { len, seq }) = Header::peek(&self.client.rbuf) else { continue };
            self.reply.seq = seq.wrapping_add(1);
            self.client.rbuf.advance(HEADER);
            if len == 0 {
                break;
            }
            let mut left = len;
            while left > 0 {
                if self.client.rbuf.is_empty() {
                    self.client.fill().await.map_err(End::Client)?;
                }
                let n = left.min(self.client.rbuf.len());
                too_long |= file.len() + n > limit;
                if !too_long {
                    file.extend_from_slice(&self.client.rbuf[..n]);
                }
                self.client.rbuf.advance(n);
                left -= n;
            }
        }
        self.expect_more(false);
        Ok((!too_long).then(|| file.into()))
    }

    /// Gives the server the file that it asks for; `seq` is its request's number.
    pub(super) async fn give_file(&mut self, file: &Bytes, mut seq: u8) -> Result<(), End> {
        for piece in file.chunks(PIECE_BYTES).chain([&b""[..]]) {
            seq = self.send_file_packet(seq.wrapping_add(1), piece).await?.wrapping_sub(1);
        }
        Ok(())
    }
}

/// Whether LOAD DATA without a list of columns fills all of them; false also where it only may not.
fn takes_all_columns(info: &TableInfo) -> bool {
    let generated = info.table.columns.iter().any(|column| column.generated);
    !generated && !info.facts.definition.contains("INVISIBLE")
}

/// The rows of a file as an INSERT of literals: a text, which is the statement's with the literals behind it, and where
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
