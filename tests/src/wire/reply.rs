//! Where a reply ends, and what its packets say.

use anyhow::{Context as _, Result, bail, ensure};

use super::caps;
use super::fields::{Decoded, shown};
use super::read::Reader;
use super::values::{binary_row, text_row};

const MORE_RESULTS: u64 = 1 << 3;
const CURSOR_EXISTS: u64 = 1 << 6;
const PS_OUT_PARAMS: u64 = 1 << 12;
const STATE_CHANGED: u64 = 1 << 14;
/// The error code that stands for a progress report in MariaDB.
const PROGRESS: u64 = 0xffff;

/// What a command is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Nothing,
    /// OK, ERR, a request for a file, or results with rows in text.
    Text,
    /// The same with rows in binary.
    Binary,
    /// The answer to `COM_STMT_PREPARE`.
    Prepare,
    /// Columns up to an EOF.
    Fields,
    /// Rows in binary up to an EOF.
    Fetch,
    /// One packet: OK, EOF, ERR or text.
    Single,
    /// The binary log's events up to an EOF.
    Binlog,
}

impl Shape {
    /// What the answer to this command looks like.
    pub fn of(command: &[u8]) -> Self {
        match command.first() {
            Some(0x18 | 0x19) => Shape::Nothing,
            Some(0x03 | 0x0a) => Shape::Text,
            Some(0x17 | 0xfa) => Shape::Binary,
            Some(0x16) => Shape::Prepare,
            Some(0x04) => Shape::Fields,
            Some(0x1c) => Shape::Fetch,
            Some(0x12 | 0x1e) => Shape::Binlog,
            _ => Shape::Single,
        }
    }
}

/// What comes after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More packets from the server.
    More,
    /// The client's file.
    File,
    /// Nothing: the reply is complete.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Columns { left: u64 },
    ColumnsEof,
    Rows,
    Parameters { left: u64, columns: u64 },
    ParametersEof { columns: u64 },
}

/// Follows one reply.
#[derive(Clone, Debug)]
pub struct Reply {
    shape: Shape,
    capabilities: u64,
    mariadb: bool,
    state: State,
    /// The types of the columns of this result, where they were sent, or of the statement, where they were not.
    types: Vec<u8>,
    /// The statement that was prepared.
    pub statement: Option<u32>,
    /// Whether a statement's definitions were left out.
    left_out: bool,
    /// MySQL says that more results follow the row of OUT parameters before that row, and not after it.
    out_params: bool,
    /// Whether the last packet was ERR.
    pub failed: bool,
}

impl Reply {
    /// The reply to a command on a connection with these capabilities. `types` are those of the statement's columns,
    /// for replies that leave them out.
    pub fn new(shape: Shape, capabilities: u64, mariadb: bool, types: Vec<u8>) -> Self {
        let state = match shape {
            Shape::Fetch => State::Rows,
            Shape::Fields => State::Columns { left: u64::MAX },
            _ => State::First,
        };
        Self {
            shape,
            capabilities,
            mariadb,
            state,
            types,
            statement: None,
            left_out: false,
            out_params: false,
            failed: false,
        }
    }

    /// The types of the columns seen last.
    pub fn types(&self) -> &[u8] {
        &self.types
    }

    fn has(&self, capability: u64) -> bool {
        self.capabilities & capability != 0
    }

    /// Takes the next packet.
    pub fn next(&mut self, packet: &[u8]) -> Result<(Decoded, Then)> {
        let result = self.step(packet);
        result.with_context(|| format!("{:?} in {:?}: {}", self.state, self.shape, shown(packet)))
    }

    fn step(&mut self, packet: &[u8]) -> Result<(Decoded, Then)> {
        let first = packet.first().copied();
        if first == Some(0xff) {
            return self.error(packet);
        }
        let ends = first == Some(0xfe) && packet.len() < 0xff_ffff;
        match self.state {
            State::First => self.first(packet),
            State::Columns { .. } if self.shape == Shape::Fields && ends && packet.len() < 10 => {
                Ok((self.end(packet)?.0, Then::Done))
            }
            State::Columns { left } => {
                let (column, kind) = self.column(packet)?;
                self.types.push(kind);
                let left = left.saturating_sub(1);
                self.state = match left {
                    0 if self.has(caps::DEPRECATE_EOF) => State::Rows,
                    0 => State::ColumnsEof,
                    left => State::Columns { left },
                };
                let done = left == 0 && self.shape == Shape::Prepare && self.has(caps::DEPRECATE_EOF);
                Ok((column, if done { Then::Done } else { Then::More }))
            }
            State::ColumnsEof => {
                ensure!(ends && packet.len() <= 5, "no EOF behind the columns");
                let (eof, status) = self.eof(packet)?;
                self.out_params = status & PS_OUT_PARAMS != 0 && status & MORE_RESULTS != 0;
                let cursor = self.shape == Shape::Binary && status & CURSOR_EXISTS != 0;
                if self.shape == Shape::Prepare || cursor {
                    return Ok((eof, self.after_result(status)));
                }
                self.state = State::Rows;
                Ok((eof, Then::More))
            }
            State::Rows if ends && (self.has(caps::DEPRECATE_EOF) || packet.len() < 9) => {
                let (end, status) = self.end(packet)?;
                Ok((end, self.after_result(status)))
            }
            State::Rows => {
                let row = match self.shape {
                    Shape::Binary | Shape::Fetch => binary_row(packet, &self.types)?,
                    Shape::Binlog => Decoded::new("event").with_bytes("bytes", packet),
                    _ => text_row(packet)?,
                };
                Ok((row, Then::More))
            }
            State::Parameters { left, columns } => {
                let (parameter, _) = self.column(packet)?;
                let left = left - 1;
                if left > 0 {
                    self.state = State::Parameters { left, columns };
                    return Ok((parameter, Then::More));
                }
                if self.has(caps::DEPRECATE_EOF) {
                    return Ok((parameter, self.statements_columns(columns)));
                }
                self.state = State::ParametersEof { columns };
                Ok((parameter, Then::More))
            }
            State::ParametersEof { columns } => {
                ensure!(ends && packet.len() <= 5, "no EOF behind the parameters");
                let eof = self.eof(packet)?.0;
                Ok((eof, self.statements_columns(columns)))
            }
        }
    }

    fn first(&mut self, packet: &[u8]) -> Result<(Decoded, Then)> {
        let first = packet.first().copied();
        match (self.shape, first) {
            (Shape::Single, Some(0xfe)) => Ok((self.end(packet)?.0, Then::Done)),
            (Shape::Single, Some(0x00)) => Ok((self.ok(packet)?.0, Then::Done)),
            // A server that begins anew, as MariaDB does after a malformed change of user
            (Shape::Single, Some(0x0a)) if super::Greeting::parse(packet).is_ok() => {
                Ok((super::Greeting::parse(packet)?.decoded(), Then::Done))
            }
            (Shape::Single, _) => Ok((Decoded::new("text").with_bytes("text", packet), Then::Done)),
            (Shape::Binlog, Some(0xfe)) => Ok((self.end(packet)?.0, Then::Done)),
            (Shape::Binlog, _) => Ok((Decoded::new("event").with_bytes("bytes", packet), Then::More)),
            // MySQL's answer to a SET GLOBAL that its user may not do
            (Shape::Prepare, Some(0x00)) if packet.len() < 9 => Ok((self.ok(packet)?.0, Then::Done)),
            (Shape::Prepare, Some(0x00)) => self.prepared(packet),
            (Shape::Text | Shape::Binary, Some(0x00)) => {
                let (ok, status) = self.ok(packet)?;
                Ok((ok, self.after_result(status)))
            }
            (Shape::Text | Shape::Binary, Some(0xfb)) => {
                Ok((Decoded::new("file").with_bytes("name", &packet[1..]), Then::File))
            }
            (Shape::Text | Shape::Binary, Some(_)) => self.header(packet),
            (shape, _) => bail!("nothing that begins a reply of the kind {shape:?}"),
        }
    }

    /// The number of columns, and whether they follow.
    fn header(&mut self, packet: &[u8]) -> Result<(Decoded, Then)> {
        let mut rest = Reader(packet);
        let columns = rest.lenenc()?;
        let mut header = Decoded::new("result").with("columns", columns);
        let mut follow = true;
        let says =
            if self.mariadb { caps::MARIADB_CACHE_METADATA } else { caps::OPTIONAL_RESULTSET_METADATA };
        if self.has(says) {
            let flag = rest.int(1)?;
            header = header.with("metadata follow", flag);
            follow = flag != 0;
        }
        if !rest.is_empty() {
            header = header.with_bytes("left over", rest.0);
        }
        self.state = match follow {
            true => {
                self.types.clear();
                State::Columns { left: columns }
            }
            false if self.has(caps::DEPRECATE_EOF) => State::Rows,
            false => State::ColumnsEof,
        };
        Ok((header, Then::More))
    }

    fn prepared(&mut self, packet: &[u8]) -> Result<(Decoded, Then)> {
        let mut rest = Reader(&packet[1..]);
        let id = rest.int(4)?;
        let columns = rest.int(2)?;
        let parameters = rest.int(2)?;
        let mut prepared = Decoded::new("prepared")
            .with("statement", id)
            .with("columns", columns)
            .with("parameters", parameters)
            .with("filler", rest.int(1)?);
        if !rest.is_empty() {
            prepared = prepared.with("warnings", rest.int(2)?);
        }
        let mut follow = true;
        if !self.mariadb && self.has(caps::OPTIONAL_RESULTSET_METADATA) {
            let flag = rest.int(1)?;
            prepared = prepared.with("metadata follow", flag);
            follow = flag != 0;
        }
        if !rest.is_empty() {
            prepared = prepared.with_bytes("left over", rest.0);
        }
        self.statement = Some(u32::try_from(id)?);
        self.types.clear();
        self.left_out = !follow;
        let then = match (follow, parameters) {
            (_, 0) => self.statements_columns(columns),
            (true, left) => {
                self.state = State::Parameters { left, columns };
                Then::More
            }
            (false, _) if self.has(caps::DEPRECATE_EOF) => Then::Done,
            (false, _) => {
                self.state = State::ParametersEof { columns };
                Then::More
            }
        };
        Ok((prepared, then))
    }

    fn statements_columns(&mut self, columns: u64) -> Then {
        self.state = match columns {
            0 => return Then::Done,
            _ if self.left_out && self.has(caps::DEPRECATE_EOF) => return Then::Done,
            // The EOF is not left out
            _ if self.left_out => State::ColumnsEof,
            left => State::Columns { left },
        };
        Then::More
    }

    fn after_result(&mut self, status: u64) -> Then {
        let several = matches!(self.shape, Shape::Text | Shape::Binary);
        let out_params = std::mem::take(&mut self.out_params);
        if several && (status & MORE_RESULTS != 0 || out_params) {
            self.state = State::First;
            return Then::More;
        }
        Then::Done
    }

    fn column(&self, packet: &[u8]) -> Result<(Decoded, u8)> {
        let mut rest = Reader(packet);
        let mut column = Decoded::new("column");
        for name in ["catalog", "schema", "table", "original table", "name", "original name"] {
            column = column.with_bytes(name, rest.text()?);
        }
        if self.mariadb && self.has(caps::MARIADB_EXTENDED_METADATA) {
            let mut extended = Reader(rest.text()?);
            while !extended.is_empty() {
                let kind = extended.int(1)?;
                column = column.with_bytes(format!("extended {kind}"), extended.text()?);
            }
        }
        column = column.with("length of the rest", rest.lenenc()?).with("charset", rest.int(2)?);
        column = column.with("length", rest.int(4)?);
        let kind = u8::try_from(rest.int(1)?)?;
        column = column.with("type", kind).with("flags", format!("{:#06x}", rest.int(2)?));
        column = column.with("decimals", rest.int(1)?).with("filler", rest.int(2)?);
        if !rest.is_empty() {
            column = column.with_bytes("default", rest.0);
        }
        Ok((column, kind))
    }

    /// OK or EOF in the place of an EOF.
    fn end(&self, packet: &[u8]) -> Result<(Decoded, u64)> {
        if packet.len() <= 5 { self.eof(packet) } else { self.ok(packet) }
    }

    fn eof(&self, packet: &[u8]) -> Result<(Decoded, u64)> {
        let mut rest = Reader(packet.get(1..).unwrap_or_default());
        let mut eof = Decoded::new("EOF");
        if rest.is_empty() {
            return Ok((eof, 0));
        }
        eof = eof.with("warnings", rest.int(2)?);
        let status = rest.int(2)?;
        Ok((eof.with("status", format!("{status:#06x}")), status))
    }

    fn ok(&self, packet: &[u8]) -> Result<(Decoded, u64)> {
        ok_packet(packet, self.has(caps::SESSION_TRACK))
    }

    fn error(&mut self, packet: &[u8]) -> Result<(Decoded, Then)> {
        if self.mariadb && self.has(caps::MARIADB_PROGRESS) && packet.get(1..3) == Some(&[0xff, 0xff]) {
            return Ok((progress(packet)?, Then::More));
        }
        self.failed = true;
        Ok((err_packet(packet)?, Then::Done))
    }
}

/// ERR.
pub fn err_packet(packet: &[u8]) -> Result<Decoded> {
    let mut rest = Reader(packet.get(1..).unwrap_or_default());
    let code = rest.int(2)?;
    ensure!(code != PROGRESS, "a progress report that was not asked for");
    let mut error = Decoded::new("ERR").with("code", code);
    if rest.0.first() == Some(&b'#') {
        error = error.with_bytes("state", rest.take(6)?);
    }
    Ok(error.with_bytes("message", rest.0))
}

fn progress(packet: &[u8]) -> Result<Decoded> {
    let mut rest = Reader(packet.get(3..).unwrap_or_default());
    let strings = rest.int(1)?;
    let (stage, stages, done) = (rest.int(1)?, rest.int(1)?, rest.int(3)?);
    let progress = Decoded::new("progress").with("strings", strings).with("stage", stage);
    Ok(progress.with("stages", stages).with("thousandths", done).with_bytes("info", rest.text()?))
}

/// The info of an OK without the proof of its certificate that MariaDB 11.4 and later end a login with: a byte and a
/// digest that differs from login to login.
fn without_proof(info: &[u8]) -> &[u8] {
    match info.split_last_chunk::<65>() {
        Some((head, [1, digest @ ..])) if digest.iter().all(u8::is_ascii_hexdigit) => head,
        _ => info,
    }
}

/// OK, and its status flags.
pub fn ok_packet(packet: &[u8], session_track: bool) -> Result<(Decoded, u64)> {
    let mut rest = Reader(packet.get(1..).unwrap_or_default());
    let kind = if packet.first() == Some(&0xfe) { "OK at the end" } else { "OK" };
    let mut ok = Decoded::new(kind);
    ok = ok.with("affected", rest.lenenc()?).with("insert id", rest.lenenc()?);
    let status = rest.int(2)?;
    ok = ok.with("status", format!("{status:#06x}")).with("warnings", rest.int(2)?);
    if !session_track {
        return Ok((if rest.is_empty() { ok } else { ok.with_bytes("info", without_proof(rest.0)) }, status));
    }
    if !rest.is_empty() {
        ok = ok.with_bytes("info", without_proof(rest.text()?));
    }
    if status & STATE_CHANGED != 0 {
        let mut changes = Reader(rest.text()?);
        while !changes.is_empty() {
            let kind = changes.int(1)?;
            ok = track(ok, kind, changes.text()?)?;
        }
    }
    if !rest.is_empty() {
        ok = ok.with_bytes("left over", rest.0);
    }
    Ok((ok, status))
}

fn track(mut ok: Decoded, kind: u64, data: &[u8]) -> Result<Decoded> {
    let mut rest = Reader(data);
    match kind {
        0 => {
            while !rest.is_empty() {
                let name = shown(rest.text()?);
                ok = ok.with_bytes(format!("variable {name}"), rest.text()?);
            }
            // They come in no order
            if let Some(from) = ok.fields.iter().position(|(name, _)| name.starts_with("variable ")) {
                ok.fields[from..].sort();
            }
            Ok(ok)
        }
        1 => Ok(ok.with_bytes("schema", rest.text()?)),
        2 => Ok(ok.with_bytes("state changed", data)),
        4 => Ok(ok.with_bytes("characteristics", rest.text()?)),
        5 => Ok(ok.with_bytes("transaction", rest.text()?)),
        other => Ok(ok.with_bytes(format!("change {other}"), data)),
    }
}
