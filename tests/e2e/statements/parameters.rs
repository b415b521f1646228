//! Parameters of prepared statements beside columns of every type and under every operator: a bound session does what
//! the server does by itself, with the same counts, warnings and errors, and a global rollback puts all back.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::server::APP;
use atone_tests::wire::payload::{Execute, Param, query, statement, text, types};
use atone_tests::wire::{Decoded, Login, Session, payload};
use atone_tests::{Bank, Cluster, Flavor, sql};

atone_tests::shared_tests!(
    conditions_on_numbers_and_texts,
    conditions_on_others,
    assigned_numbers_and_texts,
    assigned_others,
    inserted_numbers_and_texts,
    inserted_others,
);

const COM_STMT_CLOSE: u8 = 0x19;

/// A column's name and type.
type Column = (&'static str, &'static str);

/// The columns that parameters are compared with.
const COLUMNS: &[Column] = &[
    ("b", "BIGINT"),
    ("u", "BIGINT UNSIGNED"),
    ("i", "INT"),
    ("de", "DECIMAL(30,10)"),
    ("f", "FLOAT"),
    ("d", "DOUBLE"),
    ("vc", "VARCHAR(60)"),
    ("vb", "VARBINARY(60)"),
    ("da", "DATE"),
    ("dt", "DATETIME(3)"),
    ("ts", "TIMESTAMP(6) NULL"),
    ("t3", "TIME(3)"),
    ("y", "YEAR"),
    ("bi", "BIT(40)"),
    ("e", "ENUM('5','2024-02-29','x')"),
    ("se", "SET('5','a','b')"),
];

const ROWS: &[&str] = &[
    "9007199254740992, 9007199254740992, 5, 5, 5, 5, '5', '5', '2024-02-29', '2024-02-29 10:11:12.345', \
     '2024-02-29 10:11:12.345678', '10:11:12.345', 2024, 5, '5', '5'",
    "9007199254740993, 9007199254740993, -1, 9007199254740993, 0.1, 9007199254740993, '9007199254740993', \
     '9007199254740993', '2005-01-01', '2024-02-29', '2024-02-29', '10:11:12', 2005, 9007199, 'x', 'a'",
    "5, 5, 2024, 1.5, 1.5, 0.1, '1.5', '1.5', '1970-01-02', '2005-01-01', '1970-01-02 00:00:01', '-00:00:05', 1999, \
     1, '2024-02-29', 'a,b'",
    "-1, 18446744073709551615, 0, -1, -1, -1, '-1', '-1', '2024-03-01', '2024-02-29 10:11:13', \
     '2024-02-29 10:11:12.345679', '34:11:12', 2003, 0, '5', ''",
    "20240229, 20240229101112, 101112, 20240229101112.345, 20240229, 20240229101112, '2024-02-29', '10:11:12.345', \
     '2024-02-28', '2024-02-29 10:11:12', '2024-02-29 10:11:12', '00:00:05', 2029, 53, 'x', '5,b'",
    "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
];

/// Those of numbers and texts, and the others.
fn halves() -> (&'static [Column], &'static [Column]) {
    COLUMNS.split_at(8)
}

/// Conditions; `#` is the column.
const CONDITIONS: &[&str] = &[
    "# = ?",
    "? = #",
    "# <=> ?",
    "# < ?",
    "# >= ?",
    "# <> ?",
    "# IN (?, 5)",
    "# IN (?, ?)",
    "# NOT IN (?, ?)",
    "# BETWEEN ? AND ?",
    "? BETWEEN # AND ?",
    "# LIKE ?",
    "# + ? > 5",
    "# = ? + 0",
    "COALESCE(#, ?) = ?",
    "CASE # WHEN ? THEN 1 ELSE 0 END = 1",
    "IF(# = ?, ?, 0) = ?",
    "GREATEST(#, ?) = #",
    "CONCAT(#, ?) <> ''",
    "(#, id) = (?, id)",
    "NULLIF(?, #) IS NULL",
    "# = (SELECT ?)",
];

/// Statements without parameters in their text that stand for what is read in between.
struct Side {
    session: Session,
    prepared: BTreeMap<String, Result<u32, String>>,
}

/// What a statement was answered with: the OK or the error, and the warnings.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    answer: String,
    warnings: Vec<String>,
}

impl Said {
    /// The answer, of an error its code.
    fn code(&self) -> &str {
        let error = self.answer.strip_prefix("ERR Some(\"").and_then(|rest| rest.get(..4));
        error.unwrap_or(&self.answer)
    }
}

impl Side {
    async fn open(port: u16, schema: &str) -> Result<Side> {
        let session = Session::open(&Login::new(port, APP).schema(schema)).await?;
        Ok(Side { session, prepared: BTreeMap::new() })
    }

    async fn command(&mut self, command: &[u8]) -> Result<Vec<Decoded>> {
        self.session.send(command).await?;
        Ok(self.session.receive(command, None).await?.into_iter().map(|(_, decoded)| decoded).collect())
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Decoded>> {
        let command = query(self.session.capabilities, sql.as_bytes(), &[]);
        self.command(&command).await
    }

    async fn run(&mut self, sql: &str) -> Result<()> {
        let seen = self.query(sql).await?;
        match seen.iter().find(|packet| packet.kind == "ERR") {
            Some(error) => bail!("{sql}: {error}"),
            None => Ok(()),
        }
    }

    async fn rows(&mut self, sql: &str) -> Result<Vec<String>> {
        let seen = self.query(sql).await?;
        Ok(seen.iter().filter(|p| matches!(p.kind, "row" | "ERR")).map(ToString::to_string).collect())
    }

    async fn prepare(&mut self, sql: &str) -> Result<Result<u32, String>> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let seen = self.command(&text(payload::STMT_PREPARE, sql.as_bytes())).await?;
        let first = seen.first().context("no reply to a PREPARE")?;
        let prepared = match first.get("statement") {
            Some(id) => Ok(id.parse()?),
            None => Err(first.to_string()),
        };
        self.prepared.insert(sql.to_owned(), prepared.clone());
        Ok(prepared)
    }

    async fn close(&mut self, sql: &str) -> Result<()> {
        if let Some(Ok(id)) = self.prepared.remove(sql) {
            self.session.send(&statement(COM_STMT_CLOSE, id, &[])).await?;
        }
        Ok(())
    }

    /// Executes a statement and looks at its warnings.
    async fn execute(&mut self, sql: &str, params: &[Param]) -> Result<Said> {
        let id = match self.prepare(sql).await? {
            Ok(id) => id,
            Err(answer) => return Ok(Said { answer, warnings: Vec::new() }),
        };
        let execute = Execute { id, params: params.to_vec(), ..Execute::default() };
        let seen = self.command(&execute.payload(self.session.capabilities)).await?;
        let last = seen.last().context("no reply to an EXECUTE")?;
        let answer = match last.kind {
            "ERR" => format!("ERR {:?} {:?}", last.get("code"), last.get("message")),
            _ => format!(
                "affected {:?} id {:?} warnings {:?} info {:?}",
                last.get("affected"),
                last.get("insert id"),
                last.get("warnings"),
                last.get("info")
            ),
        };
        let warned = last.kind == "ERR" || last.get("warnings") != Some("0");
        // What MySQL says of bytes that are no text is found again without its list of warnings
        let warned = warned && last.get("code") != Some("3854");
        let warnings = if warned { self.rows("SHOW WARNINGS").await? } else { Vec::new() };
        Ok(Said { answer, warnings })
    }
}

/// The parameters to try, with their names.
fn params() -> Vec<(&'static str, Param)> {
    let long = |value: i64| value.to_le_bytes();
    let date = [4, 0xe8, 7, 2, 29];
    let date_time = [7, 0xe8, 7, 2, 29, 10, 11, 12];
    let fraction = 345_678u32.to_le_bytes();
    let date_time_6 = [&[11, 0xe8, 7, 2, 29, 10, 11, 12][..], &fraction].concat();
    let time = [8, 0, 0, 0, 0, 0, 10, 11, 12];
    let time_6 = [&[12, 0, 0, 0, 0, 0, 10, 11, 12][..], &fraction].concat();
    let negative = [8, 1, 0, 0, 0, 0, 0, 0, 5];
    let string = |value: &str| Param::bytes(types::VAR_STRING, value.as_bytes());
    vec![
        ("tiny 5", Param::raw(types::TINY, &[5])),
        ("tiny -1", Param::raw(types::TINY, &[0xff])),
        ("utiny 255", Param::unsigned(types::TINY, &[0xff])),
        ("short 2024", Param::raw(types::SHORT, &2024i16.to_le_bytes())),
        ("long 5", Param::int(5)),
        ("bigint 2^53+1", Param::raw(types::LONGLONG, &long(9_007_199_254_740_993))),
        ("ubigint max", Param::unsigned(types::LONGLONG, &u64::MAX.to_le_bytes())),
        ("bigint date", Param::raw(types::LONGLONG, &long(20_240_229))),
        ("float 0.1", Param::raw(types::FLOAT, &0.1f32.to_le_bytes())),
        ("double 5", Param::raw(types::DOUBLE, &5f64.to_le_bytes())),
        ("double 0.1", Param::raw(types::DOUBLE, &0.1f64.to_le_bytes())),
        ("decimal 1.5", Param::bytes(types::NEWDECIMAL, b"1.5")),
        ("decimal 2^53+1", Param::bytes(types::NEWDECIMAL, b"9007199254740993")),
        ("string 5", string("5")),
        ("string 2^53+1", string("9007199254740993")),
        ("string 1.5", string("1.5")),
        ("string x", string("x")),
        ("string empty", string("")),
        ("string date", string("2024-02-29")),
        ("string bad date", string("2024-02-30")),
        ("string datetime", string("2024-02-29 10:11:12.345678")),
        ("string time", string("10:11:12.345")),
        ("string umlaut", string("\u{fc}\u{1f600}")),
        ("string quotes", string("'\\\" ?")),
        ("string type 254", Param::bytes(types::STRING, b"a")),
        ("blob 5", Param::bytes(types::BLOB, b"5")),
        ("blob bytes", Param::bytes(types::BLOB, &[0xff, 0, b'\''])),
        ("not utf8", Param::bytes(types::VAR_STRING, &[b'a', 0xff])),
        ("date", Param::raw(types::DATE, &date)),
        ("datetime", Param::raw(types::DATETIME, &date_time)),
        ("datetime 6", Param::raw(types::DATETIME, &date_time_6)),
        ("datetime as date", Param::raw(types::DATETIME, &date)),
        ("timestamp 6", Param::raw(types::TIMESTAMP, &date_time_6)),
        ("time", Param::raw(types::TIME, &time)),
        ("time 6", Param::raw(types::TIME, &time_6)),
        ("time negative", Param::raw(types::TIME, &negative)),
        ("null", Param::null(types::VAR_STRING)),
        ("null by type", Param::null(types::NULL)),
    ]
}

/// A server by itself and a bound session, with the same rows.
struct Pair {
    c: Arc<Cluster>,
    schema: String,
    bound: Side,
    plain: Side,
    /// What differs.
    differences: Vec<String>,
    refused: Vec<String>,
    executions: usize,
    /// Of errors only the codes are compared, and of warnings their number.
    codes_only: bool,
}

impl Pair {
    async fn new(c: &Arc<Cluster>, name: &str, setup: &[String]) -> Result<Pair> {
        let schema = c.schema(name).await?;
        let all: Vec<&str> = setup.iter().map(String::as_str).collect();
        for bank in [Bank::One, Bank::Two] {
            sql::run_all(&mut c.direct(bank, &schema).await?, &all).await?;
        }
        let mut bound = Side::open(c.proxy_port(Bank::One), &schema).await?;
        let mut plain = Side::open(c.server(Bank::Two).port(), &schema).await?;
        for side in [&mut bound, &mut plain] {
            side.run("SET NAMES utf8mb4").await?;
            side.run("SET time_zone = '+00:00'").await?;
        }
        let (differences, refused) = (Vec::new(), Vec::new());
        Ok(Pair {
            c: c.clone(),
            schema,
            bound,
            plain,
            differences,
            refused,
            executions: 0,
            codes_only: false,
        })
    }

    async fn both(&mut self, sql: &str) -> Result<()> {
        self.bound.run(sql).await?;
        self.plain.run(sql).await
    }

    /// The same statement on both sides. One that the bound session refuses is not run on the other.
    async fn execute(&mut self, sql: &str, name: &str, params: &[Param]) -> Result<()> {
        // MariaDB's UPDATE and INSERT take the sign from such a sum, its SELECT does not
        let signless = self.c.flavor() == Flavor::MariaDb && name == "time negative" && sql.contains('+');
        // The time of now, which is another one on either side
        let now = name.starts_with("null") && sql.contains("k_ts");
        if signless || now {
            return Ok(());
        }
        self.executions += 1;
        let bound = self.bound.execute(sql, params).await?;
        if bound.answer.contains("1235") && bound.answer.contains("atone:") {
            self.refused.push(format!("{sql} [{name}] {}", bound.answer));
            return Ok(());
        }
        if bound.code() == "3854" && sql.starts_with("INSERT IGNORE") {
            // So says the look for the row that is in the way: nothing was done, where the server by itself stores
            // another value
            return Ok(());
        }
        // MySQL would read the parameters by the types of the executions before
        self.plain.close(sql).await?;
        let plain = self.plain.execute(sql, params).await?;
        let same = if self.codes_only { bound.code() == plain.code() } else { bound == plain };
        if !same {
            self.differences.push(format!("{sql} [{name}]\n  bound {bound:?}\n  plain {plain:?}"));
        }
        Ok(())
    }

    /// Compares what both sides read.
    async fn compare(&mut self, what: &str, sql: &str) -> Result<()> {
        let (bound, plain) = (self.bound.rows(sql).await?, self.plain.rows(sql).await?);
        if bound != plain {
            self.differences.push(format!("{what}: the rows differ\n  bound {bound:?}\n  plain {plain:?}"));
        }
        Ok(())
    }

    async fn close(&mut self, sql: &str) -> Result<()> {
        self.bound.close(sql).await?;
        self.plain.close(sql).await
    }

    /// Ends both transactions by a rollback; the tables are as before.
    async fn roll_back(&mut self, before: &[String], read: &str) -> Result<()> {
        self.bound.run("ROLLBACK GLOBAL TRANSACTION").await?;
        self.plain.run("ROLLBACK").await?;
        let after = self.c.rows(Bank::One, &self.schema, read).await?;
        ensure!(after == before, "after the rollback\nexpected: {before:?}\nfound:    {after:?}");
        Ok(())
    }

    fn check(&self, refusals: &[&str]) -> Result<()> {
        let unexpected: Vec<&String> =
            self.refused.iter().filter(|refused| !refusals.iter().any(|why| refused.contains(why))).collect();
        eprintln!(
            "{} executions, {} refused, {} of these unexpected, {} differ",
            self.executions,
            self.refused.len(),
            unexpected.len(),
            self.differences.len()
        );
        for difference in self.differences.iter().take(60) {
            eprintln!("{difference}");
        }
        for refused in unexpected.iter().take(60) {
            eprintln!("{refused}");
        }
        ensure!(self.differences.is_empty(), "{} executions differ", self.differences.len());
        ensure!(unexpected.is_empty(), "{} executions are refused", unexpected.len());
        Ok(())
    }
}

fn table() -> Vec<String> {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    let mut setup = vec![format!(
        "CREATE TABLE m (id INT PRIMARY KEY, {}, hits INT NOT NULL DEFAULT 0)",
        columns.join(", ")
    )];
    for (id, row) in ROWS.iter().enumerate() {
        setup.push(format!("INSERT INTO m VALUES ({}, {row}, 0)", id + 1));
    }
    setup
}

/// Beside a column of such a type the parameter is not what it is to the server's SELECT.
const ODD: &str = "a parameter below 100 in the condition, on a table with a YEAR column";

const READ: &str = "SELECT *, bi + 0, HEX(vb), HEX(vc) FROM m ORDER BY id";
const HITS: &str = "SELECT GROUP_CONCAT(hits ORDER BY id) FROM m";

async fn conditions_on_numbers_and_texts(c: Arc<Cluster>) -> Result<()> {
    conditions(c, halves().0).await
}

async fn conditions_on_others(c: Arc<Cluster>) -> Result<()> {
    conditions(c, halves().1).await
}

async fn assigned_numbers_and_texts(c: Arc<Cluster>) -> Result<()> {
    assignments(c, halves().0).await
}

async fn assigned_others(c: Arc<Cluster>) -> Result<()> {
    assignments(c, halves().1).await
}

async fn inserted_numbers_and_texts(c: Arc<Cluster>) -> Result<()> {
    inserted_keys(c, halves().0).await
}

async fn inserted_others(c: Arc<Cluster>) -> Result<()> {
    inserted_keys(c, halves().1).await
}

/// Which rows a condition chooses.
async fn conditions(c: Arc<Cluster>, columns: &[Column]) -> Result<()> {
    let mut pair = Pair::new(&c, "param_conditions", &table()).await?;
    let before = c.rows(Bank::One, &pair.schema, READ).await?;
    let params = params();
    for (column, _) in columns {
        pair.bound.run("START GLOBAL TRANSACTION").await?;
        pair.both("BEGIN").await?;
        for (nth_condition, condition) in CONDITIONS.iter().enumerate() {
            let condition = condition.replace('#', column);
            let statement = format!("UPDATE m SET hits = hits + 1 WHERE {condition}");
            let count = condition.matches('?').count();
            for (at, (name, param)) in params.iter().enumerate().skip(nth_condition % 2).step_by(2) {
                // The other ones are of another type
                let other = |nth: usize| params[(at * 7 + nth * 5) % params.len()].1.clone();
                let all: Vec<Param> =
                    (0..count).map(|nth| if nth == 0 { param.clone() } else { other(nth) }).collect();
                pair.execute(&statement, name, &all).await?;
            }
            pair.compare(&statement, HITS).await?;
            pair.close(&statement).await?;
        }
        for statement in
            [format!("DELETE FROM m WHERE {column} IN (?, ?)"), format!("DELETE FROM m WHERE {column} <= ?")]
        {
            for (at, (name, param)) in params.iter().enumerate() {
                let all = [param.clone(), params[at * 3 % params.len()].1.clone()];
                let all = &all[..statement.matches('?').count()];
                pair.both("SAVEPOINT s").await?;
                pair.execute(&statement, name, all).await?;
                pair.compare(&format!("{statement} [{name}]"), "SELECT GROUP_CONCAT(id) FROM m").await?;
                pair.both("ROLLBACK TO s").await?;
            }
        }
        pair.roll_back(&before, READ).await?;
    }
    pair.check(&[ODD])
}

/// What is stored.
async fn assignments(c: Arc<Cluster>, columns: &[Column]) -> Result<()> {
    let mut pair = Pair::new(&c, "param_assignments", &table()).await?;
    let before = c.rows(Bank::One, &pair.schema, READ).await?;
    let params = params();
    for (column, _) in columns {
        pair.bound.run("START GLOBAL TRANSACTION").await?;
        pair.both("BEGIN").await?;
        for statement in [
            format!("UPDATE m SET {column} = ? WHERE id = 2"),
            format!("UPDATE m SET {column} = ?, hits = hits + 1 WHERE id > 4 AND id <> ?"),
            format!("UPDATE m SET {column} = {column} + ? WHERE id = 3"),
            format!("UPDATE m SET {column} = COALESCE(?, {column}) WHERE id < 3 ORDER BY id LIMIT ?"),
            format!("UPDATE m SET {column} = CONCAT(?, '') WHERE id = ?"),
            format!("UPDATE IGNORE m SET {column} = ? WHERE id = 1"),
        ] {
            for (at, (name, param)) in params.iter().enumerate() {
                let second = Param::int(1 + i32::try_from(at % 3)?);
                let all = [param.clone(), second];
                pair.both("SAVEPOINT s").await?;
                pair.execute(&statement, name, &all[..statement.matches('?').count()]).await?;
                pair.compare(&format!("{statement} [{name}]"), READ).await?;
                pair.both("ROLLBACK TO s").await?;
            }
            pair.close(&statement).await?;
        }
        // And once without going back
        for (name, param) in &params {
            let statement = format!("UPDATE m SET {column} = ? WHERE id = 1 OR vc = ?");
            pair.execute(&statement, name, &[param.clone(), Param::text("nobody")]).await?;
        }
        pair.compare(column, READ).await?;
        pair.roll_back(&before, READ).await?;
    }
    pair.check(&[ODD])
}

/// Rows whose keys are parameters.
async fn inserted_keys(c: Arc<Cluster>, columns: &[Column]) -> Result<()> {
    let keys: Vec<(&str, String)> =
        columns.iter().map(|(name, ty)| (*name, ty.replace(" NULL", " DEFAULT '2000-01-01'"))).collect();
    let mut setup = Vec::new();
    for (name, ty) in &keys {
        setup.push(format!(
            "CREATE TABLE k_{name} (k {ty} NOT NULL PRIMARY KEY, v BIGINT, w VARCHAR(40), UNIQUE (w))"
        ));
    }
    let mut pair = Pair::new(&c, "param_keys", &setup).await?;
    // A row is looked for before it is inserted, which may say it in other words
    pair.codes_only = true;
    let params = params();
    for (column, _) in &keys {
        let read = format!("SELECT HEX(k), k + 0, v, w FROM k_{column} ORDER BY k");
        pair.bound.run("START GLOBAL TRANSACTION").await?;
        pair.both("BEGIN").await?;
        for (nth, statement) in [
            format!("INSERT INTO k_{column} VALUES (?, ?, NULL)"),
            format!("INSERT INTO k_{column} (v, k) VALUES (1, ?), (?, '1')"),
            format!("INSERT IGNORE INTO k_{column} VALUES (?, 3, ?)"),
            format!("REPLACE INTO k_{column} VALUES (?, 4, ?)"),
            format!("INSERT INTO k_{column} VALUES (?, 5, ?) ON DUPLICATE KEY UPDATE v = v + ?"),
            format!("INSERT INTO k_{column} SET k = ? + 0, v = ?"),
            format!("INSERT INTO k_{column} SELECT ?, ?, NULL"),
            format!("INSERT INTO k_{column} SELECT k, v, ? FROM k_{column} WHERE k = ? LIMIT 0"),
            format!("UPDATE k_{column} SET k = ?, v = ? WHERE v = 77"),
        ]
        .into_iter()
        .enumerate()
        {
            for (name, param) in params.iter().skip(nth % 2).step_by(2) {
                let all = [param.clone(), Param::int(7), Param::text("8")];
                pair.both("SAVEPOINT s").await?;
                if statement.contains("77") {
                    let at = COLUMNS.iter().position(|(name, _)| name == column).context("a column")?;
                    let first = ROWS[0].split(", ").nth(at).unwrap_or_default();
                    let sql = format!("INSERT INTO k_{column} SET k = {first}, v = 77");
                    pair.both(&sql).await?;
                }
                for _ in 0..2 {
                    pair.execute(&statement, name, &all[..statement.matches('?').count()]).await?;
                }
                pair.compare(&format!("{statement} [{name}]"), &read).await?;
                pair.both("ROLLBACK TO s").await?;
            }
            pair.close(&statement).await?;
        }
        let statement = format!("REPLACE INTO k_{column} VALUES (?, ?, NULL)");
        for (name, param) in &params {
            pair.execute(&statement, name, &[param.clone(), Param::int(9)]).await?;
        }
        pair.compare(column, &read).await?;
        pair.roll_back(&[], &read).await?;
    }
    // A key is given as a value that the column stores as another one
    pair.check(&[
        "as other values than given",
        "is not found by all of its keys",
        "a key comes from an expression that gives a warning",
        "is given as other than an integer",
        "the server counts",
        "the rows cannot be read behind the statement",
        "the rows that are in the way cannot be looked for",
        "key as another value than given",
        "a key is assigned from text that is not UTF-8",
        "an expression of parameters that is a DECIMAL",
    ])
}
