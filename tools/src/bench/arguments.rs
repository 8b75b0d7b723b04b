//! The command line of `cart bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::answer::Wire;
use super::cart_mix::{CartMix, LineCount, Popularity};
use super::machine::CoreList;
use super::workload::keys::YcsbWorkload;

/// Connections unless told.
pub const CONNECTION_COUNT_DEFAULT: u16 = 50;

/// Requests in flight on each unless told.
pub const PIPELINE_DEPTH_DEFAULT: u16 = 16;

/// What the command line says.
#[derive(Clone, Debug, Args)]
pub struct BenchArguments {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// See [`BenchArguments`].
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Carts, each a checkout with a key of its own
    Checkout(CheckoutArguments),
    /// Carts that are held, and then confirmed, cancelled, or left to expire
    Hold(HoldArguments),
    /// One item, a few units, many more buyers; checks that exactly so many were sold
    FlashSale(FlashSaleArguments),
    /// A shop's day: people browse, look at stock, check out, and now and then cancel
    Mixed(CheckoutArguments),
    /// New items, put and stocked: how fast, and in how much memory
    Load(LoadItemsArguments),
    /// GET and SET over RESP
    GetSet(GetSetArguments),
    /// The core workloads of YCSB, over RESP
    Ycsb(YcsbArguments),
    /// This server and a Redis in turn, on the same cores, under the same load; starts and stops both itself
    Compare(CompareArguments),
}

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// The native protocol; only Cartwright speaks it
    Native,
    /// RESP, as Redis clients do
    Resp,
}

impl From<Protocol> for Wire {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Native => Self::Native,
            Protocol::Resp => Self::Resp,
        }
    }
}

/// What all workloads take: where, how hard, how long.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The server's host
    #[arg(long, default_value = "127.0.0.1", help_heading = "Server")]
    pub host: String,
    /// The server's port
    #[arg(long, default_value_t = 6379, help_heading = "Server")]
    pub port: u16,
    /// How to speak to it; without it, native to a Cartwright and RESP to a Redis
    #[arg(long, value_enum, help_heading = "Server")]
    pub protocol: Option<Protocol>,
    /// Its process, for its CPU time and memory; without it, what INFO says, if it is on this machine
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub server_pid: Option<u32>,
    /// The load's part.
    #[command(flatten)]
    pub load: LoadArguments,
    /// The output's part.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// How hard and how long.
#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// Connections, over all threads
    #[arg(long, default_value_t = CONNECTION_COUNT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=10_000), help_heading = "Load")]
    pub connections: u16,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = PIPELINE_DEPTH_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=16_384), help_heading = "Load")]
    pub pipeline: u16,
    /// Open loop: so many requests fall due each second, and latency counts from when each was due; without it, the
    /// next is sent when one is answered
    #[arg(long, value_name = "PER-SECOND", value_parser = parse_rate, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Threads that make load, each with its own part of the connections
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Load")]
    pub threads: Option<u16>,
    /// Cores to pin these threads to, as 0, 0-3 or 0,2; gives the number of threads as well
    #[arg(long, value_name = "LIST", help_heading = "Load")]
    pub cpu: Option<CoreList>,
    /// Seconds of load before anything is counted
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Load")]
    pub warmup: Duration,
    /// Seconds that are measured
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Load")]
    pub duration: Duration,
    /// So many requests instead of --duration, and no warm-up
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    pub requests: Option<u64>,
    /// How often to do it, 1 unless told, 3 in a comparison; the median and the spread are shown
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100), help_heading = "Load")]
    pub runs: Option<u16>,
    /// Have the server take checkpoints meanwhile, one after the other
    #[arg(long, help_heading = "Load")]
    pub bgsave: bool,
    /// The same seed makes up the same requests
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub seed: u64,
}

impl LoadArguments {
    /// How many threads.
    pub fn thread_count(&self) -> usize {
        let of_cores = self.cpu.as_ref().map(|list| list.0.len());
        let wished = self.threads.map(usize::from).or(of_cores).unwrap_or(1);
        wished.clamp(1, usize::from(self.connections))
    }
}

/// What to show.
#[derive(Clone, Debug, Args)]
pub struct OutputArguments {
    /// Write everything that was measured as JSON to this file; - for standard output, then without the table
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write a page with charts to this file; it needs nothing else to be looked at
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// No live line
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}

/// What carts are like.
#[derive(Clone, Debug, Args)]
pub struct CartArguments {
    /// Lines in a cart: a number, or `real`: as in a real shop's orders
    #[arg(long, default_value = "10", help_heading = "Carts")]
    pub lines: LineCount,
    /// Which items: `uniform`, `zipf:THETA`, or `hot:N`: one line of every cart is one of N hot items
    #[arg(long, default_value = "uniform", help_heading = "Carts")]
    pub skus: Popularity,
    /// How many items there are
    #[arg(long, default_value_t = 10_000, value_parser = parse_count, help_heading = "Carts")]
    pub items: usize,
    /// How many customers there are
    #[arg(long, default_value_t = 10_000, value_parser = parse_count, help_heading = "Carts")]
    pub customers: usize,
    /// Units in a line are 1 to this
    #[arg(long, default_value_t = 3, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = "Carts")]
    pub quantity_max: u32,
    /// Share of the carts that lie on two shards; the others lie on one. Without it, as the slots fall
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = "Carts")]
    pub cross_shard: Option<f64>,
}

impl CartArguments {
    /// The mix, for orders held so long (0: not at all).
    pub fn mix(&self, seed: u64, hold_ms: u32) -> CartMix {
        CartMix {
            lines: self.lines,
            popularity: self.skus,
            item_count: self.items,
            customer_count: self.customers,
            quantity_max: self.quantity_max,
            cross_share: self.cross_shard,
            shard_count: 1,
            hold_ms,
            seed,
        }
    }
}

/// `cart bench checkout`.
#[derive(Clone, Debug, Args)]
pub struct CheckoutArguments {
    /// The carts.
    #[command(flatten)]
    pub carts: CartArguments,
    /// The rest.
    #[command(flatten)]
    pub run: RunArguments,
}

/// `cart bench hold`.
#[derive(Clone, Debug, Args)]
pub struct HoldArguments {
    /// For how long orders are held, in milliseconds
    #[arg(long, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=604_800_000), help_heading = "Holds")]
    pub hold: u32,
    /// Share of the holds that are confirmed
    #[arg(long, default_value = "60", value_name = "PERCENT", value_parser = parse_percent, help_heading = "Holds")]
    pub confirm: f64,
    /// Share of the holds that are cancelled; at most what confirming leaves, and the rest expires
    #[arg(long, default_value = "30", value_name = "PERCENT", value_parser = parse_percent, help_heading = "Holds")]
    pub cancel: f64,
    /// The carts.
    #[command(flatten)]
    pub carts: CartArguments,
    /// The rest.
    #[command(flatten)]
    pub run: RunArguments,
}

/// `cart bench flash-sale`.
#[derive(Clone, Debug, Args)]
pub struct FlashSaleArguments {
    /// Units for sale
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), help_heading = "Sale")]
    pub units: u64,
    /// Buyers, who want one each; five times the units unless told
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Sale")]
    pub buyers: Option<u64>,
    /// The rest.
    #[command(flatten)]
    pub run: RunArguments,
}

/// `cart bench load`.
#[derive(Clone, Debug, Args)]
pub struct LoadItemsArguments {
    /// How many items
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), help_heading = "Items")]
    pub items: u64,
    /// The rest.
    #[command(flatten)]
    pub run: RunArguments,
}

/// What keys are like.
#[derive(Clone, Debug, Args)]
pub struct KeyArguments {
    /// How many keys there are
    #[arg(long, default_value_t = 100_000, value_parser = parse_count, help_heading = "Keys")]
    pub keys: usize,
    /// Length of a value, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576), help_heading = "Keys")]
    pub value_bytes: u32,
    /// Share of the requests that read
    #[arg(long, default_value = "50", value_name = "PERCENT", value_parser = parse_percent, help_heading = "Keys")]
    pub gets: f64,
}

/// `cart bench get-set`.
#[derive(Clone, Debug, Args)]
pub struct GetSetArguments {
    /// The keys.
    #[command(flatten)]
    pub keys: KeyArguments,
    /// The rest.
    #[command(flatten)]
    pub run: RunArguments,
}

/// `cart bench ycsb`.
#[derive(Clone, Debug, Args)]
pub struct YcsbArguments {
    /// Which of the six
    #[arg(value_enum)]
    pub workload: YcsbWorkload,
    /// How many records there are
    #[arg(long, default_value_t = 100_000, value_parser = parse_count, help_heading = "Keys")]
    pub records: usize,
    /// The rest.
    #[command(flatten)]
    pub run: RunArguments,
}

/// With what to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Redis, or Valkey, whichever is found first
    Redis,
    /// Valkey
    Valkey,
}

/// What to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompareWorkload {
    /// Carts: CHECKOUT here, a Lua script there
    Checkout,
    /// GET and SET
    GetSet,
}

/// How durable both are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompareSync {
    /// `--sync always` against `appendfsync always`
    Always,
    /// `--sync no` against `appendfsync no`
    No,
    /// One after the other
    Both,
}

/// `cart bench compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArguments {
    /// With what
    #[arg(long, value_enum, default_value = "redis", help_heading = "Comparison")]
    pub with: Peer,
    /// What to ask of both
    #[arg(long, value_enum, default_value = "checkout", help_heading = "Comparison")]
    pub workload: CompareWorkload,
    /// How durable both are
    #[arg(long, value_enum, default_value = "both", help_heading = "Comparison")]
    pub sync: CompareSync,
    /// The Redis or Valkey to start; without it, the one in PATH
    #[arg(long, value_name = "PATH", help_heading = "Comparison")]
    pub redis_server: Option<PathBuf>,
    /// The Cartwright to start; without it, the one beside this program
    #[arg(long, value_name = "PATH", help_heading = "Comparison")]
    pub server: Option<PathBuf>,
    /// Core to pin the servers to, one at a time; without it, the first, and the load to the second
    #[arg(long, value_name = "LIST", help_heading = "Comparison")]
    pub server_cpu: Option<CoreList>,
    /// The carts.
    #[command(flatten)]
    pub carts: CartArguments,
    /// The keys.
    #[command(flatten)]
    pub keys: KeyArguments,
    /// The load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// The output.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Most items, customers or keys: what their names' digits can number.
const COUNT_MAX: usize = 100_000_000;

fn parse_count(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| "not a whole number".to_owned())?;
    (1..=COUNT_MAX)
        .contains(&count)
        .then_some(count)
        .ok_or_else(|| format!("must be 1 to {COUNT_MAX}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (rate > 0.0 && rate <= 1e8)
        .then_some(rate)
        .ok_or_else(|| "must be above 0, and 100,000,000 at most".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    (0.0..=86_400.0)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
        .ok_or_else(|| "must be 0 to 86400 seconds".to_owned())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=100.0)
        .contains(&percent)
        .then_some(percent / 100.0)
        .ok_or_else(|| "must be 0 to 100".to_owned())
}
