//! Which transition is possible in which state.

use super::*;
use crate::model::branch::{BranchWork, NewBranch};
use crate::model::ids::StreamId;
use crate::model::violation::Checked;

const ID: BranchId = BranchId(7);
const TIMER: TimerKey = TimerKey { at_ms: 1, serial: 0 };
const TO: ReplyTo = ReplyTo::Call(1);

fn active() -> Transaction {
    let mut transaction = Transaction::begin(1, Xid::new("test:1").unwrap(), String::new(), 1_000, 0, TIMER);
    transaction.add_branch(branch(ID)).unwrap();
    transaction
}

fn branch(id: BranchId) -> Branch {
    Branch::new(NewBranch {
        id,
        seq: 1,
        resource: "r".into(),
        schema: "s".into(),
        locks: Arc::new(LockSet::new([("s.t".to_owned(), vec!["1".to_owned()])])),
        reporter: (StreamId(1), 1),
        registered_at_ms: 0,
    })
}

/// The same transaction in every status, its branch with it.
fn in_every_status() -> Vec<Transaction> {
    let mut committing = active();
    committing.start_commit(TO, TIMER).unwrap();
    let mut committed = active();
    committed.start_commit(TO, TIMER).unwrap();
    assert!(committed.branch_mut(ID).unwrap().set_committed());
    committed.commit(10).unwrap();
    let mut rolling_back = active();
    rolling_back.start_rollback(10, "").unwrap();
    let mut rolled_back = active();
    rolled_back.start_rollback(10, "").unwrap();
    rolled_back.undo_branch(ID, BranchState::RolledBack).unwrap();
    rolled_back.end_rollback(11).unwrap();
    let mut failed = active();
    failed.start_rollback(10, "").unwrap();
    assert!(failed.branch_mut(ID).unwrap().fail("conflict", true).is_some());
    let all = vec![active(), committing, committed, rolling_back, rolled_back, failed];
    assert_eq!(all.iter().map(Transaction::status).collect::<Vec<_>>(), Status::ALL);
    all
}

/// A transition happens just in these statuses. Elsewhere it is a violation, and changes nothing that is durable.
#[track_caller]
fn check(expected: &[Status], mut transition: impl FnMut(&mut Transaction) -> Checked) {
    for mut transaction in in_every_status() {
        let (status, record) = (transaction.status(), transaction.record());
        let branches = |t: &Transaction| t.branches().values().map(|b| b.record()).collect::<Vec<_>>();
        let before = branches(&transaction);
        let done = transition(&mut transaction);
        assert_eq!(done.is_ok(), expected.contains(&status), "{status}: {done:?}");
        if done.is_err() {
            assert_eq!((transaction.record(), branches(&transaction)), (record, before), "{status}");
            assert_eq!(transaction.status(), status);
        }
    }
}

#[test]
fn transitions_are_possible_in_their_states_only() {
    use Status::{Active, Committed, Committing, RollbackFailed, RollingBack};
    check(&[Active], |transaction| transaction.add_branch(branch(BranchId(8))));
    check(&[Active, Committing], |transaction| transaction.abort_branch(ID).map(drop));
    check(&[Active], |transaction| transaction.start_commit(TO, TIMER));
    check(&[Committing], |transaction| transaction.join_commit(TO));
    // Its branch is in doubt, or committed already.
    check(&[], |transaction| transaction.commit(20).map(drop));
    check(&[Committing], |transaction| {
        transaction.branch_mut(ID).unwrap().set_committed();
        transaction.commit(20).map(drop)
    });
    check(&[Active, Committing], |transaction| transaction.start_rollback(20, "").map(drop));
    check(&[RollingBack, RollbackFailed], |transaction| {
        transaction.undo_branch(ID, BranchState::RolledBack).map(drop)
    });
    // Its branch is still to be undone.
    check(&[], |transaction| transaction.end_rollback(20).map(drop));
    // Only the committed one has an undo row that is not needed any more.
    check(&[Committed], |transaction| transaction.purge_branch(ID, 20).map(drop));
}

#[test]
fn a_transaction_without_such_a_branch_changes_nothing() {
    let other = BranchId(9);
    check(&[], |transaction| transaction.abort_branch(other).map(drop));
    check(&[], |transaction| transaction.undo_branch(other, BranchState::Restored).map(drop));
    check(&[], |transaction| transaction.purge_branch(other, 20).map(drop));
}

/// Work of a branch is in one place at a time.
#[test]
fn work_of_a_branch_goes_its_way() {
    use crate::model::work::WorkKind::{Check, Rollback};
    let mut branch = branch(ID);
    assert!(branch.end_work(1).is_err() && branch.end_pause().is_err());
    assert!(!branch.send_work(Rollback, 1));
    branch.queue_work(Rollback).unwrap();
    assert!(branch.queue_work(Rollback).is_err() && branch.pause(TIMER, String::new()).is_err());
    assert!(!branch.send_work(Check, 1), "queued for another purpose");
    assert!(branch.send_work(Rollback, 1));
    assert!(!branch.send_work(Rollback, 2), "a stale entry");
    assert!(branch.end_work(2).is_err());
    branch.end_work(1).unwrap();
    branch.pause(TIMER, "later".to_owned()).unwrap();
    assert!(branch.queue_work(Rollback).is_err());
    assert_eq!((branch.detail(), branch.attempts()), ("later", 1));
    assert_eq!(branch.cut_pause(), Some(TIMER));
    assert_eq!((branch.cut_pause(), branch.work()), (None, BranchWork::None));
}
