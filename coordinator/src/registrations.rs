//! Registrations on their way from a stream to the core.
//!
//! A registration with a hundred thousand row locks takes tens of milliseconds to decode and to sort. A blocking thread
//! does that while its stream is read on, so that small registrations need not wait for it. The core then gets it
//! after messages that its proxy has sent later. All that a proxy sends about a registration before its answer is a
//! cancellation, which is looked for here first.

use std::collections::HashSet;

use atone_api::proto;
use atone_core::RegisterRequest;
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::task::JoinSet;
use tonic::Status;

use crate::convert;

/// The largest registration that is decoded where its stream is read, in bytes: a fraction of a millisecond.
const MAX_INLINE_BYTES: usize = 16 << 10;
/// How many large registrations of a stream are decoded at once. After so many it is not read on.
const MAX_LARGE: usize = 4;

/// The registrations of one stream that are being decoded. They are dropped with it.
#[derive(Default)]
pub(crate) struct Registrations {
    decoding: JoinSet<(u64, Result<RegisterRequest, Status>)>,
    /// Those that are not cancelled, by the id of the message.
    wanted: HashSet<u64>,
}

impl Registrations {
    /// Takes an encoded registration: returns it if it is small, else [`Registrations::next`] does.
    pub(crate) fn take(&mut self, id: u64, request: Bytes) -> Result<Option<RegisterRequest>, Status> {
        if request.len() <= MAX_INLINE_BYTES {
            return decode(request).map(Some);
        }
        if !self.wanted.insert(id) {
            return Err(Status::invalid_argument(format!("the message id {id} was used before")));
        }
        self.decoding.spawn_blocking(move || (id, decode(request)));
        Ok(None)
    }

    /// Whether the stream may be read on.
    pub(crate) fn has_room(&self) -> bool {
        self.decoding.len() < MAX_LARGE
    }

    /// Drops a registration if it is being decoded.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        self.wanted.remove(&id)
    }

    /// The next one that is decoded, by the id of its message. Waits for ever if none is being decoded. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<(u64, RegisterRequest), Status> {
        while let Some(decoded) = self.decoding.join_next().await {
            let (id, request) =
                decoded.map_err(|error| Status::internal(format!("a registration is lost: {error}")))?;
            let request = request?;
            if self.wanted.remove(&id) {
                return Ok((id, request));
            }
        }
        std::future::pending().await
    }
}

fn decode(request: Bytes) -> Result<RegisterRequest, Status> {
    let request = proto::Register::decode(request)
        .map_err(|error| Status::invalid_argument(format!("a registration cannot be decoded: {error}")))?;
    Ok(convert::register_request(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(locks: usize) -> Bytes {
        let keys = (0..locks).map(|key| key.to_string()).collect();
        let locks = vec![proto::TableLocks { table: "s.t".to_owned(), keys }];
        proto::Register { xid: "x".to_owned(), locks, ..proto::Register::default() }.encode_to_vec().into()
    }

    #[tokio::test]
    async fn a_small_one_is_there_at_once() {
        let mut registrations = Registrations::default();
        let request = registrations.take(1, encoded(3)).unwrap().unwrap();
        assert_eq!((request.xid.as_str(), request.locks.len()), ("x", 3));
        assert!(!registrations.cancel(1));
    }

    #[tokio::test]
    async fn large_ones_come_later_unless_they_are_cancelled() {
        let mut registrations = Registrations::default();
        for id in 1..5 {
            assert!(registrations.has_room());
            assert_eq!(registrations.take(id, encoded(10_000)).unwrap(), None);
        }
        assert!(!registrations.has_room());
        assert!(registrations.cancel(2) && !registrations.cancel(2));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (id, request) = registrations.next().await.unwrap();
            assert_eq!(request.locks.len(), 10_000);
            assert!(!registrations.cancel(id));
            seen.push(id);
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 3, 4]);
    }

    #[tokio::test]
    async fn what_is_no_registration_ends_the_stream() {
        let mut registrations = Registrations::default();
        assert!(registrations.take(1, Bytes::from_static(b"\xff")).is_err());
        assert!(registrations.take(1, Bytes::from(vec![0xff; MAX_INLINE_BYTES + 1])).unwrap().is_none());
        assert!(registrations.take(1, encoded(10_000)).is_err(), "the id is taken");
        assert!(registrations.next().await.is_err());
    }
}
