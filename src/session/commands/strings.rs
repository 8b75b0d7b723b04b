//! The rows of the commands about strings.

use super::Command;

pub(super) static COMMANDS: &[Command] = &[];
