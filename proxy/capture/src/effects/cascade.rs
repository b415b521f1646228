//! Rows that foreign keys change along with a statement: ON DELETE and ON UPDATE with CASCADE or SET NULL.
//!
//! Before the statement runs, the rows that refer to those it will change are read and locked. So are the rows that
//! refer to them in turn, until nothing more can fire. They join the branch's journal with the statement's own rows.
//!
//! The rows read are the rows changed, because:
//! - A foreign key fires for rows that the statement changes, which are among those imaged; the rows it reaches are found
//!   by the same comparison of columns that the server makes.
//! - Rows found are locked, and so are their parents. Who gives another row such a parent has to lock the parent
//!   first. There are two exceptions: he has switched `foreign_key_checks` off, or the foreign key points at a
//!   further unique key, whose entry the read of the parent did not lock. So the children are looked at again after
//!   the statement, as they are committed: what the cascade has changed is still there to others. One that was not
//!   read takes the local transaction back.
//! - The foreign keys that were followed are compared before the COMMIT with those that are there then ([`crate::commit::fresh`]).

mod child_keys;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use atone_sql::{NO_LIMIT, TableRef};
use atone_undo::{Key, Kind, Row, Table, quote_identifier};
use atone_wire::response::ErrPacket;

use crate::Capture;
use crate::binding::tables::{Resolved, digest, probe_sql};
use crate::effect::Effect;
use crate::effects::cascade::child_keys::{NewValues, cascaded, new_values};
use crate::error::End;
use crate::flight::{Reply, Rows, flights};
use crate::images::{KEYS_PER_SELECT, decode_beside, key_only};
use crate::journal::{Presence, row_bytes};
use crate::outcome::Halt;
use crate::outcome::with_context;
use crate::settings::Vars;
use atone_facts::ReadError;
use atone_facts::{ForeignKey, Rule, TableInfo, first_with_effect, undo_refusal};

/// What a foreign key does with the children.
fn rule(key: &ForeignKey, effect: &Effect) -> Rule {
    match effect {
        Effect::Deleted => key.on_delete,
        Effect::Updated(_) if effect.touches(&key.referenced) => key.on_update,
        Effect::Updated(_) => Rule::Restrict,
    }
}

/// What a foreign key does to the children of rows with this effect.
fn behind_effect(child: &TableInfo, key: &ForeignKey, rule: Rule, effect: &Effect) -> Effect {
    match (rule, effect) {
        (Rule::Cascade, Effect::Deleted) => Effect::Deleted,
        _ => Effect::updated(child, key.columns.iter().map(String::as_str)),
    }
}

/// Whether foreign keys that point at the table matter to a statement with this effect.
pub(crate) fn is_parent(info: &TableInfo, effect: &Effect) -> bool {
    effect.touches(&info.indexed)
}

/// Whether a foreign key may change rows along with a statement with this effect.
pub(crate) fn may_fire(info: &TableInfo, effect: &Effect) -> bool {
    unproven(info, effect).is_some()
        || info.references.keys.iter().any(|key| rule(key, effect) != Rule::Restrict)
}

fn unproven<'a>(info: &'a TableInfo, effect: &Effect) -> Option<&'a String> {
    info.references.unproven.as_ref().filter(|_| effect.touches(&info.indexed))
}

/// What a row may undergo.
#[derive(Debug, Default)]
struct RowEffects {
    deleted: bool,
    updated: BTreeSet<usize>,
}

impl RowEffects {
    /// Adds an effect; whether that is news.
    fn add(&mut self, effect: &Effect) -> bool {
        match effect {
            Effect::Deleted => !std::mem::replace(&mut self.deleted, true),
            Effect::Updated(columns) => {
                let before = self.updated.len();
                self.updated.extend(columns);
                self.updated.len() > before
            }
        }
    }

    /// Whether the row must be there after the statement, where all that it was to change `is_changed`.
    fn presence(&self, is_changed: bool) -> Presence {
        match (self.deleted, self.updated.is_empty()) {
            (false, _) => Presence::Present,
            (true, true) if is_changed => Presence::Absent,
            (true, _) => Presence::Unknown,
        }
    }
}

/// The rows that a statement itself changes, of one table; they are locked.
pub(crate) struct OwnImages<'a> {
    pub(crate) info: &'a Arc<TableInfo>,
    pub(crate) images: &'a [Row],
    /// The keys that they are to have, where the statement assigns some; `None` for one that cannot be told.
    pub(crate) new_keys: &'a [Option<Key>],
    pub(crate) effect: Effect,
}

/// Rows of one table whose children are looked for.
struct Step {
    info: Arc<TableInfo>,
    /// The tables on the way to it, itself included.
    path: Vec<usize>,
    keys: Vec<Key>,
    /// What columns of these rows are to become.
    new: HashMap<Key, NewValues>,
    effect: Effect,
}

/// One foreign key and the parents for which it was followed.
#[derive(Debug)]
struct Followed {
    parent: Arc<Table>,
    child: Arc<Table>,
    key: ForeignKey,
    parents: Vec<Key>,
}

/// The rows that change along with a statement.
#[derive(Debug, Default)]
pub(crate) struct EffectImages {
    /// In the order found, each with its place in `tables`.
    rows: Vec<(usize, Row)>,
    tables: Vec<Arc<Table>>,
    /// What becomes of them and of the statement's own rows.
    effects: HashMap<(usize, Key), RowEffects>,
    /// What columns of them are to become.
    new: HashMap<(usize, Key), NewValues>,
    followed: Vec<Followed>,
    /// Some of them are in the statement's own table.
    pub(crate) reaches_own: bool,
    /// A cascade comes back to a table where it has been; MySQL ends it there when others lie between.
    comes_back: bool,
}

/// Whether foreign keys change anything, and whether triggers fire for what they change; `sql_select_limit` may be 0.
const SETTINGS_SQL: &str = "SELECT @@foreign_key_checks, 0 /*!90700 OR @@enable_cascade_triggers */ LIMIT 1";

fn is_same(one: &Table, other: &Table) -> bool {
    one.schema == other.schema && one.name == other.name
}

impl EffectImages {
    fn place(&mut self, table: &Arc<Table>) -> usize {
        self.tables.iter().position(|t| is_same(t, table)).unwrap_or_else(|| {
            self.tables.push(table.clone());
            self.tables.len() - 1
        })
    }
}

impl Capture<'_> {
    /// Images the rows that change along with a statement which has not run yet, and sees that its own and these
    /// could be put back.
    pub(crate) async fn image_effects(
        &mut self,
        own: OwnImages<'_>,
        vars: &Vars,
    ) -> Result<EffectImages, Halt> {
        let OwnImages { info, images, new_keys, effect } = own;
        let mut cascaded = EffectImages::default();
        self.state.branch.assume(info, effect.touches(&info.indexed));
        self.check_restorable(info, images.iter(), &effect).await?;
        if images.is_empty() || !may_fire(info, &effect) {
            return Ok(cascaded);
        }
        let fires_triggers = match self.run_one(SETTINGS_SQL).await? {
            Reply::Rows(rows) => match rows.cells(0)?.as_slice() {
                [Some(b"0"), _] => return Ok(cascaded),
                [_, fires] => *fires != Some(b"0".as_slice()),
                _ => return Err(Halt::broken("two variables in other columns")),
            },
            _ => return Err(Halt::broken("a variable without a row")),
        };
        let own = cascaded.place(&info.table);
        let keys: Vec<Key> = images.iter().map(|row| row.key(&info.table)).collect();
        for key in &keys {
            cascaded.effects.entry((own, key.clone())).or_default().add(&effect);
        }
        let mut bytes = images.iter().map(row_bytes).sum();
        let mut new_rows = self.state.branch.new_rows(&info.table, &keys);
        let new = new_values(&info.table, &keys, new_keys);
        let mut steps = VecDeque::from([Step { info: info.clone(), path: vec![own], keys, new, effect }]);
        while let Some(step) = steps.pop_front() {
            self.state.branch.assume(&step.info, step.effect.touches(&step.info.indexed));
            if let Some(why) = unproven(&step.info, &step.effect) {
                return Err(why.clone().into());
            }
            for key in &step.info.references.keys {
                let rule = rule(key, &step.effect);
                if rule == Rule::Restrict {
                    continue;
                }
                let (child, rows) = self.children(&step, key, rule, vars).await?;
                let effect = behind_effect(&child, key, rule, &step.effect);
                let fired = first_with_effect(&child.facts.triggers, effect.write(&child));
                if let Some(trigger) = fired.filter(|_| fires_triggers && !rows.is_empty()) {
                    return Err(Halt::stop(format!(
                        "under enable_cascade_triggers foreign key {} of {}.{} fires the trigger {}",
                        key.name, key.schema, key.table, trigger.name
                    )));
                }
                self.check_restorable(&child, rows.iter().map(|(row, _)| row), &effect).await?;
                let place = cascaded.place(&child.table);
                cascaded.reaches_own |= place == own && !rows.is_empty();
                cascaded.comes_back |= step.path.contains(&place) && !rows.is_empty();
                let (mut next, mut next_new) = (Vec::new(), HashMap::new());
                for (row, new) in rows {
                    let id = (place, row.key(&child.table));
                    let is_new = !cascaded.effects.contains_key(&id);
                    if !new.is_empty() {
                        cascaded.new.entry(id.clone()).or_default().extend(new);
                    }
                    if is_new && !self.state.branch.has(&child.table, &id.1) {
                        new_rows += 1;
                    }
                    if cascaded.effects.entry(id.clone()).or_default().add(&effect) {
                        next_new.extend(cascaded.new.get(&id).map(|new| (id.1.clone(), new.clone())));
                        next.push(id.1);
                    }
                    if is_new {
                        bytes += row_bytes(&row);
                        cascaded.rows.push((place, row));
                    }
                }
                if let Some(why) = self.above_limits(new_rows, bytes) {
                    return Err(why.into());
                }
                cascaded.followed.push(Followed {
                    parent: step.info.table.clone(),
                    child: child.table.clone(),
                    key: key.clone(),
                    parents: step.keys.clone(),
                });
                if !next.is_empty() {
                    let path = step.path.iter().copied().chain([place]).collect();
                    steps.push_back(Step { info: child, path, keys: next, new: next_new, effect });
                }
            }
        }
        Ok(cascaded)
    }

    /// Why the branch cannot take so many rows more.
    fn above_limits(&self, rows: usize, bytes: usize) -> Option<String> {
        let limits = &self.limits;
        let above = self.state.branch.rows() + rows > limits.max_branch_rows
            || self.state.branch.bytes() + bytes > limits.max_branch_bytes;
        above.then(|| {
            format!(
                "with the rows that foreign keys change more than max_branch_rows = {} rows or max_branch_bytes = {} \
                 in one branch",
                limits.max_branch_rows, limits.max_branch_bytes
            )
        })
    }

    /// Reads and locks the rows that refer to others by a foreign key; with each what columns of it are to become.
    async fn children(
        &mut self,
        step: &Step,
        key: &ForeignKey,
        rule: Rule,
        vars: &Vars,
    ) -> Result<(Arc<TableInfo>, Vec<(Row, NewValues)>), Halt> {
        let says = |why: &str| {
            Halt::stop(format!("foreign key {} of {}.{}: {why}", key.name, key.schema, key.table))
        };
        let name = TableRef::named(Some(key.schema.clone()), key.table.clone());
        let (child, probe) = match self.resolve(&name, vars).await? {
            Resolved::Table(info, probe) => (info, probe),
            Resolved::Temporary => return Err(says("a temporary table hides the child")),
            Resolved::View(..) => return Err(says("the child is a view now")),
            Resolved::Answer(e) => return Err(says(&String::from_utf8_lossy(&e.message))),
        };
        let columns = match child_columns(&step.info.table, key, &child.table) {
            Ok(columns) => columns,
            Err(why) => return Err(says(&why)),
        };
        // Triggers do not fire for what a foreign key changes, but they do for the compensation
        let write = behind_effect(&child, key, rule, &step.effect).write(&child);
        if let Some(why) = undo_refusal(&child.table, &child.facts.triggers, write) {
            return Err(says(&why));
        }
        let selects = step.keys.chunks(KEYS_PER_SELECT).map(|chunk| {
            let beside = key_only(&step.info.table).image_select_list("`p`");
            let mut select = children_sql(&step.info.table, key, &child.table, &beside, chunk);
            select.push_str(" FOR UPDATE");
            select
        });
        let moves = rule == Rule::Cascade && step.effect != Effect::Deleted;
        let mut found = Vec::new();
        for flight in flights(selects) {
            let flight = flight.after(probe_sql(&child.table));
            let mut replies = self.try_flight(flight).await?.into_iter();
            match replies.next() {
                Some(Reply::Rows(rows)) if digest(vars, &rows) == probe => {}
                Some(Reply::Rows(_)) => {
                    self.forget_table(&child.table);
                    let child = format!("{}.{}", key.schema, key.table);
                    let key = &key.name;
                    let why = format!("{child}, the child of foreign key {key}, was altered meanwhile");
                    return Err(Halt::RolledBack(why));
                }
                Some(Reply::Err(e)) => return Err(failed(key, e)),
                _ => return Err(Halt::broken("the probe of a table has no columns")),
            }
            for reply in replies {
                match reply {
                    Reply::Rows(rows) => {
                        let parents =
                            if moves { parents(&step.info.table, &child.table, &rows)? } else { Vec::new() };
                        let mut parents = parents.into_iter();
                        let decoded = self.heavy.run(rows.rows.len(), || decode_beside(&child.table, &rows));
                        let decoded = decoded.map_err(|e| self.unread(e))?;
                        for row in decoded {
                            let new = match parents.next() {
                                Some(parent) => cascaded(step, key, &parent, &child.table, &row, &columns),
                                None => Ok(NewValues::new()),
                            };
                            match new {
                                Ok(new) => found.push((row, new)),
                                Err(()) => return Err(says("it changes the key of rows")),
                            }
                        }
                    }
                    Reply::Err(e) => return Err(failed(key, e)),
                    Reply::TooLarge => {
                        return Err(says(&self.above_bytes("its rows are")));
                    }
                    Reply::Ok(_) => return Err(Halt::broken("an image without rows")),
                }
            }
        }
        Ok((child, found))
    }

    /// Looks after the statement whether its cascades have met rows that were not imaged: the local transaction must
    /// not commit then.
    pub(crate) async fn verify_effects(&mut self, cascaded: &EffectImages) -> Result<(), Halt> {
        self.followed_as_imaged(cascaded).await.map_err(Halt::RolledBack)
    }

    async fn followed_as_imaged(&self, cascaded: &EffectImages) -> Result<(), String> {
        if cascaded.followed.is_empty() {
            return Ok(());
        }
        for followed in &cascaded.followed {
            let child = key_only(&followed.child);
            // What is known of a table may have been read anew between its own image and that of its children
            let same = |t: &Arc<Table>| is_same(t, &followed.child);
            let place = cascaded.tables.iter().position(same);
            let select = |chunk| children_sql(&followed.parent, &followed.key, &child, "", chunk);
            let selects: Vec<String> = followed.parents.chunks(KEYS_PER_SELECT).map(select).collect();
            let rows = self.catalog.committed_rows(&child, &selects).await.map_err(|e| match e {
                ReadError::Unread(e) => {
                    format!("the rows that foreign keys change cannot be verified: {e}")
                }
                ReadError::Undecoded(e) => format!("a row behind the statement does not decode: {e}"),
            })?;
            for row in rows {
                let key = row.key(&child);
                let imaged = place.is_some_and(|place| cascaded.effects.contains_key(&(place, key.clone())));
                if !imaged && !self.state.branch.has(&followed.child, &key) {
                    return Err(format!(
                        "foreign key {} has met a row of {}.{} that came meanwhile",
                        followed.key.name, followed.child.schema, followed.child.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Notes the rows that have changed along with a statement, which has changed all of its own rows where it
    /// `is_certain`.
    pub(crate) fn touch_effects(&mut self, cascaded: EffectImages, is_certain: bool) {
        let EffectImages { rows, tables, effects, comes_back, .. } = cascaded;
        let is_certain = is_certain && !comes_back;
        for (place, row) in rows {
            let Some(table) = tables.get(place) else { continue };
            let key = row.key(table);
            let presence =
                effects.get(&(place, key.clone())).map_or(Presence::Unknown, |row| row.presence(is_certain));
            self.state.branch.touch(table, key, Some(row), presence);
        }
    }
}

/// An error of the read of children: the application may not read them, for example.
fn failed(key: &ForeignKey, error: ErrPacket) -> Halt {
    if matches!(error.code, 1142 | 1143) {
        let name = format!("the rows that foreign key {} changes cannot be read", key.name);
        return Halt::stop(with_context(&name, &error));
    }
    Halt::Failed(error)
}

/// The child's columns of a foreign key, as indices into its columns.
///
/// # Errors
/// Why their values cannot be compared as the server does.
fn child_columns(parent: &Table, key: &ForeignKey, child: &Table) -> Result<Vec<usize>, String> {
    let mut out = Vec::with_capacity(key.columns.len());
    for (name, &referenced) in key.columns.iter().zip(&key.referenced) {
        let at = child.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let at = at.ok_or_else(|| format!("the column {name} is unknown"))?;
        let (Some(ours), Some(theirs)) = (child.columns.get(at), parent.columns.get(referenced)) else {
            return Err(format!("the column {name} is unknown"));
        };
        let by_number = matches!(ours.kind, Kind::Enum | Kind::Set);
        if ours.kind != theirs.kind || (by_number && ours.column_type != theirs.column_type) {
            return Err(format!("the column {name} has another type than the one it refers to"));
        }
        out.push(at);
    }
    Ok(out)
}

/// The keys of the parents, which follow the images of the children.
fn parents(parent: &Table, child: &Table, rows: &Rows) -> Result<Vec<Key>, End> {
    let parent = key_only(parent);
    let key = |i| {
        let cells = rows.cells(i)?;
        let row = parent.decode_row(cells.get(child.image_width()..).unwrap_or_default());
        row.map(|row| row.key(&parent))
            .map_err(|e| End::Broken(format!("a parent's key does not decode: {e}")))
    };
    (0..rows.rows.len()).map(key).collect()
}

/// The rows of the child that refer to these rows of the parent; `beside` is to be read of the parent with each.
fn children_sql(parent: &Table, key: &ForeignKey, child: &Table, beside: &str, parents: &[Key]) -> String {
    let pairs = key.columns.iter().zip(&key.referenced).filter_map(|(ours, &theirs)| {
        let column = parent.columns.get(theirs)?;
        let names = [ours, &column.name].map(|name| quote_identifier(name));
        Some(column.same(&format!("`c`.{}", names[0]), &format!("`p`.{}", names[1])))
    });
    format!(
        "SELECT {}{}{beside} FROM {} AS `p` STRAIGHT_JOIN {} AS `c` ON {} WHERE {}{}",
        child.image_select_list("`c`"),
        if beside.is_empty() { "" } else { "," },
        parent.quoted(),
        child.quoted(),
        pairs.collect::<Vec<_>>().join(" AND "),
        parent.keys_predicate("`p`", parents),
        String::from_utf8_lossy(NO_LIMIT)
    )
}
