//! The modules at the root of this crate, and those in its session, each with all that is in it: each uses only those
//! of the layers below its own.

use std::path::Path;

use atone_sources::arrows::{Arrows, Layers};
use atone_sources::modules::Sources;

/// From the ground up; `lib.rs` is above all of them.
const LAYERS: Layers<'_> = &[
    &["coordinator_error", "heavy", "memory", "own_user", "tls", "waits"],
    &["config"],
    &["compressed"],
    &["net"],
    &["backend"],
    &["http", "local_waits", "phase_two", "session"],
    &["listener"],
    &["run"],
];

/// The rooms of the session, from the ground up. The methods of `Session` are spread over them, and calls count as
/// imports do. What all of them work on, `Session` with what it tells of itself, is in `session/mod.rs`, which is
/// left out.
const SESSION: Layers<'_> = &[
    &["analysed", "catalog", "expect", "login", "sql_state", "statements"],
    &["link"],
    &["change_user", "reading", "relay", "warnings"],
    &["forward"],
    &["answer", "rollback"],
    &["instead", "plain", "settings"],
    &["answers", "local", "named", "unbound"],
    &["bind"],
    &["statement"],
    &["packet"],
    &["prepared"],
    &["bulk"],
];

fn sources() -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn imports() -> Arrows {
    sources().imports()
}

#[test]
fn modules_use_the_layers_below_theirs() {
    let imports = imports();
    assert!(imports.has("session::link::gate", "net"), "{imports:?}");
    assert_eq!(imports.against(LAYERS), [""; 0]);
    assert_eq!(imports.of_rooms().in_circles(), [""; 0]);
}

#[test]
fn rooms_of_the_session_use_the_layers_below_theirs() {
    let (imports, calls) = (imports().within("session"), sources().calls("Session").within("session"));
    assert!(imports.has("named", "link::own"), "{imports:?}");
    assert!(calls.has("statement::bound", "named"), "{calls:?}");
    let all = imports.and(calls).without_root();
    assert_eq!(all.against(SESSION), [""; 0]);
    assert_eq!(all.of_rooms().in_circles(), [""; 0]);
}
