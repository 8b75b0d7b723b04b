//! The rows of the commands about channels and their subscribers.

use super::Command;

pub(super) static COMMANDS: &[Command] = &[];
