//! Which kind of statement a text is.

use crate::{
    clause::{ctes, functions},
    lex::{CommentKind, Executable, Kind, Lexed, Mode, Text, decode, lex},
    screen::{may_be_for_atone, next_statement},
    statement::{
        insert, load, prepared, query,
        set::{self, Set},
        transaction, update_delete,
    },
    types::{Analysis, Refusal, Statement},
    xid::{hint, variable},
};

/// Says what a statement is and where its parts are.
///
/// Takes a few microseconds for a usual statement. Time and memory grow linearly with the length.
pub fn analyze(sql: &[u8], mode: Mode) -> Analysis {
    let lexed = match lex(sql, mode, Executable::Skip) {
        Ok(lexed) => lexed,
        Err(reason) => return unreadable(sql, reason),
    };
    let mut analysis = Analysis {
        statement: Statement::Empty,
        xid_hint: None,
        placeholders: Vec::new(),
        terminator: 0,
        touches_xid: false,
        session_variables: Vec::new(),
    };
    analysis.placeholders = lexed
        .tokens
        .iter()
        .filter(|token| token.kind == Kind::Placeholder)
        .map(|token| token.start())
        .collect();
    let text = statement_text(sql, mode, &lexed);
    analysis.terminator = terminator(&text, &lexed);
    analysis.touches_xid = variable::touches_xid(&text);

    let statement = if lexed.has_executable_comments() {
        with_executable_comments(&text, &mut analysis)
    } else {
        classify(&text, &mut analysis)
    };
    let statement = statement.and_then(|statement| check_hints(sql, &lexed, statement));
    let hint = hint::find(sql, &lexed.comments, text.len());
    analysis.statement = match (statement, hint) {
        // One of several statements is for Atone: the others must not run as if the session were unbound
        (Err(refusal), hint) => {
            let binds = analysis.touches_xid || !matches!(hint, Ok(None)) || begins_with_global_verb(&text);
            let several = text.tokens.iter().any(|token| token.kind == Kind::Punct(b';'));
            analysis.xid_hint = hint.ok().flatten();
            let atone_syntax = refusal.atone_syntax || (several && binds);
            // A hint asks for a global transaction, in which the statement cannot run
            let for_atone = atone_syntax || analysis.xid_hint.is_some();
            Statement::Refused(Refusal { for_atone, atone_syntax, ..refusal })
        }
        (Ok(_), Err(refusal)) => Statement::Refused(refusal),
        (Ok(statement), Ok(hint)) => {
            analysis.xid_hint = hint;
            if statement.binds() && analysis.xid_hint.is_some() {
                Statement::Refused(Refusal::for_atone("the statement binds and has a XID hint"))
            } else {
                statement
            }
        }
    };
    analysis
}

/// The analysis of a statement that cannot be lexed; the reason continues "the statement".
pub fn unreadable(sql: &[u8], reason: &str) -> Analysis {
    Analysis {
        statement: Statement::Refused(Refusal::new(format!("the statement {reason}"))),
        xid_hint: None,
        placeholders: Vec::new(),
        terminator: sql.len(),
        // The server most probably refuses it, too; whether it assigns the variable is not known
        touches_xid: may_be_for_atone(sql),
        session_variables: Vec::new(),
    }
}

/// Whether a statement may write rows. Says false only if it certainly does not.
pub fn may_write(sql: &[u8], mode: Mode) -> bool {
    match analyze(sql, mode).statement {
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
        | Statement::StartGlobal { .. }
        | Statement::JoinGlobal(_)
        | Statement::CommitGlobal
        | Statement::RollbackGlobal
        | Statement::Prepare(_)
        | Statement::Deallocate(_) => false,
        Statement::Insert(_)
        | Statement::Dml(_)
        | Statement::Joined(_)
        | Statement::Execute(_)
        | Statement::Load(_)
        | Statement::Refused(_) => true,
    }
}

/// Whether one of the statements binds, or asks to be run in a global transaction.
pub fn concerns_atone(sql: &[u8], mode: Mode) -> bool {
    let mut rest = sql;
    loop {
        let next = next_statement(rest, mode);
        let analysis = analyze(next.map_or(rest, |next| &rest[..next.end]), mode);
        let concerns = match &analysis.statement {
            Statement::Refused(refusal) => refusal.for_atone || analysis.touches_xid,
            statement => statement.binds(),
        };
        if concerns || analysis.xid_hint.is_some() {
            return true;
        }
        match next {
            Some(next) => rest = &rest[next.following..],
            None => return false,
        }
    }
}

/// The statement without the `;` at its end.
fn statement_text<'a>(sql: &'a [u8], mode: Mode, lexed: &'a Lexed) -> Text<'a> {
    let len =
        lexed.tokens.iter().rposition(|token| token.kind != Kind::Punct(b';')).map_or(0, |last| last + 1);
    Text { sql, mode, tokens: lexed.tokens.get(..len).unwrap_or_default() }
}

fn terminator(text: &Text<'_>, lexed: &Lexed) -> usize {
    let tokens = text.tokens.last().map_or(0, |token| token.end());
    let executable = lexed
        .comments
        .iter()
        .filter(|comment| comment.kind == CommentKind::Executable && comment.tokens_before <= text.len())
        .map(|comment| comment.span.end)
        .max()
        .unwrap_or(0);
    tokens.max(executable)
}

fn begins_with_global_verb(text: &Text<'_>) -> bool {
    // Elsewhere the server refuses it
    text.is_any(0, &["START", "COMMIT", "ROLLBACK"]) && text.is(1, "GLOBAL")
}

/// Refuses hints that give the statement other settings than the reads before and after it have.
fn check_hints(sql: &[u8], lexed: &Lexed, statement: Statement) -> Result<Statement, Refusal> {
    let writes = matches!(statement, Statement::Insert(_) | Statement::Dml(_) | Statement::Joined(_));
    let sets = lexed.comments.iter().filter(|comment| comment.kind == CommentKind::Hint).any(|comment| {
        let text = sql.get(comment.span.clone()).unwrap_or_default().to_ascii_uppercase();
        memchr::memmem::find(&text, b"SET_VAR").is_some()
    });
    if writes && sets {
        return Err(Refusal::new("the hint SET_VAR is not supported in a statement that writes"));
    }
    Ok(statement)
}

/// A server either runs `/*! … */` or skips it: only a statement that is harmless both ways may pass.
fn with_executable_comments(text: &Text<'_>, analysis: &mut Analysis) -> Result<Statement, Refusal> {
    let refusal = || Refusal::new("executable comments are supported in plain reads only");
    let inlined = lex(text.sql, text.mode, Executable::Inline)
        .map_err(|reason| Refusal::new(format!("the statement {reason}")))?;
    let inlined = statement_text(text.sql, text.mode, &inlined).tokens.to_vec();
    let inlined = Text { tokens: &inlined, ..*text };
    analysis.touches_xid |= variable::touches_xid(&inlined);
    let run = classify(&inlined, analysis)?;
    let passed = classify(text, &mut analysis.clone())?;
    match (&passed, &run) {
        (Statement::Empty, Statement::Empty | Statement::Read | Statement::Set)
        | (Statement::Read, Statement::Read)
        | (Statement::Set, Statement::Set)
        | (Statement::Diagnostics, Statement::Diagnostics) => Ok(run),
        _ => Err(refusal()),
    }
}

fn classify(text: &Text<'_>, analysis: &mut Analysis) -> Result<Statement, Refusal> {
    text.check_structure()?;
    if text.len() == 0 {
        return Ok(Statement::Empty);
    }
    let touches_xid = analysis.touches_xid;
    let statement = if text.punct(0, b'(') {
        query::query(text, touches_xid)?
    } else {
        let word = text.bytes(0).to_ascii_uppercase();
        match (text.kind(0), word.as_slice()) {
            (Some(Kind::Word), b"WITH") if !text.mode.mariadb => {
                let verb = ctes::after(text, 0)?;
                if text.is(verb, "UPDATE") {
                    update_delete::update(text, verb)?
                } else if text.is(verb, "DELETE") {
                    update_delete::delete(text, verb)?
                } else {
                    query::query(text, touches_xid)?
                }
            }
            (Some(Kind::Word), b"SELECT" | b"WITH" | b"TABLE" | b"VALUES") => {
                query::query(text, touches_xid)?
            }
            (Some(Kind::Word), b"INSERT" | b"REPLACE") => insert::insert(text, &analysis.placeholders)?,
            (Some(Kind::Word), b"UPDATE") => update_delete::update(text, 0)?,
            (Some(Kind::Word), b"DELETE") => update_delete::delete(text, 0)?,
            (Some(Kind::Word), b"SET") => {
                let Set { statement, session_variables } =
                    set::set(text, &analysis.placeholders, touches_xid)?;
                analysis.session_variables = session_variables;
                statement
            }
            (Some(Kind::Word), b"START") => transaction::start(text, &analysis.placeholders)?,
            (Some(Kind::Word), b"BEGIN") => transaction::begin(text)?,
            (Some(Kind::Word), b"COMMIT") => transaction::commit(text)?,
            (Some(Kind::Word), b"ROLLBACK") => transaction::rollback(text)?,
            (Some(Kind::Word), b"SAVEPOINT") => transaction::savepoint(text)?,
            (Some(Kind::Word), b"RELEASE") => transaction::release(text)?,
            (Some(Kind::Word), b"USE") => transaction::use_schema(text)?,
            (Some(Kind::Word), b"SHOW") => query::show(text)?,
            (Some(Kind::Word), b"EXPLAIN" | b"DESCRIBE" | b"DESC") => query::explain(text)?,
            (Some(Kind::Word), b"ANALYZE") => query::analyze(text)?,
            (Some(Kind::Word), b"DO" | b"HELP" | b"KILL") => query::harmless(text)?,
            (Some(Kind::Word), b"LOAD") => load::load(text)?,
            (Some(Kind::Word), b"PREPARE") => prepared::prepare(text)?,
            (Some(Kind::Word), b"EXECUTE") => prepared::execute(text)?,
            (Some(Kind::Word), b"DEALLOCATE") => prepared::deallocate(text)?,
            (Some(Kind::Word), b"DROP") if text.is(1, "PREPARE") => prepared::deallocate(text)?,
            (Some(Kind::Word), b"CHECKSUM") if text.is(1, "TABLE") => query::harmless(text)?,
            (Some(Kind::Word), b"GET") if (1..4).any(|at| text.is(at, "DIAGNOSTICS")) => {
                query::harmless(text).map(|_| Statement::Diagnostics)?
            }
            (Some(Kind::Word), b"CALL") => {
                let at = if text.punct(2, b'.') { 3 } else { 1 };
                let call = functions::call_of(text, at, "CALL");
                return Err(Refusal { call, ..Refusal::new(refused_verb(b"CALL")) });
            }
            (Some(Kind::Word), word) => return Err(Refusal::new(refused_verb(word))),
            _ => return Err(Refusal::new("the statement is not understood")),
        }
    };
    // An assignment in a statement that does more than read cannot be followed
    let follows = matches!(
        statement,
        Statement::TouchesXid | Statement::SetXid(_) | Statement::Refused(_) | Statement::Set
    );
    if touches_xid && !follows {
        return match statement {
            Statement::Read | Statement::Diagnostics => Ok(Statement::TouchesXid),
            _ => Err(Refusal::new("the statement assigns @atone_xid")),
        };
    }
    Ok(statement)
}

/// Why a statement that begins with this word is refused.
fn refused_verb(word: &[u8]) -> String {
    let name = functions::shorten(&decode(word));
    match word {
        b"CALL" => "CALL may write rows that are not captured".to_owned(),
        b"HANDLER" => "HANDLER is not supported".to_owned(),
        b"TRUNCATE" => "TRUNCATE can't be undone".to_owned(),
        b"XA" => "XA can't be mixed with a global transaction".to_owned(),
        b"LOCK" | b"UNLOCK" | b"CREATE" | b"ALTER" | b"DROP" | b"RENAME" | b"GRANT" | b"REVOKE"
        | b"ANALYZE" | b"OPTIMIZE" | b"REPAIR" | b"CHECK" | b"CACHE" | b"FLUSH" | b"RESET" | b"INSTALL"
        | b"UNINSTALL" | b"IMPORT" => format!("{name} commits implicitly"),
        b"BINLOG" | b"CHANGE" | b"CLONE" | b"PURGE" | b"RESTART" | b"SHUTDOWN" | b"STOP" => {
            format!("{name} changes the server")
        }
        b"IF" | b"CASE" | b"LOOP" | b"WHILE" | b"REPEAT" | b"FOR" | b"DECLARE" => {
            "compound statements are not supported".to_owned()
        }
        _ => format!("{name} is not understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_concerns_atone_in_any_place() {
        let concerns = |sql: &str| concerns_atone(sql.as_bytes(), Mode::default());
        assert!(concerns("SELECT 1; START GLOBAL TRANSACTION"));
        assert!(concerns("SELECT 1; SET @atone_xid = 'x'; SELECT 2"));
        assert!(concerns("SELECT 1; UPDATE /*+ XID('x') */ t SET a = 1"));
        assert!(concerns("CREATE PROCEDURE p() BEGIN SET @atone_xid = 'x'; END"));
        assert!(!concerns("SELECT 1; SET GLOBAL x = 1; SELECT '@atone_xid'"));
        assert!(!concerns("SELECT 1; SELECT @atone_xid"));
    }
}
