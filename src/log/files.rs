//! The file system as the log uses it: a trait, and the operating system's own behind it.
//!
//! Everything in [`crate::log`] that touches a disk goes through here, so that the simulator can put a disk of its own
//! under the very same code and interrupt it at each operation. Decides nothing.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;

use memmap2::MmapMut;
use rustix::fs::{Advice, fadvise};

use super::segment::SegmentMemory;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To read one that is there.
    Read,
    /// To read and write one that is there.
    Write,
    /// To read and write; made if it is not there.
    Create,
    /// To write; made if it is not there, emptied if it is.
    Replace,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A directory.
    Directory,
    /// A file, or anything else that is no directory.
    File,
}

/// A file system. What was done to names is durable once [`Files::sync_directory`] says so, not before.
pub trait Files: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: FileHandle;

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File>;

    /// Gives a file another name in the same directory; what had that name before is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// What is in a directory: whole paths, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// What a path names; links are followed.
    fn kind(&self, path: &Path) -> io::Result<PathKind>;

    /// Makes a directory whose parent is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a directory are on disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// As whom the process runs, where that can be told.
    fn user(&self) -> Option<u32>;

    /// A number that nobody can foresee, another each time.
    fn random(&self) -> u64;

    /// Does `work` on each of `items`, which may be at the same time; gives the results in their order.
    fn in_parallel<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R>;
}

/// An open file. Reads and writes as [`Read`] and [`Write`] go on from where the last one ended.
pub trait FileHandle: Read + Write + Debug + Send + Sync {
    /// The file in memory; what is stored there is in the file.
    type Map: SegmentMemory + Debug + Send;

    /// Its size.
    fn size(&self) -> io::Result<u64>;

    /// Cuts it, or adds zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Fills `bytes` from `offset` on.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until its bytes and its size are on disk.
    fn sync(&self) -> io::Result<()>;

    /// Waits until what was stored to `map`, which is of this file, is on disk.
    fn sync_map(&self, map: &Self::Map) -> io::Result<()>;

    /// Has bytes written to the disk, and waits for it. Unlike a sync it flushes neither the disk's own cache nor the file
    /// system's journal, which others would have to wait for: what is written so is not durable.
    fn write_back(&self, range: Range<u64>) -> io::Result<()>;

    /// Maps all of it. Its size must not change while mapped, but for a file that is recycled while whoever has it mapped
    /// only waits to unmap it.
    fn map(&self) -> io::Result<Self::Map>;

    /// A hint: what is read is not read ahead, and is cached page by page.
    fn expect_random_reads(&self);

    /// Locks it until it is closed or unlocked, for all others or against those that do.
    fn try_lock(&self, lock: Lock) -> Result<(), TryLockError>;

    /// Gives the lock up.
    fn unlock(&self) -> io::Result<()>;

    /// Whose it is.
    fn owner(&self) -> io::Result<u32>;
}

/// Who else may lock a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    Exclusive,
    /// Those who share it as well.
    Shared,
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    type File = File;

    fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::Create => options.read(true).write(true).create(true).truncate(false),
            Open::Replace => options.write(true).create(true).truncate(true),
        };
        options.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        let is_directory = fs::metadata(path)?.is_dir();
        Ok(if is_directory {
            PathKind::Directory
        } else {
            PathKind::File
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn user(&self) -> Option<u32> {
        // Its own entry belongs to whom the process runs as.
        fs::metadata("/proc/self").ok().map(|process| process.uid())
    }

    fn random(&self) -> u64 {
        getrandom::u64().expect("the system gives random numbers to whoever asks")
    }

    fn in_parallel<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let work = &work;
        thread::scope(|scope| {
            let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a panic ends the process"))
                .collect()
        })
    }
}

impl FileHandle for File {
    type Map = MmapMut;

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_map(&self, _: &MmapMut) -> io::Result<()> {
        self.sync_data()
    }

    fn write_back(&self, range: Range<u64>) -> io::Result<()> {
        let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let length = range.end - range.start;
        // SAFETY: takes no pointers.
        let result = unsafe { libc::sync_file_range(self.as_raw_fd(), range.start as i64, length as i64, flags) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn map(&self) -> io::Result<MmapMut> {
        // SAFETY: the mapping is sound while nobody else changes the file's size or bytes. The data directory's lock
        // keeps other servers out, this process opens each segment once, and changes the size of none but one that is
        // recycled: whoever still has that mapped only waits to unmap it, and reads and writes nothing.
        unsafe { MmapMut::map_mut(self) }
    }

    fn expect_random_reads(&self) {
        // Where the system does not heed it, syncs only write more.
        let _ = fadvise(self, 0, None, Advice::Random);
    }

    fn try_lock(&self, lock: Lock) -> Result<(), TryLockError> {
        match lock {
            Lock::Exclusive => File::try_lock(self),
            Lock::Shared => File::try_lock_shared(self),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        File::unlock(self)
    }

    fn owner(&self) -> io::Result<u32> {
        Ok(self.metadata()?.uid())
    }
}

impl SegmentMemory for MmapMut {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}
