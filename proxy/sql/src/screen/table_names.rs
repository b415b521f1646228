//! The names in a statement that could be tables or views.

use crate::lex::{Executable, Kind, Mode, Text, lex};

/// A name in a place where a table may be named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, unquoted, where the name is qualified.
    pub schema: Option<String>,
    /// The name, unquoted, in the case in which it was written.
    pub name: String,
}

/// Words that a table may follow.
const BEFORE: [&str; 14] = [
    "FROM",
    "JOIN",
    "STRAIGHT_JOIN",
    "TABLE",
    "INTO",
    "UPDATE",
    "USING",
    "OJ",
    "IGNORE",
    "LOW_PRIORITY",
    "QUICK",
    "INSERT",
    "REPLACE",
    "DELETE",
];
/// Words that a list of tables may follow.
const BEFORE_LIST: [&str; 8] = ["FROM", "JOIN", "STRAIGHT_JOIN", "TABLE", "UPDATE", "USING", "OJ", "DELETE"];
/// Words that one table may follow, but no tables in parentheses.
const BEFORE_ONE: [&str; 3] = ["INTO", "INSERT", "REPLACE"];
/// Words that end a list of tables at the same depth of parentheses.
const ENDS_LIST: [&str; 6] = ["SELECT", "SET", "WHERE", "GROUP", "ORDER", "HAVING"];
/// Reserved words in places where a table may be named.
const NONE: [&str; 19] = [
    "SELECT",
    "NULL",
    "DISTINCT",
    "CASE",
    "NOT",
    "EXISTS",
    "INTERVAL",
    "WITH",
    "VALUES",
    "DEFAULT",
    "FROM",
    "INTO",
    "TABLE",
    "IGNORE",
    "LOW_PRIORITY",
    "HIGH_PRIORITY",
    "DELAYED",
    "INDEX",
    "KEY",
];

/// Every name in a place where a table or view may be named: each once, sorted. Columns and aliases may be among them;
/// a table or view that the statement reads or writes is never missing. `None` if the text cannot be lexed.
pub fn table_names(sql: &[u8], mode: Mode) -> Option<Vec<TableName>> {
    let lexed = lex(sql, mode, Executable::Inline).ok()?;
    let text = Text::new(sql, mode, &lexed);
    let mut names = if lexed.has_executable_comments() || shows_columns(&text) {
        all_names(&text)
    } else {
        names_in_place(&text)
    };
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// Whether the statement shows a table or view: `SHOW COLUMNS IN t IN s`, `SHOW CREATE VIEW v`.
fn shows_columns(text: &Text<'_>) -> bool {
    const WHAT: [&str; 6] = ["COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS", "CREATE"];
    text.is(0, "SHOW") && (1..4).any(|at| text.is_any(at, &WHAT))
}

/// The names in places where tables may be named.
fn names_in_place(text: &Text<'_>) -> Vec<TableName> {
    let deletes = (0..text.len()).any(|at| text.is(at, "DELETE"));
    let mut names = Vec::new();
    // For each depth of parentheses: whether commas separate tables there
    let mut lists = vec![false];
    for at in 0..text.len() {
        let in_list = lists.last().is_some_and(|in_list| *in_list);
        let parenthesis = text.punct(at, b'(');
        let joins_using = parenthesis && !deletes && at > 0 && text.is(at - 1, "USING");
        let may_be_table = may_name_table(text, at, in_list) && !joins_using;
        if may_be_table && let Some(name) = name_at(text, at) {
            names.push(name);
        }
        if parenthesis {
            lists.push(may_be_table);
        } else if text.punct(at, b')') {
            lists.pop();
        } else if let Some(in_list) = lists.last_mut() {
            // Not that of USE INDEX FOR ORDER BY (…)
            let hint = at > 0 && text.is(at - 1, "FOR");
            let ends = text.is_any(at, &ENDS_LIST) && !hint;
            *in_list = (*in_list || text.is_any(at, &BEFORE_LIST) && !updates_duplicate(text, at)) && !ends;
        }
    }
    names
}

/// Whether a table, or a parenthesis with tables in it, may be here.
fn may_name_table(text: &Text<'_>, at: usize, in_list: bool) -> bool {
    let follows = |before: usize| {
        (text.is_any(before, &BEFORE) && !updates_duplicate(text, before))
            || (in_list && matches!(text.kind(before), Some(Kind::Punct(b',' | b'('))))
            || (before == 0 && text.is_any(0, &["DESCRIBE", "DESC", "EXPLAIN"]))
            // MariaDB accepts any word for the OJ of {OJ …}
            || (before > 0 && text.punct(before - 1, b'{'))
    };
    let Some(before) = at.checked_sub(1) else { return false };
    if text.punct(at, b'(') && text.is_any(before, &BEFORE_ONE) {
        return false;
    }
    // MariaDB accepts .t for t
    follows(before) || (before > 0 && text.punct(before, b'.') && follows(before - 1))
}

/// Whether the word is the UPDATE of ON DUPLICATE KEY UPDATE.
fn updates_duplicate(text: &Text<'_>, at: usize) -> bool {
    at.checked_sub(3).is_some_and(|start| text.are(start, &["ON", "DUPLICATE", "KEY", "UPDATE"]))
}

fn name_at(text: &Text<'_>, at: usize) -> Option<TableName> {
    if text.is_any(at, &NONE) {
        return None;
    }
    let first = text.name(at)?;
    let (schema, name, end) = match (text.punct(at + 1, b'.'), text.name(at + 2)) {
        (true, Some(name)) => (Some(first), name, at + 3),
        _ => (None, first, at + 1),
    };
    let listed = at.checked_sub(1).is_some_and(|before| matches!(text.kind(before), Some(Kind::Punct(_))));
    let call = listed && schema.is_none() && text.punct(end, b'(');
    (!call).then_some(TableName { schema, name })
}

/// All names, with all that may be their schemas: whether the code in an executable comment runs is not known.
fn all_names(text: &Text<'_>) -> Vec<TableName> {
    let shows = shows_columns(text);
    let words: Vec<(usize, String)> = (0..text.len())
        .filter(|&at| !text.is_any(at, &NONE))
        .filter_map(|at| Some((at, text.name(at)?)))
        .collect();
    let schemas =
        words.iter().filter(|(at, _)| shows || text.punct(at + 1, b'.')).map(|(_, name)| Some(name.clone()));
    let schemas: Vec<Option<String>> = schemas.chain([None]).collect();
    let with = |name: &String| {
        let name = name.clone();
        schemas
            .iter()
            .map(move |schema| TableName { schema: schema.clone(), name: name.clone() })
            .collect::<Vec<_>>()
    };
    words.iter().flat_map(|(_, name)| with(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        let shown = |n: TableName| n.schema.map_or(n.name.clone(), |s| format!("{s}.{}", n.name));
        table_names(sql.as_bytes(), Mode::default()).unwrap().into_iter().map(shown).collect()
    }

    fn found(sql: &str, wanted: &[&str]) {
        let names = names(sql);
        for name in wanted {
            assert!(names.iter().any(|n| n == name), "{sql}: {name} is not in {names:?}");
        }
    }

    #[test]
    fn what_is_shown() {
        found("SHOW CREATE VIEW v", &["v"]);
        found("SHOW FULL COLUMNS IN v IN `s s`", &["v", "s s.v"]);
        found("SHOW EXTENDED FULL FIELDS FROM s.v LIKE 'x'", &["s.v"]);
        found("DESC s.v x", &["s.v"]);
        found("EXPLAIN v", &["v"]);
        assert!(names("SELECT a FROM t ORDER BY b DESC LIMIT 1") == ["t"]);
        assert!(names("SHOW WARNINGS").is_empty());
    }

    #[test]
    fn tables_wherever_they_stand() {
        found(
            "SELECT * FROM a, s.b JOIN `c d` ON 1 LEFT JOIN (e, f) USING (g)",
            &["a", "s.b", "c d", "e", "f"],
        );
        found(
            "SELECT (SELECT MAX(x) FROM a) WHERE 1 IN (SELECT 1 FROM b WHERE EXISTS (TABLE c))",
            &["a", "b", "c"],
        );
        found("WITH x AS (SELECT 1 FROM a) SELECT * FROM x STRAIGHT_JOIN b", &["a", "x", "b"]);
        found("SELECT * FROM {OJ a LEFT JOIN b ON 1}", &["a", "b"]);
        found("SELECT * FROM {any a LEFT JOIN b ON 1}, {any (c, .d)}", &["a", "b", "c", "d"]);
        found("SELECT * FROM .a, .b JOIN .c, (.d, (.e)), ((f))", &["a", "b", "c", "d", "e", "f"]);
        found("INSERT INTO a(x) SELECT y FROM b UNION SELECT 1 FROM ((c))", &["a", "b", "c"]);
        found("INSERT INTO a(x) (SELECT y FROM b) UNION (TABLE c)", &["a", "b", "c"]);
        found("INSERT a VALUES (1)", &["a"]);
        found(
            "INSERT HIGH_PRIORITY INTO a VALUES ((SELECT 1 FROM b), (SELECT 1 FROM c, d))",
            &["a", "b", "c", "d"],
        );
        found(
            "INSERT INTO a SELECT 1 FROM b, c ON DUPLICATE KEY UPDATE x = (SELECT 1 FROM d, e)",
            &["b", "c", "d", "e"],
        );
        found("UPDATE LOW_PRIORITY IGNORE a, b SET a.x = 1", &["a", "b"]);
        found(
            "UPDATE LOW_PRIORITY IGNORE (a, b) SET a.x = 1, b.y = (SELECT 1 FROM c, d)",
            &["a", "b", "c", "d"],
        );
        found("DELETE a FROM a JOIN b", &["a", "b"]);
        found("DELETE a, b FROM (a, b) JOIN c WHERE 1 IN (SELECT 1 FROM d)", &["a", "b", "c", "d"]);
        found("DELETE FROM x USING a AS x, b", &["a", "b", "x"]);
        found("DELETE FROM a, b USING (a, b)", &["a", "b"]);
        found("EXPLAIN ANALYZE SELECT * FROM a", &["a"]);
        found("SET @a = (SELECT 1 FROM b)", &["b"]);
        found("DO (SELECT 1 FROM b)", &["b"]);
        found("REPLACE a SET x = (SELECT 1 FROM b)", &["a", "b"]);
        found(
            "SELECT REPLACE(a, 1, 2), INSERT(a, 1, 2, 3) FROM b WHERE x = 1 UNION SELECT 1 FROM c, d",
            &["b", "c", "d"],
        );
        found(
            "SELECT 1 FROM a GROUP BY x, y HAVING z IN (SELECT 1 FROM b, c) ORDER BY 1, 2",
            &["a", "b", "c"],
        );
        found(
            "SELECT 1 FROM a USE INDEX FOR ORDER BY (x), b FORCE INDEX FOR GROUP BY (y), c",
            &["a", "b", "c"],
        );
        found("SELECT 1 FROM a IGNORE KEY (x), b PARTITION (p, q), c AS d, e", &["a", "b", "c", "e"]);
        found(
            "SELECT 1 FROM a JOIN b ON a.`set` = b.select AND b.x IN (1, 2), c JOIN d USING (x, y), e",
            &["a", "b", "c", "d", "e"],
        );
        found(
            "SELECT 1 FROM a JOIN b ON @set = @`where` AND VALUES(x) AND CONVERT(y USING utf8), c",
            &["a", "b", "c"],
        );
        found("SELECT 1 FROM a `where`, b `select` JOIN c ON 1, d", &["a", "b", "c", "d"]);
        found(
            "SELECT 1 FROM (SELECT 1, 2) x (y, z), a, LATERAL (SELECT 1 FROM b, c) u, d",
            &["a", "b", "c", "d"],
        );
        found("SELECT 1 FROM a, JSON_TABLE('[]', '$' COLUMNS (x INT PATH '$')) AS j, b", &["a", "b"]);
        found("SELECT 1 FROM a LIMIT 1, 2 UNION ALL TABLE b", &["a", "b"]);
        found("SELECT 1 FROM a FOR SYSTEM_TIME ALL, b", &["a", "b"]);
        found(
            "LOAD DATA LOCAL INFILE 'x' INTO TABLE a (x, @y) SET z = (SELECT 1 FROM b, c)",
            &["a", "b", "c"],
        );
    }

    #[test]
    fn executable_comments_run_or_do_not() {
        found("SELECT 1 /*!80000 FROM a */", &["a"]);
        found("SELECT 1 FROM a /*!99999 WHERE 1 */, b", &["a", "b"]);
        found("SELECT 1 FROM /*!99999 a */ b, s./*!99999 c */ d", &["b", "s.d"]);
    }

    #[test]
    fn few_others() {
        assert_eq!(names("SELECT a, COUNT(b), NOW() FROM t WHERE c = 5 AND d IN (1, 2)"), ["t"]);
        assert_eq!(
            names("SELECT a, (b) FROM t x JOIN u y ON (x.a = y.a) JOIN v USING (c, d) ORDER BY a, b"),
            ["t", "u", "v"]
        );
        assert_eq!(names("INSERT INTO t (a, b) VALUES (1, c), (DEFAULT, (d))"), ["t"]);
        assert_eq!(
            names("INSERT INTO t (a, b) VALUES (1, 2) ON DUPLICATE KEY UPDATE a = 1, b = VALUES(b)"),
            ["t"]
        );
        assert_eq!(names("UPDATE t SET a = 1, b = (c) WHERE d IN (1, 2) ORDER BY a, b LIMIT 5"), ["t"]);
        assert_eq!(names("DELETE FROM t WHERE a = b"), ["t"]);
        assert_eq!(names("SELECT 1"), [""; 0]);
        assert_eq!(table_names(b"SELECT 'open", Mode::default()), None);
    }
}
