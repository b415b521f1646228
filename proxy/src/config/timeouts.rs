//! `[timeouts]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use atone_config::{KeyError, MAX_DURATION, Rename, Section, Unit};

const ANY: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;
const LEAST: Duration = Duration::from_millis(1);
/// What systems take for the silence before the first sign of life: whole seconds, up to this many.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);
/// What `deadlock_timeout` may be: a look costs the server something, and what is told is believed for a few seconds.
const MIN_DEADLOCK_TIMEOUT: Duration = Duration::from_millis(50);
const MAX_DEADLOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The keys of `[limits]` whose place those of `[timeouts]` have taken.
pub(super) const RENAMES: &[Rename] = &[
    Rename {
        old: "limits.handshake_timeout_ms",
        new: "timeouts.handshake_timeout",
        unit: Unit::Milliseconds,
    },
    Rename { old: "limits.connect_timeout_ms", new: "timeouts.connect_timeout", unit: Unit::Milliseconds },
    Rename { old: "limits.idle_timeout_ms", new: "timeouts.idle_timeout", unit: Unit::Milliseconds },
    Rename { old: "limits.drain_timeout_ms", new: "timeouts.drain_timeout", unit: Unit::Milliseconds },
    Rename { old: "limits.lock_wait_look_ms", new: "timeouts.deadlock_timeout", unit: Unit::Milliseconds },
    Rename { old: "limits.metadata_ttl_ms", new: "timeouts.metadata_ttl", unit: Unit::Milliseconds },
    Rename { old: "limits.tcp_keepalive_s", new: "timeouts.tcp_keepalive", unit: Unit::Seconds },
];

/// `[timeouts]`: how long the proxy waits, and believes what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a client may be silent in a login when it is its turn; after it error 1159.
    pub handshake_timeout: Duration,
    /// How long each of these may take: to reach a server, its greeting, TLS with it; after it error 1429.
    pub connect_timeout: Duration,
    /// How long a session may wait for its client's next command. After it: error 4031 of MySQL, or the end of the
    /// connection that MariaDB makes. `None`: the server's `wait_timeout` decides.
    pub idle_timeout: Option<Duration>,
    /// How long shutting down may take; after it connections are cut.
    pub drain_timeout: Duration,
    /// How long a statement of a bound session waits for the server before the proxy checks whether that is for another
    /// session's row lock. The coordinator is told, and finds deadlocks of which such a wait is a part. `None`: never.
    pub deadlock_timeout: Option<Duration>,
    /// How long table metadata is believed without looking again.
    pub metadata_ttl: Duration,
    /// How long a TCP connection is silent before its peer is asked for a sign of life. One that gives none three
    /// times is over. `None`: never.
    pub tcp_keepalive: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
            drain_timeout: Duration::from_secs(5),
            deadlock_timeout: Some(Duration::from_millis(250)),
            metadata_ttl: Duration::from_secs(1),
            tcp_keepalive: Some(Duration::from_secs(60)),
        }
    }
}

impl Timeouts {
    pub(super) fn read(mut section: Section) -> Result<Timeouts, KeyError> {
        let defaults = Timeouts::default();
        let read = Timeouts {
            handshake_timeout: section.duration("handshake_timeout", defaults.handshake_timeout, ANY)?,
            connect_timeout: section.duration("connect_timeout", defaults.connect_timeout, ANY)?,
            idle_timeout: section.duration_or_none(
                "idle_timeout",
                defaults.idle_timeout,
                LEAST..=MAX_DURATION,
            )?,
            drain_timeout: section.duration("drain_timeout", defaults.drain_timeout, ANY)?,
            deadlock_timeout: section.duration_or_none(
                "deadlock_timeout",
                defaults.deadlock_timeout,
                MIN_DEADLOCK_TIMEOUT..=MAX_DEADLOCK_TIMEOUT,
            )?,
            metadata_ttl: section.duration("metadata_ttl", defaults.metadata_ttl, ANY)?,
            tcp_keepalive: section.duration_or_none(
                "tcp_keepalive",
                defaults.tcp_keepalive,
                Duration::from_secs(1)..=MAX_KEEPALIVE,
            )?,
        };
        section.finish()?;
        Ok(read)
    }
}
