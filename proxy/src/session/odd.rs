//! Parameters that MySQL compares otherwise than the literals that stand for them: a statement with such a one beside a
//! column where it matters is refused.

use atone_sql::{Insert, Statement as Sql, TableRef, table_names};
use atone_undo::Kind;
use atone_wire::execute::Param;

use super::Session;
use super::inject::Vars;
use super::tables::Resolved;
use crate::error::End;
use crate::meta::TableInfo;

/// Why a condition with a small number as a parameter is refused.
const SMALL_NUMBER: &str = "a parameter below 100 in the condition, on a table with a YEAR column";

/// Why one with a time of day that MySQL may round is.
const FRACTION: &str = "a TIME parameter with a fraction in the condition, on a table with a TIME column";

/// Why one of them is where it may meet a view, or a table that cannot be looked at.
const UNSEEN: &str =
    "a parameter below 100, or a TIME with a fraction, in a query of tables that cannot be looked at";

/// Which parameters a condition has that MySQL compares otherwise than the literals that stand for them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OddParams {
    /// A number below 100: as a literal it would be a year of two digits beside a YEAR.
    pub(super) small_number: bool,
    /// A time of day with a fraction: as a literal it would not be rounded beside a TIME.
    pub(super) fraction: bool,
}

impl OddParams {
    /// Those of a statement.
    pub(super) fn of(analysis: &atone_sql::Analysis, params: &[Param]) -> Self {
        let condition = match &analysis.statement {
            Sql::Update(update) => update.where_clause.clone(),
            Sql::Delete(delete) => delete.where_clause.clone(),
            Sql::Insert(_) | Sql::Joined(_) => Some(0..usize::MAX),
            _ => None,
        };
        let mut odd = Self::default();
        let placed = analysis.placeholders.iter().zip(params);
        for (_, param) in placed.filter(|(at, _)| condition.as_ref().is_some_and(|span| span.contains(at))) {
            odd.small_number |= matches!(param, Param::Int(0..=99));
            odd.fraction |= matches!(param, Param::Time { micros: 1.., .. });
        }
        odd
    }

    /// Whether there is none.
    pub(super) fn is_none(self) -> bool {
        !self.small_number && !self.fraction
    }

    /// Why they cannot stand beside columns of these kinds.
    pub(super) fn refusal(self, years: bool, times: bool) -> Option<&'static str> {
        let small_number = (self.small_number && years).then_some(SMALL_NUMBER);
        small_number.or((self.fraction && times).then_some(FRACTION))
    }

    /// Why they cannot stand beside the columns of a table.
    pub(super) fn beside(self, info: &TableInfo) -> Option<&'static str> {
        let has = |kind: Kind| info.table.columns.iter().any(|c| c.kind == kind);
        self.refusal(has(Kind::Year), has(Kind::Time))
    }
}

impl Session {
    /// The parameters of the condition that the server would compare otherwise.
    pub(super) fn odd_params(&self) -> OddParams {
        if self.mariadb { OddParams::default() } else { self.odd_params }
    }

    /// Why they cannot stand in an INSERT, which may compare them in a query.
    pub(super) async fn odd_in_insert(
        &mut self,
        sql: &[u8],
        insert: &Insert,
        vars: &Vars,
    ) -> Result<Option<&'static str>, End> {
        let body = sql.get(insert.body.clone()).unwrap_or_default();
        let queries =
            insert.query.is_some() || body.windows(6).any(|word| word.eq_ignore_ascii_case(b"SELECT"));
        if queries { self.odd_in_query(sql, vars).await } else { Ok(None) }
    }

    /// Why they cannot stand in a statement that reads tables: a column of one of these may be beside them.
    pub(super) async fn odd_in_query(
        &mut self,
        sql: &[u8],
        vars: &Vars,
    ) -> Result<Option<&'static str>, End> {
        let odd = self.odd_params();
        if odd.is_none() {
            return Ok(None);
        }
        let Some(names) = table_names(sql, vars.mode) else { return Ok(Some(UNSEEN)) };
        for name in names {
            let table = TableRef::named(name.schema, name.name);
            let why = match self.resolve_name(&table, vars).await? {
                Resolved::Table(info, _) => odd.beside(&info),
                Resolved::View(..) | Resolved::Temporary => Some(UNSEEN),
                // No table of that name: one of the statement's own
                Resolved::Answer(_) => None,
            };
            if why.is_some() {
                return Ok(why);
            }
        }
        Ok(None)
    }
}
