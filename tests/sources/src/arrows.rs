//! Which modules use which, the layers in which they stand, and the circles among them.

use std::collections::{BTreeMap, BTreeSet};

/// The path of a module below the crate's root: `["lex", "text"]` for `src/lex/text.rs`. The root's is empty.
pub type Module = Vec<String>;

/// The modules of a crate, and which of them each uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrows(pub BTreeMap<Module, BTreeSet<Module>>);

/// The modules at a crate's root, from the ground up: those of one layer do not use each other.
pub type Layers<'a> = &'a [&'a [&'a str]];

impl Arrows {
    /// These and those.
    #[must_use]
    pub fn and(mut self, others: Arrows) -> Arrows {
        for (from, to) in others.0 {
            self.0.entry(from).or_default().extend(to);
        }
        self
    }

    /// Without the crate's root: it has what all modules work on.
    #[must_use]
    pub fn without_root(mut self) -> Arrows {
        self.0.remove(&Module::new());
        self.0.values_mut().for_each(|to| {
            to.remove(&Module::new());
        });
        self
    }

    /// Those among the modules in this one, which then is their root.
    #[must_use]
    pub fn within(self, root: &str) -> Arrows {
        let root = module(root);
        let below = |module: Module| module.strip_prefix(root.as_slice()).map(<[String]>::to_vec);
        let inner = |(from, to): (Module, BTreeSet<Module>)| {
            Some((below(from)?, to.into_iter().filter_map(below).collect()))
        };
        Arrows(self.0.into_iter().filter_map(inner).collect())
    }

    /// Those between the modules at the crate's root, which stand for all that is in them.
    #[must_use]
    pub fn of_rooms(self) -> Arrows {
        let room = |module: &Module| module.iter().take(1).cloned().collect::<Module>();
        let mut rooms = Arrows::default();
        for (from, to) in self.0 {
            let to: Vec<Module> = to.iter().map(room).filter(|to| *to != room(&from)).collect();
            rooms.0.entry(room(&from)).or_default().extend(to);
        }
        rooms
    }

    /// Whether a module, such as `lex::text`, uses another.
    pub fn has(&self, from: &str, to: &str) -> bool {
        self.0.get(&module(from)).is_some_and(|used| used.contains(&module(to)))
    }

    /// What is wrong with the layers: modules that stand in none, or in several, or are not there; and uses that run
    /// up or sideways, as `from -> to`. The crate's root is above all layers.
    pub fn against(&self, layers: Layers<'_>) -> Vec<String> {
        let declared: Vec<&str> = layers.iter().copied().flatten().copied().collect();
        let found: BTreeSet<&str> =
            self.0.keys().filter_map(|module| Some(module.first()?.as_str())).collect();
        let mut wrong: Vec<String> = Vec::new();
        for name in &found {
            match declared.iter().filter(|declared| *declared == name).count() {
                1 => {}
                layers => wrong.push(format!("{name} stands in {layers} layers")),
            }
        }
        wrong.extend(
            declared.iter().filter(|name| !found.contains(*name)).map(|name| format!("{name} is not there")),
        );
        let layer = |module: &Module| match module.first() {
            None => Some(layers.len()),
            Some(name) => layers.iter().position(|layer| layer.contains(&name.as_str())),
        };
        let arrows = self.0.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
        let arrows = arrows.filter(|(from, to)| from.first() != to.first() && layer(from) <= layer(to));
        wrong.extend(arrows.map(|(from, to)| format!("{} -> {}", shown(from), shown(to))));
        wrong
    }

    /// The modules that use themselves by way of others.
    pub fn in_circles(&self) -> Vec<String> {
        self.0.keys().filter(|module| self.reached(module).contains(module)).map(shown).collect()
    }

    /// What a module uses, and what that uses.
    fn reached<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut reached, mut pending) = (BTreeSet::new(), vec![from]);
        while let Some(module) = pending.pop() {
            pending.extend(self.0.get(module).into_iter().flatten().filter(|to| reached.insert(*to)));
        }
        reached
    }
}

/// `lex::text`
pub(crate) fn module(path: &str) -> Module {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(list: &[(&str, &[&str])]) -> Arrows {
        Arrows(
            list.iter().map(|(from, to)| (module(from), to.iter().map(|to| module(to)).collect())).collect(),
        )
    }

    #[test]
    fn what_runs_up_or_sideways_is_told() {
        let found = arrows(&[("", &["a"]), ("a", &["b::x"]), ("b", &[]), ("b::x", &["b", "c"]), ("c", &[])]);
        assert_eq!(found.against(&[&["b", "c"], &["a"]]), ["b::x -> c"]);
        assert_eq!(found.against(&[&["a"], &["b"], &["c"]]), ["a -> b::x", "b::x -> c"]);
        assert_eq!(found.against(&[&["c"], &["b"], &["a"]]), [""; 0]);
        assert_eq!(
            found.against(&[&["c", "d"], &["b"], &["a", "c"]]),
            ["c stands in 2 layers", "d is not there"]
        );
        let up = arrows(&[("", &[]), ("a", &[""])]);
        assert_eq!(up.against(&[&["a"]]), ["a -> lib"]);
        assert_eq!(up.without_root().against(&[&["a"]]), [""; 0]);
    }

    #[test]
    fn a_module_may_stand_for_the_root() {
        let found =
            arrows(&[("a", &["b", "a::x"]), ("a::x", &["a", "b::y"]), ("a::y", &["a::x"]), ("b", &[])]);
        assert_eq!(found.within("a"), arrows(&[("", &["x"]), ("x", &[""]), ("y", &["x"])]));
    }

    #[test]
    fn circles_are_found_through_several_modules() {
        let found = arrows(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "d"]), ("d", &[])]);
        assert_eq!(found.in_circles(), ["a", "b", "c"]);
        assert_eq!(arrows(&[("a", &["b"]), ("b", &[])]).in_circles(), [""; 0]);
        let rooms = arrows(&[("a::x", &["b"]), ("a::y", &["a::x"]), ("b", &["a::y"])]);
        assert_eq!(rooms.in_circles(), ["a::x", "a::y", "b"].map(str::to_owned));
        assert_eq!(rooms.of_rooms().in_circles(), ["a", "b"]);
    }
}
