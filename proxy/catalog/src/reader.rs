//! Connections for reads that depend on the account's rights.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use atone_facts::{Rights, TableError, TableId, TableInfo};
use mysql_async::{Conn, Error, Row};

use crate::batch::read_all;
use crate::error::service_error;
use crate::rights::{KnownRights, parse_rights, read_rights};

/// A connection for reads that depend on the account's rights. It knows the version that these had when it was got.
#[derive(Debug)]
pub struct Reader {
    conn: Conn,
    version: u64,
    known: KnownRights,
}

impl Reader {
    /// The connection was got when the rights had this version, or a later one.
    pub(crate) fn new(conn: Conn, version: u64, known: &KnownRights) -> Reader {
        Reader { conn, version, known: known.clone() }
    }

    pub(crate) fn into_conn(self) -> Conn {
        self.conn
    }

    /// The account's rights, by the server's answers to [`RIGHTS_SQL`] after a read.
    ///
    /// # Errors
    /// They are others than the connection may have begun with: see [`retry`](crate::rights::retry).
    pub(crate) fn rights(&self, grants: Vec<Row>, literal: Vec<Row>) -> Result<Arc<Rights>, Error> {
        Ok(self.known.at_version(self.version, parse_rights(grants, literal)?)?)
    }

    /// The same, asked for on this connection.
    pub(crate) async fn read_rights(&mut self) -> Result<Arc<Rights>, Error> {
        let rights = read_rights(&mut self.conn).await?;
        Ok(self.known.at_version(self.version, rights)?)
    }

    /// Tables as they are now, without the foreign keys that point at them. A packet may be so many bytes long.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn tables(
        &mut self,
        ids: &[TableId<'_>],
        packet_bytes: usize,
        mariadb: bool,
    ) -> Result<Vec<TableInfo>, TableError> {
        read_all(self, ids, packet_bytes, mariadb).await.map_err(service_error)?
    }
}

impl Deref for Reader {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
