//! Seeds that failed once, fresh ones, and the promise that a seed always tells the same story.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cartwright_simulator::campaign::{Campaign, Report};
use cartwright_simulator::simulation::run;

/// Seeds that once broke a promise, and which. Once something else is drawn a seed tells another story: fresh seeds
/// have to find such a fault again.
const OLD_FAILURES: [(u64, &str); 9] = [
    (6, "ITEM.PUT was refused for units that undecided carts had taken"),
    (284, "the same, in a shop that was nearly sold out"),
    (
        172,
        "a cart had one price from before an ITEM.PUT, and another from after a later one",
    ),
    (102, "the same, over more shards"),
    (
        90,
        "a cart took more than the limit that had been confirmed while it was on its way",
    ),
    (129, "the same, beside open orders"),
    (
        77,
        "who asked for an order that a full disk kept from expiring was never answered",
    ),
    (291, "the same, with several of them"),
    (
        631,
        "a mark whose sync had failed was taken to be on disk, and the log went on behind it",
    ),
];

/// How many fresh seeds are run, and for how long at most.
const FRESH_SEEDS: u64 = 2000;
const FRESH_TIME: Duration = Duration::from_mins(2);

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
fn seeds_that_failed_once_pass() {
    for (seed, what) in OLD_FAILURES {
        let outcome = run(seed, false);
        assert!(
            outcome.violation.is_none(),
            "seed {seed} ({what}): {:?}",
            outcome.violation
        );
    }
}

#[test]
fn fresh_seeds_pass() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let campaign = Campaign {
        // Other ones every time; whichever fails is printed.
        first: since.as_secs() * FRESH_SEEDS,
        seeds: FRESH_SEEDS,
        time: FRESH_TIME,
        failures_max: 1,
        is_told: false,
    };
    let report = campaign.run(|| {});
    println!("{}", report.line(FRESH_TIME));
    assert!(
        report.seeds > 0 && report.answers > 0 && report.crashes > 0,
        "{report:?}"
    );
    assert_no_failure(&report);
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
