//! The command that buys a cart.
//!
//! Its words are its own, since the lines come last and their number says how many they are.

use super::field::{Field, Hold, Lines};
use super::words::{refused_line, set_once, unexpected};
use crate::argument;
use crate::command::Flags;
use crate::resp::{Arguments, parse_u64};
use crate::{CartLine, Customer, Error, Key, Quantity, Receipt, Reply, Sku};

command! {
    /// Takes a whole cart or nothing, and makes an order.
    Checkout = 0x20 "CHECKOUT" {
        /// Who buys.
        customer: Customer,
        /// The request key.
        key: Key = [KEY key],
        /// For how long the order is held, 1 to [`crate::HOLD_MS_MAX`]; `None`: placed at once.
        hold_ms: Option<u32> as Hold = [HOLD ms],
        /// 1 to [`crate::CART_LINES_MAX`] lines.
        lines: Vec<CartLine> as Lines,
    }
    answer: Receipt;
    manual: "map `id state total currency expires_at`; the whole cart or nothing. With `HOLD` the order is held \
        for so long, up to seven days, and then expires by itself";
    home: Customer(customer);
    class: Checkout;
    flags: Flags::WRITE;
    fingerprint: 3;
    words: -6 "customer KEY key [HOLD ms] LINES n sku qty [sku qty ...]" parse_words;
    example: "CHECKOUT" "ann" "KEY" "k1" "HOLD" "60000" "LINES" "2" "22423" "3" "BANK CHARGES" "1000000000";
}

/// `CHECKOUT customer KEY key [HOLD ms] LINES n sku qty …`: the lines come last, the other keywords in any order.
fn parse_words(arguments: Arguments<'_>) -> Result<Checkout, Reply> {
    let customer = <Customer as Field>::parse("customer", arguments.get(1))?;
    let (mut key, mut hold) = (None, None);
    let mut index = 2;
    loop {
        let value = arguments.get(index + 1);
        match arguments.get(index) {
            Some(word) if word.eq_ignore_ascii_case(b"KEY") => set_once(&mut key, "KEY", value)?,
            Some(word) if word.eq_ignore_ascii_case(b"HOLD") => set_once(&mut hold, "HOLD", value)?,
            Some(word) if word.eq_ignore_ascii_case(b"LINES") => break,
            Some(_) => return Err(unexpected(index, "KEY, HOLD, LINES").into()),
            None => return Err(Error::malformed("syntax error: CHECKOUT needs LINES").into()),
        }
        index += 2;
    }
    let Some(key) = key else {
        return Err(Error::malformed("syntax error: CHECKOUT needs a KEY, so that a retry is no second order").into());
    };
    let count = argument::line_count("LINES", arguments.get(index + 1).and_then(parse_u64))?;
    let rest = arguments.from(index + 2);
    if rest.len() != count * 2 {
        let (wanted, found) = (count * 2, rest.len());
        return Err(Error::malformed(format_args!(
            "syntax error: LINES {count} is followed by {wanted} arguments, sku and qty of each line, not by {found}"
        ))
        .into());
    }
    let mut lines = Vec::with_capacity(count);
    let mut words = rest.iter();
    while let (Some(code), Some(units)) = (words.next(), words.next()) {
        match (Sku::new(code), parse_u64(units).and_then(Quantity::new)) {
            (Ok(sku), Some(quantity)) => lines.push(CartLine { sku, quantity }),
            (sku, _) => return Err(refused_line(sku, lines.len() + 1).into()),
        }
    }
    Ok(Checkout {
        customer,
        key: <Key as Field>::parse("KEY", Some(key))?,
        hold_ms: <Hold as Field>::parse("HOLD", hold)?,
        lines,
    })
}
