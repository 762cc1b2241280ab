//! A connector with faults: links that are cut, frames that are late, lost or doubled.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{AgentLink, Connector, Link, TransportError, link};
use crate::digest::Digest;
use crate::secret::Secret;
use crate::session::{FromAgent, FromHub};
use crate::tasks::Tasks;

/// What happens to one frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The link breaks instead.
    Cut,
    /// It arrives late, and what follows it later still.
    Delay(Duration),
    /// It is lost.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// Nothing happens to it.
    None,
}

/// Decides the fate of each frame, in both directions; `true` is from the agent to the hub.
pub type Fate = Arc<dyn Fn(bool) -> Fault + Send + Sync>;

/// A connector whose links go through faults.
///
/// Frames that say hello or welcome are cut or delayed but never lost or doubled, as no transport does
/// that to the first frames of a stream alone.
pub struct FaultyConnector<C> {
    inner: Arc<C>,
    fate: Fate,
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Tasks,
    unreachable: AtomicBool,
    /// Cuts the links of now; replaced after a cut.
    links: Mutex<CancellationToken>,
}

impl<C> fmt::Debug for FaultyConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyConnector").finish_non_exhaustive()
    }
}

impl<C> Clone for FaultyConnector<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            fate: Arc::clone(&self.fate),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C: Connector> FaultyConnector<C> {
    /// Puts faults before a connector.
    pub fn new(inner: C, fate: impl Fn(bool) -> Fault + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::new(inner),
            fate: Arc::new(fate),
            shared: Arc::new(Shared {
                tasks: Tasks::new(),
                unreachable: AtomicBool::new(false),
                links: Mutex::new(CancellationToken::new()),
            }),
        }
    }

    /// Cuts every link that is open.
    pub fn cut(&self) {
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.cancel();
        *links = CancellationToken::new();
    }

    /// Lets new connections fail, or work again.
    pub fn set_reachable(&self, reachable: bool) {
        self.shared.unreachable.store(!reachable, Ordering::Relaxed);
    }

    fn links(&self) -> CancellationToken {
        self.shared
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn check(&self) -> Result<(), TransportError> {
        if self.shared.unreachable.load(Ordering::Relaxed) {
            return Err(TransportError::Unreachable {
                source: "the way is cut".into(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl<C: Connector> Connector for FaultyConnector<C> {
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError> {
        self.check()?;
        let Link { tx, rx } = self.inner.connect(token).await?;
        let (near, far) = link::<FromAgent, FromHub>();
        let cut = self.links().child_token();
        let (up_fate, down_fate) = (Arc::clone(&self.fate), Arc::clone(&self.fate));
        let (up_cut, down_cut) = (cut.clone(), cut);
        self.shared.tasks.spawn(|_stop| async move {
            relay(far.rx, tx, up_cut, move || up_fate(true), copy_from_agent).await;
        });
        self.shared.tasks.spawn(|_stop| async move {
            relay(rx, far.tx, down_cut, move || down_fate(false), copy_from_hub).await;
        });
        Ok(near)
    }

    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError> {
        self.check()?;
        self.inner.fetch(token, digest).await
    }
}

/// Passes frames on; `copy` gives a second one where the frame may be lost or doubled.
async fn relay<F>(
    mut from: mpsc::Receiver<F>,
    to: mpsc::Sender<F>,
    cut: CancellationToken,
    fate: impl Fn() -> Fault,
    copy: impl Fn(&F) -> Option<F>,
) {
    // Whichever way ends, the other one ends too, as with one connection.
    let _both = cut.clone().drop_guard();
    loop {
        let frame = tokio::select! {
            biased;
            () = cut.cancelled() => return,
            () = to.closed() => return,
            frame = from.recv() => frame,
        };
        let Some(frame) = frame else { return };
        let second = copy(&frame);
        let fault = match fate() {
            Fault::Drop | Fault::Duplicate if second.is_none() => Fault::None,
            fault => fault,
        };
        let frames = match fault {
            Fault::Cut => return,
            Fault::Drop => vec![],
            Fault::Duplicate => second.into_iter().chain([frame]).collect(),
            Fault::Delay(late) => {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => return,
                    () = tokio::time::sleep(late) => vec![frame],
                }
            }
            Fault::None => vec![frame],
        };
        for frame in frames {
            tokio::select! {
                biased;
                () = cut.cancelled() => return,
                sent = to.send(frame) => if sent.is_err() { return },
            }
        }
    }
}

fn copy_from_agent(frame: &FromAgent) -> Option<FromAgent> {
    (!matches!(frame, FromAgent::Hello(_))).then(|| frame.clone())
}

fn copy_from_hub(frame: &FromHub) -> Option<FromHub> {
    (!matches!(frame, FromHub::Welcome(_))).then(|| frame.clone())
}
