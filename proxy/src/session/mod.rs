//! One client's connection and its own connection to the server.
//!
//! A session handles one command after the other, as the server does: it forwards the command and relays the reply
//! until its end, undecoded. Commands of a bound session are looked at first.

mod analysed;
mod answer;
mod answers;
mod auth;
mod bind;
mod bound;
mod bulk;
mod catalog;
mod file;
mod gate;
mod handshake;
mod link;
mod local;
mod login;
mod named;
mod origin;
mod own;
mod packet;
mod pre_41;
mod prepared;
mod preserved;
mod register;
mod relay;
mod rollback;
mod sql_state;
mod statements;
mod warnings;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atone_sql::{Marks, Mode, TableLocks};
use atone_wire::attributes::Attributes;
use atone_wire::caps::status;
use atone_wire::frame::{HEADER, Header, MAX_PAYLOAD};
use atone_wire::reply::Expect;
use atone_wire::response::OkPacket;
use atone_wire::{caps, command, compress, frame};
use tokio::sync::watch;

use crate::backend::Backend;
use crate::heavy::ASIDE;
use crate::memory::RESERVED_PER_IMAGE;
use crate::net::{Conn, Peer, Stream};
use atone_capture::error::{End, SqlError};
use atone_capture::fault::Progress;
use atone_capture::flight::Reply;
use atone_capture::outcome::Halt;
use atone_capture::settings::assumed_mode;
use atone_capture::{Capture, Command, State};

use catalog::SessionCatalog;
use gate::{Frame, ServerLeg};
use link::Link;
use own::{Carried, OwnStatements};
use prepared::{CURSOR_AT, CURSOR_TYPES};
use preserved::Preserved;
use statements::Statements;

/// How long a server may take to close, once its client has ended its side.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// One client's connection and its own connection to the server.
#[derive(Debug)]
pub struct Session {
    /// The two connections.
    link: Link,
    /// What the service account knows.
    catalog: SessionCatalog,
    /// What the capture knows from one statement to the next.
    state: State,
    /// What belongs to the current statement.
    command: Command,
    /// The application's prepared statements.
    prepared: Statements,
    /// Whether the session holds table locks, as far as its statements tell.
    table_locks: HeldLocks,
    /// Whether the open local transaction has, or may have, written while unbound.
    wrote_unbound: bool,
    /// Where OK packets go instead of to the client, while several statements stand for one.
    held: Option<Vec<OkPacket>>,
    /// The bound session has read the list of its user variables, and since then has neither written nor begun or
    /// ended a local transaction: what it sets to NULL may be all that it has found.
    listed_variables: bool,
    draining: watch::Receiver<bool>,
}

impl Session {
    /// Serves a client until either side ends.
    pub async fn serve(backend: Arc<Backend>, client: Stream, peer: Peer, draining: watch::Receiver<bool>) {
        let opened = match Session::open(backend, Conn::new(client), peer).await {
            Ok(opened) => opened,
            Err(end) => {
                tracing::debug!(%end, "handshake ended");
                return;
            }
        };
        let mut secret = [0; 8];
        if aws_lc_rs::rand::fill(&mut secret).is_err() {
            tracing::error!("the system has no random numbers");
            return;
        }
        let marks = Marks::new(u64::from_le_bytes(secret));
        let activity = opened.backend.waits.activity(opened.connection_id);
        let (backend, mariadb) = (opened.backend, opened.mariadb);
        let link = Link {
            memory: backend.memory.for_session(),
            client: opened.client,
            server: ServerLeg::new(opened.server, activity),
            capabilities: opened.capabilities,
            mariadb,
            status: opened.status,
            binding: None,
            attribute_xid: None,
            readings: 0,
            multi_statements: opened.capabilities & caps::client::MULTI_STATEMENTS != 0,
            out_of_memory: false,
            preserved: Preserved::default(),
            marks,
            out_of_step: false,
            carried: Carried::default(),
            executed: false,
            own: OwnStatements::default(),
            reply: ReplyState::default(),
            client_ended: false,
            server_seq: 1,
            query_prefix: Attributes::default().query_prefix(opened.capabilities),
            binary: false,
            backend: backend.clone(),
        };
        let mut session = Session {
            link,
            catalog: SessionCatalog { backend, mariadb },
            state: State::default(),
            command: Command::default(),
            prepared: Statements::default(),
            table_locks: HeldLocks::No,
            wrote_unbound: false,
            held: None,
            listed_variables: false,
            draining,
        };
        let mut end = session.run().await;
        if let Err(End::Client(e)) = &end
            && e.kind() == io::ErrorKind::UnexpectedEof
        {
            // It may still read: the server may have something to say to that
            if !session.link.client_ended {
                session.link.client_ended = true;
                let ending = session.link.client.ending_of_client(e);
                session.link.server.end_as(ending).await;
            }
            let last_words = tokio::time::timeout(LAST_WORDS_LIMIT, session.relay_until_closed());
            end = last_words.await.unwrap_or(Err(End::Done));
        }
        match end {
            Ok(()) | Err(End::Done) => {}
            Err(End::Client(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(End::Server(e)) => {
                tracing::debug!(backend = session.link.backend.name, error = %e, "the server ended the session");
                let ending = session.link.server.ending(&e);
                session.link.client.end_as(ending).await;
                return;
            }
            Err(end @ (End::Malformed(_) | End::Broken(_))) => {
                tracing::warn!(backend = session.link.backend.name, %end, "session ended");
            }
            Err(end) => {
                tracing::debug!(backend = session.link.backend.name, %end, "session ended");
                session.explain(&end).await;
            }
        }
        session.link.client.shutdown().await;
    }

    /// The capture of the current statement.
    fn capture(&mut self) -> Capture<'_> {
        let (mariadb, capabilities, marks) = (self.link.mariadb, self.link.capabilities, self.link.marks);
        Capture {
            limits: self.catalog.backend.capture_limits(),
            server: &mut self.link,
            catalog: &self.catalog,
            state: &mut self.state,
            command: &mut self.command,
            heavy: ASIDE,
            mariadb,
            capabilities,
            marks,
        }
    }

    async fn run(&mut self) -> Result<(), End> {
        loop {
            self.await_command().await?;
            self.command.progress = Progress::default();
            let done = self.one_command().await;
            self.settle(done).await?;
            self.after_command();
        }
    }

    /// Waits for the client's next command; what the server says unasked meanwhile (that it shuts down, or that the
    /// connection was idle too long) is passed on.
    async fn await_command(&mut self) -> Result<(), End> {
        if let Some(codec) = self.link.server.codec() {
            codec.await_unsolicited();
        }
        // It may have come together with the last reply
        self.pass_unasked().await?;
        let idle_limit = self.link.backend.limits.idle_timeout();
        let over = async {
            match idle_limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        while self.link.client.rbuf.len() < HEADER + 1 {
            if let Some(Header { len: 0, .. }) = Header::peek(&self.link.client.rbuf) {
                return Ok(());
            }
            let idle = self.link.status & status::IN_TRANS == 0 && self.link.binding.is_none();
            let event = tokio::select! {
                read = self.link.client.fill() => {
                    read.map_err(End::Client)?;
                    Event::Command
                },
                read = self.link.server.fill_unasked() => {
                    read.map_err(End::Server)?;
                    Event::Unasked
                }
                _ = self.draining.wait_for(|d| *d), if idle => Event::Drain,
                () = &mut over => Event::Idle,
            };
            match event {
                Event::Command => {}
                Event::Unasked => self.pass_unasked().await?,
                Event::Idle => return Err(self.end_idle().await?),
                Event::Drain => {
                    let bye = SqlError {
                        code: 1053,
                        state: b"08S01",
                        message: "Server shutdown in progress".into(),
                    };
                    // The answer to what the client says next
                    if let Some(codec) = self.link.client.codec() {
                        codec.begin_unsolicited(1);
                    }
                    self.send_error(&bye).await?;
                    return Err(End::Done);
                }
            }
        }
        Ok(())
    }

    async fn one_command(&mut self) -> Result<(), Halt> {
        let Some(header) = Header::peek(&self.link.client.rbuf) else { return Ok(()) };
        self.link.reply = ReplyState::after(header.seq);
        if header.seq != 0 {
            return Ok(self.forward_out_of_order().await?);
        }
        if header.len == 0 {
            // No command: the server says what it thinks of that
            self.link.client_frame(Frame::Command).await?;
            self.relay_reply(Expect::Single).await?;
            return Ok(());
        }
        let byte = self.link.client.rbuf[HEADER];
        let streamed = header.len == MAX_PAYLOAD || header.len > self.link.backend.limits.max_statement_bytes;
        let streamed = streamed && byte != command::CHANGE_USER;
        if self.link.binding.is_none() && (streamed || !looked_at(byte)) {
            return Ok(self.forward_unlooked(byte).await?);
        }
        let limit = self.link.backend.limits.max_statement_bytes.saturating_add(1);
        let (payload, seq) = match frame::take_packet(&mut self.link.client.rbuf, limit) {
            Ok(Some(packet)) => packet,
            Ok(None) => match self.link.client.packet(limit).await {
                Ok(packet) => packet,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    return Ok(self.discard_command().await?);
                }
                Err(e) => return Err(End::Client(e).into()),
            },
            Err(_) => return Ok(self.discard_command().await?),
        };
        self.link.reply = ReplyState::after(seq);
        // The server may have prepared a statement of the proxy's own since the application's last one
        let was_last = self.link.mariadb && self.link.own.was_last;
        let payload = if was_last { self.prepared.with_id(payload) } else { payload };
        match byte {
            command::QUERY => self.query(payload).await,
            command::STMT_PREPARE => self.prepare(payload).await,
            command::STMT_EXECUTE => self.execute(payload).await,
            command::STMT_BULK_EXECUTE => self.bulk_execute(payload).await,
            command::STMT_SEND_LONG_DATA => Ok(self.long_data(payload).await?),
            command::CHANGE_USER => Ok(self.change_user(&payload).await?),
            _ if self.link.binding.is_some() => self.bound_command(byte, payload).await,
            _ => {
                self.forward_unbound(&payload).await?;
                Ok(self.finish_plain(byte, &payload).await?)
            }
        }
    }

    /// Tells the client what was wrong with its compressed packets, as the servers do, if that was it.
    async fn explain(&mut self, end: &End) {
        let End::Client(error) = end else { return };
        let Some(error) = error.get_ref().and_then(|e| e.downcast_ref::<compress::Error>()) else { return };
        let error = SqlError { code: error.code(), state: b"08S01", message: error.to_string() };
        // The connection ends whether it is heard or not
        let _ = self.send_error(&error).await;
    }

    /// What holds for a whole command, once it is answered.
    fn after_command(&mut self) {
        // What the statement has read beside its rows is gone
        self.link.memory.shrink_to(RESERVED_PER_IMAGE * self.state.branch.bytes());
        self.command.out_of_memory = None;
        self.link.out_of_memory = false;
        let in_transaction = self.in_transaction();
        if !in_transaction {
            self.wrote_unbound = false;
            if !self.state.branch.is_empty() {
                // Nothing ends a local transaction behind our back but the server, which then rolled it back
                self.state.branch.clear();
            }
        }
        if let Some(binding) = &self.link.binding
            && binding.local_only
            && !in_transaction
        {
            self.link.binding = None;
        }
    }

    /// Whether a local transaction is open on the server.
    fn in_transaction(&self) -> bool {
        self.link.in_transaction()
    }

    /// How statements are read as far as is known without asking the server.
    fn assumed_mode(&self) -> Mode {
        assumed_mode(self.state.vars.as_deref(), self.link.mariadb, self.link.marks)
    }

    /// Whether each statement outside of an explicit transaction commits by itself.
    fn autocommit(&self) -> bool {
        self.link.status & status::AUTOCOMMIT != 0 && !self.state.autocommit_hidden
    }

    /// The XID that this session is bound to, or nothing, for messages.
    fn xid(&self) -> String {
        self.link.xid()
    }

    /// Relays the reply to a command that was forwarded as it came, and notes what it changed.
    async fn finish_plain(&mut self, byte: u8, payload: &[u8]) -> Result<(), End> {
        match byte {
            // The server closes; the client is gone or waits for that
            command::QUIT => return self.relay_until_closed().await,
            command::STMT_CLOSE => {
                let Some(id) = payload.get(1..5).and_then(|b| b.try_into().ok()) else {
                    return self.answer_to_malformed().await;
                };
                self.prepared.close(u32::from_le_bytes(id));
                return Ok(());
            }
            command::STMT_SEND_LONG_DATA => return Ok(()),
            _ => {}
        }
        if byte == command::PING && !self.link.mariadb && self.state.diagnostics.is_some() {
            return self.finish_ping().await;
        }
        let expect = if byte == command::STMT_EXECUTE { of_execution(payload) } else { expected(byte) };
        let tracker = self.relay_reply(expect).await?;
        if let Some(code) = tracker.failed().filter(|_| self.link.binding.is_some()) {
            self.capture().after_error(code).await?;
        }
        self.note_command(byte, tracker.failed().is_some()).await?;
        match byte {
            command::RESET_CONNECTION if tracker.failed().is_none() => self.forget_session(),
            command::STMT_RESET => {
                let id = payload.get(1..5).and_then(|id| id.try_into().ok()).map(u32::from_le_bytes);
                if let Some(statement) = id.and_then(|id| self.prepared.get_mut(id)) {
                    statement.reset();
                }
            }
            command::SET_OPTION if tracker.failed().is_none() => self.note_option(payload),
            command::INIT_DB if tracker.failed().is_none() => {
                self.state.vars = None;
                self.link.readings += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// MySQL counts the warnings of the statement before in its answer to a ping; it has others in its list than are
    /// kept.
    async fn finish_ping(&mut self) -> Result<(), End> {
        match self.link.read_reply(None, false).await?.0 {
            Reply::Ok(mut ok) => {
                let kept = self.state.diagnostics.get().map_or(0, |kept| kept.warning_count);
                ok.warnings = u16::try_from(kept).unwrap_or(u16::MAX);
                self.note_command(command::PING, false).await?;
                self.send_ok(ok).await
            }
            Reply::Err(e) => self.statement_failed(e).await,
            _ => Err(End::Broken("a ping answered with rows".into())),
        }
    }

    /// The server has forgotten everything of this session but the login and the options of the connection.
    fn forget_session(&mut self) {
        self.prepared = Statements::default();
        self.state.autocommit_hidden = false;
        self.link.own = OwnStatements::default();
        self.link.binding = None;
        self.state.branch.clear();
        self.wrote_unbound = false;
        self.table_locks = HeldLocks::No;
        self.state.vars = None;
        self.state.tables.clear();
        self.state.undo_logs.clear();
        self.state.diagnostics.forget();
    }

    /// The application has set, by `COM_SET_OPTION`, whether it sends several statements in a packet.
    fn note_option(&mut self, payload: &[u8]) {
        // MariaDB reads a missing byte as 0
        let option = [1, 2].map(|at| payload.get(at).copied().unwrap_or_default());
        let on = option == command::OPTION_MULTI_STATEMENTS_ON.to_le_bytes();
        if on {
            self.link.capabilities |= caps::client::MULTI_STATEMENTS;
        } else {
            self.link.capabilities &= !caps::client::MULTI_STATEMENTS;
        }
        self.link.multi_statements = on;
    }

    /// Something that ran unbound may have changed how statements prepared before it are read; so it does where it is
    /// not known.
    fn note_reading(&mut self, sql: Option<&[u8]>) {
        if self.prepared.is_empty() && self.link.own.is_empty() {
            return;
        }
        if sql.is_none_or(atone_sql::may_change_parsing) {
            self.link.readings += 1;
        }
        if sql.is_none_or(atone_sql::may_prepare) {
            self.prepared.named.clear();
        }
    }

    /// Something ran unbound that may have changed what we know of the session.
    fn unbound_activity(&mut self) {
        self.state.vars = None;
        self.state.tables.clear();
        self.state.undo_logs.clear();
        self.state.diagnostics.forget();
    }

    /// Forwards a query of an unbound session, as it came, and notes whether it may have written.
    async fn unbound_query(&mut self, payload: &[u8], sql: &[u8]) -> Result<(), Halt> {
        if !atone_sql::may_have_several_statements(sql) {
            self.check_found_rows(sql)?;
        }
        self.link.restore_multi_statements(sql).await?;
        self.forward_unbound(payload).await?;
        Ok(self.after_unbound_query(sql).await?)
    }

    /// The same of one statement, with the query attributes of the command that it came in.
    async fn unbound_statement(&mut self, sql: &[u8]) -> Result<(), Halt> {
        self.check_found_rows(sql)?;
        let taken = self.mark_unbound_list().await?;
        self.link.restore_multi_statements(sql).await?;
        self.forward_unbound_statement(sql).await?;
        self.after_unbound_query(sql).await?;
        Ok(self.follow_list(taken).await?)
    }

    async fn after_unbound_query(&mut self, sql: &[u8]) -> Result<(), End> {
        self.unbound_activity();
        self.note_reading(Some(sql));
        let failed = self.relay_reply(Expect::Results).await?.failed().is_some();
        if !failed {
            self.note_result(sql);
        }
        self.note_unbound(sql, failed);
        Ok(())
    }

    /// Notes what a statement of an unbound session has done that bears on whether it can be bound.
    fn note_unbound(&mut self, sql: &[u8], failed: bool) {
        self.note_unbound_write(sql);
        let mode = self.capture().assumed_mode();
        match (atone_sql::table_locks(&mode.charset.decode_value(sql), mode), failed) {
            (Some(TableLocks::Taken), false) => self.table_locks = HeldLocks::Yes,
            (Some(TableLocks::Released), false) => self.table_locks = HeldLocks::No,
            // Of several statements the first ones may have run
            (Some(_), _) => self.table_locks = HeldLocks::Unknown,
            (None, _) => {}
        }
    }

    fn note_unbound_write(&mut self, sql: &[u8]) {
        if self.in_transaction() && !self.wrote_unbound {
            let mode = self.capture().assumed_mode();
            self.wrote_unbound = atone_sql::may_write(&mode.charset.decode_value(sql), mode);
        }
    }
}

/// What the client has of the reply to its current command.
#[derive(Clone, Copy, Debug, Default)]
struct ReplyState {
    /// The sequence number of the next packet.
    seq: u8,
    /// Whether the reply to the current statement is followed by that to another one.
    more: bool,
    /// Whether an error was sent, which ends it.
    failed: bool,
    /// What the current statement was answered with, unless it was an error.
    answer: Option<Answer>,
    /// The error that it was answered with.
    error: Option<Answered>,
}

/// What a statement was answered with, as far as its diagnostics go.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// `None` for rows.
    affected_rows: Option<u64>,
    warnings: u16,
}

impl Answer {
    /// What `ROW_COUNT()` is after it.
    fn row_count(self) -> i128 {
        self.affected_rows.map_or(-1, i128::from)
    }
}

/// An error that a statement was answered with.
#[derive(Clone, Copy, Debug)]
struct Answered {
    code: u16,
    /// It is Atone's.
    own: bool,
}

impl ReplyState {
    /// Before the reply to a command whose last frame has this sequence number.
    fn after(seq: u8) -> ReplyState {
        ReplyState { seq: seq.wrapping_add(1), ..ReplyState::default() }
    }
}

/// Whether a session holds table locks (LOCK TABLES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeldLocks {
    No,
    Yes,
    /// A statement may have taken or released some that was not read as far.
    Unknown,
}

/// What happens while a session waits for a command.
enum Event {
    Command,
    Unasked,
    Drain,
    Idle,
}

/// Whether a command of an unbound session must be seen whole.
fn looked_at(byte: u8) -> bool {
    matches!(
        byte,
        command::QUERY
            | command::STMT_PREPARE
            | command::STMT_EXECUTE
            | command::STMT_BULK_EXECUTE
            | command::STMT_SEND_LONG_DATA
            | command::STMT_CLOSE
            | command::STMT_RESET
            | command::SET_OPTION
            | command::CHANGE_USER
    )
}

/// What an execution is answered with.
fn of_execution(payload: &[u8]) -> Expect {
    let cursor = payload.get(CURSOR_AT).is_some_and(|flags| flags & CURSOR_TYPES != 0);
    if cursor { Expect::Cursor } else { Expect::Results }
}

/// What a command is answered with.
fn expected(byte: u8) -> Expect {
    match byte {
        command::QUERY | command::STMT_EXECUTE | command::PROCESS_INFO | command::STMT_BULK_EXECUTE => {
            Expect::Results
        }
        command::STMT_PREPARE => Expect::Prepare,
        command::FIELD_LIST => Expect::FieldList,
        command::STMT_FETCH => Expect::Rows,
        command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::TABLE_DUMP => Expect::Endless,
        _ => Expect::Single,
    }
}
