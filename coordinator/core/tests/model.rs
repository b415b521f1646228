//! Random sequences of events against a simple model. The seed is printed; `ATONE_SEED` repeats one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use atone_core::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const START_MS: u64 = 1_700_000_000_000;

/// `bulk_locks_min` is small: every way in which the lock table keeps locks is to be taken.
fn config(bulk_locks_min: usize) -> Config {
    Config {
        bulk_locks_min,
        default_timeout_ms: 5_000,
        rollback_retry_interval_ms: 2_000,
        branch_report_timeout_ms: 300,
        report_delay_ms: 150,
        limits: Limits { max_history: 40, max_purge_batch: 3, max_work_in_flight: 2, ..Limits::default() },
        ..Config::default()
    }
}

fn bulk_locks_min(seed: u64) -> usize {
    [1, 2, 3, usize::MAX][seed as usize % 4]
}

/// What the servers hold of a branch: the truth that phase two works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    Open,
    Committed,
    RolledBack,
    Undone,
    /// Undone, and what was left of its undo row is deleted.
    Swept,
    Marked,
    Purged,
    /// Committed, and then its undo row was deleted by hand.
    Lost,
    /// The same, and a marker is there instead.
    LostMarked,
    /// Committed, and a marker is there instead of its undo row since an operator wanted it so.
    Kept,
}

struct World {
    rng: StdRng,
    bulk_locks_min: usize,
    now_ms: u64,
    core: Core,
    /// All that was made durable.
    records: Records,
    next_stream: u64,
    streams: Vec<StreamId>,
    next_id: u64,
    xids: Vec<Xid>,
    locals: BTreeMap<(String, u64), Local>,
    /// The branches of open local transactions and those that did not report.
    unreported: BTreeSet<(String, u64)>,
    /// What the proxies report, until it is confirmed.
    reports: BTreeMap<(String, u64), Outcome>,
    /// Committed branches whose reports were confirmed: known for ever.
    confirmed: BTreeSet<(String, u64)>,
    /// What an operator decided about.
    given_up: BTreeSet<(String, u64)>,
    works: Vec<(StreamId, Work)>,
    /// Final answers that somebody was given.
    told: HashMap<String, Status>,
    registering: HashMap<u64, (StreamId, String)>,
    /// By registration.
    registered: HashMap<u64, (String, u64)>,
    branch_ids: BTreeSet<u64>,
    answered: BTreeSet<ReplyTo>,
    waits_ended: u64,
    /// The last look at local waits that was asked for.
    last_look: u64,
    /// Refusals for a deadlock that goes through a server.
    local_deadlocks: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let (core, step) =
            Core::recover(config(bulk_locks_min(seed)), "test", Records::default(), START_MS).unwrap();
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            bulk_locks_min: bulk_locks_min(seed),
            now_ms: START_MS,
            core,
            records: Records::default(),
            next_stream: 1,
            streams: Vec::new(),
            next_id: 1,
            xids: Vec::new(),
            locals: BTreeMap::new(),
            unreported: BTreeSet::new(),
            reports: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            given_up: BTreeSet::new(),
            works: Vec::new(),
            told: HashMap::new(),
            registering: HashMap::new(),
            registered: HashMap::new(),
            branch_ids: BTreeSet::new(),
            answered: BTreeSet::new(),
            waits_ended: 0,
            last_look: 0,
            local_deadlocks: 0,
        };
        world.take(step);
        world
    }

    fn event(&mut self, event: Event) {
        let step = self.core.handle(self.now_ms, event);
        self.take(step);
    }

    fn take(&mut self, step: Step) {
        assert_eq!(step.violations, []);
        for change in &step.persist {
            self.records.apply(change);
        }
        // What should be durable is durable, after every step.
        assert_eq!(self.records, self.core.records());
        self.check_locks();
        self.check_counts();
        self.check_slices();
        for effect in step.effects {
            self.effect(effect);
        }
    }

    /// No two transactions hold the same lock, and nobody holds one after the end.
    fn check_locks(&self) {
        let filter = LockFilter { limit: usize::MAX, ..LockFilter::default() };
        let mut holders: HashMap<String, Xid> = HashMap::new();
        let locks = self.core.locks(&filter).items;
        assert_eq!(locks.len(), self.core.stats().locks);
        for lock in locks {
            let name = format!("{} {} {}", lock.resource, lock.table, lock.key);
            let holder = holders.entry(name).or_insert_with(|| lock.xid.clone());
            assert_eq!(*holder, lock.xid);
        }
    }

    /// What is counted while it changes is what there is.
    fn check_counts(&self) {
        let filter = TransactionFilter { limit: usize::MAX, ..TransactionFilter::default() };
        let all = self.core.transactions(&filter).unwrap().items;
        for (status, count) in self.core.stats().transactions {
            assert_eq!(all.iter().filter(|view| view.status == status).count(), count, "{status}");
            let filter = TransactionFilter { status: Some(status), limit: 2, ..TransactionFilter::default() };
            let expected: Vec<_> = all.iter().filter(|view| view.status == status).take(2).collect();
            let (mut rest, mut found) = (filter.clone(), Vec::new());
            let page = loop {
                match self.core.transactions_slice(&rest, found, 1).unwrap() {
                    Slice::Page(page) => break page,
                    Slice::Unfinished(so_far, after) => {
                        (found, rest.after) = (so_far, Some(after.to_string()));
                    }
                }
            };
            assert_eq!(page.items.iter().collect::<Vec<_>>(), expected);
            assert_eq!(page.next.is_some(), count > 2, "{status}");
        }
    }

    /// A list of locks is the same however little is looked at a time, and so are its pages.
    fn check_slices(&self) {
        let all = self.core.locks(&LockFilter { limit: usize::MAX, ..LockFilter::default() }).items;
        let Some(middle) = all.get(all.len() / 2) else { return };
        let one = LockFilter { limit: 3, ..LockFilter::default() };
        let filters = [
            one.clone(),
            LockFilter { table: Some(middle.table.to_string()), ..one.clone() },
            LockFilter { resource: Some(middle.resource.to_string()), ..one.clone() },
            LockFilter { xid: Some(middle.xid.to_string()), ..one.clone() },
            LockFilter { xid: Some(middle.xid.to_string()), after: Some(LockCursor(0, 0, 0)), ..one },
        ];
        for (filter, steps) in filters.into_iter().zip([1, 2, 1, 3, 1]) {
            let wanted = |lock: &&LockView| {
                filter.table.as_ref().is_none_or(|table| **table == *lock.table)
                    && filter.resource.as_ref().is_none_or(|resource| **resource == *lock.resource)
                    && filter.xid.as_ref().is_none_or(|xid| *xid == *lock.xid.as_str())
            };
            let expected: Vec<_> = all.iter().filter(wanted).cloned().collect();
            let (mut pages, mut seen) = (filter.clone(), Vec::new());
            loop {
                let (mut rest, mut found) = (pages.clone(), Vec::new());
                let page = loop {
                    match self.core.locks_slice(&rest, found, steps) {
                        Slice::Page(page) => break page,
                        Slice::Unfinished(so_far, after) => (found, rest.after) = (so_far, Some(after)),
                    }
                };
                assert!(page.items.len() <= 3);
                seen.extend(page.items);
                pages.after = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected, "{filter:?}");
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Push(stream, work) => {
                assert!(self.streams.contains(&stream));
                assert!(!work.branches.is_empty(), "work for no branch");
                self.works.push((stream, work));
            }
            Effect::Look(stream, look) => {
                assert!(self.streams.contains(&stream) && look.number >= self.last_look);
                self.last_look = look.number;
            }
            Effect::Confirm(_, branches) => {
                for branch in branches {
                    let Some(key) = self.reports.keys().find(|key| key.1 == branch.0).cloned() else {
                        continue;
                    };
                    // One that comes when the branch was found absent already, its undo row having been deleted, is too
                    // late.
                    let is_undone =
                        self.records.branches.get(&branch.0).is_none_or(|record| is_undone(record.state));
                    if self.reports.remove(&key) == Some(Outcome::Committed) && !is_undone {
                        self.confirmed.insert(key);
                    }
                }
            }
            Effect::Reply(to, reply) => {
                assert!(self.answered.insert(to), "{to:?} was answered twice");
                match reply {
                    Ok(Reply::Registered(branch)) => {
                        let ReplyTo::Stream(_, id) = to else { panic!("registered on no stream") };
                        let (_, xid) = self.registering.remove(&id).unwrap();
                        assert!(self.branch_ids.insert(branch.0), "branch {branch} was given twice");
                        assert!(self.branch_ids.last() == Some(&branch.0), "branch ids fell");
                        self.locals.insert((xid.clone(), branch.0), Local::Open);
                        self.registered.insert(id, (xid.clone(), branch.0));
                        self.unreported.insert((xid, branch.0));
                    }
                    Ok(Reply::Transaction(view)) => self.tell(&view),
                    // Only when it is done.
                    Ok(Reply::Branch(view)) => {
                        assert!(matches!(view.status, BranchStatus::Resolved | BranchStatus::RolledBack));
                    }
                    Err(refusal) => {
                        self.waits_ended += u64::from(matches!(
                            refusal.code,
                            RefusalCode::LockTimeout | RefusalCode::LockDeadlock
                        ));
                        if refusal.message.contains("at the server of") {
                            assert_eq!(refusal.code, RefusalCode::LockDeadlock);
                            self.local_deadlocks += 1;
                        }
                        if let ReplyTo::Stream(_, id) = to {
                            self.registering.remove(&id);
                        }
                    }
                }
            }
        }
    }

    /// One decision only: what was told stays true.
    fn tell(&mut self, view: &TransactionView) {
        let outcome = match view.status {
            Status::Active | Status::Committing => return,
            Status::Committed => Status::Committed,
            _ => Status::RolledBack,
        };
        let told = *self.told.entry(view.xid.to_string()).or_insert(outcome);
        assert_eq!(told, outcome, "{} was told to be {told} and is {outcome}", view.xid);
        if outcome == Status::Committed {
            for (key @ (xid, branch), local) in &self.locals {
                if *xid == view.xid.as_str() {
                    // A marker makes the local commit fail; where that was reported the application knows of it.
                    let fine = matches!(local, Local::Committed | Local::Purged | Local::RolledBack)
                        || matches!(local, Local::Lost | Local::LostMarked)
                        || (*local == Local::Marked && !self.unreported.contains(key));
                    assert!(fine, "{xid} is committed, its branch {branch} is {local:?}");
                }
            }
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn connect(&mut self) {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.push(stream);
        self.event(Event::StreamUp { stream, resources: vec!["r0".into(), "r1".into()] });
        for ((xid, branch), outcome) in self.reports.clone() {
            self.event(Event::Report { stream, xid, branch: BranchId(branch), outcome });
        }
    }

    fn disconnect(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.streams.len());
        self.break_stream(self.streams[index]);
    }

    fn break_stream(&mut self, stream: StreamId) {
        // What is due is done while the stream is still taken to be there.
        self.event(Event::Tick);
        self.streams.retain(|other| *other != stream);
        self.works.retain(|(owner, _)| *owner != stream);
        // Nobody is there to be answered.
        self.registering.retain(|_, (owner, _)| *owner != stream);
        self.event(Event::StreamDown { stream });
    }

    fn crash(&mut self) {
        let before = self.records.clone();
        let (core, step) =
            Core::recover(config(self.bulk_locks_min), "test", before.clone(), self.now_ms).unwrap();
        self.core = core;
        self.streams.clear();
        self.works.clear();
        self.registering.clear();
        if self.rng.random_bool(0.2) {
            // The proxies were killed as well.
            self.reports.clear();
        }
        self.take(step);
        // Nothing but the counters and what was too old has changed.
        assert_eq!(self.records.branches, before.branches.clone());
        assert_eq!(self.records.locks, before.locks);
        assert!(self.records.counters.boot == before.counters.boot + 1);
    }

    /// A proxy tells some waits at a server, as they might be.
    fn tell_waits(&mut self) {
        let Some(stream) = self.streams.choose(&mut self.rng).copied() else { return };
        let mut report = LocalWaitReport {
            resource: format!("r{}", self.rng.random_range(0..2)).as_str().into(),
            look: if self.rng.random_bool(0.8) { self.last_look } else { 0 },
            waits: Vec::new(),
            bound: Vec::new(),
        };
        // The connection of each is its place in the list.
        for (at, xid) in (0..).zip(&self.xids) {
            report.bound.push((at, xid.to_string()));
            if self.rng.random_bool(0.7) {
                let blocker_id = self.rng.random_range(0..8);
                report.waits.push(LocalWait {
                    xid: xid.to_string(),
                    connection_id: at,
                    blocker_id,
                    wait: String::new(),
                });
            }
        }
        self.event(Event::LocalWaits { stream, report: report.clone() });
        report.look = self.last_look;
        self.event(Event::LocalWaits { stream, report });
    }

    fn register(&mut self) {
        let (Some(xid), Some(stream)) =
            (self.xids.choose(&mut self.rng).cloned(), self.streams.choose(&mut self.rng).copied())
        else {
            return;
        };
        let count = self.rng.random_range(1..4);
        let keys = (0..count).map(|_| self.rng.random_range(0..6).to_string()).collect();
        let resource = format!("r{}", self.rng.random_range(0..2));
        let id = self.id();
        let request = RegisterRequest {
            xid: xid.to_string(),
            resource: resource.as_str().into(),
            schema: "s".into(),
            locks: Arc::new(LockSet::new([("s.t".to_owned(), keys)])),
            wait_timeout_ms: self.rng.random_range(0..3) * 500,
        };
        self.registering.insert(id, (stream, xid.to_string()));
        self.event(Event::Register { stream, id, request });
        if self.rng.random_bool(0.05) {
            self.event(Event::Cancel { stream, id });
            self.registering.remove(&id);
            // A branch that was registered at once is aborted: the client never began its local commit.
            if let Some(branch) = self.registered.get(&id).cloned() {
                assert!(!self.records.branches.contains_key(&branch.1));
                self.unreported.remove(&branch);
                self.locals.insert(branch, Local::RolledBack);
            }
        }
    }

    /// A local transaction ends, and mostly the end is reported.
    fn local_end(&mut self) {
        let keys: Vec<_> = self.unreported.iter().cloned().collect();
        let Some(key) = keys.choose(&mut self.rng).cloned() else { return };
        if self.locals[&key] == Local::Open {
            let commits = self.rng.random_bool(0.9);
            self.locals.insert(key.clone(), if commits { Local::Committed } else { Local::RolledBack });
        }
        if self.rng.random_bool(0.1) {
            return;
        }
        self.unreported.remove(&key);
        let outcome = match self.locals[&key] {
            Local::Open | Local::RolledBack | Local::Marked => Outcome::Aborted,
            _ => Outcome::Committed,
        };
        self.reports.insert(key.clone(), outcome);
        if let Some(stream) = self.streams.choose(&mut self.rng).copied() {
            self.event(Event::Report { stream, xid: key.0, branch: BranchId(key.1), outcome });
        }
    }

    /// Somebody deletes the undo row of a branch by hand.
    fn tamper(&mut self) {
        let there: Vec<_> = self.locals.iter().filter(|(_, local)| **local == Local::Committed).collect();
        let Some(key) = there.choose(&mut self.rng).map(|(key, _)| (*key).clone()) else { return };
        self.locals.insert(key, Local::Lost);
    }

    /// An operator decides about branches that can't be undone: all that have stopped, or those without an undo row.
    fn resolve(&mut self, only_missing: bool) {
        let filter = TransactionFilter {
            status: Some(Status::RollbackFailed),
            limit: 100,
            ..TransactionFilter::default()
        };
        for transaction in self.core.transactions(&filter).unwrap().items {
            let xid = transaction.xid.to_string();
            for branch in self.core.transaction(&xid).unwrap().branches {
                let is_stopped = branch.status == BranchStatus::RollbackFailed;
                if is_stopped && (!only_missing || branch.detail.contains("undo_missing")) {
                    self.given_up.insert((xid.clone(), branch.branch_id.0));
                    let to = ReplyTo::Call(self.id());
                    let (xid, branch) = (xid.clone(), branch.branch_id);
                    self.event(Event::KeepCurrent { to, xid, branch, by: "me".into(), dry_run: false });
                }
            }
        }
    }

    fn do_work(&mut self) {
        if self.works.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.works.len());
        let (stream, work) = self.works.remove(index);
        let fails = self.rng.random_bool(0.2);
        let key = (work.branches[0].xid.to_string(), work.branches[0].id.0);
        let has_record = self.locals.get(&key) == Some(&Local::Committed);
        let outcome = if fails && has_record && work.kind == WorkKind::Rollback && self.rng.random_bool(0.5) {
            WorkOutcome::Conflict
        } else if fails {
            *[WorkOutcome::Retry, WorkOutcome::Stuck, WorkOutcome::Unknown].choose(&mut self.rng).unwrap()
        } else {
            self.execute(&work)
        };
        // Sometimes the answer gets lost with its stream.
        if self.rng.random_bool(0.05) {
            self.break_stream(stream);
        } else {
            self.event(Event::WorkResult { stream, work_id: work.work_id, outcome, detail: "{}".into() });
        }
    }

    /// What a proxy does, as far as it matters here.
    fn execute(&mut self, work: &Work) -> WorkOutcome {
        let mut outcome = WorkOutcome::Done;
        for WorkBranch { xid, id: branch, leftover } in &work.branches {
            let key = (xid.to_string(), branch.0);
            // Branches registered just before a stream broke are unknown to the client: they never commit.
            let local = self.locals.entry(key.clone()).or_insert(Local::Open);
            match (work.kind, *local) {
                (WorkKind::Purge, Local::Committed | Local::Purged | Local::Lost | Local::LostMarked) => {
                    assert_eq!(*leftover, Leftover::Record);
                    *local = Local::Purged;
                }
                (WorkKind::Purge, Local::Undone | Local::Swept) => {
                    assert_eq!(*leftover, Leftover::Restored);
                    // Only when the outcome can't be forgotten any more: a second try would find nothing.
                    let record = self.records.branches.get(&branch.0);
                    assert!(record.is_none_or(|record| is_undone(record.state)), "{key:?}");
                    *local = Local::Swept;
                }
                (WorkKind::Purge, other) => panic!("purge of {key:?}, which is {other:?}"),
                (WorkKind::Keep, Local::Committed | Local::Kept) => {
                    // The decision can't be forgotten any more.
                    let record = self.records.branches.get(&branch.0);
                    assert!(record.is_none_or(|record| record.resolution.is_some()), "{key:?}");
                    *local = Local::Kept;
                    outcome = WorkOutcome::Absent;
                }
                (WorkKind::Keep, Local::Undone) => {}
                (_, Local::Kept) => outcome = WorkOutcome::Absent,
                (_, Local::Lost | Local::LostMarked) => {
                    *local = Local::LostMarked;
                    outcome = WorkOutcome::Absent;
                }
                (WorkKind::Check, Local::Committed) => outcome = WorkOutcome::Committed,
                (WorkKind::Rollback, Local::Committed) => {
                    // Later branches of the transaction on the resource have to be undone before.
                    let later = self.records.branches.values().filter(|other| {
                        other.branch_id > branch.0
                            && other.resource == work.resource
                            && self.records.transactions[&other.seq].xid == *xid
                    });
                    for other in later {
                        assert!(is_undone(other.state), "{key:?} is undone before {other:?}");
                    }
                    *local = Local::Undone;
                }
                // A check that was withdrawn when the report came, and is done much later.
                (WorkKind::Check, Local::Purged) => outcome = WorkOutcome::Absent,
                (WorkKind::Rollback | WorkKind::Keep, Local::Purged) => {
                    panic!("{:?} of {key:?}, which is purged", work.kind)
                }
                (WorkKind::Rollback, Local::Undone) => {}
                (WorkKind::Check, Local::Undone) => outcome = WorkOutcome::Stuck,
                // Work that was given to another since, and is done much later: its answer says nothing.
                (_, Local::Swept) => outcome = WorkOutcome::Absent,
                (_, Local::Marked) => outcome = WorkOutcome::Absent,
                (_, Local::Open | Local::RolledBack) => {
                    *local = Local::Marked;
                    outcome = WorkOutcome::Absent;
                }
            }
        }
        outcome
    }

    fn act(&mut self) {
        let to = ReplyTo::Call(self.id());
        match self.rng.random_range(0..100) {
            0..12 => {
                self.event(Event::Begin { to, name: "n".into(), timeout_ms: 0 });
                let filter = TransactionFilter { limit: 1, ..TransactionFilter::default() };
                let newest = self.core.transactions(&filter).unwrap().items[0].xid.clone();
                if self.xids.last() != Some(&newest) {
                    assert!(!self.xids.contains(&newest), "{newest} was given twice");
                    self.xids.push(newest);
                    if self.xids.len() > 8 {
                        self.xids.remove(0);
                    }
                }
            }
            12..40 => self.register(),
            40..60 => self.local_end(),
            60..79 => self.do_work(),
            79 => self.tell_waits(),
            80..86 => {
                if let Some(xid) = self.xids.choose(&mut self.rng).map(Xid::to_string) {
                    self.event(Event::Commit { to, xid });
                }
            }
            86..89 => {
                if let Some(xid) = self.xids.choose(&mut self.rng).map(Xid::to_string) {
                    let wait_ms = [None, Some(0), Some(300)].choose(&mut self.rng).copied().flatten();
                    self.event(Event::Rollback { to, xid, wait_ms });
                    if self.rng.random_bool(0.1) {
                        self.event(Event::CancelRollbackWait { to });
                    }
                }
            }
            89..91 => {
                if let Some(xid) = self.xids.choose(&mut self.rng).map(Xid::to_string) {
                    self.event(Event::Get { to, xid });
                }
            }
            91..93 if self.streams.len() < 3 => self.connect(),
            93 => self.disconnect(),
            95 if self.rng.random_bool(0.3) => self.tamper(),
            96 if self.rng.random_bool(0.3) => self.resolve(false),
            94 if self.rng.random_bool(0.2) => self.crash(),
            _ => {
                self.now_ms += self.rng.random_range(0..400);
                self.event(Event::Tick);
            }
        }
    }

    /// Lets everything come to its end and looks at what is left.
    fn drain(&mut self) {
        // One that reports what the others could not.
        self.connect();
        for _ in 0..100_000 {
            if self.core.stats().transactions.iter().all(|(status, count)| {
                *count == 0 || matches!(status, Status::Committed | Status::RolledBack)
            }) && self.core.stats().purge_waiting == 0
                && self.core.stats().work_outstanding == 0
            {
                break;
            }
            if let Some((stream, work)) = self.works.pop() {
                let outcome = self.execute(&work);
                let event =
                    Event::WorkResult { stream, work_id: work.work_id, outcome, detail: String::new() };
                self.event(event);
            } else {
                // What has stopped waits for an operator.
                let failed = TransactionFilter {
                    status: Some(Status::RollbackFailed),
                    limit: 100,
                    ..TransactionFilter::default()
                };
                for transaction in self.core.transactions(&failed).unwrap().items {
                    let to = ReplyTo::Call(self.id());
                    let xid = transaction.xid.to_string();
                    self.event(Event::Rollback { to, xid, wait_ms: None });
                }
                self.resolve(true);
                if self.works.is_empty() {
                    self.now_ms = self.core.next_at_ms().expect("something is to be done").max(self.now_ms);
                    self.event(Event::Tick);
                }
            }
        }
        let stats = self.core.stats();
        let left = self.records.branches.values().find(|branch| branch.state == BranchState::Restored);
        assert!(left.is_none(), "a restored undo row is never deleted: {left:?}");
        assert_eq!(stats.locks, 0, "{stats:?}");
        assert_eq!(stats.waiters, 0, "{stats:?}");
        assert!(self.registering.is_empty(), "unanswered: {:?}", self.registering);
        for (key @ (xid, branch), local) in &self.locals {
            match self.told.get(xid) {
                Some(Status::Committed) => {
                    assert!(
                        !matches!(local, Local::Undone | Local::Swept | Local::Open | Local::Kept),
                        "{xid} {branch} {local:?}"
                    );
                    assert!(
                        *local != Local::Marked || !self.unreported.contains(key),
                        "{xid} {branch} is marked"
                    );
                }
                Some(_) => {
                    assert!(!matches!(local, Local::Committed | Local::Purged), "{xid} {branch} {local:?}");
                    // No change is left after a rollback but by an operator's word, or where nobody could know of it.
                    let stays = *local == Local::Kept
                        || (matches!(local, Local::Lost | Local::LostMarked) && self.confirmed.contains(key));
                    assert!(
                        !stays || self.given_up.contains(key),
                        "{xid} {branch} {local:?}: nobody gave it up"
                    );
                }
                None => {}
            }
        }
    }
}

fn is_undone(state: BranchState) -> bool {
    matches!(state, BranchState::Restored | BranchState::RolledBack)
}

fn run(seed: u64, steps: usize) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.connect();
    for _ in 0..steps {
        world.act();
    }
    world.drain();
    world
}

#[test]
fn random_events_keep_the_promises() {
    if let Ok(seed) = std::env::var("ATONE_SEED") {
        run(seed.parse().unwrap(), 3_000);
        return;
    }
    let base: u64 = rand::rng().random_range(0..1_000_000_000);
    let (mut branches, mut told, mut waits, mut local, mut given_up, mut lost) = (0, 0, 0, 0, 0, 0);
    for offset in 0..60 {
        let world = run(base + offset, 1_500);
        branches += world.branch_ids.len();
        told += world.told.len();
        waits += world.waits_ended;
        local += world.local_deadlocks;
        given_up += world.given_up.len();
        lost +=
            world.given_up.iter().filter(|key| world.locals.get(*key) == Some(&Local::LostMarked)).count();
    }
    // The walk went where it should.
    assert!(branches > 1_000 && told > 300 && waits > 100 && local > 10, "{branches} {told} {waits} {local}");
    assert!(given_up > 10 && lost > 3, "{given_up} {lost}");
}

/// A crash after any step: what is durable then is enough to start from, and to start from again.
#[test]
fn recovery_works_at_any_prefix() {
    let seed: u64 = rand::rng().random_range(0..1_000_000_000);
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.connect();
    for _ in 0..600 {
        world.act();
        let (core, step) =
            Core::recover(config(world.bulk_locks_min), "test", world.records.clone(), world.now_ms).unwrap();
        let mut records = world.records.clone();
        step.persist.iter().for_each(|change| records.apply(change));
        assert_eq!(core.records(), records);
        assert!(step.effects.is_empty());
    }
}
