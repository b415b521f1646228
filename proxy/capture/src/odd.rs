//! Parameters that MySQL's UPDATE and DELETE read otherwise than its SELECT: a statement with such a one beside a
//! column where it matters is refused. Pure.

use atone_sql::{Analysis, Dml, Statement as Sql};
use atone_undo::Kind;
use atone_wire::execute::Param;

use crate::text::same_name;
use atone_facts::TableInfo;

/// Why a condition with such a parameter is refused.
pub(crate) const ODD: &str = "a parameter below 100 in the condition, on a table with a YEAR column, or a TIME with a fraction, on one with a TIME column";

/// The kinds of columns beside which a parameter in the condition of an UPDATE or DELETE is odd. An UPDATE that looks
/// a YEAR up by a number below 100 takes it for a year of two digits, and one that looks a TIME up rounds it; a
/// SELECT does not.
pub fn odd_kinds(analysis: &Analysis, params: &[Param]) -> Vec<Kind> {
    let condition = match &analysis.statement {
        Sql::Dml(dml) => dml.where_clause.clone(),
        Sql::Joined(_) => Some(0..usize::MAX),
        _ => None,
    };
    let Some(condition) = condition else { return Vec::new() };
    let placed = analysis.placeholders.iter().zip(params).filter(|(at, _)| condition.contains(at));
    let mut kinds: Vec<Kind> = placed
        .filter_map(|(_, param)| match param {
            Param::Int(0..=99) => Some(Kind::Year),
            Param::Time { micros: 1.., .. } => Some(Kind::Time),
            _ => None,
        })
        .collect();
    kinds.dedup();
    kinds
}

/// Whether the condition may compare such a parameter with a column of one of these kinds: there is one, and the
/// condition is not but a conjunction of `column = literal` of other columns.
pub(crate) fn compares(kinds: &[Kind], change: &Dml, info: &TableInfo) -> bool {
    let columns = &info.table.columns;
    let other = |name: &str| columns.iter().any(|c| !kinds.contains(&c.kind) && same_name(&c.name, name));
    let equalities =
        change.equalities.as_ref().is_some_and(|equalities| equalities.iter().all(|(name, _)| other(name)));
    !equalities && columns.iter().any(|column| kinds.contains(&column.kind))
}
