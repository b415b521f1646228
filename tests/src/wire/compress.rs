//! The compressed protocol: frames with a header of seven bytes around the stream of packets.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};

/// The largest content of a frame, in bytes.
const MAX_FRAME: usize = 0xff_ffff;
/// What is shorter than this, in bytes, goes uncompressed, as with the servers' own clients.
const WORTHWHILE: usize = 50;

/// How a connection's bytes are compressed once the login is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `CLIENT_COMPRESS`.
    Zlib,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`, with this level.
    Zstd(u8),
}

/// One connection's frames, both ways.
#[derive(Debug)]
pub(super) struct Frames {
    kind: Compression,
    /// The number of the next frame, which both sides count together.
    sequence: u8,
    /// Commands whose replies have not begun to come, when a client does not wait for them: each begins to count anew.
    pipelined: u32,
    /// Whether what the peer sent since the last command was ever compressed.
    pub(super) seen_compressed: bool,
}

impl Frames {
    pub(super) fn new(kind: Compression) -> Self {
        Self { kind, sequence: 0, pipelined: 0, seen_compressed: false }
    }

    /// A new command begins; `behind` others that have not been answered in full.
    pub(super) fn restart(&mut self, behind: u32) {
        self.sequence = 0;
        self.pipelined = behind;
    }

    /// Frames around these bytes.
    pub(super) fn encode(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() / 2 + 16);
        for part in plain.chunks(MAX_FRAME) {
            let compressed = if part.len() < WORTHWHILE { None } else { Some(self.deflate(part)?) };
            let (content, length_before) = match &compressed {
                Some(compressed) if compressed.len() < part.len() => (compressed.as_slice(), part.len()),
                _ => (part, 0),
            };
            out.extend_from_slice(&u32::try_from(content.len())?.to_le_bytes()[..3]);
            out.push(self.sequence);
            out.extend_from_slice(&u32::try_from(length_before)?.to_le_bytes()[..3]);
            out.extend_from_slice(content);
            self.sequence = self.sequence.wrapping_add(1);
        }
        Ok(out)
    }

    /// Moves what is complete from `raw` to the end of `plain`.
    pub(super) fn decode(&mut self, raw: &mut BytesMut, plain: &mut BytesMut) -> Result<()> {
        let mut at = 0;
        while let Some(header) = raw.get(at..at + 7) {
            let length = le24(&header[..3]);
            let before = le24(&header[4..7]);
            let number = header[3];
            let Some(content) = raw.get(at + 7..at + 7 + length) else { break };
            let anew = number == 1 && self.pipelined > 0;
            if anew && number != self.sequence {
                self.pipelined -= 1;
            }
            ensure!(
                number == self.sequence || anew,
                "a compressed frame has number {number} where {} was next",
                self.sequence
            );
            self.sequence = number.wrapping_add(1);
            if before == 0 {
                plain.extend_from_slice(content);
            } else {
                self.seen_compressed = true;
                let inflated = self.inflate(content)?;
                ensure!(inflated.len() == before, "a frame says {before} bytes and has {}", inflated.len());
                plain.extend_from_slice(&inflated);
            }
            at += 7 + length;
        }
        raw.advance(at);
        Ok(())
    }

    fn deflate(&self, plain: &[u8]) -> Result<Vec<u8>> {
        match self.kind {
            Compression::None => bail!("nothing is compressed here"),
            Compression::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain)?;
                Ok(encoder.finish()?)
            }
            Compression::Zstd(level) => Ok(zstd::bulk::compress(plain, i32::from(level))?),
        }
    }

    fn inflate(&self, content: &[u8]) -> Result<Vec<u8>> {
        match self.kind {
            Compression::None => bail!("nothing is compressed here"),
            Compression::Zlib => {
                let mut out = Vec::new();
                flate2::read::ZlibDecoder::new(content)
                    .read_to_end(&mut out)
                    .context("zlib: the frame does not inflate")?;
                Ok(out)
            }
            Compression::Zstd(_) => {
                zstd::stream::decode_all(content).context("zstd: the frame does not inflate")
            }
        }
    }
}

fn le24(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |all, &byte| (all << 8) | usize::from(byte))
}
