//! Plans that commands name: fetched from the hub by digest, checked, and kept for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::agent::perform::PlanSource;
use crate::backoff::Backoff;
use crate::command::Failure;
use crate::digest::Digest;
use crate::entropy::Entropy;
use crate::error::{BoxError, ErrorChain, ErrorKind};
use crate::plan::Plan;
use crate::port::clock::Clock;
use crate::port::token::TokenSource;
use crate::port::transport::{Connector, TransportError};

/// Bytes of plans that are kept; the one unused for longest goes first.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How often a fetch is tried while the hub cannot be reached.
const ATTEMPTS: u32 = 4;

/// One fetch takes at most so long.
const FETCH_WITHIN: Duration = Duration::from_secs(30);

/// Fetches plans over the agent's connector.
#[derive(Debug)]
pub(crate) struct FetchedPlans {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) tokens: Arc<dyn TokenSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<Entropy>,
    pub(crate) cache: Mutex<Cache>,
}

/// The plans used last.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    plans: BTreeMap<Digest, Kept>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    plan: Arc<Plan>,
    bytes: usize,
    used: u64,
}

#[async_trait]
impl PlanSource for FetchedPlans {
    async fn plan(&self, digest: Digest) -> Result<Arc<Plan>, Failure> {
        let kept = self.cache().get(digest);
        if let Some(plan) = kept {
            return Ok(plan);
        }
        let body = self.fetch(digest).await?;
        if Digest::of(&body) != digest {
            return Err(Failure::new(
                ErrorKind::Internal,
                "planDamaged",
                format!("what the hub sent for the plan {digest} has another digest; it was not applied"),
            ));
        }
        let plan = Plan::from_bytes(&body).map(Arc::new).map_err(|error| {
            Failure::new(
                ErrorKind::Invalid,
                "planUnreadable",
                format!(
                    "{}; perhaps the agent is older than the control plane",
                    ErrorChain(&error)
                ),
            )
        })?;
        self.cache().keep(digest, Arc::clone(&plan), body.len());
        Ok(plan)
    }
}

impl FetchedPlans {
    async fn fetch(&self, digest: Digest) -> Result<Bytes, Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error: BoxError = match self.fetch_once(digest).await {
                Ok(body) => return Ok(body),
                Err(FetchError::Transport(TransportError::NotFound { .. })) => {
                    return Err(Failure::new(
                        ErrorKind::Unavailable,
                        "planNotOffered",
                        format!("the hub does not offer the plan {digest}; send the command again with it"),
                    ));
                }
                Err(FetchError::Transport(error)) => error.into(),
                Err(FetchError::Token(error)) => error.into(),
                Err(FetchError::Late) => "it took too long".into(),
            };
            if attempt >= ATTEMPTS {
                return Err(Failure::new(
                    ErrorKind::Unavailable,
                    "planUnavailable",
                    format!("the plan {digest} could not be fetched: {}", ErrorChain(&*error)),
                ));
            }
            tokio::time::sleep(backoff.next(self.entropy.next_u64())).await;
        }
    }

    async fn fetch_once(&self, digest: Digest) -> Result<Bytes, FetchError> {
        let token = self
            .tokens
            .token(self.clock.now())
            .await
            .map_err(FetchError::Token)?;
        let fetching = self.connector.fetch(&token.secret, digest);
        match tokio::time::timeout(FETCH_WITHIN, fetching).await {
            Ok(fetched) => fetched.map_err(FetchError::Transport),
            Err(_elapsed) => Err(FetchError::Late),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum FetchError {
    Late,
    Token(crate::port::token::TokenError),
    Transport(TransportError),
}

impl Cache {
    fn get(&mut self, digest: Digest) -> Option<Arc<Plan>> {
        self.uses += 1;
        let kept = self.plans.get_mut(&digest)?;
        kept.used = self.uses;
        Some(Arc::clone(&kept.plan))
    }

    fn keep(&mut self, digest: Digest, plan: Arc<Plan>, bytes: usize) {
        self.uses += 1;
        let used = self.uses;
        if let Some(old) = self.plans.insert(digest, Kept { plan, bytes, used }) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES && self.plans.len() > 1 {
            let oldest = self.plans.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else {
                break;
            };
            if let Some(gone) = self.plans.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }
}
