//! The row of the container about keys; the other rows about keys are the engine's.

use super::{Command, container, help, keyed};
use crate::engine::entries::commands::objects;

pub(super) const COMMANDS: &[Command] = &[container("object", "About how a key is held.", OBJECT)];

const OBJECT: &[Command] = &[
    keyed(&objects::OBJECT_ENCODING),
    keyed(&objects::OBJECT_FREQ),
    keyed(&objects::OBJECT_IDLETIME),
    keyed(&objects::OBJECT_REFCOUNT),
    help(),
];
