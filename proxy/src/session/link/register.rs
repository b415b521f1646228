//! The wait for a branch's global row locks.

use std::pin::pin;
use std::time::{Duration, Instant};

use atone_api::proto::{Register, TableLocks};

use super::Link;
use crate::coordinator_error::of_coordinator;
use atone_capture::error::{End, SqlError};
use atone_capture::flight::{Flight, Reply};
use atone_capture::port::{NotRegistered, Registration};

/// How long a wait for locks is before it is one on the server too, where it can be seen and killed.
const SILENT_WAIT: Duration = Duration::from_millis(50);
/// How it is so: a moment at a time, for which a lock that comes meanwhile has to wait.
const WAIT_SQL: &str = "SELECT /* atone: waits for a global row lock */ SLEEP(0.05) LIMIT 1";
/// How much more a client may send, in bytes, while its COMMIT waits for locks.
const MAX_PIPELINED_BYTES: usize = 64 << 10;

impl Link {
    /// Registers a branch and takes all its locks. A client that goes away meanwhile gives up its wait. So does a
    /// KILL of the session on the server, or of its statement, which is one that waits as well for that.
    pub(in crate::session) async fn register_branch(
        &mut self,
        branch: Registration,
    ) -> Result<u64, NotRegistered> {
        let xid = self.xid();
        let Registration { schema, locks, wait_timeout_ms, max_statement_time } = branch;
        let locks = locks.into_iter().map(|(table, keys)| TableLocks { table, keys }).collect();
        let resource = self.backend.name.clone();
        let request = Register { xid: xid.clone(), resource, schema, locks, wait_timeout_ms };
        let coordinator = self.backend.coordinator.clone();
        let (began, mut silent) = (Instant::now(), SILENT_WAIT);
        let mut registered = pin!(coordinator.register(request));
        loop {
            tokio::select! {
                biased;
                // First: nobody would hear of a lock that has come meanwhile
                e = self.client.gone(MAX_PIPELINED_BYTES) => return Err(End::Client(e).into()),
                registered = &mut registered => {
                    let refused = |e| NotRegistered::Refused(of_coordinator(&xid, &e));
                    return registered.map_err(refused);
                }
                () = tokio::time::sleep(silent) => {}
            }
            if max_statement_time.is_some_and(|limit| began.elapsed() >= limit) {
                return Err(NotRegistered::Refused(SqlError::statement_time()));
            }
            match self.fly(Flight::of(WAIT_SQL), None).await?.pop() {
                Some(Reply::Rows(rows)) => {
                    if rows.cells(0)?.first() != Some(&Some(b"0".as_slice())) {
                        return Err(NotRegistered::Refused(SqlError::interrupted()));
                    }
                }
                Some(Reply::Err(error)) => return Err(NotRegistered::Failed(error)),
                _ => return Err(End::Broken("SLEEP() without a row".into()).into()),
            }
            silent = Duration::ZERO;
        }
    }
}
