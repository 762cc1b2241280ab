//! How often somebody may fail to prove that they are a client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many failures are allowed within the window.
const ALLOWED: u32 = 10;

/// The time in which failures are counted together.
const WINDOW: Duration = Duration::from_secs(60);

/// So many clients and addresses are counted apart; when full, all others are counted together.
const MAX_COUNTED: usize = 4096;

/// Counts failures by client and address, so that a stranger cannot lock a client out from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: Mutex<BTreeMap<Who, Failures>>,
}

/// Who tries; unknown client ids count as one.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Who {
    pub(super) client: Option<String>,
    pub(super) address: Option<IpAddr>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Attempts {
    /// The wait until the next attempt is taken; `None` where that is now.
    pub(super) fn blocked_for(&self, who: &Who) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = failures.get(who).or_else(|| failures.get(&Who::ANYBODY))?;
        let left = WINDOW.checked_sub(counted.since.elapsed())?;
        (counted.count >= ALLOWED && !left.is_zero()).then_some(left)
    }

    pub(super) fn failed(&self, who: Who) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_COUNTED && !failures.contains_key(&who) {
            failures.retain(|_, counted| now.saturating_duration_since(counted.since) < WINDOW);
        }
        let who = if failures.len() >= MAX_COUNTED && !failures.contains_key(&who) {
            Who::ANYBODY
        } else {
            who
        };
        let counted = failures.entry(who).or_insert(Failures { since: now, count: 0 });
        if now.saturating_duration_since(counted.since) >= WINDOW {
            *counted = Failures { since: now, count: 0 };
        }
        counted.count = counted.count.saturating_add(1);
    }

    pub(super) fn succeeded(&self, who: &Who) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(who);
    }
}

impl Who {
    const ANYBODY: Self = Self {
        client: None,
        address: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(client: &str, address: &str) -> Who {
        Who {
            client: Some(client.into()),
            address: address.parse().ok(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_failures_block_until_the_window_is_over() {
        let attempts = Attempts::default();
        let ours = who("ci", "192.0.2.1");
        for _ in 0..9 {
            attempts.failed(ours.clone());
        }
        assert_eq!(attempts.blocked_for(&ours), None);
        attempts.failed(ours.clone());
        assert!(attempts.blocked_for(&ours).is_some());
        assert_eq!(
            attempts.blocked_for(&who("ci", "192.0.2.2")),
            None,
            "another address"
        );
        assert_eq!(
            attempts.blocked_for(&who("cd", "192.0.2.1")),
            None,
            "another client"
        );
        tokio::time::advance(WINDOW).await;
        assert_eq!(attempts.blocked_for(&ours), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_forgets_the_failures() {
        let attempts = Attempts::default();
        let ours = who("ci", "192.0.2.1");
        for _ in 0..9 {
            attempts.failed(ours.clone());
        }
        attempts.succeeded(&ours);
        attempts.failed(ours.clone());
        assert_eq!(attempts.blocked_for(&ours), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_is_bounded() {
        let attempts = Attempts::default();
        for number in 0..2 * MAX_COUNTED {
            attempts.failed(who(&number.to_string(), "192.0.2.1"));
        }
        assert!(attempts.failures.lock().unwrap().len() <= MAX_COUNTED + 1);
        assert!(
            attempts.blocked_for(&who("new", "192.0.2.9")).is_some(),
            "counted together when full"
        );
    }
}
