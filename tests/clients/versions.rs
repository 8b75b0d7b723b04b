//! The README's list of clients names the versions that are tested.

/// The clients in the README, with their versions.
fn in_readme() -> Vec<(&'static str, &'static str)> {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme
        .split_once("| client | version | ")
        .expect("the README lists clients");
    rest.lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .map(|row| {
            let mut cells = row.split(" | ");
            (cells.next().unwrap_or(row), cells.next().unwrap_or_default())
        })
        .collect()
}

/// What lies between the first occurrence of `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after:?}")).0
}

#[test]
fn the_readme_names_the_tested_clients() {
    let of_python = include_str!("requirements.txt");
    let of_node = include_str!("package.json");
    let of_rust = include_str!("../../Cargo.lock");
    let tested = [
        ("redis-py", between(of_python, "redis==", " ")),
        ("ioredis", between(of_node, "\"ioredis\": \"", "\"")),
        ("node-redis", between(of_node, "\"redis\": \"", "\"")),
        (
            "`redis` (Rust)",
            between(of_rust, "name = \"redis\"\nversion = \"", "\""),
        ),
        ("`fred` (Rust)", between(of_rust, "name = \"fred\"\nversion = \"", "\"")),
        ("`redis-cli`, `redis-benchmark`", "Debian's"),
    ];
    assert_eq!(in_readme(), tested);
}

#[test]
fn no_lock_file_names_a_registry() {
    for line in include_str!("package-lock.json").lines() {
        assert!(!line.contains("\"resolved\""), "{line}");
    }
}
