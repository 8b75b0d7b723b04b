//! Why the process ends: one exit code per cause, so that whoever supervises it can tell them apart.

use super::caught;

/// The exit codes. 0 is a clean end, 1 any other error, 2 a mistake on the command line (clap's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// A mistake on the command line that only the server itself can see.
    Usage = 2,
    /// Kernel, limits or memory of this machine do not allow it.
    Machine = 10,
    /// The address cannot be listened on.
    Address = 11,
    /// The data directory cannot be used, or another process uses it.
    DataDirectory = 12,
    /// The log or the manifest is damaged or missing; nothing was changed.
    Damage = 13,
    /// The log could not be written to at start.
    Storage = 14,
    /// A sync failed while serving: what the page cache holds can no longer be trusted.
    SyncFailed = 15,
    /// The network's ring failed while serving.
    Ring = 16,
    /// A broken invariant; nothing after it was written down.
    Invariant = 17,
    /// A second signal came before the server had stopped; what was acknowledged is on disk all the same.
    Impatience = 18,
    /// A record or a checkpoint is whole, and this version cannot apply it; nothing was changed.
    Inapplicable = 19,
}

impl ExitCode {
    /// Ends the process at once, saying why on stderr.
    pub fn die(self, why: impl std::fmt::Display) -> ! {
        eprintln!("cartwright: {why}");
        self.exit()
    }

    /// Ends the process at once.
    pub fn exit(self) -> ! {
        std::process::exit(i32::from(self as u8))
    }

    /// From here on a panic on any thread ends the process, after its message: a shard that is gone must not leave the
    /// others serving. One that somebody waits for is not reported here: see [`caught::caught`].
    pub fn install_panic_hook() {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !caught::keep(panic) {
                report(panic);
                Self::Invariant.exit();
            }
        }));
    }
}
