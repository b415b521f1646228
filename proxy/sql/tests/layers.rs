//! The sources of the crate import from the layers below theirs only, and no two files import each other in a circle.

#![allow(clippy::expect_used, clippy::panic, reason = "clippy knows test functions only")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// The modules at the crate's root, from the ground up. A file imports from its own module and from lower layers;
/// modules of one layer do not import each other. The face of the crate, `lib.rs`, is above all of them.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["lex"],
    &["clause", "screen", "xid"],
    &["evaluate"],
    &["statement"],
    &["analysis"],
    &["definition"],
];

/// The path of a module below the crate's root: `["lex", "text"]` for `src/lex/text.rs`.
type Module = Vec<String>;

/// The modules of a crate, and which of them each imports.
#[derive(Debug, Default)]
struct Imports(BTreeMap<Module, BTreeSet<Module>>);

impl Imports {
    /// Reads the sources from `lib.rs` on. Test modules are left out: they test through the crate's root.
    fn of_crate(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_module(root, Vec::new(), &mut files);
        let imports = files.iter().map(|(module, file)| {
            let mut reader = Reader { module, files: &files, found: BTreeSet::new() };
            reader.visit_file(file);
            reader.found.remove(module);
            (module.clone(), reader.found)
        });
        Self(imports.collect())
    }

    /// Imports that run up or sideways, as `from -> to`.
    fn against_layers(&self) -> Vec<String> {
        let arrows = self.0.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
        let wrong = arrows.filter(|(from, to)| from.first() != to.first() && layer(from) <= layer(to));
        wrong.map(|(from, to)| format!("{} -> {}", shown(from), shown(to))).collect()
    }

    /// What a file imports, and what that imports.
    fn reached<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut reached, mut pending) = (BTreeSet::new(), vec![from]);
        while let Some(module) = pending.pop() {
            pending.extend(self.0.get(module).into_iter().flatten().filter(|to| reached.insert(*to)));
        }
        reached
    }

    /// Files that import themselves by way of others.
    fn in_circles(&self) -> Vec<String> {
        self.0.keys().filter(|module| self.reached(module).contains(module)).map(shown).collect()
    }
}

/// The layer of a module's first name; that of `lib.rs` is the topmost.
fn layer(module: &Module) -> usize {
    let Some(first) = module.first() else { return LAYERS.len() };
    let layer = LAYERS.iter().position(|modules| modules.contains(&first.as_str()));
    layer.unwrap_or_else(|| panic!("{first} is in no layer"))
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

/// Parses a module's file and those of the modules that it declares.
fn read_module(dir: &Path, module: Module, files: &mut BTreeMap<Module, syn::File>) {
    let path = match module.last() {
        None => dir.join("lib.rs"),
        Some(name) if dir.join(name).is_dir() => dir.join(name).join("mod.rs"),
        Some(name) => dir.join(format!("{name}.rs")),
    };
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let dir = path.parent().expect("a file is in a folder");
    for item in &file.items {
        if let Item::Mod(ItemMod { ident, attrs, content: None, .. }) = item
            && !is_test(attrs)
        {
            read_module(dir, [module.clone(), vec![ident.to_string()]].concat(), files);
        }
    }
    files.insert(module, file);
}

fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("cfg") && attr.parse_args::<syn::Path>().is_ok_and(|cfg| cfg.is_ident("test"))
    })
}

/// Collects the modules that the paths of a file lead to.
struct Reader<'a> {
    module: &'a Module,
    files: &'a BTreeMap<Module, syn::File>,
    found: BTreeSet<Module>,
}

impl Reader<'_> {
    /// Notes the module that a path leads to, where it is one of the crate's.
    fn note(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let child = || [self.module.as_slice(), std::slice::from_ref(first)].concat();
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let (start, from) = match first.as_str() {
            "crate" => (&[][..], 1),
            "self" => (self.module.as_slice(), 1),
            "super" => (&self.module[..self.module.len() - supers], supers),
            _ if self.files.contains_key(&child()) => (self.module.as_slice(), 0),
            _ => return,
        };
        let mut absolute = [start, &path[from..]].concat();
        while !self.files.contains_key(&absolute) {
            absolute.pop();
        }
        self.found.insert(absolute);
    }

    fn note_tree(&mut self, tree: &UseTree, mut before: Vec<String>) {
        let ident = match tree {
            UseTree::Path(path) => &path.ident,
            UseTree::Name(name) => &name.ident,
            UseTree::Rename(rename) => &rename.ident,
            UseTree::Glob(_) => return self.note(&before),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.note_tree(item, before.clone()));
            }
        };
        before.push(ident.to_string());
        match tree {
            UseTree::Path(path) => self.note_tree(&path.tree, before),
            _ => self.note(&before),
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    /// `pub(crate)` is a path as well.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments);
        syn::visit::visit_path(self, path);
    }
}

fn of_this_crate() -> Imports {
    Imports::of_crate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn imports_follow_the_layers() {
    let imports = of_this_crate();
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    assert!(imports.0[&module("statement::insert")].contains(&module("clause::assignments")), "{imports:?}");
    assert_eq!(imports.against_layers(), [""; 0]);
}

#[test]
fn no_file_is_in_a_circle() {
    assert_eq!(of_this_crate().in_circles(), [""; 0]);
}
