//! `GET DIAGNOSTICS` outside of stored routines.

use crate::{
    lex::{Executable, Kind, Mode, Text, lex},
    types::Span,
};

/// A `GET DIAGNOSTICS` that assigns to user variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetDiagnostics {
    /// The number after CONDITION; `None` if it reads items of the whole statement.
    pub condition: Option<usize>,
    /// Each variable, and the name of the item that it is assigned, in upper case.
    pub items: Vec<(Span, String)>,
}

/// Reads a `GET [CURRENT] DIAGNOSTICS`; `None` for any other form, and if the number of the condition is no literal.
pub fn get_diagnostics(sql: &[u8], mode: Mode) -> Option<GetDiagnostics> {
    let lexed = lex(sql, mode, Executable::Inline).ok()?;
    let text = Text::new(sql, mode, &lexed);
    let end = if text.punct(text.len().checked_sub(1)?, b';') { text.len() - 1 } else { text.len() };
    let mut at = if text.is(1, "CURRENT") { 2 } else { 1 };
    if !text.is(0, "GET") || !text.is(at, "DIAGNOSTICS") {
        return None;
    }
    at += 1;
    let mut condition = None;
    if text.is(at, "CONDITION") {
        let number = (text.kind(at + 1) == Some(Kind::Number)).then(|| text.bytes(at + 1))?;
        condition = Some(std::str::from_utf8(number).ok()?.parse().ok()?);
        at += 2;
    }
    let mut items = Vec::new();
    loop {
        let names_item = text.kind(at) == Some(Kind::UserVar)
            && text.punct(at + 1, b'=')
            && text.kind(at + 2) == Some(Kind::Word);
        if !names_item {
            return None;
        }
        let name = String::from_utf8_lossy(text.bytes(at + 2)).to_ascii_uppercase();
        items.push((text.span(at..at + 1), name));
        at += 3;
        if at == end {
            return Some(GetDiagnostics { condition, items });
        }
        if !text.punct(at, b',') {
            return None;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The condition, and the items as they are written with their names.
    fn read(sql: &str) -> Option<(Option<usize>, Vec<String>)> {
        let read = get_diagnostics(sql.as_bytes(), Mode::default())?;
        let items = read.items.into_iter().map(|(span, name)| format!("{} {name}", &sql[span]));
        Some((read.condition, items.collect()))
    }

    #[test]
    fn items_are_told_apart() {
        assert_eq!(
            read("get current diagnostics @n = number, @`r w`=ROW_COUNT;"),
            Some((None, vec!["@n NUMBER".into(), "@`r w` ROW_COUNT".into()]))
        );
        assert_eq!(
            read("GET DIAGNOSTICS CONDITION 2 @m = MESSAGE_TEXT /* x */"),
            Some((Some(2), vec!["@m MESSAGE_TEXT".into()]))
        );
    }

    #[test]
    fn other_forms_are_not_read() {
        for sql in [
            "GET STACKED DIAGNOSTICS @n = NUMBER",
            "GET DIAGNOSTICS n = NUMBER",
            "GET DIAGNOSTICS @n = NUMBER,",
            "GET DIAGNOSTICS",
            "GET DIAGNOSTICS CONDITION @i @m = MESSAGE_TEXT",
            "GET DIAGNOSTICS CONDITION 1",
            "SHOW WARNINGS",
            "",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }
}
