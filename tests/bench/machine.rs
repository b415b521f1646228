//! What a run is on: servers, their memory, the machine.

use anyhow::{Result, bail};
use atone_tests::Flavor;
use atone_tests::flavor::version_of;

/// The kinds of servers that `--server` names.
pub(crate) fn flavors(name: &str) -> Result<Vec<Flavor>> {
    Ok(match name {
        "mariadb" => vec![Flavor::MariaDb],
        "mysql" => vec![Flavor::MySql],
        "both" => vec![Flavor::MariaDb, Flavor::MySql],
        other => bail!("unknown server {other}"),
    })
}

/// So that neither a small buffer pool nor a small redo log is what is measured.
const SERVER_MEMORY: &str = "512M";

/// The options of a server with memory enough.
pub(crate) fn server_memory(flavor: Flavor) -> Vec<String> {
    let redo = match flavor {
        Flavor::MariaDb => "--innodb-log-file-size",
        Flavor::MySql => "--innodb-redo-log-capacity",
    };
    vec![format!("--innodb-buffer-pool-size={SERVER_MEMORY}"), format!("{redo}={SERVER_MEMORY}")]
}

/// What the flavor's server says it is.
pub(crate) fn server_version(flavor: Flavor) -> Result<String> {
    let version = version_of(&flavor.server_program()?)?;
    // What precedes the version is the path of the program
    Ok(version.split_once("Ver ").map_or(version.as_str(), |(_, rest)| rest).to_owned())
}

/// What a reader has to know of the run.
pub(crate) fn surroundings(revision: Option<&str>, rounds: usize) -> Vec<(&'static str, String)> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let line = |text: String, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, v)| v));
        value.map(|value| value.trim().to_owned())
    };
    let model =
        line(read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "an unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib = line(read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or_default();
    let atone = match revision {
        Some(revision) => format!("{} ({revision})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    };
    vec![
        ("Atone", atone),
        (
            "machine",
            format!(
                "{model}, {cores} cores, {} GiB, Linux {}",
                memory_kib >> 20,
                read("/proc/sys/kernel/osrelease").trim()
            ),
        ),
        ("data in", std::env::temp_dir().display().to_string()),
        ("rounds", rounds.to_string()),
    ]
}

/// How much the machine has to do, over the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
