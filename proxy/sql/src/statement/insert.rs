//! INSERT and REPLACE.

use std::ops::Range;

use crate::{
    clause::{
        assignments,
        expression::{self, operand},
        functions::{self, CALLED_ONCE, RANDOM, check_calls},
        modifiers::modifiers,
        returning, table,
    },
    evaluate,
    lex::{Kind, Text},
    types::{Assignment, Insert, InsertValue, OnConflict, Refusal, SourceQuery, Statement, TableRef},
};

/// `INSERT …` and `REPLACE …`. `placeholders` are the offsets of the statement's parameters.
pub(crate) fn insert(text: &Text<'_>, placeholders: &[usize]) -> Result<Statement, Refusal> {
    let replaces = text.is(0, "REPLACE");
    let mut at = 1;
    let mut ignores = false;
    loop {
        if !replaces && text.is(at, "IGNORE") {
            ignores = true;
            at += 1;
        } else if text.is_any(at, &["LOW_PRIORITY", "HIGH_PRIORITY"]) {
            at += 1;
        } else {
            break;
        }
    }
    at = modifiers(text, at, &[])?;
    if text.is(at, "INTO") {
        at += 1;
    }
    let (schema, name, after) =
        table::name(text, at..text.len()).ok_or_else(|| Refusal::new("the table is not understood"))?;
    let table = TableRef { schema, name, alias: None, span: text.span(at..after) };
    at = after;
    at = table::partitions(text, at)?;
    let body = at;
    let mut reader =
        Reader { text, placeholders, next_placeholder: 0, confirmed: None, has_side_effects: false };
    let mut source = None;
    let (columns, rows, values, end) = if text.is(at, "SET") {
        let (columns, row, end) = reader.set_form(at + 1)?;
        (Some(columns), vec![row], None, end)
    } else {
        let mut columns = None;
        if text.punct(at, b'(') && !is_query(text, at + 1) {
            let end =
                text.skip_parens(at).ok_or_else(|| Refusal::new("the column list is not understood"))?;
            columns = Some(column_list(text, at + 1..end - 1)?);
            at = end;
        }
        let table = text.is(at, "TABLE") && !text.mode.mariadb;
        if text.is_any(at, &["SELECT", "WITH"]) || table || (text.punct(at, b'(') && is_query(text, at + 1)) {
            let (query, end) = source_query(text, at)?;
            source = Some(query);
            (columns, Vec::new(), None, end)
        } else if !text.is_any(at, &["VALUES", "VALUE"]) {
            return Err(Refusal::new(if at >= text.len() {
                "the INSERT has no values"
            } else {
                "the statement is not understood"
            }));
        } else {
            let (rows, end) = reader.rows(at + 1, columns.as_ref().map(Vec::len))?;
            (columns, rows, Some(text.span(at + 1..end)), end)
        }
    };
    let list = text.find(end..text.len(), |at| text.is(at, "RETURNING")).unwrap_or(text.len());
    let returning = list < text.len();
    if returning {
        returning::check(text, list + 1..text.len())?;
    }
    let row_alias = text.is(end, "AS");
    let updates = on_duplicate(text, end..list)?;
    let on_conflict = match (replaces, updates, ignores) {
        (true, Some(_), _) => return Err(Refusal::new("the statement is not understood")),
        (false, Some(assignments), _) => OnConflict::Update(assignments),
        (true, None, _) => OnConflict::Replace,
        (false, None, true) => OnConflict::Ignore,
        (false, None, false) => OnConflict::Fail,
    };
    if returning && source.is_some() {
        return Err(Refusal::new("RETURNING with SELECT is not supported"));
    }
    if returning && !matches!(on_conflict, OnConflict::Fail | OnConflict::Ignore) {
        return Err(Refusal::new("RETURNING with REPLACE or ON DUPLICATE KEY UPDATE is not supported"));
    }
    Ok(Statement::Insert(Insert {
        table,
        columns,
        rows,
        body: text.span(body..end),
        values,
        has_side_effects: reader.has_side_effects,
        query: source,
        on_conflict,
        ignore: ignores,
        row_alias,
        returning,
    }))
}

/// The `SELECT …` of an INSERT, which is also read before the statement: the query and the index after it.
fn source_query(text: &Text<'_>, at: usize) -> Result<(SourceQuery, usize), Refusal> {
    let duplicate = |at: usize| text.are(at, &["ON", "DUPLICATE", "KEY", "UPDATE"]);
    let end = text.find(at..text.len(), |at| duplicate(at) || text.is(at, "RETURNING")).unwrap_or(text.len());
    let query = at..end;
    check_calls(text, query.clone())?;
    functions::check_diagnostics(text, query.clone())?;
    if query.clone().any(|at| text.kind(at) == Some(Kind::Assign)) {
        return Err(Refusal::new("the SELECT of an INSERT assigns a variable"));
    }
    if let Some(name) =
        CALLED_ONCE.iter().find(|name| functions::find_call(text, query.clone(), name).is_some())
    {
        return Err(Refusal::new(format!("the SELECT of an INSERT calls {name}(), and is read twice")));
    }
    let read = evaluate::locked_query(text, query.clone())?;
    let random = RANDOM.iter().any(|name| functions::find_call(text, query.clone(), name).is_some());
    Ok((SourceQuery { span: text.span(query), read, random }, end))
}

fn is_query(text: &Text<'_>, at: usize) -> bool {
    text.is_any(at, &["SELECT", "WITH", "TABLE"]) || text.punct(at, b'(')
}

/// What ON DUPLICATE KEY UPDATE assigns, after a row alias; `None` if there is nothing after the rows.
fn on_duplicate(text: &Text<'_>, range: Range<usize>) -> Result<Option<Vec<Assignment>>, Refusal> {
    let mut at = range.start;
    let not_understood = || Refusal::new("the statement is not understood");
    let alias = text.is(at, "AS");
    if alias {
        text.name(at + 1).ok_or_else(not_understood)?;
        at += 2;
        if text.punct(at, b'(') {
            at = text.skip_parens(at).ok_or_else(not_understood)?;
        }
    }
    if !text.are(at, &["ON", "DUPLICATE", "KEY", "UPDATE"]) {
        return if at == range.end && !alias { Ok(None) } else { Err(not_understood()) };
    }
    let list = at + 4..range.end;
    check_calls(text, list.clone())?;
    assignments::read(text, list).map(Some)
}

fn column_list(text: &Text<'_>, range: Range<usize>) -> Result<Vec<String>, Refusal> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    text.split_commas(range)
        .into_iter()
        .map(|part| match part.len() {
            1 => text.name(part.start),
            3 if text.punct(part.start + 1, b'.') => text.name(part.start + 2),
            5 if text.punct(part.start + 1, b'.') && text.punct(part.start + 3, b'.') => {
                text.name(part.start + 4)
            }
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::new("the column list is not understood"))
}

struct Reader<'t, 'a> {
    text: &'t Text<'a>,
    placeholders: &'t [usize],
    /// The index of the next placeholder.
    next_placeholder: usize,
    /// The text of the last expression that was confirmed. Bulk inserts repeat it.
    confirmed: Option<&'a [u8]>,
    /// See [`Insert::has_side_effects`].
    has_side_effects: bool,
}

impl Reader<'_, '_> {
    /// `(…), (…)`: the rows and the index after them.
    fn rows(
        &mut self,
        mut at: usize,
        mut width: Option<usize>,
    ) -> Result<(Vec<Vec<InsertValue>>, usize), Refusal> {
        let text = self.text;
        let mut rows = Vec::new();
        loop {
            if text.is(at, "ROW") && !text.mode.mariadb {
                at += 1;
            }
            if !text.punct(at, b'(') {
                return Err(Refusal::new("the VALUES are not understood"));
            }
            at += 1;
            let mut row = Vec::with_capacity(width.unwrap_or(8).min(64));
            if !text.punct(at, b')') {
                loop {
                    let (value, after) = self.value(at, text.len())?;
                    row.push(value);
                    at = after + 1;
                    if text.punct(after, b')') {
                        break;
                    }
                    if !text.punct(after, b',') {
                        return Err(Refusal::new("the VALUES are not understood"));
                    }
                }
            } else {
                at += 1;
            }
            if *width.get_or_insert(row.len()) != row.len() {
                return Err(Refusal::new(format!(
                    "row {} of the VALUES has another number of values than there are columns",
                    rows.len() + 1
                )));
            }
            rows.push(row);
            if !text.punct(at, b',') {
                return Ok((rows, at));
            }
            at += 1;
        }
    }

    /// The value that begins at `at`, and the index of the comma or parenthesis after it, or `limit`.
    fn value(&mut self, at: usize, limit: usize) -> Result<(InsertValue, usize), Refusal> {
        let text = self.text;
        if let Some(len) = operand::constant(text, at, limit) {
            let after = at + len;
            if text.punct(after, b',') || text.punct(after, b')') || after == limit {
                let value = match text.kind(at) {
                    Some(Kind::Placeholder) => self.placeholder(at)?,
                    _ if text.is(at, "NULL") => InsertValue::Null,
                    _ => InsertValue::Literal(text.span(at..after)),
                };
                return Ok((value, after));
            }
        }
        let end = self.value_end(at, limit);
        let value = at..end;
        if value.len() == 1 && text.is(at, "DEFAULT") {
            return Ok((InsertValue::Default, end));
        }
        self.confirm(value.clone())?;
        Ok((InsertValue::Expression(text.span(value)), end))
    }

    /// The comma, closing parenthesis or end that ends the value at `at`.
    fn value_end(&self, at: usize, limit: usize) -> usize {
        let mut depth = 0usize;
        for here in at..limit {
            match self.text.kind(here) {
                Some(Kind::Punct(b'(')) => depth += 1,
                Some(Kind::Punct(b')')) if depth == 0 => return here,
                Some(Kind::Punct(b')')) => depth -= 1,
                Some(Kind::Punct(b',')) if depth == 0 => return here,
                _ => {}
            }
        }
        limit
    }

    fn placeholder(&mut self, at: usize) -> Result<InsertValue, Refusal> {
        let offset = self.text.span(at..at + 1).start;
        while let Some(&known) = self.placeholders.get(self.next_placeholder) {
            self.next_placeholder += 1;
            if known == offset {
                return Ok(InsertValue::Placeholder(self.next_placeholder - 1));
            }
        }
        Err(Refusal::new("the placeholders are not understood"))
    }

    fn confirm(&mut self, value: Range<usize>) -> Result<(), Refusal> {
        let text = self.text;
        let bytes = text.sql.get(text.span(value.clone())).unwrap_or_default();
        if self.confirmed.is_some_and(|known| known == bytes) {
            return Ok(());
        }
        check_calls(text, value.clone())?;
        functions::check_diagnostics(text, value.clone())?;
        self.has_side_effects |= functions::has_side_effects(text, value.clone());
        let not_understood = || Refusal::new("a value is not understood");
        expression::is_expression(text, value).map_err(|why| why.refusal(not_understood()))?;
        self.confirmed = Some(bytes);
        Ok(())
    }

    /// `INSERT INTO t SET a = 1, b = DEFAULT`: columns, values, and the index after them.
    fn set_form(&mut self, at: usize) -> Result<(Vec<String>, Vec<InsertValue>, usize), Refusal> {
        let text = self.text;
        let end =
            text.find(at..text.len(), |at| text.is_any(at, &["ON", "AS", "RETURNING"])).unwrap_or(text.len());
        let mut columns = Vec::new();
        let mut row = Vec::new();
        for part in text.split_commas(at..end) {
            let not_understood = || Refusal::new("an assignment is not understood");
            let (name, value) = assignments::split(text, part.clone()).ok_or_else(not_understood)?;
            let (value, after) = self.value(value.start, end)?;
            if after != part.end {
                return Err(not_understood());
            }
            columns.push(text.name(name.end - 1).ok_or_else(not_understood)?);
            row.push(value);
        }
        Ok((columns, row, end))
    }
}
