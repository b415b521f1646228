//! Names with a backtick in them: of tables, columns, keys, triggers, views and aliases.

use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::case::check_queries;
use atone_tests::{Bank, Cluster, sql};

atone_tests::shared_tests!(statements, names_that_say_something_else);

const SETUP: &[&str] = &[
    "CREATE TABLE `t``1` (`i``d` INT AUTO_INCREMENT PRIMARY KEY, `a``b` INT, `ab` INT, `u``x` VARCHAR(20), d DATE DEFAULT '2020-01-01', \
     UNIQUE KEY `k``u` (`u``x`))",
    "INSERT INTO `t``1` (`a``b`, ab, `u``x`) VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, NULL)",
    "CREATE TABLE `log``s` (`i``d` INT AUTO_INCREMENT PRIMARY KEY, `w``hat` VARCHAR(40))",
    "CREATE TABLE `p``k` (`k``1` VARCHAR(10), `k1` INT, `v``v` INT, PRIMARY KEY (`k``1`, `k1`))",
    "INSERT INTO `p``k` VALUES ('a', 1, 1), ('b', 2, 2)",
    "CREATE TABLE `chi``ld` (`i``d` INT PRIMARY KEY, `p``a` INT, CONSTRAINT `f``k` FOREIGN KEY (`p``a`) REFERENCES `t``1` (`i``d`) \
     ON DELETE CASCADE ON UPDATE CASCADE)",
    "INSERT INTO `chi``ld` VALUES (1, 1), (2, 1), (3, 2)",
    "CREATE TABLE `de``f` (`k``e` VARCHAR(40) DEFAULT (UUID()) PRIMARY KEY, `v``v` INT)",
    "CREATE TABLE `tr``g` (`i``d` INT PRIMARY KEY, `a``b` INT, `ab` INT, `ke``y` INT UNIQUE)",
    "INSERT INTO `tr``g` VALUES (1, 1, 1, 1), (2, 2, 2, 2)",
    "CREATE VIEW `vi``ew` (`x``y`, `z``w`) AS SELECT `i``d`, `p``a` FROM `chi``ld`",
    "CREATE TRIGGER `tr``1` BEFORE UPDATE ON `tr``g` FOR EACH ROW SET NEW.`a``b` = NEW.`a``b` + 1, NEW.`ab` = OLD.`a``b`",
    "CREATE TRIGGER `tr``2` AFTER INSERT ON `t``1` FOR EACH ROW INSERT INTO `log``s` (`w``hat`) VALUES (CONCAT('x`', NEW.`a``b`))",
    "CREATE TRIGGER `tr``3` AFTER UPDATE ON `t``1` FOR EACH ROW INSERT INTO `log``s` (`w``hat`) VALUES (OLD.`u``x`)",
    "CREATE TRIGGER `tr``4` AFTER UPDATE ON `t``1` FOR EACH ROW FOLLOWS `tr``3` SET @`x``x` = NEW.`a``b`",
];
const TABLES: &[&str] = &[
    "`t``1`",
    "`p``k`",
    "`chi``ld`",
    "`tr``g`",
    "SELECT `v``v` FROM `de``f`",
    "SELECT `w``hat` FROM `log``s`",
];

async fn statements(c: Arc<Cluster>) -> Result<()> {
    let groups: &[&[&str]] = &[
        &[
            "UPDATE `t``1` SET `a``b` = `a``b` + 1 WHERE `u``x` = 'one'",
            "UPDATE `t``1` SET `a``b` = 9",
            "UPDATE `t``1` AS `x``x` SET `x``x`.`a``b` = 8 WHERE `x``x`.`i``d` = 1",
            "UPDATE `t``1` SET `t``1`.`a``b` = RAND() * 0 WHERE RAND() < 2 AND `t``1`.`a``b` < 9",
            "UPDATE `t``1` SET `u``x` = 'x' WHERE `i``d` = 1",
            "UPDATE `t``1` SET `i``d` = `i``d` + 10 WHERE `i``d` = 3",
            "UPDATE `t``1` `x``x` JOIN `p``k` ON `k1` = `i``d` SET `p``k`.`v``v` = 7",
            "UPDATE `t``1` JOIN `p``k` ON `k1` = `i``d` SET `v``v` = 6",
        ],
        &[
            "DELETE FROM `t``1` WHERE `i``d` = 1",
            "DELETE FROM `t``1` ORDER BY `a``b` DESC LIMIT 1",
            "DELETE `x``x` FROM `t``1` AS `x``x` JOIN `p``k` ON `k1` = `i``d` WHERE `v``v` = 2",
        ],
        &[
            "INSERT INTO `t``1` (`a``b`, `u``x`) VALUES (7, 'seven'), (8, 'eight')",
            "INSERT INTO `t``1` (`i``d`, `a``b`) VALUES (1 + 99, 5)",
            "INSERT INTO `t``1` SET `i``d` = 55, `a``b` = 5",
            "INSERT INTO `t``1` (`i``d`, `a``b`) SELECT `k1` + 70, `v``v` FROM `p``k`",
            "INSERT INTO `t``1` (`a``b`, `u``x`) VALUES (7, 'one') ON DUPLICATE KEY UPDATE `a``b` = VALUES(`a``b`)",
            "INSERT INTO `t``1` (`a``b`, `u``x`) VALUES (7, 'two') ON DUPLICATE KEY UPDATE `i``d` = LAST_INSERT_ID(`i``d`), ab = 5",
            "INSERT IGNORE INTO `t``1` (`a``b`, `u``x`) VALUES (7, 'one'), (8, 'new')",
        ],
        &[
            "REPLACE INTO `p``k` VALUES ('a', 1, 50), ('z', 1, 1)",
            "INSERT INTO `p``k` VALUES ('a', 1, 50) ON DUPLICATE KEY UPDATE `v``v` = 9",
            "INSERT INTO `p``k` (`k``1`, k1) VALUES (CONCAT('a', 'b'), 3)",
            "INSERT INTO `de``f` (`v``v`) VALUES (1), (2)",
            "UPDATE `tr``g` SET `a``b` = 50 WHERE `i``d` = 1",
            "DELETE FROM `tr``g` WHERE `i``d` = 1",
            "INSERT INTO `tr``g` VALUES (9, 9, 9, 9)",
            "UPDATE `vi``ew` SET `z``w` = 2 WHERE `x``y` = 1",
            "INSERT INTO `vi``ew` VALUES (90, 1)",
            "DELETE FROM `vi``ew` WHERE `z``w` = 2",
        ],
    ];
    for group in groups {
        check_queries(&c, SETUP, TABLES, group).await?;
    }
    Ok(())
}

/// With its backticks no more doubled, as MySQL shows a trigger in information_schema, the name of a column is a
/// statement more.
async fn names_that_say_something_else(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("backticks").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let setup = [
        "CREATE TABLE t (id INT PRIMARY KEY, k INT UNIQUE, a INT, `k`` = 5, NEW.``a` INT, `ab` INT)",
        "INSERT INTO t VALUES (1, 1, 1, 1, 1)",
        // It sets one column, and not the unique one that seems to be there
        "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW SET NEW.`k`` = 5, NEW.``a` = 7",
        "CREATE TABLE u (id INT PRIMARY KEY, `a``b` INT UNIQUE, ab INT)",
        "INSERT INTO u VALUES (1, 1, 1)",
        "CREATE TRIGGER y BEFORE UPDATE ON u FOR EACH ROW SET NEW.`a``b` = 2",
        "CREATE TABLE w (`i``d` INT PRIMARY KEY, id INT UNIQUE, a INT)",
        "INSERT INTO w VALUES (1, 1, 1)",
    ];
    sql::run_all(&mut direct, &setup).await?;
    let before = sql::rows(&mut direct, "SELECT * FROM t").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE t SET a = 2").await?;
    ensure!(sql::rows(&mut direct, "SELECT * FROM t").await? == ["1|1|2|7|1"]);
    let error = sql::refused(&mut app, "UPDATE u SET ab = 5").await?;
    error.expect_naming(1235, "42000", &xid)?;
    ensure!(error.message.contains("it sets a`b, which may be a part of a unique key"), "{error:?}");
    // It assigns one column the value of another
    let assigns = "INSERT INTO w VALUES (1, 9, 9) ON DUPLICATE KEY UPDATE `i``d` = LAST_INSERT_ID(id)";
    sql::refused(&mut app, assigns).await?.expect_naming(1235, "42000", &xid)?;
    c.roll_back_global(&mut app, &xid).await?;
    ensure!(sql::rows(&mut direct, "SELECT * FROM t").await? == before);
    Ok(())
}
