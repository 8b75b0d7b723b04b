//! A start of the server on the simulated disk: recovery, decisions, a new incarnation; interrupted at any step.
//!
//! The order of its steps is the runtime's. What it must find is the witness's to say.

use std::collections::BTreeMap;

use cartwright::engine::recovery::{repartition, resolve, start, start_bytes};
use cartwright::engine::{LogPosition, RecordError, Restore, Shard, ShardId, ShardMap};
use cartwright::log::{Generation, GenerationEntry, LogIdentity, LogWriter, SegmentNumber};

use crate::checker::Checker;
use crate::disk::{Disk, Interrupted, MappedFile, SegmentName};
use crate::parameters::Parameters;
use crate::random::Random;
use crate::server::{Checkpoint, Server};
use crate::storage::{OpenedLog, Refused, empty_segment, open_log, segment_name, sync_all};
use crate::violation::{Checked, Violation};
use crate::witness::{Follower, Witness};
use crate::{promise, violation};

/// What a start works with.
pub struct Start<'a> {
    /// The disk.
    pub disk: &'a mut Disk,
    /// What must be there.
    pub witness: &'a mut Witness,
    /// Knows what was asked for.
    pub checker: &'a Checker,
    /// Checkpoints that were published.
    pub checkpoints: &'a BTreeMap<(Generation, ShardId), Checkpoint>,
    /// The run's shape.
    pub parameters: &'a Parameters,
    /// How many shards to run.
    pub shard_count: u16,
    /// Whether only the process is gone since the server ran, and not the cache.
    pub was_killed: bool,
    /// Chance.
    pub random: &'a mut Random,
}

/// Why a start gave no server.
pub enum Failed {
    /// Interrupted: to be tried again after what came of it.
    Interrupted,
    /// A promise is broken.
    Violation(Violation),
}

impl From<Interrupted> for Failed {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl From<Violation> for Failed {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

struct Replayed {
    shards: Vec<Shard>,
    logs: Vec<OpenedLog>,
}

fn identities(entry: GenerationEntry) -> impl Iterator<Item = LogIdentity> {
    ShardMap::new(entry.shard_count).shards().map(move |shard| LogIdentity {
        generation: entry.number,
        shard,
        shard_count: entry.shard_count,
    })
}

impl Start<'_> {
    /// Recovers and begins an incarnation.
    pub fn run(mut self) -> Result<Server, Failed> {
        let mut manifest = self.disk.manifest().clone();
        let Replayed { mut shards, mut logs } = self.recover(&manifest.generations)?;
        let newest = manifest.generations.last().copied();
        let goes_on = newest.is_some_and(|newest| newest.shard_count == self.shard_count);
        let ends: Vec<_> = logs.iter().map(|log| log.end.last).collect();
        if !goes_on {
            resolve(&mut shards);
            shards = repartition(shards, self.shard_count, self.parameters.limits);
            for log in logs.drain(..) {
                log.close(self.disk)?;
            }
        }
        manifest.incarnation += 1;
        let incarnation = manifest.incarnation;
        if !goes_on {
            let number = newest.map_or(1, |newest| newest.number.0 + 1);
            let entry = GenerationEntry {
                number: Generation(number),
                shard_count: self.shard_count,
            };
            self.create_generation(entry)?;
            manifest.generations.push(entry);
        }
        self.disk.operation()?;
        self.disk.replace_manifest(manifest.clone());
        self.disk.operation()?;
        self.disk.sync_manifest();
        let entry = *manifest.generations.last().expect("one was added if there was none");
        if !goes_on {
            if let Some(newest) = newest {
                self.check_disk(newest, &ends)?;
                self.settle(&ends)?;
            }
            self.witness.begin_generation(entry.number, entry.shard_count);
            for identity in identities(entry) {
                let log = open_log(self.disk, identity, &mut |_, _| Ok(())).map_err(refused)?;
                logs.push(log);
            }
        }
        let mut writers = Vec::new();
        let mut followers = Vec::new();
        for log in logs {
            followers.push(Follower {
                segment: log.end.segment,
                offset: log.end.offset,
            });
            writers.push(log.into_writer(self.disk)?);
        }
        if goes_on {
            self.check_disk(entry, &ends)?;
            self.settle(&ends)?;
        }
        self.make_room(&shards, &mut writers)?;
        start(&mut shards, incarnation, &mut writers);
        let finished = self.finish(&mut writers, &mut followers);
        if finished.is_err() {
            for writer in &writers {
                flush(self.disk, writer);
            }
        }
        finished?;
        let shards = shards.into_iter().zip(writers).zip(followers);
        let shards = shards.map(|((shard, writer), follower)| (shard, writer, follower));
        Ok(Server::new(entry.number, shards.collect()))
    }

    /// A log that was nearly full gets another segment before the start writes to it.
    fn make_room(&mut self, shards: &[Shard], writers: &mut [LogWriter<MappedFile>]) -> Result<(), Interrupted> {
        for (shard, writer) in shards.iter().zip(writers) {
            if writer.room_bytes() < start_bytes(shard)
                && let Some(number) = writer.wants_segment()
            {
                self.disk.operation()?;
                let name = segment_name(writer.identity(), number);
                let bytes = empty_segment(writer.identity(), number, self.parameters.segment_bytes, self.random);
                self.disk.create(name, bytes);
                writer.offer_segment(self.disk.map(name));
            }
        }
        Ok(())
    }

    /// The witness sees what the start wrote; then it is synced.
    fn finish(&mut self, writers: &mut [LogWriter<MappedFile>], followers: &mut [Follower]) -> Result<(), Failed> {
        for (index, (writer, follower)) in writers.iter().zip(followers.iter_mut()).enumerate() {
            follower.follow(ShardId(index as u16), writer, self.witness)?;
        }
        self.witness.check_resolved()?;
        for writer in writers.iter_mut() {
            sync_all(self.disk, writer)?;
        }
        for (index, (writer, follower)) in writers.iter().zip(followers.iter_mut()).enumerate() {
            let shard = ShardId(index as u16);
            follower.follow(shard, writer, self.witness)?;
            self.witness.look_at_disk(self.disk, shard);
            promise_durable(self.witness, shard)?;
        }
        Ok(())
    }

    /// What was in flight is decided; what was lost is forgotten.
    fn settle(&mut self, ends: &[LogPosition]) -> Checked {
        self.witness.forget_lost(ends)?;
        self.witness.decide_in_flight()?;
        self.checker.check_news(self.witness, true)
    }

    fn create_generation(&mut self, entry: GenerationEntry) -> Result<(), Failed> {
        let leftovers = self.disk.names();
        for name in leftovers.into_iter().filter(|name| name.generation == entry.number) {
            self.disk.operation()?;
            self.disk.remove(name);
            self.disk.sync_directory(name);
        }
        for identity in identities(entry) {
            self.disk.operation()?;
            let bytes = empty_segment(
                identity,
                SegmentNumber::FIRST,
                self.parameters.segment_bytes,
                self.random,
            );
            self.disk.create(segment_name(identity, SegmentNumber::FIRST), bytes);
        }
        Ok(())
    }

    /// Everything that was recovered is on disk by now, or a power cut could still take it back.
    fn check_disk(&self, entry: GenerationEntry, ends: &[LogPosition]) -> Checked {
        for (identity, end) in identities(entry).zip(ends) {
            let mut copy = Disk::default();
            for name in self.disk.segments(identity.generation, identity.shard) {
                copy.create(name, self.disk.file(name).durable().to_vec());
            }
            let log = open_log(&mut copy, identity, &mut |_, _| Ok(()));
            let log = log.map_err(|error| {
                violation!("the log of shard {} is damaged after recovery: {error}", identity.shard)
            })?;
            promise!(
                log.end.last == *end,
                "R3: the log of shard {} was read up to {end}, but recovery has put only {} on disk",
                identity.shard,
                log.end.last
            );
        }
        Ok(())
    }

    fn recover(&mut self, generations: &[GenerationEntry]) -> Result<Replayed, Failed> {
        let limits = self.parameters.limits;
        let mut shards = vec![Shard::new(ShardId(0), ShardMap::new(1), limits)];
        let mut logs: Vec<OpenedLog> = Vec::new();
        for &entry in generations {
            if entry.number > self.witness.generation() {
                // The start that listed it was interrupted a moment later: the logs before it are closed.
                if !logs.is_empty() {
                    let ends: Vec<_> = logs.iter().map(|log| log.end.last).collect();
                    self.settle(&ends)?;
                }
                self.witness.begin_generation(entry.number, entry.shard_count);
            }
            resolve(&mut shards);
            shards = repartition(shards, entry.shard_count, limits);
            logs = identities(entry)
                .zip(&mut shards)
                .map(|(identity, shard)| self.replay(identity, shard))
                .collect::<Result<_, _>>()?;
        }
        Ok(Replayed { shards, logs })
    }

    fn replay(&mut self, identity: LogIdentity, shard: &mut Shard) -> Result<OpenedLog, Failed> {
        let is_known = identity.generation == self.witness.generation();
        let mut begins = LogPosition::ZERO;
        if let Some(checkpoint) = self.checkpoints.get(&(identity.generation, identity.shard)) {
            let mut restore = Restore::new(identity.shard, ShardMap::new(identity.shard_count), checkpoint.begins);
            for part in &checkpoint.parts {
                let restored = restore.part(part);
                restored.map_err(|error| {
                    violation!("a checkpoint of shard {} does not read back: {error}", identity.shard)
                })?;
            }
            *shard = restore.finish(self.parameters.limits);
            begins = checkpoint.begins;
        }
        let mut wrong: Checked = Ok(());
        let witness = &*self.witness;
        let mut on_record = |position: LogPosition, payload: &[u8]| -> Result<(), RecordError> {
            if is_known && wrong.is_ok() {
                wrong = witness.check_record(identity.shard, position, payload);
            }
            if position > begins {
                shard.replay(position, payload)?;
            }
            Ok(())
        };
        let log = open_log(self.disk, identity, &mut on_record).map_err(refused)?;
        wrong?;
        if is_known {
            self.witness.check_end(identity.shard, log.end.last, self.was_killed)?;
        }
        Ok(log)
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

fn refused(refused: Refused) -> Failed {
    match refused {
        Refused::Interrupted => Failed::Interrupted,
        other => Failed::Violation(violation!("a log that nothing has damaged is refused: {other}")),
    }
}

fn flush(disk: &mut Disk, writer: &LogWriter<MappedFile>) {
    let identity = writer.identity();
    let names: Vec<SegmentName> = disk.segments(identity.generation, identity.shard);
    for name in names {
        if let Some(mapped) = writer.segment(name.number) {
            disk.flush(mapped);
        }
    }
}
