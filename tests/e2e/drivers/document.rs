//! The table of docs/compatibility.md that is made of the list.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::list::{DRIVERS, Driver, SECTIONS, Version};

const BEGIN: &str = "<!-- drivers -->\n";
const END: &str = "<!-- /drivers -->\n";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md")
}

impl Driver {
    /// The version that its lock file has.
    fn version(&self) -> Result<&'static str> {
        match self.version {
            Version::System => Ok("as packaged"),
            Version::Pinned { version, file, text } => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(file);
                let pinned = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let wanted = text.replace("{}", version);
                ensure!(pinned.contains(&wanted), "{file} does not have {wanted}");
                Ok(version)
            }
        }
    }
}

fn table() -> Result<String> {
    let mut text = String::from(
        "Each program of tests/drivers runs straight against the server and through the proxy, on MariaDB and on MySQL, and prints\n\
         the same; without TLS, with TLS on both legs, and with zlib compression where the driver has it. Then it runs its DML\n\
         in a global transaction, in the text protocol and prepared, autocommitted and in transactions: once committed, once\n\
         rolled back.\n\n\
         | language | driver | version | compression | what its program does |\n| --- | --- | --- | --- | --- |\n",
    );
    for driver in DRIVERS {
        let compression = if driver.compression { "zlib" } else { "none" };
        text += &format!(
            "| {} | {} | {} | {compression} | {} |\n",
            driver.language,
            driver.name,
            driver.version()?,
            driver.sections.split_whitespace().collect::<Vec<_>>().join(", ")
        );
    }
    text += "\n| word | meaning |\n| --- | --- |\n";
    for (name, meaning) in SECTIONS {
        ensure!(
            DRIVERS.iter().any(|driver| driver.sections.split_whitespace().any(|section| section == *name)),
            "no driver does {name}"
        );
        text += &format!("| {name} | {meaning} |\n");
    }
    for section in DRIVERS.iter().flat_map(|driver| driver.sections.split_whitespace()) {
        ensure!(SECTIONS.iter().any(|(name, _)| *name == section), "{section} is not explained");
    }
    Ok(text)
}

/// Fails unless the document has the table as the list makes it; `ATONE_WRITE_DOCS=1` puts it in.
pub(crate) fn check() -> Result<()> {
    let path = file();
    let old = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = old.split_once(BEGIN).context("no beginning of the drivers' section")?;
    let (_, after) = rest.split_once(END).context("no end of the drivers' section")?;
    let new = format!("{before}{BEGIN}\n{}\n{END}{after}", table()?);
    if new == old {
        return Ok(());
    }
    if std::env::var_os("ATONE_WRITE_DOCS").is_some_and(|v| v == "1") {
        return std::fs::write(&path, new).with_context(|| path.display().to_string());
    }
    bail!(
        "docs/compatibility.md is not what the list of drivers gives: run this test with ATONE_WRITE_DOCS=1"
    )
}
