//! Runs an UPDATE that assigns columns of the key, and finds the rows again.

use atone_undo::{Key, Row};

use crate::Capture;
use crate::effects::cascade::EffectImages;
use crate::flight::Flight;
use crate::journal::Touched;
use crate::outcome::{Done, Halt, Written, last};
use crate::reach::Reach;
use crate::update_delete::Run;

impl Capture<'_> {
    /// Runs the statement on the imaged rows; `keys` are those that they are to have.
    pub(super) async fn move_rows(
        &mut self,
        t: &Run<'_>,
        restricted: Vec<u8>,
        images: Vec<Row>,
        keys: Vec<Option<Key>>,
        mut cascaded: EffectImages,
    ) -> Result<Done, Halt> {
        let table = &t.info.table;
        let most = images.len() as u64;
        let mut reach = Reach::new(table, images, keys);
        let found = self.rows_at(table, reach.new.clone()).await?;
        reach.stands(table, found);
        let moved = self.child_reaches(&mut cascaded).await?;
        let mut flight = Flight::default();
        flight.push_savepoint();
        flight.push_write(restricted);
        let ok = last(self.run_flight(flight).await?)?.written()?;
        let diagnostics = self.keep_diagnostics(&ok).await?;
        if ok.affected_rows > most {
            return Err(Halt::take_back("the UPDATE changed more rows than were imaged"));
        }
        let mut all_touched = Vec::with_capacity(moved.len() + 1);
        for (table, reach) in std::iter::once((table.clone(), reach)).chain(moved) {
            let found = self.rows_at(&table, reach.keys()).await.map_err(Halt::after_savepoint)?;
            let touched = reach.touched(&table, &found).map_err(Halt::take_back)?;
            let arrived = touched.iter().filter(|t| t.before.is_none()).map(|t| t.key.clone()).collect();
            if !self.are_own(&table, arrived).await {
                let why = "another session has written a row with a key that the UPDATE gives";
                return Err(Halt::take_back(why));
            }
            all_touched.push((table, touched));
        }
        self.verify_effects(&cascaded).await?;
        let trigger_rows = self.find_trigger_rows(&t.trigger_targets).await?;
        for (table, touched) in all_touched {
            for Touched { key, before, presence } in touched {
                self.state.branch.touch(&table, key, before, presence);
            }
        }
        self.touch_effects(cascaded, false);
        self.touch_trigger_rows(trigger_rows);
        Ok(Written { ok, diagnostics }.into())
    }
}
