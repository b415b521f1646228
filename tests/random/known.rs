//! Differences that are known and not mended yet. Each keeps one narrow shape out of the cases; `true` brings it back.

/// A condition that converts values (a number compared with a text) is evaluated by a read, which warns where a
/// statement that writes fails or warns for other rows; MySQL finds other rows where texts and numbers are mixed in the
/// IN list of a DATETIME key.
pub(crate) const CONVERTING_CONDITIONS: bool = false;

/// `sql_safe_updates`: the restriction to keys satisfies it where the statement by itself would not.
pub(crate) const SAFE_UPDATES: bool = true;

/// `SET NAMES` and `SET character_set_results` after the session has written a table.
pub(crate) const CHARSETS_LATER: bool = true;

/// `@@warning_count` and `@@error_count` behind a statement that failed, and all diagnostics behind a prepared one.
pub(crate) const COUNTS_AFTER_ERRORS: bool = true;

/// The info text `Rows matched: 0  Changed: 0  Warnings: 0` of an UPDATE whose condition asks for the time, holds a subquery
/// or joins, where the server sees beforehand that no row can be meant: by itself it gives none then.
pub(crate) const INFO_OF_NO_ROWS: bool = false;

/// MySQL: what a statement is warned of when it is parsed (that VALUES() is deprecated, or a literal is no text of the
/// connection's charset) is told when it is prepared, not
/// when it runs. Bound it is told both times.
pub(crate) const WARNINGS_OF_PREPARE: bool = false;

/// A subquery on the table that is written: MySQL refuses it by itself (1093), but not bound where the condition is
/// volatile.
pub(crate) const SUBQUERY_ON_WRITTEN_TABLE: bool = false;

/// A prepared `SHOW COUNT(*) WARNINGS` behind a statement that writes.
pub(crate) const PREPARED_SHOW_COUNT: bool = true;

/// `FOUND_ROWS()` behind a statement that writes.
pub(crate) const FOUND_ROWS: bool = true;

/// Literals with other than ASCII characters while `character_set_connection` can't hold them.
pub(crate) const NARROW_CONNECTION: bool = true;

/// MySQL: a parameter that the column's charset can't hold gives another error code than a literal.
pub(crate) const PARAMETERS_THAT_DO_NOT_FIT: bool = false;

/// MySQL: a string parameter that is no text of the client's charset (binary data) adds a warning.
pub(crate) const BINARY_STRING_PARAMETERS: bool = false;

/// MariaDB: an UPDATE with a subquery in its condition is one of several tables to the server, whose assignments read
/// the values from before it, and whose info text counts no warnings. Bound it is one of a single table.
pub(crate) const SUBQUERIES_BESIDE_ASSIGNMENTS: bool = true;

/// MySQL: an integer literal compared with a YEAR is a year of two digits (3 is 2003), a parameter is a number. Bound
/// parameters become literals.
pub(crate) const PARAMETERS_COMPARED_WITH_YEAR: bool = true;

/// Warnings beyond `max_error_count` are counted, but not kept.
pub(crate) const WARNINGS_NOT_KEPT: bool = true;

/// MySQL: under PAD_CHAR_TO_FULL_LENGTH a CHAR key of a NO PAD collation is not found by its value.
pub(crate) const PADDED_CHAR_KEYS: bool = true;

/// A text that the column's charset can't hold, in a condition: the read of the rows gives one more condition than the
/// statement by itself, or its error before another one.
pub(crate) const TEXTS_THAT_DO_NOT_FIT: bool = false;

/// Rows that a session writes under `foreign_key_checks = 0` without a parent, and writes again: a rollback stops, since the
/// parent may have gone meanwhile.
pub(crate) const DANGLING_CHILDREN: bool = false;

/// MariaDB: `SET NAMES … COLLATE …`, and then an INSERT whose key comes from an expression: the connection ends.
pub(crate) const NAMES_WITH_COLLATION: bool = true;

/// MySQL: an ENUM or SET key compared with a number: restricted to the text of the key, the comparison fails in strict mode.
pub(crate) const NUMBERS_OF_SETS: bool = true;

/// MariaDB: under NO_AUTO_VALUE_ON_ZERO, DEFAULT and NULL for a generated key are refused behind the statement.
pub(crate) const NO_AUTO_VALUE_ON_ZERO: bool = false;

/// INSERT IGNORE of rows with generated keys, of which some have no parent: error 1213.
pub(crate) const IGNORED_CHILDREN: bool = true;

/// MySQL: an INSERT into a view with a subquery among its values that fails gives another error.
pub(crate) const SUBQUERIES_INTO_VIEWS: bool = false;

/// Warnings of a statement over several tables that finds no row: its rows are read first, and that may warn.
pub(crate) const WARNINGS_OF_JOINS: bool = false;

/// MySQL: a TIME parameter with a fraction compared with a TIME column without: rounded by itself, not so as a literal.
pub(crate) const FRACTIONS_OF_TIMES: bool = false;

/// MySQL: a parameter that `character_set_connection` can't hold: as a literal it warns once more.
pub(crate) const NARROW_PARAMETERS: bool = false;
