//! Bytes from one side to the other.

use std::io;

use atone_wire::caps::status;
use atone_wire::command;
use atone_wire::frame::{HEADER, Header, MAX_PAYLOAD, put_packet};
use atone_wire::reply::{Expect, Next, Patch, ReplyTracker};
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Buf;

use super::gate::Frame;
use super::refused::SYNTAX;
use super::{Answer, Answered, HeldLocks, Session};
use crate::error::{End, SqlError};

/// Length of what stands before the data of `COM_STMT_SEND_LONG_DATA`, in bytes.
const LONG_DATA_HEAD: usize = 7;

/// Length of what stands before the parameters of `COM_STMT_EXECUTE`, in bytes.
const EXECUTE_HEAD: usize = 10;

impl Session {
    /// Passes a command of an unbound session on while it comes in, and relays the reply.
    pub(super) async fn forward_unlooked(&mut self, byte: u8) -> Result<(), End> {
        if byte == command::STMT_SEND_LONG_DATA {
            self.client.fill_to(HEADER + LONG_DATA_HEAD).await.map_err(End::Client)?;
            let head = &self.client.rbuf[HEADER..HEADER + LONG_DATA_HEAD];
            if let Some(id) = head.get(1..5).and_then(|id| id.try_into().ok()) {
                let id = u32::from_le_bytes(id);
                self.drop_stale_data(id).await?;
                self.lose_long_data(id);
            }
        }
        let mut head = Vec::new();
        if byte == command::STMT_EXECUTE {
            self.client.fill_to(HEADER).await.map_err(End::Client)?;
            let len = Header::peek(&self.client.rbuf).map_or(0, |header| header.len.min(EXECUTE_HEAD));
            self.client.fill_to(HEADER + len).await.map_err(End::Client)?;
            head.extend_from_slice(&self.client.rbuf[HEADER..HEADER + len]);
            if let Some(id) = head.get(1..5).and_then(|id| id.try_into().ok()) {
                self.drop_stale_data(u32::from_le_bytes(id)).await?;
            }
        }
        while self.client_frame(Frame::Command).await? == MAX_PAYLOAD {}
        if matches!(byte, command::QUERY | command::STMT_EXECUTE | command::STMT_BULK_EXECUTE) {
            // Not looked at, so it may have done anything
            self.wrote_unbound = true;
            self.table_locks = HeldLocks::Unknown;
            self.unbound_activity();
            self.note_reading(None);
        }
        self.finish_plain(byte, &head).await
    }

    /// Passes a command on whose sequence number is not 0, and what the server says to that until it closes.
    /// A bound session's goes nowhere: under compression a server may run it.
    pub(super) async fn forward_out_of_order(&mut self) -> Result<(), End> {
        if self.binding.is_some() {
            self.send_error(&SqlError::out_of_order()).await?;
            return Err(End::Done);
        }
        while self.client_frame(Frame::Command).await? == MAX_PAYLOAD {}
        self.relay_until_closed().await
    }

    /// Passes on what the server still says, until it closes.
    pub(super) async fn relay_until_closed(&mut self) -> Result<(), End> {
        loop {
            self.pass_unasked().await?;
            self.await_server().await?;
        }
    }

    /// Passes on what the server has said and was not asked for.
    pub(super) async fn pass_unasked(&mut self) -> Result<(), End> {
        let Some(Header { seq, .. }) = Header::peek(self.server.rbuf()) else { return Ok(()) };
        if let Some(codec) = self.client.codec() {
            codec.unasked(seq);
        }
        let said = self.server.rbuf().split();
        self.client.write_all(&said).await.map_err(End::Client)
    }

    /// The client was silent for `idle_timeout`: MySQL says so, as no command's answer; MariaDB just closes.
    pub(super) async fn end_idle(&mut self) -> Result<End, End> {
        if !self.mariadb {
            if let Some(codec) = self.client.codec() {
                codec.unasked(0);
            }
            let limit = self.backend.limits.idle_timeout().unwrap_or_default();
            let mut out = Vec::new();
            put_packet(&mut out, 0, &SqlError::idle(limit).packet());
            self.client.write_all(&out).await.map_err(End::Client)?;
        }
        Ok(End::Done)
    }

    /// Waits for more of what the server says. A client that ends its sending side meanwhile, with nothing sent ahead, has
    /// that passed on: the server looks for it in statements that only wait, and may have more to say all the same.
    async fn await_server(&mut self) -> Result<(), End> {
        loop {
            // Of several statements the server is to get the next ones too
            let last = !self.reply.more && self.held.is_none();
            let watched = last && !self.client_ended && self.client.rbuf.is_empty();
            let error = tokio::select! {
                biased;
                read = self.server.fill() => return read.map_err(End::Server),
                error = self.client.gone(0), if watched => error,
            };
            let ending = self.client.ending_of_client(&error);
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return Err(End::Client(error));
            }
            self.client_ended = true;
            self.server.end_as(ending).await;
        }
    }

    /// Reads the rest of a command above `max_statement_bytes` and answers that it is too large.
    pub(super) async fn discard_command(&mut self) -> Result<(), End> {
        while self.client_frame(Frame::Dropped).await? == MAX_PAYLOAD {}
        let error = SqlError::too_large(&self.xid(), self.backend.limits.max_statement_bytes);
        self.send_error(&error).await
    }

    /// Relays one reply, undecoded, until its end.
    pub(super) async fn relay_reply(&mut self, expect: Expect) -> Result<ReplyTracker, End> {
        let renumber = self.reply.seq.wrapping_sub(self.server_seq);
        let patch = Patch { renumber, more: self.reply.more };
        let mut tracker = ReplyTracker::new(expect, self.capabilities).with_patch(patch);
        let mut passed = false;
        loop {
            let fed = match tracker.feed(self.server.rbuf()) {
                Ok(fed) => fed,
                Err(_) if self.binding.is_none() && patch == Patch::default() => {
                    // The client may follow it. What comes further is passed on as what was not asked for
                    self.out_of_step = true;
                    self.pass_unasked().await?;
                    return Ok(tracker);
                }
                Err(malformed) => return Err(malformed.into()),
            };
            if fed.bytes > 0 && !passed && self.with_rest.is_some() && tracker.failed() == Some(SYNTAX) {
                let packet = self.server.rbuf().split_to(fed.bytes);
                let error = ErrPacket::parse(packet.get(HEADER..).unwrap_or_default())?;
                let error = Box::pin(self.with_rest_quoted(error)).await?;
                self.send_err(&error).await?;
                return Ok(tracker);
            }
            passed |= fed.bytes > 0;
            if fed.bytes > 0 {
                tracker.apply(&mut self.server.rbuf()[..fed.bytes]);
                self.client.write_all(&self.server.rbuf()[..fed.bytes]).await.map_err(End::Client)?;
                self.server.rbuf().advance(fed.bytes);
            }
            match fed.next {
                Next::Done => break,
                Next::File => {
                    self.relay_file(renumber).await?;
                    tracker.file_sent();
                }
                Next::More => self.await_server().await?,
            }
        }
        if let Some(status) = tracker.status() {
            self.status = status;
        }
        self.out_of_step = false;
        if let Some(seq) = tracker.last_seq() {
            self.server_seq = seq.wrapping_add(1);
            self.reply.seq = self.server_seq.wrapping_add(renumber);
        }
        self.reply.failed |= tracker.failed().is_some();
        self.reply.answer = tracker
            .failed()
            .is_none()
            .then(|| Answer { affected_rows: tracker.affected_rows(), warnings: tracker.warnings() });
        Ok(tracker)
    }

    /// Passes the packets of the client's file on, up to the empty one.
    async fn relay_file(&mut self, renumbered: u8) -> Result<(), End> {
        self.expect_more(true);
        loop {
            self.client.fill_to(HEADER).await.map_err(End::Client)?;
            if let Some(seq) = self.client.rbuf.get_mut(HEADER - 1) {
                *seq = seq.wrapping_sub(renumbered);
            }
            if self.client_frame(Frame::File).await? == 0 {
                self.expect_more(false);
                return Ok(());
            }
        }
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

    /// Answers the current statement with OK.
    pub(super) async fn send_ok(&mut self, mut ok: OkPacket) -> Result<(), End> {
        if let Some(held) = &mut self.held {
            held.push(ok);
            return Ok(());
        }
        ok.status = self.reply_status(ok.status);
        self.reply.answer = Some(Answer { affected_rows: Some(ok.affected_rows), warnings: ok.warnings });
        self.send_packet(&ok.encode()).await
    }

    /// Answers the current command with an error of the server's.
    pub(super) async fn send_err(&mut self, error: &ErrPacket) -> Result<(), End> {
        self.heard_error(error);
        self.answer_error(error).await
    }

    /// Answers the current command with an error.
    pub(super) async fn send_error(&mut self, error: &SqlError) -> Result<(), End> {
        let error = error.err();
        self.keep_error(&error);
        self.answer_error(&error).await
    }

    async fn answer_error(&mut self, error: &ErrPacket) -> Result<(), End> {
        self.reply.failed = true;
        self.reply.answer = None;
        self.reply.error = Some(Answered { code: error.code, own: SqlError::made(error) });
        self.send_packet(&error.encode()).await
    }

    /// Status flags as they stand in the reply to the current statement.
    pub(super) fn reply_status(&self, flags: u16) -> u16 {
        let flags = flags & !status::MORE_RESULTS_EXISTS;
        if self.reply.more { flags | status::MORE_RESULTS_EXISTS } else { flags }
    }
}
