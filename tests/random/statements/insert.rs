//! INSERT and REPLACE.

use atone_tests::Flavor;
use atone_tests::sql::text;
use mysql_async::Value;

use crate::schema::Table;
use crate::types::Class;

use super::Author;

impl Author<'_> {
    pub(super) fn insert(&mut self, table: &Table) -> String {
        let list = self.rng.percent(80);
        let mut places: Vec<usize> = (0..table.columns.len())
            .filter(|&c| {
                let column = &table.columns[c];
                if list {
                    let kept = table.key.contains(&c) && !(column.auto_increment && self.rng.percent(70));
                    !column.generated && (kept || self.rng.percent(70))
                } else {
                    !column.invisible
                }
            })
            .collect();
        if list && self.rng.percent(30) {
            self.rng.shuffle(&mut places);
        }
        let rows = if self.rng.percent(60) { 1 } else { self.rng.between(2, 4) };
        if self.rng.percent(10) {
            return self.insert_select(table);
        }
        let mariadb = self.flavor == Flavor::MariaDb;
        let (form, verb) = match self.rng.below(20) {
            0..=1 => ("INSERT IGNORE", "INSERT IGNORE INTO"),
            2..=3 => {
                let verbs = ["REPLACE INTO", "REPLACE", "replace low_priority into"];
                ("REPLACE", *self.rng.pick(&verbs))
            }
            4..=6 => ("ON DUPLICATE KEY UPDATE", "INSERT INTO"),
            7 if self.rng.percent(40) => ("IGNORE … ON DUPLICATE KEY UPDATE", "INSERT IGNORE INTO"),
            8 if !mariadb => ("row alias … ON DUPLICATE KEY UPDATE", "INSERT INTO"),
            _ => {
                let verbs = ["INSERT INTO", "INSERT INTO", "INSERT", "insert LOW_PRIORITY into"];
                ("INSERT", *self.rng.pick(&verbs))
            }
        };
        self.form = form;
        let returning = mariadb && self.rng.percent(6);
        if returning {
            self.form = if verb.contains("IGNORE") {
                "INSERT IGNORE … RETURNING"
            } else if form == "REPLACE" {
                "REPLACE … RETURNING"
            } else if form == "INSERT" {
                "INSERT … RETURNING"
            } else {
                "ON DUPLICATE KEY … RETURNING"
            };
        }
        // Given and generated numbers mixed, or all rows alike
        let mixed = self.rng.percent(8);
        let generated = self.rng.percent(70);
        let place = if !table.partitions.is_empty() && self.rng.percent(20) {
            format!(" PARTITION ({})", table.partitions.join(", "))
        } else {
            String::new()
        };
        if list && rows == 1 && !places.is_empty() && self.rng.percent(12) {
            let assigned: Vec<String> = places
                .iter()
                .map(|&c| format!("{} = {}", table.columns[c].name, self.inserted_value(table, c, generated)))
                .collect();
            let tail = self.insert_tail(table, form, returning);
            return format!("{verb} {}{place} SET {}{tail}", table.name, assigned.join(", "));
        }
        let mut tuples = Vec::new();
        for _ in 0..rows {
            let generated = if mixed { self.rng.percent(50) } else { generated };
            let values: Vec<String> =
                places.iter().map(|&c| self.inserted_value(table, c, generated)).collect();
            tuples.push(format!("({})", values.join(", ")));
        }
        if !mariadb && !places.is_empty() && form == "INSERT" && self.rng.percent(5) {
            self.form = "INSERT … VALUES ROW()";
            tuples.iter_mut().for_each(|t| t.insert_str(0, "ROW"));
        }
        let names = if list {
            format!(
                " ({})",
                places.iter().map(|&c| table.columns[c].name.as_str()).collect::<Vec<_>>().join(", ")
            )
        } else {
            String::new()
        };
        let tail = self.insert_tail(table, form, returning);
        format!("{verb} {}{place}{names} VALUES {}{tail}", table.name, tuples.join(", "))
    }

    /// LOAD DATA LOCAL, and its file.
    pub(super) fn load(&mut self, table: &Table) -> (String, Vec<u8>) {
        self.params.clear();
        self.form = "LOAD DATA LOCAL";
        let mut places: Vec<usize> = (0..table.columns.len())
            .filter(|&c| !table.columns[c].generated && (table.key.contains(&c) || self.rng.percent(80)))
            .collect();
        if self.rng.percent(30) {
            self.rng.shuffle(&mut places);
        }
        let commas = self.rng.percent(30);
        let mut file = Vec::new();
        for _ in 0..self.rng.between(1, 4) {
            let fields: Vec<Vec<u8>> = places.iter().map(|&c| self.field(table, c, commas)).collect();
            file.extend_from_slice(&fields.join(if commas { &b","[..] } else { &b"\t"[..] }));
            file.push(b'\n');
        }
        let duplicates = *self.rng.pick(&["", "IGNORE ", "REPLACE "]);
        let form = if commas { " FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"'" } else { "" };
        let names: Vec<&str> = places.iter().map(|&c| table.columns[c].name.as_str()).collect();
        let sql = format!(
            "LOAD DATA LOCAL INFILE 'f' {duplicates}INTO TABLE {} CHARACTER SET utf8mb4{form} ({})",
            table.name,
            names.join(", ")
        );
        (sql, file)
    }

    /// A value as it stands in a file.
    fn field(&mut self, table: &Table, at: usize, enclosed: bool) -> Vec<u8> {
        let column = &table.columns[at];
        let key = table.key.contains(&at) || table.unique.contains(&at);
        let value = column.ty.param(self.rng, key);
        let quoted = match value {
            Value::Bytes(bytes) => bytes,
            Value::NULL => return b"\\N".to_vec(),
            _ if column.auto_increment && self.rng.percent(50) => return b"0".to_vec(),
            other => return text(&other).trim_matches('\'').as_bytes().to_vec(),
        };
        let mut out = Vec::new();
        for byte in quoted {
            match byte {
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\n' => out.extend_from_slice(b"\\n"),
                0 => out.extend_from_slice(b"\\0"),
                b'\\' | b'"' | b',' => out.extend_from_slice(&[b'\\', byte]),
                _ => out.push(byte),
            }
        }
        if enclosed && self.rng.percent(50) {
            out.insert(0, b'"');
            out.push(b'"');
        }
        out
    }

    fn insert_tail(&mut self, table: &Table, form: &str, returning: bool) -> String {
        let mut tail = String::new();
        if form.contains("ON DUPLICATE") {
            tail += &self.on_duplicate(table, form.starts_with("row alias"));
        }
        if returning {
            tail += &self.returning(table);
        }
        tail
    }

    /// A table for a subquery among the values. MariaDB's own rows of an INSERT that asks its own table are not those
    /// of its text (DEFAULT is NULL, rows are counted otherwise in messages).
    fn beside(&mut self, table: &Table) -> Option<String> {
        let other = self.table();
        let views = other.view || table.view;
        (self.flavor == Flavor::MySql || (other.name != table.name && !views)).then(|| other.name.clone())
    }

    /// From itself or from another table, with values for the key in some.
    fn insert_select(&mut self, table: &Table) -> String {
        let other = self.other_table(table);
        let verb = *self.rng.pick(&["INSERT INTO", "INSERT INTO", "INSERT IGNORE INTO", "REPLACE INTO"]);
        self.form = match verb {
            "REPLACE INTO" => "REPLACE … SELECT",
            "INSERT INTO" => "INSERT … SELECT",
            _ => "INSERT IGNORE … SELECT",
        };
        // Numbers may be generated
        let places: Vec<usize> = (0..table.columns.len())
            .filter(|&c| {
                !(table.columns[c].generated || table.columns[c].auto_increment && self.rng.percent(60))
            })
            .collect();
        if places.is_empty() {
            return self.update(table);
        }
        let mut values = Vec::new();
        for &c in &places {
            let alike: Vec<&str> = other
                .columns
                .iter()
                .filter(|o| o.ty.class == table.columns[c].ty.class)
                .map(|o| o.name.as_str())
                .collect();
            let shift = table.columns[c].ty.class == Class::Int;
            values.push(if alike.is_empty() || self.rng.percent(30) {
                self.value(&table.columns[c].ty, table.key.contains(&c))
            } else if shift && self.rng.percent(50) {
                format!("{} + {}", self.rng.pick(&alike), self.rng.between(1, 40))
            } else {
                (*self.rng.pick(&alike)).to_owned()
            });
        }
        let names: Vec<&str> = places.iter().map(|&c| table.columns[c].name.as_str()).collect();
        let condition = self.condition(other);
        let head = format!("{verb} {} ({})", table.name, names.join(", "));
        let query = format!("SELECT {} FROM {}{condition}", values.join(", "), other.name);
        let order = other.order();
        match self.rng.below(12) {
            // The order in which a UNION gives its rows is the server's
            0 if !query.contains('?') && self.volatile => {
                self.form = "INSERT … UNION";
                format!("{head} {query} UNION ALL {query}")
            }
            1 => {
                self.form = "INSERT … WITH";
                format!("{head} WITH w AS (SELECT 1) {query} ORDER BY {order}")
            }
            2 => {
                self.form = "SELECT … ON DUPLICATE KEY";
                // The names on the right would be those of either table
                let verb = "INSERT INTO";
                let at = places[self.rng.below(places.len())];
                let column = &table.columns[at];
                let value = self.value(&column.ty, table.key.contains(&at));
                format!(
                    "{verb} {} ({}) {query} ORDER BY {order} ON DUPLICATE KEY UPDATE {}.{} = {value}",
                    table.name,
                    names.join(", "),
                    table.name,
                    column.name
                )
            }
            3 if self.flavor == Flavor::MySql && other.name == table.name => {
                self.params.clear();
                self.form = "INSERT … TABLE";
                format!("INSERT IGNORE INTO {0} TABLE {0}", table.name)
            }
            _ => format!("{head} {query} ORDER BY {order}"),
        }
    }

    /// ` ON DUPLICATE KEY UPDATE …`
    fn on_duplicate(&mut self, table: &Table, alias: bool) -> String {
        let free: Vec<usize> = (0..table.columns.len()).filter(|&c| !table.columns[c].generated).collect();
        let mut assigned = Vec::new();
        for _ in 0..self.rng.between(1, 2) {
            let at = *self.rng.pick(&free);
            let name = &table.columns[at].name;
            let value = match self.rng.below(4) {
                0 if alias => format!("new.{name}"),
                0 if self.warned_once() => self.value(&table.columns[at].ty, true),
                0 => format!("VALUES({name})"),
                1 if table.columns[at].ty.class == Class::Int => format!("LAST_INSERT_ID({name})"),
                _ if table.key.contains(&at) => self.value(&table.columns[at].ty, true),
                // With an alias each name of the row that is there would be one of two
                _ if alias => self.value(&table.columns[at].ty, table.unique.contains(&at)),
                _ => self.assigned_value(table, at, false),
            };
            assigned.push(format!("{name} = {value}"));
        }
        let alias = if alias { " AS new" } else { "" };
        format!("{alias} ON DUPLICATE KEY UPDATE {}", assigned.join(", "))
    }

    fn inserted_value(&mut self, table: &Table, c: usize, generated: bool) -> String {
        let column = &table.columns[c];
        if column.generated {
            return "DEFAULT".to_owned();
        }
        if column.auto_increment && generated {
            return (*self.rng.pick(&["NULL", "DEFAULT", "0"])).to_owned();
        }
        let key = table.key.contains(&c) || matches!(column.name.as_str(), "p" | "own");
        if key {
            return match self.rng.below(24) {
                0 if column.ty.counts() => format!("{} + 1", self.rng.between(1, 12)),
                1 if column.ty.class == Class::Text => "CONCAT('x', LOWER('1'))".to_owned(),
                2 if self.volatile && column.ty.class == Class::Text => "UUID()".to_owned(),
                3 => "DEFAULT".to_owned(),
                4 if column.ty.counts() => match self.beside(table) {
                    Some(other) => {
                        format!("(SELECT COUNT(*) + {} FROM {other})", self.rng.between(1, 20))
                    }
                    None => self.value(&column.ty, true),
                },
                _ => self.value(&column.ty, true),
            };
        }
        match self.rng.below(12) {
            0 => "DEFAULT".to_owned(),
            1 if column.nullable || self.rng.percent(20) => "NULL".to_owned(),
            2 if column.ty.counts() => "1 + 2".to_owned(),
            3 if column.ty.class == Class::Text => "CONCAT('x', UPPER('y'))".to_owned(),
            4 if column.ty.counts() => match self.beside(table) {
                Some(other) => format!("(SELECT COUNT(*) FROM {other})"),
                None => "7".to_owned(),
            },
            5 if self.volatile && column.ty.class == Class::Text => "UUID()".to_owned(),
            _ => self.value(&column.ty, table.unique.contains(&c)),
        }
    }
}
