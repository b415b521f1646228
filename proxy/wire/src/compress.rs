//! Compressed packets (`CLIENT_COMPRESS`, `CLIENT_ZSTD_COMPRESSION_ALGORITHM`): a 3-byte length, a sequence number of
//! their own, the 3-byte length before compression (0: not compressed), and a piece of the stream of frames. A piece
//! may hold several frames or a part of one. Each piece is compressed by itself.

use std::cell::RefCell;

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error_code::{ER_NET_PACKETS_OUT_OF_ORDER, ER_NET_UNCOMPRESS_ERROR};
use crate::frame::MAX_PAYLOAD;

/// Length of a compressed packet's header, in bytes.
pub const HEADER: usize = 7;
/// Pieces shorter than this are not compressed, in bytes: the servers' `MIN_COMPRESS_LENGTH`.
const MIN_COMPRESSED: usize = 50;
/// The longest piece that should be given to [`encode`] without need, in bytes: what one call compresses holds up its
/// thread.
pub const MAX_PIECE: usize = 256 << 10;
/// The level that servers and clients use with zlib.
const ZLIB_LEVEL: u32 = 6;
/// zstd's level where none is given.
pub const DEFAULT_ZSTD_LEVEL: u8 = 3;
/// zstd's highest level in this protocol.
pub const MAX_ZSTD_LEVEL: u8 = 22;

/// How the pieces of a connection are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `CLIENT_COMPRESS`
    Zlib,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`
    Zstd {
        /// 1 to 22; others count as the nearest.
        level: u8,
    },
}

/// A compressed packet that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its sequence number is not the next.
    #[error("Got packets out of order")]
    OutOfOrder,
    /// It does not decompress, or to more than its header says.
    #[error("Couldn't uncompress communication packet")]
    Uncompress,
}

impl Error {
    /// The error number that the servers give it.
    pub fn code(self) -> u16 {
        match self {
            Error::OutOfOrder => ER_NET_PACKETS_OUT_OF_ORDER,
            Error::Uncompress => ER_NET_UNCOMPRESS_ERROR,
        }
    }
}

/// Contexts are large, are used within one call only, and are set back by the next: one of each a thread is enough.
struct Contexts {
    deflate: Compress,
    inflate: Decompress,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    unzstd: Option<zstd::bulk::Decompressor<'static>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::new(Contexts {
        deflate: Compress::new(Compression::new(ZLIB_LEVEL), true),
        inflate: Decompress::new(true),
        zstd: None,
        unzstd: None,
    });
}

/// Appends `piece` as one packet with sequence number `seq`. It should not be longer than [`MAX_PIECE`], and is cut at
/// the longest that a header can tell, 2^24-1 bytes; returns how much was taken.
pub fn encode(algorithm: Algorithm, seq: u8, piece: &[u8], out: &mut Vec<u8>) -> usize {
    let piece = &piece[..piece.len().min(MAX_PAYLOAD)];
    let begin = out.len();
    out.resize(begin + HEADER + piece.len(), 0);
    let room = &mut out[begin + HEADER..];
    // One that gets no shorter is sent as it is
    let compressed = if piece.len() < MIN_COMPRESSED { None } else { compress(algorithm, piece, room) };
    let (len, before) = match compressed {
        Some(len) if len < piece.len() => (len, piece.len()),
        _ => {
            room.copy_from_slice(piece);
            (piece.len(), 0)
        }
    };
    let (l, b) = ((len as u32).to_le_bytes(), (before as u32).to_le_bytes());
    out[begin..begin + HEADER].copy_from_slice(&[l[0], l[1], l[2], seq, b[0], b[1], b[2]]);
    out.truncate(begin + HEADER + len);
    piece.len()
}

/// Compresses `piece` into `room`; `None` where it does not fit.
fn compress(algorithm: Algorithm, piece: &[u8], room: &mut [u8]) -> Option<usize> {
    CONTEXTS.with_borrow_mut(|contexts| match algorithm {
        Algorithm::Zlib => {
            let deflate = &mut contexts.deflate;
            deflate.reset();
            match deflate.compress(piece, room, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => usize::try_from(deflate.total_out()).ok(),
                _ => None,
            }
        }
        Algorithm::Zstd { level } => {
            let level = i32::from(level.clamp(1, MAX_ZSTD_LEVEL));
            if contexts.zstd.as_ref().is_none_or(|(l, _)| *l != level) {
                contexts.zstd = Some((level, zstd::bulk::Compressor::new(level).ok()?));
            }
            let (_, zstd) = contexts.zstd.as_mut()?;
            zstd.compress_to_buffer(piece, room).ok()
        }
    })
}

/// What stands before a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of what follows, in bytes.
    pub len: usize,
    /// Sequence number.
    pub seq: u8,
    /// Length of the piece before it was compressed, in bytes; 0 where it was not.
    pub before: usize,
}

impl Header {
    /// Reads the header at the start of `buf`, if it is all there.
    pub fn peek(buf: &[u8]) -> Option<Header> {
        let &[a, b, c, seq, d, e, f] = buf.first_chunk::<HEADER>()?;
        let len = |a, b, c| usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Some(Header { len: len(a, b, c), seq, before: len(d, e, f) })
    }
}

/// Takes one whole packet off the front of `raw` and appends its piece, of at most 2^24-1 bytes, to `out`. `Ok(None)`
/// where more bytes are needed; else its sequence number.
///
/// # Errors
/// [`Error::Uncompress`]; `raw` and `out` are as before.
pub fn decode(algorithm: Algorithm, raw: &mut BytesMut, out: &mut BytesMut) -> Result<Option<u8>, Error> {
    let Some(header) = Header::peek(raw) else { return Ok(None) };
    let Some(payload) = raw.get(HEADER..HEADER + header.len) else { return Ok(None) };
    if header.before == 0 {
        out.extend_from_slice(payload);
    } else {
        let begin = out.len();
        out.resize(begin + header.before, 0);
        let len = decompress(algorithm, payload, &mut out[begin..]).filter(|len| *len > 0);
        // One that comes to less is taken, as the servers do
        out.truncate(begin + len.unwrap_or(0));
        if len.is_none() {
            return Err(Error::Uncompress);
        }
    }
    raw.advance(HEADER + header.len);
    Ok(Some(header.seq))
}

/// Decompresses `payload` into `room`; `None` where it does not fit, or is no whole stream.
fn decompress(algorithm: Algorithm, payload: &[u8], room: &mut [u8]) -> Option<usize> {
    CONTEXTS.with_borrow_mut(|contexts| match algorithm {
        Algorithm::Zlib => {
            let inflate = &mut contexts.inflate;
            inflate.reset(true);
            match inflate.decompress(payload, room, FlushDecompress::Finish) {
                Ok(Status::StreamEnd) => usize::try_from(inflate.total_out()).ok(),
                _ => None,
            }
        }
        Algorithm::Zstd { .. } => {
            if contexts.unzstd.is_none() {
                contexts.unzstd = zstd::bulk::Decompressor::new().ok();
            }
            contexts.unzstd.as_mut()?.decompress_to_buffer(payload, room).ok()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALGORITHMS: [Algorithm; 4] = [
        Algorithm::Zlib,
        Algorithm::Zstd { level: 3 },
        Algorithm::Zstd { level: 0 },
        Algorithm::Zstd { level: 22 },
    ];

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn pieces_of_every_size_round_trip() {
        for algorithm in ALGORITHMS {
            for len in [0, 1, MIN_COMPRESSED - 1, MIN_COMPRESSED, 1000, 70_000, MAX_PIECE] {
                for piece in [vec![b'a'; len], noise(len)] {
                    let mut packed = Vec::new();
                    assert_eq!(encode(algorithm, 9, &piece, &mut packed), len);
                    let header = Header::peek(&packed).unwrap();
                    assert_eq!((header.seq, header.len), (9, packed.len() - HEADER));
                    let shorter = piece.first() == Some(&b'a') && len >= MIN_COMPRESSED;
                    assert_eq!(header.before, if shorter { len } else { 0 }, "{algorithm:?} {len}");
                    assert!(packed.len() <= HEADER + len);
                    let mut out = BytesMut::new();
                    let mut raw = BytesMut::from(&packed[..packed.len() - 1]);
                    if !packed.is_empty() && len > 0 {
                        assert_eq!(decode(algorithm, &mut raw, &mut out), Ok(None));
                    }
                    raw = BytesMut::from(&packed[..]);
                    raw.extend_from_slice(b"more");
                    assert_eq!(decode(algorithm, &mut raw, &mut out), Ok(Some(9)));
                    assert_eq!((&out[..], &raw[..]), (&piece[..], &b"more"[..]));
                }
            }
        }
    }

    #[test]
    fn the_longest_piece_is_what_a_header_can_tell() {
        let stream = vec![0; MAX_PAYLOAD + 1];
        let mut out = Vec::new();
        assert_eq!(encode(Algorithm::Zlib, 0, &stream, &mut out), MAX_PAYLOAD);
        assert_eq!(Header::peek(&out).unwrap().before, MAX_PAYLOAD);
    }

    #[test]
    fn more_than_the_header_says_is_refused() {
        for algorithm in ALGORITHMS {
            let mut packed = Vec::new();
            encode(algorithm, 0, &[b'a'; 5000], &mut packed);
            for before in [4999u32, 1] {
                let mut lying = packed.clone();
                lying[4..7].copy_from_slice(&before.to_le_bytes()[..3]);
                let (mut raw, mut out) = (BytesMut::from(&lying[..]), BytesMut::from(&b"kept"[..]));
                assert_eq!(decode(algorithm, &mut raw, &mut out), Err(Error::Uncompress), "{before}");
                assert_eq!((&raw[..], &out[..]), (&lying[..], &b"kept"[..]));
            }
            for before in [5001u32, 0xff_ffff] {
                packed[4..7].copy_from_slice(&before.to_le_bytes()[..3]);
                let mut out = BytesMut::new();
                assert_eq!(decode(algorithm, &mut BytesMut::from(&packed[..]), &mut out), Ok(Some(0)));
                assert_eq!(&out[..], [b'a'; 5000]);
            }
            // A stream that is cut, or none
            for payload in [&packed[HEADER..packed.len() - 1], b"no such stream", b""] {
                let len = (payload.len() as u32).to_le_bytes();
                let mut bad = vec![len[0], len[1], len[2], 0, 0x88, 0x13, 0];
                bad.extend_from_slice(payload);
                let mut raw = BytesMut::from(&bad[..]);
                assert_eq!(decode(algorithm, &mut raw, &mut BytesMut::new()), Err(Error::Uncompress));
            }
        }
    }
}
