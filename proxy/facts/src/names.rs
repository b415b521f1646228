//! Names of schemas and tables.

use atone_sql::TableName;

/// Schemas of the server's own: nothing in them is captured, and their views call nothing that writes.
pub const SYSTEM_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// A table's schema and name.
pub type TableId<'a> = (&'a str, &'a str);

/// The schema and the name of a table or view.
pub type Qualified = (String, String);

/// Whether a schema is one of the server's own.
pub fn is_system_schema(schema: &str) -> bool {
    SYSTEM_SCHEMAS.iter().any(|own| schema.eq_ignore_ascii_case(own))
}

/// How a server stores the names of tables and schemas (`lower_case_table_names`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameCase {
    /// 0: as they are written, and compares them so.
    AsWritten,
    /// 1: in lower case.
    Lower,
    /// 2: as they are written; it compares them in lower case.
    Either,
}

impl NameCase {
    /// By the variable's value.
    pub fn of(value: u64) -> NameCase {
        match value {
            0 => NameCase::AsWritten,
            1 => NameCase::Lower,
            _ => NameCase::Either,
        }
    }

    /// The one name under which a table is known, whichever way it is written. `None` where only the server knows it:
    /// for other letters than ASCII, and where it stores the spelling of whoever made the table.
    pub fn stored(self, name: &str) -> Option<String> {
        let folded = name.chars().all(|c| c.is_ascii() || c.to_lowercase().eq([c]));
        match self {
            NameCase::AsWritten => Some(name.to_owned()),
            NameCase::Lower if folded => Some(name.to_ascii_lowercase()),
            NameCase::Either if folded && !name.bytes().any(|b| b.is_ascii_uppercase()) => {
                Some(name.to_owned())
            }
            NameCase::Lower | NameCase::Either => None,
        }
    }
}

/// The names with their schemas, without those that have none and those of system schemas. `None` where only the server
/// knows the name under which one is stored.
pub fn qualified(names: Vec<TableName>, database: Option<&str>, case: NameCase) -> Option<Vec<Qualified>> {
    names
        .into_iter()
        .filter_map(|TableName { schema, name }| {
            Some((schema.or_else(|| database.map(str::to_owned))?, name))
        })
        .filter(|(schema, _)| !is_system_schema(schema))
        .map(|(schema, name)| Some((case.stored(&schema)?, case.stored(&name)?)))
        .collect()
}
