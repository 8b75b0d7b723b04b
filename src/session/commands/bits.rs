//! The rows of the commands about bits of strings.

use super::Command;

pub(super) static COMMANDS: &[Command] = &[];
