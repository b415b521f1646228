//! Rows of the binary protocol, as the text protocol has them.

use std::fmt::Write as _;

use crate::Malformed;
use crate::column::ColumnKind;
use crate::read::{Reader, put_lenenc_bytes};

/// Digits of a fraction, where the definition of a date or time does not say how many there are.
const MAX_DIGITS: u8 = 6;
/// `UNSIGNED_FLAG`
const UNSIGNED: u16 = 0x20;
/// `ColumnKind::decimals` of a number whose digits differ from value to value.
const ANY_DECIMALS: u8 = 31;

/// A `Binary Protocol Resultset Row` as a text row of the same values. A FLOAT or DOUBLE has the fewest digits by which
/// it is told from others; all else is as the server writes it, but without the zeros before a ZEROFILL.
///
/// # Errors
/// [`Malformed`]
pub fn text_of_binary(payload: &[u8], columns: &[ColumnKind]) -> Result<Vec<u8>, Malformed> {
    let mut r = Reader::new(payload);
    if r.u8()? != 0 {
        return Err(Malformed("a row without its header"));
    }
    // The bitmap begins with two bits that mean nothing
    let nulls = r.bytes((columns.len() + 2).div_ceil(8))?;
    let mut out = Vec::with_capacity(payload.len() + columns.len() * 4);
    for (i, column) in columns.iter().enumerate() {
        let bit = i + 2;
        if nulls.get(bit / 8).is_some_and(|byte| byte & 1 << (bit % 8) != 0) {
            out.push(0xfb);
            continue;
        }
        cell(&mut out, &mut r, *column)?;
    }
    if !r.is_empty() {
        return Err(Malformed("a row with more cells than columns"));
    }
    Ok(out)
}

fn cell(out: &mut Vec<u8>, r: &mut Reader<'_>, column: ColumnKind) -> Result<(), Malformed> {
    let text = match column.kind {
        1 | 2 | 3 | 8 | 9 => r.int(column.kind, column.flags & UNSIGNED != 0)?.to_string(),
        13 => format!("{:04}", r.u16()?),
        4 => {
            let value = f32::from_bits(r.u32()?);
            float(f64::from(value), &format!("{value:e}"), column.decimals)
        }
        5 => {
            let value = f64::from_bits(r.u64()?);
            float(value, &format!("{value:e}"), column.decimals)
        }
        7 | 10 | 12 => date(r, column)?,
        11 => time(r, column)?,
        _ => {
            put_lenenc_bytes(out, r.lenenc_bytes()?);
            return Ok(());
        }
    };
    put_lenenc_bytes(out, text.as_bytes());
    Ok(())
}

/// A number, with an exponent where it is very large or very small.
fn float(value: f64, shortest: &str, decimals: u8) -> String {
    if decimals < ANY_DECIMALS && value.abs() < 1e15 {
        return format!("{value:.*}", usize::from(decimals));
    }
    match shortest
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
    {
        Some((digits, exponent @ -14..=14)) => plain(digits, exponent),
        _ => shortest.to_owned(),
    }
}

/// `1.25`, `3`: `1250`.
fn plain(digits: &str, exponent: i32) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let point = i64::from(exponent) + whole.len() as i64;
    let out = match usize::try_from(point) {
        Ok(point) if point > 0 && point >= all.len() => format!("{all}{}", "0".repeat(point - all.len())),
        Ok(point) if point > 0 => format!("{}.{}", &all[..point], &all[point..]),
        _ => format!("0.{}{all}", "0".repeat(usize::try_from(-point).unwrap_or_default())),
    };
    format!("{sign}{out}")
}

fn fraction(out: &mut String, micros: u32, decimals: u8) {
    let digits = match decimals {
        0 => return,
        1..=MAX_DIGITS => usize::from(decimals),
        _ if micros == 0 => return,
        _ => usize::from(MAX_DIGITS),
    };
    let all = format!("{micros:06}");
    out.push('.');
    out.push_str(all.get(..digits).unwrap_or(&all));
}

fn date(r: &mut Reader<'_>, column: ColumnKind) -> Result<String, Malformed> {
    let len = r.u8()?;
    if !matches!(len, 0 | 4 | 7 | 11) {
        return Err(Malformed("a date of unknown length"));
    }
    let (year, month, day) = if len >= 4 { (r.u16()?, r.u8()?, r.u8()?) } else { (0, 0, 0) };
    let (hour, minute, second) = if len >= 7 { (r.u8()?, r.u8()?, r.u8()?) } else { (0, 0, 0) };
    let micros = if len == 11 { r.u32()? } else { 0 };
    let mut out = format!("{year:04}-{month:02}-{day:02}");
    if column.kind != 10 {
        let _ = write!(out, " {hour:02}:{minute:02}:{second:02}");
        fraction(&mut out, micros, column.decimals);
    }
    Ok(out)
}

fn time(r: &mut Reader<'_>, column: ColumnKind) -> Result<String, Malformed> {
    let len = r.u8()?;
    if !matches!(len, 0 | 8 | 12) {
        return Err(Malformed("a time of unknown length"));
    }
    let (negative, days) = if len >= 8 { (r.u8()? != 0, r.u32()?) } else { (false, 0) };
    let (hour, minute, second) = if len >= 8 { (r.u8()?, r.u8()?, r.u8()?) } else { (0, 0, 0) };
    let micros = if len == 12 { r.u32()? } else { 0 };
    let hours = u64::from(days) * 24 + u64::from(hour);
    let mut out = format!("{}{hours:02}:{minute:02}:{second:02}", if negative { "-" } else { "" });
    fraction(&mut out, micros, column.decimals);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::text_row;

    fn kind(kind: u8, flags: u16, decimals: u8) -> ColumnKind {
        ColumnKind { kind, collation: 63, flags, decimals }
    }

    fn one(column: ColumnKind, value: &[u8]) -> String {
        let row = [&[0, 0], value].concat();
        let text = text_of_binary(&row, &[column]).unwrap();
        let cells = text_row(&text, 1).unwrap();
        String::from_utf8(cells[0].unwrap().to_vec()).unwrap()
    }

    #[test]
    fn values_of_each_type() {
        assert_eq!(one(kind(1, 0, 0), &[0xff]), "-1");
        assert_eq!(one(kind(1, UNSIGNED, 0), &[0xff]), "255");
        assert_eq!(one(kind(2, 0, 0), &[0, 0x80]), "-32768");
        assert_eq!(one(kind(9, 0, 0), &(-5i32).to_le_bytes()), "-5");
        assert_eq!(one(kind(8, UNSIGNED, 0), &u64::MAX.to_le_bytes()), "18446744073709551615");
        assert_eq!(one(kind(13, UNSIGNED, 0), &[0, 0]), "0000");
        assert_eq!(one(kind(246, 0, 2), b"\x041.50"), "1.50");
        assert_eq!(one(kind(10, 0, 0), &[4, 0xea, 7, 1, 2]), "2026-01-02");
        assert_eq!(one(kind(10, 0, 0), &[0]), "0000-00-00");
        assert_eq!(one(kind(12, 0, 0), &[4, 0xea, 7, 1, 2]), "2026-01-02 00:00:00");
        assert_eq!(
            one(kind(12, 0, 3), &[11, 0xea, 7, 1, 2, 3, 4, 5, 0x20, 0xa1, 7, 0]),
            "2026-01-02 03:04:05.500"
        );
        assert_eq!(one(kind(7, 0, 6), &[7, 0xea, 7, 1, 2, 3, 4, 5]), "2026-01-02 03:04:05.000000");
        assert_eq!(one(kind(11, 0, 0), &[8, 1, 34, 0, 0, 0, 22, 59, 58]), "-838:59:58");
        assert_eq!(one(kind(11, 0, 39), &[12, 0, 0, 0, 0, 0, 1, 2, 3, 1, 0, 0, 0]), "01:02:03.000001");
        assert_eq!(one(kind(11, 0, 0), &[0]), "00:00:00");
        assert!(text_of_binary(&[0, 0, 5], &[kind(12, 0, 0)]).is_err());
        assert!(text_of_binary(&[0, 0, 1, 1], &[kind(1, 0, 0)]).is_err());
        assert!(text_of_binary(&[1, 0, 1], &[kind(1, 0, 0)]).is_err());
        let nulls = text_of_binary(&[0, 0b100, 7], &[kind(3, 0, 0), kind(1, 0, 0)]).unwrap();
        assert_eq!(text_row(&nulls, 2).unwrap(), [None, Some(&b"7"[..])]);
    }

    #[test]
    fn numbers_are_read_back_as_they_were() {
        let double = |value: f64| one(kind(5, 0, ANY_DECIMALS), &value.to_le_bytes());
        for value in [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.1,
            12345.678,
            1e14,
            1e15,
            1e16,
            1e-5,
            1.25e-14,
            2.5e-15,
            1e300,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            0.1 + 0.2,
            9_007_199_254_740_993.0,
            123_456_789_012_345.6,
        ] {
            let text = double(value);
            assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{text}");
        }
        assert_eq!(
            [double(1.0), double(-0.0), double(7.5), double(1e15), double(0.00025)],
            ["1", "-0", "7.5", "1e15", "0.00025"]
        );
        assert_eq!(one(kind(5, 0, 2), &7.5f64.to_le_bytes()), "7.50");
        assert_eq!(one(kind(4, 0, ANY_DECIMALS), &0.1f32.to_le_bytes()), "0.1");
    }
}
