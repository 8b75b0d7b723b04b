//! The rows of the commands about keys of any type.

use super::Command;

pub(super) static COMMANDS: &[Command] = &[];
