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
use super::insert::{Manner, Target};
use super::upsert_new::only_key;
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

    /// Runs an INSERT that may meet other rows.
    pub(super) async fn upsert(
        &mut self,
        target: Target<'_>,
        conditions: &Conditions,
        manner: Manner,
    ) -> Result<(), End> {
        let Target { insert, info, .. } = target;
        let alone = manner.alone;
        let text: &[u8] = &target.run_text(manner);
        let vars = self.session_vars().await?;
        let table = &info.table;
        let effect = effect(insert, info);
        let changes = effect.clone();
        self.branch.meet(info, effect.as_ref().is_some_and(|effect| is_parent(info, effect)));
        if let Some(keys) = only_key(target, conditions, effect.as_ref(), &vars)
            && self.upsert_new(target, conditions, keys, manner).await?
        {
            return Ok(());
        }
        let mut flight = Flight::default();
        flight.push(locking_read(table, &any_of(conditions)));
        flight.push_savepoint();
        let mut behind = Behind::default();
        let mut replies = match effect.filter(|effect| may_fire(info, effect)) {
            None => self.run_ending_with(flight, text, insert.returning).await?,
            Some(effect) => {
                // The rows that foreign keys change have to be read before the statement runs
                let mut replies = self.try_flight(flight).await?;
                if !matches!(replies.last(), Some(Reply::Err(_))) {
                    let before = match replies.first() {
                        Some(Reply::Rows(rows)) => match decode(table, rows) {
                            Ok(rows) => rows,
                            Err(unread) => {
                                let error = self.unread(unread)?;
                                return self.take_back_with(&error, alone).await;
                            }
                        },
                        _ => Vec::new(),
                    };
                    if let Some(error) = self.unrestorable(info, before.iter(), &effect).await? {
                        return self.take_back_with(&error, alone).await;
                    }
                    let own = Own { info, images: &before, new_keys: &[], effect };
                    behind = match self.image_behind(own, &vars).await? {
                        Ok(behind) if behind.reaches_own => {
                            let why = "a foreign key changes rows of the table itself";
                            return self.take_insert_back(why, alone).await;
                        }
                        Ok(behind) => behind,
                        Err(Stop::Refuse(why)) => return self.take_insert_back(&why, alone).await,
                        Err(Stop::Server(e)) => return self.statement_failed(e).await,
                    };
                    replies.push(match insert.returning {
                        true => self.returning(text).await?,
                        false => self.run_write(text).await?,
                    });
                }
                replies
            }
        };
        let statement = match replies.pop() {
            Some(Reply::Err(e)) if replies.is_empty() => {
                // A literal that cannot be compared: the statement did not run
                let why = told("the rows that are in the way cannot be looked for", &e);
                return self.refuse_insert(&why, manner).await;
            }
            Some(Reply::Err(e)) => return self.statement_failed(e).await,
            statement => statement,
        };
        let before = match replies.into_iter().next() {
            Some(Reply::Rows(rows)) => match decode(table, &rows) {
                Ok(rows) => rows,
                Err(unread) => {
                    let error = self.unread(unread)?;
                    return self.take_back_with(&error, alone).await;
                }
            },
            Some(Reply::TooLarge) => {
                let why = self.above_bytes("the before image of the statement is");
                return self.take_insert_back(&why, alone).await;
            }
            _ => return Err(End::Broken("a before image without rows".into())),
        };
        let Some(Reply::Ok(ok)) = statement else {
            return Err(End::Broken("a statement that writes answered with rows".into()));
        };
        let kept = self.keep_diagnostics(&ok).await?;
        if let Some(changes) = &changes
            && let Some(error) = self.unrestorable(info, before.iter(), changes).await?
        {
            return self.take_back_with(&error, alone).await;
        }
        let mut condition = any_of(conditions);
        if !before.is_empty() {
            let keys: Vec<Key> = before.iter().map(|row| row.key(table)).collect();
            condition.extend_from_slice(b" OR ");
            condition
                .extend_from_slice(table.keys_predicate(&quote_identifier(&table.name), &keys).as_bytes());
        }
        let after: Option<Vec<Row>> = match self.run_one(locking_read(table, &condition)).await? {
            Reply::Rows(rows) => match decode(table, &rows) {
                Ok(rows) => Some(rows),
                Err(unread) => {
                    let error = self.unread(unread)?;
                    return self.take_back_with(&error, alone).await;
                }
            },
            Reply::TooLarge => None,
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
            Err(why) => return self.take_insert_back(&why, alone).await,
        };
        let replaced_by_equals = insert.on_conflict == OnConflict::Replace && rows.len() < insert.rows.len();
        if replaced_by_equals && !self.are_there(table, conditions).await? {
            let why = "a row that REPLACE gives is not found by all of its keys";
            return self.take_insert_back(why, alone).await;
        }
        if let Err(why) = self.verify_behind(&behind).await {
            return self.rolled_back(&why).await;
        }
        let Some(logged) = self.settle(target.logs, alone).await? else { return Ok(()) };
        for Touched { key, before, presence } in rows {
            self.branch.touch(table, key, before, presence);
        }
        self.touch_behind(behind, false);
        self.touch_logged(logged);
        self.statement_done(ok, alone).await?;
        self.restore_diagnostics(kept, alone);
        Ok(())
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
