//! INSERT IGNORE, REPLACE and ON DUPLICATE KEY UPDATE of rows that are all new.
//!
//! A locking read of a key at which there is no row locks the gap. Two sessions that do so and then insert into the
//! same gap wait for each other: a deadlock that the server alone does not have. So where a session beside this one
//! sees no row at any of the keys, the statement runs first, after a savepoint. Its rows are looked at after it, when
//! they are locked and there are no gaps. All that it has met were new if there are as many rows as the server
//! counts, and others have committed none at their keys. If not, a row came meanwhile: the statement is taken back,
//! and looks first.

use std::sync::Arc;

use atone_sql::OnConflict;
use atone_undo::{Key, Table, Value};
use atone_wire::caps::client;

use crate::Capture;
use crate::effect::Effect;
use crate::effects::cascade::may_fire;
use crate::flight::Flight;
use crate::insert::Target;
use crate::insert::conflicts::{Conditions, Counted, reads, touched};
use crate::insert::keys::{InsertKeys, insert_keys};
use crate::insert::upsert::{Found, Unlooked};
use crate::journal::Presence;
use crate::outcome::{Halt, Written, last};
use crate::settings::Vars;
use crate::text::same_name;
use atone_facts::TableInfo;

/// The one unique key by which rows of the statement can meet others, as the table's first, and the rows' values of it.
///
/// Nothing where it cannot be told what the statement did by looking at these rows only, or where running it twice
/// would be seen.
pub(crate) fn only_key(
    target: Target<'_>,
    conditions: &Conditions,
    effect: Option<&Effect>,
    vars: &Vars,
) -> Option<(Arc<Table>, Vec<Key>)> {
    let Target { text, insert, info, .. } = target;
    let plain = target.run.is_none()
        && target.trigger_targets.is_empty()
        && insert.values.is_some()
        && insert.query.is_none()
        && !insert.returning
        && !insert.has_side_effects
        && !info.table.columns.iter().any(|column| column.auto_increment)
        && info.facts.triggers.is_empty()
        && effect.is_none_or(|effect| !may_fire(info, effect));
    let [key] = info.table.keys.as_slice() else { return None };
    if !plain || conditions.iter().any(|row| row.len() != 1) {
        return None;
    }
    if let OnConflict::Update(assignments) = &insert.on_conflict {
        let named =
            |c: &usize, name: &str| info.table.columns.get(*c).is_some_and(|col| same_name(&col.name, name));
        if assignments.iter().any(|a| key.columns.iter().any(|c| named(c, &a.column))) {
            return None;
        }
    }
    known_keys(text, target, info, vars).map(|keys| (info.table.clone(), keys))
}

fn known_keys(text: &[u8], target: Target<'_>, info: &TableInfo, vars: &Vars) -> Option<Vec<Key>> {
    let Ok(InsertKeys::Known(rows)) = insert_keys(text, target.insert, info, vars) else { return None };
    let whole = |row: Vec<Option<Value>>| row.into_iter().collect::<Option<Vec<Value>>>().map(Key);
    rows.into_iter().map(whole).collect()
}

impl Capture<'_> {
    /// Runs the statement where all of its rows are new; nothing where they may not be, and nothing of it has run, or
    /// stays.
    pub(crate) async fn upsert_new(
        &mut self,
        target: Target<'_>,
        conditions: &Conditions,
        (table, keys): (Arc<Table>, Vec<Key>),
    ) -> Result<Option<Written>, Halt> {
        let touched_before = keys.iter().any(|key| self.state.branch.has(&table, key));
        if touched_before || !self.are_own(&table, keys).await {
            return Ok(None);
        }
        let mut flight = Flight::default();
        flight.push_savepoint();
        flight.push_write(target.run_text());
        let ok = last(self.run_flight(flight).await?)?.written()?;
        let diagnostics = self.keep_diagnostics(&ok).await?;
        let mut behind = Found::default();
        let vars = self.session_vars().await?;
        let rows = match self.find(&table, &reads(target.info, conditions, &vars), &mut behind).await {
            Ok(()) => behind.rows,
            Err(Unlooked::Lost(Halt::End(end))) => return Err(end.into()),
            Err(_) => Vec::new(),
        };
        let counted = Counted {
            affected_rows: ok.affected_rows,
            rows: target.insert.rows.len(),
            found_rows: self.capabilities & client::FOUND_ROWS != 0,
        };
        let found: Vec<Key> = rows.iter().map(|row| row.key(&table)).collect();
        let fits = touched(&table, &target.insert.on_conflict, counted, Vec::new(), &rows).is_ok();
        if !fits || !self.are_own(&table, found.clone()).await {
            if !self.statement_taken_back().await? {
                return Err(Halt::roll_back("a row came meanwhile with a key that the statement gives"));
            }
            self.state.diagnostics.forget();
            return Ok(None);
        }
        for key in found {
            self.state.branch.touch(&table, key, None, Presence::Present);
        }
        Ok(Some(Written { ok, diagnostics }))
    }
}
