//! What every store has to do, and what the embedded one does with damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use atone_coordinator::store::codec::{Kind, encode};
use atone_coordinator::store::embedded::{EmbeddedStore, FILE_NAME};
use atone_coordinator::store::{Store, StoreError};
use atone_core::{
    Action, BranchId, BranchRecord, BranchState, Change, Counters, Decision, LockSet, Records, Resolution,
    TransactionRecord, Xid,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A kind of store under test.
trait Backend {
    /// Opens the store; the same one each time.
    fn open(&self) -> Box<dyn Store>;
    /// Another backend on what a crash at this moment would leave, while the store may be open.
    fn crash(&self) -> Box<dyn Backend>;
}

struct Embedded {
    directory: tempfile::TempDir,
}

impl Embedded {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }
    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Backend for Embedded {
    fn open(&self) -> Box<dyn Store> {
        Box::new(EmbeddedStore::open(self.path()).unwrap())
    }

    /// What a killed process leaves is what the file has at that moment, without any closing.
    fn crash(&self) -> Box<dyn Backend> {
        let copy = Embedded::new();
        std::fs::copy(self.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
        Box::new(copy)
    }
}

fn transaction(seq: u64) -> TransactionRecord {
    TransactionRecord {
        seq,
        xid: Xid::new(&format!("x:{seq}")).unwrap(),
        name: "näme \"quoted\"\n".to_owned(),
        decision: Decision::Active,
        reason: String::new(),
        timeout_ms: 1,
        created_at_ms: u64::MAX,
        decided_at_ms: None,
        ended_at_ms: Some(0),
    }
}

fn branch(id: u64, seq: u64) -> BranchRecord {
    BranchRecord {
        branch_id: id,
        seq,
        resource: "bank1".into(),
        schema: "s".into(),
        state: BranchState::RollbackFailed,
        lock_count: 2,
        registered_at_ms: 5,
        detail: "{\"a\": 1}".to_owned(),
        is_committed: id % 2 == 1,
        resolution: id.is_multiple_of(3).then(|| {
            Box::new(Resolution {
                action: Action::KeepCurrent,
                by: "é".to_owned(),
                at_ms: id,
                given_up: "{\"b\": \"c\"}".to_owned(),
            })
        }),
    }
}

fn locks(count: usize) -> Arc<LockSet> {
    Arc::new(LockSet::new([("s.t".to_owned(), (0..count).map(|n| format!("key {n}\u{0}é")).collect())]))
}

fn random_change(rng: &mut StdRng) -> Change {
    let id = rng.random_range(1..30);
    match rng.random_range(0..7) {
        0 => Change::PutTransaction(transaction(id)),
        1 => Change::PutBranch(branch(id, 1)),
        2 => Change::PutLocks(BranchId(id), locks(rng.random_range(0..5))),
        3 => Change::DropLocks(BranchId(id)),
        4 => Change::DropBranch(BranchId(id)),
        5 => Change::DropTransaction(id, vec![BranchId(id), BranchId(id + 1)]),
        _ => Change::PutCounters(Counters { boot: id, branch_limit: id * 10 }),
    }
}

/// The suite.
fn conforms(new: impl Fn() -> Box<dyn Backend>) {
    a_new_store_is_empty_and_has_an_id(new().as_ref());
    changes_survive_reopening(new().as_ref());
    what_was_applied_survives_a_crash(new().as_ref());
    a_large_branch_is_kept(new().as_ref());
}

fn a_new_store_is_empty_and_has_an_id(backend: &dyn Backend) {
    let contents = backend.open().load().unwrap();
    assert_eq!(contents.records, Records::default());
    assert!(Xid::new(&contents.id).is_ok(), "{:?}", contents.id);
    assert_eq!(backend.open().load().unwrap().id, contents.id);
}

fn changes_survive_reopening(backend: &dyn Backend) {
    let changes = [
        Change::PutCounters(Counters { boot: 1, branch_limit: 100 }),
        Change::PutTransaction(transaction(1)),
        Change::PutBranch(branch(7, 1)),
        Change::PutLocks(BranchId(7), locks(3)),
        Change::PutBranch(branch(8, 1)),
        Change::PutLocks(BranchId(8), locks(1)),
        Change::DropLocks(BranchId(8)),
    ];
    let mut model = Records::default();
    changes.iter().for_each(|change| model.apply(change));
    let mut store = backend.open();
    store.apply(&changes).unwrap();
    assert_eq!(store.load().unwrap().records, model);
    drop(store);
    assert_eq!(backend.open().load().unwrap().records, model);
}

fn what_was_applied_survives_a_crash(backend: &dyn Backend) {
    let seed: u64 = rand::rng().random_range(0..1_000_000_000);
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Records::default();
    let mut store = backend.open();
    store.apply(&[Change::PutCounters(Counters { boot: 1, branch_limit: 1 })]).unwrap();
    model.counters = Counters { boot: 1, branch_limit: 1 };
    for _ in 0..60 {
        let count = rng.random_range(0..12);
        let changes: Vec<Change> = (0..count).map(|_| random_change(&mut rng)).collect();
        changes.iter().for_each(|change| model.apply(change));
        store.apply(&changes).unwrap();
        // Whole and in order, as soon as it was said to be durable.
        let crashed = backend.crash();
        assert_eq!(crashed.open().load().unwrap().records, model);
    }
}

fn a_large_branch_is_kept(backend: &dyn Backend) {
    let changes = [
        Change::PutCounters(Counters { boot: 1, branch_limit: 100 }),
        Change::PutLocks(BranchId(7), locks(100_000)),
    ];
    backend.open().apply(&changes).unwrap();
    assert_eq!(backend.open().load().unwrap().records.locks[&7].len(), 100_000);
}

#[test]
fn the_embedded_store_conforms() {
    conforms(|| Box::new(Embedded::new()));
}

/// A store of before the compact form of locks goes on as it is, and with new ones beside the old.
#[test]
fn locks_of_an_earlier_version_are_read() {
    let backend = Embedded::new();
    let changes = [Change::PutCounters(Counters { boot: 1, branch_limit: 100 })];
    backend.open().apply(&changes).unwrap();
    {
        let database = redb::Database::create(backend.path().join(FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        for id in [7, 8] {
            let record = encode(Kind::Locks, id, &*locks(3_000)).unwrap();
            assert_eq!(record[0], 1);
            transaction.open_table(LOCKS).unwrap().insert(id, record.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let mut store = backend.open();
    let changes = [Change::DropLocks(BranchId(8)), Change::PutLocks(BranchId(9), locks(2))];
    store.apply(&changes).unwrap();
    let expected = [(7, locks(3_000)), (9, locks(2))].into();
    assert_eq!(store.load().unwrap().records.locks, expected);
}

#[test]
fn one_process_at_a_time() {
    let backend = Embedded::new();
    let _open = backend.open();
    match EmbeddedStore::open(backend.path()) {
        Err(StoreError::Io(reason)) => assert!(reason.contains("in use"), "{reason}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the store was opened twice"),
    }
}

/// Changes the file behind the store's back, and expects it to be refused with this in the reason.
fn refuses(damage: impl FnOnce(&redb::WriteTransaction), reason: &str) {
    let backend = Embedded::new();
    let changes =
        [Change::PutCounters(Counters { boot: 1, branch_limit: 9 }), Change::PutTransaction(transaction(1))];
    backend.open().apply(&changes).unwrap();
    {
        let database = redb::Database::create(backend.path().join(FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        damage(&transaction);
        transaction.commit().unwrap();
    }
    match backend.open().load() {
        Err(StoreError::Damaged(seen)) => assert!(seen.contains(reason), "{seen} lacks {reason}"),
        other => panic!("not refused for {reason}: {other:?}"),
    }
}

const TRANSACTIONS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("transactions");
const LOCKS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("locks");
const COUNTERS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("counters");
const META: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("meta");

#[test]
fn damage_is_refused_not_skipped() {
    let put = |key: u64, bytes: Vec<u8>| {
        move |t: &redb::WriteTransaction| {
            t.open_table(TRANSACTIONS).unwrap().insert(key, bytes.as_slice()).unwrap();
        }
    };
    refuses(put(2, b"".to_vec()), "too short");
    refuses(put(2, b"\x02\0\0\0\0{}".to_vec()), "record format 2");
    refuses(put(2, b"\x01\0\0\0\0{}".to_vec()), "checksum");
    let record = encode(Kind::Transaction, 2, &transaction(2)).unwrap();
    refuses(put(3, record.clone()), "checksum");
    let mut torn = record.clone();
    torn.truncate(record.len() - 1);
    refuses(put(2, torn), "checksum");
    let foreign = encode(Kind::Transaction, 2, &serde_json::json!({"seq": 2, "more": true})).unwrap();
    refuses(put(2, foreign), "unknown field");
    let other = encode(Kind::Transaction, 2, &transaction(5)).unwrap();
    refuses(put(2, other), "the number of another");
    refuses(
        |t| {
            t.open_table(COUNTERS).unwrap().remove(0).unwrap();
        },
        "counters are missing",
    );
    refuses(
        |t| {
            t.open_table(META).unwrap().insert("format", "2").unwrap();
        },
        "version \"2\"",
    );
    refuses(
        |t| {
            t.open_table(redb::TableDefinition::<u64, u64>::new("more")).unwrap();
        },
        "\"more\"",
    );
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let backend = Embedded::new();
    std::fs::write(backend.path().join(FILE_NAME), vec![7; 100_000]).unwrap();
    assert!(matches!(EmbeddedStore::open(backend.path()), Err(StoreError::Damaged(_))));
}
