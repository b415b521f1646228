//! What each form of statement is taken for.

mod common;

use atone_sql::{InsertValue, Mode, Statement, analyze};
use common::check;

const MYSQL: Mode = Mode {
    ansi_quotes: false,
    no_backslash_escapes: false,
    ignore_space: false,
    mariadb: false,
    marks: None,
    charset: atone_sql::Charset::PLAIN,
};

#[test]
fn global_transactions() {
    check(
        MYSQL,
        r#"
        START GLOBAL TRANSACTION => StartGlobal { name: None, timeout_s: None }
        start global transaction name 'a''b\'c' timeout 30; => StartGlobal { name: Some("a'b'c"), timeout_s: Some(30) } rest<;>
        start global transaction join 'a:1'; => JoinGlobal 'a:1' rest<;>
        START GLOBAL TRANSACTION JOIN ? => JoinGlobal ?0
        START GLOBAL TRANSACTION JOIN 17 => JoinGlobal '17'
        START GLOBAL TRANSACTION JOIN '' => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START GLOBAL TRANSACTION JOIN NULL => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START GLOBAL TRANSACTION JOIN 'a' TIMEOUT 5 => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START /* x */ GLOBAL TRANSACTION TIMEOUT 5 NAME "n" => StartGlobal { name: Some("n"), timeout_s: Some(5) }
        START GLOBAL TRANSACTION NAME x => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START GLOBAL TRANSACTION NAME 'a' NAME 'b' => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START GLOBAL TRANSACTION TIMEOUT 1.5 => Refused always: the TIMEOUT of a global transaction must be a whole number of seconds
        START GLOBAL TRANSACTION TIMEOUT -1 => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START GLOBAL => Refused always: expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'
        START GLOBAL TRANSACTION; UPDATE t SET a = 1 => Refused always: several statements in one packet
        COMMIT GLOBAL TRANSACTION => CommitGlobal
        -- A comment of every kind before it.
        /* a */ # b\n -- c\n rollback global transaction ; => RollbackGlobal rest< ;>
        COMMIT GLOBAL TRANSACTION NOW => Refused always: expected COMMIT GLOBAL TRANSACTION
        ROLLBACK GLOBAL => Refused always: expected ROLLBACK GLOBAL TRANSACTION
        "#,
    );
}

#[test]
fn binding() {
    check(
        MYSQL,
        r#"
        SET @atone_xid = 'a:1' => SetXid 'a:1'
        set @ATONE_XID := "x" => SetXid 'x'
        SET @`atone_xid` = '' => SetXid ''
        SET @'atone_xid' = NULL => SetXid NULL
        SET @"Atone_Xid " = ? => SetXid ?0
        SET @'at\one_xid' = 'x' => SetXid 'x'
        SET @atone_xid = 'not an xid' => SetXid 'not an xid'
        SET @atone_xid = @x => TouchesXid
        SET @atone_xid = 'a' 'b' => TouchesXid
        SET @atone_xid = 5 => TouchesXid
        SET @atone_xid = CONCAT('a', 'b') => TouchesXid
        SET @a = 1, @atone_xid = 'x' => TouchesXid
        SET NAMES utf8mb4, @atone_xid = 'x' => TouchesXid vars[names]
        SET @a = (@atone_xid := 'x') => TouchesXid
        SET autocommit = 0, @atone_xid = 'x' => Refused always: one SET can't assign both autocommit and @atone_xid touches
        SET GLOBAL max_connections = 5, @atone_xid = 'x' => Refused: SET GLOBAL changes the server touches
        SET @atone_xid = 'x'; UPDATE t SET a = 1 => Refused always: several statements in one packet touches
        SELECT @atone_xid => Read
        SELECT @atone_xid = 'x' => Read
        SELECT @atone_xid := 'x' => TouchesXid
        SELECT 'x' INTO @atone_xid => TouchesXid
        SELECT 'x', 'y' INTO @a, @`atone_xid` => TouchesXid
        DO @atone_xid := 'x' => TouchesXid
        SELECT f() INTO @atone_xid => Refused: the statement calls the function f, which may write touches
        CALL p(@atone_xid) => Refused: CALL may write rows that are not captured touches
        UPDATE t SET a = (@atone_xid := 'x') => Refused: the statement assigns @atone_xid touches
        UPDATE t SET a = @atone_xid => Update t [a:=@atone_xid]
        -- Another variable.
        SET @atone_xid2 = 'x' => Set
        SET @my_atone_xid = 'x' => Set
        SET @atone_xid.b = 'x' => Set
        "#,
    );
}

#[test]
fn hints() {
    check(
        MYSQL,
        r#"
        UPDATE /*+ XID('a:1') */ t SET a = 1 => Update t [a:=1] XID a:1 in </*+ XID('a:1') */>
        SELECT /*+xid( "a" )*/ 1 => Read XID a in </*+xid( "a" )*/>
        DELETE /*+ BKA(t) XID('a') NO_ICP(`t` idx) */ FROM t WHERE id = 1 => Delete t where<id = 1> equalities[id=1] XID a in <XID('a')>
        SELECT /*+ QB_NAME(`XID('a')`) */ 1 => Read
        INSERT INTO /*+ XID('a') */ t VALUES (1) => Refused always: the XID hint must stand right after the statement's first word
        SELECT (SELECT /*+ XID('a') */ 1) => Refused always: the XID hint must stand right after the statement's first word
        SELECT /*+ XID('a b') */ 1 => Refused always: the XID of the hint is not valid
        SELECT /*+ XID('') */ 1 => Refused always: the XID of the hint is not valid
        SELECT /*+ XID(a) */ 1 => Refused always: the XID hint is malformed: expected /*+ XID('…') */
        SELECT /*+ XID('a' */ 1 => Refused always: the XID hint is malformed: expected /*+ XID('…') */
        SELECT /*+ XID('a') XID('a') */ 1 => Refused always: the statement has several XID hints
        SELECT /*+ XID('a') */ 1 /* xid='a' */ => Refused always: the statement has several XID hints rest< /* xid='a' */>
        -- sqlcommenter
        UPDATE t SET a = 1 /* xid='a%3A1' */ => Update t [a:=1] XID a:1 in </* xid='a%3A1' */> rest< /* xid='a%3A1' */>
        SELECT 1 /*app='x\'y',traceparent='00-1',xid='a'*/; => Read XID a in </*app='x\'y',traceparent='00-1',xid='a'*/> rest< /*app='x\'y',traceparent='00-1',xid='a'*/;>
        SELECT 1; /* xid='a' */ => Read XID a in </* xid='a' */> rest<; /* xid='a' */>
        SELECT 1 /* xid='a' */ + 1 => Read
        /* xid='a' */ SELECT 1 => Read
        /* xid='0a1b2c3d:0000010000000002' */ SELECT 1 => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word
        SELECT 1 /* xid="0a1b2c3d:0000010000000002" */ + 1 => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word
        /* XID ( '0a1b2c3d:0000010000000002' ) */ SELECT 1 => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word
        SELECT 1 /* a=1,xid='0a1b2c3d:0000010000000002' */ => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word rest< /* a=1,xid='0a1b2c3d:0000010000000002' */>
        SELECT 1 /* job 17, xid = 0a1b2c3d:0000010000000002 */ => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word rest< /* job 17, xid = 0a1b2c3d:0000010000000002 */>
        SELECT 1 /* XID='0a1b2c3d%3A0000010000000002' */ => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word rest< /* XID='0a1b2c3d%3A0000010000000002' */>
        SELECT 1 /* trace=x27, xid="0a1b2c3d:0000010000000002" */ => Refused always: a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, or /*+ XID('…') */ right after the first word rest< /* trace=x27, xid="0a1b2c3d:0000010000000002" */>
        SELECT 1 /* job 17, xid='0a1b2c3d:000001000000000' */ => Read rest< /* job 17, xid='0a1b2c3d:000001000000000' */>
        SELECT '/* xid=''a'' */' => Read
        SELECT 1 /* the xid is gone */ => Read rest< /* the xid is gone */>
        SELECT 1 /* Xid='a' */ => Read rest< /* Xid='a' */>
        SELECT 1 /* xid='a%zz' */ => Refused always: the XID of the hint is not valid rest< /* xid='a%zz' */>
        SELECT 1 /* xid=5 */ => Refused always: the comment with the XID is malformed: expected /* key='value',xid='…' */ rest< /* xid=5 */>
        SELECT 1 /* a='b',xid='a' x */ => Refused always: the comment with the XID is malformed: expected /* key='value',xid='…' */ rest< /* a='b',xid='a' x */>
        REPLACE /*+ XID('a') */ INTO t VALUES (1) => Insert t (1) replacing XID a in </*+ XID('a') */>
        REPLACE /*+ XID('a') */ INTO t TABLE u => Insert t from<TABLE u> replacing XID a in </*+ XID('a') */>
        COMMIT /*+ XID('a') */ => Commit { chain: false, release: false } XID a in </*+ XID('a') */> rest< /*+ XID('a') */>
        COMMIT /*+ XID('a') */ GLOBAL TRANSACTION => Refused always: the statement binds and has a XID hint XID a in </*+ XID('a') */>
        SET @atone_xid = 'b' /* xid='a' */ => Refused always: the statement binds and has a XID hint XID a in </* xid='a' */> touches rest< /* xid='a' */>
        SELECT 1; SELECT 2 /* xid='a' */ => Refused always: several statements in one packet XID a in </* xid='a' */> rest< /* xid='a' */>
        "#,
    );
}

#[test]
fn local_transactions() {
    check(
        MYSQL,
        r#"
        BEGIN => Begin { read_only: false, consistent_snapshot: false }
        begin work; => Begin { read_only: false, consistent_snapshot: false } rest<;>
        START TRANSACTION => Begin { read_only: false, consistent_snapshot: false }
        START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT => Begin { read_only: true, consistent_snapshot: true }
        START TRANSACTION READ WRITE => Begin { read_only: false, consistent_snapshot: false }
        START TRANSACTION READ ONLY, READ WRITE => Refused: the statement is not understood
        START TRANSACTION READ ONLY, => Refused: the statement is not understood
        START REPLICA => Refused: START may change the server
        BEGIN NOT ATOMIC SELECT 1; END => Refused: several statements in one packet
        BEGIN NOT ATOMIC END => Refused: compound statements are not supported
        COMMIT => Commit { chain: false, release: false }
        COMMIT WORK AND CHAIN NO RELEASE => Commit { chain: true, release: false }
        COMMIT AND NO CHAIN RELEASE => Commit { chain: false, release: true }
        COMMIT AND CHAIN RELEASE => Refused: the statement is not understood
        COMMIT NOW => Refused: the statement is not understood
        ROLLBACK => Rollback { chain: false, release: false }
        ROLLBACK WORK AND CHAIN => Rollback { chain: true, release: false }
        SAVEPOINT `Sp 1` => Savepoint("sp 1")
        SAVEPOINT é => Refused: the name of a savepoint must be ASCII
        ROLLBACK TO Sp => RollbackTo("sp")
        ROLLBACK WORK TO SAVEPOINT sp => RollbackTo("sp")
        ROLLBACK TO savepoint => RollbackTo("savepoint")
        RELEASE SAVEPOINT sp => ReleaseSavepoint("sp")
        SAVEPOINT => Refused: the statement is not understood
        SAVEPOINT a b => Refused: the statement is not understood
        USE `my db` => Use("my db")
        "#,
    );
}

#[test]
fn set_statements() {
    check(
        MYSQL,
        r#"
        SET autocommit=0 => SetAutocommit Off vars[autocommit]
        SET @@autocommit = ON => SetAutocommit On vars[autocommit]
        SET @@session.autocommit := TRUE => SetAutocommit On vars[autocommit]
        SET @@SESSION . `autocommit` = 'off' => SetAutocommit Off vars[autocommit]
        SET SESSION AUTOCOMMIT = DEFAULT => SetAutocommit Unknown vars[autocommit]
        SET LOCAL autocommit = 1 - 1 => SetAutocommit Unknown vars[autocommit]
        SET autocommit = ? => SetAutocommit Unknown vars[autocommit]
        SET NAMES utf8mb4 COLLATE utf8mb4_bin, autocommit = 1, @a = 2 => SetAutocommit On vars[names,autocommit]
        SET autocommit = 0, autocommit = 1 => SetAutocommit Unknown vars[autocommit,autocommit]
        SET GLOBAL autocommit = 0 => Refused: SET GLOBAL changes the server
        SET @@global.autocommit = 0 => Refused: SET GLOBAL changes the server
        SET @autocommit = 0 => Set
        SET sql_mode = 'STRICT_TRANS_TABLES', time_zone = '+00:00' => Set vars[sql_mode,time_zone]
        SET sql_mode = 'ORACLE' => Refused: sql_mode ORACLE changes the SQL grammar
        SET completion_type = 1 => Refused: completion_type changes what COMMIT and ROLLBACK do
        SET completion_type = 0 => Set vars[completion_type]
        SET CHARACTER SET utf8 => Set vars[names]
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY => Set vars[transaction]
        SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE => Set vars[transaction]
        SET GLOBAL TRANSACTION READ ONLY => Refused: SET GLOBAL changes the server
        SET PERSIST max_connections = 5 => Refused: SET PERSIST changes the server
        SET PASSWORD = 'x' => Refused: SET PASSWORD commits or changes accounts
        SET ROLE r => Refused: SET ROLE commits or changes accounts
        SET DEFAULT ROLE r TO u => Refused: SET DEFAULT commits or changes accounts
        SET STATEMENT max_statement_time = 1 FOR UPDATE t SET a = 1 => Refused: SET STATEMENT is not supported
        SET @a = f(1) => Refused: the statement calls the function f, which may write
        SET @a = (SELECT MAX(id) FROM t) => Set
        SET @a = ROW_COUNT() => Refused: ROW_COUNT() can be used in a SELECT only
        SET keycache.key_buffer_size = 5 => Refused: the SET is not understood
        SET => Refused: the SET is not understood
        "#,
    );
}

#[test]
fn updates() {
    check(
        MYSQL,
        r#"
        UPDATE t SET a = 1 => Update t [a:=1]
        UPDATE t SET a = a + 1, t.b = 'x', s.t.`c d` := DEFAULT WHERE id = 5; => Update t [a:=a + 1; b:='x'; c d:=DEFAULT] where<id = 5> equalities[id=5] rest<;>
        UPDATE LOW_PRIORITY `s`.`t` AS x SET x.a = ? WHERE x.id = ? AND k2 = 'it''s' => Update s/t alias x <`s`.`t` AS x> [a:=?] where<x.id = ? AND k2 = 'it''s'> equalities[id=?, k2='it''s']
        UPDATE t x SET a = 1 WHERE ((x.id = -5) && (7 = `k`)) => Update t alias x <t x> [a:=1] where<((x.id = -5) && (7 = `k`))> equalities[id=-5, k=7]
        UPDATE t USE INDEX (i), FORCE INDEX FOR ORDER BY (j) SET a = 1 => Update t <t USE INDEX (i), FORCE INDEX FOR ORDER BY (j)> [a:=1]
        UPDATE t SET a = 1 WHERE other.id = 5 => Update t [a:=1] where<other.id = 5>
        UPDATE t SET a = 1 WHERE id = 5 OR id = 6 => Update t [a:=1] where<id = 5 OR id = 6>
        UPDATE t SET a = 1 WHERE id = 5 AND id = 6 => Update t [a:=1] where<id = 5 AND id = 6>
        UPDATE t SET a = 1 WHERE id = 5 = 1 => Update t [a:=1] where<id = 5 = 1>
        UPDATE t SET a = 1 WHERE id = NULL => Update t [a:=1] where<id = NULL>
        UPDATE t SET a = 1 WHERE id = 5 + 1 => Update t [a:=1] where<id = 5 + 1>
        UPDATE t SET a = 1 WHERE id = 'a' COLLATE utf8mb4_bin => Update t [a:=1] where<id = 'a' COLLATE utf8mb4_bin>
        UPDATE t SET a = 1 WHERE id = x'41' => Update t [a:=1] where<id = x'41'>
        UPDATE t SET a = 1 WHERE NOT id = 5 => Update t [a:=1] where<NOT id = 5>
        UPDATE t SET a = 1 WHERE !(id = 5) AND a MOD 2 = 0 => Update t [a:=1] where<!(id = 5) AND a MOD 2 = 0>
        UPDATE t SET a = 1 WHERE id = 5 LIMIT 0 => Update t [a:=1] where<id = 5> limit<LIMIT 0>
        UPDATE t SET a = 1 WHERE id > 5 ORDER BY b DESC, LENGTH(c) LIMIT ? => Update t [a:=1] where<id > 5> order<ORDER BY b DESC, LENGTH(c)> limit<LIMIT ?>
        UPDATE t SET a = 1 WHERE id = 5 ORDER BY b => Update t [a:=1] where<id = 5> order<ORDER BY b> equalities[id=5]
        UPDATE t SET a = 1 WHERE d BETWEEN '2020-01-01' AND '2020-02-01' AND x IN (1, -2, 'c', NULL) => Update t [a:=1] where<d BETWEEN '2020-01-01' AND '2020-02-01' AND x IN (1, -2, 'c', NULL)>
        UPDATE t SET a = CASE WHEN b = 1 AND c = 2 THEN 3 ELSE 4 END WHERE CASE a WHEN 1 THEN b ELSE c END => Update t [a:=CASE WHEN b = 1 AND c = 2 THEN 3 ELSE 4 END] where<CASE a WHEN 1 THEN b ELSE c END>
        UPDATE t SET d = d + INTERVAL 1 DAY_HOUR, e = DATE_ADD(e, INTERVAL (1 + 1) SECOND), f = INTERVAL(5, 1, 7) => Update t [d:=d + INTERVAL 1 DAY_HOUR; e:=DATE_ADD(e, INTERVAL (1 + 1) SECOND); f:=INTERVAL(5, 1, 7)]
        UPDATE t SET a = _utf8mb4'x' 'y', b = N'z', c = b'01', d = 0x1F, e = -.5e-3 => Update t [a:=_utf8mb4'x' 'y'; b:=N'z'; c:=b'01'; d:=0x1F; e:=-.5e-3]
        UPDATE t SET a = (SELECT MAX(b) FROM u WHERE u.x = t.x) => Update t [a:=(SELECT MAX(b) FROM u WHERE u.x = t.x)]
        UPDATE t SET j = JSON_SET(j, '$.a', 1), k = j->'$.b', l = j->>'$.c' => Update t [j:=JSON_SET(j, '$.a', 1); k:=j->'$.b'; l:=j->>'$.c']
        UPDATE t SET a = IF(b, 1, 2), c = LEFT(d, 3), e = REPLACE(f, 'x', 'y'), g = CHAR(65), h = CAST(i AS DECIMAL(10,2)) => Update t [a:=IF(b, 1, 2); c:=LEFT(d, 3); e:=REPLACE(f, 'x', 'y'); g:=CHAR(65); h:=CAST(i AS DECIMAL(10,2))]
        UPDATE t SET a = b = c => Update t [a:=b = c]
        UPDATE t SET a = NOW() WHERE id = 1 => Update t [a:=NOW()] where<id = 1> equalities[id=1]
        -- comments and blanks inside
        UPDATE/*a*/t/*b*/SET/*c*/a=1/*d*/WHERE/*e*/id=5/*f*/ => Update t [a:=1] where<id=5> equalities[id=5] rest</*f*/>
        UPDATE t SET a = 1 -- WHERE id = 1\n WHERE id = 2 => Update t [a:=1] where<id = 2> equalities[id=2]
        UPDATE t SET a = '--' WHERE id = 5 # x => Update t [a:='--'] where<id = 5> equalities[id=5] rest< # x>
        UPDATE t SET a = 5--1 => Update t [a:=5--1]
        "#,
    );
}

#[test]
fn volatile_conditions() {
    check(
        MYSQL,
        r#"
        DELETE FROM t WHERE d < NOW() => Delete t where<d < NOW()> volatile
        DELETE FROM t WHERE d < CURRENT_TIMESTAMP => Delete t where<d < CURRENT_TIMESTAMP> volatile
        DELETE FROM t WHERE d < t.current_date => Delete t where<d < t.current_date>
        DELETE FROM t WHERE RAND() < 0.5 => Delete t where<RAND() < 0.5> volatile
        DELETE FROM t WHERE `rand`() < 0.5 => Delete t where<`rand`() < 0.5> volatile
        DELETE FROM t WHERE id = UUID() => Delete t where<id = UUID()> volatile
        DELETE FROM t WHERE id = @x => Delete t where<id = @x> volatile
        DELETE FROM t WHERE id = @@server_id => Delete t where<id = @@server_id> volatile
        DELETE FROM t WHERE id = LAST_INSERT_ID() => Delete t where<id = LAST_INSERT_ID()> volatile
        DELETE FROM t WHERE id IN (SELECT x FROM u) => Delete t where<id IN (SELECT x FROM u)> subquery
        DELETE FROM t WHERE id IN (SELECT x FROM (SELECT x FROM u LIMIT 2) d) => Delete t where<id IN (SELECT x FROM (SELECT x FROM u LIMIT 2) d)> volatile subquery
        DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id LOCK IN SHARE MODE) => Delete t where<EXISTS (SELECT 1 FROM u WHERE u.id = t.id LOCK IN SHARE MODE)> subquery
        DELETE FROM t ORDER BY RAND() LIMIT 5 => Delete t order<ORDER BY RAND()> limit<LIMIT 5> volatile
        DELETE FROM t WHERE SLEEP(1) = 0 => Delete t where<SLEEP(1) = 0> volatile
        DELETE FROM t WHERE d < DATE('2020-01-01') => Delete t where<d < DATE('2020-01-01')>
        DELETE FROM t WHERE (@n := @n + 1) < 5 => Refused: WHERE or ORDER BY assigns a user variable
        UPDATE t SET a = (@i := @i + 1) ORDER BY id => Update t [a:=(@i := @i + 1)] order<ORDER BY id>
        UPDATE t SET a = (@i := @i + 1) WHERE @i < 5 => Refused: WHERE or ORDER BY reads a user variable, and the statement assigns one
        UPDATE t SET n = LAST_INSERT_ID(n + 1) WHERE id = 1 => Update t [n:=LAST_INSERT_ID(n + 1)] where<id = 1> equalities[id=1]
        UPDATE t SET n = LAST_INSERT_ID(n + 1) WHERE id = LAST_INSERT_ID() => Refused: WHERE or ORDER BY reads LAST_INSERT_ID(), and the statement sets it
        UPDATE t SET n = ROW_COUNT() => Refused: ROW_COUNT() can be used in a SELECT only
        DELETE FROM t WHERE FOUND_ROWS() > 1 => Refused: FOUND_ROWS() can be used in a SELECT only
        "#,
    );
}

#[test]
fn refused_updates_and_deletes() {
    check(
        MYSQL,
        r#"
        UPDATE IGNORE t SET a = 1 => Update ignoring t [a:=1]
        UPDATE LOW_PRIORITY IGNORE t SET a = 1 => Update ignoring t [a:=1]
        UPDATE t SET a = 1 RETURNING a => Refused: RETURNING is not supported
        UPDATE t PARTITION (p0) AS x SET a = 1 => Update t alias x <t PARTITION (p0) AS x> [a:=1]
        UPDATE t FOR PORTION OF p FROM '2020-01-01' TO '2020-02-01' SET a = 1 => Refused: FOR PORTION OF writes rows that are not captured
        UPDATE t => Refused: the UPDATE has no SET
        UPDATE t SET => Refused: an assignment is not understood
        UPDATE t SET a => Refused: an assignment is not understood
        UPDATE t SET a = => Refused: an assignment is not understood
        UPDATE t SET a = 1, => Refused: an assignment is not understood
        UPDATE t SET a = 1 2 => Refused: an assignment is not understood
        UPDATE t SET a = 1 WHERE => Refused: the WHERE clause is not understood
        UPDATE t SET a = 1 WHERE a b => Refused: the WHERE clause is not understood
        UPDATE t SET a = 1 WHERE a = 1 WHERE b = 2 => Refused: the WHERE clause is not understood
        UPDATE t SET a = 1 WHERE a = 1 AND => Refused: the WHERE clause is not understood
        UPDATE t SET a = 1 WHERE {d '2020-01-01'} => Refused: the WHERE clause is not understood
        UPDATE t SET a = 1 ORDER x => Refused: the ORDER BY clause is not understood
        UPDATE t SET a = 1 ORDER BY => Refused: the ORDER BY clause is not understood
        UPDATE t SET a = 1 LIMIT 1, 2 => Refused: the LIMIT clause is not understood
        UPDATE t SET a = 1 LIMIT 1 OFFSET 2 => Refused: the LIMIT clause is not understood
        UPDATE t SET a = 1 LIMIT 1 ORDER BY b => Refused: the LIMIT clause is not understood
        UPDATE t SET a = f(1) => Refused: the statement calls the function f, which may write
        UPDATE t SET a = 1 WHERE s.f(id) => Refused: the statement calls the function f, which may write
        UPDATE t SET a = 1 ORDER BY `my fn` (1) => Refused: the statement calls the function my fn, which may write
        UPDATE t SET a = COUNT (1) => Refused: the statement calls the function COUNT, which may write
        UPDATE t SET a = 1 WHERE NEXT VALUE FOR s > 1 => Refused: NEXT VALUE FOR changes a sequence, which is not captured
        UPDATE /*! IGNORE */ t SET a = 1 => Refused: executable comments are supported in plain reads only
        UPDATE t SET a = 1 /*!50000 WHERE id = 1 */ => Refused: executable comments are supported in plain reads only
        UPDATE t SET a = 1 /*M! , b = 2 */ => Refused: executable comments are supported in plain reads only
        UPDATE t SET a = 'x => Refused: the statement has a quote that is not closed
        UPDATE t SET a = 1 /* x => Refused: the statement has a comment that is not closed
        UPDATE t SET a = (1 => Refused: the statement has parentheses that do not match
        UPDATE t SET a = 1) => Refused: the statement has parentheses that do not match
        DELETE QUICK IGNORE FROM t => Delete ignoring t
        DELETE FROM t PARTITION (p0) WHERE id = 1 => Delete t <t PARTITION (p0)> where<id = 1> equalities[id=1]
        DELETE FROM t PARTITION p0 WHERE id = 1 => Refused: the PARTITION clause is not understood
        DELETE HISTORY FROM t => Refused: DELETE HISTORY can't be undone
        DELETE FROM t WHERE id = 1 RETURNING id => Refused: RETURNING is not supported
        DELETE FROM t RETURNING * => Refused: RETURNING is not supported
        DELETE QUICK FROM t WHERE id = 1 => Delete t where<id = 1> equalities[id=1]
        DELETE FROM t AS x WHERE x.id = 1 => Delete t alias x <t AS x> where<x.id = 1> equalities[id=1]
        UPDATE t SET a = 1; DELETE FROM t => Refused: several statements in one packet
        "#,
    );
}

#[test]
fn several_tables() {
    check(
        MYSQL,
        r#"
        UPDATE t, u SET t.a = 1 => Update [t.a:=1] of t and u <t, u>
        UPDATE t JOIN u ON t.id = u.id SET t.a = 1, b = u.b + 1 WHERE t.c > 3 => Update [t.a:=1; b:=u.b + 1] of t and u <t JOIN u ON t.id = u.id> where<t.c > 3>
        UPDATE t AS x LEFT JOIN s.u USING (id) SET x.a = 1 => Update [x.a:=1] of t alias x <t AS x> and s/u <s.u> outer <t AS x LEFT JOIN s.u USING (id)>
        UPDATE s.t, (u NATURAL JOIN v) SET s.t.a = DEFAULT => Update [s.t.a:=DEFAULT] of s/t <s.t> and u and v <s.t, (u NATURAL JOIN v)>
        UPDATE (t) SET a = 1 => Update [a:=1] of t <(t)>
        UPDATE IGNORE t a JOIN t b ON a.id = b.parent AND LEFT(a.x, 1) = 'q' CROSS JOIN (SELECT 1 AS n) d (n) SET a.x = 1 => Update [a.x:=1] ignoring of t alias a <t a> and t alias b <t b> <t a JOIN t b ON a.id = b.parent AND LEFT(a.x, 1) = 'q' CROSS JOIN (SELECT 1 AS n) d (n)>
        UPDATE t USE INDEX (i), u PARTITION (p) SET a = (@n := 1) => Update [a:=(@n := 1)] of t <t USE INDEX (i)> and u <u PARTITION (p)> <t USE INDEX (i), u PARTITION (p)>
        UPDATE (SELECT 1) x SET a = 1 => Refused: no table is written
        UPDATE t JOIN u SET t.a = 1 LIMIT 3 => Refused: ORDER BY and LIMIT with several tables are not supported
        UPDATE t JOIN u ON f(t.a) SET t.a = 1 => Refused: the statement calls the function f, which may write
        UPDATE t JOIN u ON t.d < NOW() SET t.a = 1 => Update [t.a:=1] volatile of t and u <t JOIN u ON t.d < NOW()>
        UPDATE t JOIN u SET t.a = 1 WHERE RAND() < 0.5 => Update [t.a:=1] volatile of t and u <t JOIN u> where<RAND() < 0.5>
        UPDATE t JOIN (SELECT id FROM u LIMIT 3) d USING (id) SET t.a = 1 => Update [t.a:=1] volatile of t <t JOIN (SELECT id FROM u LIMIT 3) d USING (id)>
        UPDATE t JOIN u ON (@n := 1) SET t.a = 1 => Refused: WHERE or ORDER BY assigns a user variable
        UPDATE t JOIN u ON t.a = @x SET t.a = 1 WHERE u.b < @y => Update [t.a:=1] of t and u <t JOIN u ON t.a = @x> where<u.b < @y>
        UPDATE t JOIN u ON t.a = @x SET t.a = (@x := 1) => Refused: WHERE or ORDER BY reads a user variable, and the statement assigns one
        UPDATE t JOIN u SET t.a = 1 WHERE SLEEP(1) = 0 => Refused: a condition over several tables calls SLEEP(), and is evaluated twice
        UPDATE t JOIN u SET t.a = 1 FROM v => Refused: an assignment is not understood
        UPDATE t JOIN SET a = 1 => Refused: the table references are not understood
        UPDATE {OJ t LEFT OUTER JOIN u ON 1} SET a = 1 => Refused: the table is not understood
        UPDATE t, JSON_TABLE('[]', '$[*]' COLUMNS (x INT PATH '$')) j SET a = 1 => Refused: the table references are not understood
        DELETE t FROM t => Delete [0] of t <t>
        DELETE t.* FROM t, u => Delete [0] of t and u <t, u>
        DELETE QUICK t, s.u.* FROM t JOIN s.u ON t.id = u.id WHERE t.a = 1 => Delete [0, 1] of t and s/u <s.u> <t JOIN s.u ON t.id = u.id> where<t.a = 1>
        DELETE FROM t USING t JOIN u ON t.id = u.id => Delete [0] of t and u <t JOIN u ON t.id = u.id>
        DELETE IGNORE FROM x, u USING t AS x RIGHT OUTER JOIN u USING (id, a) WHERE x.id IS NULL => Delete [0, 1] ignoring of t alias x <t AS x> and u outer <t AS x RIGHT OUTER JOIN u USING (id, a)> where<x.id IS NULL>
        DELETE t FROM t AS x => Refused: which tables the DELETE means is not understood
        DELETE t FROM s.t JOIN r.t ON 1 => Refused: which tables the DELETE means is not understood
        DELETE FROM t USING u => Refused: which tables the DELETE means is not understood
        DELETE t FROM t ORDER BY id => Refused: ORDER BY and LIMIT with several tables are not supported
        DELETE FROM t, u => Refused: the table is not understood
        DELETE t WHERE a = 1 => Refused: the DELETE has no FROM
        WITH c AS (SELECT 1 AS id) UPDATE t SET a = 1 WHERE id IN (SELECT id FROM c) => Update t [a:=1] where<id IN (SELECT id FROM c)> subquery with<WITH c AS (SELECT 1 AS id)>
        WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5), d AS (SELECT 2) DELETE FROM t => Delete t with<WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5), d AS (SELECT 2)>
        WITH c AS (SELECT RAND() AS id) DELETE FROM t WHERE id IN (SELECT id FROM c) => Delete t where<id IN (SELECT id FROM c)> volatile subquery with<WITH c AS (SELECT RAND() AS id)>
        WITH c AS (SELECT 1 AS id) UPDATE t JOIN c USING (id) SET t.a = 1 => Update [t.a:=1] of t and c <t JOIN c USING (id)> with<WITH c AS (SELECT 1 AS id)>
        WITH c AS (SELECT f(1)) DELETE FROM t => Refused: the statement calls the function f, which may write
        WITH c AS (SELECT @n := 1) DELETE FROM t => Refused: WHERE or ORDER BY assigns a user variable
        "#,
    );
    check(
        Mode { mariadb: true, ..MYSQL },
        "WITH c AS (SELECT 1 AS id) DELETE FROM t => Refused: WITH before a statement that writes is not supported",
    );
}

#[test]
fn returning() {
    check(
        Mode { mariadb: true, ..MYSQL },
        r#"
        INSERT INTO t VALUES (1) RETURNING id, a + 1 AS b, * => Insert t (1) returning
        INSERT IGNORE INTO t SET a = 1 RETURNING a => Insert t (a) (1) ignoring returning
        REPLACE INTO t VALUES (1) RETURNING a => Refused: RETURNING with REPLACE or ON DUPLICATE KEY UPDATE is not supported
        INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1 RETURNING a => Refused: RETURNING with REPLACE or ON DUPLICATE KEY UPDATE is not supported
        INSERT INTO t VALUES (1) RETURNING f(a) => Refused: the statement calls the function f, which may write
        INSERT INTO t VALUES (1) RETURNING => Refused: the RETURNING clause is not understood
        INSERT INTO t VALUES (1) RETURNING a INTO @x => Refused: the RETURNING clause is not understood
        DELETE FROM t RETURNING * => Delete t returning<RETURNING *>
        DELETE FROM t WHERE id = 1 LIMIT 2 RETURNING id, a + 1 AS b => Delete t where<id = 1> limit<LIMIT 2> returning<RETURNING id, a + 1 AS b>
        DELETE FROM t ORDER BY a RETURNING f(a) => Refused: the statement calls the function f, which may write
        DELETE FROM t RETURNING => Refused: the RETURNING clause is not understood
        DELETE FROM t WHERE id = @n RETURNING (@n := 1) => Refused: WHERE or ORDER BY reads a user variable, and the statement assigns one
        UPDATE t SET a = 1 RETURNING a => Refused: RETURNING is not supported
        INSERT INTO t VALUES (1) RETURNING ROW_COUNT() => Refused: ROW_COUNT() can be used in a SELECT only
        "#,
    );
}

#[test]
fn inserts() {
    check(
        MYSQL,
        r#"
        INSERT INTO t VALUES (1, 'a', NULL, DEFAULT, ?, NOW(), ?) => Insert t (1, 'a', NULL, DEFAULT, ?0, expr<NOW()>, ?1)
        INSERT t VALUES (1) => Insert t (1)
        INSERT INTO t(a, `b c`, t.d) VALUE (-1, +2.5, x'00'), (0x1F, b'1', _latin1'x' 'y'); => Insert t (a,b c,d) (-1, +2.5, x'00') (0x1F, b'1', _latin1'x' 'y') rest<;>
        INSERT LOW_PRIORITY INTO s.t () VALUES (), () => Insert s/t <s.t> () () ()
        INSERT INTO t VALUES () => Insert t ()
        INSERT HIGH_PRIORITY t (a) VALUES (TRUE), (DATE '2020-01-01'), (N'x') => Insert t (a) (TRUE) (DATE '2020-01-01') (N'x')
        INSERT INTO t SET a = 1, t.b = DEFAULT, c = ?, d = CONCAT('a', 'b') => Insert t (a,b,c,d) (1, DEFAULT, ?0, expr<CONCAT('a', 'b')>)
        INSERT INTO t (a, b) VALUES (1, a + 1), ((SELECT MAX(x) FROM u), DEFAULT(c)) => Insert t (a,b) (1, expr<a + 1>) (expr<(SELECT MAX(x) FROM u)>, expr<DEFAULT(c)>)
        INSERT INTO t (a) VALUES (? + ?), (?) => Insert t (a) (expr<? + ?>) (?2)
        INSERT INTO t (a) VALUES (@x), (@@server_id), ((1)), ('a' LIKE 'b') => Insert t (a) (expr<@x>) (expr<@@server_id>) (expr<(1)>) (expr<'a' LIKE 'b'>)
        INSERT INTO t (a) VALUES ('it''s \' "x" )('), ("a;b") => Insert t (a) ('it''s \' "x" )(') ("a;b")
        INSERT IGNORE INTO t VALUES (1) => Insert t (1) ignoring
        INSERT LOW_PRIORITY IGNORE t SET a = 1 => Insert t (a) (1) ignoring
        INSERT IGNORE INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1 => Insert t (1) updating[a:=1]
        INSERT DELAYED INTO t VALUES (1) => Refused: DELAYED writes outside of the transaction
        INSERT INTO t SELECT * FROM u => Insert t from<SELECT * FROM u>
        INSERT INTO t (a) SELECT b FROM u JOIN v ON u.x = v.x WHERE c > ? ORDER BY b LIMIT 3 ON DUPLICATE KEY UPDATE a = 1 => Insert t (a) from<SELECT b FROM u JOIN v ON u.x = v.x WHERE c > ? ORDER BY b LIMIT 3> updating[a:=1]
        INSERT IGNORE INTO t SELECT (SELECT 1 LIMIT 1) => Insert t from<SELECT (SELECT 1 LIMIT 1)> ignoring
        REPLACE INTO t (a) SELECT 1 => Insert t (a) from<SELECT 1> replacing
        INSERT INTO t SELECT 1 UNION SELECT 2 => Insert t from<SELECT 1 UNION SELECT 2>
        INSERT INTO t SELECT * FROM u FOR UPDATE => Refused: a locking clause in the SELECT of an INSERT is not supported
        INSERT INTO t SELECT * FROM u LOCK IN SHARE MODE => Refused: a locking clause in the SELECT of an INSERT is not supported
        INSERT INTO t SELECT @a := 1 => Refused: the SELECT of an INSERT assigns a variable
        INSERT INTO t SELECT SLEEP(1) => Refused: the SELECT of an INSERT calls SLEEP(), and is read twice
        INSERT INTO t SELECT f(1) => Refused: the statement calls the function f, which may write
        INSERT INTO t (SELECT 1) => Insert t from<(SELECT 1)>
        INSERT INTO t ((SELECT 1)) => Insert t from<((SELECT 1))>
        INSERT INTO t (a) WITH c AS (SELECT 1) SELECT * FROM c => Insert t (a) from<WITH c AS (SELECT 1) SELECT * FROM c>
        INSERT INTO t TABLE u => Insert t from<TABLE u>
        INSERT INTO t VALUES (1), (?) ON DUPLICATE KEY UPDATE a = VALUES(a) + ?, t.b = (SELECT 1) => Insert t (1) (?0) updating[a:=VALUES(a) + ?; b:=(SELECT 1)]
        INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = f(1) => Refused: the statement calls the function f, which may write
        INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a => Refused: an assignment is not understood
        INSERT INTO t VALUES (1) ON DUPLICATE KEY => Refused: the statement is not understood
        INSERT INTO t SET a = 1 ON DUPLICATE KEY UPDATE a = 2 => Insert t (a) (1) updating[a:=2]
        INSERT INTO t VALUES (1) AS new ON DUPLICATE KEY UPDATE a = new.a => Insert t (1) updating[a:=new.a]
        INSERT INTO t VALUES (1, 2) AS new (x, y) ON DUPLICATE KEY UPDATE a = x => Insert t (1, 2) updating[a:=x]
        INSERT INTO t VALUES (1) AS new => Refused: the statement is not understood
        INSERT INTO t VALUES (1) RETURNING id => Refused: RETURNING is not supported
        INSERT INTO t VALUES ROW(1), ROW(2) => Insert t (1) (2)
        INSERT INTO t VALUES ROW (1, ?) ON DUPLICATE KEY UPDATE a = 2 => Insert t (1, ?0) updating[a:=2]
        INSERT INTO t PARTITION (p0, `p 1`) (a) VALUES (1) => Insert t (a) (1)
        INSERT INTO t PARTITION (1) VALUES (1) => Refused: the PARTITION clause is not understood
        INSERT INTO t (a, b) VALUES (1) => Refused: row 1 of the VALUES has another number of values than there are columns
        INSERT INTO t VALUES (1), (1, 2) => Refused: row 2 of the VALUES has another number of values than there are columns
        INSERT INTO t VALUES (1,) => Refused: a value is not understood
        INSERT INTO t VALUES (1), => Refused: the VALUES are not understood
        INSERT INTO t VALUES 1 => Refused: the VALUES are not understood
        INSERT INTO t VALUES (f(1)) => Refused: the statement calls the function f, which may write
        INSERT INTO t VALUES (s.f(1)) => Refused: the statement calls the function f, which may write
        INSERT INTO t VALUES (1 2) => Refused: a value is not understood
        INSERT INTO t VALUES (1) x => Refused: the statement is not understood
        INSERT INTO t => Refused: the INSERT has no values
        INSERT INTO t VALUES (1); INSERT INTO t VALUES (2) => Refused: several statements in one packet
        INSERT INTO /*!50000 t */ u VALUES (1) => Refused: the statement is not understood
        REPLACE INTO t VALUES (1) => Insert t (1) replacing
        REPLACE t SET a = ? => Insert t (a) (?0) replacing
        REPLACE IGNORE INTO t VALUES (1) => Refused: the statement is not understood
        REPLACE INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1 => Refused: the statement is not understood
        "#,
    );
}

#[test]
fn reads() {
    check(
        MYSQL,
        r#"
        ; => Empty
        /* a */ -- b => Empty
        SELECT 1 => Read
        select * from t where id = 5 for update skip locked => Read
        SELECT a FROM t LOCK IN SHARE MODE => Read
        (SELECT 1) UNION (SELECT 2) ORDER BY 1 => Read
        WITH RECURSIVE c (a, b) AS (SELECT 1, 2 UNION ALL SELECT a + 1, b FROM c), d (x) AS (SELECT 1) SELECT * FROM c, d => Read
        SELECT * FROM (SELECT 1, 2) AS d (a, b) JOIN t USE INDEX (i) USING (id) WHERE a IN (1, 2) AND b = ANY (SELECT 3) => Read
        SELECT COUNT(*), SUM(DISTINCT a), GROUP_CONCAT(b ORDER BY c SEPARATOR ','), ROW_NUMBER() OVER (PARTITION BY a) FROM t => Read
        SELECT CAST(a AS DATETIME(6)), CONVERT(b, CHAR(10)), CAST(c AS BINARY(5)), EXISTS (SELECT 1), (a, b) IN ((1, 2)) FROM t => Read
        SELECT a INTO @x FROM t => Read
        SELECT a FROM t INTO @x, @y => Read
        SELECT a INTO OUTFILE '/x' FROM t => Refused: INTO OUTFILE and INTO DUMPFILE write a file
        SELECT a FROM t INTO DUMPFILE '/x' => Refused: INTO OUTFILE and INTO DUMPFILE write a file
        SELECT a INTO x FROM t => Refused: INTO is not understood
        SELECT f(1) => Refused: the statement calls the function f, which may write
        SELECT s.concat('a') => Refused: the statement calls the function concat, which may write
        SELECT `concat`('a') => Read
        SELECT NEXT VALUE FOR s => Refused: NEXT VALUE FOR changes a sequence, which is not captured
        SELECT NEXTVAL(s) => Refused: the statement calls the function NEXTVAL, which may write
        SELECT * FROM t PROCEDURE ANALYSE() => Refused: the statement calls the function ANALYSE, which may write
        TABLE t => Read
        VALUES ROW(1, 2), ROW(3, 4) => Read
        SHOW TABLES => Read
        SHOW FULL COLUMNS FROM t LIKE 'a%' => Read
        DESC t => Read
        EXPLAIN SELECT * FROM t => Read
        EXPLAIN UPDATE t SET a = 1 => Read
        EXPLAIN ANALYZE SELECT * FROM t => Read
        EXPLAIN ANALYZE FORMAT=TREE SELECT 1 => Read
        EXPLAIN ANALYZE UPDATE t, u SET t.a = 1 => Refused: ANALYZE runs the statement, whose writes are not captured
        EXPLAIN ANALYZE WITH c AS (SELECT 1) DELETE FROM t => Refused: ANALYZE runs the statement, whose writes are not captured
        ANALYZE SELECT 1 => Read
        ANALYZE DELETE FROM t => Refused: ANALYZE runs the statement, whose writes are not captured
        ANALYZE TABLE t => Refused: ANALYZE TABLE commits implicitly
        DO SLEEP(1), RELEASE_LOCK('a') => Read
        DO f() => Refused: the statement calls the function f, which may write
        HELP 'select' => Read
        KILL QUERY 5 => Read
        CHECKSUM TABLE t => Read
        SHOW WARNINGS LIMIT 5 => Diagnostics
        SHOW COUNT(*) ERRORS => Diagnostics
        GET DIAGNOSTICS @n = NUMBER => Diagnostics
        GET CURRENT DIAGNOSTICS CONDITION 1 @m = MESSAGE_TEXT => Diagnostics
        SELECT @@warning_count => SelectsDiagnostics @@warning_count of <@@warning_count>
        SELECT /*!40001 SQL_NO_CACHE */ * FROM t => Read
        SELECT /*M!100100 1, */ 2 => Read
        SELECT 1 /*! INTO OUTFILE 'x' */ => Refused: INTO OUTFILE and INTO DUMPFILE write a file
        SELECT 1 /*!; DELETE FROM t */ => Refused: several statements in one packet
        SELECT 1 /*! , '*/' */ => Refused: the statement has a quote that is not closed
        SELECT 1 /*! /* */ */ => Refused: the statement has nested comments
        SELECT 1 /*M!999999\- enable the sandbox mode */ => Read rest< /*M!999999\- enable the sandbox mode */>
        /*!900000 DROP TABLE t */ => Empty
        SELECT 1 /*!899999 INTO OUTFILE 'x' */ => Refused: INTO OUTFILE and INTO DUMPFILE write a file
        SELECT 1 /*!999999 /* x */ => Refused: the statement has nested comments
        SELECT 1 /*!123 */ => Refused: the statement has an executable comment with an odd version number
        SELECT 1 /*!50000 + ? */ => Refused: the statement has a placeholder inside of an executable comment
        /*!40101 SET NAMES utf8 */ => Set vars[names]
        /*!40101 SET @saved = @@sql_mode */; => Set rest<;>
        /*!40000 ALTER TABLE t DISABLE KEYS */ => Refused: ALTER commits implicitly
        /*!40000 BEGIN */ => Refused: executable comments are supported in plain reads only
        "#,
    );
}

#[test]
fn row_count() {
    check(
        MYSQL,
        r#"
        SELECT ROW_COUNT() => SelectsDiagnostics ROW_COUNT() of <ROW_COUNT()>
        SELECT row_count( ) AS n, 1 + Row_Count() , ROW_COUNT() n FROM DUAL => SelectsDiagnostics row_count( ); Row_Count() of <1 + Row_Count()>; ROW_COUNT()
        SELECT SQL_NO_CACHE ROW_COUNT() + ROW_COUNT(), ROW_COUNT() 'a' WHERE ROW_COUNT() > 1 => SelectsDiagnostics ROW_COUNT() of <ROW_COUNT() + ROW_COUNT()>; ROW_COUNT() of <ROW_COUNT() + ROW_COUNT()>; ROW_COUNT(); ROW_COUNT()
        SELECT CASE WHEN ROW_COUNT() THEN 1 ELSE (2) END => SelectsDiagnostics ROW_COUNT() of <CASE WHEN ROW_COUNT() THEN 1 ELSE (2) END>
        SELECT ROW_COUNT() IS NULL => SelectsDiagnostics ROW_COUNT() of <ROW_COUNT() IS NULL>
        SELECT ROW_COUNT() INTO @n => SelectsDiagnostics ROW_COUNT() of <ROW_COUNT()>
        SELECT @@session.error_count, @@warning_count + 1 AS w => SelectsDiagnostics @@session.error_count of <@@session.error_count>; @@warning_count
        (SELECT @@warning_count) => Diagnostics
        (SELECT ROW_COUNT()) => Refused: ROW_COUNT() can be used in a plain SELECT only
        SELECT 'ROW_COUNT()' => Read
        SELECT row_count FROM t => Read
        "#,
    );
}

#[test]
fn refused() {
    check(
        MYSQL,
        r#"
        CALL p() => Refused: CALL may write rows that are not captured
        TRUNCATE t => Refused: TRUNCATE can't be undone
        CREATE TEMPORARY TABLE t (a INT) => Refused: CREATE commits implicitly
        ALTER TABLE t ADD a INT => Refused: ALTER commits implicitly
        DROP TABLE t => Refused: DROP commits implicitly
        LOCK TABLES t WRITE => Refused: LOCK commits implicitly
        UNLOCK TABLES => Refused: UNLOCK commits implicitly
        LOAD DATA INFILE 'x' INTO TABLE t => Refused: LOAD DATA reads a file of the server's, whose rows cannot be seen before
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t => Load(Load { table: TableRef { schema: None, name: "t", alias: None, span: 38..39 }, on_conflict: Ignore, charset: None, format: LoadFormat { field_end: [9], enclosed: None, escaped: Some(92), line_start: [], line_end: [10], ignored_lines: 0 }, columns: None })
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t FIELDS ENCLOSED BY '"' ESCAPED BY '"' => Refused: LOAD DATA with these separators is not supported
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t LINES TERMINATED BY '\t' => Refused: LOAD DATA with these separators is not supported
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t FIELDS TERMINATED BY 'é' => Refused: LOAD DATA with a separator that is not ASCII
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t (a) b => Refused: the LOAD DATA is not understood
        HANDLER t OPEN => Refused: HANDLER is not supported
        XA START 'x' => Refused: XA can't be mixed with a global transaction
        PREPARE S FROM 'DELETE ''t' => Prepare(Prepare { name: "s", source: Literal([68, 69, 76, 69, 84, 69, 32, 39, 116]) })
        PREPARE `a_$1` FROM @x => Prepare(Prepare { name: "a_$1", source: Variable(20..22) })
        EXECUTE s => Execute(Execute { what: Named("s"), using: [] })
        EXECUTE s USING @a, @`b c` => Execute(Execute { what: Named("s"), using: [16..18, 20..26] })
        EXECUTE s USING @a @b => Refused: EXECUTE is understood with user variables behind USING
        EXECUTE s USING => Refused: EXECUTE is understood with user variables behind USING
        EXECUTE s, t => Refused: the EXECUTE is not understood
        EXECUTE IMMEDIATE 'DELETE FROM t' => Refused: the EXECUTE is not understood
        DROP PREPARE s => Deallocate("s")
        DEALLOCATE s => Refused: the DEALLOCATE PREPARE is not understood
        GRANT ALL ON *.* TO u => Refused: GRANT commits implicitly
        FLUSH TABLES => Refused: FLUSH commits implicitly
        OPTIMIZE TABLE t => Refused: OPTIMIZE commits implicitly
        SHUTDOWN => Refused: SHUTDOWN changes the server
        BINLOG 'x' => Refused: BINLOG changes the server
        SELEKT 1 => Refused: SELEKT is not understood
        `SELECT` 1 => Refused: the statement is not understood
        5 => Refused: the statement is not understood
        UPDATE t SET $a = 1 => Refused: the statement has an unquoted name that begins with $: quote the name
        UPDATE t SET t.$a = 1 => Refused: the statement has an unquoted name that begins with $: quote the name
        DELETE /*+ set_var(time_zone = '+00:00') */ FROM t => Refused: the hint SET_VAR is not supported in a statement that writes
        SELECT /*+ SET_VAR(sort_buffer_size = 1M) */ 1 => Read
        SELECT \N => Refused: the statement has a character that does not belong to SQL
        SELECT @@ x => Refused: the statement has @@ without a name
        SELECT x'1G' => Refused: the statement has a malformed hexadecimal or bit literal
        "#,
    );
    let show = |sql: &[u8]| common::show(sql, MYSQL);
    assert_eq!(show(b""), "Empty");
    assert_eq!(show(b"SELECT 1\0"), "Refused: the statement has a NUL byte outside of a string");
    assert_eq!(show(b"SELECT '\0'"), "Read");
    // A comment to latin1 sessions, that would hide the WHERE.
    assert_eq!(
        show(b"DELETE FROM t ORDER BY 5--\x81 WHERE id = 1"),
        "Refused: the statement has -- before a character that is not ASCII"
    );
    assert_eq!(
        show(b"SELECT a\xa0INTO\xa0OUTFILE 'x'"),
        "Refused: the statement has the byte A0 in an unquoted name: quote the name"
    );
}

#[test]
fn modes() {
    let ansi = Mode { ansi_quotes: true, ..MYSQL };
    check(
        ansi,
        r#"
        UPDATE "s"."t" SET "a" = 'x' WHERE "i""d" = 5 => Update s/t <"s"."t"> [a:='x'] where<"i""d" = 5> equalities[i"d=5]
        SET @"atone_xid" = 'x' => SetXid 'x'
        SET @atone_xid = "x" => TouchesXid
        "#,
    );
    let plain = Mode { no_backslash_escapes: true, ..MYSQL };
    check(
        plain,
        r#"
        UPDATE t SET a = '\' WHERE id = 5 => Update t [a:='\'] where<id = 5> equalities[id=5]
        START GLOBAL TRANSACTION NAME 'a\' => StartGlobal { name: Some("a\\"), timeout_s: None }
        "#,
    );
    check(
        MYSQL,
        r"UPDATE t SET a = '\' WHERE id = 5 => Refused: the statement has a quote that is not closed",
    );
    let spaced = Mode { ignore_space: true, ..MYSQL };
    check(spaced, "SELECT COUNT (*) FROM t => Read");
    let mariadb = Mode { mariadb: true, ..MYSQL };
    check(
        mariadb,
        r#"
        SELECT NVL(a, b) FROM t => Read
        SELECT LASTVAL(s) => Read
        SELECT BIN_TO_UUID(a) FROM t => Refused: the statement calls the function BIN_TO_UUID, which may write
        DELETE FROM t WHERE ROWNUM() < 5 => Delete t where<ROWNUM() < 5> volatile
        "#,
    );
    check(
        MYSQL,
        r#"
        SELECT NVL(a, b) FROM t => Refused: the statement calls the function NVL, which may write
        SELECT BIN_TO_UUID(a) FROM t => Read
        "#,
    );
    assert_eq!(
        Mode::from_sql_mode("ONLY_FULL_GROUP_BY,ansi_quotes, NO_BACKSLASH_ESCAPES", false),
        Ok(Mode { ansi_quotes: true, no_backslash_escapes: true, ..MYSQL })
    );
    assert_eq!(Mode::from_sql_mode("", true), Ok(mariadb));
    assert!(Mode::from_sql_mode("PIPES_AS_CONCAT,ORACLE", true).is_err());
}

#[test]
fn latin1_names_are_decoded() {
    let Statement::Dml(update) = analyze(b"UPDATE t\xe9 SET `a\xff` = 1", MYSQL).statement else {
        panic!("not an update")
    };
    assert_eq!((update.table.name.as_str(), update.assignments().unwrap()[0].column.as_str()), ("té", "aÿ"));
}

#[test]
fn placeholders_are_counted() {
    let sql = b"UPDATE t SET a = ?, b = '?' /* ? */ WHERE id = ? -- ?";
    assert_eq!(analyze(sql, MYSQL).placeholders, [17, 47]);
}

#[test]
fn long_statements_stay_linear() {
    let mut sql = b"INSERT INTO t (a, b, c) VALUES ".to_vec();
    let rows = 20_000;
    for row in 0..rows {
        sql.extend_from_slice(
            format!("{}({row}, 'text of the row \\' {row}', NOW())", if row > 0 { "," } else { "" })
                .as_bytes(),
        );
    }
    let Statement::Insert(insert) = analyze(&sql, MYSQL).statement else { panic!("not an insert") };
    assert_eq!(insert.rows.len(), rows);
    assert!(matches!(insert.rows[rows - 1][2], InsertValue::Expression(_)));

    let list: Vec<String> = (0..20_000).map(|id| id.to_string()).collect();
    let sql = format!("DELETE FROM t WHERE id IN ({})", list.join(","));
    assert!(matches!(analyze(sql.as_bytes(), MYSQL).statement, Statement::Dml(dml) if dml.deletes()));
    let list: Vec<String> = (0..5_000).map(|id| format!("(a = {id} AND b LIKE 'x{id}')")).collect();
    let sql = format!("DELETE FROM t WHERE ({})", list.join(" OR "));
    assert!(matches!(analyze(sql.as_bytes(), MYSQL).statement, Statement::Dml(dml) if dml.deletes()));
}

#[test]
fn deep_statements_are_bounded() {
    let nested = |depth: usize| format!("DELETE FROM t WHERE {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(
        common::show(nested(1001).as_bytes(), MYSQL),
        "Refused: the statement nests parentheses deeper than 1000"
    );
    assert_eq!(
        common::show(format!("DELETE FROM t WHERE a = {}1", "- ".repeat(1_001)).as_bytes(), MYSQL),
        "Refused: the statement has a part of an expression with more than 1000 operators and names in a row"
    );
    // The stack of the caller is small.
    let run = |sql: String| {
        std::thread::Builder::new()
            .stack_size(512 * 1024)
            .spawn(move || matches!(analyze(sql.as_bytes(), MYSQL).statement, Statement::Dml(dml) if dml.deletes()))
            .expect("a thread")
            .join()
            .expect("no overflow")
    };
    assert!(run(format!("DELETE FROM t WHERE {}", vec!["a"; 480].join("+"))));
    assert!(run(format!("DELETE FROM t WHERE {}", vec!["a"; 100_000].join("+"))));
    assert!(run(nested(1000)));
    assert!(run(format!(
        "DELETE FROM t WHERE {}a = 2{}",
        "(a = 1 OR (b LIKE 'x' AND ".repeat(450),
        "))".repeat(450)
    )));
    let pairs: Vec<String> = (0..100_000).map(|id| format!("({id}, 'a{id}')")).collect();
    assert!(run(format!("DELETE FROM t WHERE (id, a) NOT IN ({})", pairs.join(", "))));
    let whens: Vec<String> =
        (0..20_000).map(|id| format!("WHEN (`t`.`id` = {id}) THEN UPPER('name {id}')")).collect();
    assert!(run(format!("DELETE FROM t WHERE a = 1 AND CASE {} ELSE NULL END", whens.join(" "))));
    assert!(run(format!("DELETE FROM t WHERE a OR CASE id {} END", whens.join(" "))));
    assert!(run(format!(
        "DELETE FROM t WHERE {}1{}",
        "CASE WHEN a THEN b ELSE ".repeat(2_000),
        " END".repeat(2_000)
    )));
    assert!(run(format!("DELETE FROM t WHERE CONCAT({})", vec!["LOWER(a)"; 20_000].join(", "))));
    // What is left out is seen
    let bad = |case: &str| format!("DELETE FROM t WHERE a = 1 AND CASE {case} {} END", whens.join(" "));
    for case in ["WHEN a", "ELSE a", "THEN a", "a b", "WHEN a THEN", "WHEN a THEN b c"] {
        assert!(!run(bad(case)), "{case}");
    }
    assert!(!run(format!("DELETE FROM t WHERE (id, a) IN ({}, )", pairs.join(", "))));
    assert!(!run(format!("DELETE FROM t WHERE {} LIMIT", vec!["a"; 1_000].join("+"))));
    assert!(!run(format!("DELETE FROM t WHERE {} b", vec!["a"; 1_000].join("+"))));
    assert!(!run(format!("DELETE FROM t WHERE a = {}1", "- ".repeat(100_000))));
    assert!(run(format!("DELETE FROM t WHERE a = 1 {}", "AND a LIKE b ".repeat(50_000))));
    assert!(!run(format!("DELETE FROM t WHERE {}(a LIKE 1){}", "NOT (1 + ".repeat(100), ")".repeat(100))));
}
