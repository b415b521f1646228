//! Statements of our own on the application's connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use atone_sql::{Charset, Marks, Mode};
use atone_wire::caps::{client, status};
use atone_wire::column::{ColumnKind, text_row};
use atone_wire::frame::HEADER;
use atone_wire::read::Reader;
use atone_wire::reply::PROGRESS;
use atone_wire::response::{ErrPacket, OkPacket, parse_eof};
use atone_wire::{Malformed, command};
use bytes::Bytes;

use super::analysed::written;
use super::fault::{Class, Extent, class, extent};
use super::gate::Own;
use super::insert::SAVEPOINT;
use super::own::Answer;
use super::{Fault, Session};
use crate::branch::ROW_BYTES;
use crate::error::{End, SqlError};
use crate::memory::HELD_PER_IMAGE;
use crate::views::NameCase;

/// Several statements that go to the server as one packet; the server stops at the first that fails.
#[derive(Debug, Default)]
pub(super) struct Flight {
    sql: Vec<u8>,
    /// Where in it each statement ends.
    ends: Vec<usize>,
    /// The application's own statement is its last.
    writes: bool,
    /// The savepoint of ours is in it.
    savepoint: bool,
    /// Its results have columns whose types depend on parameters.
    of_values: bool,
}

impl Flight {
    /// One whose results have columns whose types depend on parameters.
    pub(super) fn of_values() -> Flight {
        Flight { of_values: true, ..Flight::default() }
    }

    pub(super) fn push(&mut self, statement: impl AsRef<[u8]>) {
        if !self.ends.is_empty() {
            self.sql.extend_from_slice(BETWEEN);
        }
        self.sql.extend_from_slice(statement.as_ref());
        self.ends.push(self.sql.len());
    }

    /// Its statements.
    fn statements(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|end| end + BETWEEN.len()));
        begins.zip(&self.ends).map(|(begin, &end)| self.sql.get(begin..end).unwrap_or_default())
    }

    /// The statements, as one packet has them.
    pub(super) fn text(&self) -> &[u8] {
        &self.sql
    }

    /// Ends it with the application's own statement, which writes.
    pub(super) fn push_write(&mut self, statement: impl AsRef<[u8]>) {
        self.push(statement);
        self.writes = true;
    }

    /// The savepoint to which the application's statement is taken back.
    pub(super) fn push_savepoint(&mut self) {
        self.push(format!("SAVEPOINT {SAVEPOINT}"));
        self.savepoint = true;
    }

    /// The same with a statement in front.
    pub(super) fn behind(self, first: impl AsRef<[u8]>) -> Flight {
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
pub(super) const FLIGHT_BYTES: usize = 512 << 10;

/// Many statements, as few flights.
pub(super) fn flights<S: AsRef<[u8]>>(
    mut statements: impl Iterator<Item = S>,
) -> impl Iterator<Item = Flight> {
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
pub(super) enum Reply {
    Ok(OkPacket),
    Err(ErrPacket),
    Rows(Rows),
    /// Rows of more than `max_branch_bytes`: read to their end and dropped.
    TooLarge,
}

/// A result set of our own making, kept.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// The number of columns.
    pub(super) width: usize,
    /// The column definitions' payloads; none where the session has `resultset_metadata = NONE`.
    pub(super) columns: Vec<Bytes>,
    /// The rows' payloads.
    pub(super) rows: Vec<Bytes>,
    /// The payload of the packet that ended it.
    pub(super) end: Bytes,
}

impl Rows {
    /// The number of warnings that the packet at the end tells.
    pub(super) fn warnings(&self, capabilities: u64) -> Result<u16, Malformed> {
        if capabilities & client::DEPRECATE_EOF != 0 {
            OkPacket::parse(&self.end).map(|ok| ok.warnings)
        } else {
            parse_eof(&self.end).map(|(_, warnings)| warnings)
        }
    }

    /// Splits row `i` into cells.
    pub(super) fn cells(&self, i: usize) -> Result<Vec<Option<&[u8]>>, Malformed> {
        text_row(self.rows.get(i).ok_or(Malformed("a row that is missing"))?, self.width)
    }
}

/// Session variables that bear on how statements are read and run.
#[derive(Clone, Debug)]
pub(super) struct Vars {
    pub(super) mode: Mode,
    pub(super) sql_mode: String,
    pub(super) charset_client: String,
    pub(super) charset_results: String,
    /// The value that `character_set_results` is set to, to be what it is: a name would change the collation that column
    /// definitions tell.
    pub(super) results_value: String,
    pub(super) charset_connection: String,
    pub(super) collation_connection: String,
    pub(super) numbering: Numbering,
    pub(super) lock_wait_timeout_ms: u64,
    /// MariaDB's `max_statement_time`, where it is set.
    pub(super) max_statement_time: Option<Duration>,
    pub(super) max_allowed_packet: usize,
    pub(super) database: Option<String>,
    /// `sql_safe_updates`
    pub(super) safe_updates: bool,
    pub(super) autocommit: bool,
    pub(super) names: NameCase,
    /// Why the session's changes do not reach replicas, which a rollback would reach all the same.
    pub(super) unreplicated: Option<&'static str>,
    /// Why nothing can be captured under these settings.
    pub(super) refuse: Option<String>,
}

/// How the session steps from one generated number to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    /// `auto_increment_increment`
    pub(super) increment: u64,
    /// `auto_increment_offset`
    pub(super) offset: u64,
}

impl Numbering {
    /// The number that the server generates behind this one: the next of offset, offset + increment, and so on, to which the
    /// first one need not belong where `insert_id` was set. An offset above the increment makes its unsigned arithmetic
    /// wrap around, as here.
    pub(super) fn after(self, number: u64) -> u64 {
        if self.increment <= 1 {
            return number.wrapping_add(1);
        }
        let steps = number.wrapping_add(self.increment).wrapping_sub(self.offset) / self.increment;
        steps.wrapping_mul(self.increment).wrapping_add(self.offset)
    }

    /// The numbers of rows that are all generated.
    pub(super) fn from(self, first: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(first), move |number| Some(self.after(*number)))
    }
}

impl Vars {
    /// Those of a session that has set nothing.
    #[cfg(test)]
    pub(super) fn of_tests() -> Vars {
        Vars {
            mode: Mode::default(),
            sql_mode: String::new(),
            charset_client: "utf8mb4".into(),
            charset_results: "utf8mb4".into(),
            results_value: "45".into(),
            charset_connection: "utf8mb4".into(),
            collation_connection: "utf8mb4_general_ci".into(),
            autocommit: true,
            names: NameCase::AsWritten,
            safe_updates: false,
            numbering: Numbering { increment: 1, offset: 1 },
            lock_wait_timeout_ms: 0,
            max_statement_time: None,
            max_allowed_packet: 1 << 20,
            database: None,
            unreplicated: None,
            refuse: None,
        }
    }

    /// Whether a 0 is stored as it is where numbers are generated, and DEFAULT, which stands for it, likewise.
    pub(super) fn zero_is_no_default(&self) -> bool {
        self.sql_mode.contains("NO_AUTO_VALUE_ON_ZERO")
    }

    /// A name in a result, as it is.
    pub(super) fn named(&self, name: &[u8]) -> String {
        let charset = Charset::of(&self.charset_results).unwrap_or_default();
        String::from_utf8_lossy(&charset.read_value(name)).into_owned()
    }

    /// Whether a statement's text means the same under either.
    pub(super) fn reads_as(&self, other: &Vars) -> bool {
        let of = |vars: &Vars| {
            let charsets = (vars.charset_client.clone(), vars.collation_connection.clone());
            (vars.database.clone(), vars.sql_mode.clone(), charsets)
        };
        of(self) == of(other)
    }
}

/// How long the server may be silent between two statements of a packet before it is asked whether it goes on.
const SILENCE: Duration = Duration::from_millis(100);
/// The least that the reply to a `COM_STMT_PREPARE` has.
const PREPARED_BYTES: usize = 12;
/// How the answer to `COM_SET_OPTION` begins, and no result.
const EOF: u8 = 0xfe;

/// What a reply of ours takes is counted so many bytes at a time.
const COUNTED_BYTES: usize = 64 << 10;
/// The most columns that a result of ours may have; tables have fewer.
const MAX_COLUMNS: u64 = 1 << 13;

const VARS_SQL: &str = "SELECT @@sql_mode, @@character_set_client, IFNULL(@@character_set_results, 'NULL'), \
     @@character_set_connection, \
     @@auto_increment_increment, @@innodb_lock_wait_timeout, @@max_allowed_packet, HEX(DATABASE()), @@collation_connection, \
     @@sql_safe_updates, @@auto_increment_offset, @@sql_log_bin, @@autocommit, @@lower_case_table_names";
/// One more of MariaDB's.
const SKIP_REPLICATION_SQL: &str = ", @@skip_replication";
/// One more of MySQL's, where the client can do without column definitions.
const RESULTSET_METADATA_SQL: &str = ", @@resultset_metadata";
/// One more of MariaDB's.
const STATEMENT_TIME_SQL: &str = ", @@max_statement_time";

impl Session {
    /// Runs one flight and collects its replies. The last one is an error only where the application's own statement, which
    /// is its last, failed.
    ///
    /// # Errors
    /// A statement of ours failed, and those behind it did not run: see [`super::fault`]. The connection broke, or one packet was
    /// above `max_branch_bytes`.
    pub(super) async fn run_flight(&mut self, flight: Flight) -> Result<Vec<Reply>, End> {
        self.run_ours(flight, false).await
    }

    /// The same where a statement of ours may be wrong in its text, as the application's is: such an error comes back as the
    /// last reply.
    pub(super) async fn try_flight(&mut self, flight: Flight) -> Result<Vec<Reply>, End> {
        self.run_ours(flight, true).await
    }

    async fn run_ours(&mut self, flight: Flight, tries: bool) -> Result<Vec<Reply>, End> {
        let (writes, savepoint, statements) = (flight.writes, flight.savepoint, flight.ends.len());
        if writes {
            self.check_open()?;
        }
        let replies = self.fly(flight).await?;
        let theirs = writes && replies.len() == statements;
        match replies.last() {
            Some(Reply::Err(_)) if theirs => {}
            Some(Reply::Err(e)) if tries && class(e.code, self.mariadb) == Class::Text => {}
            Some(Reply::Err(e)) => {
                let e = e.clone();
                return Err(End::Fault(self.fault(e).await?));
            }
            _ => {
                self.progress.savepoint |= savepoint;
                self.progress.wrote |= writes;
            }
        }
        if std::mem::take(&mut self.out_of_memory) {
            let error = SqlError::memory(&self.xid(), self.memory.limit()).err();
            return Err(End::Fault(Fault { error, extent: Extent::Statement }));
        }
        Ok(replies)
    }

    /// Runs one flight and collects its replies, whatever they are: the last one is an error where a statement failed.
    ///
    /// # Errors
    /// The connection broke, or one packet was above `max_branch_bytes`.
    pub(super) async fn fly(&mut self, flight: Flight) -> Result<Vec<Reply>, End> {
        let mut replies = Vec::with_capacity(flight.ends.len());
        if !self.marks.are_in(&flight.sql) {
            self.run_texts(&flight, &mut replies).await?;
        } else {
            let mut texts = Flight::default();
            for statement in flight.statements() {
                if !self.marks.are_in(statement) {
                    texts.push(statement);
                    continue;
                }
                if self.mariadb && flight.of_values {
                    // It may leave the definitions out although they are others than when it prepared the statement
                    let text = self.marks.without(statement);
                    texts.push(text.ok_or_else(|| End::Broken("a part of a parameter".into()))?);
                    continue;
                }
                self.run_texts(&std::mem::take(&mut texts), &mut replies).await?;
                if matches!(replies.last(), Some(Reply::Err(_))) {
                    break;
                }
                replies.push(self.run_with_params(statement, Answer::Text, !flight.of_values).await?);
                if matches!(replies.last(), Some(Reply::Err(_))) {
                    break;
                }
            }
            if !matches!(replies.last(), Some(Reply::Err(_))) {
                self.run_texts(&texts, &mut replies).await?;
            }
        }
        self.after_own_statements(&replies).await?;
        Ok(replies)
    }

    /// Runs the statements of a packet, in text, and adds their replies.
    pub(super) async fn run_texts(&mut self, flight: &Flight, all: &mut Vec<Reply>) -> Result<(), End> {
        let statements = flight.ends.len();
        if statements == 0 {
            return Ok(());
        }
        let charset = self.mode_of(&flight.sql).await?.charset;
        let Some(sql) = written(&flight.sql, charset) else {
            all.push(Reply::Err(self.unsayable()));
            return Ok(());
        };
        let written = match sql {
            Cow::Borrowed(_) => None,
            Cow::Owned(sql) => Some(Flight { sql, ..Flight::default() }),
        };
        let flight = written.as_ref().unwrap_or(flight);
        if let Some(vars) = &self.vars
            && flight.sql.len() + self.query_prefix.len() >= vars.max_allowed_packet
        {
            // The server would end the connection
            let limit = vars.max_allowed_packet;
            all.push(Reply::Err(SqlError::above_packet(&self.xid(), limit).err()));
            return Ok(());
        }
        if statements > 1 {
            self.enable_multi_statements().await?;
        }
        self.send_flight(flight).await?;
        let mut replies = Vec::with_capacity(statements);
        let mut asked = false;
        loop {
            let (reply, more) = if replies.is_empty() {
                self.read_reply().await?
            } else {
                self.read_further(&mut asked).await?
            };
            let failed = matches!(reply, Reply::Err(_));
            replies.push(reply);
            if failed || !more || replies.len() > statements {
                break;
            }
        }
        if asked {
            self.read_option_set().await?;
        }
        let complete = replies.len() == statements || matches!(replies.last(), Some(Reply::Err(_)));
        if !complete || replies.len() > statements {
            return Err(End::Broken(
                "the server answered another number of statements than it was sent".into(),
            ));
        }
        all.append(&mut replies);
        Ok(())
    }

    /// Runs one statement of ours and returns its reply, which is no error.
    pub(super) async fn run_one(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        let mut flight = Flight::default();
        flight.push(statement);
        only(self.run_flight(flight).await?)
    }

    /// The same where it may be wrong in its text.
    pub(super) async fn try_one(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        let mut flight = Flight::default();
        flight.push(statement);
        only(self.try_flight(flight).await?)
    }

    /// Runs the application's own statement, which writes.
    pub(super) async fn run_write(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        let mut flight = Flight::default();
        flight.push_write(statement);
        only(self.run_flight(flight).await?)
    }

    /// The next packet from the server; its reports of progress are passed over.
    async fn server_packet(&mut self) -> Result<Bytes, End> {
        Ok(self.numbered_packet().await?.0)
    }

    /// The same with the number of its last frame.
    pub(super) async fn numbered_packet(&mut self) -> Result<(Bytes, u8), End> {
        loop {
            let limit = self.backend.limits.max_branch_bytes;
            let (packet, seq) = self.server.packet(limit).await.map_err(End::Server)?;
            if self.capabilities & client::MARIADB_PROGRESS == 0 || !packet.starts_with(&PROGRESS) {
                return Ok((packet, seq));
            }
        }
    }

    /// Reads one reply; whether others follow.
    pub(super) async fn read_reply(&mut self) -> Result<(Reply, bool), End> {
        let (mut first, seq) = self.numbered_packet().await?;
        if let (Some(0xfb), Some(file)) = (first.first(), self.file.clone()) {
            self.give_file(&file, seq).await?;
            first = self.server_packet().await?;
        }
        match first.first() {
            Some(0x00) => {
                let ok = OkPacket::parse(&first)?;
                self.status = ok.status & !status::MORE_RESULTS_EXISTS;
                let more = ok.status & status::MORE_RESULTS_EXISTS != 0;
                return Ok((Reply::Ok(ok), more));
            }
            Some(0xff) => return Ok((Reply::Err(ErrPacket::parse(&first)?), false)),
            Some(0xfb) => return Err(End::Broken("the server asks for a file that was not offered".into())),
            _ => {}
        }
        let deprecate_eof = self.capabilities & client::DEPRECATE_EOF != 0;
        let mut head = Reader::new(&first);
        let width = head.lenenc()?;
        let defined = self.capabilities & client::OPTIONAL_DEFINITIONS == 0 || head.u8()? != 0;
        if width > MAX_COLUMNS {
            return Err(Malformed("more columns than a table has").into());
        }
        let mut columns = Vec::new();
        for _ in 0..if defined { width } else { 0 } {
            columns.push(self.server_packet().await?);
        }
        let width = usize::try_from(width).map_err(|_| Malformed("columns beyond memory"))?;
        if !deprecate_eof {
            parse_eof(&self.server_packet().await?)?;
        }
        let limit = self.backend.limits.max_branch_bytes;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let (mut uncounted, mut refused) = (0, false);
        loop {
            let packet = self.server_packet().await?;
            let ends = packet.first() == Some(&0xfe) && packet.len() < atone_wire::frame::MAX_PAYLOAD;
            if packet.first() == Some(&0xff) {
                return Ok((Reply::Err(ErrPacket::parse(&packet)?), false));
            }
            if ends && (deprecate_eof || packet.len() == 5) {
                let (status, _) = if deprecate_eof {
                    let ok = OkPacket::parse(&packet)?;
                    (ok.status, ok.warnings)
                } else {
                    parse_eof(&packet)?
                };
                self.status = status & !status::MORE_RESULTS_EXISTS;
                let more = status & status::MORE_RESULTS_EXISTS != 0;
                self.out_of_memory |= refused;
                let reply = if bytes > limit || refused {
                    Reply::TooLarge
                } else {
                    Reply::Rows(Rows { width, columns, rows, end: packet })
                };
                return Ok((reply, more));
            }
            bytes += packet.len() + size_of::<Bytes>();
            uncounted += (packet.len() + ROW_BYTES) * HELD_PER_IMAGE;
            if uncounted >= COUNTED_BYTES && !self.commits {
                refused |= !self.memory.grow(std::mem::take(&mut uncounted));
            }
            if bytes > limit || refused {
                rows = Vec::new();
            } else {
                rows.push(packet);
            }
        }
    }

    /// The reply to the next statement of a packet.
    ///
    /// Where the server is told to kill the statement (`KILL QUERY`) just between two of a packet it drops those that follow
    /// without a word, although it has said that more comes. So one that is silent is asked for what a connection has anyway:
    /// the answer comes behind the packet's replies, and begins as none of them can.
    async fn read_further(&mut self, asked: &mut bool) -> Result<(Reply, bool), End> {
        if !*asked && tokio::time::timeout(SILENCE, self.server.fill_to(HEADER + 1)).await.is_err() {
            self.send_own(Own::SetOption(command::OPTION_MULTI_STATEMENTS_ON)).await?;
            *asked = true;
        }
        if *asked {
            self.server.fill_to(HEADER + 1).await.map_err(End::Server)?;
            if self.server.rbuf().get(HEADER) == Some(&EOF) {
                self.read_option_set().await?;
                *asked = false;
                return Ok((Reply::Err(SqlError::interrupted().err()), false));
            }
        }
        self.read_reply().await
    }

    /// Reads the reply to a `COM_STMT_PREPARE` of our own: the statement's id, and the definitions of its columns.
    pub(super) async fn read_prepared(&mut self) -> Result<Result<(u32, Vec<Bytes>), ErrPacket>, End> {
        let first = self.server_packet().await?;
        if first.first() == Some(&0xff) {
            return Ok(Err(ErrPacket::parse(&first)?));
        }
        if first.first() == Some(&0) && first.len() < PREPARED_BYTES {
            // An OK packet: so says MySQL of a SET GLOBAL that its user may not do, and has prepared nothing
            return Ok(Err(SqlError::unprepared().err()));
        }
        let mut head = Reader::new(&first);
        head.u8()?;
        let id = head.u32()?;
        let (columns, params) = (head.u16()?, head.u16()?);
        let undefined = self.capabilities & client::OPTIONAL_RESULTSET_METADATA != 0
            && first.len() > 12
            && first.get(12) == Some(&0);
        let eof = self.capabilities & client::DEPRECATE_EOF == 0;
        let mut last = Vec::new();
        for definitions in [params, columns] {
            last.clear();
            for _ in 0..if undefined { 0 } else { definitions } {
                last.push(self.server_packet().await?);
            }
            if eof && definitions > 0 {
                self.server_packet().await?;
            }
        }
        Ok(Ok((id, last)))
    }

    async fn enable_multi_statements(&mut self) -> Result<(), End> {
        if !self.multi_statements {
            self.set_option(command::OPTION_MULTI_STATEMENTS_ON).await?;
            self.multi_statements = true;
        }
        Ok(())
    }

    async fn set_option(&mut self, option: u16) -> Result<(), End> {
        self.send_own(Own::SetOption(option)).await?;
        self.read_option_set().await
    }

    /// Reads the reply to `COM_SET_OPTION`.
    async fn read_option_set(&mut self) -> Result<(), End> {
        let reply = self.server_packet().await?;
        match reply.first() {
            Some(&(0x00 | EOF)) => Ok(()),
            Some(0xff) => {
                let error = ErrPacket::parse(&reply)?;
                // It belongs to no transaction
                let extent = extent(class(error.code, self.mariadb), false, false);
                Err(End::Fault(Fault { error, extent }))
            }
            _ => Err(End::Broken("the server refuses COM_SET_OPTION".into())),
        }
    }

    /// A statement of the application's own meets the server as the application set it up: several statements in a packet
    /// only where it asked for that.
    pub(super) async fn restore_multi_statements(&mut self, sql: &[u8]) -> Result<(), End> {
        let wanted = self.capabilities & client::MULTI_STATEMENTS != 0;
        if self.multi_statements && !wanted && memchr::memchr(b';', sql).is_some() {
            self.set_option(command::OPTION_MULTI_STATEMENTS_OFF).await?;
            self.multi_statements = false;
        }
        Ok(())
    }

    /// How statements are read as far as is known without asking the server.
    pub(super) fn assumed_mode(&self) -> Mode {
        let unknown = Mode { mariadb: self.mariadb, marks: Some(self.marks), ..Mode::default() };
        self.vars.as_ref().map_or(unknown, |vars| vars.mode)
    }

    /// How a statement of our own is written; the server is asked only where that counts.
    pub(super) async fn mode_of(&mut self, sql: &[u8]) -> Result<Mode, End> {
        if self.vars.is_none() && !sql.is_ascii() {
            Box::pin(self.session_vars()).await?;
        }
        Ok(self.assumed_mode())
    }

    /// The error for a statement of our own with a name that the session cannot say.
    pub(super) fn unsayable(&self) -> ErrPacket {
        SqlError::refused(&self.xid(), UNSAYABLE).err()
    }

    /// The session variables; read from the server where something may have changed them.
    pub(super) async fn session_vars(&mut self) -> Result<Arc<Vars>, End> {
        if let Some(vars) = &self.vars {
            return Ok(vars.clone());
        }
        let mut sql = VARS_SQL.to_string();
        sql.push_str(if self.mariadb { SKIP_REPLICATION_SQL } else { ", 0" });
        if self.mariadb {
            sql.push_str(STATEMENT_TIME_SQL);
        } else if self.capabilities & client::OPTIONAL_RESULTSET_METADATA != 0 {
            sql.push_str(RESULTSET_METADATA_SQL);
        }
        // sql_select_limit may be 0
        sql.push_str(" LIMIT 1");
        let vars = match self.run_one(sql).await? {
            Reply::Rows(rows) => Arc::new(parse_vars(&rows, self.mariadb, self.capabilities, self.marks)?),
            _ => return Err(End::Broken("session variables: no rows".into())),
        };
        self.autocommit_hidden = !vars.autocommit && self.status & status::AUTOCOMMIT != 0;
        self.vars = Some(vars.clone());
        self.forget_digests();
        Ok(vars)
    }
}

fn only(mut replies: Vec<Reply>) -> Result<Reply, End> {
    replies.pop().ok_or_else(|| End::Broken("a statement without a reply".into()))
}

/// Why a table cannot be written about.
pub(super) const UNSAYABLE: &str = "a name of the table, or of one that belongs to it, has letters that character_set_client does not have: use utf8mb4";

/// Why a session is not bound whose results come in such a charset.
pub(super) const WIDE: &str = "character_set_results is no charset with the letters of ASCII as single bytes: what Atone reads would come in it";

/// Whether letters of ASCII have several bytes.
pub(super) fn is_wide(charset: &str) -> bool {
    matches!(charset, "utf16" | "utf16le" | "utf32" | "ucs2")
}

fn parse_vars(rows: &Rows, mariadb: bool, capabilities: u64, marks: Marks) -> Result<Vars, End> {
    let sent = rows.cells(0)?;
    // In UTF-16, UTF-32 and UCS-2 letters of ASCII are those with zero bytes around them
    let narrow: Vec<Option<Vec<u8>>> = sent
        .iter()
        .map(|cell| cell.map(|cell| cell.iter().copied().filter(|byte| *byte != 0).collect()))
        .collect();
    let cells: Vec<Option<&[u8]>> = narrow.iter().map(Option::as_deref).collect();
    let text =
        |i: usize| String::from_utf8_lossy(cells.get(i).copied().flatten().unwrap_or_default()).into_owned();
    let number = |i: usize| {
        text(i).parse::<u64>().map_err(|_| End::Broken(format!("session variable {i} is no number")))
    };
    let (sql_mode, charset_client, charset_results, charset_connection) =
        (text(0), text(1), text(2), text(3));
    let mut refuse = None;
    let mode = Mode::from_sql_mode(&sql_mode, mariadb).unwrap_or_else(|e| {
        refuse = Some(e.to_string());
        Mode { mariadb, ..Mode::default() }
    });
    let charset = Charset::of(&charset_client).unwrap_or_else(|| {
        refuse = Some(format!("character_set_client {charset_client} is not understood"));
        Charset::PLAIN
    });
    let mode = Mode { marks: Some(marks), charset, ..mode };
    if !mariadb && cells.get(15).copied().flatten().is_some_and(|v| v != b"FULL") {
        refuse = Some("resultset_metadata is not FULL: tables are told by their column definitions".into());
    }
    if is_wide(&charset_results) {
        refuse = Some(WIDE.into());
    }
    let database = match cells.get(7).copied().flatten() {
        None => None,
        Some(hex) => {
            let name = unhex(hex).and_then(|bytes| String::from_utf8(bytes).ok());
            Some(name.ok_or_else(|| End::Broken("the current schema's name is not UTF-8".into()))?)
        }
    };
    let max_statement_time = text(15).parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let results_value = match rows.columns.first() {
        Some(definition) if charset_results != "NULL" => {
            ColumnKind::parse(definition, capabilities)?.collation.to_string()
        }
        _ => "NULL".to_owned(),
    };
    Ok(Vars {
        mode,
        sql_mode,
        charset_client,
        charset_results,
        results_value,
        charset_connection,
        collation_connection: text(8),
        safe_updates: text(9) == "1",
        autocommit: text(12) == "1",
        names: NameCase::of(number(13)?),
        unreplicated: match (number(11)?, number(14)?) {
            (1, 0) => None,
            (1, _) => Some("skip_replication is not 0"),
            _ => Some("sql_log_bin is 0"),
        },
        numbering: Numbering { increment: number(4)?, offset: number(10)? },
        lock_wait_timeout_ms: number(5)?.saturating_mul(1000),
        max_statement_time: max_statement_time.filter(|limit| mariadb && !limit.is_zero()),
        max_allowed_packet: usize::try_from(number(6)?).unwrap_or(usize::MAX),
        database,
        refuse,
    })
}

/// What the server's `HEX()` was given.
pub(super) fn unhex(hex: &[u8]) -> Option<Vec<u8>> {
    hex.chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
        .collect()
}
