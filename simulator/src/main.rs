//! `cartwright-simulator`: replays one seed, or searches many for one that breaks a promise.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use cartwright_simulator::campaign::{Campaign, FAILURES_MAX};
use cartwright_simulator::simulation::run;
use clap::Parser;

/// Runs whole servers on a simulated disk, network and clock, and checks every promise.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Runs this seed alone, or begins with it
    #[arg(long)]
    seed: Option<u64>,
    /// Prints everything that happens in the run of the one seed
    #[arg(long, requires = "seed")]
    log: bool,
    /// How many seeds to run
    #[arg(long, conflicts_with = "log")]
    seeds: Option<u64>,
    /// For how many minutes to run seeds
    #[arg(long, conflicts_with = "log")]
    minutes: Option<f64>,
    /// Where seeds that fail are kept, the shortest first
    #[arg(long, value_name = "FILE", default_value = "simulator-failures.txt")]
    failures: PathBuf,
    /// Breaks a rule on purpose: the simulator must notice. `list` names them
    #[cfg(any(feature = "mutations", debug_assertions))]
    #[arg(long = "break", value_name = "RULE")]
    broken: Option<String>,
}

/// The commit of the working directory; empty where git does not know it.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(any(feature = "mutations", debug_assertions))]
fn mutation(name: &str) -> anyhow::Result<cartwright::engine::mutation::Mutation> {
    let all = cartwright::engine::mutation::Mutation::ALL;
    let found = all.iter().find(|(other, _)| *other == name);
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    found
        .map(|(_, mutation)| *mutation)
        .ok_or_else(|| anyhow::anyhow!("no rule is called {name}; there are {}", names.join(", ")))
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let commit = commit();
    // A panic is a finding like any other; it is told once, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    #[cfg(any(feature = "mutations", debug_assertions))]
    if let Some(name) = arguments.broken.as_deref() {
        cartwright::engine::mutation::switch_on(Some(mutation(name)?));
    }
    if let (Some(seed), None, None) = (arguments.seed, arguments.seeds, arguments.minutes) {
        let outcome = run(seed, arguments.log);
        println!(
            "seed {seed}, commit {commit}: {} events, {} answers checked, {} crashes, trace {:016x}",
            outcome.events, outcome.answers, outcome.crashes, outcome.trace_hash
        );
        return Ok(match outcome.violation {
            None => ExitCode::SUCCESS,
            Some(violation) => {
                println!("{violation}");
                ExitCode::FAILURE
            }
        });
    }
    let unbounded = arguments.minutes.is_some();
    let campaign = Campaign {
        first: arguments.seed.unwrap_or(1),
        seeds: arguments.seeds.unwrap_or(if unbounded { u64::MAX } else { 1000 }),
        time: arguments
            .minutes
            .map_or(Duration::MAX, |minutes| Duration::from_secs_f64(minutes * 60.0)),
        failures_max: FAILURES_MAX,
        is_told: true,
    };
    let began = Instant::now();
    #[cfg(any(feature = "mutations", debug_assertions))]
    let broken = match arguments.broken.as_deref() {
        Some(name) => Some(mutation(name)?),
        None => None,
    };
    let report = campaign.run(|| {
        #[cfg(any(feature = "mutations", debug_assertions))]
        cartwright::engine::mutation::switch_on(broken);
    });
    println!("commit {commit}: {}", report.line(began.elapsed()));
    for outcome in &report.failures {
        if let Some(violation) = &outcome.violation {
            println!("seed {} ({} events): {violation}", outcome.seed, outcome.events);
        }
    }
    report.keep_failures(&arguments.failures, &commit)?;
    Ok(if report.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
