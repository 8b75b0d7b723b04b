//! An order as it is kept and logged: one block of bytes, a fifth of what its parts would take as values.
//!
//! Written by a checkout, copied into the log and into checkpoints as it is, changed in place where it changes state.
//! Bytes from a file are checked once, by [`PackedOrder::from_bytes`]; everything else trusts them.
//!
//! Little-endian: a header of 64 bytes (the `*_AT` constants), the customer, the key, then the lines. A line is the SKU's
//! length and bytes, the price and the units as LEB128, and the number of its allocations: 0 is all from `main`, else
//! that many of a location's length and bytes and its units as LEB128.

mod packer;

use cartwright_core::codec::{put_string, take_number};
use cartwright_protocol::{
    Amount, Currency, Customer, Key, LineView, Location, OrderId, OrderState, OrderSummary, OrderView, Receipt, Sku,
};

use crate::engine::books::shop::inventory::{Allocation, Allocations, StockChange, StockLine};
use crate::engine::books::shop::order_states::stock_change;
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::prefetch::prefetch;

pub use packer::{OrderHeader, OrderPacker};

const ID_AT: usize = 0;
const TOTAL_AT: usize = 8;
const CREATED_AT: usize = 16;
const UPDATED_AT: usize = 24;
const FINGERPRINT_AT: usize = 32;
const HOLD_MS_AT: usize = 40;
/// The sequence number of the same customer's order before this one, or 0. Volatile: 0 in logs and checkpoints.
const PREVIOUS_AT: usize = 44;
const LINE_COUNT_AT: usize = 48;
const STATE_AT: usize = 50;
const CUSTOMER_LENGTH_AT: usize = 51;
const KEY_LENGTH_AT: usize = 52;
const CURRENCY_AT: usize = 53;
/// When a held order expires, where that was put off; 0: it was not.
const EXTENDED_TO_AT: usize = 56;
const HEADER_BYTES: usize = 64;

/// See the module's text.
#[derive(Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PackedOrder(Box<[u8]>);

/// One line of a packed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLine<'a> {
    sku: &'a [u8],
    /// Price of one unit at checkout.
    pub price: Amount,
    /// Units ordered.
    pub ordered: u32,
    /// Where they lie while they are open.
    pub allocations: Allocations,
}

impl<'a> PackedLine<'a> {
    /// The SKU's bytes: a valid one's.
    pub const fn sku_bytes(&self) -> &'a [u8] {
        self.sku
    }

    /// What.
    pub fn sku(&self) -> Sku {
        Sku::new(self.sku).expect("a packed SKU was one")
    }
}

/// The lines of an order, one after the other.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> Iterator for Lines<'a> {
    type Item = PackedLine<'a>;

    #[inline]
    fn next(&mut self) -> Option<PackedLine<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(take_line(&mut self.rest).expect("a packed order is whole"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Lines<'_> {}

impl PackedOrder {
    /// Checks bytes that were read from a file. The error says what is wrong with them.
    pub fn check(&self) -> Result<(), &'static str> {
        let bytes = &*self.0;
        if bytes.len() < HEADER_BYTES {
            return Err("an order is shorter than its header");
        }
        if OrderId::from_integer(self.u64_at(ID_AT)).is_none() {
            return Err("an order has no valid id");
        }
        if Amount::new(self.u64_at(TOTAL_AT)).is_none() {
            return Err("an order's total is out of bounds");
        }
        if state_of(bytes[STATE_AT]).is_none() || Currency::new(&bytes[CURRENCY_AT..CURRENCY_AT + 3]).is_none() {
            return Err("an order has no valid state or currency");
        }
        let names_end = HEADER_BYTES + usize::from(bytes[CUSTOMER_LENGTH_AT]) + usize::from(bytes[KEY_LENGTH_AT]);
        if names_end > bytes.len() {
            return Err("an order is shorter than its names");
        }
        if Customer::new(self.customer_bytes()).is_err() || Key::new(self.key_bytes()).is_err() {
            return Err("an order has no valid customer or key");
        }
        let mut rest = &bytes[names_end..];
        for _ in 0..self.line_count() {
            let line = take_line(&mut rest).ok_or("an order's line is cut short")?;
            if Sku::new(line.sku).is_err() {
                return Err("an order's line has no valid SKU");
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err("an order is longer than its lines")
        }
    }

    /// Has its header and its names fetched.
    pub fn prefetch(&self) {
        prefetch(self.0.as_ptr());
        prefetch(self.0.as_ptr().wrapping_add(HEADER_BYTES));
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    /// Its id, which carries the slot.
    pub fn id(&self) -> OrderId {
        OrderId::from_integer(self.u64_at(ID_AT)).expect("a packed id was one")
    }

    /// Who bought.
    pub fn customer(&self) -> Customer {
        Customer::new(self.customer_bytes()).expect("a packed customer was one")
    }

    /// Who bought, as bytes.
    pub fn customer_bytes(&self) -> &[u8] {
        &self.0[HEADER_BYTES..][..self.0[CUSTOMER_LENGTH_AT].into()]
    }

    /// The key it came with.
    pub fn key(&self) -> Key {
        Key::new(self.key_bytes()).expect("a packed key was one")
    }

    /// The key it came with, as bytes.
    pub fn key_bytes(&self) -> &[u8] {
        let start = HEADER_BYTES + usize::from(self.0[CUSTOMER_LENGTH_AT]);
        &self.0[start..][..self.0[KEY_LENGTH_AT].into()]
    }

    /// Tells its request from another with the same key.
    pub fn fingerprint(&self) -> u64 {
        self.u64_at(FINGERPRINT_AT)
    }

    /// Its state.
    pub fn state(&self) -> OrderState {
        state_of(self.0[STATE_AT]).expect("a packed state was one")
    }

    /// The cart's one currency.
    pub fn currency(&self) -> Currency {
        Currency::new(&self.0[CURRENCY_AT..CURRENCY_AT + 3]).expect("a packed currency was one")
    }

    /// Sum of the lines at checkout.
    pub fn total(&self) -> Amount {
        Amount::new(self.u64_at(TOTAL_AT)).expect("a packed total was one")
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        Timestamp(self.u64_at(CREATED_AT))
    }

    /// When it last changed.
    pub fn updated_at(&self) -> Timestamp {
        Timestamp(self.u64_at(UPDATED_AT))
    }

    fn hold_ends_at(&self) -> Option<Timestamp> {
        let hold_ms = self.u32_at(HOLD_MS_AT);
        (hold_ms > 0).then(|| self.created_at().plus_ms(hold_ms.into()))
    }

    /// When it expires, while it is held.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.hold_ends_at()
            .map(|ends_at| match self.u64_at(EXTENDED_TO_AT) {
                0 => ends_at,
                extended_to => Timestamp(extended_to),
            })
            .filter(|_| self.0[STATE_AT] == OrderState::Held as u8)
    }

    /// How many lines it has.
    pub fn line_count(&self) -> u16 {
        u16::from_le_bytes([self.0[LINE_COUNT_AT], self.0[LINE_COUNT_AT + 1]])
    }

    /// Its lines, in the order of the cart; one a SKU.
    pub fn lines(&self) -> Lines<'_> {
        let start = HEADER_BYTES + usize::from(self.0[CUSTOMER_LENGTH_AT]) + usize::from(self.0[KEY_LENGTH_AT]);
        Lines {
            rest: &self.0[start..],
            left: self.line_count(),
        }
    }

    /// The sequence number of the same customer's order before this one; `None` for the first.
    pub fn previous(&self) -> Option<u32> {
        Some(self.u32_at(PREVIOUS_AT)).filter(|&previous| previous > 0)
    }

    /// Links the order to the same customer's order before it.
    pub fn set_previous(&mut self, previous: Option<u32>) {
        put_u32(&mut self.0, PREVIOUS_AT, previous.unwrap_or(0));
    }

    /// Adds the order without its link, with its length before: as checkpoints hold it.
    pub fn put_unlinked(&self, bytes: &mut Vec<u8>) {
        put_string(bytes, &self.0);
        let start = bytes.len() - self.0.len();
        put_u32(&mut bytes[start..], PREVIOUS_AT, 0);
    }

    /// All of it, as it is kept and logged.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes from a file, to be looked at with [`PackedOrder::check`] before anything else.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// What its checkout did to the stock of its lines.
    pub fn made_stock_change(&self) -> StockChange {
        if self.u32_at(HOLD_MS_AT) > 0 {
            StockChange::Hold
        } else {
            StockChange::Commit
        }
    }

    /// Whether its open units are counted in `held` (true) or `committed` (false); `None` where none are open.
    pub fn open_units_are_held(&self) -> Option<bool> {
        match self.state() {
            OrderState::Held => Some(true),
            OrderState::Placed => Some(false),
            OrderState::Cancelled | OrderState::Expired => None,
        }
    }

    /// Units of an item that are neither cancelled nor expired.
    pub fn open_units(&self, sku: &Sku) -> u32 {
        if self.open_units_are_held().is_none() {
            return 0;
        }
        let mut lines = self.lines();
        lines
            .find(|line| line.sku == sku.as_bytes())
            .map_or(0, |line| line.ordered)
    }

    /// Units of a line that are cancelled or expired.
    pub fn cancelled_units(&self, line: &PackedLine<'_>) -> u32 {
        if self.open_units_are_held().is_none() {
            line.ordered
        } else {
            0
        }
    }

    /// Its units, line by line, as they lie in stock while they are open.
    pub fn stock_lines(&self) -> impl Iterator<Item = StockLine> {
        self.lines().map(|line| StockLine {
            sku: line.sku(),
            quantity: line.ordered,
            allocations: line.allocations,
        })
    }

    /// Enters another state; where that closes the order, every line with it.
    pub fn move_to(&mut self, to: OrderState, at: Timestamp) {
        let from = self.state();
        assert!(
            stock_change(from, to).is_some(),
            "an order cannot go from {from} to {to}"
        );
        self.0[STATE_AT] = to as u8;
        put_u64(&mut self.0, UPDATED_AT, at.unix_ms());
    }

    /// Has it expire at another time.
    pub fn extend_to(&mut self, expires_at: Timestamp, at: Timestamp) {
        let state = self.state();
        assert!(
            state == OrderState::Held,
            "an order that is {state} does not expire at any time"
        );
        put_u64(&mut self.0, EXTENDED_TO_AT, expires_at.unix_ms());
        put_u64(&mut self.0, UPDATED_AT, at.unix_ms());
    }

    /// What its checkout answered, whatever has become of it since.
    pub fn receipt(&self) -> Receipt {
        let ends_at = self.hold_ends_at();
        Receipt {
            id: self.id(),
            state: if ends_at.is_some() {
                OrderState::Held
            } else {
                OrderState::Placed
            },
            total: self.total(),
            currency: self.currency(),
            expires_at_ms: ends_at.map_or(0, Timestamp::unix_ms),
        }
    }

    /// The order in a list.
    pub fn summary(&self) -> OrderSummary {
        OrderSummary {
            id: self.id(),
            state: self.state(),
            total: self.total(),
            currency: self.currency(),
            created_at_ms: self.created_at().unix_ms(),
        }
    }

    /// The order as clients see it.
    pub fn view(&self) -> OrderView {
        let line = |line: PackedLine<'_>| LineView {
            sku: line.sku(),
            price: line.price,
            ordered: line.ordered,
            cancelled: self.cancelled_units(&line),
            shipped: 0,
            returned: 0,
        };
        OrderView {
            id: self.id(),
            customer: self.customer(),
            state: self.state(),
            currency: self.currency(),
            total: self.total(),
            created_at_ms: self.created_at().unix_ms(),
            updated_at_ms: self.updated_at().unix_ms(),
            expires_at_ms: self.expires_at().map_or(0, Timestamp::unix_ms),
            lines: self.lines().map(line).collect(),
        }
    }
}

impl std::fmt::Debug for PackedOrder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut order = formatter.debug_struct("PackedOrder");
        if let Err(fault) = self.check() {
            return order.field("fault", &fault).finish_non_exhaustive();
        }
        order
            .field("id", &self.id())
            .field("state", &self.state())
            .field("customer", &self.customer())
            .field("key", &self.key())
            .field("lines", &self.lines().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn state_of(byte: u8) -> Option<OrderState> {
    OrderState::ALL.into_iter().find(|&state| state as u8 == byte)
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

// Inlined into each loop over lines, so that a line stays in registers.
#[inline]
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<PackedLine<'a>> {
    let sku = take_text(rest)?;
    let price = Amount::new(take_number(rest)?)?;
    let ordered = u32::try_from(take_number(rest)?).ok()?;
    let allocations = match take_number(rest)? {
        0 => Allocations::Main,
        count => take_parts(rest, count)?,
    };
    Some(PackedLine {
        sku,
        price,
        ordered,
        allocations,
    })
}

#[cold]
fn take_parts(rest: &mut &[u8], count: u64) -> Option<Allocations> {
    // Each takes at least three bytes: a count beyond that is no count.
    if count > rest.len() as u64 / 3 {
        return None;
    }
    let parts: Option<Box<[Allocation]>> = (0..count)
        .map(|_| {
            Some(Allocation {
                location: Location::new(take_text(rest)?).ok()?,
                quantity: u32::try_from(take_number(rest)?).ok()?,
            })
        })
        .collect();
    parts.map(Allocations::Split)
}

#[inline]
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&length, behind) = rest.split_first()?;
    let (text, behind) = behind.split_at_checked(length.into())?;
    *rest = behind;
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header<'a>(customer: &'a Customer, key: &'a Key, hold_ms: Option<u32>) -> OrderHeader<'a> {
        OrderHeader {
            id: OrderId::new(customer.slot(), 7),
            customer,
            key,
            fingerprint: 99,
            currency: Currency::new(b"GBP").unwrap(),
            total: Amount::new(1234).unwrap(),
            created_at: Timestamp(1_700_000_000_000),
            hold_ms,
        }
    }

    fn packed(hold_ms: Option<u32>, lines: &[(String, u64, u32, Allocations)]) -> PackedOrder {
        let (customer, key) = ("guest".parse().unwrap(), "k-1".parse().unwrap());
        let mut packer = OrderPacker::default();
        packer.begin(&header(&customer, &key, hold_ms));
        for (sku, price, ordered, allocations) in lines {
            packer.line(
                &sku.parse().unwrap(),
                Amount::new(*price).unwrap(),
                *ordered,
                allocations,
            );
        }
        packer.finish()
    }

    fn allocations() -> impl Strategy<Value = Allocations> {
        let part = ("[a-z]{1,40}", 1u32..).prop_map(|(location, quantity)| Allocation {
            location: location.parse().unwrap(),
            quantity,
        });
        prop_oneof![
            3 => Just(Allocations::Main),
            1 => proptest::collection::vec(part, 1..4).prop_map(|parts| Allocations::Split(parts.into())),
        ]
    }

    fn lines() -> impl Strategy<Value = Vec<(String, u64, u32, Allocations)>> {
        let line = (
            "[A-Z0-9]{1,40}",
            0..=cartwright_protocol::AMOUNT_MAX,
            any::<u32>(),
            allocations(),
        );
        proptest::collection::vec(line, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_back(hold_ms in proptest::option::of(1u32..), lines in lines()) {
            let order = packed(hold_ms, &lines);
            prop_assert_eq!(order.check(), Ok(()));
            let read: Vec<_> = order
                .lines()
                .map(|line| (line.sku().to_string(), line.price.minor_units(), line.ordered, line.allocations))
                .collect();
            prop_assert_eq!(read, lines);
            prop_assert_eq!((order.customer(), order.key()), ("guest".parse().unwrap(), "k-1".parse().unwrap()));
            prop_assert_eq!((order.fingerprint(), order.total().minor_units()), (99, 1234));
            let ends_at = hold_ms.map(|hold_ms| order.created_at().plus_ms(hold_ms.into()));
            prop_assert_eq!(order.expires_at(), ends_at);
        }

        #[test]
        fn no_bytes_are_read_beyond_their_end(lines in lines(), cut in any::<prop::sample::Index>(), flip in any::<(prop::sample::Index, u8)>()) {
            let order = packed(None, &lines);
            let cut = PackedOrder(order.0[..cut.index(order.0.len())].into());
            prop_assert!(cut.check().is_err());
            let mut flipped = order;
            let at = flip.0.index(flipped.0.len());
            flipped.0[at] ^= flip.1;
            if flipped.check().is_ok() {
                let _ = (flipped.view(), flipped.receipt(), flipped.stock_lines().count());
            }
        }
    }

    #[test]
    fn a_receipt_stays_as_it_was_given() {
        let mut order = packed(Some(500), &[("A".into(), 1234, 1, Allocations::Main)]);
        let receipt = order.receipt();
        assert_eq!(
            (receipt.state, receipt.expires_at_ms),
            (OrderState::Held, 1_700_000_000_500)
        );
        order.move_to(OrderState::Cancelled, Timestamp(1_700_000_000_100));
        assert_eq!(order.receipt(), receipt);
        assert_eq!((order.expires_at(), order.open_units(&"A".parse().unwrap())), (None, 0));
        assert_eq!(order.view().lines[0].cancelled, 1);
    }
}
