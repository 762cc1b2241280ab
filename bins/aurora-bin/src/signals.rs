//! The signals that end a process: the first one asks it to stop, a second one ends it at once.

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

/// What a shell says of a process that an interrupt ended.
const INTERRUPTED: i32 = 130;

/// SIGINT and SIGTERM; elsewhere Ctrl-C.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Begins to listen; from here on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?,
                interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }

    /// Waits for the next one and ends the process without waiting for anything.
    #[expect(
        clippy::disallowed_methods,
        reason = "who asks twice does not want to wait for main either"
    )]
    pub async fn end_at_the_next(&mut self) {
        self.next().await;
        std::process::exit(INTERRUPTED);
    }
}

/// A token that the first signal cancels; the second one ends the process at once.
///
/// # Errors
/// When the system does not let it listen.
#[expect(
    clippy::disallowed_methods,
    reason = "the process owns its signal task for as long as it lives"
)]
pub fn stop_token() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut signals, told) = (Signals::listen()?, token.clone());
    tokio::spawn(async move {
        signals.next().await;
        told.cancel();
        signals.end_at_the_next().await;
    });
    Ok(token)
}
