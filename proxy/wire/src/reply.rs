//! Where a server's reply ends: follows the packets of one reply without decoding or keeping them.
//!
//! A reply that becomes part of another one (that of a packet of several statements) is renumbered, and its status
//! flags say that more follows: [`Patch`].

use crate::Malformed;
use crate::caps::{client, status};
use crate::frame::{HEADER, Header, MAX_PAYLOAD};
use crate::read::Reader;

/// What a command is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// OK, ERR, a file request, or result sets.
    Results,
    /// The same where a cursor was asked for: a result set may end after its definitions. (The flag that says so
    /// stands in results of procedures with cursors of their own as well.)
    Cursor,
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
/// Length of the first packet of the reply to `COM_STMT_PREPARE`, where nothing is said about definitions.
const PREPARE_OK: usize = 12;
/// Where the status flags stand in an EOF packet.
const EOF_STATUS: usize = 3;
/// How MariaDB's progress reports begin: an ERR packet of an error number that does not exist.
pub const PROGRESS: [u8; 3] = [0xff, 0xff, 0xff];

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
    PrepareColumns { columns: u64, defined: bool },
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

/// What is changed in the packets of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Added to each sequence number.
    pub renumber: u8,
    /// Whether `SERVER_MORE_RESULTS_EXISTS` is set in all status flags.
    pub more: bool,
}

/// One byte of a patch: where, and what to do with it.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Add(usize, u8),
    Set(usize, u8),
}

/// Follows one reply.
#[derive(Clone, Debug)]
pub struct ReplyTracker {
    expect: Expect,
    state: State,
    deprecate_eof: bool,
    /// Whether the number of columns is followed by a byte that says whether their definitions follow.
    optional_definitions: bool,
    /// The same in the reply to `COM_STMT_PREPARE`.
    optional_prepared_definitions: bool,
    progress: bool,
    patch: Patch,
    edits: Vec<Edit>,
    last_seq: Option<u8>,
    /// Payload bytes of the current frame still to pass.
    skip: usize,
    /// Whether the next frame continues a packet.
    continued: bool,
    /// The row that comes is that of a procedure's OUT parameters, after which there is an OK.
    out_params: bool,
    /// The status flags of the last OK or EOF packet.
    status: Option<u16>,
    warnings: u16,
    /// The rows that an OK packet without a result says to be affected.
    affected_rows: Option<u64>,
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
    pub fn new(expect: Expect, capabilities: u64) -> Self {
        let state = match expect {
            Expect::Rows => State::Rows,
            Expect::FieldList => State::FieldList,
            Expect::Endless => State::Endless,
            Expect::Results | Expect::Cursor | Expect::Prepare | Expect::Single => State::First,
        };
        Self {
            expect,
            state,
            deprecate_eof: capabilities & client::DEPRECATE_EOF != 0,
            optional_definitions: capabilities & client::OPTIONAL_DEFINITIONS != 0,
            optional_prepared_definitions: capabilities & client::OPTIONAL_RESULTSET_METADATA != 0,
            progress: capabilities & client::MARIADB_PROGRESS != 0,
            patch: Patch::default(),
            edits: Vec::new(),
            last_seq: None,
            skip: 0,
            continued: false,
            out_params: false,
            status: None,
            warnings: 0,
            affected_rows: None,
            failed: None,
            prepared: None,
        }
    }

    /// Has the packets of the reply changed: see [`ReplyTracker::apply`].
    pub fn with_patch(self, patch: Patch) -> Self {
        Self { patch, ..self }
    }

    /// Changes the bytes that [`ReplyTracker::feed`] has just taken, as the patch says. `taken` begins where that
    /// call's bytes began.
    pub fn apply(&mut self, taken: &mut [u8]) {
        for edit in self.edits.drain(..) {
            match edit {
                Edit::Add(at, n) => {
                    if let Some(byte) = taken.get_mut(at) {
                        *byte = byte.wrapping_add(n);
                    }
                }
                Edit::Set(at, bits) => {
                    if let Some(byte) = taken.get_mut(at) {
                        *byte |= bits;
                    }
                }
            }
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

    /// The affected rows of the OK packet that the last statement was answered with; `None` where it was answered with
    /// rows.
    pub fn affected_rows(&self) -> Option<u64> {
        self.affected_rows
    }

    /// The error's number, where the reply ended with ERR.
    pub fn failed(&self) -> Option<u16> {
        self.failed
    }

    /// The statement, where this was a successful `COM_STMT_PREPARE`.
    pub fn prepared(&self) -> Option<Prepared> {
        self.prepared
    }

    /// The sequence number of the last frame, as it came.
    pub fn last_seq(&self) -> Option<u8> {
        self.last_seq
    }

    /// The client's file has been sent: the server answers now.
    pub fn file_sent(&mut self) {
        if self.state == State::File {
            self.state = State::First;
        }
    }

    /// Follows the next bytes from the server. Bytes that were not taken must be given again, with more after them.
    ///
    /// # Errors
    /// [`Malformed`] where a packet can't stand where it stands: the connection is of no further use.
    pub fn feed(&mut self, buf: &[u8]) -> Result<Fed, Malformed> {
        let mut at = 0;
        self.edits.clear();
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
                self.packet(peek, header.len, at + HEADER)?;
                self.continued = header.len == MAX_PAYLOAD;
            }
            self.last_seq = Some(header.seq);
            if self.patch.renumber != 0 {
                self.edits.push(Edit::Add(at + HEADER - 1, self.patch.renumber));
            }
            at += HEADER;
            self.skip = header.len;
        }
    }

    /// One packet begins: `peek` holds its first bytes, `len` is its (first frame's) length, `at` where it stands.
    fn packet(&mut self, peek: &[u8], len: usize, at: usize) -> Result<(), Malformed> {
        let first = peek.first().copied();
        if self.progress && peek.starts_with(&PROGRESS) {
            return Ok(());
        }
        let terminator = first == Some(0xfe) && len < MAX_PAYLOAD;
        self.state = match self.state {
            State::First => match (self.expect, first) {
                (_, Some(0xff)) => self.err(peek)?,
                (Expect::Single, _) => {
                    if first == Some(0x00) && self.ok(peek, at).is_err() {
                        // COM_STATISTICS answers with bare text
                        self.status = None;
                    } else if terminator && len == 5 {
                        self.eof(peek, at)?;
                    }
                    State::Done
                }
                // So MySQL says of a SET GLOBAL that its user may not do, and has prepared nothing
                (Expect::Prepare, Some(0x00)) if len < PREPARE_OK => {
                    self.ok(peek, at)?;
                    State::Done
                }
                (Expect::Prepare, Some(0x00)) => {
                    let mut r = Reader::new(&peek[1..]);
                    let prepared = Prepared { statement_id: r.u32()?, columns: r.u16()?, params: r.u16()? };
                    self.prepared = Some(prepared);
                    r.bytes(3)?; // filler, warnings
                    let defined = !(self.optional_prepared_definitions && len > PREPARE_OK && r.u8()? == 0);
                    let columns = After::PrepareColumns { columns: u64::from(prepared.columns), defined };
                    if prepared.params > 0 {
                        self.definitions(u64::from(prepared.params), defined, columns)
                    } else {
                        self.after(columns)
                    }
                }
                (Expect::Results | Expect::Cursor, Some(0x00)) => {
                    self.affected_rows = Some(Reader::new(&peek[1..]).lenenc()?);
                    self.ok(peek, at)?;
                    self.end_of_result()
                }
                (Expect::Results | Expect::Cursor, Some(0xfb)) => State::File,
                (Expect::Results | Expect::Cursor, Some(_)) => {
                    self.affected_rows = None;
                    let mut r = Reader::new(peek);
                    let left = r.lenenc()?;
                    if left == 0 {
                        return Err(Malformed("a result set without columns"));
                    }
                    let defined = !self.optional_definitions || r.u8()? != 0;
                    self.definitions(left, defined, After::Rows)
                }
                _ => return Err(Malformed("a reply that begins with no known packet")),
            },
            State::Definitions { .. } if first == Some(0xff) => self.err(peek)?,
            State::Definitions { left: 1, then } => self.defined(then),
            State::Definitions { left, then } => State::Definitions { left: left.saturating_sub(1), then },
            // A cursor that could not be opened
            State::DefinitionsEof { .. } if first == Some(0xff) => self.err(peek)?,
            State::DefinitionsEof { then } => {
                if !terminator {
                    return Err(Malformed("no EOF after column definitions"));
                }
                self.eof(peek, at)?;
                let flags = self.status.unwrap_or(0);
                // MySQL does not say so again at the end of this row
                let announced = status::PS_OUT_PARAMS | status::MORE_RESULTS_EXISTS;
                self.out_params = flags & announced == announced;
                let cursor = self.expect == Expect::Cursor && flags & status::CURSOR_EXISTS != 0;
                if then == After::Rows && cursor { self.end_of_result() } else { self.after(then) }
            }
            State::Rows => match first {
                Some(0xff) => self.err(peek)?,
                // MySQL has an EOF where a SELECT fails after its definitions and the procedure goes on
                Some(0xfe) if len == 5 => {
                    self.eof(peek, at)?;
                    self.end_of_result()
                }
                Some(0xfe) if terminator && self.deprecate_eof => {
                    self.ok(peek, at)?;
                    self.end_of_result()
                }
                _ => State::Rows,
            },
            State::FieldList => match first {
                Some(0xff) => self.err(peek)?,
                Some(0xfe) if terminator => {
                    // An EOF, or an OK packet in its place
                    if len == 5 {
                        self.eof(peek, at)?
                    } else {
                        self.ok(peek, at)?
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

    /// So many definitions come, if they come at all.
    fn definitions(&self, left: u64, defined: bool, then: After) -> State {
        if defined { State::Definitions { left, then } } else { self.defined(then) }
    }

    /// The last definition of a block has been seen.
    fn defined(&self, then: After) -> State {
        if self.deprecate_eof { self.after(then) } else { State::DefinitionsEof { then } }
    }

    fn after(&self, then: After) -> State {
        match then {
            After::Rows => State::Rows,
            After::PrepareColumns { columns: 0, .. } | After::Done => State::Done,
            After::PrepareColumns { columns, defined } => self.definitions(columns, defined, After::Done),
        }
    }

    fn end_of_result(&mut self) -> State {
        let announced = std::mem::take(&mut self.out_params);
        let more = announced || self.status.unwrap_or(0) & status::MORE_RESULTS_EXISTS != 0;
        if more && matches!(self.expect, Expect::Results | Expect::Cursor) {
            State::First
        } else {
            State::Done
        }
    }

    fn ok(&mut self, peek: &[u8], at: usize) -> Result<(), Malformed> {
        let mut r = Reader::new(&peek[1..]);
        r.lenenc()?;
        r.lenenc()?;
        let status_at = at + peek.len() - r.rest().len();
        self.status = Some(r.u16()?);
        self.warnings = r.u16()?;
        self.note_status(status_at);
        Ok(())
    }

    fn eof(&mut self, peek: &[u8], at: usize) -> Result<(), Malformed> {
        let (status, warnings) = crate::response::parse_eof(peek)?;
        self.status = Some(status);
        self.warnings = warnings;
        self.note_status(at + EOF_STATUS);
        Ok(())
    }

    fn note_status(&mut self, at: usize) {
        if self.patch.more {
            self.edits.push(Edit::Set(at, status::MORE_RESULTS_EXISTS as u8));
        }
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

    const OLD: u64 = 0;
    const NEW: u64 = client::DEPRECATE_EOF;

    fn stream(packets: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut seq = 1;
        for packet in packets {
            seq = put_packet(&mut out, seq, packet);
        }
        out
    }

    /// Feeds the stream with a strange packet after it, cut at every place, and checks that the end is found there.
    fn check(expect: Expect, capabilities: u64, packets: &[&[u8]]) -> ReplyTracker {
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
        let cursor: &[u8] = &[0xfe, 0, 0, 0x42, 0];
        check(Expect::Cursor, OLD, &[&[1], b"\x03def", cursor]);
        check(Expect::Cursor, OLD, &[&[1], b"\x03def", ERR]);
        // That of a procedure's own
        check(Expect::Results, OLD, &[&[1], b"\x03def", cursor, b"\x01a", cursor]);
        check(Expect::Results, NEW, &[&[1], b"\x03def", &[0xfe, 0, 0, 10, 0], OK]);
        let t = check(
            Expect::Prepare,
            OLD,
            &[&[0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0], b"\x03def", b"\x03def", EOF, b"\x03def", EOF],
        );
        assert_eq!(t.prepared(), Some(Prepared { statement_id: 9, columns: 1, params: 2 }));
        check(Expect::Prepare, NEW, &[&[0, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], b"\x03def", b"\x03def"]);
        check(Expect::Prepare, NEW, &[&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]);
        let t = check(Expect::Prepare, NEW, &[&[0, 0, 0, 2, 0, 0, 0]]);
        assert_eq!((t.prepared(), t.failed()), (None, None));
        check(Expect::FieldList, OLD, &[b"\x03def", b"\x03def", EOF]);
        check(Expect::Rows, OLD, &[&[0, 0, 1], EOF]);
        check(Expect::Single, OLD, &[b"Uptime: 5"]);
        check(Expect::Single, OLD, &[EOF]);
    }

    #[test]
    fn an_ok_follows_the_row_of_out_parameters() {
        let announced = [0xfe, 0, 0, 0x0a, 0x10];
        check(Expect::Results, OLD, &[&[1], b"\x03def", &announced, b"\0\0x", EOF, OK]);
        let more = [0xfe, 0, 0, 0x0a, 0x10];
        check(Expect::Results, OLD, &[&[1], b"\x03def", &announced, b"\0\0x", &more, OK]);
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
    fn definitions_may_be_left_out() {
        for optional in [client::OPTIONAL_RESULTSET_METADATA, client::MARIADB_CACHE_METADATA] {
            check(Expect::Results, OLD | optional, &[&[2, 0], EOF, b"\x01a\x01b", EOF]);
            check(
                Expect::Results,
                OLD | optional,
                &[&[2, 1], b"\x03def", b"\x03def", EOF, b"\x01a\x01b", EOF],
            );
            check(Expect::Results, NEW | optional, &[&[1, 0], b"\x01a", END]);
            assert!(ReplyTracker::new(Expect::Results, optional).feed(&stream(&[&[2]])).is_err());
        }
        let optional = client::OPTIONAL_RESULTSET_METADATA;
        let none = [0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0];
        check(Expect::Prepare, OLD | optional, &[&none, EOF, EOF]);
        check(Expect::Prepare, NEW | optional, &[&none]);
        let full = [0, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1];
        check(Expect::Prepare, NEW | optional, &[&full, b"\x03def", b"\x03def"]);
        let cached = [0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        check(Expect::Prepare, NEW | client::MARIADB_CACHE_METADATA, &[&cached, b"\x03def"]);
    }

    #[test]
    fn progress_reports_end_nothing() {
        let report = b"\xff\xff\xff\x01\x01\x02\0\0\0\x04copy";
        check(Expect::Results, NEW | client::MARIADB_PROGRESS, &[report, report, OK]);
        assert_eq!(check(Expect::Results, NEW, &[report]).failed(), Some(0xffff));
    }

    #[test]
    fn patches_numbers_and_flags() {
        let patch = Patch { renumber: 3, more: true };
        for (capabilities, packets) in [
            (OLD, vec![&[1][..], b"\x03def", EOF, b"\x01a", EOF]),
            (NEW, vec![&[1][..], b"\x03def", b"\x01a", END]),
            (NEW, vec![OK_MORE, OK]),
            (NEW, vec![&[0, 0xfc, 1, 1, 0xfd, 1, 1, 1, 2, 0, 0, 0][..]]),
        ] {
            let mut bytes = stream(&packets);
            let mut tracker = ReplyTracker::new(Expect::Results, capabilities).with_patch(patch);
            let mut at = 0;
            for given in 0..=bytes.len() {
                let fed = tracker.feed(&bytes[at..given]).unwrap();
                tracker.apply(&mut bytes[at..at + fed.bytes]);
                at += fed.bytes;
            }
            assert_eq!(at, bytes.len());
            assert_eq!(tracker.status().map(|s| s & !1), Some(2));
            let mut patched = Vec::new();
            let mut seq = 4;
            for packet in &packets {
                let mut packet = packet.to_vec();
                match (packet[0], packet.len()) {
                    (0xfe, 5) => packet[3] |= 8,
                    (0x00 | 0xfe, 7) => packet[3] |= 8,
                    (0x00, 12) => packet[8] |= 8,
                    _ => {}
                }
                seq = put_packet(&mut patched, seq, &packet);
            }
            assert_eq!(bytes, patched);
        }
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
