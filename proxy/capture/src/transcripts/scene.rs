//! One case of a transcript: parsed, played, and written out again.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atone_facts::{BASE_TABLE, ColumnRow, Facts, IndexRow, TableInfo, TableRow};
use atone_sql::{Marks, Statement};
use atone_wire::caps::status;
use futures::executor::block_on;

use super::fake::{CAPABILITIES, FakeCatalog, FakeServer, Log};
use crate::commit::COMMIT;
use crate::heavy::Heavy;
use crate::outcome::{Done, Halt, Reason};
use crate::settings::Vars;
use crate::{Capture, Command, Limits, State};

const SCHEMA: &str = "s";

/// A case.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// All lines before the first statement, as they are.
    head: Vec<String>,
    mariadb: bool,
    open: bool,
    settings: Vec<String>,
    altered: Option<String>,
    tables: Vec<String>,
    /// What is run, each with what it is answered with.
    runs: Vec<String>,
    answers: VecDeque<String>,
}

impl Scene {
    /// Reads a case, whose first line is its name.
    pub(super) fn parse(text: &str) -> Scene {
        let mut scene = Scene::default();
        for (at, line) in text.lines().enumerate() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let mut in_head = at == 0;
            match word {
                _ if at == 0 => {}
                "" | "#" => in_head = scene.runs.is_empty() && word == "#",
                "server" => (scene.mariadb, in_head) = (rest == "mariadb", true),
                "open" => (scene.open, in_head) = (true, true),
                "set" => (scene.settings.push(rest.to_owned()), in_head = true).1,
                "altered" => (scene.altered, in_head) = (Some(rest.to_owned()), true),
                "table" => (scene.tables.push(rest.to_owned()), in_head = true).1,
                "run" | "commit" => scene.runs.push(line.to_owned()),
                "<" => scene.answers.push_back(rest.to_owned()),
                // What was sent, and what came of it
                ">" | "+" | "journal" | "done" | "halt" => {}
                other => panic!("{other}: no line of a transcript begins so"),
            }
            if in_head {
                scene.head.push(line.to_owned());
            }
        }
        scene
    }

    fn vars(&self) -> Vars {
        let mut vars = Vars { database: Some(SCHEMA.to_owned()), ..Vars::of_tests() };
        vars.mode.mariadb = self.mariadb;
        for setting in &self.settings {
            match setting.as_str() {
                "safe_updates" => vars.safe_updates = true,
                "autocommit off" => vars.autocommit = false,
                other => panic!("{other}: not a setting that transcripts know"),
            }
        }
        vars
    }

    /// Plays the case, and writes down what has come of it.
    pub(super) fn play(self) -> String {
        let vars = self.vars();
        let autocommit = if vars.autocommit { status::AUTOCOMMIT } else { 0 };
        let open = if self.open { status::IN_TRANS } else { 0 };
        let mut server = FakeServer {
            answers: self.answers.clone(),
            log: Mutex::new(Log::default()),
            status: autocommit | open,
        };
        let mut catalog = FakeCatalog { altered: self.altered.clone(), ..FakeCatalog::default() };
        for table in &self.tables {
            let info = table_info(table, self.mariadb);
            catalog.tables.insert(info.table.name.clone(), Arc::new(info));
        }
        let mut state = State { vars: Some(Arc::new(vars)), ..State::default() };
        let mut out = format!("case {}\n", self.head.join("\n"));
        for run in &self.runs {
            let mut command = Command::default();
            let mut capture = Capture {
                server: &mut server,
                catalog: &catalog,
                state: &mut state,
                command: &mut command,
                limits: LIMITS,
                heavy: Heavy(|work| work()),
                mariadb: self.mariadb,
                capabilities: CAPABILITIES,
                marks: Marks::new(1),
            };
            let ended = block_on(one(&mut capture, run));
            writeln!(out, "{run}").unwrap();
            for line in server.log.lock().unwrap().0.drain(..) {
                writeln!(out, "{line}").unwrap();
            }
            out.push_str(&state.branch.shown());
            writeln!(out, "{ended}").unwrap();
        }
        out
    }
}

const LIMITS: Limits = Limits {
    max_branch_rows: 100,
    max_branch_bytes: 1 << 20,
    max_statement_bytes: 1 << 20,
    undo_compress_bytes: 0,
    metadata_ttl: Duration::from_secs(3600),
};

/// Runs a statement, and says what it came to.
async fn one(capture: &mut Capture<'_>, run: &str) -> String {
    let Some(sql) = run.strip_prefix("run ") else {
        return match capture.commit_branch(COMMIT).await {
            Ok(_) => "done committed".to_owned(),
            Err(halt) => halted(halt),
        };
    };
    let mode = capture.assumed_mode();
    let analysis = atone_sql::analyze(sql.as_bytes(), mode);
    let sql = sql.as_bytes();
    let outcome = match &analysis.statement {
        Statement::Dml(dml) => capture.change(sql, dml, &analysis).await,
        Statement::Joined(joined) => capture.change_joined(sql, joined, &analysis).await,
        Statement::Insert(insert) => capture.insert(sql, insert, &analysis).await,
        Statement::Load(load) => capture.load(sql, load, &analysis).await,
        other => panic!("not a statement that is captured: {other:?}"),
    };
    match outcome {
        Ok(Done::Temporary) => "done temporary".to_owned(),
        Ok(Done::Written(written)) => format!("done {} affected", written.ok.affected_rows),
        Err(halt) => halted(halt),
    }
}

fn halted(halt: Halt) -> String {
    let reason = |reason| match reason {
        Reason::Refused(why) => format!("1235 {why}"),
        Reason::Error(error) => format!("{} {}", error.code, error.message),
    };
    let error = |error: atone_wire::response::ErrPacket| {
        format!("{} {}", error.code, String::from_utf8_lossy(&error.message))
    };
    match halt {
        Halt::Stopped(why) => format!("halt stopped: {}", reason(why)),
        Halt::TakenBack(why) => format!("halt taken back: {}", reason(why)),
        Halt::RolledBack(why) => format!("halt rolled back: {why}"),
        Halt::Unresolved(e) => format!("halt unresolved: {}", error(e)),
        Halt::Failed(e) | Halt::FailedBefore(e, _) => format!("halt failed: {}", error(e)),
        Halt::Uncommitted(e) => format!("halt uncommitted: {}", error(e)),
        Halt::End(end) => format!("halt ended: {end}"),
    }
}

/// `t: id int key, v int null`
fn table_info(text: &str, mariadb: bool) -> TableInfo {
    let (name, columns) = text.split_once(": ").unwrap();
    let (mut rows, mut indexes) = (Vec::new(), Vec::new());
    for column in columns.split(", ") {
        let words: Vec<&str> = column.split(' ').collect();
        let [column, column_type, rest @ ..] = words.as_slice() else { panic!("{column}: no column") };
        let has = |word: &str| rest.contains(&word);
        let data_type = column_type.split('(').next().unwrap();
        let text = matches!(data_type, "char" | "varchar" | "text");
        rows.push(ColumnRow {
            name: (*column).to_owned(),
            data_type: data_type.to_owned(),
            column_type: (*column_type).to_owned(),
            charset: text.then(|| "utf8mb4".to_owned()),
            collation: text.then(|| "utf8mb4_bin".to_owned()),
            is_nullable: if has("null") { "YES" } else { "NO" }.to_owned(),
            extra: if has("auto") { "auto_increment" } else { "" }.to_owned(),
            default: has("default").then(|| "0".to_owned()),
        });
        for (word, index) in [("key", "PRIMARY"), ("unique", *column)] {
            if has(word) {
                let index = index.to_owned();
                indexes.push(IndexRow {
                    index,
                    column: Some((*column).to_owned()),
                    prefix: None,
                    non_unique: false,
                });
            }
        }
    }
    let row = TableRow {
        schema: SCHEMA.to_owned(),
        name: name.to_owned(),
        engine: Some("InnoDB".to_owned()),
        table_type: BASE_TABLE.to_owned(),
    };
    TableInfo::assemble(row, Facts::default(), rows, indexes, mariadb)
}
