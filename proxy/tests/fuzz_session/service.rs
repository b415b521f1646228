//! The server as the service account sees it: one table `test.t (id INT PRIMARY KEY, v VARCHAR(40))`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::packets::{put, text};

const GREETING: &[u8] = b"\x0a8.0.40\0\x07\0\0\0saltsalt\0\x0f\xa2\x2d\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\0moresaltmore\0mysql_native_password\0";
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

/// Serves until the process ends.
pub(crate) fn serve(listener: UnixListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(session(stream));
        }
    });
}

/// The rows that a statement is answered with; `None`: it answers OK.
fn rows(sql: &str) -> Option<Rows> {
    let some = |cells: &[&'static str]| cells.iter().map(|c| Some(*c)).collect::<Vec<_>>();
    if sql == "SHOW GRANTS" {
        return Some((1, vec![some(&["GRANT ALL PRIVILEGES ON *.* TO `atone`@`%`"])]));
    }
    if sql.starts_with("SHOW CREATE TABLE") {
        return Some((2, vec![some(&["t", "CREATE TABLE `t`"])]));
    }
    if !sql.trim_start().to_ascii_uppercase().starts_with("SELECT") {
        return None;
    }
    Some(if sql.contains("partial_revokes") {
        (1, vec![some(&["0"])])
    } else if sql.contains("information_schema.TRIGGERS") {
        (5, vec![])
    } else if sql.contains("TABLE_TYPE FROM") {
        (4, vec![some(&["test", "t", "InnoDB", "BASE TABLE"])])
    } else if sql.contains("CHARACTER_MAXIMUM_LENGTH") {
        // Of undo_log
        let column =
            |name, kind, chars| vec![Some(name), Some(kind), Some(kind), chars, Some("NO"), None, Some("")];
        let columns = vec![
            column("branch_id", "bigint", None),
            column("xid", "varchar", Some("128")),
            column("context", "varchar", Some("128")),
            column("rollback_info", "longblob", None),
            column("log_status", "int", None),
            column("log_created", "datetime", None),
            column("log_modified", "datetime", None),
        ];
        (7, columns)
    } else if sql.contains("information_schema.COLUMNS") {
        let id = vec![Some("id"), Some("int"), Some("int"), None, None, Some("NO"), Some(""), None];
        let charset = [Some("utf8mb4"), Some("utf8mb4_bin")];
        let v = [
            &[Some("v"), Some("varchar"), Some("varchar(40)")][..],
            &charset,
            &[Some("YES"), Some(""), None],
        ];
        (8, vec![id, v.concat()])
    } else if sql.starts_with("SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM") {
        let part = |column| vec![Some("PRIMARY"), Some(column), None];
        (3, vec![part("branch_id"), part("xid")])
    } else if sql.contains("information_schema.STATISTICS") {
        (4, vec![vec![Some("PRIMARY"), Some("id"), None, Some("0")]])
    } else if sql.contains("SELECT TABLE_TYPE, ENGINE") {
        (2, vec![some(&["BASE TABLE", "InnoDB"])])
    } else if sql.contains("information_schema") {
        (3, vec![])
    } else if sql.contains("VERSION()") {
        (1, vec![some(&["8.0.40"])])
    } else {
        (sql.matches("@@").count().max(1), vec![vec![Some("1000000"); sql.matches("@@").count().max(1)]])
    })
}

fn column() -> Vec<u8> {
    let mut out = Vec::new();
    for part in [b"def".as_slice(), b"", b"", b"", b"c", b""] {
        out.extend(text(part));
    }
    out.extend_from_slice(&[0x0c, 45, 0, 0xff, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    out
}

fn answer(sql: &str, binary: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if sql.starts_with("SHOW CREATE VIEW") {
        // ER_WRONG_OBJECT
        put(&mut out, 1, b"\xff\x43\x05#HY000'test.t' is not VIEW");
        return out;
    }
    // Only what is asked with the rights comes as several statements
    let parts: Vec<&str> = if sql.contains("SHOW GRANTS") { sql.split("; ").collect() } else { vec![sql] };
    let mut seq = 1;
    for (n, part) in parts.iter().enumerate() {
        // SERVER_MORE_RESULTS_EXISTS
        let status = if n + 1 < parts.len() { 0x0a } else { 2 };
        match rows(part) {
            Some(rows) => seq = result(&mut out, seq, rows, &[0xfe, 0, 0, status, 0], binary),
            None => seq = put(&mut out, seq, &[0, 0, 0, status, 0, 0, 0]),
        }
    }
    out
}

type Rows = (usize, Vec<Vec<Option<&'static str>>>);

/// A result set from this sequence number on; the number after it.
fn result(out: &mut Vec<u8>, seq: u8, (width, rows): Rows, end: &[u8], binary: bool) -> u8 {
    let mut seq = put(out, seq, &[width as u8]);
    for _ in 0..width {
        seq = put(out, seq, &column());
    }
    seq = put(out, seq, EOF);
    for row in rows {
        let mut packet = Vec::new();
        if binary {
            packet.push(0);
            let mut nulls = vec![0u8; (width + 9) / 8];
            for (n, cell) in row.iter().enumerate() {
                nulls[(n + 2) / 8] |= u8::from(cell.is_none()) << ((n + 2) % 8);
            }
            packet.extend(nulls);
        }
        for cell in row {
            match cell {
                Some(cell) => packet.extend(text(cell.as_bytes())),
                None if binary => {}
                None => packet.push(0xfb),
            }
        }
        seq = put(out, seq, &packet);
    }
    put(out, seq, end)
}

async fn session(mut stream: UnixStream) -> Option<()> {
    let mut out = Vec::new();
    put(&mut out, 0, GREETING);
    stream.write_all(&out).await.ok()?;
    let (mut logged_in, mut prepared) = (false, Vec::new());
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.ok()?;
        let mut payload =
            vec![0; usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16];
        stream.read_exact(&mut payload).await.ok()?;
        let mut out = Vec::new();
        let rest = String::from_utf8_lossy(payload.get(1..).unwrap_or_default()).into_owned();
        match payload.first() {
            _ if !logged_in => {
                logged_in = true;
                put(&mut out, head[3] + 1, OK);
            }
            Some(0x01) => return None,
            Some(0x03) => out = answer(&rest, false),
            Some(0x16) => {
                prepared.push(rest.clone());
                let columns = rows(&rest).map_or(0, |(width, _)| width);
                let params = rest.matches('?').count();
                let id = (prepared.len() as u32 - 1).to_le_bytes();
                let head = [&[0][..], &id, &[columns as u8, 0, params as u8, 0, 0, 0, 0]].concat();
                let mut seq = put(&mut out, 1, &head);
                for count in [params, columns] {
                    for _ in 0..count {
                        seq = put(&mut out, seq, &column());
                    }
                    if count > 0 {
                        seq = put(&mut out, seq, EOF);
                    }
                }
            }
            Some(0x17) => {
                let id = u32::from_le_bytes(payload.get(1..5)?.try_into().ok()?);
                out = answer(prepared.get(id as usize)?, true);
            }
            Some(0x19) => {}
            _ => {
                put(&mut out, 1, OK);
            }
        }
        stream.write_all(&out).await.ok()?;
    }
}
