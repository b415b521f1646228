//! What is set, asked and named by the sessions.

/// Settings of a session that the two servers share.
pub(crate) const SETTINGS: &[&str] = &[
    "SET time_zone = '+05:30'",
    "SET time_zone = '-08:00'",
    "SET SESSION time_zone = 'SYSTEM'",
    "SET NAMES latin1",
    "SET NAMES utf8mb4",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET character_set_results = NULL",
    "SET character_set_results = latin1",
    "SET collation_connection = latin1_swedish_ci",
    "SET character_set_connection = latin1",
    "SET character_set_client = cp1251",
    "SET auto_increment_increment = 3",
    "SET auto_increment_increment = 3, auto_increment_offset = 2",
    "SET auto_increment_increment = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
    "SET sql_safe_updates = 1",
    "SET sql_select_limit = 2",
    "SET foreign_key_checks = 0",
    "SET unique_checks = 0",
    "SET div_precision_increment = 8",
    "SET sql_auto_is_null = 1",
    "SET sql_warnings = 1",
    "SET sql_notes = 0",
    "SET max_error_count = 0",
    "SET max_error_count = 2",
    "SET lc_time_names = 'de_DE'",
    "SET group_concat_max_len = 4",
    "SET max_sort_length = 8",
    "SET innodb_lock_wait_timeout = 20",
    "SET last_insert_id = 77",
    "SET insert_id = 30",
    "SET @v = 3",
    "SET @v = NULL, @w = 'x'",
    "SET timestamp = 1700000000.123456",
    "SET updatable_views_with_limit = 0",
    "SET completion_type = 0",
];
pub(crate) const MARIADB_SETTINGS: &[&str] =
    &["SET sql_if_exists = 0", "SET default_week_format = 2", "SET innodb_strict_mode = 0"];
pub(crate) const MYSQL_SETTINGS: &[&str] = &[
    "SET show_old_temporals = 0",
    "SET print_identified_with_as_hex = 1",
    "SET windowing_use_high_precision = 0",
];
pub(crate) const MODES: &[&str] = &[
    "",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
    "PAD_CHAR_TO_FULL_LENGTH",
    "STRICT_ALL_TABLES",
    "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
    "STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO",
    "NO_AUTO_VALUE_ON_ZERO",
    "ALLOW_INVALID_DATES",
    "PIPES_AS_CONCAT,IGNORE_SPACE",
    "HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION",
    "REAL_AS_FLOAT,ONLY_FULL_GROUP_BY",
    "TRADITIONAL",
    "ANSI",
];
pub(crate) const MARIADB_MODES: &[&str] =
    &["EMPTY_STRING_IS_NULL", "SIMULTANEOUS_ASSIGNMENT", "TIME_ROUND_FRACTIONAL", "NO_FIELD_OPTIONS"];
pub(crate) const MYSQL_MODES: &[&str] = &["TIME_TRUNCATE_FRACTIONAL"];
pub(crate) const SAVEPOINTS: &[&str] = &["a", "A", "b", "`s p`"];
pub(crate) const DIAGNOSTICS: &[&str] = &[
    "SHOW WARNINGS",
    "SHOW COUNT(*) WARNINGS",
    "SELECT ROW_COUNT()",
    "SELECT @@warning_count, @@error_count",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "SHOW ERRORS",
];
