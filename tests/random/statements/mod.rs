//! Writes what a session does: statements that write and read, savepoints, local transactions, settings.

use atone_tests::Flavor;
use atone_tests::effects::Step;
use mysql_async::Value;

mod change;
mod conditions;
mod insert;
mod several;

use crate::around::{Around, Talk};
use crate::known;
use crate::rng::Rng;
use crate::schema::Table;
use crate::script::{Kind, Role};
use crate::settings::{
    DIAGNOSTICS, MARIADB_MODES, MARIADB_SETTINGS, MODES, MYSQL_MODES, MYSQL_SETTINGS, SAVEPOINTS, SETTINGS,
};
use crate::types::{Class, Mode, Type, near, quote};

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
    /// The statement is to be prepared by a statement.
    named: bool,
    /// The form of the statement that is being written.
    form: &'static str,
    /// The function `plus` and the procedure `wipe` are there.
    routines: bool,
    /// Parameters may have types that are not their columns'.
    unlike: bool,
}

type Line = (Step, Role);

impl<'a> Author<'a> {
    pub(crate) fn new(
        flavor: Flavor,
        rng: &'a mut Rng,
        tables: Vec<&'a Table>,
        volatile: bool,
        around: &Around,
    ) -> Self {
        Self {
            flavor,
            rng,
            tables,
            volatile,
            mode: Mode { semicolons: around.semicolons, packet: around.era.packet, ..Mode::default() },
            params: Vec::new(),
            prepared: false,
            flat: false,
            read_only: false,
            named: false,
            form: "",
            routines: false,
            unlike: around.parameters,
        }
    }

    /// All that a session does, but for its last word.
    pub(crate) fn session(&mut self, routines: bool, talk: Talk) -> Vec<Line> {
        self.routines = routines;
        let mut out = Vec::new();
        for _ in 0..self.rng.below(3) {
            let setting = self.setting();
            out.push(setting);
        }
        for _ in 0..self.rng.between(6, 26) {
            match self.rng.below(100) {
                0..=3 => {
                    let setting = self.setting();
                    out.push(setting);
                }
                4..=11 => out.push(query(self.transaction())),
                12..=18 => out.push(query(self.savepoint())),
                19..=26 => {
                    let read = self.read();
                    out.push(read);
                }
                27..=29 => out.push(query(
                    (*self.rng.pick(&[
                        "SELECT LAST_INSERT_ID()",
                        "SELECT @@identity",
                        "SELECT @v, @w",
                        "DO 1",
                        "SELECT FOUND_ROWS()",
                    ]))
                    .to_owned(),
                )),
                // Nearly none where they are an error
                30..=32 if !talk.single || self.rng.percent(10) => {
                    let many = self.several_in_a_packet();
                    out.push(many);
                }
                33..=34 => self.sql_prepared(&mut out),
                _ => {
                    let (step, kind) = self.write();
                    out.push((step, Role::Write(kind)));
                    if self.rng.percent(30) {
                        let diagnostics = self.diagnostics();
                        out.push(diagnostics);
                    }
                }
            }
        }
        if self.mode.semicolons {
            for (step, role) in &mut out {
                if *role != Role::Diagnostics && self.rng.percent(30) {
                    self.comment(step);
                }
            }
        }
        out
    }

    /// Puts a comment with a `;` into a step.
    fn comment(&mut self, step: &mut Step) {
        let form = self.rng.below(4);
        let commented = |sql: &str| match form {
            0 => format!("{sql} /* a;b */"),
            1 => format!("{sql} -- ;"),
            2 => format!("{sql} # it's; x"),
            _ => match sql.split_once(' ') {
                Some((verb, rest)) => format!("{verb} /*;*/ {rest}"),
                None => format!("{sql}/*;*/"),
            },
        };
        match step {
            Step::Query(sql) | Step::Exec(sql, _) | Step::Load(sql, _) => *sql = commented(sql),
            Step::Many(all) => {
                if let Some(last) = all.last_mut() {
                    *last = commented(last);
                }
            }
        }
    }

    fn diagnostics(&mut self) -> Line {
        let sql = (*self.rng.pick(DIAGNOSTICS)).to_owned();
        let step = if self.rng.percent(15) { Step::Exec(sql, Vec::new()) } else { Step::Query(sql) };
        (step, Role::Diagnostics)
    }

    /// Statements that write, in one packet.
    fn several_in_a_packet(&mut self) -> Line {
        let mut all = Vec::new();
        let mut numbers = false;
        for _ in 0..self.rng.between(2, 3) {
            let (step, kind) = self.text_write();
            numbers |= kind.numbers;
            all.push(step.sql().to_owned());
        }
        (Step::Many(all), Role::Write(Kind { form: "several in a packet", on: "", numbers }))
    }

    /// A statement that is prepared and run by statements.
    fn sql_prepared(&mut self, out: &mut Vec<Line>) {
        self.named = true;
        let (step, kind) = self.text_write();
        self.named = false;
        let text = quote(self.rng, self.mode, step.sql());
        if self.flavor == Flavor::MariaDb && self.rng.percent(40) {
            let kind = Kind { form: "EXECUTE IMMEDIATE", ..kind };
            out.push((Step::Query(format!("EXECUTE IMMEDIATE {text}")), Role::Write(kind)));
            return;
        }
        out.push(query(format!("PREPARE p1 FROM {text}")));
        for _ in 0..self.rng.between(1, 2) {
            out.push((Step::Query("EXECUTE p1".to_owned()), Role::Write(Kind { form: "EXECUTE", ..kind })));
        }
        if self.rng.percent(50) {
            out.push(query("DEALLOCATE PREPARE p1".to_owned()));
        }
    }

    fn setting(&mut self) -> Line {
        if self.rng.percent(40) {
            let own = if self.flavor == Flavor::MySql { MYSQL_MODES } else { MARIADB_MODES };
            let mode = if self.rng.percent(15) { *self.rng.pick(own) } else { *self.rng.pick(MODES) };
            self.mode = Mode {
                no_backslash_escapes: mode.contains("NO_BACKSLASH_ESCAPES"),
                ansi_quotes: mode.contains("ANSI"),
                ..self.mode
            };
            return query(format!("SET sql_mode = '{mode}'"));
        }
        let own = if self.flavor == Flavor::MySql { MYSQL_SETTINGS } else { MARIADB_SETTINGS };
        let setting = if self.rng.percent(5) { *self.rng.pick(own) } else { *self.rng.pick(SETTINGS) };
        let narrows = setting.contains("_connection") && self.flavor == Flavor::MySql;
        let dangles = setting.contains("foreign_key_checks")
            && self.tables.iter().any(|t| t.setup[0].contains("FOREIGN KEY"));
        if (narrows && !known::NARROW_PARAMETERS) || (dangles && !known::DANGLING_CHILDREN) {
            return query("SET @v = 4".to_owned());
        }
        query(setting.to_owned())
    }

    fn transaction(&mut self) -> String {
        let choice = self.any_transaction();
        self.read_only |= choice.contains("READ ONLY");
        // The servers keep a READ ONLY that `SET autocommit` has ended, for the statement that follows; bound it does
        // not.
        if self.read_only && choice.contains("autocommit") {
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

    /// A part of a statement, without parameters.
    fn literally(&mut self, part: impl FnOnce(&mut Self) -> String) -> String {
        let prepared = std::mem::replace(&mut self.prepared, false);
        let out = part(self);
        self.prepared = prepared;
        out
    }

    fn finish(&mut self, sql: String) -> Step {
        if self.prepared { Step::Exec(sql, std::mem::take(&mut self.params)) } else { Step::Query(sql) }
    }

    /// A value for a column, as a literal or a parameter.
    fn value(&mut self, ty: &Type, key: bool) -> String {
        if self.prepared && self.rng.percent(70) && !matches!(ty.class, Class::Geometry | Class::Vector) {
            let param = self.param(ty, key);
            self.params.push(param);
            return "?".to_owned();
        }
        if let Some(packet) = self.mode.packet
            && ty.large
            && !key
            && self.rng.percent(40)
        {
            return near(self.rng, packet);
        }
        loop {
            let literal =
                if key { ty.key_literal(self.rng, self.mode) } else { ty.literal(self.rng, self.mode) };
            if literal.is_ascii() || !self.warned_once() {
                return literal;
            }
        }
    }

    /// A parameter for a column, now and then of another type.
    fn param(&mut self, ty: &Type, key: bool) -> Value {
        if self.unlike && self.rng.percent(35) {
            let other = Type::any(self.flavor, self.rng);
            return other.param(self.rng, key);
        }
        ty.param(self.rng, key)
    }

    /// Whether the statement is warned of its words when it is prepared.
    fn warned_once(&self) -> bool {
        !known::WARNINGS_OF_PREPARE && self.flavor == Flavor::MySql && (self.prepared || self.named)
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

    fn write(&mut self) -> (Step, Kind) {
        self.begin_statement();
        if self.rng.percent(3) {
            let table = self.table();
            let (sql, file) = self.load(table);
            let kind = Kind { form: self.form, on: table.trait_, numbers: table.numbered() };
            return (Step::Load(sql, file), kind);
        }
        self.any_write()
    }

    /// A statement of the text protocol that writes.
    fn text_write(&mut self) -> (Step, Kind) {
        self.params.clear();
        self.prepared = false;
        self.any_write()
    }

    fn any_write(&mut self) -> (Step, Kind) {
        let table = self.table();
        let sql = match self.rng.below(100) {
            0..=33 => self.update(table),
            34..=47 => self.delete(table),
            48..=85 => self.insert(table),
            86..=95 => self.several_tables(table),
            _ => self.odd(table),
        };
        let kind = Kind { form: self.form, on: table.trait_, numbers: table.numbered() };
        (self.finish(sql), kind)
    }

    /// What is wrong, or rare.
    fn odd(&mut self, table: &Table) -> String {
        let t = &table.name;
        let key = &table.columns[table.key[0]];
        self.form = "wrong";
        match self.rng.below(if self.routines { 10 } else { 8 }) {
            0 => format!("DELETE FROM {t} WHERE"),
            1 => format!("UPDATE {t} SET nothing = 1"),
            2 => "DELETE FROM nowhere".to_owned(),
            3 => {
                self.form = "ROW_COUNT() in a condition";
                format!("UPDATE {t} SET {0} = {0} WHERE ROW_COUNT() = 1", key.name)
            }
            4 => {
                self.form = "user variables that count";
                format!("UPDATE {t} SET {0} = {0} WHERE (@n := COALESCE(@n, 0) + 1) < 3", key.name)
            }
            5 => {
                self.form = "executable comment";
                format!("DELETE FROM {t} /*!50000 WHERE {} = {} */", key.name, self.value(&key.ty, true))
            }
            6 => {
                self.form = "query in parentheses";
                format!("INSERT INTO {t} (SELECT * FROM {t})")
            }
            7 => {
                self.form = "SELECT INTO";
                format!("SELECT COUNT(*) INTO @v FROM {t}")
            }
            8 => {
                self.form = "CALL";
                "CALL wipe()".to_owned()
            }
            _ => {
                self.form = "stored function";
                format!("UPDATE {t} SET {0} = {0} WHERE plus(1) = 2", key.name)
            }
        }
    }
}

fn query(sql: String) -> Line {
    (Step::Query(sql), Role::Plain)
}
