//! What a script is: a named list of steps, with what it covers and where it runs.

use atone_tests::Flavor;
use atone_tests::wire::payload::{self, Execute, Param};
use atone_tests::wire::{Compression, Login, caps};

/// A list of steps that is played against the server and through the proxy.
pub(crate) struct Script {
    /// Shown on failure.
    pub(crate) name: &'static str,
    /// Commands, capabilities and plugins that this script is a test of: the rows of the documentation's tables.
    pub(crate) covers: &'static [&'static str],
    /// The servers on which it runs.
    pub(crate) on: &'static [Flavor],
    /// Without these capabilities it has nothing to show.
    pub(crate) needs: u64,
    /// Under which settings it runs.
    pub(crate) matrix: Matrix,
    /// The account of the first session.
    pub(crate) account: (&'static str, &'static str),
    /// Run in the script's schema before the first step, and not recorded.
    pub(crate) setup: Vec<String>,
    /// The steps.
    pub(crate) steps: Vec<Step>,
}

/// Under which settings a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matrix {
    /// All.
    All,
    /// Those that differ most, for scripts that take time.
    Few,
    /// The first.
    One,
}

/// One step of a script.
pub(crate) struct Step {
    /// The session that does it; it is opened, as the first one, by its first step.
    pub(crate) session: char,
    /// Shown on failure.
    pub(crate) name: String,
    /// What is done.
    pub(crate) act: Act,
    /// What may differ.
    pub(crate) may: Vec<May>,
}

/// What a step does.
pub(crate) enum Act {
    /// Logs in with these changes to the script's login.
    Open(fn(&mut Login)),
    /// Writes a command and reads its reply; the second is the client's file.
    Command(Payload, Option<fn() -> Vec<u8>>),
    /// Writes a command.
    Send(Payload),
    /// Reads the reply to the first command that was sent and has none yet.
    Receive,
    /// Writes bytes as they are.
    Bytes(Vec<u8>),
    /// Through the proxy: a statement of Atone's own, which has to succeed. Straight: nothing.
    Global(&'static str),
    /// Reads one packet, or the end.
    Packet,
    /// Reads up to the end of the connection.
    End,
    /// Changes the user, with these changes to the script's login.
    ChangeUser(fn(&mut Login)),
    /// Closes the connection without a word.
    Close,
    /// Waits until this query, which an administrator asks the server, has a row that is not 0. `{a}` is the id of the
    /// session `a`.
    Await(String),
    /// Reads nothing for a while, so that all buffers on the way are full.
    Dawdle,
}

/// A command's bytes.
pub(crate) enum Payload {
    /// As they are.
    Bytes(Vec<u8>),
    /// What is large, made when it is needed, for a client with these capabilities; the second is the server's id of
    /// the session's first statement.
    Made(Box<dyn Fn(u64, u32) -> Vec<u8> + Send + Sync>),
    /// `COM_QUERY`, with attributes.
    Query(Vec<u8>, Vec<Param>),
    /// `COM_STMT_EXECUTE` of the script's statement with this number.
    Execute(Execute),
    /// A command about the script's statement with this number, and what is after its id.
    Statement(u8, u32, Vec<u8>),
    /// `COM_QUERY` in which `{a}` is the id of the session `a`.
    About(String),
    /// `COM_BINLOG_DUMP` of what comes after the end of the binary log, without waiting for it.
    Dump,
    /// `COM_PROCESS_KILL` of this session.
    Kill(char),
}

/// What may differ between the two runs of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// The connection ids of the script's sessions, wherever they stand.
    Ids,
    /// The values of these fields.
    Fields(&'static [&'static str]),
    /// The number of rows or events and all that is in them, but not in the columns.
    Rows,
    /// The numbers of the packets and how many progress reports there are.
    Progress,
    /// The status flags by which a server says that no index, or no good one, was used: a bound statement that writes
    /// is run with the keys of its rows.
    IndexFlags,
    /// All but the last packet.
    AllButLast,
    /// How many rows there are.
    Length,
    /// Whether the server still says why it closes.
    LastWord,
}

/// On both servers.
pub(crate) const BOTH: &[Flavor] = &[Flavor::MariaDb, Flavor::MySql];

/// A script that runs everywhere, with the steps to come.
pub(crate) fn script(name: &'static str, covers: &'static [&'static str]) -> Script {
    Script {
        name,
        covers,
        on: BOTH,
        needs: 0,
        matrix: Matrix::All,
        account: atone_tests::server::APP,
        setup: Vec::new(),
        steps: Vec::new(),
    }
}

impl Script {
    pub(crate) fn mariadb(mut self) -> Self {
        self.on = &[Flavor::MariaDb];
        self
    }

    pub(crate) fn mysql(mut self) -> Self {
        self.on = &[Flavor::MySql];
        self
    }

    pub(crate) fn needs(mut self, capabilities: u64) -> Self {
        self.needs = capabilities;
        self
    }

    pub(crate) fn matrix(mut self, matrix: Matrix) -> Self {
        self.matrix = matrix;
        self
    }

    pub(crate) fn admin(mut self) -> Self {
        self.account = atone_tests::server::ADMIN;
        self
    }

    pub(crate) fn setup(mut self, statements: &[&str]) -> Self {
        self.setup.extend(statements.iter().map(|&s| s.to_owned()));
        self
    }

    pub(crate) fn steps(mut self, steps: Vec<Step>) -> Self {
        self.steps.extend(steps);
        self
    }
}

impl Step {
    fn new(name: impl Into<String>, act: Act) -> Self {
        Self { session: 'a', name: name.into(), act, may: Vec::new() }
    }

    /// Done by this session.
    pub(crate) fn by(mut self, session: char) -> Self {
        self.session = session;
        self
    }

    /// With something that may differ.
    pub(crate) fn may(mut self, may: May) -> Self {
        self.may.push(may);
        self
    }

    /// Sending this file.
    pub(crate) fn file(mut self, make: fn() -> Vec<u8>) -> Self {
        if let Act::Command(_, file) = &mut self.act {
            *file = Some(make);
        }
        self
    }

    /// Only the command: the reply is read by [`receive`].
    pub(crate) fn sent(mut self) -> Self {
        self.act = match self.act {
            Act::Command(payload, _) => Act::Send(payload),
            other => other,
        };
        self.name = format!("send: {}", self.name);
        self
    }
}

/// `COM_QUERY`
pub(crate) fn q(sql: &str) -> Step {
    qb(sql.as_bytes())
}

/// `COM_QUERY` with text that is not UTF-8.
pub(crate) fn qb(sql: &[u8]) -> Step {
    let name: Vec<u8> = sql.iter().copied().take(120).collect();
    let act = Act::Command(Payload::Query(sql.to_vec(), Vec::new()), None);
    Step::new(name.escape_ascii().to_string(), act)
}

/// `COM_QUERY` with attributes.
pub(crate) fn qa(sql: &str, attributes: Vec<Param>) -> Step {
    let act = Act::Command(Payload::Query(sql.as_bytes().to_vec(), attributes), None);
    Step::new(format!("with attributes: {sql}"), act)
}

/// `COM_QUERY` in which `{a}` is the connection id of the session `a`.
pub(crate) fn about(sql: &str) -> Step {
    Step::new(sql, Act::Command(Payload::About(sql.to_owned()), None))
}

/// A command by its bytes.
pub(crate) fn raw(name: &str, bytes: &[u8]) -> Step {
    Step::new(name, Act::Command(Payload::Bytes(bytes.to_vec()), None))
}

/// A command that is made when it is needed.
pub(crate) fn made(name: &str, make: impl Fn(u64, u32) -> Vec<u8> + Send + Sync + 'static) -> Step {
    Step::new(name, Act::Command(Payload::Made(Box::new(make)), None))
}

/// A command that is a byte and a text.
pub(crate) fn com(name: &str, command: u8, text: &str) -> Step {
    raw(name, &payload::text(command, text.as_bytes()))
}

/// MariaDB's id of the statement that was prepared last.
pub(crate) const LAST: u32 = u32::MAX;

/// `COM_STMT_PREPARE`. A script counts the statements that a session prepared from 1.
pub(crate) fn prepare(sql: &str) -> Step {
    raw(&format!("prepare {sql}"), &payload::text(payload::STMT_PREPARE, sql.as_bytes()))
}

/// `COM_STMT_EXECUTE`
pub(crate) fn execute(id: u32, params: Vec<Param>) -> Step {
    executed(Execute { id, params, ..Execute::default() })
}

/// `COM_STMT_EXECUTE` in all its forms.
pub(crate) fn executed(execute: Execute) -> Step {
    let name = format!("execute {} with {} parameters", execute.id, execute.params.len());
    Step::new(name, Act::Command(Payload::Execute(execute), None))
}

/// A command about a statement.
pub(crate) fn stmt(name: &str, command: u8, id: u32, rest: &[u8]) -> Step {
    let act = Act::Command(Payload::Statement(command, id, rest.to_vec()), None);
    Step::new(format!("{name} {id}"), act)
}

/// `COM_PING`
pub(crate) fn ping() -> Step {
    raw("ping", &[payload::PING])
}

/// `COM_BINLOG_DUMP` from the end of the log.
pub(crate) fn dump() -> Step {
    Step::new("dump the binary log", Act::Command(Payload::Dump, None))
}

/// `COM_PROCESS_KILL`
pub(crate) fn kill(session: char) -> Step {
    Step::new(format!("kill {session}"), Act::Command(Payload::Kill(session), None))
}

/// A statement of Atone's own, through the proxy.
pub(crate) fn global(words: &'static str) -> Step {
    Step::new(words, Act::Global(words))
}

/// Reads the reply to the first command that has none yet.
pub(crate) fn receive() -> Step {
    Step::new("receive", Act::Receive)
}

/// Logs in with changes.
pub(crate) fn open(name: &str, change: fn(&mut Login)) -> Step {
    Step::new(format!("open {name}"), Act::Open(change))
}

/// Changes the user.
pub(crate) fn change_user(name: &str, change: fn(&mut Login)) -> Step {
    Step::new(format!("change user: {name}"), Act::ChangeUser(change))
}

/// Bytes as they are.
pub(crate) fn bytes(name: &str, all: &[u8]) -> Step {
    Step::new(name, Act::Bytes(all.to_vec()))
}

/// Reads one packet or the end.
pub(crate) fn packet() -> Step {
    Step::new("a packet", Act::Packet)
}

/// Reads up to the connection's end.
pub(crate) fn end() -> Step {
    Step::new("the end", Act::End)
}

/// Closes without a word.
pub(crate) fn close() -> Step {
    Step::new("close", Act::Close)
}

/// Waits, asking the server around everything.
pub(crate) fn wait_for(sql: &str) -> Step {
    Step::new(format!("wait for {sql}"), Act::Await(sql.to_owned()))
}

/// Reads nothing for a while.
pub(crate) fn dawdle() -> Step {
    Step::new("dawdle", Act::Dawdle)
}

/// One setting under which scripts are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Shown on failure; also part of the schema's name.
    pub(crate) name: &'static str,
    /// As the documentation calls it.
    pub(crate) title: &'static str,
    /// TLS on both legs.
    pub(crate) tls: bool,
    /// Compression.
    pub(crate) compression: Compression,
    /// What the client asks for.
    pub(crate) capabilities: u64,
    /// Whether [`Matrix::Few`] has it.
    pub(crate) few: bool,
}

const NO_EOF: u64 = caps::FULL & !caps::DEPRECATE_EOF;

/// All of them. The first is that of [`Matrix::One`].
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "plain",
        title: "TCP",
        tls: false,
        compression: Compression::None,
        capabilities: caps::FULL,
        few: true,
    },
    Setting {
        name: "eof",
        title: "TCP, without CLIENT_DEPRECATE_EOF",
        tls: false,
        compression: Compression::None,
        capabilities: NO_EOF,
        few: false,
    },
    Setting {
        name: "minimal",
        title: "TCP, with the fewest capabilities",
        tls: false,
        compression: Compression::None,
        capabilities: caps::MINIMAL,
        few: false,
    },
    Setting {
        name: "tls",
        title: "TLS",
        tls: true,
        compression: Compression::None,
        capabilities: NO_EOF,
        few: false,
    },
    Setting {
        name: "zlib",
        title: "zlib",
        tls: false,
        compression: Compression::Zlib,
        capabilities: caps::FULL,
        few: false,
    },
    Setting {
        name: "zlib_minimal",
        title: "zlib, with the fewest capabilities",
        tls: false,
        compression: Compression::Zlib,
        capabilities: caps::MINIMAL,
        few: false,
    },
    Setting {
        name: "zstd",
        title: "zstd, level 3",
        tls: false,
        compression: Compression::Zstd(3),
        capabilities: caps::FULL,
        few: false,
    },
    Setting {
        name: "tls_zlib",
        title: "TLS and zlib",
        tls: true,
        compression: Compression::Zlib,
        capabilities: caps::FULL,
        few: true,
    },
    Setting {
        name: "tls_zstd",
        title: "TLS and zstd, level 10",
        tls: true,
        compression: Compression::Zstd(10),
        capabilities: NO_EOF,
        few: true,
    },
];

impl Setting {
    /// Whether a script is played under this setting.
    pub(crate) fn has(&self, script: &Script) -> bool {
        script.needs & !self.capabilities == 0
            && match script.matrix {
                Matrix::All => true,
                Matrix::Few => self.few,
                Matrix::One => *self == SETTINGS[0],
            }
    }

    /// The capability for its compression.
    pub(crate) fn compression_bit(&self) -> u64 {
        match self.compression {
            Compression::None => 0,
            Compression::Zlib => caps::COMPRESS,
            Compression::Zstd(_) => caps::ZSTD_COMPRESSION,
        }
    }

    /// Whether a server of this kind has it.
    pub(crate) fn on(&self, flavor: Flavor) -> bool {
        flavor == Flavor::MySql || !matches!(self.compression, Compression::Zstd(_))
    }
}
