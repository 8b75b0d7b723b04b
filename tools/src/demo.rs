//! The main job in one command: a server, a shop's orders, a crash in the middle, and the proof that none was lost.
//!
//! Called by `cart demo`. Starts real server processes in a temporary directory and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::check::{self, Problems, Snapshot};
use crate::generator::{GeneratorOptions, ITEM_COUNT_DEFAULT, generate};
use crate::order_file::OrderFile;
use crate::play::{Ledger, PlayOptions, play};
use crate::progress::Progress;
use crate::server_process::{ServerOptions, ServerProcess};
use crate::shop::Shop;
use crate::signals::stop_on_signal;
use crate::stocking::{self, Amount};
use crate::text::{duration, grouped, pounds};

/// How many orders the made-up shop has unless told.
pub const ORDER_COUNT_DEFAULT: u64 = 20_000;

/// Connections that play.
const CONNECTION_COUNT: usize = 8;

/// Checkouts in flight on each.
const PIPELINE_DEPTH: usize = 16;

/// How often the killer looks whether it is time.
const KILL_POLL_INTERVAL: Duration = Duration::from_micros(200);

/// Most orders of a made-up shop.
const ORDER_COUNT_MAX: u64 = 10_000_000;

/// What to show; also the command line of `cart demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// The server's program, instead of the `cartwright` beside this one, or else on the PATH
    #[arg(long, value_name = "PROGRAM")]
    pub server: Option<PathBuf>,
    /// Play this order file (CSV, as the UCI Online Retail set) instead of a made-up shop
    #[arg(long, value_name = "FILE.csv")]
    pub orders: Option<PathBuf>,
    /// Seed of the made-up shop: the same seed, the same shop
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many orders the made-up shop has
    #[arg(long, default_value_t = ORDER_COUNT_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=ORDER_COUNT_MAX))]
    pub count: u64,
    /// The server's shards; without it, one a core
    #[arg(long)]
    pub shards: Option<u16>,
}

impl DemoOptions {
    /// A made-up shop of the usual size.
    pub fn new(server: impl Into<PathBuf>) -> Self {
        Self {
            server: Some(server.into()),
            orders: None,
            seed: 1,
            count: ORDER_COUNT_DEFAULT,
            shards: None,
        }
    }

    fn server_program(&self) -> PathBuf {
        let name = Path::new("cartwright");
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.with_file_name(name)).filter(|program| program.exists())
        };
        let found = self.server.clone().or_else(beside);
        found.unwrap_or_else(|| name.to_owned())
    }
}

/// Shows it. An error means that something is wrong with the server, the file or the machine, and says what.
pub fn run(options: &DemoOptions) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(&stop).context("cannot watch for signals")?;
    ensure!(options.count > 0, "a shop needs at least one order");
    println!("Cartwright demo: a shop's orders, a crash in the middle, and none of them lost.\n");

    let shop = open_shop(options)?;
    let data = tempfile::Builder::new()
        .prefix("cartwright-demo-")
        .tempdir()
        .context("cannot make a temporary directory; set TMPDIR to a directory with room")?;
    Demo {
        shop,
        stop,
        server: ServerOptions {
            shard_count: options.shards,
            ..ServerOptions::new(options.server_program(), data.path().join("data"))
        },
    }
    .run(data.path())
}

fn open_shop(options: &DemoOptions) -> Result<Shop> {
    let (shop, origin) = if let Some(path) = &options.orders {
        (OrderFile::open(path)?.shop, path.display().to_string())
    } else {
        let generated = generate(&GeneratorOptions {
            seed: options.seed,
            order_count: options.count as usize,
            item_count: ITEM_COUNT_DEFAULT,
        });
        (generated, format!("made up from seed {}", options.seed))
    };
    let totals = shop.totals();
    println!(
        "The shop   {} orders with {} lines of {} items, {origin}",
        grouped(totals.orders),
        grouped(totals.lines),
        grouped(shop.items.len() as u64)
    );
    Ok(shop)
}

struct Demo {
    shop: Shop,
    stop: Arc<AtomicBool>,
    server: ServerOptions,
}

impl Demo {
    fn run(&self, directory: &Path) -> Result<()> {
        let shop = &self.shop;
        let server = ServerProcess::start(&self.server)?;
        let port = server.port();
        println!(
            "Started    a server on port {port}, in {}; it syncs to disk before it says yes",
            directory.display()
        );

        let address = server.address();
        let before = Snapshot::take(shop, &address)?;
        let progress = Progress::new("stocking", 2 * shop.items.len() as u64);
        let stocked = stocking::stock(shop, Amount::Exact, &address, &progress);
        progress.finish();
        if let Some((count, first)) = stocked?.into_values().next() {
            bail!("{count} items could not be stocked; the first: {first}");
        }
        println!(
            "Stocked    exactly the {} units that the orders need",
            grouped(shop.totals().units)
        );

        let mut ledger = Ledger::new(shop);
        self.play_until_killed(server, &mut ledger)?;
        let survivors = self.recover(port, &ledger)?;
        let server = self.play_the_rest(survivors, &mut ledger)?;

        let after = Snapshot::take(shop, &address)?;
        let mut problems = check::books(shop, &ledger, Amount::Exact, &before, &after);
        for (order, error) in ledger.refused(shop).take(1) {
            problems.push(format!("order {} was refused: {error}", order.key));
        }
        fail_on(&problems, &server)?;
        self.check_orders(&server, &ledger, "checking")?;
        println!(
            "Audited    0 violations: {} orders, {} lines, all units sold, none sold twice",
            grouped(after.audit.orders),
            grouped(after.audit.lines)
        );
        let status = server.stop()?;
        ensure!(
            ExitStatus::success(&status),
            "after SIGTERM the server ended with {status} instead of 0"
        );
        self.print_summary(&ledger);
        Ok(())
    }

    fn fail_if_interrupted(&self) -> Result<()> {
        ensure!(
            !self.stop.load(Ordering::Relaxed),
            "interrupted; the server is stopped and its data removed"
        );
        Ok(())
    }

    /// Kills the server once nearly half of the orders are acknowledged.
    fn play_until_killed(&self, server: ServerProcess, ledger: &mut Ledger) -> Result<()> {
        let order_count = self.shop.orders.len() as u64;
        let kill_at = order_count * 9 / 20;
        let options = play_options(&server);
        let progress = Progress::new("orders", order_count);
        let ended = AtomicBool::new(false);
        let (played, killed) = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                while progress.done() < kill_at && !ended.load(Ordering::Relaxed) {
                    std::thread::sleep(KILL_POLL_INTERVAL);
                }
                server.kill()
            });
            let played = play(&self.shop, ledger, &options, &progress, &self.stop);
            ended.store(true, Ordering::Relaxed);
            (played, killer.join().expect("the killing thread does not panic"))
        });
        progress.finish();
        killed?;
        self.fail_if_interrupted()?;
        let acknowledged = order_count - ledger.unanswered_count();
        if acknowledged < kill_at {
            // The server was lost before its time: that is not the crash which was ordered.
            played.context("the server went away by itself")?;
        }
        println!(
            "Killed     the server (SIGKILL) with {} orders acknowledged",
            grouped(acknowledged)
        );
        Ok(())
    }

    /// Restarts the server and checks that everything acknowledged is there.
    fn recover(&self, port: u16, ledger: &Ledger) -> Result<ServerProcess> {
        let began = Instant::now();
        let server = ServerProcess::start(&self.server.clone().on_port(port))?;
        let took = began.elapsed();
        let audit = check::audit(&server.address())?;
        if audit.violations > 0 {
            bail!("the audit after the crash found {} violations", audit.violations);
        }
        let acknowledged = ledger.made(&self.shop).count() as u64;
        ensure!(
            audit.orders >= acknowledged,
            "{acknowledged} orders were acknowledged, but only {} are there after the crash",
            audit.orders
        );
        println!(
            "Restarted  on the same data in {}: {} orders, {} lines recovered, 0 violations",
            duration(took.as_micros() as u64),
            grouped(audit.orders),
            grouped(audit.lines)
        );
        self.check_orders(&server, ledger, "checking")?;
        println!(
            "Checked    all {} acknowledged orders are there, line by line; {} more were taken, but the crash cut off \
             the answer",
            grouped(acknowledged),
            grouped(audit.orders - acknowledged)
        );
        Ok(server)
    }

    fn play_the_rest(&self, server: ServerProcess, ledger: &mut Ledger) -> Result<ServerProcess> {
        let open = ledger.unanswered_count();
        let progress = Progress::new("orders", open);
        let played = play(&self.shop, ledger, &play_options(&server), &progress, &self.stop);
        progress.finish();
        self.fail_if_interrupted()?;
        played.with_context(|| format!("the server was lost. It said:\n{}", server.output()))?;
        println!(
            "Finished   the other {}; who had no answer asked again, with the same key",
            grouped(open)
        );
        Ok(server)
    }

    fn check_orders(&self, server: &ServerProcess, ledger: &Ledger, what: &'static str) -> Result<()> {
        let progress = Progress::new(what, ledger.made(&self.shop).count() as u64);
        let problems = check::orders(&self.shop, ledger, &server.address(), &progress);
        progress.finish();
        fail_on(&problems?, server)
    }

    fn print_summary(&self, ledger: &Ledger) {
        let totals = ledger.totals(&self.shop);
        let seconds = ledger.elapsed().as_secs_f64().max(f64::EPSILON);
        let latency = ledger.latency();
        println!(
            "\n{} orders over {} were taken in {seconds:.1} s ({} orders/s, {} rows/s), each on disk before its answer: \
             half within {}, 99 % within {}.\nEvery order that was acknowledged is there, once. Nothing was sold that \
             was not in stock.",
            grouped(totals.orders),
            pounds(totals.pence),
            grouped((totals.orders as f64 / seconds) as u64),
            grouped((totals.rows as f64 / seconds) as u64),
            duration(latency.value_at_quantile(0.5)),
            duration(latency.value_at_quantile(0.99)),
        );
    }
}

fn play_options(server: &ServerProcess) -> PlayOptions {
    PlayOptions {
        address: server.address(),
        connection_count: CONNECTION_COUNT,
        pipeline_depth: PIPELINE_DEPTH,
    }
}

fn fail_on(problems: &Problems, server: &ServerProcess) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "the books are wrong:\n  {}\nThe server said:\n{}",
        problems.lines().join("\n  "),
        server.output()
    )
}
