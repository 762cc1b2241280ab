//! Full-jitter backoff: how long to wait before trying again, so that many clients spread out.

use std::time::Duration;

/// Doubling bounds with a random point below each bound.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Bounds that start at `base`, double each time and stay at `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            attempt: 0,
        }
    }

    /// The next wait; `random` is uniform in 0..=u64::MAX.
    pub fn next(&mut self, random: u64) -> Duration {
        let bound = self
            .base
            .saturating_mul(1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX))
            .min(self.cap);
        self.attempt = self.attempt.saturating_add(1).min(30);
        let share = (u128::from(random) * bound.as_nanos()) >> 64;
        Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Begins again at the base: what was tried has worked for long enough.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_doubling_bound_and_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(60));
        let bounds: Vec<_> = (0..10).map(|_| backoff.next(u64::MAX)).collect();
        assert!(bounds[0] < Duration::from_millis(250) && bounds[0] > Duration::from_millis(240));
        assert!(bounds[3] < Duration::from_secs(2) && bounds[3] > Duration::from_millis(1900));
        assert!(bounds[9] < Duration::from_secs(60) && bounds[9] > Duration::from_secs(59));
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::ZERO);
    }
}
