//! What only MySQL has.

use atone_tests::wire::caps;
use atone_tests::wire::payload::{Execute, Param, types};

use super::ACCOUNT;
use crate::script::{Script, executed, open, ping, prepare, q, qa, raw, script, stmt};

const ALL: &str = "SELECT mysql_query_attribute_string('a'), mysql_query_attribute_string('b'), \
                   mysql_query_attribute_string('nosuch')";

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("query_attributes", &["CLIENT_QUERY_ATTRIBUTES"])
            .mysql()
            .needs(caps::QUERY_ATTRIBUTES)
            .setup(ACCOUNT)
            .steps(vec![
                qa(ALL, vec![Param::text("one").named("a"), Param::int(2).named("b")]),
                qa(ALL, vec![Param::null(types::VAR_STRING).named("a")]),
                q(ALL),
                qa(ALL, vec![Param::text("one").named("a"), Param::text("two").named("a")]),
                qa(ALL, vec![Param::raw(types::DOUBLE, &1.5_f64.to_le_bytes()).named("b")]),
                qa("SELECT 1; SELECT mysql_query_attribute_string('a')", vec![Param::text("x").named("a")]),
                qa(ALL, (0..20).map(|n| Param::int(n).named(&format!("n{n}"))).collect()),
                qa(ALL, vec![Param::text(&"y".repeat(70_000)).named("a")]),
                prepare("SELECT ?, mysql_query_attribute_string('a')"),
                executed(Execute {
                    id: 1,
                    params: vec![Param::int(1)],
                    attributes: vec![Param::text("with").named("a")],
                    ..Execute::default()
                }),
                executed(Execute { id: 1, params: vec![Param::int(1)], ..Execute::default() }),
                prepare("SELECT mysql_query_attribute_string('a')"),
                executed(Execute {
                    id: 2,
                    attributes: vec![Param::text("without parameters").named("a")],
                    ..Execute::default()
                }),
                executed(Execute { id: 2, ..Execute::default() }),
                raw("no query behind the attributes", &[3, 0, 1]),
                raw("nothing", &[3]),
                raw("only a count", &[3, 5]),
                raw("a count too large", b"\x03\x05\x01SELECT 1"),
                raw("two sets", b"\x03\x00\x02SELECT 1"),
                ping(),
            ]),
        script("without_query_attributes", &["CLIENT_QUERY_ATTRIBUTES"]).mysql().setup(ACCOUNT).steps(vec![
            open("without", |login| login.capabilities &= !caps::QUERY_ATTRIBUTES),
            q(ALL),
            prepare("SELECT ?"),
            executed(Execute { id: 1, params: vec![Param::int(1)], ..Execute::default() }),
            ping(),
        ]),
        script("optional_metadata", &["CLIENT_OPTIONAL_RESULTSET_METADATA"])
            .mysql()
            .setup(ACCOUNT)
            .setup(&["CREATE PROCEDURE p(OUT o INT) BEGIN SELECT 1; SELECT * FROM account ORDER BY id; SET o = 5; END"])
            .steps(vec![
                open("with optional metadata", |login| {
                    login.capabilities |= caps::OPTIONAL_RESULTSET_METADATA;
                }),
                q("SELECT * FROM account ORDER BY id"),
                prepare("SELECT id, ? FROM account ORDER BY id"),
                executed(Execute { id: 1, params: vec![Param::int(1)], ..Execute::default() }),
                q("SET resultset_metadata = NONE"),
                q("SELECT * FROM account ORDER BY id"),
                q("SELECT * FROM account WHERE id > 100"),
                q("SELECT 1; SELECT 2; UPDATE account SET balance = 1; SELECT * FROM account ORDER BY id"),
                q("UPDATE account SET balance = 5"),
                q("SELECT nosuch"),
                executed(Execute { id: 1, params: vec![Param::int(1)], ..Execute::default() }),
                executed(Execute { id: 1, cursor: 1, params: vec![Param::int(1)], ..Execute::default() }),
                stmt("fetch", 0x1c, 1, &[2, 0, 0, 0]),
                prepare("SELECT id, ? FROM account ORDER BY id"),
                q("CALL p(@o)"),
                raw("fields", b"\x04account\0"),
                raw("process info", &[0x0a]).may(crate::script::May::Rows),
                q("SHOW WARNINGS"),
                q("SET resultset_metadata = FULL"),
                q("SELECT * FROM account ORDER BY id"),
                ping(),
            ]),
    ]
}
