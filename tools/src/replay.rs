//! The `cart replay` command: stocks a shop, plays its orders, compares the books, and says how it went.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use cartwright_protocol::ErrorCode;
use cartwright_protocol::client::ClientError;

use crate::address::Address;
use crate::check::{self, Problems, ReadError, Snapshot};
use crate::order_file::{Skip, Skipped};
use crate::play::{Ledger, PlayOptions, play};
use crate::progress::Progress;
use crate::shop::{Shop, Totals};
use crate::stocking::{self, Amount, Refusals, count_refusal};
use crate::text::{duration, grouped, pounds};

/// Connections unless told.
pub const CONNECTION_COUNT_DEFAULT: u16 = 8;

/// Requests in flight on each connection unless told.
pub const PIPELINE_DEPTH_DEFAULT: u16 = 16;

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArguments {
    /// The shop's order file in CSV; - for standard input
    pub file: PathBuf,
    /// The server's host
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// The server's port
    #[arg(long, default_value_t = 6379)]
    pub port: u16,
    /// Units to stock of each item; without it, exactly what all the orders need
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    pub stock: Option<u64>,
    /// How many connections
    #[arg(long, default_value_t = CONNECTION_COUNT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// How many checkouts are in flight on each connection
    #[arg(long, default_value_t = PIPELINE_DEPTH_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub pipeline: u16,
}

impl ReplayArguments {
    /// How to play.
    pub fn play_options(&self) -> PlayOptions {
        PlayOptions {
            address: Address {
                host: self.host.clone(),
                port: self.port,
            },
            connection_count: usize::from(self.connections),
            pipeline_depth: usize::from(self.pipeline),
        }
    }

    /// How much to stock.
    pub fn amount(&self) -> Amount {
        self.stock.map_or(Amount::Exact, Amount::Each)
    }
}

/// Why a replay did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Nobody answers.
    #[error(
        "no Cartwright server at {address}: {source}; start one with `cartwright serve`, or give --host and --port"
    )]
    NoServer {
        /// Where.
        address: Address,
        /// What was tried.
        source: ClientError,
    },
    /// The server went away.
    #[error(
        "the server at {address} was lost while {doing}, with {unanswered} orders unanswered: {source}; \
         once it runs again, repeat the same command: what is done already is answered from its keys"
    )]
    Lost {
        /// Where.
        address: Address,
        /// What was tried.
        doing: &'static str,
        /// Orders without an answer.
        unanswered: u64,
        /// What happened.
        source: ClientError,
    },
    /// The server answers something else.
    #[error("while reading the books: {0}")]
    Read(ReadError),
    /// By a signal.
    #[error("stopped with {unanswered} orders unplayed; repeat the same command to play the rest")]
    Interrupted {
        /// Orders without an answer.
        unanswered: u64,
    },
}

/// How a replay went.
#[derive(Debug)]
pub struct Report {
    made: Totals,
    new_order_count: u64,
    item_count: u64,
    skipped: Skipped,
    refusals: Refusals,
    options: PlayOptions,
    ledger: Ledger,
    after: Snapshot,
    problems: Problems,
}

/// Stocks the shop, plays its orders, and compares the books. `stop` ends it early.
pub fn replay(
    shop: &Shop,
    skipped: Skipped,
    amount: Amount,
    options: &PlayOptions,
    stop: &AtomicBool,
) -> Result<Report, ReplayError> {
    let address = &options.address;
    drop(address.connect().map_err(|source| ReplayError::NoServer {
        address: address.clone(),
        source,
    })?);
    let mut ledger = Ledger::new(shop);
    let before = Snapshot::take(shop, address).map_err(ReplayError::Read)?;

    let progress = Progress::new("stocking", 2 * shop.items.len() as u64);
    let stocked = stocking::stock(shop, amount, address, &progress);
    progress.finish();
    let stocking_refusals = stocked.map_err(|source| lost(address, "stocking", &ledger, source))?;

    let progress = Progress::new("orders", shop.orders.len() as u64);
    let played = play(shop, &mut ledger, options, &progress, stop);
    progress.finish();
    played.map_err(|source| lost(address, "playing orders", &ledger, source))?;
    if stop.load(Ordering::Relaxed) {
        let unanswered = ledger.unanswered_count();
        return Err(ReplayError::Interrupted { unanswered });
    }

    let after = Snapshot::take(shop, address).map_err(ReplayError::Read)?;
    let mut problems = check::books(shop, &ledger, amount, &before, &after);
    for (count, first) in stocking_refusals.values() {
        problems.push(format!("{count} items could not be stocked; the first: {first}"));
    }
    let mut refusals = Refusals::new();
    for (order, error) in ledger.refused(shop) {
        count_refusal(&mut refusals, &format!("order {}", order.key), error);
    }
    for (code, (count, first)) in &refusals {
        // Who stocks another amount than needed wants to see what is sold out.
        if amount == Amount::Exact || *code != ErrorCode::OutOfStock.as_str() {
            problems.push(format!("{count} orders were refused with {code}; the first: {first}"));
        }
    }
    for skip in Skip::ALL.into_iter().filter(|skip| skip.is_lost_sale()) {
        if skipped.count(skip) > 0 {
            problems.push(format!(
                "{} rows are sales that could not be played: {}",
                skipped.count(skip),
                skip.reason()
            ));
        }
    }
    Ok(Report {
        made: ledger.totals(shop),
        new_order_count: after.audit.orders.saturating_sub(before.audit.orders),
        item_count: shop.items.len() as u64,
        skipped,
        refusals,
        options: options.clone(),
        ledger,
        after,
        problems,
    })
}

fn lost(address: &Address, doing: &'static str, ledger: &Ledger, source: ClientError) -> ReplayError {
    ReplayError::Lost {
        address: address.clone(),
        doing,
        unanswered: ledger.unanswered_count(),
        source,
    }
}

impl Report {
    /// Whether everything is as it must be.
    pub const fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is not.
    pub fn problems(&self) -> &[String] {
        self.problems.lines()
    }

    /// The sums over the acknowledged orders.
    pub const fn made(&self) -> Totals {
        self.made
    }

    /// How many of the acknowledged orders were made by this replay; the others are answered from their keys.
    pub const fn new_order_count(&self) -> u64 {
        self.new_order_count
    }

    /// Units that the server can still sell of the shop's items.
    pub fn units_left(&self) -> i64 {
        self.after.levels.iter().map(|level| level.available).sum()
    }

    /// Hash of the server's whole state afterwards.
    pub const fn state_hash(&self) -> u64 {
        self.after.audit.state_hash
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { made, ledger, .. } = self;
        let mut line = |what: &str, text: String| writeln!(formatter, "{what:<10} {text}");
        line(
            "orders",
            format!(
                "{} acknowledged: {} new, {} answered from their keys",
                grouped(made.orders),
                grouped(self.new_order_count),
                grouped(made.orders.saturating_sub(self.new_order_count)),
            ),
        )?;
        line(
            "rows",
            format!(
                "{} in these orders; {} lines once rows of one item in an order are added up",
                grouped(made.rows),
                grouped(made.lines)
            ),
        )?;
        line("units", grouped(made.units))?;
        line("items", grouped(self.item_count))?;
        line(
            "revenue",
            format!("{} at each item's last price in the file", pounds(made.pence)),
        )?;
        line("skipped", skipped_text(&self.skipped))?;
        line("refused", refused_text(&self.refusals))?;
        let seconds = ledger.elapsed().as_secs_f64().max(f64::EPSILON);
        line(
            "speed",
            format!(
                "{} orders/s, {} rows/s over {seconds:.2} s ({} connections, {} deep)",
                grouped((made.orders as f64 / seconds) as u64),
                grouped((made.rows as f64 / seconds) as u64),
                self.options.connection_count,
                self.options.pipeline_depth,
            ),
        )?;
        let at = |quantile| duration(ledger.latency().value_at_quantile(quantile));
        line(
            "latency",
            format!(
                "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                duration(ledger.latency().max())
            ),
        )?;
        if ledger.busy_count() > 0 {
            line("busy", format!("{} times, tried again", grouped(ledger.busy_count())))?;
        }
        let audit = &self.after.audit;
        line(
            "audit",
            format!(
                "{} violations in {} items, {} orders, {} lines; state {:016x}; paused {} ms",
                grouped(audit.violations),
                grouped(audit.items),
                grouped(audit.orders),
                grouped(audit.lines),
                audit.state_hash,
                audit.paused_ms,
            ),
        )?;
        line(
            "left",
            format!("{} units of these items can still be sold", self.units_left()),
        )?;
        for problem in self.problems.lines() {
            line("WRONG", problem.clone())?;
        }
        line(
            "result",
            if self.is_clean() {
                "all books balance"
            } else {
                "something is wrong"
            }
            .to_owned(),
        )
    }
}

fn skipped_text(skipped: &Skipped) -> String {
    let reasons: Vec<_> = Skip::ALL
        .into_iter()
        .filter(|&skip| skipped.count(skip) > 0)
        .map(|skip| format!("{} {}", grouped(skipped.count(skip)), skip.reason()))
        .collect();
    let rows = format!("{} rows", grouped(skipped.total()));
    if reasons.is_empty() {
        rows
    } else {
        format!("{rows}: {}", reasons.join(", "))
    }
}

fn refused_text(refusals: &Refusals) -> String {
    let codes: Vec<_> = refusals
        .iter()
        .map(|(code, (count, first))| format!("{} {code} (the first: {first})", grouped(*count)))
        .collect();
    if codes.is_empty() {
        "0 orders".to_owned()
    } else {
        codes.join(", ")
    }
}
