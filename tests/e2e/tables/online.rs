//! Online schema changes by tools with triggers: statements on a table are captured while its triggers keep the rows
//! of the new table. A rollback leaves in both what the tool expects, before, while and after the tables are
//! exchanged.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::case::check_queries;
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, server, sql};
use mysql_async::Conn;

atone_tests::shared_tests!(
    captured,
    while_rows_are_copied,
    triggers_that_come_and_go,
    swapped,
    refused,
    change_log,
    rights
);

const T: &str = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL DEFAULT 5, UNIQUE KEY (b))";
const ROWS: &str =
    "INSERT INTO t VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, NULL, 3), (4, 40, 'four', 4)";
const NEW: &str = "CREATE TABLE `_t_new` LIKE t";
const ALTER: &str = "ALTER TABLE `_t_new` MODIFY id BIGINT AUTO_INCREMENT, MODIFY b VARCHAR(200), ADD COLUMN d INT NOT NULL DEFAULT 7, \
                     ADD COLUMN at TIMESTAMP NULL, DROP COLUMN c";

/// The triggers of pt-online-schema-change 3.0 to 3.2.
const TRIGGERS: [&str; 3] = [
    "CREATE TRIGGER `pt_osc_db_t_del` AFTER DELETE ON `t` FOR EACH ROW DELETE IGNORE FROM `_t_new` WHERE `_t_new`.`id` <=> OLD.`id`",
    "CREATE TRIGGER `pt_osc_db_t_upd` AFTER UPDATE ON `t` FOR EACH ROW BEGIN DELETE IGNORE FROM `_t_new` WHERE \
     !(OLD.`id` <=> NEW.`id`) AND `_t_new`.`id` <=> OLD.`id`;REPLACE INTO `_t_new` (`id`, `a`, `b`) VALUES (NEW.`id`, NEW.`a`, \
     NEW.`b`);END",
    "CREATE TRIGGER `pt_osc_db_t_ins` AFTER INSERT ON `t` FOR EACH ROW REPLACE INTO `_t_new` (`id`, `a`, `b`) VALUES \
     (NEW.`id`, NEW.`a`, NEW.`b`)",
];

/// Those of later versions, and those of LHM.
const LATER: [&str; 3] = [
    "CREATE TRIGGER `pt_osc_db_t_del` AFTER DELETE ON `t` FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 begin end; \
     DELETE IGNORE FROM `_t_new` WHERE `_t_new`.`id` <=> OLD.`id`; END ",
    "CREATE TRIGGER `pt_osc_db_t_upd` AFTER UPDATE ON `t` FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 begin end; \
     DELETE IGNORE FROM `_t_new` WHERE !(OLD.`id` <=> NEW.`id`) AND `_t_new`.`id` <=> OLD.`id`; \
     REPLACE INTO `_t_new` (`id`, `a`, `b`) VALUES (NEW.`id`, NEW.`a`, NEW.`b`); END ",
    "CREATE TRIGGER `pt_osc_db_t_ins` AFTER INSERT ON `t` FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 begin end; \
     REPLACE INTO `_t_new` (`id`, `a`, `b`) VALUES (NEW.`id`, NEW.`a`, NEW.`b`);END ",
];
const LHM: [&str; 3] = [
    "create trigger `lhmt_ins_t` after insert on `t` for each row replace into `_t_new` (`id`, `a`, `b`) \
     /* large hadron migration */ values (`NEW`.`id`, `NEW`.`a`, `NEW`.`b`)",
    "create trigger `lhmt_upd_t` after update on `t` for each row replace into `_t_new` (`id`, `a`, `b`) \
     /* large hadron migration */ values (`NEW`.`id`, `NEW`.`a`, `NEW`.`b`)",
    "create trigger `lhmt_del_t` after delete on `t` for each row delete ignore from `_t_new` /* large hadron migration */ \
     where `_t_new`.`id` = OLD.`id`",
];

/// What the tool does for each chunk of rows.
fn copy(range: &str) -> String {
    format!(
        "INSERT LOW_PRIORITY IGNORE INTO `_t_new` (`id`, `a`, `b`) SELECT `id`, `a`, `b` FROM `t` FORCE INDEX(`PRIMARY`) \
         WHERE {range} LOCK IN SHARE MODE"
    )
}

const SWAP: &str = "RENAME TABLE `t` TO `_t_old`, `_t_new` TO `t`";

async fn captured(c: Arc<Cluster>) -> Result<()> {
    const MOVES: &str = "UPDATE t SET id = id + 10 ORDER BY id DESC LIMIT 2";
    let all = copy("id > 0");
    // The table's own trigger beside those of the tool
    const AUDITED: [&str; 2] = [
        "CREATE TABLE audit (n INT AUTO_INCREMENT PRIMARY KEY, id INT, was INT)",
        "CREATE TRIGGER audit AFTER UPDATE ON t FOR EACH ROW INSERT INTO audit (id, was) VALUES (NEW.id, OLD.a)",
    ];
    for (own, triggers, moves) in [(&[][..], &TRIGGERS, true), (&AUDITED, &LATER, true), (&[], &LHM, false)] {
        let mut setup = vec![T, ROWS, NEW, ALTER];
        setup.extend(own);
        setup.extend(triggers);
        setup.push(&all);
        let mut statements = vec![
            "UPDATE t SET a = a + 1 WHERE id = 1",
            "SELECT ROW_COUNT()",
            "SHOW WARNINGS",
            "UPDATE t SET a = a + 1",
            "UPDATE t SET a = a WHERE id = 1",
            "UPDATE t SET c = 77 WHERE id = 100",
            "INSERT INTO t (a, b) VALUES (50, 'five'), (60, NULL)",
            "SELECT LAST_INSERT_ID(), ROW_COUNT()",
            "INSERT INTO t VALUES (20, 7, 'seven', 1)",
            "INSERT IGNORE INTO t VALUES (1, 1, 'x', 1), (21, 80, 'eight', 1)",
            "INSERT INTO t VALUES (1, 1, 'x', 1)",
            "INSERT INTO t SELECT id + 30, a, NULL, c FROM t WHERE id < 3",
            "DELETE FROM t WHERE id = 2",
            "INSERT INTO t VALUES (2, 2, 'again', 2)",
            "BEGIN",
            "UPDATE t SET a = 0 WHERE id = 3",
            "SAVEPOINT s",
            "DELETE FROM t WHERE id > 2",
            "ROLLBACK TO s",
            "INSERT INTO t VALUES (9, 9, 'nine', 9)",
            "COMMIT",
            "DELETE t FROM t JOIN (SELECT 9 AS n) d ON t.id = d.n",
        ];
        if own.is_empty() {
            statements.push("UPDATE t, (SELECT 3 AS n) d SET t.a = 5 WHERE t.id = d.n");
        }
        if moves {
            statements.extend([
                MOVES,
                "UPDATE t SET b = 'eins' WHERE id = 1",
                "REPLACE INTO t VALUES (3, 33, 'seven', 3)",
                "INSERT INTO t VALUES (40, 0, 'eins', 1), (41, 1, 'y', 1) ON DUPLICATE KEY UPDATE a = a + 100, b = 'z'",
            ]);
        }
        statements.push("DELETE FROM t");
        let tables = ["t", "_t_new", "audit"];
        check_queries(&c, &setup, &tables[..2 + own.len() / 2], &statements).await.context(triggers[1])?;
    }
    Ok(())
}

/// A schema with the table, its tool, and a bound application.
struct Online {
    schema: String,
    tool: Conn,
    app: Conn,
    xid: String,
}

impl Online {
    /// After these statements.
    async fn new(c: &Cluster, setup: &[&str]) -> Result<Online> {
        let schema = c.schema("online").await?;
        let mut tool = c.server(Bank::One).connect(server::ADMIN, Some(&schema)).await?;
        sql::run_all(&mut tool, &[T, ROWS, "CREATE TABLE twin LIKE t", "INSERT INTO twin SELECT * FROM t"])
            .await?;
        sql::run_all(&mut tool, setup).await?;
        let mut app = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        Ok(Online { schema, tool, app, xid })
    }

    async fn rolled_back(&mut self, c: &Cluster) -> Result<()> {
        sql::run(&mut self.app, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&self.xid, "rolled_back", SOON).await?;
        Ok(())
    }

    /// The rows of a table, as far as the old table has them and the new one does.
    async fn rows(&self, c: &Cluster, table: &str) -> Result<Vec<String>> {
        c.rows(Bank::One, &self.schema, &format!("SELECT id, a, b FROM {table} ORDER BY id")).await
    }

    /// The table has what it had, and the new one no other rows.
    async fn ensure_mirrored(&self, c: &Cluster, whole: bool) -> Result<()> {
        let (twin, t) = (self.rows(c, "twin").await?, self.rows(c, "t").await?);
        ensure!(t == twin, "expected {twin:?}\nfound    {t:?}");
        let new = self.rows(c, "_t_new").await?;
        ensure!(new.iter().all(|row| twin.contains(row)), "a row of none: {new:?}");
        ensure!(!whole || new == twin, "rows are missing: {new:?}");
        Ok(())
    }
}

const CHANGES: &[&str] = &[
    "UPDATE t SET a = a + 1, b = 'eins' WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
    "UPDATE t SET a = 0 WHERE id > 2",
    "UPDATE t SET id = 30 WHERE id = 3",
    "INSERT INTO t (id, a, b) VALUES (5, 50, 'two'), (6, 60, NULL)",
    "DELETE FROM t WHERE id = 6",
];

/// The tool copies rows of the table before, while and after a branch changes them.
async fn while_rows_are_copied(c: Arc<Cluster>) -> Result<()> {
    for (before, between) in
        [("id <= 2", "id > 2"), ("id > 3", "id <= 3"), ("id > 99", "id > 0"), ("id > 99", "id > 99")]
    {
        let case = async {
            let mut setup = vec![NEW, ALTER];
            setup.extend(LATER);
            let mut o = Online::new(&c, &setup).await?;
            sql::run(&mut o.tool, copy(before)).await?;
            sql::run(&mut o.app, "BEGIN").await?;
            sql::run_all(&mut o.app, CHANGES).await?;
            sql::run(&mut o.app, "COMMIT").await?;
            sql::run(&mut o.tool, copy(between)).await?;
            o.rolled_back(&c).await?;
            o.ensure_mirrored(&c, false).await?;
            sql::run(&mut o.tool, copy("id > 0")).await?;
            o.ensure_mirrored(&c, true).await
        };
        case.await.with_context(|| format!("{before}, {between}"))?;
    }
    Ok(())
}

/// A branch that was committed before there were triggers is undone with them, and the other way round.
async fn triggers_that_come_and_go(c: Arc<Cluster>) -> Result<()> {
    for triggers in [&LATER, &LHM] {
        let mut o = Online::new(&c, &[]).await?;
        sql::run(&mut o.app, "BEGIN").await?;
        sql::run_all(&mut o.app, CHANGES).await?;
        sql::run(&mut o.app, "COMMIT").await?;
        sql::run_all(&mut o.tool, &[NEW, ALTER]).await?;
        sql::run_all(&mut o.tool, triggers).await?;
        sql::run(&mut o.tool, copy("id < 5")).await?;
        o.rolled_back(&c).await?;
        o.ensure_mirrored(&c, false).await?;
        sql::run(&mut o.tool, copy("id > 0")).await?;
        o.ensure_mirrored(&c, true).await?;
    }
    let mut setup = vec![NEW, ALTER];
    setup.extend(TRIGGERS);
    let mut o = Online::new(&c, &setup).await?;
    sql::run(&mut o.tool, copy("id > 0")).await?;
    sql::run_all(&mut o.app, CHANGES).await?;
    sql::run_all(
        &mut o.tool,
        &[
            "DROP TRIGGER pt_osc_db_t_del",
            "DROP TRIGGER pt_osc_db_t_upd",
            "DROP TRIGGER pt_osc_db_t_ins",
            "DROP TABLE `_t_new`",
        ],
    )
    .await?;
    o.rolled_back(&c).await?;
    let (twin, t) = (o.rows(&c, "twin").await?, o.rows(&c, "t").await?);
    ensure!(t == twin, "expected {twin:?}\nfound    {t:?}");
    Ok(())
}

/// The new table has taken the old one's place when a branch is rolled back, which is undone there and once only.
async fn swapped(c: Arc<Cluster>) -> Result<()> {
    const OLD: &str = "SELECT id, a, b FROM `_t_old` ORDER BY id";
    const ADD: &str = "ALTER TABLE `_t_new` MODIFY id BIGINT AUTO_INCREMENT, MODIFY b VARCHAR(200), ADD COLUMN d INT NOT NULL DEFAULT 7";
    for drops in [false, true] {
        let triggers: Vec<String> = TRIGGERS
            .iter()
            .map(|t| t.replace("`b`)", "`b`, `c`)").replace("NEW.`b`)", "NEW.`b`, NEW.`c`)"))
            .map(|t| t.replace("NEW.`b`, `c`)", "NEW.`b`, NEW.`c`)"))
            .collect();
        let mut setup = vec![NEW, ADD];
        setup.extend(triggers.iter().map(String::as_str));
        let mut o = Online::new(&c, &setup).await?;
        let copied = copy("id > 0").replace("`b`)", "`b`, `c`)").replace("`b` FROM", "`b`, `c` FROM");
        sql::run(&mut o.tool, copied).await?;
        sql::run_all(&mut o.app, CHANGES).await?;
        let changed = o.rows(&c, "t").await?;
        sql::run(&mut o.tool, SWAP).await?;
        if drops {
            sql::run(&mut o.tool, "DROP TABLE `_t_old`").await?;
        }
        ensure!(o.rows(&c, "t").await? == changed);
        o.rolled_back(&c).await?;
        let all = async |table| {
            c.rows(Bank::One, &o.schema, &format!("SELECT id, a, b, c FROM {table} ORDER BY id")).await
        };
        let (twin, t) = (all("twin").await?, all("t").await?);
        ensure!(t == twin, "expected {twin:?}\nfound    {t:?}");
        ensure!(drops || c.rows(Bank::One, &o.schema, OLD).await? == changed);
    }
    Ok(())
}

/// What would not be undone exactly, or is none of a tool's.
async fn refused(c: Arc<Cluster>) -> Result<()> {
    let [del, upd, ins] = TRIGGERS;
    let named = |trigger: &str| trigger.replace("pt_osc_db_t", "mine");
    let (my_del, my_upd, my_ins) = (named(del), named(upd), named(ins));
    let (other_del, half_upd) = (
        del.replace("_t_new", "_t_other"),
        upd.replace("`id`, `a`, `b`", "`id`, `b`").replace("NEW.`a`, ", ""),
    );
    let update = "UPDATE t SET a = 1 WHERE id = 1";
    const VIEW: &str = "CREATE VIEW v AS SELECT id, a FROM t";
    for (setup, statement, why) in [
        // Rows of a table of the application's own may have been written by others
        (&[NEW, ALTER, &my_del, &my_upd, &my_ins][..], update, "mine_upd"),
        (&[NEW, ALTER, upd], update, "INSERT"),
        (&[NEW, ALTER, ins, del], "INSERT INTO t (id) VALUES (9)", "UPDATE"),
        (&[NEW, ALTER, "CREATE TABLE `_t_other` LIKE `_t_new`", ins, upd, &other_del], update, "tables"),
        (&[NEW, ALTER, ins, &half_upd, del], update, "columns"),
        // A REPLACE may delete other rows
        (&[NEW, ALTER, "ALTER TABLE `_t_new` ADD UNIQUE KEY (a)", ins, upd, del], update, "unique key"),
        (
            &[NEW, ALTER, "ALTER TABLE `_t_new` DROP INDEX b, ADD UNIQUE KEY (b(2))", ins, upd, del],
            update,
            "unique key",
        ),
        (
            &[NEW, ALTER, "ALTER TABLE `_t_new` MODIFY b VARCHAR(200) COLLATE utf8mb4_bin", ins, upd, del],
            update,
            "unique key",
        ),
        // Or leave those that it should delete
        (
            &[
                NEW,
                "ALTER TABLE `_t_new` MODIFY id INT, DROP PRIMARY KEY, ADD n INT AUTO_INCREMENT PRIMARY KEY",
                ins,
                upd,
                del,
            ],
            update,
            "unique key",
        ),
        (&[NEW, "ALTER TABLE `_t_new` ENGINE = MyISAM", ins, upd, del], update, "engine"),
        (
            &[NEW, "ALTER TABLE `_t_new` ADD at DATETIME DEFAULT CURRENT_TIMESTAMP", ins, upd, del],
            update,
            "column at",
        ),
        (
            &[
                NEW,
                ALTER,
                ins,
                upd,
                del,
                "CREATE TRIGGER of_new AFTER INSERT ON `_t_new` FOR EACH ROW UPDATE twin SET a = 1",
            ],
            update,
            "of_new",
        ),
        (&[NEW, ALTER, ins, upd, del, VIEW], "UPDATE v SET a = 1 WHERE id = 1", "pt_osc_db_t_upd"),
        (&[NEW, ALTER, ins, upd, del, VIEW], "INSERT INTO v (id, a) VALUES (9, 9)", "pt_osc_db_t_ins"),
        (&[NEW, ALTER, LHM[0], LHM[1], LHM[2]], "UPDATE t SET id = 9 WHERE id = 1", "lhmt_upd_t"),
    ] {
        let case = async {
            let mut o = Online::new(&c, setup).await?;
            let error = sql::refused(&mut o.app, statement).await?;
            // That of a tool goes by itself
            let expected = if why == "mine_upd" { (1235, "42000") } else { (1205, "HY000") };
            error.expect_naming(expected.0, expected.1, &o.xid)?;
            ensure!(error.message.contains(why), "{}", error.message);
            o.rolled_back(&c).await?;
            let (twin, t) = (o.rows(&c, "twin").await?, o.rows(&c, "t").await?);
            ensure!(t == twin && o.rows(&c, "_t_new").await?.is_empty());
            Ok(())
        };
        case.await.with_context(|| format!("{setup:?}"))?;
    }
    Ok(())
}

/// A log of changes that a tool applies to the new table: it has to have all that was committed, and what has undone
/// it.
async fn change_log(c: Arc<Cluster>) -> Result<()> {
    const LOG: &str = "CREATE TABLE `__osc_chg_t` (_osc_ID_ BIGINT AUTO_INCREMENT PRIMARY KEY, _osc_dml_type_ INT, id INT, a INT)";
    const INTO: &str = "INSERT INTO `__osc_chg_t` (`_osc_dml_type_`, `id`, `a`) VALUES";
    let on = |event: &str, body: String| {
        format!(
            "CREATE TRIGGER `__osc_{}_t` AFTER {event} ON `t` FOR EACH ROW {body}",
            event[..3].to_lowercase()
        )
    };
    let triggers = [
        on("INSERT", format!("{INTO} (1, NEW.`id`, NEW.`a`)")),
        on("DELETE", format!("{INTO} (2, OLD.`id`, OLD.`a`)")),
        format!(
            "CREATE TRIGGER `__osc_upd_t` AFTER UPDATE ON `t` FOR EACH ROW IF (NEW.`id` = OLD.`id`) THEN {INTO} (3, OLD.`id`, NEW.`a`); \
             ELSE {INTO} (2, OLD.`id`, OLD.`a`), (1, NEW.`id`, NEW.`a`); END IF"
        ),
    ];
    let mut setup = vec![LOG];
    setup.extend(triggers.iter().map(String::as_str));
    let mut o = Online::new(&c, &setup).await?;
    let logged = "SELECT _osc_dml_type_, id, a FROM `__osc_chg_t` ORDER BY _osc_ID_";
    for statement in [
        "UPDATE t SET a = 11 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO t (id, a) VALUES (9, 90)",
    ] {
        sql::run(&mut o.app, statement).await?;
    }
    let committed = ["3|1|11", "2|2|20", "1|9|90"];
    ensure!(c.rows(Bank::One, &o.schema, logged).await? == committed);
    o.rolled_back(&c).await?;
    let mut all = committed.to_vec();
    all.extend(["2|9|90", "1|2|20", "3|1|10"]);
    let found = c.rows(Bank::One, &o.schema, logged).await?;
    ensure!(found == all, "{found:?}");
    let (twin, t) = (o.rows(&c, "twin").await?, o.rows(&c, "t").await?);
    ensure!(t == twin, "expected {twin:?}\nfound    {t:?}");
    Ok(())
}

/// An application that may not see the new table is told so before its statement runs; it need not be able to write it.
async fn rights(c: Arc<Cluster>) -> Result<()> {
    let mut setup = vec![NEW, ALTER];
    setup.extend(LATER);
    let mut o = Online::new(&c, &setup).await?;
    let (schema, user) = (o.schema.clone(), format!("u_{}", o.schema));
    sql::run_all(
        &mut o.tool,
        &[
            &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'"),
            &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON `{schema}`.t TO '{user}'@'%'"),
            &format!("GRANT ALL ON `{schema}`.undo_log TO '{user}'@'%'"),
        ],
    )
    .await?;
    let statements =
        ["UPDATE t SET a = 1 WHERE id = 1", "INSERT INTO t (a) VALUES (4)", "DELETE FROM t WHERE id = 2"];
    let options = sql::options(c.proxy_port(Bank::One), (&user, "pw"), Some(&schema));
    let mut weak = sql::connect_with(options).await?;
    sql::run(&mut weak, format!("SET @atone_xid = '{}'", o.xid)).await?;
    for statement in statements {
        let error = sql::refused(&mut weak, statement).await.context(statement)?;
        ensure!(error.message.contains("_t_new"), "{}", error.message);
    }
    sql::run(&mut o.tool, format!("GRANT SELECT ON `{schema}`.`_t_new` TO '{user}'@'%'")).await?;
    sql::run_all(&mut weak, &statements).await?;
    ensure!(o.rows(&c, "t").await? != o.rows(&c, "twin").await?);
    sql::run(&mut o.tool, copy("id > 0")).await?;
    o.rolled_back(&c).await?;
    o.ensure_mirrored(&c, false).await
}
