//! A case: tables, sessions, and what each session does, in one order.

use std::fmt::Write as _;

use atone_tests::effects::{Effect, Step};
use atone_tests::sql::text;
use atone_tests::{Bank, Flavor};

use crate::around::{Around, Kinds};
use crate::behind;
use crate::play::refusal;
use crate::rng::Rng;
use crate::schema::{self, Table};
use crate::statements::Author;

/// The clock of every session: values that depend on it are the same in every run.
const CLOCK: &str = "SET timestamp = 1711855800.25";

/// What a step is to the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Stands by itself.
    Plain,
    /// Shows the diagnostics of the step before: pointless where that one was refused.
    Diagnostics,
    /// A statement that writes rows, or is to do so.
    Write(Kind),
    /// Never dropped while shrinking: the clock, and each session's last word.
    Frame,
}

/// What kind of statement it is, for the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Its form, such as `INSERT IGNORE`.
    pub(crate) form: &'static str,
    /// What is special about its table.
    pub(crate) on: &'static str,
    /// It may generate numbers.
    pub(crate) numbers: bool,
}

/// A step of one session.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) session: usize,
    pub(crate) step: Step,
    pub(crate) role: Role,
}

/// A whole case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) flavor: Flavor,
    pub(crate) tables: Vec<Table>,
    /// What each server has before its tables.
    pub(crate) before: [Vec<String>; 2],
    /// The server of each session.
    pub(crate) sessions: Vec<Bank>,
    pub(crate) ops: Vec<Op>,
    /// Its statements may choose rows or values freely (RAND(), LIMIT without an order): two runs can't be compared,
    /// but a rollback must restore the rows all the same.
    pub(crate) volatile: bool,
    /// What it runs among.
    pub(crate) around: Around,
}

impl Case {
    /// The case of this seed, among these kinds of surroundings.
    pub(crate) fn new(flavor: Flavor, seed: u64, kinds: &Kinds) -> Self {
        let around = Around::draw(flavor, seed, kinds);
        let mut rng = Rng::new(seed);
        let volatile = rng.percent(10);
        let mut tables: Vec<Table> = Vec::new();
        let mut before: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        for (place, bank) in [Bank::One, Bank::Two].into_iter().enumerate() {
            let first = tables.len();
            for number in 0..rng.between(1, 3) {
                let parent = if rng.percent(45) && tables.len() > first {
                    Some(rng.between(first, tables.len() - 1))
                } else {
                    None
                };
                let made = schema::table(flavor, &mut rng, bank, number, parent.map(|p| &tables[p]));
                if let (Some(parent), "child by cascade") = (parent, made.trait_) {
                    tables[parent].trait_ = "parent of cascades";
                }
                tables.push(made);
            }
            if rng.percent(25) {
                before[place] = behind::trail();
                let at = rng.between(first, tables.len() - 1);
                let (trigger, what) = behind::trigger(&mut rng, &tables[at]);
                // MariaDB leaves the index of a virtual column as it was where a trigger sets what it is made of
                let stale = flavor == Flavor::MariaDb && what == "trigger that sets";
                if !(stale && tables[at].setup[0].contains("KEY (g)")) {
                    tables[at].setup.push(trigger);
                    tables[at].trait_ = what;
                    if what == behind::AUDITS && rng.percent(60) {
                        let all = behind::audit(&tables[at]);
                        tables[at].setup.extend(all);
                    }
                }
            }
            if rng.percent(10) {
                before[place].push(behind::FUNCTION.to_owned());
                let procedure = behind::procedure(&tables[first]);
                tables[first].setup.push(procedure);
            }
            if rng.percent(30) {
                let at = rng.between(first, tables.len() - 1);
                let view = behind::view(&mut rng, &tables[at], 0);
                tables.push(view);
            }
        }
        // The sessions of one server follow each other, for they would wait for each other's rows; those of two servers
        // are interleaved.
        let (mut sessions, mut queues) = (Vec::new(), Vec::new());
        for bank in [Bank::One, Bank::Two] {
            let mut queue = Vec::new();
            for _ in 0..rng.between(1, 2) {
                let session = sessions.len();
                sessions.push(bank);
                let mine: Vec<&Table> = tables.iter().filter(|t| t.bank == bank).collect();
                let mut author = Author::new(flavor, &mut rng, mine, volatile, &around);
                let routines = before[usize::from(bank == Bank::Two)].iter().any(|s| s == behind::FUNCTION);
                let talk = around.talks[session];
                let script = author.session(routines, talk);
                queue.push(Op { session, step: Step::Query(CLOCK.to_owned()), role: Role::Frame });
                if let Some(charset) = talk.charset {
                    let step = Step::Query(format!("SET NAMES {charset}"));
                    let role = if charset == "gbk" { Role::Frame } else { Role::Plain };
                    queue.push(Op { session, step, role });
                }
                queue.extend(script.into_iter().map(|(step, role)| Op { session, step, role }));
                if talk.charset == Some("gbk") {
                    // Its last word is to be understood
                    let step = Step::Query("SET NAMES utf8mb4".to_owned());
                    queue.push(Op { session, step, role: Role::Frame });
                }
                let end = if rng.percent(75) { "COMMIT" } else { "ROLLBACK" };
                queue.push(Op { session, step: Step::Query(end.to_owned()), role: Role::Frame });
            }
            queue.reverse();
            queues.push(queue);
        }
        let mut ops = Vec::new();
        while queues.iter().any(|q| !q.is_empty()) {
            let queue = rng.below(queues.len());
            ops.extend(queues[queue].pop());
        }
        Self { seed, flavor, tables, before, sessions, ops, volatile, around }
    }

    /// The statements that make its tables on one server.
    pub(crate) fn setup(&self, bank: Bank) -> impl Iterator<Item = &String> {
        let before = &self.before[usize::from(bank == Bank::Two)];
        before.iter().chain(self.tables.iter().filter(move |t| t.bank == bank).flat_map(|t| &t.setup))
    }

    /// Whether a statement that was refused may have used up generated numbers, or set LAST_INSERT_ID(), as none did
    /// in the straight run: it may have run and been taken back.
    pub(crate) fn used_up_numbers(&self, effects: &[Effect]) -> bool {
        let numbers = |op: &Op| match op.role {
            Role::Write(kind) => {
                // Those of rows that triggers add as well
                let audits = |t: &Table| t.setup.iter().any(|sql| sql.contains("INSERT INTO trail"));
                let bank = self.sessions[op.session];
                kind.numbers
                    || self.tables.iter().any(|t| t.bank == bank && audits(t))
                    || self.says_insert_id(op)
            }
            _ => false,
        };
        self.ops.iter().zip(effects).any(|(op, effect)| numbers(op) && refusal(effect).is_some())
    }

    /// Whether the statement, or one that its session has prepared and it executes, sets or reads LAST_INSERT_ID().
    fn says_insert_id(&self, op: &Op) -> bool {
        let says = |op: &Op| shown(&op.step).contains("LAST_INSERT_ID(");
        let executes = op.step.sql().starts_with("EXECUTE ");
        says(op) || executes && self.ops.iter().any(|other| other.session == op.session && says(other))
    }

    /// The case as a text that can be tried by hand.
    pub(crate) fn script(&self) -> String {
        let mut out = format!(
            "-- seed {} on {}{}\n",
            self.seed,
            self.flavor,
            if self.volatile { ", volatile" } else { "" }
        );
        let _ = writeln!(out, "-- {}", self.around.shown(self.sessions.len()));
        for bank in [Bank::One, Bank::Two] {
            for statement in self.setup(bank) {
                let _ = writeln!(out, "{}> {statement};", bank.resource());
            }
        }
        for op in &self.ops {
            let place = format!("session {} of {}", op.session, self.sessions[op.session].resource());
            let _ = writeln!(out, "{place}> {}", shown(&op.step));
        }
        out
    }
}

/// A step as text, with the parameters of a prepared one.
pub(crate) fn shown(step: &Step) -> String {
    match step {
        Step::Query(sql) => format!("{sql};"),
        Step::Many(all) => format!("{}; -- in one packet", all.join("; ")),
        Step::Load(sql, file) => format!("{sql}; -- of {:?}", String::from_utf8_lossy(file)),
        Step::Exec(sql, params) => {
            let params: Vec<String> = params.iter().map(|p| format!("{:?}", text(p))).collect();
            format!("{sql}; -- prepared, with ({})", params.join(", "))
        }
    }
}
