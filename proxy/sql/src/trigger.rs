//! What a trigger does, from its body as the servers tell it.

use std::ops::Range;

use crate::{
    condition::split_commas,
    functions::{check_calls, is_subquery, shorten},
    lexer::{self, Executable, Kind},
    mode::Mode,
    text::Text,
    variables::is_xid_variable,
};

/// A trigger that writes no table: it may set columns of its own row and variables, and end its statement with an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerBody {
    /// The columns that it sets in the row to be written: `SET NEW.c = …`.
    pub sets: Vec<String>,
    /// It may end the statement by SIGNAL.
    pub signals: bool,
}

/// How deep statements may be nested.
const MAX_NESTING: usize = 32;

/// Reads `ACTION_STATEMENT` of `information_schema.TRIGGERS`, under the trigger's own SQL mode. Statements other than SET,
/// IF, SIGNAL, DECLARE of variables and BEGIN … END are not known to write nothing.
///
/// # Errors
/// Why it cannot be told that the trigger writes no table.
pub fn trigger_body(body: &[u8], mode: Mode) -> Result<TriggerBody, String> {
    let lexed = lexer::lex(body, mode, Executable::Skip).map_err(|why| format!("its body {why}"))?;
    if lexed.has_executable_comments() {
        return Err("its body has an executable comment".into());
    }
    let text = Text { sql: body, mode, tokens: &lexed.tokens };
    check_calls(&text, 0..text.len()).map_err(|_| "it calls a function that may write".to_owned())?;
    for at in 0..text.len() {
        if is_subquery(&text, at) {
            return Err("it reads a table".into());
        }
        if is_xid_variable(&text, at) {
            return Err("it uses @atone_xid".into());
        }
    }
    let mut reader = Reader { text: &text, body: TriggerBody::default(), locals: Vec::new() };
    let end = reader.statement(0, 0)?;
    let end = if text.punct(end, b';') { end + 1 } else { end };
    if end == text.len() { Ok(reader.body) } else { Err(reader.unknown(end)) }
}

struct Reader<'a> {
    text: &'a Text<'a>,
    body: TriggerBody,
    /// The variables that it declares.
    locals: Vec<String>,
}

impl Reader<'_> {
    fn unknown(&self, at: usize) -> String {
        match self.text.name(at) {
            Some(word) => format!("{} is not understood", shorten(&word)),
            None => "its body is not understood".to_owned(),
        }
    }

    /// Reads one statement; the index behind it, where a `;` or what closes its block stands.
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
        if self.text.are(at, &["END", "IF"]) { Ok(at + 2) } else { Err(self.unknown(at)) }
    }

    /// The THEN behind a condition: not one of a CASE in it.
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
        for item in split_commas(self.text, range) {
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
            let assigns = text.punct(operator, b'=') || text.kind(operator) == Some(Kind::Assign);
            if !assigns || operator + 1 >= item.end {
                return Err(self.unknown(operator));
            }
        }
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

    /// `a, b INT [DEFAULT …]`: not of a cursor, a handler or a condition.
    fn declaration(&mut self, range: Range<usize>) -> Result<(), String> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(body: &str) -> Result<(Vec<String>, bool), String> {
        trigger_body(body.as_bytes(), Mode::default()).map(|body| (body.sets, body.signals))
    }

    #[test]
    fn what_writes_no_table() {
        let ok = |columns: &[&str], signals| Ok((columns.iter().map(|c| (*c).to_owned()).collect(), signals));
        assert_eq!(sets("SET NEW.a = NOW()"), ok(&["a"], false));
        assert_eq!(
            sets("set new.`a b` := UPPER(NEW.c), @x = 1, NEW.c = IF(1, 2, 3)"),
            ok(&["a b", "c"], false)
        );
        assert_eq!(sets("BEGIN SET NEW.a = 1; SET @n = @n + 1; END"), ok(&["a"], false));
        assert_eq!(sets("BEGIN END;"), ok(&[], false));
        assert_eq!(
            sets(
                "BEGIN DECLARE n, m INT DEFAULT CASE WHEN 1 THEN 2 END; IF NEW.a < 0 AND CASE NEW.b WHEN 1 THEN 1 ELSE 0 END \
                 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; ELSEIF OLD.a THEN SET n = 1; \
                 ELSE BEGIN SET NEW.b = n; END; END IF; END"
            ),
            ok(&["b"], true)
        );
        assert_eq!(sets("IF NEW.a THEN SET NEW.b = REPLACE(NEW.b, 'x', 'y'); END IF"), ok(&["b"], false));
    }

    #[test]
    fn what_may_write_or_is_not_understood() {
        for body in [
            "INSERT INTO log VALUES (NEW.id)",
            "BEGIN SET NEW.a = 1; UPDATE t SET a = 1; END",
            "BEGIN IF NEW.a THEN DELETE FROM t; END IF; END",
            "IF NEW.a THEN SET NEW.a = 1; ELSE CALL p(); END IF",
            "CALL p()",
            "SET NEW.a = f(1)",
            "SET NEW.a = s.f(1)",
            "SET NEW.a = (SELECT MAX(a) FROM t)",
            "SET NEW.a = NEXT VALUE FOR s",
            "SET sql_log_bin = 0",
            "SET GLOBAL x = 1",
            "SET @@session.foreign_key_checks = 0",
            "SET @atone_xid = NULL",
            "SET NEW.a",
            "BEGIN DECLARE c CURSOR FOR SELECT 1; END",
            "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET @x = 1; END",
            "SIGNAL SQLSTATE '01000'",
            "SIGNAL oops",
            "BEGIN SET NEW.a = 1 END",
            "BEGIN SET NEW.a = 1;",
            "SET NEW.a = 1; DELETE FROM t",
            "WHILE 1 DO SET NEW.a = 1; END WHILE",
            "/*!50000 DELETE FROM t */",
            "",
        ] {
            assert!(sets(body).is_err(), "{body}: {:?}", sets(body));
        }
    }

    #[test]
    fn the_mode_is_the_triggers_own() {
        let body = b"SET NEW.a = \"b; DELETE FROM t\"";
        assert!(trigger_body(body, Mode::default()).is_ok());
        assert!(trigger_body(b"SET NEW.a = '\\'; DELETE FROM t; -- '", Mode::default()).is_ok());
        let plain = Mode { no_backslash_escapes: true, ..Mode::default() };
        assert!(trigger_body(b"SET NEW.a = '\\'; DELETE FROM t; -- '", plain).is_err());
    }
}
