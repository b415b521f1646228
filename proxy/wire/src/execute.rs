//! `COM_STMT_EXECUTE`: the values of the parameters.

use crate::Malformed;
use crate::read::Reader;

/// A parameter's type: the type byte, and whether it is unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamType {
    /// `MYSQL_TYPE_*`
    pub kind: u8,
    /// The flag byte's highest bit.
    pub unsigned: bool,
}

/// One parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// NULL
    Null,
    /// An integer of any width and sign.
    Int(i128),
    /// FLOAT, widened as the server does.
    Float(f32),
    /// DOUBLE
    Double(f64),
    /// DECIMAL, as text.
    Decimal(Vec<u8>),
    /// A string in the session's charset.
    Text(Vec<u8>),
    /// A string without charset.
    Blob(Vec<u8>),
    /// DATE
    Date {
        /// Year.
        year: u16,
        /// Month, 0 to 12.
        month: u8,
        /// Day, 0 to 31.
        day: u8,
    },
    /// DATETIME and TIMESTAMP
    DateTime {
        /// Year.
        year: u16,
        /// Month, 0 to 12.
        month: u8,
        /// Day, 0 to 31.
        day: u8,
        /// Hour.
        hour: u8,
        /// Minute.
        minute: u8,
        /// Second.
        second: u8,
        /// Microseconds.
        micros: u32,
    },
    /// TIME
    Time {
        /// Whether it is below zero.
        negative: bool,
        /// Hours, beyond 24 as well.
        hours: u64,
        /// Minute.
        minute: u8,
        /// Second.
        second: u8,
        /// Microseconds.
        micros: u32,
    },
}

/// The fixed part of `COM_STMT_EXECUTE`, the command byte included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecuteHead {
    /// The statement's id.
    pub statement_id: u32,
    /// Cursor flags.
    pub flags: u8,
}

impl ExecuteHead {
    /// Parses the head of the command's payload.
    pub fn parse(payload: &[u8]) -> Result<ExecuteHead, Malformed> {
        let mut r = Reader::new(payload);
        r.u8()?;
        let head = ExecuteHead { statement_id: r.u32()?, flags: r.u8()? };
        r.u32()?;
        Ok(head)
    }
}

/// Decodes the parameters of a `COM_STMT_EXECUTE`. `types` are those of the execution before (a client sends them once)
/// and are replaced by what the packet brings. `long_data` says for a parameter what `COM_STMT_SEND_LONG_DATA` brought.
pub fn parse_params(
    payload: &[u8],
    params: usize,
    types: &mut Vec<ParamType>,
    long_data: impl Fn(usize) -> Option<Vec<u8>>,
) -> Result<Vec<Param>, Malformed> {
    let mut r = Reader::new(payload);
    r.bytes(10)?;
    if params == 0 {
        return Ok(Vec::new());
    }
    let nulls = r.bytes(params.div_ceil(8))?;
    match r.u8()? {
        0 => {}
        1 => {
            types.clear();
            for _ in 0..params {
                let (kind, flags) = (r.u8()?, r.u8()?);
                types.push(ParamType { kind, unsigned: flags & 0x80 != 0 });
            }
        }
        _ => return Err(Malformed("parameters neither bound nor unbound")),
    }
    if types.len() != params {
        return Err(Malformed("parameters without types"));
    }
    let mut values = Vec::with_capacity(params);
    for (i, ty) in types.iter().enumerate() {
        let value = if let Some(data) = long_data(i) {
            if is_blob(ty.kind) { Param::Blob(data) } else { Param::Text(data) }
        } else if nulls[i / 8] & (1 << (i % 8)) != 0 {
            Param::Null
        } else {
            value(&mut r, *ty)?
        };
        values.push(value);
    }
    Ok(values)
}

fn is_blob(kind: u8) -> bool {
    matches!(kind, 249..=252)
}

fn value(r: &mut Reader<'_>, ty: ParamType) -> Result<Param, Malformed> {
    let int = |signed: i64, unsigned: u64| {
        Param::Int(if ty.unsigned { i128::from(unsigned) } else { i128::from(signed) })
    };
    Ok(match ty.kind {
        1 => {
            let v = r.u8()?;
            int(i64::from(v as i8), u64::from(v))
        }
        2 | 13 => {
            let v = r.u16()?;
            int(i64::from(v as i16), u64::from(v))
        }
        3 | 9 => {
            let v = r.u32()?;
            int(i64::from(v as i32), u64::from(v))
        }
        8 => {
            let v = r.u64()?;
            int(v as i64, v)
        }
        4 => Param::Float(f32::from_bits(r.u32()?)),
        5 => Param::Double(f64::from_bits(r.u64()?)),
        6 => Param::Null,
        7 | 12 => date_time(r)?,
        10 => match date_time(r)? {
            Param::DateTime { year, month, day, .. } => Param::Date { year, month, day },
            other => other,
        },
        11 => time(r)?,
        0 | 246 => Param::Decimal(r.lenenc_bytes()?.to_vec()),
        kind if is_blob(kind) => Param::Blob(r.lenenc_bytes()?.to_vec()),
        15 | 16 | 245 | 247 | 248 | 253 | 254 | 255 => Param::Text(r.lenenc_bytes()?.to_vec()),
        _ => return Err(Malformed("a parameter of unknown type")),
    })
}

fn date_time(r: &mut Reader<'_>) -> Result<Param, Malformed> {
    let len = r.u8()?;
    let (mut year, mut month, mut day, mut hour, mut minute, mut second, mut micros) = (0, 0, 0, 0, 0, 0, 0);
    if !matches!(len, 0 | 4 | 7 | 11) {
        return Err(Malformed("a date of unknown length"));
    }
    if len >= 4 {
        (year, month, day) = (r.u16()?, r.u8()?, r.u8()?);
    }
    if len >= 7 {
        (hour, minute, second) = (r.u8()?, r.u8()?, r.u8()?);
    }
    if len == 11 {
        micros = r.u32()?;
    }
    if month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59 || micros > 999_999 || year > 9999 {
        return Err(Malformed("a date that cannot be"));
    }
    Ok(Param::DateTime { year, month, day, hour, minute, second, micros })
}

fn time(r: &mut Reader<'_>) -> Result<Param, Malformed> {
    let len = r.u8()?;
    if !matches!(len, 0 | 8 | 12) {
        return Err(Malformed("a time of unknown length"));
    }
    if len == 0 {
        return Ok(Param::Time { negative: false, hours: 0, minute: 0, second: 0, micros: 0 });
    }
    let negative = r.u8()? != 0;
    let days = r.u32()?;
    let (hour, minute, second) = (r.u8()?, r.u8()?, r.u8()?);
    let micros = if len == 12 { r.u32()? } else { 0 };
    if hour > 23 || minute > 59 || second > 59 || micros > 999_999 {
        return Err(Malformed("a time that cannot be"));
    }
    Ok(Param::Time { negative, hours: u64::from(days) * 24 + u64::from(hour), minute, second, micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(rest: &[u8]) -> Vec<u8> {
        let mut out = vec![0x17, 9, 0, 0, 0, 0, 1, 0, 0, 0];
        out.extend_from_slice(rest);
        out
    }

    #[test]
    fn values_of_each_kind() {
        let mut types = Vec::new();
        let mut body = vec![0b0000_0100, 1];
        for (kind, flags) in [(1, 0), (8, 0x80), (3, 0), (253, 0), (12, 0), (11, 0), (5, 0)] {
            body.extend_from_slice(&[kind, flags]);
        }
        body.push(0xff);
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        body.extend_from_slice(b"\x03abc");
        body.extend_from_slice(&[7, 0xea, 7, 11, 21, 23, 59, 58]);
        body.extend_from_slice(&[8, 1, 1, 0, 0, 0, 2, 3, 4]);
        body.extend_from_slice(&1.5f64.to_le_bytes());
        let values = parse_params(&packet(&body), 7, &mut types, |_| None).unwrap();
        assert_eq!(
            values,
            [
                Param::Int(-1),
                Param::Int(i128::from(u64::MAX)),
                Param::Null,
                Param::Text(b"abc".to_vec()),
                Param::DateTime {
                    year: 2026,
                    month: 11,
                    day: 21,
                    hour: 23,
                    minute: 59,
                    second: 58,
                    micros: 0
                },
                Param::Time { negative: true, hours: 26, minute: 3, second: 4, micros: 0 },
                Param::Double(1.5),
            ]
        );
        assert_eq!(types.len(), 7);
    }

    #[test]
    fn types_are_kept_between_executions_and_needed() {
        let mut types = vec![ParamType { kind: 1, unsigned: false }];
        assert_eq!(parse_params(&packet(&[0, 0, 5]), 1, &mut types, |_| None), Ok(vec![Param::Int(5)]));
        assert!(parse_params(&packet(&[0, 0, 5]), 1, &mut Vec::new(), |_| None).is_err());
        let long =
            parse_params(&packet(&[0, 0]), 1, &mut vec![ParamType { kind: 252, unsigned: false }], |_| {
                Some(b"long".to_vec())
            });
        assert_eq!(long, Ok(vec![Param::Blob(b"long".to_vec())]));
    }
}
