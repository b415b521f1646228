//! Single courses of events on a virtual clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use atone_core::*;

const START_MS: u64 = 1_700_000_000_000;
const STREAM: StreamId = StreamId(1);

/// A core with one proxy for the resources `a` and `b`.
struct Case {
    core: Core,
    records: Records,
    now_ms: u64,
    next_id: u64,
    /// The branches whose reports the proxy was told are durable.
    confirmed: Vec<BranchId>,
}

impl Case {
    fn new(config: Config) -> Self {
        let (core, step) = Core::recover(config, "test", Records::default(), START_MS).unwrap();
        let mut case =
            Case { core, records: Records::default(), now_ms: START_MS, next_id: 1, confirmed: Vec::new() };
        step.persist.iter().for_each(|change| case.records.apply(change));
        case.event(Event::StreamUp { stream: STREAM, resources: vec!["a".into(), "b".into()] });
        case
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let step = self.core.handle(self.now_ms, event);
        assert_eq!(step.violations, []);
        step.persist.iter().for_each(|change| self.records.apply(change));
        assert_eq!(self.records, self.core.records());
        let (confirms, others): (Vec<_>, Vec<_>) =
            step.effects.into_iter().partition(|effect| matches!(effect, Effect::Confirm(..)));
        for confirm in confirms {
            let Effect::Confirm(_, branches) = confirm else { continue };
            self.confirmed.extend(branches);
        }
        others
    }

    /// Lets time pass up to now + `ms`, ticking whenever it is due.
    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        let end_ms = self.now_ms + ms;
        let mut effects = Vec::new();
        while let Some(next_ms) = self.core.next_at_ms().filter(|next_ms| *next_ms <= end_ms) {
            self.now_ms = self.now_ms.max(next_ms);
            effects.extend(self.event(Event::Tick));
        }
        self.now_ms = end_ms;
        effects
    }

    fn begin(&mut self) -> Xid {
        let effects = self.event(Event::Begin { to: ReplyTo::Call(0), name: String::new(), timeout_ms: 0 });
        match &effects[..] {
            [Effect::Reply(_, Ok(Reply::Transaction(view)))] => view.xid.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Answers the message id and what came of it.
    fn register(&mut self, xid: &Xid, resource: &str, key: &str, wait_ms: u64) -> (u64, Vec<Effect>) {
        self.next_id += 1;
        let request = RegisterRequest {
            xid: xid.to_string(),
            resource: resource.into(),
            schema: "s".into(),
            locks: Arc::new(LockSet::new([("s.t".to_owned(), vec![key.to_owned()])])),
            wait_timeout_ms: wait_ms,
        };
        let id = self.next_id;
        (id, self.event(Event::Register { stream: STREAM, id, request }))
    }

    /// A branch that committed locally.
    fn branch(&mut self, xid: &Xid, resource: &str, key: &str) -> BranchId {
        let (_, effects) = self.register(xid, resource, key, 0);
        let [Effect::Reply(_, Ok(Reply::Registered(branch)))] = effects[..] else { panic!("{effects:?}") };
        self.event(Event::Report {
            stream: STREAM,
            xid: xid.to_string(),
            branch,
            outcome: Outcome::Committed,
        });
        branch
    }

    fn commit(&mut self, xid: &Xid) -> Vec<Effect> {
        self.event(Event::Commit { to: ReplyTo::Call(1), xid: xid.to_string() })
    }

    fn rollback(&mut self, xid: &Xid) -> Vec<Effect> {
        self.rollback_waiting(xid, ReplyTo::Call(2), 0)
    }

    fn rollback_waiting(&mut self, xid: &Xid, to: ReplyTo, wait_ms: u64) -> Vec<Effect> {
        self.event(Event::Rollback { to, xid: xid.to_string(), wait_ms: Some(wait_ms) })
    }

    fn answer(&mut self, work: &Work, outcome: WorkOutcome) -> Vec<Effect> {
        let event =
            Event::WorkResult { stream: STREAM, work_id: work.work_id, outcome, detail: String::new() };
        self.event(event)
    }

    fn status(&self, xid: &Xid) -> Status {
        self.core.transaction(xid.as_str()).unwrap().transaction.status
    }

    /// A branch whose outcome nobody has reported.
    fn silent_branch(&mut self, xid: &Xid, resource: &str, key: &str) -> BranchId {
        let (_, effects) = self.register(xid, resource, key, 0);
        let [Effect::Reply(_, Ok(Reply::Registered(branch)))] = effects[..] else { panic!("{effects:?}") };
        branch
    }

    fn report(&mut self, xid: &Xid, branch: BranchId, outcome: Outcome) -> Vec<Effect> {
        self.event(Event::Report { stream: STREAM, xid: xid.to_string(), branch, outcome })
    }

    fn keep_current(&mut self, xid: &Xid, branch: BranchId, dry_run: bool) -> Vec<Effect> {
        let to = ReplyTo::Call(3);
        let by = "an operator".to_owned();
        self.event(Event::KeepCurrent { to, xid: xid.to_string(), branch, by, dry_run })
    }

    fn view(&self, xid: &Xid, branch: BranchId) -> BranchView {
        let detail = self.core.transaction(xid.as_str()).unwrap();
        detail.branches.into_iter().find(|view| view.branch_id == branch).unwrap()
    }

    /// SIGKILL and a start on what is durable; then a proxy connects.
    fn restart(&mut self) -> Vec<Effect> {
        let (core, step) =
            Core::recover(Config::default(), "test", self.records.clone(), self.now_ms).unwrap();
        self.core = core;
        step.persist.iter().for_each(|change| self.records.apply(change));
        self.event(Event::StreamUp { stream: STREAM, resources: vec!["a".into(), "b".into()] })
    }
}

/// The answers among these effects: a status, a branch, or the code of a refusal.
fn replies(effects: &[Effect]) -> Vec<String> {
    let text = |effect: &Effect| match effect {
        Effect::Reply(_, Ok(Reply::Transaction(view))) => Some(view.status.to_string()),
        Effect::Reply(_, Ok(Reply::Registered(_))) => Some("registered".to_owned()),
        Effect::Reply(_, Ok(Reply::Branch(view))) => Some(view.status.as_str().to_owned()),
        Effect::Reply(_, Err(refusal)) => Some(format!("{:?}", refusal.code)),
        Effect::Push(..) | Effect::Confirm(..) | Effect::Look(..) => None,
    };
    effects.iter().filter_map(text).collect()
}

fn works(effects: &[Effect]) -> Vec<Work> {
    let works = effects.iter().filter_map(|effect| match effect {
        Effect::Push(_, work) => Some(work.clone()),
        Effect::Reply(..) | Effect::Confirm(..) | Effect::Look(..) => None,
    });
    works.collect()
}

fn only_work(effects: &[Effect], kind: WorkKind) -> Work {
    match &works(effects)[..] {
        [work] if work.kind == kind => work.clone(),
        other => panic!("expected one {kind:?}: {other:?}"),
    }
}

#[test]
fn a_timeout_comes_neither_early_nor_late() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    assert_eq!(case.pass(59_999), []);
    assert_eq!(case.status(&xid), Status::Active);
    only_work(&case.pass(1), WorkKind::Rollback);
    assert_eq!(case.status(&xid), Status::RollingBack);
    assert_eq!(replies(&case.commit(&xid)), ["TimedOut"]);
}

#[test]
fn a_commit_at_the_moment_of_the_timeout_comes_too_late() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    case.now_ms += 60_000;
    assert_eq!(replies(&case.commit(&xid)), ["TimedOut"]);
    assert_eq!(case.status(&xid), Status::RolledBack);
}

#[test]
fn a_wait_for_locks_ends_in_time() {
    let mut case = Case::new(Config::default());
    let (first, second) = (case.begin(), case.begin());
    case.branch(&first, "a", "1");
    assert_eq!(replies(&case.register(&second, "a", "1", 0).1), ["LockTimeout"]);
    assert_eq!(case.register(&second, "a", "1", 500).1, []);
    assert_eq!(case.pass(499), []);
    let effects = case.pass(1);
    let [Effect::Reply(_, Err(refusal))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(refusal.code, RefusalCode::LockTimeout);
    assert_eq!(refusal.holder.as_ref(), Some(&first));
    assert_eq!(refusal.lock.as_deref(), Some("a s.t 1"));
    assert_eq!(case.core.stats().waiters, 0);
}

#[test]
fn a_commit_refuses_what_waits_and_wakes_who_waits_for_it() {
    let mut case = Case::new(Config::default());
    let (first, second, third) = (case.begin(), case.begin(), case.begin());
    case.branch(&first, "a", "1");
    case.branch(&second, "b", "1");
    case.register(&first, "b", "1", 1_000);
    case.register(&third, "a", "1", 1_000);
    // The registration of `first` that waits, then its commit, then `third` that gets its lock.
    assert_eq!(replies(&case.commit(&first)), ["Ended", "committed", "registered"]);
}

#[test]
fn a_rollback_refuses_what_waits_and_who_waits_for_it() {
    let mut case = Case::new(Config::default());
    let (first, second, third) = (case.begin(), case.begin(), case.begin());
    case.branch(&first, "a", "1");
    case.branch(&second, "b", "1");
    case.register(&first, "b", "1", 1_000);
    case.register(&third, "a", "1", 1_000);
    let effects = case.rollback(&first);
    assert_eq!(replies(&effects), ["RolledBack", "LockDeadlock", "rolling_back"]);
    let work = only_work(&effects, WorkKind::Rollback);
    assert_eq!(replies(&case.register(&third, "a", "1", 1_000).1), ["LockDeadlock"]);
    case.answer(&work, WorkOutcome::Done);
    assert_eq!(case.status(&first), Status::RolledBack);
    assert_eq!(replies(&case.register(&third, "a", "1", 1_000).1), ["registered"]);
}

#[test]
fn retries_slow_down_to_the_interval() {
    let config = Config { rollback_retry_interval_ms: 1_000, ..Config::default() };
    let mut case = Case::new(config);
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    let mut work = only_work(&case.rollback(&xid), WorkKind::Rollback);
    for pause_ms in [100, 200, 400, 800, 1_000, 1_000] {
        assert_eq!(case.answer(&work, WorkOutcome::Retry), []);
        assert_eq!(case.pass(pause_ms - 1), [], "before {pause_ms} ms");
        work = only_work(&case.pass(1), WorkKind::Rollback);
    }
    case.answer(&work, WorkOutcome::Done);
    assert_eq!(case.status(&xid), Status::RolledBack);
}

#[test]
fn undo_rows_are_purged_in_batches() {
    let limits = Limits { max_purge_batch: 3, ..Limits::default() };
    let mut case = Case::new(Config { limits, ..Config::default() });
    let xid = case.begin();
    for key in ["1", "2", "3", "4", "5"] {
        case.branch(&xid, "a", key);
    }
    // A full batch goes at once, the rest is collected, one batch is out at a time.
    let effects = case.commit(&xid);
    assert_eq!(replies(&effects), ["committed"]);
    let first = only_work(&effects, WorkKind::Purge);
    assert_eq!(first.branches.len(), 3);
    assert_eq!(case.pass(1_000), []);
    assert_eq!(works(&case.answer(&first, WorkOutcome::Done)), []);
    let second = only_work(&case.pass(100), WorkKind::Purge);
    assert_eq!(second.branches.len(), 2);
    assert!(case.core.transaction(xid.as_str()).unwrap().transaction.ended_at_ms.is_none());
    case.answer(&second, WorkOutcome::Done);
    assert!(case.core.transaction(xid.as_str()).unwrap().transaction.ended_at_ms.is_some());
}

#[test]
fn an_answer_counts_once_and_only_from_who_was_asked() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
    let other = StreamId(2);
    case.event(Event::StreamUp { stream: other, resources: vec!["a".into()] });
    let event = |stream, work_id| Event::WorkResult {
        stream,
        work_id,
        outcome: WorkOutcome::Done,
        detail: String::new(),
    };
    case.event(event(other, work.work_id));
    case.event(event(STREAM, work.work_id + 1));
    assert_eq!(case.status(&xid), Status::RollingBack);
    // Lost with its stream, and given to the other: the first one's answer is void.
    let effects = case.event(Event::StreamDown { stream: STREAM });
    let again = only_work(&effects, WorkKind::Rollback);
    assert_ne!(again.work_id, work.work_id);
    case.event(event(other, work.work_id));
    assert_eq!(case.status(&xid), Status::RollingBack);
    case.event(event(other, again.work_id));
    assert_eq!(case.status(&xid), Status::RolledBack);
}

#[test]
fn work_that_takes_too_long_is_given_out_again() {
    let mut case = Case::new(Config { work_timeout_ms: 5_000, ..Config::default() });
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
    assert_eq!(case.pass(4_999), []);
    let again = only_work(&case.pass(1), WorkKind::Rollback);
    assert_eq!(case.answer(&work, WorkOutcome::Done), []);
    assert_eq!(case.status(&xid), Status::RollingBack);
    // The second proxy finds the undo row marked as restored.
    case.answer(&again, WorkOutcome::Done);
    assert_eq!(case.status(&xid), Status::RolledBack);
}

#[test]
fn a_cancelled_registration_leaves_nothing() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    let (id, effects) = case.register(&xid, "a", "1", 0);
    assert_eq!(replies(&effects), ["registered"]);
    case.event(Event::Cancel { stream: STREAM, id });
    assert_eq!(case.core.stats().locks, 0);
    assert!(case.records.branches.is_empty());
    assert_eq!(replies(&case.commit(&xid)), ["committed"]);
}

#[test]
fn ended_transactions_are_forgotten_by_age_and_number() {
    let limits = Limits { max_history: 3, ..Limits::default() };
    let mut case = Case::new(Config { history_retention_ms: 10_000, limits, ..Config::default() });
    let xids: Vec<Xid> = (0..5)
        .map(|_| {
            let xid = case.begin();
            case.commit(&xid);
            case.pass(1_000);
            xid
        })
        .collect();
    let known = |case: &Case| {
        xids.iter().map(|xid| case.core.transaction(xid.as_str()).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(known(&case), [false, false, true, true, true]);
    assert_eq!(replies(&case.commit(&xids[0])), ["UnknownXid"]);
    case.pass(7_999);
    assert_eq!(known(&case), [false, false, false, true, true]);
    case.pass(2_000);
    assert!(case.records.transactions.is_empty());
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    case.now_ms -= 3_600_000;
    assert_eq!(case.event(Event::Tick), []);
    case.now_ms += 3_600_000 + 60_000;
    case.event(Event::Tick);
    assert_eq!(case.status(&xid), Status::RolledBack);
}

/// After a restart with the clock set back, nobody has more time than a new transaction gets.
#[test]
fn a_restart_keeps_deadlines_within_the_timeout() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    let restart = |now_ms| Core::recover(Config::default(), "test", case.records.clone(), now_ms).unwrap().0;
    assert_eq!(restart(START_MS + 20_000).next_at_ms(), Some(START_MS + 60_000));
    assert_eq!(restart(START_MS - 7_000_000).next_at_ms(), Some(START_MS - 7_000_000 + 60_000));
    let mut late = restart(START_MS + 90_000);
    late.handle(START_MS + 90_000, Event::Tick);
    assert_eq!(late.transaction(xid.as_str()).unwrap().transaction.status, Status::RolledBack);
}

/// Records that contradict each other are refused.
#[test]
fn contradictions_are_refused() {
    let mut case = Case::new(Config::default());
    let (first, second) = (case.begin(), case.begin());
    let one = case.branch(&first, "a", "1");
    let two = case.branch(&second, "a", "2");
    let refused = |name: &str, change: &dyn Fn(&mut Records)| {
        let mut records = case.records.clone();
        change(&mut records);
        let result = Core::recover(Config::default(), "test", records, START_MS);
        assert!(result.is_err(), "{name} is not refused");
    };
    let sound = Core::recover(Config::default(), "test", case.records.clone(), START_MS);
    assert!(sound.is_ok());
    refused("a branch without its transaction", &|r| drop(r.transactions.pop_first()));
    refused("locks without their branch", &|r| drop(r.branches.remove(&one.0)));
    refused("a branch without its locks", &|r| drop(r.locks.remove(&one.0)));
    refused("a lock in two hands", &|r| {
        let locks = r.locks[&one.0].clone();
        r.locks.insert(two.0, locks);
    });
    refused("a branch id that was never given", &|r| r.counters.branch_limit = 1);
    refused("a start that never was", &|r| r.counters.boot = 0);
    refused("a decision without its time", &|r| {
        r.transactions.values_mut().for_each(|t| t.decision = Decision::Committed);
    });
    refused("locks of another number", &|r| r.branches.values_mut().for_each(|b| b.lock_count = 7));
    let other = Core::recover(Config::default(), "other", case.records.clone(), START_MS);
    assert!(other.is_err(), "the records of another coordinator");
}

#[test]
fn limits_are_named() {
    let limits = Limits { max_waiters: 1, ..Limits::default() };
    let mut case = Case::new(Config { limits, ..Config::default() });
    let (first, second) = (case.begin(), case.begin());
    case.branch(&first, "a", "1");
    assert_eq!(case.register(&second, "a", "1", 1_000).1, []);
    let (_, effects) = case.register(&second, "a", "1", 1_000);
    let [Effect::Reply(_, Err(refusal))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(refusal.code, RefusalCode::LimitReached);
    assert!(refusal.message.contains("max_waiters"), "{refusal}");
}

/// What is concluded from a branch without an undo row: see "What a missing or marked row says" in docs/undo-format.md.
mod missing_row {
    use super::*;

    /// Reported as committed: a loss, however often and by whomever the rollback is asked for.
    #[test]
    fn of_a_reported_branch_is_a_loss() {
        let mut case = Case::new(Config::default());
        let xid = case.begin();
        let branch = case.branch(&xid, "a", "1");
        let mut work = only_work(&case.rollback(&xid), WorkKind::Rollback);
        for _ in 0..3 {
            case.answer(&work, WorkOutcome::Absent);
            assert_eq!(case.status(&xid), Status::RollbackFailed);
            assert!(case.view(&xid, branch).detail.contains("undo_missing"));
            assert_eq!(case.core.stats().locks, 1);
            let effects = case.rollback(&xid);
            assert_eq!(replies(&effects), ["rollback_failed"]);
            work = only_work(&effects, WorkKind::Rollback);
        }
        // Lost with its stream, tried by another proxy, by the timer, and after restarts: none of that is consent.
        case.event(Event::StreamDown { stream: STREAM });
        let effects = case.event(Event::StreamUp { stream: STREAM, resources: vec!["a".into()] });
        case.answer(&only_work(&effects, WorkKind::Rollback), WorkOutcome::Absent);
        assert_eq!(case.status(&xid), Status::RollbackFailed);
        work = only_work(&case.pass(30_000), WorkKind::Rollback);
        case.answer(&work, WorkOutcome::Absent);
        assert_eq!(case.status(&xid), Status::RollbackFailed);
        for _ in 0..2 {
            work = only_work(&case.restart(), WorkKind::Rollback);
            case.rollback(&xid);
            case.answer(&work, WorkOutcome::Absent);
            assert_eq!(case.status(&xid), Status::RollbackFailed);
        }
        assert_eq!(case.core.stats().locks, 1);
        // Nobody is told that it was rolled back.
        assert_eq!(replies(&case.commit(&xid)), ["Stopped"]);
        assert_eq!(replies(&case.register(&xid, "a", "9", 0).1), ["Stopped"]);
    }

    /// Not reported, or as aborted: it never committed, and never will.
    #[test]
    fn of_an_unreported_branch_means_that_it_never_committed() {
        let mut case = Case::new(Config::default());
        let xid = case.begin();
        case.silent_branch(&xid, "a", "1");
        let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
        case.answer(&work, WorkOutcome::Absent);
        assert_eq!(case.status(&xid), Status::RolledBack);
    }

    /// Its record was seen before.
    #[test]
    fn that_was_there_before_is_a_loss() {
        for seen in [WorkOutcome::Conflict, WorkOutcome::Stuck] {
            let mut case = Case::new(Config::default());
            let xid = case.begin();
            case.silent_branch(&xid, "a", "1");
            let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
            case.answer(&work, seen);
            let work = only_work(&case.restart(), WorkKind::Rollback);
            case.answer(&work, WorkOutcome::Absent);
            assert_eq!(case.status(&xid), Status::RollbackFailed, "{seen:?}");
        }
    }

    /// The proxy was told that its report is durable, and it is.
    #[test]
    fn is_a_loss_after_a_restart_too() {
        let mut case = Case::new(Config::default());
        let xid = case.begin();
        let branch = case.silent_branch(&xid, "a", "1");
        assert_eq!(case.report(&xid, branch, Outcome::Committed), []);
        assert_eq!(case.pass(49), []);
        assert!(!case.records.branches[&branch.0].is_committed);
        assert_eq!(case.confirmed, []);
        case.pass(1);
        assert_eq!(case.confirmed, [branch]);
        assert!(case.records.branches[&branch.0].is_committed);
        case.restart();
        assert_eq!(case.view(&xid, branch).status, BranchStatus::Committed);
        let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
        case.answer(&work, WorkOutcome::Absent);
        assert_eq!(case.status(&xid), Status::RollbackFailed);
    }

    /// A report that was not durable was not confirmed: the proxy sends it again.
    #[test]
    fn is_a_loss_by_a_report_that_came_again() {
        let mut case = Case::new(Config::default());
        let xid = case.begin();
        let branch = case.silent_branch(&xid, "a", "1");
        assert_eq!(case.report(&xid, branch, Outcome::Committed), []);
        case.restart();
        assert_eq!(case.view(&xid, branch).status, BranchStatus::Registered);
        assert_eq!(case.report(&xid, branch, Outcome::Committed), []);
        let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
        // With the decision, before any work is sent.
        assert!(case.records.branches[&branch.0].is_committed);
        case.answer(&work, WorkOutcome::Absent);
        assert_eq!(case.status(&xid), Status::RollbackFailed);
        // While the rollback is under way as well.
        let xid = case.begin();
        let branch = case.silent_branch(&xid, "b", "1");
        let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
        case.report(&xid, branch, Outcome::Committed);
        case.answer(&work, WorkOutcome::Absent);
        assert_eq!(case.status(&xid), Status::RollbackFailed);
    }

    /// A commit does not ask about a branch that is known to have committed, before a restart and after.
    #[test]
    fn of_a_known_branch_is_not_looked_for_by_a_commit() {
        let mut case = Case::new(Config::default());
        let xid = case.begin();
        case.branch(&xid, "a", "1");
        case.pass(50);
        case.restart();
        assert_eq!(replies(&case.commit(&xid)), ["committed"]);
    }
}

#[test]
fn reports_of_what_is_committed_soon_are_not_written() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    let branch = case.branch(&xid, "a", "1");
    assert_eq!(replies(&case.commit(&xid)), ["committed"]);
    assert_eq!(case.confirmed, []);
    case.pass(50);
    assert_eq!(case.confirmed, [branch]);
    assert!(!case.records.branches[&branch.0].is_committed);
}

#[test]
fn reports_that_say_nothing_new_are_confirmed_at_once() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    let branch = case.branch(&xid, "a", "1");
    case.pass(50);
    let aborted = case.silent_branch(&xid, "a", "2");
    for (xid, branch, outcome) in [
        (xid.to_string(), branch, Outcome::Committed),
        (xid.to_string(), aborted, Outcome::Aborted),
        (xid.to_string(), aborted, Outcome::Aborted),
        ("nobody:1".to_owned(), BranchId(1), Outcome::Committed),
    ] {
        case.confirmed.clear();
        case.event(Event::Report { stream: STREAM, xid, branch, outcome });
        assert_eq!(case.confirmed, [branch]);
    }
}

mod keep_current {
    use super::*;

    /// Two branches on `a`, the second of which can't be undone.
    fn stopped() -> (Case, Xid, [BranchId; 2]) {
        let mut case = Case::new(Config::default());
        let xid = case.begin();
        let branches = [case.branch(&xid, "a", "1"), case.branch(&xid, "a", "2")];
        let work = only_work(&case.rollback(&xid), WorkKind::Rollback);
        case.answer(&work, WorkOutcome::Absent);
        (case, xid, branches)
    }

    #[test]
    fn is_durable_then_done_then_frees_the_locks() {
        let (mut case, xid, [first, second]) = stopped();
        let before = case.records.clone();
        assert_eq!(replies(&case.keep_current(&xid, second, true)), ["rollback_failed"]);
        assert_eq!(case.records, before, "a dry run changes nothing");
        let effects = case.keep_current(&xid, second, false);
        assert_eq!(replies(&effects), [""; 0], "it is answered when it is done");
        let work = only_work(&effects, WorkKind::Keep);
        let resolution = case.records.branches[&second.0].resolution.clone().unwrap();
        assert_eq!((resolution.by.as_str(), resolution.at_ms), ("an operator", case.now_ms));
        assert!(resolution.given_up.contains("undo_missing"));
        assert_eq!(case.view(&xid, second).status, BranchStatus::Resolving);
        assert_eq!(case.status(&xid), Status::RollbackFailed);
        assert_eq!(case.core.stats().locks, 2);
        // The same again waits with the first; a rollback that is asked for changes nothing.
        assert_eq!(case.keep_current(&xid, second, false), []);
        assert_eq!(works(&case.rollback(&xid)), []);
        let effects = case.answer(&work, WorkOutcome::Absent);
        assert_eq!(replies(&effects), ["resolved", "resolved"]);
        assert_eq!(case.core.stats().locks, 1);
        // The rest of the rollback goes on.
        let work = only_work(&effects, WorkKind::Rollback);
        assert_eq!(work.branches[0].id, first);
        case.answer(&work, WorkOutcome::Done);
        assert_eq!(case.status(&xid), Status::RolledBack);
        let view = case.view(&xid, second);
        assert_eq!((view.status, view.resolution), (BranchStatus::Resolved, Some(*resolution)));
        assert_eq!(replies(&case.keep_current(&xid, second, false)), ["resolved"]);
        case.restart();
        assert_eq!(replies(&case.keep_current(&xid, second, false)), ["resolved"]);
        assert_eq!(replies(&case.keep_current(&xid, first, false)), ["NotStopped"]);
    }

    #[test]
    fn goes_on_after_a_restart() {
        let (mut case, xid, [_, second]) = stopped();
        case.keep_current(&xid, second, false);
        let work = only_work(&case.restart(), WorkKind::Keep);
        assert_eq!(case.answer(&work, WorkOutcome::Retry), []);
        let work = only_work(&case.pass(100), WorkKind::Keep);
        case.answer(&work, WorkOutcome::Absent);
        assert_eq!(case.view(&xid, second).status, BranchStatus::Resolved);
    }

    /// A try that was under way restores the rows before the decision reaches the server.
    #[test]
    fn that_comes_too_late_gives_nothing_up() {
        let (mut case, xid, [_, second]) = stopped();
        let tried = only_work(&case.rollback(&xid), WorkKind::Rollback);
        let work = only_work(&case.keep_current(&xid, second, false), WorkKind::Keep);
        assert_eq!(case.answer(&tried, WorkOutcome::Done), [], "it was withdrawn");
        assert_eq!(replies(&case.answer(&work, WorkOutcome::Done)), ["rolled_back"]);
        assert_eq!(case.view(&xid, second).resolution, None);
    }

    #[test]
    fn is_refused_where_nothing_has_stopped() {
        let (mut case, xid, [first, _]) = stopped();
        assert_eq!(replies(&case.keep_current(&xid, first, false)), ["NotStopped"]);
        assert_eq!(replies(&case.keep_current(&xid, BranchId(999), false)), ["UnknownBranch"]);
        let active = case.begin();
        let branch = case.branch(&active, "b", "1");
        assert_eq!(replies(&case.keep_current(&active, branch, true)), ["NotStopped"]);
        case.commit(&active);
        assert_eq!(replies(&case.keep_current(&active, branch, false)), ["NotStopped"]);
        let unknown = Xid::new("test:0000000000000000").unwrap();
        assert_eq!(replies(&case.keep_current(&unknown, branch, false)), ["UnknownXid"]);
    }
}

const ASKS: ReplyTo = ReplyTo::Call(9);

#[test]
fn a_rollback_is_answered_when_every_branch_is_undone() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    case.branch(&xid, "b", "1");
    let effects = case.rollback_waiting(&xid, ASKS, 5_000);
    assert_eq!(replies(&effects), [""; 0]);
    let [first, second] = &works(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(replies(&case.answer(first, WorkOutcome::Done)), [""; 0]);
    assert_eq!(case.core.stats().rollback_waiters, 1);
    let effects = case.answer(second, WorkOutcome::Done);
    let [Effect::Reply(to, Ok(Reply::Transaction(view)))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((*to, view.status, view.pending_count), (ASKS, Status::RolledBack, 0));
    assert_eq!(case.core.stats().rollback_waiters, 0);
    assert_eq!(replies(&case.pass(5_000)), [""; 0]);
    // What is done, or has no branches, is not waited for.
    assert_eq!(replies(&case.rollback_waiting(&xid, ASKS, 5_000)), ["rolled_back"]);
    let empty = case.begin();
    assert_eq!(replies(&case.rollback_waiting(&empty, ASKS, 5_000)), ["rolled_back"]);
}

#[test]
fn a_rollback_that_takes_too_long_is_answered_with_what_is_left() {
    let mut case = Case::new(Config { rollback_wait_ms: 700, ..Config::default() });
    let xid = case.begin();
    let left: Vec<_> = (0..12).map(|key| case.branch(&xid, "a", &key.to_string())).collect();
    case.event(Event::Rollback { to: ASKS, xid: xid.to_string(), wait_ms: None });
    assert_eq!(replies(&case.pass(699)), [""; 0]);
    let effects = case.pass(1);
    let [Effect::Reply(to, Ok(Reply::Transaction(view)))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((*to, view.status, view.pending_count), (ASKS, Status::RollingBack, 12));
    let named: Vec<_> = view.pending.iter().map(|branch| branch.branch_id).collect();
    assert_eq!(named, left.iter().rev().take(10).copied().collect::<Vec<_>>());
    let too_long =
        Event::Rollback { to: ASKS, xid: xid.to_string(), wait_ms: Some(MAX_ROLLBACK_WAIT_MS + 1) };
    assert_eq!(replies(&case.event(too_long)), ["Invalid"]);
}

#[test]
fn a_branch_that_cannot_be_undone_ends_the_wait() {
    let mut case = Case::new(Config::default());
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    case.branch(&xid, "b", "1");
    let effects = case.rollback_waiting(&xid, ASKS, 5_000);
    let work = works(&effects).into_iter().find(|work| &*work.resource == "a").unwrap();
    assert_eq!(replies(&case.answer(&work, WorkOutcome::Conflict)), ["rollback_failed"]);
    // Asked for again it is tried again, and that is what is waited for.
    let effects = case.rollback_waiting(&xid, ASKS, 5_000);
    assert_eq!(replies(&effects), [""; 0]);
    let again = only_work(&effects, WorkKind::Rollback);
    assert_eq!(replies(&case.answer(&again, WorkOutcome::Conflict)), ["rollback_failed"]);
    assert_eq!(case.core.stats().rollback_waiters, 0);
}

#[test]
fn nobody_waits_for_a_rollback_who_has_gone() {
    let limits = Limits { max_rollback_waiters: 2, ..Limits::default() };
    let mut case = Case::new(Config { limits, ..Config::default() });
    let xid = case.begin();
    case.branch(&xid, "a", "1");
    let stream = StreamId(7);
    case.event(Event::StreamUp { stream, resources: Vec::new() });
    let of_stream = |id| ReplyTo::Stream(stream, id);
    case.rollback_waiting(&xid, ASKS, 5_000);
    case.rollback_waiting(&xid, of_stream(1), 5_000);
    assert_eq!(replies(&case.rollback_waiting(&xid, of_stream(1), 5_000)), ["Invalid"]);
    assert_eq!(replies(&case.rollback_waiting(&xid, of_stream(2), 5_000)), ["rolling_back"], "the limit");
    case.event(Event::CancelRollbackWait { to: ASKS });
    assert_eq!(case.core.stats().rollback_waiters, 1);
    case.event(Event::Cancel { stream, id: 1 });
    assert_eq!(case.core.stats().rollback_waiters, 0);
    case.rollback_waiting(&xid, of_stream(3), 5_000);
    case.event(Event::StreamDown { stream });
    assert_eq!(case.core.stats().rollback_waiters, 0);
    assert_eq!(replies(&case.pass(10_000)), [""; 0]);
}
