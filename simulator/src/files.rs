//! The server's way to the simulated disk: what [`cartwright::log`] calls a file system.
//!
//! Each operation is a moment at which the process may end; what it has stored to memory that is mapped it leaves behind
//! all the same. One thread: what production does in parallel happens in turn.

use std::fs::TryLockError;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use cartwright::log::{FileHandle, Files, Lock, Open, PathKind, SegmentMemory};

use crate::disk::{Disk, File, Node, State};
use crate::random::Random;

/// Of writes, how many write less than they were given.
const SHORT_WRITES: u32 = 50;

/// As whom the simulated server runs.
const USER: u32 = 1000;

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    disk: Disk,
    number: u64,
    /// Where the next read or write goes on.
    at: usize,
}

/// A file in memory: what was stored is in the file's cache when this is dropped, and before each sync.
#[derive(Debug)]
pub struct MappedFile {
    disk: Disk,
    number: u64,
    bytes: Vec<u8>,
}

impl Disk {
    fn operate<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.operation()?;
        work(&mut state)
    }
}

impl Files for Disk {
    type File = OpenFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<OpenFile> {
        let number = self.operate(|state| match (state.node(path), how) {
            (Ok(Node::Directory), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Ok(Node::File(number)), Open::Replace) => {
                state.file(number).set_size(0);
                Ok(number)
            }
            (Ok(Node::File(number)), Open::Read | Open::Write | Open::Create) => Ok(number),
            (Err(error), Open::Read | Open::Write) => Err(error),
            (Err(_), Open::Create | Open::Replace) => state.create_file(path),
        })?;
        Ok(OpenFile {
            disk: self.clone(),
            number,
            at: 0,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|state| state.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| state.remove(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.operate(|state| state.list(directory))
    }

    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        self.operate(|state| {
            Ok(match state.node(path)? {
                Node::Directory => PathKind::Directory,
                Node::File(_) => PathKind::File,
            })
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| state.create_directory(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let inside = self.operate(|state| state.list(path))?;
        for path in inside {
            let node = self.state().node(&path)?;
            match node {
                Node::Directory => self.remove_directory(&path)?,
                Node::File(_) => self.remove_file(&path)?,
            }
        }
        self.operate(|state| state.remove(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| state.sync_directory(path))
    }

    fn user(&self) -> Option<u32> {
        Some(USER)
    }

    fn random(&self) -> u64 {
        self.state().random.bits()
    }

    fn in_parallel<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        items.into_iter().map(work).collect()
    }
}

impl OpenFile {
    fn operate<T>(&self, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        self.disk.operate(|state| work(state.file(self.number)))
    }

    /// A sync; where the disk fails in it, some of the bytes count as clean and are lost.
    fn sync_file(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.operation();
        let is_gone = state.faults.is_gone;
        let (file, random) = state.file_and_random(self.number);
        let all = file.all();
        match &result {
            Ok(()) => file.sync(&all),
            Err(_) if is_gone => {}
            Err(_) => file.fail_sync(&all, random),
        }
        result
    }
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let read = self.operate(|file| {
            let rest = file.bytes().get(at..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        })?;
        self.at += read;
        Ok(read)
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let is_short = bytes.len() > 1 && state.random.chance(SHORT_WRITES);
        let length = if is_short {
            state.random.between(1, bytes.len() as u64 - 1) as usize
        } else {
            bytes.len()
        };
        state.write(self.number, self.at, &bytes[..length])?;
        self.at += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileHandle for OpenFile {
    type Map = MappedFile;

    fn size(&self) -> io::Result<u64> {
        self.operate(|file| Ok(file.bytes().len() as u64))
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.operate(|file| {
            file.set_size(bytes as usize);
            Ok(())
        })
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = offset as usize;
        self.operate(|file| {
            let read = file.bytes().get(start..start + bytes.len());
            bytes.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.state().write(self.number, offset as usize, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_file()
    }

    fn sync_map(&self, map: &MappedFile) -> io::Result<()> {
        map.flush();
        self.sync_file()
    }

    fn write_back(&self, _: Range<u64>) -> io::Result<()> {
        // Makes nothing durable.
        self.operate(|_| Ok(()))
    }

    fn map(&self) -> io::Result<MappedFile> {
        let bytes = self.operate(|file| Ok(file.bytes().to_vec()))?;
        Ok(MappedFile {
            disk: self.disk.clone(),
            number: self.number,
            bytes,
        })
    }

    fn expect_random_reads(&self) {}

    fn try_lock(&self, _: Lock) -> Result<(), TryLockError> {
        // Nobody else is there.
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }

    fn owner(&self) -> io::Result<u32> {
        Ok(USER)
    }
}

impl MappedFile {
    /// What was stored is in the cache.
    pub fn flush(&self) {
        self.disk.state().file(self.number).store(0, &self.bytes, false);
    }

    fn with_range<T>(&self, range: &Range<usize>, work: impl FnOnce(&mut File) -> T) -> T {
        let mut state = self.disk.state();
        let file = state.file(self.number);
        file.store(range.start, &self.bytes[range.clone()], false);
        work(file)
    }

    /// A sync of a part that succeeds.
    pub fn sync_range(&self, range: &Range<usize>) {
        self.with_range(range, |file| file.sync(range));
    }

    /// A sync of a part that fails.
    pub fn fail_sync_range(&self, range: &Range<usize>, random: &mut Random) {
        self.with_range(range, |file| file.fail_sync(range, random));
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        self.flush();
    }
}

impl SegmentMemory for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
