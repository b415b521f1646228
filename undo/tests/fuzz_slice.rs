//! Throws damaged undo records and random cells at their decoders, for `ATONE_FUZZ_SECONDS` (default 2): none may
//! panic, and a record that is read all the same reads back what it is written as. Damage is fitted with right lengths
//! and checksums half of the time, so that it gets past them. The seed is printed and can be set by
//! `ATONE_FUZZ_SEED`.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use atone_undo::{Encoded, Layout, RowChange, UndoRecord, inverse, judge};
use common::all_kinds;
use rand::prelude::*;
use rand::rngs::StdRng;

/// The golden records of every version: what mutations start from.
fn corpus() -> Vec<Vec<Encoded>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let row = |context: String, info: String| Encoded {
        context: std::fs::read_to_string(format!("{folder}/{context}")).unwrap(),
        rollback_info: std::fs::read(format!("{folder}/{info}")).unwrap(),
    };
    let parts = |name: &str, parts: usize| {
        let part = |n: usize| row(format!("{name}.{n}.context"), format!("{name}.{n}.rollback_info"));
        (1..=parts).map(part).collect()
    };
    vec![
        vec![row("v1.context".into(), "v1.json".into())],
        parts("v2-zlib", 1),
        parts("v2-zlib-parts", 3),
        parts("v2-json-parts", 2),
    ]
}

/// What JSON and records are made of.
const PIECES: [&str; 14] = [
    "null",
    "{}",
    "[]",
    "\"",
    "1e999",
    "-0",
    "18446744073709551616",
    "\\u0000",
    ",",
    "}",
    "rows",
    "before",
    "hex",
    "{\"hex\":\"00\"}",
];

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random_range(b' '..=b'~'),
            2 => bytes.truncate(at),
            3 => {
                let end = rng.random_range(at..=bytes.len());
                bytes.drain(at..end.min(at + 20));
            }
            _ => {
                let piece = PIECES.choose(rng).unwrap().bytes();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Gives a context the length and checksum of what it now describes, as format 1 has them.
fn fitting(info: &[u8]) -> String {
    format!("format=1;encoding=json;crc32={:08x};bytes={}", crc32fast::hash(info), info.len())
}

/// Another JSON text in compressed form, under a context that fits.
fn compressed(json: &[u8], rng: &mut StdRng) -> Encoded {
    use std::io::Write as _;
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(json).unwrap();
    let mut info = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
    info.extend(zlib.finish().unwrap());
    if rng.random_range(0..4) == 0 {
        mutate(rng, &mut info);
    }
    let (crc, stored) = (crc32fast::hash(&info), info.len());
    let context =
        format!("format=2;encoding=json+zlib;crc32={crc:08x};bytes={};stored={stored};parts=1", json.len());
    Encoded { context, rollback_info: info }
}

/// What can be done with a record that was read must not panic, and writing it loses nothing.
fn use_it(record: &UndoRecord, rng: &mut StdRng) {
    for changes in &record.tables {
        let rows: Vec<&RowChange> = changes.rows.iter().collect();
        for statement in inverse(&changes.table, &rows) {
            assert!(!statement.sql.is_empty());
        }
        for change in rows {
            judge(&changes.table, change, change.before.as_deref());
        }
    }
    let layout = Layout { compress_bytes: rng.random_range(0..2), part_bytes: rng.random_range(500..5000) };
    let written = record.encode_rows(layout).unwrap();
    assert_eq!(UndoRecord::decode_rows(written).as_ref(), Ok(record));
}

fn records(rng: &mut StdRng, corpus: &[Vec<Encoded>]) {
    let mut rows = corpus.choose(rng).unwrap().clone();
    match rng.random_range(0..4) {
        0 => {
            let row = rows.choose_mut(rng).unwrap();
            mutate(rng, &mut row.rollback_info);
            row.context = fitting(&row.rollback_info);
        }
        1 => {
            let mut json = corpus[0][0].rollback_info.clone();
            mutate(rng, &mut json);
            rows = vec![compressed(&json, rng)];
        }
        2 => {
            let row = rows.choose_mut(rng).unwrap();
            let mut context = std::mem::take(&mut row.context).into_bytes();
            mutate(rng, &mut context);
            row.context = String::from_utf8_lossy(&context).into_owned();
        }
        _ => {
            let row = rows.choose_mut(rng).unwrap();
            mutate(rng, &mut row.rollback_info);
            rows.shuffle(rng);
            rows.truncate(rng.random_range(0..=rows.len()));
        }
    }
    if let Some(first) = rows.first() {
        let _ = UndoRecord::parts(&first.context);
        let _ = UndoRecord::decode(&first.context, &first.rollback_info);
    }
    if let Ok(record) = UndoRecord::decode_rows(rows) {
        use_it(&record, rng);
    }
}

/// Cells of an image as no server sends them.
fn images(rng: &mut StdRng) {
    let table = all_kinds();
    let texts = [
        "",
        "0",
        "-0",
        "1e308",
        "NaN",
        "0000-00-00",
        "-838:59:59.999999",
        "é",
        "{}",
        "9999999999999999999999999999999999999999",
    ];
    let mut cells: Vec<Option<Vec<u8>>> = (0..table.image_width())
        .map(|_| match rng.random_range(0..4) {
            0 => None,
            1 => Some((0..rng.random_range(0..40)).map(|_| rng.random()).collect()),
            _ => Some(texts.choose(rng).unwrap().as_bytes().to_vec()),
        })
        .collect();
    if rng.random_range(0..10) == 0 {
        cells.truncate(rng.random_range(0..=cells.len()));
    }
    let cells: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
    if let Ok(row) = table.decode_row(&cells) {
        let key = row.key(&table);
        assert!(table.keys_predicate("t", &[key]).starts_with('('));
        let change = RowChange { before: Some(row.values.to_values()), after: None };
        assert_eq!(inverse(&table, &[&change]).len(), 1);
    }
}

#[test]
fn no_record_breaks_a_decoder() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("ATONE_FUZZ_SECONDS").unwrap_or(2);
    let seed = number("ATONE_FUZZ_SEED").unwrap_or_else(rand::random);
    println!("ATONE_FUZZ_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let corpus = corpus();
    for rows in &corpus {
        use_it(&UndoRecord::decode_rows(rows.clone()).unwrap(), &mut rng);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut cases = 0u64;
    while Instant::now() < end {
        records(&mut rng, &corpus);
        images(&mut rng);
        cases += 1;
    }
    println!("{cases} cases");
}
