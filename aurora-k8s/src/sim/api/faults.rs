//! Faults that tests make the simulated API server show.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ApiError;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(crate) effect: Effect,
}

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Answer(ApiError),
    DropAfter,
    DropBefore,
    Hang,
}

impl Fault {
    /// 429 with a `Retry-After` of this many seconds.
    #[must_use]
    pub fn too_many_requests(retry_after: u64) -> Self {
        let message = "the server has received too many requests and has asked us to try again later";
        Self::answer(ApiError::scripted(429, message, Some(retry_after)))
    }

    /// 500 of an admission webhook that cannot be reached.
    #[must_use]
    pub fn webhook_failure(webhook: &str) -> Self {
        Self::answer(ApiError::internal(format!(
            "failed calling webhook \"{webhook}\": failed to call webhook: Post \"https://{webhook}/\": context \
             deadline exceeded"
        )))
    }

    /// 503 as while the server starts.
    #[must_use]
    pub fn unavailable() -> Self {
        let message =
            "the request has been made before all known HTTP paths have been installed, please try again";
        Self::answer(ApiError::scripted(503, message, Some(5)))
    }

    /// Any status code with this message.
    #[must_use]
    pub fn status(code: u16, message: &str) -> Self {
        Self::answer(ApiError::scripted(code, message, None))
    }

    /// The connection breaks before the request has had an effect.
    #[must_use]
    pub const fn dropped_before() -> Self {
        Self {
            effect: Effect::DropBefore,
        }
    }

    /// The connection breaks after the request has had its effect.
    #[must_use]
    pub const fn dropped_after() -> Self {
        Self {
            effect: Effect::DropAfter,
        }
    }

    /// No answer comes until the server restarts; the request has no effect.
    #[must_use]
    pub const fn hanging() -> Self {
        Self { effect: Effect::Hang }
    }

    const fn answer(error: ApiError) -> Self {
        Self {
            effect: Effect::Answer(error),
        }
    }
}

/// Which requests a fault hits; the default hits all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matching {
    verb: Option<String>,
    path: Option<String>,
}

impl Matching {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only requests with this verb, in the words of the request log.
    #[must_use]
    pub fn with_verb(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_owned());
        self
    }

    /// Only requests whose path contains this text.
    #[must_use]
    pub fn with_path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    fn matches(&self, verb: &str, path: &str) -> bool {
        self.verb.as_deref().is_none_or(|wanted| wanted == verb)
            && self.path.as_deref().is_none_or(|part| path.contains(part))
    }
}

/// The faults that are still to be shown; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    planned: Arc<Mutex<Vec<Planned>>>,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    matching: Matching,
    left: usize,
}

impl Faults {
    /// Shows `fault` to the next `times` matching requests; earlier ones come first.
    pub fn inject(&self, fault: Fault, times: usize, matching: Matching) {
        self.lock().push(Planned {
            fault,
            matching,
            left: times,
        });
    }

    /// Forgets what has not been shown.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many requests are still to be hit.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.lock().iter().map(|planned| planned.left).sum()
    }

    pub(crate) fn take(&self, verb: &str, path: &str) -> Option<Effect> {
        let mut planned = self.lock();
        let hit = planned
            .iter_mut()
            .find(|it| it.left > 0 && it.matching.matches(verb, path))?;
        hit.left -= 1;
        let effect = hit.fault.effect.clone();
        planned.retain(|it| it.left > 0);
        Some(effect)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Planned>> {
        // A fault is added or counted down whole or not at all.
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
