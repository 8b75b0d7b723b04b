//! The simulated disk: files of segments with a page cache over them, and everything a disk may do at a bad moment.
//!
//! What is stored is in the cache; what a sync confirmed is durable. At a power cut every sector that differs keeps its
//! old or its new bytes. A failed sync leaves sectors that count as clean and are not on the disk: they stay lost,
//! however often they are synced, until they are written again. Decides nothing about records.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cartwright::engine::ShardId;
use cartwright::log::{Generation, GenerationEntry, SegmentMemory, SegmentNumber};

use crate::random::Random;

/// What a disk writes in one go, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A segment's file: ordered by generation, shard and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// The generation.
    pub generation: Generation,
    /// Whose log.
    pub shard: ShardId,
    /// Which segment of it.
    pub number: SegmentNumber,
}

/// The power went, or the process was killed, in the middle of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// One file.
#[derive(Clone, Debug)]
pub struct File {
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a failed sync marked clean.
    lost: BTreeSet<usize>,
}

impl File {
    /// A file that was written and synced.
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes.clone(),
            cache: bytes,
            lost: BTreeSet::new(),
        }
    }

    /// What a read gives.
    pub fn bytes(&self) -> &[u8] {
        &self.cache
    }

    /// What would be left if the cache were gone.
    pub fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// Writes; what differs from the cache, or is written `again` in any case, becomes dirty.
    pub fn store(&mut self, offset: usize, bytes: &[u8], again: bool) {
        let end = offset + bytes.len();
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let from = (sector * SECTOR_BYTES).max(offset);
            let to = ((sector + 1) * SECTOR_BYTES).min(end);
            let new = &bytes[from - offset..to - offset];
            if again || self.cache[from..to] != *new {
                self.lost.remove(&sector);
                self.cache[from..to].copy_from_slice(new);
            }
        }
    }

    fn persist(&mut self, sector: usize) {
        let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(self.cache.len());
        self.durable[range.clone()].copy_from_slice(&self.cache[range]);
    }

    fn sectors(range: &Range<usize>) -> Range<usize> {
        range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES)
    }

    /// A sync that succeeds.
    pub fn sync(&mut self, range: &Range<usize>) {
        for sector in Self::sectors(range) {
            if !self.lost.contains(&sector) {
                self.persist(sector);
            }
        }
    }

    /// The whole file.
    pub fn all(&self) -> Range<usize> {
        0..self.cache.len()
    }

    /// A sync that fails: some sectors reach the disk, the others count as clean.
    pub fn fail_sync(&mut self, range: &Range<usize>, random: &mut Random) {
        for sector in Self::sectors(range) {
            let bytes = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(self.cache.len());
            if self.cache[bytes.clone()] == self.durable[bytes] {
                continue;
            }
            if random.chance(300) {
                self.persist(sector);
            } else {
                self.lost.insert(sector);
            }
        }
    }

    /// The system writes some sectors back by itself, or, at a power cut, has just done so.
    pub fn write_back(&mut self, per_mille: u32, random: &mut Random) {
        for sector in 0..self.cache.len().div_ceil(SECTOR_BYTES) {
            let bytes = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(self.cache.len());
            if self.cache[bytes.clone()] != self.durable[bytes]
                && !self.lost.contains(&sector)
                && random.chance(per_mille)
            {
                self.persist(sector);
            }
        }
    }

    fn lose_cache(&mut self) {
        self.cache.copy_from_slice(&self.durable);
        self.lost.clear();
    }

    /// Loses all from `length` on, as a disk does that lied about a sync of the file's size.
    pub fn shorten(&mut self, length: usize) {
        self.durable.truncate(length);
        self.cache.truncate(length);
    }

    /// Changes durable bytes, as a failing disk does.
    pub fn damage(&mut self, offset: usize, bytes: &[u8]) {
        self.durable[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.cache[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// A segment as a running server has it: the mapping of its file.
#[derive(Clone, Debug)]
pub struct MappedFile {
    /// Which file.
    pub name: SegmentName,
    bytes: Vec<u8>,
}

impl SegmentMemory for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// What the manifest says: replaced whole, in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// How often the server was started.
    pub incarnation: u32,
    /// Ascending.
    pub generations: Vec<GenerationEntry>,
}

/// How a process ends against its will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone; what it stored is in the cache.
    Kill,
    /// The cache is gone as well. Of what was not synced, each sector is kept so many times in a thousand.
    PowerCut(u32),
}

/// The disk of one server.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<SegmentName, File>,
    /// Removed, but the directory was not synced since: a power cut may bring them back.
    removed: BTreeMap<SegmentName, File>,
    manifest: Manifest,
    /// The manifest before, while the new one's name is not synced.
    manifest_before: Option<Manifest>,
    /// After how many more operations one is interrupted.
    pub fuse: Option<u64>,
}

impl Disk {
    /// Comes before each operation of a start: the moment at which it may be interrupted.
    pub fn operation(&mut self) -> Result<(), Interrupted> {
        match &mut self.fuse {
            Some(0) => Err(Interrupted),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The file, which is there.
    pub fn file(&self, name: SegmentName) -> &File {
        &self.files[&name]
    }

    /// The file, which is there, to be changed.
    pub fn file_mut(&mut self, name: SegmentName) -> &mut File {
        self.files.get_mut(&name).expect("the file is there")
    }

    /// The segments of one log, ascending.
    pub fn segments(&self, generation: Generation, shard: ShardId) -> Vec<SegmentName> {
        let of_log = |name: &&SegmentName| name.generation == generation && name.shard == shard;
        self.files.keys().filter(of_log).copied().collect()
    }

    /// Every file.
    pub fn names(&self) -> Vec<SegmentName> {
        self.files.keys().copied().collect()
    }

    /// A file that was written under another name, synced, renamed, and its directory synced.
    pub fn create(&mut self, name: SegmentName, bytes: Vec<u8>) {
        self.files.insert(name, File::new(bytes));
        self.sync_directory(name);
    }

    /// Removes a file; see [`Self::sync_directory`].
    pub fn remove(&mut self, name: SegmentName) {
        let file = self.files.remove(&name).expect("the file is there");
        self.removed.insert(name, file);
    }

    /// Makes the names in this file's directory durable.
    pub fn sync_directory(&mut self, name: SegmentName) {
        self.removed
            .retain(|removed, _| removed.generation != name.generation || removed.shard != name.shard);
    }

    /// Maps a file.
    pub fn map(&self, name: SegmentName) -> MappedFile {
        MappedFile {
            name,
            bytes: self.file(name).bytes().to_vec(),
        }
    }

    /// What was stored through a mapping.
    pub fn flush(&mut self, mapped: &MappedFile) {
        self.file_mut(mapped.name).store(0, &mapped.bytes, false);
    }

    /// What was stored to some bytes of a mapping.
    pub fn flush_range(&mut self, mapped: &MappedFile, range: &Range<usize>) {
        let bytes = &mapped.bytes[range.clone()];
        self.file_mut(mapped.name).store(range.start, bytes, false);
    }

    /// The manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Renames a new manifest over the old one.
    pub fn replace_manifest(&mut self, manifest: Manifest) {
        let before = std::mem::replace(&mut self.manifest, manifest);
        self.manifest_before.get_or_insert(before);
    }

    /// Makes the manifest's name durable.
    pub fn sync_manifest(&mut self) {
        self.manifest_before = None;
    }

    /// The process ends, and with it, perhaps, the power. Mappings were flushed before.
    pub fn crash(&mut self, crash: Crash, random: &mut Random) {
        self.fuse = None;
        let Crash::PowerCut(kept) = crash else { return };
        for (name, file) in std::mem::take(&mut self.removed) {
            if random.chance(500) {
                self.files.insert(name, file);
            }
        }
        if let Some(before) = self.manifest_before.take()
            && random.chance(500)
        {
            self.manifest = before;
        }
        for file in self.files.values_mut() {
            file.write_back(kept, random);
            file.lose_cache();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let mut file = File::new(vec![0; 4 * SECTOR_BYTES]);
        file.store(0, &[1; 4 * SECTOR_BYTES], false);
        file
    }

    #[test]
    fn only_what_was_synced_survives_the_cache() {
        let mut file = file();
        file.sync(&(SECTOR_BYTES..SECTOR_BYTES + 1));
        file.lose_cache();
        let kept: Vec<u8> = file.bytes().chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
        assert_eq!(kept, [0, 1, 0, 0]);
    }

    #[test]
    fn a_failed_sync_loses_sectors_until_they_are_written_again() {
        let (mut file, mut random) = (file(), Random::new(1));
        file.fail_sync(&file.all(), &mut random);
        let lost = file.lost.clone();
        assert!(!lost.is_empty());
        file.sync(&file.all());
        for &sector in &lost {
            assert_eq!(file.durable()[sector * SECTOR_BYTES], 0, "syncing again is no help");
        }
        let bytes = file.bytes().to_vec();
        file.store(0, &bytes, true);
        file.sync(&file.all());
        assert_eq!(file.durable(), file.bytes());
    }
}
