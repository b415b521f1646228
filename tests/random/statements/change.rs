//! UPDATE and DELETE of one table.

use atone_tests::Flavor;

use crate::schema::Table;
use crate::types::Class;

use super::Author;

impl Author<'_> {
    pub(super) fn update(&mut self, table: &Table) -> String {
        let keys = self.rng.percent(12);
        let free: Vec<usize> = (0..table.columns.len())
            .filter(|c| {
                let column = &table.columns[*c];
                (keys || !table.key.contains(c)) && (!column.generated || self.rng.percent(2))
            })
            .collect();
        if free.is_empty() {
            return self.delete(table);
        }
        let ignore = self.rng.percent(5);
        self.form = if ignore { "UPDATE IGNORE" } else { "UPDATE" };
        let mut assigned = Vec::new();
        let mut ordered = ignore;
        let count = self.rng.between(1, 3);
        for place in 0..count {
            let at = if keys && place == 0 { *self.rng.pick(&table.key) } else { *self.rng.pick(&free) };
            let column = &table.columns[at];
            if table.key.contains(&at) && !ignore {
                self.form = "UPDATE of keys";
            }
            // Which row is in the way of which depends on the order of the rows.
            ordered |= table.unique.contains(&at) || table.key.contains(&at);
            let refers = matches!(column.name.as_str(), "p" | "own");
            assigned.push((column.name.clone(), self.assigned_value(table, at, refers)));
        }
        // MySQL makes a join of some subqueries: whether an assignment then reads what one before it has assigned is
        // up to its plan
        let reads_assigned = self.flavor == Flavor::MySql && reads_assigned(&assigned);
        self.flat = reads_assigned;
        let assigned: Vec<String> =
            assigned.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let condition = self.condition(table);
        self.flat = false;
        let tail = self.tail(table, ordered);
        let with = if self.flavor == Flavor::MySql && self.rng.percent(4) && !reads_assigned {
            self.form = "WITH … UPDATE";
            let other = self.other_table(table);
            let inner = self.literally(|author| author.condition(other));
            let key = &other.columns[other.key[0]].name;
            Some(format!("WITH w AS (SELECT {key} AS k FROM {}{inner}) ", other.name))
        } else {
            None
        };
        let (with, condition) = match with {
            Some(with) if condition.is_empty() => (with, " WHERE EXISTS (SELECT 1 FROM w)".to_owned()),
            Some(with) => (with, format!("{condition} AND EXISTS (SELECT 1 FROM w)")),
            None => (String::new(), condition),
        };
        if ignore {
            return format!("UPDATE IGNORE {} SET {}{condition}{tail}", table.name, assigned.join(", "));
        }
        if self.rng.percent(10) && with.is_empty() {
            return format!("UPDATE {} AS x SET {}{condition}{tail}", table.name, assigned.join(", "));
        }
        let verb = *self.rng.pick(&["UPDATE", "UPDATE", "update", "UPDATE LOW_PRIORITY", "/* c */ UPDATE"]);
        let place = self.place(table);
        format!("{with}{verb} {}{place} SET {}{condition}{tail}", table.name, assigned.join(", "))
    }

    /// ` PARTITION (…)` or an index hint, or nothing.
    fn place(&mut self, table: &Table) -> String {
        if !table.partitions.is_empty() && self.rng.percent(25) {
            return format!(" PARTITION ({})", self.rng.pick(&table.partitions));
        }
        if !table.view && table.setup[0].contains("PRIMARY KEY (") && self.rng.percent(6) {
            let hint = *self.rng.pick(&[
                " USE INDEX (PRIMARY)",
                " FORCE INDEX (PRIMARY)",
                " IGNORE INDEX (PRIMARY)",
                " USE INDEX ()",
            ]);
            return hint.to_owned();
        }
        String::new()
    }

    /// A value in SET. One that is `shared` is of a key that other rows have as well.
    pub(super) fn assigned_value(&mut self, table: &Table, at: usize, shared: bool) -> String {
        let column = &table.columns[at];
        let name = &column.name;
        let key = shared || table.unique.contains(&at) || table.key.contains(&at);
        match self.rng.below(16) {
            0 => "DEFAULT".to_owned(),
            1 if column.nullable || self.rng.percent(20) => "NULL".to_owned(),
            2..=4 if column.ty.counts() => {
                format!("{name} {} {}", self.rng.pick(&["+", "-", "*"]), self.rng.between(1, 3))
            }
            2..=4 if column.ty.class == Class::Text => {
                format!("CONCAT({name}, {})", self.compared(&column.ty, false))
            }
            5 => self.rng.pick(&table.columns).name.clone(),
            6 => format!(
                "IF({} IS NULL, {}, {name})",
                self.rng.pick(&table.columns).name,
                self.compared(&column.ty, false)
            ),
            7 if column.ty.counts() => {
                let other = self.table();
                format!("(SELECT COUNT(*) FROM {})", other.name)
            }
            8 if column.ty.class == Class::Int => format!("LAST_INSERT_ID({name} + 1)"),
            9 => "@v".to_owned(),
            10 if self.volatile && column.ty.counts() => "RAND() * 100".to_owned(),
            11 if self.routines && column.ty.class == Class::Int => format!("plus({name})"),
            _ => self.value(&column.ty, key),
        }
    }

    pub(super) fn delete(&mut self, table: &Table) -> String {
        self.form = "DELETE";
        let condition = self.condition(table);
        if self.flavor == Flavor::MySql && self.rng.percent(6) {
            self.form = "WITH … DELETE";
            let other = self.other_table(table);
            let inner = self.literally(|author| author.condition(other));
            let key = &other.columns[other.key[0]].name;
            let glue = if condition.is_empty() { " WHERE" } else { " AND" };
            return format!(
                "WITH w AS (SELECT {key} AS k FROM {}{inner}) DELETE FROM {}{condition}{glue} (SELECT COUNT(*) FROM w) < 3",
                other.name, table.name
            );
        }
        if self.rng.percent(6) {
            self.form = "DELETE IGNORE";
            let tail = self.tail(table, true);
            return format!("DELETE IGNORE FROM {}{condition}{tail}", table.name);
        }
        let returning = self.flavor == Flavor::MariaDb && self.rng.percent(10);
        let mut tail = self.tail(table, returning);
        if returning {
            self.form = "DELETE … RETURNING";
            tail += &self.returning(table);
        }
        if condition.is_empty() && tail.is_empty() && self.rng.percent(75) {
            // Not all rows every time: the statements that follow are to find some
            tail = format!(" ORDER BY {} LIMIT {}", table.order(), self.rng.between(1, 2));
        }
        let verb = *self.rng.pick(&["DELETE FROM", "DELETE FROM", "delete from", "DELETE QUICK FROM"]);
        let place = if table.partitions.is_empty() { String::new() } else { self.place(table) };
        let place = if place.contains("PARTITION") { place } else { String::new() };
        format!("{verb} {}{place}{condition}{tail}", table.name)
    }

    /// ` RETURNING …`
    pub(super) fn returning(&mut self, table: &Table) -> String {
        if self.rng.percent(40) {
            return " RETURNING *".to_owned();
        }
        let c = &table.columns[self.rng.below(table.columns.len())];
        format!(" RETURNING {}, {} AS `as it is`", table.order(), c.name)
    }
}

/// Whether one of these assignments reads a column that one before it has assigned.
fn reads_assigned(assigned: &[(String, String)]) -> bool {
    let reads = |at: usize, value: &str| assigned[..at].iter().any(|(name, _)| value.contains(name.as_str()));
    assigned.iter().enumerate().any(|(at, (_, value))| reads(at, value))
}
