//! Which rows a statement names.

use atone_tests::Flavor;

use crate::known;
use crate::schema::{Column, Table};
use crate::types::{Class, Type};

use super::Author;

impl<'a> Author<'a> {
    /// ` WHERE …`, or nothing.
    pub(super) fn condition(&mut self, table: &Table) -> String {
        match self.rng.below(20) {
            0..=1 => String::new(),
            2..=9 => format!(" WHERE {}", self.key_condition(table)),
            _ => {
                let mut out = format!(" WHERE {}", self.term(table));
                while self.rng.percent(30) {
                    out += *self.rng.pick(&[" AND ", " OR ", " XOR "]);
                    out += &self.term(table);
                }
                out
            }
        }
    }

    /// Whether a condition asks the table that it is for, which MySQL forbids.
    fn asks_itself(&mut self) -> bool {
        self.flavor == Flavor::MariaDb || self.rng.percent(15)
    }

    /// A table for a subquery in a condition.
    pub(super) fn other_table(&mut self, table: &Table) -> &'a Table {
        let other = self.table();
        if other.name != table.name || self.asks_itself() {
            return other;
        }
        self.tables.iter().find(|t| t.name != table.name).copied().unwrap_or(other)
    }

    /// A value that a column is compared with.
    pub(super) fn compared(&mut self, ty: &Type, key: bool) -> String {
        if known::CONVERTING_CONDITIONS {
            return self.value(ty, key);
        }
        if self.prepared && self.rng.percent(70) && ty.compares_as_parameter() {
            let param = self.param(ty, key);
            self.params.push(param);
            return "?".to_owned();
        }
        loop {
            let literal = ty.plain_literal(self.rng, self.mode, key);
            let fits = known::TEXTS_THAT_DO_NOT_FIT
                || ty.sql.contains("utf8mb4")
                || literal.chars().all(|c| c < '\u{100}');
            if fits && (literal.is_ascii() || !self.warned_once()) {
                return literal;
            }
        }
    }

    pub(super) fn key_condition(&mut self, table: &Table) -> String {
        if self.rng.percent(12) {
            // Some of the rows, whatever their keys are
            let c = &table.columns[table.key[0]];
            let operator = *self.rng.pick(&[">=", ">", "<", "<="]);
            return format!("{} {operator} {}", c.name, self.compared(&c.ty, true));
        }
        if let [only] = table.key[..]
            && self.rng.percent(30)
        {
            let c = &table.columns[only];
            let values: Vec<String> =
                (0..self.rng.between(1, 4)).map(|_| self.compared(&c.ty, true)).collect();
            return format!("{} IN ({})", c.name, values.join(", "));
        }
        let mut parts: Vec<String> = Vec::new();
        for &at in &table.key {
            let c = &table.columns[at];
            parts.push(format!("{} = {}", c.name, self.compared(&c.ty, true)));
        }
        if self.rng.percent(15) {
            parts.push(self.term(table));
        }
        parts.join(" AND ")
    }

    pub(super) fn term(&mut self, table: &Table) -> String {
        let c = &table.columns[self.rng.below(table.columns.len())];
        let name = &c.name;
        let key = table.key.iter().any(|&k| table.columns[k].name == *name);
        match self.rng.below(17) {
            0 => self.is_null(c),
            14..=16 => format!("{name} IS NOT NULL"),
            // Comparing these is an error, or warns.
            _ if matches!(c.ty.class, Class::Json | Class::Geometry | Class::Vector) => {
                format!("{name} IS NOT NULL")
            }
            1 => format!("{name} IS NOT NULL"),
            2 => format!("NOT ({name} <=> {})", self.compared(&c.ty, key)),
            3 => format!("{name} BETWEEN {} AND {}", self.compared(&c.ty, key), self.compared(&c.ty, key)),
            4 if c.ty.class == Class::Text => format!("{name} LIKE '%a%'"),
            5 => format!("CHAR_LENGTH({name}) > 3"),
            6..=7 if self.flat => self.is_null(c),
            6 if !self.asks_itself() => self.is_null(c),
            6 if !known::CONVERTING_CONDITIONS => {
                format!("{name} IN (SELECT {name} FROM {})", table.name)
            }
            6 => format!("{} IN (SELECT {} FROM {})", name, self.rng.pick(&table.columns).name, table.name),
            7 => {
                let other = self.other_table(table);
                format!("EXISTS (SELECT 1 FROM {} WHERE {})", other.name, self.key_condition(other))
            }
            8 if self.volatile => "RAND() < 0.5".to_owned(),
            9 if known::CONVERTING_CONDITIONS || c.ty.class == Class::Int => {
                format!("COALESCE({name}, 1) = {name}")
            }
            10 => format!("({name} = {} OR {})", self.compared(&c.ty, key), self.is_null(c)),
            _ => {
                let operator = *self.rng.pick(&["=", "<>", ">", "<", ">=", "<="]);
                format!("{name} {operator} {}", self.compared(&c.ty, key))
            }
        }
    }

    /// Whether a column is NULL. In an UPDATE that is prepared, of a table with a trigger BEFORE something, MariaDB
    /// finds NULL in columns that can't hold it.
    fn is_null(&self, column: &Column) -> String {
        let triggers = self.tables.iter().any(|t| t.setup.iter().any(|s| s.contains(" BEFORE ")));
        let not = if !column.nullable && triggers && self.flavor == Flavor::MariaDb { "NOT " } else { "" };
        format!("{} IS {not}NULL", column.name)
    }

    /// ` ORDER BY … LIMIT …`, or nothing. An order without ties, so that two servers choose the same rows.
    pub(super) fn tail(&mut self, table: &Table, ordered: bool) -> String {
        let mut out = String::new();
        let limit = self.rng.percent(20);
        if self.volatile {
            if self.rng.percent(20) {
                out += &format!(" ORDER BY {}", self.rng.pick(&table.columns).name);
            }
        } else if ordered || limit || self.rng.percent(15) {
            let first = self.rng.pick(&table.columns);
            // A FLOAT column sorted beside its key, or the key alone
            out += &if self.rng.percent(50)
                && !matches!(first.ty.class, Class::Json | Class::Geometry | Class::Vector)
            {
                format!(" ORDER BY {} {}, {}", first.name, self.rng.pick(&["ASC", "DESC"]), table.order())
            } else {
                format!(" ORDER BY {}{}", table.order(), self.rng.pick(&["", " DESC"]))
            };
        }
        if limit {
            out += &format!(" LIMIT {}", self.rng.below(4));
        }
        out
    }
}
