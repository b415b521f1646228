//! Compressed packets written by hand.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::own::Own;
use atone_tests::server::RAW;
use atone_tests::wire::{Greeting, Login, RawConn, Session, caps, error_packet};
use atone_tests::{Bank, Flavor};
use atone_wire::compress::{self, Algorithm};
use atone_wire::frame::{put_packet, take_packet};
use bytes::BytesMut;

/// COM_QUERY
fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_packet(&mut out, 0, &[&[3], text.as_bytes()].concat());
    out
}

const ZLIB: Algorithm = Algorithm::Zlib;

fn packed(seq: u8, piece: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(compress::encode(ZLIB, seq, piece, &mut out), piece.len());
    out
}

/// Logs in with zlib and MULTI_STATEMENTS.
async fn login(port: u16) -> Result<RawConn> {
    let mut login = Login::new(port, (RAW, "")).minimal();
    login.capabilities |= caps::COMPRESS | caps::MULTI_STATEMENTS | caps::MULTI_RESULTS;
    Ok(Session::open(&login).await?.into_conn())
}

/// Reads compressed packets until `frames` frames are there: the numbers of the former, and number and payload of
/// each of the latter.
async fn read(conn: &mut RawConn, frames: usize) -> Result<(Vec<u8>, Vec<(u8, Vec<u8>)>)> {
    let (mut seqs, mut found, mut inner) = (Vec::new(), Vec::new(), BytesMut::new());
    while found.len() < frames {
        let header = conn.bytes(compress::HEADER).await?.context("closed")?;
        let len = compress::Header::peek(&header).context("no header")?.len;
        let mut raw = header;
        raw.extend_from_slice(&conn.bytes(len).await?.context("closed")?);
        seqs.push(compress::decode(ZLIB, &mut raw, &mut inner)?.context("not whole")?);
        while let Some((payload, seq)) = take_packet(&mut inner, usize::MAX)? {
            found.push((seq, payload.to_vec()));
        }
    }
    ensure!(inner.is_empty() && found.len() == frames, "{found:?}, and {} bytes", inner.len());
    Ok((seqs, found))
}

/// The rows of `SELECT 'x'` with EOF packets: count, definition, EOF, row, EOF.
const FRAMES: usize = 5;

fn is_row(frames: &[(u8, Vec<u8>)], text: &str) -> bool {
    let row = &frames[FRAMES - 2].1;
    row.first().map(|&n| usize::from(n)) == Some(text.len()) && &row[1..] == text.as_bytes()
}

pub(crate) async fn pieces_are_cut_anywhere(s: Arc<Own>) -> Result<()> {
    for listener in [0, 1] {
        let mut conn = login(s.ports[listener]).await?;
        let command = query("SELECT 'abcdefghij'");
        for size in [1, 2, 3, 4, 5, 6, command.len()] {
            let pieces: Vec<Vec<u8>> =
                command.chunks(size).zip(0..).map(|(piece, seq)| packed(seq, piece)).collect();
            conn.send_bytes(&pieces.concat()).await?;
            let (seqs, frames) = read(&mut conn, FRAMES).await?;
            ensure!(is_row(&frames, "abcdefghij"), "{frames:?}");
            // They go on from the command's
            ensure!(usize::from(seqs[0]) == pieces.len(), "{size}: {seqs:?}");
            ensure!(frames[0].0 == seqs[0], "{size}: {frames:?}");
        }
        // Also empty ones
        conn.send_bytes(&[packed(0, b""), packed(1, &command[..3]), packed(2, b"")].concat()).await?;
        conn.send_bytes(&packed(3, &command[3..])).await?;
        let (seqs, frames) = read(&mut conn, FRAMES).await?;
        ensure!(is_row(&frames, "abcdefghij") && seqs[0] == 4, "{seqs:?} {frames:?}");
        // Several commands sent ahead, each in its own packet
        let ahead: Vec<u8> =
            (0..20).flat_map(|n| packed(0, &query(&format!("SELECT 'ahead {n:02}'")))).collect();
        conn.send_bytes(&ahead).await?;
        for n in 0..20 {
            let (seqs, frames) = read(&mut conn, FRAMES).await?;
            ensure!(is_row(&frames, &format!("ahead {n:02}")), "{frames:?}");
            ensure!(seqs[0] == 1, "{n}: {seqs:?}");
        }
        // A command without an answer before one that has one
        let close = [&[5, 0, 0, 0, 0x19][..], &[9, 0, 0, 0]].concat();
        conn.send_bytes(&[packed(0, &close), packed(0, &command)].concat()).await?;
        let (seqs, frames) = read(&mut conn, FRAMES).await?;
        ensure!(is_row(&frames, "abcdefghij") && seqs[0] == 1, "{seqs:?}");
    }
    Ok(())
}

/// The numbers of packets and frames are what the server itself gives them, as far as a client can rely on them.
pub(crate) async fn numbers_are_the_servers(s: Arc<Own>) -> Result<()> {
    let direct = s.cluster.server(Bank::One).port();
    for port in [direct, s.ports[0], s.ports[1], s.ports[2]] {
        let mut conn = login(port).await?;
        for _ in 0..2 {
            conn.send_bytes(&packed(0, &query("SELECT 'one'; DO 1; SELECT 'two'"))).await?;
            let (seqs, frames) = read(&mut conn, 2 * FRAMES + 1).await?;
            let expected: Vec<u8> = (1..).take(seqs.len()).collect();
            ensure!(seqs == expected, "{port}: {seqs:?}");
            // A client accepts the next number, or that of the packet that it came in
            let mut next = 1;
            for (seq, payload) in &frames {
                ensure!(*seq == next || seqs.contains(seq), "{port}: {seq} {payload:?}");
                next = seq.wrapping_add(1);
            }
        }
    }
    Ok(())
}

pub(crate) async fn what_is_offered(s: Arc<Own>) -> Result<()> {
    let both = caps::COMPRESS | caps::ZSTD_COMPRESSION;
    let server = match s.cluster.flavor() {
        Flavor::MariaDb => caps::COMPRESS,
        Flavor::MySql => both,
    };
    ensure!(offered(s.cluster.server(Bank::One).port()).await? == server);
    for (port, expected) in s.ports.iter().zip([server, server, server, server, 0, both]) {
        ensure!(offered(*port).await? == expected, "{expected:x}");
    }
    // What was not offered is refused
    let mut conn = RawConn::connect(s.ports[4]).await?;
    conn.read().await?;
    let asked = (caps::MINIMAL | caps::COMPRESS) & !caps::CONNECT_WITH_DB;
    let mut answer = asked.to_le_bytes()[..4].to_vec();
    answer.resize(32, 0);
    answer.extend_from_slice(b"raw\0\0");
    conn.send(1, &answer).await?;
    let (_, packet) = conn.read().await?.context("closed")?;
    let error = error_packet(&packet).context("no error packet")?;
    ensure!(error.0 == 1043 && error.1.contains("not offered"), "{error:?}");
    Ok(())
}

async fn offered(port: u16) -> Result<u64> {
    let mut conn = RawConn::connect(port).await?;
    let (_, greeting) = conn.read().await?.context("closed before the greeting")?;
    let offered = atone_wire::handshake::Greeting::parse(&greeting)?.capabilities;
    Ok(offered & (caps::COMPRESS | caps::ZSTD_COMPRESSION))
}

/// What cannot be read is answered with the server's error, and ends the connection.
pub(crate) async fn what_cannot_be_read(s: Arc<Own>) -> Result<()> {
    let command = query(&format!("SELECT '{}'", "x".repeat(200)));
    let mut lying = packed(0, &command);
    lying[4] -= 1;
    let mut bomb = packed(0, &vec![b'x'; 1 << 20]);
    bomb[4..7].copy_from_slice(&[100, 0, 0]);
    let cases = [
        (lying, 1157),
        (bomb, 1157),
        (vec![4, 0, 0, 0, 200, 0, 0, b'n', b'o', b'p', b'e'], 1157),
        (packed(7, &command), 1156),
    ];
    let mut bystander = login(s.ports[0]).await?;
    for (bytes, code) in cases {
        // Of what does not decompress MariaDB says nothing, and MySQL not even goodbye
        let direct = (code == 1156).then(|| s.cluster.server(Bank::One).port());
        for port in direct.into_iter().chain([s.ports[0], s.ports[1]]) {
            let mut conn = login(port).await?;
            conn.send_bytes(&bytes).await?;
            let (_, frames) = read(&mut conn, 1).await.with_context(|| format!("port {port}, {code}"))?;
            let error = error_packet(&frames[0].1).context("no error packet")?;
            ensure!(error.0 == code, "{port}: {error:?}");
            ensure!(conn.bytes(1).await?.is_none(), "{port}: still open");
        }
    }
    bystander.send_bytes(&packed(0, &query("SELECT 'still there'"))).await?;
    ensure!(is_row(&read(&mut bystander, FRAMES).await?.1, "still there"));
    Ok(())
}

/// What a client sends after the last packet of a change of user, before that is answered, is the new session's.
pub(crate) async fn commands_behind_a_change_of_user(s: Arc<Own>) -> Result<()> {
    let schema = s.cluster.bank_schema("behind").await?;
    for listener in [0, 1] {
        let xid = s.cluster.rest().begin(serde_json::json!({})).await?;
        let port = s.ports[listener];
        let mut greeting = RawConn::connect(port).await?;
        let plugin = Greeting::parse(&greeting.read().await?.context("closed")?.1)?.plugin;
        let mut conn = login(port).await?;
        let names =
            [&[0x11], RAW.as_bytes(), b"\0\0", schema.as_bytes(), b"\0\x2d\0", plugin.as_bytes(), b"\0"];
        let mut change = Vec::new();
        put_packet(&mut change, 0, &names.concat());
        conn.send_bytes(&packed(0, &change)).await?;
        let (seqs, frames) = read(&mut conn, 1).await?;
        ensure!(seqs == [1] && frames[0].1.first() == Some(&0xfe), "{seqs:?} {frames:?}");
        // The empty password
        let mut ahead = packed(2, &[0, 0, 0, 2]);
        for text in [&format!("SET @atone_xid = '{xid}'")[..], "UPDATE account SET balance = 0"] {
            ahead.extend_from_slice(&packed(0, &query(text)));
        }
        conn.send_bytes(&ahead).await?;
        for seq in [3, 1, 1] {
            let (seqs, frames) = read(&mut conn, 1).await?;
            ensure!(seqs == [seq] && frames[0].1.first() == Some(&0), "{seqs:?} {frames:?}");
        }
        s.cluster.rest().rollback(&xid).await?;
        let ended = s.cluster.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        ensure!(ended["branches"].as_array().map(Vec::len) == Some(1), "{ended}");
    }
    Ok(())
}
