//! Figures of a run.

use std::collections::BTreeMap;
use std::fmt;

use atone_tests::effects::Effect;

use crate::play::{refusal, writes};
use crate::script::Case;

/// What was run, and what was refused for which reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) cases: usize,
    pub(crate) statements: usize,
    pub(crate) writing: usize,
    /// Statements that wrote at least one row.
    pub(crate) effective: usize,
    /// Statements that the server answered with an error.
    pub(crate) errors: usize,
    pub(crate) refused: usize,
    reasons: BTreeMap<String, usize>,
}

impl Stats {
    /// The figures of one case that ran bound.
    pub(crate) fn of(case: &Case, effects: &[Effect]) -> Self {
        let mut stats = Self { cases: 1, statements: effects.len(), ..Self::default() };
        for (op, effect) in case.ops.iter().zip(effects) {
            let write = writes(&op.step);
            stats.writing += usize::from(write);
            stats.effective += usize::from(write && effect.affected > 0);
            match refusal(effect) {
                Some(reason) => {
                    stats.refused += 1;
                    *stats.reasons.entry(generalized(&reason)).or_default() += 1;
                }
                None => stats.errors += usize::from(effect.error.is_some()),
            }
        }
        stats
    }

    pub(crate) fn add(&mut self, other: Stats) {
        self.cases += other.cases;
        self.statements += other.statements;
        self.writing += other.writing;
        self.effective += other.effective;
        self.errors += other.errors;
        self.refused += other.refused;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// A reason without the names of this case: the words behind `column`, `table` and the like vary.
fn generalized(reason: &str) -> String {
    let reason = reason.rsplit_once(": ").map_or(reason, |(_, last)| last);
    reason
        .split(' ')
        .map(|word| if word.contains(['.', '`', '0', '1', '2', '3', '5', '6', '9']) { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |n: usize, of: usize| n as f64 * 100.0 / of.max(1) as f64;
        writeln!(
            f,
            "{} cases, {} statements, {} that write ({} of them changed rows); {} answered with an error ({:.1} %); \
             {} refused ({:.1} %)",
            self.cases,
            self.statements,
            self.writing,
            self.effective,
            self.errors,
            share(self.errors, self.statements),
            self.refused,
            share(self.refused, self.statements),
        )?;
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.into_iter().take(25) {
            writeln!(f, "  {count:6}  {reason}")?;
        }
        Ok(())
    }
}
