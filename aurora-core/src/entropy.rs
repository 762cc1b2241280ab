//! Random numbers that a seed can repeat, so that simulations replay byte for byte.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// A shared source of random numbers; not for keys or secrets.
#[derive(Debug)]
pub struct Entropy {
    state: AtomicU64,
}

impl Entropy {
    /// Numbers that follow from a seed.
    pub const fn seeded(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }

    /// Numbers that nobody can foretell.
    pub fn from_system() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self::seeded(high ^ low.rotate_left(17))
    }

    /// The next number, uniform in 0..=`u64::MAX`.
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Ten random bytes, as ids want them.
    pub fn ten_bytes(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_be_bytes()[..2]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let draw = |seed| {
            let entropy = Entropy::seeded(seed);
            [(); 4].map(|()| entropy.next_u64())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
