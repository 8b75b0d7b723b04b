//! The rows of the shop's own commands: what their declarations say.

use cartwright_protocol::Operation;
use cartwright_protocol::shop::{HomeKind, Spec};

use super::{Command, Handler, KeyPositions, ONE_KEY, row};

const fn declared(spec: &Spec) -> Command {
    let handler = Handler::Shop(spec.parse);
    let keys = match spec.home {
        Some(HomeKind::Sku | HomeKind::Customer) => ONE_KEY,
        // An order's id is no key: it carries its slot, which is not that of its digits.
        Some(HomeKind::Order) | None => KeyPositions::None,
    };
    row(
        spec.lower_name,
        spec.arity,
        spec.flags,
        spec.syntax,
        spec.summary,
        handler,
    )
    .with_keys(keys)
}

const ROWS: [Command; Operation::SPECS.len()] = {
    let mut rows = [declared(Operation::SPECS[0]); Operation::SPECS.len()];
    let mut number = 1;
    while number < rows.len() {
        rows[number] = declared(Operation::SPECS[number]);
        number += 1;
    }
    rows
};

pub(super) const COMMANDS: &[Command] = &ROWS;
