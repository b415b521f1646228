//! Where things are: the project's binaries, the cache, this process's private folder.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

/// The repository's folder for what is downloaded or prepared once.
pub fn cache_dir() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join(".cache")
}

/// A program of this name on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// One of the project's binaries: from `ATONE_BIN_DIR`, or the cargo target folder that this program runs from.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("ATONE_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let exe = std::env::current_exe().context("can't tell where this program is")?;
            let dir = exe.parent().context("this program is in no folder")?;
            if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
        }
    };
    let file = dir.join(name);
    if !file.is_file() {
        bail!("{} is missing: cargo build --workspace", file.display());
    }
    Ok(file)
}

/// The private folder of this process, removed when the process has ended, however it ended.
pub fn run_dir() -> Result<&'static Path> {
    static RUN: OnceLock<std::result::Result<(PathBuf, Child), String>> = OnceLock::new();
    match RUN.get_or_init(|| create_run_dir().map_err(|error| error.to_string())) {
        Ok((dir, _watchdog)) => Ok(dir),
        Err(error) => bail!("can't make a private folder: {error}"),
    }
}

/// Removes the private folder now, for a program that ends in order.
pub fn remove_run_dir() -> Result<()> {
    let dir = run_dir()?;
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("can't remove {}", dir.display()))?;
    }
    Ok(())
}

fn create_run_dir() -> io::Result<(PathBuf, Child)> {
    // The system's folder for temporary files has a short path, as the name of a Unix socket needs.
    let dir = tempfile::Builder::new().prefix("atone-").tempdir()?.keep();
    // The watchdog holds the other end of a pipe, which the kernel closes when this process is gone. The servers are
    // killed at that moment as well (see `process`); the folder is removed again in case one was still writing.
    // Its own process group keeps a Ctrl-C at the terminal from ending it first.
    let watchdog = Command::new("/bin/sh")
        .arg("-c")
        .arg("cat >/dev/null; rm -rf -- \"$1\"; sleep 1; rm -rf -- \"$1\"")
        .arg("atone-watchdog")
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok((dir, watchdog))
}

/// A new folder in this process's private one. Removed when the value is dropped.
pub fn fresh_dir(prefix: &str) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir_in(run_dir()?).context("can't make a folder")
}
