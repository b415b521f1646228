//! What the client has of the reply to its current command.

/// What the client has of the reply to its current command.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::session) struct ReplyState {
    /// The sequence number of the next packet.
    pub(in crate::session) seq: u8,
    /// Whether the reply to the current statement is followed by that to another one.
    pub(in crate::session) more: bool,
    /// Whether an error was sent, which ends it.
    pub(in crate::session) failed: bool,
    /// What the current statement was answered with, unless it was an error.
    pub(in crate::session) answer: Option<Answer>,
    /// The error that it was answered with.
    pub(in crate::session) error: Option<Answered>,
}

/// What a statement was answered with, as far as its diagnostics go.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Answer {
    /// `None` for rows.
    pub(in crate::session) affected_rows: Option<u64>,
    pub(in crate::session) warnings: u16,
}

impl Answer {
    /// What `ROW_COUNT()` is after it.
    pub(in crate::session) fn row_count(self) -> i128 {
        self.affected_rows.map_or(-1, i128::from)
    }
}

/// An error that a statement was answered with.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Answered {
    pub(in crate::session) code: u16,
    /// It is Atone's.
    pub(in crate::session) own: bool,
}

impl ReplyState {
    /// Before the reply to a command whose last frame has this sequence number.
    pub(in crate::session) fn after(seq: u8) -> ReplyState {
        ReplyState { seq: seq.wrapping_add(1), ..ReplyState::default() }
    }
}
