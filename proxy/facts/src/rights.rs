//! What the service account may see, by its own grants: what it may not see is never taken for what does not exist.
//!
//! `SHOW GRANTS` shows the rights of the account itself and of its active roles, and MySQL's partial revokes.

use std::collections::{BTreeMap, BTreeSet};

/// What a rollback needs on the tables that it restores, and on undo_log.
pub(crate) const RESTORING_RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Rights by their names, as `SHOW GRANTS` writes them.
type Names = BTreeSet<String>;

/// The rights of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    everywhere: Names,
    /// What is revoked of that, by schema.
    revoked: BTreeMap<String, Names>,
    /// By schemas' patterns.
    schemas: Vec<(String, Names)>,
    tables: BTreeMap<(String, String), Names>,
    /// Wildcards in patterns are taken literally.
    literal: bool,
}

impl Rights {
    /// Reads the lines of `SHOW GRANTS`. A line that is not understood grants nothing. Wildcards in schemas' names may
    /// be taken literally (MySQL's `partial_revokes`).
    pub fn parse(lines: &[String], literal: bool) -> Rights {
        let mut out = Rights { literal, ..Rights::default() };
        for line in lines {
            let mut words = Words(line);
            let (Some(Word::Bare(verb)), Some((names, level))) = (words.next(), grant(&mut words)) else {
                continue;
            };
            match (verb, level) {
                ("GRANT", Level::Everywhere) => out.everywhere.extend(names),
                ("GRANT", Level::Schema(schema)) => out.schemas.push((schema, names)),
                ("GRANT", Level::Table(schema, table)) => {
                    out.tables.entry((schema, table)).or_default().extend(names);
                }
                ("REVOKE", Level::Schema(schema)) => out.revoked.entry(schema).or_default().extend(names),
                // What this revokes is not known
                ("REVOKE", _) => return Rights::default(),
                _ => {}
            }
        }
        out
    }

    /// Whether the account has a right on the whole of a table.
    pub fn on_table(&self, right: &str, schema: &str, table: &str) -> bool {
        let revoked = self.revoked.get(schema).is_some_and(|names| has(names, right));
        if has(&self.everywhere, right) && !revoked {
            return true;
        }
        // The server takes one of the patterns that match: only what all of them grant is certain
        let mut matching =
            self.schemas.iter().filter(|(pattern, _)| self.matches(pattern, schema)).peekable();
        if matching.peek().is_some() && matching.all(|(_, names)| has(names, right)) {
            return true;
        }
        let own = self.tables.get(&(schema.to_owned(), table.to_owned()));
        own.is_some_and(|names| has(names, right))
    }

    /// Whether the account has a right on all tables there are and will be.
    pub fn on_all_tables(&self, right: &str) -> bool {
        has(&self.everywhere, right) && !self.revoked.values().any(|names| has(names, right))
    }

    /// Whether the account has a right that is not of tables.
    pub fn on_server(&self, right: &str) -> bool {
        has(&self.everywhere, right)
    }

    fn matches(&self, pattern: &str, schema: &str) -> bool {
        if self.literal { pattern == schema } else { is_like(pattern.as_bytes(), schema.as_bytes()) }
    }
}

fn has(names: &Names, right: &str) -> bool {
    names.contains(right) || names.contains("ALL PRIVILEGES")
}

/// Whether a name is LIKE a pattern: `_` is any character, `%` are any, and a backslash takes that from the next one.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'\\', c, pattern @ ..], [n, name @ ..]) => c == n && is_like(pattern, name),
        ([b'%', rest @ ..], _) => {
            (0..=name.len()).any(|skipped| is_like(rest, name.get(skipped..).unwrap_or_default()))
        }
        ([b'_', pattern @ ..], [first, name @ ..]) => {
            // A character may be several bytes
            let more = if *first < 0x80 { 0 } else { name.iter().take_while(|b| **b & 0xc0 == 0x80).count() };
            is_like(pattern, name.get(more..).unwrap_or_default())
        }
        ([c, pattern @ ..], [n, name @ ..]) => c == n && is_like(pattern, name),
        _ => false,
    }
}

/// What rights are granted on.
enum Level {
    Everywhere,
    Schema(String),
    Table(String, String),
}

/// The rights of a line after its verb, and what they are on; `None` for what is no grant of rights on tables.
fn grant(words: &mut Words<'_>) -> Option<(Names, Level)> {
    let mut names = Names::new();
    let mut name = String::new();
    let mut depth = 0usize;
    loop {
        match words.next()? {
            Word::Mark('(') => depth += 1,
            // A right on some columns is not one on the table
            Word::Mark(')') => {
                depth = depth.checked_sub(1)?;
                name.clear();
            }
            _ if depth > 0 => {}
            Word::Mark(',') => {
                names.insert(std::mem::take(&mut name));
            }
            Word::Bare("ON") => {
                names.insert(std::mem::take(&mut name));
                break;
            }
            Word::Bare(word) => {
                if !name.is_empty() {
                    name.push(' ');
                }
                name.push_str(word);
            }
            // GRANT `role` TO …
            Word::Quoted(_) | Word::Mark(_) => return None,
        }
    }
    names.remove("");
    let schema = match words.next()? {
        Word::Mark('*') => None,
        Word::Quoted(schema) => Some(schema),
        // PROCEDURE, FUNCTION, PACKAGE, an account of PROXY
        _ => return None,
    };
    if !matches!(words.next()?, Word::Mark('.')) {
        return None;
    }
    let level = match (schema, words.next()?) {
        (None, Word::Mark('*')) => Level::Everywhere,
        (Some(schema), Word::Mark('*')) => Level::Schema(schema),
        (Some(schema), Word::Quoted(table)) => Level::Table(schema, table),
        _ => return None,
    };
    matches!(words.next()?, Word::Bare("TO" | "FROM")).then_some((names, level))
}

/// A part of a line.
enum Word<'a> {
    Bare(&'a str),
    /// A name in backticks.
    Quoted(String),
    Mark(char),
}

/// Cuts a line into words.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.0 = self.0.trim_start();
        let first = self.0.chars().next()?;
        if first == '`' {
            let mut name = String::new();
            let mut rest = self.0.get(1..)?;
            loop {
                let (part, behind) = rest.split_once('`')?;
                name.push_str(part);
                match behind.strip_prefix('`') {
                    Some(doubled) => {
                        name.push('`');
                        rest = doubled;
                    }
                    None => {
                        self.0 = behind;
                        return Some(Word::Quoted(name));
                    }
                }
            }
        }
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        if is_part(first) {
            let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
            let (word, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(Word::Bare(word));
        }
        self.0 = self.0.get(first.len_utf8()..)?;
        Some(Word::Mark(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(lines: &[&str]) -> Rights {
        Rights::parse(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), false)
    }

    #[test]
    fn levels() {
        let on = |rights: &Rights| rights.on_table("TRIGGER", "s_1", "t");
        for line in [
            "GRANT SELECT, TRIGGER ON *.* TO `a`@`%` WITH GRANT OPTION",
            "GRANT ALL PRIVILEGES ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*94BD'",
            r"GRANT SELECT, TRIGGER, SHOW VIEW ON `s\_1`.* TO `a`@`%`",
            "GRANT ALL PRIVILEGES ON `s_1`.* TO `a`@`%`",
            "GRANT TRIGGER ON `%`.* TO 'a'@'%'",
            "GRANT SELECT (`a`, ` ON `), INSERT (`b`), TRIGGER ON `s_1`.`t` TO `a`@`%`",
        ] {
            assert!(on(&rights(&[line])), "{line}");
        }
        for line in [
            "GRANT SELECT ON *.* TO `a`@`%`",
            "GRANT TRIGGER ON `s\\_2`.* TO `a`@`%`",
            "GRANT TRIGGER ON `s_11`.* TO `a`@`%`",
            "GRANT TRIGGER ON `s_1`.`u` TO `a`@`%`",
            "GRANT TRIGGER ON `s_1`.`T` TO `a`@`%`",
            "GRANT `TRIGGER`@`%` TO `a`@`%`",
            "GRANT PROXY ON ''@'%' TO 'a'@'%' WITH GRANT OPTION",
            "GRANT EXECUTE ON PROCEDURE `s_1`.`t` TO `a`@`%`",
            "GRANT SELECT (`TRIGGER`) ON `s_1`.`t` TO `a`@`%`",
            "GRANT TRIGGER ON `s_1`.`t",
            "REVOKE TRIGGER ON `s_1`.* FROM `a`@`%`",
        ] {
            assert!(!on(&rights(&[line])), "{line}");
        }
        assert!(
            !rights(&["GRANT SELECT (`id`), TRIGGER ON `s`.`t` TO `a`@`%`"]).on_table("SELECT", "s", "t")
        );
        assert!(rights(&["GRANT TRIGGER ON `a``b`.* TO `a`@`%`"]).on_table("TRIGGER", "a`b", "t"));
    }

    #[test]
    fn of_several_patterns_all_count() {
        let wide = "GRANT SELECT, TRIGGER ON `s%`.* TO `a`@`%`";
        assert!(rights(&[wide]).on_table("TRIGGER", "s_1", "t"));
        let narrow = [wide, r"GRANT SELECT ON `s\_1`.* TO `a`@`%`"];
        assert!(
            !rights(&narrow).on_table("TRIGGER", "s_1", "t")
                && rights(&narrow).on_table("TRIGGER", "s_2", "t")
        );
        assert!(rights(&narrow).on_table("SELECT", "s_1", "t"));
    }

    #[test]
    fn partial_revokes() {
        let lines = ["GRANT SELECT, TRIGGER ON *.* TO `a`@`%`", "REVOKE TRIGGER ON `s_1`.* FROM `a`@`%`"];
        let rights = Rights::parse(&lines.map(str::to_owned), true);
        assert!(!rights.on_table("TRIGGER", "s_1", "t") && rights.on_table("TRIGGER", "sx1", "t"));
        assert!(rights.on_table("SELECT", "s_1", "t"));
        assert!(rights.on_all_tables("SELECT") && !rights.on_all_tables("TRIGGER"));
        let patterns =
            [r"GRANT TRIGGER ON `s\_1`.* TO `a`@`%`".to_owned(), "GRANT TRIGGER ON `s%`.* TO `a`@`%`".into()];
        assert!(!Rights::parse(&patterns, true).on_table("TRIGGER", "s_1", "t"));
        assert!(Rights::parse(&patterns, false).on_table("TRIGGER", "s_1", "t"));
    }

    #[test]
    fn names_like_patterns() {
        let like = |pattern: &str, name: &str| is_like(pattern.as_bytes(), name.as_bytes());
        assert!(
            like("a%", "abc") && like("%c", "abc") && like("a_c", "abc") && like("%", "") && like("a_", "aé")
        );
        assert!(!like("a_c", "ac") && !like(r"a\_c", "abc") && like(r"a\_c", "a_c") && !like("abc", "ab"));
        assert!(!like("a_", "aéé") && !like("", "a"));
    }
}
