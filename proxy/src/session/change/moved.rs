//! Runs an UPDATE that assigns columns of the key, and finds the rows again.

use std::sync::Arc;

use atone_undo::{Key, Row, Table};

use super::Run;
use super::moves::Reach;
use crate::error::End;
use crate::session::Session;
use crate::session::cascade::Behind;
use crate::session::conflicts::Touched;
use crate::session::inject::{Flight, Reply};

impl Session {
    /// Runs the statement on the imaged rows; `keys` are those that they are to have.
    pub(super) async fn move_rows(
        &mut self,
        t: &Run<'_>,
        restricted: Vec<u8>,
        images: Vec<Row>,
        keys: Vec<Option<Key>>,
        mut behind: Behind,
    ) -> Result<(), End> {
        let table = &t.info.table;
        let most = images.len() as u64;
        let mut reach = Reach::new(table, images, keys);
        match self.rows_at(table, reach.new.clone()).await? {
            Ok(found) => reach.stands(table, found),
            Err(why) => return self.refuse_change(&why, t.alone).await,
        }
        let moved = match self.moved_behind(&mut behind).await? {
            Ok(moved) => moved,
            Err(why) => return self.refuse_change(&why, t.alone).await,
        };
        let mut flight = Flight::default();
        flight.push_savepoint();
        flight.push_write(restricted);
        let ok = match self.run_flight(flight).await?.pop() {
            Some(Reply::Ok(ok)) => ok,
            Some(Reply::Err(e)) => return self.statement_failed(e).await,
            _ => return Err(End::Broken("a statement that writes answered with rows".into())),
        };
        let kept = self.keep_diagnostics(&ok).await?;
        if ok.affected_rows > most {
            return self.take_insert_back("the UPDATE changed more rows than were imaged", t.alone).await;
        }
        let mut all_touched = Vec::with_capacity(moved.len() + 1);
        for (table, reach) in std::iter::once((table.clone(), reach)).chain(moved) {
            let touched = match self.rows_at(&table, reach.keys()).await? {
                Ok(found) => reach.touched(&table, &found),
                Err(why) => Err(why),
            };
            let touched = match touched {
                Ok(touched) => touched,
                Err(why) => return self.take_insert_back(&why, t.alone).await,
            };
            let arrived = touched.iter().filter(|t| t.before.is_none()).map(|t| t.key.clone()).collect();
            if !self.are_own(&table, arrived).await {
                let why = "another session has written a row with a key that the UPDATE gives";
                return self.take_insert_back(why, t.alone).await;
            }
            all_touched.push((table, touched));
        }
        if let Err(why) = self.verify_behind(&behind).await {
            return self.rolled_back(&why).await;
        }
        let Some(logged) = self.settle(&t.logs, t.alone).await? else { return Ok(()) };
        for (table, touched) in all_touched {
            for Touched { key, before, presence } in touched {
                self.branch.touch(&table, key, before, presence);
            }
        }
        self.touch_behind(behind, false);
        self.touch_logged(logged);
        self.statement_done(ok, t.alone).await?;
        self.restore_diagnostics(kept, t.alone);
        Ok(())
    }

    /// The rows that have these keys now, locked; the inner error is why they cannot be read.
    pub(in crate::session) async fn rows_at(
        &mut self,
        table: &Arc<Table>,
        keys: Vec<Key>,
    ) -> Result<Result<Vec<Row>, String>, End> {
        if keys.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let found = self.rows_now(vec![(table.clone(), keys)]).await?;
        let found = found.map_err(String::from);
        Ok(found.map(|tables| tables.into_iter().flat_map(|(_, rows)| rows).collect()))
    }
}
