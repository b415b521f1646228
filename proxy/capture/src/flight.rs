//! What goes to the server on the application's connection, and what comes back. Pure.

use atone_wire::Malformed;
use atone_wire::caps::client;
use atone_wire::column::text_row;
use atone_wire::response::{ErrPacket, OkPacket, parse_eof};
use bytes::Bytes;

/// The savepoint to which a statement is taken back.
pub(crate) const SAVEPOINT: &str = "`atone:insert`";

/// Several statements that go to the server as one packet; the server stops at the first that fails.
#[derive(Debug, Default)]
pub struct Flight {
    sql: Vec<u8>,
    /// Where in it each statement ends.
    ends: Vec<usize>,
    /// The application's own statement is its last.
    pub writes: bool,
    /// The savepoint of ours is in it.
    pub savepoint: bool,
    /// Its results have columns whose types depend on parameters.
    pub of_values: bool,
    /// What its results take was counted before.
    pub uncounted: bool,
    /// The client's file, for the LOAD DATA in it.
    pub file: Option<Bytes>,
}

impl Flight {
    /// One whose results have columns whose types depend on parameters.
    pub fn of_values() -> Flight {
        Flight { of_values: true, ..Flight::default() }
    }

    /// One of one statement.
    pub fn of(statement: impl AsRef<[u8]>) -> Flight {
        let mut flight = Flight::default();
        flight.push(statement);
        flight
    }

    /// One like it without statements.
    pub fn without_statements(&self) -> Flight {
        Flight {
            of_values: self.of_values,
            uncounted: self.uncounted,
            file: self.file.clone(),
            ..Flight::default()
        }
    }

    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a statement.
    pub fn push(&mut self, statement: impl AsRef<[u8]>) {
        if !self.ends.is_empty() {
            self.sql.extend_from_slice(BETWEEN);
        }
        self.sql.extend_from_slice(statement.as_ref());
        self.ends.push(self.sql.len());
    }

    /// Its statements.
    pub fn statements(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|end| end + BETWEEN.len()));
        begins.zip(&self.ends).map(|(begin, &end)| self.sql.get(begin..end).unwrap_or_default())
    }

    /// The statements, as one packet has them.
    pub fn text(&self) -> &[u8] {
        &self.sql
    }

    /// Ends it with the application's own statement, which writes.
    pub fn push_write(&mut self, statement: impl AsRef<[u8]>) {
        self.push(statement);
        self.writes = true;
    }

    /// The savepoint to which the application's statement is taken back.
    pub fn push_savepoint(&mut self) {
        self.push(format!("SAVEPOINT {SAVEPOINT}"));
        self.savepoint = true;
    }

    /// The same after another statement.
    pub fn after(self, first: impl AsRef<[u8]>) -> Flight {
        let mut out = Flight::default();
        out.push(first);
        for statement in self.statements() {
            out.push(statement);
        }
        Flight { sql: out.sql, ends: out.ends, ..self }
    }
}

/// What stands between two statements of a packet.
const BETWEEN: &[u8] = b";\n";

/// How long a flight of many statements gets, in bytes, before another begins.
pub const FLIGHT_BYTES: usize = 512 << 10;

/// Many statements, as few flights.
pub fn flights<S: AsRef<[u8]>>(mut statements: impl Iterator<Item = S>) -> impl Iterator<Item = Flight> {
    std::iter::from_fn(move || {
        let mut flight = Flight::default();
        flight.push(statements.next()?);
        while flight.sql.len() < FLIGHT_BYTES
            && let Some(statement) = statements.next()
        {
            flight.push(statement);
        }
        Some(flight)
    })
}

/// What one statement was answered with.
#[derive(Debug)]
pub enum Reply {
    /// OK.
    Ok(OkPacket),
    /// An error.
    Err(ErrPacket),
    /// A result.
    Rows(Rows),
    /// Rows of more than `max_branch_bytes`, or for which there was no memory: read to their end and dropped.
    TooLarge,
}

/// What the statements of a flight were answered with.
#[derive(Debug)]
pub struct Replies {
    /// One for each statement that has run; the last one is an error where a statement failed.
    pub all: Vec<Reply>,
    /// Rows were dropped as there was no memory for them, of which there is this much: `limits.max_memory`, in bytes.
    pub out_of_memory: Option<usize>,
}

/// A result set of our own making, kept.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The number of columns.
    pub width: usize,
    /// The column definitions' payloads; none where the session has `resultset_metadata = NONE`.
    pub columns: Vec<Bytes>,
    /// The rows' payloads.
    pub rows: Vec<Bytes>,
    /// The payload of the packet that ended it.
    pub end: Bytes,
}

impl Rows {
    /// The number of warnings that the packet at the end tells.
    pub fn warnings(&self, capabilities: u64) -> Result<u16, Malformed> {
        if capabilities & client::DEPRECATE_EOF != 0 {
            OkPacket::parse(&self.end).map(|ok| ok.warnings)
        } else {
            parse_eof(&self.end).map(|(_, warnings)| warnings)
        }
    }

    /// Splits row `i` into cells.
    pub fn cells(&self, i: usize) -> Result<Vec<Option<&[u8]>>, Malformed> {
        text_row(self.rows.get(i).ok_or(Malformed("a row that is missing"))?, self.width)
    }
}
