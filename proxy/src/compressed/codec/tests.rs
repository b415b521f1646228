use atone_wire::frame::{put_packet, take_packet};

use super::*;

const ZLIB: Algorithm = Algorithm::Zlib;

fn codec(end: End) -> Codec {
    Codec::new(ZLIB, end, BytesMut::new())
}

fn packet(seq: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_packet(&mut out, seq, &vec![b'x'; len]);
    out
}

/// Writes all of `bytes`; the numbers of the compressed packets.
fn write(from: &mut Codec, to: &mut Codec, mut bytes: &[u8]) -> Vec<u8> {
    let mut seqs = Vec::new();
    while let Some(out) = from.encode(&mut bytes) {
        seqs.push(compress::Header::peek(&out).unwrap().seq);
        to.raw.extend_from_slice(&out);
    }
    seqs
}

fn read(codec: &mut Codec) -> Vec<u8> {
    let mut out = BytesMut::new();
    while codec.decode(&mut out).unwrap() {}
    let mut seqs = Vec::new();
    while let Some((_, seq)) = take_packet(&mut out, usize::MAX).unwrap() {
        seqs.push(seq);
    }
    assert!(out.is_empty());
    seqs
}

#[test]
fn each_command_is_numbered_from_0_and_its_answer_behind_it() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    for _ in 0..3 {
        assert_eq!(write(&mut client, &mut server, &packet(0, 600_000)), [0, 1, 2]);
        assert_eq!(read(&mut server), [0]);
        assert_eq!(write(&mut server, &mut client, &packet(1, 70)), [3]);
        assert_eq!(write(&mut server, &mut client, &packet(2, 7)), [4]);
        assert_eq!(read(&mut client), [1, 2]);
    }
    // Commands without an answer
    for _ in 0..2 {
        assert_eq!(write(&mut client, &mut server, &packet(0, 5)), [0]);
        assert_eq!(read(&mut server), [0]);
    }
}

#[test]
fn a_file_of_more_than_256_packets_is_no_new_command() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    write(&mut client, &mut server, &packet(0, 5));
    read(&mut server);
    assert_eq!(write(&mut server, &mut client, &packet(1, 5)), [1]);
    read(&mut client);
    let mut seq = 1u8;
    server.expect_more(true);
    for _ in 0..600 {
        seq = seq.wrapping_add(1);
        assert_eq!(write(&mut client, &mut server, &packet(seq, 5)), [seq]);
        assert_eq!(read(&mut server), [seq]);
    }
}

#[test]
fn a_servers_frames_are_numbered_as_without_compression() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    write(&mut client, &mut server, &packet(0, 600_000));
    read(&mut server);
    // Two results, numbered anew as the server does
    let results = [packet(3, 5), packet(4, 5), packet(5, 5)].concat();
    write(&mut server, &mut client, &results);
    write(&mut server, &mut client, &packet(4, 5));
    assert_eq!(read(&mut client), [1, 2, 3, 4]);
    // A server's goodbye
    client.await_unsolicited();
    server.begin_unsolicited(0);
    write(&mut server, &mut client, &packet(0, 5));
    assert_eq!(read(&mut client), [0]);
}

#[test]
fn frames_for_a_client_are_numbered_as_servers_do() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    write(&mut client, &mut server, &packet(0, 600_000));
    read(&mut server);
    assert_eq!(write(&mut server, &mut client, &[packet(1, 5), packet(2, 5)].concat()), [3]);
    assert_eq!(write(&mut server, &mut client, &[packet(3, 5), packet(4, 5)].concat()), [4]);
    // A frame that is cut waits for its end
    let cut = [packet(5, 5), packet(6, 5), packet(7, 5)].concat();
    assert_eq!(write(&mut server, &mut client, &cut[..12]), [5]);
    assert!(write(&mut server, &mut client, &cut[12..13]).is_empty());
    assert_eq!(write(&mut server, &mut client, &cut[13..]), [6]);
    let mut out = BytesMut::new();
    while compress::decode(ZLIB, &mut client.raw, &mut out).unwrap().is_some() {}
    for seq in [3, 4, 4, 5, 5, 6, 7] {
        assert_eq!(take_packet(&mut out, 100).unwrap().unwrap().1, seq);
    }
    client.next = 7;
    // The file that the last one has asked for, for a server without compression
    server.expect_more(true);
    write(&mut client, &mut server, &[packet(8, 5), packet(9, 0)].concat());
    assert_eq!(read(&mut server), [8, 9]);
    server.expect_more(false);
    // Nobody looks at the number of a command's frame
    write(&mut client, &mut server, &packet(0, 5));
    write(&mut client, &mut server, &packet(0, 6));
    server.raw[compress::HEADER + frame::HEADER - 1] = 9;
    assert_eq!(read(&mut server), [0, 0]);
}

#[test]
fn a_client_that_miscounts_is_out_of_order() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    client.begin_unsolicited(1);
    write(&mut client, &mut server, &packet(1, 5));
    let error = server.decode(&mut BytesMut::new()).unwrap_err();
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<compress::Error>());
    assert_eq!(inner, Some(&compress::Error::OutOfOrder));
}

#[test]
fn commands_sent_ahead_are_taken_one_by_one() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    write(&mut client, &mut server, &packet(0, 5));
    write(&mut client, &mut server, &packet(0, 6));
    for _ in 0..2 {
        let mut out = BytesMut::new();
        assert!(server.decode(&mut out).unwrap());
        take_packet(&mut out, 10).unwrap().unwrap();
        assert!(out.is_empty());
        assert_eq!(write(&mut server, &mut client, &packet(1, 5)), [1]);
    }
}

#[test]
fn a_frame_for_a_client_is_in_one_packet_or_two() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    write(&mut client, &mut server, &packet(0, 5));
    read(&mut server);
    let sizes = [5, 100, 300_000, 70, frame::MAX_PAYLOAD - 4, 9, frame::MAX_PAYLOAD + 300_000, 5];
    let mut stream = Vec::new();
    let mut seq = 1;
    for size in sizes {
        seq = put_packet(&mut stream, seq, &vec![b'x'; size]);
    }
    for piece in stream.chunks(60_000) {
        write(&mut server, &mut client, piece);
    }
    // The longest go on with the numbers of what is before them, the others with the packets'
    let mut inner = BytesMut::new();
    let mut raw = client.raw.clone();
    while compress::decode(ZLIB, &mut raw, &mut inner).unwrap().is_some() {}
    let (mut walk, mut at, mut seqs) = (FrameWalk::default(), 0, Vec::new());
    while let Some((_, header)) = walk.next(&inner, &mut at) {
        seqs.push(header.seq);
    }
    assert_eq!(seqs, [1, 2, 2, 3, 4, 5, 6, 7, 9]);
    // What the packets hold: frames as a whole, and the longest in two packets
    let (mut packets, mut out) = (Vec::new(), BytesMut::new());
    while compress::decode(ZLIB, &mut client.raw, &mut out).unwrap().is_some() {
        packets.push(out.split().len());
    }
    assert_eq!(packets.iter().sum::<usize>(), stream.len());
    let whole = |sizes: &[usize]| sizes.iter().map(|size| size + frame::HEADER).sum::<usize>();
    assert_eq!(
        packets,
        [
            whole(&[5, 100]),
            whole(&[300_000]),
            whole(&[70]),
            whole(&[frame::MAX_PAYLOAD - 4]),
            whole(&[9]),
            frame::MAX_PAYLOAD,
            frame::HEADER,
            whole(&[300_000]),
            whole(&[5]),
        ]
    );
}

#[test]
fn a_command_may_come_in_crumbs() {
    let (mut client, mut server) = (codec(End::Client), codec(End::Server));
    let command = packet(0, 20);
    assert_eq!(write(&mut client, &mut server, &command[..4]), [0]);
    for (byte, seq) in command[4..].iter().zip(1..) {
        assert_eq!(write(&mut client, &mut server, &[*byte]), [seq]);
    }
    assert_eq!(read(&mut server), [0]);
    assert_eq!(write(&mut server, &mut client, &packet(1, 5)), [21]);
}
