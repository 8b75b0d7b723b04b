//! `cart bench`: from the command line to the table, the files and the exit code.
//!
//! Called by the `cart` program.

use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;

use super::arguments::{BenchArguments, BenchCommand, RunArguments};
use super::machine::Machine;
use super::report::{Table, live_line};
use super::session::{Session, SessionError, run_once};
use super::target::Target;
use super::workload::Workload;
use super::workload::checkout::CheckoutWorkload;
use crate::address::Address;

/// How it ended, where it did not break off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Clean,
    /// Measured, but the server's books or a check say that something is wrong.
    Failed,
}

/// Does what the command line says.
pub fn bench(arguments: &BenchArguments, stop: &AtomicBool) -> Result<Verdict, SessionError> {
    match &arguments.command {
        BenchCommand::Checkout(checkout) => {
            let mix = checkout.carts.mix(checkout.run.load.seed, 0);
            measure(&mut CheckoutWorkload::new(mix), &checkout.run, stop)
        }
    }
}

fn measure(workload: &mut dyn Workload, run: &RunArguments, stop: &AtomicBool) -> Result<Verdict, SessionError> {
    let address = Address {
        host: run.host.clone(),
        port: run.port,
    };
    let target = Target::probe(&address, run.protocol.map(Into::into), run.server_pid)?;
    let mut session = Session {
        title: workload.title(),
        classes: workload.classes(),
        target,
        machine: Machine::this(),
        load: run.load.clone(),
        runs: Vec::new(),
    };
    let mut line = LiveLinePrinter::new(run.output.quiet);
    for _ in 0..run.load.runs {
        let done = run_once(&session.target, workload, &run.load, stop, &mut |point, refused| {
            line.show(&live_line(point, refused));
        })?;
        line.clear();
        session.runs.push(done);
    }
    print!("{}", Table(&session));
    Ok(if session.is_clean() {
        Verdict::Clean
    } else {
        Verdict::Failed
    })
}

/// One line on standard error that changes on a terminal, and follows the last elsewhere.
struct LiveLinePrinter {
    quiet: bool,
    terminal: bool,
    shown: bool,
}

impl LiveLinePrinter {
    fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    fn show(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // A standard error that is closed is no reason to stop measuring.
        let _ = if self.terminal {
            write!(stderr, "\r{text}\x1b[K")
        } else {
            writeln!(stderr, "{text}")
        };
        self.shown = true;
    }

    fn clear(&mut self) {
        if self.shown && self.terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
        self.shown = false;
    }
}
