//! Where a server's reply ends: follows the packets of one reply without decoding or keeping them.

use crate::Malformed;
use crate::caps::{client, status};
use crate::frame::{HEADER, Header, MAX_PAYLOAD};
use crate::read::Reader;

/// What a command is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// OK, ERR, a file request, or result sets.
    Results,
    /// The reply to `COM_STMT_PREPARE`.
    Prepare,
    /// Column definitions up to an EOF.
    FieldList,
    /// Rows up to an EOF: `COM_STMT_FETCH`.
    Rows,
    /// One packet, whatever it is.
    Single,
    /// Packets without end, until the server closes or sends ERR: binlog dumps.
    Endless,
}

/// How many bytes of a payload the tracker wants to see: the longest OK header is 1 + 9 + 9 + 2 + 2 bytes.
const PEEK: usize = 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    /// Definitions left of this block; whether an EOF follows; what comes then.
    Definitions {
        left: u64,
        then: After,
    },
    DefinitionsEof {
        then: After,
    },
    Rows,
    FieldList,
    Endless,
    /// The server waits for the client's file.
    File,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Rows,
    PrepareColumns(u64),
    Done,
}

/// The numbers that `COM_STMT_PREPARE` is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The statement's id.
    pub statement_id: u32,
    /// Number of result columns.
    pub columns: u16,
    /// Number of parameters.
    pub params: u16,
}

/// Follows one reply.
#[derive(Clone, Debug)]
pub struct ReplyTracker {
    expect: Expect,
    state: State,
    deprecate_eof: bool,
    /// Payload bytes of the current frame still to pass.
    skip: usize,
    /// Whether the next frame continues a packet.
    continued: bool,
    /// The status flags of the last OK or EOF packet.
    status: Option<u16>,
    warnings: u16,
    failed: Option<u16>,
    prepared: Option<Prepared>,
}

/// What [`ReplyTracker::feed`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// So many bytes from the front belong to this reply and may be passed on.
    pub bytes: usize,
    /// What comes next.
    pub next: Next,
}

/// What comes next in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes of this reply.
    More,
    /// The client's file: its packets up to an empty one go to the server; call [`ReplyTracker::file_sent`].
    File,
    /// The reply is complete.
    Done,
}

impl ReplyTracker {
    /// Starts before the first packet of a reply, on a connection with these capabilities.
    pub fn new(expect: Expect, capabilities: u32) -> Self {
        let state = match expect {
            Expect::Rows => State::Rows,
            Expect::FieldList => State::FieldList,
            Expect::Endless => State::Endless,
            Expect::Results | Expect::Prepare | Expect::Single => State::First,
        };
        Self {
            expect,
            state,
            deprecate_eof: capabilities & client::DEPRECATE_EOF != 0,
            skip: 0,
            continued: false,
            status: None,
            warnings: 0,
            failed: None,
            prepared: None,
        }
    }

    /// The status flags of the last OK or EOF packet of the reply.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The number of warnings of the last OK or EOF packet of the reply.
    pub fn warnings(&self) -> u16 {
        self.warnings
    }

    /// The error's number, where the reply ended with ERR.
    pub fn failed(&self) -> Option<u16> {
        self.failed
    }

    /// The statement, where this was a successful `COM_STMT_PREPARE`.
    pub fn prepared(&self) -> Option<Prepared> {
        self.prepared
    }

    /// The client's file has been sent: the server answers now.
    pub fn file_sent(&mut self) {
        if self.state == State::File {
            self.state = State::First;
        }
    }

    /// Follows the next bytes from the server. Bytes that were not taken must be given again, with more behind them.
    ///
    /// # Errors
    /// [`Malformed`] where a packet can't stand where it stands: the connection is of no further use.
    pub fn feed(&mut self, buf: &[u8]) -> Result<Fed, Malformed> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let n = self.skip.min(buf.len() - at);
                self.skip -= n;
                at += n;
                if self.skip > 0 {
                    return Ok(Fed { bytes: at, next: Next::More });
                }
            }
            if !self.continued {
                match self.state {
                    State::Done => return Ok(Fed { bytes: at, next: Next::Done }),
                    State::File => return Ok(Fed { bytes: at, next: Next::File }),
                    _ => {}
                }
            }
            let rest = &buf[at..];
            let Some(header) = Header::peek(rest) else {
                return Ok(Fed { bytes: at, next: Next::More });
            };
            if self.continued {
                self.continued = header.len == MAX_PAYLOAD;
            } else {
                let Some(peek) = rest.get(HEADER..HEADER + header.len.min(PEEK)) else {
                    return Ok(Fed { bytes: at, next: Next::More });
                };
                self.packet(peek, header.len)?;
                self.continued = header.len == MAX_PAYLOAD;
            }
            at += HEADER;
            self.skip = header.len;
        }
    }

    /// One packet begins: `peek` holds its first bytes, `len` is its (first frame's) length.
    fn packet(&mut self, peek: &[u8], len: usize) -> Result<(), Malformed> {
        let first = peek.first().copied();
        let terminator = first == Some(0xfe) && len < MAX_PAYLOAD;
        self.state = match self.state {
            State::First => match (self.expect, first) {
                (_, Some(0xff)) => self.err(peek)?,
                (Expect::Single, _) => {
                    if first == Some(0x00) && self.ok(peek).is_err() {
                        // COM_STATISTICS answers with bare text
                        self.status = None;
                    } else if terminator && len == 5 {
                        self.eof(peek)?;
                    }
                    State::Done
                }
                (Expect::Prepare, Some(0x00)) => {
                    let mut r = Reader::new(&peek[1..]);
                    let prepared = Prepared { statement_id: r.u32()?, columns: r.u16()?, params: r.u16()? };
                    self.prepared = Some(prepared);
                    let columns = u64::from(prepared.columns);
                    if prepared.params > 0 {
                        State::Definitions {
                            left: u64::from(prepared.params),
                            then: After::PrepareColumns(columns),
                        }
                    } else {
                        Self::after(After::PrepareColumns(columns))
                    }
                }
                (Expect::Results, Some(0x00)) => {
                    self.ok(peek)?;
                    self.end_of_result()
                }
                (Expect::Results, Some(0xfb)) => State::File,
                (Expect::Results, Some(_)) => {
                    let left = Reader::new(peek).lenenc()?;
                    if left == 0 {
                        return Err(Malformed("a result set without columns"));
                    }
                    State::Definitions { left, then: After::Rows }
                }
                _ => return Err(Malformed("a reply that begins with no known packet")),
            },
            State::Definitions { .. } if first == Some(0xff) => self.err(peek)?,
            State::Definitions { left: 1, then } if self.deprecate_eof => Self::after(then),
            State::Definitions { left: 1, then } => State::DefinitionsEof { then },
            State::Definitions { left, then } => State::Definitions { left: left.saturating_sub(1), then },
            State::DefinitionsEof { then } => {
                if !terminator {
                    return Err(Malformed("no EOF after column definitions"));
                }
                self.eof(peek)?;
                if then == After::Rows && self.status.unwrap_or(0) & status::CURSOR_EXISTS != 0 {
                    self.end_of_result()
                } else {
                    Self::after(then)
                }
            }
            State::Rows => match first {
                Some(0xff) => self.err(peek)?,
                Some(0xfe) if terminator && self.deprecate_eof => {
                    self.ok(peek)?;
                    self.end_of_result()
                }
                Some(0xfe) if len == 5 => {
                    self.eof(peek)?;
                    self.end_of_result()
                }
                _ => State::Rows,
            },
            State::FieldList => match first {
                Some(0xff) => self.err(peek)?,
                Some(0xfe) if terminator => {
                    // An EOF, or an OK packet in its place
                    if len == 5 {
                        self.eof(peek)?
                    } else {
                        self.ok(peek)?
                    };
                    State::Done
                }
                _ => State::FieldList,
            },
            State::Endless => match first {
                Some(0xff) => self.err(peek)?,
                Some(0xfe) if len == 5 => State::Done,
                _ => State::Endless,
            },
            State::File | State::Done => return Err(Malformed("a packet after the end of a reply")),
        };
        Ok(())
    }

    fn after(then: After) -> State {
        match then {
            After::Rows => State::Rows,
            After::PrepareColumns(0) | After::Done => State::Done,
            After::PrepareColumns(left) => State::Definitions { left, then: After::Done },
        }
    }

    fn end_of_result(&self) -> State {
        let more = self.status.unwrap_or(0) & status::MORE_RESULTS_EXISTS != 0;
        if more && self.expect == Expect::Results { State::First } else { State::Done }
    }

    fn ok(&mut self, peek: &[u8]) -> Result<(), Malformed> {
        let mut r = Reader::new(&peek[1..]);
        r.lenenc()?;
        r.lenenc()?;
        self.status = Some(r.u16()?);
        self.warnings = r.u16()?;
        Ok(())
    }

    fn eof(&mut self, peek: &[u8]) -> Result<(), Malformed> {
        let (status, warnings) = crate::response::parse_eof(peek)?;
        self.status = Some(status);
        self.warnings = warnings;
        Ok(())
    }

    fn err(&mut self, peek: &[u8]) -> Result<State, Malformed> {
        self.failed = Some(Reader::new(&peek[1..]).u16()?);
        Ok(State::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::put_packet;

    const OLD: u32 = 0;
    const NEW: u32 = client::DEPRECATE_EOF;

    fn stream(packets: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut seq = 1;
        for packet in packets {
            seq = put_packet(&mut out, seq, packet);
        }
        out
    }

    /// Feeds the stream with a strange packet behind it, cut at every place, and checks that the end is found there.
    fn check(expect: Expect, capabilities: u32, packets: &[&[u8]]) -> ReplyTracker {
        let bytes = stream(packets);
        let mut whole = bytes.clone();
        whole.extend_from_slice(b"\x03\0\0\0xyz");
        let mut last = None;
        for step in [1, 2, 3, 7, whole.len()] {
            let mut tracker = ReplyTracker::new(expect, capabilities);
            let (mut passed, mut given) = (0, 0);
            loop {
                given = (given + step).min(whole.len());
                let fed = tracker.feed(&whole[passed..given]).unwrap();
                passed += fed.bytes;
                match fed.next {
                    Next::Done => break,
                    Next::File => tracker.file_sent(),
                    Next::More => assert!(given < whole.len(), "no end found"),
                }
            }
            assert_eq!(passed, bytes.len(), "step {step}");
            last = Some(tracker);
        }
        last.unwrap()
    }

    const OK: &[u8] = &[0, 1, 0, 2, 0, 0, 0];
    const OK_MORE: &[u8] = &[0, 1, 0, 10, 0, 0, 0];
    const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
    const END: &[u8] = &[0xfe, 0, 0, 3, 0, 1, 0];
    const ERR: &[u8] = b"\xff\xbd\x04#40001x";

    #[test]
    fn finds_the_end_of_every_kind_of_reply() {
        assert_eq!(check(Expect::Results, OLD, &[OK]).status(), Some(2));
        assert_eq!(check(Expect::Results, OLD, &[OK_MORE, OK]).status(), Some(2));
        assert_eq!(check(Expect::Results, OLD, &[ERR]).failed(), Some(1213));
        check(Expect::Results, OLD, &[&[2], b"\x03def", b"\x03def", EOF, b"\x01a\x01b", EOF]);
        let t = check(Expect::Results, NEW, &[&[1], b"\x03def", b"\x01a", END]);
        assert_eq!((t.status(), t.warnings()), (Some(3), 1));
        check(Expect::Results, NEW, &[&[1], b"\x03def", b"\x01a", ERR]);
        check(Expect::Results, NEW, &[&[1], b"\x03def", &[0xfe, 0, 0, 10, 0, 0, 0], OK]);
        check(Expect::Results, NEW, &[b"\xfbfile", OK]);
        check(Expect::Results, OLD, &[&[1], b"\x03def", &[0xfe, 0, 0, 0x42, 0]]);
        let t = check(
            Expect::Prepare,
            OLD,
            &[&[0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0], b"\x03def", b"\x03def", EOF, b"\x03def", EOF],
        );
        assert_eq!(t.prepared(), Some(Prepared { statement_id: 9, columns: 1, params: 2 }));
        check(Expect::Prepare, NEW, &[&[0, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], b"\x03def", b"\x03def"]);
        check(Expect::Prepare, NEW, &[&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]);
        check(Expect::FieldList, OLD, &[b"\x03def", b"\x03def", EOF]);
        check(Expect::Rows, OLD, &[&[0, 0, 1], EOF]);
        check(Expect::Single, OLD, &[b"Uptime: 5"]);
        check(Expect::Single, OLD, &[EOF]);
    }

    #[test]
    fn rows_of_more_than_one_frame_are_followed() {
        let mut row = vec![0xfe];
        row.extend_from_slice(&(MAX_PAYLOAD as u64 + 10).to_le_bytes());
        row.resize(MAX_PAYLOAD + 19, b'x');
        let bytes = stream(&[&[1], b"\x03def", &row, END]);
        let mut tracker = ReplyTracker::new(Expect::Results, NEW);
        assert_eq!(tracker.feed(&bytes), Ok(Fed { bytes: bytes.len(), next: Next::Done }));
    }

    #[test]
    fn nonsense_is_malformed() {
        assert!(ReplyTracker::new(Expect::Results, OLD).feed(&stream(&[&[0]])).is_err());
        assert!(ReplyTracker::new(Expect::Results, OLD).feed(&stream(&[&[]])).is_err());
        assert!(
            ReplyTracker::new(Expect::Results, OLD).feed(&stream(&[&[1], b"\x03def", b"\x03def"])).is_err()
        );
        assert!(ReplyTracker::new(Expect::Prepare, OLD).feed(&stream(&[&[7]])).is_err());
    }
}
