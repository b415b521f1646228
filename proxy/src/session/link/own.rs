//! Statements of our own with the application's parameters: a text with marked literals is prepared with placeholders
//! in their place, and executed with the parameters as the application's execution brought them.
//!
//! What a parameter is to a prepared statement depends on its earlier executions: MySQL takes a text for a DOUBLE
//! where it was one before, or looked like one, and MariaDB goes by the digits that the fraction of a time had. The
//! history of the application's own statement is not known. So that all that is read and written for one execution
//! goes by the same rules, that statement is not used; a text counts as another one with parameters of other types;
//! and one with a parameter whose value may count is prepared each time.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use atone_wire::Malformed;
use atone_wire::attributes::Attributes;
use atone_wire::binary::text_of_binary;
use atone_wire::column::ColumnKind;
use atone_wire::error_code::ER_MAX_PREPARED_STMT_COUNT_REACHED;
use atone_wire::execute::{ParamClass, ParamType, RawParam, execution};
use bytes::Bytes;

use super::Link;
use super::gate::OwnCommand;
use crate::session::analysed::written;
use crate::session::expect::CURSOR_TYPES;
use atone_capture::error::{End, SqlError};
use atone_capture::flight::{Flight, Reply, Rows};
use atone_capture::outcome::Halt;
use atone_capture::params::quoted;
use atone_capture::settings::Vars;
use atone_wire::command;
use atone_wire::response::ErrPacket;

/// The parameters of the execution that is being run.
#[derive(Clone, Debug)]
pub(in crate::session) enum Carried {
    /// Those of a `COM_STMT_EXECUTE`, and its query attributes.
    Execution { params: Vec<RawParam>, attributes: Attributes },
    /// User variables, as an EXECUTE names them.
    Variables(Vec<Vec<u8>>),
}

impl Default for Carried {
    fn default() -> Carried {
        Carried::Variables(Vec::new())
    }
}

/// A statement of our own that the server keeps prepared.
#[derive(Debug)]
struct Kept {
    sql: Vec<u8>,
    types: Vec<ParamType>,
    id: u32,
    columns: Vec<Bytes>,
}

/// Statements of our own that the server keeps prepared, the one used last after the others.
#[derive(Debug, Default)]
pub(in crate::session) struct OwnStatements {
    kept: Vec<Kept>,
    /// One of our own was prepared after the application's last.
    pub(in crate::session) was_last: bool,
    /// [`super::link::Link::readings`] when they were prepared.
    readings: u64,
    /// Hashes of texts that were prepared and not kept.
    once: VecDeque<u64>,
}

/// The name of a statement of our own that is prepared by SQL.
const BY_SQL: &[u8] = b"`atone:own`";
/// How many texts are remembered that were prepared once.
const MAX_ONCE: usize = 64;
/// A prepared statement can have so many placeholders.
const MAX_PLACEHOLDERS: usize = 65_535;
/// Length of a piece of long data, in bytes.
const LONG_DATA_BYTES: usize = 1 << 20;
/// Room for what stands before the data in such a packet, in bytes.
const LONG_DATA_HEAD: usize = 64;
impl OwnStatements {
    /// Whether the server keeps none.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether a text comes for the second time, and so may come again.
    fn comes_again(&mut self, sql: &[u8], types: &[ParamType]) -> bool {
        let mut hasher = DefaultHasher::new();
        (sql, types).hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(at) = self.once.iter().position(|known| *known == hash) {
            self.once.remove(at);
            return true;
        }
        if self.once.len() >= MAX_ONCE {
            self.once.pop_front();
        }
        self.once.push_back(hash);
        false
    }
}

/// Whether all values of a type are alike to a prepared statement.
fn is_timeless(ty: ParamType, mariadb: bool) -> bool {
    match ty.class() {
        ParamClass::Number => true,
        ParamClass::Text => mariadb,
        ParamClass::Other => false,
    }
}

/// Why the server has not prepared a statement of the proxy's own.
#[derive(Debug)]
pub(in crate::session) enum Unprepared {
    /// Its error.
    Error(ErrPacket),
    /// The connection, or the session, has ended.
    End(End),
}

impl From<End> for Unprepared {
    fn from(end: End) -> Unprepared {
        Unprepared::End(end)
    }
}

impl From<Malformed> for Unprepared {
    fn from(malformed: Malformed) -> Unprepared {
        Unprepared::End(malformed.into())
    }
}

impl From<Unprepared> for Halt {
    fn from(unprepared: Unprepared) -> Halt {
        match unprepared {
            Unprepared::Error(error) => Halt::Failed(error),
            Unprepared::End(end) => Halt::End(end),
        }
    }
}

/// Whether a statement answers with rows that are passed on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Answer {
    /// Rows become those of the text protocol.
    Text,
    /// Rows stay as they are.
    Binary,
}

impl Link {
    /// Runs a statement with marked literals, with the parameters that they stand for. `again`: it may be kept
    /// prepared.
    pub(in crate::session) async fn run_with_params(
        &mut self,
        sql: &[u8],
        answer: Answer,
        again: bool,
        vars: Option<&Vars>,
    ) -> Result<Reply, End> {
        let Some(lifted) = self.marks.with_placeholders(sql) else {
            return Err(End::Broken("a statement with a part of a parameter".into()));
        };
        if lifted.params.len() > MAX_PLACEHOLDERS {
            let why = format!("a statement of more than {MAX_PLACEHOLDERS} parameters");
            return Ok(Reply::Err(SqlError::refused(&self.xid(), &why).err()));
        }
        let limit = vars.map_or(usize::MAX, |vars| vars.max_allowed_packet);
        if lifted.sql.len() >= limit {
            return Ok(Reply::Err(SqlError::above_packet(&self.xid(), limit).err()));
        }
        let missing = || End::Broken("a parameter that does not exist".into());
        let types: Vec<ParamType> = match &self.carried {
            Carried::Execution { params, .. } => {
                let params = lifted.params.iter().map(|&nth| params.get(nth).map(RawParam::type_bound));
                params.collect::<Option<_>>().ok_or_else(missing)?
            }
            Carried::Variables(names) => {
                let names = lifted.params.iter().map(|&nth| names.get(nth).map(Vec::as_slice));
                let names: Vec<&[u8]> = names.collect::<Option<_>>().ok_or_else(missing)?;
                let execute = [b"EXECUTE ", BY_SQL, b" USING ", names.join(&b", "[..]).as_slice()].concat();
                return self.run_with_variables(&lifted.sql, &execute, vars).await;
            }
        };
        let prepared = match self.prepared_for(&lifted.sql, types, again, vars).await {
            Ok(prepared) => prepared,
            Err(Unprepared::Error(error)) => return Ok(Reply::Err(error)),
            Err(Unprepared::End(end)) => return Err(end),
        };
        let Prepared { id, columns, kept } = prepared;
        let reply = match self.execute_carried(id, &lifted.params, limit, columns).await? {
            Some(reply) => {
                // MariaDB may define the columns with the first execution only
                if let Reply::Rows(Rows { columns, .. }) = &reply
                    && let Some(kept) = self.own.kept.iter_mut().find(|kept| kept.id == id)
                {
                    kept.columns.clone_from(columns);
                }
                self.told_in(reply, answer)?
            }
            None => Reply::Err(SqlError::above_packet(&self.xid(), limit).err()),
        };
        if !kept {
            self.close_statement(id).await?;
        }
        Ok(reply)
    }

    /// The same with user variables for parameters. The statement stays prepared until the next one takes its name.
    async fn run_with_variables(
        &mut self,
        sql: &[u8],
        execute: &[u8],
        vars: Option<&Vars>,
    ) -> Result<Reply, End> {
        let unknown = || End::Broken("an EXECUTE without the session's variables".into());
        let mode = vars.map(|vars| vars.mode).ok_or_else(unknown)?;
        let mut prepare = [b"PREPARE ", BY_SQL, b" FROM "].concat();
        quoted(&mut prepare, sql, mode);
        let mut flight = Flight::default();
        flight.push(prepare);
        flight.push(execute);
        let mut replies = Vec::new();
        self.run_texts(&flight, vars, &mut replies).await?;
        replies.pop().ok_or_else(|| End::Broken("a statement without a reply".into()))
    }

    /// Sends an execution with these of the application's parameters, and reads the reply; nothing where it is too
    /// large.
    async fn execute_carried(
        &mut self,
        id: u32,
        order: &[usize],
        limit: usize,
        columns: Vec<Bytes>,
    ) -> Result<Option<Reply>, End> {
        let none = End::Broken("an execution without parameters".into());
        let Carried::Execution { params, attributes } = &self.carried else { return Err(none) };
        let params: Option<Vec<&RawParam>> = order.iter().map(|&nth| params.get(nth)).collect();
        let params = params.ok_or_else(|| End::Broken("a parameter that does not exist".into()))?;
        let payload = execution(id, &params, attributes, self.capabilities);
        if payload.len() >= limit {
            return Ok(None);
        }
        let piece = LONG_DATA_BYTES.min(limit.saturating_sub(LONG_DATA_HEAD)).max(1);
        let long: Vec<(usize, Vec<u8>)> = params
            .iter()
            .enumerate()
            .filter_map(|(place, param)| Some((place, param.long_data()?.to_vec())))
            .collect();
        for (place, data) in long {
            let place = u16::try_from(place).map_err(|_| Malformed("more parameters than there can be"))?;
            let mut pieces = data.chunks(piece);
            let mut next = Some(pieces.next().unwrap_or_default());
            while let Some(data) = next {
                let head = [&id.to_le_bytes()[..], &place.to_le_bytes()].concat();
                self.send_own(OwnCommand::LongData(&[&head, data].concat())).await?;
                next = pieces.next();
            }
        }
        self.send_own(OwnCommand::Execute(&payload)).await?;
        self.read_binary(columns).await.map(Some)
    }

    /// The reply with its rows as they are wanted.
    fn told_in(&self, reply: Reply, answer: Answer) -> Result<Reply, End> {
        let Reply::Rows(mut rows) = reply else { return Ok(reply) };
        if rows.columns.len() != rows.width {
            return Err(End::Broken("rows without the definitions of their columns".into()));
        }
        if answer == Answer::Text {
            rows = self.in_text(rows)?;
        }
        Ok(Reply::Rows(rows))
    }

    fn in_text(&self, mut rows: Rows) -> Result<Rows, End> {
        let kinds = rows.columns.iter().map(|column| ColumnKind::parse(column, self.capabilities));
        let kinds: Vec<ColumnKind> = kinds.collect::<Result<_, _>>()?;
        for row in &mut rows.rows {
            *row = text_of_binary(row, &kinds)?.into();
        }
        Ok(rows)
    }

    /// A statement of our own, prepared now or before.
    async fn prepared_for(
        &mut self,
        sql: &[u8],
        types: Vec<ParamType>,
        again: bool,
        vars: Option<&Vars>,
    ) -> Result<Prepared, Unprepared> {
        if self.own.readings != self.readings {
            self.close_kept().await?;
            self.own.readings = self.readings;
        }
        if let Some(at) = self.own.kept.iter().position(|kept| kept.sql == sql && kept.types == types) {
            let kept = self.own.kept.remove(at);
            let prepared = Prepared { id: kept.id, columns: kept.columns.clone(), kept: true };
            self.own.kept.push(kept);
            return Ok(prepared);
        }
        let (id, columns) = match self.prepare_own(sql, vars).await {
            Err(Unprepared::Error(error))
                if error.code == ER_MAX_PREPARED_STMT_COUNT_REACHED && !self.own.is_empty() =>
            {
                self.close_kept().await?;
                self.prepare_own(sql, vars).await?
            }
            prepared => prepared?,
        };
        let most = self.backend.limits.max_reused_statements;
        let timeless = types.iter().all(|ty| is_timeless(*ty, self.mariadb));
        let kept = again && timeless && most > 0 && self.own.comes_again(sql, &types);
        if kept {
            while self.own.kept.len() >= most {
                let oldest = self.own.kept.remove(0);
                self.close_statement(oldest.id).await?;
            }
            self.own.kept.push(Kept { sql: sql.to_vec(), types, id, columns: columns.clone() });
        }
        Ok(Prepared { id, columns, kept })
    }

    /// Prepares a statement of our own.
    pub(in crate::session) async fn prepare_own(
        &mut self,
        sql: &[u8],
        vars: Option<&Vars>,
    ) -> Result<(u32, Vec<Bytes>), Unprepared> {
        let Some(sql) = written(sql, self.mode(vars).charset) else {
            return Err(Unprepared::Error(self.unsayable()));
        };
        self.own.was_last = true;
        self.send_prepare(&sql).await?;
        self.read_prepared().await
    }

    /// Lets go of all statements of our own.
    async fn close_kept(&mut self) -> Result<(), End> {
        for kept in std::mem::take(&mut self.own.kept) {
            self.close_statement(kept.id).await?;
        }
        Ok(())
    }

    async fn close_statement(&mut self, id: u32) -> Result<(), End> {
        self.send_own(OwnCommand::Close(id)).await
    }

    /// Has the server prepare a text, and forget it; the error that it has against it.
    pub(in crate::session) async fn error_of_prepare(
        &mut self,
        sql: &[u8],
    ) -> Result<Option<ErrPacket>, End> {
        self.own.was_last = true;
        self.send_prepare(sql).await?;
        match self.read_prepared().await {
            Ok((id, _)) => {
                self.close_statement(id).await?;
                Ok(None)
            }
            Err(Unprepared::Error(error)) => Ok(Some(error)),
            Err(Unprepared::End(end)) => Err(end),
        }
    }

    /// Runs a statement that answers with rows, in the protocol that the application has used for its own.
    pub(in crate::session) async fn rows_of(
        &mut self,
        sql: &[u8],
        vars: Option<&Vars>,
    ) -> Result<Reply, End> {
        if self.marks.may_be_in(sql) {
            return self.run_with_params(sql, Answer::Binary, true, vars).await;
        }
        if !self.binary {
            let reply = self.fly(Flight::of(sql), vars).await?.pop();
            return reply.ok_or_else(|| End::Broken("a statement without a reply".into()));
        }
        let (id, columns) = match self.prepare_own(sql, vars).await {
            Ok(prepared) => prepared,
            Err(Unprepared::Error(error)) => return Ok(Reply::Err(error)),
            Err(Unprepared::End(end)) => return Err(end),
        };
        self.send_execution(id, &[command::STMT_EXECUTE, 0, 0, 0, 0, 0, 1, 0, 0, 0]).await?;
        let reply = self.read_binary(columns).await?;
        self.send_own(OwnCommand::Close(id)).await?;
        Ok(reply)
    }

    /// `COM_STMT_EXECUTE` of another statement, without a cursor.
    pub(in crate::session) async fn send_execution(&mut self, id: u32, execute: &[u8]) -> Result<(), End> {
        let mut payload = execute.to_vec();
        let (Some(id_bytes), true) = (payload.get_mut(1..5), execute.len() > 5) else {
            return Err(Malformed("COM_STMT_EXECUTE").into());
        };
        id_bytes.copy_from_slice(&id.to_le_bytes());
        payload[5] &= !CURSOR_TYPES;
        self.send_own(OwnCommand::Execute(&payload)).await
    }

    /// The reply to an execution, with the definitions that the server has left out because it has given them when it
    /// prepared the statement: the client has others in mind, or none.
    pub(in crate::session) async fn read_binary(&mut self, columns: Vec<Bytes>) -> Result<Reply, End> {
        let (mut reply, more) = self.read_reply(None, false).await?;
        if more {
            return Err(End::Broken("a statement of our own with several results".into()));
        }
        if let Reply::Rows(rows) = &mut reply
            && rows.columns.is_empty()
        {
            rows.columns = columns;
        }
        Ok(reply)
    }
}

struct Prepared {
    id: u32,
    columns: Vec<Bytes>,
    kept: bool,
}
