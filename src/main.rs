//! The command line: `serve` runs the server, `verify` reads a data directory and changes nothing.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;

use cartwright::config::{ServeConfig, VerifyConfig};
use cartwright::runtime::{ExitCode, Verdict, VerifyError, serve, verify};
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
    /// Plays a shop's orders, crashes the server in the middle, and proves that none was lost: `cart demo`
    #[command(disable_help_flag = true)]
    Demo {
        /// As `cart demo` takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
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
        Command::Demo { arguments } => {
            let Err(error) = become_cart_demo(&arguments);
            eprintln!(
                "cartwright: the demonstration is `cart demo`, and cart is not beside this program ({error}). `cargo xtask \
                 demo` builds both and runs it"
            );
            std::process::exit(1);
        }
    }
}

/// Runs the `cart` beside this program in its place: a server knows nothing of shops that are made up.
fn become_cart_demo(arguments: &[OsString]) -> io::Result<Infallible> {
    let cart = std::env::current_exe()?.with_file_name("cart");
    Err(std::process::Command::new(cart).arg("demo").args(arguments).exec())
}
