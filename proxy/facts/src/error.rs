//! Why facts could not be read, or do not hold any more.

/// What has kept the service account from its work, in the words of the server, the driver or the system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServiceError {
    server: Option<(u16, String)>,
    text: String,
}

impl ServiceError {
    /// An error of the server, with its code and message; `text` is shown.
    pub fn of_server(code: u16, message: String, text: String) -> ServiceError {
        ServiceError { server: Some((code, message)), text }
    }

    /// An error of the driver or the system.
    pub fn other(text: String) -> ServiceError {
        ServiceError { server: None, text }
    }

    /// Code and message, if the error is the server's.
    pub fn server(&self) -> Option<(u16, &str)> {
        self.server.as_ref().map(|(code, message)| (*code, message.as_str()))
    }

    /// The server's code.
    pub fn code(&self) -> Option<u16> {
        self.server.as_ref().map(|(code, _)| *code)
    }
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The server has no such table.
    #[error("there is no table {0}")]
    NoTable(String),
    /// The service account could not read it.
    #[error("the service account cannot read table metadata: {0}")]
    Unread(#[from] ServiceError),
}

/// Why committed rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What the server or the system says.
    #[error(transparent)]
    Unread(#[from] ServiceError),
    /// A row that does not decode.
    #[error("{0}")]
    Undecoded(String),
}

/// Why what is known cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It has changed: a whole sentence.
    Changed(String),
    /// The service account could not verify it.
    Unread(ServiceError),
}

/// Why a schema's undo_log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndoLogError {
    /// The service account could not look at it, or make it.
    #[error(transparent)]
    Unread(#[from] ServiceError),
    /// The table is not fit for undo records: what it is or has, as the end of a sentence.
    #[error("what is there {0}")]
    Unfit(String),
}
