//! Triggers: what they do, from their bodies as the servers return them.

mod added_rows;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use added_rows::{ColumnInput, TriggerInsert};

use super::mirror::MirrorBody;
use crate::{
    analysis::analyze,
    clause::functions::{check_calls, is_subquery, shorten},
    lex::{Executable, Kind, Mode, Text, lex},
    types::Statement,
    xid::variable::is_xid_variable,
};

/// A trigger that changes no row but its own: it may set columns of that row and variables, insert rows into tables,
/// and fail its statement. Or a trigger that only mirrors its row in another table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerBody {
    /// The columns that it sets in the row to be written: `SET NEW.c = …`.
    pub sets: Vec<String>,
    /// It may fail the statement by SIGNAL.
    pub signals: bool,
    /// The rows that it may insert into tables.
    pub inserts: Vec<TriggerInsert>,
    /// How it mirrors its row in another table.
    pub mirror: Option<MirrorBody>,
}

/// How deep statements may be nested.
const MAX_NESTING: usize = 32;

/// Reads `ACTION_STATEMENT` of `information_schema.TRIGGERS`, under the trigger's own SQL mode. It may contain SET, IF,
/// SIGNAL, DECLARE of variables, BEGIN … END, and INSERT without conflict handling; or the statements of a mirror.
///
/// # Errors
/// Why what the trigger does is not known.
pub fn trigger_body(body: &[u8], mode: Mode) -> Result<TriggerBody, String> {
    let lexed = lex(body, mode, Executable::Skip).map_err(|why| format!("its body {why}"))?;
    if lexed.has_executable_comments() {
        return Err("its body has an executable comment".into());
    }
    let text = Text::new(body, mode, &lexed);
    for at in 0..text.len() {
        if is_subquery(&text, at) {
            return Err("it reads a table".into());
        }
        if is_xid_variable(&text, at) {
            return Err("it uses @atone_xid".into());
        }
    }
    let mut reader = Reader {
        text: &text,
        body: TriggerBody::default(),
        locals: Vec::new(),
        heads: Vec::new(),
        handles_missing_table: false,
    };
    let end = reader.statement(0, 0)?;
    reader.check_mirror()?;
    let end = if text.punct(end, b';') { end + 1 } else { end };
    // A table's name before its list of columns calls nothing
    let mut at = 0;
    for head in reader.heads.iter().cloned().chain(std::iter::once(text.len()..text.len())) {
        check_calls(&text, at..head.start).map_err(|_| "it calls a function that may write".to_owned())?;
        at = head.end;
    }
    if end == text.len() { Ok(reader.body) } else { Err(reader.unknown(end)) }
}

/// The body of a trigger in its CREATE TRIGGER, under its own SQL mode; `None` if that is not understood.
pub fn trigger_action(create: &[u8], mode: Mode) -> Option<&[u8]> {
    let lexed = lex(create, mode, Executable::Skip).ok()?;
    let text = Text::new(create, mode, &lexed);
    let each = (0..text.len()).find(|&at| text.are(at, &["FOR", "EACH", "ROW"]))?;
    let mut at = each + 3;
    if text.is_any(at, &["FOLLOWS", "PRECEDES"]) {
        at += if text.punct(at + 2, b'.') { 4 } else { 2 };
    }
    create.get(text.span(at..at + 1).start..).filter(|_| at < text.len())
}

struct Reader<'a> {
    text: &'a Text<'a>,
    body: TriggerBody,
    /// The variables that it declares.
    locals: Vec<String>,
    /// The tokens of its INSERTs up to the values: they name a table and its columns.
    heads: Vec<Range<usize>>,
    /// It has a handler for missing tables.
    handles_missing_table: bool,
}

impl Reader<'_> {
    fn unknown(&self, at: usize) -> String {
        match self.text.name(at) {
            Some(word) => format!("{} is not understood", shorten(&word)),
            None => "its body is not understood".to_owned(),
        }
    }

    /// Reads one statement: the index after it, of a `;` or of what closes its block.
    fn statement(&mut self, at: usize, nesting: usize) -> Result<usize, String> {
        let text = self.text;
        if nesting > MAX_NESTING {
            return Err("its statements are nested too deep".into());
        }
        if text.is(at, "BEGIN") {
            let end = self.statements(at + 1, nesting + 1, &["END"])?;
            return Ok(end + 1);
        }
        if text.is(at, "IF") {
            return self.conditional(at, nesting);
        }
        let end = (at..text.len()).find(|&at| text.punct(at, b';')).unwrap_or(text.len());
        if text.is(at, "SET") {
            self.assignments(at + 1..end)?;
        } else if text.is(at, "SIGNAL") {
            self.body.signals = true;
            self.signal(at + 1..end)?;
        } else if text.is(at, "DECLARE") {
            self.declaration(at + 1..end)?;
        } else if text.is(at, "INSERT") {
            self.insertion(at..end)?;
        } else if text.is_any(at, &["REPLACE", "DELETE"]) {
            let mirror = self.body.mirror.get_or_insert_default();
            if mirror.read(text, at..end).is_none() {
                return Err(self.unknown(at));
            }
            self.heads.push(at..end);
        } else {
            return Err(self.unknown(at));
        }
        Ok(end)
    }

    /// Reads statements, each with its `;`, up to one of these words.
    fn statements(&mut self, mut at: usize, nesting: usize, until: &[&str]) -> Result<usize, String> {
        while !self.text.is_any(at, until) {
            if at >= self.text.len() {
                return Err("its body ends too early".into());
            }
            at = self.statement(at, nesting)?;
            if !self.text.punct(at, b';') {
                return Err(self.unknown(at));
            }
            at += 1;
        }
        Ok(at)
    }

    /// `IF … THEN … [ELSEIF … THEN …] [ELSE …] END IF`
    fn conditional(&mut self, at: usize, nesting: usize) -> Result<usize, String> {
        let mut at = at;
        let mirror = self.body.mirror.clone();
        loop {
            let then = self.condition_end(at + 1)?;
            at = self.statements(then + 1, nesting + 1, &["ELSEIF", "ELSE", "END"])?;
            if !self.text.is(at, "ELSEIF") {
                break;
            }
        }
        if self.text.is(at, "ELSE") {
            at = self.statements(at + 1, nesting + 1, &["END"])?;
        }
        if self.body.mirror != mirror {
            return Err("it writes another row under a condition".into());
        }
        if self.text.are(at, &["END", "IF"]) { Ok(at + 2) } else { Err(self.unknown(at)) }
    }

    /// Refuses a trigger that does more than mirror its row: all that it writes must follow from the row.
    fn check_mirror(&self) -> Result<(), String> {
        let body = &self.body;
        let does_more =
            body.signals || !body.sets.is_empty() || !body.inserts.is_empty() || !self.locals.is_empty();
        match &body.mirror {
            None if self.handles_missing_table => Err("it declares other than variables".into()),
            Some(_) if does_more => Err("it does more than to keep rows of another table".into()),
            _ => Ok(()),
        }
    }

    /// The index of the THEN after a condition, which is not that of a CASE in it.
    fn condition_end(&self, start: usize) -> Result<usize, String> {
        let mut depth = 0usize;
        for at in start..self.text.len() {
            if self.text.punct(at, b';') {
                break;
            } else if self.text.is(at, "CASE") {
                depth += 1;
            } else if self.text.is(at, "END") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && self.text.is(at, "THEN") {
                return Ok(at);
            }
        }
        Err(self.unknown(start))
    }

    /// `NEW.c = …, @x = …, local = …`
    fn assignments(&mut self, range: Range<usize>) -> Result<(), String> {
        for item in self.text.split_commas(range) {
            let text = self.text;
            let at = item.start;
            let is_new = text.name(at).is_some_and(|name| name.eq_ignore_ascii_case("NEW"));
            let operator = if is_new && text.punct(at + 1, b'.') {
                let column = text.name(at + 2).ok_or_else(|| self.unknown(at))?;
                self.body.sets.push(column);
                at + 3
            } else if text.kind(at) == Some(Kind::UserVar) {
                at + 1
            } else {
                let name = text.name(at).ok_or_else(|| self.unknown(at))?;
                if !self.locals.iter().any(|local| local.eq_ignore_ascii_case(&name)) {
                    return Err(format!("it sets {}", shorten(&name)));
                }
                at + 1
            };
            if !text.assigns(operator) || operator + 1 >= item.end {
                return Err(self.unknown(operator));
            }
        }
        Ok(())
    }

    /// `INSERT INTO log …`
    fn insertion(&mut self, range: Range<usize>) -> Result<(), String> {
        let sql = self.text.sql.get(self.text.span(range.clone())).unwrap_or_default();
        let insert = match analyze(sql, self.text.mode).statement {
            Statement::Insert(insert) => insert,
            Statement::Refused(why) => return Err(format!("its INSERT is not understood: {}", why.reason)),
            _ => return Err(self.unknown(range.start)),
        };
        let inserted = TriggerInsert::new(&insert)
            .ok_or("its INSERT has IGNORE, ON DUPLICATE KEY UPDATE, a SELECT, or values with effects")?;
        self.body.inserts.push(inserted);
        let body = self.text.span(range.clone()).start + insert.body.start;
        let is_after = |&at: &usize| self.text.span(at..at + 1).start >= body;
        let end = range.clone().find(is_after).unwrap_or(range.end);
        self.heads.push(range.start..end);
        Ok(())
    }

    /// `SQLSTATE [VALUE] '45000' [SET MESSAGE_TEXT = …]`
    fn signal(&self, range: Range<usize>) -> Result<(), String> {
        let state = range.start + 1 + usize::from(self.text.is(range.start + 1, "VALUE"));
        if !self.text.is(range.start, "SQLSTATE") || self.text.kind(state) != Some(Kind::Str) {
            return Err(self.unknown(range.start));
        }
        // '00…', '01…' and '02…' are no errors
        let class = self.text.bytes(state).get(1..3).unwrap_or_default();
        if matches!(class, b"00" | b"01" | b"02") {
            return Err("it signals a warning".into());
        }
        if state + 1 < range.end && !self.text.is(state + 1, "SET") {
            return Err(self.unknown(state + 1));
        }
        Ok(())
    }

    /// `a, b INT [DEFAULT …]`, or an empty handler for missing tables. No cursor, other handler or condition.
    fn declaration(&mut self, range: Range<usize>) -> Result<(), String> {
        if self.is_missing_table_handler(range.clone()) {
            self.handles_missing_table = true;
            return Ok(());
        }
        let other = ["CURSOR", "HANDLER", "CONDITION"];
        if range.clone().any(|at| self.text.is_any(at, &other)) {
            return Err("it declares other than variables".into());
        }
        let mut at = range.start;
        loop {
            self.locals.push(self.text.name(at).ok_or_else(|| self.unknown(at))?);
            at += 1;
            if !self.text.punct(at, b',') {
                break;
            }
            at += 1;
        }
        if at < range.end { Ok(()) } else { Err(self.unknown(at)) }
    }

    /// `{CONTINUE | EXIT} HANDLER FOR 1146 BEGIN END`
    fn is_missing_table_handler(&self, range: Range<usize>) -> bool {
        let (text, at) = (self.text, range.start);
        text.is_any(at, &["CONTINUE", "EXIT"])
            && text.are(at + 1, &["HANDLER", "FOR"])
            && text.bytes(at + 3) == b"1146"
            && text.are(at + 4, &["BEGIN", "END"])
            && at + 6 == range.end
    }
}
