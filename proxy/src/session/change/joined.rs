//! UPDATE and DELETE over several tables: one read gives the before images of all tables that are written, and the
//! statement runs on the rows imaged.

use std::collections::HashSet;

use atone_sql::{Analysis, Joined, JoinedAction};
use atone_undo::{Key, Kind, Row, Table};
use atone_wire::caps::client;
use atone_wire::column::{ColumnKind, column_name};
use atone_wire::response::{ErrPacket, OkPacket};

use super::over::{Written, decode_written, image_sql, nowhere_sql, restricted_sql, targets};
use super::restrict::with_hint;
use super::{MORE_ROWS, left, too_long};
use crate::branch::Presence;
use crate::error::End;
use crate::meta::logs_of;
use crate::session::Session;
use crate::session::cascade::{Behind, Own, Stop, is_parent, may_fire};
use crate::session::diagnostics::{Diagnostics, Heard};
use crate::session::dml::MAX_TRIES;
use crate::session::hold::{Hold, Taken};
use crate::session::inject::{Flight, Reply, Vars};
use crate::session::odd::ODD;
use crate::session::refused::OwnError;
use crate::session::tables::Resolved;

/// A statement over several tables, which are held.
struct Run<'a> {
    sql: &'a [u8],
    joined: &'a Joined,
    analysis: &'a Analysis,
    vars: &'a Vars,
    written: Vec<Written<'a>>,
    /// Its local transaction was begun for it.
    alone: bool,
}

/// The columns of the tables that a statement names, as far as the session sees them.
#[derive(Debug, Default)]
struct Columns {
    /// For each table reference their names.
    names: Vec<Vec<String>>,
    /// Which of YEAR and TIME are among them.
    kinds: Vec<Kind>,
}

/// `MYSQL_TYPE_YEAR`
const TYPE_YEAR: u8 = 13;
/// `MYSQL_TYPE_TIME`
const TYPE_TIME: u8 = 11;

/// What came of looking at the tables of the statement.
enum Looked<'a> {
    Written(Vec<Written<'a>>),
    /// The statement was answered.
    Done,
}

/// Why the statement cannot be undone exactly, as far as this table goes.
fn refusal_of(joined: &Joined, written: &Written<'_>) -> Option<String> {
    let info = &written.info;
    let assignments = match &joined.action {
        JoinedAction::Update(assignments) => Some(assignments.as_slice()),
        JoinedAction::Delete(_) => None,
    };
    let write = written.effect(&joined.action).write(info);
    super::table_refusal(info, assignments.is_some())
        .or_else(|| assignments.and_then(|assignments| written.assigned_key(assignments)))
        .or_else(|| {
            let log = *logs_of(&info.facts.triggers, &[write.event()]).first()?;
            let (table, written) = (&info.table, log.quoted());
            Some(format!(
                "a trigger of {}.{} adds rows to {written}, in a statement over several tables",
                table.schema, table.name
            ))
        })
}

impl Session {
    /// UPDATE and DELETE over several tables.
    pub(in crate::session) async fn change_joined(
        &mut self,
        sql: &[u8],
        joined: &Joined,
        analysis: &Analysis,
    ) -> Result<(), End> {
        let vars = self.session_vars().await?;
        if vars.safe_updates {
            let why = "several tables under sql_safe_updates = 1";
            return self.refuse(why).await;
        }
        for attempt in 1.. {
            let Looked::Written(written) = self.written_tables(sql, joined, analysis, &vars).await? else {
                return Ok(());
            };
            let (alone, last) = (self.stands_alone(), attempt == MAX_TRIES);
            let taken: Vec<Taken<'_>> =
                written.iter().map(|w| Taken { info: &w.info, probe: &w.probe }).collect();
            match self.hold(&taken, None, alone, last).await? {
                Hold::Held => {
                    if let Some(why) = written.iter().find_map(|w| refusal_of(joined, w)) {
                        return self.refuse_change(&why, alone).await;
                    }
                    let write = |w: &Written<'_>| w.effect(&joined.action).write(&w.info);
                    if let Some(error) = written.iter().find_map(|w| self.triggers_refuse(&w.info, write(w)))
                    {
                        return self.refuse_with(&error, alone).await;
                    }
                    if !self.hold_mirrors(joined, &written, &vars, alone).await? {
                        return Ok(());
                    }
                    for w in written.iter().filter(|_| joined.ignore) {
                        self.ignores(&w.info);
                    }
                    let t = Run { sql, joined, analysis, vars: &vars, written, alone };
                    return self.run_joined(&t).await;
                }
                Hold::Altered => {}
                Hold::Answered => break,
            }
        }
        Ok(())
    }

    /// The tables that the statement writes.
    async fn written_tables<'a>(
        &mut self,
        sql: &[u8],
        joined: &'a Joined,
        analysis: &Analysis,
        vars: &Vars,
    ) -> Result<Looked<'a>, End> {
        let unqualified = match &joined.action {
            JoinedAction::Update(assignments) => assignments.iter().any(|a| a.qualifiers.is_empty()),
            JoinedAction::Delete(_) => false,
        };
        let mut columns = Columns::default();
        if unqualified || !self.odd.is_empty() {
            columns = match self.columns_of(sql, joined).await? {
                Ok(columns) => columns,
                Err(e) => {
                    Box::pin(self.look_failed(e)).await?;
                    return Ok(Looked::Done);
                }
            };
        }
        if self.odd.iter().any(|kind| columns.kinds.contains(kind)) {
            self.refuse(ODD).await?;
            return Ok(Looked::Done);
        }
        let references = match &joined.action {
            JoinedAction::Delete(targets) => {
                let mut targets = targets.clone();
                targets.sort_unstable();
                targets.dedup();
                targets
            }
            JoinedAction::Update(assignments) => match targets(assignments, &joined.tables, &columns.names) {
                Ok(targets) => targets,
                Err(why) => {
                    self.ask_for_error(&nowhere_sql(sql, joined, analysis), &why).await?;
                    return Ok(Looked::Done);
                }
            },
        };
        let mut written = Vec::with_capacity(references.len());
        for at in references {
            let Some(reference) = joined.tables.get(at) else { continue };
            let (info, probe) = match self.resolve(reference, vars).await? {
                Resolved::Table(info, probe) => (info, probe),
                Resolved::Temporary => {
                    let name = &reference.name;
                    let why = format!("a statement over several tables writes the temporary table {name}");
                    self.refuse(&why).await?;
                    return Ok(Looked::Done);
                }
                Resolved::View(schema, name) => {
                    let why = format!("a statement over several tables writes the view {schema}.{name}");
                    self.refuse(&why).await?;
                    return Ok(Looked::Done);
                }
                Resolved::Answer(e) => {
                    Box::pin(self.look_failed(e)).await?;
                    return Ok(Looked::Done);
                }
            };
            written.push(Written::new(reference, info, probe));
        }
        Ok(Looked::Written(written))
    }

    /// Keeps the tables that triggers keep equal to those written from being altered; false where the statement was answered.
    async fn hold_mirrors(
        &mut self,
        joined: &Joined,
        written: &[Written<'_>],
        vars: &Vars,
        alone: bool,
    ) -> Result<bool, End> {
        for w in written {
            let write = w.effect(&joined.action).write(&w.info);
            match self.logs_of(&w.info, &[write], vars).await? {
                Ok(mut mirrors) => {
                    if !self.probe_logs(&mut mirrors, vars, alone).await? {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    self.refuse_with(&error, alone).await?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The columns of each table reference.
    async fn columns_of(&mut self, sql: &[u8], joined: &Joined) -> Result<Result<Columns, ErrPacket>, End> {
        let vars = self.session_vars().await?;
        let mut flight = Flight::default();
        for table in &joined.tables {
            let mut probe = Vec::new();
            if let Some(with) = &joined.with {
                probe.extend_from_slice(sql.get(with.clone()).unwrap_or_default());
                probe.push(b' ');
            }
            probe.extend_from_slice(b"SELECT * FROM ");
            probe.extend_from_slice(sql.get(table.span.clone()).unwrap_or_default());
            probe.extend_from_slice(b" LIMIT 0");
            flight.push(probe);
        }
        let mut out = Columns::default();
        for reply in self.try_flight(flight).await? {
            match reply {
                Reply::Rows(rows) => {
                    let mut names = Vec::with_capacity(rows.columns.len());
                    for definition in &rows.columns {
                        names.push(vars.named(column_name(definition)?));
                        match ColumnKind::parse(definition, self.capabilities)?.kind {
                            TYPE_YEAR => out.kinds.push(Kind::Year),
                            TYPE_TIME => out.kinds.push(Kind::Time),
                            _ => {}
                        }
                    }
                    out.names.push(names);
                }
                Reply::Err(e) => return Ok(Err(e)),
                _ => return Err(End::Broken("SELECT without columns".into())),
            }
        }
        Ok(Ok(out))
    }

    /// The server is to say itself what is wrong with the statement, which is run so that it can change no row; where
    /// it finds nothing, the statement is refused.
    async fn ask_for_error(&mut self, harmless: &[u8], why: &str) -> Result<(), End> {
        match self.run_theirs(harmless).await? {
            Reply::Err(e) => self.statement_failed(e).await,
            Reply::Ok(_) => self.refuse(why).await,
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
    }

    async fn run_joined(&mut self, t: &Run<'_>) -> Result<(), End> {
        let Some((images, warned)) = self.joined_images(t).await? else { return Ok(()) };
        let behind = match self.behind_joined(t, &images).await? {
            Ok(behind) => behind,
            Err(stop) => return self.stop_change(stop, t.alone).await,
        };
        let keys: Vec<Vec<Key>> = t
            .written
            .iter()
            .zip(&images)
            .map(|(w, rows)| rows.iter().map(|row| row.key(&w.info.table)).collect())
            .collect();
        let count = keys.iter().map(Vec::len).sum();
        let whole = t.sql.get(..t.analysis.terminator).unwrap_or(t.sql);
        // What its condition is wrong with is for the server to say; should it find a row all the same, all is taken back
        let as_written = count == 0 && !t.joined.volatile;
        if warned && !as_written && !self.hear_joined(whole).await? {
            return Ok(());
        }
        let text = if as_written {
            whole.to_vec()
        } else {
            restricted_sql(t.sql, t.joined, t.analysis, &t.written, &keys)
        };
        let text = with_hint(text, t.joined.verb.end, count, self.mariadb);
        if let Some(why) = too_long(&text, t.vars) {
            return self.too_large_for_packet(why, t.alone).await;
        }
        // It may have to be taken back; nobody else minds that the savepoint stays
        let mut ok = match self.run_behind_savepoint(text, t.joined.volatile).await? {
            Reply::Ok(ok) => ok,
            Reply::Err(e) => return self.statement_failed(e).await,
            _ => return Err(End::Broken("a statement that writes answered with rows".into())),
        };
        if self.heard.is_some() {
            // They are among those of the whole statement
            ok.warnings = 0;
        }
        let most = images.iter().map(Vec::len).sum::<usize>() as u64;
        if ok.affected_rows > most {
            return self.rolled_back(MORE_ROWS).await;
        }
        if t.joined.volatile && self.found(&ok, t.joined) != Some(most) {
            let why = "the condition chose other rows when it was evaluated again";
            return self.take_insert_back(why, t.alone).await;
        }
        let mut names = HashSet::new();
        // A row that goes by two names may be counted twice
        let distinct = t.written.iter().all(|w| names.insert((&w.info.table.schema, &w.info.table.name)));
        let deletes = matches!(t.joined.action, JoinedAction::Delete(_));
        let presence = left(deletes, distinct && ok.affected_rows == most);
        if let Err(why) = self.verify_behind(&behind).await {
            return self.rolled_back(&why).await;
        }
        for ((written, rows), keys) in t.written.iter().zip(images).zip(keys) {
            for (row, key) in rows.into_iter().zip(keys) {
                self.branch.touch(&written.info.table, key, Some(row), presence);
            }
        }
        // MySQL takes rows away whose children's children had to stay
        self.touch_behind(behind, presence == Presence::Absent && !t.joined.ignore);
        self.statement_done(ok, t.alone).await
    }

    /// Runs the whole statement, and takes it back: what the server warns of, or fails of, in rows that are not imaged is the
    /// statement's own. False where it failed, and was answered.
    async fn hear_joined(&mut self, whole: &[u8]) -> Result<bool, End> {
        match self.run_behind_savepoint(whole.to_vec(), true).await? {
            Reply::Ok(ok) => {
                self.keep_of(&ok, 0).await?;
                let heard = self.diagnostics.take();
                if !self.statement_taken_back().await? {
                    self.rolled_back("a statement that was run for its warnings cannot be taken back")
                        .await?;
                    return Ok(false);
                }
                let tells = |heard: &Diagnostics| heard.warning_count > 0 && !self.uncounted_warnings;
                // MariaDB counts there what is wrong with the values only
                let in_info = !self.mariadb;
                self.heard = heard.filter(tells).map(|diagnostics| Heard { diagnostics, in_info });
                Ok(true)
            }
            Reply::Err(e) => {
                self.statement_failed(e).await?;
                Ok(false)
            }
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
    }

    async fn run_behind_savepoint(&mut self, text: Vec<u8>, savepoint: bool) -> Result<Reply, End> {
        let mut flight = Flight::default();
        if savepoint {
            flight.push_savepoint();
        }
        flight.push_write(text);
        let reply = self.run_flight(flight).await?.pop();
        reply.ok_or_else(|| End::Broken("a statement without a reply".into()))
    }

    /// How many rows the statement has found, as the server tells.
    fn found(&self, ok: &OkPacket, joined: &Joined) -> Option<u64> {
        let updates = matches!(joined.action, JoinedAction::Update(_));
        if !updates || self.capabilities & client::FOUND_ROWS != 0 {
            return Some(ok.affected_rows);
        }
        // "Rows matched: 1  Changed: …", in the language of the session
        let digits = ok.info().iter().skip_while(|b| !b.is_ascii_digit()).take_while(|b| b.is_ascii_digit());
        let digits: String = digits.copied().map(char::from).collect();
        digits.parse().ok()
    }

    /// Images what foreign keys change behind the rows of the statement, and sees that all could be put back.
    async fn behind_joined(&mut self, t: &Run<'_>, images: &[Vec<Row>]) -> Result<Result<Behind, Stop>, End> {
        for w in &t.written {
            self.branch.meet(&w.info, is_parent(&w.info, &w.effect(&t.joined.action)));
        }
        let fires = |w: &Written<'_>| may_fire(&w.info, &w.effect(&t.joined.action));
        match (t.written.as_slice(), images) {
            ([only], [rows]) => {
                let effect = only.effect(&t.joined.action);
                self.image_behind(Own { info: &only.info, images: rows, new_keys: &[], effect }, t.vars).await
            }
            (several, _) if several.iter().any(fires) => {
                let why = "several tables are written, and a foreign key changes rows behind the statement";
                Ok(Err(Stop::Refuse(why.into())))
            }
            (several, images) => {
                for (written, rows) in several.iter().zip(images) {
                    let effect = written.effect(&t.joined.action);
                    if let Some(error) = self.unrestorable(&written.info, rows.iter(), &effect).await? {
                        return Ok(Err(Stop::Unrestorable(error)));
                    }
                }
                Ok(Ok(Behind::default()))
            }
        }
    }

    /// Reads the rows that the statement will change, for each table that is written, and whether the server has warned of it;
    /// nothing where it was answered.
    async fn joined_images(&mut self, t: &Run<'_>) -> Result<Option<(Vec<Vec<Row>>, bool)>, End> {
        let image = image_sql(t.sql, t.joined, &t.written, self.mariadb);
        let rows = match self.try_one(image).await? {
            Reply::Rows(rows) => rows,
            Reply::Err(e) => {
                let harmless = nowhere_sql(t.sql, t.joined, t.analysis);
                let whole = t.sql.get(..t.analysis.terminator);
                Box::pin(self.read_failed(e, OwnError { harmless: &harmless, always: false, whole })).await?;
                return Ok(None);
            }
            Reply::TooLarge => {
                let why = self.above_bytes("the before image of the statement is");
                self.refuse_change(&why, t.alone).await?;
                return Ok(None);
            }
            Reply::Ok(_) => return Err(End::Broken("a before image without rows".into())),
        };
        let mut warned = false;
        for written in &t.written {
            warned |= self.warned(&written.info.table, &rows)?;
        }
        let images = match decode_written(&t.written, &rows) {
            Ok(images) => images,
            Err(unread) => {
                let error = self.unread(unread)?;
                self.refuse_with(&error, t.alone).await?;
                return Ok(None);
            }
        };
        let of_tables: Vec<(&Table, &[Row])> = t
            .written
            .iter()
            .zip(&images)
            .map(|(written, images)| (&*written.info.table, images.as_slice()))
            .collect();
        if let Some(why) = self.too_much(&of_tables, std::iter::empty()) {
            self.refuse_change(&why, t.alone).await?;
            return Ok(None);
        }
        Ok(Some((images, warned)))
    }
}
