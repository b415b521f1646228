//! Statements that name several tables.

use crate::schema::Table;
use crate::types::Class;

use super::Author;

impl<'a> Author<'a> {
    /// An UPDATE or DELETE of one or two of several tables.
    pub(super) fn several_tables(&mut self, table: &'a Table) -> String {
        let other = if self.rng.percent(25) { table } else { self.table() };
        let (x, y) = (table.aliased("x"), other.aliased("y"));
        let join = self.join(&x, &y);
        let tables = match self.rng.below(5) {
            0 => format!("{} AS x LEFT JOIN {} AS y ON {join}", table.name, other.name),
            1 => format!("{} x INNER JOIN {} y ON {join}", table.name, other.name),
            2 => format!(
                "{} AS x JOIN (SELECT * FROM {} ORDER BY {} LIMIT 2) AS y ON {join}",
                table.name,
                other.name,
                other.order()
            ),
            _ => format!("{} AS x JOIN {} AS y ON {join}", table.name, other.name),
        };
        let derived = tables.contains("(SELECT");
        let both = !derived && self.rng.percent(25);
        if self.rng.percent(45) {
            self.form = "DELETE from several tables";
            // Which of two rows goes first, one of which refers to the other, is up to the plan: one order is an error
            let refers = |a: &Table, b: &Table| a.setup[0].contains(&format!("REFERENCES {} ", b.name));
            let both = both && !refers(table, other) && !refers(other, table);
            let targets = if both { "x, y" } else { "x" };
            let condition = self.condition_on_either(&x, &y);
            return if self.rng.percent(30) {
                format!("DELETE FROM {targets} USING {tables}{condition}")
            } else {
                format!("DELETE {targets} FROM {tables}{condition}")
            };
        }
        self.form = "UPDATE of several tables";
        let mut assigned = Vec::new();
        for (side, of) in [(&x, table), (&y, other)].into_iter().take(if both { 2 } else { 1 }) {
            let free: Vec<usize> = (0..of.columns.len())
                .filter(|c| !of.key.contains(c) && !of.unique.contains(c) && !of.columns[*c].generated)
                .collect();
            if free.is_empty() {
                continue;
            }
            let at = *self.rng.pick(&free);
            let refers = matches!(of.columns[at].name.as_str(), "p" | "own");
            let value = self.assigned_value(side, at, refers);
            assigned.push(format!("{} = {value}", side.columns[at].name));
        }
        if assigned.is_empty() {
            self.params.clear();
            return self.delete(table);
        }
        let condition = self.condition_on_either(&x, &y);
        format!("UPDATE {tables} SET {}{condition}", assigned.join(", "))
    }

    fn condition_on_either(&mut self, x: &Table, y: &Table) -> String {
        match self.rng.below(3) {
            0 => format!(" WHERE {}", self.key_condition(x)),
            1 => format!(" WHERE {}", self.key_condition(y)),
            _ => String::new(),
        }
    }

    /// What joins two tables: columns of one class, else their keys beside each other.
    fn join(&mut self, x: &Table, y: &Table) -> String {
        let mut pairs = Vec::new();
        for a in &x.columns {
            for b in &y.columns {
                // Nothing is to be converted
                let same = (a.ty.class == Class::Int && b.ty.class == Class::Int) || a.ty.sql == b.ty.sql;
                if same && !matches!(a.ty.class, Class::Json | Class::Geometry | Class::Vector) {
                    pairs.push(format!("{} = {}", a.name, b.name));
                }
            }
        }
        if pairs.is_empty() || self.rng.percent(15) {
            return format!("{} AND {}", self.key_condition(x), self.key_condition(y));
        }
        self.rng.pick(&pairs).clone()
    }
}
