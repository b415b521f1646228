//! The names in a statement that could be tables or views.

use crate::{
    lexer::{self, Executable, Kind},
    mode::Mode,
    text::Text,
};

/// A name where a table can stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, unquoted, where the name is qualified.
    pub schema: Option<String>,
    /// The name, unquoted, in the case in which it was written.
    pub name: String,
}

/// Words behind which a table can stand.
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
/// Words that stand where a table could, and are none.
const NONE: [&str; 12] = [
    "SELECT", "NULL", "DISTINCT", "CASE", "NOT", "EXISTS", "INTERVAL", "WITH", "VALUES", "DEFAULT", "FROM",
    "INTO",
];

/// Every name in the statement that stands where a table or a view can: each once, sorted. Columns and aliases may be
/// among them; a table or view that the statement reads or writes is never missing. `None` where the text cannot be split
/// into words.
pub fn table_names(sql: &[u8], mode: Mode) -> Option<Vec<TableName>> {
    // What is in an executable comment may run as well
    let lexed = lexer::lex(sql, mode, Executable::Inline).ok()?;
    let text = Text { sql, mode, tokens: &lexed.tokens };
    let mut names: Vec<TableName> = (0..text.len()).filter_map(|at| name_at(&text, at)).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

fn name_at(text: &Text<'_>, at: usize) -> Option<TableName> {
    let before = at.checked_sub(1)?;
    let may_stand = text.is_any(before, &BEFORE) || matches!(text.kind(before)?, Kind::Punct(b',' | b'('));
    if !may_stand || text.is_any(at, &NONE) {
        return None;
    }
    let first = text.name(at)?;
    let (schema, name, end) = match (text.punct(at + 1, b'.'), text.name(at + 2)) {
        (true, Some(name)) => (Some(first), name, at + 3),
        _ => (None, first, at + 1),
    };
    // A call, but for the columns of an INSERT
    let call = text.punct(end, b'(') && schema.is_none() && !text.is_any(before, &BEFORE);
    (!call).then_some(TableName { schema, name })
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
        found("INSERT INTO a(x) SELECT y FROM b UNION SELECT 1 FROM ((c))", &["a", "b", "c"]);
        found("INSERT a VALUES (1)", &["a"]);
        found("UPDATE LOW_PRIORITY IGNORE a, b SET a.x = 1", &["a", "b"]);
        found("DELETE a FROM a JOIN b", &["a", "b"]);
        found("DELETE FROM x USING a AS x, b", &["a", "b", "x"]);
        found("EXPLAIN ANALYZE SELECT * FROM a", &["a"]);
        found("SET @a = (SELECT 1 FROM b)", &["b"]);
        found("DO (SELECT 1 FROM b)", &["b"]);
        found("SELECT 1 /*!80000 FROM a */", &["a"]);
        found("REPLACE a SET x = (SELECT 1 FROM b)", &["a", "b"]);
    }

    #[test]
    fn few_others() {
        assert_eq!(names("SELECT a, COUNT(b), NOW() FROM t WHERE c = 5 AND d IN (1, 2)"), ["b", "t"]);
        assert_eq!(names("SELECT 1"), [""; 0]);
        assert_eq!(table_names(b"SELECT 'open", Mode::default()), None);
    }
}
