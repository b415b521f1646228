//! A server and a service account that answer as they are told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use atone_facts::{
    AuditTable, NumberedTable, Qualified, ReadError, ServiceError, Stale, TableError, TableInfo,
    UncommittedNumbers, UndoLogError, ViewDefinition,
};
use atone_undo::{Row, Table};
use atone_wire::caps::{client, status};
use atone_wire::read::put_lenenc_bytes;
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Bytes;

use crate::error::End;
use crate::flight::{Flight, Replies, Reply, Rows};
use crate::journal::Met;
use crate::port::{Asked, Catalog, NotRegistered, Registration, Server, Step};
use crate::settings::Vars;

/// The capabilities of the fake client.
pub(super) const CAPABILITIES: u64 = client::DEPRECATE_EOF;

/// What was sent, and what it was answered with, line by line.
#[derive(Debug, Default)]
pub(super) struct Log(pub(super) Vec<String>);

/// The server: answers each statement with the next of its answers.
#[derive(Debug)]
pub(super) struct FakeServer {
    pub(super) answers: VecDeque<String>,
    pub(super) log: Mutex<Log>,
    pub(super) status: u16,
}

impl FakeServer {
    fn say(&self, line: String) {
        self.log.lock().unwrap().0.push(line);
    }

    /// What there is to answer, where nothing is said.
    fn plain(statement: &str) -> &'static str {
        match statement {
            s if s.starts_with("SHOW CREATE TABLE") => "rows t|CREATE TABLE",
            s if s.starts_with("SELECT") || s.starts_with("SHOW") => "rows",
            _ => "ok",
        }
    }

    fn answer(&mut self, statement: &str) -> Result<Reply, End> {
        let answer = self.answers.pop_front().unwrap_or_else(|| Self::plain(statement).to_owned());
        self.say(format!("< {answer}"));
        let (kind, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
        if kind == "ok" {
            self.follow(statement);
        }
        Ok(match kind {
            "ok" => {
                let mut numbers = rest.split_whitespace().map(|n| n.parse::<u64>().unwrap());
                Reply::Ok(OkPacket {
                    affected_rows: numbers.next().unwrap_or(0),
                    last_insert_id: numbers.next().unwrap_or(0),
                    status: self.status,
                    ..OkPacket::default()
                })
            }
            "rows" => Reply::Rows(rows(rest, self.status)),
            "large" => Reply::TooLarge,
            "error" => {
                let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
                if text.contains("[rolled back]") {
                    self.status &= !status::IN_TRANS;
                }
                Reply::Err(ErrPacket {
                    code: code.parse().unwrap(),
                    sql_state: *b"HY000",
                    message: text.as_bytes().to_vec(),
                })
            }
            "lost" => return Err(End::Server(io::ErrorKind::ConnectionReset.into())),
            other => panic!("what kind of answer is {other}?"),
        })
    }

    /// A server's status flags follow its statements.
    fn follow(&mut self, statement: &str) {
        if statement.starts_with("START TRANSACTION") {
            self.status |= status::IN_TRANS;
        } else if statement.starts_with("COMMIT") || statement.starts_with("ROLLBACK AND") {
            self.status &= !status::IN_TRANS;
        }
    }
}

/// `a|NULL;b|c`: two rows of two columns. `/2`: no rows of two columns.
fn rows(text: &str, status: u16) -> Rows {
    let (text, width) = match text.strip_prefix('/') {
        Some(width) => ("", width.parse().unwrap()),
        None => (text, text.split(';').next().map_or(0, |line| line.split('|').count())),
    };
    let lines = text.split(';').filter(|line| !line.is_empty());
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split('|').collect()).collect();
    let cell = |out: &mut Vec<u8>, cell: &str| match cell {
        "NULL" => out.push(0xfb),
        text => put_lenenc_bytes(out, text.as_bytes()),
    };
    let row = |cells: &Vec<&str>| {
        let mut out = Vec::new();
        cells.iter().for_each(|text| cell(&mut out, text));
        Bytes::from(out)
    };
    let mut end = OkPacket { status, ..OkPacket::default() }.encode();
    end[0] = 0xfe;
    Rows { width, columns: vec![definition(); width], rows: lines.iter().map(row).collect(), end: end.into() }
}

/// `Protocol::ColumnDefinition41` of a BIGINT.
fn definition() -> Bytes {
    let mut out = Vec::new();
    for name in ["def", "", "", "", "c", "c"] {
        put_lenenc_bytes(&mut out, name.as_bytes());
    }
    out.push(0x0c);
    // The binary charset, the length, the type, no flags, no decimals
    out.extend_from_slice(&[63, 0, 20, 0, 0, 0, 8, 0, 0, 0, 0, 0]);
    out.into()
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
                let statement = String::from_utf8_lossy(statement).into_owned();
                self.say(format!("{} {}", if at == 0 { '>' } else { '+' }, shown(&statement)));
                all.push(self.answer(&statement)?);
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
        vars: Option<Arc<Vars>>,
    ) -> Step<'a, Result<Replies, End>> {
        self.run(Flight::of(text), vars)
    }

    fn prepare<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Option<ErrPacket>, End>> {
        Box::pin(async move {
            let statement = String::from_utf8_lossy(text).into_owned();
            self.say(format!("> (prepare) {statement}"));
            Ok(match self.answer("")? {
                Reply::Err(error) => Some(error),
                _ => None,
            })
        })
    }

    fn ask_for_file<'a>(&'a mut self, text: &'a [u8]) -> Step<'a, Result<Asked, End>> {
        Box::pin(async move {
            let statement = String::from_utf8_lossy(text).into_owned();
            self.say(format!("> (file) {statement}"));
            let file = self.answers.pop_front().unwrap_or_default();
            self.say(format!("< {file}"));
            let reply = Reply::Ok(OkPacket { status: self.status, ..OkPacket::default() });
            Ok(Asked::File(Bytes::from(file.replace("\\n", "\n")), reply))
        })
    }

    fn register<'a>(&'a mut self, branch: Registration) -> Step<'a, Result<u64, NotRegistered>> {
        Box::pin(async move {
            for (table, keys) in &branch.locks {
                self.say(format!("> (register) {table}: {}", keys.join(" ")));
            }
            match self.answer("")? {
                Reply::Ok(_) => Ok(7),
                Reply::Err(error) => Err(NotRegistered::Failed(error)),
                _ => panic!("a registration is answered with ok or an error"),
            }
        })
    }

    fn report(&self, branch_id: u64, committed: bool) {
        self.say(format!(
            "> (report) branch {branch_id}: {}",
            if committed { "committed" } else { "aborted" }
        ));
    }
}

/// The service account: knows the tables of the case, and that nothing has changed.
#[derive(Debug, Default)]
pub(super) struct FakeCatalog {
    pub(super) tables: HashMap<String, Arc<TableInfo>>,
    /// Why each table is another than it was.
    pub(super) altered: Option<String>,
}

fn ready<'a, T: Send + 'a>(value: T) -> Step<'a, T> {
    Box::pin(std::future::ready(value))
}

impl FakeCatalog {
    fn stale(&self) -> Result<(), Stale> {
        self.altered.clone().map_or(Ok(()), |why| Err(Stale::Changed(why)))
    }
}

impl Catalog for FakeCatalog {
    fn resource(&self) -> &str {
        "bank1"
    }

    fn table<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
        _: &'a [u8],
    ) -> Step<'a, Result<Arc<TableInfo>, TableError>> {
        let found = self.tables.get(name).cloned();
        ready(found.ok_or_else(|| TableError::NoTable(format!("{schema}.{name}"))))
    }

    fn verify<'a>(&'a self, _: &'a Arc<TableInfo>, _: bool) -> Step<'a, Result<(), Stale>> {
        ready(self.stale())
    }

    fn begin_verify(&self, _: Vec<Met>, _: Vec<Qualified>) -> Step<'static, Result<(), Stale>> {
        ready(Ok(()))
    }

    fn read_refusal<'a>(&'a self, _: Vec<Qualified>) -> Step<'a, Result<Option<String>, ServiceError>> {
        ready(Ok(None))
    }

    fn view<'a>(&'a self, _: &'a str, _: &'a str) -> Step<'a, Result<Option<ViewDefinition>, ServiceError>> {
        ready(Ok(None))
    }

    fn ensure_undo_log<'a>(&'a self, _: &'a str) -> Step<'a, Result<(), UndoLogError>> {
        ready(Ok(()))
    }

    fn has_undo_row<'a>(&'a self, _: &'a str, _: &'a str, _: u64) -> Step<'a, Result<bool, ServiceError>> {
        ready(Ok(false))
    }

    fn first_number<'a>(&'a self, _: &'a AuditTable) -> Step<'a, Result<i128, ServiceError>> {
        ready(Ok(1))
    }

    fn uncommitted<'a>(
        &'a self,
        _: &'a NumberedTable,
        _: i128,
        _: usize,
    ) -> Step<'a, Result<UncommittedNumbers, ServiceError>> {
        ready(Ok(UncommittedNumbers { ids: Vec::new(), next: None }))
    }

    fn committed<'a>(
        &'a self,
        _: &'a NumberedTable,
        _: &'a [i128],
        _: usize,
    ) -> Step<'a, Result<HashSet<i128>, ServiceError>> {
        ready(Ok(HashSet::new()))
    }

    fn committed_rows<'a>(&'a self, _: &'a Table, _: &'a [String]) -> Step<'a, Result<Vec<Row>, ReadError>> {
        ready(Ok(Vec::new()))
    }
}
