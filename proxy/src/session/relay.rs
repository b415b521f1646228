//! Bytes from one side to the other.

use std::io;

use atone_wire::command;
use atone_wire::frame::{HEADER, Header, MAX_PAYLOAD, put_packet};
use atone_wire::reply::{Expect, Next, ReplyTracker};
use bytes::Buf;

use super::Session;
use crate::error::{End, SqlError};

impl Session {
    /// Passes a command of an unbound session on while it comes in, and relays the reply.
    pub(super) async fn forward_unlooked(&mut self, byte: u8) -> Result<(), End> {
        while self.client_frame(true).await? == MAX_PAYLOAD {}
        if byte == command::QUERY || byte == command::STMT_EXECUTE {
            // Not looked at, so it may have done anything
            self.wrote_unbound = true;
            self.unbound_activity();
        }
        self.finish_plain(byte, &[]).await
    }

    /// Reads the rest of a command above `max_statement_bytes` and answers that it is too large.
    pub(super) async fn discard_command(&mut self) -> Result<(), End> {
        while self.client_frame(false).await? == MAX_PAYLOAD {}
        let error = SqlError::too_large(&self.xid(), self.backend.limits.max_statement_bytes);
        self.send_error(&error).await
    }

    /// Takes one frame from the client while it comes in, and passes it on to the server or drops it. Returns the length
    /// of its payload.
    async fn client_frame(&mut self, forward: bool) -> Result<usize, End> {
        self.client.fill_to(HEADER).await.map_err(End::Client)?;
        let len = Header::peek(&self.client.rbuf).map_or(0, |header| header.len);
        let mut left = HEADER + len;
        while left > 0 {
            if self.client.rbuf.is_empty() {
                self.client.fill().await.map_err(End::Client)?;
            }
            let n = left.min(self.client.rbuf.len());
            if forward && let Err(e) = self.server.write_all(&self.client.rbuf[..n]).await {
                self.server_broke(e).await?;
            }
            self.client.rbuf.advance(n);
            left -= n;
        }
        Ok(len)
    }

    /// The server's socket broke while it was written to: what it said before (why it closed) goes to the client.
    async fn server_broke(&mut self, error: io::Error) -> Result<(), End> {
        while self.server.fill().await.is_ok() {}
        let last = self.server.rbuf.split();
        if !last.is_empty() {
            self.client.write_all(&last).await.map_err(End::Client)?;
        }
        Err(End::Server(error))
    }

    /// Sends one command with its payload to the server.
    pub(super) async fn send_command(&mut self, payload: &[u8]) -> Result<(), End> {
        let mut out = Vec::with_capacity(payload.len() + HEADER);
        put_packet(&mut out, 0, payload);
        match self.server.write_all(&out).await {
            Ok(()) => Ok(()),
            Err(e) => self.server_broke(e).await,
        }
    }

    /// Relays one reply, undecoded, until its end.
    pub(super) async fn relay_reply(&mut self, expect: Expect) -> Result<ReplyTracker, End> {
        let mut tracker = ReplyTracker::new(expect, self.capabilities);
        loop {
            let fed = tracker.feed(&self.server.rbuf)?;
            if fed.bytes > 0 {
                self.client.write_all(&self.server.rbuf[..fed.bytes]).await.map_err(End::Client)?;
                self.server.rbuf.advance(fed.bytes);
            }
            match fed.next {
                Next::Done => break,
                Next::File => {
                    self.relay_file().await?;
                    tracker.file_sent();
                }
                Next::More => self.server.fill().await.map_err(End::Server)?,
            }
        }
        if let Some(status) = tracker.status() {
            self.status = status;
        }
        Ok(tracker)
    }

    /// Passes the packets of the client's file on, up to the empty one.
    async fn relay_file(&mut self) -> Result<(), End> {
        while self.client_frame(true).await? > 0 {}
        Ok(())
    }

    /// Answers the current command with one packet of our own.
    pub(super) async fn send_packet(&mut self, payload: &[u8]) -> Result<(), End> {
        let mut out = Vec::with_capacity(payload.len() + HEADER);
        put_packet(&mut out, 1, payload);
        self.client.write_all(&out).await.map_err(End::Client)
    }

    /// Answers the current command with an error.
    pub(super) async fn send_error(&mut self, error: &SqlError) -> Result<(), End> {
        self.send_packet(&error.packet()).await
    }
}
