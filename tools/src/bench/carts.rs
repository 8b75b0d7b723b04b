//! Carts encoded ahead of a run: while it runs, a checkout is a copy of bytes with a fresh key.
//!
//! Used by every workload that checks out. The key is new in every run, so that nothing is answered as a retry.

use cartwright_protocol::Checkout;
use cartwright_protocol::native::frame::encode_frame;
use cartwright_protocol::shop::Command as _;

use super::answer::Wire;
use super::cart_mix::{Cart, customer, sku};

/// Length of a key: a number for the run and one for the request, both in hexadecimal digits.
pub const KEY_BYTES: usize = RUN_DIGITS + REQUEST_DIGITS;
const RUN_DIGITS: usize = 8;
const REQUEST_DIGITS: usize = 12;

const KEY_BLANK: [u8; KEY_BYTES] = [b'0'; KEY_BYTES];

/// How a checkout is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A frame.
    Native,
    /// `CHECKOUT`.
    Resp,
    /// `EVALSHA` of the cart script with this digest.
    Script(String),
}

impl Dialect {
    /// The protocol that it is said on.
    pub const fn wire(&self) -> Wire {
        match self {
            Self::Native => Wire::Native,
            Self::Resp | Self::Script(_) => Wire::Resp,
        }
    }
}

/// One cart in the arena.
#[derive(Clone, Copy, Debug)]
struct Place {
    begin: usize,
    end: usize,
    /// Where the key is, from `begin`.
    key_at: usize,
    line_count: u32,
    units: u64,
}

/// See above. Shared by all workers.
#[derive(Debug)]
pub struct Carts {
    arena: Vec<u8>,
    places: Vec<Place>,
    wire: Wire,
    run_digits: [u8; RUN_DIGITS],
}

impl Carts {
    /// Encodes carts. `run` tells the keys of this run from those of any other.
    pub fn encode(carts: &[Cart], hold_ms: u32, dialect: &Dialect, run: u32) -> Self {
        let mut arena = Vec::new();
        let mut places = Vec::with_capacity(carts.len());
        for cart in carts {
            let begin = arena.len();
            let key_at = match dialect {
                Dialect::Native => put_native(&mut arena, cart, hold_ms),
                Dialect::Resp => put_resp(&mut arena, cart, hold_ms),
                Dialect::Script(digest) => put_script(&mut arena, cart, digest),
            };
            places.push(Place {
                begin,
                end: arena.len(),
                key_at: key_at - begin,
                line_count: cart.lines.len() as u32,
                units: cart.lines.iter().map(|&(_, units)| u64::from(units)).sum(),
            });
        }
        let mut run_digits = [0; RUN_DIGITS];
        put_hexadecimal(&mut run_digits, u64::from(run));
        Self {
            arena,
            places,
            wire: dialect.wire(),
            run_digits,
        }
    }

    /// How many there are; at least one.
    pub const fn count(&self) -> usize {
        self.places.len()
    }

    /// Lines of a cart.
    pub fn line_count(&self, cart: usize) -> u32 {
        self.places[cart].line_count
    }

    /// Units of a cart.
    pub fn units(&self, cart: usize) -> u64 {
        self.places[cart].units
    }

    /// Appends the checkout of a cart, with the key of the `number`-th request of the run.
    pub fn append(&self, output: &mut Vec<u8>, cart: usize, number: u64, request_id: u64) {
        let Place { begin, end, key_at, .. } = self.places[cart];
        let patch = |output: &mut Vec<u8>| {
            let start = output.len();
            output.extend_from_slice(&self.arena[begin..end]);
            let key = &mut output[start + key_at..start + key_at + KEY_BYTES];
            key[..RUN_DIGITS].copy_from_slice(&self.run_digits);
            put_hexadecimal(&mut key[RUN_DIGITS..], number);
        };
        match self.wire {
            Wire::Native => encode_frame(output, Checkout::SPEC.opcode, request_id, patch),
            Wire::Resp => patch(output),
        }
    }
}

fn put_hexadecimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// The body of a checkout's frame; gives where its key is.
fn put_native(arena: &mut Vec<u8>, cart: &Cart, hold_ms: u32) -> usize {
    let name = |arena: &mut Vec<u8>, name: &[u8]| {
        arena.push(name.len() as u8);
        arena.extend_from_slice(name);
    };
    name(arena, customer(cart.customer).as_bytes());
    name(arena, &KEY_BLANK);
    let key_at = arena.len() - KEY_BYTES;
    arena.extend_from_slice(&hold_ms.to_le_bytes());
    arena.extend_from_slice(&(cart.lines.len() as u16).to_le_bytes());
    for &(item, units) in &cart.lines {
        name(arena, sku(item).as_bytes());
        arena.extend_from_slice(&units.to_le_bytes());
    }
    key_at
}

fn put_resp(arena: &mut Vec<u8>, cart: &Cart, hold_ms: u32) -> usize {
    let mut words: Vec<Vec<u8>> = ["CHECKOUT", &customer(cart.customer), "KEY"]
        .map(|word| word.as_bytes().to_vec())
        .to_vec();
    words.push(KEY_BLANK.to_vec());
    let key_word = words.len() - 1;
    if hold_ms > 0 {
        words.extend([b"HOLD".to_vec(), hold_ms.to_string().into_bytes()]);
    }
    words.extend([b"LINES".to_vec(), cart.lines.len().to_string().into_bytes()]);
    for &(item, units) in &cart.lines {
        words.extend([sku(item).into_bytes(), units.to_string().into_bytes()]);
    }
    put_command(arena, &words, key_word) - KEY_BYTES
}

/// What the script takes: its keys are the idempotency key, the counter of orders and the items' stock; its arguments
/// the customer, and the units of each line.
fn put_script(arena: &mut Vec<u8>, cart: &Cart, digest: &str) -> usize {
    let mut words = vec![
        b"EVALSHA".to_vec(),
        digest.as_bytes().to_vec(),
        (cart.lines.len() + 2).to_string().into_bytes(),
    ];
    words.push([b"key:", &KEY_BLANK[..]].concat());
    let key_word = words.len() - 1;
    words.push(b"orders".to_vec());
    words.extend(cart.lines.iter().map(|&(item, _)| stock_key(item).into_bytes()));
    words.push(customer(cart.customer).into_bytes());
    words.extend(cart.lines.iter().map(|&(_, units)| units.to_string().into_bytes()));
    put_command(arena, &words, key_word) - KEY_BYTES
}

/// The key under which a Redis holds an item's stock.
pub fn stock_key(item: usize) -> String {
    format!("stock:{}", sku(item))
}

/// Appends a command; gives where the `marked` word ends.
fn put_command(arena: &mut Vec<u8>, words: &[Vec<u8>], marked: usize) -> usize {
    let mut marked_end = 0;
    arena.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for (place, word) in words.iter().enumerate() {
        arena.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        arena.extend_from_slice(word);
        if place == marked {
            marked_end = arena.len();
        }
        arena.extend_from_slice(b"\r\n");
    }
    marked_end
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cartwright_protocol::Operation;
    use cartwright_protocol::native::{decode_frame, decode_request};

    use super::*;
    use crate::bench::cart_mix::tests::mix;

    #[test]
    fn an_encoded_cart_says_what_was_drawn_with_a_key_of_its_own() {
        let drawn = mix().draw().unwrap();
        let carts = Carts::encode(&drawn, 0, &Dialect::Native, 0xabcd);
        let mut keys = HashSet::new();
        for (number, cart) in drawn.iter().enumerate().take(100) {
            let mut bytes = Vec::new();
            carts.append(&mut bytes, number, number as u64, 5);
            let (frame, _) = decode_frame(&bytes).unwrap().unwrap();
            assert_eq!(frame.request_id, 5);
            let Operation::Checkout(checkout) = decode_request(&frame).unwrap() else {
                panic!("a checkout was encoded")
            };
            let lines: Vec<_> = checkout
                .lines
                .iter()
                .map(|line| (line.sku.to_string(), line.quantity.units()))
                .collect();
            let expected: Vec<_> = drawn[number]
                .lines
                .iter()
                .map(|&(item, units)| (sku(item), units))
                .collect();
            assert_eq!(lines, expected);
            assert_eq!(checkout.customer.as_str(), customer(cart.customer));
            assert!(checkout.key.as_str().starts_with("0000abcd"));
            assert!(keys.insert(checkout.key), "a key is used once");
        }
    }

    #[test]
    fn a_resp_cart_and_a_script_cart_carry_the_key_where_it_belongs() {
        let cart = Cart {
            customer: 1,
            lines: vec![(2, 3)],
        };
        let text = |dialect: &Dialect| {
            let mut bytes = Vec::new();
            Carts::encode(std::slice::from_ref(&cart), 0, dialect, 1).append(&mut bytes, 0, 0xff, 9);
            String::from_utf8(bytes).unwrap().replace("\r\n", " ")
        };
        assert_eq!(
            text(&Dialect::Resp),
            "*8 $8 CHECKOUT $7 u000001 $3 KEY $20 000000010000000000ff $5 LINES $1 1 $7 b000002 $1 3 "
        );
        assert_eq!(
            text(&Dialect::Script("d".to_owned())),
            "*8 $7 EVALSHA $1 d $1 3 $24 key:000000010000000000ff $6 orders $13 stock:b000002 $7 u000001 $1 3 "
        );
    }
}
