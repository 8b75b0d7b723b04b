//! The simulator notices every rule that is broken on purpose, or it proves nothing.
//!
//! The page on the simulator lists the rules, each with a seed that notices it. A fault is tried with that seed first,
//! and searched for where the seed tells another story by now.
#![cfg(any(feature = "mutations", debug_assertions))]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cartwright::engine::mutation::{Mutation, switch_on};
use cartwright_simulator::campaign::Campaign;

/// Within how many seeds each is noticed.
const SEEDS_MAX: u64 = 2000;

/// Has the seeds in the page replaced by those that notice the faults now.
const UPDATE_VARIABLE: &str = "CARTWRIGHT_UPDATE_FAULTS";

/// How a row of the table begins.
const ROW: &str = "| `";

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/internals/simulator.md"))
}

/// What the page says: the cells of each fault's row, without its name.
fn rows(page: &str) -> BTreeMap<String, (String, u64)> {
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix(ROW)?.split_once("` | ")?;
        let (rule, seed) = rest.strip_suffix(" |")?.rsplit_once(" | ")?;
        Some((name.to_owned(), (rule.to_owned(), seed.parse().ok()?)))
    };
    page.lines().filter_map(row).collect()
}

/// The first of so many seeds that notices the fault, and as what.
fn noticed(mutation: Mutation, first: u64, seeds: u64) -> Option<(u64, String)> {
    let campaign = Campaign {
        first,
        seeds,
        time: Duration::MAX,
        failures_max: 1,
        is_told: false,
    };
    let report = campaign.run(|| switch_on(Some(mutation)));
    let outcome = report.failures.into_iter().min_by_key(|outcome| outcome.seed)?;
    Some((outcome.seed, outcome.violation?.0))
}

/// The page with these seeds in its table.
fn with_seeds(page: &str, seeds: &BTreeMap<&str, u64>) -> String {
    let mut updated = String::new();
    for line in page.lines() {
        let name = line.strip_prefix(ROW).and_then(|rest| rest.split_once('`'));
        match name.and_then(|(name, _)| seeds.get(name)) {
            Some(seed) => {
                let (kept, _) = line
                    .trim_end_matches(" |")
                    .rsplit_once(" | ")
                    .expect("a row has several cells");
                writeln!(updated, "{kept} | {seed} |")
            }
            None => writeln!(updated, "{line}"),
        }
        .expect("appending to a string cannot fail");
    }
    updated
}

#[test]
fn every_broken_rule_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let page_text = std::fs::read_to_string(page()).expect("the page on the simulator is there");
    let known = rows(&page_text);
    let (mut unnoticed, mut behind, mut seeds) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (name, mutation) in Mutation::ALL {
        let known = known.get(name).map_or(0, |(_, seed)| *seed);
        let found = noticed(mutation, known, 1).or_else(|| {
            behind.push(name);
            noticed(mutation, 1, SEEDS_MAX)
        });
        if let Some((seed, violation)) = found {
            let violation: String = violation.chars().take(100).collect();
            println!("{name}: seed {seed}: {violation}");
            seeds.insert(name, seed);
        } else {
            unnoticed.push(name);
        }
    }
    if !behind.is_empty() {
        println!("other seeds notice {behind:?} by now: `cargo xtask faults` writes them down");
    }
    if std::env::var_os(UPDATE_VARIABLE).is_some() {
        std::fs::write(page(), with_seeds(&page_text, &seeds)).expect("the page can be written");
    }
    assert!(
        unnoticed.is_empty(),
        "not noticed within {SEEDS_MAX} seeds: {unnoticed:?}"
    );
}

#[test]
fn the_page_lists_the_rules_that_can_be_broken() {
    let page = std::fs::read_to_string(page()).expect("the page on the simulator is there");
    let listed: Vec<String> = rows(&page).into_keys().collect();
    let mut all: Vec<&str> = Mutation::ALL.iter().map(|(name, _)| *name).collect();
    all.sort_unstable();
    assert_eq!(listed, all);
}

#[test]
fn a_seed_is_replaced_in_its_row_alone() {
    let page = "# Faults\n\n| fault | rule | seed |\n| --- | --- | ---: |\n| `a` | one | 1 |\n| `b` | two | 7 |\n";
    assert_eq!(
        with_seeds(page, &BTreeMap::from([("b", 12)])),
        page.replace("| 7 |", "| 12 |")
    );
    assert_eq!(rows(page)["b"], ("two".to_owned(), 7));
}
