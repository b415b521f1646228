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
fn rows(sql: &str) -> Option<(usize, Vec<Vec<Option<&'static str>>>)> {
    let some = |cells: &[&'static str]| cells.iter().map(|c| Some(*c)).collect::<Vec<_>>();
    if !sql.trim_start().to_ascii_uppercase().starts_with("SELECT") {
        return None;
    }
    Some(if sql.contains("TABLE_TYPE FROM") {
        (4, vec![some(&["test", "t", "InnoDB", "BASE TABLE"])])
    } else if sql.contains("information_schema.COLUMNS") {
        let id = vec![Some("id"), Some("int"), Some("int"), None, None, Some("NO"), Some(""), None];
        let charset = [Some("utf8mb4"), Some("utf8mb4_bin")];
        let v = [
            &[Some("v"), Some("varchar"), Some("varchar(40)")][..],
            &charset,
            &[Some("YES"), Some(""), None],
        ];
        (8, vec![id, v.concat()])
    } else if sql.contains("GROUP_CONCAT") {
        (1, vec![some(&["branch_id,xid"])])
    } else if sql.contains("information_schema.STATISTICS") {
        (4, vec![vec![Some("PRIMARY"), Some("id"), None, Some("0")]])
    } else if sql.contains("SELECT ENGINE") {
        (1, vec![some(&["InnoDB"])])
    } else if sql.contains("_PRIVILEGES") {
        (1, vec![some(&["1"])])
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
    let Some((width, rows)) = rows(sql) else {
        put(&mut out, 1, OK);
        return out;
    };
    let mut seq = put(&mut out, 1, &[width as u8]);
    for _ in 0..width {
        seq = put(&mut out, seq, &column());
    }
    seq = put(&mut out, seq, EOF);
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
        seq = put(&mut out, seq, &packet);
    }
    put(&mut out, seq, EOF);
    out
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
