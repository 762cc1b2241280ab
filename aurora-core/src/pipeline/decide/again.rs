//! What follows when people take a target back or have it begin once more, and when a queued run is replaced.

use super::person::{Person, Refused, is_under_way};
use super::{Draft, What};
use crate::id::PipelineId;
use crate::pipeline::Pipeline;
use crate::pipeline::deployment::{Deployment, Phase};
use crate::pipeline::event::{Deed, End, LastGood};

/// A target that is over without success begins once more, and what never started because of it waits again.
pub(super) fn retry(draft: &mut Draft, target: Option<&str>, person: &Person) -> Result<(), Refused> {
    is_under_way(&draft.pipeline)?;
    let names: Vec<String> = match target {
        Some(name) => {
            may_retry(&draft.pipeline, find(&draft.pipeline, name)?)?;
            vec![name.to_owned()]
        }
        None => {
            let pipeline = &draft.pipeline;
            let wanted = |t: &&Deployment| may_retry(pipeline, t).is_ok();
            pipeline
                .targets
                .values()
                .filter(wanted)
                .map(|t| t.name.clone())
                .collect()
        }
    };
    if names.is_empty() {
        let why = "no target has failed";
        return Err(Refused::NothingToRetry { why });
    }
    for target in names {
        draft.push(What::TargetRetried { target }.by(person.deed()));
    }
    while let Some(target) = held_up(&draft.pipeline) {
        draft.push(What::TargetRetried { target }.by(person.deed()));
    }
    Ok(())
}

/// A target that never started and whose dependencies have not failed any more.
fn held_up(pipeline: &Pipeline) -> Option<String> {
    pipeline
        .targets
        .values()
        .find(|t| t.ended_as(End::NeverStarted) && pipeline.failed_dependency(t).is_none())
        .map(|t| t.name.clone())
}

/// Whether a target of a run that goes on can begin once more.
pub(in crate::pipeline) fn may_retry(pipeline: &Pipeline, target: &Deployment) -> Result<(), Refused> {
    let not_ready = |why: String| {
        let target = target.name.clone();
        Err(Refused::TargetNotReady { target, why })
    };
    match &target.phase {
        Phase::Ended {
            end: End::Succeeded, ..
        } => not_ready("has succeeded".to_owned()),
        Phase::Ended { .. } => match pipeline.failed_dependency(target) {
            Some(failed) => not_ready(format!(
                "depends on `{failed}`, which has not succeeded; retry that one"
            )),
            None => Ok(()),
        },
        _ => not_ready("has not ended; roll it back or cancel the pipeline first".to_owned()),
    }
}

/// A target goes back to the last plan that succeeded there, or to one that a person named.
pub(super) fn roll_back(
    draft: &mut Draft,
    target: Option<&str>,
    to: Option<LastGood>,
    person: &Person,
) -> Result<(), Refused> {
    is_under_way(&draft.pipeline)?;
    let pipeline = &draft.pipeline;
    let target = match target {
        Some(name) => find(pipeline, name)?,
        None => only(pipeline)?,
    };
    may_roll_back(pipeline, target, to.is_some())?;
    let target = target.name.clone();
    draft.push(What::RollbackStarted { target, to }.by(person.deed()));
    Ok(())
}

/// Whether a target can be taken back now: to the plan before it, or (`named`) to one that a person names.
pub(in crate::pipeline) fn may_roll_back(
    pipeline: &Pipeline,
    target: &Deployment,
    named: bool,
) -> Result<(), Refused> {
    let not_ready = |why: &str| {
        let (target, why) = (target.name.clone(), why.to_owned());
        Err(Refused::TargetNotReady { target, why })
    };
    match &target.phase {
        _ if pipeline.is_queued() => return Err(Refused::Queued),
        Phase::Waiting | Phase::Before => {
            return not_ready(
                "has not started, so there is nothing to take back; cancel the pipeline to end it",
            );
        }
        Phase::Running(run) if run.undo => return not_ready("is going back already"),
        Phase::Running(_) | Phase::After => {}
        Phase::Ended { end, .. } => match end {
            End::NeverStarted => return not_ready("never started, so there is nothing to take back"),
            End::RolledBack if !named => {
                return not_ready("is back already; name the run to go back to another one");
            }
            End::Failed | End::LeftAsIs | End::RollbackFailed | End::RolledBack | End::Succeeded => {}
        },
    }
    if !named && target.last_good.is_none() {
        return not_ready("has no earlier plan that succeeded; cancelling the pipeline leaves it as it is");
    }
    Ok(())
}

/// A newer run takes the place of one that waits for its turn.
pub(super) fn supersede(draft: &mut Draft, by: PipelineId, deed: Deed) -> Result<(), Refused> {
    is_under_way(&draft.pipeline)?;
    if !draft.pipeline.is_queued() {
        return Err(Refused::Stopping);
    }
    draft.push(What::Superseded { by }.by(deed));
    Ok(())
}

pub(in crate::pipeline) fn find<'a>(pipeline: &'a Pipeline, name: &str) -> Result<&'a Deployment, Refused> {
    pipeline.targets.get(name).ok_or_else(|| Refused::NoSuchTarget {
        target: name.chars().take(128).collect(),
    })
}

/// The only target that a pipeline has.
pub(in crate::pipeline) fn only(pipeline: &Pipeline) -> Result<&Deployment, Refused> {
    let mut targets = pipeline.targets.values();
    match (targets.next(), targets.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Refused::Ambiguous {
            targets: pipeline.targets.keys().cloned().collect(),
        }),
    }
}
