//! The simulator must notice every rule that is broken on purpose, or it proves nothing.

use std::time::Duration;

use cartwright::engine::mutation::{Mutation, switch_on};
use cartwright_simulator::campaign::Campaign;

/// Within how many seeds each must be noticed.
const SEEDS_MAX: u64 = 2000;

fn seeds_until_noticed(mutation: Mutation) -> (u64, String) {
    let campaign = Campaign {
        first: 1,
        seeds: SEEDS_MAX,
        time: Duration::MAX,
        failures_max: 1,
        is_told: false,
    };
    let report = campaign.run(|| switch_on(Some(mutation)));
    let first = report.failures.first();
    let violation = first.and_then(|outcome| outcome.violation.as_ref());
    (
        report.seeds,
        violation.map_or_else(String::new, |violation| violation.0.clone()),
    )
}

#[test]
fn every_broken_rule_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut unnoticed = Vec::new();
    println!("| rule broken | seeds | noticed as |\n| --- | ---: | --- |");
    for (name, mutation) in Mutation::ALL {
        let (seeds, noticed) = seeds_until_noticed(mutation);
        let short: String = noticed.chars().take(100).collect();
        println!("| {name} | {seeds} | {short} |");
        if noticed.is_empty() {
            unnoticed.push(name);
        }
    }
    assert!(
        unnoticed.is_empty(),
        "not noticed within {SEEDS_MAX} seeds: {unnoticed:?}"
    );
}
