//! The one way to the server.
//!
//! Whatever a session writes to its server goes through this module: only here is the connection's writing side
//! within reach. So the compiler holds the third invariant: text of a bound session's client reaches the server in
//! one of two ways. It is an [`Origin`], which only an analysis of that very text makes, or a part of a statement of
//! our own, a [`Flight`].

use std::io;
use std::sync::Arc;

use atone_wire::command;
use atone_wire::frame::{HEADER, Header, put_packet};
use atone_wire::reply::{Expect, ReplyTracker};
use bytes::{Buf, Bytes, BytesMut};

use super::Session;
use super::analysed::{Origin, Passes, Uncaptured};
use super::link::Link;
use crate::compressed::Codec;
use crate::net::{Conn, Ending};
use crate::session::of_execution;
use crate::waits::Activity;
use atone_capture::error::End;
use atone_capture::flight::Flight;

/// The connection to the server. Everybody may read from it.
#[derive(Debug)]
pub(super) struct ServerLeg {
    conn: Conn,
    activity: Arc<Activity>,
}

impl ServerLeg {
    /// After the login.
    pub(super) fn new(conn: Conn, activity: Arc<Activity>) -> ServerLeg {
        ServerLeg { conn, activity }
    }

    /// Whether it is waited for.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// What has come and was not read yet.
    pub(super) fn rbuf(&mut self) -> &mut BytesMut {
        &mut self.conn.rbuf
    }

    /// Waits for more of an answer.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        let _waiting = self.activity.wait();
        self.conn.fill().await
    }

    /// Waits for what it says unasked.
    pub(super) async fn fill_unasked(&mut self) -> io::Result<()> {
        self.conn.fill().await
    }

    /// Waits until so many bytes are there. Cancel safe.
    pub(super) async fn fill_to(&mut self, n: usize) -> io::Result<()> {
        let _waiting = self.activity.wait();
        self.conn.fill_to(n).await
    }

    /// The next packet, of `limit` bytes at most, and the number of its last frame.
    pub(super) async fn packet(&mut self, limit: usize) -> io::Result<(Bytes, u8)> {
        let _waiting = self.activity.wait();
        self.conn.packet(limit).await
    }

    /// What compresses the connection, if it is compressed.
    pub(super) fn codec(&mut self) -> Option<&mut Codec> {
        self.conn.codec()
    }

    /// How the other side has ended it.
    pub(super) fn ending(&self, error: &io::Error) -> Ending {
        self.conn.ending(error)
    }

    /// Ends the sending side.
    pub(super) async fn end_as(&mut self, ending: Ending) {
        self.conn.end_as(ending).await;
    }

    /// The connection itself, for the exchange of a login: no statement runs before it is over.
    pub(super) fn in_login(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

/// What a frame of the client's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A part of a command of an unbound session.
    Command,
    /// A part of the file that the server has asked for.
    File,
    /// A part of a command that nobody gets.
    Dropped,
}

/// A command of a bound session that holds no statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Harmless(u8);

impl Harmless {
    /// The command of this byte, if it is one.
    pub(super) fn of(byte: u8) -> Option<Harmless> {
        matches!(
            byte,
            command::QUIT
                | command::FIELD_LIST
                | command::STATISTICS
                | command::PROCESS_INFO
                | command::PROCESS_KILL
                | command::DEBUG
                | command::PING
                | command::RESET_CONNECTION
                | command::STMT_CLOSE
                | command::STMT_RESET
                | command::STMT_FETCH
                | command::STMT_SEND_LONG_DATA
                | command::INIT_DB
                | command::SET_OPTION
        )
        .then_some(Harmless(byte))
    }
}

/// What the proxy does itself in a session, but for statements in text.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnCommand<'a> {
    /// `COM_SET_OPTION`
    SetOption(u16),
    /// `COM_STMT_EXECUTE` of a statement that the proxy has prepared.
    Execute(&'a [u8]),
    /// `COM_STMT_SEND_LONG_DATA` for such a one, without the command byte.
    LongData(&'a [u8]),
    /// `COM_STMT_RESET`, which forgets long data.
    Reset(u32),
    /// `COM_STMT_CLOSE` of such a one.
    Close(u32),
}

impl Link {
    /// Nothing of the client's may go on unread: it is neither bound nor does the command ask to be.
    ///
    /// # Errors
    /// It is bound: the session ends, and what it has not committed with it.
    fn must_be_unbound(&self) -> Result<(), End> {
        match self.binding.is_none() && self.attribute_xid.is_none() {
            true => Ok(()),
            false => Err(End::Broken("a command of a bound session that was not analysed".into())),
        }
    }

    /// Has the server prepare a statement, which runs nothing of it.
    pub(super) async fn send_prepare(&mut self, sql: &[u8]) -> Result<(), End> {
        let mut payload = Vec::with_capacity(1 + sql.len());
        payload.push(command::STMT_PREPARE);
        payload.extend_from_slice(sql);
        self.send(&payload).await
    }

    /// Sends a command of the proxy's own.
    pub(super) async fn send_own(&mut self, own: OwnCommand<'_>) -> Result<(), End> {
        match own {
            OwnCommand::SetOption(option) => {
                let [low, high] = option.to_le_bytes();
                self.send(&[command::SET_OPTION, low, high]).await
            }
            OwnCommand::Execute(payload) => self.send(payload).await,
            OwnCommand::LongData(data) => self.send(&[&[command::STMT_SEND_LONG_DATA], data].concat()).await,
            OwnCommand::Reset(id) | OwnCommand::Close(id) => {
                let byte = if matches!(own, OwnCommand::Close(_)) {
                    command::STMT_CLOSE
                } else {
                    command::STMT_RESET
                };
                let [a, b, c, d] = id.to_le_bytes();
                self.send(&[byte, a, b, c, d]).await
            }
        }
    }

    /// Sends statements of the proxy's own.
    pub(super) async fn send_flight(&mut self, flight: &Flight) -> Result<(), End> {
        self.send_query(flight.text()).await
    }

    /// Sends a packet of a file that the server has asked for; `seq` is its number. Returns the number that follows.
    pub(super) async fn send_file_packet(&mut self, seq: u8, bytes: &[u8]) -> Result<u8, End> {
        let mut out = Vec::with_capacity(bytes.len() + HEADER);
        let next = put_packet(&mut out, seq, bytes);
        self.server.conn.write_all(&out).await.map_err(End::Server)?;
        Ok(next)
    }

    /// Takes one frame from the client while it comes in, and passes it on to the server or drops it. Returns the
    /// length of its payload.
    pub(super) async fn client_frame(&mut self, kind: Frame) -> Result<usize, End> {
        self.client.fill_to(HEADER).await.map_err(End::Client)?;
        let Some(Header { len, seq }) = Header::peek(&self.client.rbuf) else { return Ok(0) };
        if kind == Frame::Command && len > 0 {
            self.must_be_unbound()?;
        }
        let forward = kind != Frame::Dropped;
        self.reply.seq = seq.wrapping_add(1);
        if forward {
            self.server_seq = seq.wrapping_add(1);
        }
        let mut left = HEADER + len;
        while left > 0 {
            if self.client.rbuf.is_empty() {
                self.client.fill().await.map_err(End::Client)?;
            }
            let n = left.min(self.client.rbuf.len());
            if forward && let Err(e) = self.server.conn.write_all(&self.client.rbuf[..n]).await {
                self.server_broke(e).await?;
            }
            self.client.rbuf.advance(n);
            left -= n;
        }
        Ok(len)
    }

    /// Sends a `COM_QUERY` of this text, with the query attributes of the current command.
    async fn send_query(&mut self, sql: &[u8]) -> Result<(), End> {
        if self.marks.may_be_in(sql) {
            return Err(End::Broken("a parameter in a statement that is sent as text".into()));
        }
        let mut payload = Vec::with_capacity(1 + self.query_prefix.len() + sql.len());
        payload.push(command::QUERY);
        payload.extend_from_slice(&self.query_prefix);
        payload.extend_from_slice(sql);
        self.send(&payload).await
    }

    /// Sends one command with its payload.
    async fn send(&mut self, payload: &[u8]) -> Result<(), End> {
        let mut out = Vec::with_capacity(payload.len() + HEADER);
        self.server_seq = put_packet(&mut out, 0, payload);
        match self.server.conn.write_all(&out).await {
            Ok(()) => Ok(()),
            Err(e) => self.server_broke(e).await,
        }
    }

    /// The server's socket broke while it was written to: what it said before (why it closed) goes to the client.
    async fn server_broke(&mut self, error: io::Error) -> Result<(), End> {
        loop {
            if let Err(end) = self.server.fill().await {
                let reset = error.kind() == io::ErrorKind::ConnectionReset;
                return Err(End::Server(if reset { error } else { end }));
            }
            let last = self.server.rbuf().split();
            self.client.write_all(&last).await.map_err(End::Client)?;
        }
    }
}

impl Session {
    /// Forwards a command of an unbound session as it came.
    pub(super) async fn forward_unbound(&mut self, payload: &[u8]) -> Result<(), End> {
        self.link.must_be_unbound()?;
        self.link.send(payload).await
    }

    /// Forwards one statement of an unbound session, with the query attributes of the command that it came in.
    pub(super) async fn forward_unbound_statement(&mut self, sql: &[u8]) -> Result<(), End> {
        self.link.must_be_unbound()?;
        self.link.send_query(sql).await
    }

    /// Forwards a command that holds no statement.
    pub(super) async fn forward_harmless(&mut self, kind: Harmless, payload: &[u8]) -> Result<(), End> {
        match payload.first() {
            Some(byte) if *byte == kind.0 => self.link.send(payload).await,
            _ => Err(End::Broken("a command that is another one".into())),
        }
    }

    /// Forwards `COM_CHANGE_USER`, which ends the session that there was.
    pub(super) async fn forward_change_user(&mut self, payload: &[u8]) -> Result<(), End> {
        match payload.first() {
            Some(&command::CHANGE_USER) => self.link.send(payload).await,
            _ => Err(End::Broken("a command that is another one".into())),
        }
    }

    /// Forwards an analysed statement that writes nothing, and relays the reply.
    pub(super) async fn forward(&mut self, origin: Origin, expect: Expect) -> Result<ReplyTracker, End> {
        match origin.passes() {
            Passes::AsItCame => self.forward_analysed(origin, expect).await,
            Passes::Uncaptured | Passes::Never => {
                Err(End::Broken("a statement of a bound session that was not captured".into()))
            }
        }
    }

    /// Forwards an analysed statement that writes, of which nothing has to be captured for this reason.
    pub(super) async fn forward_uncaptured(
        &mut self,
        origin: Origin,
        expect: Expect,
        _why: Uncaptured,
    ) -> Result<ReplyTracker, End> {
        match origin.passes() {
            Passes::AsItCame | Passes::Uncaptured => self.forward_analysed(origin, expect).await,
            Passes::Never => Err(End::Broken("a refused statement of a bound session".into())),
        }
    }

    async fn forward_analysed(&mut self, origin: Origin, mut expect: Expect) -> Result<ReplyTracker, End> {
        match origin.execution() {
            Some(payload) => {
                self.link.executed = true;
                self.link.send(payload).await?;
                if expect == Expect::Results {
                    expect = of_execution(payload);
                }
            }
            None => {
                // What is one statement to us is one to the server, or none
                self.link.restore_multi_statements(origin.sql()).await?;
                self.link.send_query(origin.sql()).await?;
            }
        }
        let tracker = self.relay_reply(expect).await?;
        if let Some(code) = tracker.failed() {
            // The server's own list is of it
            self.state.diagnostics.forget();
            self.capture().after_error(code).await?;
        }
        Ok(tracker)
    }
}
