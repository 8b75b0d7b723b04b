//! The rows of the commands about transactions.

use super::Command;

pub(super) static COMMANDS: &[Command] = &[];
