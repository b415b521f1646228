//! Anything in any order: commands of bound and unbound sessions, replies that are plausible or not, and mangled bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::prelude::*;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;

use crate::coordinator::XID;
use crate::packets::{self, Shape, caps, put, text};
use crate::rig::{self, Ends, Rig};

/// How long nothing may be said until a side takes it that the other waits for something that does not come.
const SILENCE: Duration = Duration::from_millis(150);

/// Statements that a session is bound by, and that are captured, refused or passed on there.
const STATEMENTS: [&str; 34] = [
    "START GLOBAL TRANSACTION",
    "START GLOBAL TRANSACTION NAME 'a' TIMEOUT 10",
    "SET @atone_xid = 'fuzz:1'",
    "SET @atone_xid = NULL",
    "SET @atone_xid = CONCAT('fuzz', ':1')",
    "COMMIT GLOBAL TRANSACTION",
    "ROLLBACK GLOBAL TRANSACTION",
    "SELECT @atone_xid",
    "UPDATE /*+ XID('fuzz:1') */ t SET v = 'a' WHERE id = 1",
    "UPDATE t SET v = 'a' WHERE id = 1",
    "UPDATE t SET v = 'a' WHERE v LIKE 'b%' ORDER BY id LIMIT 3",
    "UPDATE t SET v = RAND()",
    "DELETE FROM t WHERE id = 1",
    "DELETE FROM t",
    "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO t (id, v) VALUES (5, 'x')",
    "INSERT IGNORE INTO t VALUES (1, 'a')",
    "REPLACE INTO t VALUES (1, 'a')",
    "INSERT INTO t VALUES (1, 'a') ON DUPLICATE KEY UPDATE v = 'c'",
    "INSERT INTO t SELECT * FROM t",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "SET autocommit = 0",
    "SET autocommit = 1",
    "SET sql_mode = 'ANSI_QUOTES'",
    "SHOW WARNINGS",
    "SELECT ROW_COUNT()",
    "SELECT * FROM t FOR UPDATE",
    "UPDATE t SET v = 1 WHERE id = 1; SELECT 1; DELETE FROM t WHERE id = 2",
    "USE test",
    "CREATE TABLE u (id INT)",
];

const PREPARED: [&str; 7] = [
    "UPDATE t SET v = ? WHERE id = ?",
    "INSERT INTO t VALUES (?, ?)",
    "DELETE FROM t WHERE id = ?",
    "SELECT * FROM t WHERE id > ?",
    "SET @atone_xid = ?",
    "COMMIT",
    "REPLACE INTO t VALUES (?, ?)",
];

/// How many undo records the servers were given: how deep sessions come.
pub(crate) static UNDO_RECORDS: AtomicU64 = AtomicU64::new(0);

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => {
                bytes[at] = *[0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff].choose(rng).unwrap();
            }
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.random()),
            4 => bytes.extend((0..rng.random_range(0..20)).map(|_| rng.random::<u8>())),
            _ => {
                let end = rng.random_range(at..=bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
        bytes.truncate(300_000);
    }
}

/// What a client sends: frames, often of commands.
fn client_says(rng: &mut StdRng, shape: Shape) -> Vec<u8> {
    let id = rng.random_range(1..5u32);
    let about = |byte: u8, rest: &[u8]| [&[byte][..], &id.to_le_bytes(), rest].concat();
    let mut payload = match rng.random_range(0..32) {
        0..12 => {
            let sql = STATEMENTS.choose(rng).unwrap();
            shape.query(rng, sql.as_bytes())
        }
        12..15 => [&[0x16][..], PREPARED.choose(rng).unwrap().as_bytes()].concat(),
        15..20 => execute(rng, shape, id),
        20 => about(0x18, &[0, 0, b'l', b'o', b'n', b'g']),
        21 => about(0x19, &[]),
        22 => about(0x1a, &[]),
        23 => about(0x1c, &[5, 0, 0, 0]),
        24 => bulk(rng, id),
        25 => vec![0x1f],
        26 => change_user(rng, shape),
        27 => vec![0x1b, rng.random_range(0..3), 0],
        28 => [&[rng.random::<u8>()][..], b"test"].concat(),
        29 => vec![0x0e],
        30 => (0..rng.random_range(0..80)).map(|_| rng.random()).collect(),
        _ if rng.random_bool(0.3) => vec![b' '; rng.random_range(50_000..70_000)],
        _ => Vec::new(),
    };
    if rng.random_bool(0.1) {
        mutate(rng, &mut payload);
    }
    let mut out = Vec::new();
    put(&mut out, if rng.random_bool(0.03) { rng.random() } else { 0 }, &payload);
    if rng.random_bool(0.02) {
        mutate(rng, &mut out);
    }
    out
}

fn execute(rng: &mut StdRng, shape: Shape, id: u32) -> Vec<u8> {
    let params = rng.random_range(0..3u16);
    if rng.random_bool(0.3) || params == 0 {
        return shape.execute(id, params);
    }
    let id = if rng.random_bool(0.05) { u32::MAX } else { id };
    let attributes = shape.capabilities & caps::QUERY_ATTRIBUTES != 0;
    let mut out = vec![0x17];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&[if attributes && rng.random() { 8 } else { 0 }, 1, 0, 0, 0]);
    if attributes {
        out.push(params as u8);
    }
    out.push(0);
    let typed = rng.random_bool(0.9);
    out.push(u8::from(typed));
    let kinds: Vec<u8> = (0..params).map(|_| *[3, 8, 0xfd, 0xfc, 5, 12, 0xf6].choose(rng).unwrap()).collect();
    for kind in if typed { kinds.as_slice() } else { &[] } {
        out.extend_from_slice(&[*kind, 0]);
        if attributes {
            let name: &[u8] = if rng.random_bool(0.3) { b"atone_xid" } else { b"" };
            out.extend(text(name));
        }
    }
    for kind in kinds {
        match kind {
            3 => out.extend_from_slice(&rng.random_range(0..300i32).to_le_bytes()),
            8 => out.extend_from_slice(&rng.random::<i64>().to_le_bytes()),
            5 => out.extend_from_slice(&1.5f64.to_le_bytes()),
            12 => out.extend_from_slice(&[4, 0xea, 7, 11, 21]),
            _ => out.extend(text(if rng.random() { XID.as_bytes() } else { b"12" })),
        }
    }
    out
}

fn bulk(rng: &mut StdRng, id: u32) -> Vec<u8> {
    let mut out = vec![0xfa];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&[0x80, 0, 3, 0, 0xfd, 0]);
    for n in 0..rng.random_range(0..4u8) {
        out.extend_from_slice(&[0, n, 0, 0, 0]);
        out.extend_from_slice(&[0, 1, b'a' + n]);
    }
    out
}

fn change_user(rng: &mut StdRng, shape: Shape) -> Vec<u8> {
    let mut out = b"\x11app\0\x02pptest\0\x2d\0mysql_native_password\0".to_vec();
    if shape.capabilities & caps::CONNECT_ATTRS != 0 && rng.random() {
        out.extend(text(&[text(b"_os"), text(b"none")].concat()));
    }
    out
}

/// How a server that keeps to the rules might answer.
struct Server {
    shape: Shape,
    in_transaction: bool,
    prepared: u32,
    /// The rows of `t` that the last statement named, and whether they are there.
    ids: Vec<String>,
    there: bool,
    /// Counts changes.
    version: u8,
}

impl Server {
    fn status(&self) -> u16 {
        2 | u16::from(self.in_transaction)
    }

    /// A result of these rows, each cell a text.
    fn table(
        &self,
        rng: &mut StdRng,
        width: usize,
        rows: &[Vec<Option<String>>],
        status: u16,
    ) -> Vec<Vec<u8>> {
        let mut count = packets::lenenc(width as u64);
        if self.shape.capabilities & (caps::OPTIONAL_METADATA | caps::CACHE_METADATA) != 0 {
            count.push(1);
        }
        let mut out = vec![count];
        for n in 0..width {
            out.push(self.shape.column(rng, if n == 0 { b"id" } else { b"v" }));
        }
        let mut eof = vec![0xfe, 0, 0];
        eof.extend_from_slice(&(status & !packets::MORE).to_le_bytes());
        if self.shape.capabilities & caps::DEPRECATE_EOF == 0 {
            out.push(eof.clone());
        }
        for row in rows {
            let cell = |cell: &Option<String>| cell.as_ref().map_or(vec![0xfb], |c| text(c.as_bytes()));
            out.push(row.iter().flat_map(cell).collect());
        }
        if self.shape.capabilities & caps::DEPRECATE_EOF == 0 {
            out.push([&[0xfe, 0, 0][..], &status.to_le_bytes()].concat());
        } else {
            out.push([&[0xfe, 0, 0][..], &status.to_le_bytes(), &[0, 0]].concat());
        }
        out
    }

    fn statement(&mut self, rng: &mut StdRng, sql: &str, more: bool) -> Vec<Vec<u8>> {
        let status = |server: &Server| server.status() | if more { packets::MORE } else { 0 };
        if rng.random_bool(0.04) {
            return vec![self.shape.err(rng)];
        }
        let upper = sql.trim().to_ascii_uppercase();
        if upper.starts_with("INSERT INTO") && upper.contains("UNDO_LOG") {
            UNDO_RECORDS.fetch_add(1, Ordering::Relaxed);
        }
        if upper.starts_with("SELECT @@SQL_MODE") {
            let mode =
                *["", "STRICT_TRANS_TABLES", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES"].choose(rng).unwrap();
            let mut row: Vec<Option<String>> = [
                mode,
                "utf8mb4",
                "utf8mb4",
                "utf8mb4",
                "1",
                "50",
                "67108864",
                "74657374",
                "utf8mb4_bin",
                "0",
                "1",
                "1",
                "1",
                "0",
            ]
            .map(|c| Some(c.into()))
            .into();
            let further = [
                ("@@resultset_metadata", "FULL"),
                ("@@skip_replication", "0"),
                (", 0", "0"),
                ("@@max_statement_time", "0"),
            ];
            let mut asked: Vec<_> =
                further.iter().filter_map(|(name, value)| Some((sql.find(name)?, *value))).collect();
            asked.sort_unstable();
            row.extend(asked.into_iter().map(|(_, value)| Some(value.into())));
            return self.table(rng, row.len(), &[row], status(self));
        }
        if upper.contains("HEX(CAST(@ATONE_XID") {
            let hex = if rng.random() { "66757a7a3a31" } else { "" };
            return self.table(rng, 1, &[vec![Some(hex.into())]], status(self));
        }
        if upper.starts_with("SELECT * FROM") && upper.ends_with("LIMIT 0") {
            return self.table(rng, 2, &[], status(self));
        }
        if upper.starts_with("SELECT") || upper.starts_with("SHOW") {
            // As many columns as the list has
            let list = upper.split(" FROM ").next().unwrap_or_default();
            let mut depth = 0;
            let commas = list.chars().filter(|c| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                *c == ',' && depth == 0
            });
            let width = commas.count() + 1;
            let value = format!("31{:02}", self.version % 100);
            let mut rows: Vec<Vec<_>> = Vec::new();
            for id in if self.there { self.ids.as_slice() } else { &[] } {
                rows.push(
                    (0..width).map(|n| Some(if n == 0 { id.clone() } else { value.clone() })).collect(),
                );
            }
            if rng.random_bool(0.1) {
                let cell =
                    |rng: &mut StdRng| rng.random_bool(0.8).then(|| rng.random_range(0..60).to_string());
                let count = *[0, 1, 2, 60].choose(rng).unwrap();
                rows = (0..count).map(|_| (0..width).map(|_| cell(rng)).collect()).collect();
            }
            return self.table(rng, width, &rows, status(self));
        }
        if upper.starts_with("START") || upper.starts_with("BEGIN") {
            self.in_transaction = true;
        } else if upper.starts_with("COMMIT") || upper.starts_with("ROLLBACK AND") || upper == "ROLLBACK" {
            self.in_transaction = false;
        }
        let writes = [" T ", "`T`"].iter().any(|name| upper.contains(name)) && !upper.contains("UNDO_LOG");
        let affected = if !writes {
            0
        } else if upper.starts_with("INSERT") || upper.starts_with("REPLACE") {
            let tuples = sql.split('(').skip(1).filter_map(|tuple| tuple.split(',').next());
            let number = |id: &&str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
            self.ids = tuples.map(str::trim).filter(number).map(str::to_owned).collect();
            self.there = true;
            self.ids.len()
        } else {
            let count = if self.there { self.ids.len() } else { 0 };
            self.there &= !upper.starts_with("DELETE");
            count
        };
        self.version = self.version.wrapping_add(1);
        if writes && rng.random_bool(0.9) {
            return vec![self.shape.affected(affected as u64, status(self))];
        }
        vec![self.shape.ok(rng, status(self))]
    }

    /// The packets that answer a command.
    fn answer(&mut self, rng: &mut StdRng, payload: &[u8]) -> Vec<Vec<u8>> {
        let rest = payload.get(1..).unwrap_or_default();
        match payload.first() {
            Some(0x03) => {
                // As many bytes as the attributes of `Shape::query` take
                let attributes = match rest.first() {
                    _ if self.shape.capabilities & caps::QUERY_ATTRIBUTES == 0 => 0,
                    Some(0) => 2,
                    Some(1) => 14,
                    _ => 24,
                };
                let sql = rest.get(attributes..).unwrap_or_default();
                let sql = String::from_utf8_lossy(sql).into_owned();
                let mut out = Vec::new();
                let mut statements = sql.split(";\n").peekable();
                while let Some(statement) = statements.next() {
                    let packets = self.statement(rng, statement, statements.peek().is_some());
                    let failed = packets.last().is_some_and(|last| last.first() == Some(&0xff));
                    out.extend(packets);
                    if failed {
                        break;
                    }
                }
                out
            }
            Some(0x16) => {
                self.prepared = self.prepared % 4 + 1;
                let params = rest.iter().filter(|b| **b == b'?').count() as u16;
                let columns = if rest.to_ascii_uppercase().starts_with(b"SELECT") { 2 } else { 0 };
                self.shape.prepared(rng, self.prepared, params, columns)
            }
            Some(0x17 | 0xfa) if rng.random() => vec![self.shape.ok(rng, self.status())],
            Some(0x17 | 0xfa) => self.shape.rows(rng, true, self.status()),
            Some(0x1c) => {
                let mut out = Vec::new();
                self.shape.only_rows(rng, true, 2, self.status(), &mut out);
                out
            }
            Some(0x18 | 0x19) => Vec::new(),
            Some(0x1b) => vec![vec![0xfe, 0, 0, 2, 0]],
            Some(0x04) => self.shape.fields(rng),
            _ => vec![self.shape.ok(rng, self.status())],
        }
    }
}

/// Reads whole frames until nothing more comes: the commands, with their last frames' numbers. `None` at the end.
async fn read_frames(from: &mut UnixStream, buffer: &mut Vec<u8>) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut piece = vec![0; 100_000];
    loop {
        let mut commands = Vec::new();
        while buffer.len() >= 4 {
            let length = usize::from(buffer[0]) | usize::from(buffer[1]) << 8 | usize::from(buffer[2]) << 16;
            if buffer.len() < 4 + length {
                break;
            }
            commands.push((buffer[3], buffer[4..4 + length].to_vec()));
            buffer.drain(..4 + length);
        }
        if !commands.is_empty() {
            return Some(commands);
        }
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&piece[..n]),
        }
    }
}

async fn serve(mut rng: StdRng, mut stream: UnixStream, mariadb: bool, capabilities: u64, odd: f64) {
    let mut out = Vec::new();
    let mut greeting = packets::greeting(&mut rng, mariadb);
    if rng.random_bool(odd) {
        mutate(&mut rng, &mut greeting);
    }
    put(&mut out, 0, &greeting);
    let mut server = Server {
        shape: Shape { capabilities },
        in_transaction: false,
        prepared: 0,
        ids: vec!["1".into()],
        there: true,
        version: 0,
    };
    let (mut buffer, mut logged_in) = (Vec::new(), false);
    loop {
        // In pieces of any size
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let most = if rng.random_bool(0.8) { rest.len() } else { rest.len().min(40) };
            let (piece, behind) = rest.split_at(rng.random_range(1..=most));
            if stream.write_all(piece).await.is_err() {
                return;
            }
            rest = behind;
            tokio::task::yield_now().await;
        }
        out.clear();
        if rng.random_bool(0.01) {
            return;
        }
        let Some(commands) = read_frames(&mut stream, &mut buffer).await else { return };
        for (number, payload) in commands {
            if logged_in && payload.first() == Some(&1) {
                return;
            }
            let mut packets = if logged_in {
                server.answer(&mut rng, &payload)
            } else if rng.random_bool(0.8) {
                logged_in = true;
                vec![server.shape.ok(&mut rng, 2)]
            } else if rng.random() {
                vec![b"\xfemysql_native_password\0saltsaltsaltsaltsalt\0".to_vec()]
            } else {
                vec![[1, 3].to_vec()]
            };
            if rng.random_bool(odd)
                && let Some(packet) = packets.choose_mut(&mut rng)
            {
                mutate(&mut rng, packet);
            }
            if rng.random_bool(odd / 4.0) {
                packets.shuffle(&mut rng);
            }
            if rng.random_bool(odd / 8.0) {
                packets.extend(server.shape.results(&mut rng, false));
            }
            let mut number = number.wrapping_add(1);
            for packet in packets {
                number = put(&mut out, number, &packet);
            }
            if rng.random_bool(odd / 4.0) {
                mutate(&mut rng, &mut out);
            }
        }
    }
}

/// Sends this, and says whether the session has taken all: one that waits for its server reads no more of its client,
/// which then waits as soon as the socket is full.
async fn all_taken(to: &mut OwnedWriteHalf, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match tokio::time::timeout(SILENCE, to.write(bytes)).await {
            Ok(Ok(taken)) if taken > 0 => bytes = &bytes[taken..],
            _ => return false,
        }
    }
    true
}

pub(crate) async fn case(rig: &mut Rig, mut rng: StdRng) -> Result<(), String> {
    let Ends { client, server, session } = rig.session().await;
    let mariadb = rng.random();
    let odd = *[0.0, 0.0, 0.03, 0.2].choose(&mut rng).unwrap();
    let offered = if mariadb { caps::MARIADB } else { caps::MYSQL };
    // A client that goes by what the server offers, or not
    let wanted =
        rng.random::<u64>() & if rng.random_bool(0.9) { offered } else { !(1 << 11 | 1 << 5 | 1 << 26) };
    let capabilities = wanted | caps::NEEDED;
    let served = tokio::spawn(serve(
        StdRng::seed_from_u64(rng.random()),
        server,
        mariadb,
        capabilities & offered,
        odd,
    ));
    let (mut from, mut to) = client.into_split();
    let (received_so_far, mut received) = watch::channel(0);
    let reads = tokio::spawn(async move {
        let mut piece = vec![0; 100_000];
        let mut total = 0;
        loop {
            match tokio::time::timeout(SILENCE, from.read(&mut piece)).await {
                Ok(Ok(n)) if n > 0 => {
                    total += n;
                    received_so_far.send_replace(total);
                }
                Ok(_) => return (total, None),
                Err(_) => return (total, Some(from)),
            }
        }
    });
    let shape = Shape { capabilities: capabilities & offered };
    let mut answer = packets::answer(capabilities);
    if rng.random_bool(odd) {
        mutate(&mut rng, &mut answer);
    }
    let mut out = Vec::new();
    put(&mut out, 1, &answer);
    if rng.random_bool(0.95) {
        // What comes before the login's end is part of it
        let greeting = packets::greeting(&mut rng, mariadb).len() + 4;
        let _ = to.write_all(&std::mem::take(&mut out)).await;
        let _ = tokio::time::timeout(SILENCE, received.wait_for(|total| *total > greeting)).await;
    }
    let bound = rng.random_bool(0.6);
    for n in 0..rng.random_range(0..25) {
        if n == 0 && bound {
            put(&mut out, 0, &shape.query(&mut rng, b"START GLOBAL TRANSACTION"));
        }
        out.extend(client_says(&mut rng, shape));
        if rng.random_bool(0.6) {
            if !all_taken(&mut to, &std::mem::take(&mut out)).await {
                break;
            }
            if rng.random_bool(0.5) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let _ = all_taken(&mut to, &out).await;
    if rng.random_bool(0.3) {
        let _ = to.shutdown().await;
    }
    let (received, kept) = reads.await.map_err(|e| e.to_string())?;
    drop((to, kept));
    // The server's side ends when the session lets go of it, or when it is cut off
    if tokio::time::timeout(SILENCE, async {
        while !served.is_finished() {
            tokio::task::yield_now().await
        }
    })
    .await
    .is_err()
    {
        served.abort();
    }
    let _ = served.await;
    rig::ended(session).await.map_err(|why| format!("{why} (mariadb {mariadb}, {received} bytes received)"))
}
