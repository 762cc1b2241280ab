//! Tokens that were verified a moment ago, so that a busy caller is not verified anew each time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aurora_core::digest::Digest;
use aurora_core::principal::Principal;
use jiff::{SignedDuration, Timestamp};

use super::claims::Validity;

/// A verified token is believed without another look for at most this long.
const TRUSTED_FOR: SignedDuration = SignedDuration::from_secs(60);

/// A bounded memory of verified tokens, by their digest; refusals are not remembered.
///
/// Two halves: what was used since the last turn, and what was used in the turn before. When the first is
/// full the second is forgotten, so what is in use stays and what is not goes.
pub(super) struct VerifiedTokens {
    half: usize,
    tokens: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    young: HashMap<Digest, Entry>,
    old: HashMap<Digest, Entry>,
}

#[derive(Clone)]
struct Entry {
    principal: Arc<Principal>,
    validity: Validity,
    verified_at: Timestamp,
    generation: u64,
}

impl fmt::Debug for VerifiedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedTokens")
            .field("capacity", &(self.half * 2))
            .finish_non_exhaustive()
    }
}

impl VerifiedTokens {
    /// Remembers at most `capacity` tokens.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            half: (capacity / 2).max(1),
            tokens: Mutex::default(),
        }
    }

    /// The principal of a token that was verified with these keys shortly before `now`.
    pub(super) fn find(&self, token: &Digest, generation: u64, now: Timestamp) -> Option<Arc<Principal>> {
        let mut halves = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match halves.young.get(token) {
            Some(entry) => entry.clone(),
            None => halves.old.remove(token)?,
        };
        let age = now.duration_since(entry.verified_at);
        let trusted = entry.generation == generation
            && !age.is_negative()
            && age < TRUSTED_FOR
            && entry.validity.check(now).is_ok();
        if !trusted {
            halves.young.remove(token);
            return None;
        }
        let principal = Arc::clone(&entry.principal);
        self.insert(&mut halves, *token, entry);
        Some(principal)
    }

    /// Remembers a token that was verified just now.
    pub(super) fn remember(
        &self,
        token: Digest,
        principal: &Arc<Principal>,
        validity: Validity,
        generation: u64,
        now: Timestamp,
    ) {
        let mut halves = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry {
            principal: Arc::clone(principal),
            validity,
            verified_at: now,
            generation,
        };
        self.insert(&mut halves, token, entry);
    }

    fn insert(&self, halves: &mut Halves, token: Digest, entry: Entry) {
        if halves.young.len() >= self.half && !halves.young.contains_key(&token) {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(token, entry);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let halves = self.tokens.lock().unwrap();
        halves.young.len() + halves.old.len()
    }
}

#[cfg(test)]
mod tests {
    use aurora_core::principal::PrincipalKind;

    use super::*;

    fn somebody() -> Arc<Principal> {
        Arc::new(Principal {
            kind: PrincipalKind::Service,
            id: "p".into(),
            display: "p".into(),
            tenant: None,
            scopes: Default::default(),
            roles: Default::default(),
            agents: Default::default(),
            expires_at: at(600),
        })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn validity() -> Validity {
        Validity {
            from: at(0),
            until: at(600),
        }
    }

    #[test]
    fn a_token_is_found_only_with_the_same_keys_and_for_a_minute() {
        let cache = VerifiedTokens::new(8);
        let token = Digest::of(b"token");
        let fresh = || cache.remember(token, &somebody(), validity(), 1, at(100));
        fresh();
        assert!(cache.find(&token, 1, at(159)).is_some());
        assert!(cache.find(&token, 1, at(160)).is_none());
        fresh();
        assert!(cache.find(&token, 2, at(101)).is_none(), "other keys");
        fresh();
        assert!(cache.find(&token, 1, at(99)).is_none(), "a clock that went back");
        fresh();
        assert!(cache.find(&Digest::of(b"other"), 1, at(101)).is_none());
        cache.remember(token, &somebody(), validity(), 1, at(620));
        assert!(
            cache.find(&token, 1, at(640)).is_none(),
            "past its end and the leeway"
        );
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_in_use() {
        let cache = VerifiedTokens::new(100);
        let used = Digest::of(b"used");
        cache.remember(used, &somebody(), validity(), 1, at(0));
        for number in 0..10_000_u32 {
            cache.remember(
                Digest::of(&number.to_be_bytes()),
                &somebody(),
                validity(),
                1,
                at(0),
            );
            assert!(cache.find(&used, 1, at(0)).is_some());
            assert!(cache.len() <= 102);
        }
        assert!(cache.find(&Digest::of(&0_u32.to_be_bytes()), 1, at(0)).is_none());
    }
}
