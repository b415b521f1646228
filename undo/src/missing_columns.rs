//! Columns of a record that its table does not have any more.
//!
//! A column that a branch did not change has nothing to be put back, so its rows can be restored without it. But it may
//! be there still, by the name of one that was dropped instead of it: then a value would be put into the wrong one. A
//! column that keeps its place tells so as far as others stand between the two; beyond that the rows of the record
//! tell.

use crate::image::Value;
use crate::inverse::{Verdict, judge};
use crate::kind::is_alike;
use crate::record::RowChange;
use crate::table::{Column, Table};

/// A column that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingColumn {
    /// Where it was among the record's columns.
    pub at: usize,
    /// Its name.
    pub name: String,
    /// The columns that may be this one under a name of their own, as indices into the columns of the record that are
    /// left.
    pub beside: Vec<usize>,
}

impl MissingColumn {
    /// Where each of the record's columns is now, by its name.
    ///
    /// `now` has the table's columns.
    pub fn all(recorded: &[Column], places: &[Option<usize>], now: &[Column]) -> Vec<MissingColumn> {
        let left: Vec<usize> = (0..recorded.len()).filter(|&at| place(places, at).is_some()).collect();
        let in_order = left.is_sorted_by_key(|&at| place(places, at));
        let gone = recorded.iter().enumerate().filter(|(at, _)| place(places, *at).is_none());
        gone.map(|(at, column)| {
            let is_beside = |other: usize| {
                !in_order || !left.iter().any(|&between| between > at.min(other) && between < at.max(other))
            };
            let may_be = |other: usize| {
                let (Some(was), Some(is)) =
                    (recorded.get(other), place(places, other).and_then(|at| now.get(at)))
                else {
                    return false;
                };
                let told = defined_alike(was, is) && !defined_alike(was, column);
                is_alike(was.kind, column.kind) && !was.generated && !told && is_beside(other)
            };
            let beside = left.iter().enumerate().filter(|(_, other)| !column.generated && may_be(**other));
            let beside = beside.map(|(nth, _)| nth).collect();
            MissingColumn { at, name: column.name.clone(), beside }
        })
        .collect()
    }

    /// The place of a new column of the table that this one may have been renamed to: where it stood.
    pub fn renamed(&self, places: &[Option<usize>], now: &[Column]) -> Option<usize> {
        let left: Vec<usize> = places.iter().flatten().copied().collect();
        let in_order = left.is_sorted();
        let before = places.iter().take(self.at).flatten().next_back();
        let behind = places.iter().skip(self.at).flatten().next();
        (0..now.len()).find(|at| {
            let stands = before.is_none_or(|before| before < at) && behind.is_none_or(|behind| at < behind);
            !left.contains(at) && now.get(*at).is_some_and(|c| !c.generated) && (!in_order || stands)
        })
    }
}

fn place(places: &[Option<usize>], at: usize) -> Option<usize> {
    places.get(at).copied().flatten()
}

fn defined_alike(one: &Column, other: &Column) -> bool {
    let of = |c: &Column| {
        (c.column_type.clone(), c.charset.clone(), c.collation.clone(), c.nullable, c.auto_increment)
    };
    of(one) == of(other)
}

/// What the rows of a record tell of a column that is gone.
#[derive(Debug)]
struct Renamed {
    name: String,
    beside: usize,
    /// Its values in the rows, none of which has changed it.
    is_refuted: bool,
    /// For a row it would make a difference.
    matters: bool,
}

/// Whether columns that are gone are among those that are there, by the names of others.
#[derive(Debug)]
pub struct MissingColumns<'a> {
    table: &'a Table,
    pairs: Vec<Renamed>,
    /// The values that the rows have in the column of each pair.
    values: Vec<Vec<Value>>,
}

impl<'a> MissingColumns<'a> {
    /// Takes these columns out of the rows.
    pub fn take(columns: &[MissingColumn], rows: &mut [RowChange]) -> Vec<Vec<Value>> {
        let mut out: Vec<Vec<Value>> = columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            for (column, values) in columns.iter().zip(&mut out).rev() {
                let mut taken = Value::Null;
                for image in [&mut row.before, &mut row.after].into_iter().flatten() {
                    if column.at < image.len() {
                        taken = image.remove(column.at);
                    }
                }
                values.push(taken);
            }
        }
        out
    }

    /// `table` has the columns that are left, and `values` what was [taken](MissingColumns::take).
    pub fn new(table: &'a Table, columns: &[MissingColumn], values: Vec<Vec<Value>>) -> MissingColumns<'a> {
        let mut gone = MissingColumns { table, pairs: Vec::new(), values: Vec::new() };
        for (column, values) in columns.iter().zip(values) {
            for &beside in &column.beside {
                let name = column.name.clone();
                gone.pairs.push(Renamed { name, beside, is_refuted: false, matters: false });
                gone.values.push(values.clone());
            }
        }
        gone
    }

    /// Takes a row of the record into account, the one of this number, as it is there now.
    pub fn add_row(&mut self, nth: usize, change: &RowChange, now: Option<&[Value]>) {
        if self.pairs.is_empty() {
            return;
        }
        let verdict = judge(self.table, change, now);
        for (pair, values) in self.pairs.iter_mut().zip(&self.values) {
            let Some(value) = values.get(nth) else { continue };
            let of = |image: &Option<Vec<Value>>| {
                image.as_ref().and_then(|values| values.get(pair.beside).cloned())
            };
            match (&verdict, now) {
                // It stops the branch anyway
                (Verdict::Conflict { .. }, _) => {}
                (_, Some(now)) if now.get(pair.beside) != Some(value) => pair.is_refuted = true,
                (Verdict::Restore, Some(_)) => {
                    pair.matters |= change.before.is_some() && of(&change.before) != of(&change.after);
                }
                (Verdict::Restore, None) => pair.matters |= of(&change.before).as_ref() != Some(value),
                (Verdict::AlreadyRestored, _) => {}
            }
        }
    }

    /// Why the rows cannot be restored, if they cannot, in a sentence.
    pub fn refusal(&self) -> Option<String> {
        let pair = self.pairs.iter().find(|pair| pair.matters && !pair.is_refuted)?;
        let (schema, name) = (&self.table.schema, &self.table.name);
        let beside =
            self.table.columns.get(pair.beside).map(|column| column.name.as_str()).unwrap_or_default();
        Some(format!(
            "the column {} of {schema}.{name} is gone, and whether it goes by the name of {beside} now cannot be told from \
             the rows of the branch",
            pair.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::table::UniqueKey;

    fn columns(names: &[(&str, &str)]) -> Vec<Column> {
        let column = |(name, column_type): &(&str, &str)| Column {
            name: (*name).into(),
            kind: if column_type.starts_with("int") { Kind::Int } else { Kind::Text },
            column_type: (*column_type).into(),
            charset: None,
            collation: None,
            nullable: false,
            generated: false,
            auto_increment: false,
        };
        names.iter().map(column).collect()
    }

    fn places(recorded: &[Column], now: &[Column]) -> Vec<Option<usize>> {
        recorded.iter().map(|was| now.iter().position(|is| is.name == was.name)).collect()
    }

    const RECORDED: [(&str, &str); 5] =
        [("id", "int"), ("a", "int"), ("b", "int"), ("s", "varchar(5)"), ("c", "int")];

    /// Which columns may be the one that is gone, where the table has these.
    fn beside(now: &[(&str, &str)]) -> Vec<Vec<usize>> {
        let (recorded, now) = (columns(&RECORDED), columns(now));
        let gone = MissingColumn::all(&recorded, &places(&recorded, &now), &now);
        gone.into_iter().map(|gone| gone.beside).collect()
    }

    #[test]
    fn columns_that_others_stand_between_are_told_apart() {
        let (id, a, b, s, c) = (RECORDED[0], RECORDED[1], RECORDED[2], RECORDED[3], RECORDED[4]);
        assert_eq!(beside(&RECORDED), Vec::<Vec<usize>>::new());
        assert_eq!(beside(&[id, a, s, c]), [vec![1]]);
        assert_eq!(beside(&[id, a, b, c]), [Vec::<usize>::new()]);
        assert_eq!(beside(&[id, a, b, s]), [Vec::<usize>::new()]);
        assert_eq!(beside(&[id, s, c]), [vec![0], vec![0]]);
        // Their order tells nothing where they were moved
        assert_eq!(beside(&[a, id, s, c]), [vec![0, 1, 3]]);
        // One that is defined as it was is none that was defined otherwise
        let wide = ("a", "int unsigned");
        assert_eq!(beside(&[id, wide, s, c]), [vec![1]]);
        let recorded = columns(&[("id", "int unsigned"), ("a", "int")]);
        let now = columns(&[("id", "int unsigned")]);
        assert_eq!(
            MissingColumn::all(&recorded, &places(&recorded, &now), &now)[0].beside,
            Vec::<usize>::new()
        );
    }

    #[test]
    fn a_new_column_in_the_place_of_one_may_be_it() {
        let renamed = |now: &[(&str, &str)]| {
            let (recorded, now) = (columns(&RECORDED), columns(now));
            let places = places(&recorded, &now);
            MissingColumn::all(&recorded, &places, &now)[0].renamed(&places, &now)
        };
        let (id, a, s, c, z) = (RECORDED[0], RECORDED[1], RECORDED[3], RECORDED[4], ("z", "varchar(9)"));
        assert_eq!(renamed(&[id, a, s, c]), None);
        assert_eq!(renamed(&[id, a, z, s, c]), Some(2));
        assert_eq!(renamed(&[id, z, a, s, c, ("y", "int")]), None);
        assert_eq!(renamed(&[a, id, s, c, z]), Some(4));
    }

    type Image = Option<[i128; 2]>;

    /// Why these rows cannot be restored, which have their numbers and the value of a column that is gone.
    fn refusal(rows: &[(Image, Image, i128)]) -> Option<String> {
        let mut left = columns(&RECORDED[..2]);
        let now = left.clone();
        left.push(Column { name: "b".into(), ..left[1].clone() });
        let gone = MissingColumn::all(&left, &places(&left, &now), &now);
        let image = |image: &Image, value| {
            image.map(|[id, a]| [id, a, value].into_iter().map(Value::Int).collect::<Vec<_>>())
        };
        let mut changes: Vec<RowChange> = rows
            .iter()
            .map(|(before, after, value)| RowChange {
                before: image(before, *value),
                after: image(after, *value),
            })
            .collect();
        let values = MissingColumns::take(&gone, &mut changes);
        let keys = vec![UniqueKey { name: "PRIMARY".into(), columns: vec![0], prefixes: Vec::new() }];
        let table = Table { schema: "s".into(), name: "t".into(), columns: now, keys };
        let mut gone = MissingColumns::new(&table, &gone, values);
        for (nth, change) in changes.iter().enumerate() {
            assert!(change.before.iter().chain(&change.after).all(|image| image.len() == 2));
            gone.add_row(nth, change, change.after.as_deref());
        }
        gone.refusal()
    }

    #[test]
    fn rows_tell_whether_a_column_is_another_one() {
        assert!(refusal(&[(Some([1, 1]), Some([1, 5]), 5)]).is_some());
        assert_eq!(refusal(&[(Some([1, 1]), Some([1, 5]), 6)]), None);
        assert_eq!(refusal(&[(Some([1, 1]), Some([1, 5]), 5), (None, Some([2, 1]), 9)]), None);
        // It would make no difference
        assert_eq!(refusal(&[(None, Some([1, 5]), 5)]), None);
        assert_eq!(refusal(&[(Some([1, 5]), None, 5)]), None);
        // Of a row that is gone nothing is known
        assert!(refusal(&[(Some([1, 5]), None, 6)]).is_some());
        assert_eq!(refusal(&[(Some([1, 5]), None, 6), (Some([2, 1]), Some([2, 2]), 3)]), None);
    }
}
