//! What the pages name is there: files, links, tests, tasks and variables.
//!
//! A page that is held to the tree cannot drift from it unseen. Pages that a test writes or compares as a whole have
//! tests of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest that the page everybody reads first may be.
const ARCHITECTURE_LINES_MAX: usize = 250;

/// Directories that hold no source of this repository.
const NOT_SOURCES: &[&str] = &[
    "target",
    ".git",
    "corpus",
    "proptest-regressions",
    "artifacts",
    "coverage",
];

/// How names of files end that pages may name.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".yml", ".mjs", ".py", ".lua", ".html", "/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository, and every directory with a slash behind it, relative to its root.
fn tree() -> BTreeSet<String> {
    fn read(directory: &Path, tree: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if NOT_SOURCES.iter().any(|not| name == **not) {
                continue;
            }
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            if path.is_dir() {
                tree.insert(format!("{shown}/"));
                read(&path, tree);
            } else {
                tree.insert(shown);
            }
        }
    }
    let mut tree = BTreeSet::new();
    read(root(), &mut tree);
    tree
}

/// The pages, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let is_page = |path: &&String| {
        Path::new(path).extension().is_some_and(|extension| extension == "md")
            && !path.starts_with("tests/golden")
            // What was, and is not any more, may be told there.
            && *path != "CHANGELOG.md"
    };
    tree()
        .iter()
        .filter(is_page)
        .map(|path| {
            let path = root().join(path);
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// The texts between backticks, outside blocks of code.
fn code_words(page: &str) -> Vec<(usize, &str)> {
    let mut is_block = false;
    let mut words = Vec::new();
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            words.extend(line.split('`').skip(1).step_by(2).map(|word| (number + 1, word)));
        }
    }
    words
}

/// How a heading is named in a link.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ => character.is_alphanumeric().then_some(character),
        })
        .collect()
}

fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

#[test]
fn the_first_page_is_short() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let lines = text.lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES_MAX,
        "ARCHITECTURE.md has {lines} lines, more than {ARCHITECTURE_LINES_MAX}: details go to docs/internals"
    );
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let tree = tree();
    let is_there = |name: &str| {
        tree.iter()
            .any(|path| path == name || path.ends_with(&format!("/{name}")))
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in pages() {
        for (line, word) in code_words(&text) {
            let is_name = word
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "_-./".contains(character));
            // What is made is not in the tree, and `format-N/` stands for many.
            let is_file = is_name
                && word.len() > 3
                && ENDINGS.iter().any(|ending| word.ends_with(ending))
                && !word.starts_with('.')
                && !word.starts_with("target/")
                && !word.starts_with("proptest-regressions")
                && !word.contains("-N/");
            if is_file {
                count += 1;
                if !is_there(word) {
                    wrong.push(format!("{}:{line}: {word}", path.display()));
                }
            }
        }
    }
    assert!(count > 20, "only {count} names of files are found");
    assert_none("no such file", &wrong);
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in pages() {
        for (number, line) in text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") {
                    continue;
                }
                count += 1;
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() {
                    path.clone()
                } else {
                    path.with_file_name("").join(file)
                };
                let is_there = target.exists()
                    && (fragment.is_empty()
                        || fs::read_to_string(&target)
                            .unwrap()
                            .lines()
                            .any(|line| line.starts_with('#') && anchor(line) == fragment));
                if !is_there {
                    wrong.push(format!("{}:{}: {link}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(count > 10, "only {count} links are found");
    assert_none("a link leads nowhere", &wrong);
}

#[test]
fn every_test_that_proves_a_rule_is_there() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, rules) = page.split_once("\n## The rules").expect("there are rules");
    let rules = rules.split("\n## ").next().unwrap();
    let sources: Vec<(String, String)> = tree()
        .into_iter()
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        })
        .collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (_, word) in code_words(rules) {
        let Some((module, test)) = word.split_once("::") else {
            continue;
        };
        count += 1;
        let is_there = sources.iter().any(|(path, text)| {
            let is_module = path.ends_with(&format!("/{module}.rs")) || path.contains(&format!("/{module}/"));
            is_module && text.contains(&format!("fn {test}("))
        });
        if !is_there {
            wrong.push(word.to_owned());
        }
    }
    assert!(count > 10, "only {count} tests are named");
    assert_none("no such test", &wrong);
    for rule in 1..=8 {
        assert!(rules.contains(&format!("| **R{rule}**")), "R{rule} has no row");
    }
}

#[test]
fn every_task_and_variable_that_a_page_names_is_one() {
    let tasks = fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    let is_of_variable = |character: char| character.is_ascii_uppercase() || character == '_';
    let mut sources = String::new();
    for path in tree() {
        let is_source = Path::new(&path)
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "mjs" || extension == "py");
        if is_source || path == ".ci/run" {
            sources.push_str(&fs::read_to_string(root().join(&path)).unwrap());
        }
    }
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        for task in text.split("cargo xtask ").skip(1) {
            let task: String = task.chars().take_while(char::is_ascii_lowercase).collect();
            if task != "help" && !tasks.contains(&format!("name: \"{task}\"")) {
                wrong.push(format!("{}: cargo xtask {task}", path.display()));
            }
        }
        for (at, _) in text.match_indices("CARTWRIGHT_") {
            let variable: String = text[at..]
                .chars()
                .take_while(|&character| is_of_variable(character))
                .collect();
            if !sources.contains(&format!("\"{variable}\"")) {
                wrong.push(format!("{}: {variable}", path.display()));
            }
        }
    }
    assert_none("no such task or variable", &wrong);
}
