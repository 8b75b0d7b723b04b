//! The layers of `src/` keep their order, and no files of the engine or the log import each other in a circle.
//!
//! This reads the sources: what cargo checks between packages, it checks between modules. Tests within the sources are left
//! out, since they may look at everything. An offence is named by its file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A layer, by the module that it is, and which others it may import besides itself. Packages under all of them
/// (`core`, `protocol`, `ring`) are cargo's to check.
const LAYERS: &[(&str, &[&str])] = &[
    ("log", &[]),
    ("engine::kernel", &["engine::books"]),
    ("engine::books", &["engine::kernel"]),
    ("engine", &["engine::kernel", "engine::books"]),
    ("config", &["engine", "log"]),
    ("session", &["engine", "config"]),
    ("net", &[]),
    ("runtime", &["log", "engine", "config", "session", "net"]),
    ("main", &["log", "engine", "config", "session", "net", "runtime"]),
];

/// What the kernel may look at beside itself: the list of the books, which is this module and the files beside it. A book
/// is a folder below it.
const LIST_OF_BOOKS: &str = "engine::books";

/// Imports of one layer by another that are still to go, as the two and how many lines.
const KNOWN_IMPORTS: &[(&str, &str, usize)] = &[("engine::kernel", "engine::books", 24)];

/// Circles of files that are still to go, as the part that they are in and how many files are in any.
const KNOWN_CIRCLES: &[(&str, usize)] = &[("engine", 50)];

/// An import: where it stands, and the module that it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
    line: usize,
}

/// A module: its file, its text without comments and tests, and what it passes on under which name.
struct Module {
    file: String,
    text: String,
    is_index: bool,
    passes_on: BTreeMap<String, String>,
}

/// All modules, by their paths from the crate's root.
struct Modules(BTreeMap<String, Module>);

/// The text with its comments and string literals blanked out, and what is for tests alone; lines stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let blank_until = |from: &str, length: usize| {
        from[..length]
            .chars()
            .map(|character| if character == '\n' { '\n' } else { ' ' })
            .collect::<String>()
    };
    while let Some(character) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if character == '"' {
            let mut is_escaped = false;
            let end = rest[1..].find(|next: char| {
                let ends = next == '"' && !is_escaped;
                is_escaped = next == '\\' && !is_escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") || rest.starts_with("b'\"'") {
            rest[2..].find('\'').map_or(rest.len(), |end| end + 3)
        } else {
            0
        };
        if length > 0 {
            code.push_str(&blank_until(rest, length));
            rest = &rest[length..];
        } else {
            code.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    without_tests(&code)
}

/// Blanks out the item behind each `#[cfg(test)]`: up to its semicolon or its closing brace.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = code.to_owned();
    while let Some(begin) = kept.find(MARK) {
        let mut depth = 0usize;
        let end = kept[begin + MARK.len()..].find(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && (character == ';' || character == '}')
        });
        let end = end.map_or(kept.len(), |end| begin + MARK.len() + end + 1);
        let blank: String = kept[begin..end]
            .chars()
            .map(|character| if character == '\n' { '\n' } else { ' ' })
            .collect();
        kept.replace_range(begin..end, &blank);
    }
    kept
}

/// The paths of a `use` tree, with what each is called afterwards: `a::{b, c as d}` is `a::b` and `a::c`.
fn leaves(prefix: &str, tree: &str, out: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    let join = |rest: &str| {
        if prefix.is_empty() {
            rest.to_owned()
        } else {
            format!("{prefix}::{rest}")
        }
    };
    if let Some(inner) = tree.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        let mut depth = 0;
        for part in inner.split(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && character == ','
        }) {
            if !part.trim().is_empty() {
                leaves(prefix, part, out);
            }
        }
    } else if let Some(brace) = tree.find('{') {
        leaves(&join(tree[..brace].trim_end_matches("::")), &tree[brace..], out);
    } else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = match path.trim() {
            "self" => prefix.to_owned(),
            path => join(path.trim_end_matches("::self")),
        };
        let last = path.rsplit("::").next().unwrap_or_default().to_owned();
        let name = if name.is_empty() { last } else { name.trim().to_owned() };
        out.push((path, name));
    }
}

/// Every `use` in some code, and every path in it that begins at the crate or above: the line, the path, its name, and
/// whether it is passed on.
fn paths_of(code: &str) -> Vec<(usize, String, String, bool)> {
    let mut found = Vec::new();
    let mut statements = Vec::new();
    let mut offset = 0;
    for line in code.split_inclusive('\n') {
        let begin = offset;
        offset += line.len();
        let words = line.trim_start();
        let words = words
            .strip_prefix("pub")
            .map_or(words, |rest| match rest.strip_prefix('(') {
                Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest).trim_start(),
                None => rest.trim_start(),
            });
        let Some(tree) = words.strip_prefix("use ") else {
            continue;
        };
        let tree_begin = begin + line.len() - tree.len();
        let end = tree_begin + code[tree_begin..].find(';').unwrap_or(code.len() - tree_begin);
        let mut all = Vec::new();
        leaves("", &code[tree_begin..end].replace('\n', " "), &mut all);
        let number = code[..begin].matches('\n').count() + 1;
        let is_passed_on = line.trim_start().starts_with("pub");
        found.extend(all.into_iter().map(|(path, name)| (number, path, name, is_passed_on)));
        statements.push(begin..end);
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            let is_within = before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':');
            // Who may see something is no import.
            let is_of_visibility = code[..at].ends_with("(in ");
            if is_within || is_of_visibility || statements.iter().any(|statement| statement.contains(&at)) {
                continue;
            }
            let is_of_path = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
            let path: String = code[at..]
                .chars()
                .take_while(|&character| is_of_path(character))
                .collect();
            let path = path.trim_end_matches(':').to_owned();
            let number = code[..at].matches('\n').count() + 1;
            found.push((number, path, String::new(), false));
        }
    }
    found
}

impl Modules {
    /// Reads the sources under a directory.
    fn read(root: &Path) -> Self {
        let mut modules = Self(BTreeMap::new());
        modules.read_directory(root, "");
        for path in modules.0.keys().cloned().collect::<Vec<_>>() {
            let passed_on = paths_of(&modules.0[&path].text).into_iter().filter(|found| found.3);
            let passed_on: Vec<_> = passed_on
                .map(|(_, target, name, _)| (name, modules.absolute(&path, &target)))
                .collect();
            let module = modules.0.get_mut(&path).expect("it is one of them");
            module.passes_on = passed_on
                .into_iter()
                .filter_map(|(name, target)| Some((name, target?)))
                .collect();
        }
        modules
    }

    fn read_directory(&mut self, directory: &Path, module: &str) {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.expect("a directory can be read").path())
            .collect();
        entries.sort();
        for path in entries {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default()
                .to_owned();
            if stem == "tests" || stem.ends_with("_tests") {
                continue;
            }
            let child = if module.is_empty() {
                stem.clone()
            } else {
                format!("{module}::{stem}")
            };
            if path.is_dir() {
                self.read_directory(&path, &child);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_index = matches!(stem.as_str(), "mod" | "lib");
                let name = if is_index { module.to_owned() } else { child };
                let text = fs::read_to_string(&path).expect("a source is text");
                let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path);
                self.0.insert(
                    name,
                    Module {
                        file: shown.display().to_string(),
                        text: code_of(&text),
                        is_index,
                        passes_on: BTreeMap::new(),
                    },
                );
            }
        }
    }

    /// A path as it is from the crate's root; `None` for one of another crate.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let mut place: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
        let mut parts = path.split("::").peekable();
        match *parts.peek()? {
            "crate" | "cartwright" => {
                place.clear();
                parts.next();
            }
            "self" => drop(parts.next()),
            "super" => {
                while parts.next_if_eq(&"super").is_some() {
                    place.pop();
                }
            }
            // A name in scope: of a module below this one, or of another crate.
            first => {
                let below = place.iter().copied().chain([first]).collect::<Vec<_>>().join("::");
                if !self
                    .0
                    .keys()
                    .any(|key| *key == below || key.starts_with(&format!("{below}::")))
                {
                    return None;
                }
            }
        }
        place.extend(parts);
        Some(place.join("::"))
    }

    /// The module that a path from the root leads to, through what modules pass on.
    fn resolve(&self, path: &str) -> String {
        let mut path = path.to_owned();
        // A name that is passed on from place to place is so a few times at most.
        for _ in 0..8 {
            let parts: Vec<&str> = path.split("::").collect();
            let passed_on = (0..parts.len()).find_map(|at| {
                let module = self.0.get(&parts[..at].join("::"))?;
                let deeper = parts[..=at].join("::");
                if self.0.contains_key(&deeper) {
                    return None;
                }
                let target = module.passes_on.get(parts[at])?;
                Some([&[target.as_str()], &parts[at + 1..]].concat().join("::"))
            });
            match passed_on {
                Some(next) if next != path => path = next,
                _ => break,
            }
        }
        let mut parts: Vec<&str> = path.split("::").collect();
        while !parts.is_empty() && !self.0.contains_key(&parts.join("::")) {
            parts.pop();
        }
        parts.join("::")
    }

    /// What each module imports, but what an index passes on.
    fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (from, module) in &self.0 {
            for (line, path, _, is_passed_on) in paths_of(&module.text) {
                if module.is_index && is_passed_on {
                    continue;
                }
                let Some(path) = self.absolute(from, &path) else {
                    continue;
                };
                let to = self.resolve(&path);
                if to != *from && !to.is_empty() {
                    imports.insert(Import {
                        from: from.clone(),
                        to,
                        line,
                    });
                }
            }
        }
        imports
    }

    fn show(&self, import: &Import) -> String {
        format!("{}:{} imports {}", self.0[&import.from].file, import.line, import.to)
    }

    /// The book that a module is of; `None` for the list of them.
    fn book_of<'a>(&self, module: &'a str) -> Option<&'a str> {
        let below = module.strip_prefix(LIST_OF_BOOKS)?.strip_prefix("::")?;
        let book = below.split("::").next()?;
        let is_folder = self
            .0
            .get(&format!("{LIST_OF_BOOKS}::{book}"))
            .is_some_and(|module| module.is_index);
        is_folder.then_some(book)
    }

    /// Whether an import goes against the order of the layers.
    fn is_against_order(&self, import: &Import) -> bool {
        let (Some(from), Some(to)) = (layer_of(&import.from), layer_of(&import.to)) else {
            return false;
        };
        if to == LIST_OF_BOOKS && (from == "engine::kernel" || from == LIST_OF_BOOKS) {
            let (of, other) = (self.book_of(&import.from), self.book_of(&import.to));
            // The list names every book; a book names itself and the list; the kernel names the list.
            return other.is_some() && other != of && (of.is_some() || from == "engine::kernel");
        }
        let (_, allowed) = LAYERS.iter().find(|(layer, _)| *layer == from).expect("it is a layer");
        let is_allowed = |&layer: &&str| to == layer || to.starts_with(&format!("{layer}::"));
        from != to && !allowed.iter().any(is_allowed)
    }

    /// The noun that a module is of: a file and those in the directory of its name are one.
    fn noun<'a>(&self, module: &'a str) -> &'a str {
        let ends = module.match_indices("::").map(|(end, _)| &module[..end]);
        let is_file = |outer: &&str| self.0.get(*outer).is_some_and(|outer| !outer.is_index);
        ends.into_iter().find(is_file).unwrap_or(module)
    }

    /// The groups of files below a module that import each other in a circle. Indexes are left out: they list all below.
    fn circles(&self, part: &str, imports: &BTreeSet<Import>) -> Vec<BTreeSet<String>> {
        let is_file = |module: &str| module.starts_with(&format!("{part}::")) && !self.0[module].is_index;
        let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for import in imports
            .iter()
            .filter(|import| is_file(&import.from) && is_file(&import.to))
        {
            let (from, to) = (self.noun(&import.from), self.noun(&import.to));
            if from != to {
                reached.entry(from).or_default().insert(to);
            }
        }
        let nodes: Vec<&str> = reached.keys().copied().collect();
        loop {
            let before: usize = reached.values().map(BTreeSet::len).sum();
            for node in &nodes {
                let further: BTreeSet<&str> = reached[node]
                    .iter()
                    .filter_map(|next| reached.get(next))
                    .flatten()
                    .copied()
                    .collect();
                reached.entry(node).or_default().extend(further);
            }
            if before == reached.values().map(BTreeSet::len).sum() {
                break;
            }
        }
        let mut circles: Vec<BTreeSet<String>> = Vec::new();
        for node in nodes.iter().filter(|node| reached[*node].contains(*node)) {
            let circle = nodes
                .iter()
                .filter(|other| reached[node].contains(*other) && reached[*other].contains(node))
                .map(|&other| other.to_owned())
                .collect();
            if !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }
}

/// The layer that a module is of: the longest that its path begins with.
fn layer_of(module: &str) -> Option<&'static str> {
    let is_of = |layer: &str| module == layer || module.starts_with(&format!("{layer}::"));
    LAYERS
        .iter()
        .map(|(layer, _)| *layer)
        .filter(|layer| is_of(layer))
        .max_by_key(|layer| layer.len())
}

fn sources() -> Modules {
    Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn every_layer_imports_only_those_below_it() {
    let modules = sources();
    let imports = modules.imports();
    assert!(imports.len() > 300, "only {} imports are found", imports.len());
    let mut unknown = Vec::new();
    let mut against: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for import in imports.iter().filter(|import| modules.is_against_order(import)) {
        let layers = layer_of(&import.from)
            .zip(layer_of(&import.to))
            .expect("both are of a layer");
        against.entry(layers).or_default().push(modules.show(import));
    }
    for ((from, to), lines) in &against {
        let known = KNOWN_IMPORTS.iter().find(|known| (known.0, known.1) == (*from, *to));
        let known = known.map_or(0, |known| known.2);
        if lines.len() > known {
            unknown.push(format!(
                "{from} must not import {to}: {} lines do, and {known} are known\n  {}",
                lines.len(),
                lines.join("\n  ")
            ));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn no_files_of_the_engine_or_the_log_import_each_other_in_a_circle() {
    let modules = sources();
    let imports = modules.imports();
    let mut unknown = Vec::new();
    for (part, known) in KNOWN_CIRCLES {
        let circles = modules.circles(part, &imports);
        let found: usize = circles.iter().map(BTreeSet::len).sum();
        let shown: Vec<String> = circles
            .iter()
            .map(|circle| {
                let within = |import: &&Import| {
                    let (from, to) = (modules.noun(&import.from), modules.noun(&import.to));
                    from != to && circle.contains(from) && circle.contains(to)
                };
                let lines: Vec<_> = imports
                    .iter()
                    .filter(within)
                    .map(|import| modules.show(import))
                    .collect();
                format!("a circle of {}:\n  {}", circle.len(), lines.join("\n  "))
            })
            .collect();
        if found > *known {
            unknown.push(format!(
                "{found} files of {part} import each other in circles, and {known} are known\n{}",
                shown.join("\n")
            ));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let text = "\
use std::fmt;
// use crate::not::this;
pub use crate::a::{self, b::{C, D as E}, f};
pub(super) use super::g;
const S: &str = \"crate::no\";
#[cfg(test)]
mod tests {
    use crate::nor::this;
}
pub(in crate::m) fn h() -> crate::i::J { super::k::l() }
";
    let found: Vec<String> = paths_of(&code_of(text))
        .into_iter()
        .map(|(line, path, name, is_passed_on)| format!("{line} {path} {name} {is_passed_on}"))
        .collect();
    assert_eq!(
        found,
        [
            "1 std::fmt fmt false",
            "3 crate::a a true",
            "3 crate::a::b::C C true",
            "3 crate::a::b::D E true",
            "3 crate::a::f f true",
            "4 super::g g true",
            "10 crate::i::J  false",
            "10 super::k::l  false",
        ]
    );
}

/// Modules of these texts; one whose name ends in `/` is an index.
fn made_of(texts: &[(&str, &str)]) -> Modules {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (file, text) in texts {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().expect("it is in the directory")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }
    Modules::read(directory.path())
}

#[test]
fn a_circle_is_found_through_what_an_index_passes_on() {
    let modules = made_of(&[
        ("log/mod.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::B;"),
        ("log/a.rs", "use crate::log::B;"),
        ("log/b.rs", "use super::A;"),
        ("log/c.rs", "use super::A;"),
    ]);
    let circles = modules.circles("log", &modules.imports());
    let circle = BTreeSet::from(["log::a".to_owned(), "log::b".to_owned()]);
    assert_eq!(circles, [circle]);
}

#[test]
fn an_import_against_the_order_is_found_wherever_it_stands() {
    let modules = made_of(&[
        (
            "engine/mod.rs",
            "pub mod books;\npub mod kernel;\npub use books::shop::Cart;",
        ),
        (
            "engine/books/mod.rs",
            "pub mod shop;\npub mod entries;\nmod purpose;\npub use purpose::Purpose;",
        ),
        (
            "engine/books/purpose.rs",
            "use super::shop::Cart;\npub enum Purpose { Cart(Cart) }",
        ),
        (
            "engine/books/shop/mod.rs",
            "use crate::engine::kernel::step::Step;\npub struct Cart;",
        ),
        (
            "engine/books/entries/mod.rs",
            "fn f(_: crate::engine::books::shop::Cart) {}",
        ),
        ("engine/kernel/mod.rs", "pub mod step;"),
        (
            "engine/kernel/step.rs",
            "use crate::engine::books::Purpose;\nuse crate::engine::Cart;\npub struct Step;",
        ),
        ("log.rs", "use crate::session::Session;"),
        ("session.rs", "use crate::engine::Cart;\npub struct Session;"),
    ]);
    let imports = modules.imports();
    let against: Vec<_> = imports
        .iter()
        .filter(|import| modules.is_against_order(import))
        .map(|import| (import.from.as_str(), import.to.as_str(), import.line))
        .collect();
    assert_eq!(
        against,
        [
            ("engine::books::entries", "engine::books::shop", 1),
            ("engine::kernel::step", "engine::books::shop", 2),
            ("log", "session", 1),
        ]
    );
}
