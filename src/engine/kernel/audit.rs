//! The audit: rule R1 checked over everything, on one consistent cut, and the hash of the whole state.
//!
//! The cut: every shard stops taking on changes and says so once its own are over; then every shard counts, as soon as
//! nothing of others pends on it. What must add up over all shards is each book's to say, in a
//! [`Balance`]. No list of things is ever exchanged.

use std::collections::VecDeque;

use cartwright_protocol::{AuditReport, Reply};

use crate::engine::kernel::balance::Balance;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::ids::{LogPosition, ShardId, Timestamp};
use crate::engine::kernel::message::{Request, ShardMessage};
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::state::{Counts, State};
use crate::engine::kernel::state_hash::slot_hash;
use crate::engine::kernel::transaction::Participation;

/// A step of an audit, between the coordinator and every shard.
#[derive(Debug)]
pub enum AuditMessage {
    /// Take on no more changes.
    Pause,
    /// None of mine are in flight.
    Quiet,
    /// Count.
    Scan,
    /// What one shard counted.
    Counted(Box<Part>),
    /// Go on.
    Resume,
}

/// What one shard counted.
#[derive(Debug)]
pub struct Part {
    counts: Counts,
    balance: Balance,
    state_hash: u64,
    /// The count shows this shard's log up to here.
    shows: LogPosition,
}

/// An audit that this shard coordinates.
#[derive(Debug)]
struct Run {
    asked: Vec<ReplyTo>,
    began: Timestamp,
    quiet_count: usize,
    parts: Vec<(ShardId, Part)>,
    /// The report, once all have counted; it waits for what it shows to be safe.
    report: Option<AuditReport>,
}

/// This shard's part in audits. Volatile.
#[derive(Debug, Default)]
pub struct Auditing {
    run: Option<Run>,
    /// Who asked for an audit while one ran: theirs begins after it, since its cut may lie before their question.
    asked_meanwhile: Vec<ReplyTo>,
    /// The coordinator for whom changes are paused here.
    paused_for: Option<ShardId>,
    said_quiet: bool,
    scan_wanted: bool,
    /// A count under way, in pieces: nothing changes meanwhile.
    scan: Option<Scan>,
    waiting: VecDeque<Request>,
}

impl Auditing {
    /// Whether changes wait.
    pub const fn is_paused(&self) -> bool {
        self.paused_for.is_some()
    }

    /// Whether a count is under way: the next piece wants a tick.
    pub const fn is_counting(&self) -> bool {
        self.scan.is_some()
    }

    /// Whether this shard takes part in an audit.
    pub const fn is_running(&self) -> bool {
        self.paused_for.is_some() || self.run.is_some()
    }
}

impl Step<'_> {
    /// `AUDIT`. The driver sends all audits to one shard.
    pub fn begin_audit(&mut self, reply_to: ReplyTo) {
        if self.shard.auditing.run.is_some() {
            if self.shard.auditing.asked_meanwhile.len() >= self.shard.limits.waiting_max {
                let error = self.shard.busy("audits waiting", self.shard.limits.waiting_max);
                return self.answer(reply_to, Reply::Error(error), LogPosition::ZERO);
            }
            return self.shard.auditing.asked_meanwhile.push(reply_to);
        }
        self.start_audit(vec![reply_to]);
    }

    fn start_audit(&mut self, asked: Vec<ReplyTo>) {
        let began = self.shard.now;
        self.shard.auditing.run = Some(Run {
            asked,
            began,
            quiet_count: 0,
            parts: Vec::new(),
            report: None,
        });
        self.tell_all(|| AuditMessage::Pause);
    }

    fn tell_all(&mut self, message: impl Fn() -> AuditMessage) {
        for shard in self.shard.map.shards() {
            self.tell(shard, message());
        }
    }

    fn tell(&mut self, to: ShardId, message: AuditMessage) {
        if to == self.shard.id {
            self.on_audit_message(to, message);
        } else {
            self.output.messages.push((to, ShardMessage::Audit(message)));
        }
    }

    /// A step of an audit arrived.
    pub fn on_audit_message(&mut self, from: ShardId, message: AuditMessage) {
        let shard_count = usize::from(self.shard.map.shard_count());
        let auditing = &mut self.shard.auditing;
        match message {
            AuditMessage::Pause => {
                assert!(auditing.paused_for.is_none(), "one audit at a time");
                auditing.paused_for = Some(from);
                auditing.said_quiet = false;
            }
            AuditMessage::Quiet => {
                let run = auditing.run.as_mut().expect("only a coordinator is told");
                run.quiet_count += 1;
                if run.quiet_count == shard_count {
                    self.tell_all(|| AuditMessage::Scan);
                }
            }
            AuditMessage::Scan => auditing.scan_wanted = true,
            AuditMessage::Counted(part) => {
                let run = auditing.run.as_mut().expect("only a coordinator is told");
                run.parts.push((from, *part));
                if run.parts.len() == shard_count {
                    run.report = Some(add_up(&run.parts));
                    let paused_ms = self.shard.now.unix_ms() - run.began.unix_ms();
                    run.report.as_mut().expect("set above").paused_ms = paused_ms;
                    self.tell_all(|| AuditMessage::Resume);
                }
            }
            AuditMessage::Resume => {
                auditing.paused_for = None;
                for request in std::mem::take(&mut auditing.waiting) {
                    self.on_mutation(request);
                }
                self.resume_keys();
                self.resume_together();
            }
        }
    }

    /// Goes on with whatever part of an audit can go on now.
    pub fn continue_audit(&mut self) {
        if let Some(coordinator) = self.shard.auditing.paused_for {
            let quiet = !self
                .shard
                .in_flight
                .values()
                .any(|in_flight| in_flight.purpose.writes())
                && self.shard.books.shop.stock_queue.count() == 0
                && self.shard.books.entries.locks.waiting_changes() == 0;
            if quiet && !self.shard.auditing.said_quiet {
                self.shard.auditing.said_quiet = true;
                self.tell(coordinator, AuditMessage::Quiet);
            }
            let is_left_alone = !self.shard.participating.values().any(Participation::may_change);
            if self.shard.auditing.scan_wanted && is_left_alone {
                self.shard.auditing.scan_wanted = false;
                self.shard.auditing.scan = Some(Scan::new(&self.shard.state));
                self.count_on();
            }
        }
        let Some(run) = &self.shard.auditing.run else { return };
        let Some(report) = &run.report else { return };
        if run
            .parts
            .iter()
            .any(|(shard, part)| self.shard.safe[shard.index()] < part.shows)
        {
            return;
        }
        let report = Reply::Audit(report.clone());
        let run = self.shard.auditing.run.take().expect("looked at above");
        for reply_to in run.asked {
            self.answer(reply_to, report.clone(), LogPosition::ZERO);
        }
        let asked = std::mem::take(&mut self.shard.auditing.asked_meanwhile);
        if !asked.is_empty() {
            self.start_audit(asked);
        }
    }

    /// Counts the next piece; with the last one the coordinator is told. Between pieces the shard answers reads.
    pub fn count_on(&mut self) {
        let Some(mut scan) = self.shard.auditing.scan.take() else {
            return;
        };
        if scan.count_on(&self.shard.state) {
            let part = scan.into_part(self.shard.end);
            let coordinator = self.shard.auditing.paused_for.expect("a count belongs to an audit");
            self.tell(coordinator, AuditMessage::Counted(Box::new(part)));
        } else {
            self.shard.auditing.scan = Some(scan);
        }
    }

    /// A change arrives while an audit counts.
    pub fn wait_for_audit(&mut self, request: Request) {
        if self.shard.auditing.waiting.len() >= self.shard.limits.waiting_max {
            let error = self
                .shard
                .busy("changes waiting for an audit", self.shard.limits.waiting_max);
            return self.answer(request.reply_to, Reply::Error(error), LogPosition::ZERO);
        }
        self.shard.auditing.waiting.push_back(request);
    }
}

fn add_up(parts: &[(ShardId, Part)]) -> AuditReport {
    let (mut counts, mut balance, mut state_hash) = (Counts::default(), Balance::default(), 0u64);
    for (_, part) in parts {
        counts += part.counts;
        balance.add_up(&part.balance);
        state_hash = state_hash.wrapping_add(part.state_hash);
    }
    AuditReport {
        violations: balance.violations(),
        state_hash,
        ..counts.books.audit_report()
    }
}

/// Checks the books of all these states together, with nothing in flight: what an audit of a running server reports.
pub fn audit_states<'a>(states: impl Iterator<Item = (ShardId, &'a State)>) -> AuditReport {
    let part = |(shard, state)| {
        let mut scan = Scan::new(state);
        while !scan.count_on(state) {}
        (shard, scan.into_part(LogPosition::ZERO))
    };
    add_up(&states.map(part).collect::<Vec<_>>())
}

/// How many things one piece of a count looks at: about a millisecond's worth.
const THINGS_PER_PIECE: u64 = 10_000;

/// A shard's count, slot by slot.
#[derive(Debug)]
struct Scan {
    next_slot: usize,
    counts: Counts,
    balance: Balance,
    state_hash: u64,
    fingerprint: Fingerprint,
}

impl Scan {
    fn new(state: &State) -> Self {
        Self {
            next_slot: 0,
            counts: state.counts,
            balance: Balance::default(),
            state_hash: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    /// What was counted, which shows the log up to here.
    fn into_part(self, shows: LogPosition) -> Part {
        Part {
            counts: self.counts,
            balance: self.balance,
            state_hash: self.state_hash,
            shows,
        }
    }

    /// Counts the next piece; `true` once all is counted. The state must not change between pieces.
    fn count_on(&mut self, state: &State) -> bool {
        let mut things = 0;
        for (number, slot) in state.slots().skip(self.next_slot) {
            self.next_slot += 1;
            things += slot.books.audit(&mut self.balance);
            let hash = slot_hash(&mut self.fingerprint, number, slot);
            self.state_hash = self.state_hash.wrapping_add(hash);
            if things >= THINGS_PER_PIECE {
                return false;
            }
        }
        true
    }
}
