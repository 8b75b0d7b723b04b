//! `SCAN` and `HSCAN`: walks in pieces whose cursors hold all that the server needs to know.
//!
//! Keys are walked slot by slot, within a slot in the order of its table, which no growth changes. So whatever is there
//! all the time is met, by each walk, though everything around it changes; what is met is met once, unless it was away
//! in between.

use cartwright_core::glob::Pattern;
use cartwright_protocol::resp::{Arguments, parse_i64};
use cartwright_protocol::{SLOT_COUNT, Slot};

use super::answer::Answer;
use super::bytes::ValueBytes;
use super::table::place_of;
use super::value::Entry;
use crate::engine::kernel::ids::{LogPosition, Timestamp};
use crate::engine::kernel::state::State;

/// How many bits of a cursor say where in a slot it stands; those above name the slot.
pub const CURSOR_SLOT_SHIFT: u32 = 34;

/// Elements that one call looks at, unless told.
const COUNT_DEFAULT: usize = 10;

/// Empty slots that one call passes, however few elements it looks at.
const EMPTY_SLOTS_MIN: usize = 2048;

/// A cursor, which Redis reads with `strtoul`: signs and zeros may stand before it, and nothing is 0.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (is_negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}

/// The slot that the cursor in the first argument stands in. `None`: it is no cursor.
pub fn slot_of_cursor(arguments: Arguments<'_>) -> Option<Slot> {
    let cursor = parse_cursor(arguments.get(1)?)?;
    Slot::new(u16::try_from(cursor >> CURSOR_SLOT_SHIFT).ok()?)
}

/// The cursor that stands at this key.
pub fn cursor_at(key: &[u8]) -> u64 {
    (Slot::of(key).index() as u64) << CURSOR_SLOT_SHIFT | place_of(key, CURSOR_SLOT_SHIFT)
}

/// What to walk, and what of it to give.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Where the walk stands.
    pub cursor: u64,
    /// About how many elements to look at.
    pub count: usize,
    /// Names must match it.
    pub pattern: Option<Pattern<'a>>,
    /// Keys must hold a value of this type.
    type_name: Option<&'a [u8]>,
    /// Fields without their values.
    pub no_values: bool,
}

/// What one call found.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Where to go on; 0: that was all.
    pub cursor: u64,
    /// Keys.
    pub names: Vec<ValueBytes>,
    /// What the answer has to wait for.
    pub reveals: LogPosition,
}

impl<'a> Scan<'a> {
    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`.
    pub fn of_keys(arguments: Arguments<'a>) -> Result<Self, Answer> {
        Self::parse(arguments, 1, true)
    }

    /// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`.
    pub fn of_elements(arguments: Arguments<'a>) -> Result<Self, Answer> {
        Self::parse(arguments, 2, false)
    }

    /// The cursor in the argument with this index.
    pub fn check_cursor(arguments: Arguments<'_>, index: usize) -> Result<u64, Answer> {
        let cursor = arguments.get(index).and_then(parse_cursor);
        cursor.ok_or_else(|| Answer::error("ERR invalid cursor"))
    }

    fn parse(arguments: Arguments<'a>, cursor_index: usize, is_of_keys: bool) -> Result<Self, Answer> {
        let cursor = Self::check_cursor(arguments, cursor_index)?;
        let mut scan = Self {
            cursor,
            count: COUNT_DEFAULT,
            pattern: None,
            type_name: None,
            no_values: false,
        };
        let mut index = cursor_index + 1;
        while let Some(word) = arguments.get(index) {
            let value = arguments.get(index + 1);
            match value {
                Some(value) if word.eq_ignore_ascii_case(b"COUNT") => {
                    let count = parse_i64(value).ok_or_else(Answer::not_an_integer)?;
                    if count < 1 {
                        return Err(Answer::syntax_error());
                    }
                    scan.count = count as usize;
                }
                Some(value) if word.eq_ignore_ascii_case(b"MATCH") => scan.pattern = Some(Pattern::new(value)),
                Some(value) if is_of_keys && word.eq_ignore_ascii_case(b"TYPE") => scan.type_name = Some(value),
                _ if !is_of_keys && word.eq_ignore_ascii_case(b"NOVALUES") => {
                    scan.no_values = true;
                    index += 1;
                    continue;
                }
                _ => return Err(Answer::syntax_error()),
            }
            index += 2;
        }
        Ok(scan)
    }

    /// The slot that the cursor stands in; the last for a cursor that was never given.
    pub fn slot(&self) -> Slot {
        let slot = u16::try_from(self.cursor >> CURSOR_SLOT_SHIFT).ok().and_then(Slot::new);
        slot.unwrap_or_else(|| Slot::new(SLOT_COUNT as u16 - 1).expect("the last slot is one"))
    }

    /// Whether an element with this name is wanted.
    pub fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| pattern.matches_key(name))
    }

    /// Whether a key is wanted: it is there, and so are its type and its name.
    pub fn wants_entry(&self, entry: &Entry, now: Timestamp) -> bool {
        let is_of_type = |name: &[u8]| name.eq_ignore_ascii_case(entry.value.type_name().as_bytes());
        entry.is_alive(now) && self.type_name.is_none_or(is_of_type) && self.wants(&entry.key)
    }

    /// Walks keys of this shard from the cursor on, which stands in a slot of it.
    pub fn keys(&self, state: &State, now: Timestamp) -> Scanned {
        let (shard, map) = state.owner();
        let range = map.slots_of(shard);
        let mut scanned = Scanned {
            cursor: 0,
            names: Vec::new(),
            reveals: LogPosition::ZERO,
        };
        let (mut looked, mut passed) = (0, 0);
        let mut index = self.slot().index();
        let mut from = Some(self.cursor & ((1 << CURSOR_SLOT_SHIFT) - 1));
        while range.contains(&index)
            && looked < self.count
            && passed < EMPTY_SLOTS_MIN.max(self.count.saturating_mul(10))
        {
            let number = Slot::new(index as u16).expect("a shard's slots are slots");
            let slot = &state.slot(number).books.entries;
            scanned.reveals = scanned.reveals.max(slot.removed_at);
            if !slot.table.is_empty() {
                let wanted = self.count - looked;
                from = slot.table.walk(from.unwrap_or(0), CURSOR_SLOT_SHIFT, wanted, |entry| {
                    looked += 1;
                    scanned.reveals = scanned.reveals.max(entry.version);
                    if self.wants_entry(entry, now) {
                        scanned.names.push(entry.key.clone());
                    }
                });
                if let Some(from) = from {
                    scanned.cursor = (index as u64) << CURSOR_SLOT_SHIFT | from;
                    return scanned;
                }
            }
            passed += 1;
            index += 1;
            from = None;
        }
        if index < SLOT_COUNT {
            scanned.cursor = (index as u64) << CURSOR_SLOT_SHIFT;
        }
        scanned
    }
}
