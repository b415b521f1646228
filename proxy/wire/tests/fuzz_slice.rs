//! Throws mutated packets at every decoder, for `ATONE_FUZZ_SECONDS` (default 2): none may panic, the reply tracker
//! must find the same end however its input is cut, and no decoder may take more than it was given. The seed is printed
//! and can be set by `ATONE_FUZZ_SEED`.

#![allow(clippy::unwrap_used, clippy::panic)] // choose() of a list that is not empty; what a fuzzer finds

use std::time::{Duration, Instant};

use atone_wire::attributes::parse_query;
use atone_wire::caps::client;
use atone_wire::column::text_row;
use atone_wire::compress::{self, Algorithm};
use atone_wire::execute::{BulkRows, ExecuteHead, ParamType, parse_execution};
use atone_wire::frame::{FrameWalk, MAX_PAYLOAD, put_packet, take_packet};
use atone_wire::handshake::{ClientHello, Greeting, PluginRequest, Proof, zstd_level_at};
use atone_wire::proxy_protocol::{self, Origin};
use atone_wire::reply::{Expect, Next, ReplyTracker};
use atone_wire::response::{ErrPacket, OkPacket, parse_eof};
use bytes::BytesMut;
use rand::prelude::*;
use rand::rngs::StdRng;

/// Packets as servers and clients send them: what mutations start from.
fn corpus() -> Vec<Vec<u8>> {
    let greeting = b"\x0a5.5.5-10.11.6-MariaDB\0\x07\0\0\0saltsalt\0\xfe\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0moresaltmore\0mysql_native_password\0";
    let mut hello = vec![0x85, 0xa6, 0xff, 0x01, 0, 0, 0, 1, 45];
    hello.extend_from_slice(&[0; 23]);
    hello.extend_from_slice(b"app\0\x14aaaaaaaaaaaaaaaaaaaabank\0mysql_native_password\0");
    let mut execute = vec![0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
    execute.extend_from_slice(&[8, 0, 253, 0, 12, 0, 11, 0, 5, 0, 246, 0]);
    execute.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 3]);
    execute.extend_from_slice(
        b"abc\x0b\xea\x07\x0b\x15\x17\x3b\x3a\x40\x42\x0f\x00\x08\x01\x01\0\0\0\x02\x03\x04",
    );
    execute.extend_from_slice(&1.5f64.to_le_bytes());
    execute.extend_from_slice(b"\x041.25");
    vec![
        greeting.to_vec(),
        hello,
        execute,
        vec![0, 1, 0, 2, 0, 0, 0],
        vec![0, 1, 0, 10, 0, 0, 0],
        vec![0xfe, 0, 0, 2, 0],
        vec![0xfe, 0, 0, 3, 0, 1, 0],
        b"\xff\xbd\x04#40001Deadlock found".to_vec(),
        vec![2],
        vec![0xfb, b'f'],
        b"\x03def\x04bank\x01t\x01t\x02id\x02id\x0c\x3f\0\x0b\0\0\0\x03\x03\x42\0\0\0".to_vec(),
        b"\x011\x03abc\xfb".to_vec(),
        vec![0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0],
        b"Uptime: 5  Threads: 1".to_vec(),
        b"\x03\x02\x01\x00\x01\xfd\x00\x01n\x08\x80\x01i\x03abc\x07\0\0\0\0\0\0\0SELECT 1".to_vec(),
        b"\x17\x01\0\0\0\x08\x01\0\0\0\x02\x00\x01\xfd\x00\x00\xfd\x00\x01n\x02hi\x03abc".to_vec(),
        b"\xfa\x03\0\0\0\x80\0\xfd\0\x03\0\0\x01x\0\x01\0\0\0\x01\x02\0\x01y\x03".to_vec(),
        vec![2, 0],
        b"\xff\xff\xff\x01\x01\x02\0\0\0\x04copy".to_vec(),
    ]
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => {
                bytes[at] = *[0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff].choose(rng).unwrap()
            }
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.random()),
            _ => {
                let tail: Vec<u8> = (0..rng.random_range(0..12)).map(|_| rng.random()).collect();
                bytes.extend(tail);
            }
        }
    }
}

fn decode_all(rng: &mut StdRng, payload: &[u8]) {
    let _ = OkPacket::parse(payload).map(|ok| ok.without_session_state(rng.random()).encode());
    let _ = ErrPacket::parse(payload).map(|e| e.encode());
    let _ = parse_eof(payload);
    let _ = text_row(payload, rng.random_range(0..9));
    if let Ok(greeting) = Greeting::parse(payload) {
        greeting.offer(&mut payload.to_vec(), rng.random());
    }
    if let Ok(hello) = ClientHello::parse(payload) {
        hello.ask(&mut payload.to_vec(), rng.random());
        let _ = Proof::of_answer(payload);
    }
    let _ = zstd_level_at(payload).map(|at| assert!(at <= payload.len()));
    proxy_headers(rng);
    let _ = Proof::of_change_user(payload, rng.random());
    let _ = PluginRequest::parse(payload);
    let _ = ExecuteHead::parse(payload);
    let mut types: Vec<ParamType> = (0..rng.random_range(0..4))
        .map(|_| ParamType { kind: rng.random(), unsigned: rng.random() })
        .collect();
    let params = rng.random_range(0..9);
    let _ =
        parse_execution(payload, params, rng.random(), &mut types, |i| (i == 3).then(|| b"long".to_vec()));
    if let Ok(mut rows) = BulkRows::parse(payload, params, &mut types) {
        while let Ok(Some(_)) = rows.next_row() {}
    }
    let capabilities = rng.random();
    if let Ok((attributes, at)) = parse_query(payload, capabilities) {
        assert!(at <= payload.len());
        let _ = attributes.get("n");
        // What is written reads back the same
        let written = [&[3][..], &attributes.query_prefix(capabilities)].concat();
        let (again, end) = parse_query(&written, capabilities).unwrap();
        assert_eq!((again, end), (attributes, written.len()));
    }
}

/// A header is found at the same place however much of it is there, and what cannot be one is refused early.
fn proxy_headers(rng: &mut StdRng) {
    let address = |rng: &mut StdRng| {
        let ip: std::net::IpAddr =
            if rng.random() { rng.random::<[u8; 4]>().into() } else { rng.random::<[u8; 16]>().into() };
        std::net::SocketAddr::new(ip, rng.random())
    };
    let origin = match rng.random_range(0..4) {
        0 => Origin::Other,
        _ => Origin::Client { source: address(rng), destination: address(rng) },
    };
    let mut header = if rng.random() { proxy_protocol::v1(origin) } else { proxy_protocol::v2(origin) };
    mutate(rng, &mut header);
    let whole = proxy_protocol::parse(&header);
    let cut = proxy_protocol::parse(&header[..rng.random_range(0..=header.len())]);
    match (whole, cut) {
        (Ok(Some((len, _))), _) if len > header.len() => panic!("longer than what was given"),
        (Ok(Some(whole)), Ok(Some(cut))) => assert_eq!(whole, cut),
        (Ok(_), Err(e)) => panic!("{e} of what is fine with more"),
        _ => {}
    }
}

/// Compresses a stream and takes it apart again; then the same with bytes that were changed.
fn pack(rng: &mut StdRng, stream: &[u8]) {
    let algorithm =
        if rng.random() { Algorithm::Zlib } else { Algorithm::Zstd { level: rng.random_range(1..4) } };
    let (mut packed, mut seq) = (Vec::new(), 0u8);
    for piece in stream.chunks(rng.random_range(1..200)) {
        assert_eq!(compress::encode(algorithm, seq, piece, &mut packed), piece.len());
        seq = seq.wrapping_add(1);
    }
    let (mut raw, mut out) = (BytesMut::from(&packed[..]), BytesMut::new());
    let mut expected = 0u8;
    while let Some(seq) = compress::decode(algorithm, &mut raw, &mut out).unwrap() {
        assert_eq!(seq, expected);
        expected = expected.wrapping_add(1);
    }
    assert!(raw.is_empty() && out == stream);
    let mut walk = FrameWalk::default();
    let mut at = 0;
    while walk.next(stream, &mut at).is_some() {}

    mutate(rng, &mut packed);
    let (mut raw, mut out) = (BytesMut::from(&packed[..]), BytesMut::new());
    loop {
        let (left, had) = (raw.len(), out.len());
        match compress::decode(algorithm, &mut raw, &mut out) {
            Ok(Some(_)) => assert!(raw.len() < left && out.len() - had <= MAX_PAYLOAD),
            Ok(None) | Err(_) => {
                assert_eq!((raw.len(), out.len()), (left, had));
                break;
            }
        }
    }
}

/// Feeds `stream` in pieces; the bytes passed on and whether an end, or nonsense, was found.
fn follow(
    expect: Expect,
    capabilities: u64,
    stream: &[u8],
    mut piece: impl FnMut() -> usize,
) -> (usize, Option<bool>) {
    let mut tracker = ReplyTracker::new(expect, capabilities);
    let (mut passed, mut given) = (0, 0);
    loop {
        given = (given + piece()).min(stream.len());
        match tracker.feed(&stream[passed..given]) {
            Err(_) => return (0, Some(false)),
            Ok(fed) => {
                assert!(passed + fed.bytes <= given, "took more than it was given");
                passed += fed.bytes;
                match fed.next {
                    Next::Done => return (passed, Some(true)),
                    Next::File => tracker.file_sent(),
                    Next::More if given == stream.len() => return (passed, None),
                    Next::More => {}
                }
            }
        }
    }
}

#[test]
fn no_input_breaks_a_decoder() {
    let seconds: u64 = std::env::var("ATONE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let seed: u64 =
        std::env::var("ATONE_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("ATONE_FUZZ_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let corpus = corpus();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut ends) = (0u64, 0u64);
    while Instant::now() < end {
        for _ in 0..1000 {
            rounds += 1;
            let mut payload = corpus.choose(&mut rng).unwrap().clone();
            mutate(&mut rng, &mut payload);
            decode_all(&mut rng, &payload);
            let mut stream = Vec::new();
            let mut seq = 1;
            for _ in 0..rng.random_range(1..7) {
                let mut packet = corpus.choose(&mut rng).unwrap().clone();
                if rng.random_bool(0.2) {
                    mutate(&mut rng, &mut packet);
                }
                seq = put_packet(&mut stream, seq, &packet);
            }
            if rng.random_bool(0.2) {
                mutate(&mut rng, &mut stream);
            }
            let expects = [
                Expect::Results,
                Expect::Cursor,
                Expect::Prepare,
                Expect::FieldList,
                Expect::Rows,
                Expect::Single,
                Expect::Endless,
            ];
            let expect = *expects.choose(&mut rng).unwrap();
            let capabilities = if rng.random() { client::DEPRECATE_EOF } else { 0 };
            let whole = follow(expect, capabilities, &stream, || usize::MAX / 2);
            let cut = rng.random_range(1..9);
            assert_eq!(
                whole,
                follow(expect, capabilities, &stream, || cut),
                "seed {seed}, cut {cut}: {stream:?}"
            );
            ends += u64::from(whole.1 == Some(true));
            if rounds % 20 == 0 {
                pack(&mut rng, &stream);
            }
            let mut buf = BytesMut::from(&stream[..]);
            while let Ok(Some(_)) = take_packet(&mut buf, 1 << 16) {}
        }
    }
    println!("{rounds} rounds, {ends} replies followed to their end");
    assert!(ends > 0, "the corpus makes no whole reply");
}
