//! The file of a LOAD DATA LOCAL in a bound session: it is taken from the client whole, and given to the server later.

use atone_wire::frame::{HEADER, Header};
use atone_wire::response::ErrPacket;
use bytes::{Buf, Bytes};

use super::Link;
use atone_capture::error::End;
use atone_capture::flight::{Flight, Reply};
use atone_capture::port::Asked;

/// How many bytes of a file are sent in one packet.
const PIECE_BYTES: usize = 1 << 20;

impl Link {
    /// Runs the statement so that the server asks for the file, takes the file from the client, and gives the server
    /// an empty one: it must not be loaded before its rows are known. Returns the file, and what the server says to
    /// the empty one.
    pub(in crate::session) async fn ask_for_file(&mut self, text: &[u8]) -> Result<Asked, End> {
        self.send_flight(&Flight::of(text)).await?;
        let (packet, seq) = self.numbered_packet().await?;
        match packet.first() {
            Some(0xfb) => {}
            Some(0xff) => {
                return Ok(Asked::Failed(ErrPacket::parse(&packet)?));
            }
            _ => return Err(End::Broken("a LOAD DATA that asks for no file".into())),
        }
        self.send_packet(&packet).await?;
        let file = self.take_file().await?;
        self.send_file_packet(seq.wrapping_add(1), b"").await?;
        let (reply, _) = self.read_reply(None, false).await?;
        if let Reply::Err(error) = reply {
            // It has loaded nothing yet, and would not run
            return Ok(Asked::Failed(error));
        }
        Ok(file.map_or(Asked::TooLong, |file| Asked::File(file, reply)))
    }

    /// Reads the packets of the client's file, up to the empty one; nothing where they are above `max_statement_bytes`.
    async fn take_file(&mut self) -> Result<Option<Bytes>, End> {
        let limit = self.backend.limits.max_statement_bytes;
        let mut file = Vec::new();
        let mut too_long = false;
        self.expect_more(true);
        loop {
            self.client.fill_to(HEADER).await.map_err(End::Client)?;
            let Some(Header { len, seq }) = Header::peek(&self.client.rbuf) else { continue };
            self.reply.seq = seq.wrapping_add(1);
            self.client.rbuf.advance(HEADER);
            if len == 0 {
                break;
            }
            let mut left = len;
            while left > 0 {
                if self.client.rbuf.is_empty() {
                    self.client.fill().await.map_err(End::Client)?;
                }
                let n = left.min(self.client.rbuf.len());
                too_long |= file.len() + n > limit;
                if !too_long {
                    file.extend_from_slice(&self.client.rbuf[..n]);
                }
                self.client.rbuf.advance(n);
                left -= n;
            }
        }
        self.expect_more(false);
        Ok((!too_long).then(|| file.into()))
    }

    /// Gives the server the file that it asks for; `seq` is its request's number.
    pub(in crate::session) async fn give_file(&mut self, file: &Bytes, mut seq: u8) -> Result<(), End> {
        for piece in file.chunks(PIECE_BYTES).chain([&b""[..]]) {
            seq = self.send_file_packet(seq.wrapping_add(1), piece).await?.wrapping_sub(1);
        }
        Ok(())
    }
}
