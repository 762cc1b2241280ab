//! The keys of one issuer, kept for a while: fetched by one caller at a time, seldom, and replaced whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurora_core::digest::Digest;
use aurora_core::error::ErrorChain;
use aurora_core::port::token::TokenError;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::key::VerificationKey;
use super::key_set::KeySet;
use super::policy::Algorithm;
use super::refusal::Refusal;
use super::source::KeySource;

/// Keys are used without asking again for this long when the issuer does not say.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(300);

/// Keys are kept at least this long, whatever the issuer says: tokens must not become fetches.
const MIN_MAX_AGE: Duration = Duration::from_secs(60);

/// Keys are asked for again at least this often, so that a withdrawn key ends.
const MAX_MAX_AGE: Duration = Duration::from_secs(3600);

/// While the issuer cannot be asked, its last keys serve this long; then nothing is accepted.
const STALE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// An unknown key id causes at most one fetch in this time.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// A key id that was not found is not looked for again for this long.
const ABSENT_FOR: Duration = Duration::from_secs(60);

/// So many absent key ids are remembered; when full the oldest is forgotten.
const MAX_ABSENT: usize = 256;

/// After a failed fetch the next one waits: doubling from the first to the last.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The cache; `generation` tells whether what was verified earlier was verified with the same keys.
#[derive(Debug)]
pub(super) struct KeyCache {
    source: Arc<dyn KeySource>,
    allowed: Vec<Algorithm>,
    state: Mutex<State>,
    /// One caller fetches; the others wait for what it finds.
    turn: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    generation: u64,
    attempts: u64,
    last_attempt: Option<Instant>,
    failures: u32,
    absent: BTreeMap<String, Instant>,
}

#[derive(Clone, Debug)]
struct Held {
    keys: Arc<KeySet>,
    document: Digest,
    fetched: Instant,
    max_age: Duration,
}

impl KeyCache {
    pub(super) fn new(source: Arc<dyn KeySource>, allowed: Vec<Algorithm>) -> Self {
        Self {
            source,
            allowed,
            state: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// Grows whenever the keys changed.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// The key of an id, or the only key.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Arc<VerificationKey>, TokenError> {
        let keys = self.usable().await?;
        if let Some(key) = keys.find(id) {
            return Ok(key);
        }
        let Some(id) = id else {
            return Err(Refusal::UnknownKey.into());
        };
        let asked = Instant::now();
        if self.is_known_absent(id, asked) {
            return Err(Refusal::UnknownKey.into());
        }
        let (quiet, attempts) = {
            let state = self.lock();
            let since = state
                .last_attempt
                .map(|attempt| asked.saturating_duration_since(attempt));
            (
                since.is_none_or(|since| since >= UNKNOWN_KEY_INTERVAL),
                state.attempts,
            )
        };
        if quiet || self.is_fetching() {
            self.refresh(attempts).await;
            let found = self
                .lock()
                .held
                .as_ref()
                .and_then(|held| held.keys.find(Some(id)));
            if let Some(key) = found {
                return Ok(key);
            }
            self.remember_absent(id, asked);
        }
        Err(Refusal::UnknownKey.into())
    }

    /// Asks for the keys again before they age, for as long as it is polled.
    ///
    /// Dropping the future stops it; `random` is uniform and spreads many verifiers.
    pub(super) async fn keep_fresh(&self, random: impl Fn() -> u64) {
        loop {
            sleep(self.until_refresh(random())).await;
            let attempts = self.lock().attempts;
            self.refresh(attempts).await;
        }
    }

    /// The wait until 80 % of the age is over, up to a tenth of the age earlier.
    fn until_refresh(&self, random: u64) -> Duration {
        let state = self.lock();
        let Some(held) = &state.held else {
            return if state.attempts == 0 {
                Duration::ZERO
            } else {
                state.pause()
            };
        };
        let jitter = u32::try_from(random % 1000).unwrap_or(0);
        let due = held.max_age * 4 / 5 - held.max_age / 10 * jitter / 1000;
        let waited = held.fetched.elapsed();
        if waited >= due {
            state.pause()
        } else {
            due - waited
        }
    }

    /// The keys, if they are young enough to be used; asks again where they are not.
    async fn usable(&self) -> Result<Arc<KeySet>, TokenError> {
        let now = Instant::now();
        let (due, attempts) = {
            let state = self.lock();
            if let Some(held) = state.held.as_ref().filter(|held| held.is_fresh(now)) {
                return Ok(Arc::clone(&held.keys));
            }
            let since = state
                .last_attempt
                .map(|attempt| now.saturating_duration_since(attempt));
            (since.is_none_or(|since| since >= state.pause()), state.attempts)
        };
        if due || self.is_fetching() {
            self.refresh(attempts).await;
        }
        match &self.lock().held {
            Some(held) if held.fetched.elapsed() < STALE_LIMIT => Ok(Arc::clone(&held.keys)),
            _ => Err(TokenError::Unavailable {
                source: "the issuer's keys cannot be had".into(),
            }),
        }
    }

    /// Fetches, unless somebody else did since `attempts` were counted.
    async fn refresh(&self, attempts: u64) {
        let Ok(_turn) = self.turn.acquire().await else {
            return;
        };
        {
            let mut state = self.lock();
            if state.attempts != attempts {
                return;
            }
            state.last_attempt = Some(Instant::now());
        }
        let fetched = self.source.fetch().await;
        let parsed = match &fetched {
            Ok(published) => KeySet::parse(&published.document, &self.allowed).map_err(|e| e.to_string()),
            Err(error) => Err(ErrorChain(error).to_string()),
        };
        let mut state = self.lock();
        state.attempts += 1;
        state.last_attempt = Some(Instant::now());
        match (fetched, parsed) {
            (Ok(published), Ok(keys)) => {
                tracing::debug!(keys = keys.len(), "keys of the issuer fetched");
                let max_age = published.max_age.unwrap_or(DEFAULT_MAX_AGE);
                let document = Digest::of(&published.document);
                if state.held.as_ref().is_none_or(|held| held.document != document) {
                    state.generation += 1;
                }
                state.held = Some(Held {
                    keys: Arc::new(keys),
                    document,
                    fetched: Instant::now(),
                    max_age: max_age.clamp(MIN_MAX_AGE, MAX_MAX_AGE),
                });
                state.failures = 0;
                state.absent.clear();
            }
            (_, Err(problem)) => {
                state.failures = state.failures.saturating_add(1);
                tracing::warn!(
                    problem,
                    failures = state.failures,
                    "keys of the issuer cannot be fetched"
                );
            }
            (Err(_), Ok(_)) => {}
        }
    }

    /// Tells whether somebody fetches just now, so that waiting for it is worth while.
    fn is_fetching(&self) -> bool {
        self.turn.available_permits() == 0
    }

    fn is_known_absent(&self, id: &str, now: Instant) -> bool {
        let state = self.lock();
        state
            .absent
            .get(id)
            .is_some_and(|since| now.saturating_duration_since(*since) < ABSENT_FOR)
    }

    fn remember_absent(&self, id: &str, now: Instant) {
        let mut state = self.lock();
        if state.absent.len() >= MAX_ABSENT {
            let oldest = state
                .absent
                .iter()
                .min_by_key(|(_, since)| **since)
                .map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                state.absent.remove(&oldest);
            }
        }
        state.absent.insert(id.to_owned(), now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long to wait after the last attempt.
    fn pause(&self) -> Duration {
        let (first, last) = RETRY_AFTER;
        match self.failures.checked_sub(1) {
            Some(doublings) => first.saturating_mul(1 << doublings.min(10)).min(last),
            None => first,
        }
    }
}

impl Held {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.fetched) < self.max_age
    }
}
