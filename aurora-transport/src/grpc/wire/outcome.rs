//! Updates, outcomes and replies.

use aurora_core::command::{Acted, Applied, Failure, FailureDetail, Outcome, Reply, Update};
use aurora_core::error::ErrorKind;
use aurora_core::hub::MAX_PING_BYTES;

use super::{BadField, MANY, bounded, needed, pb, present, text};

/// The largest object that a get gives back; with it a frame stays below its limit.
const MAX_OBJECT: usize = 192 * 1024;

/// The most bytes of names and texts of one apply's result.
const MAX_APPLIED: usize = 192 * 1024;

/// The most bytes of one failure, details too.
const MAX_FAILURE: usize = 160 * 1024;

impl From<Update> for pb::Update {
    fn from(update: Update) -> Self {
        use pb::update::News;
        let news = match update {
            Update::Accepted => News::Accepted(pb::Accepted {}),
            Update::Finished(outcome) => News::Outcome(outcome.into()),
            Update::Progress(levels) => News::Levels(pb::Levels {
                levels: levels.into_iter().map(Into::into).collect(),
            }),
            Update::Stage { done, total, doing } => News::Stage(pb::Stage {
                done,
                total,
                doing: cut(doing, 4096),
            }),
        };
        Self { news: Some(news) }
    }
}

impl TryFrom<pb::Update> for Update {
    type Error = BadField;

    fn try_from(wire: pb::Update) -> Result<Self, BadField> {
        use pb::update::News;
        Ok(match present(wire.news, "update.news")? {
            News::Accepted(_) => Self::Accepted,
            News::Levels(levels) => {
                let levels = bounded(levels.levels, MANY, "levels")?;
                Self::Progress(
                    levels
                        .into_iter()
                        .map(TryInto::try_into)
                        .collect::<Result<_, _>>()?,
                )
            }
            News::Stage(stage) => Self::Stage {
                done: stage.done,
                total: stage.total,
                doing: text(stage.doing, 4096, "stage.doing")?,
            },
            News::Outcome(outcome) => Self::Finished(outcome.try_into()?),
        })
    }
}

impl From<Outcome> for pb::Outcome {
    fn from(outcome: Outcome) -> Self {
        use pb::outcome::End;
        let end = match outcome {
            Outcome::AgentLost { dispatched } => End::AgentLost(pb::AgentLost { dispatched }),
            Outcome::Cancelled => End::Cancelled(pb::Cancelled {}),
            Outcome::DeadlineExceeded => End::DeadlineExceeded(pb::DeadlineExceeded {}),
            Outcome::Failed(failure) => End::Failed(failure.into()),
            Outcome::Ok(reply) => match reply_to_wire(reply) {
                Ok(reply) => End::Ok(reply),
                Err(failure) => End::Failed(failure.into()),
            },
        };
        Self { end: Some(end) }
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = BadField;

    fn try_from(wire: pb::Outcome) -> Result<Self, BadField> {
        use pb::outcome::End;
        Ok(match present(wire.end, "outcome.end")? {
            End::Ok(reply) => Self::Ok(reply.try_into()?),
            End::Failed(failure) => Self::Failed(failure.try_into()?),
            End::Cancelled(_) => Self::Cancelled,
            End::DeadlineExceeded(_) => Self::DeadlineExceeded,
            End::AgentLost(lost) => Self::AgentLost {
                dispatched: lost.dispatched,
            },
        })
    }
}

/// A reply that would not fit a frame becomes a failure that says so.
fn reply_to_wire(reply: Reply) -> Result<pb::Reply, Failure> {
    use pb::reply::Reply as Wire;
    let reply = match reply {
        Reply::Acted(acted) => Wire::Acted(pb::Acted::from(acted).into()),
        Reply::Applied(applied) => Wire::Applied(applied.into()),
        Reply::Deleted => Wire::Deleted(pb::Deleted {}),
        Reply::Object(object) => {
            let json = object
                .map(|value| value.to_string().into_bytes())
                .unwrap_or_default();
            if json.len() > MAX_OBJECT {
                return Err(Failure::new(
                    ErrorKind::Exhausted,
                    "objectTooLarge",
                    format!(
                        "the object has {} bytes as JSON; at most {MAX_OBJECT} can be read",
                        json.len()
                    ),
                ));
            }
            Wire::Object(pb::Object { json })
        }
        Reply::Observed => Wire::Observed(pb::Observed {}),
        Reply::Pong(payload) => Wire::Pong(payload),
    };
    Ok(pb::Reply { reply: Some(reply) })
}

impl TryFrom<pb::Reply> for Reply {
    type Error = BadField;

    fn try_from(wire: pb::Reply) -> Result<Self, BadField> {
        use pb::reply::Reply as Wire;
        Ok(match present(wire.reply, "reply")? {
            Wire::Acted(acted) => Self::Acted(acted_from(acted)?),
            Wire::Applied(applied) => Self::Applied(applied.try_into()?),
            Wire::Deleted(_) => Self::Deleted,
            Wire::Object(object) if object.json.is_empty() => Self::Object(None),
            Wire::Object(object) if object.json.len() > MAX_OBJECT => {
                return Err(BadField::new("object.json", "is too long"));
            }
            Wire::Object(object) => {
                let value = serde_json::from_slice(&object.json);
                Self::Object(Some(
                    value.map_err(|_| BadField::new("object.json", "is not JSON"))?,
                ))
            }
            Wire::Observed(_) => Self::Observed,
            Wire::Pong(payload) if payload.len() > MAX_PING_BYTES => {
                return Err(BadField::new("pong", "is too long"));
            }
            Wire::Pong(payload) => Self::Pong(payload),
        })
    }
}

impl From<Acted> for pb::Acted {
    fn from(acted: Acted) -> Self {
        match acted {
            Acted::Done => Self::Done,
            Acted::NothingToAbort => Self::NothingToAbort,
            Acted::Unchanged => Self::Unchanged,
            Acted::WaitForPods => Self::WaitForPods,
        }
    }
}

fn acted_from(wire: i32) -> Result<Acted, BadField> {
    Ok(match pb::Acted::try_from(wire) {
        Ok(pb::Acted::Done) => Acted::Done,
        Ok(pb::Acted::NothingToAbort) => Acted::NothingToAbort,
        Ok(pb::Acted::Unchanged) => Acted::Unchanged,
        Ok(pb::Acted::WaitForPods) => Acted::WaitForPods,
        Ok(pb::Acted::Unspecified) | Err(_) => {
            return Err(BadField::new("reply.acted", "is unknown to this version"));
        }
    })
}

impl From<Applied> for pb::Applied {
    fn from(applied: Applied) -> Self {
        // What people are told is cut to what a frame holds; what was done is told whole.
        let mut left = MAX_APPLIED;
        let mut fits = |bytes: usize| {
            left = left.saturating_sub(bytes + 16);
            left > 0
        };
        let pruned = applied.pruned.into_iter().take(MANY).take_while(|object| {
            fits(object.group.len() + object.kind.len() + object.namespace.len() + object.name.len())
        });
        let pruned = pruned.map(Into::into).collect();
        let kept = applied.kept.into_iter().take(MANY);
        let kept = kept.map(|(object, why)| (cut(object, 1024), cut(why, 4096)));
        let kept = kept
            .take_while(|(object, why)| fits(object.len() + why.len()))
            .collect();
        let warnings = applied
            .warnings
            .into_iter()
            .take(MANY)
            .map(|warning| cut(warning, 4096));
        Self {
            changed: applied.changed,
            unchanged: applied.unchanged,
            pruned,
            kept,
            warnings: warnings.take_while(|warning| fits(warning.len())).collect(),
        }
    }
}

impl TryFrom<pb::Applied> for Applied {
    type Error = BadField;

    fn try_from(wire: pb::Applied) -> Result<Self, BadField> {
        if wire.kept.len() > MANY || wire.kept.iter().any(|(key, why)| key.len() + why.len() > 8192) {
            return Err(BadField::new("applied.kept", "has too many or too long entries"));
        }
        let pruned = bounded(wire.pruned, MANY, "applied.pruned")?;
        let warnings = bounded(wire.warnings, MANY, "applied.warnings")?;
        Ok(Self {
            changed: wire.changed,
            unchanged: wire.unchanged,
            pruned: pruned
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            kept: wire.kept,
            warnings: warnings
                .into_iter()
                .map(|warning| text(warning, 4096, "applied.warnings"))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<Failure> for pb::Failure {
    fn from(failure: Failure) -> Self {
        let message = cut(failure.message, 64 * 1024);
        let mut left = MAX_FAILURE - message.len();
        let details = failure.details.into_iter().take(1024).map_while(|detail| {
            let message = cut(detail.message, 8192);
            left = left.checked_sub(message.len() + 4 * super::NAME)?;
            Some(pb::FailureDetail {
                object: Some(detail.object.into()),
                message,
            })
        });
        Self {
            kind: pb::Kind::from(failure.kind).into(),
            code: cut(failure.code, 128),
            details: details.collect(),
            message,
        }
    }
}

impl TryFrom<pb::Failure> for Failure {
    type Error = BadField;

    fn try_from(wire: pb::Failure) -> Result<Self, BadField> {
        let kind = kind_from(wire.kind());
        let detail = |detail: pb::FailureDetail| {
            Ok(FailureDetail {
                object: present(detail.object, "failure.details.object")?.try_into()?,
                message: text(detail.message, 8192, "failure.details.message")?,
            })
        };
        let details = bounded(wire.details, 1024, "failure.details")?;
        Ok(Self {
            kind,
            code: needed(wire.code, 128, "failure.code")?,
            message: text(wire.message, 64 * 1024, "failure.message")?,
            details: details.into_iter().map(detail).collect::<Result<_, BadField>>()?,
        })
    }
}

impl From<ErrorKind> for pb::Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Deadline => Self::Deadline,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Exhausted => Self::Exhausted,
            ErrorKind::Internal => Self::Internal,
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::Unsupported => Self::Unsupported,
        }
    }
}

fn kind_from(wire: pb::Kind) -> ErrorKind {
    match wire {
        pb::Kind::Cancelled => ErrorKind::Cancelled,
        pb::Kind::Conflict => ErrorKind::Conflict,
        pb::Kind::Deadline => ErrorKind::Deadline,
        pb::Kind::Denied => ErrorKind::Denied,
        pb::Kind::Exhausted => ErrorKind::Exhausted,
        pb::Kind::Internal | pb::Kind::Unspecified => ErrorKind::Internal,
        pb::Kind::Invalid => ErrorKind::Invalid,
        pb::Kind::NotFound => ErrorKind::NotFound,
        pb::Kind::Unavailable => ErrorKind::Unavailable,
        pb::Kind::Unauthenticated => ErrorKind::Unauthenticated,
        pb::Kind::Unsupported => ErrorKind::Unsupported,
    }
}

/// Cuts a text of our own to what the other side takes, at a character.
pub(super) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
