//! A statement that runs instead of the application's, and answers it.

use atone_wire::caps::client;
use atone_wire::reply::Expect;

use super::Session;
use super::analysed::Origin;
use super::link::gate::OwnCommand;
use atone_capture::flight::{Flight, Reply};
use atone_capture::outcome::Halt;

impl Session {
    /// Sends another statement than the application's, as its own came, and relays the reply.
    pub(super) async fn pass_instead(&mut self, sql: &[u8], origin: &Origin) -> Result<(), Halt> {
        if let Some(payload) = origin.execution() {
            return self.execute_instead(sql, payload).await;
        }
        let mut flight = Flight::default();
        flight.push(sql);
        self.link.send_flight(&flight).await?;
        if let Some(code) = self.relay_reply(Expect::Results).await?.failed() {
            self.capture().after_error(code).await?;
        }
        Ok(())
    }

    /// Executes another statement than the one that was prepared, with the same parameters: it is prepared, executed
    /// without a cursor, and closed.
    async fn execute_instead(&mut self, sql: &[u8], execute: &[u8]) -> Result<(), Halt> {
        let (id, columns) = self.link.prepare_own(sql, self.state.vars.as_deref()).await?;
        self.link.send_execution(id, execute).await?;
        if self.link.capabilities & client::MARIADB_CACHE_METADATA == 0 {
            let tracker = self.relay_reply(Expect::Results).await?;
            if let Some(code) = tracker.failed() {
                self.capture().after_error(code).await?;
            }
        } else {
            match self.link.read_binary(columns).await? {
                Reply::Rows(rows) => {
                    self.send_rows(&rows, rows.rows.iter().map(|row| row.to_vec())).await?;
                }
                Reply::Ok(ok) => self.send_ok(ok).await?,
                Reply::Err(e) => self.statement_failed(e).await?,
                Reply::TooLarge => {
                    let limit = self.link.backend.limits.max_branch_bytes;
                    let why =
                        format!("a result with the diagnostics of more than max_branch_bytes = {limit}");
                    self.refuse(&why).await?;
                }
            }
        }
        Ok(self.link.send_own(OwnCommand::Close(id)).await?)
    }
}
