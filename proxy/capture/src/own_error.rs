//! Statements that are refused, or fail in a read that stands for a part of them: where the server would not run the
//! text either, its own error is the answer.
//!
//! The server is asked by `COM_STMT_PREPARE`, which runs nothing of the statement and takes its locks on metadata
//! back. But MariaDB evaluates some constants when it prepares (`ROUND(1.2, f())`), and stored functions with them:
//! it is asked only for what calls none.

use std::collections::HashSet;

use atone_sql::{Mode, Refusal, Statement, analyze};
use atone_wire::caps::client;
use atone_wire::error_code::*;
use atone_wire::response::ErrPacket;

use crate::Capture;
use crate::error::{End, SqlError};
use crate::fault::{Class, class};
use crate::flight::{Flight, Reply};
use crate::outcome::Halt;
use crate::text::is_one_statement;

/// Whether an error is about the preparing of a statement, and not about the statement: more placeholders than there
/// can be, statements that cannot be prepared, too many that are, a table that changed meanwhile.
fn is_of_preparing(code: u16) -> bool {
    matches!(
        code,
        ER_PS_MANY_PARAM | ER_UNSUPPORTED_PS | ER_MAX_PREPARED_STMT_COUNT_REACHED | ER_NEED_REPREPARE
    )
}

/// Whether a server finds an error before it looks at rows, so that a statement which changes none has it as well:
/// ambiguous and unknown columns, numbers of columns, collations that do not mix, texts that are no date, or that a
/// charset cannot hold.
fn is_resolved(code: u16) -> bool {
    matches!(
        code,
        ER_NON_UNIQ_ERROR
            | ER_BAD_FIELD_ERROR
            | ER_OPERAND_COLUMNS
            | ER_CANT_AGGREGATE_2COLLATIONS
            | ER_CANT_AGGREGATE_3COLLATIONS
            | ER_CANT_AGGREGATE_NCOLLATIONS
            | ER_WRONG_VALUE
            | ER_CANNOT_CONVERT_STRING
    )
}

/// Whether a SELECT may have this error over a value where a statement that writes has another one: a text that is no
/// date or not of its charset, a number out of range.
fn is_of_values(code: u16) -> bool {
    matches!(code, ER_WRONG_VALUE | ER_DATA_OUT_OF_RANGE | ER_CANNOT_CONVERT_STRING)
}

/// Whether a text is an UPDATE of one table that assigns one of its columns more than once.
fn assigns_twice(text: &[u8], mode: Mode) -> bool {
    let Statement::Dml(change) = analyze(text, mode).statement else { return false };
    let mut seen = HashSet::new();
    change.assignments().is_some_and(|all| all.iter().any(|a| !seen.insert(a.column.to_lowercase())))
}

/// How a statement's own error is found, where a read that stands for a part of it has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnError<'a> {
    /// The statement so that it changes no row.
    pub(crate) harmless: &'a [u8],
    /// That one is run whatever the read says.
    pub(crate) always: bool,
    /// The statement itself, where it can be taken back.
    pub(crate) whole: Option<&'a [u8]>,
}

impl Capture<'_> {
    /// What ends the current statement, where a read that stands for a part of it has failed: the statement's own
    /// error, as the read may say another one, or quote what it added.
    pub(crate) async fn read_failed(&mut self, wrong: ErrPacket, how: OwnError<'_>) -> Result<Halt, End> {
        if class(wrong.code, self.mariadb) != Class::Text {
            return Ok(Halt::Failed(wrong));
        }
        self.read_warnings(-1).await?;
        let kept = self.state.diagnostics.take();
        Ok(match Box::pin(self.own_error(&wrong, how)).await? {
            Some(own) => Halt::Failed(own),
            None => Halt::FailedBefore(wrong, kept),
        })
    }

    /// The statement's own error, where it has one.
    pub(crate) async fn own_error(
        &mut self,
        wrong: &ErrPacket,
        how: OwnError<'_>,
    ) -> Result<Option<ErrPacket>, End> {
        if let Some(own) = Box::pin(self.own_error_of_text()).await? {
            return Ok(Some(own));
        }
        if (how.always || is_resolved(wrong.code))
            && let Reply::Err(own) = self.run_theirs(how.harmless).await?
        {
            return Ok(Some(own));
        }
        match how.whole.filter(|_| is_of_values(wrong.code)) {
            Some(whole) => self.error_of_run(whole).await,
            None => Ok(None),
        }
    }

    /// The error with which a statement fails, in an open local transaction; one that does not fail is taken back.
    pub(crate) async fn error_of_run(&mut self, whole: &[u8]) -> Result<Option<ErrPacket>, End> {
        let mut flight = Flight::default();
        flight.push_savepoint();
        flight.push_write(whole);
        if let Some(Reply::Err(own)) = self.run_flight(flight).await?.pop() {
            return Ok(Some(own));
        }
        if !self.statement_taken_back().await? {
            self.rollback_local().await?;
            let why = "a statement that was run for its error cannot be taken back";
            return Ok(Some(SqlError::deadlock(&self.xid(), why).err()));
        }
        Ok(None)
    }

    /// What the server says of a call where there is nothing of that name: no reason to refuse it.
    async fn missing_callee(&mut self, call: &str) -> Result<Option<ErrPacket>, End> {
        let charset = self.assumed_mode().charset;
        let Some(sql) = charset.encode(call.as_bytes()) else { return Ok(None) };
        let error = self.error_of(&sql).await?;
        // Of a word of the server's grammar, such as COLUMNS, it says 1630: that need be no call where it stands
        Ok(error.filter(|own| own.code == ER_SP_DOES_NOT_EXIST))
    }

    /// What the server has against the text of the current statement, which is refused for it: where it calls
    /// something, only that there is nothing of that name.
    pub async fn own_error_of_refusal(&mut self, refusal: &Refusal) -> Result<Option<ErrPacket>, End> {
        match refusal.call.as_ref().filter(|_| self.command.text.is_some()) {
            Some(call) => {
                self.command.text = None;
                self.missing_callee(call).await
            }
            None => self.own_error_of_text().await,
        }
    }

    /// Checks that a bound session may prepare a statement.
    ///
    /// # Errors
    /// A function might write meanwhile.
    pub async fn check_prepare(&mut self, sql: &[u8], statement: &Statement) -> Result<(), Halt> {
        if !self.mariadb {
            return Ok(());
        }
        let Statement::Refused(refusal) = statement else {
            return match self.check_reads_prepared(sql).await {
                Err(Halt::Stopped(why)) => Err(Halt::Failed(why.error(&self.xid()).err())),
                checked => checked,
            };
        };
        let own = match &refusal.call {
            Some(call) => Box::pin(self.missing_callee(call)).await?,
            None if Box::pin(self.prepares_quietly(sql)).await? => return Ok(()),
            None => None,
        };
        let error = own.unwrap_or_else(|| SqlError::refused(&self.xid(), &refusal.reason).err());
        Err(Halt::Failed(error))
    }

    /// Whether no stored function is called, whatever the server evaluates of a statement that it prepares.
    async fn prepares_quietly(&mut self, sql: &[u8]) -> Result<bool, End> {
        let mode = self.assumed_mode();
        if !atone_sql::evaluates_without_effects(sql, mode) {
            return Ok(false);
        }
        if atone_sql::table_names(sql, mode).is_none_or(|names| names.is_empty()) {
            return Ok(true);
        }
        match self.check_reads_prepared(sql).await {
            Ok(()) => Ok(true),
            Err(Halt::End(end)) => Err(end),
            Err(_) => Ok(false),
        }
    }

    /// What the server has against the text of the current statement, where it can be asked; it is asked once.
    pub async fn own_error_of_text(&mut self) -> Result<Option<ErrPacket>, End> {
        let Some(sql) = self.command.text.take() else { return Ok(None) };
        if !Box::pin(self.prepares_quietly(&sql)).await? {
            return Ok(None);
        }
        let error = match self.error_of(&sql).await? {
            Some(error) if error.code == ER_PARSE_ERROR => error,
            found => return Box::pin(self.error_of_twice_assigned(&sql, found)).await,
        };
        let several = self.capabilities & client::MULTI_STATEMENTS != 0;
        if several && !is_one_statement(&sql, self.assumed_mode()) {
            // It would not say what is wrong with the first
            return Ok(None);
        }
        if self.command.with_rest.as_ref().is_some_and(|packet| packet.starts_with(&sql)) {
            return self.with_rest_quoted(error).await.map(Some);
        }
        Ok(Some(error))
    }

    /// The error of a statement of which preparing it has found this one, or none. That a column is assigned twice
    /// MariaDB finds when it runs an UPDATE of one table, or explains it, and before it looks at the values; when it
    /// prepares one it looks at the values only.
    async fn error_of_twice_assigned(
        &mut self,
        sql: &[u8],
        found: Option<ErrPacket>,
    ) -> Result<Option<ErrPacket>, End> {
        let mode = self.assumed_mode();
        let Ok(text) = mode.decode(sql) else { return Ok(found) };
        if !self.mariadb || !is_one_statement(sql, mode) || !assigns_twice(&text, mode) {
            return Ok(found);
        }
        match self.run_theirs([b"EXPLAIN ".as_slice(), &text].concat()).await? {
            Reply::Err(own) if own.code == ER_UPDATED_COLUMN_ONLY_ONCE => Ok(Some(own)),
            _ if found.is_none() => Ok(None),
            // The list of diagnostics is to be that of the error
            _ => self.error_of(sql).await,
        }
    }

    /// A syntax error of the current statement, which quotes its packet to the end: so the server says it of a packet
    /// with several.
    pub async fn with_rest_quoted(&mut self, error: ErrPacket) -> Result<ErrPacket, End> {
        let Some(packet) = self.command.with_rest.take() else { return Ok(error) };
        if !Box::pin(self.prepares_quietly(&packet)).await? {
            return Ok(error);
        }
        let whole = self.error_of(&packet).await?;
        Ok(whole.filter(|whole| whole.code == ER_PARSE_ERROR).unwrap_or(error))
    }

    /// What the server says against a text when it is asked to prepare it.
    pub async fn error_of(&mut self, sql: &[u8]) -> Result<Option<ErrPacket>, End> {
        let Some(error) = self.server.prepare(sql).await? else { return Ok(None) };
        self.prepare_failed().await?;
        Ok(Some(error).filter(|error| !is_of_preparing(error.code)))
    }

    /// The server could not prepare a statement.
    pub async fn prepare_failed(&mut self) -> Result<(), End> {
        self.state.diagnostics.forget();
        if !self.xid().is_empty() && self.state.vars.is_none() {
            // Reading them would replace the diagnostics
            self.keep_warnings_after_answer(-1).await?;
        }
        Ok(())
    }
}
