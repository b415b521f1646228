//! A statement and what an analysis of this very text has found.

use std::borrow::Cow;

use atone_sql::{Analysis, Charset, Mode, Statement, analyze, unreadable};
use bytes::Bytes;

use crate::heavy::heavy_text;

/// A statement that was read. Only an analysis makes one.
#[derive(Debug)]
pub(super) struct Analysed {
    /// The text that was analysed: the client's, as its charset reads.
    pub(super) sql: Bytes,
    pub(super) analysis: Analysis,
    pub(super) origin: Origin,
}

/// An analysed statement as it came: what may be forwarded of a bound session, as far as [`Origin::passes`] says.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// In the client's charset.
    sql: Bytes,
    /// As it was read.
    text: Bytes,
    /// `COM_STMT_EXECUTE`, whole, where the statement was prepared.
    execution: Option<Bytes>,
    passes: Passes,
}

/// Whether a statement of a bound session may run as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    /// It writes nothing.
    AsItCame,
    /// Only where nothing of it has to be captured.
    Uncaptured,
    /// It is refused, or Atone's own.
    Never,
}

/// Why nothing has to be captured of a statement that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncaptured {
    /// Its table is a temporary one, which nobody else sees.
    Temporary,
    /// The transaction is read only: the server says so before anything else.
    ReadOnly,
}

impl Passes {
    fn of(statement: &Statement) -> Passes {
        match statement {
            Statement::Empty
            | Statement::Begin { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::RollbackTo(_)
            | Statement::ReleaseSavepoint(_)
            | Statement::SetXid(_)
            | Statement::TouchesXid
            | Statement::SetAutocommit(_)
            | Statement::Set
            | Statement::Use(_)
            | Statement::Read
            | Statement::Diagnostics
            | Statement::SelectsDiagnostics { .. }
            | Statement::Prepare(_)
            | Statement::Deallocate(_) => Passes::AsItCame,
            Statement::Insert(_) | Statement::Dml(_) | Statement::Joined(_) | Statement::Load(_) => {
                Passes::Uncaptured
            }
            // What an EXECUTE runs is another text
            Statement::Execute(_)
            | Statement::StartGlobal { .. }
            | Statement::JoinGlobal(_)
            | Statement::CommitGlobal
            | Statement::RollbackGlobal
            | Statement::Refused(_) => Passes::Never,
        }
    }
}

impl Analysed {
    /// Reads the text of a `COM_QUERY`, or one statement of it.
    pub(super) fn query(sql: Bytes, mode: Mode) -> Analysed {
        Analysed::came(sql, mode, None)
    }

    /// Reads the text of a prepared statement that `payload` executes.
    pub(super) fn execution(sql: Bytes, mode: Mode, payload: Bytes) -> Analysed {
        Analysed::came(sql, mode, Some(payload))
    }

    fn came(sql: Bytes, mode: Mode, execution: Option<Bytes>) -> Analysed {
        let text = heavy_text(converted_bytes(&sql, mode.charset), || mode.decode(&sql));
        match text.map(|text| shared(&sql, text)) {
            Ok(text) => Analysed::read(sql, text, mode, execution),
            Err(why) => {
                let analysis = unreadable(&sql, why);
                let origin = Origin { sql: sql.clone(), text: sql.clone(), execution, passes: Passes::Never };
                Analysed { sql, analysis, origin }
            }
        }
    }

    /// Reads what stands for a statement that was read: an execution with its parameters, if `execution` is one.
    pub(super) fn instead(text: Bytes, mode: Mode, execution: Option<Bytes>) -> Analysed {
        match written(&text, mode.charset).map(|sql| shared(&text, sql)) {
            Some(sql) => Analysed::read(sql, text, mode, execution),
            None => {
                let analysis = unreadable(&text, "cannot be said in character_set_client");
                let origin =
                    Origin { sql: Bytes::new(), text: text.clone(), execution, passes: Passes::Never };
                Analysed { sql: text, analysis, origin }
            }
        }
    }

    fn read(sql: Bytes, text: Bytes, mode: Mode, execution: Option<Bytes>) -> Analysed {
        let analysis = heavy_text(text.len(), || analyze(&text, mode));
        let passes = Passes::of(&analysis.statement);
        Analysed { origin: Origin { sql, text: text.clone(), execution, passes }, sql: text, analysis }
    }

    /// The statement with blanks in the place of its XID hint, which the server would warn of.
    pub(super) fn without_hint(mut self, mode: Mode) -> Analysed {
        if let Some(hint) = &self.analysis.xid_hint {
            let text = blanked(&self.sql, &hint.span);
            match written(&text, mode.charset).map(|sql| shared(&text, sql)) {
                Some(sql) => self.origin.sql = sql,
                None => self.origin.passes = Passes::Never,
            }
            self.origin.text = text.clone();
            self.sql = text;
        }
        self
    }
}

/// A text that was read, in the client's charset again.
pub(super) fn written(text: &[u8], charset: Charset) -> Option<Cow<'_, [u8]>> {
    heavy_text(converted_bytes(text, charset), || charset.encode(text))
}

/// How many bytes of a text have to be converted: none of what is read as it comes.
fn converted_bytes(text: &[u8], charset: Charset) -> usize {
    if charset.is_unicode() { 0 } else { text.len() }
}

/// What became of a text, without a copy where it is the same.
fn shared(text: &Bytes, became: Cow<'_, [u8]>) -> Bytes {
    match became {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(became) => became.into(),
    }
}

/// A text with blanks in the place of a part that means nothing to the server.
pub(super) fn blanked(sql: &[u8], span: &atone_sql::Span) -> Bytes {
    let mut blanked = sql.to_vec();
    if let Some(span) = blanked.get_mut(span.clone()) {
        span.fill(b' ');
    }
    blanked.into()
}

impl Origin {
    /// The statement's text, as the server gets it.
    pub(super) fn sql(&self) -> &Bytes {
        &self.sql
    }

    /// The same as it was read.
    pub(super) fn text(&self) -> &Bytes {
        &self.text
    }

    /// `COM_STMT_EXECUTE`, where the statement was prepared.
    pub(super) fn execution(&self) -> Option<&Bytes> {
        self.execution.as_ref()
    }

    pub(super) fn passes(&self) -> Passes {
        self.passes
    }

    /// The EXECUTE of a statement that was prepared by SQL: it passes as the statement does that it runs.
    pub(super) fn running(self, inner: &Analysed) -> Origin {
        let passes = if self.passes == Passes::Never { inner.origin.passes } else { self.passes };
        Origin { passes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(sql: &str) -> Passes {
        Analysed::query(Bytes::copy_from_slice(sql.as_bytes()), Mode::default()).origin.passes()
    }

    #[test]
    fn only_what_writes_nothing_passes_as_it_came() {
        for sql in ["SELECT 1", "", "BEGIN", "COMMIT", "SET @a = 1", "USE s", "SET @atone_xid = 'x'"] {
            assert_eq!(passes(sql), Passes::AsItCame, "{sql}");
        }
        for sql in ["UPDATE t SET a = ';' WHERE id = 1", "DELETE FROM t", "INSERT INTO t VALUES (1)"] {
            assert_eq!(passes(sql), Passes::Uncaptured, "{sql}");
        }
        for sql in [
            "TRUNCATE/*;*/ t",
            "DROP TABLE t",
            "EXECUTE s",
            "SELECT 1; SELECT 2",
            "COMMIT GLOBAL TRANSACTION",
            "'",
        ] {
            assert_eq!(passes(sql), Passes::Never, "{sql}");
        }
    }

    #[test]
    fn a_hint_is_blanked_in_what_is_forwarded() {
        let sql = Bytes::from_static(b"SELECT /*+ XID('x') */ 1");
        let analysed = Analysed::query(sql, Mode::default()).without_hint(Mode::default());
        assert!(!analysed.origin.sql().windows(3).any(|w| w == b"XID"));
        assert_eq!(analysed.origin.sql(), &analysed.sql);
    }
}
