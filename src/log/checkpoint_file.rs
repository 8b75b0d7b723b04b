//! Checkpoints as files: what a shard's state was, in parts that are opaque here.
//!
//! Written under a temporary name, closed with a footer, synced, and only then given its own name; a file without a
//! whole footer is none. Called by the runtime's background writer and by recovery; decides nothing about when.
//!
//! ```text
//! header   "CWCHECKP"  format version u32  generation u32  shard u16  shard count u16  zero u32
//!          begins u64  zero u64  zero u32  CRC-32C of the 44 bytes before u32                     48 bytes
//! part     length u32  CRC-32C of (its index u64, kind, payload) u32  kind  payload                any number
//! footer   0xFFFFFFFF u32  CRC-32C of (part count u64, ends u64) u32  part count u64  ends u64     24 bytes
//! ```
//! All integers little-endian. `begins`: the log is replayed from behind this position. `ends`: the parts show the log
//! up to here. A part's kind is its book, its kind within that book and the version of its layout, a byte each, and a
//! zero; in version 3, which is read as well, parts have none.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::data_directory::DataDirectory;
use super::files::{FileHandle, Files, Open, SystemFiles};
use super::segment::LogIdentity;
use super::storage::{Context, StorageError, TEMPORARY_SUFFIX, sync_directory};
use cartwright_core::ids::{LogPosition, RecordKind};
use cartwright_core::mutation::{Mutation, is_on};

/// Version of the layout above, which is written.
pub const CHECKPOINT_FORMAT_VERSION: u32 = 4;

/// The oldest version that is read: its parts have no kinds, as records of a log of format 2 have none.
const CHECKPOINT_FORMAT_VERSION_MIN: u32 = 3;

/// Largest part, in bytes: a slot's items and keys, or 256 orders of the largest cart.
pub const PART_BYTES_MAX: u32 = 1 << 30;

const MAGIC: [u8; 8] = *b"CWCHECKP";
const HEADER_BYTES: usize = 48;
const KIND_BYTES: usize = 4;
const FOOTER_MARK: u32 = u32::MAX;
const BUFFER_BYTES: usize = 1 << 20;
const SUFFIX: &str = ".checkpoint";
const DAMAGED_SUFFIX: &str = ".checkpoint.damaged";

/// How much of a checkpoint is written between two syncs of it. The more, the longer the logs' syncs on the same disk
/// wait behind one of these.
const SYNC_INTERVAL_BYTES: u64 = 1 << 20;

/// How many whole checkpoints of a shard are kept.
pub const CHECKPOINTS_KEPT: usize = 2;

/// Why a checkpoint cannot be read.
#[derive(Debug, Error)]
pub enum CheckpointError<E> {
    /// The file could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bytes are not what was written.
    #[error("the checkpoint is damaged: {}, byte {offset}: {fault}", path.display())]
    Damage {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        fault: &'static str,
    },
    /// Written by another version.
    #[error(
        "{} has format version {found}, and this server reads versions {CHECKPOINT_FORMAT_VERSION_MIN} to \
         {CHECKPOINT_FORMAT_VERSION}; start the version that wrote it", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u32,
    },
    /// A part is whole, but the caller refused it.
    #[error("the checkpoint holds a part that cannot be restored: {}, byte {offset}: {error}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the caller said.
        error: E,
    },
}

/// What a whole checkpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// The log is replayed from behind this position.
    pub begins: LogPosition,
    /// The parts show the log up to here.
    pub ends: LogPosition,
    /// Bytes of the file.
    pub bytes: u64,
}

/// One shard's checkpoints on disk.
#[derive(Clone, Debug)]
pub struct CheckpointDirectory<F = SystemFiles> {
    files: F,
    identity: LogIdentity,
    directory: PathBuf,
}

impl<F: Files> CheckpointDirectory<F> {
    /// Those of the log `identity` under `data`: they lie beside its segments.
    pub fn new(data: &DataDirectory<F>, identity: LogIdentity) -> Self {
        Self {
            files: data.files().clone(),
            identity,
            directory: data.log(identity).path().to_owned(),
        }
    }

    fn path(&self, begins: LogPosition) -> PathBuf {
        self.directory.join(format!("{begins:020}{SUFFIX}"))
    }

    /// Where whole checkpoints begin, newest first.
    pub fn list(&self) -> Result<Vec<LogPosition>, StorageError> {
        let listed = match self.files.list(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.context("list the checkpoints in", &self.directory)?,
        };
        let begins = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok();
        let mut found: Vec<_> = listed.iter().filter_map(begins).map(LogPosition).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Begins to write one.
    pub fn create(&self, begins: LogPosition) -> Result<CheckpointWriter<F>, StorageError> {
        let path = self.path(begins);
        let temporary = PathBuf::from(format!("{}{TEMPORARY_SUFFIX}", path.display()));
        let file = self
            .files
            .open(&temporary, Open::Replace)
            .context("create the checkpoint", &temporary)?;
        let mut writer = CheckpointWriter {
            files: self.files.clone(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            directory: self.directory.clone(),
            temporary,
            path,
            part_count: 0,
            bytes: 0,
            synced_bytes: 0,
            published: false,
        };
        writer.write(&header(CHECKPOINT_FORMAT_VERSION, self.identity, begins))?;
        Ok(writer)
    }

    /// Reads the checkpoint that begins at `begins`, handing each part to `on_part`, in order. Nothing that `on_part`
    /// made of the parts may be used unless this succeeds.
    pub fn read<E>(
        &self,
        begins: LogPosition,
        on_part: &mut impl FnMut(RecordKind, &[u8]) -> Result<(), E>,
    ) -> Result<CheckpointSummary, CheckpointError<E>> {
        let path = self.path(begins);
        let file = self
            .files
            .open(&path, Open::Read)
            .context("open the checkpoint", &path)?;
        let size = file.size().context("look at", &path)?;
        let mut reader = Reader {
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            path,
            offset: 0,
            size,
        };
        let has_kinds = reader.check_header(self.identity, begins)? > CHECKPOINT_FORMAT_VERSION_MIN;
        let mut payload = Vec::new();
        for index in 0u64.. {
            let [length, checksum] = reader.words()?;
            if length == FOOTER_MARK {
                let ends = reader.check_footer(checksum, index)?;
                return Ok(CheckpointSummary {
                    begins,
                    ends,
                    bytes: size,
                });
            }
            let begun_at = reader.offset - 8;
            let mut kind = [0; KIND_BYTES];
            let kind_bytes = if has_kinds { &mut kind[..] } else { &mut [] };
            reader.exact(kind_bytes)?;
            let mut found = crc32c::crc32c_append(crc32c::crc32c(&index.to_le_bytes()), kind_bytes);
            let at = reader.offset;
            if length > PART_BYTES_MAX || u64::from(length) > size - at {
                return Err(reader.damage(begun_at, "a part's length is impossible"));
            }
            payload.resize(length as usize, 0);
            reader.exact(&mut payload)?;
            found = crc32c::crc32c_append(found, &payload);
            if found != checksum {
                return Err(reader.damage(at, "a part's checksum does not match"));
            }
            let [book, kind, version, _] = kind;
            if let Err(error) = on_part(RecordKind { book, kind, version }, &payload) {
                return Err(CheckpointError::Refused {
                    path: reader.path,
                    offset: at,
                    error,
                });
            }
        }
        unreachable!("no file has 2^64 parts")
    }

    /// Removes all but the newest [`CHECKPOINTS_KEPT`], those that were set aside, and what was begun and never
    /// finished. Not while one is being written.
    pub fn remove_old(&self) -> Result<(), StorageError> {
        for begins in self.list()?.into_iter().skip(CHECKPOINTS_KEPT) {
            let path = self.path(begins);
            self.files
                .remove_file(&path)
                .context("remove the old checkpoint", &path)?;
        }
        self.remove_ending_in(DAMAGED_SUFFIX)?;
        self.remove_unfinished()?;
        sync_directory(&self.files, &self.directory)
    }

    /// Removes what was begun and never finished. Not while one is being written.
    pub fn remove_unfinished(&self) -> Result<(), StorageError> {
        self.remove_ending_in(&format!("{SUFFIX}{TEMPORARY_SUFFIX}"))
    }

    /// Puts a damaged checkpoint out of the way: it counts as one of those kept no more, and stays to be looked at until
    /// the next [`Self::remove_old`].
    pub fn set_aside(&self, begins: LogPosition) -> Result<(), StorageError> {
        let path = self.path(begins);
        let aside = self.directory.join(format!("{begins:020}{DAMAGED_SUFFIX}"));
        self.files
            .rename(&path, &aside)
            .context("set aside the damaged checkpoint", &path)?;
        sync_directory(&self.files, &self.directory)
    }

    /// Whose log this belongs to.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn remove_ending_in(&self, suffix: &str) -> Result<(), StorageError> {
        for path in self.files.list(&self.directory).context("list", &self.directory)? {
            if path.to_str().is_some_and(|path| path.ends_with(suffix)) {
                self.files
                    .remove_file(&path)
                    .context("remove the unused checkpoint", &path)?;
            }
        }
        Ok(())
    }
}

fn header(version: u32, identity: LogIdentity, begins: LogPosition) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..16].copy_from_slice(&identity.generation.0.to_le_bytes());
    bytes[16..18].copy_from_slice(&identity.shard.0.to_le_bytes());
    bytes[18..20].copy_from_slice(&identity.shard_count.to_le_bytes());
    bytes[24..32].copy_from_slice(&begins.0.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A checkpoint being written. Dropped before it is published, it leaves nothing behind.
#[derive(Debug)]
pub struct CheckpointWriter<F: Files = SystemFiles> {
    files: F,
    file: BufWriter<F::File>,
    directory: PathBuf,
    temporary: PathBuf,
    path: PathBuf,
    part_count: u64,
    bytes: u64,
    synced_bytes: u64,
    published: bool,
}

impl<F: Files> CheckpointWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .context("write the checkpoint", &self.temporary)
    }

    /// Adds the next part. Now and then syncs what there is, and then tells how long that took.
    pub fn part(&mut self, kind: RecordKind, payload: &[u8]) -> Result<Option<Duration>, StorageError> {
        assert!(
            payload.len() <= PART_BYTES_MAX as usize,
            "a part is at most {PART_BYTES_MAX} bytes"
        );
        let kind = [kind.book, kind.kind, kind.version, 0];
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&self.part_count.to_le_bytes()), &kind);
        let checksum = crc32c::crc32c_append(checksum, payload);
        self.part_count += 1;
        self.write(&(payload.len() as u32).to_le_bytes())?;
        self.write(&checksum.to_le_bytes())?;
        self.write(&kind)?;
        self.write(payload)?;
        if self.bytes - self.synced_bytes >= SYNC_INTERVAL_BYTES {
            let began = Instant::now();
            self.file.flush().context("write the checkpoint", &self.temporary)?;
            self.file
                .get_ref()
                .write_back(self.synced_bytes..self.bytes)
                .context("write the checkpoint", &self.temporary)?;
            self.synced_bytes = self.bytes;
            return Ok(Some(began.elapsed()));
        }
        Ok(None)
    }

    /// What a part of `bytes` bytes, more than [`PART_BYTES_MAX`], is refused with.
    pub fn too_large(&self, bytes: usize) -> StorageError {
        let text = format!("a part has {bytes} bytes and may have {PART_BYTES_MAX}");
        StorageError::new(
            "write the checkpoint",
            &self.temporary,
            io::Error::new(io::ErrorKind::InvalidInput, text),
        )
    }

    /// Adds the footer and syncs. The file still has its temporary name.
    pub fn close(&mut self, ends: LogPosition) -> Result<(), StorageError> {
        let mut rest = [0; 16];
        rest[..8].copy_from_slice(&self.part_count.to_le_bytes());
        rest[8..].copy_from_slice(&ends.0.to_le_bytes());
        self.write(&FOOTER_MARK.to_le_bytes())?;
        self.write(&crc32c::crc32c(&rest).to_le_bytes())?;
        self.write(&rest)?;
        self.file.flush().context("write the checkpoint", &self.temporary)?;
        if is_on(Mutation::SkipCheckpointSync) {
            return Ok(());
        }
        self.file
            .get_ref()
            .sync()
            .context("sync the checkpoint", &self.temporary)
    }

    /// Gives a closed checkpoint its name, durably; returns its bytes.
    pub fn publish(mut self) -> Result<u64, StorageError> {
        self.files
            .rename(&self.temporary, &self.path)
            .context("rename the checkpoint to", &self.path)?;
        self.published = true;
        sync_directory(&self.files, &self.directory)?;
        Ok(self.bytes)
    }
}

impl<F: Files> Drop for CheckpointWriter<F> {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed is removed at the next start.
            let _ = self.files.remove_file(&self.temporary);
        }
    }
}

struct Reader<R> {
    file: BufReader<R>,
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl<R: Read> Reader<R> {
    fn damage<E>(&self, offset: u64, fault: &'static str) -> CheckpointError<E> {
        CheckpointError::Damage {
            path: self.path.clone(),
            offset,
            fault,
        }
    }

    fn exact<E>(&mut self, bytes: &mut [u8]) -> Result<(), CheckpointError<E>> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damage(self.size, "the file ends before its footer"))
            }
            result => {
                result.context("read the checkpoint", &self.path)?;
                self.offset += bytes.len() as u64;
                Ok(())
            }
        }
    }

    fn words<E>(&mut self) -> Result<[u32; 2], CheckpointError<E>> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Ok([word(0), word(4)])
    }

    /// The version, which is one that is read.
    fn check_header<E>(&mut self, identity: LogIdentity, begins: LogPosition) -> Result<u32, CheckpointError<E>> {
        let mut bytes = [0; HEADER_BYTES];
        self.exact(&mut bytes)?;
        if bytes[..8] != MAGIC {
            return Err(self.damage(0, "the file is not a checkpoint"));
        }
        let found = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        let checksum = u32::from_le_bytes(bytes[HEADER_BYTES - 4..].try_into().expect("four bytes"));
        let is_whole = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) == checksum;
        // Else it is this field that is damaged.
        let is_read = (CHECKPOINT_FORMAT_VERSION_MIN..=CHECKPOINT_FORMAT_VERSION).contains(&found);
        if !is_read && is_whole {
            return Err(CheckpointError::Version {
                path: self.path.clone(),
                found,
            });
        }
        if !is_read || bytes != header(found, identity, begins) {
            return Err(self.damage(0, "the header does not match its name, place or checksum"));
        }
        Ok(found)
    }

    fn check_footer<E>(&mut self, checksum: u32, part_count: u64) -> Result<LogPosition, CheckpointError<E>> {
        let at = self.offset;
        let mut rest = [0; 16];
        self.exact(&mut rest)?;
        let word = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        if crc32c::crc32c(&rest) != checksum || word(0) != part_count {
            return Err(self.damage(at, "the footer does not match"));
        }
        if self.offset != self.size {
            return Err(self.damage(self.offset, "there are bytes behind the footer"));
        }
        Ok(LogPosition(word(8)))
    }
}
