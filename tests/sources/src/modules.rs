//! The modules of a crate, read from its sources: what each imports, and which methods of a type it calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Attribute, Expr, ExprMethodCall, ImplItemFn, Item, ItemImpl, ItemMod, ItemUse, Type, UseTree};

use crate::arrows::{Arrows, Module, module};

/// The sources of a crate, by their modules. Tests are left out: they test through the crate's root.
pub struct Sources(BTreeMap<Module, syn::File>);

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Sources {
    /// Reads the sources of a crate from `lib.rs` on, which is in this folder.
    ///
    /// # Panics
    /// One cannot be read, or is no Rust.
    pub fn read(src: &Path) -> Sources {
        let mut files = BTreeMap::new();
        read_module(src, Module::new(), &mut files);
        Sources(files)
    }

    /// Sources that are given by their modules, such as `a::b`.
    ///
    /// # Panics
    /// One is no Rust.
    pub fn of(texts: &[(&str, &str)]) -> Sources {
        let file = |(path, text): &(&str, &str)| (module(path), parsed(path, text));
        Sources(texts.iter().map(file).collect())
    }

    /// Which modules import from which.
    pub fn imports(&self) -> Arrows {
        Arrows(self.0.keys().map(|module| (module.clone(), self.imports_of(module))).collect())
    }

    fn imports_of(&self, module: &Module) -> BTreeSet<Module> {
        let mut imports = Imports { module, files: &self.0, found: BTreeSet::new() };
        imports.visit_file(&self.0[module]);
        imports.found.remove(module);
        imports.found
    }

    /// Which modules call methods of a type that others define: where `impl` blocks of one type are spread over
    /// modules, no import shows that. Calls count on `self` in such a block, and on what is named like the type, in
    /// lower case.
    ///
    /// # Panics
    /// Two modules define a method of the same name.
    pub fn calls(&self, of_type: &str) -> Arrows {
        let mut defined: BTreeMap<String, &Module> = BTreeMap::new();
        for (module, file) in &self.0 {
            let mut methods = Methods { of_type, found: Vec::new() };
            methods.visit_file(file);
            for method in methods.found {
                let other = defined.insert(method.clone(), module);
                assert_eq!(other, None, "{method} of {of_type} is defined twice");
            }
        }
        assert!(!defined.is_empty(), "there are no methods of {of_type}");
        let arrows = self.0.iter().map(|(module, file)| {
            let own = of_type.to_lowercase();
            let mut calls = Calls { of_type, own, within: false, found: BTreeSet::new() };
            calls.visit_file(file);
            let of_others = calls.found.iter().filter_map(|method| defined.get(method).copied());
            (module.clone(), of_others.filter(|other| *other != module).cloned().collect())
        });
        Arrows(arrows.collect())
    }
}

fn parsed(path: &str, text: &str) -> syn::File {
    syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Parses a module's file and those of the modules that it declares.
fn read_module(dir: &Path, module: Module, files: &mut BTreeMap<Module, syn::File>) {
    let path = match module.last() {
        None => dir.join("lib.rs"),
        Some(name) => {
            let (file, folder) = (dir.join(format!("{name}.rs")), dir.join(name).join("mod.rs"));
            if file.exists() { file } else { folder }
        }
    };
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{shown}: {e}"));
    let file = parsed(&shown, &text);
    let dir = module.last().map_or_else(|| dir.to_owned(), |name| dir.join(name));
    for item in &file.items {
        if let Item::Mod(ItemMod { ident, attrs, content: None, .. }) = item
            && !is_test(attrs)
        {
            read_module(&dir, [module.clone(), vec![ident.to_string()]].concat(), files);
        }
    }
    files.insert(module, file);
}

fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let is_for = |name: &str| attr.parse_args::<syn::Path>().is_ok_and(|cfg| cfg.is_ident(name));
        attr.path().is_ident("test") || attr.path().is_ident("cfg") && is_for("test")
    })
}

/// The names and signs of a macro's tokens, whatever is around them.
fn flat(tokens: TokenStream, out: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                out.push("(".to_owned());
                flat(group.stream(), out);
                out.push(")".to_owned());
            }
            other => out.push(other.to_string()),
        }
    }
}

/// Collects the modules that the paths of a file lead to.
struct Imports<'a> {
    module: &'a Module,
    files: &'a BTreeMap<Module, syn::File>,
    found: BTreeSet<Module>,
}

impl Imports<'_> {
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

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    /// `pub(crate)` is a path as well.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.note_tree(&item.tree, Vec::new());
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let mut tokens = Vec::new();
        flat(called.tokens.clone(), &mut tokens);
        for path in tokens.split(|token| !token.chars().all(|c| c.is_alphanumeric() || "_:".contains(c))) {
            let names: Vec<String> = path.iter().filter(|token| *token != ":").cloned().collect();
            // A name by itself is no path to a module
            if names.len() < path.len() {
                self.note(&names);
            }
        }
        syn::visit::visit_macro(self, called);
    }
}

fn is_of(item: &ItemImpl, of_type: &str) -> bool {
    let Type::Path(of) = &*item.self_ty else { return false };
    item.trait_.is_none() && of.path.segments.last().is_some_and(|segment| segment.ident == of_type)
}

/// Collects the names of a type's methods.
struct Methods<'a> {
    of_type: &'a str,
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Methods<'_> {
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if is_of(item, self.of_type) {
            syn::visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.found.push(item.sig.ident.to_string());
    }
}

/// Collects the methods that are called on a value of the type.
struct Calls<'a> {
    of_type: &'a str,
    /// What such a value is named outside of the type's own methods.
    own: String,
    /// Within a method of the type.
    within: bool,
    found: BTreeSet<String>,
}

impl Calls<'_> {
    fn is_value(&self, name: &str) -> bool {
        name == self.own || (self.within && name == "self")
    }
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let before = std::mem::replace(&mut self.within, is_of(item, self.of_type));
        syn::visit::visit_item_impl(self, item);
        self.within = before;
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if let Expr::Path(receiver) = &*call.receiver
            && let Some(name) = receiver.path.get_ident()
            && self.is_value(&name.to_string())
        {
            self.found.insert(call.method.to_string());
        }
        syn::visit::visit_expr_method_call(self, call);
    }

    /// `Self::method(…)`, and `Type::method(…)`
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., of, method] = names.as_slice()
            && (of == self.of_type || (self.within && of == "Self"))
        {
            self.found.insert(method.clone());
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let mut tokens = Vec::new();
        flat(called.tokens.clone(), &mut tokens);
        for window in tokens.windows(4) {
            if let [value, dot, method, open] = window
                && (self.is_value(value) && dot == "." && open == "(")
            {
                self.found.insert(method.clone());
            }
        }
        syn::visit::visit_macro(self, called);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_read_as_the_compiler_reads_them() {
        let read = |module: &str, text: &str| -> Vec<String> {
            let texts =
                ["", "a", "a::b", "a::c", "d"].map(|path| (path, if path == module { text } else { "" }));
            let imports = Sources::of(&texts).imports();
            imports.0[&super::module(module)].iter().map(|module| module.join("::")).collect()
        };
        assert_eq!(read("a::b", "use super::Thing;\nuse super::c::{One, Two};"), ["a", "a::c"]);
        assert_eq!(read("a::b", "use super::{Thing, c::One};\nfn f(x: crate::d::X) {}"), ["a", "a::c", "d"]);
        assert_eq!(
            read("a", "mod b;\npub(crate) use b::{X, Y};\nuse std::fmt;\n// use crate::d::X;"),
            ["a::b"]
        );
        assert_eq!(read("a::b", "use crate::{a::c, d::*};\nuse super::super::d;"), ["a::c", "d"]);
        assert_eq!(
            read("d", "use crate::a::X;\n#[cfg(test)]\nmod tests {\n    use crate::a::b;\n}\n"),
            ["a"]
        );
        assert_eq!(
            read("d", "#[cfg(test)]\nuse crate::a::X;\nfn f() { g!(x, [crate::a::b::Y], d); }"),
            ["a::b"]
        );
    }

    #[test]
    fn calls_between_blocks_of_one_type_are_found() {
        let calls = Sources::of(&[
            ("", "pub struct Thing;"),
            ("a", "impl Thing { fn one(&self) { self.two(); m!(x if self.three()?); Self::four() } }"),
            ("b", "impl<'a> Thing<'a> { fn two(&self) { self.two() } fn four() {} }"),
            ("c", "impl Thing { fn three(&self) {} }\nimpl Other { fn five(&self) { self.two() } }"),
            ("d", "fn f(thing: &Thing, other: &Other) { thing.one(); other.two() }"),
            ("e", "impl Trait for Thing { fn g(&self) { h(self) } }"),
        ])
        .calls("Thing");
        let all = calls
            .0
            .iter()
            .flat_map(|(from, to)| to.iter().map(|to| format!("{}{}", from.concat(), to.concat())));
        assert_eq!(all.collect::<Vec<_>>(), ["ab", "ac", "da"]);
    }
}
