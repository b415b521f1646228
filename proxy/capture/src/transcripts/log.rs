//! What was sent and asked, line by line, and the step at which something goes wrong.

use std::sync::{Arc, Mutex};

/// Who gave an answer, and whether it was rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Server,
    Rows,
    Account,
}

/// What was sent, and what it was answered with.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) lines: Vec<String>,
    /// Each answer so far.
    pub(super) steps: Vec<Step>,
    /// The step that is answered otherwise, and how.
    pub(super) fault: Option<(usize, String)>,
    /// It was.
    pub(super) struck: bool,
}

/// The server and the service account write into one.
pub(super) type Shared = Arc<Mutex<Log>>;

impl Log {
    pub(super) fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The server's last answer was rows.
    pub(super) fn was_rows(&mut self) {
        if let Some(last) = self.steps.last_mut() {
            *last = Step::Rows;
        }
    }

    /// Counts an answer; the one to be given instead, where something goes wrong here.
    pub(super) fn fault(&mut self, of: Step) -> Option<String> {
        let step = self.steps.len();
        self.steps.push(of);
        let (_, answer) = self.fault.as_ref().filter(|(at, _)| *at == step)?;
        self.struck = true;
        Some(answer.clone())
    }
}
