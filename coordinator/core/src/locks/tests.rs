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
    let mut table = LockTable::default();
    take(&mut table, 1, &["a", "b"]);
    take(&mut table, 1, &["a"]);
    let waiter = wait(&mut table, 2, &["a"]);
    assert_eq!(table.release(1, &resource(), &set(&["a", "b"])), vec![]);
    assert_eq!(table.held(), 1);
    assert_eq!(table.release(1, &resource(), &set(&["a"])), vec![Woken::Granted(waiter)]);
}

#[test]
fn resources_and_tables_are_apart() {
    let mut table = LockTable::default();
    take(&mut table, 1, &["a"]);
    assert!(matches!(table.acquire(2, &"other".into(), &set(&["a"]), false).0, Acquire::Granted));
    let other = Arc::new(LockSet::new([("s.u".to_owned(), vec!["a".to_owned()])]));
    assert!(matches!(table.acquire(2, &resource(), &other, false).0, Acquire::Granted));
    assert!(matches!(table.acquire(2, &resource(), &set(&["a"]), false).0, Acquire::Busy(_)));
}

#[test]
fn nothing_is_held_while_waiting() {
    let mut table = LockTable::default();
    take(&mut table, 1, &["a"]);
    take(&mut table, 9, &["x"]);
    let both = wait(&mut table, 2, &["a", "b"]);
    // A holder may take what nobody has; somebody without locks stays behind.
    take(&mut table, 9, &["b"]);
    let later = wait(&mut table, 3, &["b"]);
    assert_eq!(table.release(1, &resource(), &set(&["a"])), vec![]);
    assert_eq!(table.release(9, &resource(), &set(&["b"])), vec![Woken::Granted(both)]);
    assert_eq!(table.release(2, &resource(), &set(&["a", "b"])), vec![Woken::Granted(later)]);
}

#[test]
fn waiters_go_in_the_order_of_arrival() {
    let mut table = LockTable::default();
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
    let mut table = LockTable::default();
    take(&mut table, 1, &["a"]);
    let first = wait(&mut table, 2, &["a", "b"]);
    let second = wait(&mut table, 3, &["b"]);
    assert_eq!(table.give_up_all(&[first]), vec![Woken::Granted(second)]);
}

#[test]
fn a_cycle_of_two_is_a_deadlock() {
    let mut table = LockTable::default();
    take(&mut table, 1, &["a"]);
    take(&mut table, 2, &["b"]);
    wait(&mut table, 1, &["b"]);
    assert!(
        matches!(table.acquire(2, &resource(), &set(&["a"]), true).0, Acquire::Deadlock(c) if c.holder == 1)
    );
}

#[test]
fn a_cycle_of_three_is_a_deadlock() {
    let mut table = LockTable::default();
    for (seq, key) in [(1, "a"), (2, "b"), (3, "c")] {
        take(&mut table, seq, &[key]);
    }
    wait(&mut table, 1, &["b"]);
    wait(&mut table, 2, &["c"]);
    assert!(matches!(table.acquire(3, &resource(), &set(&["a"]), true).0, Acquire::Deadlock(_)));
}

#[test]
fn a_cycle_that_a_grant_closes_is_found() {
    let mut table = LockTable::default();
    take(&mut table, 1, &["a"]);
    take(&mut table, 3, &["c"]);
    // 2 has two requests under way and holds nothing; 3 waits behind it for a.
    let granted = wait(&mut table, 2, &["a"]);
    let doomed = wait(&mut table, 2, &["c"]);
    wait(&mut table, 3, &["a"]);
    let woken = table.release(1, &resource(), &set(&["a"]));
    assert!(woken.contains(&Woken::Granted(granted)), "{woken:?}");
    assert!(woken.iter().any(|w| matches!(w, Woken::Deadlock(w, _) if *w == doomed)), "{woken:?}");
}

#[test]
fn nobody_waits_for_a_transaction_that_is_being_rolled_back() {
    let mut table = LockTable::default();
    take(&mut table, 1, &["a", "b"]);
    let doomed = wait(&mut table, 2, &["a"]);
    let woken = table.set_dying(1, &[(resource(), set(&["a", "b"]))]);
    assert!(matches!(woken[..], [Woken::Deadlock(waiter, _)] if waiter == doomed));
    assert!(matches!(table.acquire(3, &resource(), &set(&["b"]), true).0, Acquire::Deadlock(_)));
    table.release(1, &resource(), &set(&["a", "b"]));
    take(&mut table, 3, &["b"]);
}

#[test]
fn a_hundred_thousand_locks_are_no_matter() {
    let mut table = LockTable::default();
    let keys: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let locks = Arc::new(LockSet::new([("s.t".to_owned(), keys)]));
    assert_eq!(table.acquire(1, &resource(), &locks, true).0, Acquire::Granted);
    assert_eq!(table.held(), 100_000);
    let waiter = wait(&mut table, 2, &["99999"]);
    assert_eq!(table.release(1, &resource(), &locks), vec![Woken::Granted(waiter)]);
    assert_eq!(table.held(), 1);
}
