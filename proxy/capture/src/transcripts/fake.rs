//! A server that answers as it is told, and keeps its eyes open: what is sent, whether a statement of the
//! application's stands, and whether anything is sent that must not be.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use atone_sql::Marks;
use atone_wire::caps::{client, status};
use atone_wire::read::put_lenenc_bytes;
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Bytes;

use super::log::{Log, Shared, Step as Answered};
use crate::error::End;
use crate::fault::Progress;
use crate::flight::{Flight, Replies, Reply, Rows};
use crate::port::{Asked, NotRegistered, Registration, Server, Step};
use crate::settings::Vars;

/// The capabilities of the fake client.
pub(super) const CAPABILITIES: u64 = client::DEPRECATE_EOF;

/// The server: answers each statement with the next of its answers.
#[derive(Debug)]
pub(super) struct FakeServer {
    pub(super) answers: VecDeque<String>,
    pub(super) log: Shared,
    pub(super) status: u16,
    pub(super) mariadb: bool,
    /// How literals are marked that stand for parameters.
    pub(super) marks: Marks,
    /// The quoted names of its views.
    pub(super) views: HashSet<String>,
    /// A statement of the application's has run in the local transaction, and has not been taken back.
    wrote: bool,
    /// The undo record is written in the local transaction.
    recorded: bool,
    /// It is committed.
    durable: bool,
    /// The connection broke.
    lost: bool,
}

impl FakeServer {
    pub(super) fn new(
        log: Shared,
        mariadb: bool,
        status: u16,
        marks: Marks,
        views: HashSet<String>,
    ) -> FakeServer {
        let answers = VecDeque::new();
        FakeServer {
            answers,
            log,
            status,
            mariadb,
            marks,
            views,
            wrote: false,
            recorded: false,
            durable: false,
            lost: false,
        }
    }

    /// Sees that the end of a statement fits what the server has of it; the next one may begin. `alone`: the local
    /// transaction was begun for it, and ends with it. `rows`: how many are in the journal.
    pub(super) fn check(&mut self, end: &str, progress: Progress, alone: bool, rows: usize) {
        let wrote = std::mem::take(&mut self.wrote);
        let says = |words: &[&str]| words.iter().any(|word| end.starts_with(word));
        let open = self.status & status::IN_TRANS != 0 || self.status & status::AUTOCOMMIT == 0;
        let stands = wrote && !alone && !self.lost;
        let nothing_stays = says(&["refused", "halt stopped", "halt unresolved", "halt failed"]);
        assert!(!(stands && nothing_stays), "it stands, and yet: {end}");
        assert!(
            !stands || progress.wrote || !says(&["halt ended"]),
            "it stands, and nobody takes it back: {end}"
        );
        assert!(
            alone || progress.savepoint || !says(&["halt taken back"]),
            "there is no savepoint, and yet: {end}"
        );
        assert!(open || !end.ends_with("affected"), "there is no local transaction any more, and yet: {end}");
        let changed = end.ends_with("affected") && end != "done 0 affected";
        assert!(!changed || rows > 0, "the journal knows nothing of it, and yet: {end}");
        assert!(!self.lost || says(&["halt ended"]), "the connection is lost, and yet: {end}");
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// A statement as it goes out: with placeholders for what stands for parameters.
    fn sent(&self, text: &[u8]) -> String {
        let Some(out) = self.marks.with_placeholders(text) else {
            panic!("a parameter was split: {}", String::from_utf8_lossy(text));
        };
        let mut sent = shown(&String::from_utf8_lossy(&out.sql));
        if !out.params.is_empty() {
            let params: Vec<String> = out.params.iter().map(usize::to_string).collect();
            sent.push_str(&format!("   with parameter {}", params.join(", ")));
        }
        sent
    }

    /// What there is to answer, where nothing is said.
    fn plain(&self, statement: &str) -> String {
        if let Some(name) = statement.strip_prefix("SHOW CREATE TABLE ") {
            let view = self.views.contains(name);
            return if view { "rows v|CREATE VIEW|c|c" } else { "rows t|CREATE TABLE" }.to_owned();
        }
        let select = statement.strip_prefix("SELECT ");
        match select {
            Some(list) if list.starts_with('`') => format!("rows /{}", width(list)),
            Some(list) if list.starts_with("@@foreign_key_checks") => "rows 1|0".to_owned(),
            Some(list) if list.starts_with("@@insert_id") => "rows 0".to_owned(),
            Some(list) if list.starts_with("@@character_set_database") => "rows 'utf8mb4'".to_owned(),
            Some(list) if ["COUNT(*)", "LAST_INSERT_ID()"].iter().any(|f| list.starts_with(f)) => {
                "rows 0".to_owned()
            }
            Some(_) => "rows".to_owned(),
            None if statement.starts_with("SHOW COUNT(*)") => "rows 0".to_owned(),
            None if statement.starts_with("SHOW") => "rows".to_owned(),
            None => "ok".to_owned(),
        }
    }

    /// The next answer, or the one that a fault puts in its place.
    fn next(&mut self, statement: &str) -> String {
        assert!(!self.lost, "sent on a connection that is lost: {statement}");
        let fault = self.log().fault(Answered::Server);
        if let Some(fault) = fault {
            self.answers.clear();
            return fault;
        }
        self.answers.pop_front().unwrap_or_else(|| self.plain(statement))
    }

    fn answer(&mut self, statement: &str) -> Result<Reply, End> {
        let answer = self.next(statement);
        self.log().say(format!("< {answer}"));
        let (kind, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
        match kind {
            "ok" => self.follow(statement),
            "rows" | "columns" => self.log().was_rows(),
            _ => {}
        }
        Ok(match kind {
            "ok" => Reply::Ok(self.ok(rest)),
            "rows" => Reply::Rows(rows(rest, self.status)),
            "columns" => Reply::Rows(named(rest, self.status)),
            "large" => Reply::TooLarge,
            "error" => Reply::Err(self.error(rest)),
            "lost" => return Err(self.lose()),
            other => panic!("what kind of answer is {other}?"),
        })
    }

    /// `affected id info`
    fn ok(&self, text: &str) -> OkPacket {
        let mut words = text.splitn(3, ' ');
        let mut number = || words.next().map_or(0, |n| if n.is_empty() { 0 } else { n.parse().unwrap() });
        let (affected_rows, last_insert_id) = (number(), number());
        let ok = OkPacket { affected_rows, last_insert_id, status: self.status, ..OkPacket::default() };
        ok.with_info(words.next().unwrap_or_default().as_bytes())
    }

    fn error(&mut self, text: &str) -> ErrPacket {
        let (code, text) = text.split_once(' ').unwrap_or((text, ""));
        if text.contains("[rolled back]") {
            self.status &= !status::IN_TRANS;
            self.wrote = false;
        }
        ErrPacket { code: code.parse().unwrap(), sql_state: *b"HY000", message: text.as_bytes().to_vec() }
    }

    fn lose(&mut self) -> End {
        self.lost = true;
        End::Server(io::ErrorKind::ConnectionReset.into())
    }

    /// A server's status flags follow its statements, and so does what stands.
    fn follow(&mut self, statement: &str) {
        let commits = ["START TRANSACTION", "BEGIN", "COMMIT"].iter().any(|word| statement.starts_with(word));
        self.durable |= commits && self.recorded;
        self.recorded &= !commits && !statement.starts_with("ROLLBACK");
        self.recorded |= statement.starts_with("INSERT INTO `s`.`undo_log`");
        if statement.starts_with("START TRANSACTION") || statement.starts_with("BEGIN") {
            self.status |= status::IN_TRANS;
            self.wrote = false;
        } else if statement.starts_with("COMMIT") || statement.starts_with("ROLLBACK AND") {
            if !statement.ends_with(" AND CHAIN") {
                self.status &= !status::IN_TRANS;
            }
            self.wrote = false;
        } else if statement.starts_with("ROLLBACK TO") {
            self.wrote = false;
        }
    }

    /// A statement of the application's goes out: it must be in a local transaction.
    fn writes(&self, statement: &str) {
        let open = self.status & status::IN_TRANS != 0;
        let begins = self.status & status::AUTOCOMMIT == 0;
        assert!(open || begins, "a statement that writes would commit by itself: {statement}");
    }
}

/// How many columns a list of columns has that ends with FROM.
fn width(list: &str) -> usize {
    let (mut depth, mut width) = (0, 1);
    let list = list.split(" FROM ").next().unwrap_or(list);
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => width += 1,
            _ => {}
        }
    }
    width
}

/// `a|NULL;b|c`: two rows of two columns, which are numbers, but for those of texts in quotes. `/2`: no rows of two
/// columns.
fn rows(text: &str, status: u16) -> Rows {
    let (text, width) = match text.strip_prefix('/') {
        Some(width) => ("", width.parse().unwrap()),
        None => (text, text.split(';').next().map_or(0, |line| line.split('|').count())),
    };
    let lines = text.split(';').filter(|line| !line.is_empty());
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split('|').collect()).collect();
    let cell = |out: &mut Vec<u8>, cell: &str| match cell {
        "NULL" => out.push(0xfb),
        text => {
            let quoted = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            put_lenenc_bytes(out, quoted.unwrap_or(text).as_bytes());
        }
    };
    let row = |cells: &Vec<&str>| {
        let mut out = Vec::new();
        cells.iter().for_each(|text| cell(&mut out, text));
        Bytes::from(out)
    };
    let is_text =
        |at: usize| lines.iter().any(|line| line.get(at).is_some_and(|cell| cell.starts_with('\'')));
    let columns = (0..width).map(|at| definition("c", is_text(at))).collect();
    Rows { width, columns, rows: lines.iter().map(row).collect(), end: end(status) }
}

/// `a,b`: no rows of columns of these names.
fn named(names: &str, status: u16) -> Rows {
    let columns: Vec<Bytes> = names.split(',').map(|name| definition(name, false)).collect();
    Rows { width: columns.len(), columns, rows: Vec::new(), end: end(status) }
}

fn end(status: u16) -> Bytes {
    let mut end = OkPacket { status, ..OkPacket::default() }.encode();
    end[0] = 0xfe;
    end.into()
}

/// `Protocol::ColumnDefinition41` of a BIGINT, or of a VARCHAR in utf8mb4.
fn definition(name: &str, is_text: bool) -> Bytes {
    let mut out = Vec::new();
    for name in ["def", "", "", "", name, name] {
        put_lenenc_bytes(&mut out, name.as_bytes());
    }
    out.push(0x0c);
    // The charset, the length, the type, no flags, no decimals
    let (charset, kind) = if is_text { (45, 253) } else { (63, 8) };
    out.extend_from_slice(&[charset, 0, 20, 0, 0, 0, kind, 0, 0, 0, 0, 0]);
    out.into()
}

/// `\\t`, `\\r` and `\\n` in a file.
fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\r", "\r").replace("\\n", "\n")
}

/// What would fill the page: the text of an undo record.
fn shown(statement: &str) -> String {
    match statement.split_once("undo_log") {
        Some((head, rest)) if statement.starts_with("INSERT INTO") => {
            let columns = rest.split_once(" VALUES").map_or(rest, |(columns, _)| columns);
            format!("{head}undo_log{columns} VALUES …")
        }
        _ => statement.to_owned(),
    }
}

impl Server for FakeServer {
    fn status(&self) -> u16 {
        self.status
    }

    fn xid(&self) -> String {
        "x:1".to_owned()
    }

    fn prefix_bytes(&self) -> usize {
        0
    }

    fn run<'a>(&'a mut self, flight: Flight, _: Option<Arc<Vars>>) -> Step<'a, Result<Replies, End>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for (at, statement) in flight.statements().enumerate() {
                let mut statement = self.sent(statement);
                let is_theirs = flight.writes && at + 1 == flight.len();
                if is_theirs {
                    self.writes(&statement);
                    let file = if flight.file.is_some() { "   with the client's file" } else { "" };
                    statement.push_str(file);
                }
                self.log().say(format!("{} {statement}", if at == 0 { '>' } else { '+' }));
                all.push(self.answer(&statement)?);
                self.wrote |= is_theirs && matches!(all.last(), Some(Reply::Ok(_)));
                if matches!(all.last(), Some(Reply::Err(_))) {
                    break;
                }
            }
            Ok(Replies { all, out_of_memory: None })
        })
    }

    fn run_for_rows<'a>(
        &'a mut self,
        text: &'a [u8],
        _: Option<Arc<Vars>>,
    ) -> Step<'a, Result<Replies, End>> {
        Box::pin(async move {
            let statement = self.sent(text);
            self.writes(&statement);
            self.log().say(format!("> {statement}"));
            let reply = self.answer(&statement)?;
            self.wrote |= !matches!(reply, Reply::Err(_));
            Ok(Replies { all: vec![reply], out_of_memory: None })
        })
    }

    fn prepare<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Option<ErrPacket>, End>> {
        Box::pin(async move {
            let statement = self.sent(text);
            self.log().say(format!("> (prepare) {statement}"));
            Ok(match self.answer("")? {
                Reply::Err(error) => Some(error),
                _ => None,
            })
        })
    }

    fn ask_for_file<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Asked, End>> {
        Box::pin(async move {
            let statement = self.sent(text);
            self.writes(&statement);
            self.log().say(format!("> {statement}   with an empty file"));
            let answer = self.next("");
            self.log().say(format!("< {answer}"));
            let (kind, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
            Ok(match kind {
                "ok" | "file" => {
                    let reply = Reply::Ok(self.ok(""));
                    let file = if kind == "file" { unescaped(rest) } else { String::new() };
                    Asked::File(Bytes::from(file), reply)
                }
                "long" => Asked::TooLong,
                "error" => Asked::Failed(self.error(rest)),
                "lost" => return Err(self.lose()),
                other => panic!("what kind of file is {other}?"),
            })
        })
    }

    fn register<'a>(&'a mut self, branch: Registration) -> Step<'a, Result<u64, NotRegistered>> {
        Box::pin(async move {
            for (table, keys) in &branch.locks {
                self.log().say(format!("> (register) {table}: {}", keys.join(" ")));
            }
            match self.answer("")? {
                Reply::Ok(_) => Ok(7),
                Reply::Err(error) => Err(NotRegistered::Failed(error)),
                _ => panic!("a registration is answered with ok or an error"),
            }
        })
    }

    fn report(&self, branch_id: u64, committed: bool) {
        let open = self.status & status::IN_TRANS != 0;
        let found = self.log().lines.iter().any(|line| line.ends_with("= there"));
        assert!(self.durable || found || !committed, "reported as committed, and its record is not there");
        assert!(!self.durable && !open || committed, "reported as aborted, and may still be committed");
        let became = if committed { "committed" } else { "aborted" };
        self.log().say(format!("> (report) branch {branch_id}: {became}"));
    }
}
