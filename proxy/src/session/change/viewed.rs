//! UPDATE and DELETE through a view of one table: the keys of the rows are read through the view, under the statement's own
//! condition, and the rows are imaged in the table.

use atone_sql::{Analysis, Dml, DmlAction};
use atone_undo::Key;

use super::image::image_sql;
use super::restrict::{evaluated_sql, harmless_sql, restricted_sql, with_hint};
use super::{table_refusal, too_long};
use crate::error::End;
use crate::heavy::heavy;
use crate::session::Session;
use crate::session::cascade::{Effect, Own};
use crate::session::dml::{Unread, decode};
use crate::session::inject::Reply;
use crate::session::odd::{ODD, compares};
use crate::session::refused::OwnError;
use crate::session::views::View;

/// What the statement does to the table's rows.
fn effect(change: &Dml, view: &View) -> Effect {
    let name = |name: &str| Some(view.info.table.columns.get(view.column(name)?)?.name.as_str());
    match &change.action {
        DmlAction::Update(assignments) => {
            Effect::updated(&view.info, assignments.iter().filter_map(|a| name(&a.column)))
        }
        DmlAction::Delete { .. } => Effect::Deleted,
    }
}

/// Why the statement can't be undone exactly.
fn refusal(change: &Dml, view: &View) -> Option<String> {
    let Some(assignments) = change.assignments() else { return table_refusal(&view.info, false) };
    let key = view.info.table.keys.first()?;
    let of_key = |name: &str| view.column(name).is_some_and(|c| key.columns.contains(&c));
    let assigned = assignments.iter().find(|a| of_key(&a.column));
    table_refusal(&view.info, true)
        .or_else(|| assigned.map(|a| format!("an UPDATE through a view assigns the key column {}", a.column)))
}

impl Session {
    /// UPDATE and DELETE of a view, which is held.
    pub(super) async fn change_viewed(
        &mut self,
        sql: &[u8],
        change: &Dml,
        analysis: &Analysis,
        view: &View,
        alone: bool,
    ) -> Result<(), End> {
        let vars = self.session_vars().await?;
        let table = &view.info.table;
        if compares(&self.odd, change, &view.info) {
            return self.refuse_change(ODD, alone).await;
        }
        if let Some(error) = self.any_trigger_refuses(&view.info) {
            return self.refuse_with(&error, alone).await;
        }
        let key_table = match refusal(change, view).map_or_else(|| view.key_table(), Err) {
            Ok(key_table) => key_table,
            Err(why) => return self.refuse_change(&why, alone).await,
        };
        let (found, warned) = match self.try_one(image_sql(sql, change, &key_table, None)).await? {
            Reply::Rows(rows) => match decode(&key_table, &rows) {
                Ok(found) => (found, self.warned(table, &rows)?),
                // MariaDB gives no instant for a zero TIMESTAMP of a view, and finds none by it
                Err(Unread::Lost(why) | Unread::End(End::Broken(why))) => {
                    let why = format!("the keys of the rows cannot be read through the view: {why}");
                    return self.refuse_change(&why, alone).await;
                }
                Err(Unread::End(end)) => return Err(end),
            },
            Reply::Err(e) => {
                let harmless = harmless_sql(sql, change, analysis);
                let whole = sql.get(..analysis.terminator);
                return Box::pin(self.read_failed(e, OwnError { harmless: &harmless, always: false, whole }))
                    .await;
            }
            Reply::TooLarge => {
                let why = self.above_bytes("the keys of the statement's rows are");
                return self.refuse_change(&why, alone).await;
            }
            Reply::Ok(_) => return Err(End::Broken("a before image without rows".into())),
        };
        let keys: Vec<Key> = found.iter().map(|row| row.key(&key_table)).collect();
        if let Some(why) = self.too_many(table, &keys) {
            return self.refuse_change(&why, alone).await;
        }
        let images = match self.rows_at(table, keys).await? {
            Ok(images) if images.len() == found.len() => images,
            Ok(_) => {
                let why = "the rows of the view are not those of its table";
                return self.refuse_change(why, alone).await;
            }
            Err(why) => return self.refuse_change(&why, alone).await,
        };
        let too_much =
            heavy(images.len(), || self.too_much(&[(table, images.as_slice())], std::iter::empty()));
        if let Some(why) = too_much {
            return self.refuse_change(&why, alone).await;
        }
        let effect = effect(change, view);
        let own = Own { info: &view.info, images: &images, new_keys: &[], effect };
        let behind = self.behind_change(own, change, &vars, alone).await?;
        let Some(behind) = behind else { return Ok(()) };
        let evaluated = evaluated_sql(sql, change, analysis, &key_table, &found, warned);
        if !self.hear_condition(evaluated, change, &vars).await? {
            return Ok(());
        }
        let filter = warned && change.limit.is_none();
        let restricted = restricted_sql(sql, change, analysis, (&view.info, &key_table), &found, filter).text;
        let restricted = with_hint(restricted, change.verb.end, found.len(), self.mariadb);
        if let Some(why) = too_long(&restricted, &vars) {
            return self.too_large_for_packet(why, alone).await;
        }
        let ok = match self.run_change(change, restricted, false).await? {
            Reply::Ok(ok) => ok,
            Reply::Err(e) => return self.statement_failed(e).await,
            _ => return Err(End::Broken("a statement that writes answered with rows".into())),
        };
        if self.changed(table, images, behind, &ok, change).await? {
            self.statement_done(ok, alone).await?;
        }
        Ok(())
    }
}
