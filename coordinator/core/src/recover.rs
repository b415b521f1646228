//! Starting from what is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use atone_api::{BranchId, Xid};

use crate::census::Census;
use crate::config::Config;
use crate::core::{BRANCH_ID_BLOCK, Core, SERIAL_BITS};
use crate::dispatch::Dispatcher;
use crate::local_waits::LocalWaits;
use crate::locks::LockTable;
use crate::query::Totals;
use crate::record::{BranchRecord, BranchState, Change, Counters, Decision, Records, TransactionRecord};
use crate::reports::Reports;
use crate::rollback_waits::RollbackWaits;
use crate::state::{Branch, BranchWork, State, Transaction};
use crate::step::Step;
use crate::timers::{Timer, Timers};

/// What is stored contradicts itself. Nothing is guessed or left out: the coordinator does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The id of this coordinator can't begin an XID.
    #[error("the coordinator's id {0:?} cannot be part of an XID")]
    Id(String),
    /// A transaction's record.
    #[error("the record of transaction {0}: {1}")]
    Transaction(Xid, String),
    /// A branch's record.
    #[error("the record of branch {0}: {1}")]
    Branch(BranchId, String),
    /// The counters.
    #[error("the counters: {0}")]
    Counters(String),
}

impl Core {
    /// Builds the core from what is durable, all locks included. `id` is the coordinator's, the same at every start.
    ///
    /// The step has to be durable before anything else is done.
    pub fn recover(
        config: Config,
        id: &str,
        records: Records,
        now_ms: u64,
    ) -> Result<(Core, Step), RecoverError> {
        let prefix = format!("{id}:");
        if prefix.len() > 64 || Xid::new(&prefix).is_err() {
            return Err(RecoverError::Id(id.to_owned()));
        }
        let old = records.counters;
        let boot = old.boot + 1;
        if boot >> (64 - SERIAL_BITS) != 0 {
            return Err(RecoverError::Counters(format!("{boot} starts are too many")));
        }
        let next_branch = old.branch_limit.max(1);
        let counters = Counters { boot, branch_limit: next_branch + BRANCH_ID_BLOCK };
        let locks = LockTable::new(config.bulk_locks_min);
        let mut core = Core {
            config,
            prefix,
            now_ms,
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
            ended_order: BTreeSet::new(),
            locks,
            waiting: HashMap::new(),
            streams: HashMap::new(),
            timers: Timers::default(),
            dispatcher: Dispatcher::default(),
            purges: BTreeMap::new(),
            reports: Reports::default(),
            rollback_waits: RollbackWaits::default(),
            local_waits: LocalWaits::starting(boot),
            census: Census::default(),
            counters,
            next_seq: (boot << SERIAL_BITS) + 1,
            next_branch,
            next_work: (boot << SERIAL_BITS) + 1,
            totals: Totals::default(),
            step: Step::default(),
        };
        core.persist(Change::PutCounters(counters));
        core.load(records)?;
        core.resume();
        let seqs: Vec<u64> = core.live.keys().chain(core.ended.keys()).copied().collect();
        for seq in seqs {
            core.count(seq);
        }
        core.forget_old();
        let step = std::mem::take(&mut core.step);
        Ok((core, step))
    }

    fn load(&mut self, records: Records) -> Result<(), RecoverError> {
        let Records { transactions, branches, mut locks, counters } = records;
        for (seq, record) in transactions {
            let transaction = self.load_transaction(record, counters)?;
            self.live.insert(seq, transaction);
        }
        for (id, record) in branches {
            let locks = locks.remove(&id);
            self.load_branch(BranchId(id), record, locks, counters)?;
        }
        if let Some((id, _)) = locks.pop_first() {
            return Err(RecoverError::Branch(BranchId(id), "there are locks but no branch".to_owned()));
        }
        Ok(())
    }

    fn load_transaction(
        &mut self,
        record: TransactionRecord,
        old: Counters,
    ) -> Result<Transaction, RecoverError> {
        let TransactionRecord { seq, xid, name, decision, reason, timeout_ms, created_at_ms, .. } = record;
        let wrong = |what: &str| Err(RecoverError::Transaction(xid.clone(), what.to_owned()));
        if self.seq_of(xid.as_str()) != Some(seq) {
            return wrong("its XID does not belong to its number and this coordinator");
        }
        if seq >> SERIAL_BITS > old.boot {
            return wrong("its number is from a start that never was");
        }
        let state = match (decision, record.decided_at_ms, record.ended_at_ms) {
            (Decision::Active, None, None) => {
                // A clock that was set back must not give it more time than a new one gets.
                let left_ms =
                    created_at_ms.saturating_add(timeout_ms).saturating_sub(self.now_ms).min(timeout_ms);
                let deadline = self.timers.set(self.now_ms.saturating_add(left_ms), Timer::Deadline { seq });
                State::Active { deadline }
            }
            (Decision::Committed, Some(decided_at_ms), ended_at_ms) => {
                State::Committed { decided_at_ms, ended_at_ms }
            }
            (Decision::RollingBack, Some(decided_at_ms), None) => {
                State::RollingBack { decided_at_ms, reason }
            }
            (Decision::RolledBack, Some(decided_at_ms), Some(ended_at_ms)) => {
                State::RolledBack { decided_at_ms, ended_at_ms, reason }
            }
            _ => return wrong("its times contradict its decision"),
        };
        Ok(Transaction {
            seq,
            xid,
            name,
            timeout_ms,
            created_at_ms,
            state,
            branches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            counted_as: None,
        })
    }

    fn load_branch(
        &mut self,
        id: BranchId,
        record: BranchRecord,
        locks: Option<std::sync::Arc<crate::step::LockSet>>,
        old: Counters,
    ) -> Result<(), RecoverError> {
        let wrong = |what: String| Err(RecoverError::Branch(id, what));
        if record.branch_id != id.0 || id.0 >= old.branch_limit {
            return wrong("its id was never given".to_owned());
        }
        let Some(transaction) = self.live.get_mut(&record.seq) else {
            return wrong("its transaction is not there".to_owned());
        };
        let is_consistent = match (&transaction.state, record.state) {
            (State::Active { .. }, BranchState::Registered) => locks.is_some(),
            (State::Committed { .. }, BranchState::Registered | BranchState::Purged) => locks.is_none(),
            (State::RollingBack { .. }, BranchState::Registered | BranchState::RollbackFailed) => {
                locks.is_some()
            }
            (
                State::RollingBack { .. } | State::RolledBack { .. },
                BranchState::Restored | BranchState::RolledBack,
            ) => locks.is_none(),
            _ => false,
        };
        if !is_consistent {
            return wrong("its state or its locks contradict its transaction".to_owned());
        }
        let is_stopped = matches!(record.state, BranchState::RollbackFailed | BranchState::RolledBack);
        if record.resolution.is_some() && !is_stopped {
            return wrong("an operator decided about it, and it never stopped".to_owned());
        }
        if locks.as_ref().is_some_and(|locks| locks.len() != record.lock_count) {
            return wrong("it does not have as many locks as it took".to_owned());
        }
        if let Some(locks) = &locks
            && let Err(conflict) = self.locks.restore(record.seq, &record.resource, locks)
        {
            return wrong(format!(
                "another transaction holds its lock on {} {}",
                conflict.table, conflict.key
            ));
        }
        let branch = Branch {
            resource: record.resource,
            schema: record.schema,
            registered_at_ms: record.registered_at_ms,
            lock_count: record.lock_count,
            locks,
            state: record.state,
            is_committed: record.is_committed || matches!(transaction.state, State::Committed { .. }),
            is_commit_kept: record.is_committed,
            // The stream is gone with the process; its proxy may still report on a new one.
            reporter: None,
            detail: record.detail,
            work: BranchWork::None,
            attempts: 0,
            resolution: record.resolution,
            resolve_calls: Vec::new(),
        };
        transaction.branches.insert(id, Box::new(branch));
        Ok(())
    }

    /// Takes up what was under way. Nothing can be sent yet: no stream is there.
    fn resume(&mut self) {
        let seqs: Vec<u64> = self.live.keys().copied().collect();
        for seq in seqs {
            let Some(transaction) = self.live.get(&seq) else { continue };
            let restored = transaction.branches.iter().filter(|(_, b)| b.state == BranchState::Restored);
            let restored: Vec<_> =
                restored.map(|(id, b)| (*id, b.resource.clone(), b.schema.clone())).collect();
            for (id, resource, schema) in restored {
                self.purge_later(&resource, &schema, seq, id);
            }
            let Some(transaction) = self.live.get(&seq) else { continue };
            match transaction.state {
                _ if transaction.ended_at_ms().is_some() => self.move_to_ended(seq),
                State::Committed { .. } => {
                    let unpurged =
                        transaction.branches.iter().filter(|(_, b)| b.state != BranchState::Purged);
                    let unpurged: Vec<_> =
                        unpurged.map(|(id, b)| (*id, b.resource.clone(), b.schema.clone())).collect();
                    for (id, resource, schema) in unpurged {
                        self.purge_later(&resource, &schema, seq, id);
                    }
                }
                State::RollingBack { .. } => {
                    let held = transaction.branches.values();
                    let held: Vec<_> =
                        held.filter_map(|b| Some((b.resource.clone(), b.locks.clone()?))).collect();
                    // Nobody waits yet, so nobody is woken.
                    self.locks.set_dying(seq, &held);
                    self.advance_rollback(seq);
                }
                _ => {}
            }
        }
    }
}
