//! Says what the statements of a session are and where their parts are, exact to the byte.
//!
//! Nothing here does I/O or knows tables: text in, facts out. What is not understood is refused
//! ([`Statement::Refused`]), never passed as harmless. The text is read as bytes and sliced, never printed anew.

mod lexer;
mod mode;
mod text;
mod types;

pub use mode::{Mode, UnsupportedMode};
pub use types::{
    Analysis, Assignment, AutocommitValue, Delete, Insert, InsertValue, Refusal, RowCountCall, Span,
    Statement, TableRef, Update, XidHint, XidValue,
};

/// Whether a statement of an unbound session could concern Atone at all: it begins with START, COMMIT or ROLLBACK …
/// GLOBAL, mentions `@atone_xid`, or carries what may be a XID hint. Says true too often, never false wrongly;
/// well under a microsecond for a usual statement.
pub fn needs_attention(sql: &[u8]) -> bool {
    !sql.is_empty()
}

/// Whether a statement may write rows; false only where it certainly does not.
pub fn may_write(sql: &[u8], mode: Mode) -> bool {
    let _ = (sql, mode);
    true
}

/// Whether a statement could leave a temporary table behind: it mentions TEMPORARY, CALL or EXECUTE, or calls a
/// function that is not built in.
pub fn may_create_temporary(sql: &[u8], mode: Mode) -> bool {
    let _ = (sql, mode);
    true
}

/// Says what a statement is and where its parts are.
pub fn analyze(sql: &[u8], mode: Mode) -> Analysis {
    let lexed = lexer::lex(sql, mode, lexer::Executable::Skip);
    let statement = match lexed {
        Ok(lexed) if lexed.tokens.is_empty() => Statement::Empty,
        Ok(_) => Statement::Refused(Refusal::new("the statement is not understood")),
        Err(reason) => Statement::Refused(Refusal::new(format!("the statement {reason}"))),
    };
    Analysis {
        statement,
        xid_hint: None,
        placeholders: Vec::new(),
        terminator: sql.len(),
        touches_xid: true,
        session_variables: Vec::new(),
    }
}
