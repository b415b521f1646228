//! Runs a case three ways and compares.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use atone_tests::cluster::SOON;
use atone_tests::effects::{Effect, Step};
use atone_tests::server::APP;
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::behind::TRAIL;
use crate::disturb::{Disturber, take_kill};
use crate::known;
use crate::plan;
use crate::script::{Case, Op, Role, shown};
use crate::single::Single;
use crate::stats::{Excuse, Stats};

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
    /// The server did not make its tables.
    Unmade(String),
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

/// Runs cases on one cluster, one after the other.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    cluster: &'a Cluster,
    single: &'a Single,
    number: usize,
    next: u64,
    admins: [Conn; 2],
}

/// A schema of one run, with the rows as they were.
struct Place {
    schema: String,
    before: Vec<String>,
}

impl<'a> Player<'a> {
    /// The player of this number: their schemas differ.
    pub(crate) async fn new(cluster: &'a Cluster, single: &'a Single, number: usize) -> Result<Self> {
        let admins = [cluster.bank1.admin().await?, cluster.bank2.admin().await?];
        Ok(Self { cluster, single, number, next: 1, admins })
    }

    /// The sessions of a case, each on the port of its server.
    async fn sessions(&self, case: &Case, schema: &str, port: impl Fn(Bank) -> u16) -> Result<Vec<Conn>> {
        let prelude = case.around.era.prelude(case.flavor);
        let mut sessions = Vec::new();
        for (&bank, talk) in case.sessions.iter().zip(case.around.talks) {
            let port = if talk.single { self.single.port(port(bank))? } else { port(bank) };
            // What is too large is for the server to say
            let options = sql::options(port, APP, Some(schema)).max_allowed_packet(Some(64 << 20));
            let mut conn = sql::connect_with(options).await?;
            for statement in &prelude {
                sql::run(&mut conn, statement).await?;
            }
            if case.around.disturbed {
                // A COMMIT that was killed leaves the rows locked that another session of the case may want
                sql::run(&mut conn, "SET innodb_lock_wait_timeout = 1").await?;
            }
            sessions.push(conn);
        }
        Ok(sessions)
    }

    /// Runs a case.
    pub(crate) async fn play(&mut self, case: &Case) -> Result<Outcome> {
        let number = self.next;
        self.next += 1;
        let schemas = ["a", "b", "c"].map(|run| format!("r{}_{number:06}{run}", self.number));
        let outcome = match tokio::time::timeout(CASE_LIMIT, self.three_runs(case, &schemas)).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let detail = format!("the case did not end in {CASE_LIMIT:?}");
                Outcome::Failed(Failure { kind: "hangs", detail })
            }
        };
        for admin in &mut self.admins {
            let all = schemas.each_ref().map(|schema| format!("DROP DATABASE IF EXISTS {schema}"));
            sql::run(admin, all.join("; ")).await?;
        }
        Ok(outcome)
    }

    async fn three_runs(&mut self, case: &Case, schemas: &[String; 3]) -> Result<Outcome> {
        let [a, b, c] = match self.prepare(case, schemas).await? {
            Ok(places) => places,
            Err(why) => return Ok(Outcome::Unmade(why)),
        };
        if a.before != b.before || a.before != c.before {
            bail!("the setup of seed {} does not give the same rows each time", case.seed);
        }
        Ok(match self.compare(case, &a, &b, &c).await? {
            Ok(stats) => Outcome::Passed(stats),
            Err(failure) => Outcome::Failed(failure),
        })
    }

    async fn compare(&mut self, case: &Case, a: &Place, b: &Place, c: &Place) -> Checked<Stats> {
        let bound = checked!(self.bound(case, b, End::Commit).await);
        let committed = self.dump(case, &b.schema).await?;
        let mut stats = Stats::of(case, &bound);
        if case.volatile {
            stats.excuse(Excuse::Volatile);
        } else if case.around.disturbed {
            stats.excuse(Excuse::Disturbed);
        } else if let Err(failure) = self.as_straight(case, a, &bound, b, &committed).await? {
            if failure.kind == OTHER_PLAN {
                stats.excuse(Excuse::OtherPlan);
            } else if case.used_up_numbers(&bound) {
                stats.excuse(Excuse::UsedUpNumbers);
            } else {
                return Ok(Err(failure));
            }
        }
        checked!(self.bound(case, c, End::Rollback).await);
        let restored = self.dump(case, &c.schema).await?;
        if restored != c.before {
            return failure("not restored", difference("before", &c.before, "after the rollback", &restored));
        }
        Ok(Ok(stats))
    }

    /// Runs the case straight, and compares what it shows and leaves behind.
    async fn as_straight(
        &mut self,
        case: &Case,
        a: &Place,
        bound: &[Effect],
        b: &Place,
        committed: &[String],
    ) -> Checked<()> {
        checked!(self.straight(case, a, bound, &b.schema).await);
        let plain = self.dump(case, &a.schema).await?;
        if plain != committed {
            return failure("rows differ", difference("straight", &plain, "bound and committed", committed));
        }
        Ok(Ok(()))
    }

    /// Makes the tables in new schemas on both servers. The inner error: a server does not make them.
    async fn prepare(
        &mut self,
        case: &Case,
        schemas: &[String; 3],
    ) -> Result<std::result::Result<[Place; 3], String>> {
        for bank in BANKS {
            let admin = &mut self.admins[index(bank)];
            let mut good: Vec<&str> = Vec::new();
            for schema in schemas {
                let begin = format!(
                    "CREATE DATABASE {schema} CHARACTER SET utf8mb4; USE {schema}; SET timestamp = 1700000000; \
                     SET time_zone = '+00:00'; SET sql_mode = ''"
                );
                sql::run(admin, begin).await?;
                if !good.is_empty() {
                    sql::run(admin, good.join("; ")).await?;
                    continue;
                }
                for statement in case.setup(bank) {
                    match sql::run(admin, statement).await {
                        Ok(()) => good.push(statement),
                        // A first row that even IGNORE can't make is left out, in every run alike.
                        Err(_) if statement.starts_with("INSERT") => {}
                        Err(error) => return Ok(Err(format!("{error:#}"))),
                    }
                }
            }
        }
        if case.flavor == Flavor::MySql {
            self.settle_counters(case, schemas).await?;
        }
        let mut places = Vec::new();
        for schema in schemas {
            let before = self.dump(case, schema).await?;
            places.push(Place { schema: schema.to_owned(), before });
        }
        let places: [Place; 3] =
            places.try_into().map_err(|_| anyhow::anyhow!("three schemas were to be made"))?;
        Ok(Ok(places))
    }

    /// Has all runs begin with the same counters. A number that was given to a row, of which nothing came, moves
    /// MySQL's counter once the table is opened again: the connections of one of its table caches would get other
    /// numbers than the rest.
    async fn settle_counters(&mut self, case: &Case, schemas: &[String; 3]) -> Result<()> {
        for bank in BANKS {
            let numbered = case.tables.iter().filter(|t| t.bank == bank && !t.view && t.numbered());
            let names: Vec<String> = numbered
                .flat_map(|table| schemas.iter().map(move |schema| format!("{schema}.{}", table.name)))
                .collect();
            if !names.is_empty() {
                sql::run(&mut self.admins[index(bank)], format!("FLUSH LOCAL TABLES {}", names.join(", ")))
                    .await?;
            }
        }
        Ok(())
    }

    /// All rows of all tables to the bit, and the servers' checksums.
    async fn dump(&mut self, case: &Case, schema: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for bank in BANKS {
            let mut queries = Vec::new();
            let mut summed = Vec::new();
            for table in case.tables.iter().filter(|t| t.bank == bank && !t.view) {
                queries.push(table.exact());
                // MariaDB's checksum of virtual columns depends on more than their values: rows alike have given two
                // sums.
                if case.flavor == Flavor::MySql || !table.setup[0].contains(" VIRTUAL") {
                    summed.push(table.name.as_str());
                }
            }
            if case.before[index(bank)].len() > 1 {
                queries.extend(TRAIL.map(str::to_owned));
                summed.extend(["trail", "tally"]);
            }
            if !summed.is_empty() {
                queries.push(format!("CHECKSUM TABLE {}", summed.join(", ")));
            }
            let admin = &mut self.admins[index(bank)];
            sql::run(admin, format!("USE {schema}")).await?;
            let mut result = admin.query_iter(queries.join("; ")).await?;
            for query in &queries {
                all.push(format!("-- {}: {query}", bank.resource()));
                let rows: Vec<Row> = result.collect().await?;
                all.extend(rows.into_iter().map(|row| {
                    let cells: Vec<String> = row.unwrap().iter().map(sql::text).collect();
                    cells.join("|").replace(schema, "<schema>")
                }));
            }
            result.drop_result().await?;
        }
        Ok(all)
    }

    /// Runs the case through the proxy, bound to one global transaction, and ends that.
    async fn bound(&mut self, case: &Case, place: &Place, end: End) -> Checked<Vec<Effect>> {
        let cluster = self.cluster;
        let mut sessions = self.sessions(case, &place.schema, |bank| cluster.proxy_port(bank)).await?;
        let mut xid = String::new();
        for conn in &mut sessions {
            if xid.is_empty() {
                xid = sql::start_global(conn).await?;
            } else {
                sql::run(conn, format!("SET @atone_xid = '{xid}'")).await?;
            }
        }
        // Aborted where it is dropped
        let mut others = JoinSet::new();
        let now = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        if case.around.disturbed {
            let disturber = Disturber::new(cluster, case, &place.schema, &mut sessions, now.clone()).await?;
            others.spawn(disturber.disturb(stopped));
        }
        let mut effects: Vec<Effect> = Vec::new();
        for op in &case.ops {
            now.store(op.session, Ordering::Relaxed);
            let effect = match op.step.run(&mut sessions[op.session]).await {
                Ok(effect) => effect,
                Err(error) => return failure("broken", format!("{}\n{error:#}", shown(&op.step))),
            };
            if let Some(reason) = refusal(&effect)
                && late(op, &reason)
            {
                let before: Vec<String> = case
                    .ops
                    .iter()
                    .zip(&effects)
                    .map(|(op, effect)| format!("{}\n  {effect:?}", shown(&op.step)))
                    .collect();
                return failure(
                    "refused late",
                    format!("{}\n{reason}\nbehind:\n{}", shown(&op.step), before.join("\n")),
                );
            }
            effects.push(effect);
        }
        if case.around.disturbed {
            // Where nobody hears it, it has ended with an error
            let _ = stop.send(());
            while let Some(ended) = others.join_next().await {
                ended??;
            }
            for conn in &mut sessions {
                take_kill(conn).await?;
                // A COMMIT that was killed has not ended its local transaction
                sql::run(conn, "COMMIT").await?;
            }
        }
        let (word, status) = match end {
            End::Commit => ("COMMIT", "committed"),
            End::Rollback => ("ROLLBACK", "rolled_back"),
        };
        if let Err(error) = sql::run(&mut sessions[0], format!("{word} GLOBAL TRANSACTION")).await {
            let known = self.cluster.rest().transaction(&xid).await?;
            return failure("the global end fails", format!("{error:#}\n{known}"));
        }
        if let Err(error) = self.cluster.rest().wait_for_status(&xid, status, SOON).await {
            return failure("no global end", format!("{error:#}"));
        }
        if let Err(error) = self.nothing_left(&place.schema, &xid).await {
            let left = self.left(&place.schema).await;
            return failure("left over", format!("{error:#}\n{}", left.join("\n")));
        }
        for conn in sessions {
            conn.disconnect().await?;
        }
        Ok(Ok(effects))
    }

    /// The undo rows that are left on each server.
    async fn left(&mut self, schema: &str) -> Vec<String> {
        let mut out = Vec::new();
        for (admin, bank) in self.admins.iter_mut().zip(BANKS) {
            let query = format!("SELECT branch_id, log_status, log_created FROM {schema}.undo_log");
            out.push(format!("{}: {:?}", bank.resource(), sql::rows(admin, query).await));
        }
        out
    }

    /// Waits until no undo row and no lock is left.
    async fn nothing_left(&mut self, schema: &str, xid: &str) -> Result<()> {
        let cluster = self.cluster;
        until(&format!("no locks of {xid}"), SOON, || async {
            Ok(cluster.rest().locks(xid).await?.is_empty().then_some(()))
        })
        .await?;
        for admin in &mut self.admins {
            let admin = tokio::sync::Mutex::new(admin);
            until(&format!("no undo rows of {xid}"), SOON, || async {
                let mut admin = admin.lock().await;
                // A marker (1) of a branch that has not committed stays for a while
                let rows = format!("SELECT COUNT(*) FROM {schema}.undo_log WHERE log_status <> 1");
                let count: mysql_async::Result<Option<u64>> = admin.query_first(rows).await;
                match count {
                    Ok(count) => Ok((count == Some(0)).then_some(())),
                    // Nothing was written here
                    Err(mysql_async::Error::Server(error)) if error.code == 1146 => Ok(Some(())),
                    Err(error) => Err(error.into()),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Runs what was not refused straight on the servers, and compares the effects.
    async fn straight(&mut self, case: &Case, place: &Place, bound: &[Effect], other: &str) -> Checked<()> {
        let cluster = self.cluster;
        let mut sessions = self.sessions(case, &place.schema, |bank| cluster.server(bank).port()).await?;
        let mut refused_before = vec![false; sessions.len()];
        let mut last = vec![String::new(); sessions.len()];
        let mut more_errors = vec![false; sessions.len()];
        let mut failed_aside = vec![false; sessions.len()];
        for (op, seen) in case.ops.iter().zip(bound) {
            if refusal(seen).is_some() {
                refused_before[op.session] = true;
                // Those before the refused one have run
                let Step::Many(all) = &op.step else { continue };
                let ran = all.get(..seen.rows.len()).unwrap_or_default();
                if !ran.is_empty() {
                    let plain = Step::Many(ran.to_vec()).run(&mut sessions[op.session]).await?;
                    if normal(op, plain.clone(), &place.schema).rows != normal(op, seen.clone(), other).rows {
                        return failure(
                            "effects differ",
                            format!("{}\nstraight: {plain:?}\nbound:    {seen:?}", shown(&op.step)),
                        );
                    }
                }
                continue;
            }
            // After a refusal the diagnostics are the refusal's.
            if op.role == Role::Diagnostics && refused_before[op.session] {
                op.step.run(&mut sessions[op.session]).await?;
                continue;
            }
            refused_before[op.session] = false;
            let lists = op.role == Role::Diagnostics && op.step.sql() != "SELECT ROW_COUNT()";
            let of_another = op.role == Role::Diagnostics && failed_aside[op.session];
            if lists && more_errors[op.session] || of_another {
                op.step.run(&mut sessions[op.session]).await?;
                continue;
            }
            if op.role != Role::Diagnostics {
                failed_aside[op.session] = false;
                more_errors[op.session] = case.flavor == Flavor::MariaDb && lists_more_errors(op, seen);
            }
            let plain = op.step.run(&mut sessions[op.session]).await?;
            let (mut plain, mut seen) = (normal(op, plain, &place.schema), normal(op, seen.clone(), other));
            if op.role == Role::Plain && plan::ties(case, op) {
                plain.rows.sort_unstable();
                seen.rows.sort_unstable();
            }
            if plain != seen && fail_by_rows(op, &plain, &seen) {
                more_errors[op.session] = true;
            } else if plain != seen && plan::fails_aside(op, &plain, &seen) {
                failed_aside[op.session] = true;
            } else if plain != seen && plan::decides(case, op, &plain, &seen) {
                return failure(OTHER_PLAN, shown(&op.step));
            } else if plain != seen {
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
    let error = effect
        .error
        .as_ref()
        .filter(|e| [1235, 1153].contains(&e.code) && e.message.starts_with("atone:"))?;
    Some(error.message.clone())
}

/// Refusals that are found only after the statement ran: every statement is refused before it runs, or can be undone.
fn late(op: &Op, reason: &str) -> bool {
    let commits = ["BEGIN", "START", "COMMIT", "SET AUTOCOMMIT", "SET @@SESSION.AUTOCOMMIT"];
    let sql = op.step.sql().to_ascii_uppercase();
    (!writes(op) && commits.iter().any(|word| sql.starts_with(word)))
        || [
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
    let text = shown(&op.step);
    let asks_time =
        ["NOW(", "CURRENT_", "RAND(", "(SELECT ", " JOIN "].iter().any(|word| text.contains(word));
    if !known::INFO_OF_NO_ROWS && writes(op) && (asks_time || text.starts_with("EXECUTE")) {
        let info = "Rows matched: 0  Changed: 0  Warnings: ";
        if effect.info.starts_with(info) {
            effect.info = String::new();
        }
        for row in &mut effect.rows {
            *row = row.replace(&format!("{info}0"), "");
        }
    }
    if !known::WARNINGS_OF_JOINS && writes(op) && text.contains(" JOIN ") && effect.affected == 0 {
        effect.warnings = 0;
        if let Some((rows, _)) = effect.info.split_once("  Warnings: ") {
            effect.info = rows.to_owned();
        }
    }
    if !known::NO_ROWS_RETURNED && text.contains("DELETE") && text.contains(" RETURNING ") {
        let none = "0 None 0 ";
        effect.rows.iter_mut().filter(|row| *row == none).for_each(|row| *row = "rows".to_owned());
        if effect.rows.is_empty() {
            effect.columns.clear();
        }
    }
    if !known::REPEATED_DEFAULTS && op.role == Role::Diagnostics {
        effect.rows.dedup_by(|row, before| row == before && row.starts_with("Warning|1364|"));
    }
    if !writes(op) && text.contains(" IN (SELECT ") {
        // Whether a column's table is told as that of the view or the one below depends on how MySQL joins them
        for column in &mut effect.columns {
            *column = column.rsplit_once('|').map_or_else(|| column.clone(), |(told, _)| told.to_owned());
        }
    }
    if writes(op) && text.contains("(SELECT ") && text.contains(" RETURNING ") {
        // MariaDB does not sort the rows of a DELETE whose condition holds a subquery
        effect.rows.sort_unstable();
    }
    for text in effect.error.iter_mut().map(|e| &mut e.message).chain(&mut effect.rows) {
        *text = text.replace(schema, "<schema>");
        if !known::DIGITS_OF_ZERO_DATES && writes(op) {
            *text = text.replace("'0000-00-00 00:00:00.000000'", "'0000-00-00 00:00:00'");
        }
        if op.role != Role::Plain && !tells_rows(&op.step) {
            *text = without_row_number(&text.replace("``.`(temporary)`.", ""));
        }
    }
    effect
}

/// Whether the number of the row in an error's message is the same in all runs. The server's plan decides how many
/// rows an UPDATE or DELETE has looked at before one gives an error or a warning. It decides too whether that is done
/// by a temporary table. The servers count a row more where a value is a subquery. MariaDB also counts the rows of a
/// view that it reads into a table of its own.
fn tells_rows(step: &Step) -> bool {
    let counts_more = ["(SELECT ", " FROM v", " FROM `V "];
    let tells = |sql: &str| {
        sql.to_ascii_uppercase().starts_with("INSERT") && !counts_more.iter().any(|part| sql.contains(part))
    };
    match step {
        Step::Many(all) => all.iter().all(|sql| tells(sql)),
        _ => tells(step.sql()),
    }
}

/// Whether both effects are errors about values, of an UPDATE that does not say in which order it comes to its rows:
/// which row's error comes first is up to the server's plan.
fn fail_by_rows(op: &Op, plain: &Effect, seen: &Effect) -> bool {
    // NULL, out of range, truncated, duplicate, no such text, too long, no such JSON, foreign keys, CHECK
    const OF_VALUES: &[u16] = &[1048, 1062, 1264, 1265, 1292, 1366, 1406, 1451, 1452, 3140, 3819, 3854, 4025];
    let of_values = |effect: &Effect| effect.error.as_ref().is_some_and(|e| OF_VALUES.contains(&e.code));
    let sql = shown(&op.step).to_ascii_uppercase();
    writes(op) && sql.contains("UPDATE") && !sql.contains("ORDER BY") && of_values(plain) && of_values(seen)
}

/// What a case is left with in which the server's plan decides what a statement does: it goes on with other rows then.
const OTHER_PLAN: &str = "another plan";

/// MariaDB goes on evaluating the row of an INSERT when a value that is a subquery has failed, and lists what else is
/// wrong with it.
fn lists_more_errors(op: &Op, effect: &Effect) -> bool {
    writes(op) && effect.error.is_some() && shown(&op.step).contains("(SELECT ")
}

/// The text of an error or warning without the table before its column, and without its row's number.
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
    for at in 0..a.len().max(b.len()) {
        let (in_a, in_b) = (a.get(at), b.get(at));
        if in_a != in_b {
            let shown = |line: Option<&String>| line.map_or("-", String::as_str).to_owned();
            out += &format!("line {at}\n  {one}: {}\n  {other}: {}\n", shown(in_a), shown(in_b));
        }
    }
    out
}

/// Whether a step is one that writes.
pub(crate) fn writes(op: &Op) -> bool {
    matches!(op.role, Role::Write(_))
}
