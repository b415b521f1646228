//! The end of a global transaction: a rollback that is waited for, and what is said where it is not done in time.

use std::pin::pin;
use std::time::{Duration, Instant};

use atone_api::ClientError;
use atone_api::proto::{Status, Transaction};
use atone_wire::error_code::ER_WARNING_NOT_COMPLETE_ROLLBACK;
use atone_wire::response::OkPacket;

use super::Session;
use atone_capture::error::End;
use atone_capture::flight::Reply;

/// How long a rollback is waited for before the wait is one on the server too, where it can be seen and killed.
const SILENT_WAIT: Duration = Duration::from_millis(50);
/// How it is so: a moment at a time.
const WAIT_SQL: &str = "SELECT /* atone: waits for a global rollback */ SLEEP(0.05) LIMIT 1";
/// How much more a client may send, in bytes, while its rollback is waited for.
const MAX_PIPELINED_BYTES: usize = 64 << 10;
/// How many characters MySQL takes as the text of a condition.
const MAX_TEXT_CHARS: usize = 128;

/// What the coordinator has said to a commit or a rollback.
#[derive(Debug)]
pub(super) enum Decision {
    /// This is how the transaction stands.
    Made(Transaction),
    /// The request was refused, or what became of it is not known.
    Failed(ClientError),
}

impl From<Result<Transaction, ClientError>> for Decision {
    fn from(answer: Result<Transaction, ClientError>) -> Decision {
        answer.map_or_else(Decision::Failed, Decision::Made)
    }
}

impl Session {
    /// Rolls the global transaction back, and waits until that is done, for as long as the coordinator says. A client
    /// that goes away meanwhile gives up the wait. So does a KILL of the statement on the server. The rollback goes
    /// on.
    pub(super) async fn roll_back_global(&mut self, xid: &str) -> Result<Decision, End> {
        let coordinator = self.link.backend.coordinator.clone();
        let limit = self.state.vars.as_ref().and_then(|vars| vars.max_statement_time);
        let (began, mut silent) = (Instant::now(), SILENT_WAIT);
        {
            let mut done = pin!(coordinator.rollback_done(xid, None));
            loop {
                tokio::select! {
                    biased;
                    // First: it is asked for even where the client has gone already
                    done = &mut done => return Ok(done.into()),
                    e = self.link.client.gone(MAX_PIPELINED_BYTES) => return Err(End::Client(e)),
                    () = tokio::time::sleep(silent) => {}
                }
                let is_late = limit.is_some_and(|limit| began.elapsed() >= limit);
                if is_late || self.is_killed_in(WAIT_SQL).await? {
                    break;
                }
                silent = Duration::ZERO;
            }
        }
        // What has become of it until now, which is the answer
        Ok(coordinator.rollback(xid).await.into())
    }

    /// Waits a moment in this statement on the server; whether it was ended there.
    async fn is_killed_in(&mut self, sql: &str) -> Result<bool, End> {
        match self.capture().fly_one(sql).await? {
            Reply::Rows(rows) => Ok(rows.cells(0)?.first() != Some(&Some(b"0".as_slice()))),
            _ => Ok(true),
        }
    }

    /// Answers a rollback after which `ok` came. One that is not done is warned of: by the server, since it is the
    /// server that answers the SHOW WARNINGS of this session, which is bound no more.
    pub(super) async fn answer_rollback(
        &mut self,
        transaction: &Transaction,
        mut ok: OkPacket,
    ) -> Result<(), End> {
        if transaction.status() == Status::RolledBack {
            return self.send_ok(ok).await;
        }
        let text = not_done(transaction);
        tracing::warn!(backend = self.link.backend.name, "{text}");
        let sql = format!(
            "SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = '{}', MYSQL_ERRNO = {ER_WARNING_NOT_COMPLETE_ROLLBACK}",
            in_literal(&text)
        );
        // Where the server will not say it there is a warning all the same: its own of that
        if let Reply::Ok(warned) = self.capture().fly_one(sql).await? {
            ok.status = warned.status;
        }
        ok.warnings = 1;
        self.send_ok(ok).await
    }
}

/// What there is to say of a rollback that is not done: as many of the branches as there is room for.
fn not_done(transaction: &Transaction) -> String {
    let state = match transaction.status() {
        Status::RollbackFailed => "rollback_failed",
        _ => "rolling_back",
    };
    let mut text = format!("atone: {} is {state}", transaction.xid);
    let count = usize::try_from(transaction.pending_count).unwrap_or(usize::MAX);
    let more = |shown: usize| match count.saturating_sub(shown) {
        0 => String::new(),
        more if shown == 0 => format!(": {more} branches to undo"),
        more => format!(" and {more} more"),
    };
    for (shown, branch) in transaction.pending.iter().enumerate() {
        let before = if shown == 0 { ": branch " } else { ", " };
        let next = format!("{text}{before}{} on {}", branch.branch_id, branch.resource);
        if next.chars().count() + more(shown + 1).chars().count() > MAX_TEXT_CHARS {
            return cut(text + &more(shown));
        }
        text = next;
    }
    let rest = more(transaction.pending.len());
    cut(text + &rest)
}

fn cut(text: String) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

/// A text as it can stand in a literal under any settings of a session.
fn in_literal(text: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '\'' | '\\' | '"');
    text.chars().map(|c| if plain(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atone_api::proto::PendingBranch;

    fn transaction(status: Status, resources: &[&str], count: u64) -> Transaction {
        let branch =
            |(id, resource): (u64, &&str)| PendingBranch { branch_id: id, resource: (*resource).to_owned() };
        Transaction {
            xid: "0123abcd:0000010000000001".to_owned(),
            status: status.into(),
            pending: (7..).zip(resources).map(branch).collect(),
            pending_count: count,
            ..Transaction::default()
        }
    }

    #[test]
    fn a_warning_names_the_branches_to_undo() {
        let text = |status, resources: &[&str], count| not_done(&transaction(status, resources, count));
        assert_eq!(
            text(Status::RollingBack, &["bank2", "bank1"], 2),
            "atone: 0123abcd:0000010000000001 is rolling_back: branch 7 on bank2, 8 on bank1"
        );
        assert_eq!(
            text(Status::RollbackFailed, &["bank1"], 12),
            "atone: 0123abcd:0000010000000001 is rollback_failed: branch 7 on bank1 and 11 more"
        );
    }

    #[test]
    fn a_warning_is_no_longer_than_mysql_takes() {
        let long = "x".repeat(60);
        let text = not_done(&transaction(Status::RollingBack, &["bank1", &long, "bank2"], 3));
        assert!(text.ends_with(": branch 7 on bank1 and 2 more"), "{text}");
        let long = "é".repeat(500);
        let text = not_done(&transaction(Status::RollingBack, &[&long], 1));
        assert!(text.ends_with(" is rolling_back: 1 branches to undo"), "{text}");
        let mut odd = transaction(Status::RollingBack, &["bank1"], 1);
        odd.xid = "y".repeat(128);
        assert_eq!(not_done(&odd).chars().count(), MAX_TEXT_CHARS);
    }

    #[test]
    fn nothing_ends_the_literal() {
        assert_eq!(in_literal("it's \\ \"a\" é"), "it?s ? ?a? ?");
    }
}
