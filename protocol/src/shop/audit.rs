//! The command that checks everything.

use crate::AuditReport;
use crate::command::Flags;

command! {
    /// Checks the books of every item and order.
    Audit = 0x70 "AUDIT" {}
    answer: AuditReport;
    manual: "map `items orders lines violations state_hash paused_ms`: all books, checked at one moment";
    class: Alone;
    flags: Flags::READONLY.and(Flags::ADMIN).and(Flags::NO_MULTI);
    example: "AUDIT";
}
