//! What is said of the statements of unbound sessions.

use atone_sql::{Mode, may_change_parsing, may_concern_atone, may_prepare, may_write};

#[test]
fn writes() {
    let mode = Mode::default();
    for sql in [
        "SELECT * FROM t FOR UPDATE",
        "SHOW TABLES",
        "SET @a = 1",
        "SET autocommit = 0",
        "USE s",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
        "SELECT NOW(), COUNT(*) FROM t",
        "/* a */",
        "/*!40101 SET NAMES utf8 */",
        "SELECT ROW_COUNT()",
    ] {
        assert!(!may_write(sql.as_bytes(), mode), "{sql}");
    }
    for sql in [
        "UPDATE t SET a = 1",
        "UPDATE t, u SET t.a = 1",
        "INSERT INTO t SELECT 1",
        "REPLACE INTO t VALUES (1)",
        "SELECT f(1)",
        "SELECT 1; DELETE FROM t",
        "SELECT 1 /*!50000 ; DELETE FROM t */",
        "WITH c AS (SELECT 1) DELETE FROM t",
        "CALL p()",
        "LOAD DATA INFILE 'a' INTO TABLE t",
        "DO f()",
        "SET @a = f()",
        "EXECUTE p",
        "whatever",
        "SELECT 'a",
    ] {
        assert!(may_write(sql.as_bytes(), mode), "{sql}");
    }
}

#[test]
fn what_may_change_how_prepared_statements_are_read() {
    for sql in [
        "USE s",
        "SET NAMES latin1",
        "set @@session.sql_mode='ANSI'",
        "SET @a = 1, character_set_client = utf8mb4",
        "SET COLLATION_CONNECTION = x",
        "SELECT 1; use s",
        "CALL p()",
        "EXECUTE p",
    ] {
        assert!(may_change_parsing(sql.as_bytes()), "{sql}");
    }
    for sql in ["SELECT * FROM user", "SET time_zone = '+00:00'", "UPDATE t SET used = 1, username = 'x'"] {
        assert!(!may_change_parsing(sql.as_bytes()), "{sql}");
    }
    for sql in ["PREPARE p FROM 'SELECT 1'", "CALL p()", "SELECT 1; execute immediate 'x'"] {
        assert!(may_prepare(sql.as_bytes()), "{sql}");
    }
    assert!(!may_prepare(b"SELECT prepared FROM t"));
}

#[test]
fn usual_statements_need_no_attention() {
    for sql in [
        "SELECT * FROM t WHERE id = 5",
        "INSERT INTO t VALUES ('a@b.c')",
        "COMMIT",
        "START TRANSACTION",
        "ROLLBACK TO a",
        "SET @a = 1",
        "SELECT 1 /* plain */",
        "SELECT /*+ BKA(t) */ 1",
        "SELECT atone_xid FROM t",
        "",
    ] {
        assert!(!may_concern_atone(sql.as_bytes()), "{sql}");
    }
}
