//! Select lists, the decoding of rows, predicates and lock keys.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use atone_undo::{ImageError, Key, Kind, Table, Value, quote_identifier, undo_log_ddl};
use common::{all_kinds, column, not_null, table, text, unique};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn kinds() {
    for (data_type, column_type, kind) in [
        ("tinyint", "tinyint(1)", Some(Kind::Int)),
        ("BIGINT", "bigint unsigned", Some(Kind::Int)),
        ("year", "year(4)", Some(Kind::Year)),
        ("year", "year(2)", None),
        ("longtext", "longtext", Some(Kind::Text)),
        ("json", "json", Some(Kind::Document)),
        ("multipolygon", "multipolygon", Some(Kind::Geometry)),
        ("inet6", "inet6", Some(Kind::Other)),
        ("xmltype", "xmltype", None),
    ] {
        assert_eq!(Kind::from_data_type(data_type, column_type), kind, "{data_type}");
    }
}

#[test]
fn identifiers() {
    assert_eq!(quote_identifier("a`b.c"), "`a``b.c`");
    assert!(undo_log_ddl("my`db").starts_with("CREATE TABLE IF NOT EXISTS `my``db`.`undo_log` ("));
}

#[test]
fn the_select_list_reads_exactly() {
    let t = all_kinds();
    let list = t.image_select_list("t");
    assert!(
        list.starts_with("t.`id`,t.`n`,t.`amount`,t.`f`*1e0,t.`d`*1e0,t.`bits`+0,t.`y`,t.`day`,"),
        "{list}"
    );
    assert!(list.contains(",UNIX_TIMESTAMP(t.`ts`),CONVERT(t.`c` USING binary),"), "{list}");
    assert!(list.contains(",CONVERT(t.`e` USING binary),t.`e0`+0,"), "{list}");
    assert!(list.contains("FROM JSON_TABLE(t.`doc`,'$' COLUMNS "), "{list}");
    assert!(
        list.ends_with(
            ",((t.`f` IS NULL)<<0)|((t.`d` IS NULL)<<1)|((t.`bits` IS NULL)<<2)|((t.`ts` IS NULL)<<3)\
             |((t.`c` IS NULL)<<4)|((t.`v` IS NULL)<<5)|((t.`zh` IS NULL)<<6)|((t.`e` IS NULL)<<7)\
             |((t.`e0` IS NULL)<<8)|((t.`s` IS NULL)<<9)|((t.`doc` IS NULL)<<10)"
        ),
        "{list}"
    );
    assert_eq!(t.image_width(), t.columns.len() + 2);
}

#[test]
fn a_row_of_every_kind() {
    let t = all_kinds();
    let cells: Vec<Option<&[u8]>> = vec![
        Some(b"18446744073709551615"),
        Some(b"-0007"),
        Some(b"0.10"),
        Some(b"0.10000000149011612"),
        Some(b"-1.7976931348623157e308"),
        Some(b"18446744073709551615"),
        Some(b"0000"),
        Some(b"0000-00-00"),
        Some(b"-838:59:59.999"),
        Some(b"2020-02-31 10:00:00.000000"),
        Some(b"1577836800.123456"),
        Some("é   ".as_bytes()),
        Some(b"\x80 "),
        Some(b"\xC4\xE3"),
        Some(b""),
        Some(b"0"),
        Some(b"a,b"),
        Some(b"\0\xFF"),
        Some(b"{}"),
        None,
        Some(b"\0\0\x80\x3F"),
        Some(b"::1"),
        None,
        None,
        Some(b"0"),
    ];
    let row = t.decode_row(&cells).unwrap();
    let text = |s: &str| Value::Text(s.to_owned());
    assert_eq!(row.values.to_values()[0], Value::Int(u64::MAX.into()));
    assert_eq!(row.values.to_values()[1], Value::Int(-7));
    assert_eq!(row.values.to_values()[10], text("2020-01-01 00:00:00.123456"));
    assert_eq!(row.values.to_values()[11], text("é"), "CHAR's padding is no part of the value");
    assert_eq!(row.values.to_values()[12], text("€ "), "VARCHAR's trailing space is");
    assert_eq!(row.values.to_values()[13], Value::Bytes(vec![0xC4, 0xE3]));
    assert_eq!(row.values.to_values()[15], Value::Int(0));
    assert_eq!(row.lock_keys[0].0, "18446744073709551615");

    for (at, bad) in [
        (0, None),
        (1, Some(&b"x"[..])),
        (2, Some(b"1e3")),
        (3, Some(b"nan")),
        (4, Some(b"1' OR '1")),
        (7, Some(b"2020-01-01' OR 1")),
        (10, Some(b"-5")),
        (18, Some(b"\xFF")),
        (21, Some(b"0\x001")),
        (23, Some(b"[[null, 1, \"DECIMAL\"]]")),
        (24, None),
        (24, Some(b"1")),
        (24, Some(b"x")),
    ] {
        let mut damaged = cells.clone();
        damaged[at] = bad;
        assert!(t.decode_row(&damaged).is_err(), "column {at}");
    }
    assert!(matches!(t.decode_row(&cells[1..]), Err(ImageError::Width { .. })));
}

/// A function that gives up answers NULL, or an empty text.
#[test]
fn a_value_that_is_not_given_is_not_null() {
    let t = table(
        vec![
            not_null(column("id", "int", "int")),
            text("a", "longtext", "utf8mb4", "utf8mb4_bin"),
            not_null(text("b", "longtext", "latin1", "latin1_bin")),
            column("c", "json", "json"),
        ],
        vec![unique("PRIMARY", &[0])],
    );
    let cells: [Option<&[u8]>; 6] = [Some(b"1"), None, Some(b""), None, None, Some(b"3")];
    let row = t.decode_row(&cells).unwrap();
    assert_eq!(row.values.to_values(), [Value::Int(1), Value::Null, Value::Text(String::new()), Value::Null]);
    for (at, cell, nulls, lost) in [
        (1, None, &b"2"[..], "a"),
        (2, None, b"3", "b"),
        (3, None, b"1", "c"),
        (3, Some(&b""[..]), b"1", "c"),
        (4, Some(b""), b"3", "c"),
    ] {
        let mut cells = cells;
        (cells[at], cells[5]) = (cell, Some(nulls));
        assert_eq!(t.decode_row(&cells), Err(ImageError::Lost { column: lost.to_owned() }));
    }
}

#[test]
fn a_document_has_its_types() {
    let t = table(
        vec![not_null(column("id", "int", "int")), column("c", "json", "json")],
        vec![unique("PRIMARY", &[0])],
    );
    let read = |types: Option<&[u8]>| t.decode_row(&[Some(b"1"), Some(b"[1.5]"), types, Some(b"0")]);
    assert_eq!(read(None).unwrap().values.to_values()[1], Value::Text("[1.5]".to_owned()));
    let row = read(Some(b"[[null, 1, \"DECIMAL\"]]")).unwrap();
    let Value::Document(document) = &row.values.to_values()[1] else { panic!("{row:?}") };
    assert_eq!((document.text(), document.types()[0].1.as_str()), ("[1.5]", "DECIMAL"));
    assert!(read(Some(b"[[null, 2, \"DECIMAL\"]]")).is_err());
}

#[test]
fn many_columns_that_may_be_null() {
    let mut columns = vec![not_null(column("id", "int", "int"))];
    columns.extend((0..70).map(|i| column(&format!("c{i}"), "bit", "bit(1)")));
    let t = table(columns, vec![unique("PRIMARY", &[0])]);
    assert_eq!(t.image_width(), 71 + 3);
    let mut cells: Vec<Option<&[u8]>> = vec![Some(b"1"); 71];
    (cells[1], cells[33], cells[70]) = (None, None, None);
    cells.extend([Some(&b"1"[..]), Some(b"1"), Some(b"32")]);
    let values = t.decode_row(&cells).unwrap().values.to_values();
    let null: Vec<usize> = (0..71).filter(|&at| values[at] == Value::Null).collect();
    assert_eq!(null, [1, 33, 70]);
}

/// A table whose key is collated and has a further unique key with a prefix.
fn members() -> Table {
    let mut t = table(
        vec![
            not_null(text("name", "varchar(20)", "utf8mb4", "utf8mb4_unicode_ci")),
            text("mail", "varchar(50)", "utf8mb4", "utf8mb4_bin"),
            column("photo", "blob", "blob"),
            text("bio", "text", "utf8mb4", "utf8mb4_general_ci"),
        ],
        vec![unique("PRIMARY", &[0]), unique("mail", &[1]), unique("photo", &[2]), unique("bio", &[3])],
    );
    t.keys[1].prefixes = vec![Some(3)];
    t.keys[2].prefixes = vec![Some(2)];
    t
}

#[test]
fn lock_keys_follow_the_index() {
    let t = members();
    assert_eq!(t.image_width(), 7);
    let list = t.image_select_list("`bank`.`account`");
    assert!(
        list.ends_with(
            "UNHEX(CONVERT(SHA2(TRIM(TRAILING WEIGHT_STRING(_utf8mb4 0x20 COLLATE utf8mb4_unicode_ci) \
             FROM WEIGHT_STRING(`bank`.`account`.`name` AS CHAR(20))),256) USING ascii)),\
             UNHEX(CONVERT(SHA2(TRIM(TRAILING WEIGHT_STRING(_utf8mb4 0x20 COLLATE utf8mb4_general_ci) \
             FROM WEIGHT_STRING(`bank`.`account`.`bio`)),256) USING ascii))"
        ),
        "{list}"
    );
    let weight = [7u8; 32];
    let keys = |mail: Option<&[u8]>, photo: Option<&[u8]>, bio: Option<&[u8]>, bio_weight: Option<&[u8]>| {
        let nulls = format!("{}", u8::from(mail.is_none()) + 2 * u8::from(bio.is_none()));
        let cells = [Some(&b"Bob"[..]), mail, photo, bio, Some(nulls.as_bytes()), Some(&weight), bio_weight];
        let row = t.decode_row(&cells).unwrap();
        row.lock_keys.into_iter().map(|k| k.0).collect::<Vec<_>>()
    };
    let name = "~07070707070707070707070707070707";
    assert_eq!(keys(None, None, None, None), [name]);
    assert_eq!(keys(Some(b"abcd"), None, None, None), [name, "mail:abc"]);
    assert_eq!(keys(Some(b"ab  "), None, None, None), [name, "mail:ab"], "PAD SPACE");
    assert_eq!(keys(None, Some(b"\x01\x02\x03"), None, None), [name, "photo:x0102"]);
    assert_eq!(keys(None, None, Some(b"x"), Some(&weight))[1], format!("bio:{name}"));
    let missing = t.decode_row(&[Some(b"Bob"), None, None, None, Some(b"3"), None, None]);
    assert!(matches!(missing, Err(ImageError::NoWeight { .. })), "{missing:?}");
}

#[test]
fn lock_keys_are_bounded() {
    let t = table(
        vec![not_null(text("k", "varchar(3000)", "ascii", "ascii_bin"))],
        vec![unique("PRIMARY", &[0])],
    );
    let key = |s: String| t.decode_row(&[Some(s.as_bytes())]).unwrap().lock_keys[0].0.clone();
    let (a, b) = (key("a".repeat(2000)), key(format!("{}b", "a".repeat(1999))));
    assert!(a.chars().count() <= 512 && b.chars().count() <= 512);
    assert_ne!(a, b);
    assert_eq!(key("a\nb".into()), "a\\u{a}b", "no control characters on a terminal");
    assert_eq!(key(String::new()), "''", "an empty key is a key as well");
}

#[test]
fn floats_that_compare_equal_lock_together() {
    let t = table(vec![not_null(column("k", "double", "double"))], vec![unique("PRIMARY", &[0])]);
    let key = |s: &str| t.decode_row(&[Some(s.as_bytes())]).unwrap().lock_keys[0].0.clone();
    assert_eq!(key("-0"), key("0"));
}

/// One row of each: the column as a single key, its value, the predicate of the application's session.
#[test]
fn predicates_mean_the_same_in_every_session() {
    let utf8 = || text("k", "varchar(20)", "utf8mb4", "utf8mb4_general_ci");
    for (column, value, expected) in [
        (column("k", "bigint", "bigint"), Value::Int(-5), "(t.`k` = -5)"),
        (column("k", "decimal", "decimal(5,2)"), Value::Text("1.50".into()), "(t.`k` = 1.50)"),
        (column("k", "double", "double"), Value::Text("1e308".into()), "(t.`k` = '1e308')"),
        (column("k", "bit", "bit(3)"), Value::Int(5), "(t.`k` = 5)"),
        (column("k", "year", "year"), Value::Int(0), "((t.`k` + 0 = 0))"),
        (column("k", "date", "date"), Value::Text("2020-02-29".into()), "(t.`k` = '2020-02-29')"),
        (column("k", "date", "date"), Value::Text("0000-00-00".into()), "((t.`k` + 0 = 00000000))"),
        (
            column("k", "datetime", "datetime(1)"),
            Value::Text("2020-02-31 10:00:00.5".into()),
            "((t.`k` + 0 = 20200231100000.5))",
        ),
        (
            column("k", "timestamp", "timestamp"),
            Value::Text("2020-01-01 00:00:00".into()),
            "((UNIX_TIMESTAMP(t.`k`) = 1577836800))",
        ),
        (utf8(), Value::Text("bob".into()), "(t.`k` = _utf8mb4'bob')"),
        (utf8(), Value::Text(String::new()), "(t.`k` = _utf8mb4 X'')"),
        (utf8(), Value::Text("it's".into()), "(t.`k` = _utf8mb4 0x69742773)"),
        (text("k", "varchar(20)", "latin1", "x"), Value::Text("é".into()), "(t.`k` = _latin1 0xE9)"),
        (text("k", "varchar(20)", "gbk", "x"), Value::Bytes(vec![0xC4, 0xE3]), "(t.`k` = _gbk 0xC4E3)"),
        (column("k", "binary", "binary(2)"), Value::Bytes(vec![0, 1]), "(t.`k` = 0x0001)"),
        (column("k", "varbinary", "varbinary(2)"), Value::Bytes(vec![]), "(t.`k` = X'')"),
        // Names that MySQL warns of are not used where another charset holds the same.
        (text("k", "varchar(20)", "utf8mb3", "x"), Value::Text("é".into()), "(t.`k` = _utf8mb4 0xC3A9)"),
        (text("k", "varchar(20)", "ucs2", "x"), Value::Bytes(vec![0, 0x61]), "(t.`k` = _utf16 0x0061)"),
        (text("k", "varchar(20)", "ucs2", "x"), Value::Bytes(vec![0xD8, 0]), "(t.`k` = _ucs2 0xD800)"),
        (column("k", "uuid", "uuid"), Value::Text("ab-cd".into()), "(t.`k` = 'ab-cd')"),
    ] {
        let t = table(vec![not_null(column)], vec![unique("PRIMARY", &[0])]);
        assert_eq!(t.keys_predicate("t", &[Key(vec![value])]), expected);
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(cells in vec(proptest::option::of(vec(any::<u8>(), 0..40)), 0..30)) {
        let cells: Vec<Option<&[u8]>> = cells.iter().map(|c| c.as_deref()).collect();
        let _ = all_kinds().decode_row(&cells);
        let _ = members().decode_row(&cells);
    }
}
