//! Bytes from one side to the other.

use std::io;

use atone_wire::caps::status;
use atone_wire::frame::{HEADER, Header, MAX_PAYLOAD, put_packet};
use atone_wire::reply::{Expect, Next, Patch, ReplyTracker};
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Buf;

use super::Session;
use super::link::gate::Frame;
use super::link::reply::{Answer, Answered};
use atone_capture::error::{End, SqlError};
use atone_wire::error_code::ER_PARSE_ERROR;

impl Session {
    /// Passes on what the server still says, until it closes.
    pub(super) async fn relay_until_closed(&mut self) -> Result<(), End> {
        loop {
            self.pass_unasked().await?;
            self.await_server().await?;
        }
    }

    /// Passes on what the server has said and was not asked for.
    pub(super) async fn pass_unasked(&mut self) -> Result<(), End> {
        let Some(Header { seq, .. }) = Header::peek(self.link.server.rbuf()) else { return Ok(()) };
        if let Some(codec) = self.link.client.codec() {
            codec.begin_unsolicited(seq);
        }
        let said = self.link.server.rbuf().split();
        self.link.client.write_all(&said).await.map_err(End::Client)
    }

    /// The client was silent for `idle_timeout`: MySQL says so, as no command's answer; MariaDB just closes.
    pub(super) async fn end_idle(&mut self) -> Result<End, End> {
        if !self.link.mariadb {
            if let Some(codec) = self.link.client.codec() {
                codec.begin_unsolicited(0);
            }
            let limit = self.link.backend.limits.idle_timeout().unwrap_or_default();
            let mut out = Vec::new();
            put_packet(&mut out, 0, &SqlError::idle(limit).packet());
            self.link.client.write_all(&out).await.map_err(End::Client)?;
        }
        Ok(End::Done)
    }

    /// Waits for more of what the server says. A client that ends its sending side meanwhile, with nothing sent
    /// ahead, has that passed on: the server looks for it in statements that only wait, and may have more to say all
    /// the same.
    async fn await_server(&mut self) -> Result<(), End> {
        loop {
            // Of several statements the server is to get the next ones too
            let last = !self.link.reply.more && self.held.is_none();
            let watched = last && !self.link.client_ended && self.link.client.rbuf.is_empty();
            let error = tokio::select! {
                biased;
                read = self.link.server.fill() => return read.map_err(End::Server),
                error = self.link.client.gone(0), if watched => error,
            };
            let ending = self.link.client.ending_of_client(&error);
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return Err(End::Client(error));
            }
            self.link.client_ended = true;
            self.link.server.end_as(ending).await;
        }
    }

    /// Reads the rest of a command above `max_statement_bytes` and answers that it is too large.
    pub(super) async fn discard_command(&mut self) -> Result<(), End> {
        while self.link.client_frame(Frame::Dropped).await? == MAX_PAYLOAD {}
        let error = SqlError::too_large(&self.xid(), self.link.backend.limits.max_statement_bytes);
        self.send_error(&error).await
    }

    /// Relays one reply, undecoded, until its end.
    pub(super) async fn relay_reply(&mut self, expect: Expect) -> Result<ReplyTracker, End> {
        let renumber = self.link.reply.seq.wrapping_sub(self.link.server_seq);
        let patch = Patch { renumber, more: self.link.reply.more };
        let mut tracker = ReplyTracker::new(expect, self.link.capabilities).with_patch(patch);
        let mut passed = false;
        loop {
            let fed = match tracker.feed(self.link.server.rbuf()) {
                Ok(fed) => fed,
                Err(_) if self.link.binding.is_none() && patch == Patch::default() => {
                    // The client may follow it. What comes further is passed on as what was not asked for
                    self.link.out_of_step = true;
                    self.pass_unasked().await?;
                    return Ok(tracker);
                }
                Err(malformed) => return Err(malformed.into()),
            };
            if fed.bytes > 0
                && !passed
                && self.command.with_rest.is_some()
                && tracker.failed() == Some(ER_PARSE_ERROR)
            {
                let packet = self.link.server.rbuf().split_to(fed.bytes);
                let error = ErrPacket::parse(packet.get(HEADER..).unwrap_or_default())?;
                let error = Box::pin(self.capture().with_rest_quoted(error)).await?;
                self.send_err(&error).await?;
                return Ok(tracker);
            }
            passed |= fed.bytes > 0;
            if fed.bytes > 0 {
                tracker.apply(&mut self.link.server.rbuf()[..fed.bytes]);
                self.link
                    .client
                    .write_all(&self.link.server.rbuf()[..fed.bytes])
                    .await
                    .map_err(End::Client)?;
                self.link.server.rbuf().advance(fed.bytes);
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
            self.link.status = status;
        }
        self.link.out_of_step = false;
        if let Some(seq) = tracker.last_seq() {
            self.link.server_seq = seq.wrapping_add(1);
            self.link.reply.seq = self.link.server_seq.wrapping_add(renumber);
        }
        self.link.reply.failed |= tracker.failed().is_some();
        self.link.reply.answer = tracker
            .failed()
            .is_none()
            .then(|| Answer { affected_rows: tracker.affected_rows(), warnings: tracker.warnings() });
        Ok(tracker)
    }

    /// Passes the packets of the client's file on, up to the empty one.
    async fn relay_file(&mut self, renumbered: u8) -> Result<(), End> {
        self.link.expect_more(true);
        loop {
            self.link.client.fill_to(HEADER).await.map_err(End::Client)?;
            if let Some(seq) = self.link.client.rbuf.get_mut(HEADER - 1) {
                *seq = seq.wrapping_sub(renumbered);
            }
            if self.link.client_frame(Frame::File).await? == 0 {
                self.link.expect_more(false);
                return Ok(());
            }
        }
    }

    /// Answers the current statement with OK.
    pub(super) async fn send_ok(&mut self, mut ok: OkPacket) -> Result<(), End> {
        if let Some(held) = &mut self.held {
            held.push(ok);
            return Ok(());
        }
        ok.status = self.reply_status(ok.status);
        self.link.reply.answer =
            Some(Answer { affected_rows: Some(ok.affected_rows), warnings: ok.warnings });
        self.link.send_packet(&ok.encode()).await
    }

    /// Answers the current command with an error of the server's.
    pub(super) async fn send_err(&mut self, error: &ErrPacket) -> Result<(), End> {
        self.state.diagnostics.answered_with(error);
        self.answer_error(error).await
    }

    /// Answers the current command with an error.
    pub(super) async fn send_error(&mut self, error: &SqlError) -> Result<(), End> {
        let error = error.err();
        self.capture().keep_error(&error);
        self.answer_error(&error).await
    }

    async fn answer_error(&mut self, error: &ErrPacket) -> Result<(), End> {
        self.link.reply.failed = true;
        self.link.reply.answer = None;
        self.link.reply.error = Some(Answered { code: error.code, own: SqlError::made(error) });
        self.link.send_packet(&error.encode()).await
    }

    /// Status flags as they stand in the reply to the current statement.
    pub(super) fn reply_status(&self, flags: u16) -> u16 {
        let flags = flags & !status::MORE_RESULTS_EXISTS;
        if self.link.reply.more { flags | status::MORE_RESULTS_EXISTS } else { flags }
    }
}
