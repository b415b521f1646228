//! Child processes that can't outlive this one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a state that gives no event is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A running child, its output in a file. Killed (SIGKILL) and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

type SpawnRequest = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a child from a thread that lives as long as the process: Linux sends the parent-death signal when the
/// *thread* that forked ends, and a test's thread ends with the test.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<SpawnRequest>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<SpawnRequest>();
        std::thread::spawn(move || {
            for (mut command, reply) in receiver {
                // The receiver of the reply waits for it; it can't be gone.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let sender = spawner.lock().map_err(|_| anyhow!("the spawning thread's lock is poisoned"))?.clone();
    sender.send((command, reply)).map_err(|_| anyhow!("the spawning thread is gone"))?;
    answer.recv().context("the spawning thread is gone")?.context("can't start the process")
}

impl Process {
    /// Starts `program` with `args`; its output is appended to `log`.
    pub fn spawn(
        name: &str,
        program: &Path,
        args: &[OsString],
        env: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        let output: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("can't open {}", log.display()))?;
        // setpriv sets the parent-death signal and becomes the program: same process id. A group of its own keeps a
        // Ctrl-C at the terminal from reaching it before its owner has decided what to do.
        let mut command = Command::new("setpriv");
        command
            .arg("--pdeathsig")
            .arg("KILL")
            .arg("--")
            .arg(program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("can't start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, when it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with the log's end, when it has ended already.
    pub fn check_running(&mut self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}\n{}", self.name, self.log_tail(60)),
        }
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no such process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGSTOP: the process stays, but does nothing until [`Process::resume`].
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// SIGTERM; waits at most `limit` for the end.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        self.wait(limit).await
    }

    /// Waits at most `limit` for the end.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} did not end in {limit:?}\n{}", self.name, self.log_tail(60));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// The last `lines` lines that it has written.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.name, &self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing more can be done about a failure here; the parent-death signal remains.
        let _ = self.kill9();
    }
}

fn read_lossy(file: &Path) -> String {
    std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last `lines` lines of a log, under a heading.
pub fn tail(name: &str, file: &Path, lines: usize) -> String {
    let text = read_lossy(file);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    let shown = all.get(from..).unwrap_or_default().join("\n");
    format!("---- {name}: last lines of its log ----\n{shown}\n")
}
