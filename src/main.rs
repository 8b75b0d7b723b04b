//! The command line: `serve` runs the server, `verify` reads a data directory and changes nothing.

use std::io::IsTerminal;

use cartwright::config::{ServeConfig, VerifyConfig};
use cartwright::runtime::{ExitCode, Verdict, VerifyError, serve, verify};
use cartwright_tools::demo::DemoOptions;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Stock, carts and orders: in memory, durable, and never wrong
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,

    /// What to log to stderr: error, warn, info, debug or trace, also by module
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        env = "CARTWRIGHT_LOG"
    )]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server
    Serve(ServeConfig),
    /// Reads a data directory and says what it holds, or where it is damaged
    Verify(VerifyConfig),
    /// Plays a shop's orders, crashes the server in the middle, and proves that none was lost
    Demo(DemoOptions),
}

/// A fault in a record is said once, with its place.
fn verify_alone(config: &VerifyConfig) -> Result<Verdict, VerifyError> {
    ExitCode::install_panic_hook();
    verify(config, &mut std::io::stdout())
}

fn main() {
    let CommandLine { command, log } = CommandLine::parse();
    let filter = EnvFilter::try_new(&log).unwrap_or_else(|error| {
        eprintln!("cartwright: --log {log} is not a level or filter: {error}");
        std::process::exit(2);
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match command {
        Command::Serve(config) => {
            if let Err(error) = serve(&config) {
                error.exit_code().die(error);
            }
        }
        Command::Verify(config) => match verify_alone(&config) {
            Ok(Verdict::Whole) => {}
            Ok(Verdict::Damaged) => ExitCode::Damage.die("what is kept to fall back on is damaged; see the report"),
            Ok(Verdict::Unbalanced) => ExitCode::Damage.die("the books do not balance; see the report"),
            Err(VerifyError::Data(error)) => error.exit_code().die(error),
            Err(error @ VerifyError::Report(_)) => ExitCode::Storage.die(error),
        },
        Command::Demo(options) => {
            let shown = std::env::current_exe()
                .map_err(anyhow::Error::from)
                .and_then(|server| cartwright_tools::demo::run(&DemoOptions { server, ..options }));
            if let Err(error) = shown {
                eprintln!("cartwright: {error:#}");
                std::process::exit(1);
            }
        }
    }
}
