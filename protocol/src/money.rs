//! Money: integer minor units and a currency code. Never floating point.

/// Largest amount of money, in minor units: a price, a line, a total.
pub const AMOUNT_MAX: u64 = 1_000_000_000_000_000;

/// An amount in minor units (pence, cents): 0 to [`AMOUNT_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Amount(u64);

impl Amount {
    /// `None` above [`AMOUNT_MAX`].
    pub const fn new(minor_units: u64) -> Option<Self> {
        if minor_units <= AMOUNT_MAX {
            Some(Self(minor_units))
        } else {
            None
        }
    }

    /// The amount in minor units.
    pub const fn minor_units(self) -> u64 {
        self.0
    }

    /// `self + price × quantity`, or `None` where that passes [`AMOUNT_MAX`].
    #[must_use]
    pub fn plus_line(self, price: Self, quantity: u32) -> Option<Self> {
        price
            .0
            .checked_mul(u64::from(quantity))
            .and_then(|line| line.checked_add(self.0))
            .and_then(Self::new)
    }
}

/// An ISO 4217 alphabetic code: three capital letters.
///
/// The letters are not compared with the list of codes in force: that list changes, and a shop may keep books in a
/// currency that has left it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Currency([u8; 3]);

impl Currency {
    /// `None` unless `code` is three ASCII capital letters.
    pub fn new(code: &[u8]) -> Option<Self> {
        let code: [u8; 3] = code.try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters")
    }

    /// The three letters as bytes.
    pub const fn as_bytes(&self) -> &[u8; 3] {
        &self.0
    }
}

impl std::fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_over_the_largest_amount_is_refused_not_wrapped() {
        let price = Amount::new(AMOUNT_MAX).unwrap();
        assert_eq!(Amount::default().plus_line(price, 1), Some(price));
        assert_eq!(Amount::default().plus_line(price, 2), None);
        assert_eq!(Amount::default().plus_line(price, u32::MAX), None);
        assert_eq!(Amount::new(AMOUNT_MAX + 1), None);
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!(Currency::new(b"GBP").unwrap().as_str(), "GBP");
        for bad in [&b"gbp"[..], b"POUNDS", b"", b"GB", b"GB1"] {
            assert_eq!(Currency::new(bad), None);
        }
    }
}
