//! Pinned seeds keep every promise, and a seed always tells the same story.
//!
//! The seeds are the same in every run, so that a commit is judged by what it changes. `CARTWRIGHT_SEEDS` begins
//! elsewhere: `fresh` at the clock, a number at that seed.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cartwright_simulator::campaign::{Campaign, Report};

/// The seeds that every run begins with.
const PINNED_FIRST: u64 = 1;

/// How many seeds one run takes.
const SEEDS: u64 = 600;

/// Where else to begin.
const VARIABLE: &str = "CARTWRIGHT_SEEDS";

/// The first seed that is wanted.
fn first_seed(wanted: Option<&str>) -> u64 {
    match wanted {
        None => PINNED_FIRST,
        Some("fresh") => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(PINNED_FIRST, |since| since.as_secs() * SEEDS),
        Some(seed) => seed
            .parse()
            .unwrap_or_else(|_| panic!("{VARIABLE} is `fresh` or a seed, not {seed:?}")),
    }
}

fn assert_no_failure(report: &Report) {
    for outcome in &report.failures {
        if let Some(violation) = &outcome.violation {
            eprintln!("seed {} ({} events): {violation}", outcome.seed, outcome.events);
        }
    }
    assert!(
        report.failures.is_empty(),
        "a promise is broken; replay it with: cargo run -p cartwright-simulator -- --seed {} --log",
        report.failures[0].seed
    );
}

#[test]
fn the_seeds_of_a_run_are_pinned_unless_fresh_ones_are_wanted() {
    assert_eq!(first_seed(None), PINNED_FIRST);
    assert_eq!(first_seed(Some("77")), 77);
    assert!(first_seed(Some("fresh")) > 1_000_000);
}

#[test]
fn every_seed_keeps_every_promise() {
    let campaign = Campaign {
        first: first_seed(std::env::var(VARIABLE).ok().as_deref()),
        seeds: SEEDS,
        time: Duration::MAX,
        failures_max: 1,
        is_told: false,
    };
    let report = campaign.run(|| {});
    println!("from seed {}: {report:?}", campaign.first);
    assert_no_failure(&report);
    assert!(
        report.seeds == SEEDS && report.answers > 0 && report.crashes > 0 && report.checkpoints > 0,
        "{report:?}"
    );
}

#[test]
fn a_seed_tells_the_same_story_in_every_process() {
    let told = |seed: u64| {
        let output = Command::new(env!("CARGO_BIN_EXE_cartwright-simulator"))
            .args(["--seed", &seed.to_string(), "--log"])
            .output();
        output.expect("the simulator runs").stdout
    };
    for seed in [1, 2, 3] {
        let first = told(seed);
        assert!(first.len() > 1000, "the log of seed {seed} is short");
        assert!(first == told(seed), "seed {seed} differs from process to process");
    }
}
