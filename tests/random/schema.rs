//! Random tables and their first rows.

use atone_tests::{Bank, Flavor};

use crate::rng::Rng;
use crate::types::{Class, Mode, Type};

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As it stands in SQL, with backticks.
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) nullable: bool,
    pub(crate) auto_increment: bool,
    pub(crate) generated: bool,
    pub(crate) invisible: bool,
    definition: String,
}

/// A table of one server.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) bank: Bank,
    /// As it stands in SQL.
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// Indices of the columns that identify a row.
    pub(crate) key: Vec<usize>,
    /// Indices of columns of further unique keys.
    pub(crate) unique: Vec<usize>,
    /// `CREATE TABLE`, then the rows, then triggers and routines.
    pub(crate) setup: Vec<String>,
    /// The partitions' names.
    pub(crate) partitions: Vec<&'static str>,
    /// A view, of which there is nothing to dump.
    pub(crate) view: bool,
    /// What is special about it, for the figures.
    pub(crate) trait_: &'static str,
}

impl Table {
    /// The same table, by this name.
    pub(crate) fn aliased(&self, alias: &str) -> Table {
        let mut made = self.clone();
        for c in &mut made.columns {
            c.name = format!("{alias}.{}", c.name);
        }
        made
    }

    /// Whether the server generates numbers for it.
    pub(crate) fn numbered(&self) -> bool {
        self.columns.iter().any(|c| c.auto_increment)
    }

    /// The column by which rows of other tables may refer to a row, if there is one.
    fn referred(&self, rng: &mut Rng) -> Option<usize> {
        let whole = |c: usize| {
            let column = &self.columns[c];
            let key = format!("KEY ({})", column.name);
            (!column.generated && self.setup[0].contains(&key)).then_some(c)
        };
        if self.view || !self.partitions.is_empty() {
            return None;
        }
        let unique: Vec<usize> = self
            .unique
            .iter()
            .copied()
            .filter(|&c| self.setup[0].contains(&format!("UNIQUE KEY ({})", self.columns[c].name)))
            .collect();
        if !unique.is_empty() && rng.percent(40) {
            return whole(*rng.pick(&unique));
        }
        match self.key[..] {
            [only] if self.setup[0].contains("PRIMARY KEY (") => whole(only),
            _ => None,
        }
    }

    /// The key columns, separated by commas: a total order of the rows.
    pub(crate) fn order(&self) -> String {
        self.key.iter().map(|&c| self.columns[c].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// A query that shows all rows to the bit.
    pub(crate) fn exact(&self) -> String {
        let shown: Vec<String> = self.columns.iter().map(|c| c.ty.exact(&c.name)).collect();
        // HEX, since two keys may be equal in a collation only where there is no key at all.
        format!(
            "SELECT {} FROM {} ORDER BY {}",
            shown.join(", "),
            self.name,
            (1..=shown.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
        )
    }
}

const RULES: &[&str] = &[
    "",
    "",
    " ON DELETE RESTRICT",
    " ON DELETE CASCADE",
    " ON DELETE CASCADE",
    " ON UPDATE CASCADE",
    " ON DELETE CASCADE ON UPDATE CASCADE",
    " ON DELETE SET NULL",
    " ON UPDATE SET NULL",
    " ON DELETE SET NULL ON UPDATE CASCADE",
    " ON DELETE NO ACTION ON UPDATE SET NULL",
];

const TABLE_NAMES: &[&str] = &["t0", "t1", "t2", "`order`", "`T up`", "`q``t`", "`s;t`", "`T3`"];
const COLUMN_NAMES: &[&str] = &["c0", "c1", "c2", "c3", "`select`", "`c 5`", "C6", "`q``c`", "`d;c`", "c9"];

fn column(name: &str, ty: Type, nullable: bool) -> Column {
    let definition = format!("{name} {}{}", ty.sql, if nullable { " NULL" } else { " NOT NULL" });
    Column {
        name: name.to_owned(),
        ty,
        nullable,
        auto_increment: false,
        generated: false,
        invisible: false,
        definition,
    }
}

fn auto_increment(name: &str, rng: &mut Rng) -> Column {
    let sql = *rng.pick(&["INT", "BIGINT UNSIGNED", "SMALLINT", "TINYINT UNSIGNED"]);
    let ty = Type { sql: sql.to_owned(), class: Class::Int, large: false };
    let mut made = column(name, ty, false);
    made.auto_increment = true;
    made.definition += " AUTO_INCREMENT";
    made
}

fn value_column(flavor: Flavor, rng: &mut Rng, name: &str) -> Column {
    let ty = Type::any(flavor, rng);
    let nullable = rng.percent(65) || matches!(ty.class, Class::Geometry | Class::Vector);
    let mut made = column(name, ty, nullable);
    match made.ty.class {
        Class::Timestamp => {
            let digits: String = made.ty.sql.chars().filter(char::is_ascii_digit).collect();
            let now = format!(
                "CURRENT_TIMESTAMP{}",
                if digits.is_empty() { String::new() } else { format!("({digits})") }
            );
            made.definition += match rng.below(3) {
                0 => format!(" DEFAULT {now} ON UPDATE {now}"),
                1 => format!(" DEFAULT '2020-01-01 00:00:00' ON UPDATE {now}"),
                _ => " DEFAULT '2020-01-01 00:00:00'".to_owned(),
            }
            .as_str();
        }
        Class::Int if rng.percent(40) => made.definition += " DEFAULT 7",
        Class::DateTime if rng.percent(40) => {
            let digits: String = made.ty.sql.chars().filter(char::is_ascii_digit).collect();
            let digits = if digits.is_empty() { String::new() } else { format!("({digits})") };
            made.definition +=
                &format!(" DEFAULT CURRENT_TIMESTAMP{digits} ON UPDATE CURRENT_TIMESTAMP{digits}");
        }
        Class::Text if rng.percent(30) && !made.ty.large => made.definition += " DEFAULT 'dflt'",
        _ => {}
    }
    if nullable && rng.percent(6) {
        made.invisible = true;
        made.definition += " INVISIBLE";
    }
    made
}

fn generated_column(rng: &mut Rng, name: &str, from: &Column) -> Option<Column> {
    let expression = match from.ty.class {
        Class::Int => format!("{} MOD 7", from.name),
        // The length of a CHAR depends on the sql_mode.
        Class::Text if !from.ty.sql.starts_with("CHAR(") => format!("CHAR_LENGTH({})", from.name),
        Class::Binary => format!("LENGTH({})", from.name),
        Class::Date => format!("YEAR({})", from.name),
        _ => return None,
    };
    let ty = Type { sql: "INT".to_owned(), class: Class::Int, large: false };
    let mut made = column(name, ty, true);
    made.generated = true;
    made.definition =
        format!("{name} INT GENERATED ALWAYS AS ({expression}) {}", rng.pick(&["VIRTUAL", "STORED"]));
    Some(made)
}

/// A random table, with rows.
pub(crate) fn table(
    flavor: Flavor,
    rng: &mut Rng,
    bank: Bank,
    number: usize,
    parent: Option<&Table>,
) -> Table {
    let name = if rng.percent(80) { TABLE_NAMES[number] } else { TABLE_NAMES[3 + number] }.to_owned();
    let mut keys: Vec<Column> = match rng.below(10) {
        0..=1 => vec![column("id", Type { sql: "INT".into(), class: Class::Int, large: false }, false)],
        2..=3 => vec![auto_increment("id", rng)],
        4 => {
            let mut two = vec![
                column("id", Type { sql: "INT".into(), class: Class::Int, large: false }, false),
                column("k", Type::for_key(flavor, rng), false),
            ];
            rng.shuffle(&mut two);
            two
        }
        5 => vec![
            column("ka", Type::for_key(flavor, rng), false),
            column("kb", Type::for_key(flavor, rng), false),
        ],
        _ => vec![column("k", Type::for_key(flavor, rng), false)],
    };
    let mut values: Vec<Column> = Vec::new();
    for c in COLUMN_NAMES.iter().take(rng.between(1, 7)) {
        values.push(value_column(flavor, rng, c));
    }
    if rng.percent(30)
        && let Some(made) = generated_column(rng, "g", &rng.clone().pick(&values).clone())
    {
        values.push(made);
    }
    let mut constraints = Vec::new();
    if values.iter().any(|c| c.generated) && rng.percent(20) {
        constraints.push("KEY (g)".to_owned());
    }
    let spatial = values.iter().any(|c| c.ty.class == Class::Geometry);
    let numbered = keys.len() == 1 && keys[0].name == "id" && !keys[0].auto_increment && rng.percent(10);
    let partitioned = !numbered
        && !spatial
        && parent.is_none()
        && keys.len() == 1
        && keys[0].name == "id"
        && rng.percent(8);
    let key_names: Vec<String> = keys.iter().map(|c| c.name.clone()).collect();
    let word = if rng.percent(90) { "PRIMARY KEY" } else { "UNIQUE KEY uk" };
    // One column in so many tables has no key at all: refused, or nothing is written.
    if rng.percent(98) || keys.iter().any(|c| c.auto_increment) {
        constraints.push(format!("{word} ({})", key_names.join(", ")));
    }
    if numbered {
        // A generated number that is not the row's key.
        values.push(auto_increment("n", rng));
        constraints.push("UNIQUE KEY n (n)".to_owned());
    }
    let mut refers = None;
    if let Some(parent) = parent
        && let Some(to) = parent.referred(rng)
    {
        let rule = *rng.pick(RULES);
        let to = &parent.columns[to];
        let mut made = column("p", to.ty.clone(), true);
        // Of the same characters, whatever the table's are
        made.auto_increment = false;
        values.push(made);
        constraints.push(format!("FOREIGN KEY (p) REFERENCES {} ({}){rule}", parent.name, to.name));
        refers = Some(if rule.contains("CASCADE") || rule.contains("NULL") {
            "child by cascade"
        } else {
            "child"
        });
    }
    if let [Column { name: key, auto_increment: false, ty, .. }] = &keys[..]
        && rng.percent(5)
        && !partitioned
    {
        // Rows that refer to rows of the same table
        let (key, ty) = (key.clone(), ty.clone());
        values.push(column("own", ty, true));
        let rule = *rng.pick(&["", " ON DELETE CASCADE", " ON DELETE SET NULL"]);
        constraints.push(format!("FOREIGN KEY (own) REFERENCES {name} ({key}){rule}"));
        refers = Some("refers to itself");
    }
    let mut unique_names = Vec::new();
    for c in &values {
        let indexable = !matches!(c.ty.class, Class::Json | Class::Geometry | Class::Vector) && !c.generated;
        if !indexable || matches!(c.name.as_str(), "p" | "n" | "own") {
            continue;
        }
        let part =
            if c.ty.large || c.ty.sql.contains("(300)") { format!("{}(3)", c.name) } else { c.name.clone() };
        if rng.percent(8) && !partitioned {
            constraints.push(format!("UNIQUE KEY ({part})"));
            unique_names.push(c.name.clone());
        } else if rng.percent(15) {
            constraints.push(format!("KEY ({part})"));
        }
    }
    if rng.percent(8)
        && let Some(c) =
            values.iter().find(|c| c.ty.class == Class::Int && !c.auto_increment && c.name != "p")
    {
        constraints.push(format!("CHECK ({} <> 3)", c.name));
    }
    // The key need not come first.
    keys.append(&mut values);
    let mut columns = keys;
    if rng.percent(35) {
        rng.shuffle(&mut columns);
    }
    let position = |wanted: &String| columns.iter().position(|c| c.name == *wanted);
    let key = key_names.iter().filter_map(position).collect();
    let unique = unique_names.iter().filter_map(position).collect();
    let mut definitions: Vec<String> = columns.iter().map(|c| c.definition.clone()).collect();
    definitions.extend(constraints);
    let (suffix, partitions) = if partitioned { *rng.pick(PARTITIONS) } else { ("", &[][..]) };
    let create = format!("CREATE TABLE {name} ({}) ENGINE=InnoDB{suffix}", definitions.join(", "));
    let trait_ = match refers {
        Some(refers) => refers,
        None if partitioned => "partitions",
        None if create.contains("GENERATED ALWAYS") => "generated columns",
        None if !create.contains("KEY (") => "no key",
        None => "",
    };
    let partitions = partitions.to_vec();
    let mut made =
        Table { bank, name, columns, key, unique, setup: vec![create], partitions, view: false, trait_ };
    for _ in 0..rng.between(2, 12) {
        let row = first_row(rng, &made);
        made.setup.push(row);
    }
    made
}

/// How a table is divided by `id`, and what the parts are called.
const PARTITIONS: &[(&str, &[&str])] = &[
    (" PARTITION BY HASH (id) PARTITIONS 3", &["p0", "p1", "p2"]),
    (" PARTITION BY KEY (id) PARTITIONS 2", &["p0", "p1"]),
    (
        " PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (4), PARTITION `mid dle` VALUES LESS THAN (8), \
         PARTITION high VALUES LESS THAN MAXVALUE)",
        &["low", "`mid dle`", "high"],
    ),
    (
        " PARTITION BY LIST (id) (PARTITION odd VALUES IN (1, 3, 5, 7, 9, 11), PARTITION even VALUES IN (2, 4, 6, 8, 10, 12))",
        &["odd", "even"],
    ),
];

fn first_row(rng: &mut Rng, table: &Table) -> String {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (at, c) in table.columns.iter().enumerate() {
        if c.generated || (c.auto_increment && rng.percent(70)) {
            continue;
        }
        names.push(c.name.clone());
        values.push(if table.key.contains(&at) || matches!(c.name.as_str(), "p" | "own") {
            c.ty.key_literal(rng, Mode::default())
        } else if c.nullable && rng.percent(20) {
            "NULL".to_owned()
        } else {
            c.ty.literal(rng, Mode::default())
        });
    }
    // IGNORE: values that don't fit are cut, keys that are there already make no row.
    format!("INSERT IGNORE INTO {} ({}) VALUES ({})", table.name, names.join(", "), values.join(", "))
}
