//! `cart`: tools for shops on a Cartwright server. Parses the command line and maps each cause of failure to an exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cartwright_tools::bench::arguments::BenchArguments;
use cartwright_tools::bench::command::{Verdict, bench};
use cartwright_tools::demo::{self, DemoOptions};
use cartwright_tools::order_file::OrderFile;
use cartwright_tools::replay::{ReplayArguments, ReplayError, replay};
use clap::{Parser, Subcommand};

/// The server and its books are not as they must be. (2 is clap's, for a wrong command line.)
const EXIT_WRONG: u8 = 1;
/// The order file cannot be used.
const EXIT_FILE: u8 = 3;
/// The server is not there, went away, or answers something else.
const EXIT_SERVER: u8 = 4;
/// Stopped by a signal.
const EXIT_INTERRUPTED: u8 = 5;

/// Tools for shops on a Cartwright server.
#[derive(Parser)]
#[command(name = "cart", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays a shop's order file against a server, and checks that the books balance.
    ///
    /// Puts every item with its last price, stocks it, and sends every invoice as one checkout: its number is the
    /// idempotency key, its customer the number without `.0`, or `guest`. Played twice, the second time changes nothing.
    /// Ends with 0 if everything is as it must be, with 1 if the books do not balance or orders were refused (OUTOFSTOCK
    /// counts as refused only without --stock), with 3 for a bad file, with 4 if there is no server.
    Replay(ReplayArguments),
    /// Measures a server under a load that is made up: carts, sales, plain keys; this server, or a Redis.
    ///
    /// Use a server of its own: it puts items named b000000 and up, and the orders stay. Ends with 0 if the books
    /// balance after every run and every check holds, with 1 if not, with 4 if there is no server or it went away.
    Bench(Box<BenchArguments>),
    /// Plays a shop's orders, crashes the server in the middle, and proves that none was lost.
    ///
    /// Starts servers of its own in a temporary directory, and leaves nothing behind. Ends with 0 if all is as it must
    /// be, with 1 if not.
    Demo(DemoOptions),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Replay(arguments) => run_replay(&arguments),
        Command::Bench(arguments) => run_bench(&arguments),
        Command::Demo(options) => run_demo(&options),
    }
}

fn run_demo(options: &DemoOptions) -> ExitCode {
    match demo::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cart: {error:#}");
            ExitCode::from(EXIT_WRONG)
        }
    }
}

fn run_bench(arguments: &BenchArguments) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let ended = match cartwright_tools::signals::stop_on_signal(&stop) {
        Ok(()) => bench(arguments, &stop),
        Err(error) => {
            eprintln!("cart: cannot watch for signals: {error}");
            return ExitCode::from(EXIT_SERVER);
        }
    };
    match ended {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(EXIT_WRONG),
        Err(error) => {
            eprintln!("cart: {error}");
            ExitCode::from(if error.is_interrupted() {
                EXIT_INTERRUPTED
            } else {
                EXIT_SERVER
            })
        }
    }
}

fn run_replay(arguments: &ReplayArguments) -> ExitCode {
    let fail = |error: &dyn std::error::Error, code| {
        eprintln!("cart: {error}");
        ExitCode::from(code)
    };
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = cartwright_tools::signals::stop_on_signal(&stop) {
        return fail(&error, EXIT_SERVER);
    }
    let file = match OrderFile::open(&arguments.file) {
        Ok(file) => file,
        Err(error) => return fail(&error, EXIT_FILE),
    };
    match replay(
        &file.shop,
        file.skipped,
        arguments.amount(),
        &arguments.play_options(),
        &stop,
    ) {
        Ok(report) => {
            print!("{report}");
            if report.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_WRONG)
            }
        }
        Err(error @ ReplayError::Interrupted { .. }) => fail(&error, EXIT_INTERRUPTED),
        Err(error) => fail(&error, EXIT_SERVER),
    }
}
