//! Other programs that relay connections: HAProxy in TCP mode, and MySQL Router. Each is used where it is installed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use atone_tests::paths;
use atone_tests::ports::free_port;
use atone_tests::process::Process;
use tokio::net::TcpStream;

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A program that relays connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// HAProxy.
    HaProxy,
    /// MySQL Router.
    Router,
}

impl Program {
    /// All of them.
    pub(crate) const ALL: [Program; 2] = [Program::HaProxy, Program::Router];

    /// Its binary, which is also its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::HaProxy => "haproxy",
            Program::Router => "mysqlrouter",
        }
    }

    fn find(self) -> Option<PathBuf> {
        let fixed = Path::new("/usr/sbin").join(self.name());
        paths::on_path(self.name()).or_else(|| fixed.is_file().then_some(fixed))
    }

    /// Its configuration, and the arguments before the file's name.
    fn configuration(self, dir: &Path, port: u16, server: u16) -> (String, &'static [&'static str]) {
        match self {
            Program::HaProxy => (
                format!(
                    "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  \
                     timeout server 1h\nlisten bench\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{server}\n"
                ),
                &["-db", "-f"],
            ),
            Program::Router => {
                let dir = dir.display();
                (
                    format!(
                        "[DEFAULT]\nlogging_folder={dir}\nruntime_folder={dir}\ndata_folder={dir}\n[logger]\n\
                         level=WARNING\n[routing:bench]\nbind_address=127.0.0.1\nbind_port={port}\n\
                         destinations=127.0.0.1:{server}\nrouting_strategy=first-available\nprotocol=classic\n\
                         client_ssl_mode=PASSTHROUGH\nserver_ssl_mode=AS_CLIENT\n"
                    ),
                    &["-c"],
                )
            }
        }
    }
}

/// Such a program, running in front of one server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Which one it is.
    pub(crate) program: Program,
    /// Where it listens.
    pub(crate) port: u16,
    process: Process,
    // Removed when it has ended
    _dir: tempfile::TempDir,
}

impl Relay {
    /// Starts it in front of the server on this port, and waits until it listens; `None` where it is not installed.
    pub(crate) async fn start(program: Program, server: u16) -> Result<Option<Self>> {
        let Some(binary) = program.find() else { return Ok(None) };
        let dir = paths::fresh_dir("relay-")?;
        let port = free_port()?;
        let (text, before_file) = program.configuration(dir.path(), port, server);
        let file = dir.path().join("relay.conf");
        std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
        let mut args: Vec<OsString> = before_file.iter().map(OsString::from).collect();
        args.push(file.into());
        let mut process = Process::spawn(program.name(), &binary, &args, &[], &dir.path().join("log"))?;
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            process.check_running()?;
            if Instant::now() >= deadline {
                bail!("{} did not listen in {START_LIMIT:?}\n{}", program.name(), process.log_tail(20));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Some(Self { program, port, process, _dir: dir }))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}
