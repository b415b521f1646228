//! Runs a case three ways and compares.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use atone_tests::cluster::SOON;
use atone_tests::effects::{Effect, Step};
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::Conn;

use crate::known;
use crate::script::{Case, Op, Role, shown};
use crate::stats::Stats;

const BANKS: [Bank; 2] = [Bank::One, Bank::Two];

/// How long a case may take.
const CASE_LIMIT: Duration = Duration::from_secs(60);

/// Why a case failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What kind of failure: a case is shrunk as long as it stays the same.
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

/// How a case went.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed(Stats),
    Failed(Failure),
}

/// A result that a failure of the case ends early; any other error ends the run.
type Checked<T> = Result<std::result::Result<T, Failure>>;

macro_rules! checked {
    ($result:expr) => {
        match $result? {
            Ok(value) => value,
            Err(failure) => return Ok(Err(failure)),
        }
    };
}

fn failure<T>(kind: &'static str, detail: impl Into<String>) -> Checked<T> {
    Ok(Err(Failure { kind, detail: detail.into() }))
}

/// Runs cases on one cluster.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    cluster: &'a Cluster,
    next: u64,
    admins: [Conn; 2],
}

/// A schema of one run, with the rows as they were.
struct Place {
    schema: String,
    before: Vec<String>,
}

impl<'a> Player<'a> {
    pub(crate) async fn new(cluster: &'a Cluster) -> Result<Self> {
        let admins = [cluster.bank1.admin().await?, cluster.bank2.admin().await?];
        Ok(Self { cluster, next: 1, admins })
    }

    /// Runs a case.
    pub(crate) async fn play(&mut self, case: &Case) -> Result<Outcome> {
        let number = self.next;
        self.next += 1;
        let schemas = ["a", "b", "c"].map(|run| format!("r{number:06}{run}"));
        let outcome = match tokio::time::timeout(CASE_LIMIT, self.three_runs(case, &schemas)).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                Err(Failure { kind: "hangs", detail: format!("the case did not end in {CASE_LIMIT:?}") })
            }
        };
        for admin in &mut self.admins {
            for schema in &schemas {
                sql::run(admin, format!("DROP DATABASE IF EXISTS {schema}")).await?;
            }
        }
        Ok(match outcome {
            Ok(stats) => Outcome::Passed(stats),
            Err(failure) => Outcome::Failed(failure),
        })
    }

    async fn three_runs(&mut self, case: &Case, schemas: &[String; 3]) -> Checked<Stats> {
        let mut places = Vec::new();
        for schema in schemas {
            places.push(self.prepare(case, schema).await?);
        }
        let [a, b, c] = &places[..] else { bail!("three schemas were to be made") };
        if a.before != b.before || a.before != c.before {
            bail!("the setup of seed {} does not give the same rows each time", case.seed);
        }
        let bound = checked!(self.bound(case, b, End::Commit).await);
        let committed = self.dump(case, &b.schema).await?;
        let stats = Stats::of(case, &bound);
        if !case.volatile {
            checked!(self.straight(case, a, &bound, &b.schema).await);
            let plain = self.dump(case, &a.schema).await?;
            if plain != committed {
                return failure(
                    "rows differ",
                    difference("straight", &plain, "bound and committed", &committed),
                );
            }
        }
        checked!(self.bound(case, c, End::Rollback).await);
        let restored = self.dump(case, &c.schema).await?;
        if restored != c.before {
            return failure("not restored", difference("before", &c.before, "after the rollback", &restored));
        }
        Ok(Ok(stats))
    }

    /// Makes the tables in a new schema on both servers.
    async fn prepare(&mut self, case: &Case, schema: &str) -> Result<Place> {
        for bank in BANKS {
            let admin = &mut self.admins[index(bank)];
            sql::run(
                admin,
                format!(
                    "CREATE DATABASE {schema} CHARACTER SET utf8mb4; USE {schema}; SET timestamp = 1700000000; \
                     SET time_zone = '+00:00'; SET sql_mode = ''"
                ),
            )
            .await?;
            for statement in case.setup(bank) {
                let made = sql::run(admin, statement).await;
                // A first row that even IGNORE can't make is left out, in every run alike.
                if !statement.starts_with("INSERT") {
                    made.with_context(|| format!("the setup of seed {}", case.seed))?;
                }
            }
        }
        let before = self.dump(case, schema).await?;
        Ok(Place { schema: schema.to_owned(), before })
    }

    /// All rows of all tables to the bit, and the servers' checksums.
    async fn dump(&mut self, case: &Case, schema: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for table in &case.tables {
            let admin = &mut self.admins[index(table.bank)];
            all.push(format!("-- {} {}", table.bank.resource(), table.name));
            sql::run(admin, format!("USE {schema}")).await?;
            all.extend(sql::rows(admin, table.exact()).await?);
            // MariaDB's checksum of virtual columns depends on more than their values: rows alike have given two sums.
            if table.setup[0].contains(" VIRTUAL") && case.flavor == Flavor::MariaDb {
                continue;
            }
            let sum = sql::cell(admin, format!("CHECKSUM TABLE {}", table.name)).await?;
            all.push(sum.replace(schema, "<schema>"));
        }
        Ok(all)
    }

    /// Runs the case through the proxy, bound to one global transaction, and ends that.
    async fn bound(&mut self, case: &Case, place: &Place, end: End) -> Checked<Vec<Effect>> {
        let mut sessions = Vec::new();
        let mut xid = String::new();
        for &bank in &case.sessions {
            let mut conn = self.cluster.app(bank, &place.schema).await?;
            if xid.is_empty() {
                xid = sql::start_global(&mut conn).await?;
            } else {
                sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
            }
            sessions.push(conn);
        }
        let mut effects: Vec<Effect> = Vec::new();
        for op in &case.ops {
            let effect = match op.step.run(&mut sessions[op.session]).await {
                Ok(effect) => effect,
                Err(error) => return failure("broken", format!("{}\n{error:#}", shown(&op.step))),
            };
            if let Some(reason) = refusal(&effect)
                && late(&reason)
            {
                return failure("refused late", format!("{}\n{reason}", shown(&op.step)));
            }
            effects.push(effect);
        }
        let (word, status) = match end {
            End::Commit => ("COMMIT", "committed"),
            End::Rollback => ("ROLLBACK", "rolled_back"),
        };
        if let Err(error) = sql::run(&mut sessions[0], format!("{word} GLOBAL TRANSACTION")).await {
            return failure("the global end fails", format!("{error:#}"));
        }
        if let Err(error) = self.cluster.rest().wait_for_status(&xid, status, SOON).await {
            return failure("no global end", format!("{error:#}"));
        }
        if let Err(error) = self.nothing_left(&place.schema, &xid).await {
            return failure("left over", format!("{error:#}"));
        }
        for conn in sessions {
            conn.disconnect().await?;
        }
        Ok(Ok(effects))
    }

    /// Waits until no undo row and no lock is left.
    async fn nothing_left(&mut self, schema: &str, xid: &str) -> Result<()> {
        let cluster = self.cluster;
        until(&format!("no locks of {xid}"), SOON, || async {
            Ok(cluster.rest().locks(xid).await?.is_empty().then_some(()))
        })
        .await?;
        for admin in &mut self.admins {
            let there = format!(
                "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME = 'undo_log'"
            );
            if sql::cell(admin, there).await? == "0" {
                continue;
            }
            let admin = tokio::sync::Mutex::new(admin);
            until(&format!("no undo rows of {xid}"), SOON, || async {
                let mut admin = admin.lock().await;
                let count = sql::cell(&mut admin, format!("SELECT COUNT(*) FROM {schema}.undo_log")).await?;
                Ok((count == "0").then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Runs what was not refused straight on the servers, and compares the effects.
    async fn straight(&mut self, case: &Case, place: &Place, bound: &[Effect], other: &str) -> Checked<()> {
        let mut sessions = Vec::new();
        for &bank in &case.sessions {
            sessions.push(self.cluster.direct(bank, &place.schema).await?);
        }
        let mut refused_before = vec![false; sessions.len()];
        let mut last = vec![String::new(); sessions.len()];
        let mut failed_before = vec![false; sessions.len()];
        let mut failed_prepared = failed_before.clone();
        for (op, seen) in case.ops.iter().zip(bound) {
            if refusal(seen).is_some() {
                refused_before[op.session] = true;
                continue;
            }
            // After a refusal the diagnostics are the refusal's.
            if op.role == Role::Diagnostics && refused_before[op.session] {
                continue;
            }
            refused_before[op.session] = false;
            let counts = op.step.sql().contains("@@") || op.step.sql().starts_with("SHOW COUNT");
            let doubtful = failed_prepared[op.session] || (counts && failed_before[op.session]);
            if op.role == Role::Diagnostics && doubtful && !known::COUNTS_AFTER_ERRORS {
                continue;
            }
            if op.role != Role::Diagnostics {
                failed_before[op.session] = seen.error.is_some();
                failed_prepared[op.session] = seen.error.is_some() && matches!(op.step, Step::Exec(..));
            }
            let plain = op.step.run(&mut sessions[op.session]).await?;
            let (plain, seen) = (normal(op, plain, &place.schema), normal(op, seen.clone(), other));
            if plain != seen {
                return failure(
                    "effects differ",
                    format!(
                        "{}\nstraight: {plain:?}\nbound:    {seen:?}\nbefore it: {}",
                        shown(&op.step),
                        last[op.session]
                    ),
                );
            }
            last[op.session] = format!("{} {plain:?}", shown(&op.step));
        }
        for conn in sessions {
            conn.disconnect().await?;
        }
        Ok(Ok(()))
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Rollback,
}

fn index(bank: Bank) -> usize {
    match bank {
        Bank::One => 0,
        Bank::Two => 1,
    }
}

/// Why the proxy refused a statement, if it did.
pub(crate) fn refusal(effect: &Effect) -> Option<String> {
    let error = effect.error.as_ref().filter(|e| e.code == 1235 && e.message.starts_with("atone:"))?;
    Some(error.message.clone())
}

/// Refusals that are found only after the statement ran: every statement is refused before it runs, or can be undone.
fn late(reason: &str) -> bool {
    [
        "is not as its statement left it",
        "changed under another key",
        "after images cannot be read",
        "the undo record",
    ]
    .iter()
    .any(|late| reason.contains(late))
}

/// An effect without what may differ: the schema's name.
fn normal(op: &Op, mut effect: Effect, schema: &str) -> Effect {
    if !known::INFO_OF_NO_ROWS
        && writes(&op.step)
        && effect.info.starts_with("Rows matched: 0  Changed: 0  Warnings: ")
    {
        effect.info = String::new();
    }
    let asks = writes(&op.step) && op.step.sql().contains("(SELECT ");
    if !known::SUBQUERIES_BESIDE_ASSIGNMENTS
        && asks
        && let Some((rows, _)) = effect.info.split_once("  Warnings: ")
    {
        effect.info = rows.to_owned();
    }
    for text in effect.error.iter_mut().map(|e| &mut e.message).chain(&mut effect.rows) {
        *text = text.replace(schema, "<schema>");
        // How many rows an UPDATE or DELETE has looked at before one gives an error or a warning, and whether it does so
        // by a temporary table, is up to the server's plan.
        if op.role != Role::Plain && !op.step.sql().to_ascii_uppercase().starts_with("INSERT") {
            *text = without_row_number(&text.replace("``.`(temporary)`.", ""));
        }
    }
    effect
}

/// The text of an error or warning without the table in front of its column, and without its row's number.
fn without_row_number(text: &str) -> String {
    let (head, tail) = match text.rsplit_once(" at row ") {
        Some((head, number)) if number.bytes().all(|b| b.is_ascii_digit()) => (head, " at row N"),
        _ => (text, ""),
    };
    let head = match (head.find("`<schema>`."), head.rfind("`.`")) {
        (Some(start), Some(last)) if start < last => format!("{}{}", &head[..start], &head[last + 2..]),
        _ => head.to_owned(),
    };
    head + tail
}

fn difference(one: &str, a: &[String], other: &str, b: &[String]) -> String {
    let mut out = String::new();
    let (only_a, only_b): (Vec<_>, Vec<_>) =
        (a.iter().filter(|l| !b.contains(l)).collect(), b.iter().filter(|l| !a.contains(l)).collect());
    out += &format!("only {one}:\n");
    only_a.iter().for_each(|l| out += &format!("  {l}\n"));
    out += &format!("only {other}:\n");
    only_b.iter().for_each(|l| out += &format!("  {l}\n"));
    out
}

/// Whether a step is one that writes, for the figures.
pub(crate) fn writes(step: &Step) -> bool {
    let word =
        step.sql().trim_start_matches("/* c */ ").split(' ').next().unwrap_or_default().to_ascii_uppercase();
    matches!(word.as_str(), "INSERT" | "UPDATE" | "DELETE" | "REPLACE")
}
