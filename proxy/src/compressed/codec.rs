//! A connection's compressed packets: what was read and is not decoded yet, and the numbers of both kinds of packets.
//!
//! Compressed packets have sequence numbers of their own, which run on through both directions of one command. The
//! frames inside have theirs, which a server sets to the compressed packets' whenever it begins to answer or has sent
//! all it had; few look at them. A peer without compression does. So frames get the numbers of a connection without
//! compression as they are read, and the compressed packets' as they are written to a client.

use std::io;

use atone_wire::compress::{self, Algorithm};
use atone_wire::frame::{self, FrameWalk};
use bytes::BytesMut;

/// Which end of a connection the proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server's, towards a client.
    Server,
    /// The client's, towards a server.
    Client,
}

/// Decodes what was read from one connection, encodes what is written.
#[derive(Debug)]
pub struct Codec {
    algorithm: Algorithm,
    end: End,
    /// What was read and is not decoded yet.
    pub raw: BytesMut,
    /// The number of the next compressed packet of either direction.
    next: u8,
    read: FrameWalk,
    written: FrameWalk,
    /// The number of the last frame, if it was written.
    last_written: Option<u8>,
    /// The number that the next frame to be read would have without compression.
    next_read: u8,
    /// The number of the next frame to be written to a client, unless it is set anew.
    next_written: u8,
    /// What is to be written to a client, up to the end of a frame that has not come yet.
    pending: BytesMut,
    /// How much of it belongs to a frame whose beginning was written, in bytes.
    tail: usize,
    /// Whether the last frame that was read is continued by the next.
    continued: bool,
    /// Whether what a client sends is part of the current command.
    more: bool,
}

impl Codec {
    /// Begins after the login; `raw` was read already.
    pub fn new(algorithm: Algorithm, end: End, raw: BytesMut) -> Codec {
        Codec {
            algorithm,
            end,
            raw,
            next: 0,
            read: FrameWalk::default(),
            written: FrameWalk::default(),
            last_written: None,
            next_read: 0,
            next_written: 0,
            pending: BytesMut::new(),
            tail: 0,
            continued: false,
            more: false,
        }
    }

    /// Whether what the client sends from now on is part of the current command, and no new one.
    pub fn expect_more(&mut self, on: bool) {
        self.more = on;
    }

    /// What is written next answers no command, or one that is yet to come: it is numbered `seq`.
    pub fn begin_unsolicited(&mut self, seq: u8) {
        self.next = seq;
    }

    /// What is read next may be unsolicited: a server numbers its frames anew.
    pub fn await_unsolicited(&mut self) {
        if self.read.is_between_packets() {
            self.next_read = 0;
        }
    }

    /// Decodes one packet of those that were read and appends it to `out`; whether there was a whole one.
    ///
    /// One at a time: those of a command that the peer has sent ahead begin at 0 again, and are taken when its turn has
    /// come.
    ///
    /// # Errors
    /// [`compress::Error`]
    pub fn decode(&mut self, out: &mut BytesMut) -> io::Result<bool> {
        let Some(header) = compress::Header::peek(&self.raw) else { return Ok(false) };
        // A client's new command begins at 0. A server's numbers are its own affair
        if self.end == End::Server && header.seq != self.next && header.seq != 0 {
            return Err(io::Error::other(compress::Error::OutOfOrder));
        }
        let begin = out.len();
        if compress::decode(self.algorithm, &mut self.raw, out).map_err(io::Error::other)?.is_none() {
            return Ok(false);
        }
        self.next = header.seq.wrapping_add(1);
        self.last_written = None;
        let mut at = 0;
        while let Some((seq_at, frame)) = self.read.next(&out[begin..], &mut at) {
            let is_command = self.end == End::Server && !self.more && !self.continued;
            let seq = if is_command { 0 } else { self.next_read };
            out[begin + seq_at] = seq;
            self.next_read = seq.wrapping_add(1);
            self.continued = frame.len == frame::MAX_PAYLOAD;
        }
        Ok(true)
    }

    /// The next packet for what is left of `bytes`, of which it takes off what it holds. `None` at their end.
    ///
    /// A client gets whole frames, as from a server: some rely on a frame being in one packet, or in two where it is as
    /// long as a packet can be.
    pub fn encode(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let mut piece = match self.end {
            End::Server => {
                self.pending.extend_from_slice(std::mem::take(bytes));
                let piece = self.take_frames()?;
                if self.pending.is_empty() {
                    self.pending = BytesMut::new();
                }
                piece
            }
            End::Client => {
                let (piece, rest) = bytes.split_at(bytes.len().min(compress::MAX_PIECE));
                *bytes = rest;
                BytesMut::from(piece)
            }
        };
        if piece.is_empty() {
            return None;
        }
        let seq = frame::Header::peek(&piece).map(|header| header.seq);
        match self.end {
            _ if !self.written.is_between_packets() => {}
            // Clients that look at it compare a frame with the packet that it ends in
            End::Server if self.tail == 0 => self.next_written = self.next,
            End::Server => {}
            // A command, unless a file has come to its 256th frame
            End::Client if seq == Some(0) && self.last_written != Some(u8::MAX) => self.next = 0,
            End::Client => {}
        }
        let mut at = 0;
        while let Some((seq_at, frame)) = self.written.next(&piece, &mut at) {
            self.last_written = Some(frame.seq);
            self.next_read = frame.seq.wrapping_add(1);
            if self.end == End::Server {
                piece[seq_at] = self.next_written;
                self.next_written = self.next_written.wrapping_add(1);
            }
        }
        let mut out = Vec::new();
        compress::encode(self.algorithm, self.next, &piece, &mut out);
        self.next = self.next.wrapping_add(1);
        Some(out)
    }

    /// Takes whole frames off what is held: as many as a piece has room for, or a longer one.
    fn take_frames(&mut self) -> Option<BytesMut> {
        let mut end = self.tail;
        while let Some(header) = self.pending.get(end..).and_then(frame::Header::peek) {
            let next = end + frame::HEADER + header.len;
            if next > self.pending.len() || (end > 0 && next > compress::MAX_PIECE) {
                break;
            }
            end = next;
        }
        let taken = end.min(frame::MAX_PAYLOAD);
        self.tail = end - taken;
        (taken > 0).then(|| self.pending.split_to(taken))
    }

    /// How much is held that the next packet may have to be made of, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests;
