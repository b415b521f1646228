//! The lock table by itself.

use super::*;

fn set(keys: &[&str]) -> Arc<LockSet> {
    Arc::new(LockSet::new([("s.t".to_owned(), keys.iter().map(|key| (*key).to_owned()).collect())]))
}

fn resource() -> Arc<str> {
    "r".into()
}

/// Asks for locks and expects to wait.
fn wait(table: &mut LockTable, seq: u64, keys: &[&str]) -> u64 {
    match table.acquire(seq, &resource(), &set(keys), true) {
        (Acquire::Waiting(waiter), woken) if woken.is_empty() => waiter,
        other => panic!("{seq} did not wait for {keys:?}: {other:?}"),
    }
}

fn take(table: &mut LockTable, seq: u64, keys: &[&str]) {
    assert_eq!(
        table.acquire(seq, &resource(), &set(keys), true),
        (Acquire::Granted, vec![]),
        "{seq} {keys:?}"
    );
}

#[test]
fn a_transaction_shares_its_locks_until_the_last_branch_lets_go() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a", "b"]);
    take(&mut table, 1, &["a"]);
    let waiter = wait(&mut table, 2, &["a"]);
    assert_eq!(table.release(1, &resource(), &set(&["a", "b"])), vec![]);
    assert_eq!(table.held(), 1);
    assert_eq!(table.release(1, &resource(), &set(&["a"])), vec![Woken::Granted(waiter)]);
}

#[test]
fn resources_and_tables_are_apart() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    assert!(matches!(table.acquire(2, &"other".into(), &set(&["a"]), false).0, Acquire::Granted));
    let other = Arc::new(LockSet::new([("s.u".to_owned(), vec!["a".to_owned()])]));
    assert!(matches!(table.acquire(2, &resource(), &other, false).0, Acquire::Granted));
    assert!(matches!(table.acquire(2, &resource(), &set(&["a"]), false).0, Acquire::Busy(_)));
}

#[test]
fn nothing_is_held_while_waiting() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    take(&mut table, 9, &["x"]);
    let both = wait(&mut table, 2, &["a", "b"]);
    // A holder may take what nobody has; somebody without locks comes after those that wait.
    take(&mut table, 9, &["b"]);
    let later = wait(&mut table, 3, &["b"]);
    assert_eq!(table.release(1, &resource(), &set(&["a"])), vec![]);
    assert_eq!(table.release(9, &resource(), &set(&["b"])), vec![Woken::Granted(both)]);
    assert_eq!(table.release(2, &resource(), &set(&["a", "b"])), vec![Woken::Granted(later)]);
}

#[test]
fn waiters_go_in_the_order_of_arrival() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    let waiters: Vec<u64> = (2..6).map(|seq| wait(&mut table, seq, &["a"])).collect();
    for (index, waiter) in waiters.iter().enumerate() {
        let holder = index as u64 + 1;
        assert_eq!(table.release(holder, &resource(), &set(&["a"])), vec![Woken::Granted(*waiter)]);
    }
    assert_eq!(table.release(5, &resource(), &set(&["a"])), vec![]);
    assert!(table.tables.is_empty() && table.owners.is_empty() && table.waiters.is_empty());
}

#[test]
fn a_newcomer_does_not_overtake_one_who_waits_for_more() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    let first = wait(&mut table, 2, &["a", "b"]);
    let second = wait(&mut table, 3, &["b"]);
    assert_eq!(table.cancel_all(&[first]), vec![Woken::Granted(second)]);
}

#[test]
fn a_cycle_of_two_is_a_deadlock() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    take(&mut table, 2, &["b"]);
    wait(&mut table, 1, &["b"]);
    assert!(
        matches!(table.acquire(2, &resource(), &set(&["a"]), true).0, Acquire::Deadlock(c) if c.holder == 1)
    );
}

#[test]
fn a_cycle_of_three_is_a_deadlock() {
    let mut table = LockTable::new(2_000);
    for (seq, key) in [(1, "a"), (2, "b"), (3, "c")] {
        take(&mut table, seq, &[key]);
    }
    wait(&mut table, 1, &["b"]);
    wait(&mut table, 2, &["c"]);
    assert!(matches!(table.acquire(3, &resource(), &set(&["a"]), true).0, Acquire::Deadlock(_)));
}

#[test]
fn a_cycle_that_a_grant_closes_is_found() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    take(&mut table, 3, &["c"]);
    // 2 has two requests under way and holds nothing; 3 waits after it for a.
    let granted = wait(&mut table, 2, &["a"]);
    let victim = wait(&mut table, 2, &["c"]);
    wait(&mut table, 3, &["a"]);
    let woken = table.release(1, &resource(), &set(&["a"]));
    assert!(woken.contains(&Woken::Granted(granted)), "{woken:?}");
    assert!(woken.iter().any(|w| matches!(w, Woken::Deadlock(w, _) if *w == victim)), "{woken:?}");
}

#[test]
fn nobody_waits_for_a_transaction_that_is_being_rolled_back() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a", "b"]);
    let victim = wait(&mut table, 2, &["a"]);
    let woken = table.start_rollback(1, &[(resource(), set(&["a", "b"]))]);
    assert!(matches!(woken[..], [Woken::Deadlock(waiter, _)] if waiter == victim));
    assert!(matches!(table.acquire(3, &resource(), &set(&["b"]), true).0, Acquire::Deadlock(_)));
    table.release(1, &resource(), &set(&["a", "b"]));
    take(&mut table, 3, &["b"]);
}

#[test]
fn what_is_not_held_or_does_not_wait_is_a_violation() {
    let mut table = LockTable::new(2_000);
    take(&mut table, 1, &["a"]);
    table.release(1, &resource(), &set(&["a"]));
    assert_eq!(table.take_violations(), []);
    table.release(1, &resource(), &set(&["a"]));
    take(&mut table, 2, &["a", "b"]);
    table.release(1, &resource(), &set(&["b"]));
    table.cancel_all(&[0]);
    let texts: Vec<String> = table.take_violations().iter().map(ToString::to_string).collect();
    let expected = [
        "transaction 0x1 held 0 of its 1 locks on s.t",
        "transaction 0x1 held 0 of its 1 locks on s.t",
        "request 0 is taken out, and is not in the queues",
    ];
    assert_eq!((texts.as_slice(), table.held()), (expected.map(str::to_owned).as_slice(), 2));
}

#[test]
fn a_hundred_thousand_locks_are_no_matter() {
    let mut table = LockTable::new(2_000);
    let keys: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let locks = Arc::new(LockSet::new([("s.t".to_owned(), keys)]));
    assert_eq!(table.acquire(1, &resource(), &locks, true).0, Acquire::Granted);
    assert_eq!(table.held(), 100_000);
    let waiter = wait(&mut table, 2, &["99999"]);
    assert_eq!(table.release(1, &resource(), &locks), vec![Woken::Granted(waiter)]);
    assert_eq!(table.held(), 1);
}

/// What an answer says, but for which of several locks in the way it names.
fn outline(answer: &(Acquire, Vec<Woken>)) -> (String, Vec<String>) {
    let acquired = match &answer.0 {
        Acquire::Granted => "granted".to_owned(),
        Acquire::Waiting(waiter) => format!("waiting as {waiter}"),
        Acquire::Busy(_) => "busy".to_owned(),
        Acquire::Deadlock(_) => "deadlock".to_owned(),
    };
    (acquired, woken_outline(&answer.1))
}

fn woken_outline(woken: &[Woken]) -> Vec<String> {
    let text = |woken: &Woken| match woken {
        Woken::Granted(waiter) => format!("{waiter} granted"),
        Woken::Deadlock(waiter, _) => format!("{waiter} deadlock"),
    };
    let mut woken: Vec<_> = woken.iter().map(text).collect();
    woken.sort();
    woken
}

/// Two tables that are asked the same, one of which keeps no set whole.
struct Pair {
    bulks: LockTable,
    plain: LockTable,
    /// By transaction: what it holds, branch by branch.
    held: BTreeMap<u64, Vec<Arc<LockSet>>>,
    waiting: BTreeMap<u64, (u64, Arc<LockSet>)>,
}

impl Pair {
    fn finish_waits(&mut self, bulks: &[Woken], plain: &[Woken]) {
        assert_eq!(woken_outline(bulks), woken_outline(plain));
        for woken in plain {
            match woken {
                Woken::Granted(waiter) => {
                    let (seq, locks) = self.waiting.remove(waiter).unwrap();
                    self.held.entry(seq).or_default().push(locks);
                }
                Woken::Deadlock(waiter, _) => drop(self.waiting.remove(waiter).unwrap()),
            }
        }
    }

    fn acquire(&mut self, seq: u64, locks: &Arc<LockSet>, may_wait: bool) {
        let bulks = self.bulks.acquire(seq, &resource(), locks, may_wait);
        let plain = self.plain.acquire(seq, &resource(), locks, may_wait);
        assert_eq!(outline(&bulks), outline(&plain), "{seq} {locks:?}");
        for (table, answer) in [(&self.bulks, &bulks), (&self.plain, &plain)] {
            if let Acquire::Busy(conflict) | Acquire::Deadlock(conflict) = &answer.0 {
                // The lock that is named is one of those asked for.
                let mut groups = locks.groups.iter().filter(|group| group.table == conflict.table);
                assert!(groups.any(|group| group.keys.contains(&conflict.key)), "{table:?}");
            }
        }
        match plain.0 {
            Acquire::Granted => self.held.entry(seq).or_default().push(locks.clone()),
            Acquire::Waiting(waiter) => drop(self.waiting.insert(waiter, (seq, locks.clone()))),
            Acquire::Busy(_) | Acquire::Deadlock(_) => {}
        }
        self.finish_waits(&bulks.1, &plain.1);
    }

    fn release(&mut self, seq: u64, branch: usize) {
        let Some(branches) = self.held.get_mut(&seq) else { return };
        let locks = branches.remove(branch % branches.len());
        if branches.is_empty() {
            self.held.remove(&seq);
        }
        let bulks = self.bulks.release(seq, &resource(), &locks);
        let plain = self.plain.release(seq, &resource(), &locks);
        self.finish_waits(&bulks, &plain);
    }

    fn cancel(&mut self, waiters: &[u64]) {
        waiters.iter().for_each(|waiter| drop(self.waiting.remove(waiter)));
        let (bulks, plain) = (self.bulks.cancel_all(waiters), self.plain.cancel_all(waiters));
        self.finish_waits(&bulks, &plain);
    }

    /// A rollback from its decision to its end.
    fn roll_back(&mut self, seq: u64) {
        let own: Vec<u64> =
            self.waiting.iter().filter(|(_, (of, _))| *of == seq).map(|(waiter, _)| *waiter).collect();
        self.cancel(&own);
        let held = self.held.get(&seq).into_iter().flatten();
        let held: Vec<_> = held.map(|locks| (resource(), locks.clone())).collect();
        let (bulks, plain) = (self.bulks.start_rollback(seq, &held), self.plain.start_rollback(seq, &held));
        self.finish_waits(&bulks, &plain);
        while self.held.contains_key(&seq) {
            self.release(seq, 0);
        }
    }

    fn check(&self) {
        assert_eq!((&self.bulks.violations[..], &self.plain.violations[..]), (&[][..], &[][..]));
        let held: usize = self.held.values().flatten().map(|locks| locks.len()).sum();
        assert_eq!((self.bulks.held(), self.plain.held()), (held, held));
        assert_eq!((self.bulks.waiting(), self.plain.waiting()), (self.waiting.len(), self.waiting.len()));
        for waiter in self.waiting.keys() {
            assert_eq!(self.bulks.waits_for(*waiter), self.plain.waits_for(*waiter));
            assert!(self.bulks.conflict_of(*waiter).is_some() && self.plain.conflict_of(*waiter).is_some());
        }
    }
}

/// Whether sets are kept whole makes no difference to anybody: who is granted, waits, fails and is woken is the same.
#[test]
fn sets_that_are_kept_whole_lock_what_their_keys_lock() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let base: u64 = rand::rng().random_range(0..1_000_000_000);
    println!("seed {base}");
    let (mut waited, mut bulk_waiters, mut bulk_count) = (0, 0, 0);
    for run in 0..40 {
        let mut rng = StdRng::seed_from_u64(base + run);
        let bulk_min = [1, 2, 5, 20][rng.random_range(0..4)];
        let (most_keys, domain) = [(3, 8), (12, 60), (60, 400), (250, 1_000)][rng.random_range(0..4)];
        let mut pair = Pair {
            bulks: LockTable::new(bulk_min),
            plain: LockTable::new(usize::MAX),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        for _ in 0..200 {
            let seq = rng.random_range(1..9);
            match rng.random_range(0..10) {
                0..5 => {
                    let mut keys = |most: usize| {
                        let count = rng.random_range(0..=most);
                        (0..count).map(|_| rng.random_range(0..domain).to_string()).collect::<Vec<_>>()
                    };
                    let small = keys(2);
                    let tables = [("s.t".to_owned(), keys(most_keys)), ("s.u".to_owned(), small)];
                    let locks = Arc::new(LockSet::new(tables));
                    pair.acquire(seq, &locks, rng.random_bool(0.8));
                }
                5..8 => pair.release(seq, rng.random_range(0..4)),
                8 => {
                    let waiter = rng.random_range(0..pair.plain.next_waiter + 1);
                    if pair.waiting.contains_key(&waiter) {
                        pair.cancel(&[waiter]);
                    }
                }
                _ => pair.roll_back(seq),
            }
            pair.check();
            waited += pair.waiting.len();
            let tables = pair.bulks.tables.values();
            let (bulks, waiters) = tables.map(Table::bulk_counts).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            (bulk_count, bulk_waiters) = (bulk_count + bulks, bulk_waiters + waiters);
        }
        for seq in 1..9 {
            pair.roll_back(seq);
        }
        for table in [&pair.bulks, &pair.plain] {
            assert!(
                table.tables.is_empty() && table.owners.is_empty() && table.waiters.is_empty(),
                "{table:?}"
            );
        }
    }
    assert!(
        waited > 1_000 && bulk_waiters > 1_000 && bulk_count > 1_000,
        "{waited} {bulk_waiters} {bulk_count}"
    );
}

#[test]
fn many_large_sets_are_not_all_kept_whole() {
    let mut table = LockTable::new(128);
    let keys = |n: usize| (0..128).map(|key| format!("{n} {key}")).collect::<Vec<_>>();
    let sets: Vec<_> = (0..100).map(|n| Arc::new(LockSet::new([("s.t".to_owned(), keys(n))]))).collect();
    for (seq, locks) in (0..).zip(&sets) {
        assert_eq!(table.acquire(seq, &resource(), locks, false).0, Acquire::Granted);
    }
    let (bulks, _) = table.tables.values().map(Table::bulk_counts).next().unwrap();
    assert!(bulks > 32 && bulks < 80, "{bulks}");
    for (seq, locks) in (0..).zip(&sets) {
        assert!(
            matches!(table.acquire(200, &resource(), locks, false).0, Acquire::Busy(c) if c.holder == seq)
        );
        assert_eq!(table.release(seq, &resource(), locks), vec![]);
    }
    assert!(table.tables.is_empty() && table.held() == 0);
}
