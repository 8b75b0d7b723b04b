//! The rows of the commands about hashes.

use super::Command;

pub(super) static COMMANDS: &[Command] = &[];
