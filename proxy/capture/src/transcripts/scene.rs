//! One case of a transcript: parsed, played, and written out again.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atone_sql::{Marks, TableRef};
use atone_wire::caps::status;
use atone_wire::execute::Param;
use futures::executor::block_on;

use super::account::FakeAccount;
use super::fake::{CAPABILITIES, FakeServer};
use super::log::{Log, Shared, Step};
use super::play::one;
use super::tables;
use crate::heavy::Heavy;
use crate::settings::Vars;
use crate::{Capture, Command, Limits, State};

pub(super) const SCHEMA: &str = "s";

/// The servers on which a case is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum On {
    #[default]
    MySql,
    MariaDb,
    /// It goes the same way on both.
    Any,
}

/// A case.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) on: On,
    /// All lines before the first statement, as they are.
    head: Vec<String>,
    open: bool,
    known: bool,
    settings: Vec<String>,
    altered: Option<String>,
    tables: Vec<String>,
    views: Vec<String>,
    triggers: Vec<String>,
    foreign: Vec<String>,
    params: Vec<Param>,
    /// What is run.
    runs: Vec<String>,
    /// What is answered, in the order in which it is sent or asked.
    of_server: VecDeque<String>,
    of_account: VecDeque<String>,
}

/// A statement, what was sent and asked for it, and what it came to.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) run: String,
    lines: Vec<String>,
    journal: String,
    pub(super) end: String,
}

/// A case that was played on one server.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    pub(super) runs: Vec<Played>,
    pub(super) steps: Vec<Step>,
    /// The fault was met.
    pub(super) struck: bool,
}

impl Transcript {
    fn text(&self) -> String {
        let mut out = String::new();
        for Played { run, lines, journal, end } in &self.runs {
            writeln!(out, "{run}").unwrap();
            for line in lines {
                writeln!(out, "{line}").unwrap();
            }
            writeln!(out, "{journal}{end}").unwrap();
        }
        out
    }
}

impl Scene {
    /// Reads a case, whose first line is its name.
    pub(super) fn parse(text: &str) -> Scene {
        let mut scene = Scene::default();
        for (at, line) in text.lines().enumerate() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let text = || rest.to_owned();
            let mut in_head = true;
            match word {
                _ if at == 0 => {}
                "#" => in_head = scene.runs.is_empty(),
                "server" => scene.on = server(rest),
                "open" => scene.open = true,
                "known" => (scene.open, scene.known) = (true, true),
                "set" => scene.settings.push(text()),
                "altered" => scene.altered = Some(text()),
                "table" => scene.tables.push(text()),
                "view" => scene.views.push(text()),
                "trigger" => scene.triggers.push(text()),
                "foreign" => scene.foreign.push(text()),
                "params" => scene.params = rest.split(", ").map(param).collect(),
                _ => in_head = false,
            }
            match word {
                _ if in_head => scene.head.push(line.to_owned()),
                "run" | "commit" => scene.runs.push(line.to_owned()),
                "<" => scene.of_server.push_back(text()),
                "?" => scene.of_account.push_back(line.rsplit_once(" = ").unwrap().1.to_owned()),
                // What was sent, and what came of it
                "" | "#" | ">" | "+" | "journal" | "done" | "refused" | "halt" => {}
                other => panic!("{other}: no line of a transcript begins so"),
            }
        }
        scene
    }

    /// The case as a file has it: played on its servers, and as two where they part.
    pub(super) fn written(&self) -> String {
        let head = self.head.join("\n");
        let text = |mariadb| self.play(mariadb, None).text();
        match self.on {
            On::MySql => format!("case {head}\n{}", text(false)),
            On::MariaDb => format!("case {head}\n{}", text(true)),
            On::Any => {
                let (mysql, mariadb) = (text(false), text(true));
                if mysql == mariadb {
                    return format!("case {head}\n{mysql}");
                }
                let on = |name: &str| head.replace("server any", &format!("server {name}"));
                format!("case {}\n{mysql}\ncase {}\n{mariadb}", on("mysql"), on("mariadb"))
            }
        }
    }

    /// The servers on which it is played: whether they are MariaDB.
    pub(super) fn servers(&self) -> &'static [bool] {
        match self.on {
            On::MySql => &[false],
            On::MariaDb => &[true],
            On::Any => &[false, true],
        }
    }

    /// Its first line.
    pub(super) fn name(&self) -> &str {
        self.head.first().map(String::as_str).unwrap_or_default()
    }

    fn vars(&self, mariadb: bool, marks: Marks) -> Vars {
        let mut vars = Vars { database: Some(SCHEMA.to_owned()), ..Vars::of_tests() };
        vars.mode.mariadb = mariadb;
        vars.mode.marks = Some(marks);
        for setting in &self.settings {
            match setting.as_str() {
                "safe_updates" => vars.safe_updates = true,
                "autocommit off" => vars.autocommit = false,
                other => panic!("{other}: not a setting that transcripts know"),
            }
        }
        vars
    }

    /// Plays the case, up to the first statement that meets the fault: the answer of this step is another one.
    pub(super) fn play(&self, mariadb: bool, fault: Option<(usize, &str)>) -> Transcript {
        let marks = Marks::new(1);
        let vars = self.vars(mariadb, marks);
        let autocommit = if vars.autocommit { status::AUTOCOMMIT } else { 0 };
        let open = if self.open { status::IN_TRANS } else { 0 };
        let log = Shared::default();
        let views: Vec<_> = self.views.iter().map(|view| tables::view(view)).collect();
        let quoted: HashSet<String> = views.iter().map(|(name, _)| format!("`{SCHEMA}`.`{name}`")).collect();
        let mut server = FakeServer::new(log.clone(), mariadb, autocommit | open, marks, quoted);
        let infos = tables::tables(&self.tables, &self.triggers, &self.foreign, mariadb);
        let account = FakeAccount {
            log: log.clone(),
            answers: Mutex::default(),
            tables: infos.iter().map(|info| (info.table.name.clone(), info.clone())).collect(),
            views: views.into_iter().collect(),
            altered: self.altered.clone(),
        };
        let mut state = State { vars: Some(Arc::new(vars)), ..State::default() };
        if self.known {
            // Its tables were looked at before, and are held
            for info in &infos {
                let (mut command, table) =
                    (Command::default(), TableRef::named(None, info.table.name.clone()));
                let mut capture = capture(&mut server, &account, &mut state, &mut command);
                block_on(capture.reach(&table)).unwrap();
                state.branch.read(vec![(SCHEMA.to_owned(), info.table.name.clone())]);
            }
            *log.lock().unwrap() = Log::default();
        }
        server.answers = self.of_server.clone();
        *account.answers.lock().unwrap() = self.of_account.clone();
        log.lock().unwrap().fault = fault.map(|(at, answer)| (at, answer.to_owned()));
        let mut out = Transcript::default();
        for run in &self.runs {
            let mut command = Command::default();
            let mut capture = capture(&mut server, &account, &mut state, &mut command);
            let end = block_on(one(&mut capture, run, &self.params));
            let (progress, alone) = (capture.command.progress, capture.is_alone());
            server.check(&end, progress, alone, state.branch.rows());
            let mut log = log.lock().unwrap();
            let journal = state.branch.shown();
            out.runs.push(Played { run: run.clone(), lines: std::mem::take(&mut log.lines), journal, end });
            out.steps.clone_from(&log.steps);
            out.struck = log.struck;
            if out.struck {
                break;
            }
        }
        out
    }
}

/// The capture of one statement.
fn capture<'a>(
    server: &'a mut FakeServer,
    account: &'a FakeAccount,
    state: &'a mut State,
    command: &'a mut Command,
) -> Capture<'a> {
    let (mariadb, marks) = (server.mariadb, server.marks);
    let heavy = Heavy(|work| work());
    Capture {
        server,
        catalog: account,
        state,
        command,
        limits: LIMITS,
        heavy,
        mariadb,
        capabilities: CAPABILITIES,
        marks,
    }
}

const LIMITS: Limits = Limits {
    max_branch_rows: 100,
    max_branch_bytes: 1 << 20,
    max_statement_bytes: 1 << 20,
    undo_compress_bytes: 0,
    metadata_ttl: Duration::from_secs(3600),
};

fn server(name: &str) -> On {
    match name {
        "mysql" => On::MySql,
        "mariadb" => On::MariaDb,
        "any" => On::Any,
        other => panic!("{other}: no server that transcripts know"),
    }
}

/// `5`, `'x'` or `NULL`
fn param(text: &str) -> Param {
    match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(text) => Param::Text(text.as_bytes().to_vec()),
        None if text == "NULL" => Param::Null,
        None => Param::Int(text.parse().unwrap()),
    }
}
