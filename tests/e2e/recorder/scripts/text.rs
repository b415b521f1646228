//! Queries and their results.

use atone_tests::wire::caps;

use super::ACCOUNT;
use crate::script::{Script, Step, execute, ping, prepare, q, qb, script};

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("queries", &["COM_QUERY"]).setup(ACCOUNT).steps(vec![
            q("SELECT * FROM account ORDER BY id"),
            q("SELECT 1 AS `a b`, NULL, 'x', 1.50, 0xFF, -1, 1e10, TRUE, DATE'2026-01-02', TIME'10:11:12.5'"),
            q("UPDATE account SET balance = balance + 1"),
            q("UPDATE account SET balance = balance"),
            q("INSERT INTO account VALUES (1, 'x', 1)"),
            q("INSERT IGNORE INTO account VALUES (1, 'x', 1), (7, 'seven', 7)"),
            q("SHOW WARNINGS"),
            q("REPLACE INTO account VALUES (1, 'replaced', 1)"),
            q("INSERT INTO account VALUES (1, 'x', 1) ON DUPLICATE KEY UPDATE balance = balance + 5"),
            q("CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT) ENGINE = InnoDB"),
            q("INSERT INTO other (t) VALUES ('a'), ('b')"),
            q("SELECT LAST_INSERT_ID(), ROW_COUNT()"),
            q("BEGIN"),
            q("DELETE FROM account"),
            q("SAVEPOINT a"),
            q("ROLLBACK TO a"),
            q("ROLLBACK"),
            q("SET autocommit = 0"),
            q("SELECT COUNT(*) FROM account"),
            q("COMMIT"),
            q("SET autocommit = 1"),
            q("START TRANSACTION READ ONLY"),
            q("SELECT COUNT(*) FROM account"),
            q("COMMIT"),
            q("LOCK TABLES account WRITE"),
            q("UNLOCK TABLES"),
            q("no such statement"),
            q(""),
            q(" "),
            q("-- nothing"),
            q(";"),
            q("SELECT * FROM nowhere"),
            q("USE nowhere"),
            q("SELECT 1 FROM account WHERE id = 99"),
            q("SELECT * FROM account WHERE name = _binary'\\0\\xff'"),
            q("SELECT 1 + 'x'"),
            q("SELECT @atone_xid"),
            q("SELECT 'START GLOBAL TRANSACTION', '@atone_xid', '/*+ XID(1) */'"),
            q("TRUNCATE TABLE other"),
            q("EXPLAIN SELECT 1"),
            q("DO 1"),
            q("SHOW TABLES"),
            q("SHOW CREATE TABLE account"),
            q("CHECKSUM TABLE account"),
            q("ANALYZE TABLE account"),
            q("HELP 'nothing'"),
            q("HANDLER account OPEN"),
            q("HANDLER account READ FIRST"),
            q("HANDLER account CLOSE"),
            q("XA START 'a'"),
            q("XA END 'a'"),
            q("XA ROLLBACK 'a'"),
            ping(),
        ]),
        script("every_type", &["COM_QUERY", "COM_STMT_EXECUTE"]).setup(&[EVERY_TYPE, EVERY_VALUE]).steps(vec![
            q("SELECT * FROM every"),
            prepare("SELECT * FROM every"),
            execute(1, vec![]),
            q("SELECT * FROM every LIMIT 0"),
        ]),
        script("multi_statements", &["CLIENT_MULTI_STATEMENTS", "CLIENT_MULTI_RESULTS"]).setup(ACCOUNT).steps(vec![
            q("SELECT 1; SELECT 2"),
            q("SELECT 1; UPDATE account SET balance = 5; SELECT * FROM account;"),
            q("UPDATE account SET balance = 6; UPDATE account SET balance = 7"),
            q("SELECT 1; SELECT nosuch; UPDATE account SET balance = 8"),
            q("SELECT 1; nonsense; UPDATE account SET balance = 8"),
            q("SELECT 1;; SELECT 2"),
            q(";SELECT 1"),
            q("SELECT 1; "),
            q("SELECT 1; -- nothing"),
            q("SELECT 1; /* nothing */ ; SELECT 2"),
            q("SELECT 'a;b'; SELECT \"c;d\""),
            q("BEGIN; UPDATE account SET balance = 9; ROLLBACK; SELECT SUM(balance) FROM account"),
            q("SELECT SUM(balance) FROM account"),
            prepare("SELECT 1; SELECT 2"),
            ping(),
        ]),
        script("calls", &["CALL", "CLIENT_MULTI_RESULTS"])
            .setup(ACCOUNT)
            .setup(&[
                "CREATE PROCEDURE several() BEGIN SELECT 1; SELECT * FROM account ORDER BY id; UPDATE account SET balance = 0; END",
                "CREATE PROCEDURE none() BEGIN UPDATE account SET balance = 0; END",
                "CREATE PROCEDURE fails() BEGIN SELECT 1; SELECT nosuch FROM account; SELECT 3; END",
                "CREATE PROCEDURE warns() BEGIN SELECT 1 + 'x'; SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'well'; END",
            ])
            .steps(vec![
                q("CALL none()"),
                q("CALL several()"),
                q("CALL fails()"),
                q("CALL warns()"),
                q("SHOW WARNINGS"),
                q("CALL nosuch()"),
                q("CALL several(); SELECT 'behind'; CALL none()"),
                q("CREATE PROCEDURE body() BEGIN DECLARE a INT; SET a = 1; SELECT a; END"),
                q("CALL body()"),
                q("CREATE TRIGGER tr BEFORE UPDATE ON account FOR EACH ROW BEGIN SET NEW.name = 'x;y'; SET NEW.balance = 3; END"),
                q("UPDATE account SET balance = 1"),
                q("SELECT * FROM account"),
                q("CREATE FUNCTION f(a INT) RETURNS INT DETERMINISTIC BEGIN DECLARE b INT DEFAULT 2; RETURN a * b; END"),
                q("SELECT f(21)"),
                ping(),
            ]),
        script("charsets", &["charsets"])
            .setup(&["CREATE TABLE c (id INT PRIMARY KEY, l VARCHAR(20) CHARACTER SET latin1, g VARCHAR(20) CHARACTER SET gbk, s VARCHAR(20) CHARACTER SET sjis, u VARCHAR(20) CHARACTER SET utf16, b VARBINARY(20))"])
            .steps(charsets()),
        script("executable_comments", &["executable comments"]).setup(ACCOUNT).steps(vec![
            q("SELECT 1 /*! + 1 */"),
            q("SELECT 1 /*!50000 + 1 */"),
            q("SELECT 1 /*!99999 + 1 */"),
            q("SELECT 1 /*!999999 + 1 */"),
            q("SELECT 1 /*M! + 1 */"),
            q("SELECT 1 /*M!100000 + 1 */"),
            q("/*!50000 SELECT 'x' */"),
            q("/*! SELECT 1; SELECT 2 */"),
            q("SELECT /*+ MAX_EXECUTION_TIME(1000) */ 1"),
            q("SELECT /*+ NO_SUCH_HINT(1) */ 1"),
            q("SHOW WARNINGS"),
            q("# a comment\nSELECT 1"),
            q("SELECT 1 -- behind"),
            q("SELECT 1 /* not closed"),
        ]),
        script("sql_modes", &["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES"]).setup(ACCOUNT).steps(vec![
            q("SET sql_mode = 'ANSI_QUOTES'"),
            q("SELECT \"name\" FROM \"account\" ORDER BY \"id\""),
            q("SELECT \"nosuch;\" FROM account"),
            q("SET sql_mode = 'NO_BACKSLASH_ESCAPES'"),
            q("SELECT 'a\\', 'b'"),
            q("SELECT 'a\\'; SELECT 2"),
            q("SET sql_mode = 'ANSI'"),
            q("SELECT 'a' || 'b'"),
            q("SET sql_mode = 'PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,IGNORE_SPACE'"),
            q("SELECT 'a' || 'b', NOT 1 BETWEEN 0 AND 2, COUNT (*) FROM account"),
            q("SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'"),
            q("SET sql_mode = 'nosuch'"),
            q("SET sql_mode = ''"),
            q("INSERT INTO account VALUES (8, REPEAT('x', 50), 'y')"),
            q("SHOW WARNINGS"),
        ]),
        script("oracle_mode", &["sql_mode ORACLE"]).mariadb().setup(ACCOUNT).steps(vec![
            q("SET sql_mode = 'ORACLE'"),
            q("BEGIN\n SELECT 1; SELECT 2; END"),
            q("CREATE PROCEDURE op(a INT) AS BEGIN SELECT a; END"),
            q("CALL op(3)"),
            q("SELECT 1 FROM dual"),
        ]),
        script("compound_statements", &["compound statements"]).mariadb().setup(ACCOUNT).steps(vec![
            q("BEGIN NOT ATOMIC SELECT 1; SELECT 2; END"),
            q("IF 1 THEN SELECT 1; END IF"),
            q("INSERT INTO account VALUES (9, 'nine', 9) RETURNING id, name"),
            q("DELETE FROM account WHERE id = 9 RETURNING *"),
        ]),
        script("session_track", &["CLIENT_SESSION_TRACK"])
            .needs(caps::SESSION_TRACK)
            .setup(ACCOUNT)
            .steps(vec![
                q("SET session_track_schema = ON, session_track_state_change = ON"),
                q("SET session_track_system_variables = '*'"),
                q("SET session_track_transaction_info = 'CHARACTERISTICS'"),
                q("USE mysql"),
                q("SET NAMES latin1"),
                q("SET sql_mode = 'ANSI_QUOTES', autocommit = 0"),
                q("SELECT 1"),
                q("SET autocommit = 1"),
                q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
                q("START TRANSACTION READ WRITE"),
                q("SELECT 1"),
                q("COMMIT"),
                q("START TRANSACTION WITH CONSISTENT SNAPSHOT"),
                q("ROLLBACK"),
                q("SET @a = 1"),
                q("PREPARE s FROM 'SELECT 1'"),
                q("CREATE TEMPORARY TABLE nowhere.tmp (id INT)"),
                q("SET session_track_system_variables = ''"),
                q("SET sql_mode = DEFAULT"),
            ]),
        script("found_rows", &["CLIENT_FOUND_ROWS"]).setup(ACCOUNT).steps(vec![
            crate::script::open("with found rows", |login| login.capabilities |= caps::FOUND_ROWS),
            q("UPDATE account SET balance = balance"),
            q("UPDATE account SET balance = 100"),
            q("INSERT INTO account VALUES (1, 'x', 1) ON DUPLICATE KEY UPDATE balance = 100"),
        ]),
        script("ignore_space", &["CLIENT_IGNORE_SPACE"]).setup(ACCOUNT).steps(vec![
            crate::script::open("with ignored spaces", |login| login.capabilities |= caps::IGNORE_SPACE),
            q("SELECT COUNT (*) FROM account"),
            q("SELECT @@sql_mode LIKE '%IGNORE_SPACE%'"),
        ]),
        script("interactive", &["CLIENT_INTERACTIVE"]).steps(vec![
            crate::script::open("interactive", |login| login.capabilities |= caps::INTERACTIVE),
            q("SELECT @@wait_timeout = @@interactive_timeout, @@wait_timeout"),
        ]),
        script("no_schema", &["CLIENT_NO_SCHEMA", "CLIENT_ODBC", "CLIENT_IGNORE_SIGPIPE", "CLIENT_REMEMBER_OPTIONS"])
            .setup(ACCOUNT)
            .steps(vec![
                crate::script::open("with old bits", |login| {
                    login.capabilities |=
                        caps::NO_SCHEMA | caps::ODBC | caps::IGNORE_SIGPIPE | caps::REMEMBER_OPTIONS;
                }),
                q("SELECT DATABASE()"),
                q("SELECT mysql.user.User FROM mysql.user LIMIT 0"),
            ]),
        script("warnings_counts", &["COM_QUERY"]).steps(vec![
            q("CREATE TABLE w (a TINYINT, b CHAR(1))"),
            q("SET sql_mode = ''"),
            q("INSERT INTO w VALUES (1000, 'xx'), (1000, 'yy')"),
            q("SHOW COUNT(*) WARNINGS"),
            q("SHOW WARNINGS LIMIT 2"),
            q("DROP TABLE IF EXISTS nosuch1, nosuch2"),
            q("SHOW ERRORS"),
            q("GET DIAGNOSTICS @n = NUMBER"),
            q("SELECT @n, @@warning_count, @@error_count"),
        ]),
    ]
}

const EVERY_TYPE: &str = "CREATE TABLE every (id INT PRIMARY KEY AUTO_INCREMENT, a TINYINT(1), b TINYINT UNSIGNED, \
    c SMALLINT, d MEDIUMINT, e INT UNSIGNED ZEROFILL, f BIGINT UNSIGNED, g FLOAT, h DOUBLE, i DECIMAL(65,30), j BIT(64), \
    k YEAR, l DATE, m DATETIME(6), n TIMESTAMP(3) NULL, o TIME(2), p CHAR(10), q VARCHAR(100) CHARACTER SET latin1, \
    r BINARY(4), s VARBINARY(10), t TINYTEXT, u MEDIUMBLOB, v LONGTEXT, w ENUM('a','b'), x SET('c','d'), y JSON, \
    z GEOMETRY, UNIQUE KEY (b), KEY (c, d))";

const EVERY_VALUE: &str = "INSERT INTO every VALUES (1, 1, 255, -32768, 8388607, 42, 18446744073709551615, 1.5, -1e308, \
    12345.678901234567890123456789, b'1010', 2026, '2026-01-02', '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05.678', \
    '-838:59:58.99', 'ch', 'm\u{fc}', 'bi', 'vb', 'tt', 'mb', 'lt', 'a', 'c,d', '{\"a\": [1, 2.5, null]}', \
    ST_GeomFromText('POINT(1 2)')), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

fn charsets() -> Vec<Step> {
    let mut steps = Vec::new();
    let texts: &[(&str, &[u8])] = &[
        ("latin1", b"m\xfcller"),
        // Characters whose second byte is a backslash, and a quote after one
        ("gbk", b"\xd5\x5c \xbf\x5c"),
        ("sjis", b"\x95\x5c \x83\x5c"),
        ("utf8mb4", "\u{1f600}\u{6f22}".as_bytes()),
        ("big5", b"\xa5\x5c"),
        ("cp932", b"\x95\x5c"),
        ("euckr", b"\xc7\xd1"),
        ("gb18030", b"\x81\x30\x81\x30"),
        ("utf16", b"x"),
        ("ucs2", b"x"),
        ("binary", b"\xff\x01"),
    ];
    for (n, (charset, text)) in texts.iter().enumerate() {
        steps.push(q(&format!("SET NAMES {charset}")));
        let id = (n + 1).to_string();
        for column in ["l", "g", "s", "u", "b"] {
            let mut sql = format!("REPLACE INTO c (id, {column}) VALUES ({id}, '").into_bytes();
            sql.extend_from_slice(text);
            sql.extend_from_slice(b"')");
            steps.push(qb(&sql));
        }
        steps.push(q("SELECT * FROM c ORDER BY id"));
        let mut sql = b"SELECT '".to_vec();
        sql.extend_from_slice(text);
        sql.extend_from_slice(b"', 'it''s' AS `");
        sql.extend_from_slice(text);
        sql.extend_from_slice(b"`");
        steps.push(qb(&sql));
    }
    for charset in ["latin1", "gbk", "sjis", "utf8mb4", "NULL"] {
        steps.push(q(&format!("SET NAMES utf8mb4; SET character_set_results = {charset}")));
        steps.push(q(&format!("SET character_set_results = {charset}")));
        steps.push(q("SELECT 'x', l, g, s, u, b FROM c ORDER BY id"));
        steps.push(q("SELECT nosuch FROM c"));
    }
    for results in ["utf16", "ucs2", "utf32"] {
        steps.push(q(&format!("SET character_set_results = {results}")));
        steps.push(q("SELECT 'x', l, g, s, u, b FROM c ORDER BY id"));
        steps.push(q("SELECT nosuch FROM c"));
    }
    steps
}
