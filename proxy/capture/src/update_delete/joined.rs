//! UPDATE and DELETE over several tables: one read gives the before images of all tables that are written, and the
//! statement runs on the rows imaged.

use std::collections::HashSet;

use atone_sql::{Analysis, Joined, JoinedAction};
use atone_undo::{Key, Kind, Row, Table};
use atone_wire::caps::client;
use atone_wire::column::{ColumnKind, column_name};
use atone_wire::response::OkPacket;

use crate::Capture;
use crate::binding::hold::{Hold, Taken};
use crate::binding::tables::Resolved;
use crate::diagnostics::{Diagnostics, EarlierDiagnostics};
use crate::effects::cascade::{EffectImages, OwnImages, is_parent, may_fire};
use crate::error::End;
use crate::flight::{Flight, Reply};
use crate::images::MAX_TRIES;
use crate::journal::Presence;
use crate::odd::ODD;
use crate::outcome::{Done, Halt, last};
use crate::own_error::OwnError;
use crate::settings::Vars;
use crate::update_delete::over::{Written, decode_written, image_sql, nowhere_sql, restricted_sql, targets};
use crate::update_delete::restrict::with_hint;
use crate::update_delete::{MORE_ROWS, left};
use atone_facts::audit_tables_of;

/// A statement over several tables, which are held.
struct Run<'a> {
    sql: &'a [u8],
    joined: &'a Joined,
    analysis: &'a Analysis,
    vars: &'a Vars,
    written: Vec<Written<'a>>,
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

/// Sees that the statement can be undone exactly, as far as this table goes.
fn check_written(joined: &Joined, written: &Written<'_>) -> Result<(), String> {
    let info = &written.info;
    let assignments = match &joined.action {
        JoinedAction::Update(assignments) => Some(assignments.as_slice()),
        JoinedAction::Delete(_) => None,
    };
    super::check_table(info, assignments.is_some())?;
    if let Some(why) = assignments.and_then(|assignments| written.assigned_key(assignments)) {
        return Err(why);
    }
    let write = written.effect(&joined.action).write(info);
    let Some(log) = audit_tables_of(&info.facts.triggers, &[write.event()]).first().copied() else {
        return Ok(());
    };
    let (table, written) = (&info.table, log.quoted());
    Err(format!(
        "a trigger of {}.{} adds rows to {written}, in a statement over several tables",
        table.schema, table.name
    ))
}

impl Capture<'_> {
    /// UPDATE and DELETE over several tables.
    pub async fn change_joined(
        &mut self,
        sql: &[u8],
        joined: &Joined,
        analysis: &Analysis,
    ) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        if vars.safe_updates {
            return Err(Halt::stop("several tables under sql_safe_updates = 1"));
        }
        for attempt in 1..=MAX_TRIES {
            let written = self.written_tables(sql, joined, analysis, &vars).await?;
            let taken: Vec<Taken<'_>> =
                written.iter().map(|w| Taken { info: &w.info, probe: &w.probe }).collect();
            if self.hold(&taken, None, attempt == MAX_TRIES).await? != Hold::Held {
                continue;
            }
            for w in &written {
                check_written(joined, w)?;
            }
            let write = |w: &Written<'_>| w.effect(&joined.action).write(&w.info);
            if let Some(error) = written.iter().find_map(|w| self.triggers_refuse(&w.info, write(w))) {
                return Err(error.into());
            }
            self.hold_mirrors(joined, &written, &vars).await?;
            for w in written.iter().filter(|_| joined.ignore) {
                self.ignores(&w.info);
            }
            let t = Run { sql, joined, analysis, vars: &vars, written };
            return self.run_joined(&t).await.map(Done::from);
        }
        Err(Halt::broken("tables were tried more often than they are"))
    }

    /// The tables that the statement writes.
    async fn written_tables<'a>(
        &mut self,
        sql: &[u8],
        joined: &'a Joined,
        analysis: &Analysis,
        vars: &Vars,
    ) -> Result<Vec<Written<'a>>, Halt> {
        let unqualified = match &joined.action {
            JoinedAction::Update(assignments) => assignments.iter().any(|a| a.qualifiers.is_empty()),
            JoinedAction::Delete(_) => false,
        };
        let mut columns = Columns::default();
        if unqualified || !self.command.odd.is_empty() {
            columns = self.columns_of(sql, joined).await?;
        }
        if self.command.odd.iter().any(|kind| columns.kinds.contains(kind)) {
            return Err(Halt::stop(ODD));
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
                    return Err(self.ask_for_error(&nowhere_sql(sql, joined, analysis), &why).await?);
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
                    return Err(why.into());
                }
                Resolved::View(schema, name) => {
                    let why = format!("a statement over several tables writes the view {schema}.{name}");
                    return Err(why.into());
                }
                Resolved::Answer(e) => return Err(Halt::Unresolved(e)),
            };
            written.push(Written::new(reference, info, probe));
        }
        Ok(written)
    }

    /// Keeps the tables that triggers keep equal to those written from being altered.
    async fn hold_mirrors(
        &mut self,
        joined: &Joined,
        written: &[Written<'_>],
        vars: &Vars,
    ) -> Result<(), Halt> {
        for w in written {
            let write = w.effect(&joined.action).write(&w.info);
            let mut mirrors = self.trigger_targets(&w.info, &[write], vars).await?;
            self.probe_targets(&mut mirrors, vars).await?;
        }
        Ok(())
    }

    /// The columns of each table reference.
    async fn columns_of(&mut self, sql: &[u8], joined: &Joined) -> Result<Columns, Halt> {
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
                Reply::Err(e) => return Err(Halt::Unresolved(e)),
                _ => return Err(Halt::broken("SELECT without columns")),
            }
        }
        Ok(out)
    }

    /// What ends a statement that does not tell which tables it writes: the server says itself what is wrong with it,
    /// which is run so that it can change no row.
    async fn ask_for_error(&mut self, harmless: &[u8], why: &str) -> Result<Halt, End> {
        match self.run_theirs(harmless).await? {
            Reply::Err(e) => Ok(Halt::Failed(e)),
            Reply::Ok(_) => Ok(Halt::stop(why)),
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
    }

    async fn run_joined(&mut self, t: &Run<'_>) -> Result<OkPacket, Halt> {
        let (images, warned) = self.joined_images(t).await?;
        let cascaded = self.effects_of_joined(t, &images).await?;
        let keys: Vec<Vec<Key>> = t
            .written
            .iter()
            .zip(&images)
            .map(|(w, rows)| rows.iter().map(|row| row.key(&w.info.table)).collect())
            .collect();
        let count = keys.iter().map(Vec::len).sum();
        let whole = t.sql.get(..t.analysis.terminator).unwrap_or(t.sql);
        // What its condition is wrong with is for the server to say; should it find a row all the same, all is taken
        // back
        let as_written = count == 0 && !t.joined.volatile;
        if warned && !as_written {
            self.hear_joined(whole).await?;
        }
        let text = if as_written {
            whole.to_vec()
        } else {
            restricted_sql(t.sql, t.joined, t.analysis, &t.written, &keys)
        };
        let text = with_hint(text, t.joined.verb.end, count, self.mariadb);
        self.check_length(&text, t.vars)?;
        // It may have to be taken back; nobody else minds that the savepoint stays
        let mut ok = self.run_behind_savepoint(text, t.joined.volatile).await?.written()?;
        if self.command.earlier.is_some() {
            // They are among those of the whole statement
            ok.warnings = 0;
        }
        let most = images.iter().map(Vec::len).sum::<usize>() as u64;
        if ok.affected_rows > most {
            return Err(Halt::roll_back(MORE_ROWS));
        }
        if t.joined.volatile && self.found(&ok, t.joined) != Some(most) {
            return Err(Halt::take_back("the condition chose other rows when it was evaluated again"));
        }
        let mut names = HashSet::new();
        // A row that goes by two names may be counted twice
        let distinct = t.written.iter().all(|w| names.insert((&w.info.table.schema, &w.info.table.name)));
        let deletes = matches!(t.joined.action, JoinedAction::Delete(_));
        let presence = left(deletes, distinct && ok.affected_rows == most);
        self.verify_effects(&cascaded).await?;
        for ((written, rows), keys) in t.written.iter().zip(images).zip(keys) {
            for (row, key) in rows.into_iter().zip(keys) {
                self.state.branch.touch(&written.info.table, key, Some(row), presence);
            }
        }
        // MySQL takes rows away whose children's children had to stay
        self.touch_effects(cascaded, presence == Presence::Absent && !t.joined.ignore);
        Ok(ok)
    }

    /// Runs the whole statement, and takes it back: what the server warns of, or fails of, in rows that are not
    /// imaged is the statement's own.
    async fn hear_joined(&mut self, whole: &[u8]) -> Result<(), Halt> {
        let ok = self.run_behind_savepoint(whole.to_vec(), true).await?.written()?;
        self.keep_of(&ok, 0).await?;
        let earlier = self.state.diagnostics.take();
        if !self.statement_taken_back().await? {
            let why = "a statement that was run for its warnings cannot be taken back";
            return Err(Halt::roll_back(why));
        }
        let counts = |earlier: &Diagnostics| earlier.warning_count > 0 && !self.command.uncounted_warnings;
        // MariaDB counts there what is wrong with the values only
        let in_info = !self.mariadb;
        self.command.earlier =
            earlier.filter(counts).map(|diagnostics| EarlierDiagnostics { diagnostics, in_info });
        Ok(())
    }

    async fn run_behind_savepoint(&mut self, text: Vec<u8>, savepoint: bool) -> Result<Reply, End> {
        let mut flight = Flight::default();
        if savepoint {
            flight.push_savepoint();
        }
        flight.push_write(text);
        last(self.run_flight(flight).await?)
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

    /// Images what foreign keys change along with the rows of the statement, and sees that all could be put back.
    async fn effects_of_joined(&mut self, t: &Run<'_>, images: &[Vec<Row>]) -> Result<EffectImages, Halt> {
        for w in &t.written {
            self.state.branch.assume(&w.info, is_parent(&w.info, &w.effect(&t.joined.action)));
        }
        let fires = |w: &Written<'_>| may_fire(&w.info, &w.effect(&t.joined.action));
        match (t.written.as_slice(), images) {
            ([only], [rows]) => {
                let effect = only.effect(&t.joined.action);
                self.image_effects(
                    OwnImages { info: &only.info, images: rows, new_keys: &[], effect },
                    t.vars,
                )
                .await
            }
            (several, _) if several.iter().any(fires) => {
                let why = "several tables are written, and a foreign key changes rows behind the statement";
                Err(Halt::stop(why))
            }
            (several, images) => {
                for (written, rows) in several.iter().zip(images) {
                    let effect = written.effect(&t.joined.action);
                    self.check_restorable(&written.info, rows.iter(), &effect).await?;
                }
                Ok(EffectImages::default())
            }
        }
    }

    /// Reads the rows that the statement will change, for each table that is written, and whether the server has
    /// warned of it.
    async fn joined_images(&mut self, t: &Run<'_>) -> Result<(Vec<Vec<Row>>, bool), Halt> {
        let image = image_sql(t.sql, t.joined, &t.written, self.mariadb);
        let rows = match self.try_one(image).await? {
            Reply::Rows(rows) => rows,
            Reply::Err(e) => {
                let harmless = nowhere_sql(t.sql, t.joined, t.analysis);
                let whole = t.sql.get(..t.analysis.terminator);
                let how = OwnError { harmless: &harmless, always: false, whole };
                return Err(Box::pin(self.read_failed(e, how)).await?);
            }
            Reply::TooLarge => {
                return Err(self.above_bytes("the before image of the statement is").into());
            }
            Reply::Ok(_) => return Err(Halt::broken("a before image without rows")),
        };
        let mut warned = false;
        for written in &t.written {
            warned |= self.warned(&written.info.table, &rows)?;
        }
        let images = decode_written(&t.written, &rows).map_err(|unread| self.unread(unread))?;
        let of_tables: Vec<(&Table, &[Row])> = t
            .written
            .iter()
            .zip(&images)
            .map(|(written, images)| (&*written.info.table, images.as_slice()))
            .collect();
        if let Some(why) = self.too_much(&of_tables, std::iter::empty()) {
            return Err(why.into());
        }
        Ok((images, warned))
    }
}
