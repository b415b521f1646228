//! The grants of the service account, and their changes.
//!
//! A server session keeps some of the rights that the account had when the session began. What such a session does not
//! see need not be missing. So the rights have a version, which counts their changes. A read that depends on rights
//! notes the version before it gets its connection, and reads the rights after all else: they must be the known ones,
//! of the noted version.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atone_facts::Rights;
use mysql_async::{Conn, Error, Row};

use crate::rows::{Typed, typed_rows};

/// How often a read is tried while the account's rights change.
pub(crate) const MAX_TRIES: usize = 3;

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

/// The account's rights as last read, on any of its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownRights(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    rights: Option<Arc<Rights>>,
    /// How often they have changed.
    version: u64,
}

impl Known {
    /// Notes the rights as they are now. Returns whether they are those that were known.
    fn note(&mut self, rights: Rights) -> bool {
        let same = self.rights.as_ref().is_none_or(|known| **known == rights);
        if !same || self.rights.is_none() {
            self.version += u64::from(!same);
            self.rights = Some(Arc::new(rights));
        }
        same
    }
}

impl KnownRights {
    fn locked(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the rights have changed.
    pub(crate) fn version(&self) -> u64 {
        self.locked().version
    }

    /// Notes the rights as they are now.
    pub(crate) fn note(&self, rights: Rights) {
        self.locked().note(rights);
    }

    /// Notes the rights as they are now, after a read that began at this version.
    ///
    /// # Errors
    /// They have changed since.
    pub(crate) fn at_version(&self, version: u64, rights: Rights) -> Result<Arc<Rights>, RightsChanged> {
        let mut known = self.locked();
        match (known.note(rights), &known.rights) {
            (true, Some(rights)) if known.version == version => Ok(rights.clone()),
            _ => Err(RightsChanged),
        }
    }
}

/// The account's rights changed during a read.
#[derive(Debug, thiserror::Error)]
#[error("the service account's rights have changed meanwhile")]
pub(crate) struct RightsChanged;

impl From<RightsChanged> for Error {
    fn from(changed: RightsChanged) -> Error {
        Error::Other(Box::new(changed))
    }
}

fn is_rights_change(error: &Error) -> bool {
    matches!(error, Error::Other(error) if error.is::<RightsChanged>())
}

/// Reads again where the account's rights have changed during the read.
///
/// # Errors
/// What the last try says.
pub(crate) async fn retry<T, F>(read: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut tries = 1;
    loop {
        match read().await {
            Err(e) if tries < MAX_TRIES && is_rights_change(&e) => tries += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_others_count_as_a_change() {
        let rights = |grant: &str| Rights::parse(&[format!("GRANT {grant} ON *.* TO `a`@`%`")], false);
        let mut known = Known::default();
        assert!(known.note(rights("SELECT")) && known.note(rights("SELECT")) && known.version == 0);
        assert!(!known.note(rights("SELECT, TRIGGER")) && known.note(rights("SELECT, TRIGGER")));
        assert!(!known.note(rights("SELECT")) && known.version == 2);
    }

    #[tokio::test]
    async fn a_read_begins_again_where_the_rights_have_changed() {
        let count = std::cell::Cell::new(0);
        let read = |fails: usize| {
            count.set(0);
            let count = &count;
            retry(move || async move {
                count.set(count.get() + 1);
                if count.get() <= fails { Err(RightsChanged.into()) } else { Ok(()) }
            })
        };
        assert!(read(1).await.is_ok());
        assert_eq!(count.get(), 2);
        assert!(read(9).await.is_err());
        assert_eq!(count.get(), MAX_TRIES);
    }
}
