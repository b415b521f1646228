//! Recovery: the core is rebuilt from what is durable.

use std::sync::Arc;

use super::{BRANCH_ID_BLOCK, Core, SERIAL_BITS};
use crate::config::Config;
use crate::counts::{StatusCounts, Totals};
use crate::dispatch::Dispatcher;
use crate::local_waits::LocalWaits;
use crate::locks::LockTable;
use crate::model::{
    BranchId, BranchRecord, BranchState, Change, Checked, Counters, LockSet, Records, State, Transaction,
    TransactionRecord, Xid,
};
use crate::purges::Purges;
use crate::registrations::Registrations;
use crate::reports::Reports;
use crate::rollback_waits::RollbackWaits;
use crate::step::Step;
use crate::timers::{Timer, Timers};
use crate::transactions::Transactions;

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
            transactions: Transactions::default(),
            locks,
            registrations: Registrations::default(),
            timers: Timers::default(),
            dispatcher: Dispatcher::default(),
            purges: Purges::default(),
            reports: Reports::default(),
            rollback_waits: RollbackWaits::default(),
            local_waits: LocalWaits::new(boot << SERIAL_BITS),
            status_counts: StatusCounts::default(),
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
        let seqs: Vec<u64> = core.transactions.all().map(|transaction| transaction.seq).collect();
        for seq in seqs {
            core.count(seq);
        }
        core.forget_old();
        let step = core.end_step();
        Ok((core, step))
    }

    fn load(&mut self, records: Records) -> Result<(), RecoverError> {
        let Records { transactions, branches, mut locks, counters } = records;
        for record in transactions.into_values() {
            let transaction = self.load_transaction(record, counters)?;
            self.transactions.add(transaction);
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
        let (seq, xid, timeout_ms) = (record.seq, record.xid.clone(), record.timeout_ms);
        let wrong = |what: &str| RecoverError::Transaction(xid.clone(), what.to_owned());
        if self.seq_of(xid.as_str()) != Some(seq) {
            return Err(wrong("its XID does not belong to its number and this coordinator"));
        }
        if seq >> SERIAL_BITS > old.boot {
            return Err(wrong("its number is from a start that never was"));
        }
        let end_ms = record.created_at_ms.saturating_add(timeout_ms);
        // A clock that was set back must not give it more time than a new one gets.
        let left_ms = end_ms.saturating_sub(self.now_ms).min(timeout_ms);
        let at_ms = self.now_ms.saturating_add(left_ms);
        let transaction =
            Transaction::from_record(record, || self.timers.set(at_ms, Timer::Deadline { seq }));
        transaction.map_err(wrong)
    }

    fn load_branch(
        &mut self,
        id: BranchId,
        record: BranchRecord,
        locks: Option<Arc<LockSet>>,
        old: Counters,
    ) -> Result<(), RecoverError> {
        let wrong = |what: &str| RecoverError::Branch(id, what.to_owned());
        if record.branch_id != id.0 || id.0 >= old.branch_limit {
            return Err(wrong("its id was never given"));
        }
        let (seq, resource) = (record.seq, record.resource.clone());
        let transaction = self.transactions.get_mut(seq);
        let transaction = transaction.map_err(|_| wrong("its transaction is not there"))?;
        transaction.add_recorded(record, locks.clone()).map_err(wrong)?;
        let Some(locks) = locks else { return Ok(()) };
        self.locks.restore(seq, &resource, &locks).map_err(|conflict| {
            wrong(&format!("another transaction holds its lock on {} {}", conflict.table, conflict.key))
        })
    }

    /// Takes up what was under way. Nothing can be sent yet: no stream is up.
    fn resume(&mut self) {
        let seqs: Vec<u64> = self.transactions.live().keys().copied().collect();
        for seq in seqs {
            let resumed = self.resume_transaction(seq);
            self.note(resumed);
        }
    }

    fn resume_transaction(&mut self, seq: u64) -> Checked {
        self.purge_all_in(seq, BranchState::Restored)?;
        let transaction = self.transactions.get(seq)?;
        match transaction.state() {
            State::Committed { ended_at_ms: None, .. } => self.purge_all_in(seq, BranchState::Registered),
            State::RollingBack { .. } => {
                // No request waits yet, so none is woken.
                self.locks.start_rollback(seq, &transaction.held_locks());
                self.advance_rollback(seq)
            }
            State::Committed { .. } | State::RolledBack { .. } => self.end(seq),
            State::Active { .. } | State::Committing { .. } => Ok(()),
        }
    }

    /// The undo rows of a transaction's branches in this state are to be deleted.
    fn purge_all_in(&mut self, seq: u64, state: BranchState) -> Checked {
        let branches = self.transactions.get(seq)?.branches().values();
        let purged: Vec<_> = branches
            .filter(|branch| branch.state() == state)
            .map(|branch| (branch.id, (branch.resource.clone(), branch.schema.clone())))
            .collect();
        for (id, key) in purged {
            self.queue_purge(key, seq, id)?;
        }
        Ok(())
    }
}
