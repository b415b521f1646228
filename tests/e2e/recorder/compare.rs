//! The first difference between two recordings.

use std::fmt::Write as _;

use atone_tests::wire::Decoded;

use crate::play::Recorded;

/// How many packets before the first difference are shown.
const CONTEXT: usize = 3;

/// Where two recordings begin to differ.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// The step's name.
    pub(crate) step: String,
    /// What differs, for people.
    pub(crate) text: String,
}

/// The first difference; `None` where there is none.
pub(crate) fn compare(straight: &[Recorded], through: &[Recorded]) -> Option<Difference> {
    for (one, other) in straight.iter().zip(through) {
        if one == other && one.failure.is_none() {
            continue;
        }
        let mut text = String::new();
        if let Some(failure) = &one.failure {
            let _ = writeln!(text, "  straight: this client gave up: {failure}");
        }
        if let Some(failure) = &other.failure {
            let _ = writeln!(text, "  through:  this client gave up: {failure}");
        }
        if one.failure.is_none() && other.failure.is_none() {
            text += &packets(&one.packets, &other.packets);
        }
        return Some(Difference { step: one.step.clone(), text });
    }
    let (fewer, more) = (straight.len().min(through.len()), straight.len().max(through.len()));
    (fewer < more).then(|| Difference {
        step: "the end".to_owned(),
        text: format!("  {} steps straight, {} through the proxy", straight.len(), through.len()),
    })
}

fn packets(straight: &[(Option<u8>, Decoded)], through: &[(Option<u8>, Decoded)]) -> String {
    let same = straight.iter().zip(through).take_while(|(one, other)| one == other).count();
    let mut text = String::new();
    let line = |packet: Option<&(Option<u8>, Decoded)>| match packet {
        Some((Some(number), packet)) => format!("#{number} {packet}"),
        Some((None, packet)) => packet.to_string(),
        None => "(nothing more)".to_owned(),
    };
    for at in same.saturating_sub(CONTEXT)..same {
        let _ = writeln!(text, "      both: {}", line(straight.get(at)));
    }
    let _ = writeln!(text, "  straight: {}", line(straight.get(same)));
    let _ = writeln!(text, "  through:  {}", line(through.get(same)));
    if let (Some((_, one)), Some((_, other))) = (straight.get(same), through.get(same)) {
        if one.long != other.long {
            let _ = writeln!(text, "    the long values differ");
        }
        for (name, value) in &one.fields {
            if other.get(name) != Some(value) {
                let _ = writeln!(text, "    {name}: {value} <> {}", other.get(name).unwrap_or("(none)"));
            }
        }
    }
    text
}
