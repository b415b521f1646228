//! INSERT IGNORE, REPLACE and ON DUPLICATE KEY UPDATE in a bound session: the rows that stand in the way are imaged before,
//! and looked at again behind the statement.

use atone_sql::{Insert, OnConflict};
use atone_undo::{Key, Row, Table, quote_identifier};
use atone_wire::caps::client;

use super::Session;
use super::bound::told;
use super::cascade::{Behind, Effect, Own, Stop, is_parent, may_fire};
use super::conflicts::{Conditions, Counted, Touched, any_of, touched};
use super::dml::{decode, locking_read};
use super::inject::{Flight, Reply};
use super::insert::{SAVEPOINT, Target, Try};
use super::tables::{digest, probe_sql};
use crate::error::End;
use crate::meta::TableInfo;

impl Session {
    /// The conditions under which its rows are kept out, where all that the statement may do can be captured.
    pub(super) fn capturable(
        &self,
        insert: &Insert,
        conditions: Result<Conditions, String>,
    ) -> Result<Conditions, String> {
        let conditions = conditions?;
        if conditions.iter().any(Vec::is_empty) {
            return Err("some rows have no unique key by which they can be found".into());
        }
        let limit = self.backend.limits.max_branch_rows;
        let most: usize = conditions.iter().map(Vec::len).sum();
        if self.branch.rows() + insert.rows.len() + most > limit {
            return Err(format!("more than max_branch_rows = {limit} rows in one branch"));
        }
        Ok(conditions)
    }

    /// One try; false where the table was altered since its metadata was read, and nothing was done.
    pub(super) async fn try_upsert(
        &mut self,
        target: Target<'_>,
        conditions: &Conditions,
        try_: Try,
    ) -> Result<bool, End> {
        let Target { insert, info, probe, .. } = target;
        let Try { begin, alone, last, .. } = try_;
        let text: &[u8] = &target.run_text(try_);
        let vars = self.session_vars().await?;
        let table = &info.table;
        let mut flight = Flight::default();
        if begin {
            flight.push("START TRANSACTION");
        }
        flight.push(probe_sql(table));
        flight.push(locking_read(table, &any_of(conditions)));
        flight.push(format!("SAVEPOINT {SAVEPOINT}"));
        let image_at = if begin { 2 } else { 1 };
        let mut behind = Behind::default();
        let effect = effect(insert, info);
        self.branch.meet(info, effect.as_ref().is_some_and(|effect| is_parent(info, effect)));
        let mut replies = match effect.filter(|effect| may_fire(info, effect)) {
            None => self.run_ending_with(flight, text, insert.returning).await?,
            Some(effect) => {
                // The rows that foreign keys change have to be read before the statement runs
                let mut replies = self.run_flight(flight).await?;
                if !matches!(replies.last(), Some(Reply::Err(_))) {
                    let before = match (replies.get(image_at - 1), replies.get(image_at)) {
                        (Some(Reply::Rows(rows)), _) if digest(&vars, rows) != probe => {
                            return self.altered_meanwhile(table, alone && !last).await;
                        }
                        (_, Some(Reply::Rows(rows))) => decode(table, rows)?,
                        _ => Vec::new(),
                    };
                    let own = Own { info, images: &before, new_keys: &[], effect };
                    behind = match self.image_behind(own, &vars).await? {
                        Ok(behind) if behind.reaches_own => {
                            let why = "a foreign key changes rows of the table itself";
                            self.take_insert_back(why, alone).await?;
                            return Ok(true);
                        }
                        Ok(behind) => behind,
                        Err(Stop::Refuse(why)) => {
                            self.take_insert_back(&why, alone).await?;
                            return Ok(true);
                        }
                        Err(Stop::Server(e)) => {
                            self.statement_failed(e, alone).await?;
                            return Ok(true);
                        }
                    };
                    replies.push(match insert.returning {
                        true => self.returning(text).await?,
                        false => self.run_one(text).await?,
                    });
                }
                replies
            }
        };
        let statement = match replies.pop() {
            Some(Reply::Err(e)) if replies.len() == image_at => {
                // A literal that cannot be compared, or the table has been altered: the statement did not run
                self.forget_table(table);
                if alone {
                    self.rollback_local().await?;
                }
                let why = told("the rows that are in the way cannot be looked for", &e);
                self.refuse(&why).await?;
                return Ok(true);
            }
            Some(Reply::Err(e)) => {
                self.statement_failed(e, alone).await?;
                return Ok(true);
            }
            statement => statement,
        };
        let mut results = replies.into_iter().filter(|reply| !matches!(reply, Reply::Ok(_)));
        let seen = match results.next() {
            Some(Reply::Rows(rows)) => digest(&vars, &rows),
            _ => return Err(End::Broken("the probe of a table has no columns".into())),
        };
        if let Some(view) = target.view
            && !self.still_is(view).await?
        {
            return self.altered_meanwhile(table, false).await;
        }
        if seen != probe {
            return self.altered_meanwhile(table, alone && !last).await;
        }
        let before = match results.next() {
            Some(Reply::Rows(rows)) => decode(table, &rows)?,
            Some(Reply::TooLarge) => {
                let why = self.above_bytes("the before image of the statement is");
                self.take_insert_back(&why, alone).await?;
                return Ok(true);
            }
            _ => return Err(End::Broken("a before image without rows".into())),
        };
        let Some(Reply::Ok(ok)) = statement else {
            return Err(End::Broken("a statement that writes answered with rows".into()));
        };
        let kept = self.keep_diagnostics(&ok).await?;
        let mut condition = any_of(conditions);
        if !before.is_empty() {
            let keys: Vec<Key> = before.iter().map(|row| row.key(table)).collect();
            condition.extend_from_slice(b" OR ");
            condition
                .extend_from_slice(table.keys_predicate(&quote_identifier(&table.name), &keys).as_bytes());
        }
        let after: Option<Vec<Row>> = match self.run_one(locking_read(table, &condition)).await? {
            Reply::Rows(rows) => Some(decode(table, &rows)?),
            Reply::Err(_) | Reply::TooLarge => None,
            _ => return Err(End::Broken("an image without rows".into())),
        };
        let counted = Counted {
            affected_rows: ok.affected_rows,
            rows: insert.rows.len(),
            found_rows: self.capabilities & client::FOUND_ROWS != 0,
        };
        let rows = after
            .ok_or_else(|| "the rows cannot be read behind the statement".to_string())
            .and_then(|after| touched(table, &insert.on_conflict, counted, before, &after));
        let rows = match rows {
            Ok(rows) => rows,
            Err(why) => {
                // Perhaps by a unique key that is not known yet
                self.forget_table(table);
                self.backend.metadata.forget(&table.schema, &table.name);
                self.take_insert_back(&why, alone).await?;
                return Ok(true);
            }
        };
        let replaced_by_equals = insert.on_conflict == OnConflict::Replace && rows.len() < insert.rows.len();
        if replaced_by_equals && !self.are_there(table, conditions).await? {
            let why = "a row that REPLACE gives is not found by all of its keys";
            self.take_insert_back(why, alone).await?;
            return Ok(true);
        }
        if let Err(why) = self.verify_behind(&behind).await {
            self.rolled_back(&why).await?;
            return Ok(true);
        }
        let Some(logged) = self.settle(target.logs, alone).await? else { return Ok(true) };
        for Touched { key, before, presence } in rows {
            self.branch.touch(table, key, before, presence);
        }
        self.touch_behind(behind, false);
        self.touch_logged(logged);
        self.statement_done(ok, alone).await?;
        self.restore_diagnostics(kept, alone);
        Ok(true)
    }

    /// Whether each row of a REPLACE is found by all of its unique keys at once. The server counts one that takes the place of
    /// its equal as it counts a new one, which then may be another than was looked for.
    async fn are_there(&mut self, table: &Table, conditions: &Conditions) -> Result<bool, End> {
        let rows: Vec<Vec<u8>> = conditions.iter().map(|row| row.join(&b" AND "[..])).collect();
        let mut select = format!("SELECT COUNT(*) FROM {} WHERE ", table.quoted()).into_bytes();
        select.extend_from_slice(&any_of(&vec![rows]));
        select.extend_from_slice(b" LIMIT 1 FOR UPDATE");
        match self.run_one(select).await? {
            Reply::Rows(rows) => {
                let cells = rows.cells(0)?;
                Ok(cells.first() == Some(&Some(conditions.len().to_string().as_bytes())))
            }
            _ => Ok(false),
        }
    }
}

/// What the statement does to the rows that are in its way.
pub(super) fn effect(insert: &Insert, info: &TableInfo) -> Option<Effect> {
    match &insert.on_conflict {
        OnConflict::Fail | OnConflict::Ignore => None,
        OnConflict::Replace => Some(Effect::Deleted),
        OnConflict::Update(assignments) => {
            Some(Effect::updated(info, assignments.iter().map(|a| a.column.as_str())))
        }
    }
}
