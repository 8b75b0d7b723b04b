//! The simulated disk: files with a page cache over them, names with a journal behind them, and everything a disk may
//! do at a bad moment.
//!
//! What is stored is in the cache; what a sync confirmed is durable. At a power cut every sector that differs keeps its
//! old or its new bytes, a file its old or its new size, and of the names changed since their directory was synced any
//! may be as before. A failed sync leaves sectors that count as clean and are not on the disk: they stay lost, however
//! often they are synced, until they are written again. Decides nothing about what the files hold; the server's way to
//! it is [`crate::files`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cartwright::engine::ShardId;
use cartwright::log::{Generation, LogIdentity, SegmentNumber};

use crate::random::Random;

/// What a disk writes in one go, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// Where the server's data directory is.
pub const ROOT: &str = "/srv/shop/data";

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

impl SegmentName {
    /// A segment of this log.
    pub const fn of(identity: LogIdentity, number: SegmentNumber) -> Self {
        Self {
            generation: identity.generation,
            shard: identity.shard,
            number,
        }
    }

    /// Where the file is, by the documented layout.
    pub fn path(&self) -> PathBuf {
        shard_directory(self.generation, self.shard).join(format!("segment-{:08}.log", self.number.0))
    }
}

/// Where one shard's log and checkpoints are, by the documented layout.
pub fn shard_directory(generation: Generation, shard: ShardId) -> PathBuf {
    PathBuf::from(format!(
        "{ROOT}/log/generation-{:05}/shard-{:03}",
        generation.0, shard.0
    ))
}

/// How a process ends against its will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone; what it stored is in the cache.
    Kill,
    /// The cache is gone as well. Of what was not synced, each sector is kept so many times in a thousand.
    PowerCut(u32),
}

/// What goes wrong with the operations to come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// After how many more operations the process is gone.
    pub fuse: Option<u64>,
    /// The process is gone: its operations fail.
    pub is_gone: bool,
    /// After how many more operations one fails.
    pub failing: Option<u64>,
    /// There is no room for anything more.
    pub is_full: bool,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct File {
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a failed sync marked clean.
    lost: BTreeSet<usize>,
}

impl File {
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
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
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

    /// Cuts it, or adds zeros.
    pub fn set_size(&mut self, bytes: usize) {
        self.cache.resize(bytes, 0);
    }

    /// The bytes of a sector that are both in the cache and within the durable size.
    fn sector(&self, sector: usize) -> Range<usize> {
        let size = self.cache.len().min(self.durable.len());
        (sector * SECTOR_BYTES).min(size)..((sector + 1) * SECTOR_BYTES).min(size)
    }

    fn persist(&mut self, sector: usize) {
        let range = self.sector(sector);
        self.durable[range.clone()].copy_from_slice(&self.cache[range]);
    }

    fn is_dirty(&self, sector: usize) -> bool {
        let range = self.sector(sector);
        self.cache[range.clone()] != self.durable[range]
    }

    fn sectors(range: &Range<usize>) -> Range<usize> {
        range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES)
    }

    /// A sync of these bytes that succeeds; the size is synced with them.
    pub fn sync(&mut self, range: &Range<usize>) {
        self.durable.resize(self.cache.len(), 0);
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
        if random.chance(500) {
            self.durable.resize(self.cache.len(), 0);
        }
        for sector in Self::sectors(range) {
            if !self.is_dirty(sector) {
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
        if self.cache.len() != self.durable.len() && random.chance(per_mille) {
            self.durable.resize(self.cache.len(), 0);
        }
        for sector in 0..self.cache.len().div_ceil(SECTOR_BYTES) {
            if self.is_dirty(sector) && !self.lost.contains(&sector) && random.chance(per_mille) {
                self.persist(sector);
            }
        }
    }

    fn lose_cache(&mut self) {
        self.cache.clone_from(&self.durable);
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

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// The file with this number.
    File(u64),
}

/// A change to the names in a directory.
#[derive(Clone, Debug)]
struct NameChange {
    path: PathBuf,
    /// Of a rename: the name before.
    from: Option<PathBuf>,
    /// What the name stands for now; `None`: it is gone.
    node: Option<Node>,
}

type Names = BTreeMap<PathBuf, Node>;

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        match self.node {
            Some(node) => names.insert(self.path.clone(), node),
            None => names.remove(&self.path),
        };
    }
}

/// What is on the disk of one server. See [`Disk`].
#[derive(Clone, Debug)]
pub struct State {
    files: BTreeMap<u64, File>,
    next_file: u64,
    names: Names,
    durable_names: Names,
    /// Since their directories were synced, in order.
    pending: Vec<NameChange>,
    /// Of the disk's own: what a file system draws, and how far an operation comes that is interrupted.
    pub random: Random,
    /// What goes wrong from now on.
    pub faults: Faults,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl State {
    fn new(random: Random) -> Self {
        let names = Names::from([(PathBuf::from("/"), Node::Directory)]);
        Self {
            files: BTreeMap::new(),
            next_file: 0,
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            random,
            faults: Faults::default(),
        }
    }

    /// Comes before each operation: the moment at which the process may be gone, or the operation fail.
    pub fn operation(&mut self) -> io::Result<()> {
        self.faults.is_gone |= self.faults.fuse == Some(0);
        if self.faults.is_gone {
            // Not `Interrupted`, which is tried again.
            return Err(io::Error::other("the process is gone"));
        }
        if let Some(left) = &mut self.faults.fuse {
            *left -= 1;
        }
        match &mut self.faults.failing {
            Some(0) => {
                self.faults.failing = None;
                Err(io::Error::other("the disk fails"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The file with this number.
    pub fn file(&mut self, number: u64) -> &mut File {
        self.files.entry(number).or_default()
    }

    /// The file with this number, and the disk's own source of chance.
    pub fn file_and_random(&mut self, number: u64) -> (&mut File, &mut Random) {
        (self.files.entry(number).or_default(), &mut self.random)
    }

    /// What a path names.
    pub fn node(&self, path: &Path) -> io::Result<Node> {
        self.names.get(path).copied().ok_or_else(not_found)
    }

    /// What is in a directory, in the order of the names.
    pub fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        if self.node(directory)? != Node::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let is_in = |path: &&PathBuf| path.parent() == Some(directory);
        Ok(self.names.keys().filter(is_in).cloned().collect())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.faults.is_full {
            return Err(full());
        }
        let parent = path.parent().ok_or_else(not_found)?;
        if self.node(parent)? != Node::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.change(NameChange {
            path: path.to_owned(),
            from: None,
            node: Some(node),
        });
        Ok(())
    }

    /// A new, empty file.
    pub fn create_file(&mut self, path: &Path) -> io::Result<u64> {
        let number = self.next_file;
        self.add(path, Node::File(number))?;
        self.next_file += 1;
        self.files.insert(number, File::default());
        Ok(number)
    }

    /// A new directory.
    pub fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        if self.node(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.add(path, Node::Directory)
    }

    /// Another name within the same directory.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.node(from)?;
        assert_eq!(from.parent(), to.parent(), "files stay in their directory");
        self.change(NameChange {
            path: to.to_owned(),
            from: Some(from.to_owned()),
            node: Some(node),
        });
        Ok(())
    }

    /// A name goes.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.node(path)?;
        self.change(NameChange {
            path: path.to_owned(),
            from: None,
            node: None,
        });
        Ok(())
    }

    /// What was done to the names in a directory is durable.
    pub fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.node(directory)?;
        let names = &mut self.durable_names;
        self.pending.retain(|change| {
            let stays = change.path.parent() != Some(directory);
            if !stays {
                change.apply(names);
            }
            stays
        });
        Ok(())
    }

    /// Bytes written to a file, from `offset` on. On a disk that is full a file does not grow.
    pub fn write(&mut self, number: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let Faults { is_full, is_gone, .. } = self.faults;
        let result = self.operation();
        let (file, random) = self.file_and_random(number);
        if is_full && offset + bytes.len() > file.cache.len() {
            return result.and(Err(full()));
        }
        if result.is_ok() {
            file.store(offset, bytes, true);
        } else if !is_gone {
            // One that does not come to its end may have begun.
            let done = random.index(bytes.len() + 1);
            file.store(offset, &bytes[..done], true);
        }
        result
    }

    fn cut_power(&mut self, kept: u32, random: &mut Random) {
        // A journal keeps the first so many; without one any of them may be lost.
        let keeps_order = random.chance(500);
        let first = random.index(self.pending.len() + 1);
        for (index, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let is_kept = match kept {
                0 => false,
                1000 => true,
                _ if keeps_order => index < first,
                _ => random.chance(500),
            };
            if is_kept {
                change.apply(&mut self.durable_names);
            }
        }
        let names = &mut self.durable_names;
        // What is in a directory that is not there is gone with it.
        loop {
            let orphan = names
                .keys()
                .find(|path| path.parent().is_some_and(|parent| !names.contains_key(parent)));
            let Some(orphan) = orphan.cloned() else { break };
            names.remove(&orphan);
        }
        self.names.clone_from(names);
        for file in self.files.values_mut() {
            file.write_back(kept, random);
            file.lose_cache();
        }
    }
}

/// The disk of one server: a handle to it, cheap to clone. [`Disk::fork`] copies the disk itself.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// An empty one; what it draws for itself comes from `random`.
    pub fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State::new(random))))
    }

    /// What is on it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same on it; nothing goes wrong with it.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.faults = Faults::default();
        Self(Arc::new(Mutex::new(state)))
    }

    /// Sets what goes wrong with it from now on, but for its being full.
    pub fn set_faults(&self, fuse: Option<u64>, failing: Option<u64>) {
        let mut state = self.state();
        state.faults.fuse = fuse;
        state.faults.is_gone = false;
        state.faults.failing = failing;
    }

    /// From now on it is full, or is not.
    pub fn set_full(&self, is_full: bool) {
        self.state().faults.is_full = is_full;
    }

    /// Whether the process is gone.
    pub fn is_gone(&self) -> bool {
        self.state().faults.is_gone
    }

    /// The process is gone.
    pub fn end_process(&self) {
        self.state().faults.is_gone = true;
    }

    /// Does `work` while nothing goes wrong.
    pub fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let faults = std::mem::take(&mut self.state().faults);
        let result = work();
        self.state().faults = faults;
        result
    }

    /// The segments of one log, ascending.
    pub fn segments(&self, generation: Generation, shard: ShardId) -> Vec<SegmentName> {
        let listed = self.state().list(&shard_directory(generation, shard));
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()
        };
        let mut numbers: Vec<u64> = listed.unwrap_or_default().iter().filter_map(number).collect();
        numbers.sort_unstable();
        let name = |number| SegmentName {
            generation,
            shard,
            number: SegmentNumber(number),
        };
        numbers.into_iter().map(name).collect()
    }

    /// Looks at a file; `None` if it is not there.
    pub fn look<T>(&self, path: &Path, look: impl FnOnce(&mut File) -> T) -> Option<T> {
        let mut state = self.state();
        match state.node(path) {
            Ok(Node::File(number)) => Some(look(state.file(number))),
            Ok(Node::Directory) | Err(_) => None,
        }
    }

    /// What a read of a segment gives; empty if it is not there.
    pub fn bytes(&self, name: SegmentName) -> Vec<u8> {
        let bytes = self.look(&name.path(), |file| file.bytes().to_vec());
        bytes.unwrap_or_default()
    }

    /// Whether a crash would leave this name.
    pub fn is_name_durable(&self, path: &Path) -> bool {
        let state = self.state();
        state.node(path).is_ok() && state.names.get(path) == state.durable_names.get(path)
    }

    /// Bytes of all files whose names `counts`.
    pub fn size(&self, counts: impl Fn(&Path) -> bool) -> u64 {
        let state = self.state();
        let size = |(path, node): (&PathBuf, &Node)| match node {
            Node::File(number) if counts(path) => state.files[number].cache.len() as u64,
            _ => 0,
        };
        state.names.iter().map(size).sum()
    }

    /// The process has ended, and with it, perhaps, the power.
    pub fn crash(&self, crash: Crash, random: &mut Random) {
        let mut state = self.state();
        state.faults.fuse = None;
        state.faults.failing = None;
        state.faults.is_gone = false;
        if let Crash::PowerCut(kept) = crash {
            state.cut_power(kept, random);
        }
        let State {
            files,
            names,
            durable_names,
            pending,
            ..
        } = &mut *state;
        let mut used = BTreeSet::new();
        let nodes = names.values().chain(durable_names.values()).copied();
        for node in nodes.chain(pending.iter().filter_map(|change| change.node)) {
            if let Node::File(number) = node {
                used.insert(number);
            }
        }
        files.retain(|number, _| used.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let mut file = File::default();
        file.store(0, &[0; 4 * SECTOR_BYTES], true);
        file.sync(&file.all());
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

    #[test]
    fn a_name_is_lost_until_its_directory_is_synced() {
        let disk = Disk::new(Random::new(1));
        let (directory, path) = (Path::new("/data"), Path::new("/data/file"));
        disk.state().create_directory(directory).unwrap();
        disk.state().sync_directory(Path::new("/")).unwrap();
        disk.state().create_file(path).unwrap();
        let lost = disk.fork();
        lost.crash(Crash::PowerCut(0), &mut Random::new(2));
        assert!(lost.state().node(directory).is_ok() && lost.state().node(path).is_err());
        disk.state().sync_directory(directory).unwrap();
        disk.crash(Crash::PowerCut(0), &mut Random::new(2));
        assert!(disk.state().node(path).is_ok());
    }

    #[test]
    fn a_rename_that_is_lost_leaves_both_files_as_they_were() {
        let disk = Disk::new(Random::new(1));
        let (old, new) = (Path::new("/manifest"), Path::new("/manifest.new"));
        let first = disk.state().create_file(old).unwrap();
        let second = disk.state().create_file(new).unwrap();
        disk.state().sync_directory(Path::new("/")).unwrap();
        disk.state().rename(new, old).unwrap();
        assert_eq!(disk.state().node(old).unwrap(), Node::File(second));
        disk.crash(Crash::PowerCut(0), &mut Random::new(2));
        assert_eq!(disk.state().node(old).unwrap(), Node::File(first));
        assert_eq!(disk.state().node(new).unwrap(), Node::File(second));
    }
}
