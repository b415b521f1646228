//! Frames: a 3-byte length, a sequence number, and at most 2^24-1 bytes of payload. A packet whose payload is longer is
//! sent in several frames; one shorter than the maximum ends it.

use bytes::{Buf, Bytes, BytesMut};

/// Length of a frame's header, in bytes.
pub const HEADER: usize = 4;
/// The largest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 0xff_ffff;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload length in bytes.
    pub len: usize,
    /// Sequence number.
    pub seq: u8,
}

impl Header {
    /// Reads the header at the start of `buf`, if it is all there.
    pub fn peek(buf: &[u8]) -> Option<Header> {
        let &[a, b, c, seq] = buf.first_chunk::<HEADER>()?;
        Some(Header { len: usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16, seq })
    }
}

/// Takes one whole packet off the front of `buf`: its payload (frames joined) and the sequence number of its last
/// frame. `Ok(None)` where more bytes are needed.
///
/// # Errors
/// [`TooLarge`] as soon as the headers show a payload above `limit` bytes.
pub fn take_packet(buf: &mut BytesMut, limit: usize) -> Result<Option<(Bytes, u8)>, TooLarge> {
    let mut at = 0;
    let mut total = 0;
    let last = loop {
        let Some(header) = buf.get(at..).and_then(Header::peek) else { return Ok(None) };
        total += header.len;
        if total > limit {
            return Err(TooLarge { limit });
        }
        at += HEADER + header.len;
        if buf.len() < at {
            return Ok(None);
        }
        if header.len < MAX_PAYLOAD {
            break header;
        }
    };
    if at == HEADER + last.len {
        buf.advance(HEADER);
        return Ok(Some((buf.split_to(last.len).freeze(), last.seq)));
    }
    let mut joined = BytesMut::with_capacity(total);
    let mut left = at;
    while left > 0 {
        let Some(header) = Header::peek(buf) else { return Ok(None) };
        buf.advance(HEADER);
        joined.extend_from_slice(&buf[..header.len]);
        buf.advance(header.len);
        left -= HEADER + header.len;
    }
    Ok(Some((joined.freeze(), last.seq)))
}

/// Follows a stream of frames that comes in pieces cut anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameWalk {
    header: [u8; HEADER],
    /// How many bytes of the header are there.
    have: usize,
    /// How many bytes of the payload are to come.
    left: usize,
    /// Whether the last frame is continued by the next.
    continued: bool,
}

impl FrameWalk {
    /// Whether the next byte begins a packet.
    pub fn is_between_packets(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.continued
    }

    /// The next frame whose header ends in `piece` after `at`, and where its sequence number stands; `at` is moved on.
    pub fn next(&mut self, piece: &[u8], at: &mut usize) -> Option<(usize, Header)> {
        loop {
            let passed = self.left.min(piece.len().saturating_sub(*at));
            *at += passed;
            self.left -= passed;
            if self.left > 0 {
                return None;
            }
            self.header[self.have] = *piece.get(*at)?;
            *at += 1;
            self.have += 1;
            if self.have == HEADER {
                self.have = 0;
                let header = Header::peek(&self.header)?;
                self.left = header.len;
                self.continued = header.len == MAX_PAYLOAD;
                return Some((*at - 1, header));
            }
        }
    }
}

/// A packet above the limit that its reader set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of more than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Appends `payload` as one packet, in as many frames as it needs, the first with sequence number `seq`. Returns the
/// sequence number that follows.
pub fn put_packet(out: &mut Vec<u8>, mut seq: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let n = rest.len().min(MAX_PAYLOAD);
        let len = (n as u32).to_le_bytes();
        out.extend_from_slice(&[len[0], len[1], len[2], seq]);
        out.extend_from_slice(&rest[..n]);
        rest = &rest[n..];
        seq = seq.wrapping_add(1);
        if n < MAX_PAYLOAD {
            return seq;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_every_size_round_trip() {
        for len in [0, 1, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD] {
            let payload = vec![7u8; len];
            let mut out = Vec::new();
            let frames = len / MAX_PAYLOAD + 1;
            assert_eq!(usize::from(put_packet(&mut out, 3, &payload)), 3 + frames);
            assert_eq!(out.len(), len + frames * HEADER);
            let mut buf = BytesMut::from(&out[..out.len() - 1]);
            assert_eq!(take_packet(&mut buf, usize::MAX), Ok(None));
            buf.extend_from_slice(&out[out.len() - 1..]);
            let (back, seq) = take_packet(&mut buf, usize::MAX).unwrap().unwrap();
            assert_eq!(back, payload);
            assert_eq!(usize::from(seq), 2 + frames);
            assert!(buf.is_empty());
        }
    }

    #[test]
    fn a_walk_finds_the_same_frames_however_it_is_cut() {
        let mut stream = Vec::new();
        for (seq, len) in [(0, 0), (1, 5), (2, 300), (200, MAX_PAYLOAD), (3, 1)] {
            put_packet(&mut stream, seq, &vec![9; len]);
        }
        let find = |cut: usize| {
            let (mut walk, mut found, mut begin) = (FrameWalk::default(), Vec::new(), 0);
            for piece in stream.chunks(cut) {
                let mut at = 0;
                while let Some((seq_at, header)) = walk.next(piece, &mut at) {
                    assert_eq!(piece[seq_at], header.seq);
                    found.push((begin + seq_at, header));
                }
                assert_eq!(at, piece.len());
                begin += piece.len();
            }
            assert!(walk.is_between_packets());
            found
        };
        let whole = find(usize::MAX);
        let seqs: Vec<u8> = whole.iter().map(|(_, header)| header.seq).collect();
        assert_eq!(seqs, [0, 1, 2, 200, 201, 3]);
        for cut in [1, 2, 3, 5, 7, 1000] {
            assert_eq!(find(cut), whole);
        }
    }

    #[test]
    fn a_packet_above_the_limit_is_refused_by_its_header() {
        let mut buf = BytesMut::from(&[10u8, 0, 0, 0][..]);
        assert_eq!(take_packet(&mut buf, 9), Err(TooLarge { limit: 9 }));
        assert_eq!(take_packet(&mut buf, 10), Ok(None));
    }
}
