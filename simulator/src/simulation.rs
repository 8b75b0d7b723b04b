//! One run: a seed, a server, its clients and everything that goes wrong, then the proof that all is well.
//!
//! One thing happens at a time, and chance says which. At the end the faults stop, and whatever is in flight must end.

use cartwright::config::SyncMode;
use cartwright::engine::{RECORD_BYTES_MAX, Timestamp};
use cartwright::session::SessionLimits;
use cartwright_protocol::{ErrorCode, ItemGet, Operation, OrderGet, OrderList, Reply, StockGet};

use crate::checker::Checker;
use crate::damage::{check_damage, check_damaged_checkpoint};
use crate::disk::{Crash, Disk};
use crate::key_wishes::{KeyAttempts, KeyWish};
use crate::parameters::Parameters;
use crate::random::Random;
use crate::server::{Server, World};
use crate::start::{Failed, Start};
use crate::trace::Trace;
use crate::violation::{Checked, Violation};
use crate::witness::Witness;
use crate::workload::Workload;
use crate::{promise, violation};

mod conversation;
mod ending;

use conversation::{Conversation, Seat};

/// When every run begins, in Unix milliseconds.
const BEGINS_AT_MS: u64 = 1_700_000_000_000;

/// In how many rounds everything in flight must end once the faults have stopped. A round is a turn of every shard.
const DRAIN_ROUNDS_MAX: u32 = 400;

/// A round takes a millisecond for so long, and so much longer then, from the latest time that was: what is tried again
/// in a second is waited for.
const QUICK_ROUNDS: u32 = 100;
const SLOW_ROUND_MS: u64 = 20;

/// How many times in a row a start is interrupted at most.
const INTERRUPTIONS_MAX: u32 = 4;

/// What a run gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Stands for everything that happened.
    pub trace_hash: u64,
    /// How much happened.
    pub events: u64,
    /// Answers that were checked.
    pub answers: u64,
    /// Of these, refusals for want of room.
    pub busy: u64,
    /// Changes that were decided.
    pub changes: u64,
    /// Crashes survived.
    pub crashes: u64,
    /// Checkpoints that came to stand.
    pub checkpoints: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
}

/// A run under way.
pub struct Simulation {
    parameters: Parameters,
    random: Random,
    workload: Workload,
    disk: Disk,
    disk_is_full: bool,
    published: u64,
    witness: Witness,
    checker: Checker,
    server: Option<Server>,
    seats: Vec<Seat>,
    conversation: Conversation,
    /// The server is to end in order.
    is_stopping: bool,
    shard_count: u16,
    now: u64,
    step: u32,
    next_sequence: u64,
    crashes: u64,
    trace: Trace,
    /// What is asked of the keyspace, where anything is: drawn from a source of its own.
    key_random: Option<Random>,
    /// Some notes take more log than a record usually does.
    has_large_notes: bool,
    key_attempts: KeyAttempts,
    /// Entries of ledgers that were asked for.
    key_marks: Vec<(String, String)>,
}

/// Sets the wishes to the keyspace apart from everything else that is drawn.
const KEY_SEED: u64 = 0x6b65_7973_7061_6365;

/// Of how many seeds one has large notes, and of a thousand notes there how many. They make a seed slow.
const LARGE_NOTES_EVERY: u64 = 128;
const LARGE_NOTES: u32 = 300;

/// Where a note begins to need a segment of its own.
const LARGE_BYTES: u64 = RECORD_BYTES_MAX as u64;

/// Runs a seed to its end, or to the first broken promise. A panic within is one as well.
pub fn run(seed: u64, is_told: bool) -> Outcome {
    let mut random = Random::new(seed);
    let parameters = Parameters::draw(&mut random);
    if is_told {
        println!("seed {seed}: {parameters:#?}");
    }
    let mut simulation = Simulation::new(parameters, random, is_told);
    // Every other seed: the others show the shop by itself.
    simulation.key_random = (seed % 2 == 1).then(|| Random::new(seed ^ KEY_SEED));
    simulation.has_large_notes = seed % LARGE_NOTES_EVERY == 1;
    if simulation.has_large_notes {
        simulation.parameters.session_limits = SessionLimits::DEFAULT;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.go()));
    let violation = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(violation!(
            "a broken invariant stopped the process: {}",
            panic_text(&*panic)
        )),
    };
    if let Some(violation) = &violation {
        simulation.trace.event(format_args!("{violation}"));
    }
    Outcome {
        seed,
        trace_hash: simulation.trace.hash(),
        events: simulation.trace.events(),
        answers: simulation.checker.answer_count,
        busy: simulation.checker.busy_count,
        changes: simulation.witness.change_count() as u64,
        crashes: simulation.crashes,
        checkpoints: simulation.published,
        violation,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

impl Simulation {
    fn new(parameters: Parameters, mut random: Random, is_told: bool) -> Self {
        let workload = Workload::new(&parameters);
        Self {
            workload,
            disk: Disk::new(Random::new(random.bits())),
            disk_is_full: false,
            published: 0,
            witness: Witness::new(parameters.sync),
            checker: Checker::default(),
            server: None,
            seats: Vec::new(),
            conversation: Conversation::default(),
            is_stopping: false,
            shard_count: parameters.shard_count,
            now: BEGINS_AT_MS,
            step: 0,
            next_sequence: 0,
            crashes: 0,
            trace: Trace::new(is_told),
            key_random: None,
            has_large_notes: false,
            key_attempts: KeyAttempts::default(),
            key_marks: Vec::new(),
            parameters,
            random,
        }
    }

    fn go(&mut self) -> Checked {
        self.start(false)?;
        let opening = self.workload.opening(&mut self.random);
        self.ask(opening)?;
        if self.key_random.is_some() {
            self.ask_keys(vec![KeyWish::Open])?;
        }
        while self.step < self.parameters.steps {
            self.happen()?;
            if self.step.is_multiple_of(self.parameters.books_every) {
                self.witness.shop.check_books()?;
            }
        }
        self.end()
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("a server runs between starts")
    }

    /// One thing happens.
    fn happen(&mut self) -> Checked {
        self.step += 1;
        self.now += self.random.between(0, self.parameters.step_ms_max);
        if self.random.chance(self.parameters.turns) {
            let shard = self.random.index(self.shard_count.into());
            return self.turn(shard, false);
        }
        let parameters = &self.parameters;
        let shard = self.random.index(self.shard_count.into());
        if self.random.chance(parameters.pause) {
            let until = self.step + self.random.between(1, 100) as u32;
            self.trace.event(format_args!("shard {shard} stops until step {until}"));
            self.server().pause(shard, until);
        } else if self.random.chance(parameters.disconnect) {
            self.leave();
        } else if self.random.chance(parameters.write_back) {
            let (server, mut world) = self.world(false);
            server.write_back(shard, &mut world);
        } else if self.random.chance(parameters.checkpoint) {
            self.trace.event(format_args!("somebody wants a checkpoint"));
            self.server().request_checkpoint();
        } else if self.random.chance(parameters.disk_full) {
            self.set_disk_full(!self.disk_is_full);
        } else if self.random.chance(parameters.clock_jump) {
            let jump = self.random.between(0, 100_000_000);
            self.now = if self.random.below(3) == 0 {
                self.conversation.forget_pauses();
                self.now - jump / 1000
            } else {
                self.now + jump
            };
            self.trace.event(format_args!("the clock jumps to {}", self.now));
        } else if self.random.below(100) == 0 && self.random.chance(parameters.crash) {
            return if self.random.chance(self.parameters.stops) {
                self.stop_and_start()
            } else {
                self.crash_and_start()
            };
        } else {
            self.send_something();
        }
        Ok(())
    }

    fn world(&mut self, hurries: bool) -> (&mut Server, World<'_>) {
        self.witness.latest = self.witness.latest.max(Timestamp(self.now));
        let world = World {
            now: Timestamp(self.now),
            parameters: &self.parameters,
            random: &mut self.random,
            disk: &self.disk,
            witness: &mut self.witness,
            hurries,
            published: 0,
        };
        (self.server.as_mut().expect("a server runs between starts"), world)
    }

    fn turn(&mut self, shard: usize, hurries: bool) -> Checked {
        let step = if hurries { u32::MAX } else { self.step };
        let (server, mut world) = self.world(hurries);
        let ended = server.turn(shard, step, &mut world)?;
        self.checker.check_news(&mut self.witness, false)?;
        self.hear_all()?;
        if let Some(why) = ended {
            self.trace.event(format_args!("shard {shard} ends the process: {why}"));
            return self.crash_and_start();
        }
        self.keep_checkpoints(hurries)
    }

    /// The thread that writes checkpoints does some of what it has to do.
    fn keep_checkpoints(&mut self, hurries: bool) -> Checked {
        let orders = if hurries { usize::MAX } else { self.random.index(3) };
        for _ in 0..orders {
            let (server, mut world) = self.world(hurries);
            if !server.has_checkpoint_orders() {
                break;
            }
            let has_ended = server.keep_checkpoints(&mut world)?;
            let published = world.published;
            self.published += published;
            if published > 0 {
                self.trace.event(format_args!("a checkpoint stands"));
                if !hurries && self.random.chance(self.parameters.checkpoint_crash) {
                    return self.crash_and_start();
                }
            }
            if has_ended {
                self.trace
                    .event(format_args!("the process ends in the middle of a checkpoint"));
                return self.crash_and_start();
            }
        }
        Ok(())
    }

    fn set_disk_full(&mut self, is_full: bool) {
        if is_full != self.disk_is_full {
            self.trace.event(format_args!("disk full: {is_full}"));
        }
        self.disk_is_full = is_full;
        self.disk.set_full(is_full);
        self.checker.disk_was_full |= is_full;
    }

    /// Looks at every account, every note and the entries that were asked for last.
    fn read_keys(&mut self) -> Checked {
        if self.key_random.is_none() {
            return Ok(());
        }
        let notes = (0..4).map(|note| KeyWish::Read {
            note: format!("note-{note}"),
        });
        let entries = self.key_marks.iter().map(|(ledger, mark)| KeyWish::Entry {
            ledger: ledger.clone(),
            mark: mark.clone(),
        });
        let wishes = notes.chain(entries).chain([KeyWish::Look]).collect();
        self.ask_keys(wishes)
    }

    fn draw_crash(&mut self) -> Crash {
        if self.parameters.sync == SyncMode::Always && self.random.chance(self.parameters.power_cut) {
            let kept = *self.random.pick(&[0, 200, 500, 800, 1000]);
            Crash::PowerCut(kept)
        } else {
            Crash::Kill
        }
    }

    fn end_process(&mut self, crash: Crash) {
        self.crashes += 1;
        self.trace.event(format_args!("the server is gone: {crash:?}"));
        self.forget_connections();
        self.is_stopping = false;
        if let Some(server) = self.server.take() {
            server.end(&self.disk, &mut self.random);
        }
        self.disk.crash(crash, &mut self.random);
    }

    fn crash_and_start(&mut self) -> Checked {
        let crash = self.draw_crash();
        self.end_process(crash);
        if self.random.chance(self.parameters.damage) {
            check_damage(&self.disk, &self.witness, &mut self.random, &mut self.trace)?;
            let limits = self.parameters.limits;
            check_damaged_checkpoint(&self.disk, limits, &mut self.random, &mut self.trace)?;
        }
        if self.random.chance(self.parameters.reshard) {
            self.shard_count = self.random.between(1, 8) as u16;
        }
        if self.random.below(4) == 0 {
            self.now += self.random.between(0, 10_000);
        }
        self.start(crash == Crash::Kill)?;
        if self.random.below(3) == 0 {
            self.read_everything()?;
        }
        Ok(())
    }

    /// The server stops in good order, whatever is in flight, and the power goes: everything is on disk. Then it starts
    /// again.
    fn stop_and_start(&mut self) -> Checked {
        self.trace.event(format_args!("the server stops"));
        self.is_stopping = true;
        self.server().stop();
        for round in 0.. {
            promise!(round < DRAIN_ROUNDS_MAX, "a stop never ends");
            for shard in 0..self.server().shard_count() {
                self.turn(shard, true)?;
            }
            if self.server().is_over() {
                break;
            }
            self.now += 1;
        }
        let hash = self.server().state_hash();
        if let Some(server) = self.server.take() {
            server.finish()?;
        }
        self.come_back(Crash::PowerCut(0), hash)
    }

    /// Starts the server, however often that is interrupted.
    fn start(&mut self, mut was_killed: bool) -> Checked {
        // A start has no room to ask for.
        self.disk.set_full(false);
        for attempt in 0.. {
            let interrupted = attempt < INTERRUPTIONS_MAX && self.random.chance(self.parameters.interrupt_start);
            let operations_max = *self.random.pick(&[40, 40, 400]);
            let fuse = interrupted.then(|| self.random.between(0, operations_max));
            self.trace.event(format_args!(
                "start with {} shards, interrupted after {fuse:?}",
                self.shard_count
            ));
            let start = Start {
                disk: &self.disk,
                witness: &mut self.witness,
                checker: &self.checker,
                parameters: &self.parameters,
                shard_count: self.shard_count,
                fuse,
                was_killed,
            };
            match start.run() {
                Ok(server) => {
                    self.disk.set_full(self.disk_is_full);
                    self.trace.event(format_args!("serving"));
                    self.server = Some(server);
                    self.connect_all();
                    return Ok(());
                }
                Err(Failed::Violation(violation)) => return Err(violation),
                Err(Failed::Interrupted) => {
                    let crash = self.draw_crash();
                    was_killed &= crash == Crash::Kill;
                    self.end_process(crash);
                }
            }
        }
        unreachable!("the last start is not interrupted")
    }

    /// Without faults everything in flight ends, in a bounded number of rounds.
    fn drain(&mut self) -> Checked {
        self.now = self.now.max(self.conversation.pauses_end_ms());
        for round in 0..DRAIN_ROUNDS_MAX {
            for shard in 0..self.server().shard_count() {
                self.turn(shard, true)?;
            }
            let may_write = self.disk_is_full || !self.server().is_blocked();
            if self.server().is_quiet() && self.is_all_answered() && may_write {
                self.checker.forget_abandoned();
                self.conversation.settle();
                return Ok(());
            }
            self.now += 1;
            if round >= QUICK_ROUNDS {
                self.now = self.witness.latest.unix_ms().max(self.now) + SLOW_ROUND_MS;
            }
        }
        let open = self.checker.an_open_one();
        Err(violation!(
            "stuck: after {DRAIN_ROUNDS_MAX} rounds {} requests are open, one is {open:?}; {:?}; {}",
            self.checker.open_count(),
            self.seats
                .iter()
                .map(|seat| &seat.client)
                .find(|client| client.open() > 0),
            self.server.as_ref().map_or_else(String::new, Server::describe)
        ))
    }

    fn is_all_answered(&self) -> bool {
        self.checker.open_count() == 0
            && self.key_attempts.open.is_empty()
            && self.seats.iter().all(|seat| seat.client.open() == 0)
    }

    /// Reads all there is; the checker compares it with the sequential shop.
    fn read_everything(&mut self) -> Checked {
        self.drain()?;
        self.read_keys()?;
        self.witness.shop.check_books()?;
        let mut reads = vec![Operation::Audit];
        for sku in self.workload.skus() {
            reads.push(Operation::ItemGet(ItemGet { sku: sku.clone() }));
            let locations = self.workload.locations().iter().map(|at| Some(at.clone()));
            for location in locations.chain([None]) {
                let sku = sku.clone();
                reads.push(Operation::StockGet(StockGet { sku, location }));
            }
        }
        reads.extend(
            self.witness
                .shop
                .orders
                .keys()
                .map(|&id| Operation::OrderGet(OrderGet { id })),
        );
        let lists = self.workload.customers().iter().map(|customer| {
            Operation::OrderList(OrderList {
                customer: customer.clone(),
                before: None,
                count: 1000,
            })
        });
        reads.extend(lists);
        for answer in self.ask(reads)? {
            if let Reply::Error(error) = answer {
                promise!(
                    error.code == ErrorCode::NoItem,
                    "a read is refused while nothing else goes on: {error}"
                );
            }
        }
        Ok(())
    }
}
