//! Stock lines as bytes, in records: each its SKU, its units, and where they are.
//!
//! SKU (a string), units, number of locations (0: all at `main`), and for each its name and units; strings and numbers as
//! in [`cartwright_core::codec`].

use cartwright_core::codec::{Reader, put_number, put_string};
use cartwright_protocol::{Location, Sku};

use crate::engine::books::shop::inventory::{Allocation, Allocations, StockChange, StockLine};

/// Adds lines, without their number.
pub fn put_lines(bytes: &mut Vec<u8>, lines: &[StockLine]) {
    for line in lines {
        put_string(bytes, line.sku.as_bytes());
        put_number(bytes, line.quantity.into());
        match &line.allocations {
            Allocations::Main => bytes.push(0),
            Allocations::Split(parts) => {
                put_number(bytes, parts.len() as u64);
                for part in parts {
                    put_string(bytes, part.location.as_bytes());
                    put_number(bytes, part.quantity.into());
                }
            }
        }
    }
}

/// Reads lines to the end of the bytes; `None` where there is something else.
pub fn read_lines(bytes: &[u8]) -> Option<Vec<StockLine>> {
    let mut reader = Reader { bytes };
    let mut lines = Vec::new();
    while !reader.bytes.is_empty() {
        lines.push(take_line(&mut reader)?);
    }
    Some(lines)
}

fn take_line(reader: &mut Reader<'_>) -> Option<StockLine> {
    let sku = Sku::new(reader.string()?).ok()?;
    let quantity = u32::try_from(reader.number()?).ok()?;
    let mut parts = Vec::new();
    for _ in 0..reader.number()? {
        parts.push(Allocation {
            location: Location::new(reader.string()?).ok()?,
            quantity: u32::try_from(reader.number()?).ok()?,
        });
    }
    let allocations = if parts.is_empty() {
        Allocations::Main
    } else {
        Allocations::Split(parts.into())
    };
    Some(StockLine {
        sku,
        quantity,
        allocations,
    })
}

/// The number of a change of stock in records.
pub const fn number_of(change: StockChange) -> u8 {
    match change {
        StockChange::Hold => 1,
        StockChange::Commit => 2,
        StockChange::Confirm => 3,
        StockChange::ReleaseHeld => 4,
        StockChange::ReleaseCommitted => 5,
    }
}

/// The change of stock with this number.
pub const fn change_of(number: u8) -> Option<StockChange> {
    Some(match number {
        1 => StockChange::Hold,
        2 => StockChange::Commit,
        3 => StockChange::Confirm,
        4 => StockChange::ReleaseHeld,
        5 => StockChange::ReleaseCommitted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back_and_no_part_of_one() {
        let lines = vec![
            StockLine {
                sku: "a".parse().unwrap(),
                quantity: 3,
                allocations: Allocations::Main,
            },
            StockLine {
                sku: "84660B".parse().unwrap(),
                quantity: 1000,
                allocations: Allocations::Split(
                    [("main", 1), ("shelf", 999)]
                        .map(|(location, quantity)| Allocation {
                            location: location.parse().unwrap(),
                            quantity,
                        })
                        .into(),
                ),
            },
        ];
        let mut bytes = Vec::new();
        put_lines(&mut bytes, &lines);
        assert_eq!(read_lines(&bytes).as_ref(), Some(&lines));
        let mut first = Vec::new();
        put_lines(&mut first, &lines[..1]);
        for cut in (0..bytes.len()).filter(|&cut| cut != 0 && cut != first.len()) {
            assert_eq!(read_lines(&bytes[..cut]), None);
        }
    }

    #[test]
    fn every_change_of_stock_has_its_number() {
        for number in 0..=u8::MAX {
            assert!(change_of(number).is_none_or(|change| number_of(change) == number));
        }
        assert_eq!((0..=u8::MAX).filter_map(change_of).count(), 5);
    }
}
