//! What follows from what the runner heard of agents; what is out of date has no consequence.

use super::rules;
use super::running;
use super::{Consequence, Draft, What};
use crate::command::{Acted, Action, Applied, Direction, Failure};
use crate::error::ErrorKind;
use crate::pipeline::deployment::{ActState, Deployment, Run, SeenLevel, Stage};
use crate::pipeline::event::{Answer, Cause, ExternalDeed, LastGood};
use crate::pipeline::gate::{Gate, Place};
use crate::pipeline::{Pipeline, later};
use crate::progress::{Progress, Standing, Weight, WeightSource};

/// What the runner can hear.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The agent took a command in hand, or may have.
    Accepted {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
    },
    /// An act was answered.
    Acted {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// Its place among those that the event asked for.
        ordinal: u32,
        /// The answer.
        answer: Answer,
    },
    /// A plan was applied.
    Applied {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// What was changed.
        applied: Applied,
    },
    /// The agent cannot be reached.
    Away {
        /// The target.
        target: String,
        /// A stable code.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// The last plan that succeeded was looked up: the target may begin.
    Begin {
        /// The target.
        target: String,
        /// The plan, if there is one.
        last_good: Option<LastGood>,
    },
    /// A command failed for good.
    Failed {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// Its place among those that the event asked for.
        ordinal: u32,
        /// Why.
        failure: Failure,
    },
    /// A plan was finished.
    Finished {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// What was changed.
        applied: Applied,
    },
    /// Present levels of workloads.
    Levels {
        /// The target.
        target: String,
        /// Of which observation.
        tag: u64,
        /// The levels, in any order.
        levels: Vec<Progress>,
    },
    /// The agent can be reached.
    Reached {
        /// The target.
        target: String,
    },
}

impl Heard {
    fn target(&self) -> &str {
        match self {
            Self::Accepted { target, .. }
            | Self::Acted { target, .. }
            | Self::Applied { target, .. }
            | Self::Away { target, .. }
            | Self::Begin { target, .. }
            | Self::Failed { target, .. }
            | Self::Finished { target, .. }
            | Self::Levels { target, .. }
            | Self::Reached { target } => target,
        }
    }
}

pub(super) fn hear(draft: &mut Draft, heard: Heard) {
    let pipeline = &draft.pipeline;
    if pipeline.is_final() || pipeline.parked.is_some() {
        return;
    }
    let Some(target) = pipeline.targets.get(heard.target()) else {
        return;
    };
    let consequences = match (target.run(), heard) {
        (None, Heard::Begin { last_good, .. }) => begin(pipeline, target, last_good),
        (Some(run), heard) => while_running(draft, target, run, heard),
        _ => Vec::new(),
    };
    draft.extend(consequences);
}

fn begin(pipeline: &Pipeline, target: &Deployment, last_good: Option<LastGood>) -> Vec<Consequence> {
    if !rules::may_begin(pipeline, target) {
        return Vec::new();
    }
    let started = What::TargetStarted {
        target: target.name.clone(),
        last_good,
    };
    vec![started.into()]
}

fn while_running(draft: &Draft, target: &Deployment, run: &Run, heard: Heard) -> Vec<Consequence> {
    let name = || target.name.clone();
    match heard {
        Heard::Accepted { asked, .. } if target.away.is_some() || (run.asked == asked && !run.accepted) => {
            vec![
                What::CommandAccepted {
                    target: name(),
                    asked,
                }
                .into(),
            ]
        }
        Heard::Away { code, message, .. } if target.away.is_none() => {
            let target = name();
            vec![
                What::AgentAway {
                    target,
                    code,
                    message,
                }
                .into(),
            ]
        }
        Heard::Reached { .. } if target.away.is_some() => vec![What::AgentReached { target: name() }.into()],
        Heard::Applied { asked, applied, .. } if run.stage == Stage::Applying && run.asked == asked => {
            let target = name();
            vec![
                What::Applied {
                    target,
                    asked,
                    applied,
                }
                .into(),
            ]
        }
        Heard::Finished { asked, applied, .. }
            if run.stage == Stage::Finishing && run.finish_asked == asked =>
        {
            finished(target, run, asked, applied)
        }
        Heard::Acted {
            asked,
            ordinal,
            answer,
            ..
        } if is_unanswered(run, asked, ordinal) => answered(target, asked, ordinal, answer),
        Heard::Failed {
            asked,
            ordinal,
            failure,
            ..
        } => failed(target, run, (asked, ordinal), failure),
        Heard::Levels { tag, levels, .. } if run.tag == tag => levels_seen(draft, target, run, levels),
        _ => Vec::new(),
    }
}

fn is_unanswered(run: &Run, asked: u64, ordinal: u32) -> bool {
    run.acts
        .iter()
        .any(|act| act.asked == asked && act.ordinal == ordinal && act.answer.is_none())
}

fn is_shut_down(run: &Run, asked: u64, ordinal: u32) -> bool {
    run.acts
        .iter()
        .any(|act| act.asked == asked && act.ordinal == ordinal && act.act.action == Action::ShutDownOld)
}

fn answered(target: &Deployment, asked: u64, ordinal: u32, answer: Answer) -> Vec<Consequence> {
    let answered = What::ActAnswered {
        target: target.name.clone(),
        asked,
        ordinal,
        answer,
    };
    vec![answered.into()]
}

fn finished(target: &Deployment, run: &Run, asked: u64, applied: Applied) -> Vec<Consequence> {
    let name = target.name.clone();
    let finished = What::Finished {
        target: name.clone(),
        asked,
        applied,
    };
    let mut consequences = vec![finished.into()];
    if run.undo {
        let end = crate::pipeline::event::End::RolledBack;
        consequences.push(What::TargetEnded { target: name, end }.into());
    }
    consequences
}

/// An act that is refused because things are elsewhere is an answer; anything else that stays wrong ends the target.
fn failed(
    target: &Deployment,
    run: &Run,
    (asked, ordinal): (u64, u32),
    failure: Failure,
) -> Vec<Consequence> {
    let is_act = is_unanswered(run, asked, ordinal);
    let elsewhere =
        matches!(failure.kind, ErrorKind::Conflict | ErrorKind::NotFound) && failure.code != "superseded";
    // An agent need not be allowed to end an old version: then it goes by its delay.
    if is_act && (elsewhere || is_shut_down(run, asked, ordinal)) {
        let (code, message) = (failure.code, failure.message);
        return answered(target, asked, ordinal, Answer::Refused { code, message });
    }
    let is_apply = run.stage == Stage::Applying && run.asked == asked;
    let is_finish = run.stage == Stage::Finishing && run.finish_asked == asked;
    if !is_act && !is_apply && !is_finish {
        return Vec::new();
    }
    let details = failure
        .details
        .iter()
        .map(|detail| format!("{}: {}", detail.object, detail.message))
        .collect();
    let cause = Cause {
        code: failure.code,
        message: format!("target `{}`: {}", target.name, failure.message),
        details,
    };
    match (run.undo, run.stage) {
        (true, Stage::Applying) => running::abort(target, run, cause),
        // An abort that cannot be made is noted; the others still count.
        (true, Stage::Aborting) => {
            let (code, message) = (cause.code, cause.message);
            answered(target, asked, ordinal, Answer::Refused { code, message })
        }
        _ => running::fail(target, run, cause),
    }
}

/// New levels are stored when they say something that a rule asks for; mere counts not more often than every 2 s.
fn levels_seen(draft: &Draft, target: &Deployment, run: &Run, levels: Vec<Progress>) -> Vec<Consequence> {
    let counts_due = target
        .levels_at
        .is_none_or(|at| draft.now >= later(at, rules::BETWEEN_COUNTS) || draft.now < at);
    let mut consequences = Vec::new();
    let mut new = Vec::new();
    for level in levels {
        if !rules::is_workload(run, &level.object) {
            continue;
        }
        let before = target.levels.get(&level.object);
        let store = match before {
            None => true,
            Some(seen) => {
                is_material(&seen.level, &level) || (counts_due && !seen.level.says_the_same(&level))
            }
        };
        if !store {
            continue;
        }
        if let Some(deed) = external_deed(target, run, before, &level) {
            let by = match &level.standing {
                Standing::ChangedElsewhere { by } => by.clone(),
                _ => String::new(),
            };
            consequences.push(Consequence::from(What::ExternalSeen {
                target: target.name.clone(),
                object: level.object.clone(),
                deed,
                by,
            }));
        }
        new.push(level);
    }
    if !new.is_empty() {
        let seen = What::ProgressSeen {
            target: target.name.clone(),
            tag: run.tag,
            levels: new,
        };
        consequences.insert(0, seen.into());
    }
    consequences
}

fn is_material(before: &Progress, now: &Progress) -> bool {
    // What a router says is a decision that took effect; what is counted from pods is a count.
    let shares = |level: &Progress| {
        let routed = |weight: &Weight| (weight.source == WeightSource::Router).then_some(weight.real);
        level.weight.map(|weight| (weight.wanted, routed(&weight)))
    };
    before.standing != now.standing
        || before.revision != now.revision
        || before.stable != now.stable
        || before.step != now.step
        || before.expect != now.expect
        || before.failing != now.failing
        || shares(before) != shares(now)
}

/// What somebody did past Aurora, if a new level shows it.
fn external_deed(
    target: &Deployment,
    run: &Run,
    before: Option<&SeenLevel>,
    level: &Progress,
) -> Option<ExternalDeed> {
    if run.stage != Stage::Moving {
        return None;
    }
    let was = before.map(|seen| &seen.level.standing);
    match &level.standing {
        Standing::PausedByHand if was != Some(&Standing::PausedByHand) => Some(ExternalDeed::Paused),
        // What stood aborted when the move began was aborted before.
        Standing::Aborted if was.is_some() && was != Some(&Standing::Aborted) => Some(ExternalDeed::Aborted),
        Standing::ChangedElsewhere { .. } if !matches!(was, Some(Standing::ChangedElsewhere { .. })) => {
            Some(ExternalDeed::Changed)
        }
        Standing::Missing if was.is_some() && was != Some(&Standing::Missing) => Some(ExternalDeed::Deleted),
        _ if run.direction == Direction::Back || target.is_first() => None,
        _ if rules::blue_green(target).any(|(name, _)| name == level.object.name) => {
            by_hand(target, run, &before?.level, level)
        }
        _ => was_promoted(target, was?, level).then_some(ExternalDeed::Promoted),
    }
}

/// What somebody did with a blue/green Rollout: moved it past its redirect, or shut its old version down.
fn by_hand(target: &Deployment, run: &Run, was: &Progress, level: &Progress) -> Option<ExternalDeed> {
    let stood = matches!(was.standing, Standing::AtPause { .. });
    // What leaves its pause because it is being aborted does not go there.
    let is_told = level.weight.is_some_and(|weight| weight.wanted == 100);
    let goes_on = match level.standing {
        Standing::Done => true,
        Standing::Moving => is_told,
        _ => false,
    };
    if stood && goes_on && was.revision == level.revision {
        let ours = |state: &ActState| {
            let took_effect = matches!(
                state.answer,
                None | Some((Answer::Acted(Acted::Done | Acted::Unchanged), _))
            );
            state.act.object == level.object && state.act.expect == was.expect && took_effect
        };
        return (!run.acts.iter().any(ours)).then_some(ExternalDeed::Promoted);
    }
    let is_held = target
        .gates_where(|place| matches!(place, Place::ShutDown(_)))
        .any(|gate| !gate.is_behind());
    let gone = was.standing == Standing::Done && level.standing == Standing::Done;
    (is_held && gone && was.pods.old > 0 && level.pods.old == 0).then_some(ExternalDeed::ShutDown)
}

/// Whether a Rollout left a gate that nobody opened.
fn was_promoted(target: &Deployment, was: &Standing, level: &Progress) -> bool {
    let Standing::AtPause { index, .. } = was else {
        return false;
    };
    if target.run().is_some_and(|run| {
        run.last_act(&level.object)
            .is_some_and(|act| act.answer.is_none())
    }) {
        return false;
    }
    let shut = |gate: &Gate| match gate.place {
        Place::Step(step) if !gate.is_behind() => {
            rules::gate_rollouts(target, step).any(|(name, at, _)| name == level.object.name && at == *index)
        }
        _ => false,
    };
    target.gates.iter().any(shut) && rules::reached(level, *index) == rules::Reached::Beyond
}
