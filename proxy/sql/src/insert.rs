//! INSERT of literal rows.

use std::ops::Range;

use crate::{
    condition::split_commas,
    confirm, dml,
    functions::check_calls,
    lexer::Kind,
    text::Text,
    types::{Insert, InsertValue, Refusal, Statement, TableRef},
};

/// `INSERT …`. `placeholders` are the offsets of the statement's parameters.
pub(crate) fn insert(text: &Text<'_>, placeholders: &[usize]) -> Result<Statement, Refusal> {
    let mut at = dml::modifiers(text, 1, &["LOW_PRIORITY", "HIGH_PRIORITY"])?;
    if text.is(at, "INTO") {
        at += 1;
    }
    let (schema, name, after) =
        dml::table_name(text, at..text.len()).ok_or_else(|| Refusal::new("the table is not understood"))?;
    let table = TableRef { schema, name, alias: None, span: text.span(at..after) };
    at = after;
    if text.is(at, "PARTITION") {
        return Err(Refusal::new("PARTITION (…) is not supported"));
    }
    let mut reader = Reader { text, placeholders, next_placeholder: 0, confirmed: None };
    if text.is(at, "SET") {
        return reader.set_form(table, at + 1);
    }
    let mut columns = None;
    if text.punct(at, b'(') && !is_query(text, at + 1) {
        let end = text.skip_parens(at).ok_or_else(|| Refusal::new("the column list is not understood"))?;
        columns = Some(column_list(text, at + 1..end - 1)?);
        at = end;
    }
    if !text.is_any(at, &["VALUES", "VALUE"]) {
        return Err(Refusal::new(if at >= text.len() {
            "the INSERT has no values"
        } else if text.punct(at, b'(') || is_query(text, at) {
            "INSERT … SELECT is not supported"
        } else {
            "the statement is not understood"
        }));
    }
    let (rows, end) = reader.rows(at + 1, columns.as_ref().map(Vec::len))?;
    refuse_rest(text, end)?;
    let values = Some(text.span(at + 1..end));
    Ok(Statement::Insert(Insert { table, columns, rows, values }))
}

fn is_query(text: &Text<'_>, at: usize) -> bool {
    text.is_any(at, &["SELECT", "WITH", "TABLE"]) || text.punct(at, b'(')
}

/// Says what stands behind the rows.
fn refuse_rest(text: &Text<'_>, at: usize) -> Result<(), Refusal> {
    if at == text.len() {
        return Ok(());
    }
    Err(Refusal::new(if text.are(at, &["ON", "DUPLICATE"]) {
        "ON DUPLICATE KEY UPDATE is not supported"
    } else if text.is(at, "AS") {
        "a row alias is not supported"
    } else if text.is(at, "RETURNING") {
        "RETURNING is not supported"
    } else {
        "the statement is not understood"
    }))
}

fn column_list(text: &Text<'_>, range: Range<usize>) -> Result<Vec<String>, Refusal> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    split_commas(text, range)
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
    /// How many placeholders have been passed.
    next_placeholder: usize,
    /// The text of the last expression that was confirmed: bulk inserts repeat it.
    confirmed: Option<&'a [u8]>,
}

impl Reader<'_, '_> {
    /// `(…), (…)`: the rows and the index behind.
    fn rows(
        &mut self,
        mut at: usize,
        mut width: Option<usize>,
    ) -> Result<(Vec<Vec<InsertValue>>, usize), Refusal> {
        let text = self.text;
        let mut rows = Vec::new();
        loop {
            if text.is(at, "ROW") {
                return Err(Refusal::new("VALUES ROW(…) is not supported"));
            }
            if !text.punct(at, b'(') {
                return Err(Refusal::new("the VALUES are not understood"));
            }
            at += 1;
            let mut row = Vec::with_capacity(width.unwrap_or(8).min(64));
            if !text.punct(at, b')') {
                loop {
                    let (value, after) = self.value(at)?;
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

    /// The value that begins at `at`, and the index of the comma or parenthesis behind it.
    fn value(&mut self, at: usize) -> Result<(InsertValue, usize), Refusal> {
        let text = self.text;
        if let Some(len) = confirm::constant(text, at, text.len()) {
            let after = at + len;
            if text.punct(after, b',') || text.punct(after, b')') || after == text.len() {
                let value = match text.kind(at) {
                    Some(Kind::Placeholder) => self.placeholder(at)?,
                    _ if text.is(at, "NULL") => InsertValue::Null,
                    _ => InsertValue::Literal(text.span(at..after)),
                };
                return Ok((value, after));
            }
        }
        let end = self.value_end(at);
        let value = at..end;
        if value.len() == 1 && text.is(at, "DEFAULT") {
            return Ok((InsertValue::Default, end));
        }
        self.confirm(value.clone())?;
        Ok((InsertValue::Expression(text.span(value)), end))
    }

    /// The comma, closing parenthesis or end that ends the value at `at`.
    fn value_end(&self, at: usize) -> usize {
        let mut depth = 0usize;
        for here in at..self.text.len() {
            match self.text.kind(here) {
                Some(Kind::Punct(b'(')) => depth += 1,
                Some(Kind::Punct(b')')) if depth == 0 => return here,
                Some(Kind::Punct(b')')) => depth -= 1,
                Some(Kind::Punct(b',')) if depth == 0 => return here,
                _ => {}
            }
        }
        self.text.len()
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
        dml::check_diagnostics(text, value.clone())?;
        if !confirm::is_expression(text, value) {
            return Err(Refusal::new("a value is not understood"));
        }
        self.confirmed = Some(bytes);
        Ok(())
    }

    /// `INSERT INTO t SET a = 1, b = DEFAULT`: one row.
    fn set_form(&mut self, table: TableRef, at: usize) -> Result<Statement, Refusal> {
        let text = self.text;
        let end =
            text.find(at..text.len(), |at| text.is_any(at, &["ON", "AS", "RETURNING"])).unwrap_or(text.len());
        refuse_rest(text, end)?;
        let mut columns = Vec::new();
        let mut row = Vec::new();
        for part in split_commas(text, at..end) {
            let misread = || Refusal::new("an assignment is not understood");
            let mut name = part.start;
            for _ in 0..2 {
                if text.punct(name + 1, b'.') {
                    name += 2;
                }
            }
            let equals = name + 1;
            if equals + 1 >= part.end
                || !(text.punct(equals, b'=') || text.kind(equals) == Some(Kind::Assign))
            {
                return Err(misread());
            }
            let (value, after) = self.value(equals + 1)?;
            if after != part.end {
                return Err(misread());
            }
            columns.push(text.name(name).ok_or_else(misread)?);
            row.push(value);
        }
        Ok(Statement::Insert(Insert { table, columns: Some(columns), rows: vec![row], values: None }))
    }
}
