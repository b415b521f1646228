//! Running command-line programs to their end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command did.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit status; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output, if the exit status is 0.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit status {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// Runs a program; `stdin` is what it reads.
pub async fn run(program: &Path, args: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't run {}", program.display()))?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    let input = stdin.to_vec();
    // Beside the reading of its output, else both sides could wait for each other.
    let feeding = tokio::spawn(async move {
        // A program that ends without reading everything is no error here.
        let _ = pipe.write_all(&input).await;
    });
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("{} took longer than {LIMIT:?}", program.display()))??;
    feeding.await?;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
