//! Keys and values in a checkpoint: parts behind the slot's own, as of the same position.

use cartwright_core::codec::{Reader, put_number, put_string};
use cartwright_protocol::Slot;
use rkyv::with::InlineAsBox;

use super::checkpoint::EntryImage;
use crate::engine::kernel::archive::{encode, read};
use crate::engine::kernel::ids::RecordKind;
use crate::engine::kernel::restore::Restore;

pub use super::checkpoint::EntriesCursor;

const ENTRIES_1: RecordKind = RecordKind {
    book: super::BOOK,
    kind: 65,
    version: 1,
};

/// Some keys of the slot whose own part came last.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Entries1<'a> {
    slot: u16,
    /// For each key: the key (a string), when it expires (a number; 0: never), whether this continues the value that came
    /// before (a byte), and the value's image (a string).
    #[rkyv(with = InlineAsBox)]
    entries: &'a [u8],
}

impl EntriesCursor {
    /// Encodes the next keys into `buffer`; `None` when there are none. `packed` is memory to do it in.
    pub fn next_part(&mut self, slot: u16, packed: &mut Vec<u8>, buffer: &mut Vec<u8>) -> Option<RecordKind> {
        let images = self.piece()?;
        packed.clear();
        for image in &images {
            put_string(packed, &image.key);
            put_number(packed, image.expires_at);
            packed.push(image.continues.into());
            put_string(packed, &image.image);
        }
        encode(&Entries1 { slot, entries: packed }, buffer);
        Some(ENTRIES_1)
    }
}

fn take_image(reader: &mut Reader<'_>) -> Option<EntryImage> {
    Some(EntryImage {
        key: reader.string()?.to_vec(),
        expires_at: reader.number()?,
        continues: match reader.take(1)? {
            [0] => false,
            [1] => true,
            _ => return None,
        },
        image: reader.string()?.to_vec(),
    })
}

/// Restores a part of this kind; `None` where there is no such kind. The error says what is wrong with it.
pub fn restore_entries(restore: &mut Restore, kind: RecordKind, bytes: &[u8]) -> Option<Result<(), String>> {
    (kind == ENTRIES_1).then(|| {
        let part: &ArchivedEntries1<'_> = read(bytes)?;
        let slot = restore.own_slot(part.slot.to_native())?;
        let mut reader = Reader { bytes: &part.entries };
        while !reader.bytes.is_empty() {
            restore_image(restore, slot, take_image(&mut reader))?;
        }
        Ok(())
    })
}

/// Restores what an image holds. The error says what is wrong with it.
pub fn restore_image(restore: &mut Restore, slot: Slot, image: Option<EntryImage>) -> Result<(), String> {
    let is_restored = image.is_some_and(|image| restore.state.restore_image(slot, image));
    if is_restored {
        Ok(())
    } else {
        Err(format!("slot {} has a key that is none", slot.index()))
    }
}
