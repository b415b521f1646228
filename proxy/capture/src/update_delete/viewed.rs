//! UPDATE and DELETE through a view of one table: the keys of the rows are read through the view, under the
//! statement's own condition, and the rows are imaged in the table.

use atone_sql::{Analysis, Dml, DmlAction};
use atone_undo::Key;

use crate::Capture;
use crate::binding::views::View;
use crate::effect::Effect;
use crate::effects::cascade::OwnImages;
use crate::error::End;
use crate::flight::Reply;
use crate::images::{Unread, decode};
use crate::odd::{ODD, compares};
use crate::outcome::{Done, Halt};
use crate::own_error::OwnError;
use crate::update_delete::check_table;
use crate::update_delete::image::image_sql;
use crate::update_delete::restrict::{evaluated_sql, harmless_sql, restricted_sql, with_hint};

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

/// Sees that the statement can be undone exactly.
fn check(change: &Dml, view: &View) -> Result<(), String> {
    let assignments = change.assignments();
    check_table(&view.info, assignments.is_some())?;
    let (Some(assignments), Some(key)) = (assignments, view.info.table.keys.first()) else { return Ok(()) };
    let of_key = |name: &str| view.column(name).is_some_and(|c| key.columns.contains(&c));
    match assignments.iter().find(|a| of_key(&a.column)) {
        Some(a) => Err(format!("an UPDATE through a view assigns the key column {}", a.column)),
        None => Ok(()),
    }
}

impl Capture<'_> {
    /// UPDATE and DELETE of a view, which is held.
    pub(crate) async fn change_viewed(
        &mut self,
        sql: &[u8],
        change: &Dml,
        analysis: &Analysis,
        view: &View,
    ) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        let table = &view.info.table;
        if compares(&self.command.odd, change, &view.info) {
            return Err(Halt::stop(ODD));
        }
        if let Some(error) = self.any_trigger_refuses(&view.info) {
            return Err(error.into());
        }
        check(change, view)?;
        let key_table = view.key_table()?;
        let rows = match self.try_one(image_sql(sql, change, &key_table, None)).await? {
            Reply::Rows(rows) => rows,
            Reply::Err(e) => {
                let harmless = harmless_sql(sql, change, analysis);
                let whole = sql.get(..analysis.terminator);
                let how = OwnError { harmless: &harmless, always: false, whole };
                return Err(Box::pin(self.read_failed(e, how)).await?);
            }
            Reply::TooLarge => return Err(self.above_bytes("the keys of the statement's rows are").into()),
            Reply::Ok(_) => return Err(Halt::broken("a before image without rows")),
        };
        let found = self.heavy.run(rows.rows.len(), || decode(&key_table, &rows));
        let found = found.map_err(|unread| match unread {
            // MariaDB gives no instant for a zero TIMESTAMP of a view, and finds none by it
            Unread::Lost(why) | Unread::End(End::Broken(why)) => {
                Halt::stop(format!("the keys of the rows cannot be read through the view: {why}"))
            }
            Unread::End(end) => end.into(),
        })?;
        let warned = self.warned(table, &rows)?;
        let keys: Vec<Key> = found.iter().map(|row| row.key(&key_table)).collect();
        if let Some(why) = self.too_many(table, &keys) {
            return Err(why.into());
        }
        let images = self.rows_at(table, keys).await?;
        if images.len() != found.len() {
            return Err(Halt::stop("the rows of the view are not those of its table"));
        }
        let too_much =
            self.heavy.run(images.len(), || self.too_much(&[(table, images.as_slice())], std::iter::empty()));
        if let Some(why) = too_much {
            return Err(why.into());
        }
        let effect = effect(change, view);
        let own = OwnImages { info: &view.info, images: &images, new_keys: &[], effect };
        let cascaded = self.effects_of_change(own, change, &vars).await?;
        let evaluated = evaluated_sql(sql, change, analysis, &key_table, &found, warned);
        self.keep_warnings_of_condition(evaluated, change, &vars).await?;
        let filter = warned && change.limit.is_none();
        let restricted = restricted_sql(sql, change, analysis, (&view.info, &key_table), &found, filter).text;
        let restricted = with_hint(restricted, change.verb.end, found.len(), self.mariadb);
        self.check_length(&restricted, &vars)?;
        let ok = self.run_change(change, restricted, false).await?.written()?;
        self.changed(table, images, cascaded, &ok, change).await?;
        Ok(ok.into())
    }
}
