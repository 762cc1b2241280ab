//! Signals as a token: the first one asks to stop, a second one ends at once.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGINT and SIGTERM cancel.
#[expect(
    clippy::disallowed_methods,
    reason = "the process owns its signal task for as long as it lives"
)]
pub(crate) fn stop_token() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = token.clone();
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            signals += 1;
            told.cancel();
            if signals > 1 {
                std::process::exit(130);
            }
        }
    });
    Ok(token)
}
