//! The project's daemons as processes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::paths;
use crate::process::Process;
use crate::rest::Rest;

/// How long a daemon may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A daemon with a config file: the coordinator or the proxy.
#[derive(Debug)]
pub struct Daemon {
    binary: &'static str,
    /// The folder of another build's binaries, where it is one of those.
    build: Option<PathBuf>,
    config: PathBuf,
    log: PathBuf,
    rest: Rest,
    process: Option<Process>,
}

impl Daemon {
    /// Writes the config into `dir` and prepares the daemon, without starting it. `http_port` is where the config has
    /// it answer `/readyz`.
    pub fn prepare(binary: &'static str, dir: &Path, config: &str, http_port: u16) -> Result<Self> {
        let file = dir.join(format!("{binary}.toml"));
        std::fs::write(&file, config).with_context(|| format!("can't write {}", file.display()))?;
        Ok(Self {
            binary,
            build: None,
            config: file,
            log: dir.join(format!("{binary}.log")),
            rest: Rest::new(http_port)?,
            process: None,
        })
    }

    /// The same, run from the binaries in `build`, which another build of the project has made.
    #[must_use]
    pub fn of_build(mut self, build: &Path) -> Self {
        self.build = Some(build.to_owned());
        self
    }

    /// The config file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its HTTP interface.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts the process without waiting until it serves.
    pub fn launch(&mut self) -> Result<()> {
        self.kill9()?;
        let args: [OsString; 2] = ["--config".into(), self.config.clone().into()];
        let level = std::env::var("ATONE_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
        let env = [("RUST_LOG", level.as_str()), ("RUST_BACKTRACE", "1")];
        let program = match &self.build {
            Some(build) => build.join(self.binary),
            None => paths::binary(self.binary)?,
        };
        self.process = Some(Process::spawn(self.binary, &program, &args, &env, &self.log)?);
        Ok(())
    }

    /// Starts it, on the same ports and data, and waits until `/readyz` answers 200.
    pub async fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_until_ready().await
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            self.process.as_mut().context("it was not started")?.check_running()?;
            let seen = match self.rest.get("/readyz").await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("{}: {}", answer.status, answer.text.trim()),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!("{} was not ready in {READY_LIMIT:?}: {seen}\n{}", self.binary, self.log_tail(60));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGKILL; returns when it is gone. Nothing happens where it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill9(),
            None => Ok(()),
        }
    }

    /// SIGTERM; the exit status.
    pub async fn sigterm(&mut self) -> Result<ExitStatus> {
        self.process.take().context("it does not run")?.terminate(READY_LIMIT).await
    }

    /// Fails, with the log's end, where it does not run any more.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.as_mut().context("it does not run")?.check_running()
    }

    /// SIGSTOP: it answers nothing until [`Daemon::resume`].
    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().context("it does not run")?.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.as_ref().context("it does not run")?.resume()
    }

    /// SIGHUP: it reads its certificates again.
    pub fn hang_up(&self) -> Result<()> {
        self.process.as_ref().context("it does not run")?.hang_up()
    }

    /// All that it has logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        crate::process::tail(self.binary, &self.log, lines)
    }
}
