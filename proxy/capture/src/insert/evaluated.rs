//! INSERT whose keys come from expressions or from defaults that are expressions: these are evaluated once, before the
//! statement, and their values stand in their place.

use std::borrow::Cow;
use std::collections::BTreeMap;

use atone_sql::{
    Evaluable, Insert, InsertValue, Mode, OnConflict, TableName, TableRef, evaluable, table_names,
};
use atone_undo::quote_identifier;
use atone_wire::column::ColumnKind;
use atone_wire::error_code::ER_UNKNOWN_CHARACTER_SET;

use crate::Capture;
use crate::binding::tables::Resolved;
use crate::collation;
use crate::error::{End, SqlError};
use crate::fault::Extent;
use crate::fault::{Class, class};
use crate::flight::{Flight, Reply, Rows};
use crate::insert::Target;
use crate::insert::keys::places;
use crate::insert::values::exact_literal;
use crate::outcome::Halt;
use crate::outcome::with_context;
use crate::settings::{UNSAYABLE, Vars};
use atone_facts::{ColumnDefault, TableInfo};

/// How many expressions one SELECT has: the servers allow 4096.
const EXPRESSIONS_PER_SELECT: usize = 500;

/// The values of an INSERT that must be known before it runs and are not, each by its row and its column in the table.
pub(crate) type Slots = BTreeMap<(usize, usize), Evaluable>;

/// Literals, each by its row and its column in the table.
type Literals = BTreeMap<(usize, usize), Vec<u8>>;

/// What of an INSERT has to be evaluated first.
///
/// # Errors
/// Why it can't be.
pub(crate) fn slots(sql: &[u8], insert: &Insert, info: &TableInfo, mode: Mode) -> Result<Slots, String> {
    let table = &info.table;
    let places = given_places(insert, info)?;
    let keys = if insert.on_conflict == OnConflict::Fail { 1 } else { table.keys.len() };
    let mut columns: Vec<usize> =
        table.keys.iter().take(keys).flat_map(|key| key.columns.iter().copied()).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut slots = key_slots(sql, insert, info, mode, &places, &columns)?;
    if slots.values().any(|slot| slot.clock) {
        // One statement has one time
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let others = key_slots(sql, insert, info, mode, &places, &all).unwrap_or_default();
        for (place, slot) in others.into_iter().filter(|(_, slot)| slot.clock) {
            slots.entry(place).or_insert(slot);
        }
    }
    if !slots.is_empty() && insert.has_side_effects {
        return Err("a key comes from an expression, and a value assigns a user variable".into());
    }
    // Those would read another value of a column that is now given
    let body = sql.get(insert.body.clone()).unwrap_or_default();
    let body = mode.marks.and_then(|marks| marks.with_literals(body)).unwrap_or(Cow::Borrowed(body));
    let mut appended: Vec<usize> = slots.keys().map(|&(_, c)| c).filter(|&c| places[c].is_none()).collect();
    appended.sort_unstable();
    appended.dedup();
    for &c in &appended {
        let name = table.columns.get(c).map(|column| column.name.as_str()).unwrap_or_default();
        // In a quoted name its quotes stand twice
        let doubled = ['`', '"'].map(|quote| name.replace(quote, &format!("{quote}{quote}")));
        let names = [name, &doubled[0], &doubled[1]];
        let is_named = |name: &str| {
            body.windows(name.len().max(1)).any(|window| window.eq_ignore_ascii_case(name.as_bytes()))
        };
        if names.into_iter().any(is_named) {
            return Err(format!("the column {name} takes its default, and the values name it"));
        }
    }
    if insert.row_alias && !appended.is_empty() {
        // The alias would have a column more
        return Err("a key takes a computed default, and the rows have an alias".into());
    }
    Ok(slots)
}

/// What has to be evaluated of these columns.
fn key_slots(
    sql: &[u8],
    insert: &Insert,
    info: &TableInfo,
    mode: Mode,
    places: &[Option<usize>],
    columns: &[usize],
) -> Result<Slots, String> {
    let table = &info.table;
    let mut slots = Slots::new();
    for (r, row) in insert.rows.iter().enumerate() {
        for &c in columns {
            let Some(column) = table.columns.get(c).filter(|column| !column.generated) else { continue };
            let place = places.get(c).copied().flatten();
            let because = |e: atone_sql::Refusal| format!("the column {}: {}", column.name, e.reason);
            let slot = match place.and_then(|place| row.get(place)) {
                Some(InsertValue::Expression(span)) => {
                    evaluable(sql.get(span.clone()).unwrap_or_default(), mode, false).map_err(because)?
                }
                None | Some(InsertValue::Default) if !column.auto_increment => match info.defaults.get(c) {
                    Some(ColumnDefault::Expression(text)) => {
                        evaluable(text.as_bytes(), mode, true).map_err(because)?
                    }
                    _ => continue,
                },
                _ => continue,
            };
            slots.insert((r, c), slot);
        }
    }
    Ok(slots)
}

/// For each column its place in the rows; none in rows that are empty.
fn given_places(insert: &Insert, info: &TableInfo) -> Result<Vec<Option<usize>>, String> {
    if insert.rows.iter().all(Vec::is_empty) {
        return Ok(vec![None; info.table.columns.len()]);
    }
    places(insert, info)
}

/// The statement with these literals in place of expressions and defaults.
fn written(target: Target<'_>, literals: &Literals, vars: &Vars) -> Result<Vec<u8>, String> {
    let Target { text: sql, insert, info, named, .. } = target;
    let places = given_places(insert, info)?;
    let mut appended: Vec<usize> =
        literals.keys().map(|&(_, c)| c).filter(|&c| places.get(c).copied().flatten().is_none()).collect();
    appended.sort_unstable();
    appended.dedup();
    let mut out = sql.get(..insert.body.start).unwrap_or_default().to_vec();
    let name = |c: &usize| info.table.columns.get(*c).map(|column| column.name.clone());
    if target.view.is_some() && !appended.is_empty() {
        return Err("a key takes a computed default, through a view".into());
    }
    let all_given = named.is_none() && appended.is_empty();
    if !all_given {
        let given = named.iter().copied().flatten().cloned();
        let names: Vec<String> =
            given.chain(appended.iter().filter_map(name)).map(|name| quote_identifier(&name)).collect();
        let names = names.join(", ");
        if !vars.mode.charset.can_encode(&names) {
            return Err(UNSAYABLE.into());
        }
        out.extend_from_slice(format!(" ({names})").as_bytes());
    }
    out.extend_from_slice(b" VALUES ");
    for (r, row) in insert.rows.iter().enumerate() {
        out.extend_from_slice(if r == 0 { b"(" } else { b", (" });
        let mut first = true;
        let mut push = |text: &[u8]| {
            if !std::mem::take(&mut first) {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(text);
        };
        for (place, value) in row.iter().enumerate() {
            let column = places.iter().position(|p| *p == Some(place));
            match (column.and_then(|c| literals.get(&(r, c))), value) {
                (Some(literal), _) => push(literal),
                (None, InsertValue::Default) => push(b"DEFAULT"),
                (None, InsertValue::Null) => push(b"NULL"),
                (None, InsertValue::Literal(span) | InsertValue::Expression(span)) => {
                    push(sql.get(span.clone()).unwrap_or_default());
                }
                (None, InsertValue::Placeholder(_)) => return Err("a parameter without a value".into()),
            }
        }
        for c in &appended {
            push(literals.get(&(r, *c)).map(Vec::as_slice).unwrap_or(b"DEFAULT"));
        }
        out.push(b')');
    }
    out.push(b' ');
    out.extend_from_slice(sql.get(insert.body.end..).unwrap_or_default());
    Ok(out)
}

/// Whether a day away from a time, by the seconds, is a day away by the clock as well. The text is one that is a
/// literal.
fn day_away(text: &str, sign: &str) -> String {
    format!(
        "CAST(FROM_UNIXTIME(UNIX_TIMESTAMP(TIMESTAMP '{text}') {sign} 86400) AS DATETIME(6)) \
         = TIMESTAMP '{text}' {sign} INTERVAL 1 DAY"
    )
}

/// The types of column definitions.
const TIMESTAMP: u8 = 7;
const DATETIME: u8 = 12;

const CLOCK_SHIFT: &str =
    "a key comes from an expression: a TIMESTAMP within a day of a shift of the session's time zone";

impl Capture<'_> {
    /// Evaluates what an INSERT's keys come from, and gives the statement with the values in.
    pub(crate) async fn with_values(&mut self, target: Target<'_>, slots: &Slots) -> Result<Vec<u8>, Halt> {
        let vars = self.session_vars().await?;
        let sql = target.text;
        if slots.values().any(|slot| slot.subquery)
            && let Reply::Err(e) = self.run_theirs(self.plan_of(sql)).await?
        {
            // What the statement itself may not read
            return Err(Halt::Failed(e));
        }
        if let Some(why) = self.reads_earlier_rows(target, slots, &vars).await? {
            return Err(why.into());
        }
        let mut selects = Vec::new();
        let texts: Vec<&[u8]> = slots.values().map(|slot| slot.text.as_slice()).collect();
        for chunk in texts.chunks(EXPRESSIONS_PER_SELECT) {
            selects.push([b"SELECT ", chunk.join(&b", "[..]).as_slice(), b" LIMIT 1"].concat());
        }
        let mut literals = Literals::new();
        let mut left = slots.iter();
        for reply in self.run_under_results("NULL", selects, &vars).await? {
            match reply {
                Reply::Rows(rows) => {
                    let values = self.literals(&rows, &mut left)?;
                    if !self.are_clear(&rows, &vars).await? {
                        return Err(Halt::stop(CLOCK_SHIFT));
                    }
                    literals.extend(values);
                }
                Reply::Err(e) => {
                    let kept = self.state.diagnostics.take();
                    // The statement may have an error of its own, under a name of its own
                    if let Reply::Err(own) = self.run_theirs(self.plan_of(sql)).await? {
                        return Err(Halt::Failed(own));
                    }
                    if e.code != 1054 && target.insert.on_conflict != OnConflict::Ignore {
                        return Err(Halt::FailedBefore(e, kept));
                    }
                    let why = "a key comes from an expression that cannot be evaluated by itself";
                    return Err(Halt::stop(with_context(why, &e)));
                }
                Reply::TooLarge => return Err(self.above_bytes("the keys are").into()),
                Reply::Ok(_) => return Err(Halt::broken("a SELECT without rows")),
            }
        }
        Ok(written(target, &literals, &vars)?)
    }

    /// Why a key cannot be evaluated before the statement: a subquery of a row after the first may read what the
    /// rows before it have changed.
    async fn reads_earlier_rows(
        &mut self,
        target: Target<'_>,
        slots: &Slots,
        vars: &Vars,
    ) -> Result<Option<String>, End> {
        let later: Vec<&Evaluable> =
            slots.iter().filter(|((row, _), slot)| *row > 0 && slot.subquery).map(|(_, slot)| slot).collect();
        if later.is_empty() {
            return Ok(None);
        }
        let why = |what: &str| Some(format!("a key of a row behind the first is read by a subquery, {what}"));
        let replaces = matches!(target.insert.on_conflict, OnConflict::Replace | OnConflict::Update(_));
        if !target.trigger_targets.is_empty() || (replaces && !target.info.references.keys.is_empty()) {
            return Ok(why("and other tables are changed behind the rows before it"));
        }
        for slot in later {
            let Some(names) = table_names(&slot.text, vars.mode) else {
                return Ok(why("whose tables are not understood"));
            };
            for TableName { schema, name } in names {
                if name.eq_ignore_ascii_case(&target.info.table.name) {
                    return Ok(why("from the table itself"));
                }
                let table = TableRef::named(schema, name);
                if let Resolved::View(_, name) = self.resolve_name(&table, vars).await? {
                    return Ok(why(&format!("from the view {name}, which may show the rows before it")));
                }
            }
        }
        Ok(None)
    }

    /// The statement that asks the server for its plan, and so for its errors. MySQL fails in other formats of it
    /// with an error of their own; MariaDB has no name for this one.
    pub(crate) fn plan_of(&self, statement: &[u8]) -> Vec<u8> {
        let verb: &[u8] = if self.mariadb { b"EXPLAIN " } else { b"EXPLAIN FORMAT=TRADITIONAL " };
        [verb, statement].concat()
    }

    /// The values of as many slots as the SELECT has columns.
    fn literals<'a>(
        &self,
        rows: &Rows,
        slots: &mut impl Iterator<Item = (&'a (usize, usize), &'a Evaluable)>,
    ) -> Result<Literals, String> {
        let unread = |e: atone_wire::Malformed| format!("the values of a key: {e}");
        if rows.warnings(self.capabilities).map_err(unread)? > 0 {
            return Err("a key comes from an expression that gives a warning".into());
        }
        let kinds = rows.columns.iter().map(|column| ColumnKind::parse(column, self.capabilities));
        let mut out = Literals::new();
        for (cell, kind) in rows.cells(0).map_err(unread)?.into_iter().zip(kinds) {
            let (place, slot) = slots.next().ok_or("more values than there are expressions")?;
            let mut kind = kind.map_err(unread)?;
            if kind.kind == TIMESTAMP && self.mariadb {
                // As its text says, see `are_clear`
                kind.kind = DATETIME;
            }
            let by_params = !self.mariadb && self.marks.may_be_in(&slot.text);
            if by_params && kind.is_exact_number() && kind.decimals > 0 {
                // As a value of its own it has more digits than where it is stored
                return Err("a key comes from an expression of parameters that is a DECIMAL".into());
            }
            let source = self.marks.with_literals(&slot.text).unwrap_or_default();
            let literal = exact_literal(cell, kind, &source)
                .map_err(|why| format!("a key comes from an expression: {why}"))?;
            out.insert(*place, literal);
        }
        Ok(out)
    }

    /// Whether each TIMESTAMP of a row is the only one that its text can mean: the session's time zone does not shift
    /// within a day of it. From MariaDB 11.7 on `NOW()` is one.
    async fn are_clear(&mut self, rows: &Rows, vars: &Vars) -> Result<bool, End> {
        let mut terms = Vec::new();
        // MySQL fails otherwise over a text than over a TIMESTAMP, and has none from the clock: refused
        for (definition, cell) in rows.columns.iter().zip(rows.cells(0)?) {
            let text = cell.map(String::from_utf8_lossy);
            if let (TIMESTAMP, Some(text)) = (ColumnKind::parse(definition, self.capabilities)?.kind, text) {
                terms.extend(["-", "+"].map(|sign| day_away(&text, sign)));
            }
        }
        if terms.is_empty() {
            return Ok(true);
        }
        let ask = format!("SELECT {}", terms.join(" AND ")).into_bytes();
        let answer = self.run_under_results("NULL", vec![ask], vars).await?;
        let Some(Reply::Rows(rows)) = answer.first() else { return Ok(false) };
        Ok(rows.cells(0)?.first().copied().flatten() == Some(b"1"))
    }

    /// Runs SELECTs whose texts come in this charset (`NULL`: each as it is), whatever the session has. Of one that
    /// fails the diagnostics are kept.
    pub(crate) async fn run_under_results(
        &mut self,
        charset: &str,
        selects: Vec<Vec<u8>>,
        vars: &Vars,
    ) -> Result<Vec<Reply>, End> {
        let plain = format!("SET character_set_results = {}", vars.results_value);
        if let Some(replies) = self.try_under_results(charset, &selects, &plain).await? {
            return Ok(replies);
        }
        let replies = match self.names_back(vars).await? {
            Some(names) => self.try_under_results(charset, &selects, &names).await?,
            None => None,
        };
        Ok(replies.unwrap_or_else(|| {
            let why = "character_set_results has a collation that cannot be set back";
            vec![Reply::Err(SqlError::refused(&self.xid(), why).err())]
        }))
    }

    /// The same, where `back` makes `character_set_results` what it is. Nothing, of which nothing has run, where the
    /// server does not take that.
    async fn try_under_results(
        &mut self,
        charset: &str,
        selects: &[Vec<u8>],
        back: &str,
    ) -> Result<Option<Vec<Reply>>, End> {
        let mut flight = Flight::of_values();
        flight.push(back);
        flight.push(format!("SET character_set_results = {charset}"));
        for select in selects {
            flight.push(select);
        }
        flight.push(back);
        let mut replies = self.fly(flight).await?;
        if let Some(Reply::Err(e)) = replies.last() {
            let error = e.clone();
            if replies.len() == 1 && error.code == ER_UNKNOWN_CHARACTER_SET {
                return Ok(None);
            }
            let of_text = class(error.code, self.mariadb) == Class::Text;
            let mut fault = self.fault(error).await?;
            // Neither of the first two statements has changed anything where it failed, and the first may be one that
            // fails
            let changed = replies.len() > 2;
            if changed && self.state.diagnostics.is_none() {
                // MySQL's list is gone with the next statement
                self.keep_error(&fault.error);
            }
            if changed
                && fault.extent != Extent::Connection
                && !matches!(self.fly_one(back).await?, Reply::Ok(_))
            {
                // The application would read its results in another charset
                fault.extent = Extent::Connection;
            }
            if !of_text || fault.extent == Extent::Connection {
                return Err(End::Fault(fault));
            }
        }
        self.check_memory()?;
        replies.retain(|reply| !matches!(reply, Reply::Ok(_)));
        Ok(Some(replies))
    }

    /// The SET NAMES that leaves the session as it is, if there is one. MariaDB takes the number of a charset's
    /// default collation only: another one comes from the login or from SET NAMES … COLLATE, and goes back by that.
    async fn names_back(&mut self, vars: &Vars) -> Result<Option<String>, End> {
        let (charset, collation) = (&vars.charset_connection, &vars.collation_connection);
        let one = [&vars.charset_client, &vars.charset_results].iter().all(|other| *other == charset);
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !(self.mariadb && one && word(charset) && word(collation)) {
            return Ok(None);
        }
        // COLLATIONS has no numbers of the collations that several charsets share
        let ask = format!(
            "SELECT ID FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY \
             WHERE FULL_COLLATION_NAME = '{}'",
            collation::in_definitions(collation)
        );
        let Reply::Rows(rows) = self.run_one(ask).await? else { return Ok(None) };
        let id = if rows.rows.is_empty() { None } else { rows.cells(0)?.first().copied().flatten() };
        let same = id == Some(vars.results_value.as_bytes());
        Ok(same.then(|| format!("SET NAMES {charset} COLLATE {collation}")))
    }
}
