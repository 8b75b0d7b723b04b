//! Refusals: a code that never changes its meaning, and a line of text for people.

use compact_str::{CompactString, format_compact};

/// Why a request was refused. The numbers are the native protocol's and the log's; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
#[repr(u8)]
pub enum ErrorCode {
    /// Malformed: wrong count of arguments, not a number, out of range.
    Err = 1,
    /// A line can't be taken.
    OutOfStock = 2,
    /// No such item.
    NoItem = 3,
    /// No such order.
    NoOrder = 4,
    /// No such customer.
    NoCustomer = 5,
    /// More than the item's limit for this customer.
    Limit = 6,
    /// Currencies are mixed.
    Currency = 7,
    /// The key was used with another request.
    Conflict = 8,
    /// Not possible in the order's state.
    State = 9,
    /// Stock would become negative.
    Insufficient = 10,
    /// The wallet does not hold enough.
    Funds = 11,
    /// The payment came after the stock was gone.
    Late = 12,
    /// A bound was reached; try again.
    Busy = 13,
    /// A request over a stated limit.
    TooBig = 14,
    /// Writes are refused; reads go on.
    ReadOnly = 15,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::Err,
        Self::OutOfStock,
        Self::NoItem,
        Self::NoOrder,
        Self::NoCustomer,
        Self::Limit,
        Self::Currency,
        Self::Conflict,
        Self::State,
        Self::Insufficient,
        Self::Funds,
        Self::Late,
        Self::Busy,
        Self::TooBig,
        Self::ReadOnly,
    ];

    /// The code as the first word of an error line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Err => "ERR",
            Self::OutOfStock => "OUTOFSTOCK",
            Self::NoItem => "NOITEM",
            Self::NoOrder => "NOORDER",
            Self::NoCustomer => "NOCUSTOMER",
            Self::Limit => "LIMIT",
            Self::Currency => "CURRENCY",
            Self::Conflict => "CONFLICT",
            Self::State => "STATE",
            Self::Insufficient => "INSUFFICIENT",
            Self::Funds => "FUNDS",
            Self::Late => "LATE",
            Self::Busy => "BUSY",
            Self::TooBig => "TOOBIG",
            Self::ReadOnly => "READONLY",
        }
    }

    /// The code with this number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == number)
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
#[error("{} {message}", code.as_str())]
pub struct Error {
    /// For programs.
    pub code: ErrorCode,
    /// For people: one line, without the code.
    pub message: CompactString,
}

impl Error {
    /// A refusal with this text.
    pub fn new(code: ErrorCode, message: impl Into<CompactString>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// `ERR` with this text: the request was malformed.
    pub fn malformed(message: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::Err, format_compact!("{message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_begins_with_its_code() {
        let error = Error::new(ErrorCode::OutOfStock, "22423 wanted 5, available 3");
        assert_eq!(error.to_string(), "OUTOFSTOCK 22423 wanted 5, available 3");
    }

    #[test]
    fn every_code_is_found_by_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code as u8), Some(code));
        }
        assert_eq!(ErrorCode::from_number(0), None);
    }
}
