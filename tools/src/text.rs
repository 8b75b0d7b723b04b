//! Numbers as people read them.

/// With commas between thousands.
pub fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Pence as pounds.
pub fn pounds(pence: u128) -> String {
    format!("£{}.{:02}", grouped(pence / 100), pence % 100)
}

/// Microseconds, in the unit that fits.
pub fn duration(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.2} ms", microseconds as f64 / 1e3),
        _ => format!("{:.2} s", microseconds as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0u64, 999, 1_000, 5_588_375].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "5,588,375"]);
        assert_eq!(pounds(123_405), "£1,234.05");
        assert_eq!([7, 1_500, 2_340_000].map(duration), ["7 µs", "1.50 ms", "2.34 s"]);
    }
}
