//! How often one principal may ask: a bucket of tokens for each, in bounded memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aurora_core::error::ErrorKind;
use aurora_core::principal::Principal;
use http::HeaderValue;
use http::header::RETRY_AFTER;
use tokio::time::Instant;

use super::problem::Refusal;

/// Principals remembered at once, some 200 bytes each; above it those whose buckets are full are forgotten.
const REMEMBERED: usize = 10_000;

/// How often one principal may ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestRate {
    /// Requests a second, in the long run.
    pub per_second: f64,
    /// Requests at once after a quiet while.
    pub burst: u32,
}

impl Default for RequestRate {
    /// Far more than a person's console or a busy CI, and little enough that one script leaves room for others.
    fn default() -> Self {
        Self {
            per_second: 100.0,
            burst: 500,
        }
    }
}

/// The buckets of all principals.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    of: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn filled(self, rate: RequestRate, now: Instant) -> Self {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        let tokens = (self.tokens + since * rate.per_second).min(f64::from(rate.burst));
        Self { tokens, at: now }
    }
}

impl Buckets {
    /// Takes a token, or says when there will be one.
    pub(super) fn take(&self, rate: RequestRate, principal: &Principal) -> Result<(), Refusal> {
        let now = Instant::now();
        let holder = match &principal.tenant {
            Some(tenant) => format!("{tenant}\n{}", principal.id),
            None => principal.id.clone(),
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= REMEMBERED && !of.contains_key(&holder) {
            let full = f64::from(rate.burst);
            of.retain(|_, bucket| bucket.filled(rate, now).tokens < full);
            // All of them are busy: one makes place, and begins anew when it comes again.
            if of.len() >= REMEMBERED {
                of.pop_first();
            }
        }
        let bucket = of.entry(holder).or_insert(Bucket {
            tokens: f64::from(rate.burst),
            at: now,
        });
        *bucket = bucket.filled(rate, now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.tokens) / rate.per_second.max(0.001);
        drop(of);
        Err(refused(rate, Duration::from_secs_f64(wait.min(3600.0))))
    }
}

fn refused(rate: RequestRate, wait: Duration) -> Refusal {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let detail = format!(
        "you ask more often than {} times a second; come back in {seconds} s, or follow the event stream instead of asking",
        rate.per_second
    );
    Refusal::new(ErrorKind::Exhausted, "rate.exceeded", detail).with_header(
        RETRY_AFTER,
        HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aurora_core::principal::PrincipalKind;
    use jiff::Timestamp;

    use super::*;

    const RATE: RequestRate = RequestRate {
        per_second: 2.0,
        burst: 3,
    };

    fn principal(id: &str) -> Arc<Principal> {
        Arc::new(Principal {
            kind: PrincipalKind::User,
            id: id.into(),
            display: id.into(),
            tenant: None,
            scopes: Default::default(),
            roles: Default::default(),
            agents: Default::default(),
            expires_at: Timestamp::MAX,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_fills_and_is_nobody_elses() {
        let buckets = Buckets::default();
        let (ada, bob) = (principal("ada"), principal("bob"));
        for _ in 0..3 {
            buckets.take(RATE, &ada).unwrap();
        }
        assert!(buckets.take(RATE, &ada).is_err());
        buckets.take(RATE, &bob).unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        buckets.take(RATE, &ada).unwrap();
        assert!(buckets.take(RATE, &ada).is_err());
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..3 {
            buckets.take(RATE, &ada).unwrap();
        }
        assert!(
            buckets.take(RATE, &ada).is_err(),
            "a quiet hour saves up no more than a burst"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_come_only_so_many_are_remembered() {
        let buckets = Buckets::default();
        let busy = principal("a-busy-one");
        for _ in 0..3 {
            buckets.take(RATE, &busy).unwrap();
        }
        for number in 0..2 * REMEMBERED {
            buckets.take(RATE, &principal(&format!("p{number}"))).unwrap();
            if number % REMEMBERED == REMEMBERED / 2 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        assert!(buckets.of.lock().unwrap().len() <= REMEMBERED);
    }
}
