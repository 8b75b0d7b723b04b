//! A start of the server on the simulated disk, with the code that starts it in production; interrupted at any of its
//! operations.
//!
//! What it must find is the witness's to say, which reads the logs before; what it did, the logs show afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use cartwright::engine::{LogPosition, RecordError, ShardId};
use cartwright::log::{DataDirectory, Generation, GenerationEntry, SegmentNumber};
use cartwright::runtime::StartError;
use cartwright::runtime::prepare::{Prepared, Shape, prepare};
use cartwright::runtime::recovery::Progress;

use crate::checker::Checker;
use crate::disk::{Crash, Disk, ROOT};
use crate::parameters::Parameters;
use crate::random::Random;
use crate::reading::{LogEnd, Refused, generations, identities, read_log};
use crate::server::Server;
use crate::violation::{Checked, Violation};
use crate::witness::{Follower, Witness};
use crate::{promise, violation};

/// What a start works with.
pub struct Start<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// What must be there.
    pub witness: &'a mut Witness,
    /// Knows what was asked for.
    pub checker: &'a Checker,
    /// The run's shape.
    pub parameters: &'a Parameters,
    /// How many shards to run.
    pub shard_count: u16,
    /// After how many operations it is interrupted.
    pub fuse: Option<u64>,
    /// Whether only the process is gone since the server ran, and not the cache.
    pub was_killed: bool,
}

/// Why a start gave no server.
pub enum Failed {
    /// Interrupted: to be tried again after what came of it.
    Interrupted,
    /// A promise is broken.
    Violation(Violation),
}

impl From<Violation> for Failed {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// What was on the disk before a start: the newest generation, and where its logs end.
struct Before(Option<(GenerationEntry, Vec<LogEnd>)>);

impl Start<'_> {
    /// Recovers and begins an incarnation.
    pub fn run(mut self) -> Result<Server, Failed> {
        let before = self.survey()?;
        self.disk.set_faults(self.fuse, None);
        let result = self.prepare();
        if self.disk.is_gone() {
            // What it had stored it leaves behind.
            drop(result);
            self.look_at_what_it_did(&before)?;
            return Err(Failed::Interrupted);
        }
        self.disk.set_faults(None, None);
        let (data, prepared) =
            result.map_err(|error| violation!("a data directory that nothing has damaged is refused: {error}"))?;
        let entry = *data.manifest().generations.last().expect("a start lists one");
        let followers = self.catch_up(&before, entry)?;
        self.witness.check_resolved()?;
        for shard in (0..entry.shard_count).map(ShardId) {
            self.witness.look_at_disk(self.disk, shard);
            promise_durable(self.witness, shard)?;
        }
        Ok(Server::new(data, prepared, followers, self.parameters))
    }

    fn prepare(&self) -> Result<(DataDirectory<Disk>, Prepared<Disk>), StartError> {
        let mut data = DataDirectory::open_in(self.disk.clone(), Path::new(ROOT))?;
        let shape = Shape {
            shard_count: self.shard_count,
            segment_bytes: self.parameters.segment_bytes,
            limits: self.parameters.limits,
            sync: self.parameters.sync,
        };
        let prepared = prepare(&mut data, &shape, &Progress::default())?;
        Ok((data, prepared))
    }

    /// Reads what is there: every record must be the one that was appended, and none may lack that was acknowledged.
    fn survey(&mut self) -> Checked<Before> {
        let listed = generations(self.disk).map_err(|error| refused(&error))?;
        let known = self.witness.generation();
        let Some(&entry) = listed.last() else {
            promise!(known == Generation(0), "the manifest is gone");
            return Ok(Before(None));
        };
        promise!(entry.number >= known, "the manifest has forgotten {known:?}");
        if entry.number > known {
            // The start that listed it was interrupted a moment later: the logs before it are closed.
            if let Some(&closed) = listed.iter().find(|listed| listed.number == known) {
                let ends = self.read_known(closed)?;
                self.settle(&ends)?;
            }
            self.witness.begin_generation(entry.number, entry.shard_count);
        }
        let ends = self.read_known(entry)?;
        Ok(Before(Some((entry, ends))))
    }

    fn read_known(&self, entry: GenerationEntry) -> Checked<Vec<LogEnd>> {
        let mut ends = Vec::new();
        for identity in identities(entry) {
            let mut wrong: Checked = Ok(());
            let mut on_record = |position: LogPosition, payload: &[u8]| -> Result<(), RecordError> {
                if wrong.is_ok() {
                    wrong = self.witness.check_record(identity.shard, position, payload);
                }
                Ok(())
            };
            let end = read_log(self.disk, identity, &mut on_record).map_err(|error| refused(&error))?;
            wrong?;
            self.witness.check_end(identity.shard, end.last, self.was_killed)?;
            ends.push(end);
        }
        Ok(ends)
    }

    /// What a start that was interrupted has appended, if it came so far. By then everything that it had recovered was on
    /// disk.
    fn look_at_what_it_did(&mut self, before: &Before) -> Checked {
        let durable = self.without_cache();
        let Some(&entry) = generations(&durable).map_err(|error| refused(&error))?.last() else {
            return Ok(());
        };
        let has_begun = match &before.0 {
            Some((old, ends)) if old.number == entry.number => {
                let mut appended = false;
                for (identity, end) in identities(entry).zip(ends) {
                    let now = read_log(self.disk, identity, &mut |_, _| Ok(())).map_err(|error| refused(&error))?;
                    appended |= now.last != end.last;
                }
                appended
            }
            // It was listed first.
            _ => true,
        };
        if has_begun {
            self.catch_up(before, entry)?;
        }
        Ok(())
    }

    /// Everything that was recovered is on disk: the witness decides what was in flight, and reads what the start has
    /// appended.
    fn catch_up(&mut self, before: &Before, entry: GenerationEntry) -> Checked<Vec<Follower>> {
        if let Some((old, ends)) = &before.0 {
            self.check_disk(*old, ends)?;
            self.settle(ends)?;
        }
        let mut followers: Vec<_> = match &before.0 {
            Some((old, ends)) if old.number == entry.number => {
                ends.iter().map(|end| Follower::behind(end.at)).collect()
            }
            _ => {
                self.witness.begin_generation(entry.number, entry.shard_count);
                identities(entry).map(|_| Follower::default()).collect()
            }
        };
        for (identity, follower) in identities(entry).zip(&mut followers) {
            let segments = self.disk.segments(entry.number, identity.shard);
            let segments: BTreeMap<SegmentNumber, Vec<u8>> = segments
                .into_iter()
                .filter(|name| name.number >= follower.segment)
                .map(|name| (name.number, self.disk.bytes(name)))
                .collect();
            follower.follow(identity.shard, self.witness, |number| {
                segments.get(&number).map(Vec::as_slice)
            })?;
        }
        Ok(followers)
    }

    /// What was in flight is decided; what was lost is forgotten.
    fn settle(&mut self, ends: &[LogEnd]) -> Checked {
        let ends: Vec<_> = ends.iter().map(|end| end.last).collect();
        self.witness.forget_lost(&ends)?;
        self.witness.decide_in_flight()?;
        self.checker.check_news(self.witness, true)
    }

    fn without_cache(&self) -> Disk {
        let copy = self.disk.fork();
        // Nothing is drawn where nothing is kept that was not synced.
        copy.crash(Crash::PowerCut(0), &mut Random::new(0));
        copy
    }

    /// Everything that was recovered is on disk by now, or a power cut could still take it back.
    fn check_disk(&self, entry: GenerationEntry, ends: &[LogEnd]) -> Checked {
        let durable = self.without_cache();
        for (identity, end) in identities(entry).zip(ends) {
            let log = read_log(&durable, identity, &mut |_, _| Ok(())).map_err(|error| {
                violation!("the log of shard {} is damaged after recovery: {error}", identity.shard)
            })?;
            promise!(
                log.last >= end.last,
                "R3: the log of shard {} was read up to {}, but recovery has put only {} on disk",
                identity.shard,
                end.last,
                log.last
            );
        }
        Ok(())
    }
}

fn promise_durable(witness: &Witness, shard: ShardId) -> Checked {
    promise!(
        witness.durable(shard) == witness.appended(shard),
        "a start lets shard {shard} serve with its log on disk up to {} of {}",
        witness.durable(shard),
        witness.appended(shard)
    );
    Ok(())
}

fn refused(refused: &Refused) -> Violation {
    violation!("a log that nothing has damaged is refused: {refused}")
}
