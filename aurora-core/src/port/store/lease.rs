//! When a lease holds, when it ends and which fence it gets: the same rules in every store.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Lease, StoreError};

impl Lease {
    /// Whether this lease, as stored, is the one that a holder shows, and has not ended.
    pub fn is_held_as(&self, shown: &Self, now: Timestamp) -> bool {
        self.fence == shown.fence && self.holder == shown.holder && self.until > now
    }

    /// The error for a holder whose lease is not held any more.
    pub fn lost(&self) -> StoreError {
        StoreError::LeaseLost {
            name: self.name.clone(),
        }
    }

    /// When a lease of `ttl` ends that is taken or renewed `now`; to the microsecond.
    pub fn end(now: Timestamp, ttl: Duration) -> Timestamp {
        SignedDuration::try_from(ttl)
            .ok()
            .and_then(|ttl| now.checked_add(ttl).ok())
            .and_then(|at| Timestamp::from_microsecond(at.as_microsecond()).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// The fence after `last` of a lease that is taken `now`.
    pub fn next_fence(last: u64, now: Timestamp) -> u64 {
        let micros = u64::try_from(now.as_microsecond()).unwrap_or(0);
        last.saturating_add(1).max(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_grows_when_the_clock_does_not() {
        let now = Timestamp::from_microsecond(1_000).unwrap();
        assert_eq!(Lease::next_fence(0, now), 1_000);
        assert_eq!(Lease::next_fence(1_000, now), 1_001);
        assert_eq!(Lease::next_fence(5, Timestamp::MIN), 6);
    }

    #[test]
    fn a_lease_of_endless_time_ends_with_time() {
        assert_eq!(Lease::end(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
    }
}
