//! What is said of the statements of unbound sessions.

use atone_sql::{Mode, may_create_temporary, may_write, needs_attention};

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
fn temporary_tables() {
    let mode = Mode::default();
    for sql in [
        "SELECT COUNT(*) FROM t",
        "INSERT INTO t (a, b) VALUES (NOW(), 'TEMPORARY')",
        "INSERT INTO s.t(a) SELECT MAX(b) FROM t",
        "CREATE TABLE t (a INT, KEY (a))",
        "ALTER TABLE t ADD KEY k (a)",
        "UPDATE t SET a = 1 /* TEMPORARY */",
        "SELECT `temporary`, t.call FROM t",
    ] {
        assert!(!may_create_temporary(sql.as_bytes(), mode), "{sql}");
    }
    for sql in [
        "CREATE TEMPORARY TABLE t (a INT)",
        "create/**/temporary/**/table t select 1",
        "CREATE /*!40000 TEMPORARY */ TABLE t (a INT)",
        "CALL p()",
        "EXECUTE p",
        "SELECT f(1)",
        "SELECT s.f(1)",
        "INSERT INTO t (a) VALUES (f(1))",
        "CREATE TABLE t SELECT f(1)",
        "SELECT 1; CREATE TEMPORARY TABLE t (a INT)",
        "DROP TABLE t; SELECT f()",
        "SELECT 'a",
    ] {
        assert!(may_create_temporary(sql.as_bytes(), mode), "{sql}");
    }
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
        assert!(!needs_attention(sql.as_bytes()), "{sql}");
    }
}
