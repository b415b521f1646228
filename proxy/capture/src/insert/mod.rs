//! INSERT in a bound session: the rows' keys, found before or right after the statement.

pub mod conflicts;
pub mod evaluated;
pub mod generated;
pub mod keys;
pub mod load;
pub mod load_file;
pub mod select;
pub mod upsert;
pub mod upsert_new;
pub mod values;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use atone_sql::{Analysis, Insert, OnConflict, Statement};
use atone_undo::{Key, Row, Table, Value};
use atone_wire::response::OkPacket;

use crate::Capture;
use crate::binding::hold::Reached;
use crate::binding::views::View;
use crate::effects::audit::{TriggerRows, TriggerTarget};
use crate::error::End;
use crate::flight::{Flight, Reply, flights};
use crate::images::{Unread, decode, locking_read_by_key};
use crate::insert::conflicts::conditions;
use crate::insert::evaluated::slots;
use crate::insert::keys::{
    InsertKeys, finds_no_others, generated_keys, insert_keys, literal_predicates, width,
};
use crate::journal::Presence;
use crate::outcome::{Done, Halt, Written, last};
use crate::settings::Vars;
use atone_facts::{TableInfo, Write};

/// The text of an INSERT and what it writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The statement, without what follows it; the literals of `insert` are in it.
    pub(crate) text: &'a [u8],
    /// What is sent instead, where the literals only tell what it does.
    pub(crate) run: Option<&'a [u8]>,
    pub(crate) insert: &'a Insert,
    pub(crate) info: &'a Arc<TableInfo>,
    /// The columns that the statement names.
    pub(crate) named: Option<&'a Vec<String>>,
    /// The view that the statement names; the table is that behind it, and the columns of `insert` are its.
    pub(crate) view: Option<&'a View>,
    /// The tables to which its triggers add rows.
    pub(crate) trigger_targets: &'a [TriggerTarget],
    /// It stands for an INSERT … SELECT, and has the info of one.
    pub(crate) as_select: bool,
}

impl Target<'_> {
    /// An INSERT that stands for this one, in terms of the table.
    pub(crate) fn mapped<'i>(&self, insert: &'i Insert) -> Result<Cow<'i, Insert>, String> {
        self.view.map_or(Ok(Cow::Borrowed(insert)), |view| view.mapped(insert).map(Cow::Owned))
    }

    /// The text to run: one row that stands for a SELECT is given by one, so that the server tells its info.
    pub(crate) fn run_text(&self) -> Cow<'_, [u8]> {
        if let Some(run) = self.run {
            return Cow::Borrowed(run);
        }
        let values = self.insert.values.as_ref().filter(|_| self.as_select && self.insert.rows.len() == 1);
        let select = values.and_then(|values| {
            let head = self.text.get(..values.start)?.strip_suffix(b"VALUES ")?;
            let row = self.text.get(values.clone())?.strip_prefix(b"(")?.strip_suffix(b")")?;
            Some([head, b"SELECT ", row, self.text.get(values.end..)?].concat())
        });
        select.map_or(Cow::Borrowed(self.text), Cow::Owned)
    }
}

impl Capture<'_> {
    /// INSERT and REPLACE.
    pub async fn insert(&mut self, sql: &[u8], insert: &Insert, analysis: &Analysis) -> Result<Done, Halt> {
        let text = sql.get(..analysis.terminator).unwrap_or(sql);
        let vars = self.session_vars().await?;
        let Reached::Table { info, view } = self.reach(&insert.table).await? else {
            return Ok(Done::Temporary);
        };
        if insert.ignore {
            self.ignores(&info);
        }
        self.state.branch.fired();
        let mapped = view.as_ref().map(|view| view.mapped(insert)).transpose()?;
        let (named, insert) = (insert.columns.as_ref(), mapped.as_ref().unwrap_or(insert));
        let behind = upsert::effect(insert, &info).map(|effect| effect.write(&info));
        let writes: Vec<Write> = [Some(Write::Insert), behind].into_iter().flatten().collect();
        let of_triggers = view.as_ref().and_then(|_| self.any_trigger_refuses(&info));
        let refused = |write: &Write| self.triggers_refuse(&info, *write);
        if let Some(error) = of_triggers.or_else(|| writes.iter().find_map(refused)) {
            return Err(error.into());
        }
        let mut targets = self.trigger_targets(&info, &writes, &vars).await?;
        self.probe_targets(&mut targets, &vars).await?;
        let view = view.as_ref();
        let target = Target {
            text,
            run: None,
            insert,
            info: &info,
            named,
            view,
            trigger_targets: &targets,
            as_select: false,
        };
        match &insert.query {
            Some(query) => self.insert_select(target, query).await,
            None => self.insert_rows(target).await,
        }
    }

    /// INSERT … VALUES and INSERT … SET.
    pub(crate) async fn insert_rows(&mut self, target: Target<'_>) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        let Target { text, insert, info, .. } = target;
        let width = width(insert, info);
        if insert.rows.iter().any(|row| !row.is_empty() && row.len() != width) {
            // The server says so
            return Err(match self.run_theirs(self.plan_of(text)).await? {
                Reply::Err(e) => Halt::Failed(e),
                _ => Halt::stop("rows of another length than the column list"),
            });
        }
        let slots = self.heavy.run(insert.rows.len(), || slots(text, insert, info, vars.mode))?;
        if slots.is_empty() {
            return self.insert_known(target).await;
        }
        let text = self.with_values(target, &slots).await?;
        let analysis = self.heavy.run_text(text.len(), || atone_sql::analyze(&text, vars.mode));
        let Statement::Insert(insert) = analysis.statement else {
            return Err(Halt::stop("the statement with its keys' values is not understood"));
        };
        let mapped = target.mapped(&insert)?;
        self.insert_known(Target { text: &text, insert: &mapped, ..target }).await
    }

    /// An INSERT of which all is known that can be known beforehand.
    pub(crate) async fn insert_known(&mut self, target: Target<'_>) -> Result<Done, Halt> {
        if target.insert.on_conflict != OnConflict::Fail {
            let vars = self.session_vars().await?;
            let count = target.insert.rows.len();
            let conditions =
                self.heavy.run(count, || conditions(target.text, target.insert, target.info, &vars));
            // Else no row of it can meet another one by a unique key
            if conditions.as_ref().map_or(true, |all| all.iter().any(|row| !row.is_empty())) {
                let conditions = self.capturable(conditions)?;
                return self.upsert(target, &conditions).await;
            }
        }
        self.insert_new(target).await
    }

    /// Runs an INSERT that meets no other row.
    async fn insert_new(&mut self, target: Target<'_>) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        let Target { text, insert, info, .. } = target;
        let table = &info.table;
        let keys = self.heavy.run(insert.rows.len(), || insert_keys(text, insert, info, &vars))?;
        if let Some(why) = self.too_many_given(table, &keys, insert.rows.len()) {
            return Err(why.into());
        }
        // Of generated keys of rows that may be left out (one that has no parent, for example) nobody knows whose
        // they are
        if let InsertKeys::Known(rows) = &keys
            && insert.ignore
            && let Some(column) = generated_part(table, rows)
        {
            return self.insert_generated(target, column).await;
        }
        let savepoint = !matches!(keys, InsertKeys::Known(_)) || !target.trigger_targets.is_empty();
        let ok = self.run_insert(target, savepoint).await?;
        match keys {
            InsertKeys::Known(rows) => {
                let keys = generated_keys(rows, vars.numbering.from(ok.last_insert_id));
                if target.trigger_targets.is_empty() {
                    self.inserted(&ok, table, keys, TriggerRows::default())?;
                    return Ok(ok.into());
                }
                let diagnostics = self.keep_diagnostics(&ok).await?;
                let trigger_rows = self.find_trigger_rows(target.trigger_targets).await?;
                self.inserted(&ok, table, keys, trigger_rows)?;
                Ok(Written { ok, diagnostics }.into())
            }
            InsertKeys::Literals(rows) => self.look_at_inserted(ok, target, &rows, &vars).await,
            InsertKeys::Mixed(column, given) => {
                self.look_for_generated(ok, table, column, Some(given), target.trigger_targets).await
            }
        }
    }

    /// Why so many rows, with these keys as far as they are known, cannot be in the branch beside those that it has.
    fn too_many_given(&self, table: &Table, keys: &InsertKeys, rows: usize) -> Option<String> {
        let InsertKeys::Known(known) = keys else { return self.too_many_new(rows) };
        let whole = |row: &Vec<Option<Value>>| row.iter().cloned().collect::<Option<Vec<Value>>>().map(Key);
        let keys: Vec<Key> = known.iter().filter_map(whole).collect();
        let generated = known.len() - keys.len();
        self.too_many_new(self.state.branch.new_rows(table, &keys) + generated)
    }

    /// Runs the statement itself.
    pub(crate) async fn run_insert(&mut self, target: Target<'_>, savepoint: bool) -> Result<OkPacket, Halt> {
        let mut flight = Flight::default();
        if savepoint || target.insert.returning {
            flight.push_savepoint();
        }
        let text = target.run_text();
        last(self.run_ending_with(flight, &text, target.insert.returning).await?)?.written()
    }

    /// Notes the rows of an INSERT.
    fn inserted(
        &mut self,
        ok: &OkPacket,
        table: &Arc<Table>,
        keys: Vec<Key>,
        trigger_rows: TriggerRows,
    ) -> Result<(), Halt> {
        if ok.affected_rows != keys.len() as u64 {
            return Err(Halt::roll_back("the INSERT wrote another number of rows than it has"));
        }
        self.heavy.run(keys.len(), || {
            for key in keys {
                self.state.branch.touch(table, key, None, Presence::Present);
            }
        });
        self.touch_trigger_rows(trigger_rows);
        Ok(())
    }

    /// Looks at once which rows an INSERT after a savepoint has made; where they are not found, nothing stays.
    async fn look_at_inserted(
        &mut self,
        ok: OkPacket,
        target: Target<'_>,
        literals: &[Vec<Option<Vec<u8>>>],
        vars: &Vars,
    ) -> Result<Done, Halt> {
        let table = &target.info.table;
        let diagnostics = self.keep_diagnostics(&ok).await?;
        let predicates = literal_predicates(table, literals, vars.numbering.from(ok.last_insert_id));
        let found = self.one_row_each(table, &predicates).await?;
        let mut found = found.filter(|_| ok.affected_rows == literals.len() as u64);
        if let Some(rows) = &found
            && !finds_no_others(table, literals)
            && !self.are_new(table, rows).await
        {
            found = None;
        }
        let Some(found) = found else {
            return Err(Halt::take_back("the server stores the rows' keys as other values than given"));
        };
        let trigger_rows = self.find_trigger_rows(target.trigger_targets).await?;
        let keys = found.iter().map(|row| row.key(table)).collect();
        self.inserted(&ok, table, keys, trigger_rows)?;
        Ok(Written { ok, diagnostics }.into())
    }

    /// The rows that these conditions find, where each finds one, and each another one.
    async fn one_row_each(
        &mut self,
        table: &Arc<Table>,
        conditions: &[Vec<u8>],
    ) -> Result<Option<Vec<Row>>, End> {
        let mut found: Vec<Row> = Vec::new();
        for flight in flights(conditions.iter().map(|condition| locking_read_by_key(table, condition))) {
            // The server may not even compare a key with what was given for it
            for reply in self.try_flight(flight).await? {
                match reply {
                    Reply::Rows(rows) if rows.rows.len() == 1 => match decode(table, &rows) {
                        Ok(rows) => found.extend(rows),
                        Err(Unread::Lost(_)) => return Ok(None),
                        Err(Unread::End(end)) => return Err(end),
                    },
                    Reply::Rows(_) | Reply::Err(_) | Reply::TooLarge => return Ok(None),
                    Reply::Ok(_) => return Err(End::Broken("an image without rows".into())),
                }
            }
        }
        let keys: HashSet<Key> = found.iter().map(|row| row.key(table)).collect();
        Ok((keys.len() == conditions.len()).then_some(found))
    }
}

/// The column of the key that is generated for each of these rows, if there is one.
fn generated_part(table: &Table, rows: &[Vec<Option<Value>>]) -> Option<usize> {
    let key = table.keys.first()?;
    let at = rows.first()?.iter().position(Option::is_none)?;
    let all = rows.iter().all(|row| row.get(at).is_some_and(Option::is_none));
    key.columns.get(at).copied().filter(|_| all)
}
