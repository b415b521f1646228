//! The hazards of AT mode, a test for each: which rows a statement changes, and which values are put back. What the
//! application can see is in `tests/e2e/statements/traces`.
//!
//! Each hazard has a short test of its own here; where others go deeper, this says which. Each runs a statement bound
//! and straight, compares the effects and the rows, and compares the rows after a global rollback with those before.
//!
//! | hazard | test here | goes deeper |
//! | --- | --- | --- |
//! | image and statement evaluate the condition separately: NOW(), RAND(), UUID(), user variables | `rows::conditions_evaluated_twice` | `interrupted::volatile_conditions`, `random` (volatile cases) |
//! | LIMIT without a total order | `rows::limits_without_an_order` | `changes::order_without_an_order` |
//! | READ COMMITTED phantoms | | `interrupted::read_committed_phantoms`, `cascade::children_that_come_meanwhile` |
//! | UPDATE of key columns, new values that collide | `rows::updates_of_keys` | `moves` |
//! | UPDATE that matches and changes nothing, CLIENT_FOUND_ROWS | `rows::matched_and_unchanged` | `upserts::with_found_rows` |
//! | IGNORE, ON DUPLICATE KEY UPDATE, REPLACE: rows that were there are restored | `rows::rows_that_were_there` | `upserts` |
//! | auto-increment in all its forms, keys from expressions, DEFAULT (…), INSERT … SELECT, SET, ROW() | `rows::generated_keys` | `keys`, `dml::auto_increment` |
//! | several tables, self joins, WITH, derived tables, subqueries on the same table, views, partitions, modifiers | `rows::more_than_a_table` | `joined`, `views`, `changes` |
//! | no primary key | `rows::without_a_primary_key` | `dml::keys_without_a_primary_key`, `refused::tables_that_can_not_be_undone` |
//! | keys of every type, composite, under every collation, prefixes | `rows::keys_of_every_type` | `values::collated_keys`, `dml::composite_keys`, `moves::other_types` |
//! | the same row several times in a branch, and in several branches | `rows::the_same_row_several_times` | `random` |
//! | triggers, cascades, generated, ON UPDATE and invisible columns | `rows::changed_behind_the_statement` | `cascade`, `refused`, `altered` |
//! | other engines, sequences, versioned and temporary tables, procedures, functions | `rows::what_can_not_be_undone` | `refused`, `interrupted::temporary_tables` |
//! | LOAD DATA, INTO, HANDLER, CALL, DO, PREPARE, several statements, long data, bulk | | `documented`, `sql_prepare`, `packets`, `capabilities` |
//! | what commits implicitly, LOCK TABLES, XA, AND CHAIN, RELEASE | `rows::implicit_commits` | `documented`, `refused` |
//! | savepoints, a statement that fails half-way | `rows::savepoints_and_failures` | `dml::savepoints`, `dml::failing_statements` |
//! | 1213, 1205, KILL, a lost connection | `rows::lock_wait_timeout_that_rolls_back` | `interrupted`, `deaths` |
//! | FLOAT, DOUBLE, DECIMAL, unsigned, BIT, YEAR 0, TINYINT(1) | `bits::numbers`, `bits::numbers_that_cannot_be_put_back` | `values::value_types` |
//! | TIMESTAMP and time zones, the hour that repeats, zero and invalid dates, TIME, fractions | `bits::times` | `values::value_types` |
//! | a client's charset that does not hold the column's, NUL, escapes, modes, spaces, ENUM '', NULL | `bits::texts` | `values::sql_modes`, `values::session_settings` |
//! | a session in another charset: characters that hold quotes and backslashes, names in it | `charsets` | `values::session_settings`, `random` (gbk, latin1) |
//! | BLOB, JSON, GEOMETRY, VECTOR, INET6, UUID | `bits::other_types` | `values::value_types`, `sizes::long_values` |
//! | names that the server stores in lower case | `names` | |
//! | identifiers | `bits::identifiers` | `values::odd_identifiers` |
//! | compensation under other settings: strict mode, zero dates, foreign keys, CHECK, zones, charsets | `bits::compensation` | `values::session_settings`, `sizes` |

mod bits;
mod charsets;
mod names;
mod rows;
