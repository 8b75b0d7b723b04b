//! A golden directory as one file: every file of a data directory, compressed.
//!
//! Segments are mostly zeros behind their last record, and those are not kept: a file is its size, and its bytes up to the
//! last one that is not zero. All numbers are little-endian:
//!
//! ```text
//! archive  "CWGOLDEN"  and, deflated, any number of files
//! file     path length u16  path  size u64  length u64  so many bytes
//! ```

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::files::written_bytes;

const MAGIC: &[u8] = b"CWGOLDEN";

/// As small as it gets: an archive is made once.
const LEVEL: u8 = 9;

/// Everything under `directory`.
pub fn pack(directory: &Path) -> Vec<u8> {
    let mut plain = Vec::new();
    for path in files_under(directory) {
        let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
        let bytes = fs::read(&path).unwrap();
        let written = written_bytes(&bytes);
        plain.extend((name.len() as u16).to_le_bytes());
        plain.extend(name.as_bytes());
        plain.extend((bytes.len() as u64).to_le_bytes());
        plain.extend((written as u64).to_le_bytes());
        plain.extend(&bytes[..written]);
    }
    [MAGIC, &miniz_oxide::deflate::compress_to_vec(&plain, LEVEL)].concat()
}

/// Makes the directory that was packed.
pub fn unpack(archive: &[u8], directory: &Path) {
    let compressed = archive.strip_prefix(MAGIC).expect("the file is an archive");
    let plain = miniz_oxide::inflate::decompress_to_vec(compressed).expect("the archive is whole");
    let mut rest = &plain[..];
    while !rest.is_empty() {
        let name_bytes = u16::from_le_bytes(take(&mut rest, 2).try_into().unwrap());
        let name = str::from_utf8(take(&mut rest, name_bytes.into())).unwrap();
        let mut number = || u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
        let (size, written) = (number(), number());
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(path).unwrap();
        file.write_all_at(take(&mut rest, written as usize), 0).unwrap();
        file.set_len(size).unwrap();
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    bytes.split_off(..count).expect("the archive is whole")
}

fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_under(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
