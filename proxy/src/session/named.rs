//! Prepared statements by SQL in a bound session: PREPARE, EXECUTE, EXECUTE IMMEDIATE. What an EXECUTE runs takes the
//! way of the statement itself, read with the values of its variables as literals and run with the variables.

use atone_sql::{Execute, ExecuteWhat, Prepare, Statement as Sql, StatementText};
use atone_wire::column::ColumnKind;
use atone_wire::execute::Param;
use atone_wire::reply::Expect;
use bytes::Bytes;

use super::Session;
use super::analysed::{Analysed, Origin};
use super::link::own::Carried;
use super::statements::Named;
use atone_capture::error::{End, SqlError};
use atone_capture::flight::Reply;
use atone_capture::odd::odd_kinds;
use atone_capture::outcome::{Halt, with_context};
use atone_capture::params::substitute;
use atone_capture::settings::{Vars, unhex};

/// Why a text with other than ASCII letters is not prepared from a literal.
const ANOTHER_TEXT: &str = "PREPARE from a literal with other than ASCII letters, which the server reads in another charset: prepare it \
     from a user variable";

/// Whether a text that PREPARE has as a literal is prepared as it is written. MySQL has it in UTF-8, which it then
/// takes for the client's charset; MariaDB converts it to the connection's and back.
fn prepares_as_written(vars: &Vars) -> bool {
    if vars.mode.mariadb {
        vars.charset_client == vars.charset_connection
    } else {
        vars.mode.charset.is_unicode()
    }
}

/// The collation of bytes.
const BINARY: &[u8] = b"binary";
/// `MYSQL_TYPE_FLOAT`, `MYSQL_TYPE_DOUBLE`
const DOUBLES: [u8; 2] = [4, 5];

impl Session {
    /// `PREPARE name FROM …`: remembered where the server takes it.
    pub(super) async fn prepare_named(
        &mut self,
        sql: &[u8],
        prepare: &Prepare,
        origin: Origin,
    ) -> Result<(), Halt> {
        let limit = self.link.backend.limits.max_prepared_statements;
        if self.prepared.named.len() >= limit && !self.prepared.named.contains_key(&prepare.name) {
            return Err(SqlError::too_many_statements(limit).into());
        }
        let text = self.statement_text(sql, &prepare.source).await?;
        // Known before, so that what it is read under is known as well
        let vars = self.capture().session_vars().await?;
        if let Some(text) = &text {
            let inner = Analysed::instead(Bytes::copy_from_slice(text), vars.mode, None);
            Box::pin(self.capture().check_prepare(&inner.sql, &inner.analysis.statement)).await?;
        }
        self.prepared.named.remove(&prepare.name);
        if self.forward(origin, Expect::Results).await?.failed().is_none()
            && let Some(text) = text
        {
            let named = Named { sql: text.into(), reading: self.reading() };
            self.prepared.named.insert(prepare.name.clone(), named);
        }
        Ok(())
    }

    /// `DEALLOCATE PREPARE name`
    pub(super) async fn deallocate_named(&mut self, name: &str, origin: Origin) -> Result<(), End> {
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.prepared.named.remove(name);
        }
        Ok(())
    }

    /// `EXECUTE …`: what is to run for it, where it was not forwarded; [`Session::drop_params`] comes after that.
    pub(super) async fn execute_named(
        &mut self,
        sql: &[u8],
        execute: &Execute,
        origin: Origin,
    ) -> Result<Option<Analysed>, Halt> {
        let named = match &execute.what {
            ExecuteWhat::Named(name) => match self.prepared.named.get(name) {
                Some(named) => named.clone(),
                None => {
                    let why =
                        format!("{name} was not prepared while the session was bound: PREPARE it again");
                    return Err(why.into());
                }
            },
            ExecuteWhat::Immediate(source) => {
                // The server says what is wrong with NULL
                let text = self.statement_text(sql, source).await?.unwrap_or_default();
                Named { sql: text.into(), reading: self.reading() }
            }
        };
        let vars = self.capture().session_vars().await?;
        let running = Analysed::instead(named.sql.clone(), vars.mode, None);
        let inner = &running.analysis;
        self.check_reading(&named.reading, &inner.statement).await?;
        if inner.xid_hint.is_some() {
            return Err(Halt::stop("a XID hint inside of a statement prepared by SQL"));
        }
        if matches!(inner.statement, Sql::Load(_)) {
            return Err(Halt::stop("LOAD DATA inside of a statement prepared by SQL"));
        }
        if inner.placeholders.len() != execute.using.len() {
            return Err(SqlError::wrong_arguments("EXECUTE").into());
        }
        if matches!(inner.statement, Sql::Empty | Sql::Read) {
            self.capture().check_reads(&named.sql, &inner.statement).await?;
            self.listed_variables |= atone_sql::may_list_user_variables(&named.sql);
            let taken = self.mark_list().await?;
            self.forward(origin.running(&running), Expect::Results).await?;
            self.follow_list(taken).await?;
            return Ok(None);
        }
        let params = self.variables(sql, execute).await?;
        let text = Bytes::from(substitute(&named.sql, &inner.placeholders, &params, vars.mode)?);
        let limit = self.link.backend.limits.max_statement_bytes;
        if text.len() > limit {
            return Err(SqlError::too_large(&self.xid(), limit).into());
        }
        let analysed = Analysed::instead(text, vars.mode, None);
        let origin = if params.is_empty() { analysed.origin.clone() } else { origin.running(&analysed) };
        let using = execute.using.iter().map(|span| sql.get(span.clone()).unwrap_or_default().to_vec());
        if !self.link.mariadb {
            self.command.odd = odd_kinds(inner, &params);
        }
        self.link.carried = Carried::Variables(using.collect());
        Ok(Some(Analysed { origin, ..analysed }))
    }

    /// What an execution stands for has run: its parameters are no more.
    pub(super) fn drop_params(&mut self) {
        self.link.carried = Carried::default();
        self.command.odd = Vec::new();
    }

    /// The text of a statement to prepare; `None` where it is NULL.
    async fn statement_text(&mut self, sql: &[u8], source: &StatementText) -> Result<Option<Vec<u8>>, Halt> {
        let variable = match source {
            StatementText::Literal(text) => {
                let vars = self.capture().session_vars().await?;
                return match text.is_ascii() || prepares_as_written(&vars) {
                    true => Ok(Some(text.clone())),
                    false => Err(Halt::stop(ANOTHER_TEXT)),
                };
            }
            StatementText::Variable(span) => sql.get(span.clone()).unwrap_or_default(),
        };
        Ok(self.values(&[variable]).await?.into_iter().next().and_then(|value| value.bytes))
    }

    /// The values of the variables after USING.
    async fn variables(&mut self, sql: &[u8], execute: &Execute) -> Result<Vec<Param>, Halt> {
        let names: Vec<&[u8]> =
            execute.using.iter().map(|span| sql.get(span.clone()).unwrap_or_default()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.values(&names).await?;
        Ok(values.into_iter().map(Value::param).collect::<Result<_, String>>()?)
    }

    /// Reads user variables.
    ///
    /// # Errors
    /// One cannot be read as it is.
    async fn values(&mut self, names: &[&[u8]]) -> Result<Vec<Value>, Halt> {
        let vars = self.capture().session_vars().await?;
        let charset = &vars.charset_client;
        let mut select = b"SELECT ".to_vec();
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                select.extend_from_slice(b", ");
            }
            select.extend_from_slice(name);
            select.extend_from_slice(b", CHARSET(");
            select.extend_from_slice(name);
            select.extend_from_slice(b"), HEX(");
            select.extend_from_slice(name);
            select.extend_from_slice(b"), HEX(CONVERT(");
            select.extend_from_slice(name);
            select.extend_from_slice(format!(" USING {charset}))").as_bytes());
        }
        let rows = match self.capture().try_one(select).await? {
            Reply::Rows(rows) => rows,
            Reply::Err(e) => return Err(with_context("the user variables cannot be read", &e).into()),
            Reply::TooLarge => {
                return Err(self.capture().above_bytes("the user variables are").into());
            }
            Reply::Ok(_) => return Err(Halt::broken("SELECT without rows")),
        };
        let cells = rows.cells(0)?;
        let mut values = Vec::with_capacity(names.len());
        for (cells, definitions) in cells.chunks(CELLS).zip(rows.columns.chunks(CELLS)) {
            let (&[text, charset_of, hex, converted], Some(definition)) = (cells, definitions.first()) else {
                return Err(Halt::broken("user variables without cells"));
            };
            let kind = ColumnKind::parse(definition, self.link.capabilities)?;
            let binary = charset_of == Some(BINARY);
            let number = kind.is_exact_number() || DOUBLES.contains(&kind.kind);
            let bytes = match (number, binary) {
                (true, _) => text.map(<[u8]>::to_vec),
                (false, true) => hex.and_then(unhex),
                (false, false) => converted.and_then(unhex),
            };
            let lossless = number
                || binary
                || charset.starts_with("utf8")
                || bytes.as_deref().is_none_or(<[u8]>::is_ascii);
            if !lossless {
                let why =
                    "a user variable with other than ASCII letters, while character_set_client is not utf8";
                return Err(Halt::stop(why));
            }
            values.push(Value { bytes, kind, binary });
        }
        Ok(values)
    }
}

/// How many cells are read of each variable.
const CELLS: usize = 4;

/// A user variable's value.
struct Value {
    bytes: Option<Vec<u8>>,
    kind: ColumnKind,
    binary: bool,
}

impl Value {
    fn param(self) -> Result<Param, String> {
        let Some(bytes) = self.bytes else { return Ok(Param::Null) };
        if DOUBLES.contains(&self.kind.kind) {
            let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
            return number.map(Param::Double).ok_or_else(|| "a user variable that is no number".into());
        }
        if self.kind.is_exact_number() {
            let whole = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
            return Ok(whole.map_or(Param::Decimal(bytes), Param::Int));
        }
        Ok(if self.binary { Param::Blob(bytes) } else { Param::Text(bytes) })
    }
}
