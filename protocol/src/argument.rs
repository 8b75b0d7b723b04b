//! The checks of arguments that both front ends make, so that a refusal has one text on both.
//!
//! Called by the kinds of fields, for a body and for a word alike. Every function takes the argument's name for the
//! message and gives the checked type, or the refusal to answer with.

use std::fmt::Display;

use crate::{
    AMOUNT_MAX, Amount, CART_LINES_MAX, Currency, Error, ErrorCode, HOLD_MS_MAX, NameError, ORDER_LIST_COUNT_MAX,
    QUANTITY_MAX, Quantity,
};

/// Names the argument in front of what is wrong with it.
#[inline]
pub fn named<T>(argument: impl Display, checked: Result<T, NameError>) -> Result<T, Error> {
    checked.map_err(|error| Error::malformed(format_args!("{argument} {error}")))
}

/// Units: 1 to [`QUANTITY_MAX`]; `None` is what was no integer at all.
#[inline]
pub fn quantity(argument: impl Display, units: Option<u64>) -> Result<Quantity, Error> {
    units
        .and_then(Quantity::new)
        .ok_or_else(|| Error::malformed(format_args!("{argument} must be an integer from 1 to {QUANTITY_MAX}")))
}

/// Units where 0 says that none are meant: a limit, a backorder allowance.
pub fn quantity_or_none(argument: impl Display, units: Option<u64>) -> Result<Option<Quantity>, Error> {
    match units {
        Some(0) => Ok(None),
        Some(units) if Quantity::new(units).is_some() => Ok(Quantity::new(units)),
        _ => Err(Error::malformed(format_args!(
            "{argument} must be an integer from 0 (none) to {QUANTITY_MAX}"
        ))),
    }
}

/// Money: 0 to [`AMOUNT_MAX`] minor units.
pub fn amount(argument: impl Display, minor_units: Option<u64>) -> Result<Amount, Error> {
    minor_units.and_then(Amount::new).ok_or_else(|| {
        Error::malformed(format_args!(
            "{argument} must be an integer of minor units from 0 to {AMOUNT_MAX}"
        ))
    })
}

/// A currency: three capital letters.
pub fn currency(argument: impl Display, code: &[u8]) -> Result<Currency, Error> {
    Currency::new(code).ok_or_else(|| {
        Error::malformed(format_args!(
            "{argument} must be an ISO 4217 code: three capital letters"
        ))
    })
}

/// A change of stock: not 0, magnitude at most [`QUANTITY_MAX`].
pub fn delta(argument: impl Display, units: Option<i64>) -> Result<i64, Error> {
    units
        .filter(|&units| units != 0 && units.unsigned_abs() <= u64::from(QUANTITY_MAX))
        .ok_or_else(|| {
            Error::malformed(format_args!(
                "{argument} must be an integer from -{QUANTITY_MAX} to {QUANTITY_MAX}, not 0"
            ))
        })
}

/// A hold: 1 to [`HOLD_MS_MAX`] milliseconds.
pub fn hold_ms(argument: impl Display, milliseconds: Option<u64>) -> Result<u32, Error> {
    milliseconds
        .filter(|milliseconds| (1..=u64::from(HOLD_MS_MAX)).contains(milliseconds))
        .map(|milliseconds| milliseconds as u32)
        .ok_or_else(|| {
            Error::malformed(format_args!(
                "{argument} must be an integer of milliseconds from 1 to {HOLD_MS_MAX}"
            ))
        })
}

/// How many orders to list: 1 to [`ORDER_LIST_COUNT_MAX`].
pub fn list_count(argument: impl Display, count: Option<u64>) -> Result<u32, Error> {
    count
        .filter(|count| (1..=u64::from(ORDER_LIST_COUNT_MAX)).contains(count))
        .map(|count| count as u32)
        .ok_or_else(|| {
            Error::malformed(format_args!(
                "{argument} must be an integer from 1 to {ORDER_LIST_COUNT_MAX}"
            ))
        })
}

/// The number of a cart's lines: 1 to [`CART_LINES_MAX`]; `TOOBIG` above.
#[inline]
pub fn line_count(argument: impl Display, lines: Option<u64>) -> Result<usize, Error> {
    match lines {
        Some(lines) if (1..=CART_LINES_MAX as u64).contains(&lines) => Ok(lines as usize),
        Some(lines) if lines > CART_LINES_MAX as u64 => Err(Error::new(
            ErrorCode::TooBig,
            compact_str::format_compact!("a cart has at most {CART_LINES_MAX} lines, this one has {lines}"),
        )),
        _ => Err(Error::malformed(format_args!(
            "{argument} must be an integer from 1 to {CART_LINES_MAX}"
        ))),
    }
}

/// An order's number as sent: 1 to 2^63 - 1. Most such integers belong to no order, and some never can:
/// [`crate::OrderId::from_integer`] tells.
pub fn order_number(argument: impl Display, integer: Option<u64>) -> Result<u64, Error> {
    integer.filter(|integer| (1..1 << 63).contains(integer)).ok_or_else(|| {
        Error::malformed(format_args!(
            "{argument} must be an order id: a positive integer below 2^63"
        ))
    })
}

/// The refusal of an order that cannot exist.
pub fn no_order(integer: u64) -> Error {
    Error::new(ErrorCode::NoOrder, compact_str::format_compact!("{integer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_inside_and_their_neighbours_outside() {
        assert!(quantity("qty", Some(1)).is_ok() && quantity("qty", Some(u64::from(QUANTITY_MAX))).is_ok());
        assert!(quantity("qty", Some(0)).is_err() && quantity("qty", Some(u64::from(QUANTITY_MAX) + 1)).is_err());
        assert!(delta("delta", Some(-i64::from(QUANTITY_MAX))).is_ok());
        assert!(delta("delta", Some(0)).is_err() && delta("delta", Some(i64::MIN)).is_err());
        assert!(hold_ms("HOLD", Some(0)).is_err() && hold_ms("HOLD", Some(u64::from(HOLD_MS_MAX))).is_ok());
        assert_eq!(line_count("LINES", Some(4097)).unwrap_err().code, ErrorCode::TooBig);
        assert_eq!(line_count("LINES", Some(0)).unwrap_err().code, ErrorCode::Err);
        assert!(order_number("id", Some(1 << 63)).is_err() && order_number("id", Some(0)).is_err());
        assert_eq!(quantity_or_none("LIMIT", Some(0)), Ok(None));
        assert!(quantity_or_none("LIMIT", None).is_err());
    }

    #[test]
    fn a_refusal_names_the_argument() {
        assert_eq!(
            quantity(format_args!("qty of line {}", 3), None)
                .unwrap_err()
                .to_string(),
            "ERR qty of line 3 must be an integer from 1 to 1000000000"
        );
    }
}
