//! Writes what a session does: statements that write and read, savepoints, local transactions, settings.

use atone_tests::Flavor;
use atone_tests::effects::Step;
use mysql_async::Value;

use crate::known;
use crate::rng::Rng;
use crate::schema::Table;
use crate::script::Role;
use crate::settings::{
    DIAGNOSTICS, FOUND_ROWS, MARIADB_MODES, MARIADB_SETTINGS, MODES, MYSQL_MODES, MYSQL_SETTINGS, SAVEPOINTS,
    SETTINGS,
};
use crate::types::{Class, Mode, Type};

/// Writes the statements of one session.
pub(crate) struct Author<'a> {
    flavor: Flavor,
    rng: &'a mut Rng,
    tables: Vec<&'a Table>,
    volatile: bool,
    mode: Mode,
    params: Vec<Value>,
    /// The statement is to be prepared: values may become parameters.
    prepared: bool,
    /// No subquery in conditions.
    flat: bool,
    /// A transaction that reads only has been begun at some time.
    read_only: bool,
}

type Line = (Step, Role);

impl<'a> Author<'a> {
    pub(crate) fn new(flavor: Flavor, rng: &'a mut Rng, tables: Vec<&'a Table>, volatile: bool) -> Self {
        Self {
            flavor,
            rng,
            tables,
            volatile,
            mode: Mode::default(),
            params: Vec::new(),
            prepared: false,
            flat: false,
            read_only: false,
        }
    }

    /// All that a session does, but for its last word.
    pub(crate) fn session(&mut self) -> Vec<Line> {
        let mut out = Vec::new();
        for _ in 0..self.rng.below(3) {
            let setting = self.setting(false);
            out.push(setting);
        }
        for _ in 0..self.rng.between(3, 12) {
            match self.rng.below(100) {
                0..=5 => {
                    let setting = self.setting(true);
                    out.push(setting);
                }
                6..=15 => out.push(query(self.transaction())),
                16..=22 => out.push(query(self.savepoint())),
                23..=32 => {
                    let read = self.read();
                    out.push(read);
                }
                33..=35 => out.push(query(
                    (*self.rng.pick(&[
                        "SELECT LAST_INSERT_ID()",
                        "SELECT @@identity",
                        "SELECT @v, @w",
                        "DO 1",
                        FOUND_ROWS,
                    ]))
                    .to_owned(),
                )),
                _ => {
                    let write = self.write();
                    out.push((write, Role::Write));
                    if self.rng.percent(30) {
                        let sql = (*self.rng.pick(DIAGNOSTICS)).to_owned();
                        let step = if self.rng.percent(15)
                            && (known::PREPARED_SHOW_COUNT || !sql.contains("SHOW COUNT"))
                        {
                            Step::Exec(sql, Vec::new())
                        } else {
                            Step::Query(sql)
                        };
                        out.push((step, Role::Diagnostics));
                    }
                }
            }
        }
        out
    }

    fn setting(&mut self, begun: bool) -> Line {
        if self.rng.percent(40) {
            let own = if self.flavor == Flavor::MySql { MYSQL_MODES } else { MARIADB_MODES };
            let mode = if self.rng.percent(15) { *self.rng.pick(own) } else { *self.rng.pick(MODES) };
            let pads = mode.contains("PAD_CHAR") && self.flavor == Flavor::MySql;
            let mode = if pads && !known::PADDED_CHAR_KEYS { "ANSI_QUOTES" } else { mode };
            self.mode = Mode {
                no_backslash_escapes: mode.contains("NO_BACKSLASH_ESCAPES"),
                ansi_quotes: mode.contains("ANSI"),
            };
            return query(format!("SET sql_mode = '{mode}'"));
        }
        let own = if self.flavor == Flavor::MySql { MYSQL_SETTINGS } else { MARIADB_SETTINGS };
        let setting = if self.rng.percent(5) { *self.rng.pick(own) } else { *self.rng.pick(SETTINGS) };
        let charset = setting.contains("NAMES") || setting.contains("character_set_results");
        if (charset && begun && !known::CHARSETS_LATER)
            || (setting.contains("_connection") && !known::NARROW_CONNECTION)
            || (setting.contains("max_error_count") && !known::WARNINGS_NOT_KEPT)
            || (setting.contains("sql_safe_updates") && !known::SAFE_UPDATES)
        {
            return query("SET @v = 4".to_owned());
        }
        query(setting.to_owned())
    }

    fn transaction(&mut self) -> String {
        let choice = self.any_transaction();
        self.read_only |= choice.contains("READ ONLY");
        // MySQL keeps a READ ONLY that `SET autocommit` has ended, for the statement that follows; bound it does not.
        if self.read_only && self.flavor == Flavor::MySql && choice.contains("autocommit") {
            return "COMMIT".to_owned();
        }
        choice
    }

    fn any_transaction(&mut self) -> String {
        const CHOICE: &[&str] = &[
            "BEGIN",
            "BEGIN",
            "START TRANSACTION",
            "START TRANSACTION READ WRITE",
            "START TRANSACTION READ ONLY",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT",
            "COMMIT",
            "COMMIT",
            "COMMIT WORK",
            "COMMIT AND CHAIN",
            "ROLLBACK",
            "ROLLBACK AND CHAIN",
            "SET autocommit = 0",
            "SET autocommit = 0",
            "SET autocommit = 1",
            "SET @@session.autocommit = ON",
        ];
        (*self.rng.pick(CHOICE)).to_owned()
    }

    fn savepoint(&mut self) -> String {
        let name = *self.rng.pick(SAVEPOINTS);
        match self.rng.below(6) {
            0..=2 => format!("SAVEPOINT {name}"),
            3 => format!("ROLLBACK TO {name}"),
            4 => format!("ROLLBACK TO SAVEPOINT {name}"),
            _ => format!("RELEASE SAVEPOINT {name}"),
        }
    }

    fn table(&mut self) -> &'a Table {
        self.tables[self.rng.below(self.tables.len())]
    }

    fn begin_statement(&mut self) {
        self.params.clear();
        self.prepared = self.rng.percent(30);
    }

    fn finish(&mut self, sql: String) -> Step {
        if self.prepared { Step::Exec(sql, std::mem::take(&mut self.params)) } else { Step::Query(sql) }
    }

    /// A value for a column, as a literal or a parameter.
    fn value(&mut self, ty: &Type, key: bool) -> String {
        if self.prepared && self.rng.percent(70) && !matches!(ty.class, Class::Geometry | Class::Vector) {
            let param = ty.param(self.rng, key);
            self.params.push(param);
            return "?".to_owned();
        }
        if key { ty.key_literal(self.rng, self.mode) } else { ty.literal(self.rng, self.mode) }
    }

    fn read(&mut self) -> Line {
        self.begin_statement();
        let table = self.table();
        let shown = if self.rng.percent(50) {
            "*".to_owned()
        } else {
            let c = &table.columns[self.rng.below(table.columns.len())];
            format!("{}, {}", c.name, table.order())
        };
        let condition = self.condition(table);
        let lock = *self.rng.pick(&["", "", "", " FOR UPDATE", " LOCK IN SHARE MODE"]);
        let sql = format!("SELECT {shown} FROM {}{condition} ORDER BY {}{lock}", table.name, table.order());
        (self.finish(sql), Role::Plain)
    }

    fn write(&mut self) -> Step {
        self.begin_statement();
        let table = self.table();
        let sql = match self.rng.below(100) {
            0..=39 => self.update(table),
            40..=57 => self.delete(table),
            58..=95 => self.insert(table),
            _ => self.refused(table),
        };
        self.finish(sql)
    }

    /// What can't be undone exactly (so far), or is no statement at all.
    fn refused(&mut self, table: &Table) -> String {
        let t = &table.name;
        let key = &table.columns[table.key[0]];
        match self.rng.below(9) {
            0 => format!("INSERT IGNORE INTO {t} ({}) VALUES ({})", key.name, self.value(&key.ty, true)),
            1 => format!("REPLACE INTO {t} ({}) VALUES ({})", key.name, self.value(&key.ty, true)),
            2 => format!("UPDATE {t} SET {} = {}", key.name, self.value(&key.ty, true)),
            3 => format!("INSERT INTO {t} (SELECT * FROM {t})"),
            4 => format!("DELETE FROM {t} WHERE"),
            5 => format!("UPDATE {t} SET nothing = 1"),
            6 => "DELETE FROM nowhere".to_owned(),
            7 => format!("UPDATE {t} SET {0} = {0} WHERE ROW_COUNT() = 1", key.name),
            _ => format!(
                "INSERT INTO {t} ({0}) VALUES ({1}) ON DUPLICATE KEY UPDATE {0} = {0}",
                key.name,
                self.value(&key.ty, true)
            ),
        }
    }

    fn insert(&mut self, table: &Table) -> String {
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
        // A statement that is taken back has used up numbers that it would not have used up by itself
        let numbered = table.columns.iter().any(|c| c.auto_increment);
        if !numbered && self.rng.percent(8) {
            return self.insert_select(table);
        }
        let (verb, tail) = match self.rng.below(10) {
            0..=2 if numbered => ("INSERT INTO", String::new()),
            0 => ("INSERT IGNORE INTO", String::new()),
            1 => (*self.rng.pick(&["REPLACE INTO", "REPLACE", "replace low_priority into"]), String::new()),
            2 => ("INSERT INTO", self.on_duplicate(table)),
            _ => {
                let verbs = ["INSERT INTO", "INSERT INTO", "INSERT", "insert LOW_PRIORITY into"];
                (*self.rng.pick(&verbs), String::new())
            }
        };
        // All rows alike: given and generated numbers can't be mixed.
        let generated = self.rng.percent(70);
        if list && rows == 1 && !places.is_empty() && self.rng.percent(12) {
            let assigned: Vec<String> = places
                .iter()
                .map(|&c| format!("{} = {}", table.columns[c].name, self.inserted_value(table, c, generated)))
                .collect();
            return format!("{verb} {} SET {}{tail}", table.name, assigned.join(", "));
        }
        let mut tuples = Vec::new();
        for _ in 0..rows {
            let values: Vec<String> =
                places.iter().map(|&c| self.inserted_value(table, c, generated)).collect();
            tuples.push(format!("({})", values.join(", ")));
        }
        let names = if list {
            format!(
                " ({})",
                places.iter().map(|&c| table.columns[c].name.as_str()).collect::<Vec<_>>().join(", ")
            )
        } else {
            String::new()
        };
        format!("{verb} {}{names} VALUES {}{tail}", table.name, tuples.join(", "))
    }

    /// From itself or from another table, with values for the key in some.
    fn insert_select(&mut self, table: &Table) -> String {
        let other = self.other_table(table);
        let verb = *self.rng.pick(&["INSERT INTO", "INSERT IGNORE INTO", "REPLACE INTO"]);
        let places: Vec<usize> = (0..table.columns.len()).filter(|&c| !table.columns[c].generated).collect();
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
        format!(
            "{verb} {} ({}) SELECT {} FROM {}{condition} ORDER BY {}",
            table.name,
            names.join(", "),
            values.join(", "),
            other.name,
            other.order()
        )
    }

    /// ` ON DUPLICATE KEY UPDATE …`
    fn on_duplicate(&mut self, table: &Table) -> String {
        let free: Vec<usize> = (0..table.columns.len()).filter(|&c| !table.columns[c].generated).collect();
        let mut assigned = Vec::new();
        for _ in 0..self.rng.between(1, 2) {
            let at = *self.rng.pick(&free);
            let name = &table.columns[at].name;
            let value = match self.rng.below(4) {
                0 => format!("VALUES({name})"),
                1 if table.columns[at].ty.class == Class::Int => format!("LAST_INSERT_ID({name})"),
                _ if table.key.contains(&at) => self.value(&table.columns[at].ty, true),
                _ => self.assigned_value(table, at),
            };
            assigned.push(format!("{name} = {value}"));
        }
        format!(" ON DUPLICATE KEY UPDATE {}", assigned.join(", "))
    }

    fn inserted_value(&mut self, table: &Table, c: usize, generated: bool) -> String {
        let column = &table.columns[c];
        if column.generated {
            return "DEFAULT".to_owned();
        }
        if column.auto_increment && generated {
            return (*self.rng.pick(&["NULL", "DEFAULT", "0"])).to_owned();
        }
        if table.key.contains(&c) {
            return self.value(&column.ty, true);
        }
        match self.rng.below(12) {
            0 => "DEFAULT".to_owned(),
            1 if column.nullable || self.rng.percent(20) => "NULL".to_owned(),
            2 if column.ty.counts() => "1 + 2".to_owned(),
            3 if column.ty.class == Class::Text => "CONCAT('x', UPPER('y'))".to_owned(),
            4 if column.ty.counts() => format!("(SELECT COUNT(*) FROM {})", self.table().name),
            5 if self.volatile && column.ty.class == Class::Text => "UUID()".to_owned(),
            _ => self.value(&column.ty, table.unique.contains(&c)),
        }
    }

    /// ` WHERE …`, or nothing.
    fn condition(&mut self, table: &Table) -> String {
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

    /// Whether a condition may ask the table that it is for.
    fn asks_itself(&self) -> bool {
        known::SUBQUERY_ON_WRITTEN_TABLE || self.flavor == Flavor::MariaDb
    }

    /// Whether a condition may ask any table.
    fn may_ask(&self, table: &Table) -> bool {
        self.asks_itself() || self.tables.iter().any(|t| t.name != table.name)
    }

    /// A table for a subquery in a condition.
    fn other_table(&mut self, table: &Table) -> &'a Table {
        let other = self.table();
        if other.name != table.name || self.asks_itself() {
            return other;
        }
        self.tables.iter().find(|t| t.name != table.name).copied().unwrap_or(other)
    }

    /// A value that a column is compared with.
    fn compared(&mut self, ty: &Type, key: bool) -> String {
        if known::CONVERTING_CONDITIONS {
            return self.value(ty, key);
        }
        if self.prepared && self.rng.percent(70) && ty.compares_as_parameter() {
            let param = ty.param(self.rng, key);
            self.params.push(param);
            return "?".to_owned();
        }
        ty.plain_literal(self.rng, self.mode, key)
    }

    fn key_condition(&mut self, table: &Table) -> String {
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

    fn term(&mut self, table: &Table) -> String {
        let c = &table.columns[self.rng.below(table.columns.len())];
        let name = &c.name;
        let key = table.key.iter().any(|&k| table.columns[k].name == *name);
        match self.rng.below(14) {
            0 => format!("{name} IS NULL"),
            // Comparing these is an error, or warns.
            _ if matches!(c.ty.class, Class::Json | Class::Geometry | Class::Vector) => {
                format!("{name} IS NOT NULL")
            }
            1 => format!("{name} IS NOT NULL"),
            2 => format!("NOT ({name} <=> {})", self.compared(&c.ty, key)),
            3 => format!("{name} BETWEEN {} AND {}", self.compared(&c.ty, key), self.compared(&c.ty, key)),
            4 if c.ty.class == Class::Text => format!("{name} LIKE '%a%'"),
            5 => format!("CHAR_LENGTH({name}) > 3"),
            6 if self.flat || !self.asks_itself() => format!("{name} IS NULL"),
            7 if self.flat || !self.may_ask(table) => format!("{name} IS NULL"),
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
            10 => format!("({name} = {} OR {name} IS NULL)", self.compared(&c.ty, key)),
            _ => {
                let operator = *self.rng.pick(&["=", "<>", ">", "<", ">=", "<="]);
                format!("{name} {operator} {}", self.compared(&c.ty, key))
            }
        }
    }

    /// ` ORDER BY … LIMIT …`, or nothing. An order without ties, so that two servers choose the same rows.
    fn tail(&mut self, table: &Table, ordered: bool) -> String {
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

    fn update(&mut self, table: &Table) -> String {
        let free: Vec<usize> = (0..table.columns.len())
            .filter(|c| {
                let column = &table.columns[*c];
                !table.key.contains(c) && (!column.generated || self.rng.percent(2))
            })
            .collect();
        if free.is_empty() {
            return self.delete(table);
        }
        let mut assigned = Vec::new();
        let mut ordered = false;
        let count = self.rng.between(1, 3);
        for _ in 0..count {
            let at = *self.rng.pick(&free);
            // Which row is in the way of which depends on the order of the rows.
            ordered |= table.unique.contains(&at);
            assigned.push(format!("{} = {}", table.columns[at].name, self.assigned_value(table, at)));
        }
        self.flat = count > 1 && self.flavor == Flavor::MariaDb && !known::SUBQUERIES_BESIDE_ASSIGNMENTS;
        let condition = self.condition(table);
        self.flat = false;
        let tail = self.tail(table, ordered);
        if self.rng.percent(10) {
            return format!("UPDATE {} AS x SET {}{condition}{tail}", table.name, assigned.join(", "));
        }
        let verb = *self.rng.pick(&["UPDATE", "UPDATE", "update", "UPDATE LOW_PRIORITY", "/* c */ UPDATE"]);
        format!("{verb} {} SET {}{condition}{tail}", table.name, assigned.join(", "))
    }

    fn assigned_value(&mut self, table: &Table, at: usize) -> String {
        let column = &table.columns[at];
        let name = &column.name;
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
            _ => self.value(&column.ty, table.unique.contains(&at)),
        }
    }

    fn delete(&mut self, table: &Table) -> String {
        let condition = self.condition(table);
        let tail = self.tail(table, false);
        let verb = *self.rng.pick(&["DELETE FROM", "DELETE FROM", "delete from", "DELETE QUICK FROM"]);
        format!("{verb} {}{condition}{tail}", table.name)
    }
}

fn query(sql: String) -> Line {
    (Step::Query(sql), Role::Plain)
}
