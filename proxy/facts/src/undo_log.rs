//! Whether a table `undo_log` is fit for undo records. What is wrong with one is the end of a sentence about it.

use atone_undo::UNDO_LOG_TABLE;

use crate::rights::{RESTORING_RIGHTS, Rights};
use crate::rows::{BASE_TABLE, IndexRow};

/// The least length of the columns `xid` and `context`.
const TEXT_CHARS: u64 = 128;

/// A column of an undo_log, as `information_schema.COLUMNS` shows it.
#[derive(Clone, Debug)]
pub struct UndoLogColumn {
    /// `COLUMN_NAME`
    pub name: String,
    /// `DATA_TYPE`
    pub data_type: String,
    /// `COLUMN_TYPE`
    pub column_type: String,
    /// `CHARACTER_MAXIMUM_LENGTH`, 0 where there is none.
    pub chars: u64,
    /// A row need not give it a value.
    pub has_default: bool,
    /// `EXTRA`, in upper case.
    pub extra: String,
}

impl UndoLogColumn {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn is_computed(&self) -> bool {
        ["VIRTUAL", "STORED", "PERSISTENT", "INVISIBLE ROW"].iter().any(|word| self.extra.contains(word))
    }

    fn counts(&self) -> bool {
        self.extra.contains("AUTO_INCREMENT")
    }
}

/// What a column has to be.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Of one of these types.
    Type(&'static [&'static str]),
    /// A VARCHAR of the length of `xid` and `context`.
    Text,
}

impl Wanted {
    fn fits(self, column: &UndoLogColumn) -> bool {
        match self {
            Wanted::Type(types) => types.iter().any(|t| column.data_type.eq_ignore_ascii_case(t)),
            Wanted::Text => column.data_type.eq_ignore_ascii_case("varchar") && column.chars >= TEXT_CHARS,
        }
    }

    fn name(self) -> String {
        match self {
            Wanted::Type(types) => types.first().copied().unwrap_or_default().to_owned(),
            Wanted::Text => format!("varchar({TEXT_CHARS})"),
        }
    }
}

const INTEGERS: &[&str] = &["int", "bigint", "mediumint", "smallint", "tinyint"];
/// What an undo record is written into. A TIMESTAMP would depend on the session's time zone.
const COLUMNS: [(&str, Wanted); 7] = [
    ("branch_id", Wanted::Type(&["bigint"])),
    ("xid", Wanted::Text),
    ("context", Wanted::Text),
    ("rollback_info", Wanted::Type(&["longblob", "mediumblob"])),
    ("log_status", Wanted::Type(INTEGERS)),
    ("log_created", Wanted::Type(&["datetime"])),
    ("log_modified", Wanted::Type(&["datetime"])),
];

/// What is wrong with a table in the place of the undo_log.
pub fn unfit_table(table_type: &str, engine: Option<&str>) -> Option<String> {
    if table_type != BASE_TABLE {
        return Some(format!("is no base table but a {table_type}"));
    }
    if !engine.is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB")) {
        return Some(format!("is of the engine {}, not InnoDB", engine.unwrap_or_default()));
    }
    None
}

/// What is wrong with the rights that the service account has on the undo_log of a schema.
pub fn unfit_rights(rights: &Rights, schema: &str) -> Option<String> {
    let lacking = RESTORING_RIGHTS.iter().find(|right| !rights.on_table(right, schema, UNDO_LOG_TABLE))?;
    Some(format!("is one on which the service account lacks {lacking}"))
}

/// What is wrong with the columns.
pub fn unfit_columns(columns: &[UndoLogColumn]) -> Option<String> {
    for (name, wanted) in COLUMNS {
        let Some(column) = columns.iter().find(|c| c.is(name)) else {
            return Some(format!("has no column {name}"));
        };
        if !wanted.fits(column) {
            return Some(format!(
                "has the column {name} as {}, not as {}",
                column.column_type,
                wanted.name()
            ));
        }
        if column.is_computed() {
            return Some(format!("computes the column {name}"));
        }
    }
    let given = |c: &UndoLogColumn| COLUMNS.iter().any(|(name, _)| c.is(name));
    let unfilled = columns.iter().find(|c| !given(c) && !c.has_default && !c.counts() && !c.is_computed());
    unfilled.map(|c| format!("has the column {}, which needs a value that undo records do not have", c.name))
}

/// What is wrong with the unique keys, which are given part by part.
pub fn unfit_keys(columns: &[UndoLogColumn], parts: &[IndexRow]) -> Option<String> {
    let mut keys: Vec<(&str, Vec<Option<&str>>)> = Vec::new();
    for IndexRow { index, column, prefix, .. } in parts {
        let column = column.as_deref().filter(|_| prefix.is_none());
        match keys.last_mut() {
            Some((last, key)) if *last == index.as_str() => key.push(column),
            _ => keys.push((index.as_str(), vec![column])),
        }
    }
    let is = |part: &Option<&str>, name: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(name));
    let has = |key: &[Option<&str>], name: &str| key.iter().any(|part| is(part, name));
    let stops_late_commits = |key: &[Option<&str>]| {
        key.iter().all(|part| is(part, "branch_id") || is(part, "xid")) && has(key, "branch_id")
    };
    if !keys.iter().any(|(_, key)| stops_late_commits(key)) {
        // Without it a marker could not stop a late local COMMIT
        return Some("has no unique key on (branch_id, xid)".into());
    }
    let counted = |key: &[Option<&str>]| columns.iter().filter(|c| c.counts()).any(|c| has(key, &c.name));
    let in_the_way = keys.iter().find(|(_, key)| !has(key, "branch_id") && !counted(key));
    in_the_way.map(|(index, _)| format!("has the unique key {index}, in which branches may collide"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str) -> UndoLogColumn {
        UndoLogColumn {
            name: name.into(),
            data_type: data_type.into(),
            column_type: data_type.into(),
            chars: if data_type == "varchar" { 128 } else { 0 },
            has_default: false,
            extra: String::new(),
        }
    }

    fn part(index: &str, column: &str, prefix: Option<u64>) -> IndexRow {
        IndexRow { index: index.into(), column: Some(column.into()), prefix, non_unique: false }
    }

    fn columns() -> Vec<UndoLogColumn> {
        COLUMNS.iter().map(|(name, wanted)| column(name, wanted.name().split('(').next().unwrap())).collect()
    }

    #[test]
    fn columns_that_undo_records_need() {
        assert_eq!(unfit_columns(&columns()), None);
        for at in 0..COLUMNS.len() {
            let mut missing = columns();
            let gone = missing.remove(at);
            assert_eq!(unfit_columns(&missing), Some(format!("has no column {}", gone.name)));
            let mut other = columns();
            other[at] = column(&gone.name, "text");
            assert!(unfit_columns(&other).unwrap().contains("as text, not as"), "{gone:?}");
            let mut computed = columns();
            computed[at].extra = "STORED GENERATED".into();
            assert!(unfit_columns(&computed).is_some(), "{gone:?}");
        }
        let mut short = columns();
        short[1].chars = 100;
        assert!(unfit_columns(&short).is_some());
        // As Seata makes it
        let mut more = columns();
        more.insert(0, UndoLogColumn { extra: "AUTO_INCREMENT".into(), ..column("id", "bigint") });
        more.push(UndoLogColumn { has_default: true, ..column("ext", "varchar") });
        assert_eq!(unfit_columns(&more), None);
        more.push(column("app", "int"));
        assert!(unfit_columns(&more).unwrap().contains("app"));
    }

    #[test]
    fn keys_that_undo_records_need() {
        let check = |keys: &[(&str, &[&str])]| {
            let mut columns = columns();
            columns.push(UndoLogColumn { extra: "AUTO_INCREMENT".into(), ..column("id", "bigint") });
            let parts: Vec<_> = keys
                .iter()
                .flat_map(|(index, key)| key.iter().map(|column| part(index, column, None)))
                .collect();
            unfit_keys(&columns, &parts)
        };
        assert_eq!(check(&[("PRIMARY", &["branch_id", "xid"])]), None);
        assert_eq!(check(&[("PRIMARY", &["branch_id"])]), None);
        assert_eq!(check(&[("PRIMARY", &["id"]), ("ux", &["XID", "branch_id"])]), None);
        assert!(check(&[]).is_some() && check(&[("PRIMARY", &["id"])]).is_some());
        assert!(check(&[("PRIMARY", &["branch_id", "xid", "log_status"])]).is_some());
        assert!(check(&[("PRIMARY", &["branch_id", "xid"]), ("u", &["xid"])]).unwrap().contains("collide"));
        let prefix = [part("u", "branch_id", None), part("u", "xid", Some(10))];
        assert!(unfit_keys(&columns(), &prefix).is_some());
    }
}
