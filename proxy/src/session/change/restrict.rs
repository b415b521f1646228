//! The statement, restricted to the rows that were imaged. Pure.

use atone_sql::Analysis;
use atone_undo::{Kind, Row, Table, quote_identifier};

use super::Change;
use crate::session::keys::same_name;

/// Up to so many keys MySQL looks for without a hint.
const KEYS_WITHOUT_HINT: usize = 1000;
/// Lets MySQL look for any number of keys; else it warns that they are too many for its memory.
const HINT: &[u8] = b" SET_VAR(range_optimizer_max_mem_size=0) ";

/// The statement with a hint, where it has so many keys that MySQL needs one. `verb` is where the verb ends.
pub(super) fn with_hint(statement: Vec<u8>, verb: usize, keys: usize, mariadb: bool) -> Vec<u8> {
    if mariadb || keys <= KEYS_WITHOUT_HINT {
        return statement;
    }
    let (head, tail) = statement.split_at_checked(verb).unwrap_or((&statement, &[]));
    let blanks = tail.iter().take_while(|b| b.is_ascii_whitespace()).count();
    match tail.get(blanks..).and_then(|tail| tail.strip_prefix(b"/*+")) {
        // It has hints of its own
        Some(hints) => [head, b" /*+", HINT, hints].concat(),
        None => [head, b" /*+", HINT, b"*/", tail].concat(),
    }
}

/// Whether what the statement does depends on the order in which the server comes to the rows, of which the statement says
/// nothing: values that go on from row to row, unique values that are in each other's way, rows that are returned.
fn depends_on_order(sql: &[u8], change: Change<'_>, table: &Table) -> bool {
    let Change::Update(update) = change else { return change.returning().is_some() };
    let unique = |name: &str| {
        let mut parts = table.keys.iter().flat_map(|key| &key.columns);
        parts.any(|&c| {
            table.columns.get(c).is_some_and(|column| same_name(&column.name, name) || column.generated)
        })
    };
    update.ignore
        || update.assignments.iter().any(|assignment| {
            let value = sql.get(assignment.value.clone()).unwrap_or_default().to_ascii_lowercase();
            unique(&assignment.column)
                || memchr::memmem::find(&value, b":=").is_some()
                || memchr::memmem::find(&value, b"last_insert_id").is_some()
        })
}

/// Whether a column of the key that identifies rows has a text that its number does not have.
fn is_zerofill(table: &Table) -> bool {
    let key = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let mut columns = key.iter().filter_map(|&c| table.columns.get(c));
    columns.any(|column| column.column_type.to_ascii_lowercase().contains("zerofill"))
}

/// A condition that holds for no row.
pub(super) fn no_row(table: &Table, qualified: &str) -> String {
    let column = table.keys.first().and_then(|key| table.columns.get(*key.columns.first()?));
    column.map_or_else(
        || "1=0".to_string(),
        |column| {
            let name = quote_identifier(&column.name);
            format!("LENGTH({qualified}.{name}) < 0")
        },
    )
}

/// The statement restricted to the rows imaged. A condition that could choose other rows the second time is replaced.
/// `filter`: the server must not look rows up by their keys, whatever the statement is.
pub(super) fn restricted_sql(
    sql: &[u8],
    change: Change<'_>,
    analysis: &Analysis,
    table: &Table,
    images: &[Row],
    filter: bool,
) -> Vec<u8> {
    let mut keys: Vec<_> = images.iter().map(|row| row.key(table)).collect();
    if let ([only], true) = (keys.as_slice(), is_zerofill(table)) {
        // As one of two it is no constant to MySQL, which would put 5 for a 0000005 of the statement's condition
        keys.push(only.clone());
    }
    let reference = change.table();
    // DELETE without an alias knows its table by its full name only
    let qualified = match (&reference.alias, change) {
        (Some(alias), _) => quote_identifier(alias),
        (None, Change::Update(_)) => quote_identifier(&reference.name),
        (None, Change::Delete(_)) => table.quoted(),
    };
    let by_number = table.keys.first().is_some_and(|key| {
        let column = |c: &usize| table.columns.get(*c);
        key.columns
            .iter()
            .filter_map(column)
            .any(|c| matches!(c.kind, Kind::Enum | Kind::Set | Kind::Bit | Kind::Float | Kind::Year))
    });
    let own_plan = !change.volatile() && change.order_by().is_none() && change.limit().is_none();
    let predicate =
        if !keys.is_empty() && (filter || by_number || (own_plan && depends_on_order(sql, change, table))) {
            // With an alternative the server cannot look rows up by the keys, and comes to them as it would have done; nor does
            // MySQL put the text of an ENUM or SET where the statement compares its number, or the number of a BIT where it asks
            // for the length of its text, or find that a YEAR looked up by a parameter below 100 is another number
            format!("{} OR {}", table.keys_predicate(&qualified, &keys), no_row(table, &qualified))
        } else if !keys.is_empty() {
            table.keys_predicate(&qualified, &keys)
        } else if change.volatile() && change.returning().is_none() {
            "1=0".to_string()
        } else {
            // As false as 1=0, but not known beforehand: the server evaluates the condition and answers as it always does. To a
            // RETURNING behind a condition that it knows to be false, MariaDB answers with OK instead of a result.
            no_row(table, &qualified)
        };
    let where_end = change.where_clause().map(|span| span.end);
    let head_end = change
        .where_clause()
        .or(change.order_by())
        .or(change.limit())
        .or(change.returning())
        .map_or(analysis.terminator, |first| first.start);
    let mut out = sql[..head_end].to_vec();
    if change.where_clause().is_none() {
        out.extend_from_slice(b" WHERE ");
    }
    if let (Some(span), false) = (change.where_clause(), change.volatile()) {
        out.push(b'(');
        out.extend_from_slice(&sql[span.clone()]);
        out.extend_from_slice(b") AND ");
    }
    out.push(b'(');
    out.extend_from_slice(predicate.as_bytes());
    out.extend_from_slice(b") ");
    let tail_start = where_end.unwrap_or(head_end);
    let clauses_end = change.returning().map_or(analysis.terminator, |span| span.start);
    let tail_end = match change.image_limit() {
        // It has done its work; a second time it could choose fewer
        Some(limit) if !images.is_empty() => limit.start,
        _ => clauses_end,
    };
    out.extend_from_slice(sql.get(tail_start..tail_end).unwrap_or_default());
    out.push(b' ');
    out.extend_from_slice(sql.get(clauses_end..analysis.terminator).unwrap_or_default());
    out
}

/// The statement so that it changes no row, with its condition as it stands.
pub(super) fn harmless_sql(sql: &[u8], change: Change<'_>, analysis: &Analysis) -> Vec<u8> {
    let (condition, tail) = match change.where_clause() {
        Some(span) => (Some(span.clone()), span.end),
        None => {
            let clauses = [change.order_by(), change.limit(), change.returning()];
            (None, clauses.into_iter().flatten().next().map_or(analysis.terminator, |first| first.start))
        }
    };
    let head = condition.as_ref().map_or(tail, |span| span.start);
    let mut out = sql.get(..head).unwrap_or_default().to_vec();
    match condition.and_then(|span| sql.get(span)) {
        Some(condition) => out.extend_from_slice(&[b"(", condition, b") AND 1=0 "].concat()),
        None => out.extend_from_slice(b" WHERE 1=0 "),
    }
    out.extend_from_slice(sql.get(tail..analysis.terminator).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_get_a_hint_on_mysql() {
        let hinted = |sql: &str, verb, keys, mariadb| {
            String::from_utf8(with_hint(sql.as_bytes().to_vec(), verb, keys, mariadb)).unwrap()
        };
        let plain = "UPDATE t SET a = 1";
        assert_eq!(hinted(plain, 6, 1000, false), plain);
        assert_eq!(hinted(plain, 6, 5000, true), plain);
        let hint = "SET_VAR(range_optimizer_max_mem_size=0)";
        assert_eq!(hinted(plain, 6, 5000, false), format!("UPDATE /*+ {hint} */ t SET a = 1"));
        let own = "WITH c AS (SELECT 1) DELETE /*+ BKA(t) */ FROM t";
        let want = format!("WITH c AS (SELECT 1) DELETE /*+ {hint}  BKA(t) */ FROM t");
        assert_eq!(hinted(own, 27, 5000, false), want);
    }
}
