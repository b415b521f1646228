//! What stands behind a table's name, or beside it: views, triggers, stored routines.

use crate::rng::Rng;
use crate::schema::Table;
use crate::types::{Class, Mode};

/// A function that writes nothing; it is made beside the first table of each server.
pub(crate) const FUNCTION: &str = "CREATE FUNCTION plus(n INT) RETURNS INT DETERMINISTIC NO SQL RETURN n + 1";

/// A view on the whole of a table, or on some of its rows or columns. Writing through it may be an error.
pub(crate) fn view(rng: &mut Rng, table: &Table, number: usize) -> Table {
    let name = format!("{}{number}", rng.pick(&["v", "V "])).to_owned();
    let name = if name.contains(' ') { format!("`{name}`") } else { name };
    let all = rng.percent(40);
    let (mut columns, mut shown) = (Vec::new(), Vec::new());
    let (mut key, mut unique) = (Vec::new(), Vec::new());
    for (at, column) in table.columns.iter().enumerate() {
        let is_key = table.key.contains(&at);
        if (all && column.invisible) || !(all || is_key || rng.percent(70)) {
            continue;
        }
        let mut made = column.clone();
        if !all && rng.percent(25) {
            made.name = format!("`as {at}`");
        }
        if !all && !is_key && column.ty.class == Class::Int && rng.percent(15) {
            shown.push(format!("{} + 1 AS {}", column.name, made.name));
            made.generated = true;
        } else {
            shown.push(format!("{} AS {}", column.name, made.name));
        }
        if is_key {
            key.push(columns.len());
        }
        if table.unique.contains(&at) {
            unique.push(columns.len());
        }
        columns.push(made);
    }
    // In the order of the table's key
    key.sort_by_key(|&c: &usize| {
        let base = table.columns.iter().position(|b| shown[c].starts_with(&format!("{} AS", b.name)));
        table.key.iter().position(|&k| Some(k) == base)
    });
    let algorithm =
        *rng.pick(&["", "", "ALGORITHM = MERGE ", "ALGORITHM = UNDEFINED ", "ALGORITHM = TEMPTABLE "]);
    let mut create = format!(
        "CREATE {algorithm}VIEW {name} AS SELECT {} FROM {}",
        if all { "*".to_owned() } else { shown.join(", ") },
        table.name
    );
    if rng.percent(50) {
        let column = rng.pick(&table.columns);
        create += &match column.ty.class {
            Class::Int => format!(" WHERE {} < 9", column.name),
            _ => format!(" WHERE {} IS NOT NULL", column.name),
        };
        let algorithm_checks = !algorithm.contains("TEMPTABLE");
        if algorithm_checks && rng.percent(50) {
            create += rng.pick::<&str>(&[" WITH CHECK OPTION", " WITH LOCAL CHECK OPTION"]);
        }
    }
    Table {
        bank: table.bank,
        name,
        columns,
        key,
        unique,
        setup: vec![create],
        partitions: Vec::new(),
        view: true,
        trait_: "view",
    }
}

/// Tables that triggers write to: which statement did what, and how often.
pub(crate) fn trail() -> Vec<String> {
    vec![
        "CREATE TABLE trail (n INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(20)) ENGINE=InnoDB".to_owned(),
        "CREATE TABLE tally (k INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB".to_owned(),
        "INSERT INTO tally VALUES (1, 0), (2, 0)".to_owned(),
    ]
}

/// Queries that show the tables of [`trail`].
pub(crate) const TRAIL: [&str; 2] =
    ["SELECT n, what FROM trail ORDER BY n", "SELECT k, n FROM tally ORDER BY k"];

/// What a trigger does that adds rows to the trail.
pub(crate) const AUDITS: &str = "trigger that audits";

/// Triggers for all events that add rows to the trail.
pub(crate) fn audit(table: &Table) -> Vec<String> {
    ["INSERT", "UPDATE", "DELETE"]
        .map(|event| {
            let (name, row) = (&table.name, if event == "DELETE" { "OLD" } else { "NEW" });
            let key = &table.columns[table.key[0]].name;
            format!(
                "CREATE TRIGGER a_{event} AFTER {event} ON {name} FOR EACH ROW BEGIN IF {row}.{key} IS NOT NULL THEN \
                 INSERT INTO trail SET what = 'after {event}', n = NULL; END IF; INSERT INTO trail VALUES (NULL, 'all'); END"
            )
        })
        .to_vec()
}

/// A trigger on a table, and what it does.
pub(crate) fn trigger(rng: &mut Rng, table: &Table) -> (String, &'static str) {
    let event = *rng.pick(&["INSERT", "UPDATE", "DELETE"]);
    let head = |time: &str| format!("CREATE TRIGGER g_{event} {time} {event} ON {} FOR EACH ROW", table.name);
    let plain: Vec<usize> = (0..table.columns.len())
        .filter(|c| {
            let column = &table.columns[*c];
            !column.generated
                && !column.auto_increment
                && !table.key.contains(c)
                && !table.unique.contains(c)
                && !matches!(column.name.as_str(), "p" | "own")
        })
        .collect();
    match rng.below(12) {
        0..=3 if event != "DELETE" && !plain.is_empty() => {
            let column = &table.columns[*rng.pick(&plain)];
            let value = match column.ty.class {
                Class::Text => format!("CONCAT('<', {})", format_args!("NEW.{}", column.name)),
                Class::Int => format!("NEW.{} + 1", column.name),
                _ => column.ty.literal(rng, Mode::default()),
            };
            (format!("{} SET NEW.{} = {value}", head("BEFORE"), column.name), "trigger that sets")
        }
        0..=5 => {
            let time = *rng.pick(&["BEFORE", "AFTER"]);
            (format!("{} SET @fired = COALESCE(@fired, 0) + 1", head(time)), "trigger that reads")
        }
        6 => {
            (format!("{} SET @rows_seen = (SELECT COUNT(*) FROM tally)", head("AFTER")), "trigger that reads")
        }
        7 => (
            format!(
                "{} UPDATE tally SET n = n + 1 WHERE k = 1",
                head(rng.pick::<&str>(&["BEFORE", "AFTER"]))
            ),
            "trigger that writes",
        ),
        8 | 10 | 11 => {
            let time = *rng.pick(&["BEFORE", "AFTER"]);
            (format!("{} INSERT INTO trail (what) VALUES ('{event}')", head(time)), AUDITS)
        }
        _ => (
            format!(
                "{} BEGIN INSERT INTO tally VALUES (2, 1) ON DUPLICATE KEY UPDATE n = n + 1; DELETE FROM tally WHERE k = 1; END",
                head("AFTER")
            ),
            "trigger that writes",
        ),
    }
}

/// A procedure that writes to a table, for CALL.
pub(crate) fn procedure(table: &Table) -> String {
    let key = &table.columns[table.key[0]].name;
    format!("CREATE PROCEDURE wipe() MODIFIES SQL DATA DELETE FROM {} WHERE {key} IS NOT NULL", table.name)
}
