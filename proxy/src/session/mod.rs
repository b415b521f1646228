//! One client's connection and its own connection to the server.
//!
//! A session handles one command after the other, as the server does: it forwards the command and relays the reply
//! until its end, undecoded. Commands of a bound session are looked at first.

mod analysed;
mod answer;
mod answers;
mod bind;
mod bulk;
mod catalog;
mod change_user;
mod expect;
mod forward;
mod instead;
mod link;
mod local;
mod login;
mod named;
mod packet;
mod plain;
mod prepared;
mod reading;
mod relay;
mod rollback;
mod settings;
mod sql_state;
mod statement;
mod statements;
mod unbound;
mod warnings;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atone_sql::{Marks, Mode};
use atone_wire::attributes::Attributes;
use atone_wire::caps::status;
use atone_wire::error_code::ER_SERVER_SHUTDOWN;
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
use atone_capture::outcome::Halt;
use atone_capture::settings::assumed_mode;
use atone_capture::{Capture, Command, State};

use catalog::SessionCatalog;
use link::Link;
use link::gate::{Frame, ServerLeg};
use link::own::{Carried, OwnStatements};
use link::preserved::Preserved;
use link::reply::ReplyState;
use login::handshake::Opened;
use statements::Statements;
use unbound::HeldLocks;

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
        let opened = match Opened::open(backend, Conn::new(client), peer).await {
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
                        code: ER_SERVER_SHUTDOWN,
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
                self.link.send_unbound(&payload).await?;
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
