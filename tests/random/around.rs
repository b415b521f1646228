//! What surrounds the sessions of a case: how its clients talk, what the servers' globals are, and who interferes.
//! All of it comes from the case's seed, apart from its statements.

use std::collections::BTreeSet;

use atone_tests::Flavor;

use crate::globals::{self, Global};
use crate::rng::Rng;

/// A kind of surroundings, for the figures and to leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A session without CLIENT_MULTI_STATEMENTS.
    Single,
    /// `;` in literals, comments and quoted names.
    Semicolons,
    /// A session under latin1.
    Latin1,
    /// A session under gbk.
    Gbk,
    /// Parameters whose types are not those of their columns.
    Parameters,
    /// Other clients kill statements and hold rows, so that the proxy's own statements fail as well.
    Disturbed,
    /// Global variables.
    Globals,
    /// A small `max_allowed_packet`, and values near and above it.
    Packets,
    /// The service account lacks a right.
    Rights,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Single,
        Self::Semicolons,
        Self::Latin1,
        Self::Gbk,
        Self::Parameters,
        Self::Disturbed,
        Self::Globals,
        Self::Packets,
        Self::Rights,
    ];

    /// Its name in `ATONE_RANDOM_WITHOUT`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Semicolons => "semicolons",
            Self::Latin1 => "latin1",
            Self::Gbk => "gbk",
            Self::Parameters => "parameters",
            Self::Disturbed => "disturbed",
            Self::Globals => "globals",
            Self::Packets => "packets",
            Self::Rights => "rights",
        }
    }

    /// In how many of a hundred draws it comes.
    fn share(self) -> usize {
        match self {
            Self::Single | Self::Semicolons | Self::Globals => 50,
            Self::Latin1 | Self::Gbk => 8,
            Self::Parameters => 25,
            Self::Disturbed => 15,
            Self::Packets => 12,
            Self::Rights => 10,
        }
    }
}

/// The kinds that a run has.
#[derive(Clone, Debug)]
pub(crate) struct Kinds(BTreeSet<Kind>);

impl Kinds {
    /// All but those whose names are in the list, which has commas.
    ///
    /// # Errors
    /// A name that is of no kind.
    pub(crate) fn without(list: &str) -> Result<Self, String> {
        let mut kinds: BTreeSet<Kind> = Kind::ALL.into();
        for name in list.split(',').filter(|name| !name.is_empty()) {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            kinds.remove(&kind.ok_or_else(|| format!("{name} is no kind of surroundings"))?);
        }
        Ok(Self(kinds))
    }

    /// Those that it has.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().copied()
    }

    /// Draws a kind: whether it comes is the same whatever else is left out.
    fn draw(&self, rng: &mut Rng, kind: Kind) -> bool {
        rng.percent(kind.share()) && self.0.contains(&kind)
    }
}

/// How many seeds that follow each other have the same servers.
const CASES_PER_ERA: u64 = 4;

/// What the servers are like for some cases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Era {
    pub(crate) number: u64,
    pub(crate) globals: Vec<(Global, &'static str)>,
    /// `max_allowed_packet`, in bytes.
    pub(crate) packet: Option<usize>,
    /// The right that the service account lacks.
    pub(crate) lacks: Option<&'static str>,
}

impl Era {
    fn draw(flavor: Flavor, seed: u64, kinds: &Kinds) -> Self {
        let number = seed / CASES_PER_ERA;
        let mut rng = Rng::new(number ^ 0x0065_7261);
        let mut era = Self { number, ..Self::default() };
        if kinds.draw(&mut rng, Kind::Globals) {
            for _ in 0..rng.between(1, 3) {
                let all = globals::of(flavor);
                let global = *rng.pick(&all);
                if era.globals.iter().all(|(other, _)| other.name != global.name) {
                    era.globals.push((global, rng.pick::<&str>(global.values)));
                }
            }
        }
        era.packet = kinds.draw(&mut rng, Kind::Packets).then(|| *rng.pick(&[16_384, 65_536]));
        let right = *rng.pick(&["TRIGGER", "SHOW VIEW", "CREATE"]);
        era.lacks = kinds.draw(&mut rng, Kind::Rights).then_some(right);
        era
    }

    /// What the application's sessions set back for themselves.
    pub(crate) fn prelude(&self, flavor: Flavor) -> Vec<String> {
        self.globals.iter().filter_map(|(global, _)| global.set_back(flavor)).collect()
    }
}

/// How one session talks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Talk {
    /// Without CLIENT_MULTI_STATEMENTS.
    pub(crate) single: bool,
    /// What it names by SET NAMES.
    pub(crate) charset: Option<&'static str>,
}

/// The surroundings of one case.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) era: Era,
    pub(crate) semicolons: bool,
    pub(crate) parameters: bool,
    pub(crate) disturbed: bool,
    /// Of each session, more than there are.
    pub(crate) talks: [Talk; 4],
}

impl Around {
    /// Those of this seed.
    pub(crate) fn draw(flavor: Flavor, seed: u64, kinds: &Kinds) -> Self {
        let mut rng = Rng::new(seed ^ 0x6172_6f75_6e64);
        let mut draw = |kind| kinds.draw(&mut rng, kind);
        Self {
            era: Era::draw(flavor, seed, kinds),
            semicolons: draw(Kind::Semicolons),
            parameters: draw(Kind::Parameters),
            disturbed: draw(Kind::Disturbed),
            talks: std::array::from_fn(|_| {
                let (latin1, gbk) = (draw(Kind::Latin1), draw(Kind::Gbk));
                Talk {
                    single: draw(Kind::Single),
                    charset: if gbk { Some("gbk") } else { latin1.then_some("latin1") },
                }
            }),
        }
    }

    /// What a reader of the case has to know.
    pub(crate) fn shown(&self, sessions: usize) -> String {
        let kinds: Vec<&str> = self.kinds(sessions).iter().map(|kind| kind.name()).collect();
        let mut out = format!("surroundings: {}", kinds.join(", "));
        for (global, value) in &self.era.globals {
            out += &format!("; GLOBAL {} = {value}", global.name);
        }
        if let Some(packet) = self.era.packet {
            out += &format!("; GLOBAL max_allowed_packet = {packet}");
        }
        if let Some(right) = self.era.lacks {
            out += &format!("; the service account lacks {right}");
        }
        for (session, _) in self.talks.iter().enumerate().take(sessions).filter(|(_, talk)| talk.single) {
            out += &format!("; session {session} is without CLIENT_MULTI_STATEMENTS");
        }
        out
    }

    /// The kinds that a case with so many sessions has.
    pub(crate) fn kinds(&self, sessions: usize) -> Vec<Kind> {
        let talks = &self.talks[..sessions.min(self.talks.len())];
        let under = |charset| talks.iter().any(|talk| talk.charset == Some(charset));
        Kind::ALL
            .into_iter()
            .filter(|kind| match kind {
                Kind::Single => talks.iter().any(|talk| talk.single),
                Kind::Semicolons => self.semicolons,
                Kind::Latin1 => under("latin1"),
                Kind::Gbk => under("gbk"),
                Kind::Parameters => self.parameters,
                Kind::Disturbed => self.disturbed,
                Kind::Globals => !self.era.globals.is_empty(),
                Kind::Packets => self.era.packet.is_some(),
                Kind::Rights => self.era.lacks.is_some(),
            })
            .collect()
    }
}
