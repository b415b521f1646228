//! Packets as clients and servers make them, by the protocol's documentation and not by the proxy's own code.

use rand::prelude::*;
use rand::rngs::StdRng;

pub(crate) mod caps {
    pub(crate) const LONG_PASSWORD: u64 = 1;
    pub(crate) const FOUND_ROWS: u64 = 1 << 1;
    pub(crate) const CONNECT_WITH_DB: u64 = 1 << 3;
    pub(crate) const LOCAL_FILES: u64 = 1 << 7;
    pub(crate) const PROTOCOL_41: u64 = 1 << 9;
    pub(crate) const TRANSACTIONS: u64 = 1 << 13;
    pub(crate) const SECURE_CONNECTION: u64 = 1 << 15;
    pub(crate) const MULTI_STATEMENTS: u64 = 1 << 16;
    pub(crate) const MULTI_RESULTS: u64 = 1 << 17;
    pub(crate) const PLUGIN_AUTH: u64 = 1 << 19;
    pub(crate) const CONNECT_ATTRS: u64 = 1 << 20;
    pub(crate) const SESSION_TRACK: u64 = 1 << 23;
    pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
    pub(crate) const OPTIONAL_METADATA: u64 = 1 << 25;
    pub(crate) const QUERY_ATTRIBUTES: u64 = 1 << 27;
    pub(crate) const PROGRESS: u64 = 1 << 32;
    pub(crate) const BULK: u64 = 1 << 34;
    pub(crate) const EXTENDED_METADATA: u64 = 1 << 35;
    pub(crate) const CACHE_METADATA: u64 = 1 << 36;

    /// What both kinds of servers offer, and what only one does.
    pub(crate) const COMMON: u64 = FOUND_ROWS
        | CONNECT_WITH_DB
        | LOCAL_FILES
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PLUGIN_AUTH
        | CONNECT_ATTRS
        | SESSION_TRACK
        | DEPRECATE_EOF;
    pub(crate) const MYSQL: u64 = COMMON | LONG_PASSWORD | OPTIONAL_METADATA | QUERY_ATTRIBUTES;
    pub(crate) const MARIADB: u64 = COMMON | PROGRESS | BULK | EXTENDED_METADATA | CACHE_METADATA;
    /// What every client asks for.
    pub(crate) const NEEDED: u64 = PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
}

pub(crate) const MORE: u16 = 8;

pub(crate) fn lenenc(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xfa => bytes[..1].to_vec(),
        0xfb..=0xffff => [&[0xfc], &bytes[..2]].concat(),
        0x1_0000..=0xff_ffff => [&[0xfd], &bytes[..3]].concat(),
        _ => [&[0xfe], &bytes[..]].concat(),
    }
}

pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    [lenenc(bytes.len() as u64), bytes.to_vec()].concat()
}

/// Appends a packet to `out` in as many frames as it takes; the next number.
pub(crate) fn put(out: &mut Vec<u8>, mut seq: u8, mut payload: &[u8]) -> u8 {
    loop {
        let (part, rest) = payload.split_at(payload.len().min(0xff_ffff));
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.push(seq);
        out.extend_from_slice(part);
        seq = seq.wrapping_add(1);
        payload = rest;
        if part.len() < 0xff_ffff {
            return seq;
        }
    }
}

pub(crate) fn greeting(rng: &mut StdRng, mariadb: bool) -> Vec<u8> {
    let offered = if mariadb { caps::MARIADB } else { caps::MYSQL };
    let mut out = vec![10];
    let version: &[u8] = if mariadb { b"5.5.5-10.11.6-MariaDB" } else { b"9.7.0" };
    out.extend_from_slice(version);
    out.push(0);
    out.extend_from_slice(&rng.random::<u32>().to_le_bytes());
    out.extend_from_slice(b"saltsalt\0");
    out.extend_from_slice(&offered.to_le_bytes()[..2]);
    out.extend_from_slice(&[45, 2, 0]);
    out.extend_from_slice(&offered.to_le_bytes()[2..4]);
    out.extend_from_slice(&[21, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&offered.to_le_bytes()[4..]);
    out.extend_from_slice(b"moresaltmore\0mysql_native_password\0");
    out
}

/// What a greeting offers.
pub(crate) fn offered(greeting: &[u8]) -> u64 {
    let version_end = 1 + greeting[1..].iter().position(|b| *b == 0).unwrap();
    let low = version_end + 1 + 4 + 9;
    let pair = |at: usize| u64::from(u16::from_le_bytes([greeting[at], greeting[at + 1]]));
    let mut out = pair(low) | pair(low + 5) << 16;
    if out & caps::LONG_PASSWORD == 0 {
        out |= (pair(low + 14) | pair(low + 16) << 16) << 32;
    }
    out
}

/// The client's answer to a greeting.
pub(crate) fn answer(capabilities: u64) -> Vec<u8> {
    let mut out = capabilities.to_le_bytes()[..4].to_vec();
    out.extend_from_slice(&(1u32 << 30).to_le_bytes());
    out.push(45);
    out.extend_from_slice(&[0; 19]);
    out.extend_from_slice(&capabilities.to_le_bytes()[4..]);
    out.extend_from_slice(b"app\0");
    out.push(20);
    out.extend_from_slice(&[b'p'; 20]);
    if capabilities & caps::CONNECT_WITH_DB != 0 {
        out.extend_from_slice(b"test\0");
    }
    out.extend_from_slice(b"mysql_native_password\0");
    if capabilities & caps::CONNECT_ATTRS != 0 {
        out.extend(text(&[text(b"_os"), text(b"none")].concat()));
    }
    out
}

/// What replies depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) capabilities: u64,
}

impl Shape {
    fn has(self, capability: u64) -> bool {
        self.capabilities & capability != 0
    }

    fn ok_with(self, head: u8, rng: &mut StdRng, status: u16) -> Vec<u8> {
        let mut out = vec![head];
        out.extend(lenenc(*[0, 1, 3, 70_000].choose(rng).unwrap()));
        out.extend(lenenc(*[0, 0, 9, 300].choose(rng).unwrap()));
        let track = self.has(caps::SESSION_TRACK) && rng.random_bool(0.3);
        let status = if track { status | 0x4000 } else { status };
        out.extend_from_slice(&status.to_le_bytes());
        out.extend_from_slice(&rng.random_range(0..3u16).to_le_bytes());
        let info: &[u8] =
            if rng.random_bool(0.3) { b"Rows matched: 1  Changed: 1  Warnings: 0" } else { b"" };
        if self.has(caps::SESSION_TRACK) {
            if track || !info.is_empty() {
                out.extend(text(info));
            }
            if track {
                // The schema is now `test`
                out.extend(text(&[&[1][..], &text(&text(b"test"))].concat()));
            }
        } else {
            out.extend_from_slice(info);
        }
        out
    }

    pub(crate) fn ok(self, rng: &mut StdRng, status: u16) -> Vec<u8> {
        self.ok_with(0, rng, status)
    }

    /// The answer to a statement that has written.
    pub(crate) fn affected(self, rows: u64, status: u16) -> Vec<u8> {
        let mut out = vec![0];
        out.extend(lenenc(rows));
        out.push(0);
        out.extend_from_slice(&status.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        let info = format!("Rows matched: {rows}  Changed: {rows}  Warnings: 0");
        out.extend(if self.has(caps::SESSION_TRACK) { text(info.as_bytes()) } else { info.into_bytes() });
        out
    }

    pub(crate) fn err(self, rng: &mut StdRng) -> Vec<u8> {
        let code = *[1064u16, 1146, 1213, 1205, 1317, 1062].choose(rng).unwrap();
        [&[0xff][..], &code.to_le_bytes(), b"#HY000", b"something is wrong"].concat()
    }

    fn eof(self, rng: &mut StdRng, status: u16) -> Vec<u8> {
        [&[0xfe][..], &rng.random_range(0..3u16).to_le_bytes(), &status.to_le_bytes()].concat()
    }

    /// What ends rows.
    fn end(self, rng: &mut StdRng, status: u16) -> Vec<u8> {
        if self.has(caps::DEPRECATE_EOF) { self.ok_with(0xfe, rng, status) } else { self.eof(rng, status) }
    }

    pub(crate) fn column(self, rng: &mut StdRng, name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in [b"def".as_slice(), b"test", b"t", b"t", name, name] {
            out.extend(text(part));
        }
        if self.has(caps::EXTENDED_METADATA) {
            out.extend(if rng.random() { text(b"") } else { text(b"\x00\x04uuid") });
        }
        out.extend_from_slice(&[0x0c, 45, 0, 0xff, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
        out
    }

    fn cells(self, rng: &mut StdRng, width: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..width {
            let length = match rng.random_range(0..40) {
                0..5 => {
                    out.push(0xfb);
                    continue;
                }
                5 => rng.random_range(251..2000),
                6 if rng.random_bool(0.1) => rng.random_range(60_000..200_000),
                _ => rng.random_range(0..20),
            };
            out.extend(text(&vec![rng.random(); length]));
        }
        out
    }

    /// A whole result: packets.
    pub(crate) fn rows(self, rng: &mut StdRng, binary: bool, status: u16) -> Vec<Vec<u8>> {
        let width = rng.random_range(1..5usize);
        let mut out = Vec::new();
        let optional = self.has(caps::OPTIONAL_METADATA) || self.has(caps::CACHE_METADATA);
        let defined = !optional || rng.random_bool(0.7);
        let mut count = lenenc(width as u64);
        if optional {
            count.push(u8::from(defined));
        }
        out.push(count);
        for _ in 0..if defined { width } else { 0 } {
            out.push(self.column(rng, b"c"));
        }
        if !self.has(caps::DEPRECATE_EOF) {
            out.push(self.eof(rng, status & !MORE));
        }
        self.only_rows(rng, binary, width, status, &mut out);
        out
    }

    /// Rows, and their end.
    pub(crate) fn only_rows(
        self,
        rng: &mut StdRng,
        binary: bool,
        width: usize,
        status: u16,
        out: &mut Vec<Vec<u8>>,
    ) {
        for _ in 0..*[0, 1, 2, 5, 40, 300].choose(rng).unwrap() {
            let cells = self.cells(rng, width);
            out.push(if binary { [&[0, 0][..], &cells].concat() } else { cells });
        }
        // An error may come in the place of the end
        out.push(if rng.random_bool(0.1) { self.err(rng) } else { self.end(rng, status) });
    }

    /// A reply with any number of results.
    pub(crate) fn results(self, rng: &mut StdRng, binary: bool) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let results = if self.has(caps::MULTI_RESULTS) { *[1, 1, 1, 2, 4].choose(rng).unwrap() } else { 1 };
        for n in 1..=results {
            let status = 2 | if n < results { MORE } else { 0 } | u16::from(rng.random::<bool>());
            if self.has(caps::PROGRESS) && rng.random_bool(0.2) {
                for _ in 0..rng.random_range(1..4) {
                    out.push(b"\xff\xff\xff\x01\x01\x02\0\0\0\x04copy".to_vec());
                }
            }
            match rng.random_range(0..10) {
                0 => {
                    out.push(self.err(rng));
                    return out;
                }
                1..5 => out.push(self.ok(rng, status)),
                _ => out.extend(self.rows(rng, binary, status)),
            }
            if out.last().is_some_and(|last| last.first() == Some(&0xff)) {
                return out;
            }
        }
        out
    }

    /// The reply to a prepare.
    pub(crate) fn prepared(self, rng: &mut StdRng, id: u32, params: u16, columns: u16) -> Vec<Vec<u8>> {
        let mut head = vec![0];
        head.extend_from_slice(&id.to_le_bytes());
        head.extend_from_slice(&columns.to_le_bytes());
        head.extend_from_slice(&params.to_le_bytes());
        head.extend_from_slice(&[0, 0, 0]);
        let mut defined = true;
        if self.has(caps::OPTIONAL_METADATA) {
            defined = rng.random_bool(0.8);
            head.push(u8::from(defined));
        }
        let mut out = vec![head];
        for (count, name) in [(params, b"?"), (columns, b"c")] {
            if count == 0 {
                continue;
            }
            for _ in 0..if defined { count } else { 0 } {
                out.push(self.column(rng, name));
            }
            if !self.has(caps::DEPRECATE_EOF) {
                out.push(self.eof(rng, 2));
            }
        }
        out
    }

    /// The reply to a field list.
    pub(crate) fn fields(self, rng: &mut StdRng) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            // The default value at its end
            out.push([self.column(rng, b"c"), vec![0xfb]].concat());
        }
        out.push(self.end(rng, 2));
        out
    }

    /// A `COM_QUERY`.
    pub(crate) fn query(self, rng: &mut StdRng, sql: &[u8]) -> Vec<u8> {
        let mut out = vec![3];
        if self.has(caps::QUERY_ATTRIBUTES) {
            let count = *[0, 0, 0, 1, 2].choose(rng).unwrap();
            out.extend_from_slice(&[count, 1]);
            if count > 0 {
                out.extend_from_slice(&[0, 1]);
                for n in 0..count {
                    out.extend_from_slice(&[0xfd, 0]);
                    out.extend(text(&[b'a' + n]));
                }
                for _ in 0..count {
                    out.extend(text(b"value"));
                }
            }
        }
        out.extend_from_slice(sql);
        out
    }

    /// A `COM_STMT_EXECUTE` with NULLs for its parameters.
    pub(crate) fn execute(self, id: u32, params: u16) -> Vec<u8> {
        let mut out = vec![0x17];
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0]);
        if params > 0 {
            let attributes = self.has(caps::QUERY_ATTRIBUTES);
            if attributes {
                out.extend(lenenc(params.into()));
            }
            out.extend(vec![0xff; usize::from(params).div_ceil(8)]);
            out.push(1);
            for _ in 0..params {
                out.extend_from_slice(&[0xfd, 0]);
                if attributes {
                    out.push(0);
                }
            }
        }
        out
    }
}
