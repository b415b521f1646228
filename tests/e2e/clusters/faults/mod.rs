//! Errors of the server's in the statements that the proxy sends by itself. Each such statement of each kind of
//! statement is answered with each code, and then: the client has that code; what the server has rolled back is in no
//! branch; nothing that writes reaches the server outside of a local transaction; the global rollback leaves
//! everything as it was.

mod between;
mod real;
mod statements;

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::cluster::SOON;
use atone_tests::server::APP;
use atone_tests::{Bank, Cluster, paths, sql};
use mysql_async::Conn;

use between::{Between, Fault, Seen};
use statements::{SETUP, STATEMENTS, Statement, TABLES};

atone_tests::shared_tests!(
    changes_alone,
    inserts_alone,
    changes_in_a_transaction,
    inserts_in_a_transaction,
    changes_without_autocommit,
    inserts_without_autocommit,
    commits,
    killed_commits,
);

/// How the statement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It is committed by itself.
    Alone,
    /// After BEGIN and another write.
    Explicit,
    /// Under autocommit = 0, after another write.
    Implicit,
}

const fn fault(code: u16, state: &'static str, rolls_back: bool) -> Fault {
    Fault { code, state, rolls_back, cuts: false }
}

/// The server drops the rest of a packet without a word.
const CUTS: Fault = Fault { cuts: true, ..fault(1317, "70100", false) };

/// The local transaction has ended. 1205 under `innodb_rollback_on_timeout`, MariaDB's 1020 under
/// `innodb_snapshot_isolation`.
const ENDS_TRANSACTION: [Fault; 3] =
    [fault(1213, "40001", true), fault(1205, "HY000", true), fault(1020, "HY000", true)];
/// Only the statement has.
const ENDS_STATEMENT: [Fault; 11] = [
    fault(1205, "HY000", false),
    fault(1317, "70100", false),
    fault(1969, "70100", false),
    fault(3024, "HY000", false),
    fault(3572, "HY000", false),
    fault(1290, "HY000", false),
    fault(1836, "HY000", false),
    fault(1104, "42000", false),
    fault(1153, "08S01", false),
    fault(1301, "HY000", false),
    fault(1040, "08004", false),
];
/// Something is wrong with its text, or its user may not run it.
const OF_TEXT: [Fault; 2] = [fault(1146, "42S02", false), fault(1142, "42000", false)];
const ENDS_CONNECTION: [Fault; 3] =
    [fault(1053, "08S01", false), fault(1927, "70100", false), fault(2013, "HY000", false)];

/// What the statements at one place are answered with. All of it where `ATONE_FAULTS` is `all`, which takes long;
/// else one of the kinds, in turn.
fn faults(turn: usize) -> Vec<Fault> {
    if std::env::var("ATONE_FAULTS").is_ok_and(|value| value == "all") {
        return [&ENDS_TRANSACTION[..], &ENDS_STATEMENT, &[CUTS], &OF_TEXT, &ENDS_CONNECTION].concat();
    }
    let of = |faults: &[Fault], turn: usize| faults.get(turn % faults.len()).copied();
    let fault = match turn % 8 {
        0 | 2 | 4 | 6 => of(&ENDS_TRANSACTION, turn / 2),
        1 | 5 => of(&ENDS_STATEMENT, turn / 4),
        3 => of(&OF_TEXT, turn / 8),
        _ if turn % 16 < 8 => of(&ENDS_CONNECTION, turn / 16),
        _ => Some(CUTS),
    };
    fault.into_iter().collect()
}

fn ends_connection(code: u16) -> bool {
    matches!(code, 1053 | 1927 | 2013)
}

/// Errors that say that the statement's own text cannot run, or its user may not run it.
fn is_of_text(code: u16) -> bool {
    matches!(code, 1142 | 1146)
}

/// A proxy with the man in the middle behind it.
struct Rig {
    c: Arc<Cluster>,
    between: Between,
    port: u16,
    schema: String,
    direct: Conn,
    _proxy: atone_tests::daemon::Daemon,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn start(c: Arc<Cluster>, name: &str) -> Result<Self> {
        let schema = c.schema(name).await?;
        let mut direct = c.direct(Bank::One, &schema).await?;
        sql::run_all(&mut direct, SETUP).await?;
        let between = Between::start(c.bank1.port()).await?;
        let dir = paths::fresh_dir("faults-")?;
        // The man in the middle reads what the service account says
        let address =
            format!("address = \"127.0.0.1:{}\"\nserver_tls = {{ mode = \"disabled\" }}", between.port);
        let (proxy, ports) = c.proxy_with(dir.path(), &[address]).await?;
        let port = *ports.first().context("a port")?;
        Ok(Self { c, between, port, schema, direct, _proxy: proxy, _dir: dir })
    }

    async fn app(&self) -> Result<Conn> {
        sql::connect(self.port, APP, Some(&self.schema)).await
    }

    async fn sums(&mut self) -> Result<Vec<String>> {
        sql::rows(&mut self.direct, format!("CHECKSUM TABLE {}", TABLES.join(", "))).await
    }
}

/// What came of one statement, one of whose statements was answered with an error.
struct Came {
    hit: Option<String>,
    /// The server did not come to that one.
    missed: bool,
    seen: Vec<Seen>,
    result: mysql_async::Result<()>,
}

async fn begin(conn: &mut Conn, mode: Mode) -> Result<String> {
    sql::run(conn, if mode == Mode::Implicit { "SET autocommit = 0" } else { "SET autocommit = 1" }).await?;
    let xid = sql::start_global(conn).await?;
    if mode == Mode::Explicit {
        sql::run(conn, "BEGIN").await?;
    }
    if mode != Mode::Alone {
        sql::run(conn, "UPDATE prior SET n = n + 1 WHERE id = 1").await?;
    }
    Ok(xid)
}

impl Rig {
    /// One statement with one error; `None` where it has no statement at this place.
    async fn once(
        &mut self,
        conn: &mut Option<Conn>,
        statement: &Statement,
        mode: Mode,
        at: usize,
        fault: Fault,
    ) -> Result<Option<()>> {
        let before = self.sums().await?;
        let mut app = match conn.take() {
            Some(app) => app,
            None => self.app().await?,
        };
        let xid = begin(&mut app, mode).await?;
        sql::run_all(&mut app, statement.before).await?;
        self.between.watch(Some((at, fault)));
        let result = statement.run(&mut app).await;
        let (seen, hit) = self.between.seen();
        let came = Came { hit, missed: self.between.missed(), seen, result };
        let none = came.hit.is_none();
        let hit = came.hit.clone().unwrap_or_default();
        let alive = self.look(&mut app, &came, statement, mode, fault).await?;
        self.between.watch(None);
        if alive {
            sql::run(&mut app, "UPDATE prior SET n = n + 1 WHERE id = 2")
                .await
                .with_context(|| format!("behind {hit}"))?;
            let (seen, _) = self.between.seen();
            none_outside(&seen)?;
            sql::run(&mut app, "COMMIT").await.context("COMMIT behind it")?;
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await.context("the global rollback")?;
            self.c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            *conn = Some(app);
        } else {
            self.c.rest().rollback(&xid).await?.expect(200)?;
            self.c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        }
        let after = self.sums().await?;
        ensure!(after == before, "the global rollback left something: {before:?} {after:?}");
        Ok((!none).then_some(()))
    }

    /// Looks at what came; whether the connection is still there.
    async fn look(
        &mut self,
        app: &mut Conn,
        came: &Came,
        statement: &Statement,
        mode: Mode,
        fault: Fault,
    ) -> Result<bool> {
        none_outside(&came.seen)?;
        let Some(hit) = came.hit.as_ref().filter(|_| !came.missed) else {
            ensure!(came.result.is_ok(), "it fails by itself: {:?}", came.result);
            return Ok(true);
        };
        let told = match &came.result {
            Ok(()) => {
                // What was answered with the error was not needed
                ensure!(is_of_text(fault.code), "OK behind {hit}");
                return Ok(true);
            }
            Err(mysql_async::Error::Server(error)) => error.code,
            Err(other) => bail!("no error packet behind {hit}: {other}"),
        };
        if ends_connection(fault.code) {
            ensure!(told == fault.code, "told {told} behind {hit}");
            let ends = sql::rows(app, "SELECT 1").await;
            ensure!(ends.is_err(), "the connection goes on behind {hit}");
            return Ok(false);
        }
        let rolled_back = mode != Mode::Alone
            && sql::cell(app, "SELECT n FROM prior WHERE id = 1").await.context("alive")? == "0";
        let own = told == fault.code;
        let refused = told == 1235 && is_of_text(fault.code);
        // The client has to know that all of it is gone
        let all_gone = told == 1213 && (rolled_back || mode == Mode::Alone);
        ensure!(own || refused || all_gone, "told {told} behind {hit}: {:?}", came.result);
        let may_wait = matches!(told, 1205 | 1317 | 1969 | 3024 | 3572);
        let lets_know = told == 1213 || fault.rolls_back || (statement.ends && !may_wait);
        ensure!(!rolled_back || lets_know, "told {told}, and the writes before it are gone, behind {hit}");
        ensure!(rolled_back || mode == Mode::Alone || !fault.rolls_back, "it was rolled back behind {hit}");
        Ok(true)
    }

    async fn every(&mut self, statements: &[&Statement], mode: Mode) -> Result<()> {
        let flavor = self.c.flavor();
        let mut turn = 0;
        let mut conn = None;
        let mut runs = 0;
        for statement in statements.iter().filter(|s| s.runs_on(flavor)) {
            let mut at = 0;
            'places: loop {
                for fault in faults(turn) {
                    let what = || format!("{mode:?} `{}`, {at}: {fault:?}", statement.text);
                    let hit = self.once(&mut conn, statement, mode, at, fault).await.with_context(what)?;
                    runs += 1;
                    if hit.is_none() {
                        break 'places;
                    }
                }
                at += 1;
                turn += 1;
            }
            ensure!(at > 0, "{}: no statement was seen", statement.text);
            eprintln!("{mode:?} {}: {at} places", statement.text);
        }
        eprintln!("{runs} runs");
        Ok(())
    }
}

/// Nothing that writes has run outside of a local transaction.
fn none_outside(seen: &[Seen]) -> Result<()> {
    const WRITES: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD"];
    for seen in seen {
        // One that stands for the statement, for its errors only
        let nowhere = seen.text.contains(" AND 1=0");
        let writes = WRITES.iter().any(|verb| seen.text.starts_with(verb)) && !nowhere;
        ensure!(!writes || seen.open, "outside of a local transaction: {}", seen.text);
    }
    Ok(())
}

/// The statements of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Changes,
    Inserts,
    Commits,
}

fn group(statement: &Statement) -> Group {
    match statement.text.get(..6) {
        _ if statement.ends => Group::Commits,
        Some("UPDATE" | "DELETE") => Group::Changes,
        _ => Group::Inserts,
    }
}

async fn run(c: Arc<Cluster>, name: &str, mode: Mode, of: Group) -> Result<()> {
    let statements: Vec<&Statement> = STATEMENTS.iter().filter(|s| group(s) == of).collect();
    let mut rig = Rig::start(c, name).await?;
    rig.every(&statements, mode).await
}

async fn changes_alone(c: Arc<Cluster>) -> Result<()> {
    run(c, "changes_alone", Mode::Alone, Group::Changes).await
}

async fn inserts_alone(c: Arc<Cluster>) -> Result<()> {
    run(c, "inserts_alone", Mode::Alone, Group::Inserts).await
}

async fn changes_in_a_transaction(c: Arc<Cluster>) -> Result<()> {
    run(c, "changes_explicit", Mode::Explicit, Group::Changes).await
}

async fn inserts_in_a_transaction(c: Arc<Cluster>) -> Result<()> {
    run(c, "inserts_explicit", Mode::Explicit, Group::Inserts).await
}

async fn changes_without_autocommit(c: Arc<Cluster>) -> Result<()> {
    run(c, "changes_implicit", Mode::Implicit, Group::Changes).await
}

async fn inserts_without_autocommit(c: Arc<Cluster>) -> Result<()> {
    run(c, "inserts_implicit", Mode::Implicit, Group::Inserts).await
}

async fn commits(c: Arc<Cluster>) -> Result<()> {
    run(Arc::clone(&c), "commits_explicit", Mode::Explicit, Group::Commits).await?;
    run(c, "commits_implicit", Mode::Implicit, Group::Commits).await
}

/// A KILL QUERY that meets the INSERT of the undo record, or the COMMIT after it: the client knows that all is gone,
/// runs it again, and the global transaction commits.
async fn killed_commits(c: Arc<Cluster>) -> Result<()> {
    let mut rig = Rig::start(c, "killed_commits").await?;
    let killed = fault(1317, "70100", false);
    for mode in [Mode::Alone, Mode::Explicit] {
        for (text, fault) in [("INSERT INTO", killed), ("COMMIT", killed), ("COMMIT", CUTS)] {
            let what = || format!("{mode:?} {text} {fault:?}");
            let update = "UPDATE t SET v = v + 1 WHERE id = 3";
            let mut app = rig.app().await?;
            let before = sql::cell(&mut rig.direct, "SELECT v FROM t WHERE id = 3").await?;
            let xid = sql::start_global(&mut app).await?;
            // What comes first looks at more
            sql::run(&mut app, update).await?;
            // Where it comes in what is sent
            let (ahead, ends): (&[&str], &str) =
                if mode == Mode::Alone { (&[], update) } else { (&["BEGIN", update], "COMMIT") };
            sql::run_all(&mut app, ahead).await?;
            rig.between.watch(None);
            sql::run(&mut app, ends).await?;
            let (seen, _) = rig.between.seen();
            let at = seen.iter().rposition(|s| s.text.starts_with(text)).with_context(what)?;
            sql::run_all(&mut app, ahead).await?;
            rig.between.watch(Some((at, fault)));
            let error = sql::refused(&mut app, ends).await?;
            let (_, hit) = rig.between.seen();
            ensure!(hit.is_some_and(|hit| hit.starts_with(text)), "{}: not met", what());
            let expected = if mode == Mode::Alone { 1317 } else { 1213 };
            ensure!(error.code == expected, "{}: {error:?}", what());
            rig.between.watch(None);
            sql::run_all(&mut app, ahead).await.with_context(what)?;
            sql::run(&mut app, ends).await.with_context(what)?;
            sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await.with_context(what)?;
            rig.c.rest().wait_for_status(&xid, "committed", SOON).await?;
            let after = sql::cell(&mut rig.direct, "SELECT v FROM t WHERE id = 3").await?;
            ensure!(after.parse::<i32>()? == before.parse::<i32>()? + 3, "{}: {before} {after}", what());
        }
    }
    Ok(())
}
