//! Levels of workloads.

use aurora_core::progress::{FailingPod, PodCounts, Progress, Standing, StepPosition, Weight, WeightSource};

use super::command::expect;
use super::outcome::cut;
use super::{BadField, NAME, bounded, count, pb, present, size, text, time};

impl From<Progress> for pb::Progress {
    fn from(level: Progress) -> Self {
        Self {
            object: Some(level.object.into()),
            standing: Some(level.standing.into()),
            revision: level.revision,
            stable: level.stable,
            step: level.step.map(|step| pb::StepPosition {
                index: count(step.index),
                total: count(step.total),
            }),
            weight: level.weight.map(|weight| pb::Weight {
                wanted: weight.wanted.into(),
                real: weight.real.into(),
                source: pb::WeightSource::from(weight.source).into(),
            }),
            pods: Some(pb::PodCounts {
                desired: level.pods.desired,
                new: level.pods.new,
                new_available: level.pods.new_available,
                old: level.pods.old,
                old_available: level.pods.old_available,
            }),
            expect: level
                .expect
                .map(|token| token.as_str().to_owned())
                .unwrap_or_default(),
            message: cut(level.message, 16 * 1024),
            failing: level.failing.into_iter().take(64).map(Into::into).collect(),
            observed_at_us: level.observed_at.as_microsecond(),
        }
    }
}

impl TryFrom<pb::Progress> for Progress {
    type Error = BadField;

    fn try_from(wire: pb::Progress) -> Result<Self, BadField> {
        let weight = |weight: pb::Weight| {
            Ok(Weight {
                wanted: percent(weight.wanted)?,
                real: percent(weight.real)?,
                source: match weight.source() {
                    pb::WeightSource::Pods => WeightSource::Pods,
                    pb::WeightSource::Router => WeightSource::Router,
                    pb::WeightSource::Unspecified => {
                        return Err(BadField::new("weight.source", "is unknown to this version"));
                    }
                },
            })
        };
        let failing = bounded(wire.failing, 64, "progress.failing")?;
        let pods = wire.pods.unwrap_or_default();
        Ok(Self {
            object: present(wire.object, "progress.object")?.try_into()?,
            standing: present(wire.standing, "progress.standing")?.try_into()?,
            revision: text(wire.revision, NAME, "progress.revision")?,
            stable: text(wire.stable, NAME, "progress.stable")?,
            step: wire.step.map(|step| StepPosition {
                index: size(step.index),
                total: size(step.total),
            }),
            weight: wire.weight.map(weight).transpose()?,
            pods: PodCounts {
                desired: pods.desired,
                new: pods.new,
                new_available: pods.new_available,
                old: pods.old,
                old_available: pods.old_available,
            },
            expect: expect(wire.expect, "progress.expect")?,
            message: text(wire.message, 16 * 1024, "progress.message")?,
            failing: failing
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            observed_at: time(wire.observed_at_us, "progress.observed_at_us")?,
        })
    }
}

fn percent(value: u32) -> Result<u8, BadField> {
    match u8::try_from(value) {
        Ok(value) if value <= 100 => Ok(value),
        _ => Err(BadField::new("weight", "is not between 0 and 100")),
    }
}

impl From<WeightSource> for pb::WeightSource {
    fn from(source: WeightSource) -> Self {
        match source {
            WeightSource::Pods => Self::Pods,
            WeightSource::Router => Self::Router,
        }
    }
}

impl From<Standing> for pb::Standing {
    fn from(standing: Standing) -> Self {
        let plain = |place: pb::Place| Self {
            place: place.into(),
            ..Self::default()
        };
        match standing {
            Standing::Aborted => plain(pb::Place::Aborted),
            Standing::ChangedElsewhere { by } => Self {
                by: cut(by, 4096),
                ..plain(pb::Place::ChangedElsewhere)
            },
            Standing::Degraded => plain(pb::Place::Degraded),
            Standing::Done => plain(pb::Place::Done),
            Standing::Invalid => plain(pb::Place::Invalid),
            Standing::Missing => plain(pb::Place::Missing),
            Standing::Moving => plain(pb::Place::Moving),
            Standing::NotObserved => plain(pb::Place::NotObserved),
            Standing::PausedByHand => plain(pb::Place::PausedByHand),
            Standing::AtPause {
                index,
                ready,
                inconclusive,
            } => Self {
                index: count(index),
                ready,
                inconclusive,
                ..plain(pb::Place::AtPause)
            },
        }
    }
}

impl TryFrom<pb::Standing> for Standing {
    type Error = BadField;

    fn try_from(wire: pb::Standing) -> Result<Self, BadField> {
        Ok(match wire.place() {
            pb::Place::Aborted => Self::Aborted,
            pb::Place::ChangedElsewhere => Self::ChangedElsewhere {
                by: text(wire.by, 4096, "standing.by")?,
            },
            pb::Place::Degraded => Self::Degraded,
            pb::Place::Done => Self::Done,
            pb::Place::Invalid => Self::Invalid,
            pb::Place::Missing => Self::Missing,
            pb::Place::Moving => Self::Moving,
            pb::Place::NotObserved => Self::NotObserved,
            pb::Place::PausedByHand => Self::PausedByHand,
            pb::Place::AtPause => Self::AtPause {
                index: size(wire.index),
                ready: wire.ready,
                inconclusive: wire.inconclusive,
            },
            pb::Place::Unspecified => {
                return Err(BadField::new("standing.place", "is unknown to this version"));
            }
        })
    }
}

impl From<FailingPod> for pb::FailingPod {
    fn from(pod: FailingPod) -> Self {
        let log = pod.log.into_iter().take(20);
        Self {
            pod: pod.pod,
            container: pod.container,
            reason: cut(pod.reason, NAME),
            restarts: pod.restarts,
            exit_code: pod.exit_code,
            message: cut(pod.message, 4096),
            log: log.map(|line| cut(line, 1200)).collect(),
            since_us: pod.since.as_microsecond(),
            unpullable: pod.unpullable,
        }
    }
}

impl TryFrom<pb::FailingPod> for FailingPod {
    type Error = BadField;

    fn try_from(wire: pb::FailingPod) -> Result<Self, BadField> {
        let log = bounded(wire.log, 20, "failing.log")?;
        Ok(Self {
            pod: text(wire.pod, NAME, "failing.pod")?,
            container: text(wire.container, NAME, "failing.container")?,
            reason: text(wire.reason, NAME, "failing.reason")?,
            restarts: wire.restarts,
            exit_code: wire.exit_code,
            message: text(wire.message, 4096, "failing.message")?,
            log: log
                .into_iter()
                .map(|line| text(line, 1200, "failing.log"))
                .collect::<Result<_, _>>()?,
            since: time(wire.since_us, "failing.since_us")?,
            unpullable: wire.unpullable,
        })
    }
}
