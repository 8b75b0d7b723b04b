//! The command that checks everything.

use crate::AuditReport;
use crate::command::Flags;

command! {
    /// Checks the books of every item and order.
    Audit = 0x70 "AUDIT" {}
    answer: AuditReport;
    class: Alone;
    flags: Flags::READONLY.and(Flags::ADMIN).and(Flags::NO_MULTI);
    example: "AUDIT";
}
