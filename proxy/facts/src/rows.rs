//! Rows of the information schema, as a server shows them of a table.

/// The `TABLE_TYPE` of a base table.
pub const BASE_TABLE: &str = "BASE TABLE";
/// The `TABLE_TYPE` of a view.
const VIEW: &str = "VIEW";

/// A row of `information_schema.TABLES`.
#[derive(Clone, Debug)]
pub struct TableRow {
    /// `TABLE_SCHEMA`
    pub schema: String,
    /// `TABLE_NAME`
    pub name: String,
    /// `ENGINE`
    pub engine: Option<String>,
    /// `TABLE_TYPE`
    pub table_type: String,
}

impl TableRow {
    /// It is a base table: no view, sequence or the like.
    pub fn is_base_table(&self) -> bool {
        self.table_type == BASE_TABLE
    }

    /// It is a view.
    pub(crate) fn is_view(&self) -> bool {
        self.table_type == VIEW
    }

    /// Its storage engine is InnoDB.
    pub fn is_innodb(&self) -> bool {
        self.engine.as_deref().is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB"))
    }

    /// Why nothing of this kind can be undone.
    pub(crate) fn refusal(&self) -> Option<String> {
        let TableRow { schema, name, engine, table_type } = self;
        if self.is_view() {
            return Some(format!("{schema}.{name} is a view now, and no table"));
        }
        if !self.is_base_table() {
            return Some(format!("{schema}.{name} is not a base table ({table_type})"));
        }
        if !self.is_innodb() {
            let engine = engine.as_deref().unwrap_or_default();
            return Some(format!(
                "{schema}.{name} is of engine {engine}, which cannot roll back with InnoDB"
            ));
        }
        None
    }
}

/// A row of `information_schema.COLUMNS`.
#[derive(Clone, Debug)]
pub struct ColumnRow {
    /// `COLUMN_NAME`
    pub name: String,
    /// `DATA_TYPE`
    pub data_type: String,
    /// `COLUMN_TYPE`
    pub column_type: String,
    /// `CHARACTER_SET_NAME`
    pub charset: Option<String>,
    /// `COLLATION_NAME`
    pub collation: Option<String>,
    /// `IS_NULLABLE`
    pub is_nullable: String,
    /// `EXTRA`
    pub extra: String,
    /// `COLUMN_DEFAULT`
    pub default: Option<String>,
}

/// A row of `information_schema.STATISTICS`: one part of an index.
#[derive(Clone, Debug)]
pub struct IndexRow {
    /// `INDEX_NAME`
    pub index: String,
    /// `COLUMN_NAME`; none where the part is an expression.
    pub column: Option<String>,
    /// `SUB_PART`: how much of the column is indexed, where it is not all.
    pub prefix: Option<u64>,
    /// `NON_UNIQUE`
    pub non_unique: bool,
}
