//! Tables of the documents.

use std::path::Path;

/// A row of a table of statements in docs/sql-support.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documented {
    /// The row as it stands there.
    pub line: String,
    /// The statement.
    pub sql: String,
    /// `any`, `MySQL` or `MariaDB`.
    pub server: String,
    /// What becomes of it, in a word.
    pub becomes: String,
    /// Why it is refused, if it is.
    pub reason: String,
}

impl Documented {
    /// The servers for which the row stands: for each whether it is MariaDB.
    ///
    /// # Panics
    /// There is no such server.
    pub fn servers(&self) -> &'static [bool] {
        match self.server.as_str() {
            "any" => &[false, true],
            "MySQL" => &[false],
            "MariaDB" => &[true],
            other => panic!("{}: there is no server {other}", self.line),
        }
    }
}

/// The rows of the tables of statements in docs/sql-support.md.
///
/// # Panics
/// The document cannot be read.
pub fn statements() -> Vec<Documented> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql-support.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter_map(statement).collect()
}

/// A row of four cells, of which the first is a statement in backticks.
fn statement(line: &str) -> Option<Documented> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [statement, server, becomes, reason] = cells.as_slice() else { return None };
    let sql = statement.strip_prefix('`')?.strip_suffix('`')?;
    Some(Documented {
        line: line.to_owned(),
        sql: sql.to_owned(),
        server: (*server).to_owned(),
        becomes: (*becomes).to_owned(),
        reason: (*reason).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_statements_are_told_from_other_rows() {
        let row = statement("| `SELECT f(1)` | any | refused | the statement calls f |").unwrap();
        assert_eq!((row.sql.as_str(), row.becomes.as_str()), ("SELECT f(1)", "refused"));
        assert_eq!((row.reason.as_str(), row.servers()), ("the statement calls f", &[false, true][..]));
        assert_eq!(statement("| statement | server | becomes | reason |"), None);
        assert_eq!(statement("| `a` | b | c |"), None);
        assert_eq!(statement("`SELECT 1`"), None);
    }
}
