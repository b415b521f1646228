//! Each command by itself.

use super::ACCOUNT;
use crate::script::{
    Matrix, May, Script, Step, about, bytes, close, com, dump, end, kill, packet, ping, q, raw, receive,
    script, wait_for,
};

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("ping", &["COM_PING"]).steps(vec![ping(), ping(), raw("ping with more", b"\x0emore")]),
        script("init_db", &["COM_INIT_DB"]).setup(ACCOUNT).steps(vec![
            com("mysql", 0x02, "mysql"),
            q("SELECT DATABASE()"),
            com("information_schema", 0x02, "information_schema"),
            q("SELECT DATABASE()"),
            com("nowhere", 0x02, "nowhere"),
            com("no name", 0x02, ""),
            q("SELECT DATABASE()"),
        ]),
        script("field_list", &["COM_FIELD_LIST"]).setup(ACCOUNT).steps(vec![
            com("all", 0x04, "account\0"),
            com("some", 0x04, "account\0%a%"),
            com("none", 0x04, "account\0zzz"),
            com("nowhere", 0x04, "nowhere\0"),
            com("without the end", 0x04, "account"),
            com("nothing", 0x04, ""),
            ping(),
        ]),
        script("statistics", &["COM_STATISTICS"])
            .steps(vec![raw("statistics", &[0x09]).may(May::Fields(&["text"])), ping()]),
        script("process_info", &["COM_PROCESS_INFO"])
            .steps(vec![raw("process info", &[0x0a]).may(May::Rows), ping()]),
        script("process_kill", &["COM_PROCESS_KILL"]).mariadb().steps(vec![
            q("SELECT CONNECTION_ID()").may(May::Ids),
            q("SELECT 1").by('b'),
            kill('b').may(May::Ids),
            end().by('b'),
            raw("kill nobody", &[0x0c, 0xff, 0xff, 0xff, 0x7f]),
            raw("kill without an id", &[0x0c]),
            ping(),
        ]),
        script("process_kill_itself", &["COM_PROCESS_KILL"]).mariadb().steps(vec![
            q("SELECT 1"),
            kill('a').may(May::Ids),
            end(),
        ]),
        script("process_kill_removed", &["COM_PROCESS_KILL"]).mysql().steps(vec![
            q("SELECT 1").by('b'),
            kill('b'),
            ping().by('b'),
            raw("kill without an id", &[0x0c]),
            ping(),
        ]),
        script("kill_sql", &["KILL"]).steps(vec![
            q("SELECT 1").by('b'),
            about("KILL QUERY {b}"),
            about("KILL {b}"),
            end().by('b'),
            about("KILL {a}").may(May::Ids),
            end(),
        ]),
        script("kill_query_of_another", &["KILL"]).steps(vec![
            q("SELECT 1"),
            q("SELECT SLEEP(1000)").by('b').sent(),
            wait_for("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {b} AND INFO LIKE '%SLEEP(1000)%' AND STATE = 'User sleep'"),
            about("KILL QUERY {b}"),
            receive().by('b'),
            ping().by('b'),
        ]),
        script("processlist", &["SHOW PROCESSLIST"]).steps(vec![
            about("SELECT ID, USER, COMMAND, INFO IS NOT NULL FROM information_schema.PROCESSLIST WHERE ID = {a}").may(May::Ids),
            about("SELECT ID = {a} AS same, USER, DB, COMMAND FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()").by('b').may(May::Ids),
        ]),
        script("debug", &["COM_DEBUG"]).matrix(Matrix::Few).steps(vec![raw("debug", &[0x0d]), ping()]),
        script("debug_as_admin", &["COM_DEBUG"])
            .admin()
            .matrix(Matrix::One)
            .steps(vec![raw("debug", &[0x0d]), ping()]),
        script("set_option", &["COM_SET_OPTION"]).steps(vec![
            q("SELECT 1; SELECT 2"),
            raw("on", &[0x1b, 0, 0]),
            q("SELECT 1; SELECT 2"),
            raw("off", &[0x1b, 1, 0]),
            q("SELECT 1; SELECT 2"),
            raw("on", &[0x1b, 0, 0]),
            q("SELECT 1; SELECT nosuch; SELECT 3"),
            raw("nonsense", &[0x1b, 9, 0]),
            raw("cut short", &[0x1b, 0]),
            raw("nothing", &[0x1b]),
            ping(),
        ]),
        script("reset_connection", &["COM_RESET_CONNECTION"]).setup(ACCOUNT).steps(vec![
            q("SET @a = 1, sql_mode = 'ANSI_QUOTES'"),
            q("CREATE TEMPORARY TABLE tmp (id INT)"),
            q("BEGIN"),
            q("UPDATE account SET balance = 0"),
            raw("reset", &[0x1f]),
            q("SELECT @a, @@sql_mode, DATABASE(), SUM(balance) FROM account"),
            q("SELECT * FROM tmp"),
            raw("reset with more", &[0x1f, 1, 2, 3]),
            q("SELECT 1; SELECT 2"),
            ping(),
        ]),
        script("create_and_drop_db", &["COM_CREATE_DB", "COM_DROP_DB"])
            .steps(vec![com("create", 0x05, "rec_new"), com("drop", 0x06, "rec_new"), ping()]),
        script("refresh", &["COM_REFRESH"]).steps(vec![
            raw("status", &[0x07, 0x10]),
            raw("nothing", &[0x07, 0]),
            raw("without flags", &[0x07]),
            ping(),
        ]),
        script("refresh_as_admin", &["COM_REFRESH"]).admin().matrix(Matrix::One).steps(vec![
            raw("tables", &[0x07, 0x04]),
            raw("status", &[0x07, 0x10]),
            ping(),
        ]),
        script("shutdown", &["COM_SHUTDOWN"]).steps(vec![
            raw("shutdown", &[0x08]),
            raw("shutdown, default", &[0x08, 0]),
            q("SHUTDOWN"),
            ping(),
        ]),
        script("replication_refused", &["COM_BINLOG_DUMP", "COM_BINLOG_DUMP_GTID", "COM_REGISTER_SLAVE", "COM_TABLE_DUMP"])
            .steps(vec![
                raw("register", REGISTER),
                ping(),
                raw("dump", DUMP),
                ping(),
                raw("dump by gtid", DUMP_GTID),
                ping(),
                raw("dump a table", b"\x13\x01a\x01b"),
                ping(),
            ]),
        script("clone_refused", &["COM_CLONE"]).steps(vec![raw("clone", &[0x20]), ping()]),
        script("binlog_dump", &["COM_BINLOG_DUMP"]).admin().matrix(Matrix::Few).steps(vec![
            q("SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE', @mariadb_slave_capability = 4"),
            raw("no such file", b"\x12\x04\0\0\0\x01\0\x63\0\0\0nosuch.000001"),
            ping(),
        ]),
        script("binlog_dumped", &["COM_BINLOG_DUMP"]).admin().matrix(Matrix::Few).steps(vec![
            q("SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum, @mariadb_slave_capability = 4"),
            dump().may(May::Rows),
            ping(),
        ]),
        script("sleep_connect_time_delayed", &["COM_SLEEP", "COM_CONNECT", "COM_TIME", "COM_DELAYED_INSERT", "COM_CONNECT_OUT", "COM_DAEMON"])
            .steps(vec![
                raw("sleep", &[0x00]),
                ping(),
                raw("connect", &[0x0b]),
                ping(),
                raw("time", &[0x0f]),
                ping(),
                raw("delayed insert", &[0x10]),
                ping(),
                raw("connect out", &[0x14]),
                ping(),
                raw("daemon", &[0x1d]),
                ping(),
            ]),
        script("unknown_commands", &["unknown commands"]).steps(unknown()),
        script("empty_packet", &["an empty packet"]).steps(vec![
            ping(),
            bytes("an empty packet", &[0, 0, 0, 0]),
            packet(),
            ping(),
            ping(),
        ]),
        script("wrong_number", &["wrong sequence numbers"]).steps(vec![
            ping(),
            bytes("a ping numbered 5", &[1, 0, 0, 5, 0x0e]),
            packet(),
            ping(),
        ]),
        script("quit", &["COM_QUIT"]).steps(vec![ping(), bytes("quit", &[1, 0, 0, 0, 1]), end()]),
        script("quit_with_more", &["COM_QUIT"]).steps(vec![
            ping(),
            bytes("quit and a ping", &[1, 0, 0, 0, 1, 1, 0, 0, 0, 0x0e]),
            end(),
        ]),
        script("abrupt_close", &["a client that goes away"]).setup(ACCOUNT).steps(vec![
            q("SELECT 1"),
            q("BEGIN").by('b'),
            q("UPDATE account SET balance = 0").by('b'),
            close().by('b'),
            wait_for("SELECT COUNT(*) = 0 FROM information_schema.PROCESSLIST WHERE ID = {b}"),
            q("SELECT SUM(balance) FROM account"),
            q("UPDATE account SET balance = 1"),
        ]),
        script("malformed", &["malformed commands"]).setup(ACCOUNT).steps(malformed()),
        script("malformed_unanswered", &["malformed commands", "COM_STMT_CLOSE", "COM_STMT_SEND_LONG_DATA"])
            .steps(unanswered()),
        script("pipelined", &["pipelined commands"]).setup(ACCOUNT).steps(vec![
            q("SELECT 1").sent(),
            q("UPDATE account SET balance = balance + 1").sent(),
            ping().sent(),
            q("SELECT * FROM account").sent(),
            q("SELECT nosuch").sent(),
            raw("close nothing", &[0x19, 9, 0, 0, 0]).sent(),
            com("init db", 0x02, "mysql").sent(),
            q("SELECT DATABASE()").sent(),
            receive(),
            receive(),
            receive(),
            receive(),
            receive(),
            receive(),
            receive(),
            ping(),
        ]),
    ]
}

const REGISTER: &[u8] = b"\x15\x09\0\0\0\x01h\x01u\x01p\xea\x0c\0\0\0\0\0\0\0\0";
const DUMP: &[u8] = b"\x12\x04\0\0\0\x01\0\x63\0\0\0";
const DUMP_GTID: &[u8] = b"\x1e\x01\0\x63\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0";

fn unknown() -> Vec<Step> {
    let mut steps = Vec::new();
    for byte in [0x21_u8, 0x22, 0x40, 0x7f, 0x80, 0xee, 0xfb, 0xfc, 0xfd, 0xfe, 0xff] {
        steps.push(raw(&format!("{byte:#04x}"), &[byte]));
        steps.push(raw(&format!("{byte:#04x} with more"), &[byte, 1, 2, 3, 4, 5, 6, 7, 8]));
        steps.push(ping());
    }
    steps
}

fn malformed() -> Vec<Step> {
    let mut steps = Vec::new();
    let commands: &[(&str, &[u8])] = &[
        ("query without text", &[0x03]),
        ("init db without a name", &[0x02]),
        ("create db without a name", &[0x05]),
        ("drop db without a name", &[0x06]),
        ("prepare without text", &[0x16]),
        ("prepare nonsense", b"\x16nonsense"),
        ("execute without an id", &[0x17]),
        ("execute half an id", &[0x17, 1, 0]),
        ("execute nothing", &[0x17, 9, 0, 0, 0, 0, 1, 0, 0, 0]),
        ("reset without an id", &[0x1a]),
        ("reset nothing", &[0x1a, 9, 0, 0, 0]),
        ("fetch without an id", &[0x1c]),
        ("fetch nothing", &[0x1c, 9, 0, 0, 0, 1, 0, 0, 0]),
        ("close nothing", &[0x19, 9, 0, 0, 0]),
        ("long data for nothing", &[0x18, 9, 0, 0, 0, 0, 0, b'x']),
        ("text that is no text", b"\x03\xff\xfe\xfd"),
        ("a zero in the text", b"\x03SELECT 1\0"),
    ];
    for (name, command) in commands {
        steps.push(raw(name, command));
        steps.push(ping());
    }
    steps
}

/// Commands that one server answers with an error and the other with nothing: what comes up to the end counts.
fn unanswered() -> Vec<Step> {
    let commands: &[(&str, &[u8])] = &[
        ("close without an id", &[0x19]),
        ("close half an id", &[0x19, 1]),
        ("close with more", &[0x19, 1, 0, 0, 0, 7, 7]),
        ("long data without an id", &[0x18]),
        ("long data without a parameter", &[0x18, 1, 0, 0, 0]),
        ("long data without data", &[0x18, 1, 0, 0, 0, 0, 0]),
        ("quit with more", &[0x01, 1, 2, 3]),
    ];
    let mut steps = Vec::new();
    for (session, (name, command)) in ('a'..).zip(commands) {
        let length = u8::try_from(command.len()).unwrap_or_default();
        let framed = [&[length, 0, 0, 0], *command].concat();
        steps.push(ping().by(session));
        steps.push(bytes(name, &framed).by(session));
        steps.push(bytes("ping", &[1, 0, 0, 0, 0x0e]).by(session));
        steps.push(bytes("quit", &[1, 0, 0, 0, 1]).by(session));
        steps.push(end().by(session));
    }
    steps
}
