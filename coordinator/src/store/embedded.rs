//! The embedded store: one redb file, `coordinator.redb`, in a directory of its own.
//!
//! Tables:
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format` | the text `1`: the version of this layout |
//! | `meta` | `id` | the coordinator's id, 8 hexadecimal digits |
//! | `counters` | 0 | the counters' record |
//! | `transactions` | transaction number | the transaction's record |
//! | `branches` | branch id | the branch's record |
//! | `locks` | branch id | the locks of a branch that holds some |
//!
//! Records are encoded by [`codec`](super::codec). Changes that belong together are one redb transaction, so after a
//! crash all of them are there or none. One process at a time: redb locks the file.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atone_core::{Change, Counters, Records};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use super::codec::{Kind, decode, decode_locks, encode, encode_locks};
use super::{Contents, Store, StoreError};

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const COUNTERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("counters");
const TRANSACTIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("transactions");
const BRANCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("branches");
const LOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("locks");

/// The file's name in the store's directory.
pub const FILE_NAME: &str = "coordinator.redb";
/// How much of the file is kept in memory. The core has everything in memory that is read again; what helps is to have
/// the inner pages of the trees that are written.
const CACHE_BYTES: usize = 64 << 20;
/// How long another process may take to release the file.
const IN_USE_WAIT: Duration = Duration::from_secs(2);
/// The version of the layout.
const FORMAT: &str = "1";

/// The store in a redb file.
pub struct EmbeddedStore {
    path: PathBuf,
    database: Database,
}

impl EmbeddedStore {
    /// Opens the store in this directory, or creates it if there is none.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        // Keys of rows are in it: not for everybody to read.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| StoreError::Io(format!("{} cannot be created: {error}", directory.display())))?;
        let path = directory.join(FILE_NAME);
        let database = open_database(&path)?;
        let mut store = Self { path, database };
        store.initialize()?;
        // The new file's name has to be as durable as its contents.
        fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| StoreError::Io(format!("{}: {error}", directory.display())))?;
        Ok(store)
    }

    fn initialize(&mut self) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(|e| self.io(e))?;
        {
            let is_new = transaction.list_tables().map_err(|e| self.io(e))?.next().is_none();
            if is_new {
                let mut meta = transaction.open_table(META).map_err(|e| self.io(e))?;
                let id = format!("{:08x}", rand::random::<u32>());
                meta.insert("format", FORMAT).map_err(|e| self.io(e))?;
                meta.insert("id", id.as_str()).map_err(|e| self.io(e))?;
                for table in [COUNTERS, TRANSACTIONS, BRANCHES, LOCKS] {
                    transaction.open_table(table).map_err(|e| self.io(e))?;
                }
            }
        }
        transaction.commit().map_err(|e| self.io(e))
    }

    fn io(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::Io(format!("{}: {error}", self.path.display()))
    }

    fn damaged(&self, what: impl std::fmt::Display) -> StoreError {
        StoreError::Damaged(format!("{}: {what}", self.path.display()))
    }

    fn read(&self) -> Result<Contents, StoreError> {
        let read = self.database.begin_read().map_err(|e| self.io(e))?;
        let expected = [META.name(), COUNTERS.name(), TRANSACTIONS.name(), BRANCHES.name(), LOCKS.name()];
        for table in read.list_tables().map_err(|e| self.damaged(e))? {
            if !expected.contains(&table.name()) {
                return Err(self.damaged(format!("there is a table {:?}, which is not known", table.name())));
            }
        }
        let meta = read.open_table(META).map_err(|e| self.damaged(e))?;
        let text = |key: &str| -> Result<String, StoreError> {
            let value = meta.get(key).map_err(|e| self.damaged(e))?;
            Ok(value.ok_or_else(|| self.damaged(format!("{key} is missing")))?.value().to_owned())
        };
        let format = text("format")?;
        if format != FORMAT {
            return Err(
                self.damaged(format!("its layout is version {format:?}; this program knows {FORMAT}"))
            );
        }
        let mut records = Records::default();
        macro_rules! load {
            ($table:expr, $decode:expr, $insert:expr) => {
                let table = read.open_table($table).map_err(|e| self.damaged(e))?;
                for entry in table.iter().map_err(|e| self.damaged(e))? {
                    let (key, value) = entry.map_err(|e| self.damaged(e))?;
                    let key = key.value();
                    #[allow(clippy::redundant_closure_call)]
                    let record = $decode(key, value.value()).map_err(|e| self.damaged(e))?;
                    #[allow(clippy::redundant_closure_call)]
                    $insert(key, record);
                }
            };
        }
        let mut counters = None;
        load!(COUNTERS, |key, bytes| decode(Kind::Counters, key, bytes), |_, record: Counters| counters =
            Some(record));
        load!(TRANSACTIONS, |key, bytes| decode(Kind::Transaction, key, bytes), |key, record| records
            .transactions
            .insert(key, record));
        load!(BRANCHES, |key, bytes| decode(Kind::Branch, key, bytes), |key, record| records
            .branches
            .insert(key, record));
        load!(LOCKS, decode_locks, |key, record| records.locks.insert(key, std::sync::Arc::new(record)));
        match counters {
            Some(counters) => records.counters = counters,
            None if records.transactions.is_empty() && records.branches.is_empty() => {}
            None => return Err(self.damaged("the counters are missing")),
        }
        let misplaced =
            records.transactions.iter().find(|(key, record)| **key != record.seq).map(|(key, _)| *key);
        if let Some(key) = misplaced {
            return Err(self.damaged(format!("transaction {key} has the number of another")));
        }
        Ok(Contents { id: text("id")?, records })
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(|e| self.io(e))?;
        transaction.set_durability(Durability::Immediate).map_err(|e| self.io(e))?;
        {
            let mut counters = transaction.open_table(COUNTERS).map_err(|e| self.io(e))?;
            let mut transactions = transaction.open_table(TRANSACTIONS).map_err(|e| self.io(e))?;
            let mut branches = transaction.open_table(BRANCHES).map_err(|e| self.io(e))?;
            let mut locks = transaction.open_table(LOCKS).map_err(|e| self.io(e))?;
            for change in changes {
                match change {
                    Change::PutTransaction(record) => {
                        let bytes = encode(Kind::Transaction, record.seq, record)?;
                        transactions.insert(record.seq, bytes.as_slice()).map_err(|e| self.io(e))?;
                    }
                    Change::PutBranch(record) => {
                        let bytes = encode(Kind::Branch, record.branch_id, record)?;
                        branches.insert(record.branch_id, bytes.as_slice()).map_err(|e| self.io(e))?;
                    }
                    Change::PutLocks(branch, record) => {
                        let bytes = encode_locks(branch.0, record);
                        locks.insert(branch.0, bytes.as_slice()).map_err(|e| self.io(e))?;
                    }
                    Change::DropLocks(branch) => {
                        locks.remove(branch.0).map_err(|e| self.io(e))?;
                    }
                    Change::DropBranch(branch) => {
                        branches.remove(branch.0).map_err(|e| self.io(e))?;
                        locks.remove(branch.0).map_err(|e| self.io(e))?;
                    }
                    Change::DropTransaction(seq, of_it) => {
                        transactions.remove(seq).map_err(|e| self.io(e))?;
                        for branch in of_it {
                            branches.remove(branch.0).map_err(|e| self.io(e))?;
                        }
                    }
                    Change::PutCounters(record) => {
                        let bytes = encode(Kind::Counters, 0, record)?;
                        counters.insert(0, bytes.as_slice()).map_err(|e| self.io(e))?;
                    }
                }
            }
        }
        transaction.commit().map_err(|e| self.io(e))
    }
}

/// Opens the file. A process that was killed a moment ago may still hold its lock, so that is waited for a little.
fn open_database(path: &Path) -> Result<Database, StoreError> {
    let until = Instant::now() + IN_USE_WAIT;
    loop {
        let opened = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_repair_callback(|repair| {
                tracing::info!(progress = repair.progress(), "the store is being repaired")
            })
            .create(path);
        return match opened {
            Ok(database) => Ok(database),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                Err(StoreError::Io(format!("{} is in use by another process", path.display())))
            }
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(error)))
                if error.kind() != std::io::ErrorKind::InvalidData =>
            {
                Err(StoreError::Io(format!("{}: {error}", path.display())))
            }
            Err(error) => Err(StoreError::Damaged(format!("{}: {error}", path.display()))),
        };
    }
}

impl Store for EmbeddedStore {
    fn load(&mut self) -> Result<Contents, StoreError> {
        self.read()
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(changes)
    }
}
