//! Comparing outputs line by line.

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::{Flavor, cli};

/// Where an output comes from, for the list of known differences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) flavor: Flavor,
    pub(crate) driver: &'static str,
    pub(crate) way: &'static str,
}

/// A line that is not the same through the proxy, and why.
struct Difference {
    /// A driver's id, or `*`.
    driver: &'static str,
    /// Names of ways, separated by spaces.
    way: &'static str,
    /// What the line begins with.
    line: &'static str,
    #[allow(dead_code, reason = "for the reader")]
    why: &'static str,
}

/// Everything that may differ. It is to be empty.
const DIFFERENCES: &[Difference] = &[Difference {
    driver: "mysql_async",
    way: "committed rolled-back",
    line: "insert: 1 None 0",
    why: "MySQL warns of bytes that are not UTF-8 in the literal that the parameter becomes",
}];

impl Known {
    fn difference(self, line: &str) -> Option<&'static str> {
        let fits = |known: &&Difference| {
            (known.driver == "*" || known.driver == self.driver)
                && known.way.split(' ').any(|way| way == self.way)
                && line.starts_with(known.line)
        };
        DIFFERENCES.iter().find(fits).map(|known| known.why)
    }
}

/// Fails unless the program went through the proxy as it went straight.
pub(crate) fn same(straight: &str, through: Result<cli::Output>, known: &Known) -> Result<()> {
    let through = through?;
    let (straight, found): (Vec<_>, Vec<_>) = (straight.lines().collect(), through.stdout.lines().collect());
    let result = lines(&straight, &found, &|line| known.difference(line));
    let (flavor, ended) = (known.flavor, through.code);
    result.with_context(|| {
        format!("on {flavor}, through the proxy (exit status {ended})\n{}", through.stderr)
    })?;
    ensure!(ended == 0, "exit status {ended} through the proxy, after the same output\n{}", through.stderr);
    Ok(())
}

/// The end of what a program wrote.
pub(crate) fn tail(output: &cli::Output) -> String {
    let lines: Vec<&str> = output.stdout.lines().collect();
    let from = lines.len().saturating_sub(8);
    let shown: Vec<String> = lines[from..].iter().map(|line| clip(line)).collect();
    format!("{}\n{}", shown.join("\n"), output.stderr)
}

/// Fails at the first line that differs and is not excused.
pub(crate) fn lines<S: AsRef<str>>(
    expected: &[S],
    found: &[S],
    excused: &dyn Fn(&str) -> Option<&'static str>,
) -> Result<()> {
    const NOTHING: &str = "(nothing)";
    let mut heading = "";
    for n in 0..expected.len().max(found.len()) {
        let line = |from: &'_ [S]| from.get(n).map_or(NOTHING.to_owned(), |s| s.as_ref().to_owned());
        let (wanted, got) = (line(expected), line(found));
        if wanted.starts_with("== ") {
            heading = expected[n].as_ref();
        }
        if wanted != got && excused(&wanted).is_none() {
            bail!(
                "line {} ({heading}) differs\nexpected: {}\nfound:    {}",
                n + 1,
                clip(&wanted),
                clip(&got)
            );
        }
    }
    Ok(())
}

fn clip(line: &str) -> String {
    match line.char_indices().nth(2000) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

/// Fails unless the output has these sections, and something in each.
pub(crate) fn sections(output: &str, expected: &str) -> Result<()> {
    let mut found: Vec<(&str, usize)> = Vec::new();
    for line in output.lines() {
        match (line.strip_prefix("== "), found.last_mut()) {
            (Some(name), _) => found.push((name, 0)),
            (None, Some((_, lines))) => *lines += 1,
            (None, None) => bail!("a line before the first section: {line}"),
        }
    }
    ensure!(found.pop() == Some(("end", 0)), "no end");
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    let expected: Vec<&str> = expected.split_whitespace().collect();
    ensure!(names == expected, "the program's sections are {names:?}, the list has {expected:?}");
    ensure!(found.iter().all(|(_, lines)| *lines > 1), "a section with next to nothing in it: {found:?}");
    Ok(())
}
