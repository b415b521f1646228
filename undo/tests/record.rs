//! The undo record: round trip, damage, and the golden record of version 1.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use atone_undo::{Encoded, Kind, RecordError, RowChange, Table, TableChanges, UndoRecord, Value};
use common::{all_kinds, column, not_null, table, unique};
use proptest::collection::vec;
use proptest::prelude::*;

fn text(s: &str) -> Value {
    Value::Text(s.to_owned())
}

fn golden() -> UndoRecord {
    let row = |id: i128, v: &str| {
        vec![
            Value::Int(id),
            Value::Int(-7),
            text("0.000000000000000000000000000001"),
            text("0.10000000149011612"),
            text("-0"),
            Value::Int(u64::MAX.into()),
            Value::Int(0),
            text("0000-00-00"),
            text("-838:59:59.999"),
            text("2020-02-31 10:00:00.000001"),
            text("2024-10-27 00:30:00.000000"),
            text("😀"),
            text(v),
            Value::Bytes(vec![0xC4, 0xE3]),
            text(""),
            Value::Int(0),
            text("a,b"),
            Value::Bytes(vec![0, 0xFF]),
            text(r#"{"a": 1.0}"#),
            Value::Bytes(vec![0xE6, 0x10, 0, 0, 1]),
            Value::Null,
            text("123e4567-e89b-12d3-a456-426614174000"),
            Value::Int(-14),
        ]
    };
    let accounts = table(
        vec![not_null(column("id", "int", "int")), column("balance", "decimal", "decimal(10,2)")],
        vec![unique("PRIMARY", &[0])],
    );
    let mut kinds = all_kinds();
    kinds.name = "every `kind`".to_owned();
    // As records had it before the types of members were kept
    kinds.columns[18].kind = Kind::Json;
    kinds.keys.push(atone_undo::UniqueKey {
        name: "v".to_owned(),
        columns: vec![12, 1],
        prefixes: vec![Some(10), None],
    });
    UndoRecord {
        xid: "c0ffee:1".to_owned(),
        branch_id: 42,
        resource: "bank1".to_owned(),
        tables: vec![
            TableChanges {
                table: accounts,
                rows: vec![
                    RowChange {
                        before: Some(vec![Value::Int(1), text("100.00")]),
                        after: Some(vec![Value::Int(1), text("90.00")]),
                    },
                    RowChange { before: None, after: Some(vec![Value::Int(2), Value::Null]) },
                    RowChange { before: Some(vec![Value::Int(3), text("0.10")]), after: None },
                ],
            },
            TableChanges {
                table: kinds,
                rows: vec![RowChange {
                    before: Some(row(u64::MAX.into(), "it's \"quoted\"\\\n\0€")),
                    after: Some(row(u64::MAX.into(), "")),
                }],
            },
        ],
    }
}

/// What version 1 wrote must be read for ever, and is still what is written. `ATONE_WRITE_GOLDEN=1` writes the files
/// anew: only for a change of the format, which needs a new version.
#[test]
fn golden_record_of_version_1() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let encoded = golden().encode().unwrap();
    if std::env::var_os("ATONE_WRITE_GOLDEN").is_some() {
        std::fs::write(format!("{folder}/v1.json"), &encoded.rollback_info).unwrap();
        std::fs::write(format!("{folder}/v1.context"), &encoded.context).unwrap();
    }
    let info = std::fs::read(format!("{folder}/v1.json")).unwrap();
    let context = std::fs::read_to_string(format!("{folder}/v1.context")).unwrap();
    assert_eq!(UndoRecord::decode(&context, &info).unwrap(), golden());
    assert_eq!(encoded, Encoded { context, rollback_info: info });
}

/// The record with `json` in place of its text, under a context that fits.
fn decode_json(json: &str) -> Result<UndoRecord, RecordError> {
    let context =
        format!("format=1;encoding=json;crc32={:08x};bytes={}", crc32fast::hash(json.as_bytes()), json.len());
    UndoRecord::decode(&context, json.as_bytes())
}

#[test]
fn damage_is_an_error() {
    let Encoded { context, rollback_info } = golden().encode().unwrap();
    assert!(context.len() <= 128);
    for at in 0..rollback_info.len() {
        let mut damaged = rollback_info.clone();
        damaged[at] ^= 1;
        assert!(matches!(UndoRecord::decode(&context, &damaged), Err(RecordError::Checksum { .. })));
        assert!(matches!(
            UndoRecord::decode(&context, &rollback_info[..at]),
            Err(RecordError::Length { .. })
        ));
    }
    let crc = crc32fast::hash(&rollback_info);
    let bytes = rollback_info.len();
    for bad in [
        String::new(),
        format!("format=2;encoding=json;crc32={crc:08x};bytes={bytes}"),
        format!("format=1;encoding=zstd;crc32={crc:08x};bytes={bytes}"),
        format!("format=1;encoding=json;crc32={crc:08x};bytes={bytes};more=1"),
        format!("format=1;encoding=json;crc32={crc:08x}"),
        format!("format=1;encoding=json;bytes={bytes};crc32={crc:08x}"),
        format!("format=1;encoding=json;crc32=+{:07x};bytes={bytes}", crc & 0xFFF_FFFF),
        format!("format=1;encoding=json;crc32={crc:08x};bytes=+{bytes}"),
    ] {
        assert!(
            matches!(UndoRecord::decode(&bad, &rollback_info), Err(RecordError::Context { .. })),
            "{bad}"
        );
    }
    let huge = format!("format=1;encoding=json;crc32={crc:08x};bytes={}", (1u64 << 30) + 1);
    assert!(matches!(UndoRecord::decode(&huge, &rollback_info), Err(RecordError::TooLarge { .. })));
}

#[test]
fn structure_is_checked() {
    let good = r#"{"format":"atone-undo","version":1,"xid":"x:1","branch_id":1,"resource":"r","tables":[{"schema":"s","table":"t","columns":[{"name":"id","kind":"int","type":"int","nullable":false},{"name":"v","kind":"text","type":"text","charset":"utf8mb4","nullable":true}],"keys":[{"name":"PRIMARY","columns":["id"]}],"rows":[{"before":{"id":1,"v":"a"},"after":null}]}]}"#;
    assert!(decode_json(good).is_ok());
    for (from, to, why) in [
        (r#""version":1"#, r#""version":2"#, "another version"),
        ("atone-undo", "other", "another format"),
        (r#","after":null"#, "", "a missing image is not a NULL image"),
        (r#"{"id":1,"v":"a"}"#, "null", "a row without images"),
        (r#","v":"a""#, "", "a missing column"),
        (r#""id":1,"v":"a""#, r#""v":"a","id":1"#, "columns out of order"),
        (r#""id":1,"v":"a""#, r#""id":1,"id":1"#, "a column twice"),
        (r#""id":1,"#, r#""id":null,"#, "a NULL key"),
        (r#""id":1,"#, r#""id":1.5,"#, "a fraction"),
        (r#""id":1,"#, r#""id":true,"#, "a boolean"),
        (r#""id":1,"#, r#""id":"1","#, "a string in an integer column"),
        (r#""id":1,"#, r#""id":18446744073709551616,"#, "beyond 64 bits"),
        (r#""v":"a""#, r#""v":{"hex":"0"}"#, "half a byte"),
        (r#""v":"a""#, r#""v":{}"#, "an empty object"),
        (r#""v":"a""#, r#""v":{"hex":"00","more":"1"}"#, "more than hex"),
        (r#""columns":["id"]"#, r#""columns":["x"]"#, "a key over an unknown column"),
        (r#""columns":["id"]"#, r#""columns":[]"#, "a key without columns"),
        (r#"[{"name":"PRIMARY","columns":["id"]}]"#, "[]", "no key"),
        ("utf8mb4", "utf8mb4'", "a charset that could break out of SQL"),
        (r#""xid":"x:1""#, r#""xid":"""#, "no XID"),
        (r#""branch_id":1"#, r#""branch_id":9223372036854775808"#, "a branch id beyond BIGINT"),
        (r#""resource":"r""#, r#""resource":"r","more":1"#, "an unknown field"),
        (r#"[{"before""#, r#"[{"before":{"id":1,"v":null},"after":null},{"before""#, "a row twice"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{why}: the replacement did nothing");
        assert!(matches!(decode_json(&bad), Err(RecordError::Malformed(_))), "{why}");
    }
    assert!(matches!(decode_json(&format!("{good} x")), Err(RecordError::Malformed(_))));
}

#[test]
fn inconsistent_records_are_not_written() {
    let mut record = golden();
    record.tables[0].rows[0].before = Some(vec![Value::Int(1)]);
    assert!(record.encode().is_err());
    let mut record = golden();
    record.tables[0].rows[0].before = Some(vec![text("1"), Value::Null]);
    assert!(record.encode().is_err());
    let mut record = golden();
    let first = record.tables[0].clone();
    record.tables.push(first);
    assert!(record.encode().is_err());
    let mut record = golden();
    record.tables[0].rows[0].before = Some(vec![Value::Int(i128::from(u64::MAX) + 1), Value::Null]);
    assert!(record.encode().is_err());
}

/// Any value that a column of this table can hold, id aside.
fn values(table: &Table) -> impl Strategy<Value = Vec<Value>> + use<> {
    let cells: Vec<BoxedStrategy<Value>> = table.columns[1..]
        .iter()
        .map(|column| {
            let some = match column.kind {
                _ if column.name == "e0" => (0..3i128).prop_map(Value::Int).boxed(),
                Kind::Int => any::<i64>().prop_map(|n| Value::Int(n.into())).boxed(),
                Kind::Bit | Kind::Year => any::<u64>().prop_map(|n| Value::Int(n.into())).boxed(),
                Kind::Binary | Kind::Geometry | Kind::Vector => {
                    vec(any::<u8>(), 0..40).prop_map(Value::Bytes).boxed()
                }
                Kind::Char | Kind::Text => prop_oneof![
                    any::<String>().prop_map(Value::Text),
                    vec(any::<u8>(), 0..40).prop_map(Value::Bytes)
                ]
                .boxed(),
                _ => any::<String>().prop_map(Value::Text).boxed(),
            };
            prop_oneof![9 => some, 1 => Just(Value::Null)].boxed()
        })
        .collect();
    cells
}

proptest! {
    #[test]
    fn records_round_trip(
        images in vec((proptest::option::of(values(&all_kinds())), proptest::option::of(values(&all_kinds()))), 0..8),
        xid in "[A-Za-z0-9.:_-]{1,128}",
        branch_id in 0..=i64::MAX as u64,
        resource in any::<String>(),
    ) {
        let with_id = |id: usize, values: Vec<Value>| {
            let mut row = vec![Value::Int(id as i128)];
            row.extend(values);
            row
        };
        let rows = images
            .into_iter()
            .enumerate()
            .filter(|(_, (before, after))| before.is_some() || after.is_some())
            .map(|(id, (before, after))| RowChange {
                before: before.map(|v| with_id(id, v)),
                after: after.map(|v| with_id(id, v)),
            })
            .collect();
        let record = UndoRecord { xid, branch_id, resource, tables: vec![TableChanges { table: all_kinds(), rows }] };
        let encoded = record.encode().unwrap();
        prop_assert!(encoded.context.len() <= 128);
        prop_assert_eq!(UndoRecord::decode(&encoded.context, &encoded.rollback_info).unwrap(), record);
    }

    #[test]
    fn decode_never_panics(context in any::<String>(), info in vec(any::<u8>(), 0..200)) {
        let _ = UndoRecord::decode(&context, &info);
        let fitting = format!("format=1;encoding=json;crc32={:08x};bytes={}", crc32fast::hash(&info), info.len());
        prop_assert!(UndoRecord::decode(&fitting, &info).is_err());
    }

    /// Damage that the checksum covers too (a hand-edited row): an error or a consistent record, never a panic.
    #[test]
    fn edited_records_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut info = golden().encode().unwrap().rollback_info;
        let at = at.index(info.len());
        info[at] = byte;
        let context = format!("format=1;encoding=json;crc32={:08x};bytes={}", crc32fast::hash(&info), info.len());
        if let Ok(record) = UndoRecord::decode(&context, &info) {
            for changes in &record.tables {
                let rows: Vec<&RowChange> = changes.rows.iter().collect();
                prop_assert!(!atone_undo::inverse(&changes.table, &rows).is_empty());
            }
        }
    }
}

/// Documents that their text does not tell in full; those of older records are of another kind.
#[test]
fn documents_with_their_types() {
    let table = table(
        vec![not_null(column("id", "int", "int")), column("doc", "json", "json")],
        vec![unique("PRIMARY", &[0])],
    );
    let row = |types: Option<&str>| {
        let cells = [Some(&b"1"[..]), Some(br#"{"p": 1.5}"#), types.map(str::as_bytes), Some(b"0")];
        table.decode_row(&cells).unwrap().values.to_values()
    };
    let change = RowChange { before: Some(row(Some(r#"[[1, null, "DECIMAL"]]"#))), after: Some(row(None)) };
    let record = UndoRecord {
        xid: "a:1".into(),
        branch_id: 1,
        resource: "r".into(),
        tables: vec![TableChanges { table: table.clone(), rows: vec![change] }],
    };
    let encoded = record.encode().unwrap();
    let text = String::from_utf8(encoded.rollback_info.clone()).unwrap();
    let before = r#""before":{"id":1,"doc":{"json":"{\"p\": 1.5}","types":{"$.\"p\"":"DECIMAL"}}}"#;
    assert!(text.contains(before) && text.contains(r#""kind":"document""#), "{text}");
    assert_eq!(UndoRecord::decode(&encoded.context, &encoded.rollback_info).unwrap(), record);
    let decoded = |text: &str| {
        let crc = crc32fast::hash(text.as_bytes());
        let context = format!("format=1;encoding=json;crc32={crc:08x};bytes={}", text.len());
        UndoRecord::decode(&context, text.as_bytes())
    };
    for (from, to) in [
        (r#""types":{"$.\"p\"":"DECIMAL"}"#, r#""types":{}"#),
        (r#""types":{"$.\"p\"":"DECIMAL"}"#, r#""types":{"$.\"q\"":"DECIMAL"}"#),
        (r#""types":{"$.\"p\"":"DECIMAL"}"#, r#""types":{"$.\"p\"":"decimal"}"#),
        (r#""types":{"$.\"p\"":"DECIMAL"}"#, r#""types":{"$.\"p\"":"DECIMAL"},"more":1"#),
        (r#","types":{"$.\"p\"":"DECIMAL"}"#, ""),
        (r#""kind":"document""#, r#""kind":"json""#),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(decoded(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
    assert!(decoded(&text).is_ok());
}
