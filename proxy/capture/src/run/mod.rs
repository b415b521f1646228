//! Statements of our own on the application's connection, and what an error in one of them comes to.

pub mod ended;
pub mod keep;

use std::sync::Arc;

use atone_wire::caps::{client, status};
use atone_wire::response::OkPacket;

use crate::Capture;
use crate::error::{End, SqlError};
use crate::fault::{Class, Extent, Fault, class};
use crate::flight::{Flight, Replies, Reply};
use crate::outcome::last;
use crate::settings::{
    RESULTSET_METADATA_SQL, SKIP_REPLICATION_SQL, STATEMENT_TIME_SQL, VARS_SQL, Vars, parse_vars,
};

impl Capture<'_> {
    /// Why rows that `are` too many bytes end a statement.
    pub fn above_bytes(&self, are: &str) -> String {
        format!("{are} above max_branch_bytes = {}", self.limits.max_branch_bytes)
    }

    /// Runs one flight and collects its replies. The last one is an error only where the application's own statement,
    /// which is its last, failed.
    ///
    /// # Errors
    /// A statement of ours failed, and those after it did not run: see [`crate::fault`]. The connection broke, or one
    /// packet was above `max_branch_bytes`.
    pub(crate) async fn run_flight(&mut self, flight: Flight) -> Result<Vec<Reply>, End> {
        self.run_ours(flight, false).await
    }

    /// The same where a statement of ours may be wrong in its text, as the application's is: such an error comes back
    /// as the last reply.
    pub(crate) async fn try_flight(&mut self, flight: Flight) -> Result<Vec<Reply>, End> {
        self.run_ours(flight, true).await
    }

    async fn run_ours(&mut self, flight: Flight, tries: bool) -> Result<Vec<Reply>, End> {
        let (writes, savepoint, statements) = (flight.writes, flight.savepoint, flight.len());
        if writes {
            self.check_open()?;
        }
        let replies = self.fly(flight).await?;
        let theirs = writes && replies.len() == statements;
        match replies.last() {
            Some(Reply::Err(_)) if theirs => {}
            Some(Reply::Err(e)) if tries && class(e.code, self.mariadb) == Class::Text => {}
            Some(Reply::Err(e)) => {
                let e = e.clone();
                return Err(End::Fault(self.fault(e).await?));
            }
            _ => {
                self.command.progress.savepoint |= savepoint;
                self.command.progress.wrote |= writes;
            }
        }
        self.check_memory()?;
        Ok(replies)
    }

    /// Sees that no reply was dropped since there was no memory for it.
    pub(crate) fn check_memory(&mut self) -> Result<(), End> {
        self.command.out_of_memory.take().map_or(Ok(()), |limit| {
            let error = SqlError::memory(&self.xid(), limit).err();
            Err(End::Fault(Fault { error, extent: Extent::Statement }))
        })
    }

    /// Runs one flight and collects its replies, whatever they are: the last one is an error where a statement failed.
    ///
    /// # Errors
    /// The connection broke, or one packet was above `max_branch_bytes`.
    pub(crate) async fn fly(&mut self, mut flight: Flight) -> Result<Vec<Reply>, End> {
        if self.state.vars.is_none() && !flight.text().is_ascii() {
            // In which charset it is written counts
            Box::pin(self.session_vars()).await?;
        }
        flight.uncounted = self.command.commits;
        if flight.writes {
            flight.file = self.command.file.clone();
        }
        let replies = self.server.run(flight, self.state.vars.clone()).await?;
        Ok(self.noted(replies))
    }

    fn noted(&mut self, replies: Replies) -> Vec<Reply> {
        self.command.out_of_memory = self.command.out_of_memory.or(replies.out_of_memory);
        replies.all
    }

    /// Runs one statement of ours and returns its reply, which is no error.
    pub async fn run_one(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        last(self.run_flight(Flight::of(statement)).await?)
    }

    /// The same where it may be wrong in its text.
    pub async fn try_one(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        last(self.try_flight(Flight::of(statement)).await?)
    }

    /// Runs the application's own statement, which writes.
    pub(crate) async fn run_write(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        let mut flight = Flight::default();
        flight.push_write(statement);
        last(self.run_flight(flight).await?)
    }

    /// Runs the application's own statement, or one that stands for it and changes no row, whose errors are its answer.
    pub async fn run_theirs(&mut self, text: impl AsRef<[u8]>) -> Result<Reply, End> {
        self.fly_one(text).await
    }

    /// Runs one statement, whatever comes of it.
    pub async fn fly_one(&mut self, statement: impl AsRef<[u8]>) -> Result<Reply, End> {
        last(self.fly(Flight::of(statement)).await?)
    }

    /// Runs a flight with the application's statement at its end, which is left out where something before it fails.
    pub(crate) async fn run_ending_with(
        &mut self,
        mut flight: Flight,
        text: &[u8],
        returning: bool,
    ) -> Result<Vec<Reply>, End> {
        if !returning {
            flight.push_write(text);
            return self.try_flight(flight).await;
        }
        let mut replies = self.try_flight(flight).await?;
        if !matches!(replies.last(), Some(Reply::Err(_))) {
            let returned = self.returning(text).await?;
            replies.push(returned);
        }
        Ok(replies)
    }

    /// Runs a statement that answers with the rows it has written, which are kept; its OK as far as that can be told.
    pub(crate) async fn returning(&mut self, text: &[u8]) -> Result<Reply, End> {
        self.check_open()?;
        if self.state.vars.is_none() && !text.is_ascii() {
            Box::pin(self.session_vars()).await?;
        }
        let replies = self.server.run_for_rows(text, self.state.vars.clone()).await?;
        let reply = last(self.noted(replies))?;
        self.command.progress.wrote = !matches!(reply, Reply::Err(_));
        self.check_memory()?;
        let rows = match reply {
            Reply::Rows(rows) => rows,
            Reply::TooLarge => {
                self.rollback_local().await?;
                let why = self.above_bytes("the rows returned are");
                return Ok(Reply::Err(SqlError::refused(&self.xid(), &why).err()));
            }
            reply => return Ok(reply),
        };
        let mut ok = OkPacket { affected_rows: rows.rows.len() as u64, ..OkPacket::default() };
        ok.warnings = rows.warnings(self.capabilities)?;
        ok.status = self.server.status();
        self.keep_warnings(-1).await?;
        ok.last_insert_id = match self.run_one("SELECT LAST_INSERT_ID()").await? {
            Reply::Rows(id) => {
                let cells = id.cells(0)?;
                let text = cells.first().copied().flatten().unwrap_or_default();
                std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or_default()
            }
            _ => return Err(End::Broken("LAST_INSERT_ID() without a row".into())),
        };
        self.command.returned = Some(rows);
        Ok(Reply::Ok(ok))
    }

    /// Whether a flight that writes may go: what it writes must be in the local transaction that it belongs to, or it
    /// would be committed by itself.
    pub(crate) fn check_open(&self) -> Result<(), End> {
        let open = self.server.status() & status::IN_TRANS != 0;
        // Under autocommit = 0 the first statement begins one
        let begins = !self.autocommit() && !self.command.progress.alone && self.state.branch.is_empty();
        if open || begins {
            return Ok(());
        }
        let error = SqlError::deadlock(&self.xid(), "the server has ended the local transaction").err();
        Err(End::Fault(Fault { error, extent: Extent::Transaction }))
    }

    /// The session variables; read from the server where something may have changed them.
    pub async fn session_vars(&mut self) -> Result<Arc<Vars>, End> {
        if let Some(vars) = &self.state.vars {
            return Ok(vars.clone());
        }
        let mut sql = VARS_SQL.to_string();
        sql.push_str(if self.mariadb { SKIP_REPLICATION_SQL } else { ", 0" });
        if self.mariadb {
            sql.push_str(STATEMENT_TIME_SQL);
        } else if self.capabilities & client::OPTIONAL_RESULTSET_METADATA != 0 {
            sql.push_str(RESULTSET_METADATA_SQL);
        }
        // sql_select_limit may be 0
        sql.push_str(" LIMIT 1");
        let rows = self.run_one(sql).await?.rows("session variables")?;
        let vars = Arc::new(parse_vars(&rows, self.mariadb, self.capabilities, self.marks)?);
        self.state.autocommit_hidden = !vars.autocommit && self.server.status() & status::AUTOCOMMIT != 0;
        self.state.vars = Some(vars.clone());
        self.state.forget_digests();
        Ok(vars)
    }
}
