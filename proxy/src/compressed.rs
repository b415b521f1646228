//! A connection's compressed packets: what was read and is not decoded yet, and the numbers of both kinds of packets.
//!
//! Compressed packets have sequence numbers of their own, which run on through both directions of one command. The frames
//! inside have theirs, which a server sets to the compressed packets' whenever it begins to answer or has sent all it had;
//! few look at them. A peer without compression does. So frames get the numbers of a connection without compression as they
//! are read, and the compressed packets' as they are written to a client.

use std::io;

use atone_wire::Malformed;
use atone_wire::caps::{self, client};
use atone_wire::compress::{self, Algorithm};
use atone_wire::frame::{self, FrameWalk};
use atone_wire::handshake::{ClientHello, zstd_level_at};
use bytes::BytesMut;

use crate::config::{BackendConfig, CompressionName, ServerCompression};

/// What a backend's configuration says of compression.
#[derive(Debug)]
pub struct Compression {
    /// The capabilities to offer; `None`: the server's.
    listen: Option<u64>,
    server: ServerCompression,
    zstd_level: u8,
}

impl Compression {
    /// Reads it off the configuration.
    pub fn new(config: &BackendConfig) -> Compression {
        let bit = |name: &CompressionName| match name {
            CompressionName::Zlib => client::COMPRESS,
            CompressionName::Zstd => client::ZSTD_COMPRESSION,
        };
        Compression {
            listen: config.listen_compression.as_ref().map(|l| l.iter().map(bit).fold(0, |all, b| all | b)),
            server: config.server_compression,
            zstd_level: config.zstd_level,
        }
    }

    /// What to offer to clients of a server that offers `offered`.
    pub fn offer(&self, offered: u64) -> u64 {
        self.listen.unwrap_or(offered) & caps::COMPRESSION
    }

    /// How a client compresses that answers with `answer`.
    ///
    /// # Errors
    /// It asks for what was not offered, or does not say the level.
    pub fn of_client(&self, offered: u64, answer: &[u8]) -> Result<Option<Algorithm>, Malformed> {
        let capabilities = ClientHello::parse(answer)?.capabilities;
        if capabilities & caps::COMPRESSION & !self.offer(offered) != 0 {
            return Err(Malformed("compression that was not offered"));
        }
        // As the servers do where both are asked for
        if capabilities & client::COMPRESS != 0 {
            return Ok(Some(Algorithm::Zlib));
        }
        if capabilities & client::ZSTD_COMPRESSION == 0 {
            return Ok(None);
        }
        let level = answer.get(zstd_level_at(answer)?).ok_or(Malformed("zstd without its level"))?;
        Ok(Some(Algorithm::Zstd { level: *level }))
    }

    /// How the connection to the server is compressed for such a client.
    pub fn of_server(&self, offered: u64, of_client: Option<Algorithm>) -> Option<Algorithm> {
        let wanted = match self.server {
            ServerCompression::Client => of_client,
            ServerCompression::None => None,
            ServerCompression::Zlib => Some(Algorithm::Zlib),
            ServerCompression::Zstd => Some(Algorithm::Zstd { level: self.zstd_level }),
        };
        wanted.filter(|algorithm| offered & bit(*algorithm) != 0)
    }
}

fn bit(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::Zlib => client::COMPRESS,
        Algorithm::Zstd { .. } => client::ZSTD_COMPRESSION,
    }
}

/// Asks for this compression in a client's `answer`, instead of what it has asked for.
///
/// # Errors
/// An answer that does not decode, and that would have to be changed.
pub fn ask(answer: &mut Vec<u8>, algorithm: Option<Algorithm>) -> Result<(), Malformed> {
    let hello = ClientHello::parse(answer)?;
    let had_level = hello.capabilities & client::ZSTD_COMPRESSION != 0;
    let level = match algorithm {
        Some(Algorithm::Zstd { level }) => Some(level),
        _ => None,
    };
    if had_level || level.is_some() {
        let at = zstd_level_at(answer)?;
        let end = if had_level { answer.len().min(at + 1) } else { at };
        answer.splice(at..end, level);
    }
    let wanted = algorithm.map_or(0, bit);
    hello.ask(answer, hello.capabilities & !caps::COMPRESSION | wanted);
    Ok(())
}

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
    /// Whether the last frame that was read is continued by the next.
    continued: bool,
    /// Whether what a client sends is part of the current command.
    more: bool,
}

impl Codec {
    /// Begins behind the login; `raw` was read already.
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
            continued: false,
            more: false,
        }
    }

    /// Whether what the client sends from now on is part of the current command, and no new one.
    pub fn expect_more(&mut self, on: bool) {
        self.more = on;
    }

    /// What is written next answers no command, or one that is yet to come: it is numbered `seq`.
    pub fn unasked(&mut self, seq: u8) {
        self.next = seq;
    }

    /// What is read next may be unasked for: a server numbers its frames anew.
    pub fn await_unasked(&mut self) {
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

    /// The next packet for what is left of `bytes`, of which it takes off what it holds.
    pub fn encode(&mut self, bytes: &mut &[u8]) -> Vec<u8> {
        let seq = frame::Header::peek(bytes).map(|header| header.seq);
        match self.end {
            _ if !self.written.is_between_packets() => {}
            End::Server => self.next_written = self.next,
            // A command, unless a file has come to its 256th frame
            End::Client if seq == Some(0) && self.last_written != Some(u8::MAX) => self.next = 0,
            End::Client => {}
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(compress::MAX_PIECE));
        *bytes = rest;
        let mut piece = piece.to_vec();
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
        out
    }
}

#[cfg(test)]
mod tests {
    use atone_wire::frame::{put_packet, take_packet};

    use super::*;

    const ZLIB: Algorithm = Algorithm::Zlib;

    fn codec(end: End) -> Codec {
        Codec::new(ZLIB, end, BytesMut::new())
    }

    fn packet(seq: u8, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_packet(&mut out, seq, &vec![b'x'; len]);
        out
    }

    /// Writes all of `bytes`; the numbers of the compressed packets.
    fn write(from: &mut Codec, to: &mut Codec, mut bytes: &[u8]) -> Vec<u8> {
        let mut seqs = Vec::new();
        while !bytes.is_empty() {
            let out = from.encode(&mut bytes);
            seqs.push(compress::Header::peek(&out).unwrap().seq);
            to.raw.extend_from_slice(&out);
        }
        seqs
    }

    fn read(codec: &mut Codec) -> Vec<u8> {
        let mut out = BytesMut::new();
        while codec.decode(&mut out).unwrap() {}
        let mut seqs = Vec::new();
        while let Some((_, seq)) = take_packet(&mut out, usize::MAX).unwrap() {
            seqs.push(seq);
        }
        assert!(out.is_empty());
        seqs
    }

    #[test]
    fn each_command_is_numbered_from_0_and_its_answer_behind_it() {
        let (mut client, mut server) = (codec(End::Client), codec(End::Server));
        for _ in 0..3 {
            assert_eq!(write(&mut client, &mut server, &packet(0, 600_000)), [0, 1, 2]);
            assert_eq!(read(&mut server), [0]);
            assert_eq!(write(&mut server, &mut client, &packet(1, 70)), [3]);
            assert_eq!(write(&mut server, &mut client, &packet(2, 7)), [4]);
            assert_eq!(read(&mut client), [1, 2]);
        }
        // Commands without an answer
        for _ in 0..2 {
            assert_eq!(write(&mut client, &mut server, &packet(0, 5)), [0]);
            assert_eq!(read(&mut server), [0]);
        }
    }

    #[test]
    fn a_file_of_more_than_256_packets_is_no_new_command() {
        let (mut client, mut server) = (codec(End::Client), codec(End::Server));
        write(&mut client, &mut server, &packet(0, 5));
        read(&mut server);
        assert_eq!(write(&mut server, &mut client, &packet(1, 5)), [1]);
        read(&mut client);
        let mut seq = 1u8;
        server.expect_more(true);
        for _ in 0..600 {
            seq = seq.wrapping_add(1);
            assert_eq!(write(&mut client, &mut server, &packet(seq, 5)), [seq]);
            assert_eq!(read(&mut server), [seq]);
        }
    }

    #[test]
    fn a_servers_frames_are_numbered_as_without_compression() {
        let (mut client, mut server) = (codec(End::Client), codec(End::Server));
        write(&mut client, &mut server, &packet(0, 600_000));
        read(&mut server);
        // Two results, numbered anew as the server does
        let results = [packet(3, 5), packet(4, 5), packet(5, 5)].concat();
        write(&mut server, &mut client, &results);
        write(&mut server, &mut client, &packet(4, 5));
        assert_eq!(read(&mut client), [1, 2, 3, 4]);
        // A server's goodbye
        client.await_unasked();
        server.unasked(0);
        write(&mut server, &mut client, &packet(0, 5));
        assert_eq!(read(&mut client), [0]);
    }

    #[test]
    fn frames_for_a_client_are_numbered_as_servers_do() {
        let (mut client, mut server) = (codec(End::Client), codec(End::Server));
        write(&mut client, &mut server, &packet(0, 600_000));
        read(&mut server);
        assert_eq!(write(&mut server, &mut client, &[packet(1, 5), packet(2, 5)].concat()), [3]);
        assert_eq!(write(&mut server, &mut client, &[packet(3, 5), packet(4, 5)].concat()), [4]);
        // A frame that is cut goes on in the next packet
        let cut = [packet(5, 5), packet(6, 5), packet(7, 5)].concat();
        assert_eq!(write(&mut server, &mut client, &cut[..12]), [5]);
        assert_eq!(write(&mut server, &mut client, &cut[12..]), [6]);
        let mut out = BytesMut::new();
        while compress::decode(ZLIB, &mut client.raw, &mut out).unwrap().is_some() {}
        for seq in [3, 4, 4, 5, 5, 6, 7] {
            assert_eq!(take_packet(&mut out, 100).unwrap().unwrap().1, seq);
        }
        client.next = 7;
        // The file that the last one has asked for, for a server without compression
        server.expect_more(true);
        write(&mut client, &mut server, &[packet(8, 5), packet(9, 0)].concat());
        assert_eq!(read(&mut server), [8, 9]);
        server.expect_more(false);
        // Nobody looks at the number of a command's frame
        write(&mut client, &mut server, &packet(0, 5));
        write(&mut client, &mut server, &packet(0, 6));
        server.raw[compress::HEADER + frame::HEADER - 1] = 9;
        assert_eq!(read(&mut server), [0, 0]);
    }

    #[test]
    fn a_client_that_miscounts_is_out_of_order() {
        let (mut client, mut server) = (codec(End::Client), codec(End::Server));
        client.unasked(1);
        write(&mut client, &mut server, &packet(1, 5));
        let error = server.decode(&mut BytesMut::new()).unwrap_err();
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<compress::Error>());
        assert_eq!(inner, Some(&compress::Error::OutOfOrder));
    }

    #[test]
    fn commands_sent_ahead_are_taken_one_by_one() {
        let (mut client, mut server) = (codec(End::Client), codec(End::Server));
        write(&mut client, &mut server, &packet(0, 5));
        write(&mut client, &mut server, &packet(0, 6));
        for _ in 0..2 {
            let mut out = BytesMut::new();
            assert!(server.decode(&mut out).unwrap());
            take_packet(&mut out, 10).unwrap().unwrap();
            assert!(out.is_empty());
            assert_eq!(write(&mut server, &mut client, &packet(1, 5)), [1]);
        }
    }
}
