//! A type that no command knows: a pile of strings, the latest on top. Only in tests, to show what a type has to bring
//! and that all that holds entries needs to know no more of it.

mod changes;
mod image;

pub use self::changes::Change;
pub use self::image::PilePieces;
use super::value_type::ValueType;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::kernel::hashing::Fingerprint;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pile {
    strings: Vec<ValueBytes>,
}

impl ValueType for Pile {
    const NAME: &'static str = "pile";
    const NUMBER: u64 = 255;
    const IMAGE_KINDS: &'static [u8] = image::KINDS;

    type Change<'a> = Change<'a>;
    type Pieces = PilePieces;

    fn encoding(&self) -> &'static str {
        "heap"
    }

    fn heap_bytes(&self) -> usize {
        self.strings
            .iter()
            .map(|string| size_of::<ValueBytes>() + string.heap_bytes())
            .sum()
    }

    fn is_gone(&self) -> bool {
        self.strings.is_empty()
    }

    fn made_by(change: Change<'_>) -> Option<Self> {
        let mut pile = Self::default();
        matches!(change, Change::Push(_)).then(|| change.apply(&mut pile))?;
        Some(pile)
    }

    fn apply(&mut self, change: Change<'_>) {
        change.apply(self);
    }

    fn put_image(&self, image: &mut Vec<u8>) {
        image::put(image, &self.strings);
    }

    fn image_bytes_max(&self) -> usize {
        image::bytes_max(self)
    }

    fn read_image(kind: u8, body: &[u8]) -> Option<Self> {
        let mut pile = Self::default();
        pile.add_piece(kind, body)?;
        Some(pile)
    }

    fn encoded_anew(self) -> Self {
        self
    }

    fn pieces(&self) -> Option<PilePieces> {
        PilePieces::of(self)
    }

    fn next_piece(pieces: &mut PilePieces, key_bytes: usize) -> Option<Vec<u8>> {
        pieces.next(key_bytes)
    }

    fn add_piece(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        image::add(self, kind, body)
    }

    fn hash_into(&self, entry: &mut Fingerprint) {
        for string in &self.strings {
            entry.bytes(string);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::checkpoint::EntriesCursor;
    use super::super::super::effect::{Effect, are_effects};
    use super::super::super::state::entry_hash;
    use super::super::value::Held;
    use super::*;
    use crate::engine::kernel::ids::{LogPosition, ShardId, ShardMap};
    use crate::engine::kernel::state::State;
    use cartwright_protocol::Slot;

    const KEY: &[u8] = b"a pile";

    fn state() -> State {
        State::new(ShardId(0), ShardMap::new(1))
    }

    fn effect(change: Change<'_>) -> Vec<u8> {
        let mut log = Vec::new();
        let effect = Effect::Change {
            key: KEY,
            change: change.into(),
        };
        effect.encode(&mut log);
        assert!(are_effects(&log));
        log
    }

    fn pile(state: &State) -> Option<&Pile> {
        let slot = state.slot(Slot::of(KEY));
        let entry = slot.books.entries.table.iter().next()?;
        Some(Pile::of(&entry.value).expect("a pile"))
    }

    fn state_hash(state: &State) -> u64 {
        let mut fingerprint = Fingerprint::default();
        let entries = state.slot(Slot::of(KEY)).books.entries.table.iter();
        entries
            .map(|entry| entry_hash(&mut fingerprint, entry))
            .fold(0, u64::wrapping_add)
    }

    #[test]
    fn a_new_type_is_logged_and_replayed() {
        let mut state = state();
        let strings = [&b"one"[..], b"two", &[b'x'; 300]];
        for (at, string) in strings.into_iter().enumerate() {
            state.apply_effects(LogPosition(at as u64 + 1), &effect(Change::Push(string)));
        }
        assert_eq!(pile(&state).map(|pile| pile.strings.len()), Some(3));
        assert_eq!(state.counts.books.entries.entries, 1);
        state.apply_effects(LogPosition(4), &effect(Change::Pop(2)));
        assert_eq!(
            pile(&state).map(|pile| &pile.strings[..]),
            Some(&[ValueBytes::new(b"one")][..])
        );
        state.apply_effects(LogPosition(5), &effect(Change::Pop(1)));
        assert_eq!(
            (pile(&state), state.counts.books.entries.entries),
            (None, 0),
            "without a string it is gone"
        );
    }

    #[test]
    fn a_new_type_is_in_checkpoints_and_in_the_hash_of_the_state() {
        let mut written = state();
        for number in 0..5000u32 {
            let string = [&number.to_le_bytes()[..], &[b'x'; 40]].concat();
            written.apply_effects(LogPosition(number.into()), &effect(Change::Push(&string)));
        }
        let slot = Slot::of(KEY);
        let mut cursor = EntriesCursor::begin(&written.slot(slot).books.entries.table);
        let (mut restored, mut pieces) = (state(), 0);
        while let Some(images) = cursor.piece() {
            pieces += 1;
            for image in images {
                assert!(restored.restore_image(slot, image));
            }
        }
        assert!(pieces > 2, "{pieces} pieces");
        assert_eq!(pile(&restored), pile(&written));
        assert_eq!(state_hash(&restored), state_hash(&written));
        restored.apply_effects(LogPosition(6000), &effect(Change::Pop(1)));
        assert_ne!(state_hash(&restored), state_hash(&written));
    }

    #[test]
    fn a_new_type_shares_copies_and_has_an_image() {
        let mut value = super::super::Change::from(Change::Push(b"one")).make().expect("a pile");
        let copy = value.clone();
        value.apply(Change::Push(b"two").into());
        assert_eq!(Pile::of(&copy).map(|pile| pile.strings.len()), Some(1));
        let mut image = Vec::new();
        value.put_image(&mut image);
        assert!(image.len() <= value.image_bytes_max());
        let read = super::super::Value::read_image(&image).expect("an image");
        assert_eq!(Pile::of(&read), Pile::of(&value));
        assert_eq!((read.type_name(), read.encoding()), ("pile", "heap"));
    }
}
