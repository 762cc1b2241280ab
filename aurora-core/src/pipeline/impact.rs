//! What an act would do, told before it is done: the very decision, taken on a copy.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decide::{Input, Refused, decide};
use super::deployment::{Deployment, Phase};
use super::event::{End, LastGood, Submitted, SubmittedTarget, What};
use super::evolve::evolve;
use super::gate::{Gate, GateRef, Place};
use super::waiting::DeniedView;
use super::{Pipeline, timeline};
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::progress::Standing;
use crate::strategy::{Step, Strategy};

/// What an act would do.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Impact {
    /// The act.
    pub action: String,
    /// Whether the one who asks may do it now.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<DeniedView>,
    /// It makes a new run; else it acts in the run itself.
    pub new_run: bool,
    /// What becomes of each target that it touches.
    pub effects: Vec<Change>,
    /// What is under way and would be stopped, in words.
    pub interrupts: Vec<String>,
    /// Targets that start, wait or never start because of it, and which of these.
    pub dependants: Vec<Dependant>,
    /// What cannot be taken back, in words.
    pub irreversible: Vec<String>,
    /// How the rest is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// What is worth knowing, in words.
    pub warnings: Vec<String>,
}

/// What becomes of one target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ImpactChange))]
pub struct Change {
    /// The target.
    pub target: String,
    /// Which version is on its way or serves now.
    pub from: Version,
    /// Which one then.
    pub to: Version,
    /// In words.
    pub text: String,
}

/// A version in one place.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ImpactVersion))]
pub struct Version {
    /// The run that brought it, or will; absent: a run that does not exist yet, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<PipelineId>,
    /// Its plan, where it is rendered already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// Its share of the traffic, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
}

/// A target that is touched only because another one is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Dependant {
    /// The target.
    pub target: String,
    /// `neverStarts`, `waits` or `starts`.
    pub then: String,
}

/// How an act is taken back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Undo {
    /// The act that does it.
    pub action: String,
    /// In words.
    pub text: String,
}

/// What an act in a run that goes on would do; everything follows from what it would store.
///
/// # Errors
/// [`Refused`] as the act itself would be.
pub fn impact(pipeline: &Pipeline, action: &str, input: Input, now: Timestamp) -> Result<Impact, Refused> {
    let events = decide(pipeline, input, now)?;
    let mut impact = Impact {
        action: action.to_owned(),
        allowed: true,
        ..Impact::default()
    };
    let mut after = pipeline.clone();
    for event in &events {
        let before = after.clone();
        after = evolve(after, event);
        follow(&mut impact, &before, &after, &event.what);
    }
    held_up(&mut impact, &after);
    let touched: BTreeSet<&str> = impact
        .effects
        .iter()
        .map(|change| change.target.as_str())
        .collect();
    for target in touched.iter().filter_map(|name| pipeline.targets.get(*name)) {
        impact.warnings.extend(target.away.as_ref().map(|away| {
            format!(
                "target `{}` waits for its agent first: {}",
                target.name, away.message
            )
        }));
    }
    if after.is_final() || after.stopping.is_some() {
        impact
            .irreversible
            .push("the pipeline ends: what has not started never starts in it".to_owned());
    }
    impact.undo = undo(action);
    Ok(impact)
}

fn follow(impact: &mut Impact, before: &Pipeline, after: &Pipeline, what: &What) {
    let Some((was, is)) = what
        .target()
        .and_then(|name| Some((before.targets.get(name)?, after.targets.get(name)?)))
    else {
        return;
    };
    let text = timeline::text(what);
    match what {
        What::RollbackStarted { .. } => {
            if matches!(was.phase, Phase::Running(_) | Phase::After) {
                impact.interrupts.push(interrupted(was));
            }
            let to = is.back_to.as_ref().map(good).unwrap_or_default();
            impact.effects.push(change(before, was, to, text));
            if was.gates.iter().any(|gate| gate.decided_by().is_some()) {
                let name = &was.name;
                impact.irreversible.push(format!(
                    "what was approved for `{name}` counts no more: whoever deploys it again asks anew"
                ));
            }
        }
        What::TargetEnded { end, .. } => match end {
            End::NeverStarted if !matches!(was.phase, Phase::Running(_)) => {
                impact.dependants.push(dependant(was, "neverStarts"));
            }
            End::LeftAsIs | End::NeverStarted => {
                impact.interrupts.push(interrupted(was));
                let to = serving(before, was);
                impact.effects.push(change(before, was, to, text));
            }
            _ => {}
        },
        What::TargetRetried { .. } => {
            let to = Version {
                run: Some(before.id),
                plan: Some(was.plan),
                weight: Some(first_weight(was.strategy.as_ref())),
            };
            if impact.effects.is_empty()
                || before.failed_dependency(was).is_none() && was.started_at.is_some()
            {
                impact.effects.push(change(before, was, to, text));
            } else {
                impact.dependants.push(dependant(was, "waits"));
            }
        }
        What::GateOpened { gate } | What::GateSkipped { gate } => opened(impact, before, after, was, gate),
        _ => {}
    }
}

fn opened(impact: &mut Impact, before: &Pipeline, after: &Pipeline, target: &Deployment, at: &GateRef) {
    let Some(gate) = target.gate(at.place) else {
        return;
    };
    let name = &target.name;
    let others = target
        .standing_gates()
        .filter(|(place, _)| *place != at.place)
        .count();
    if others > 0 && !matches!(at.place, Place::Step(_)) {
        impact.warnings.push(format!(
            "{others} other gate(s) of `{name}` still stand: it goes on when they are open too"
        ));
    }
    let weight = next_weight(target, gate);
    let mut to = serving(before, target);
    match at.place {
        Place::Before(_) => {
            to = Version {
                run: Some(before.id),
                plan: Some(target.plan),
                weight: Some(weight),
            };
        }
        Place::Step(_) | Place::Redirect(_) => to.weight = Some(weight),
        Place::ShutDown(_) => impact.irreversible.push(format!(
            "the pods of the old version of `{name}` end: going back has to start them anew"
        )),
        Place::After(_) => {}
    }
    let text = match at.place {
        Place::Before(_) => format!("target `{name}` starts"),
        Place::Step(_) | Place::Redirect(_) => format!("target `{name}` goes to {weight} %"),
        Place::ShutDown(_) => format!("the old version of `{name}` is shut down"),
        Place::After(_) => format!("target `{name}` is good"),
    };
    impact.effects.push(change(before, target, to, text));
    if weight == 100 {
        let waits = |t: &&Deployment| t.depends_on.contains(name) && matches!(t.phase, Phase::Waiting);
        let starts = after.targets.values().filter(waits);
        impact.dependants.extend(starts.map(|t| dependant(t, "starts")));
    }
}

/// Targets that can never start any more, because what they depend on is taken back.
fn held_up(impact: &mut Impact, after: &Pipeline) {
    let mut lost: BTreeSet<&str> = after
        .targets
        .values()
        .filter(|t| t.run().is_some_and(|run| run.undo))
        .map(|t| t.name.as_str())
        .collect();
    loop {
        let next = after.targets.values().find(|t| {
            matches!(t.phase, Phase::Waiting | Phase::Before)
                && !lost.contains(t.name.as_str())
                && t.depends_on.iter().any(|name| lost.contains(name.as_str()))
        });
        let Some(next) = next else {
            return;
        };
        lost.insert(&next.name);
        impact.dependants.push(dependant(next, "neverStarts"));
    }
}

/// What a new run would do: `live` tells what runs in the place of each of its targets.
pub fn impact_of_run(
    action: &str,
    run: &Submitted,
    live: impl Fn(&SubmittedTarget) -> Option<LastGood>,
) -> Impact {
    let mut impact = Impact {
        action: action.to_owned(),
        allowed: true,
        new_run: true,
        undo: undo(action),
        ..Impact::default()
    };
    for (name, target) in &run.targets {
        if !target.depends_on.is_empty() {
            impact.dependants.push(Dependant {
                target: name.clone(),
                then: "waits".to_owned(),
            });
        }
        let text = if target.back {
            format!("target `{name}` goes back in full, without gates")
        } else {
            format!("target `{name}` is deployed by its strategy, with fresh gates")
        };
        let to = Version {
            run: None,
            plan: Some(target.plan),
            weight: Some(if target.back {
                100
            } else {
                first_weight(target.strategy.as_ref())
            }),
        };
        let live = live(target);
        if live.is_none() {
            impact.warnings.push(format!(
                "nothing has succeeded in the place of `{name}` yet: its strategy is not exercised"
            ));
        }
        impact.effects.push(Change {
            target: name.clone(),
            from: live.as_ref().map(good).unwrap_or_default(),
            to,
            text,
        });
    }
    impact
}

fn change(pipeline: &Pipeline, target: &Deployment, to: Version, text: String) -> Change {
    Change {
        target: target.name.clone(),
        from: serving(pipeline, target),
        to,
        text,
    }
}

fn dependant(target: &Deployment, then: &str) -> Dependant {
    Dependant {
        target: target.name.clone(),
        then: then.to_owned(),
    }
}

fn good(good: &LastGood) -> Version {
    Version {
        run: Some(good.pipeline),
        plan: Some(good.plan),
        weight: Some(100),
    }
}

/// The version of a target that is on its way, with its share; where none is, the one that serves.
fn serving(pipeline: &Pipeline, target: &Deployment) -> Version {
    let own = |weight| Version {
        run: Some(pipeline.id),
        plan: Some(target.plan),
        weight,
    };
    match &target.phase {
        Phase::Running(run) if !run.undo => own(real_weight(target)),
        Phase::After => own(Some(100)),
        Phase::Ended {
            end: End::Succeeded, ..
        } => own(Some(100)),
        Phase::Ended {
            end: End::Failed | End::LeftAsIs,
            ..
        } => own(None),
        _ => target
            .back_to
            .as_ref()
            .or(target.last_good.as_ref())
            .map(good)
            .unwrap_or_default(),
    }
}

/// The least share that any of its Rollouts has.
fn real_weight(target: &Deployment) -> Option<u8> {
    let of = |level: &crate::progress::Progress| match level.standing {
        Standing::Done => Some(100),
        _ => level.weight.map(|weight| weight.real),
    };
    target.levels.values().filter_map(|seen| of(&seen.level)).min()
}

fn interrupted(target: &Deployment) -> String {
    let name = &target.name;
    match target.standing_gates().next() {
        Some((place, _)) => {
            let gate = timeline::gate_in_words(&GateRef::new(name, place));
            format!("target `{name}` stands at {gate} and goes no further")
        }
        None => format!("target `{name}` is on its way and goes no further"),
    }
}

/// The weight that holds once a gate is behind.
pub(super) fn next_weight(target: &Deployment, gate: &Gate) -> u8 {
    let after = match gate.place {
        Place::Before(_) => return first_weight(target.strategy.as_ref()),
        Place::Step(step) => step + 1,
        Place::Redirect(_) | Place::ShutDown(_) | Place::After(_) => return 100,
    };
    let steps = target.strategy.as_ref().map(Strategy::steps).unwrap_or_default();
    weight_from(steps.get(after..).unwrap_or_default())
}

fn first_weight(strategy: Option<&Strategy>) -> u8 {
    weight_from(strategy.map(Strategy::steps).unwrap_or_default())
}

fn weight_from(steps: &[Step]) -> u8 {
    let weight = steps.iter().find_map(|step| match step {
        Step::SetWeight(weight) => Some(*weight),
        Step::Pause(_) => None,
    });
    weight.unwrap_or(100)
}

fn undo(action: &str) -> Option<Undo> {
    let (undo, text) = match action {
        "approve" | "skip" => ("rollback", "roll the target back: its plan of before comes back"),
        "cancel" | "reject" => (
            "retry",
            "retry: a new run deploys the same plans, with fresh gates",
        ),
        "retry" | "redeploy" => ("rollback", "roll the target back: its plan of before comes back"),
        "rollback" => (
            "redeploy",
            "redeploy the run that was taken back, or retry it where it goes on",
        ),
        _ => return None,
    };
    Some(Undo {
        action: undo.to_owned(),
        text: text.to_owned(),
    })
}
