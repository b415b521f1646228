//! The layers of this crate, read from the imports of its sources: each knows only those below it, and no files import
//! each other in a circle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of the crate, from the bottom up. Those of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
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

/// A module's path in the crate, such as `["model", "branch"]`. The root's is empty.
type Module = Vec<String>;

#[test]
fn every_module_knows_only_the_layers_below_it() {
    let imports = imports();
    let modules: BTreeSet<&str> =
        imports.keys().filter_map(|module| module.first().map(String::as_str)).collect();
    let declared: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().collect();
    assert_eq!(modules, declared, "the modules, and those that have a layer");

    let layer_of = |module: &Module| {
        let Some(top) = module.first() else { return LAYERS.len() };
        LAYERS.iter().position(|layer| layer.contains(&top.as_str())).unwrap()
    };
    for (module, imported) in &imports {
        for other in imported.iter().filter(|other| other.first() != module.first()) {
            assert!(layer_of(other) < layer_of(module), "{module:?} imports from {other:?}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = imports();
    // What imports only from files that are left out is in no circle, and is left out as well.
    loop {
        let open: BTreeSet<Module> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, imported| !imported.is_disjoint(&open));
        if left.len() == before {
            break;
        }
    }
    assert_eq!(left, BTreeMap::new(), "files in a circle, or above one");
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let modules: BTreeSet<Module> = ["", "a", "a::b", "a::c", "d"].into_iter().map(module_of).collect();
    let read = |module: &str, text: &str| -> Vec<String> {
        let read = imports_of(&module_of(module), text, &modules);
        read.into_iter().map(|module| module.join("::")).collect()
    };
    assert_eq!(read("a::b", "use super::Thing;\nuse super::c::{One, Two};"), ["a", "a::c"]);
    assert_eq!(read("a::b", "use super::{Thing, c::One};\nfn f(x: crate::d::X) {}"), ["a", "a::c", "d"]);
    assert_eq!(read("a", "mod b;\npub(crate) use b::{X, Y};\nuse std::fmt;\n// use crate::d::X;"), ["a::b"]);
    assert_eq!(read("a::b", "use crate::{a::c, d::*};\nuse super::super::d;"), ["a::c", "d"]);
    assert_eq!(read("d", "use crate::a::X;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n"), ["a"]);
}

fn module_of(path: &str) -> Module {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// By module: the modules that it imports from. Tests are left out.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut sources = BTreeMap::new();
    read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut sources);
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    let imports = sources.iter().map(|(module, text)| (module.clone(), imports_of(module, text, &modules)));
    imports.collect()
}

fn read_folder(folder: &Path, parent: &[String], sources: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let child: Module = parent.iter().cloned().chain([name.clone()]).collect();
        match name.as_str() {
            _ if path.is_dir() => read_folder(&path, &child, sources),
            "tests" => {}
            "lib" | "mod" => drop(sources.insert(parent.to_vec(), std::fs::read_to_string(path).unwrap())),
            _ => drop(sources.insert(child, std::fs::read_to_string(path).unwrap())),
        }
    }
}

fn imports_of(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut imported = BTreeSet::new();
    for (place, _) in text.match_indices("::") {
        // Every path has a first `::`; what stands before it says where the path begins.
        let before = &text[..place];
        let first = before.rsplit(|c: char| !is_of_name(c)).next().unwrap();
        if before[..before.len() - first.len()].ends_with("::") {
            continue;
        }
        let start: Module = match first {
            "crate" => Module::new(),
            "super" => module[..module.len() - 1].to_vec(),
            _ => {
                let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
                if !modules.contains(&child) {
                    continue;
                }
                child
            }
        };
        imported.extend(ends_of(start, &text[place + 2..], modules));
    }
    imported.remove(module);
    imported
}

/// The modules that a path leads to which goes on like this: several, if it has braces.
fn ends_of(from: Module, rest: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    if let Some(list) = rest.strip_prefix('{') {
        let (mut ends, mut depth, mut item) = (BTreeSet::new(), 0, 0);
        for (place, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    let text = list[item..place].trim();
                    if !text.is_empty() {
                        ends.extend(ends_of(from.clone(), text, modules));
                    }
                    item = place + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return ends;
    }
    let name: String = rest.chars().take_while(|c| is_of_name(*c)).collect();
    let next: Module = match name.as_str() {
        "super" => from[..from.len() - 1].to_vec(),
        _ => from.iter().cloned().chain([name.clone()]).collect(),
    };
    if !modules.contains(&next) {
        return BTreeSet::from([from]);
    }
    match rest[name.len()..].strip_prefix("::") {
        Some(rest) => ends_of(next, rest, modules),
        None => BTreeSet::from([next]),
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
