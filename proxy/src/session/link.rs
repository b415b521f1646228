//! The session's two connections, and statements of the proxy's own on the server's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use atone_api::proto::BranchOutcome;
use atone_sql::{Marks, Mode};
use atone_wire::caps::{client, status};
use atone_wire::frame::{HEADER, put_packet};
use atone_wire::read::Reader;
use atone_wire::reply::PROGRESS;
use atone_wire::response::{ErrPacket, OkPacket, parse_eof};
use atone_wire::{Malformed, command};
use bytes::Bytes;

use super::ReplyState;
use super::analysed::written;
use super::bind::Binding;
use super::gate::{OwnCommand, ServerLeg};
use super::own::{Answer, Carried, OwnStatements, Unprepared};
use super::preserved::Preserved;
use crate::backend::Backend;
use crate::memory::{RESERVED_PER_IMAGE, Reservation};
use crate::net::Conn;
use atone_capture::error::{End, SqlError};
use atone_capture::fault::{Fault, class, extent};
use atone_capture::flight::{Flight, Replies, Reply, Rows};
use atone_capture::journal::ROW_BYTES;
use atone_capture::port::{Asked, NotRegistered, Registration, Server, Step};
use atone_capture::settings::{UNSAYABLE, Vars, assumed_mode};

/// A client's connection and its own connection to the server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) backend: Arc<Backend>,
    pub(super) client: Conn,
    pub(super) server: ServerLeg,
    /// Capabilities in force on both legs.
    pub(super) capabilities: u64,
    pub(super) mariadb: bool,
    /// The status flags that the server sent last.
    pub(super) status: u16,
    /// The global transaction that the session's statements belong to. While there is one, nothing of the client's
    /// goes on unread.
    pub(super) binding: Option<Binding>,
    /// The XID that a query attribute of the current command names.
    pub(super) attribute_xid: Option<String>,
    /// Bumped whenever something may have changed how the text of a statement is read.
    pub(super) readings: u64,
    /// Whether the server takes several statements in one packet from us now.
    pub(super) multi_statements: bool,
    /// What its images take of the process's memory.
    pub(super) memory: Reservation,
    /// A reply to a statement of ours was dropped, as there was no memory for it.
    pub(super) out_of_memory: bool,
    /// What our own statements must not disturb.
    pub(super) preserved: Preserved,
    /// How literals are marked that stand for parameters.
    pub(super) marks: Marks,
    /// The last reply was not followed to its end: what the server says next may belong to it.
    pub(super) out_of_step: bool,
    /// The parameters of the execution that is being run.
    pub(super) carried: Carried,
    /// The application's own statement was executed for its current execution.
    pub(super) executed: bool,
    /// Statements of our own that the server keeps prepared.
    pub(super) own: OwnStatements,
    /// The reply to the current command, as far as the client has it.
    pub(super) reply: ReplyState,
    /// Whether the client has ended its sending side, which was passed on to the server.
    pub(super) client_ended: bool,
    /// The sequence number that the server's next packet has.
    pub(super) server_seq: u8,
    /// What each `COM_QUERY` to the server has before its text: the query attributes of the current command.
    pub(super) query_prefix: Vec<u8>,
    /// The current statement was prepared: rows go in the binary protocol.
    pub(super) binary: bool,
}

/// How long the server may be silent between two statements of a packet before it is asked whether it goes on.
const SILENCE: Duration = Duration::from_millis(100);
/// The least that the reply to a `COM_STMT_PREPARE` has.
const PREPARED_BYTES: usize = 12;
/// How the answer to `COM_SET_OPTION` begins, and no result.
const EOF: u8 = 0xfe;

/// What a reply of ours takes is counted so many bytes at a time.
const COUNTED_BYTES: usize = 64 << 10;
/// The most columns that a result of ours may have; tables have fewer.
const MAX_COLUMNS: u64 = 1 << 13;

impl Link {
    /// The XID that the session is bound to, or nothing, for messages.
    pub(super) fn xid(&self) -> String {
        self.binding.as_ref().map(|b| b.xid.clone()).unwrap_or_default()
    }

    /// Whether a local transaction is open on the server.
    pub(super) fn in_transaction(&self) -> bool {
        self.status & (status::IN_TRANS | status::IN_TRANS_READONLY) != 0
    }

    /// Runs one flight and collects its replies, whatever they are: the last one is an error where a statement failed.
    ///
    /// # Errors
    /// The connection broke, or one packet was above `max_branch_bytes`.
    pub(super) async fn fly(&mut self, flight: Flight, vars: Option<&Vars>) -> Result<Vec<Reply>, End> {
        let mut replies = Vec::with_capacity(flight.len());
        if !self.marks.may_be_in(flight.text()) {
            self.run_texts(&flight, vars, &mut replies).await?;
        } else {
            let mut texts = flight.without_statements();
            for statement in flight.statements() {
                if !self.marks.may_be_in(statement) {
                    texts.push(statement);
                    continue;
                }
                if self.mariadb && flight.of_values {
                    // It may leave the definitions out although they are others than when it prepared the statement
                    let text = self.marks.with_literals(statement);
                    texts.push(text.ok_or_else(|| End::Broken("a part of a parameter".into()))?);
                    continue;
                }
                self.run_texts(&texts, vars, &mut replies).await?;
                texts = flight.without_statements();
                if matches!(replies.last(), Some(Reply::Err(_))) {
                    break;
                }
                let run = self.run_with_params(statement, Answer::Text, !flight.of_values, vars);
                replies.push(run.await?);
                if matches!(replies.last(), Some(Reply::Err(_))) {
                    break;
                }
            }
            if !matches!(replies.last(), Some(Reply::Err(_))) {
                self.run_texts(&texts, vars, &mut replies).await?;
            }
        }
        self.after_own_statements(&replies).await?;
        Ok(replies)
    }

    /// Runs the statements of a packet, in text, and adds their replies.
    pub(super) async fn run_texts(
        &mut self,
        flight: &Flight,
        vars: Option<&Vars>,
        all: &mut Vec<Reply>,
    ) -> Result<(), End> {
        let statements = flight.len();
        if statements == 0 {
            return Ok(());
        }
        let charset = self.mode(vars).charset;
        let Some(sql) = written(flight.text(), charset) else {
            all.push(Reply::Err(self.unsayable()));
            return Ok(());
        };
        let written = match sql {
            Cow::Borrowed(_) => None,
            Cow::Owned(sql) => Some(Flight::of(sql)),
        };
        let (file, uncounted) = (flight.file.as_ref(), flight.uncounted);
        let flight = written.as_ref().unwrap_or(flight);
        if let Some(vars) = vars
            && flight.text().len() + self.query_prefix.len() >= vars.max_allowed_packet
        {
            // The server would end the connection
            let limit = vars.max_allowed_packet;
            all.push(Reply::Err(SqlError::above_packet(&self.xid(), limit).err()));
            return Ok(());
        }
        if statements > 1 {
            self.enable_multi_statements().await?;
        }
        self.send_flight(flight).await?;
        let mut replies = Vec::with_capacity(statements);
        let mut asked = false;
        loop {
            let (reply, more) = if replies.is_empty() {
                self.read_reply(file, uncounted).await?
            } else {
                self.read_further(&mut asked, file, uncounted).await?
            };
            let failed = matches!(reply, Reply::Err(_));
            replies.push(reply);
            if failed || !more || replies.len() > statements {
                break;
            }
        }
        if asked {
            self.read_option_set().await?;
        }
        let complete = replies.len() == statements || matches!(replies.last(), Some(Reply::Err(_)));
        if !complete || replies.len() > statements {
            return Err(End::Broken(
                "the server answered another number of statements than it was sent".into(),
            ));
        }
        all.append(&mut replies);
        Ok(())
    }

    /// The next packet from the server; its reports of progress are passed over.
    async fn server_packet(&mut self) -> Result<Bytes, End> {
        Ok(self.numbered_packet().await?.0)
    }

    /// The same with the number of its last frame.
    pub(super) async fn numbered_packet(&mut self) -> Result<(Bytes, u8), End> {
        loop {
            let limit = self.backend.limits.max_branch_bytes;
            let (packet, seq) = self.server.packet(limit).await.map_err(End::Server)?;
            if self.capabilities & client::MARIADB_PROGRESS == 0 || !packet.starts_with(&PROGRESS) {
                return Ok((packet, seq));
            }
        }
    }

    /// Reads one reply; whether others follow.
    pub(super) async fn read_reply(
        &mut self,
        file: Option<&Bytes>,
        uncounted: bool,
    ) -> Result<(Reply, bool), End> {
        let (mut first, seq) = self.numbered_packet().await?;
        if let (Some(0xfb), Some(file)) = (first.first(), file) {
            self.give_file(file, seq).await?;
            first = self.server_packet().await?;
        }
        match first.first() {
            Some(0x00) => {
                let ok = OkPacket::parse(&first)?;
                self.status = ok.status & !status::MORE_RESULTS_EXISTS;
                let more = ok.status & status::MORE_RESULTS_EXISTS != 0;
                return Ok((Reply::Ok(ok), more));
            }
            Some(0xff) => return Ok((Reply::Err(ErrPacket::parse(&first)?), false)),
            Some(0xfb) => return Err(End::Broken("the server asks for a file that was not offered".into())),
            _ => {}
        }
        let deprecate_eof = self.capabilities & client::DEPRECATE_EOF != 0;
        let mut head = Reader::new(&first);
        let width = head.lenenc()?;
        let defined = self.capabilities & client::OPTIONAL_DEFINITIONS == 0 || head.u8()? != 0;
        if width > MAX_COLUMNS {
            return Err(Malformed("more columns than a table has").into());
        }
        let mut columns = Vec::new();
        for _ in 0..if defined { width } else { 0 } {
            columns.push(self.server_packet().await?);
        }
        let width = usize::try_from(width).map_err(|_| Malformed("columns beyond memory"))?;
        if !deprecate_eof {
            parse_eof(&self.server_packet().await?)?;
        }
        let limit = self.backend.limits.max_branch_bytes;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let (mut not_counted, mut refused) = (0, false);
        loop {
            let packet = self.server_packet().await?;
            let ends = packet.first() == Some(&0xfe) && packet.len() < atone_wire::frame::MAX_PAYLOAD;
            if packet.first() == Some(&0xff) {
                return Ok((Reply::Err(ErrPacket::parse(&packet)?), false));
            }
            if ends && (deprecate_eof || packet.len() == 5) {
                let (status, _) = if deprecate_eof {
                    let ok = OkPacket::parse(&packet)?;
                    (ok.status, ok.warnings)
                } else {
                    parse_eof(&packet)?
                };
                self.status = status & !status::MORE_RESULTS_EXISTS;
                let more = status & status::MORE_RESULTS_EXISTS != 0;
                self.out_of_memory |= refused;
                let reply = if bytes > limit || refused {
                    Reply::TooLarge
                } else {
                    Reply::Rows(Rows { width, columns, rows, end: packet })
                };
                return Ok((reply, more));
            }
            bytes += packet.len() + size_of::<Bytes>();
            not_counted += (packet.len() + ROW_BYTES) * RESERVED_PER_IMAGE;
            if not_counted >= COUNTED_BYTES && !uncounted {
                refused |= !self.memory.grow(std::mem::take(&mut not_counted));
            }
            if bytes > limit || refused {
                rows = Vec::new();
            } else {
                rows.push(packet);
            }
        }
    }

    /// The reply to the next statement of a packet.
    ///
    /// The server may be told to kill the statement (`KILL QUERY`) just between two of a packet. Then it drops those
    /// that follow without a word, although it has said that more comes. So one that is silent is asked for what a
    /// connection has anyway: the answer comes after the packet's replies, and begins as none of them can.
    async fn read_further(
        &mut self,
        asked: &mut bool,
        file: Option<&Bytes>,
        uncounted: bool,
    ) -> Result<(Reply, bool), End> {
        if !*asked && tokio::time::timeout(SILENCE, self.server.fill_to(HEADER + 1)).await.is_err() {
            self.send_own(OwnCommand::SetOption(command::OPTION_MULTI_STATEMENTS_ON)).await?;
            *asked = true;
        }
        if *asked {
            self.server.fill_to(HEADER + 1).await.map_err(End::Server)?;
            if self.server.rbuf().get(HEADER) == Some(&EOF) {
                self.read_option_set().await?;
                *asked = false;
                return Ok((Reply::Err(SqlError::interrupted().err()), false));
            }
        }
        self.read_reply(file, uncounted).await
    }

    /// Reads the reply to a `COM_STMT_PREPARE` of our own: the statement's id, and the definitions of its columns.
    pub(super) async fn read_prepared(&mut self) -> Result<(u32, Vec<Bytes>), Unprepared> {
        let first = self.server_packet().await?;
        if first.first() == Some(&0xff) {
            return Err(Unprepared::Error(ErrPacket::parse(&first)?));
        }
        if first.first() == Some(&0) && first.len() < PREPARED_BYTES {
            // An OK packet: so says MySQL of a SET GLOBAL that its user may not do, and has prepared nothing
            return Err(Unprepared::Error(SqlError::unprepared().err()));
        }
        let mut head = Reader::new(&first);
        head.u8()?;
        let id = head.u32()?;
        let (columns, params) = (head.u16()?, head.u16()?);
        let undefined = self.capabilities & client::OPTIONAL_RESULTSET_METADATA != 0
            && first.len() > 12
            && first.get(12) == Some(&0);
        let eof = self.capabilities & client::DEPRECATE_EOF == 0;
        let mut last = Vec::new();
        for definitions in [params, columns] {
            last.clear();
            for _ in 0..if undefined { 0 } else { definitions } {
                last.push(self.server_packet().await?);
            }
            if eof && definitions > 0 {
                self.server_packet().await?;
            }
        }
        Ok((id, last))
    }

    async fn enable_multi_statements(&mut self) -> Result<(), End> {
        if !self.multi_statements {
            self.set_option(command::OPTION_MULTI_STATEMENTS_ON).await?;
            self.multi_statements = true;
        }
        Ok(())
    }

    async fn set_option(&mut self, option: u16) -> Result<(), End> {
        self.send_own(OwnCommand::SetOption(option)).await?;
        self.read_option_set().await
    }

    /// Reads the reply to `COM_SET_OPTION`.
    async fn read_option_set(&mut self) -> Result<(), End> {
        let reply = self.server_packet().await?;
        match reply.first() {
            Some(&(0x00 | EOF)) => Ok(()),
            Some(0xff) => {
                let error = ErrPacket::parse(&reply)?;
                // It belongs to no transaction
                let extent = extent(class(error.code, self.mariadb), false, false);
                Err(End::Fault(Fault { error, extent }))
            }
            _ => Err(End::Broken("the server refuses COM_SET_OPTION".into())),
        }
    }

    /// A statement of the application's own meets the server as the application set it up: several statements in a
    /// packet only where it asked for that.
    pub(super) async fn restore_multi_statements(&mut self, sql: &[u8]) -> Result<(), End> {
        let wanted = self.capabilities & client::MULTI_STATEMENTS != 0;
        if self.multi_statements && !wanted && memchr::memchr(b';', sql).is_some() {
            self.set_option(command::OPTION_MULTI_STATEMENTS_OFF).await?;
            self.multi_statements = false;
        }
        Ok(())
    }

    fn replies(&mut self, all: Vec<Reply>) -> Replies {
        let dropped = std::mem::take(&mut self.out_of_memory);
        Replies { all, out_of_memory: dropped.then(|| self.memory.limit()) }
    }

    /// How statements are read under these settings, as far as they are known.
    pub(super) fn mode(&self, vars: Option<&Vars>) -> Mode {
        assumed_mode(vars, self.mariadb, self.marks)
    }

    /// The error for a statement of our own with a name that the session cannot say.
    pub(super) fn unsayable(&self) -> ErrPacket {
        SqlError::refused(&self.xid(), UNSAYABLE).err()
    }

    /// Whether what the client sends is part of the current command.
    pub(super) fn expect_more(&mut self, on: bool) {
        if let Some(codec) = self.client.codec() {
            codec.expect_more(on);
        }
    }

    /// Answers the current statement with one packet of our own.
    pub(super) async fn send_packet(&mut self, payload: &[u8]) -> Result<(), End> {
        let mut out = Vec::with_capacity(payload.len() + HEADER);
        self.reply.seq = put_packet(&mut out, self.reply.seq, payload);
        self.client.write_all(&out).await.map_err(End::Client)
    }
}

impl Server for Link {
    fn status(&self) -> u16 {
        self.status
    }

    fn xid(&self) -> String {
        Link::xid(self)
    }

    fn prefix_bytes(&self) -> usize {
        self.query_prefix.len()
    }

    fn run<'a>(&'a mut self, flight: Flight, vars: Option<Arc<Vars>>) -> Step<'a, Result<Replies, End>> {
        Box::pin(async move {
            let all = self.fly(flight, vars.as_deref()).await?;
            Ok(self.replies(all))
        })
    }

    fn run_for_rows<'a>(
        &'a mut self,
        text: &'a [u8],
        vars: Option<Arc<Vars>>,
    ) -> Step<'a, Result<Replies, End>> {
        Box::pin(async move {
            let reply = self.rows_of(text, vars.as_deref()).await?;
            Ok(self.replies(vec![reply]))
        })
    }

    fn prepare<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Option<ErrPacket>, End>> {
        Box::pin(self.error_of_prepare(text))
    }

    fn ask_for_file<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Asked, End>> {
        Box::pin(Link::ask_for_file(self, text))
    }

    fn register<'a>(&'a mut self, branch: Registration) -> Step<'a, Result<u64, NotRegistered>> {
        Box::pin(self.register_branch(branch))
    }

    fn report(&self, branch_id: u64, committed: bool) {
        let outcome = if committed { BranchOutcome::Committed } else { BranchOutcome::Aborted };
        self.backend.coordinator.report(&Link::xid(self), branch_id, outcome);
    }
}
