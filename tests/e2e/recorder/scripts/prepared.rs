//! Prepared statements in the binary protocol.

use atone_tests::wire::payload::{Execute, Param, types};

use super::ACCOUNT;
use crate::script::{Script, Step, execute, executed, ping, prepare, q, raw, receive, script, stmt};

const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const RESET: u8 = 0x1a;
const FETCH: u8 = 0x1c;

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("prepare_and_execute", &["COM_STMT_PREPARE", "COM_STMT_EXECUTE", "COM_STMT_CLOSE"])
            .setup(ACCOUNT)
            .steps(vec![
                prepare("SELECT id, name, balance, id + ?, ? FROM account ORDER BY id"),
                execute(1, vec![Param::int(5), Param::text("five")]),
                executed(Execute {
                    id: 1,
                    params: vec![Param::int(6), Param::text("six")],
                    same_types: true,
                    ..Execute::default()
                }),
                execute(1, vec![Param::null(types::LONG), Param::null(types::NULL)]),
                prepare("INSERT INTO account VALUES (?, ?, ?)"),
                execute(2, vec![Param::int(9), Param::text("nine"), Param::int(9)]),
                execute(2, vec![Param::int(9), Param::text("nine"), Param::int(9)]),
                prepare("UPDATE account SET balance = 0"),
                execute(3, vec![]),
                prepare("SELECT nosuch"),
                prepare("SELECT ? FROM"),
                prepare("DO 1"),
                prepare("SHOW WARNINGS"),
                stmt("close", CLOSE, 2, &[]),
                execute(2, vec![]),
                execute(1, vec![Param::int(5), Param::text("five")]),
                stmt("close", CLOSE, 1, &[]),
                stmt("close", CLOSE, 1, &[]),
                stmt("close", CLOSE, 3, &[]),
                ping(),
            ]),
        script("several_outstanding", &["COM_STMT_PREPARE", "COM_STMT_CLOSE", "pipelined commands"]).steps(
            vec![
                prepare("SELECT 1, ?"),
                prepare("SELECT 2, ?"),
                prepare("SELECT 3, ?"),
                stmt("close", CLOSE, 2, &[]),
                execute(3, vec![Param::int(1)]),
                prepare("SELECT 4, ?"),
                execute(1, vec![Param::int(2)]),
                execute(4, vec![Param::int(3)]),
                stmt("close", CLOSE, 4, &[]),
                stmt("close", CLOSE, 1, &[]),
                execute(3, vec![Param::int(4)]),
                execute(1, vec![Param::int(4)]),
                stmt("close", CLOSE, 3, &[]),
                ping(),
            ],
        ),
        script("pipelined_statements", &["COM_STMT_EXECUTE", "pipelined commands"]).setup(ACCOUNT).steps(
            vec![
                prepare("SELECT id + ? FROM account"),
                prepare("UPDATE account SET balance = ?"),
                execute(1, vec![Param::int(1)]).sent(),
                execute(2, vec![Param::int(2)]).sent(),
                stmt("long data", LONG_DATA, 2, b"\0\x0077").sent(),
                execute(2, vec![Param::long(types::VAR_STRING)]).sent(),
                stmt("reset", RESET, 1, &[]).sent(),
                execute(1, vec![Param::int(3)]).sent(),
                stmt("close", CLOSE, 1, &[]).sent(),
                q("SELECT SUM(balance) FROM account").sent(),
                receive(),
                receive(),
                receive(),
                receive(),
                receive(),
                receive(),
                ping(),
            ],
        ),
        script("every_parameter_type", &["COM_STMT_EXECUTE"]).steps(every_type()),
        script("long_data", &["COM_STMT_SEND_LONG_DATA", "COM_STMT_RESET"]).steps(vec![
            q("CREATE TABLE l (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT)"),
            prepare("INSERT INTO l VALUES (?, ?, ?)"),
            stmt("long data 1", LONG_DATA, 1, b"\x01\0one "),
            stmt("long data 1", LONG_DATA, 1, b"\x01\0more"),
            stmt("long data 2", LONG_DATA, 1, b"\x02\0text"),
            execute(1, vec![Param::int(1), Param::long(types::LONG_BLOB), Param::long(types::VAR_STRING)]),
            stmt("long data 1", LONG_DATA, 1, b"\x01\0forgotten"),
            stmt("reset", RESET, 1, &[]),
            execute(
                1,
                vec![Param::int(2), Param::bytes(types::LONG_BLOB, b"two"), Param::null(types::VAR_STRING)],
            ),
            stmt("long data for no parameter", LONG_DATA, 1, b"\x09\0x"),
            execute(
                1,
                vec![Param::int(3), Param::bytes(types::LONG_BLOB, b"three"), Param::null(types::VAR_STRING)],
            ),
            stmt("reset", RESET, 1, &[]),
            stmt("empty long data", LONG_DATA, 1, b"\x01\0"),
            execute(1, vec![Param::int(4), Param::long(types::LONG_BLOB), Param::text("four")]),
            q("SELECT * FROM l"),
            stmt("close", CLOSE, 1, &[]),
            ping(),
        ]),
        script("cursors", &["COM_STMT_FETCH", "cursors"]).setup(ACCOUNT).steps(vec![
            prepare("SELECT id, name, balance FROM account ORDER BY id"),
            executed(Execute { id: 1, cursor: 1, ..Execute::default() }),
            stmt("fetch 2", FETCH, 1, &[2, 0, 0, 0]),
            q("SELECT 'between'"),
            prepare("SELECT name FROM account WHERE id > ? ORDER BY id"),
            executed(Execute { id: 2, cursor: 1, params: vec![Param::int(1)], ..Execute::default() }),
            stmt("fetch 1", FETCH, 2, &[1, 0, 0, 0]),
            stmt("fetch 2", FETCH, 1, &[2, 0, 0, 0]),
            stmt("fetch behind the end", FETCH, 1, &[2, 0, 0, 0]),
            stmt("fetch the rest", FETCH, 2, &[100, 0, 0, 0]),
            executed(Execute { id: 1, cursor: 1, ..Execute::default() }),
            stmt("reset", RESET, 1, &[]),
            stmt("fetch after reset", FETCH, 1, &[2, 0, 0, 0]),
            executed(Execute { id: 1, cursor: 1, ..Execute::default() }),
            stmt("close", CLOSE, 1, &[]),
            stmt("fetch after close", FETCH, 1, &[2, 0, 0, 0]),
            prepare("UPDATE account SET balance = 1"),
            executed(Execute { id: 3, cursor: 1, ..Execute::default() }),
            prepare("SELECT id FROM account WHERE id > 100"),
            executed(Execute { id: 4, cursor: 1, ..Execute::default() }),
            stmt("fetch nothing", FETCH, 4, &[2, 0, 0, 0]),
            ping(),
        ]),
        script("procedures_in_binary", &["COM_STMT_EXECUTE", "CLIENT_PS_MULTI_RESULTS"])
            .setup(ACCOUNT)
            .setup(&["CREATE PROCEDURE p(IN a INT, OUT b INT, INOUT c VARCHAR(20)) BEGIN \
                      SELECT a; SELECT id, name FROM account ORDER BY id; UPDATE account SET balance = a; \
                      SET b = a + 1; SET c = CONCAT(c, '!'); END"])
            .steps(vec![
                prepare("CALL p(?, ?, ?)"),
                execute(1, vec![Param::int(7), Param::null(types::LONG), Param::text("hello")]),
                q("SET @b = 1, @c = 'there'"),
                prepare("CALL p(5, @b, @c)"),
                execute(2, vec![]),
                q("SELECT @b, @c"),
                q("CALL p(6, @b, @c)"),
                ping(),
            ]),
        script("prepared_over_reset", &["COM_RESET_CONNECTION", "COM_STMT_EXECUTE"]).steps(vec![
            prepare("SELECT 1"),
            raw("reset", &[0x1f]),
            execute(1, vec![]),
            prepare("SELECT 2"),
            execute(1, vec![]),
            execute(2, vec![]),
            ping(),
        ]),
        script("sql_prepared", &["PREPARE"]).setup(ACCOUNT).steps(vec![
            q("PREPARE s FROM 'SELECT ?, name FROM account'"),
            q("SET @x = 5"),
            q("EXECUTE s USING @x"),
            prepare("SELECT 2"),
            execute(1, vec![]),
            q("DEALLOCATE PREPARE s"),
            q("EXECUTE s USING @x"),
        ]),
    ]
}

fn every_type() -> Vec<Step> {
    use types::*;
    let values: Vec<Param> = vec![
        Param::raw(TINY, &[0x85]),
        Param::unsigned(TINY, &[0x85]),
        Param::raw(SHORT, &[0, 0x85]),
        Param::unsigned(SHORT, &[0, 0x85]),
        Param::raw(LONG, &[1, 2, 3, 0x84]),
        Param::unsigned(LONG, &[1, 2, 3, 0x84]),
        Param::raw(INT24, &[1, 2, 3, 0]),
        Param::raw(LONGLONG, &[1, 2, 3, 4, 5, 6, 7, 0x88]),
        Param::unsigned(LONGLONG, &[1, 2, 3, 4, 5, 6, 7, 0x88]),
        Param::raw(FLOAT, &1.25_f32.to_le_bytes()),
        Param::raw(DOUBLE, &(-1.0e300_f64).to_le_bytes()),
        Param::raw(YEAR, &2026_u16.to_le_bytes()),
        Param::raw(DATE, &[4, 0xea, 7, 2, 3]),
        Param::raw(DATE, &[0]),
        Param::raw(DATETIME, &[7, 0xea, 7, 2, 3, 4, 5, 6]),
        Param::raw(DATETIME, &[11, 0xea, 7, 2, 3, 4, 5, 6, 0x40, 0xe2, 1, 0]),
        Param::raw(TIMESTAMP, &[11, 0xea, 7, 2, 3, 4, 5, 6, 0x40, 0xe2, 1, 0]),
        Param::raw(TIME, &[8, 1, 2, 0, 0, 0, 4, 5, 6]),
        Param::raw(TIME, &[12, 0, 2, 0, 0, 0, 4, 5, 6, 0x40, 0xe2, 1, 0]),
        Param::raw(TIME, &[0]),
        Param::bytes(DECIMAL, b"12.5"),
        Param::bytes(NEWDECIMAL, b"-99999999999999999999.123456789"),
        Param::bytes(VARCHAR, b"varchar"),
        Param::bytes(VAR_STRING, "\u{1f600}".as_bytes()),
        Param::bytes(STRING, b"string"),
        Param::bytes(TINY_BLOB, b"\0\x01\xff"),
        Param::bytes(MEDIUM_BLOB, b"m"),
        Param::bytes(LONG_BLOB, b"l"),
        Param::bytes(BLOB, b"b"),
        Param::bytes(BIT, &[5]),
        Param::bytes(JSON, br#"{"a": 1}"#),
        Param::bytes(ENUM, b"e"),
        Param::bytes(SET, b"s"),
        Param::bytes(GEOMETRY, &[0; 4]),
        Param::null(NULL),
        Param::bytes(VAR_STRING, b""),
        Param::bytes(VAR_STRING, &[b'x'; 70_000]),
    ];
    let mut steps = vec![prepare("SELECT ?"), prepare("SELECT HEX(?), CAST(? AS CHAR), ? + 0")];
    for value in &values {
        steps.push(execute(1, vec![value.clone()]));
        steps.push(execute(2, vec![value.clone(), value.clone(), value.clone()]));
    }
    steps.push(prepare(&format!("SELECT {}", vec!["?"; values.len()].join(", "))));
    steps.push(execute(3, values));
    steps.push(execute(1, vec![Param::raw(77, &[1])]));
    steps.push(ping());
    steps
}
