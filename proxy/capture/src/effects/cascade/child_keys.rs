//! Children whose own keys change with those of their parents: ON UPDATE CASCADE into columns of the key that
//! identifies them.
//!
//! What the parent's columns are to become is known where they are a part of the key that the statement assigns; a
//! child's columns become the same. As with the statement's own rows ([`Reach`]), what is foreseen is only where rows
//! are looked for: after the statement as many must be found at the old and the new keys together as before it.

use std::collections::HashMap;
use std::sync::Arc;

use atone_undo::{Key, Row, Table, Value};

use crate::Capture;
use crate::effect::Effect;
use crate::effects::cascade::{EffectImages, Step};
use crate::outcome::Halt;
use crate::reach::Reach;
use atone_facts::ForeignKey;

/// What columns of a row are to become, as far as that is known: by their indices.
pub(crate) type NewValues = HashMap<usize, Value>;

/// What the columns of their keys are to become, for rows whose new keys are known.
pub(crate) fn new_values(table: &Table, old: &[Key], new: &[Option<Key>]) -> HashMap<Key, NewValues> {
    let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let known = old.iter().zip(new).filter_map(|(old, new)| Some((old, new.as_ref()?)));
    known
        .map(|(old, new)| (old.clone(), columns.iter().copied().zip(new.0.iter().cloned()).collect()))
        .collect()
}

/// What the `columns` of a child become with those of its parent; one of which that is not known is left out.
///
/// # Errors
/// It is not known of a column of the key that identifies the child.
pub(crate) fn cascaded(
    step: &Step,
    key: &ForeignKey,
    parent: &Key,
    table: &Table,
    child: &Row,
    columns: &[usize],
) -> Result<NewValues, ()> {
    let identifying = table.keys.first().map(|k| k.columns.as_slice()).unwrap_or_default();
    let new = step.new.get(parent);
    let mut out = NewValues::new();
    for (&column, &referenced) in columns.iter().zip(&key.referenced) {
        let changes = matches!(&step.effect, Effect::Updated(assigned) if assigned.contains(&referenced));
        let value = match new.and_then(|new| new.get(&referenced)) {
            Some(value) => Some(value.clone()),
            None if changes => None,
            None => child.values.get(column),
        };
        match value {
            Some(value) => {
                out.insert(column, value);
            }
            None if identifying.contains(&column) => return Err(()),
            None => {}
        }
    }
    Ok(out)
}

/// The key that a row is to have.
fn new_key(table: &Table, old: &Key, new: &NewValues) -> Key {
    let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let parts = columns.iter().zip(&old.0);
    Key(parts.map(|(column, old)| new.get(column).unwrap_or(old).clone()).collect())
}

impl EffectImages {
    /// Takes out the rows of tables of which rows change their keys.
    fn take_moved(&mut self) -> Vec<(Arc<Table>, Reach)> {
        let identifies = |table: &Table, new: &NewValues| {
            table.keys.first().is_some_and(|key| key.columns.iter().any(|column| new.contains_key(column)))
        };
        let mut out = Vec::new();
        for (place, table) in self.tables.iter().enumerate() {
            let of_table = self.new.iter().filter(|((at, _), _)| *at == place);
            if !of_table.into_iter().any(|(_, new)| identifies(table, new)) {
                continue;
            }
            let (mut images, mut keys): (Vec<Row>, Vec<Option<Key>>) = (Vec::new(), Vec::new());
            for (_, row) in self.rows.extract_if(.., |(at, _)| *at == place) {
                let id = (place, row.key(table));
                keys.push(self.new.get(&id).map(|new| new_key(table, &id.1, new)));
                images.push(row);
            }
            out.push((table.clone(), Reach::new(table, images, keys)));
        }
        out
    }
}

impl Capture<'_> {
    /// Reads, before the statement, what stands where children are to go.
    pub(crate) async fn child_reaches(
        &mut self,
        cascaded: &mut EffectImages,
    ) -> Result<Vec<(Arc<Table>, Reach)>, Halt> {
        let mut moved = cascaded.take_moved();
        if !moved.is_empty() && (cascaded.reaches_own || cascaded.comes_back) {
            return Err(Halt::stop("a foreign key changes the keys of rows, and comes back to a table"));
        }
        for (table, reach) in &mut moved {
            let found = self.rows_at(table, reach.new.clone()).await?;
            reach.stands(table, found);
        }
        Ok(moved)
    }
}
