//! `SCAN`, slot by slot.

use cartwright_protocol::Slot;
use cartwright_protocol::resp::{Arguments, parse_u64};

/// How many bits of a cursor say where in a slot it stands; those above name the slot.
pub const CURSOR_SLOT_SHIFT: u32 = 34;

/// The slot that the cursor in the first argument stands in. `None`: it is no cursor.
pub fn slot_of_cursor(arguments: Arguments<'_>) -> Option<Slot> {
    let cursor = parse_u64(arguments.get(1)?)?;
    Slot::new(u16::try_from(cursor >> CURSOR_SLOT_SHIFT).ok()?)
}
