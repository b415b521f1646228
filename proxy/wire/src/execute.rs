//! `COM_STMT_EXECUTE` and `COM_STMT_BULK_EXECUTE`: the values of the parameters.

use crate::Malformed;
use crate::attributes::{Attribute, Attributes, is_null, named_types};
use crate::caps::client;
use crate::read::{Reader, put_lenenc, put_lenenc_bytes};

/// A parameter's type: the type byte, and whether it is unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamType {
    /// `MYSQL_TYPE_*`
    pub kind: u8,
    /// The flag byte's highest bit.
    pub unsigned: bool,
}

/// What a type is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamClass {
    /// Integers, FLOAT, DOUBLE and NULL.
    Number,
    /// Texts and bytes.
    Text,
    /// DECIMAL, dates and times.
    Other,
}

impl ParamType {
    /// What it is made of.
    pub fn class(self) -> ParamClass {
        match self.kind {
            1..=6 | 8 => ParamClass::Number,
            15 | 247..=254 => ParamClass::Text,
            _ => ParamClass::Other,
        }
    }

    pub(crate) fn parse(r: &mut Reader<'_>) -> Result<ParamType, Malformed> {
        let (kind, flags) = (r.u8()?, r.u8()?);
        Ok(ParamType { kind, unsigned: flags & 0x80 != 0 })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind, u8::from(self.unsigned) << 7]);
    }
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

/// `PARAMETER_COUNT_AVAILABLE`: the number of parameters and attributes is in the packet though there are no
/// parameters.
const PARAMETER_COUNT_AVAILABLE: u8 = 8;

/// A parameter as the packet has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawParam {
    ty: ParamType,
    value: RawValue,
}

#[derive(Clone, Debug, PartialEq)]
enum RawValue {
    Null,
    /// The bytes that stand for it in the packet.
    Bytes(Vec<u8>),
    /// What `COM_STMT_SEND_LONG_DATA` brought; whether the packet says that it is NULL.
    Long(Vec<u8>, bool),
}

impl RawParam {
    /// Its type; `MYSQL_TYPE_NULL` for each NULL.
    pub fn type_bound(&self) -> ParamType {
        match self.value {
            RawValue::Null => ParamType { kind: 6, unsigned: false },
            RawValue::Bytes(_) | RawValue::Long(..) => self.ty,
        }
    }

    /// What `COM_STMT_SEND_LONG_DATA` brought for it.
    pub fn long_data(&self) -> Option<&[u8]> {
        match &self.value {
            RawValue::Long(data, _) => Some(data),
            RawValue::Null | RawValue::Bytes(_) => None,
        }
    }
}

/// What a `COM_STMT_EXECUTE` brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Execution {
    /// The parameters' values.
    pub params: Vec<Param>,
    /// The same as the packet has them.
    pub raw: Vec<RawParam>,
    /// The query attributes.
    pub attributes: Attributes,
}

/// Decodes the parameters of a `COM_STMT_EXECUTE` on a connection with these capabilities. `types` are those of the
/// execution before (a client sends them once) and are replaced by what the packet brings. `long_data` says for a
/// parameter what `COM_STMT_SEND_LONG_DATA` brought.
///
/// # Errors
/// [`Malformed`] where the packet does not hold what it says.
pub fn parse_execution(
    payload: &[u8],
    params: usize,
    capabilities: u64,
    types: &mut Vec<ParamType>,
    long_data: impl Fn(usize) -> Option<Vec<u8>>,
) -> Result<Execution, Malformed> {
    let flags = ExecuteHead::parse(payload)?.flags;
    let mut r = Reader::new(payload);
    r.bytes(10)?;
    let named = capabilities & client::QUERY_ATTRIBUTES != 0;
    let mut count = params;
    if named && (params > 0 || flags & PARAMETER_COUNT_AVAILABLE != 0) {
        count = usize::try_from(r.lenenc()?).map_err(|_| Malformed("too many attributes"))?;
    }
    if count < params {
        return Err(Malformed("fewer parameters than the statement has"));
    }
    if count == 0 {
        return Ok(Execution::default());
    }
    let nulls = r.bytes(count.div_ceil(8))?;
    let mut attribute_types = Vec::new();
    match r.u8()? {
        0 => {}
        1 if named => {
            let mut all = named_types(&mut r, count)?;
            attribute_types = all.split_off(params);
            *types = all.into_iter().map(|(ty, _)| ty).collect();
        }
        1 => {
            types.clear();
            for _ in 0..params {
                types.push(ParamType::parse(&mut r)?);
            }
        }
        _ => return Err(Malformed("parameters neither bound nor unbound")),
    }
    if types.len() != params || attribute_types.len() != count - params {
        return Err(Malformed("parameters without types"));
    }
    let mut values = Vec::with_capacity(params);
    let mut raw = Vec::with_capacity(params);
    for (i, ty) in types.iter().enumerate() {
        let (param, value) = if let Some(data) = long_data(i) {
            let param = if is_blob(ty.kind) { Param::Blob(data.clone()) } else { Param::Text(data.clone()) };
            (param, RawValue::Long(data, is_null(nulls, i)))
        } else if is_null(nulls, i) {
            (Param::Null, RawValue::Null)
        } else {
            let before = r.rest();
            let param = value(&mut r, *ty)?;
            (param, RawValue::Bytes(before[..before.len() - r.rest().len()].to_vec()))
        };
        values.push(param);
        raw.push(RawParam { ty: *ty, value });
    }
    let mut attributes = Vec::with_capacity(attribute_types.len());
    for (i, (ty, name)) in attribute_types.into_iter().enumerate() {
        attributes.push(Attribute::parse(&mut r, name, ty, is_null(nulls, params + i))?);
    }
    Ok(Execution { params: values, raw, attributes: Attributes::new(attributes) })
}

/// A `COM_STMT_EXECUTE`, without a cursor, of another statement with parameters and attributes that came in one: the
/// command's payload. Long data is not in it, and has to be sent before.
pub fn execution(
    statement_id: u32,
    params: &[&RawParam],
    attributes: &Attributes,
    capabilities: u64,
) -> Vec<u8> {
    let named = capabilities & client::QUERY_ATTRIBUTES != 0;
    let attributes = if named { attributes.all() } else { &[] };
    let mut out = vec![crate::command::STMT_EXECUTE];
    out.extend_from_slice(&statement_id.to_le_bytes());
    out.push(if named && !attributes.is_empty() { PARAMETER_COUNT_AVAILABLE } else { 0 });
    out.extend_from_slice(&1u32.to_le_bytes());
    let count = params.len() + attributes.len();
    if count == 0 {
        return out;
    }
    if named {
        put_lenenc(&mut out, count as u64);
    }
    let nulls = out.len();
    out.resize(nulls + count.div_ceil(8), 0);
    let is_null = params
        .iter()
        .map(|param| matches!(param.value, RawValue::Null | RawValue::Long(_, true)))
        .chain(attributes.iter().map(|attribute| attribute.value.is_none()));
    for (i, _) in is_null.enumerate().filter(|(_, null)| *null) {
        if let Some(byte) = out.get_mut(nulls + i / 8) {
            *byte |= 1 << (i % 8);
        }
    }
    out.push(1); // types follow
    for param in params {
        param.ty.put(&mut out);
        if named {
            put_lenenc_bytes(&mut out, b"");
        }
    }
    for attribute in attributes {
        attribute.ty.put(&mut out);
        put_lenenc_bytes(&mut out, &attribute.name);
    }
    for param in params {
        if let RawValue::Bytes(bytes) = &param.value {
            out.extend_from_slice(bytes);
        }
    }
    for value in attributes.iter().filter_map(|attribute| attribute.value.as_ref()) {
        out.extend_from_slice(value);
    }
    out
}

/// A parameter's value in `COM_STMT_BULK_EXECUTE`.
#[derive(Clone, Debug, PartialEq)]
pub enum BulkParam {
    /// A value, or NULL.
    Value(Param),
    /// The column's default.
    Default,
    /// The column is left as it is.
    Ignore,
}

/// The rows of parameters that a `COM_STMT_BULK_EXECUTE` brings, one at a time.
#[derive(Clone, Debug)]
pub struct BulkRows<'a> {
    rest: Reader<'a>,
    types: Vec<ParamType>,
    /// The answer is a result with a row for each row of parameters: see [`unit_results`].
    pub unit_results: bool,
}

/// The statement's id in a `COM_STMT_BULK_EXECUTE`.
pub fn bulk_statement_id(payload: &[u8]) -> Result<u32, Malformed> {
    let mut r = Reader::new(payload);
    r.u8()?;
    r.u32()
}

/// The flag of `COM_STMT_BULK_EXECUTE` that says that types follow.
const BULK_TYPES: u16 = 128;
/// The one that asks for a result of each row (`STMT_BULK_FLAG_SEND_UNIT_RESULTS`, MariaDB 11.5).
const BULK_UNIT_RESULTS: u16 = 64;

/// The result that a bulk execution with unit results is answered with, in the binary protocol: the columns'
/// definitions, and for each row of parameters the number that was generated for it, or 0, and how many rows it has
/// affected.
pub fn unit_results(units: &[(u64, u64)], capabilities: u64) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let column = |name: &str| {
        let mut out = b"\x03def\0\0\0".to_vec();
        put_lenenc_bytes(&mut out, name.as_bytes());
        out.push(0);
        if capabilities & client::MARIADB_EXTENDED_METADATA != 0 {
            out.push(0);
        }
        // Charset 63, 21 characters, BIGINT, NOT NULL and BINARY
        out.extend_from_slice(&[0x0c, 63, 0, 21, 0, 0, 0, 8, 0x81, 0, 0, 0, 0]);
        out
    };
    let row =
        |(id, affected): &(u64, u64)| [&[0, 0][..], &id.to_le_bytes(), &affected.to_le_bytes()].concat();
    (vec![column("Id"), column("Affected_rows")], units.iter().map(row).collect())
}

impl<'a> BulkRows<'a> {
    /// Reads the head of the packet. `types` as in [`parse_execution`].
    ///
    /// # Errors
    /// [`Malformed`], also where a flag is not known.
    pub fn parse(
        payload: &'a [u8],
        params: usize,
        types: &mut Vec<ParamType>,
    ) -> Result<BulkRows<'a>, Malformed> {
        let mut r = Reader::new(payload);
        r.bytes(5)?;
        let flags = r.u16()?;
        if flags & !(BULK_TYPES | BULK_UNIT_RESULTS) != 0 {
            return Err(Malformed("flags of a bulk execution that are not known"));
        }
        if flags & BULK_TYPES != 0 {
            types.clear();
            for _ in 0..params {
                types.push(ParamType::parse(&mut r)?);
            }
        }
        if types.len() != params || params == 0 {
            return Err(Malformed("parameters without types"));
        }
        let unit_results = flags & BULK_UNIT_RESULTS != 0;
        Ok(BulkRows { rest: r, types: types.clone(), unit_results })
    }

    /// The next row of parameters; `None` after the last.
    ///
    /// # Errors
    /// [`Malformed`] where the packet ends within a row.
    pub fn next_row(&mut self) -> Result<Option<Vec<BulkParam>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut row = Vec::with_capacity(self.types.len());
        for ty in &self.types {
            row.push(match self.rest.u8()? {
                0 => BulkParam::Value(value(&mut self.rest, *ty)?),
                1 => BulkParam::Value(Param::Null),
                2 => BulkParam::Default,
                3 => BulkParam::Ignore,
                _ => return Err(Malformed("an indicator that is not known")),
            });
        }
        Ok(Some(row))
    }
}

fn is_blob(kind: u8) -> bool {
    matches!(kind, 249..=252)
}

pub(crate) fn value(r: &mut Reader<'_>, ty: ParamType) -> Result<Param, Malformed> {
    Ok(match ty.kind {
        1 | 2 | 3 | 8 => Param::Int(r.int(ty.kind, ty.unsigned)?),
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
        15 | 247 | 248 | 253 | 254 => Param::Text(r.lenenc_bytes()?.to_vec()),
        // YEAR, INT24, BIT, JSON and GEOMETRY are no types of parameters: MySQL says so, MariaDB misreads them
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
        let execution = parse_execution(&packet(&body), 7, 0, &mut types, |_| None).unwrap();
        assert_eq!(
            execution.params,
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
        let parse = |rest: &[u8], types: &mut Vec<ParamType>, long: Option<&[u8]>| {
            let long = long.map(<[u8]>::to_vec);
            parse_execution(&packet(rest), 1, 0, types, |_| long.clone()).map(|e| e.params)
        };
        assert_eq!(parse(&[0, 0, 5], &mut types, None), Ok(vec![Param::Int(5)]));
        assert!(parse(&[0, 0, 5], &mut Vec::new(), None).is_err());
        let mut blob = vec![ParamType { kind: 252, unsigned: false }];
        let long = parse(&[0, 0], &mut blob, Some(b"long"));
        assert_eq!(long, Ok(vec![Param::Blob(b"long".to_vec())]));
    }

    #[test]
    fn attributes_stand_behind_the_parameters() {
        let on = client::QUERY_ATTRIBUTES;
        let mut types = Vec::new();
        let parse = |rest: &[u8], params, flags, types: &mut Vec<ParamType>| {
            let mut payload = packet(rest);
            payload[5] = flags;
            parse_execution(&payload, params, on, types, |_| None)
        };
        let both = parse(b"\x02\x00\x01\xfd\x00\x00\xfd\x00\x01n\x02hi\x03abc", 1, 0, &mut types).unwrap();
        assert_eq!(both.params, [Param::Text(b"hi".to_vec())]);
        assert_eq!(both.attributes.get("n"), Ok(Some(Param::Text(b"abc".to_vec()))));
        let again = parse(b"\x01\x00\x00\x02ho", 1, 0, &mut types).unwrap();
        assert_eq!((again.params, again.attributes.is_empty()), (vec![Param::Text(b"ho".to_vec())], true));
        // Attributes need their types each time
        assert!(parse(b"\x02\x00\x00\x02ho\x03abc", 1, 0, &mut types).is_err());
        assert!(parse(b"\x00\x00", 1, 0, &mut types).is_err());
        let alone = parse(b"\x01\x00\x01\xfd\x00\x01n\x03abc", 0, 8, &mut Vec::new()).unwrap();
        assert_eq!(alone.attributes.get("n"), Ok(Some(Param::Text(b"abc".to_vec()))));
        assert_eq!(parse(b"", 0, 0, &mut Vec::new()), Ok(Execution::default()));
    }

    #[test]
    fn an_execution_with_the_parameters_of_another() {
        for on in [0, client::QUERY_ATTRIBUTES] {
            let mut types = Vec::new();
            let body: &[u8] = if on == 0 {
                b"\x04\x01\xfd\x00\x08\x80\x0c\x00\xfc\x00\x03abc\x07\0\0\0\0\0\0\0"
            } else {
                b"\x05\x04\x01\xfd\x00\x00\x08\x80\x00\x0c\x00\x00\xfc\x00\x00\xfd\x00\x01n\x03abc\x07\0\0\0\0\0\0\0\x02hi"
            };
            let long = |i: usize| (i == 3).then(|| b"long".to_vec());
            let first = parse_execution(&packet(body), 4, on, &mut types, long).unwrap();
            let [text, number, null, data] = first.raw.as_slice() else { panic!() };
            assert_eq!((text.long_data(), data.long_data()), (None, Some(&b"long"[..])));
            let order = [number, text, null, text, data];
            let payload = execution(77, &order, &first.attributes, on);
            assert_eq!(ExecuteHead::parse(&payload).map(|head| head.statement_id), Ok(77));
            let long = |i: usize| (i == 4).then(|| b"long".to_vec());
            let again = parse_execution(&payload, 5, on, &mut Vec::new(), long).unwrap();
            let want: Vec<RawParam> = order.into_iter().cloned().collect();
            assert_eq!((again.raw, again.attributes), (want, first.attributes));
        }
        let none = execution(1, &[], &Attributes::default(), client::QUERY_ATTRIBUTES);
        assert_eq!(
            parse_execution(&none, 0, client::QUERY_ATTRIBUTES, &mut Vec::new(), |_| None),
            Ok(Execution::default())
        );
    }

    #[test]
    fn unit_results_are_those_of_the_server() {
        let (columns, rows) = unit_results(&[(13, 2), (0, 1)], client::MARIADB_EXTENDED_METADATA);
        assert_eq!(columns[0], b"\x03def\0\0\0\x02Id\0\0\x0c?\0\x15\0\0\0\x08\x81\0\0\0\0");
        assert_eq!(columns[1], b"\x03def\0\0\0\x0dAffected_rows\0\0\x0c?\0\x15\0\0\0\x08\x81\0\0\0\0");
        assert_eq!(rows[0], b"\0\0\x0d\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(rows.len(), 2);
        assert_eq!(unit_results(&[], 0).0[0].len(), columns[0].len() - 1);
    }

    #[test]
    fn bulk_rows() {
        let payload = b"\xfa\x03\0\0\0\x80\0\xfd\0\x03\0\0\x01x\0\x01\0\0\0\x01\x02\0\x01y\x03";
        let mut types = Vec::new();
        let mut rows = BulkRows::parse(payload, 2, &mut types).unwrap();
        let text = |t: &[u8]| BulkParam::Value(Param::Text(t.to_vec()));
        assert_eq!(rows.next_row(), Ok(Some(vec![text(b"x"), BulkParam::Value(Param::Int(1))])));
        assert_eq!(rows.next_row(), Ok(Some(vec![BulkParam::Value(Param::Null), BulkParam::Default])));
        assert_eq!(rows.next_row(), Ok(Some(vec![text(b"y"), BulkParam::Ignore])));
        assert_eq!(rows.next_row(), Ok(None));
        assert_eq!(bulk_statement_id(payload), Ok(3));
        let mut rows = BulkRows::parse(b"\xfa\x03\0\0\0\0\0\0\x01x\0", 2, &mut types).unwrap();
        assert!(rows.next_row().is_err());
        assert!(!rows.unit_results);
        assert!(BulkRows::parse(b"\xfa\x03\0\0\0\x40\0", 2, &mut types).unwrap().unit_results);
        assert!(BulkRows::parse(b"\xfa\x03\0\0\0\x20\0", 2, &mut types).is_err());
        assert!(BulkRows::parse(b"\xfa\x03\0\0\0\0\0", 2, &mut Vec::new()).is_err());
    }
}
