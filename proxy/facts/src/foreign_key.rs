//! The foreign keys that point at a table, and whether the service account sees all of them.

use std::collections::BTreeMap;

use atone_undo::Table;

use crate::rights::Rights;

/// What becomes of the rows that refer to a row which is deleted, or whose referenced columns are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The statement fails while there are such rows: RESTRICT and NO ACTION, which InnoDB treats alike, and SET
    /// DEFAULT, which it does not have.
    Restrict,
    /// They are deleted, or get the new values.
    Cascade,
    /// Their columns become NULL.
    SetNull,
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        match text {
            "RESTRICT" | "NO ACTION" | "SET DEFAULT" => Some(Rule::Restrict),
            "CASCADE" => Some(Rule::Cascade),
            "SET NULL" => Some(Rule::SetNull),
            _ => None,
        }
    }
}

/// A foreign key that points at a table, the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name, which is unique in its schema.
    pub name: String,
    /// The child's schema.
    pub schema: String,
    /// The child's name.
    pub table: String,
    /// The child's columns.
    pub columns: Vec<String>,
    /// The columns of the parent to which they refer, as indices into its columns.
    pub referenced: Vec<usize>,
    /// What a DELETE of the parent does.
    pub on_delete: Rule,
    /// What an UPDATE of the referenced columns does.
    pub on_update: Rule,
}

/// The foreign keys that point at a table, as far as the service account sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Those that are seen, by schema, table and name.
    pub keys: Vec<ForeignKey>,
    /// Why there may be others.
    pub unproven: Option<String>,
}

/// A row of `information_schema.REFERENTIAL_CONSTRAINTS`: a foreign key and its rules.
#[derive(Clone, Debug)]
pub struct RuleRow {
    /// `CONSTRAINT_SCHEMA`, which is the child's.
    pub schema: String,
    /// `TABLE_NAME`, the child's.
    pub table: String,
    /// `CONSTRAINT_NAME`
    pub name: String,
    /// `DELETE_RULE`
    pub on_delete: String,
    /// `UPDATE_RULE`
    pub on_update: String,
}

/// A row of `information_schema.KEY_COLUMN_USAGE`: a pair of columns of a foreign key.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// `TABLE_SCHEMA`, the child's.
    pub schema: String,
    /// `TABLE_NAME`, the child's.
    pub table: String,
    /// `CONSTRAINT_NAME`
    pub name: String,
    /// `COLUMN_NAME`
    pub column: String,
    /// `REFERENCED_COLUMN_NAME`
    pub referenced: String,
}

impl References {
    /// Puts the foreign keys that point at `table` together. `usage` is in the order of the columns; `unproven` is why
    /// there may be foreign keys that the account does not see.
    pub fn assemble(
        table: &Table,
        rules: Vec<RuleRow>,
        usage: Vec<UsageRow>,
        unproven: Option<String>,
    ) -> References {
        let mut columns: BTreeMap<(String, String, String), Vec<(String, String)>> = BTreeMap::new();
        for row in usage {
            columns.entry((row.schema, row.table, row.name)).or_default().push((row.column, row.referenced));
        }
        let mut out = References { keys: Vec::new(), unproven };
        for row in rules {
            let columns = columns.remove(&(row.schema.clone(), row.table.clone(), row.name.clone()));
            match columns.and_then(|columns| foreign_key(table, &row, columns)) {
                Some(key) => out.keys.push(key),
                None => {
                    let RuleRow { schema, table, name, .. } = row;
                    let why =
                        format!("the columns of foreign key {name} of {schema}.{table} are not to be seen");
                    out.unproven = Some(why);
                }
            }
        }
        out.keys.sort_by(|a, b| (&a.schema, &a.table, &a.name).cmp(&(&b.schema, &b.table, &b.name)));
        out
    }

    /// Why there may be foreign keys at a table that the service account does not see.
    pub fn why_unproven(table: &Table) -> String {
        format!(
            "the service account may not see all foreign keys that point at {}.{}: it needs SELECT and TRIGGER on *.*",
            table.schema, table.name
        )
    }
}

/// Whether an account sees the foreign keys of all tables. A server shows only those of tables on which the account has
/// rights, so that it takes a right on all schemas.
pub fn are_all_keys_seen(rights: &Rights) -> bool {
    rights.on_all_tables("TRIGGER") && rights.on_all_tables("SELECT")
}

/// The foreign key of these pairs of columns, where all of it is understood.
fn foreign_key(parent: &Table, row: &RuleRow, columns: Vec<(String, String)>) -> Option<ForeignKey> {
    let (on_delete, on_update) = (Rule::parse(&row.on_delete)?, Rule::parse(&row.on_update)?);
    let place = |name: &str| parent.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    let referenced = columns.iter().map(|(_, referenced)| place(referenced)).collect::<Option<Vec<_>>>()?;
    Some(ForeignKey {
        name: row.name.clone(),
        schema: row.schema.clone(),
        table: row.table.clone(),
        columns: columns.into_iter().map(|(column, _)| column).collect(),
        referenced,
        on_delete,
        on_update,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn rule(name: &str, on_delete: &str) -> RuleRow {
        RuleRow {
            schema: "s".into(),
            table: "child".into(),
            name: name.into(),
            on_delete: on_delete.into(),
            on_update: "CASCADE".into(),
        }
    }

    fn usage(name: &str, column: &str, referenced: &str) -> UsageRow {
        UsageRow {
            schema: "s".into(),
            table: "child".into(),
            name: name.into(),
            column: column.into(),
            referenced: referenced.into(),
        }
    }

    #[test]
    fn keys_are_put_together_of_their_columns() {
        let parent = samples::table(&["id", "v"]);
        let rules = vec![rule("g", "NO ACTION"), rule("f", "SET NULL")];
        let columns = vec![usage("f", "b", "V"), usage("g", "a", "id"), usage("f", "c", "id")];
        let all = References::assemble(&parent, rules, columns, None);
        let names: Vec<&str> = all.keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!((names, &all.unproven), (vec!["f", "g"], &None));
        assert_eq!((&all.keys[0].referenced, all.keys[0].on_delete), (&vec![1, 0], Rule::SetNull));
        assert_eq!((all.keys[0].columns.concat(), all.keys[1].on_delete), ("bc".to_owned(), Rule::Restrict));
    }

    #[test]
    fn a_key_that_is_not_understood_leaves_others_unproven() {
        let parent = samples::table(&["id"]);
        for (rules, columns) in [
            (vec![rule("f", "CASCADE")], vec![]),
            (vec![rule("f", "CASCADE")], vec![usage("f", "a", "gone")]),
            (vec![rule("f", "NEW RULE")], vec![usage("f", "a", "id")]),
        ] {
            let all = References::assemble(&parent, rules, columns, None);
            assert!(
                all.keys.is_empty()
                    && all.unproven.is_some_and(|why| why.contains("foreign key f of s.child"))
            );
        }
    }
}
