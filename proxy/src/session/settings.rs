//! Statements that change the settings of the session.

use atone_wire::reply::Expect;

use super::Session;
use super::analysed::Origin;
use atone_capture::diagnostics::Diagnostics;
use atone_capture::error::End;
use atone_capture::outcome::Halt;

/// Session variables that [`Vars`](atone_capture::settings::Vars) holds, or that change what it holds.
fn bears_on_vars(name: &str) -> bool {
    name == "names"
        || name.starts_with("character_set")
        || name.starts_with("collation")
        || matches!(
            name,
            "sql_mode"
                | "auto_increment_increment"
                | "auto_increment_offset"
                | "innodb_lock_wait_timeout"
                | "max_allowed_packet"
                | "max_statement_time"
                | "resultset_metadata"
                | "sql_safe_updates"
                | "transaction"
        )
}

impl Session {
    /// `SET`
    pub(super) async fn bound_set(
        &mut self,
        text: &[u8],
        variables: &[String],
        origin: Origin,
        taken: Option<Diagnostics>,
    ) -> Result<(), Halt> {
        if variables.iter().any(|name| bears_on_vars(name)) {
            self.read_anew();
        }
        let set = self.forward_setting(origin, taken).await?;
        if set && variables == ["transaction"] {
            self.link.preserved.note_set_transaction(text, self.link.in_transaction());
        }
        Ok(())
    }

    /// `USE`
    pub(super) async fn bound_use(&mut self, origin: Origin, taken: Option<Diagnostics>) -> Result<(), Halt> {
        self.read_anew();
        self.forward_setting(origin, taken).await?;
        Ok(())
    }

    /// Forwards a statement that sets something; whether it could.
    pub(super) async fn forward_setting(
        &mut self,
        origin: Origin,
        taken: Option<Diagnostics>,
    ) -> Result<bool, End> {
        let failed = self.forward(origin, Expect::Results).await?.failed().is_some();
        self.follow_list(taken).await?;
        if self.state.vars.is_none() && self.state.diagnostics.is_none() {
            // Reading them again would replace the diagnostics
            self.capture().keep_warnings_after_answer(if failed { -1 } else { 0 }).await?;
        }
        Ok(!failed)
    }
}
