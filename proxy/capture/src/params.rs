//! Parameters of a prepared statement as literals, so that a prepared statement of a bound session is read as one in
//! text. Each has a mark in front: what is sent to the server has placeholders again. Pure.

use atone_sql::Mode;
use atone_wire::execute::{BulkParam, Param};

/// The statement's text with each placeholder replaced by its parameter, marked where the mode has marks.
///
/// # Errors
/// Why a value has no literal that means the same.
pub fn substitute(
    sql: &[u8],
    placeholders: &[usize],
    params: &[Param],
    mode: Mode,
) -> Result<Vec<u8>, String> {
    replaced(sql, placeholders, params, |out, nth, param| match mode.marks {
        None => literal(out, param, mode),
        Some(marks) => {
            let mut text = Vec::new();
            literal(&mut text, param, mode)?;
            marks.put(out, nth, &text);
            Ok(())
        }
    })
}

/// The same with a row of a bulk execution.
///
/// # Errors
/// As [`substitute`]; also where a column is to be left as it is.
pub fn substitute_bulk(
    sql: &[u8],
    placeholders: &[usize],
    params: &[BulkParam],
    mode: Mode,
) -> Result<Vec<u8>, String> {
    replaced(sql, placeholders, params, |out, _, param| match param {
        BulkParam::Value(param) => literal(out, param, mode),
        BulkParam::Default => {
            out.extend_from_slice(b"DEFAULT");
            Ok(())
        }
        BulkParam::Ignore => Err("the indicator IGNORE in a bulk execution".into()),
    })
}

fn replaced<P>(
    sql: &[u8],
    placeholders: &[usize],
    params: &[P],
    write: impl Fn(&mut Vec<u8>, usize, &P) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    if placeholders.len() != params.len() {
        return Err(format!("{} placeholders and {} parameters", placeholders.len(), params.len()));
    }
    let mut out = Vec::with_capacity(sql.len() + params.len() * 16);
    let mut at = 0;
    for (nth, (&offset, param)) in placeholders.iter().zip(params).enumerate() {
        out.extend_from_slice(sql.get(at..offset).ok_or("placeholders out of order")?);
        // A blank on either side, so that the literal cannot join its neighbours
        out.push(b' ');
        write(&mut out, nth, param)?;
        out.push(b' ');
        at = offset + 1;
    }
    out.extend_from_slice(sql.get(at..).ok_or("placeholders out of order")?);
    Ok(out)
}

fn literal(out: &mut Vec<u8>, param: &Param, mode: Mode) -> Result<(), String> {
    match param {
        Param::Null => out.extend_from_slice(b"NULL"),
        Param::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Param::Float(f) => double(out, f64::from(*f))?,
        Param::Double(d) => double(out, *d)?,
        Param::Decimal(text) => {
            let digits = text.strip_prefix(b"-").unwrap_or(text);
            let good = digits.iter().all(|b| b.is_ascii_digit() || *b == b'.')
                && digits.iter().filter(|b| **b == b'.').count() <= 1
                && digits.iter().any(u8::is_ascii_digit);
            if !good {
                return Err("a DECIMAL parameter that is no number".into());
            }
            out.extend_from_slice(text);
        }
        Param::Text(text) => quoted(out, &mode.charset.decode_value(text), mode),
        Param::Blob(bytes) => {
            out.extend_from_slice(b"_binary");
            quoted(out, &mode.charset.decode_value(bytes), mode);
        }
        Param::Date { year, month, day } => {
            if *month == 0 || *day == 0 {
                out.extend_from_slice(format!("'{year:04}-{month:02}-{day:02}'").as_bytes());
            } else {
                out.extend_from_slice(format!("DATE'{year:04}-{month:02}-{day:02}'").as_bytes());
            }
        }
        Param::DateTime { year, month, day, hour, minute, second, micros } => {
            // A date with a zero in it is no valid literal under every sql_mode, but is a valid string
            let prefix = if *month == 0 || *day == 0 { "" } else { "TIMESTAMP" };
            let fraction = if *micros == 0 { String::new() } else { format!(".{micros:06}") };
            out.extend_from_slice(
                format!(
                    "{prefix}'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}'"
                )
                .as_bytes(),
            );
        }
        Param::Time { negative, hours, minute, second, micros } => {
            let sign = if *negative { "-" } else { "" };
            let fraction = if *micros == 0 { String::new() } else { format!(".{micros:06}") };
            out.extend_from_slice(
                format!("TIME'{sign}{hours:02}:{minute:02}:{second:02}{fraction}'").as_bytes(),
            );
        }
    }
    Ok(())
}

/// A DOUBLE literal has an exponent; without one it would be a DECIMAL.
fn double(out: &mut Vec<u8>, value: f64) -> Result<(), String> {
    if !value.is_finite() {
        return Err("a parameter that is infinite or no number".into());
    }
    out.extend_from_slice(format!("{value:e}").as_bytes());
    Ok(())
}

/// Appends a text in quotes.
pub fn quoted(out: &mut Vec<u8>, text: &[u8], mode: Mode) {
    out.push(b'\'');
    for &byte in text {
        if byte == b'\'' || (byte == b'\\' && !mode.no_backslash_escapes) {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(param: Param, expect: &str) {
        let got = substitute(b"x=?", &[2], &[param], Mode::default())
            .map(|v| String::from_utf8_lossy(&v).into_owned());
        assert_eq!(got, Ok(format!("x= {expect} ")));
    }

    #[test]
    fn each_type_has_its_literal() {
        check(Param::Null, "NULL");
        check(Param::Int(-5), "-5");
        check(Param::Double(0.1), "1e-1");
        check(Param::Double(-0.0), "-0e0");
        check(Param::Float(0.1), "1.0000000149011612e-1");
        check(Param::Decimal(b"-12.50".to_vec()), "-12.50");
        check(Param::Text(b"it's \\ ok".to_vec()), r"'it''s \\ ok'");
        check(Param::Blob(b"\0'".to_vec()), "_binary'\0'''");
        check(Param::Date { year: 2026, month: 1, day: 2 }, "DATE'2026-01-02'");
        check(
            Param::DateTime { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0, micros: 0 },
            "'0000-00-00 00:00:00'",
        );
        check(
            Param::Time { negative: true, hours: 100, minute: 1, second: 2, micros: 5 },
            "TIME'-100:01:02.000005'",
        );
    }

    #[test]
    fn what_has_no_literal_is_refused() {
        assert!(substitute(b"?", &[0], &[Param::Double(f64::NAN)], Mode::default()).is_err());
        assert!(substitute(b"?", &[0], &[Param::Decimal(b"1;drop".to_vec())], Mode::default()).is_err());
        assert!(substitute(b"?", &[0], &[], Mode::default()).is_err());
    }

    #[test]
    fn backslashes_follow_the_mode() {
        let mode = Mode { no_backslash_escapes: true, ..Mode::default() };
        assert_eq!(substitute(b"?", &[0], &[Param::Text(b"\\".to_vec())], mode), Ok(b" '\\' ".to_vec()));
    }
}
