//! The statement, restricted to the rows that were imaged. Pure.

use atone_sql::{Analysis, Dml, DmlAction};
use atone_undo::{Column, Kind, Row, Table, UniqueKey, quote_identifier};

use crate::settings::Vars;
use crate::text::same_name;
use crate::update_delete::image::image_limit;
use atone_facts::TableInfo;

/// So many keys a server looks for without being told to.
const KEYS_WITHOUT_HINT: usize = 100;
/// Lets MySQL look for any number of keys; else it warns that they are too many for its memory.
const HINT: &str = "SET_VAR(range_optimizer_max_mem_size=0)";

/// The statement with a hint, where it has so many keys that MySQL needs one. `verb` is where the verb ends.
pub(crate) fn with_hint(statement: Vec<u8>, verb: usize, keys: usize, mariadb: bool) -> Vec<u8> {
    if mariadb || keys <= KEYS_WITHOUT_HINT {
        return statement;
    }
    hinted(&statement, verb, HINT)
}

/// The statement with these hints of MySQL's, before its own.
fn hinted(statement: &[u8], verb: usize, hints: &str) -> Vec<u8> {
    let (head, tail) = statement.split_at_checked(verb).unwrap_or((statement, &[]));
    let hints = hints.as_bytes();
    match own_hints(tail) {
        Some(own) => [head, b" /*+ ", hints, b" ", own].concat(),
        None => [head, b" /*+ ", hints, b" */", tail].concat(),
    }
}

/// What stands after the opening of the hints that a statement has, and those hints to the end.
fn own_hints(behind_verb: &[u8]) -> Option<&[u8]> {
    behind_verb.trim_ascii_start().strip_prefix(b"/*+")
}

/// Whether the restricted statement has no LIMIT.
fn keeps_no_limit(change: &Dml) -> bool {
    change.limit.is_none() || image_limit(change).is_some()
}

/// Whether a text may say which indexes the server is to use.
fn names_an_index(text: &[u8]) -> bool {
    let text = text.to_ascii_uppercase();
    [&b"INDEX"[..], b"KEY"].iter().any(|word| memchr::memmem::find(&text, word).is_some())
}

/// The restricted statement so that the server looks the imaged rows up by their keys. Left to itself it finds it
/// cheaper to read all of a table of which it writes a good part, and locks every row of it.
///
/// MySQL is told by a hint. MariaDB has one for an UPDATE only; a DELETE whose number of rows is limited it does not
/// run over the whole table.
pub(crate) fn looked_up(
    sql: &[u8],
    change: &Dml,
    restricted: Restricted,
    table: &Table,
    vars: &Vars,
) -> Vec<u8> {
    let mariadb = vars.mode.mariadb;
    let Restricted { mut text, keys, by_keys } = restricted;
    let verb = change.verb.end;
    let encodable = |key: &&UniqueKey| vars.mode.charset.can_encode(&key.name);
    let Some(key) = table.keys.first().filter(encodable).filter(|_| by_keys && keys > KEYS_WITHOUT_HINT)
    else {
        return with_hint(text, verb, keys, mariadb);
    };
    let reference = &change.table;
    let has_own = names_an_index(sql.get(reference.span.clone()).unwrap_or_default());
    if !mariadb {
        let name = quote_identifier(reference.alias.as_deref().unwrap_or(&reference.name));
        let own = own_hints(sql.get(verb..).unwrap_or_default());
        let own = own.and_then(|own| own.get(..memchr::memmem::find(own, b"*/")?));
        if has_own || own.is_some_and(names_an_index) {
            return with_hint(text, verb, keys, mariadb);
        }
        return hinted(&text, verb, &format!("{HINT} INDEX({name} {})", quote_identifier(&key.name)));
    }
    match &change.action {
        DmlAction::Update(_) if !has_own => {
            text.splice(reference.span.end..reference.span.end, key.force().into_bytes());
        }
        DmlAction::Delete { returning: None } if keeps_no_limit(change) => {
            text.extend_from_slice(format!(" LIMIT {keys}").as_bytes());
        }
        _ => {}
    }
    text
}

/// Whether what the statement does depends on the order in which the server comes to the rows, of which the statement
/// says nothing: values that go on from row to row, unique values that are in each other's way, rows that are
/// returned.
fn depends_on_order(sql: &[u8], change: &Dml, table: &Table) -> bool {
    let Some(assignments) = change.assignments() else { return change.returning().is_some() };
    let unique = |name: &str| {
        let mut parts = table.keys.iter().flat_map(|key| &key.columns);
        parts.any(|&c| {
            table.columns.get(c).is_some_and(|column| same_name(&column.name, name) || column.generated)
        })
    };
    change.ignore
        || assignments.iter().any(|assignment| {
            let value = sql.get(assignment.value.clone()).unwrap_or_default().to_ascii_lowercase();
            unique(&assignment.column)
                || memchr::memmem::find(&value, b":=").is_some()
                || memchr::memmem::find(&value, b"last_insert_id").is_some()
        })
}

/// Whether it is all the same in which order a statement comes to the rows imaged, whatever it says: they go, with
/// nothing that looks at them.
fn any_order(change: &Dml, info: &TableInfo) -> bool {
    change.deletes()
        && !change.ignore
        && change.returning().is_none()
        && info.facts.triggers.is_empty()
        && info.references.keys.is_empty()
}

/// Whether a column of the key that identifies rows has a text that its number does not have.
fn is_zerofill(table: &Table) -> bool {
    let key = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    let mut columns = key.iter().filter_map(|&c| table.columns.get(c));
    columns.any(|column| column.column_type.to_ascii_lowercase().contains("zerofill"))
}

/// A condition that holds for no row.
pub(crate) fn no_row(table: &Table, qualified: &str) -> String {
    no_row_by(first_of_key(table), qualified)
}

fn first_of_key(table: &Table) -> Option<&Column> {
    table.keys.first().and_then(|key| table.columns.get(*key.columns.first()?))
}

/// The same, told by this column.
fn no_row_by(column: Option<&Column>, qualified: &str) -> String {
    column.map_or_else(
        || "1=0".to_string(),
        |column| format!("LENGTH({qualified}.{}) < 0", quote_identifier(&column.name)),
    )
}

/// Whether an evaluation of the condition does more than to give a value.
fn has_effects(condition: &[u8]) -> bool {
    let text = condition.to_ascii_lowercase();
    [&b"last_insert_id"[..], b"_lock"].iter().any(|act| memchr::memmem::find(&text, act).is_some())
}

/// Whether a name may stand in the text, by itself.
fn has_word(text: &[u8], name: &str) -> bool {
    let (text, name) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
    // In a quoted name its quotes stand twice
    if name.contains(['`', '"']) && text.iter().any(|b| matches!(b, b'`' | b'"')) {
        return true;
    }
    let in_word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'));
    memchr::memmem::find_iter(&text, name.as_bytes()).any(|at| {
        !in_word(at.checked_sub(1).and_then(|before| text.get(before))) && !in_word(text.get(at + name.len()))
    })
}

/// How the statement calls its table.
fn qualifier_of(change: &Dml, table: &Table) -> String {
    let reference = &change.table;
    match (&reference.alias, &change.action) {
        (Some(alias), _) => quote_identifier(alias),
        (None, DmlAction::Update(_)) => quote_identifier(&reference.name),
        // DELETE without an alias knows its table by its full name only
        (None, DmlAction::Delete { .. }) => table.quoted(),
    }
}

/// The statement so that it changes no row and evaluates its condition, where [`restricted_sql`] does without it:
/// what the server warns of in the condition, or fails of, is the statement's own. `warned`: the read of the images
/// has had warnings.
pub(crate) fn evaluated_sql(
    sql: &[u8],
    change: &Dml,
    analysis: &Analysis,
    table: &Table,
    images: &[Row],
    warned: bool,
) -> Option<Vec<u8>> {
    let span = change.where_clause.as_ref()?;
    let condition = sql.get(span.clone())?;
    if !warned || !change.volatile || change.subquery || has_effects(condition) {
        return None;
    }
    let qualified = qualifier_of(change, table);
    // Of a column that the condition gives a value, the server would know it beforehand
    let unnamed = table.columns.iter().find(|column| !has_word(condition, &column.name));
    let mut predicate = no_row_by(unnamed.or_else(|| first_of_key(table)), &qualified);
    if change.limit.is_some() && !images.is_empty() {
        // Which rows it looked at before it had enough is not known: of these it is
        let keys: Vec<_> = images.iter().map(|row| row.key(table)).collect();
        predicate = format!("{} AND {predicate}", table.keys_predicate(&qualified, &keys));
    }
    let end = change.returning().map_or(analysis.terminator, |span| span.start);
    let tail = sql.get(span.end..end)?;
    let head = match &change.action {
        // What is to be said of the values is said by the statement
        DmlAction::Update(assignments) => {
            let first = assignments.first()?.value.clone();
            let is_default = sql.get(first.clone())?.trim_ascii().eq_ignore_ascii_case(b"DEFAULT");
            // A generated column takes nothing else
            let value: &[u8] = if is_default { b"DEFAULT WHERE " } else { b"NULL WHERE " };
            [sql.get(..first.start)?, b" ", value].concat()
        }
        DmlAction::Delete { .. } => sql.get(..span.start)?.to_vec(),
    };
    Some([&head, b"(".as_slice(), condition, b") AND (", predicate.as_bytes(), b") ", tail].concat())
}

/// A statement that is restricted to the rows imaged.
pub(crate) struct Restricted {
    pub(crate) text: Vec<u8>,
    /// How many rows those are.
    pub(crate) keys: usize,
    /// The server may look them up by their keys.
    by_keys: bool,
}

/// The statement restricted to the rows imaged. A condition that could choose other rows the second time is replaced.
/// `filter`: the server must not look rows up by their keys, whatever the statement is.
pub(crate) fn restricted_sql(
    sql: &[u8],
    change: &Dml,
    analysis: &Analysis,
    (info, table): (&TableInfo, &Table),
    images: &[Row],
    filter: bool,
) -> Restricted {
    let mut keys: Vec<_> = images.iter().map(|row| row.key(table)).collect();
    if let ([only], true) = (keys.as_slice(), is_zerofill(table)) {
        // As one of two it is no constant to MySQL, which would put 5 for a 0000005 of the statement's condition
        keys.push(only.clone());
    }
    let qualified = qualifier_of(change, table);
    let by_number = table.keys.first().is_some_and(|key| {
        let column = |c: &usize| table.columns.get(*c);
        key.columns
            .iter()
            .filter_map(column)
            .any(|c| matches!(c.kind, Kind::Enum | Kind::Set | Kind::Bit | Kind::Float | Kind::Year))
    });
    let own_plan = !change.volatile && change.order_by.is_none() && change.limit.is_none();
    let by_keys = !(filter || by_number || (own_plan && depends_on_order(sql, change, table)));
    let predicate = if !keys.is_empty() && !by_keys {
        // With an alternative the server cannot look rows up by the keys, and comes to them as it would have done.
        // MySQL then does not put the text of an ENUM or SET where the statement compares its number. Nor does it put
        // the number of a BIT where the statement asks for the length of its text. Nor does it find that a YEAR
        // looked up by a parameter below 100 is another number
        format!("{} OR {}", table.keys_predicate(&qualified, &keys), no_row(table, &qualified))
    } else if !keys.is_empty() {
        table.keys_predicate(&qualified, &keys)
    } else if change.volatile && change.returning().is_none() {
        "1=0".to_string()
    } else {
        // As false as 1=0, but not known beforehand: the server evaluates the condition and answers as it always
        // does. To a RETURNING after a condition that it knows to be false, MariaDB answers with OK instead of a
        // result.
        no_row(table, &qualified)
    };
    let where_end = change.where_clause.as_ref().map(|span| span.end);
    let head_end = change
        .where_clause
        .as_ref()
        .or(change.order_by.as_ref())
        .or(change.limit.as_ref())
        .or(change.returning())
        .map_or(analysis.terminator, |first| first.start);
    let mut out = sql[..head_end].to_vec();
    if change.where_clause.is_none() {
        out.extend_from_slice(b" WHERE ");
    }
    if let (Some(span), false) = (&change.where_clause, change.volatile) {
        out.push(b'(');
        out.extend_from_slice(&sql[span.clone()]);
        out.extend_from_slice(b") AND ");
    }
    out.push(b'(');
    out.extend_from_slice(predicate.as_bytes());
    out.extend_from_slice(b") ");
    let mut tail_start = where_end.unwrap_or(head_end);
    if let Some(order_by) = change.order_by.as_ref().filter(|_| !images.is_empty() && any_order(change, info))
    {
        // It says which rows the LIMIT leaves, and they are known; by it the server would read all of the table
        tail_start = order_by.end;
    }
    let clauses_end = change.returning().map_or(analysis.terminator, |span| span.start);
    let tail_end = match image_limit(change) {
        // It has done its work; a second time it could choose fewer
        Some(limit) if !images.is_empty() => limit.start,
        _ => clauses_end,
    };
    out.extend_from_slice(sql.get(tail_start..tail_end).unwrap_or_default());
    out.push(b' ');
    out.extend_from_slice(sql.get(clauses_end..analysis.terminator).unwrap_or_default());
    Restricted { text: out, keys: images.len(), by_keys: by_keys && !images.is_empty() }
}

/// The statement so that it changes no row, with its condition as it stands.
pub(crate) fn harmless_sql(sql: &[u8], change: &Dml, analysis: &Analysis) -> Vec<u8> {
    let (condition, tail) = match &change.where_clause {
        Some(span) => (Some(span.clone()), span.end),
        None => {
            let clauses = [change.order_by.as_ref(), change.limit.as_ref(), change.returning()];
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
    use atone_facts::samples;
    use atone_sql::{Mode, Statement, analyze};
    use atone_undo::Value;

    fn restricted(sql: &str, keys: i128, mariadb: bool) -> String {
        let mode = Mode { mariadb, ..Mode::default() };
        let analysis = analyze(sql.as_bytes(), mode);
        let change = match &analysis.statement {
            Statement::Dml(dml) => dml,
            other => panic!("{other:?}"),
        };
        let table = samples::table(&["id", "v"]);
        let row = |id| Row::of(&[Value::Int(id), Value::Int(0)], Vec::new());
        let images: Vec<Row> = (0..keys).map(row).collect();
        let info = samples::info(table.clone());
        let restricted = restricted_sql(sql.as_bytes(), change, &analysis, (&info, &table), &images, false);
        let vars = Vars { mode, ..Vars::of_tests() };
        let text = looked_up(sql.as_bytes(), change, restricted, &table, &vars);
        let text = String::from_utf8(text).unwrap();
        let (head, tail) = text.split_once(" IN (").unwrap();
        format!("{head} …{}", tail.split_once(')').unwrap().1)
    }

    #[test]
    fn many_rows_are_looked_up_by_their_keys() {
        let update = "UPDATE t SET v = 1 WHERE v = 0";
        let plain = "UPDATE t SET v = 1 WHERE (v = 0) AND ((`t`.`id` …))";
        for mariadb in [false, true] {
            assert_eq!(restricted(update, 100, mariadb).trim_end(), plain);
        }
        let hint = "/*+ SET_VAR(range_optimizer_max_mem_size=0) INDEX(`t` `PRIMARY`) */";
        assert_eq!(
            restricted(update, 101, false).trim_end(),
            format!("UPDATE {hint} t SET v = 1 WHERE (v = 0) AND ((`t`.`id` …))")
        );
        assert_eq!(
            restricted("UPDATE t AS x SET v = 1", 101, true).trim_end(),
            "UPDATE t AS x FORCE INDEX (`PRIMARY`) SET v = 1 WHERE ((`x`.`id` …))"
        );
        assert_eq!(
            restricted("DELETE FROM t WHERE v = 0", 101, true).trim_end(),
            "DELETE FROM t WHERE (v = 0) AND ((`s`.`t`.`id` …))   LIMIT 101"
        );
        assert!(restricted("DELETE FROM t AS x WHERE v = 0", 101, false).contains("INDEX(`x` `PRIMARY`)"));
        assert_eq!(
            restricted("DELETE FROM t ORDER BY v LIMIT 101", 101, true).trim_end(),
            "DELETE FROM t  WHERE ((`s`.`t`.`id` …))    LIMIT 101"
        );
        // Values that go on from row to row take the statement's own way to its rows
        let order = "UPDATE t SET v = (@n := @n + 1) WHERE v = 0";
        assert!(!restricted(order, 101, true).contains("FORCE"));
        assert!(!restricted(order, 101, false).contains("INDEX("));
        // What the statement says of indexes stays its own
        let own = "UPDATE t USE INDEX (v) SET v = 1 WHERE v = 0";
        assert!(!restricted(own, 101, true).contains("FORCE"));
        assert!(!restricted("DELETE /*+ NO_INDEX(t v) */ FROM t", 101, false).contains("PRIMARY"));
    }

    #[test]
    fn names_are_found_as_words() {
        for (text, name, found) in [
            ("a AND b", "a", true),
            ("RAND() < 2", "a", false),
            ("`A`=1", "a", true),
            ("t.a=1", "a", true),
            ("a1 = _a", "a", false),
            ("", "a", false),
            ("`a``b` = 1", "a`b", true),
            ("ab = 1", "a`b", false),
        ] {
            assert_eq!(has_word(text.as_bytes(), name), found, "{text}");
        }
    }

    #[test]
    fn many_keys_get_a_hint_on_mysql() {
        let hinted = |sql: &str, verb, keys, mariadb| {
            String::from_utf8(with_hint(sql.as_bytes().to_vec(), verb, keys, mariadb)).unwrap()
        };
        let plain = "UPDATE t SET a = 1";
        assert_eq!(hinted(plain, 6, 100, false), plain);
        assert_eq!(hinted(plain, 6, 5000, true), plain);
        assert_eq!(hinted(plain, 6, 5000, false), format!("UPDATE /*+ {HINT} */ t SET a = 1"));
        let own = "WITH c AS (SELECT 1) DELETE /*+ BKA(t) */ FROM t";
        let want = format!("WITH c AS (SELECT 1) DELETE /*+ {HINT}  BKA(t) */ FROM t");
        assert_eq!(hinted(own, 27, 5000, false), want);
    }
}
