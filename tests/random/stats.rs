//! Figures of a run.

use std::collections::BTreeMap;
use std::fmt;

use atone_tests::effects::Effect;

use crate::around::Kind;
use crate::play::{refusal, writes};
use crate::script::{Case, Role};

/// How often statements of one kind were run.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: usize,
    effective: usize,
    refused: usize,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.all += other.all;
        self.effective += other.effective;
        self.refused += other.refused;
    }
}

/// Why the two outcomes of a case are not compared. It is restored to the byte all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// Its statements have other values each time.
    Volatile,
    /// Others interfere with it, by the clock.
    Disturbed,
    /// A refused statement had used up generated numbers, and the outcomes differ.
    UsedUpNumbers,
    /// The server had another plan for the same statement, and the outcomes differ.
    OtherPlan,
}

impl Excuse {
    pub(crate) const ALL: [Excuse; 4] =
        [Excuse::Volatile, Excuse::Disturbed, Excuse::UsedUpNumbers, Excuse::OtherPlan];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Excuse::Volatile => "volatile",
            Excuse::Disturbed => "disturbed",
            Excuse::UsedUpNumbers => "numbers used up",
            Excuse::OtherPlan => "another plan",
        }
    }

    /// How many cases of a thousand are excused so. The first two are drawn so often; the others hide what differs,
    /// and were counted in runs of 40,000 statements.
    fn share(self) -> f64 {
        match self {
            Excuse::Volatile => 100.0,
            Excuse::Disturbed => 135.0,
            Excuse::UsedUpNumbers => 14.0,
            Excuse::OtherPlan => 3.0,
        }
    }

    /// The most of so many cases that may be excused so: four standard deviations above what is expected, and one. A
    /// run of few cases is hardly ever above that by chance; in one of hundreds (of the rarest: some thousands) twice
    /// as many are.
    pub(crate) fn most(self, cases: usize) -> usize {
        let expected = self.share() * cases as f64 / 1000.0;
        (expected + 4.0 * expected.sqrt()) as usize + 1
    }
}

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
    /// Cases whose two outcomes are not compared.
    not_compared: BTreeMap<Excuse, usize>,
    /// Cases whose tables the server did not make.
    pub(crate) unmade: usize,
    reasons: BTreeMap<String, usize>,
    forms: BTreeMap<&'static str, Tally>,
    tables: BTreeMap<&'static str, Tally>,
    /// Cases and statements among each kind of surroundings.
    around: BTreeMap<Kind, (usize, usize)>,
    /// Statements that failed where others interfered.
    pub(crate) disturbed: usize,
}

impl Stats {
    /// The figures of one case that ran bound.
    pub(crate) fn of(case: &Case, effects: &[Effect]) -> Self {
        let mut stats = Self { cases: 1, statements: effects.len(), ..Self::default() };
        let around = case.around.kinds(case.sessions.len());
        stats.around = around.into_iter().map(|kind| (kind, (1, effects.len()))).collect();
        if case.around.disturbed {
            stats.disturbed = effects.iter().filter(|effect| interfered(effect)).count();
        }
        for (op, effect) in case.ops.iter().zip(effects) {
            let write = writes(op);
            stats.writing += usize::from(write);
            stats.effective += usize::from(write && effect.affected > 0);
            if let Role::Write(kind) = op.role {
                let tally = Tally {
                    all: 1,
                    effective: usize::from(effect.affected > 0),
                    refused: usize::from(refusal(effect).is_some()),
                };
                stats.forms.entry(kind.form).or_default().add(tally);
                let on = if kind.on.is_empty() { "any other table" } else { kind.on };
                stats.tables.entry(on).or_default().add(tally);
            }
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
        for (excuse, count) in other.not_compared {
            *self.not_compared.entry(excuse).or_default() += count;
        }
        self.unmade += other.unmade;
        for (form, tally) in other.forms {
            self.forms.entry(form).or_default().add(tally);
        }
        for (on, tally) in other.tables {
            self.tables.entry(on).or_default().add(tally);
        }
        for (kind, (cases, statements)) in other.around {
            let tally = self.around.entry(kind).or_default();
            *tally = (tally.0 + cases, tally.1 + statements);
        }
        self.disturbed += other.disturbed;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

impl Stats {
    /// The two outcomes of the case are not compared.
    pub(crate) fn excuse(&mut self, excuse: Excuse) {
        *self.not_compared.entry(excuse).or_default() += 1;
    }

    /// How many cases were excused so.
    pub(crate) fn excused(&self, excuse: Excuse) -> usize {
        self.not_compared.get(&excuse).copied().unwrap_or_default()
    }

    /// How often this kind of surroundings was met: in so many cases, or others in so many statements.
    pub(crate) fn met(&self, kind: Kind) -> usize {
        match kind {
            Kind::Disturbed => self.disturbed,
            _ => self.around.get(&kind).map_or(0, |(cases, _)| *cases),
        }
    }
}

/// Whether a statement was killed, waited in vain or died in a deadlock.
fn interfered(effect: &Effect) -> bool {
    effect.error.as_ref().is_some_and(|e| [1205, 1213, 1317, 1020].contains(&e.code))
}

/// A reason without the names of this case: the words after `column`, `table` and the like vary.
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
             {} refused ({:.1} %); {} cases restored but not compared ({}), {} not made",
            self.cases,
            self.statements,
            self.writing,
            self.effective,
            self.errors,
            share(self.errors, self.statements),
            self.refused,
            share(self.refused, self.statements),
            self.not_compared.values().sum::<usize>(),
            Excuse::ALL.map(|excuse| format!("{} {}", excuse.name(), self.excused(excuse))).join(", "),
            self.unmade,
        )?;
        for (title, kinds) in [("form", &self.forms), ("table", &self.tables)] {
            writeln!(f, "  {:>7} {:>8} {:>8}  {title}", "run", "changed", "refused")?;
            for (kind, tally) in kinds {
                let refused = format!("{:.1} %", share(tally.refused, tally.all));
                writeln!(f, "  {:>7} {:>8} {refused:>8}  {kind}", tally.all, tally.effective)?;
            }
        }
        writeln!(f, "  {:>7} {:>10}  surroundings", "cases", "statements")?;
        for (kind, (cases, statements)) in &self.around {
            writeln!(f, "  {cases:>7} {statements:>10}  {}", kind.name())?;
        }
        writeln!(f, "  {:>18}  statements that others interfered with", self.disturbed)?;
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.into_iter().take(25) {
            writeln!(f, "  {count:6}  {reason}")?;
        }
        Ok(())
    }
}
