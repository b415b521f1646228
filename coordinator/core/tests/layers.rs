//! The layers of this crate, read from the imports of its sources: each knows only those below it, and no files import
//! each other in a circle.

use std::path::Path;

use atone_sources::arrows::{Arrows, Layers};
use atone_sources::modules::Sources;

const LAYERS: Layers<'_> = &[
    &["config", "model"],
    &[
        "counts",
        "dispatch",
        "local_waits",
        "locks",
        "purges",
        "registrations",
        "reports",
        "rollback_waits",
        "timers",
        "transactions",
    ],
    &["view"],
    &["step"],
    &["core"],
    &["query"],
];

fn imports() -> Arrows {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).imports()
}

#[test]
fn every_module_knows_only_the_layers_below_it() {
    let imports = imports();
    assert!(imports.has("core::decisions", "step"), "{imports:?}");
    assert_eq!(imports.against(LAYERS), [""; 0]);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_eq!(imports().in_circles(), [""; 0]);
}
