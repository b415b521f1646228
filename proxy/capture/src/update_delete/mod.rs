//! UPDATE and DELETE in a bound session: before image, the statement on the rows imaged, and what follows.

mod image;
mod joined;
mod move_rows;
mod moves;
mod over;
mod restrict;
mod viewed;

use std::collections::HashSet;
use std::sync::Arc;

use atone_sql::{Analysis, Dml, DmlAction};
use atone_undo::{Key, Row, Table};
use atone_wire::response::{ErrPacket, OkPacket};

use crate::Capture;
use crate::binding::hold::Reached;
use crate::diagnostics::{Diagnostics, EarlierDiagnostics};
use crate::effect::Effect;
use crate::effects::audit::TriggerTarget;
use crate::effects::cascade::{EffectImages, OwnImages, is_parent, may_fire};
use crate::error::{End, SqlError};
use crate::flight::{Flight, Reply, Rows};
use crate::images::decode_beside;
use crate::insert::keys::names_one_row;
use crate::journal::{Presence, row_bytes};
use crate::odd::{ODD, compares};
use crate::outcome::{Done, Halt, Written, last};
use crate::own_error::OwnError;
use crate::restorable::always_restorable;
use crate::settings::Vars;
use crate::update_delete::image::{image_sql, qualifier};
use crate::update_delete::moves::{Moves, moves};
use crate::update_delete::restrict::{evaluated_sql, harmless_sql, looked_up, restricted_sql};
use atone_facts::TableInfo;

/// A statement whose table is held.
struct Run<'a> {
    sql: &'a [u8],
    change: &'a Dml,
    analysis: &'a Analysis,
    vars: &'a Vars,
    info: &'a Arc<TableInfo>,
    /// It can change one row at most, and the server can tell which: it need not wait for its before image.
    one_row: bool,
    /// What it assigns to the key that identifies rows.
    moves: Option<Moves>,
    /// The tables to which its triggers add rows.
    trigger_targets: Vec<TriggerTarget>,
}

/// The rows that a statement will change.
struct Before {
    images: Vec<Row>,
    /// Their new keys, where the statement assigns some; `None` for one that cannot be told.
    keys: Vec<Option<Key>>,
    /// The statement's reply, where it ran in the same flight.
    reply: Option<Reply>,
    /// The read has had warnings, which may be errors to the statement.
    warned: bool,
}

impl Capture<'_> {
    /// UPDATE and DELETE.
    pub async fn change(&mut self, sql: &[u8], change: &Dml, analysis: &Analysis) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        if !self.mariadb && change.volatile && change.subquery {
            // What the server says of a subquery on the table that is written is lost with the condition
            self.run_theirs(harmless_sql(sql, change, analysis)).await?.written()?;
        }
        let info = match self.reach(&change.table).await? {
            Reached::Table { info, view: None } => info,
            Reached::Table { view: Some(_), .. } if vars.safe_updates => {
                return Err(Halt::stop("a view under sql_safe_updates = 1"));
            }
            Reached::Table { view: Some(view), .. } => {
                return self.change_viewed(sql, change, analysis, &view).await;
            }
            Reached::Temporary => return Ok(Done::Temporary),
        };
        if change.ignore {
            self.ignores(&info);
        }
        if self.mariadb && change.subquery && change.order_by.is_some() && !change.deletes() {
            // With the keys beside the subquery, the server assigns values of other rows
            let why = "an UPDATE with ORDER BY and a subquery in its condition, on MariaDB";
            return Err(Halt::stop(why));
        }
        if compares(&self.command.odd, change, &info) {
            return Err(Halt::stop(ODD));
        }
        let rewritten = self.mariadb && change.volatile && change.subquery;
        if rewritten && change.assignments().is_some_and(|assignments| assignments.len() > 1) {
            // There the assignments of an UPDATE with a subquery read the old row, those of one without the new
            let why = "several assignments under a condition with a subquery that cannot be evaluated twice";
            return Err(Halt::stop(why));
        }
        check_table(&info, !change.deletes())?;
        let moves = match change.assignments() {
            None => None,
            Some(assigned) => moves(sql, assigned, &info, &qualifier(&change.table), vars.mode)?,
        };
        let effect = effect(change, &info);
        if let Some(error) = self.triggers_refuse(&info, effect.write(&info)) {
            return Err(error.into());
        }
        let targets = self.trigger_targets(&info, &[effect.write(&info)], &vars).await?;
        self.state.branch.assume(&info, is_parent(&info, &effect));
        let one_row = change.order_by.is_none()
            && change.limit.is_none()
            && !change.volatile
            && !change.subquery
            && change.returning().is_none()
            && moves.is_none()
            && targets.is_empty()
            && !may_fire(&info, &effect)
            && always_restorable(&info, &effect, &vars)
            && change.equalities.as_ref().is_some_and(|p| names_one_row(sql, p, &info.table, &vars));
        if vars.safe_updates && !one_row && (change.volatile || change.limit.is_some()) {
            // What the server would look at is not in the statement on the imaged rows
            let why = "under sql_safe_updates = 1 a LIMIT, or a condition that may choose other rows when evaluated again";
            return Err(Halt::stop(why));
        }
        let info = &info;
        self.run_held(Run {
            sql,
            change,
            analysis,
            vars: &vars,
            info,
            one_row,
            moves,
            trigger_targets: targets,
        })
        .await
    }

    async fn run_held(&mut self, mut t: Run<'_>) -> Result<Done, Halt> {
        let Before { images, keys, reply, warned } = self.before_images(&t).await?;
        if images.is_empty() && !t.vars.safe_updates {
            // Restricted to no row it fires no trigger
            t.trigger_targets.clear();
        }
        self.probe_targets(&mut t.trigger_targets, t.vars).await?;
        let (reply, cascaded) = match reply {
            Some(reply) => (reply, EffectImages::default()),
            None => {
                let effect = effect(t.change, t.info);
                let own = OwnImages { info: t.info, images: &images, new_keys: &keys, effect };
                let cascaded = self.effects_of_change(own, t.change, t.vars).await?;
                let restricted = self.restricted(&t, &images, warned).await?;
                if t.moves.is_some() && !images.is_empty() {
                    return self.move_rows(&t, restricted, images, keys, cascaded).await;
                }
                (self.run_change(t.change, restricted, !t.trigger_targets.is_empty()).await?, cascaded)
            }
        };
        let ok = reply.written().map_err(|halt| match halt {
            Halt::Failed(e) if !warned => Halt::Failed(without_our_keys(e)),
            other => other,
        })?;
        let found_none = images.is_empty();
        let table = &t.info.table;
        if t.trigger_targets.is_empty() {
            self.changed(table, images, cascaded, &ok, t.change).await?;
            return Ok(if found_none { self.of_no_rows(ok, &t) } else { ok }.into());
        }
        let diagnostics = self.keep_diagnostics(&ok).await?;
        let trigger_rows = self.find_trigger_rows(&t.trigger_targets).await?;
        self.changed(table, images, cascaded, &ok, t.change).await?;
        self.touch_trigger_rows(trigger_rows);
        Ok(Written { ok, diagnostics }.into())
    }

    /// The statement on the imaged rows.
    async fn restricted(&mut self, t: &Run<'_>, images: &[Row], warned: bool) -> Result<Vec<u8>, Halt> {
        let table = &t.info.table;
        // Looked up by their keys all rows would be safe to sql_safe_updates
        let restricted = if t.vars.safe_updates && images.is_empty() {
            // It is for the server to judge, and should it find a row all the same, all is taken back
            t.sql.get(..t.analysis.terminator).unwrap_or(t.sql).to_vec()
        } else {
            let evaluated = evaluated_sql(t.sql, t.change, t.analysis, table, images, warned);
            self.hear_condition(evaluated, t.change, t.vars).await?;
            // What the condition warns of may be in any row that the statement looks at
            let all = t.change.limit.is_none();
            let filter = t.vars.safe_updates || (warned && all);
            self.heavy.run(images.len(), || {
                let restricted = restricted_sql(t.sql, t.change, t.analysis, (t.info, table), images, filter);
                looked_up(t.sql, t.change, restricted, table, t.vars)
            })
        };
        self.check_length(&restricted, t.vars)?;
        Ok(restricted)
    }

    /// Images what foreign keys change along with the imaged rows.
    async fn effects_of_change(
        &mut self,
        own: OwnImages<'_>,
        change: &Dml,
        vars: &Vars,
    ) -> Result<EffectImages, Halt> {
        let cascaded = self.image_effects(own, vars).await?;
        if cascaded.reaches_own && change.limit.is_some() {
            return Err(Halt::stop(
                "a foreign key changes rows of the table itself, whose number is limited",
            ));
        }
        Ok(cascaded)
    }

    /// Sees that a statement with the keys of its rows can be sent.
    fn check_length(&self, restricted: &[u8], vars: &Vars) -> Result<(), Halt> {
        let why = too_long(restricted, vars);
        why.map_or(Ok(()), |why| Err(SqlError::not_restorable(&self.xid(), why).into()))
    }

    /// Runs the statement so that it changes no row and evaluates its condition, and keeps what the server warns of.
    async fn hear_condition(
        &mut self,
        evaluated: Option<Vec<u8>>,
        change: &Dml,
        vars: &Vars,
    ) -> Result<(), Halt> {
        let Some(evaluated) = evaluated.filter(|text| too_long(text, vars).is_none()) else {
            return Ok(());
        };
        let ok = self.run_theirs(evaluated).await?.written()?;
        self.keep_of(&ok, 0).await?;
        // One that returns rows answers with a result, as the server gives it
        let counts = |earlier: &Diagnostics| earlier.warning_count > 0 && change.returning().is_none();
        let diagnostics = self.state.diagnostics.take().filter(counts);
        self.command.earlier =
            diagnostics.map(|diagnostics| EarlierDiagnostics { diagnostics, in_info: true });
        Ok(())
    }

    /// Runs the statement on the imaged rows, after a savepoint where it may have to be taken back.
    async fn run_change(&mut self, change: &Dml, restricted: Vec<u8>, savepoint: bool) -> Result<Reply, End> {
        let mut flight = Flight::default();
        let returning = change.returning().is_some();
        if savepoint || returning {
            flight.push_savepoint();
        }
        last(self.run_ending_with(flight, &restricted, returning).await?)
    }

    /// Notes the rows that a statement has changed. Where it met others than were imaged the local transaction is
    /// rolled back.
    async fn changed(
        &mut self,
        table: &Arc<Table>,
        images: Vec<Row>,
        cascaded: EffectImages,
        ok: &OkPacket,
        change: &Dml,
    ) -> Result<(), Halt> {
        let most = images.len() as u64;
        if ok.affected_rows > most {
            return Err(Halt::roll_back(MORE_ROWS));
        }
        self.verify_effects(&cascaded).await?;
        let presence = left(change.deletes(), ok.affected_rows == most);
        self.heavy.run(images.len(), || {
            for row in images {
                self.state.branch.touch(table, row.key(table), Some(row), presence);
            }
        });
        // MySQL takes a row away whose children's children had to stay, and lets them and some of the children dangle
        let certain = !(change.deletes() && change.ignore);
        self.touch_effects(cascaded, certain && presence == Presence::Absent);
        Ok(())
    }

    /// The answer to a statement that found no row. Where its condition could not be asked again, MariaDB knew
    /// beforehand that there is none, and leaves the info text out.
    fn of_no_rows(&self, ok: OkPacket, t: &Run<'_>) -> OkPacket {
        let limit = t.change.limit.as_ref().and_then(|span| t.sql.get(span.clone())).unwrap_or_default();
        let limit = self.marks.with_literals(limit).unwrap_or_default();
        let comparable = !self.mariadb
            || !t.change.volatile
            || t.change.deletes()
            || limit.trim_ascii_end().ends_with(b" 0")
            || !ok.info().is_empty();
        if comparable {
            return ok;
        }
        let info = format!("Rows matched: 0  Changed: 0  Warnings: {}", ok.warnings);
        ok.with_info(info.as_bytes())
    }

    /// Reads the rows that the statement will change; one that can hold for one row only runs right after that.
    async fn before_images(&mut self, t: &Run<'_>) -> Result<Before, Halt> {
        let table = &t.info.table;
        let mut flight = if t.moves.is_some() { Flight::of_values() } else { Flight::default() };
        flight.push(image_sql(t.sql, t.change, table, t.moves.as_ref()));
        if t.one_row {
            flight.push_write(&t.sql[..t.analysis.terminator]);
        }
        let mut replies = self.try_flight(flight).await?.into_iter();
        let mut image = replies.next();
        let mut moves = t.moves.as_ref();
        if let (Some(Reply::Err(_)), Some(_)) = (&image, moves) {
            // The statement itself is to say what is wrong with its new keys
            moves = None;
            image = Some(self.try_one(image_sql(t.sql, t.change, table, moves)).await?);
        }
        let rows = match image {
            Some(Reply::Rows(rows)) => rows,
            Some(Reply::Err(e)) => {
                let harmless = harmless_sql(t.sql, t.change, t.analysis);
                let whole = t.sql.get(..t.analysis.terminator);
                let how = OwnError { harmless: &harmless, always: false, whole };
                return Err(Box::pin(self.read_failed(e, how)).await?);
            }
            Some(Reply::TooLarge) => {
                if t.one_row {
                    // A statement that ran in the same flight must go as well
                    self.rollback_local().await?;
                }
                return Err(self.above_bytes("the before image of the statement is").into());
            }
            _ => return Err(Halt::broken("a before image without rows")),
        };
        let images = match self.heavy.run(rows.rows.len(), || decode_beside(table, &rows)) {
            Ok(images) => images,
            // One that ran in the same flight is on a table whose images can always be read
            Err(unread) if t.one_row => return Err(End::from(unread).into()),
            Err(unread) => return Err(self.unread(unread)),
        };
        let keys = match moves {
            Some(moves) => moves.keys(table, &images, &rows)?,
            None => Vec::new(),
        };
        if !t.one_row
            && let Some(why) = self
                .heavy
                .run(images.len(), || self.too_much(&[(table, images.as_slice())], keys.iter().flatten()))
        {
            return Err(why.into());
        }
        let warned = self.warned(table, &rows)?;
        Ok(Before { images, keys, reply: replies.next(), warned })
    }

    /// Whether the server has warned of the condition by which these rows of the table were read.
    fn warned(&self, table: &Table, rows: &Rows) -> Result<bool, End> {
        // MySQL warns of the charset of a key by itself
        let comparable = self.mariadb || !table.has_deprecated_charset();
        Ok(comparable && rows.warnings(self.capabilities)? > 0)
    }

    /// Why these rows, and those of the first table at the keys that rows move to, cannot be in the branch beside
    /// those that it has.
    fn too_much<'k>(
        &self,
        images: &[(&Table, &[Row])],
        moved: impl Iterator<Item = &'k Key>,
    ) -> Option<String> {
        let limits = &self.limits;
        let (mut rows, mut bytes) = (0, 0);
        let mut moved: HashSet<Key> = moved.cloned().collect();
        for (table, images) in images {
            let mut keys = std::mem::take(&mut moved);
            for row in *images {
                let key = row.key(table);
                bytes += if self.state.branch.has(table, &key) { 0 } else { row_bytes(row) };
                keys.insert(key);
            }
            rows += self.state.branch.new_rows(table, &keys);
        }
        let above = self.state.branch.rows() + rows > limits.max_branch_rows
            || self.state.branch.bytes() + bytes > limits.max_branch_bytes;
        above.then(|| {
            format!(
                "more than max_branch_rows = {} rows or max_branch_bytes = {} in one branch",
                limits.max_branch_rows, limits.max_branch_bytes
            )
        })
    }
}

/// Why a statement that has changed more rows than were imaged is rolled back.
const MORE_ROWS: &str = "the statement changed more rows than were imaged";

/// Why a statement with the keys of its rows cannot be sent, if it cannot.
fn too_long(restricted: &[u8], vars: &Vars) -> Option<&'static str> {
    let why = "the statement with the keys of its rows is longer than max_allowed_packet";
    (restricted.len() >= vars.max_allowed_packet).then_some(why)
}

/// The error of a statement whose condition is nothing to warn of. To ER_UPDATE_WITHOUT_KEY_IN_SAFE_MODE MySQL adds
/// what is wrong with a condition, which may be that of the keys of the rows.
fn without_our_keys(mut error: ErrPacket) -> ErrPacket {
    if error.code == 1175
        && let Some(at) = memchr::memmem::find(&error.message, b"Cannot use ")
    {
        error.message.truncate(at);
    }
    error
}

/// Whether the imaged rows must be there after a statement, which may have changed `all` of them.
fn left(deletes: bool, all: bool) -> Presence {
    match (deletes, all) {
        (false, _) => Presence::Present,
        (true, true) => Presence::Absent,
        (true, false) => Presence::Unknown,
    }
}

/// What the statement does to its rows.
fn effect(change: &Dml, info: &TableInfo) -> Effect {
    match &change.action {
        DmlAction::Update(assignments) => {
            Effect::updated(info, assignments.iter().map(|a| a.column.as_str()))
        }
        DmlAction::Delete { .. } => Effect::Deleted,
    }
}

/// Sees that a statement that updates this table, or deletes from it, can be undone exactly.
fn check_table(info: &TableInfo, update: bool) -> Result<(), String> {
    match update && info.key_follows_update {
        true => Err("an UPDATE changes the table's key, which has a column with ON UPDATE".into()),
        false => Ok(()),
    }
}
