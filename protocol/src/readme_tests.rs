//! The tables and the example in this crate's README agree with the code, and so does the shop's table in the server's.
//!
//! `cargo xtask readme` writes those that are generated anew.

use std::fmt::Write as _;

use crate::native::{FRAME_BODY_BYTES_MAX, ReplyOpcode, encode_request};
use crate::{
    AMOUNT_MAX, CART_LINES_MAX, CartLine, Checkout, ErrorCode, HOLD_MS_MAX, NAME_LENGTH_MAX, ORDER_LIST_COUNT_MAX,
    Operation, OrderState, QUANTITY_MAX, Quantity, TEXT_LENGTH_MAX,
};

const README: &str = include_str!("../README.md");
const SERVER_README: &str = include_str!("../../README.md");

/// The rows of the table under this heading row: their cells, without backquotes.
fn table(header: &str) -> Vec<Vec<String>> {
    let mut lines = README
        .lines()
        .skip_while(|line| !format!("{line}\n").starts_with(header));
    assert!(lines.next().is_some(), "no table {header}");
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect()
        })
        .collect()
}

fn first_two(header: &str) -> Vec<(String, String)> {
    table(header)
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect()
}

/// The lines of the table of requests, as the declarations say.
fn request_lines() -> String {
    let mut lines = String::from("| `0x01` | `PING` | nothing | `OK` |\n");
    for spec in Operation::SPECS {
        let fields = spec.fields.iter().map(|field| format!("{} {}", field.name, field.wire));
        let fields = fields.reduce(|all, field| all + " · " + &field);
        let replies = spec.replies.iter().map(|reply| format!("`{}`", reply.as_str()));
        let replies = replies
            .reduce(|all, reply| all + ", " + &reply)
            .expect("every command has a reply");
        let note = if spec.answer_note.is_empty() { "" } else { ": " };
        writeln!(
            lines,
            "| `{:#04x}` | `{}` | {} | {replies}{note}{} |",
            spec.opcode,
            spec.name,
            fields.as_deref().unwrap_or("nothing"),
            spec.answer_note
        )
        .expect("a string takes all");
    }
    lines
}

/// Holds the table under these two lines to its rows, or writes them anew.
fn hold(page: &str, path: &str, header: &str, rows: &str) {
    let (before, rest) = page.split_once(header).expect("the table's header");
    let (listed, after) = rest.split_once("\n\n").expect("an empty line ends a table");
    if std::env::var_os("CARTWRIGHT_UPDATE_README").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        return std::fs::write(path, format!("{before}{header}{rows}\n{after}")).expect("a writable checkout");
    }
    assert_eq!(
        format!("{listed}\n"),
        rows,
        "the table is behind: run `cargo xtask readme`"
    );
}

#[test]
fn the_table_of_requests_is_that_of_the_declarations() {
    let header = "| opcode | name | body | replies, besides `ERROR` |\n| --- | --- | --- | --- |\n";
    hold(README, "README.md", header, &request_lines());
}

#[test]
fn the_servers_table_of_the_shop_is_that_of_the_declarations() {
    let mut rows = String::new();
    for spec in Operation::SPECS {
        let command = format!("{} {}", spec.name, spec.syntax.replace("...", "…"));
        writeln!(rows, "| `{}` | {} |", command.trim_end(), spec.manual).expect("a string takes all");
    }
    let header = "| command | answer |\n| --- | --- |\n";
    hold(SERVER_README, "../README.md", header, &rows);
}

#[test]
fn the_table_of_replies_is_that_of_the_codes() {
    let replies: Vec<_> = ReplyOpcode::ALL
        .iter()
        .map(|&opcode| (format!("{:#04x}", opcode as u8), opcode.as_str().to_owned()))
        .collect();

    assert_eq!(first_two("| opcode | name | body |\n"), replies);
}

#[test]
fn the_error_table_is_the_codes() {
    let codes: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| ((*code as u8).to_string(), code.as_str().to_owned()))
        .collect();
    assert_eq!(first_two("| code | name |"), codes);
}

#[test]
fn the_state_table_is_the_codes() {
    let states: Vec<_> = OrderState::ALL
        .iter()
        .map(|state| ((*state as u8).to_string(), state.as_str().to_owned()))
        .collect();
    assert_eq!(first_two("| state | name |"), states);
}

#[test]
fn the_limits_are_the_constants() {
    let limits = [
        ("FRAME_BODY_BYTES_MAX", FRAME_BODY_BYTES_MAX as u64),
        ("NAME_LENGTH_MAX", NAME_LENGTH_MAX as u64),
        ("TEXT_LENGTH_MAX", TEXT_LENGTH_MAX as u64),
        ("CART_LINES_MAX", CART_LINES_MAX as u64),
        ("QUANTITY_MAX", u64::from(QUANTITY_MAX)),
        ("AMOUNT_MAX", AMOUNT_MAX),
        ("HOLD_MS_MAX", u64::from(HOLD_MS_MAX)),
        ("ORDER_LIST_COUNT_MAX", u64::from(ORDER_LIST_COUNT_MAX)),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_string()));
    assert_eq!(first_two("| constant | value |"), limits);
}

#[test]
fn the_worked_example_is_what_the_code_writes() {
    let example = README.split("## Worked example").nth(1).expect("an example");
    let example = example.split("```").nth(1).expect("a block");
    let documented: Vec<u8> = example
        .lines()
        .flat_map(|line| line.split("   ").next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect();
    let line = |sku: &str, units| CartLine {
        sku: sku.parse().unwrap(),
        quantity: Quantity::new(units).unwrap(),
    };
    let checkout = Checkout {
        customer: "ann".parse().unwrap(),
        key: "k1".parse().unwrap(),
        hold_ms: None,
        lines: vec![line("22423", 3), line("85123A", 1)],
    };
    let mut frame = Vec::new();
    encode_request(&mut frame, 7, &Operation::Checkout(Box::new(checkout)));
    assert_eq!(documented.len(), frame.len());
    assert!(
        documented == frame,
        "documented {documented:02x?}\nwritten    {frame:02x?}"
    );
}
