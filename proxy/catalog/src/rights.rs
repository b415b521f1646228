//! The grants of the service account. A session goes on with rights that the account had when it began: [`crate::pool`] has
//! which of them count.

use atone_facts::Rights;
use mysql_async::{Conn, Error, Row};

use crate::rows::{Typed, typed_rows};

/// The grants, and whether wildcards in schemas' names are taken literally (MySQL's `partial_revokes`).
pub(crate) const RIGHTS_SQL: [&str; 2] = ["SHOW GRANTS", "SELECT 0 /*!80016 OR @@partial_revokes */ LIMIT 1"];

/// Asks the server for the account's rights.
pub(crate) async fn read_rights(conn: &mut Conn) -> Result<Rights, Error> {
    let [grants, literal] = conn.results(RIGHTS_SQL).await?;
    parse_rights(grants, literal)
}

/// The rights in the server's answers to [`RIGHTS_SQL`].
pub(crate) fn parse_rights(grants: Vec<Row>, literal: Vec<Row>) -> Result<Rights, Error> {
    let lines: Vec<String> = typed_rows(grants)?;
    let literal: Vec<u8> = typed_rows(literal)?;
    Ok(Rights::parse(&lines, literal.first() != Some(&0)))
}
