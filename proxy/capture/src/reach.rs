//! The rows that are reached where keys are assigned, at their old and their new ones. Pure.

use std::collections::{HashMap, HashSet};

use atone_undo::{Key, Row, Table};

use crate::journal::{Presence, Touched};

/// The rows that an UPDATE of keys can reach.
pub(crate) struct Reach {
    /// The imaged rows, which are all that it changes.
    images: Vec<(Key, Row)>,
    old: HashSet<Key>,
    /// Rows that stand at new keys, which it must leave alone.
    standing: HashMap<Key, Row>,
    /// The new keys that are nobody's old one.
    pub(crate) new: Vec<Key>,
}

impl Reach {
    /// `keys` are the new keys of `images`.
    pub(crate) fn new(table: &Table, images: Vec<Row>, keys: Vec<Option<Key>>) -> Reach {
        let images: Vec<(Key, Row)> = images.into_iter().map(|row| (row.key(table), row)).collect();
        let old: HashSet<Key> = images.iter().map(|(key, _)| key.clone()).collect();
        let mut seen = HashSet::new();
        let new = keys.into_iter().flatten().filter(|key| !old.contains(key));
        let new: Vec<Key> = new.filter(|key| seen.insert(key.clone())).collect();
        Reach { images, old, standing: HashMap::new(), new }
    }

    /// The rows found at the new keys before the statement: under a collation one of them may be an imaged row.
    pub(crate) fn stands(&mut self, table: &Table, found: Vec<Row>) {
        let found = found.into_iter().map(|row| (row.key(table), row));
        self.standing = found.filter(|(key, _)| !self.old.contains(key)).collect();
    }

    /// All keys at which rows are to be looked for after the statement.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.images.iter().map(|(key, _)| key).chain(&self.new).cloned().collect()
    }

    /// What has become of the rows, from those found after the statement: for each key touched the row before and
    /// whether there is one now.
    ///
    /// # Errors
    /// A row went to a key that was not foreseen.
    pub(crate) fn touched(self, table: &Table, found: &[Row]) -> Result<Vec<Touched>, String> {
        let now: HashMap<Key, &Row> = found.iter().map(|row| (row.key(table), row)).collect();
        if now.len() != self.images.len() + self.standing.len() {
            return Err("the UPDATE stores a row's key as another value than given".into());
        }
        let changed = |(key, row): (&Key, &Row)| now.get(key).is_none_or(|same| same.values != row.values);
        if self.standing.iter().any(changed) {
            return Err("the UPDATE changed a row that was not imaged".into());
        }
        let presence = |key: &Key| if now.contains_key(key) { Presence::Present } else { Presence::Absent };
        let images = self.images.into_iter();
        let mut out: Vec<Touched> =
            images.map(|(key, row)| Touched { presence: presence(&key), key, before: Some(row) }).collect();
        let mut seen = HashSet::new();
        let new = found.iter().map(|row| row.key(table));
        let new = new.filter(|key| !self.old.contains(key) && !self.standing.contains_key(key));
        let new = new.filter(|key| seen.insert(key.clone()));
        out.extend(new.map(|key| Touched { key, before: None, presence: Presence::Present }));
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atone_facts::samples;
    use atone_undo::Value;

    fn row(id: i128, v: i128) -> Row {
        Row::of(&[Value::Int(id), Value::Int(v)], Vec::new())
    }

    fn key(id: i128) -> Key {
        Key(vec![Value::Int(id)])
    }

    fn reach(images: &[Row], new: &[i128], standing: &[Row]) -> Reach {
        let table = samples::table(&["id", "v"]);
        let mut reach = Reach::new(&table, images.to_vec(), new.iter().map(|id| Some(key(*id))).collect());
        reach.stands(&table, standing.to_vec());
        reach
    }

    fn shown(touched: Result<Vec<Touched>, String>) -> Vec<(Key, Option<Row>, Presence)> {
        touched.unwrap().into_iter().map(|t| (t.key, t.before, t.presence)).collect()
    }

    #[test]
    fn rows_are_found_at_their_new_keys() {
        let table = samples::table(&["id", "v"]);
        let images = [row(1, 10), row(2, 20)];
        let chain = reach(&images, &[2, 3], &[]);
        assert_eq!(chain.new, [key(3)]);
        assert_eq!(chain.keys(), [key(1), key(2), key(3)]);
        let want = [
            (key(1), Some(row(1, 10)), Presence::Absent),
            (key(2), Some(row(2, 20)), Presence::Present),
            (key(3), None, Presence::Present),
        ];
        assert_eq!(shown(chain.touched(&table, &[row(2, 10), row(3, 20)])), want);
    }

    #[test]
    fn a_row_that_stood_there_must_stay_and_none_may_get_lost() {
        let table = samples::table(&["id", "v"]);
        let images = [row(1, 10), row(2, 20)];
        let left_out = || reach(&images, &[5, 6], &[row(5, 50)]);
        let stayed = left_out().touched(&table, &[row(1, 10), row(5, 50), row(6, 20)]);
        assert_eq!(shown(stayed).len(), 3);
        assert!(left_out().touched(&table, &[row(1, 10), row(5, 51), row(6, 20)]).is_err(), "changed");
        assert!(left_out().touched(&table, &[row(5, 50), row(6, 20)]).is_err(), "one went elsewhere");
        assert!(reach(&images, &[5, 6], &[]).touched(&table, &[row(5, 10)]).is_err());
    }
}
