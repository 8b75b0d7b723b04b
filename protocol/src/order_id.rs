//! Order ids: a sequence number within a slot, and the slot, in one integer.

use crate::slot::{SLOT_COUNT, Slot};

const SLOT_BITS: u32 = SLOT_COUNT.trailing_zeros();

/// Issued by the server: positive, below 2^63, never reused, never decreasing within a customer.
///
/// The low 14 bits are the slot of the order's customer, so the id alone finds its shard; above them a sequence number
/// from 1 within that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct OrderId(u64);

impl OrderId {
    /// Largest sequence number within a slot.
    pub const SEQUENCE_MAX: u64 = (1 << (63 - SLOT_BITS)) - 1;

    /// The id of the `sequence`-th order of `slot`.
    pub fn new(slot: Slot, sequence: u64) -> Self {
        assert!(
            (1..=Self::SEQUENCE_MAX).contains(&sequence),
            "an order's sequence number is from 1 to 2^49 - 1"
        );
        Self(sequence << SLOT_BITS | slot.index() as u64)
    }

    /// An id as a client sent it; `None` where no order can have it.
    pub fn from_integer(integer: u64) -> Option<Self> {
        let sequence = integer >> SLOT_BITS;
        (1..=Self::SEQUENCE_MAX).contains(&sequence).then_some(Self(integer))
    }

    /// The id as an integer.
    pub const fn to_integer(self) -> u64 {
        self.0
    }

    /// The slot of the order and of its customer.
    pub fn slot(self) -> Slot {
        Slot::new((self.0 % SLOT_COUNT as u64) as u16).expect("a remainder by the slot count is a slot")
    }

    /// The order's number within its slot, from 1.
    pub const fn sequence(self) -> u64 {
        self.0 >> SLOT_BITS
    }
}

impl std::fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_slot_and_stays_below_two_to_the_63() {
        let slot = Slot::new(16_383).unwrap();
        let id = OrderId::new(slot, OrderId::SEQUENCE_MAX);
        assert_eq!((id.slot(), id.sequence()), (slot, OrderId::SEQUENCE_MAX));
        assert_eq!(id.to_integer(), (1 << 63) - 1);
        assert_eq!(OrderId::from_integer(id.to_integer()), Some(id));
        assert_eq!(OrderId::from_integer(5), None);
        assert_eq!(OrderId::from_integer(1 << 63), None);
    }
}
