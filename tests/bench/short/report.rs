//! What was measured, as tables and as JSON: medians, how far the rounds are apart, and ratios.

use std::fmt::{self, Write as _};

use anyhow::Result;
use serde_json::{Value, json};

use super::load::Load;
use super::relay_report::Relayed;
use super::transfers::Mode;
use super::{Build, Variant};
use crate::report::median;

/// All samples of one thing that is measured.
#[derive(Debug)]
pub(crate) struct Cell<V> {
    /// What was run.
    pub(crate) variant: V,
    /// One a round.
    pub(crate) samples: Vec<Load>,
}

impl<V> Cell<V> {
    pub(super) fn spread(&self, of: impl Fn(&Load) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(of))
    }

    /// The rounds' ratios of something to the same of another cell. Samples of one round are near each other in time:
    /// what else the machine does then weighs on both.
    pub(super) fn ratio(&self, to: &Self, of: impl Fn(&Load) -> f64) -> Spread {
        Spread::of(self.samples.iter().zip(&to.samples).map(|(mine, other)| of(mine) / of(other)))
    }

    /// The ratio of the rates, or nothing where there is nothing to compare with.
    pub(super) fn times(&self, base: Option<&Self>) -> String {
        base.map(|base| format!("{:.2}", self.ratio(base, Load::rate))).unwrap_or_default()
    }

    pub(super) fn samples_json(&self) -> Value {
        let samples = self.samples.iter().map(|load| {
            json!({
                "transactions": load.transactions,
                "retries": load.retries,
                "wall_s": load.wall.as_secs_f64(),
                "per_second": load.rate(),
                "p50_ms": load.percentile_ms(50),
                "p99_ms": load.percentile_ms(99),
                "servers_cpu_us": load.each_us(load.used.server),
                "proxy_cpu_us": load.each_us(load.used.proxy),
                "coordinator_cpu_us": load.each_us(load.used.coordinator),
                "client_cpu_us": load.each_us(load.client_cpu),
            })
        });
        samples.collect()
    }
}

impl Cell<Variant> {
    fn json(&self) -> Value {
        let Variant { mode, build, hot, clients } = self.variant;
        json!({
            "mode": mode.name(),
            "build": build_name(build),
            "hot": hot,
            "clients": clients,
            "samples": self.samples_json(),
        })
    }
}

pub(super) fn build_name(build: Build) -> &'static str {
    match build {
        Build::This => "this",
        Build::Other => "other",
    }
}

/// CPU time of the servers, and of the proxy and the coordinator where they have to do with it.
fn cpu_us(mode: Mode, load: &Load) -> f64 {
    load.each_us(if mode.is_atone() { load.used.total() } else { load.used.server })
}

/// The median of the rounds, and the least and the most of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = values.collect();
        let median = median(&mut all);
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Self { median, min: end(all.first()), max: end(all.last()) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        if self.min == self.max {
            return write!(f, "{:.digits$}", self.median);
        }
        write!(f, "{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.min, self.max)
    }
}

/// What was measured on one kind of server.
#[derive(Debug)]
pub(crate) struct Report {
    /// What the server says it is.
    pub(crate) server: String,
    /// The machine, the options.
    pub(crate) surroundings: Vec<(&'static str, String)>,
    /// Transfers.
    pub(crate) cells: Vec<Cell<Variant>>,
    /// What is relayed, where it was measured.
    pub(crate) relayed: Option<Relayed>,
}

impl Report {
    fn cell(&self, variant: Variant) -> Option<&Cell<Variant>> {
        self.cells.iter().find(|cell| cell.variant == variant)
    }

    /// The kinds of runs that are compared with each other: hot or not, and with how many clients.
    fn groups(&self) -> Vec<(bool, usize)> {
        let mut groups: Vec<(bool, usize)> =
            self.cells.iter().map(|cell| (cell.variant.hot, cell.variant.clients)).collect();
        groups.dedup();
        groups
    }

    /// Everything, each round by itself.
    pub(crate) fn json(&self) -> Value {
        let surroundings = self.surroundings.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        json!({
            "server": self.server,
            "surroundings": surroundings.collect::<serde_json::Map<_, _>>(),
            "cells": self.cells.iter().map(Cell::<Variant>::json).collect::<Vec<_>>(),
            "relayed": self.relayed.as_ref().map(Relayed::json),
        })
    }

    /// Everything as tables.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        let surroundings: Vec<String> =
            self.surroundings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        writeln!(out, "{}. {}.", self.server, surroundings.join("; "))?;
        for (hot, clients) in self.groups() {
            let row = if hot { ", all from one account" } else { "" };
            writeln!(out, "\nClients: {clients}{row}.\n")?;
            self.rates(&mut out, hot, clients)?;
            writeln!(out)?;
            self.processes(&mut out, hot, clients)?;
        }
        if self.cells.iter().any(|cell| cell.variant.build == Build::Other) {
            writeln!(out, "\nThis build against the other: ratios, new / old.\n")?;
            self.builds(&mut out)?;
        }
        if let Some(relayed) = &self.relayed {
            writeln!(out, "\n{}", relayed.markdown()?)?;
        }
        Ok(out)
    }

    fn of_group(&self, hot: bool, clients: usize) -> impl Iterator<Item = &Cell<Variant>> {
        self.cells.iter().filter(move |cell| (cell.variant.hot, cell.variant.clients) == (hot, clients))
    }

    fn rates(&self, out: &mut String, hot: bool, clients: usize) -> Result<()> {
        writeln!(
            out,
            "| mode | per second | × direct | × bound | p50, ms | p99, ms | retries |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        let base = |mode| self.cell(Variant { mode, build: Build::This, hot, clients });
        let (direct, bound) = (base(Mode::Direct), base(Mode::ByHandPipelined));
        for cell in self.of_group(hot, clients) {
            writeln!(
                out,
                "| {} | {:.0} | {} | {} | {:.2} | {:.2} | {} |",
                title(cell.variant),
                cell.spread(Load::rate),
                cell.times(direct),
                cell.times(bound),
                cell.spread(|load| load.percentile_ms(50)),
                cell.spread(|load| load.percentile_ms(99)),
                cell.samples.iter().map(|load| load.retries).sum::<u64>(),
            )?;
        }
        Ok(())
    }

    fn processes(&self, out: &mut String, hot: bool, clients: usize) -> Result<()> {
        writeln!(
            out,
            "| CPU, µs each | servers | proxy | coordinator | all | client | client, cores |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for cell in self.of_group(hot, clients) {
            let mode = cell.variant.mode;
            let daemon = |of: fn(&Load) -> f64| {
                if mode.is_atone() { format!("{:.0}", cell.spread(of)) } else { String::new() }
            };
            writeln!(
                out,
                "| {} | {:.0} | {} | {} | {:.0} | {:.0} | {:.2} |",
                title(cell.variant),
                cell.spread(|load| load.each_us(load.used.server)),
                daemon(|load| load.each_us(load.used.proxy)),
                daemon(|load| load.each_us(load.used.coordinator)),
                cell.spread(|load| cpu_us(mode, load)),
                cell.spread(|load| load.each_us(load.client_cpu)),
                cell.spread(|load| load.client_cpu.as_secs_f64() / load.wall.as_secs_f64()),
            )?;
        }
        Ok(())
    }

    /// What a refactoring's "no worse" is read from: above 1 is better in the first two columns, worse in the others.
    fn builds(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "| mode | clients | per second | p50 | p99 | CPU, all | CPU, servers | CPU, proxy | CPU, coordinator |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for old in self.cells.iter().filter(|cell| cell.variant.build == Build::Other) {
            let this = Variant { build: Build::This, ..old.variant };
            let Some(new) = self.cell(this) else { continue };
            let ratio = |of: fn(&Load) -> f64| new.ratio(old, of);
            writeln!(
                out,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                title(this),
                this.clients,
                ratio(Load::rate),
                ratio(|load| load.percentile_ms(50)),
                ratio(|load| load.percentile_ms(99)),
                ratio(|load| load.each_us(load.used.total())),
                ratio(|load| load.each_us(load.used.server)),
                ratio(|load| load.each_us(load.used.proxy)),
                ratio(|load| load.each_us(load.used.coordinator)),
            )?;
        }
        Ok(())
    }
}

fn title(variant: Variant) -> String {
    let build = if variant.build == Build::Other { ", other build" } else { "" };
    let hot = if variant.hot { ", hot" } else { "" };
    format!("{}{hot}{build}", variant.mode.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_with_their_ends() {
        assert_eq!(format!("{:.1}", Spread::of([3.0, 1.0, 2.0].into_iter())), "2.0 (1.0..3.0)");
        assert_eq!(format!("{:.0}", Spread::of([1.0, 3.0].into_iter())), "2 (1..3)");
        assert_eq!(format!("{:.2}", Spread::of([1.5].into_iter())), "1.50");
    }
}
