//! The rooms of the capture, which are the modules at its root, each with all that is in it: each uses only those of
//! the layers below its own.
//!
//! The methods of `Capture` are spread over the rooms, and what one room asks of another by them no import shows:
//! calls count as imports do. What all of them work on, `Capture` and its parts, is in `lib.rs`, which is left out.

use std::path::Path;

use atone_sources::arrows::{Arrows, Layers};
use atone_sources::modules::Sources;

/// From the ground up.
const LAYERS: Layers<'_> = &[
    &["collation", "error", "flight", "heavy", "journal", "params", "text"],
    &["diagnostics", "effect", "odd", "reach", "settings"],
    &["outcome", "port"],
    &["fault"],
    &["run"],
    &["images"],
    &["binding", "own_rows", "restorable"],
    &["commit", "effects", "own_error"],
    &["insert"],
    &["update_delete"],
];

fn arrows() -> (Arrows, Arrows) {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    (sources.imports().without_root(), sources.calls("Capture").without_root())
}

#[test]
fn rooms_use_the_layers_below_theirs() {
    let (imports, calls) = arrows();
    assert!(imports.has("insert::upsert", "effects::cascade"), "{imports:?}");
    assert!(calls.has("insert", "binding::hold"), "{calls:?}");
    let all = imports.and(calls);
    assert_eq!(all.against(LAYERS), [""; 0]);
    assert_eq!(all.of_rooms().in_circles(), [""; 0]);
}
