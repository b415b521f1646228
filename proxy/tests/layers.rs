//! The modules at the root of this crate, each with all that is in it: each uses only those of the layers below its
//! own.

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

fn imports() -> Arrows {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).imports()
}

#[test]
fn modules_use_the_layers_below_theirs() {
    let imports = imports();
    assert!(imports.has("session::gate", "net"), "{imports:?}");
    assert_eq!(imports.against(LAYERS), [""; 0]);
    assert_eq!(imports.of_rooms().in_circles(), [""; 0]);
}
