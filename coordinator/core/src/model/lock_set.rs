//! The row locks of one branch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys::Keys;

/// The row locks that a branch asks for, all on one resource. Without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSet {
    /// By table, each table once.
    pub groups: Vec<LockGroup>,
}

/// The keys locked in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockGroup {
    /// `schema.table`, as the server spells them.
    #[serde(with = "super::text::arc_str")]
    pub table: Arc<str>,
    /// Canonical key texts.
    pub keys: Keys,
}

impl LockSet {
    /// Merges the keys of each table and drops duplicates.
    pub fn new(tables: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let mut tables: Vec<_> = tables.into_iter().collect();
        tables.sort_by(|a, b| a.0.cmp(&b.0));
        tables.dedup_by(|next, first| {
            let is_same = next.0 == first.0;
            if is_same {
                first.1.append(&mut next.1);
            }
            is_same
        });
        let groups = tables.into_iter().filter(|(_, keys)| !keys.is_empty());
        let groups = groups.map(|(table, keys)| LockGroup { table: table.into(), keys: Keys::new(keys) });
        Self { groups: groups.collect() }
    }

    /// How many locks there are.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.keys.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}
