//! What was measured of sessions that are not bound.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::Build;
use super::load::Load;
use super::relay::{Route, Variant};
use super::report::{Cell, build_name};

/// Sessions that are not bound, on all ways that there are.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// What was measured.
    pub(crate) cells: Vec<Cell<Variant>>,
    /// Programs that are not installed.
    pub(crate) missing: Vec<&'static str>,
}

impl Relayed {
    /// Everything, each round by itself.
    pub(crate) fn json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            let Variant { workload, route, clients } = cell.variant;
            let (route, build) = match route {
                Route::Direct => ("direct", None),
                Route::Proxy(build) => ("proxy", Some(build_name(build))),
                Route::Through(program) => (program.name(), None),
            };
            json!({
                "workload": workload.name(),
                "route": route,
                "build": build,
                "clients": clients,
                "samples": cell.samples_json(),
            })
        });
        json!({ "cells": cells.collect::<Vec<_>>(), "missing": self.missing })
    }

    /// Everything as a table.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        writeln!(out, "Sessions that are not bound, on the first server.\n")?;
        writeln!(
            out,
            "| what | clients | way | per second | × direct | × other build | p50, ms | p99, ms | \
             CPU of the server, µs each | of what relays | of the client | client, cores |\n| --- | ---: | --- |{}",
            " ---: |".repeat(9)
        )?;
        for cell in &self.cells {
            let Variant { workload, route, clients } = cell.variant;
            let base = |route| {
                let wanted = Variant { route, ..cell.variant };
                self.cells.iter().find(|cell| cell.variant == wanted)
            };
            let other = match route {
                Route::Proxy(Build::This) => base(Route::Proxy(Build::Other)),
                _ => None,
            };
            let relay = match route {
                Route::Direct => String::new(),
                _ => format!("{:.1}", cell.spread(|load| load.each_us(load.used.proxy))),
            };
            writeln!(
                out,
                "| {} | {clients} | {} | {:.0} | {} | {} | {:.3} | {:.3} | {:.1} | {relay} | {:.1} | {:.2} |",
                workload.name(),
                title(route),
                cell.spread(Load::rate),
                cell.times(base(Route::Direct)),
                cell.times(other),
                cell.spread(|load| load.percentile_ms(50)),
                cell.spread(|load| load.percentile_ms(99)),
                cell.spread(|load| load.each_us(load.used.server)),
                cell.spread(|load| load.each_us(load.client_cpu)),
                cell.spread(|load| load.client_cpu.as_secs_f64() / load.wall.as_secs_f64()),
            )?;
        }
        if !self.missing.is_empty() {
            writeln!(out, "\nLeft out, since not installed: {}.", self.missing.join(", "))?;
        }
        Ok(out)
    }
}

fn title(route: Route) -> &'static str {
    match route {
        Route::Direct => "direct",
        Route::Proxy(Build::This) => "proxy",
        Route::Proxy(Build::Other) => "proxy, other build",
        Route::Through(program) => program.name(),
    }
}
