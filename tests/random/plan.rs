//! What the server's plan decides, and may decide otherwise where the statement runs on the imaged rows.

use atone_tests::Flavor;
use atone_tests::effects::{Effect, Step};
use atone_tests::sql::ServerError;

use crate::play::writes;
use crate::schema::Table;
use crate::script::{Case, Op, shown};

/// Whether a statement did one thing straight and another bound by another plan.
pub(crate) fn decides(case: &Case, op: &Op, plain: &Effect, seen: &Effect) -> bool {
    writes(op)
        && match case.flavor {
            Flavor::MySql => {
                fails_by_plan(op, plain, seen)
                    || skips_behind_cascades(case, op, plain, seen)
                    || converts_as_planned(case, op, plain, seen)
                    || sorts_by_unread(case, op, plain, seen)
            }
            Flavor::MariaDb => {
                converts_as_planned(case, op, plain, seen)
                    || changes_while_it_joins(op, plain, seen)
                    || loses_partitions(case, op, plain, seen)
                    || takes_bits_for_digits(case, op, plain, seen)
                    || reads_between_as_equal(op, seen)
            }
        }
}

/// Whether a read's rows come in an order that is not total: those of a table whose key is not unique.
pub(crate) fn ties(case: &Case, op: &Op) -> bool {
    let unique = ["PRIMARY KEY (", "UNIQUE KEY uk ("];
    reaches(case, op, |table| unique.iter().all(|key| !table.setup[0].contains(key)))
}

/// Whether a statement names such a table of its server, or a view over one.
fn reaches(case: &Case, op: &Op, such: impl Fn(&Table) -> bool) -> bool {
    let sql = shown(&op.step) + " ";
    let bank = case.sessions[op.session];
    let own = || case.tables.iter().filter(|table| table.bank == bank);
    own().filter(|table| !table.view && such(table)).any(|table| {
        let name = format!(" {} ", table.name);
        let over = |view: &Table| view.view && (view.setup[0].clone() + " ").contains(&name);
        sql.contains(&name)
            || own().filter(|view| over(view)).any(|view| sql.contains(&format!(" {} ", view.name)))
    })
}

/// Whether MySQL, which makes a join of an UPDATE or DELETE with a subquery as of one of several tables, fails or not
/// by its plan: over a zero date that it moves through a table of its own, or over a DEFAULT that there is not and
/// that no row has come to need.
fn fails_by_plan(op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let sql = shown(&op.step).to_ascii_uppercase();
    let changes = sql.contains("UPDATE") || sql.contains("DELETE");
    let joins = changes && (sql.contains(" JOIN ") || sql.contains("SELECT "));
    let default = |e: &ServerError| e.code == 1364 && sql.contains("= DEFAULT");
    joins
        && match (&plain.error, &seen.error) {
            (Some(e), None) | (None, Some(e)) => of_zero_date(e) || default(e),
            _ => false,
        }
}

/// Whether MySQL has left rows out of a DELETE that it made in the order of an index: after a row that its own
/// cascade has deleted, in the same table, it may find no further one.
fn skips_behind_cascades(case: &Case, op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let sql = shown(&op.step).to_ascii_uppercase();
    let own = |table: &Table| {
        let own = format!(" REFERENCES {} (", table.name);
        table.setup[0].contains(&own) && table.setup[0].contains(" ON DELETE CASCADE")
    };
    sql.contains("DELETE")
        && sql.contains(" ORDER BY ")
        && plain.error.is_none()
        && seen.error.is_none()
        && plain.affected < seen.affected
        && reaches(case, op, own)
}

/// Whether MariaDB's read of the images has found no row. It takes a BETWEEN whose ends are equal in the connection's
/// collation for an equality with one of them, also where they differ in the column's collation. It does so in a
/// SELECT, and not in an UPDATE or DELETE.
fn reads_between_as_equal(op: &Op, seen: &Effect) -> bool {
    let sql = shown(&op.step);
    let ends = sql.match_indices(" BETWEEN ").filter_map(|(at, word)| {
        let mut rest = sql[at + word.len()..].splitn(3, ' ');
        Some((rest.next()?, rest.next()?, rest.next()?.split(' ').next()?))
    });
    let mut differ = ends.filter(|(low, and, high)| *and == "AND" && low != high);
    seen.affected == 0
        && seen.error.is_none()
        && differ.any(|(low, _, high)| low.to_lowercase() == high.trim_end_matches([')', ';']).to_lowercase())
}

/// Whether MySQL has changed rows in another order than the one asked for, and so met another row's duplicate key or
/// foreign key first: one and the same UPDATE sorts by a virtual column or not, depending on whether the session has
/// had it explained before.
fn sorts_by_unread(case: &Case, op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let of_row =
        |effect: &Effect| effect.error.as_ref().is_some_and(|e| [1062, 1451, 1452].contains(&e.code));
    let sql = shown(&op.step).to_ascii_uppercase();
    sql.contains("UPDATE")
        && sql.contains(" ORDER BY ")
        && of_row(plain)
        && of_row(seen)
        && reaches(case, op, |table| table.setup[0].contains(" VIRTUAL"))
}

/// Whether the straight statement has failed over a derived table with a zero date in it, which it need not have
/// read: no row was to be found. The read that comes first bound takes such dates.
pub(crate) fn fails_aside(op: &Op, plain: &Effect, seen: &Effect) -> bool {
    // In a packet of several statements those after it run in one of the two only
    !matches!(op.step, Step::Many(_))
        && plain.error.as_ref().is_some_and(of_zero_date)
        && seen.error.is_none()
        && seen.affected == 0
        && shown(&op.step).contains(" JOIN (SELECT ")
}

/// Whether a parameter of another type than its column was converted in a condition as often as the plan asks for: an
/// UPDATE or DELETE that looks for rows that there are not may warn or fail where the read before it converts
/// nothing. A warning comes once more or less.
fn converts_as_planned(case: &Case, op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let converts = |e: &ServerError| e.code == 1292 && e.message.starts_with("Truncated incorrect ");
    case.around.parameters
        && matches!(op.step, Step::Exec(..))
        && seen.error.is_none()
        && plain.affected == seen.affected
        && match &plain.error {
            Some(e) => seen.affected == 0 && converts(e),
            None => plain.warnings != seen.warnings,
        }
}

fn of_zero_date(e: &ServerError) -> bool {
    e.code == 1292 && e.message.contains("'0000-00-00")
}

/// Whether MariaDB, which changes the first table of an UPDATE while it still joins it, has looked at values of which
/// it had just assigned some: a row may come to stand beside another row so.
fn changes_while_it_joins(op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let sql = shown(&op.step);
    let Some((tables, rest)) = sql.split_once(" SET ") else { return false };
    let (assigned, condition) = rest.split_once(" WHERE ").unwrap_or((rest, ""));
    let join = tables.split_once(" ON ").map_or("", |(_, join)| join);
    let reads = |column: &str| [join, condition].iter().any(|text| text.contains(column));
    let columns = assigned.split(", ").filter_map(|assignment| Some(assignment.split_once(" = ")?.0));
    let mut joined = columns.filter(|column| column.starts_with("x.") || column.starts_with("y."));
    plain.error.is_none() && seen.error.is_none() && sql.contains(" JOIN ") && joined.any(reads)
}

/// Whether MariaDB has found no row in partitions: after a statement that had to look into none of a table's
/// partitions, the next one on the open table finds no row. That is if it is ordered by the key and limited.
fn loses_partitions(case: &Case, op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let sql = shown(&op.step).to_ascii_uppercase();
    let none = |effect: &Effect| effect.error.is_none() && effect.affected == 0 && effect.rows.is_empty();
    (none(plain) || none(seen))
        && sql.contains(" ORDER BY ")
        && sql.contains(" LIMIT ")
        && reaches(case, op, |table| !table.partitions.is_empty())
}

/// Whether MariaDB has taken the length of a BIT for that of its number: in a SELECT it puts the number that the
/// column is equal to into a function of texts, in a DELETE and an UPDATE it does not.
fn takes_bits_for_digits(case: &Case, op: &Op, plain: &Effect, seen: &Effect) -> bool {
    let sql = shown(&op.step).to_ascii_uppercase();
    plain.error.is_none()
        && seen.error.is_none()
        && sql.contains("CHAR_LENGTH(")
        && reaches(case, op, |table| table.setup[0].contains(" BIT("))
}
