//! Commands as a client writes them, in the form that its capabilities ask for.

use super::caps;

/// `COM_QUIT`
pub const QUIT: u8 = 0x01;
/// `COM_INIT_DB`
pub const INIT_DB: u8 = 0x02;
/// `COM_QUERY`
pub const QUERY: u8 = 0x03;
/// `COM_PING`
pub const PING: u8 = 0x0e;
/// `COM_CHANGE_USER`
pub const CHANGE_USER: u8 = 0x11;
/// `COM_STMT_PREPARE`
pub const STMT_PREPARE: u8 = 0x16;
/// `COM_STMT_EXECUTE`
pub const STMT_EXECUTE: u8 = 0x17;

/// The column types that parameters have.
#[allow(missing_docs)]
pub mod types {
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// A parameter of a statement or an attribute of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The type, and 0x80 in the second byte where it is unsigned.
    kind: [u8; 2],
    /// The value as it goes over the wire; `None` is NULL.
    value: Option<Vec<u8>>,
    /// Its name, where the protocol has names.
    name: Vec<u8>,
}

impl Param {
    /// A value of this type, in the bytes that the type has on the wire.
    pub fn raw(kind: u8, value: &[u8]) -> Self {
        Self { kind: [kind, 0], value: Some(value.to_vec()), name: Vec::new() }
    }

    /// The same, unsigned.
    pub fn unsigned(kind: u8, value: &[u8]) -> Self {
        Self { kind: [kind, 0x80], ..Self::raw(kind, value) }
    }

    /// NULL, with this type.
    pub fn null(kind: u8) -> Self {
        Self { kind: [kind, 0], value: None, name: Vec::new() }
    }

    /// An INT.
    pub fn int(value: i32) -> Self {
        Self::raw(types::LONG, &value.to_le_bytes())
    }

    /// A string of this type, which has a length before it.
    pub fn bytes(kind: u8, value: &[u8]) -> Self {
        Self::raw(kind, &lenenc_bytes(value))
    }

    /// A string.
    pub fn text(value: &str) -> Self {
        Self::bytes(types::VAR_STRING, value.as_bytes())
    }

    /// A value that was or will be sent by `COM_STMT_SEND_LONG_DATA`.
    pub fn long(kind: u8) -> Self {
        Self { kind: [kind, 0], value: Some(Vec::new()), name: Vec::new() }
    }

    /// With a name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.as_bytes().to_vec();
        self
    }
}

/// A length-encoded integer.
pub fn lenenc(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xfa => bytes[..1].to_vec(),
        0xfb..=0xffff => [&[0xfc], &bytes[..2]].concat(),
        0x1_0000..=0xff_ffff => [&[0xfd], &bytes[..3]].concat(),
        _ => [&[0xfe], &bytes[..]].concat(),
    }
}

/// A length-encoded string.
pub fn lenenc_bytes(value: &[u8]) -> Vec<u8> {
    let mut out = lenenc(value.len() as u64);
    out.extend_from_slice(value);
    out
}

fn null_bits(params: &[Param]) -> Vec<u8> {
    let mut bits = vec![0_u8; params.len().div_ceil(8)];
    for (n, param) in params.iter().enumerate() {
        if param.value.is_none() {
            bits[n / 8] |= 1 << (n % 8);
        }
    }
    bits
}

fn put_types(out: &mut Vec<u8>, params: &[Param], named: bool) {
    for param in params {
        out.extend_from_slice(&param.kind);
        if named {
            out.extend_from_slice(&lenenc_bytes(&param.name));
        }
    }
}

fn put_values(out: &mut Vec<u8>, params: &[Param]) {
    for value in params.iter().filter_map(|param| param.value.as_ref()) {
        out.extend_from_slice(value);
    }
}

/// `COM_QUERY` with attributes, which are left out where the capabilities have none.
pub fn query(capabilities: u64, sql: &[u8], attributes: &[Param]) -> Vec<u8> {
    let mut out = vec![QUERY];
    if capabilities & caps::QUERY_ATTRIBUTES != 0 {
        out.extend_from_slice(&lenenc(attributes.len() as u64));
        out.push(1);
        if !attributes.is_empty() {
            out.extend_from_slice(&null_bits(attributes));
            out.push(1);
            put_types(&mut out, attributes, true);
            put_values(&mut out, attributes);
        }
    }
    out.extend_from_slice(sql);
    out
}

/// A command that is a byte and a text.
pub fn text(command: u8, text: &[u8]) -> Vec<u8> {
    let mut out = vec![command];
    out.extend_from_slice(text);
    out
}

/// A command about a statement: its id and what is after it.
pub fn statement(command: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![command];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(rest);
    out
}

/// How a statement is executed.
#[derive(Clone, Debug, Default)]
pub struct Execute {
    /// The statement.
    pub id: u32,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Attributes of the query, which are left out where the capabilities have none.
    pub attributes: Vec<Param>,
    /// 1 for a cursor that reads.
    pub cursor: u8,
    /// Leave the types out: they are as with the execution before.
    pub same_types: bool,
}

impl Execute {
    /// `COM_STMT_EXECUTE`
    pub fn payload(&self, capabilities: u64) -> Vec<u8> {
        const PARAMETER_COUNT_AVAILABLE: u8 = 8;
        let named = capabilities & caps::QUERY_ATTRIBUTES != 0;
        let mut all = self.params.clone();
        let mut flags = self.cursor;
        if named {
            all.extend_from_slice(&self.attributes);
            flags |= PARAMETER_COUNT_AVAILABLE;
        }
        let mut out = statement(STMT_EXECUTE, self.id, &[flags, 1, 0, 0, 0]);
        if named {
            out.extend_from_slice(&lenenc(all.len() as u64));
        }
        if !all.is_empty() {
            out.extend_from_slice(&null_bits(&all));
            out.push(u8::from(!self.same_types));
            if !self.same_types {
                put_types(&mut out, &all, named);
            }
            put_values(&mut out, &all);
        }
        out
    }
}
