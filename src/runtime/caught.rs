//! A panic of one piece of work, caught and told as a value: what applies a record may find that it contradicts the
//! records before it, and only its caller knows which file it stands in.
//!
//! Called by recovery, and by the panic hook of [`super::ExitCode`], which else ends the process.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    /// While work is under way whose panics are caught: what a panic has said.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What the work gives, or what it panicked with. After a panic nothing that the work has changed may be used.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    SAID.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(work));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        // Without a hook nobody has noted where it was.
        if said.is_empty() {
            text.unwrap_or("a panic that says nothing").to_owned()
        } else {
            said
        }
    })
}

/// Keeps what a panic says for [`caught`]; whether somebody waits for it there.
pub fn keep(panic: &PanicHookInfo<'_>) -> bool {
    SAID.with_borrow_mut(|said| {
        let Some(said) = said else { return false };
        let text = panic.payload_as_str().unwrap_or("a panic that says nothing");
        *said = panic
            .location()
            .map_or_else(|| text.to_owned(), |at| format!("{text}; {at}"));
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_and_what_follows_is_not_caught() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| panic!("order {} is unknown", 5)).unwrap_err();
        assert!(said.contains("order 5 is unknown"), "{said}");
        assert!(SAID.take().is_none(), "a later panic ends the process");
    }
}
