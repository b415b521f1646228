//! The INSERT of an undo row is one literal that nothing bends.

#![allow(clippy::unwrap_used, clippy::panic)]

use atone_undo::{Encoded, insert_marker_sql, insert_part_sql};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn plain_records_go_as_text_and_others_as_digits() {
    let sql = |info: &[u8]| {
        let encoded = Encoded { context: "format=1".into(), rollback_info: info.to_vec() };
        String::from_utf8(insert_part_sql("s", "a:1", 7, 1, &encoded)).unwrap()
    };
    let head = "INSERT INTO `s`.`undo_log` (branch_id, xid, context, rollback_info, log_status, log_created, log_modified) VALUES (7, _utf8mb4'a:1', _utf8mb4'format=1', ";
    let tail = ", 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))";
    assert_eq!(sql(br#"{"a":1}"#), format!(r#"{head}_binary'{{"a":1}}'{tail}"#));
    assert_eq!(sql(b"it's"), format!("{head}0x69742773{tail}"));
    assert_eq!(sql("é".as_bytes()), format!("{head}0xc3a9{tail}"));
    assert_eq!(sql(&[0xFF; 1024]), format!("{head}0x{}{tail}", "ff".repeat(1024)));
    // 341 groups of three bytes, and two bytes
    let digits = "/".repeat(1366) + "8=";
    assert_eq!(sql(&[0xFF; 1025]), format!("{head}FROM_BASE64(_utf8mb4'{digits}'){tail}"));
    let marker = String::from_utf8(insert_marker_sql("s", "a:1", 7)).unwrap();
    assert!(marker.ends_with("_utf8mb4 X'', _binary'', 1, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))"), "{marker}");
}

proptest! {
    #[test]
    fn only_plain_ascii_outside_of_names(info in vec(any::<u8>(), 0..60), xid in any::<String>()) {
        let encoded = Encoded { context: String::new(), rollback_info: info };
        let sql = insert_part_sql("s", &xid, 7, 1, &encoded);
        prop_assert!(sql.iter().all(|b| (0x20..0x7F).contains(b) && *b != b'\\'));
        prop_assert_eq!(sql.iter().filter(|b| **b == b'\'').count() % 2, 0);
    }
}
