//! Triggers that mirror the rows of their table in another one, as tools for online schema changes create them.

use std::ops::Range;

use crate::lex::{Kind, Text};

/// How a trigger mirrors its row in another table, the copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorBody {
    /// The copy's schema; `None` for the trigger's own.
    pub schema: Option<String>,
    /// The copy's name.
    pub table: String,
    /// `DELETE [IGNORE] FROM copy WHERE …`, before the REPLACE.
    pub delete: Option<MirrorDelete>,
    /// `REPLACE INTO copy (column, …) VALUES (NEW.column, …)`: the copy's columns, each with its source column.
    pub replace: Option<Vec<(String, String)>>,
}

/// Which row of the copy is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorDelete {
    /// `copy.column <=> OLD.column AND …`: the copy's columns, each with the column that it is compared with.
    pub by: Vec<(String, String)>,
    /// `!(OLD.column <=> NEW.column AND …)`: not if all of these columns are unchanged.
    pub unless_unchanged: Vec<String>,
}

impl MirrorBody {
    /// Reads one more statement of the trigger; `None` if it does not belong to a mirror, or not at this place.
    pub(crate) fn read(&mut self, text: &Text<'_>, range: Range<usize>) -> Option<()> {
        let mut at = range.start;
        let replaces = text.is(at, "REPLACE");
        at += 1;
        if replaces {
            at += usize::from(text.is(at, "INTO"));
        } else {
            while text.is_any(at, &["IGNORE", "QUICK", "LOW_PRIORITY"]) {
                at += 1;
            }
            if !text.is(at, "FROM") {
                return None;
            }
            at += 1;
        }
        let (names, after) = qualified(text, at);
        let (schema, table) = match names.as_slice() {
            [table] => (None, table.clone()),
            [schema, table] => (Some(schema.clone()), table.clone()),
            _ => return None,
        };
        let is_first = self.delete.is_none() && self.replace.is_none();
        if self.replace.is_some() || !(is_first || (self.schema == schema && self.table == table)) {
            return None;
        }
        (self.schema, self.table) = (schema, table);
        if replaces {
            self.replace = Some(replace(text, after..range.end)?);
        } else if is_first {
            self.delete = Some(self.where_clause(text, after..range.end)?);
        } else {
            return None;
        }
        Some(())
    }

    /// `WHERE …`
    fn where_clause(&self, text: &Text<'_>, range: Range<usize>) -> Option<MirrorDelete> {
        if !text.is(range.start, "WHERE") {
            return None;
        }
        let mut delete = MirrorDelete::default();
        let mut at = range.start + 1;
        loop {
            let negated = usize::from(text.punct(at, b'!') || text.is(at, "NOT"));
            if negated > 0 {
                let end = text.skip_parens(at + 1)?;
                if !delete.unless_unchanged.is_empty() {
                    return None;
                }
                delete.unless_unchanged = kept(text, at + 2..end - 1)?;
                at = end;
            } else {
                let (mut names, after) = qualified(text, at);
                let column = names.pop()?;
                let ours = [self.schema.as_ref(), Some(&self.table)];
                let ours: Vec<&String> = ours.into_iter().flatten().collect();
                let named: Vec<&String> = names.iter().collect();
                if !compares(text, after) || !ours.ends_with(&named) {
                    return None;
                }
                let (old, after) = of_row(text, after + 1, "OLD")?;
                delete.by.push((column, old));
                at = after;
            }
            if at >= range.end {
                return (at == range.end && !delete.by.is_empty()).then_some(delete);
            }
            if !text.is(at, "AND") {
                return None;
            }
            at += 1;
        }
    }
}

/// `name[.name[.name]]`, and where it ends.
fn qualified(text: &Text<'_>, mut at: usize) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    while let Some(name) = text.name(at) {
        names.push(name);
        at += 1;
        if !text.punct(at, b'.') {
            break;
        }
        at += 1;
    }
    (names, at)
}

/// `OLD.column` or `NEW.column`, and where it ends.
fn of_row(text: &Text<'_>, at: usize, row: &str) -> Option<(String, usize)> {
    match qualified(text, at) {
        (names, end) if names.len() == 2 && names[0].eq_ignore_ascii_case(row) => {
            names.into_iter().next_back().map(|column| (column, end))
        }
        _ => None,
    }
}

/// `=` and `<=>`
fn compares(text: &Text<'_>, at: usize) -> bool {
    text.punct(at, b'=') || (text.kind(at) == Some(Kind::Op) && text.bytes(at) == b"<=>")
}

/// `OLD.column <=> NEW.column AND …`, each with itself.
fn kept(text: &Text<'_>, range: Range<usize>) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    let mut at = range.start;
    loop {
        let (old, after) = of_row(text, at, "OLD")?;
        if text.kind(after) != Some(Kind::Op) || text.bytes(after) != b"<=>" {
            return None;
        }
        let (new, after) = of_row(text, after + 1, "NEW")?;
        if !new.eq_ignore_ascii_case(&old) {
            return None;
        }
        columns.push(old);
        if after >= range.end {
            return (after == range.end).then_some(columns);
        }
        if !text.is(after, "AND") {
            return None;
        }
        at = after + 1;
    }
}

/// `(column, …) VALUES (NEW.column, …)`
fn replace(text: &Text<'_>, range: Range<usize>) -> Option<Vec<(String, String)>> {
    let values = text.skip_parens(range.start)?;
    if !text.is_any(values, &["VALUES", "VALUE"]) || text.skip_parens(values + 1)? != range.end {
        return None;
    }
    let (mut column, mut value) = (range.start + 1, values + 2);
    let mut pairs = Vec::new();
    loop {
        let name = text.name(column)?;
        let (given, after) = of_row(text, value, "NEW")?;
        pairs.push((name, given));
        match (text.punct(column + 1, b','), text.punct(after, b',')) {
            (true, true) => (column, value) = (column + 2, after + 1),
            (false, false) => {
                return (column + 2 == values && after + 1 == range.end).then_some(pairs);
            }
            _ => return None,
        }
    }
}
