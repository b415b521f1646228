//! Columns that may have exchanged their names since a record was written.
//!
//! Columns are found by their names. After an ALTER that makes two of them stand in another order than before, this
//! need not be right. The columns may have been moved, and then their names tell which is which. Or they may have
//! been renamed, and then a value would be put back into the wrong one. The rows of the record tell, unless both ways
//! of reading them fit.

use crate::image::Value;
use crate::inverse::{Verdict, judge};
use crate::kind::{Kind, is_alike};
use crate::record::RowChange;
use crate::table::Table;

/// Two columns of a record that may have exchanged their names.
#[derive(Debug)]
struct Pair {
    one: usize,
    other: usize,
    /// A row cannot be read with the names exchanged.
    is_refuted: bool,
    /// For a row it would make a difference.
    matters: bool,
}

/// Whether the columns of a table are those that a record names.
#[derive(Debug)]
pub struct Exchanges<'a> {
    table: &'a Table,
    pairs: Vec<Pair>,
}

impl<'a> Exchanges<'a> {
    /// `places` says where each column of the record, found by its name, stands now.
    pub fn new(table: &'a Table, places: &[usize]) -> Exchanges<'a> {
        let columns =
            table.columns.iter().zip(places).enumerate().filter(|(_, (column, _))| !column.generated);
        let columns: Vec<(usize, Kind, usize)> =
            columns.map(|(at, (column, place))| (at, column.kind, *place)).collect();
        let mut pairs = Vec::new();
        for (nth, one) in columns.iter().enumerate() {
            for other in columns.iter().skip(nth + 1) {
                if one.2 > other.2 && is_alike(one.1, other.1) {
                    pairs.push(Pair { one: one.0, other: other.0, is_refuted: false, matters: false });
                }
            }
        }
        Exchanges { table, pairs }
    }

    /// Takes a row of the record into account, as it is there now by the columns' names.
    pub fn add_row(&mut self, change: &RowChange, now: Option<&[Value]>) {
        if self.pairs.is_empty() {
            return;
        }
        let verdict = judge(self.table, change, now);
        for pair in &mut self.pairs {
            let exchanged = now.map(|values| {
                let mut values = values.to_vec();
                values.swap(pair.one, pair.other);
                values
            });
            let same = |image: &[Value]| image.get(pair.one) == image.get(pair.other);
            match (&verdict, judge(self.table, change, exchanged.as_deref())) {
                // It stops the branch anyway
                (Verdict::Conflict { .. }, _) => {}
                (_, Verdict::Conflict { .. }) => pair.is_refuted = true,
                (Verdict::Restore, Verdict::Restore) => {
                    pair.matters |= change.before.as_deref().is_some_and(|before| !same(before));
                }
                (Verdict::AlreadyRestored, Verdict::AlreadyRestored) => {}
                _ => pair.matters = true,
            }
        }
    }

    /// The names of two columns of which it cannot be told which is which, where that matters.
    pub fn unproven(&self) -> Option<(&'a str, &'a str)> {
        let pair = self.pairs.iter().find(|pair| pair.matters && !pair.is_refuted)?;
        let name = |at: usize| self.table.columns.get(at).map(|column| column.name.as_str());
        name(pair.one).zip(name(pair.other))
    }

    /// Why the rows cannot be restored, if they cannot, in a sentence.
    pub fn refusal(&self) -> Option<String> {
        let (one, other) = self.unproven()?;
        let (schema, name) = (&self.table.schema, &self.table.name);
        Some(format!(
            "the columns {one} and {other} of {schema}.{name} stand in another order than they did, and whether they have \
             exchanged their names cannot be told from the rows of the branch"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, UniqueKey};

    fn table() -> Table {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
            column_type: "int".into(),
            charset: None,
            collation: None,
            nullable: true,
            generated: false,
            auto_increment: false,
        };
        let kinds =
            [("id", Kind::Int), ("a", Kind::Int), ("b", Kind::Int), ("c", Kind::Int), ("s", Kind::Text)];
        Table {
            schema: "s".into(),
            name: "t".into(),
            columns: kinds.into_iter().map(|(name, kind)| column(name, kind)).collect(),
            keys: vec![UniqueKey { name: "PRIMARY".into(), columns: vec![0], prefixes: Vec::new() }],
        }
    }

    type Image = Option<Vec<Value>>;

    /// A row with a text after its numbers.
    fn row(numbers: [i128; 4]) -> Image {
        let mut values: Vec<Value> = numbers.into_iter().map(Value::Int).collect();
        values.push(Value::Text("x".into()));
        Some(values)
    }

    /// What cannot be told after rows that are as the branch left them, where the columns stand at these places.
    fn unproven(places: [usize; 5], rows: &[(Image, Image)]) -> Option<(String, String)> {
        let table = table();
        let mut exchanges = Exchanges::new(&table, &places);
        for (before, after) in rows {
            let change = RowChange { before: before.clone(), after: after.clone() };
            exchanges.add_row(&change, after.as_deref());
        }
        exchanges.unproven().map(|(one, other)| (one.to_owned(), other.to_owned()))
    }

    const EXCHANGED: [usize; 5] = [0, 2, 1, 3, 4];

    #[test]
    fn rows_that_read_both_ways_stop() {
        let ambiguous = (row([1, 1, 5, 9]), row([1, 5, 5, 9]));
        let names = Some(("a".to_owned(), "b".to_owned()));
        assert_eq!(unproven(EXCHANGED, std::slice::from_ref(&ambiguous)), names);
        assert_eq!(unproven([0, 1, 2, 3, 4], std::slice::from_ref(&ambiguous)), None);
        // A new column in front, and between
        assert_eq!(unproven([1, 2, 4, 5, 6], std::slice::from_ref(&ambiguous)), None);
        // Another row that reads one way only
        assert_eq!(unproven(EXCHANGED, &[ambiguous.clone(), (row([2, 1, 2, 9]), row([2, 1, 3, 9]))]), None);
        assert_eq!(unproven(EXCHANGED, &[ambiguous, (row([2, 1, 2, 9]), None)]), names);
        assert_eq!(unproven(EXCHANGED, &[(row([2, 1, 2, 9]), None)]), names);
        // The values themselves were exchanged
        let swapped = RowChange { before: row([1, 1, 2, 9]), after: row([1, 2, 1, 9]) };
        let table = table();
        let mut exchanges = Exchanges::new(&table, &EXCHANGED);
        exchanges.add_row(&swapped, row([1, 1, 2, 9]).as_deref());
        assert_eq!(exchanges.unproven(), Some(("a", "b")));
    }

    #[test]
    fn where_it_makes_no_difference() {
        assert_eq!(unproven(EXCHANGED, &[(row([1, 5, 5, 1]), row([1, 5, 5, 2]))]), None);
        assert_eq!(unproven(EXCHANGED, &[(None, row([1, 5, 5, 2]))]), None);
        assert_eq!(unproven(EXCHANGED, &[(row([1, 5, 5, 2]), None)]), None);
        // A text before the numbers
        assert_eq!(unproven([1, 2, 3, 4, 0], &[(row([1, 1, 5, 9]), row([1, 5, 5, 9]))]), None);
    }

    #[test]
    fn three_columns_in_turn() {
        let all_equal = (row([1, 1, 2, 3]), row([1, 5, 5, 5]));
        assert!(unproven([0, 2, 3, 1, 4], std::slice::from_ref(&all_equal)).is_some());
        let told = (row([2, 1, 2, 3]), row([2, 5, 6, 7]));
        assert_eq!(unproven([0, 2, 3, 1, 4], &[all_equal, told]), None);
    }
}
