//! The rules and their times, shared by deciding, by waking and by saying why something waits.

use std::time::Duration;

use jiff::Timestamp;

use crate::command::{Acted, Action, Direction};
use crate::manifest::ObjectRef;
use crate::pipeline::deployment::{ActState, Deployment, Phase, Run, SeenLevel, Stage};
use crate::pipeline::event::{Answer, AskedAct, Cause, Evidence};
use crate::pipeline::gate::{Gate, Place};
use crate::pipeline::{Pipeline, later};
use crate::progress::{FailingPod, Progress, Standing};
use crate::strategy::Strategy;

/// How long a workload may be degraded or invalid before its target fails.
pub(crate) const BAD_FOR: Duration = Duration::from_secs(30);

/// How long an image may be impossible to pull.
pub(crate) const UNPULLABLE_FOR: Duration = Duration::from_secs(60);

/// How often a new pod may restart: the last of these fails its target.
pub(crate) const RESTARTS: u32 = 3;

/// From one healing apply to the next, so that two writers do not fight without pause.
pub(crate) const BETWEEN_APPLIES: Duration = Duration::from_secs(30);

/// How long a gate may be seen standing after its act was answered before it is asked again; doubles.
pub(crate) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long our apply may not be taken up before that is said.
pub(crate) const NOT_SEEN_FOR: Duration = Duration::from_secs(60);

/// How long levels that only count pods wait to be stored.
pub(crate) const BETWEEN_COUNTS: Duration = Duration::from_secs(2);

/// Whether nothing stands between a target and its start.
pub(crate) fn may_begin(pipeline: &Pipeline, target: &Deployment) -> bool {
    let before_is_behind = target
        .gates_where(|place| matches!(place, Place::Before(_)))
        .all(Gate::is_behind);
    matches!(target.phase, Phase::Waiting | Phase::Before)
        && pipeline.stopping.is_none()
        && !pipeline.is_queued()
        && before_is_behind
        && pipeline.dependencies_succeeded(target)
}

/// Where a Rollout is with regard to the pause at an index of its steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reached {
    /// It has gone further, or has nothing to do.
    Beyond,
    /// Not there yet.
    No,
    /// It stands there with its new pods available.
    Stands,
}

/// Tells where a Rollout is with regard to a pause. What is new in this plan counts only when it is done.
pub(crate) fn reached(level: &Progress, index: usize) -> Reached {
    let moves = !level.stable.is_empty() && level.stable != level.revision;
    match level.standing {
        Standing::AtPause { index: at, ready, .. } if at == index && ready => Reached::Stands,
        Standing::AtPause { index: at, .. } if at > index => Reached::Beyond,
        Standing::Done => Reached::Beyond,
        Standing::Moving if moves && level.step.is_some_and(|step| step.index > index) => Reached::Beyond,
        _ => Reached::No,
    }
}

/// The Rollouts of a gate with their step indices, and what is seen of each.
pub(crate) fn gate_rollouts(
    target: &Deployment,
    step: usize,
) -> impl Iterator<Item = (&str, usize, Option<&SeenLevel>)> {
    target.steps.steps.get(step).into_iter().flat_map(move |mapped| {
        mapped
            .index
            .iter()
            .map(move |(name, index)| (name.as_str(), *index, target.rollout(name)))
    })
}

/// The Rollouts that move by blue/green, and what is seen of each.
pub(crate) fn blue_green(target: &Deployment) -> impl Iterator<Item = (&str, Option<&SeenLevel>)> {
    let moves = matches!(target.strategy, Some(Strategy::BlueGreen(_)));
    target
        .steps
        .blue_green
        .iter()
        .filter(move |_| moves)
        .map(|name| (name.as_str(), target.rollout(name)))
}

/// Tells where a blue/green Rollout is with regard to its redirect. What is new in this plan counts only when it is done.
pub(crate) fn redirected(level: &Progress) -> Reached {
    let goes_there = level.weight.is_some_and(|weight| weight.real == 100);
    match level.standing {
        Standing::AtPause { ready: true, .. } => Reached::Stands,
        Standing::Done => Reached::Beyond,
        Standing::Moving if moves(level) && goes_there => Reached::Beyond,
        _ => Reached::No,
    }
}

/// Whether the Rollouts of a blue/green target were told to redirect.
pub(crate) fn is_redirecting(run: &Run) -> bool {
    run.acts.iter().any(|state| state.act.action == Action::Promote)
}

/// Rollouts that stand at a pause of their own: a user's Rollout has steps that the file does not know.
///
/// Nobody but a person in the cluster moves them on, so no timeout counts meanwhile.
pub(crate) fn own_pauses<'a>(target: &'a Deployment, run: &'a Run) -> impl Iterator<Item = &'a Progress> {
    let mapped = |name: &String, index: usize| {
        run.steps
            .steps
            .iter()
            .any(|step| step.gate && step.index.get(name) == Some(&index))
    };
    // Going back and first deployments are promoted in full, past every pause.
    let gated = run.direction == Direction::Forward && !target.is_first();
    let redirects = |name: &str| blue_green(target).any(|(other, _)| other == name);
    run.steps
        .rollouts
        .keys()
        .filter(move |_| gated)
        .filter_map(move |name| Some((name, &target.rollout(name)?.level)))
        .filter(move |(name, level)| match level.standing {
            Standing::AtPause { index, .. } => !redirects(name) && !mapped(name, index),
            _ => false,
        })
        .map(|(_, level)| level)
}

/// The last act on an object, as far as asking again is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AskAgain {
    /// Now: it was never asked, or it stands at another pause than the one that was acted on.
    Now,
    /// Not before it is answered.
    AfterAnswer,
    /// At this time, if it then still stands.
    At(Timestamp),
}

/// When an act on a standing object is to be asked again.
pub(crate) fn ask_again(run: &Run, level: &Progress) -> AskAgain {
    let Some(last) = run.last_act(&level.object) else {
        return AskAgain::Now;
    };
    let Some((answer, at)) = &last.answer else {
        return AskAgain::AfterAnswer;
    };
    let took_effect = matches!(answer, Answer::Acted(Acted::Done | Acted::Unchanged));
    if took_effect && last.act.expect.is_some() && last.act.expect != level.expect {
        return AskAgain::Now;
    }
    let same = |act: &&ActState| act.act.object == level.object && act.act.expect == level.expect;
    let times = u32::try_from(run.acts.iter().filter(same).count()).unwrap_or(u32::MAX);
    let wait = ASK_AGAIN_AFTER.saturating_mul(1 << times.saturating_sub(1).min(4));
    AskAgain::At(later(*at, wait))
}

/// When asking again is due, for the timer; `None` where nothing was asked or no answer is there.
pub(crate) fn ask_again_at(run: &Run, level: &Progress) -> Option<Timestamp> {
    match ask_again(run, level) {
        AskAgain::At(at) if wants_promotion(run, level) => Some(at),
        _ => None,
    }
}

/// Whether an object that was acted on is still to be moved.
fn wants_promotion(run: &Run, level: &Progress) -> bool {
    let Some(last) = run.last_act(&level.object) else {
        return false;
    };
    match level.standing {
        Standing::AtPause { .. } => true,
        Standing::Moving => {
            last.act.action == Action::PromoteFull
                && moves(level)
                && !matches!(
                    last.answer,
                    Some((Answer::Acted(Acted::Done | Acted::Unchanged), _))
                )
        }
        _ => false,
    }
}

/// Whether a Rollout is on the way from one revision to another.
pub(crate) fn moves(level: &Progress) -> bool {
    !level.revision.is_empty() && !level.stable.is_empty() && level.revision != level.stable
}

/// Acts that bring all Rollouts to the end at once: for first deployments and for going back.
pub(crate) fn full_promotions(target: &Deployment, run: &Run, now: Timestamp) -> Vec<AskedAct> {
    run.steps
        .rollouts
        .keys()
        .filter_map(|name| target.rollout(name))
        .map(|seen| &seen.level)
        .filter(|level| match level.standing {
            Standing::AtPause { .. } | Standing::Moving if moves(level) => match ask_again(run, level) {
                AskAgain::Now => run.last_act(&level.object).is_none() || wants_promotion(run, level),
                AskAgain::At(at) => at <= now && wants_promotion(run, level),
                AskAgain::AfterAnswer => false,
            },
            _ => false,
        })
        .map(|level| AskedAct {
            object: level.object.clone(),
            action: Action::PromoteFull,
            expect: level.expect.clone(),
        })
        .collect()
}

/// A promote for an object that stands at a pause.
pub(crate) fn promote(level: &Progress) -> AskedAct {
    let inconclusive = matches!(
        level.standing,
        Standing::AtPause {
            inconclusive: true,
            ..
        }
    );
    AskedAct {
        object: level.object.clone(),
        action: if inconclusive {
            Action::Skip
        } else {
            Action::Promote
        },
        expect: level.expect.clone(),
    }
}

/// Why a target has failed, if it has.
pub(crate) fn failure(pipeline: &Pipeline, target: &Deployment, run: &Run, now: Timestamp) -> Option<Cause> {
    if matches!(run.stage, Stage::Applying | Stage::Moving) {
        let observed = target.levels.values();
        for seen in observed {
            if let Some(cause) = failing_level(&target.name, run, seen, now) {
                return Some(cause);
            }
        }
    }
    timed_out(pipeline, target, run, now)
}

/// Whether the time from an apply or an opened gate to the next gate or the end is over.
pub(crate) fn timed_out(
    pipeline: &Pipeline,
    target: &Deployment,
    run: &Run,
    now: Timestamp,
) -> Option<Cause> {
    let from = run.clock?;
    if own_pauses(target, run).next().is_some() || now < later(from, pipeline.timeout.as_duration()) {
        return None;
    }
    let what = match run.stage {
        Stage::Aborting => "its Rollouts could not be aborted",
        Stage::Applying => "its plan was not applied",
        Stage::Moving => "it did not reach its next gate or its end",
        Stage::Finishing => "its plan was not finished",
    };
    let details = target
        .levels
        .values()
        .filter(|seen| seen.level.standing != Standing::Done)
        .map(|seen| describe(&seen.level))
        .collect();
    Some(Cause {
        code: "timeout".to_owned(),
        message: format!(
            "target `{}`: {what} within {}; look at the pods' events, or raise deploymentConfig.timeout",
            target.name, pipeline.timeout
        ),
        details,
    })
}

/// An abort that is older than this plan's move: the same template was brought in before and aborted then. It is
/// taken back once ([`Action::Retry`]); until when that may take.
pub(crate) fn aborted_before(run: &Run, seen: &SeenLevel) -> Option<Timestamp> {
    // Whatever is seen after a plan was applied again may have been done meanwhile.
    if seen.level.standing != Standing::Aborted || !seen.from_start || run.reapplied.is_some() {
        return None;
    }
    let is_retry = |act: &&ActState| act.act.object == seen.level.object && act.act.action == Action::Retry;
    Some(match run.acts.iter().find(is_retry) {
        Some(ActState {
            answer: Some((_, at)),
            ..
        }) => later(*at, BAD_FOR),
        _ => Timestamp::MAX,
    })
}

/// Takes back aborts that are older than this plan's move, once each.
pub(crate) fn retries(target: &Deployment, run: &Run) -> Vec<AskedAct> {
    let asked = |object: &ObjectRef| {
        let is_retry = |act: &ActState| act.act.object == *object && act.act.action == Action::Retry;
        run.acts.iter().any(is_retry)
    };
    target
        .levels
        .values()
        .filter(|seen| aborted_before(run, seen).is_some() && !asked(&seen.level.object))
        .map(|seen| AskedAct {
            object: seen.level.object.clone(),
            action: Action::Retry,
            expect: seen.level.expect.clone(),
        })
        .collect()
}

fn failing_level(target: &str, run: &Run, seen: &SeenLevel, now: Timestamp) -> Option<Cause> {
    let level = &seen.level;
    let object = &level.object;
    let on_ours = matches!(
        level.standing,
        Standing::AtPause { .. } | Standing::Degraded | Standing::Moving | Standing::PausedByHand
    );
    let cause = |code: &str, message: String| {
        Some(Cause {
            code: code.to_owned(),
            message: format!("target `{target}`: {message}"),
            details: Vec::new(),
        })
    };
    if on_ours {
        if let Some(pod) = level.failing.iter().find(|pod| pod.restarts >= RESTARTS) {
            return cause("failingPod", format!("{object}: {}", describe_pod(pod)));
        }
        let unpullable = level.failing.iter().find(|pod| pod.unpullable);
        if let (Some(pod), Some(since)) = (unpullable, seen.unpullable_since)
            && now >= later(since, UNPULLABLE_FOR)
        {
            return cause("failingPod", format!("{object}: {}", describe_pod(pod)));
        }
    }
    let long = now >= later(seen.since, BAD_FOR);
    let said = if level.message.is_empty() {
        "the cluster gives no reason"
    } else {
        &level.message
    };
    match level.standing {
        Standing::Aborted
            if aborted_before(run, seen).is_none_or(|until| until <= now) && run.stage == Stage::Moving =>
        {
            cause(
                "aborted",
                format!("{object} was aborted by somebody else: {said}"),
            )
        }
        Standing::Degraded if long && run.stage == Stage::Moving => {
            cause("degraded", format!("{object} is degraded: {said}"))
        }
        Standing::Invalid if long && run.stage == Stage::Moving => {
            cause("invalid", format!("{object} is not accepted: {said}"))
        }
        _ => None,
    }
}

/// A failing pod in one line.
pub(crate) fn describe_pod(pod: &FailingPod) -> String {
    let exit = pod
        .exit_code
        .map(|code| format!(", exit code {code}"))
        .unwrap_or_default();
    let message = if pod.message.is_empty() {
        String::new()
    } else {
        format!(": {}", pod.message)
    };
    format!(
        "pod {}, container {}: {}, {} restart(s){exit}{message}",
        pod.pod, pod.container, pod.reason, pod.restarts
    )
}

/// Where a workload stands, in one line.
pub(crate) fn describe(level: &Progress) -> String {
    let place = match &level.standing {
        Standing::Aborted => "aborted".to_owned(),
        Standing::AtPause { index, ready, .. } => {
            // What has no steps is blue/green.
            let place = match level.step {
                Some(_) => format!("at step {}", index + 1),
                None => "before its redirect".to_owned(),
            };
            let pods = if *ready {
                ""
            } else {
                ", its new pods are not all available"
            };
            format!("paused {place}{pods}")
        }
        Standing::ChangedElsewhere { by } if by.is_empty() => "changed by somebody else".to_owned(),
        Standing::ChangedElsewhere { by } => format!("changed by somebody else ({by})"),
        Standing::Degraded => "degraded".to_owned(),
        Standing::Done => "done".to_owned(),
        Standing::Invalid => "not accepted".to_owned(),
        Standing::Missing => "not there".to_owned(),
        Standing::Moving => "on its way".to_owned(),
        Standing::NotObserved => "not taken up yet".to_owned(),
        Standing::PausedByHand => "paused by hand".to_owned(),
    };
    let pods = format!(
        "{} of {} new pods available, {} old",
        level.pods.new_available, level.pods.desired, level.pods.old
    );
    let message = if level.message.is_empty() {
        String::new()
    } else {
        format!(": {}", level.message)
    };
    format!("{}: {place}, {pods}{message}", level.object)
}

/// What is known of failing pods right now.
pub(crate) fn evidence(target: &Deployment) -> Vec<Evidence> {
    target
        .levels
        .values()
        .flat_map(|seen| {
            seen.level.failing.iter().map(|pod| Evidence {
                object: seen.level.object.clone(),
                pod: pod.clone(),
                at: None,
            })
        })
        .collect()
}

/// Whether an object is one of a plan's workloads.
pub(crate) fn is_workload(run: &Run, object: &ObjectRef) -> bool {
    (object.kind == "Rollout" && run.steps.rollouts.contains_key(&object.name))
        || run.steps.workloads.contains(object)
}
