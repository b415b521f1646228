//! Well-formed exchanges of an unbound session: every byte arrives, in both directions.

use std::io;

use rand::prelude::*;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::packets::{self, Shape, caps, put};
use crate::rig::{self, Ends, Rig};

/// What one side says, in turns.
enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

/// Who goes away, and where.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The client says QUIT.
    Quit,
    /// The client ends its side after its last command.
    HalfClose,
    /// The server goes after so many bytes.
    Server(usize),
    /// The client goes after so many bytes.
    Client(usize),
}

/// Texts in which there is nothing for Atone.
const TEXTS: [&[u8]; 12] = [
    b"SELECT 1",
    b"SELECT * FROM t WHERE a = 'x;y' -- comment",
    b"INSERT INTO t VALUES (1, '\\''), (2, \"\")",
    b"UPDATE t SET a = 1; DELETE FROM t; SELECT 2",
    b"CALL p()",
    b"BEGIN",
    b"COMMIT",
    b"SET NAMES latin1",
    b"",
    b";",
    b"\xe9\xff\x00 'unended",
    b"/*!50000 SELECT */ 1 /* \xf0\x9f\x98\x80",
];

fn frame(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    put(&mut out, seq, payload);
    out
}

fn reply(command: &[u8], packets: &[Vec<u8>]) -> Vec<u8> {
    // After the command's frames
    let mut seq = ((command.len() / 0xff_ffff) as u8).wrapping_add(1);
    let mut out = Vec::new();
    for packet in packets {
        seq = put(&mut out, seq, packet);
    }
    out
}

/// One command with its reply; statements that are prepared are remembered.
fn command(rng: &mut StdRng, shape: Shape, statements: &mut Vec<(u32, u16)>, turns: &mut Vec<Turn>) {
    let mut say = |command: Vec<u8>, packets: Vec<Vec<u8>>| {
        turns.push(Turn::Client(frame(0, &command)));
        turns.push(Turn::Server(reply(&command, &packets)));
    };
    let single =
        |rng: &mut StdRng| vec![if rng.random_bool(0.2) { shape.err(rng) } else { shape.ok(rng, 2) }];
    let about = |byte: u8, id: u32, rest: &[u8]| [&[byte][..], &id.to_le_bytes(), rest].concat();
    let statement = statements.choose(rng).copied();
    match (rng.random_range(0..24), statement) {
        (0..8, _) => {
            let mut sql = TEXTS.choose(rng).unwrap().to_vec();
            match rng.random_range(0..40) {
                0 => sql.resize(rng.random_range(50_000..80_000), b' '),
                1 if rng.random_bool(0.02) => sql.resize(0xff_ffff - 1 + rng.random_range(0..2), b' '),
                _ => {}
            }
            say(shape.query(rng, &sql), shape.results(rng, false));
        }
        (8, _) => say([&[2][..], b"test"].concat(), single(rng)),
        (9, _) => say(b"\x04t\0%".to_vec(), shape.fields(rng)),
        (10, _) => say(vec![0x0e], vec![shape.ok(rng, 2)]),
        (11, _) => say(vec![9], vec![b"Uptime: 1  Threads: 2".to_vec()]),
        (12, _) => say(vec![0x0a], shape.rows(rng, false, 2)),
        (13, _) => say(vec![*[0x0d, 0x0c, 0x07, 0x40, 0xf0].choose(rng).unwrap(), 1, 2], single(rng)),
        (14, _) => {
            say(vec![0x1f], vec![shape.ok(rng, 2)]);
            statements.clear();
        }
        (15, _) => {
            let option = rng.random_range(0..2);
            say(vec![0x1b, option, 0], vec![vec![0xfe, 0, 0, 2, 0]]);
        }
        (16..18, _) => {
            let (id, params) = (rng.random_range(1..1000), rng.random_range(0..3));
            let columns = rng.random_range(0..3);
            let text = TEXTS.choose(rng).unwrap();
            let ok = statements.len() < rig::limits().max_prepared_statements && rng.random_bool(0.9);
            let packets = if ok { shape.prepared(rng, id, params, columns) } else { vec![shape.err(rng)] };
            say([&[0x16][..], text].concat(), packets);
            if ok {
                statements.retain(|(other, _)| *other != id);
                statements.push((id, params));
            }
        }
        (18..20, Some((id, params))) => say(shape.execute(id, params), shape.results(rng, true)),
        (20, Some((id, _))) => {
            let mut packets = Vec::new();
            shape.only_rows(rng, true, 2, 2, &mut packets);
            say(about(0x1c, id, &[1, 0, 0, 0]), packets);
        }
        (21, Some((id, _))) => say(about(0x1a, id, &[]), single(rng)),
        (22, Some((id, _))) => {
            turns.push(Turn::Client(frame(0, &about(0x19, id, &[]))));
            statements.retain(|(other, _)| *other != id);
        }
        (23, Some((id, params))) if params > 0 => {
            let data = vec![b'd'; rng.random_range(0..500)];
            turns.push(Turn::Client(frame(0, &about(0x18, id, &[&[0, 0][..], &data].concat()))));
        }
        _ => {
            let command = shape.query(rng, b"LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
            if shape.capabilities & caps::LOCAL_FILES == 0 {
                return say(command, vec![shape.err(rng)]);
            }
            turns.push(Turn::Client(frame(0, &command)));
            turns.push(Turn::Server(frame(1, b"\xfbf")));
            let (mut seq, mut file) = (2, Vec::new());
            for _ in 0..*[0, 1, 3, 300].choose(rng).unwrap() {
                seq = put(&mut file, seq, &vec![b'f'; rng.random_range(1..300)]);
            }
            seq = put(&mut file, seq, b"");
            turns.push(Turn::Client(file));
            turns.push(Turn::Server(frame(seq, &shape.ok(rng, 2))));
        }
    }
}

/// The rest of a login, after the client's answer.
fn login(rng: &mut StdRng, shape: Shape, turns: &mut Vec<Turn>) {
    let mut seq = 2;
    if rng.random_bool(0.3) {
        turns.push(Turn::Server(frame(seq, b"\xfecaching_sha2_password\0saltsaltsaltsaltsalt\0")));
        turns.push(Turn::Client(frame(seq + 1, &[b'p'; 32])));
        seq += 2;
        // In the cache
        turns.push(Turn::Server(frame(seq, b"\x01\x03")));
        seq += 1;
    }
    turns.push(Turn::Server(frame(seq, &shape.ok(rng, 2))));
}

/// Writes `bytes`, in pieces of any size.
async fn write(rng: &mut StdRng, to: &mut (impl AsyncWriteExt + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let most = if rng.random_bool(0.7) { bytes.len() } else { bytes.len().min(600) };
        let (piece, rest) = bytes.split_at(rng.random_range(1..=most));
        to.write_all(piece).await?;
        bytes = rest;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn read_packet(from: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let mut payload = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16];
    from.read_exact(&mut payload).await?;
    Ok(payload)
}

/// The end of the last whole frame in the first `cut` bytes.
fn whole_frames(bytes: &[u8], cut: usize) -> usize {
    let mut at = 0;
    while at + 4 <= cut {
        let length =
            usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8 | usize::from(bytes[at + 2]) << 16;
        if at + 4 + length > cut {
            break;
        }
        at += 4 + length;
    }
    at
}

pub(crate) async fn case(rig: &mut Rig, mut rng: StdRng) -> Result<(), String> {
    let Ends { mut client, mut server, session } = rig.session().await;
    let mariadb = rng.random();
    let told = packets::greeting(&mut rng, mariadb);
    let failed = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    server.write_all(&frame(0, &told)).await.map_err(failed("greeting"))?;
    let heard = read_packet(&mut client).await.map_err(failed("greeting"))?;
    let offered = packets::offered(&heard);
    let kept = packets::offered(&told) & !offered;
    if kept != 0 {
        return Err(format!("capabilities {kept:#x} are not offered"));
    }
    let capabilities = rng.random::<u64>() & offered | caps::NEEDED;
    let shape = Shape { capabilities };
    let answer = packets::answer(capabilities);
    client.write_all(&frame(1, &answer)).await.map_err(failed("answer"))?;
    let arrived = read_packet(&mut server).await.map_err(failed("answer"))?;
    if arrived != answer {
        return Err(format!("the client's answer {answer:?} came as {arrived:?}"));
    }

    let mut turns = Vec::new();
    login(&mut rng, shape, &mut turns);
    let login_bytes = sum(&turns);
    let mut statements = Vec::new();
    for _ in 0..rng.random_range(0..20) {
        command(&mut rng, shape, &mut statements, &mut turns);
    }
    let (client_bytes, server_bytes) = sum(&turns);
    let ending = match rng.random_range(0..4) {
        0 => Ending::Quit,
        1 => Ending::HalfClose,
        2 => Ending::Server(rng.random_range(login_bytes.1..=server_bytes)),
        _ => Ending::Client(rng.random_range(login_bytes.0..=client_bytes)),
    };
    if let Ending::Quit = ending {
        turns.push(Turn::Client(frame(0, &[1])));
    }
    let ahead = rng.random_bool(0.5);

    // How many bytes the client has received, for one that waits for replies
    let (received_so_far, mut progress) = watch::channel(0);
    let (mut from_proxy, mut to_proxy) = client.into_split();
    let read_seed = rng.random();
    let reads = tokio::spawn(async move {
        let mut rng = StdRng::seed_from_u64(read_seed);
        let mut received = Vec::new();
        let mut piece = vec![0; 100_000];
        loop {
            let most = if rng.random_bool(0.2) { rng.random_range(1..50) } else { piece.len() };
            match from_proxy.read(&mut piece[..most]).await {
                Ok(0) | Err(_) => return received,
                Ok(n) => received.extend_from_slice(&piece[..n]),
            }
            received_so_far.send_replace(received.len());
        }
    });
    let mut client_rng = StdRng::seed_from_u64(rng.random());
    let said: Vec<u8> = turns
        .iter()
        .flat_map(|t| if let Turn::Server(b) = t { b.as_slice() } else { &[] })
        .copied()
        .collect();
    let asked: Vec<u8> = turns
        .iter()
        .flat_map(|t| if let Turn::Client(b) = t { b.as_slice() } else { &[] })
        .copied()
        .collect();

    let client_side = async {
        let (mut wrote, mut expected) = (0, 0);
        for (n, turn) in turns.iter().enumerate() {
            match turn {
                Turn::Server(bytes) => expected += bytes.len(),
                Turn::Client(bytes) => {
                    // Nothing is sent ahead of the login's end
                    let logged_in = expected >= login_bytes.1;
                    if (!ahead || !logged_in || n == 0 || expected == login_bytes.1)
                        && progress.wait_for(|got| *got >= expected).await.is_err()
                    {
                        break;
                    }
                    let left = match ending {
                        Ending::Client(cut) => bytes.len().min(cut.saturating_sub(wrote)),
                        _ => bytes.len(),
                    };
                    wrote += left;
                    // The server may be gone
                    if write(&mut client_rng, &mut to_proxy, &bytes[..left]).await.is_err()
                        || left < bytes.len()
                    {
                        break;
                    }
                }
            }
        }
        match ending {
            Ending::HalfClose => {
                let _ = to_proxy.shutdown().await;
                Some(to_proxy)
            }
            Ending::Client(_) => {
                reads.abort();
                None
            }
            Ending::Quit | Ending::Server(_) => Some(to_proxy),
        }
    };
    let mut server_rng = StdRng::seed_from_u64(rng.random());
    let server_side = async {
        let (mut wrote, mut got) = (0, Vec::new());
        for turn in &turns {
            match turn {
                Turn::Client(bytes) => {
                    let begin = got.len();
                    got.resize(begin + bytes.len(), 0);
                    let mut at = begin;
                    while at < got.len() {
                        match server.read(&mut got[at..]).await {
                            Ok(0) | Err(_) => {
                                got.truncate(at);
                                return got;
                            }
                            Ok(n) => at += n,
                        }
                    }
                }
                Turn::Server(bytes) => {
                    let left = match ending {
                        Ending::Server(cut) => bytes.len().min(cut - wrote),
                        _ => bytes.len(),
                    };
                    wrote += left;
                    if write(&mut server_rng, &mut server, &bytes[..left]).await.is_err()
                        || left < bytes.len()
                    {
                        return got;
                    }
                }
            }
        }
        if let Ending::HalfClose | Ending::Client(_) = ending {
            let _ = server.read_to_end(&mut got).await;
        }
        drop(server);
        got
    };
    let (kept_open, got) = tokio::join!(client_side, server_side);
    let received = reads.await.unwrap_or_default();
    drop(kept_open);
    rig::ended(session).await?;
    check(ending, &asked, &said, &got, &received)
}

fn sum(turns: &[Turn]) -> (usize, usize) {
    turns.iter().fold((0, 0), |(client, server), turn| match turn {
        Turn::Client(bytes) => (client + bytes.len(), server),
        Turn::Server(bytes) => (client, server + bytes.len()),
    })
}

fn check(ending: Ending, asked: &[u8], said: &[u8], got: &[u8], received: &[u8]) -> Result<(), String> {
    let differ = |what: &str, sent: &[u8], came: &[u8]| {
        let at = sent.iter().zip(came).position(|(a, b)| a != b).unwrap_or(sent.len().min(came.len()));
        let around =
            |bytes: &[u8]| format!("{:02x?}", &bytes[at.saturating_sub(20)..bytes.len().min(at + 20)]);
        Err(format!(
            "{ending:?}: {what}: {} bytes were sent, {} came, and differ at {at}: {} came as {}",
            sent.len(),
            came.len(),
            around(sent),
            around(came)
        ))
    };
    if !asked.starts_with(got) {
        return differ("commands", asked, got);
    }
    let needed = match ending {
        Ending::Quit | Ending::HalfClose if got.len() < asked.len() => {
            return differ("all commands", asked, got);
        }
        Ending::Quit | Ending::HalfClose => said.len(),
        Ending::Server(cut) => whole_frames(said, cut),
        Ending::Client(_) => return Ok(()),
    };
    if !said.starts_with(received) || received.len() < needed {
        return differ("replies", said, received);
    }
    Ok(())
}
