//! What an operator decides about a branch that can't be undone.
//!
//! The decision is durable first; then a proxy puts a marker in the place of whatever there is of the branch in undo_log,
//! so that no try that is still under way somewhere can undo it; only then its locks are free. A try that came first and
//! restored the rows wins: then nothing was given up.

use atone_api::BranchId;

use crate::core::Core;
use crate::decisions::{NAME_MAX_BYTES, unknown};
use crate::record::{Action, BranchState, Resolution};
use crate::state::BranchWork;
use crate::step::{Refusal, RefusalCode, Reply, ReplyTo, WorkOutcome};

/// How many calls may wait for the same decision to be carried out.
const RESOLVE_CALLS_MAX: usize = 100;

impl Core {
    /// The rows of a branch are to stay as they are.
    pub(crate) fn keep_current(&mut self, to: ReplyTo, xid: &str, id: BranchId, by: String, dry_run: bool) {
        match self.try_keep_current(to, xid, id, by, dry_run) {
            Ok(Some(seq)) => {
                let reply = self.branch_reply(seq, id);
                self.reply(to, reply);
            }
            // It is answered later.
            Ok(None) => {}
            Err(refusal) => self.reply(to, Err(refusal)),
        }
    }

    /// The transaction, where the call can be answered at once.
    fn try_keep_current(
        &mut self,
        to: ReplyTo,
        xid: &str,
        id: BranchId,
        by: String,
        dry_run: bool,
    ) -> Result<Option<u64>, Refusal> {
        if by.len() > NAME_MAX_BYTES {
            let message = format!("a name of {} bytes is longer than {NAME_MAX_BYTES}", by.len());
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        let seq = self.find(xid).ok_or_else(|| unknown(xid))?;
        let transaction = self.live.get_mut(&seq).or_else(|| self.ended.get_mut(&seq));
        let transaction = transaction.ok_or_else(|| unknown(xid))?;
        let Some(branch) = transaction.branches.get(&id) else {
            let message = format!("transaction {xid} has no branch {id}");
            return Err(Refusal::new(RefusalCode::UnknownBranch, message));
        };
        let is_decided = branch.resolution.is_some();
        if !is_decided && branch.state != BranchState::RollbackFailed {
            let status = transaction.branch_status(branch).as_str();
            let message = format!(
                "branch {id} of transaction {xid} is {status}, not rollback_failed: there is nothing to resolve"
            );
            return Err(Refusal::new(RefusalCode::NotStopped, message));
        }
        if dry_run || branch.is_undone() {
            return Ok(Some(seq));
        }
        let Some(branch) = transaction.branches.get_mut(&id) else { return Ok(Some(seq)) };
        if branch.resolve_calls.len() >= RESOLVE_CALLS_MAX {
            let message = format!("{RESOLVE_CALLS_MAX} calls wait for branch {id} of {xid} already");
            return Err(Refusal::new(RefusalCode::LimitReached, message));
        }
        branch.resolve_calls.push(to);
        if is_decided {
            return Ok(None);
        }
        let given_up = std::mem::take(&mut branch.detail);
        let resolution = Resolution { action: Action::KeepCurrent, by, at_ms: self.now_ms, given_up };
        branch.resolution = Some(Box::new(resolution));
        branch.attempts = 0;
        let change = branch.put(id, seq);
        let work = std::mem::replace(&mut branch.work, BranchWork::None);
        self.persist(change);
        self.withdraw(work);
        self.enqueue_due(seq, id);
        Ok(None)
    }

    /// A proxy was asked to see to it that a branch is never undone.
    pub(crate) fn kept(&mut self, seq: u64, id: BranchId, outcome: WorkOutcome, detail: String) {
        match outcome {
            WorkOutcome::Absent => {
                let calls = self.take_resolve_calls(seq, id);
                self.branch_undone(seq, id);
                self.answer_resolve_calls(seq, id, calls);
            }
            WorkOutcome::Done => {
                // A try that was under way has restored it.
                let calls = self.take_resolve_calls(seq, id);
                let branch = self.live.get_mut(&seq).and_then(|t| t.branches.get_mut(&id));
                if let Some(branch) = branch {
                    branch.resolution = None;
                }
                self.restored(seq, id);
                self.answer_resolve_calls(seq, id, calls);
            }
            _ => self.pause(seq, id, detail, None),
        }
    }

    fn take_resolve_calls(&mut self, seq: u64, id: BranchId) -> Vec<ReplyTo> {
        let branch = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id));
        branch.map(|branch| std::mem::take(&mut branch.resolve_calls)).unwrap_or_default()
    }

    fn answer_resolve_calls(&mut self, seq: u64, id: BranchId, calls: Vec<ReplyTo>) {
        for to in calls {
            let reply = self.branch_reply(seq, id);
            self.reply(to, reply);
        }
    }

    fn branch_reply(&self, seq: u64, id: BranchId) -> Result<Reply, Refusal> {
        let transaction = self.live.get(&seq).or_else(|| self.ended.get(&seq));
        let found = transaction.and_then(|t| Some(t.branch_view(id, t.branches.get(&id)?)));
        let view =
            found.ok_or_else(|| Refusal::new(RefusalCode::UnknownBranch, "there is no such branch"))?;
        Ok(Reply::Branch(Box::new(view)))
    }
}
