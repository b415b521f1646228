//! What a statement, or a foreign key that acts on it, does to rows of a table. Pure.

use std::collections::BTreeSet;

use atone_undo::Table;

use crate::text::same_name;
use atone_facts::{TableInfo, Write};

/// What happens to rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// They are deleted.
    Deleted,
    /// These columns of them may change, as indices into the table's columns.
    Updated(BTreeSet<usize>),
}

impl Effect {
    /// What an UPDATE does that assigns the columns of these names; of all columns where one is not known.
    pub(crate) fn updated<'a>(info: &TableInfo, names: impl Iterator<Item = &'a str>) -> Effect {
        let columns = &info.table.columns;
        let mut assigned: BTreeSet<usize> = info.implied.iter().copied().collect();
        for name in names {
            match columns.iter().position(|c| same_name(&c.name, name)) {
                Some(at) => assigned.extend([at]),
                None => assigned.extend(0..columns.len()),
            }
        }
        Effect::Updated(assigned)
    }

    /// How that writes the table.
    pub(crate) fn write(&self, info: &TableInfo) -> Write {
        match self {
            Effect::Deleted => Write::Delete,
            Effect::Updated(_) => Write::Update { keys: self.touches_a_key(&info.table) },
        }
    }

    /// Whether it changes a column of a unique key, or may.
    pub(crate) fn touches_a_key(&self, table: &Table) -> bool {
        table.keys.iter().any(|key| self.touches(&key.columns))
    }

    /// Whether it changes any of these columns.
    pub(crate) fn touches(&self, columns: &[usize]) -> bool {
        match self {
            Effect::Deleted => true,
            Effect::Updated(assigned) => columns.iter().any(|c| assigned.contains(c)),
        }
    }
}
