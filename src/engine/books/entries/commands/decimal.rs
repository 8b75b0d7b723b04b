//! Decimal fractions as `INCRBYFLOAT` adds them: exactly, to seventeen places, and printed as people write them.
//!
//! Redis adds in the widest float of its machine and prints seventeen places; within what seventeen places can say this
//! comes to the same, and where a float's rounding shows in Redis's answer it does not in this one.

use compact_str::CompactString;

/// Places behind the point that are kept.
const PLACES: u32 = 17;

/// One, in units of the last place.
const ONE: i128 = 10i128.pow(PLACES);

/// Numbers up to here are added exactly: what is above is a float.
const EXACT_MAX: i128 = i128::MAX / ONE / 4;

/// A number.
#[derive(Clone, Copy, Debug)]
pub enum Decimal {
    /// In units of the last place.
    Exact(i128),
    /// Too large for that.
    Float(f64),
}

impl Decimal {
    /// What `text` says, as strictly as Redis: no spaces, nothing behind it, not NaN.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if text.is_empty() || text.len() > 256 || text.starts_with(char::is_whitespace) {
            return None;
        }
        if let Some(exact) = parse_exact(text) {
            return Some(Self::Exact(exact));
        }
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_start_matches(['+', '-']);
        if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') && !digits.starts_with("inf") {
            return None;
        }
        let float: f64 = lower.parse().ok()?;
        (!float.is_nan()).then_some(Self::Float(float))
    }

    /// Both together; `None` where that is no number.
    pub fn plus(self, other: Self) -> Option<Self> {
        if let (Self::Exact(one), Self::Exact(other)) = (self, other) {
            let sum = one + other;
            if sum.abs() <= EXACT_MAX * ONE {
                return Some(Self::Exact(sum));
            }
        }
        let sum = self.to_float() + other.to_float();
        sum.is_finite().then_some(Self::Float(sum))
    }

    /// Whether it is a number like others.
    pub fn is_finite(self) -> bool {
        self.to_float().is_finite()
    }

    fn to_float(self) -> f64 {
        match self {
            Self::Exact(exact) => exact as f64 / ONE as f64,
            Self::Float(float) => float,
        }
    }

    /// In digits: no exponent, no zeros behind the last place that counts.
    pub fn text(self) -> CompactString {
        let text = match self {
            Self::Exact(exact) => {
                let sign = if exact < 0 { "-" } else { "" };
                let (whole, places) = (exact.unsigned_abs() / ONE as u128, exact.unsigned_abs() % ONE as u128);
                format!("{sign}{whole}.{places:017}")
            }
            Self::Float(float) => format!("{float:.17}"),
        };
        let text = text.trim_end_matches('0').trim_end_matches('.');
        CompactString::from(if text == "-0" { "0" } else { text })
    }
}

/// A sign, digits with or without a point, an exponent: in units of the last place, rounded half up.
fn parse_exact(text: &str) -> Option<i128> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && places.is_empty()) || exponent > 60 {
        return None;
    }
    let mut value: i128 = 0;
    // How many places behind the point `value` has.
    let mut scale = (places.len() as i32).saturating_sub(exponent);
    let mut dropped = false;
    for digit in whole.bytes().chain(places.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        if value > i128::MAX / 100 {
            // Beyond what counts, unless it stands before the point.
            scale -= 1;
            dropped = true;
            continue;
        }
        value = value * 10 + i128::from(digit - b'0');
    }
    if dropped && scale < PLACES as i32 {
        return None;
    }
    while scale < PLACES as i32 {
        value = value.checked_mul(10)?;
        scale += 1;
    }
    while scale > PLACES as i32 && value > 0 {
        let last = scale == PLACES as i32 + 1;
        value = (value + if last { 5 } else { 0 }) / 10;
        scale -= 1;
    }
    (value <= EXACT_MAX * ONE).then_some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_people_write() {
        for (one, other, sum) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("0.1", "0.2", "0.3"),
            ("10.6", "-5", "5.6"),
            ("1", "-1", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("3", "1e-17", "3.00000000000000001"),
            ("1e20", "1", "100000000000000000001"),
            ("1e300", "0", &format!("{:.0}", 1e300)),
            ("+5", ".5", "5.5"),
            ("9223372036854775807", "5e-324", "9223372036854775807"),
            ("1", "-1e-2147483648", "1"),
        ] {
            let decimal = |text: &str| Decimal::parse(text.as_bytes()).expect(text);
            assert_eq!(
                decimal(one).plus(decimal(other)).unwrap().text(),
                sum,
                "{one} + {other}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", " 1", "1 ", "abc", "1.2.3", "nan", "1e", "--1", "0x", "1,5"] {
            assert!(Decimal::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        let infinity = Decimal::parse(b"inf").unwrap();
        assert!(infinity.plus(Decimal::Exact(ONE)).is_none());
    }
}
