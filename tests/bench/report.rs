//! What was measured: medians, ratios and exponents, as Markdown and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cpu::Used;
use crate::large::Kind;
use crate::mode::Mode;

/// What one transaction took, on average over those of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// CPU time of the processes.
    pub(crate) used: Used,
    /// From its first statement to the answer to its last.
    pub(crate) wall: Duration,
}

/// All samples of one statement with one number of rows, run in one way.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The statement.
    pub(crate) kind: Kind,
    /// How many rows it changes.
    pub(crate) rows: u64,
    /// How it is run.
    pub(crate) mode: Mode,
    /// One a round.
    pub(crate) samples: Vec<Sample>,
}

/// The median, which is no number where there are none. Puts the values in order.
pub(crate) fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    let upper = all.len() / 2;
    match all.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => all[upper],
        _ => f64::midpoint(all[upper - 1], all[upper]),
    }
}

impl Cell {
    /// The median of something, in milliseconds.
    fn median_ms(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        let mut all: Vec<f64> = self.samples.iter().map(|sample| of(sample).as_secs_f64() * 1e3).collect();
        median(&mut all)
    }

    /// The CPU time that counts. Straight on the server the other processes have nothing to do with it.
    fn cpu(&self, sample: &Sample) -> Duration {
        if self.mode == Mode::Bare { sample.used.server } else { sample.used.total() }
    }

    fn cpu_ms(&self) -> f64 {
        self.median_ms(|sample| self.cpu(sample))
    }

    /// How far the rounds are apart: (most - least) / median of the CPU time.
    fn spread(&self) -> f64 {
        let all = || self.samples.iter().map(|sample| self.cpu(sample).as_secs_f64() * 1e3);
        (all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min)) / self.cpu_ms()
    }

    fn json(&self) -> Value {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let samples = self.samples.iter().map(|sample| {
            json!({
                "server_cpu_ms": ms(sample.used.server),
                "proxy_cpu_ms": ms(sample.used.proxy),
                "coordinator_cpu_ms": ms(sample.used.coordinator),
                "wall_ms": ms(sample.wall),
            })
        });
        json!({
            "statement": self.kind.name(),
            "rows": self.rows,
            "mode": self.mode.name(),
            "cpu_ms": self.cpu_ms(),
            "wall_ms": self.median_ms(|sample| sample.wall),
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

/// What was measured on one kind of server.
#[derive(Debug)]
pub(crate) struct Report {
    /// What the server says it is.
    pub(crate) server: String,
    /// The machine, the date, the options.
    pub(crate) surroundings: Vec<(&'static str, String)>,
    /// What was measured.
    pub(crate) cells: Vec<Cell>,
}

/// The power of the number of rows that the CPU time grows with: 1 is linear.
fn exponent(fewer: &Cell, more: &Cell) -> f64 {
    (more.cpu_ms() / fewer.cpu_ms()).log10() / (more.rows as f64 / fewer.rows as f64).log10()
}

impl Report {
    fn cell(&self, kind: Kind, rows: u64, mode: Mode) -> Option<&Cell> {
        self.cells.iter().find(|cell| (cell.kind, cell.rows, cell.mode) == (kind, rows, mode))
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.cells.iter().map(|cell| cell.kind).collect();
        kinds.dedup();
        kinds
    }

    fn rows(&self) -> Vec<u64> {
        let mut rows: Vec<u64> = self.cells.iter().map(|cell| cell.rows).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// Everything, each round by itself.
    pub(crate) fn json(&self) -> Value {
        let surroundings = self.surroundings.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        json!({
            "server": self.server,
            "surroundings": surroundings.collect::<serde_json::Map<_, _>>(),
            "cells": self.cells.iter().map(Cell::json).collect::<Vec<_>>(),
        })
    }

    /// Everything as tables.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        let surroundings: Vec<String> =
            self.surroundings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        writeln!(out, "{}. {}.\n", self.server, surroundings.join("; "))?;
        self.summary(&mut out)?;
        for (mode, title) in [(Mode::Commit, "Committed"), (Mode::Rollback, "Rolled back")] {
            writeln!(out, "\n{title}, by process:\n")?;
            self.processes(&mut out, mode)?;
        }
        if self.cells.iter().all(|cell| cell.samples.len() > 1) {
            self.spread(&mut out)?;
        }
        Ok(out)
    }

    /// How far the rounds are apart, so that a reader sees what a difference means.
    fn spread(&self, out: &mut String) -> Result<()> {
        let mut spreads: Vec<f64> = self.cells.iter().map(Cell::spread).collect();
        spreads.sort_by(f64::total_cmp);
        let of = |share: usize| spreads.get(spreads.len() * share / 100).copied().unwrap_or(f64::NAN) * 100.0;
        writeln!(
            out,
            "\nBetween the rounds of a cell CPU times differ by {:.0} % in the median, and by {:.0} % or more in a tenth of the cells.",
            of(50),
            of(90)
        )?;
        Ok(())
    }

    /// For each statement and way: how often the bare CPU time, and the exponents.
    fn summary(&self, out: &mut String) -> Result<()> {
        let rows = self.rows();
        write!(out, "| statement | |")?;
        for count in &rows {
            write!(out, " × bare, {} rows |", thousands(*count))?;
        }
        for pair in rows.windows(2) {
            write!(out, " exponent, {} to {} |", thousands(pair[0]), thousands(pair[1]))?;
        }
        writeln!(out, "\n| --- | --- |{}", " ---: |".repeat(2 * rows.len() - 1))?;
        for kind in self.kinds() {
            for mode in Mode::ALL {
                let title = if mode == Mode::Bare { kind.title() } else { "" };
                let way = match mode {
                    Mode::Bare => "bare",
                    Mode::Commit => "committed",
                    Mode::Rollback => "rolled back",
                };
                write!(out, "| {title} | {way} |")?;
                for count in &rows {
                    let cells = (self.cell(kind, *count, mode), self.cell(kind, *count, Mode::Bare));
                    let (Some(cell), Some(bare)) = cells else { continue };
                    write!(out, " {:.1} |", cell.cpu_ms() / bare.cpu_ms())?;
                }
                for pair in rows.windows(2) {
                    let cells = (self.cell(kind, pair[0], mode), self.cell(kind, pair[1], mode));
                    let (Some(fewer), Some(more)) = cells else { continue };
                    write!(out, " {:.2} |", exponent(fewer, more))?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }

    /// For each statement and number of rows: the CPU time of each process.
    fn processes(&self, out: &mut String, mode: Mode) -> Result<()> {
        writeln!(
            out,
            "| statement | rows | bare, ms | server, ms | proxy, ms | coordinator, ms | all, ms | µs a row | wall, bare, ms | \
             wall, ms |\n| --- |{}",
            " ---: |".repeat(9)
        )?;
        for kind in self.kinds() {
            for count in self.rows() {
                let cells = (self.cell(kind, count, mode), self.cell(kind, count, Mode::Bare));
                let (Some(cell), Some(bare)) = cells else { continue };
                writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {} | {:.1} | {} | {} |",
                    kind.title(),
                    thousands(count),
                    short(bare.cpu_ms()),
                    short(cell.median_ms(|sample| sample.used.server)),
                    short(cell.median_ms(|sample| sample.used.proxy)),
                    short(cell.median_ms(|sample| sample.used.coordinator)),
                    short(cell.cpu_ms()),
                    cell.cpu_ms() * 1e3 / count as f64,
                    short(bare.median_ms(|sample| sample.wall)),
                    short(cell.median_ms(|sample| sample.wall)),
                )?;
            }
        }
        Ok(())
    }
}

/// `100,000`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

/// As many digits as mean something.
fn short(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// Puts a text between the two lines of a file that mark the place of this server's tables.
pub(crate) fn write_docs(file: &Path, server: &str, text: &str) -> Result<()> {
    let path = file.display();
    let old = std::fs::read_to_string(file).with_context(|| format!("can't read {path}"))?;
    let begin = format!("<!-- begin: large statements on {server} -->\n");
    let end = format!("<!-- end: large statements on {server} -->\n");
    let missing = || format!("{path} does not have the lines {} and {}", begin.trim_end(), end.trim_end());
    let (before, rest) = old.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    std::fs::write(file, format!("{before}{begin}\n{text}\n{end}{after}"))
        .with_context(|| format!("can't write {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(rows: u64, mode: Mode, server_ms: &[u64], proxy_ms: u64) -> Cell {
        let sample = |&ms| {
            let server = Duration::from_millis(ms);
            let used = Used { server, proxy: Duration::from_millis(proxy_ms), ..Used::default() };
            Sample { used, wall: server }
        };
        Cell { kind: Kind::Delete, rows, mode, samples: server_ms.iter().map(sample).collect() }
    }

    #[test]
    fn medians_and_exponents() {
        let bare = cell(1_000, Mode::Bare, &[30, 10, 20], 900);
        assert_eq!(bare.cpu_ms(), 20.0);
        let (fewer, more) =
            (cell(1_000, Mode::Commit, &[20, 40], 10), cell(10_000, Mode::Commit, &[3_900], 100));
        assert_eq!(fewer.cpu_ms(), 40.0);
        assert!((exponent(&fewer, &more) - 2.0).abs() < 1e-9);
        let report = Report { server: "a server".into(), surroundings: Vec::new(), cells: vec![bare, fewer] };
        let text = report.markdown().unwrap();
        assert!(text.contains("| DELETE | 1,000 | 20 | 30 | 10 | 0.0 | 40 | 40.0 |"), "{text}");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn only_what_is_between_the_marks_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.md");
        let around = |text: &str| {
            format!(
                "a\n<!-- begin: large statements on X -->\n{text}<!-- end: large statements on X -->\nb\n"
            )
        };
        std::fs::write(&file, around("old\n")).unwrap();
        write_docs(&file, "X", "new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), around("\nnew\n\n"));
        assert!(write_docs(&file, "Y", "new\n").is_err());
    }
}
