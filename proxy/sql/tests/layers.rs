//! The sources of the crate import from the layers below theirs only, and no two files import each other in a circle.

use std::path::Path;

use atone_sources::arrows::{Arrows, Layers};
use atone_sources::modules::Sources;

/// A file imports from its own module and from lower layers. The face of the crate, `lib.rs`, is above all of them.
const LAYERS: Layers<'_> = &[
    &["types"],
    &["lex"],
    &["clause", "screen", "xid"],
    &["evaluate"],
    &["statement"],
    &["analysis"],
    &["definition"],
];

fn imports() -> Arrows {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).imports()
}

#[test]
fn imports_follow_the_layers() {
    let imports = imports();
    assert!(imports.has("statement::insert", "clause::assignments"), "{imports:?}");
    assert_eq!(imports.against(LAYERS), [""; 0]);
}

#[test]
fn no_file_is_in_a_circle() {
    assert_eq!(imports().in_circles(), [""; 0]);
}
