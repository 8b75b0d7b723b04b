//! `cart bench`: from the command line to the table, the files and the exit code.
//!
//! Called by the `cart` program.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::answer::Wire;
use super::arguments::{BenchArguments, BenchCommand, OutputArguments, RunArguments};
use super::compare::{CompareError, compare};
use super::json::{self, SessionForm};
use super::machine::Machine;
use super::page;
use super::report::{Table, live_line};
use super::session::{Session, SessionError, run_once};
use super::target::Target;
use super::workload::Workload;
use super::workload::checkout::CheckoutWorkload;
use super::workload::flash_sale::FlashSale;
use super::workload::hold::{HoldWorkload, Outcomes};
use super::workload::keys::{KeyPattern, KeyWorkload};
use super::workload::load::LoadWorkload;
use super::workload::mixed::MixedWorkload;
use crate::address::Address;

/// How many buyers there are for each unit of a flash sale unless told.
const BUYERS_PER_UNIT: u64 = 5;

/// How it ended, where it did not break off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Clean,
    /// Measured, but the server's books or a check say that something is wrong.
    Failed,
}

/// Why it broke off.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Measuring.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Comparing.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// What the command line says does not fit together.
    #[error("{0}")]
    Arguments(&'static str),
    /// A file.
    #[error("cannot write {}: {source}; what was measured is lost, give another path", path.display())]
    Output {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BenchError {
    /// Whether a signal was the reason.
    pub const fn is_interrupted(&self) -> bool {
        matches!(
            self,
            Self::Session(SessionError::Interrupted)
                | Self::Compare(CompareError::Session {
                    source: SessionError::Interrupted,
                    ..
                })
        )
    }
}

/// Does what the command line says.
pub fn bench(arguments: &BenchArguments, stop: &AtomicBool) -> Result<Verdict, BenchError> {
    match &arguments.command {
        BenchCommand::Checkout(checkout) => {
            let mix = checkout.carts.mix(checkout.run.load.seed, 0);
            measure(&mut CheckoutWorkload::new(mix), &checkout.run, stop)
        }
        BenchCommand::Hold(hold) => {
            let outcomes = Outcomes {
                confirm: hold.confirm,
                cancel: hold.cancel,
            };
            if outcomes.confirm + outcomes.cancel > 1.0 {
                return Err(BenchError::Arguments(
                    "--confirm and --cancel are over 100 percent together",
                ));
            }
            let mix = hold.carts.mix(hold.run.load.seed, hold.hold);
            measure(&mut HoldWorkload::new(mix, outcomes), &hold.run, stop)
        }
        BenchCommand::FlashSale(sale) => {
            let buyers = sale.buyers.unwrap_or(sale.units.saturating_mul(BUYERS_PER_UNIT));
            measure(&mut FlashSale::new(sale.units, buyers), &sale.run, stop)
        }
        BenchCommand::Mixed(mixed) => {
            let mix = mixed.carts.mix(mixed.run.load.seed, 0);
            measure(&mut MixedWorkload::new(mix), &mixed.run, stop)
        }
        BenchCommand::Load(load) => measure(&mut LoadWorkload::new(load.items), &load.run, stop),
        BenchCommand::GetSet(get_set) => {
            let pattern = KeyPattern::GetSet {
                get_share: get_set.keys.gets,
                value_bytes: get_set.keys.value_bytes as usize,
            };
            let mut workload = KeyWorkload::new(pattern, get_set.keys.keys, get_set.run.load.seed);
            measure(&mut workload, &get_set.run, stop)
        }
        BenchCommand::Ycsb(ycsb) => {
            let pattern = KeyPattern::Ycsb(ycsb.workload);
            let mut workload = KeyWorkload::new(pattern, ycsb.records, ycsb.run.load.seed);
            measure(&mut workload, &ycsb.run, stop)
        }
        BenchCommand::Compare(arguments) => {
            let comparison = compare(arguments, stop)?;
            let forms: Vec<_> = comparison.sessions.iter().map(json::session).collect();
            write_out(&forms, &arguments.output, &forms, &comparison)?;
            Ok(verdict(comparison.is_clean()))
        }
    }
}

const fn verdict(is_clean: bool) -> Verdict {
    if is_clean { Verdict::Clean } else { Verdict::Failed }
}

fn measure(workload: &mut dyn Workload, run: &RunArguments, stop: &AtomicBool) -> Result<Verdict, BenchError> {
    let address = Address {
        host: run.host.clone(),
        port: run.port,
    };
    let wire = match (run.protocol.map(Wire::from), workload.is_resp_only()) {
        (Some(Wire::Native), true) => {
            return Err(BenchError::Arguments(
                "this workload can only be said in RESP; leave --protocol out",
            ));
        }
        (_, true) => Some(Wire::Resp),
        (wire, false) => wire,
    };
    let target = Target::probe(&address, wire, run.server_pid).map_err(SessionError::from)?;
    // Before anything is pinned: the cores that this process may use are the machine's.
    let machine = Machine::this();
    let mut line = LiveLinePrinter::new(run.output.quiet);
    let mut runs = Vec::new();
    for _ in 0..run.load.runs.unwrap_or(1) {
        let done = run_once(&target, workload, &run.load, stop, &mut |point, refused| {
            line.show(&live_line(point, refused));
        })?;
        line.clear();
        runs.push(done);
    }
    let session = Session {
        title: workload.title(),
        classes: workload.classes(),
        target,
        machine,
        load: run.load.clone(),
        runs,
    };
    let form = json::session(&session);
    write_out(std::slice::from_ref(&form), &run.output, &form, &Table(&session))?;
    Ok(verdict(session.is_clean()))
}

/// Writes the table, and the files that were asked for: `form` as JSON.
fn write_out(
    sessions: &[SessionForm<'_>],
    output: &OutputArguments,
    form: &impl Serialize,
    table: &dyn std::fmt::Display,
) -> Result<(), BenchError> {
    let is_json_only = output.json.as_deref() == Some(Path::new("-"));
    if !is_json_only {
        print!("{table}");
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BenchError::Output { path, source }
    };
    if let Some(path) = &output.html {
        std::fs::write(path, page::page(sessions)).map_err(failed(path))?;
    }
    if let Some(path) = &output.json {
        let text = serde_json::to_string_pretty(form).expect("the form has text for keys");
        if is_json_only {
            println!("{text}");
        } else {
            std::fs::write(path, text + "\n").map_err(failed(path))?;
        }
    }
    Ok(())
}

/// One line on standard error that changes on a terminal, and follows the last elsewhere.
pub struct LiveLinePrinter {
    quiet: bool,
    terminal: bool,
    shown: bool,
}

impl LiveLinePrinter {
    /// `quiet`: it prints nothing.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Shows this text.
    pub fn show(&mut self, text: &str) {
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

    /// Takes the line away from a terminal.
    pub fn clear(&mut self) {
        if self.shown && self.terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
        self.shown = false;
    }
}
