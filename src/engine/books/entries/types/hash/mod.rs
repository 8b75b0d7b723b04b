//! A hash: fields with values. A short list first, a table once it is large.

mod changes;
mod image;

pub use self::changes::Change;
pub use self::image::HashPieces;
use super::value_type::ValueType;
use crate::engine::books::StateTag;
use crate::engine::books::entries::bytes::ValueBytes;
use crate::engine::books::entries::table::{Keyed, PagedTable, hash_of};
use crate::engine::kernel::hashing::Fingerprint;

/// Most fields of a list, as `hash-max-listpack-entries`.
pub const LIST_FIELDS_MAX: usize = 128;

/// Longest field or value in a list, as `hash-max-listpack-value`.
pub const LIST_BYTES_MAX: usize = 64;

/// How many bits a place in a hash has: what a cursor of `HSCAN` holds.
pub const PLACE_BITS: u32 = 48;

/// A field with its value.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: ValueBytes,
    /// What it holds.
    pub value: ValueBytes,
}

impl Keyed for Field {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

#[derive(Clone, Debug)]
enum Fields {
    /// In the order in which they were set first.
    List(Vec<Field>),
    Table(PagedTable<Field>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Hash {
    fields: Fields,
    /// Of all names and values.
    content_bytes: usize,
}

impl Default for Hash {
    fn default() -> Self {
        Self {
            fields: Fields::List(Vec::new()),
            content_bytes: 0,
        }
    }
}

impl Hash {
    /// A hash that is a table from the start.
    pub fn table() -> Self {
        Self {
            fields: Fields::Table(PagedTable::default()),
            content_bytes: 0,
        }
    }

    /// Bytes of all names and values; known without a look at each.
    pub const fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// Its table, where it is one.
    pub const fn as_table(&self) -> Option<&PagedTable<Field>> {
        match &self.fields {
            Fields::List(_) => None,
            Fields::Table(table) => Some(table),
        }
    }

    /// Whether it is a list.
    pub const fn is_list(&self) -> bool {
        matches!(self.fields, Fields::List(_))
    }

    /// How many fields it has.
    pub const fn len(&self) -> usize {
        match &self.fields {
            Fields::List(list) => list.len(),
            Fields::Table(table) => table.len(),
        }
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a field holds.
    pub fn get(&self, name: &[u8]) -> Option<&ValueBytes> {
        let field = match &self.fields {
            Fields::List(list) => list.iter().find(|field| *field.name == *name),
            Fields::Table(table) => table.find(hash_of(name), name),
        };
        field.map(|field| &field.value)
    }

    /// Sets a field; whether it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        if let Fields::List(list) = &mut self.fields {
            if name.len() <= LIST_BYTES_MAX && value.len() <= LIST_BYTES_MAX {
                if let Some(field) = list.iter_mut().find(|field| *field.name == *name) {
                    self.content_bytes = self.content_bytes - field.value.len() + value.len();
                    field.value = ValueBytes::new(value);
                    return false;
                }
                if list.len() < LIST_FIELDS_MAX {
                    self.content_bytes += name.len() + value.len();
                    list.push(Field {
                        name: ValueBytes::new(name),
                        value: ValueBytes::new(value),
                    });
                    return true;
                }
            }
            let mut table = PagedTable::default();
            for field in list.drain(..) {
                table.insert_new(hash_of(&field.name), field);
            }
            self.fields = Fields::Table(table);
        }
        let Fields::Table(table) = &mut self.fields else {
            unreachable!("made so above")
        };
        let hash = hash_of(name);
        if let Some(field) = table.find_mut(hash, name) {
            self.content_bytes = self.content_bytes - field.value.len() + value.len();
            field.value = ValueBytes::new(value);
            return false;
        }
        self.content_bytes += name.len() + value.len();
        let field = Field {
            name: ValueBytes::new(name),
            value: ValueBytes::new(value),
        };
        table.insert_new(hash, field);
        true
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let removed = match &mut self.fields {
            Fields::List(list) => {
                let index = list.iter().position(|field| *field.name == *name);
                index.map(|index| list.remove(index))
            }
            Fields::Table(table) => table.remove(hash_of(name), name),
        };
        if let Some(field) = &removed {
            self.content_bytes -= field.name.len() + field.value.len();
        }
        removed.is_some()
    }

    /// Every field. A list's in the order in which they were set first.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        let (list, table) = match &self.fields {
            Fields::List(list) => (&list[..], None),
            Fields::Table(table) => (&[][..], Some(table)),
        };
        list.iter().chain(table.into_iter().flat_map(PagedTable::iter))
    }

    /// Walks fields from a place on until about `count` were met; where to go on, or `None` at the end. A list is met
    /// as a whole.
    pub fn walk<'a>(&'a self, from: u64, count: usize, meet: impl FnMut(&'a Field)) -> Option<u64> {
        match &self.fields {
            Fields::List(list) => {
                list.iter().for_each(meet);
                None
            }
            Fields::Table(table) => table.walk(from, PLACE_BITS, count, meet),
        }
    }

    /// The first field from a place on, if there is one behind it. For tables.
    pub fn first_from(&self, place: u64) -> Option<&Field> {
        match &self.fields {
            Fields::List(list) => list.first(),
            Fields::Table(table) => table.first_from(place, PLACE_BITS),
        }
    }
}

impl ValueType for Hash {
    const NAME: &'static str = "hash";
    const NUMBER: u64 = 2;
    const IMAGE_KINDS: &'static [u8] = image::KINDS;

    type Change<'a> = Change<'a>;
    type Pieces = HashPieces;

    fn encoding(&self) -> &'static str {
        if self.is_list() { "listpack" } else { "hashtable" }
    }

    fn heap_bytes(&self) -> usize {
        self.iter()
            .map(|field| size_of::<Field>() + field.name.heap_bytes() + field.value.heap_bytes())
            .sum()
    }

    fn is_gone(&self) -> bool {
        self.is_empty()
    }

    fn made_by(change: Change<'_>) -> Option<Self> {
        change.make()
    }

    fn apply(&mut self, change: Change<'_>) {
        change.apply(self);
    }

    fn put_image(&self, image: &mut Vec<u8>) {
        image::put(image, self);
    }

    fn image_bytes_max(&self) -> usize {
        image::bytes_max(self)
    }

    fn read_image(kind: u8, body: &[u8]) -> Option<Self> {
        image::read(kind, body)
    }

    fn encoded_anew(self) -> Self {
        let mut anew = Self::default();
        for field in self.iter() {
            anew.set(&field.name, &field.value);
        }
        anew
    }

    fn pieces(&self) -> Option<HashPieces> {
        HashPieces::of(self)
    }

    fn next_piece(pieces: &mut HashPieces, key_bytes: usize) -> Option<Vec<u8>> {
        pieces.next(key_bytes)
    }

    fn add_piece(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        image::add(self, kind, body)
    }

    /// Its fields say all.
    fn hash_into(&self, _entry: &mut Fingerprint) {}

    fn elements_hash(&self, fingerprint: &mut Fingerprint, key: &[u8]) -> u64 {
        let hashes = self.iter().map(|field| {
            let field = fingerprint
                .begin(StateTag::ELEMENT)
                .bytes(key)
                .bytes(&field.name)
                .bytes(&field.value);
            field.finish()
        });
        hashes.fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hash_holds_is_counted_as_it_changes() {
        let mut hash = Hash::default();
        let counted = |hash: &Hash| {
            hash.iter()
                .map(|field| field.name.len() + field.value.len())
                .sum::<usize>()
        };
        for round in 0..3usize {
            for number in 0..200usize {
                hash.set(number.to_string().as_bytes(), &vec![b'v'; (number * 7 + round) % 90]);
                assert_eq!(hash.content_bytes(), counted(&hash));
            }
            for number in (0..250usize).step_by(3) {
                hash.remove(number.to_string().as_bytes());
                assert_eq!(hash.content_bytes(), counted(&hash));
            }
        }
    }

    #[test]
    fn a_hash_becomes_a_table_where_redis_makes_it_one() {
        let mut hash = Hash::default();
        for number in 0..LIST_FIELDS_MAX {
            hash.set(number.to_string().as_bytes(), b"v");
        }
        assert!(hash.is_list());
        assert!(!hash.set(b"7", &[b'x'; LIST_BYTES_MAX]) && hash.is_list());
        assert!(hash.set(b"one more", b"v") && !hash.is_list());
        assert_eq!(
            (hash.len(), hash.iter().count()),
            (LIST_FIELDS_MAX + 1, LIST_FIELDS_MAX + 1)
        );
        let mut hash = Hash::default();
        hash.set(b"f", &[b'x'; LIST_BYTES_MAX + 1]);
        assert!(!hash.is_list());
        assert!(hash.remove(b"f") && !hash.remove(b"f") && hash.is_empty());
    }
}
