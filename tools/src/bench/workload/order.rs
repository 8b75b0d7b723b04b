//! Requests about single items and orders, said in either protocol.
//!
//! Called by the workloads that mix them with checkouts.

use cartwright_protocol::native::encode_request;
use cartwright_protocol::{ItemGet, Operation, OrderCancel, OrderConfirm, OrderId, Sku, StockGet};

use crate::bench::answer::Wire;

/// Appends a RESP command.
pub fn put_words(output: &mut Vec<u8>, words: &[&[u8]]) {
    put_header(output, b'*', words.len() as u64);
    for word in words {
        put_header(output, b'$', word.len() as u64);
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

fn put_header(output: &mut Vec<u8>, kind: u8, count: u64) {
    output.push(kind);
    let mut buffer = [0; DIGITS_MAX];
    output.extend_from_slice(decimal(&mut buffer, count));
    output.extend_from_slice(b"\r\n");
}

/// Digits of the largest `u64`.
pub const DIGITS_MAX: usize = 20;

/// A number's digits, in `buffer`.
pub fn decimal(buffer: &mut [u8; DIGITS_MAX], mut number: u64) -> &[u8] {
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

/// What can be asked of an item or an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// `ITEM.GET`.
    Item(&'a Sku),
    /// `STOCK.GET`.
    Stock(&'a Sku),
    /// `ORDER.CONFIRM`.
    Confirm(u64),
    /// `ORDER.CANCEL`.
    Cancel(u64),
}

/// Appends it.
pub fn put_ask(output: &mut Vec<u8>, wire: Wire, request_id: u64, ask: Ask<'_>) {
    if wire == Wire::Native {
        return encode_request(output, request_id, &operation(ask));
    }
    let mut buffer = [0; DIGITS_MAX];
    match ask {
        Ask::Item(sku) => put_words(output, &[b"ITEM.GET", sku.as_bytes()]),
        Ask::Stock(sku) => put_words(output, &[b"STOCK.GET", sku.as_bytes()]),
        Ask::Confirm(id) => put_words(output, &[b"ORDER.CONFIRM", decimal(&mut buffer, id)]),
        Ask::Cancel(id) => put_words(output, &[b"ORDER.CANCEL", decimal(&mut buffer, id)]),
    }
}

fn operation(ask: Ask<'_>) -> Operation {
    let order = |id| OrderId::from_integer(id).expect("a receipt's id is an order's");
    match ask {
        Ask::Item(sku) => Operation::ItemGet(ItemGet { sku: sku.clone() }),
        Ask::Stock(sku) => Operation::StockGet(StockGet {
            sku: sku.clone(),
            location: None,
        }),
        Ask::Confirm(id) => Operation::OrderConfirm(OrderConfirm {
            id: order(id),
            key: None,
        }),
        Ask::Cancel(id) => Operation::OrderCancel(OrderCancel {
            id: order(id),
            key: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_resp_command() {
        let mut output = Vec::new();
        put_ask(&mut output, Wire::Resp, 1, Ask::Cancel(u64::MAX));
        assert_eq!(output, b"*2\r\n$12\r\nORDER.CANCEL\r\n$20\r\n18446744073709551615\r\n");
        assert_eq!(decimal(&mut [0; DIGITS_MAX], 0), b"0");
    }
}
