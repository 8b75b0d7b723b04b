//! Signals: the first SIGTERM or SIGINT stops the server in order, the second ends it at once.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::ExitCode;
use super::shared::Shared;

/// From here on signals stop the server that `shared` belongs to. Their thread ends with the process.
pub fn stop_on_signals(shared: Arc<Shared>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _signal in signals.forever() {
            if shared.is_stopping() {
                ExitCode::Impatience.die("second signal: ending at once; everything acknowledged survives");
            }
            tracing::info!("stopping: finishing what is in flight; a second signal ends the server at once");
            shared.stop();
        }
    })?;
    Ok(())
}
