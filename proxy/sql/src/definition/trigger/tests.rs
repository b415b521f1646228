use super::*;
use crate::definition::mirror::MirrorDelete;

fn sets(body: &str) -> Result<(Vec<String>, bool), String> {
    trigger_body(body.as_bytes(), Mode::default()).map(|body| (body.sets, body.signals))
}

#[test]
fn what_writes_no_table() {
    let ok = |columns: &[&str], signals| Ok((columns.iter().map(|c| (*c).to_owned()).collect(), signals));
    assert_eq!(sets("SET NEW.a = NOW()"), ok(&["a"], false));
    assert_eq!(sets("set new.`a b` := UPPER(NEW.c), @x = 1, NEW.c = IF(1, 2, 3)"), ok(&["a b", "c"], false));
    assert_eq!(sets("BEGIN SET NEW.a = 1; SET @n = @n + 1; END"), ok(&["a"], false));
    assert_eq!(sets("BEGIN END;"), ok(&[], false));
    assert_eq!(
        sets(
            "BEGIN DECLARE n, m INT DEFAULT CASE WHEN 1 THEN 2 END; IF NEW.a < 0 AND CASE NEW.b WHEN 1 THEN 1 ELSE 0 END \
                 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; ELSEIF OLD.a THEN SET n = 1; \
                 ELSE BEGIN SET NEW.b = n; END; END IF; END"
        ),
        ok(&["b"], true)
    );
    assert_eq!(sets("IF NEW.a THEN SET NEW.b = REPLACE(NEW.b, 'x', 'y'); END IF"), ok(&["b"], false));
}

#[test]
fn what_a_trigger_runs() {
    let action = |create: &str| {
        let action = trigger_action(create.as_bytes(), Mode::default());
        action.map(|action| String::from_utf8_lossy(action).into_owned())
    };
    let head = "CREATE DEFINER=`for each`@`row` TRIGGER `FOR EACH ROW` BEFORE UPDATE ON `t``x` FOR EACH ROW ";
    for order in ["", "FOLLOWS `a` ", "PRECEDES s.b "] {
        let body = "SET NEW.`a``b` = 'FOR EACH ROW'";
        assert_eq!(action(&format!("{head}{order}{body}")).as_deref(), Some(body));
    }
    assert_eq!(action(head), None);
    assert_eq!(action("CREATE TABLE t (id INT)"), None);
    assert_eq!(
        sets("SET NEW.`a``b` = 1, NEW.`ab` = NEW.`a``b`"),
        Ok((vec!["a`b".into(), "ab".into()], false))
    );
}

#[test]
fn what_may_write_or_is_not_understood() {
    for body in [
        "REPLACE INTO log VALUES (NEW.id)",
        "INSERT IGNORE INTO log VALUES (NEW.id)",
        "INSERT INTO log VALUES (NEW.id) ON DUPLICATE KEY UPDATE n = 1",
        "INSERT INTO log SELECT NEW.id",
        "INSERT INTO log (what) VALUES ((SELECT MAX(a) FROM t))",
        "INSERT INTO log (what) VALUES (f(NEW.a))",
        "INSERT INTO log (what) VALUES (@n := 1)",
        "INSERT INTO log (what) VALUES (LAST_INSERT_ID(NEW.a))",
        "INSERT INTO log (what) VALUES (@atone_xid)",
        "INSERT INTO log (what) VALUES (1) RETURNING id",
        "INSERT INTO log (what) VALUES (1), (1, 2)",
        "BEGIN INSERT INTO log (what) VALUES (1); DELETE FROM t; END",
        "BEGIN SET NEW.a = 1; UPDATE t SET a = 1; END",
        "BEGIN IF NEW.a THEN DELETE FROM t; END IF; END",
        "IF NEW.a THEN SET NEW.a = 1; ELSE CALL p(); END IF",
        "CALL p()",
        "SET NEW.a = f(1)",
        "SET NEW.a = s.f(1)",
        "SET NEW.a = (SELECT MAX(a) FROM t)",
        "SET NEW.a = NEXT VALUE FOR s",
        "SET sql_log_bin = 0",
        "SET GLOBAL x = 1",
        "SET @@session.foreign_key_checks = 0",
        "SET @atone_xid = NULL",
        "SET NEW.a",
        "BEGIN DECLARE c CURSOR FOR SELECT 1; END",
        "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET @x = 1; END",
        "SIGNAL SQLSTATE '01000'",
        "SIGNAL oops",
        "BEGIN SET NEW.a = 1 END",
        "BEGIN SET NEW.a = 1;",
        "SET NEW.a = 1; DELETE FROM t",
        "WHILE 1 DO SET NEW.a = 1; END WHILE",
        "/*!50000 DELETE FROM t */",
        "",
    ] {
        assert!(sets(body).is_err(), "{body}: {:?}", sets(body));
    }
}

#[test]
fn rows_that_are_added_to_a_table() {
    let read = |body: &str| trigger_body(body.as_bytes(), Mode::default()).map(|body| body.inserts);
    let one = |body: &str| match read(body).as_deref() {
        Ok([one]) => one.clone(),
        other => panic!("{body}: {other:?}"),
    };
    let named = one("INSERT INTO audit (what, at, who) VALUES (CONCAT('x', NEW.a), NOW(6), USER())");
    assert_eq!((named.schema.as_deref(), named.table.as_str()), (None, "audit"));
    assert_eq!(named.input_of("id", Some(0)), ColumnInput::Nothing);
    assert_eq!(named.input_of("WHAT", Some(1)), ColumnInput::Value);
    let set = one("insert into `s`.`au dit` set what = OLD.a, id = DEFAULT, n = NULL");
    assert_eq!((set.schema.as_deref(), set.table.as_str()), (Some("s"), "au dit"));
    assert_eq!(set.input_of("id", Some(0)), ColumnInput::Default);
    assert_eq!(set.input_of("n", Some(1)), ColumnInput::Nothing);
    let rows = one("INSERT INTO log VALUES (NULL, 1), (NEW.id, 2)");
    assert_eq!(
        (rows.input_of("id", Some(0)), rows.input_of("x", None)),
        (ColumnInput::Value, ColumnInput::Nothing)
    );
    assert_eq!(one("INSERT INTO log VALUES (NULL, NEW.a)").input_of("id", Some(0)), ColumnInput::Nothing);
    assert_eq!(one("INSERT INTO log VALUES ()").input_of("id", Some(0)), ColumnInput::Nothing);
    assert_eq!(one("INSERT INTO log () VALUES ()").input_of("id", Some(0)), ColumnInput::Nothing);
    let both = "BEGIN IF NOT (NEW.a <=> OLD.a) THEN INSERT INTO changes (was, is_now) VALUES (OLD.a, NEW.a); \
                    ELSE INSERT INTO other (doc) VALUES (JSON_OBJECT('id', NEW.id, 'a', IF(NEW.a > 1, @x, NULL))); END IF; END";
    assert_eq!(
        read(both).unwrap().iter().map(|i| i.table.as_str()).collect::<Vec<_>>(),
        ["changes", "other"]
    );
}

const REPLACE: &str = "REPLACE INTO `s`.`_t_new` (`id`, `n``ew`, `b`) VALUES (NEW.`id`, NEW.`a`, NEW.`b`)";
const HANDLER: &str = "DECLARE CONTINUE HANDLER FOR 1146 begin end;";

fn mirror(body: &str) -> Option<MirrorBody> {
    trigger_body(body.as_bytes(), Mode::default()).ok().and_then(|body| body.mirror)
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn rows_of_a_mirror() {
    let replace = Some(pairs(&[("id", "id"), ("n`ew", "a"), ("b", "b")]));
    let (schema, table) = (Some("s".to_owned()), "_t_new".to_owned());
    let replaced =
        MirrorBody { schema: schema.clone(), table: table.clone(), delete: None, replace: replace.clone() };
    assert_eq!(mirror(REPLACE), Some(replaced.clone()));
    assert_eq!(mirror(&format!("BEGIN {HANDLER} {REPLACE};END ")), Some(replaced.clone()));
    assert_eq!(
        mirror(&format!("BEGIN DECLARE EXIT HANDLER FOR 1146 begin end; {REPLACE}; END")),
        Some(replaced)
    );
    let delete = "DELETE IGNORE FROM `s`.`_t_new` WHERE `s`.`_t_new`.`id` <=> OLD.`id` AND `s`.`_t_new`.`c` <=> OLD.`d`";
    let by = pairs(&[("id", "id"), ("c", "d")]);
    let deletes = |unless_unchanged: &[&str]| {
        let unless_unchanged = unless_unchanged.iter().map(|&c| c.to_owned()).collect();
        Some(MirrorDelete { by: by.clone(), unless_unchanged })
    };
    let deleted = MirrorBody { delete: deletes(&[]), replace: None, schema, table };
    assert_eq!(mirror(delete), Some(deleted.clone()));
    assert_eq!(mirror(&format!("BEGIN {HANDLER} {delete}; END ")), Some(deleted.clone()));
    let update = format!(
        "BEGIN {HANDLER} {}; {REPLACE}; END ",
        delete.replace("WHERE", "WHERE !(OLD.`id` <=> NEW.`id` AND OLD.`d` <=> NEW.`d`) AND")
    );
    assert_eq!(mirror(&update), Some(MirrorBody { delete: deletes(&["id", "d"]), replace, ..deleted }));
    let lhm = "delete ignore from `lhmn_t` /* large hadron migration */ where `lhmn_t`.`id` = OLD.`id`";
    assert_eq!(mirror(lhm).unwrap().delete.unwrap().by, pairs(&[("id", "id")]));
    assert!(mirror("replace into `lhmn_t` (`id`) /* large */ values (`NEW`.`id`)").is_some());
}

#[test]
fn rows_of_no_mirror() {
    for body in [
        &format!("BEGIN {REPLACE}; {REPLACE}; END"),
        &format!("BEGIN {REPLACE}; DELETE FROM `s`.`_t_new` WHERE id = OLD.id; END"),
        &format!("BEGIN DELETE FROM other WHERE id = OLD.id; {REPLACE}; END"),
        &format!("IF NEW.a THEN {REPLACE}; END IF"),
        &format!("BEGIN {REPLACE}; INSERT INTO log (what) VALUES (1); END"),
        &format!("BEGIN SET NEW.a = 1; {REPLACE}; END"),
        &format!("BEGIN {HANDLER} INSERT INTO log (what) VALUES (1); END"),
        &format!("BEGIN {HANDLER} END"),
        "BEGIN DECLARE CONTINUE HANDLER FOR 1062 begin end; REPLACE INTO c (id) VALUES (NEW.id); END",
        "BEGIN DECLARE CONTINUE HANDLER FOR 1146 SET @x = 1; REPLACE INTO c (id) VALUES (NEW.id); END",
        "REPLACE INTO c (id) VALUES (OLD.id)",
        "REPLACE INTO c (id) VALUES (NEW.id + 1)",
        "REPLACE INTO c (id, a) VALUES (NEW.id)",
        "REPLACE INTO c (id) VALUES (NEW.id, NEW.a)",
        "REPLACE INTO c (id) VALUES (NEW.id), (NEW.a)",
        "REPLACE INTO c VALUES (NEW.id)",
        "REPLACE INTO c (id) VALUES (f(NEW.id))",
        "REPLACE DELAYED INTO c (id) VALUES (NEW.id)",
        "DELETE FROM c",
        "DELETE FROM c WHERE !(OLD.id <=> NEW.id)",
        "DELETE FROM c WHERE id = NEW.id",
        "DELETE FROM c WHERE d.id = OLD.id",
        "DELETE FROM c WHERE id = OLD.id OR id = 1",
        "DELETE FROM c WHERE id < OLD.id",
        "DELETE FROM c WHERE id = OLD.id LIMIT 1",
        "DELETE FROM c WHERE !(OLD.id <=> NEW.a) AND id = OLD.id",
        "DELETE FROM c WHERE !(OLD.id = NEW.id) AND id = OLD.id",
        "DELETE c FROM c WHERE id = OLD.id",
    ] {
        assert!(trigger_body(body.as_bytes(), Mode::default()).is_err(), "{body}");
    }
}

#[test]
fn the_mode_is_the_triggers_own() {
    let body = b"SET NEW.a = \"b; DELETE FROM t\"";
    assert!(trigger_body(body, Mode::default()).is_ok());
    assert!(trigger_body(b"SET NEW.a = '\\'; DELETE FROM t; -- '", Mode::default()).is_ok());
    let plain = Mode { no_backslash_escapes: true, ..Mode::default() };
    assert!(trigger_body(b"SET NEW.a = '\\'; DELETE FROM t; -- '", plain).is_err());
}
