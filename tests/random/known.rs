//! Differences that are known and not mended yet. Each keeps one narrow shape out of the cases; `true` brings it back.

/// A condition that converts values (a number compared with a text) is evaluated by a read, which warns where a
/// statement that writes fails or warns for other rows; MySQL finds other rows where texts and numbers are mixed in the
/// IN list of a DATETIME key.
pub(crate) const CONVERTING_CONDITIONS: bool = false;

/// The info text `Rows matched: 0  Changed: 0  Warnings: 0` of an UPDATE whose condition asks for the time, holds a
/// subquery or joins, where the server sees beforehand that no row can be meant: by itself it gives none then.
pub(crate) const INFO_OF_NO_ROWS: bool = false;

/// MariaDB answers a DELETE … RETURNING with OK, and not with a result without rows, where it sees beforehand that no
/// row can be meant.
pub(crate) const NO_ROWS_RETURNED: bool = false;

/// MySQL: some warnings come when a statement is parsed: that VALUES() is deprecated, or that a literal is no text of
/// the connection's charset. They are told when it is prepared, not when it runs. Bound they are told both times.
pub(crate) const WARNINGS_OF_PREPARE: bool = false;

/// MySQL: a parameter that the column's charset can't hold gives another error code than a literal.
pub(crate) const PARAMETERS_THAT_DO_NOT_FIT: bool = false;

/// MySQL: a string parameter that is no text of the client's charset (binary data) adds a warning.
pub(crate) const BINARY_STRING_PARAMETERS: bool = false;

/// A text that the column's charset can't hold, in a condition: the read of the rows gives one more condition than the
/// statement by itself, or its error before another one.
pub(crate) const TEXTS_THAT_DO_NOT_FIT: bool = false;

/// Rows that a session writes under `foreign_key_checks = 0` without a parent, and writes again: a rollback stops,
/// since the parent may have gone meanwhile.
pub(crate) const DANGLING_CHILDREN: bool = false;

/// Warnings of a statement over several tables that finds no row: its rows are read first, and that may warn.
pub(crate) const WARNINGS_OF_JOINS: bool = false;

/// MySQL: how many digits of a fraction a zero date has in a message depends on whether a parameter or a literal
/// stands beside its column.
pub(crate) const DIGITS_OF_ZERO_DATES: bool = false;

/// MySQL: how often it warns of one and the same DEFAULT that there is not depends on whether it rules partitions
/// out. For that a key must not be a subquery.
pub(crate) const REPEATED_DEFAULTS: bool = false;

/// MySQL: a parameter that `character_set_connection` can't hold: as a literal it warns once more.
pub(crate) const NARROW_PARAMETERS: bool = false;
