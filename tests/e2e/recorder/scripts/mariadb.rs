//! What only MariaDB has.

use atone_tests::wire::caps;
use atone_tests::wire::payload::{Param, lenenc_bytes, statement, types};

use super::ACCOUNT;
use crate::script::{
    LAST, Matrix, May, Script, Step, execute, open, ping, prepare, q, raw, receive, script, stmt,
};

const BULK: u8 = 0xfa;

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("execute_direct", &["execute-direct"]).mariadb().setup(ACCOUNT).steps(vec![
            prepare("SELECT id + ? FROM account ORDER BY id"),
            execute(LAST, vec![Param::int(1)]),
            prepare("SELECT id + ? FROM account ORDER BY id").sent(),
            execute(LAST, vec![Param::int(2)]).sent(),
            receive(),
            receive(),
            prepare("SELECT nosuch + ? FROM account").sent(),
            execute(LAST, vec![Param::int(3)]).sent(),
            ping().sent(),
            receive(),
            receive(),
            receive(),
            prepare("nonsense"),
            execute(LAST, vec![]),
            prepare("UPDATE account SET balance = ?").sent(),
            execute(LAST, vec![Param::int(4)]).sent(),
            raw("close the last", &statement(0x19, LAST, &[])).sent(),
            q("SELECT * FROM account").sent(),
            receive(),
            receive(),
            receive(),
            execute(LAST, vec![Param::int(5)]),
            ping(),
        ]),
        script("execute_direct_first", &["execute-direct"])
            .mariadb()
            .steps(vec![execute(LAST, vec![]), ping()]),
        script("bulk_execute", &["COM_STMT_BULK_EXECUTE", "MARIADB_CLIENT_STMT_BULK_OPERATIONS"])
            .mariadb()
            .needs(caps::MARIADB_STMT_BULK)
            .setup(ACCOUNT)
            .steps(bulk()),
        script("bulk_without_the_bit", &["COM_STMT_BULK_EXECUTE"]).mariadb().setup(ACCOUNT).steps(vec![
            open("without bulk", |login| login.capabilities &= !caps::MARIADB_STMT_BULK),
            prepare("INSERT INTO account VALUES (?, ?, ?)"),
            stmt("bulk", BULK, 1, &bulk_rows(128, &[(10, Some("ten"))])),
            q("SELECT COUNT(*) FROM account"),
            ping(),
        ]),
        script("metadata_caching", &["MARIADB_CLIENT_CACHE_METADATA"])
            .mariadb()
            .needs(caps::MARIADB_CACHE_METADATA)
            .setup(ACCOUNT)
            .steps(vec![
                prepare("SELECT * FROM account ORDER BY id"),
                execute(1, vec![]),
                execute(1, vec![]),
                q("ALTER TABLE account ADD COLUMN more INT"),
                execute(1, vec![]),
                execute(1, vec![]),
                q("SET character_set_results = latin1"),
                execute(1, vec![]),
                q("SELECT * FROM account"),
                q("SELECT * FROM account"),
                prepare("SELECT 1").sent(),
                execute(LAST, vec![]).sent(),
                receive(),
                receive(),
                execute(LAST, vec![]),
                ping(),
            ]),
        script("without_metadata_caching", &["MARIADB_CLIENT_CACHE_METADATA", "MARIADB_CLIENT_EXTENDED_METADATA"])
            .mariadb()
            .setup(ACCOUNT)
            .setup(&[TYPES])
            .steps(vec![
                open("without", |login| {
                    login.capabilities &= !caps::MARIADB_CACHE_METADATA & !caps::MARIADB_EXTENDED_METADATA;
                }),
                prepare("SELECT * FROM account ORDER BY id"),
                execute(1, vec![]),
                execute(1, vec![]),
                q("SELECT * FROM types"),
                ping(),
            ]),
        script("extended_metadata", &["MARIADB_CLIENT_EXTENDED_METADATA"])
            .mariadb()
            .needs(caps::MARIADB_EXTENDED_METADATA)
            .setup(&[TYPES])
            .steps(vec![
                q("INSERT INTO types VALUES (1, '{}', UUID_TO_BIN('x'), NULL, NULL, NULL, NULL, NULL, NULL)"),
                q("INSERT INTO types VALUES (1, '{\"a\": 1}', '123e4567-e89b-12d3-a456-426614174000', '::1', '10.0.0.1', POINT(1, 2), NULL, NULL, NULL)"),
                q("SELECT * FROM types"),
                q("SELECT JSON_OBJECT('a', 1), CAST('::1' AS INET6), ST_GeomFromText('POINT(1 1)'), JSON_EXTRACT(j, '$.a') FROM types"),
                prepare("SELECT *, ? FROM types WHERE u = ?"),
                execute(1, vec![Param::int(1), Param::text("123e4567-e89b-12d3-a456-426614174000")]),
                raw("fields", b"\x04types\0"),
                ping(),
            ]),
        script("progress_reports", &["MARIADB_CLIENT_PROGRESS"])
            .mariadb()
            .needs(caps::MARIADB_PROGRESS)
            .matrix(Matrix::Few)
            .setup(&[
                "CREATE TABLE p (id INT PRIMARY KEY AUTO_INCREMENT, t VARCHAR(200)) ENGINE = InnoDB",
                "INSERT INTO p SELECT NULL, REPEAT('p', 200) FROM seq_1_to_20000",
            ])
            .steps(vec![
                q("SET progress_report_time = 1e-6"),
                q("ALTER TABLE p ENGINE = InnoDB, ALGORITHM = COPY").may(May::Progress),
                q("ALTER TABLE p ADD UNIQUE KEY (t), ALGORITHM = COPY").may(May::Progress),
                q("SELECT COUNT(*) FROM p"),
                prepare("ALTER TABLE p FORCE, ALGORITHM = COPY"),
                execute(1, vec![]).may(May::Progress),
                ping(),
            ]),
        script("bulk_unit_results", &["MARIADB_CLIENT_BULK_UNIT_RESULTS"]).mariadb().setup(ACCOUNT).steps(vec![
            open("with unit results", |login| login.capabilities |= caps::MARIADB_BULK_UNIT_RESULTS),
            q("SELECT 1"),
        ]),
    ]
}

const TYPES: &str = "CREATE TABLE types (id INT PRIMARY KEY, j JSON, u UUID, i6 INET6, i4 INET4, p POINT, \
                     g GEOMETRY, l LINESTRING, m MULTIPOLYGON)";

/// The part of COM_STMT_BULK_EXECUTE after the statement's id: rows of (INT, VARCHAR, a balance by default).
fn bulk_rows(flags: u16, rows: &[(i32, Option<&str>)]) -> Vec<u8> {
    let mut out = flags.to_le_bytes().to_vec();
    if flags & 128 != 0 {
        for kind in [types::LONG, types::VAR_STRING, types::LONG] {
            out.extend_from_slice(&[kind, 0]);
        }
    }
    for (id, name) in rows {
        out.push(0);
        out.extend_from_slice(&id.to_le_bytes());
        match name {
            Some(name) => {
                out.push(0);
                out.extend_from_slice(&lenenc_bytes(name.as_bytes()));
            }
            None => out.push(1),
        }
        // DEFAULT
        out.push(2);
    }
    out
}

fn bulk() -> Vec<Step> {
    vec![
        prepare("INSERT INTO account (id, name, balance) VALUES (?, ?, ?)"),
        stmt("bulk", BULK, 1, &bulk_rows(128, &[(10, Some("ten")), (11, None), (12, Some("twelve"))])),
        stmt("bulk with the same types", BULK, 1, &bulk_rows(0, &[(13, Some("thirteen")), (14, None)])),
        stmt("bulk with an error", BULK, 1, &bulk_rows(128, &[(15, None), (10, None), (16, None)])),
        q("SELECT * FROM account ORDER BY id"),
        prepare("INSERT INTO account (id, name, balance) VALUES (?, ?, ?) RETURNING id, name"),
        stmt("bulk that returns", BULK, 2, &bulk_rows(128, &[(20, Some("twenty")), (21, None)])),
        prepare("UPDATE account SET name = CONCAT(id, 'x') WHERE id = ? AND name = ? AND balance = ?"),
        stmt("bulk update", BULK, 3, &bulk_rows(128, &[(10, Some("ten")), (11, Some("y"))])),
        stmt("no rows", BULK, 1, &bulk_rows(128, &[])),
        stmt("unit results", BULK, 1, &bulk_rows(128 | 64, &[(30, None), (31, None)])),
        stmt("nonsense flags", BULK, 1, &bulk_rows(0x8000, &[(40, None)])),
        stmt("cut short", BULK, 1, &[128]),
        stmt("no such statement", BULK, 9, &bulk_rows(128, &[(50, None)])),
        prepare("SELECT ?"),
        stmt("of what has no bulk", BULK, 4, &[128, 0, 3, 0, 0, 1, 0, 0, 0]),
        prepare("INSERT INTO account (id, name, balance) VALUES (?, ?, ?)").sent(),
        raw("bulk of the last", &statement(BULK, LAST, &bulk_rows(128, &[(60, Some("sixty"))]))).sent(),
        receive(),
        receive(),
        q("SELECT * FROM account ORDER BY id"),
        ping(),
    ]
}
