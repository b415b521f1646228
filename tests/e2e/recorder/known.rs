//! Differences that are known, each with its reason. A script that does not differ any more where it should fails.

use atone_tests::Flavor;

use crate::script::Setting;

/// A difference that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// On which server; both where there is none.
    pub(crate) flavor: Option<Flavor>,
    /// Under which settings, by the beginnings of their names; all where there is none.
    pub(crate) settings: &'static [&'static str],
    /// The script.
    pub(crate) script: &'static str,
    /// A part of the step's name.
    pub(crate) step: &'static str,
    /// Whether it depends on when the packets arrive, and so is not seen each time.
    pub(crate) racy: bool,
    /// Why.
    pub(crate) why: &'static str,
}

/// All of them.
pub(crate) const KNOWN: &[Known] = &[Known {
    flavor: Some(Flavor::MariaDb),
    settings: &["tls_zlib"],
    script: "change_user_malformed",
    step: "ping",
    racy: false,
    why: "behind its error MariaDB numbers compressed packets as no client expects; the proxy goes on in order",
}];

/// Capabilities that the proxy does not offer where the server does.
pub(crate) fn masked(_flavor: Flavor) -> u64 {
    0
}

/// The one that is expected here.
pub(crate) fn known(flavor: Flavor, setting: &Setting, script: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        known.script == script
            && known.flavor.is_none_or(|only| only == flavor)
            && (known.settings.is_empty() || known.settings.contains(&setting.name))
    })
}
