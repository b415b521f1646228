//! The command line of `atone-bench short`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::Flavor;

use super::transfers::Mode;
use crate::machine::flavors;

pub(crate) const USAGE: &str = "usage: atone-bench short [--server mariadb|mysql|both] [--clients N,N,…] [--seconds N] \
                                [--rounds N] [--modes NAME,NAME,…] [--hot] [--relay] [--against DIR] [--json FILE] \
                                [--revision TEXT]";

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Options {
    /// On these kinds of servers.
    pub(crate) flavors: Vec<Flavor>,
    /// With so many clients at a time.
    pub(crate) clients: Vec<usize>,
    /// How long a sample is.
    pub(crate) duration: Duration,
    /// How often each is measured.
    pub(crate) rounds: usize,
    /// The ways to run a transfer.
    pub(crate) modes: Vec<Mode>,
    /// Whether transfers from one account are measured as well.
    pub(crate) hot: bool,
    /// Whether sessions that are not bound are measured as well.
    pub(crate) relay: bool,
    /// The folder of another build's binaries.
    pub(crate) against: Option<PathBuf>,
    /// Where everything is written.
    pub(crate) json: Option<PathBuf>,
    /// The revision that was built.
    pub(crate) revision: Option<String>,
}

impl Options {
    /// Reads the arguments behind `short`; `None` where help is asked for.
    pub(crate) fn parse(mut rest: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut parsed = Options {
            flavors: vec![Flavor::MariaDb, Flavor::MySql],
            clients: vec![1, 16],
            duration: Duration::from_secs(3),
            rounds: 5,
            modes: Mode::ALL.to_vec(),
            hot: false,
            relay: false,
            against: None,
            json: None,
            revision: None,
        };
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "-h" | "--help" => return Ok(None),
                "--hot" => {
                    parsed.hot = true;
                    continue;
                }
                "--relay" => {
                    parsed.relay = true;
                    continue;
                }
                _ => {}
            }
            let value = rest.next().context(USAGE)?;
            match argument.as_str() {
                "--server" => parsed.flavors = flavors(&value).context(USAGE)?,
                "--clients" => {
                    parsed.clients =
                        value.split(',').map(str::parse).collect::<Result<_, _>>().context(USAGE)?;
                }
                "--seconds" => parsed.duration = Duration::from_secs(value.parse().context(USAGE)?),
                "--rounds" => parsed.rounds = value.parse().context(USAGE)?,
                "--modes" if value == "none" => parsed.modes = Vec::new(),
                "--modes" => parsed.modes = value.split(',').map(mode).collect::<Result<_>>()?,
                "--against" => parsed.against = Some(value.into()),
                "--json" => parsed.json = Some(value.into()),
                "--revision" => parsed.revision = Some(value),
                other => bail!("unknown argument {other}\n{USAGE}"),
            }
        }
        ensure!(
            parsed.clients.iter().all(|clients| (1..=200).contains(clients)),
            "--clients takes 1 to 200 each"
        );
        ensure!(parsed.rounds > 0 && !parsed.duration.is_zero(), "--rounds and --seconds take at least 1");
        Ok(Some(parsed))
    }
}

fn mode(name: &str) -> Result<Mode> {
    let names = Mode::ALL.map(Mode::name).join(", ");
    Mode::ALL
        .into_iter()
        .find(|mode| mode.name() == name)
        .with_context(|| format!("unknown mode {name}; there are {names}"))
}
