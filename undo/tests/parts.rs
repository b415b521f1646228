//! Format 2: compressed records and records in several parts. Round trip, damage, mixed parts, and the golden files.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use atone_undo::record::{MAX_PARTS, MAX_STORED_BYTES};
use atone_undo::{
    Encoded, Layout, RecordError, RowChange, TableChanges, UndoRecord, Value, insert_part_sql, part_bytes,
    part_xid,
};
use common::{all_kinds, column, not_null, table, text, unique};
use proptest::collection::vec;
use proptest::prelude::*;

/// A record of `rows` rows with some text in each.
fn record(rows: usize) -> UndoRecord {
    let accounts = table(
        vec![not_null(column("id", "int", "int")), text("v", "text", "utf8mb4", "utf8mb4_general_ci")],
        vec![unique("PRIMARY", &[0])],
    );
    let image = |id: usize, v: String| Some(vec![Value::Int(id as i128), Value::Text(v)]);
    let rows = (0..rows)
        .map(|id| RowChange {
            before: image(id, format!("it's \\ é {id}")),
            after: image(id, format!("{}", id * 7919)),
        })
        .collect();
    UndoRecord {
        xid: "c0ffee:1".into(),
        branch_id: 42,
        resource: "bank1".into(),
        tables: vec![TableChanges { table: accounts, rows }],
    }
}

const ZLIB: Layout = Layout { compress_bytes: 1, part_bytes: usize::MAX };
const ZLIB_PARTS: Layout = Layout { compress_bytes: 1, part_bytes: 300 };
const JSON_PARTS: Layout = Layout { compress_bytes: 0, part_bytes: 1500 };

#[test]
fn the_layout_decides() {
    let record = record(20);
    let json = record.encode().unwrap();
    let bytes = json.rollback_info.len();
    let layout =
        |compress_bytes, part_bytes| record.encode_rows(Layout { compress_bytes, part_bytes }).unwrap();
    // Format 1 for what is neither compressed nor cut
    for same in [layout(0, bytes), layout(bytes, bytes), layout(bytes + 1, usize::MAX)] {
        assert_eq!(same, std::slice::from_ref(&json));
    }
    let zlib = layout(bytes - 1, usize::MAX);
    assert_eq!(zlib.len(), 1);
    let crc = crc32fast::hash(&zlib[0].rollback_info);
    let stored = zlib[0].rollback_info.len();
    assert_eq!(
        zlib[0].context,
        format!("format=2;encoding=json+zlib;crc32={crc:08x};bytes={bytes};stored={stored};parts=1")
    );
    assert!(stored < bytes / 2);
    assert_eq!(zlib[0].rollback_info[..4], u32::try_from(bytes).unwrap().to_le_bytes());

    let parts = layout(0, bytes - 1);
    let crc = crc32fast::hash(&json.rollback_info);
    assert_eq!(
        parts.iter().map(|p| p.context.clone()).collect::<Vec<_>>(),
        [
            format!("format=2;encoding=json;crc32={crc:08x};bytes={bytes};stored={bytes};parts=2"),
            format!(
                "format=2;part=2;parts=2;crc32={:08x};bytes=1;record={crc:08x}",
                crc32fast::hash(&parts[1].rollback_info)
            ),
        ]
    );
    assert_eq!(parts.iter().flat_map(|p| p.rollback_info.clone()).collect::<Vec<_>>(), json.rollback_info);
    for rows in [vec![json], zlib, parts, layout(1, 100), layout(0, 1000)] {
        assert_eq!(UndoRecord::parts(&rows[0].context), Ok(rows.len()));
        assert!(rows.iter().all(|row| row.context.len() <= 128));
        assert_eq!(UndoRecord::decode_rows(rows), Ok(record.clone()));
    }
}

#[test]
fn there_is_a_limit_of_parts() {
    let record = record(1000);
    let error =
        record.encode_rows(Layout { compress_bytes: 0, part_bytes: 4 }).map(|rows| rows.len()).unwrap_err();
    assert!(matches!(error, RecordError::TooManyParts { limit: MAX_PARTS, .. }), "{error}");
    // An XID so long that the column has no room for the parts' numbers
    for (length, parts) in [(128, 1), (127, 1), (126, 9), (125, 99), (124, 999), (123, MAX_PARTS)] {
        let record = UndoRecord { xid: "x".repeat(length), ..record.clone() };
        let error = record
            .encode_rows(Layout { compress_bytes: 0, part_bytes: 4 })
            .map(|rows| rows.len())
            .unwrap_err();
        assert!(matches!(error, RecordError::TooManyParts { limit, .. } if limit == parts), "{error}");
        assert!(part_xid(&record.xid, parts).len() <= 128);
    }
}

/// What a version wrote must be read for ever. `ATONE_WRITE_GOLDEN=1` writes the files anew: only for a change of the
/// format, which needs a new version.
#[test]
fn golden_records_of_version_2() {
    let record = record(30);
    for (name, layout, parts) in
        [("v2-zlib", ZLIB, 1), ("v2-zlib-parts", ZLIB_PARTS, 3), ("v2-json-parts", JSON_PARTS, 2)]
    {
        let file = |part: usize, what: &str| {
            format!("{}/tests/golden/{name}.{part}.{what}", env!("CARGO_MANIFEST_DIR"))
        };
        if std::env::var_os("ATONE_WRITE_GOLDEN").is_some() {
            for (part, row) in (1..).zip(record.encode_rows(layout).unwrap()) {
                std::fs::write(file(part, "context"), row.context).unwrap();
                std::fs::write(file(part, "rollback_info"), row.rollback_info).unwrap();
            }
        }
        let rows: Vec<Encoded> = (1..=parts)
            .map(|part| Encoded {
                context: std::fs::read_to_string(file(part, "context")).unwrap(),
                rollback_info: std::fs::read(file(part, "rollback_info")).unwrap(),
            })
            .collect();
        assert_eq!(UndoRecord::parts(&rows[0].context), Ok(parts), "{name}");
        assert_eq!(UndoRecord::decode_rows(rows).as_ref(), Ok(&record), "{name}");
    }
}

#[test]
fn damage_is_an_error() {
    let record = record(10);
    for layout in [ZLIB, ZLIB_PARTS, JSON_PARTS] {
        let rows = record.encode_rows(layout).unwrap();
        for (at, row) in rows.iter().enumerate() {
            for byte in 0..row.rollback_info.len() {
                let mut damaged = rows.clone();
                damaged[at].rollback_info[byte] ^= 1;
                assert!(matches!(UndoRecord::decode_rows(damaged), Err(RecordError::Checksum { .. })));
                let mut cut = rows.clone();
                cut[at].rollback_info.truncate(byte);
                assert!(matches!(UndoRecord::decode_rows(cut), Err(RecordError::Length { .. })));
            }
        }
    }
}

#[test]
fn contexts_are_read_to_the_letter() {
    let rows = record(10).encode_rows(ZLIB_PARTS).unwrap();
    let decode = |at: usize, from: &str, to: &str| {
        let mut rows = rows.clone();
        let context = rows[at].context.replacen(from, to, 1);
        assert_ne!(context, rows[at].context, "{from} is not there");
        rows[at].context = context;
        UndoRecord::decode_rows(rows).unwrap_err()
    };
    for (from, to) in [
        ("format=2", "format=1"),
        ("format=2", "format=3"),
        ("format=2", "format=02"),
        ("json+zlib", "json"),
        ("json+zlib", "json+zstd"),
        ("crc32=", "crc32=+"),
        ("crc32=", "crc="),
        ("bytes=", "bytes=0"),
        ("bytes=", "bytes=+"),
        ("bytes=", "bytes=-"),
        (";parts=", ";more=1;parts="),
        ("parts=", "parts=0"),
        (";stored=", ";parts="),
    ] {
        let error = decode(0, from, to);
        assert!(matches!(error, RecordError::Context { .. }), "{to}: {error}");
    }
    for (from, to) in [
        ("format=2", "format=1"),
        ("part=2", "part=1"),
        ("part=2", "part=0"),
        ("part=2", "encoding=json"),
        ("bytes=", "bytes=0"),
        ("record=", "record=+"),
    ] {
        let error = decode(1, from, to);
        assert!(matches!(error, RecordError::Context { .. }), "{to}: {error}");
    }
    let context =
        |parts: usize| format!("format=2;encoding=json;crc32=00000000;bytes=1;stored=1;parts={parts}");
    assert_eq!(UndoRecord::parts(&context(MAX_PARTS)), Ok(MAX_PARTS));
    for parts in [0, MAX_PARTS + 1] {
        assert!(matches!(UndoRecord::parts(&context(parts)), Err(RecordError::Context { .. })), "{parts}");
    }
    let stored =
        |stored: usize| format!("format=2;encoding=json+zlib;crc32=00000000;bytes=1;stored={stored};parts=1");
    assert_eq!(UndoRecord::parts(&stored(MAX_STORED_BYTES)), Ok(1));
    assert!(matches!(UndoRecord::parts(&stored(MAX_STORED_BYTES + 1)), Err(RecordError::TooLarge { .. })));
}

/// The context of a record in one row that holds these bytes.
fn fitting(bytes: usize, info: &[u8]) -> String {
    let (crc, stored) = (crc32fast::hash(info), info.len());
    format!("format=2;encoding=json+zlib;crc32={crc:08x};bytes={bytes};stored={stored};parts=1")
}

fn compressed(text: &[u8], length: u32) -> Vec<u8> {
    use std::io::Write as _;
    let mut info = length.to_le_bytes().to_vec();
    let mut encoder = flate2::write::ZlibEncoder::new(&mut info, flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap();
    info
}

#[test]
fn what_decompresses_to_more_or_less_than_it_says_is_refused() {
    let json = record(3).encode().unwrap().rollback_info;
    let length = json.len();
    let decode = |text: &[u8], says: usize| {
        let info = compressed(text, u32::try_from(says).unwrap());
        UndoRecord::decode(&fitting(says, &info), &info)
    };
    assert_eq!(decode(&json, length), Ok(record(3)));
    // A text that JSON would accept, with blanks after it
    for blanks in [1, 100_000_000] {
        let mut bomb = json.clone();
        bomb.resize(length + blanks, b' ');
        let error = decode(&bomb, length).unwrap_err();
        assert!(matches!(error, RecordError::Length { .. }), "{error}");
    }
    assert!(matches!(decode(&json, length - 1), Err(RecordError::Malformed(_) | RecordError::Length { .. })));
    assert!(matches!(decode(&json, length + 1), Err(RecordError::Length { .. })));
    // Another length before the text than in the context
    let info = compressed(&json, 7);
    assert!(matches!(UndoRecord::decode(&fitting(length, &info), &info), Err(RecordError::Malformed(_))));
    // Something after the text, the text cut, no text
    let whole = compressed(&json, u32::try_from(length).unwrap());
    let mut behind = whole.clone();
    behind.push(0);
    for bad in [&behind[..], &whole[..whole.len() - 1], &whole[..4], &whole[..3], &[]] {
        let error = UndoRecord::decode(&fitting(length, bad), bad).unwrap_err();
        assert!(matches!(error, RecordError::Malformed(_)), "{error}");
    }
}

#[test]
fn a_part_fits_its_packet() {
    let schema = "`".repeat(64);
    let xid = "x".repeat(123);
    for packet in [16 << 10, 1 << 20, 16 << 20] {
        let bytes = part_bytes(packet, 100);
        assert!(bytes > packet / 2);
        for byte in [b'x', b'\'', 0xFF] {
            let row = Encoded { context: "c".repeat(128), rollback_info: vec![byte; bytes] };
            assert!(insert_part_sql(&schema, &xid, u64::MAX, MAX_PARTS, &row).len() + 100 < packet);
        }
    }
    assert_eq!(part_bytes(0, 0), 1);
}

fn rows(record: &UndoRecord, compress_bytes: usize, part_bytes: usize) -> Vec<Encoded> {
    record.encode_rows(Layout { compress_bytes, part_bytes }).unwrap()
}

proptest! {
    #[test]
    fn records_round_trip(
        count in 0..60usize,
        bytes in vec(any::<u8>(), 0..2000),
        compress_bytes in 0..3000usize,
        part_bytes in 100..5000usize,
    ) {
        let mut record = record(count);
        let mut kinds = all_kinds();
        kinds.name = "kinds".into();
        let mut values = vec![Value::Null; kinds.columns.len()];
        values[0] = Value::Int(1);
        let at = kinds.columns.iter().position(|c| c.kind == atone_undo::Kind::Binary).unwrap();
        values[at] = Value::Bytes(bytes);
        let change = RowChange { before: Some(values), after: None };
        record.tables.push(TableChanges { table: kinds, rows: vec![change] });
        let all = rows(&record, compress_bytes, part_bytes);
        prop_assert!(all.iter().all(|row| row.rollback_info.len() <= part_bytes && row.context.len() <= 128));
        prop_assert_eq!(UndoRecord::decode_rows(all).unwrap(), record);
    }

    /// Parts that are missing, twice there, in another order, or of another record.
    #[test]
    fn parts_that_are_not_whole_are_refused(
        count in 20..60usize,
        compress_bytes in prop_oneof![Just(0usize), Just(1usize)],
        part_bytes in 50..200usize,
        at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let all = rows(&record(count), compress_bytes, part_bytes);
        let (at, to) = (at.index(all.len()), to.index(all.len()));
        let mut missing = all.clone();
        missing.remove(at);
        prop_assert!(UndoRecord::decode_rows(missing).is_err());
        let mut twice = all.clone();
        twice.insert(to, all[at].clone());
        prop_assert!(UndoRecord::decode_rows(twice).is_err());
        if at != to {
            let mut swapped = all.clone();
            swapped.swap(at, to);
            prop_assert!(UndoRecord::decode_rows(swapped).is_err());
            let mut replaced = all.clone();
            replaced[to] = all[at].clone();
            prop_assert!(UndoRecord::decode_rows(replaced).is_err());
        }
        let mut other = record(count);
        other.branch_id += 1;
        let other = rows(&other, compress_bytes, part_bytes);
        if let Some(part) = other.get(at).filter(|part| **part != all[at]) {
            let mut mixed = all.clone();
            mixed[at] = part.clone();
            prop_assert!(UndoRecord::decode_rows(mixed).is_err());
        }
    }

    #[test]
    fn decode_never_panics(
        contexts in vec("[a-z0-9=;+]{0,90}|format=2;(encoding=json(\\+zlib)?|part=[0-9]{1,5});.{0,60}", 0..4),
        info in vec(any::<u8>(), 0..200),
        bytes in 0..300usize,
    ) {
        let encoded = |context: String| Encoded { context, rollback_info: info.clone() };
        prop_assert!(UndoRecord::decode_rows(contexts.into_iter().map(encoded).collect()).is_err());
        prop_assert!(UndoRecord::decode(&fitting(bytes, &info), &info).is_err());
        let mut prefixed = u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
        prefixed.extend_from_slice(&info);
        prop_assert!(UndoRecord::decode(&fitting(bytes, &prefixed), &prefixed).is_err());
    }

    /// Damage that the checksums cover too: an error or a consistent record, never a panic.
    #[test]
    fn edited_records_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut row = record(5).encode_rows(ZLIB).unwrap().remove(0);
        let at = at.index(row.rollback_info.len());
        row.rollback_info[at] = byte;
        let bytes = record(5).encode().unwrap().rollback_info.len();
        let _ = UndoRecord::decode(&fitting(bytes, &row.rollback_info), &row.rollback_info);
    }
}
