//! Why a pipeline waits, since when, what time does about it, and what a person can do: as data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::decide::{Approver, rules};
use super::deployment::{Deployment, Phase, Run, Stage};
use super::event::End;
use super::gate::{Gate, GateRef, GateState, Place};
use super::{Pipeline, later};
use crate::command::Direction;
use crate::principal::Actor;
use crate::progress::Standing;
use crate::strategy::{Pause, Step};

/// One thing that is waited for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Stable while it is the same wait.
    pub id: String,
    /// `approval`, `timer`, `dependency`, `agent`, `apply`, `progress`, `finish`, `start`, `operator`.
    pub kind: String,
    /// What it is about.
    pub subject: Subject,
    /// Since when.
    pub since: Timestamp,
    /// When time ends it; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happens then: `open`, `rollback`, `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_then: Option<String>,
    /// The reason.
    pub reason: Reason,
    /// What stands in the way.
    #[serde(default)]
    pub blockers: Vec<Blocker>,
    /// Approvals given of those needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// What can be done about it.
    #[serde(default)]
    pub actions: Vec<ActionView>,
}

/// What a wait is about.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The step of the file, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// A reason for programs and for people.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Reason {
    /// Stable.
    pub code: String,
    /// What the text is made of.
    #[serde(default)]
    pub args: Value,
    /// In words.
    pub text: String,
}

/// Something that stands in the way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Blocker {
    /// `target`, `agent`, `workload`, `person`.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// The approvals that a gate needs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Need {
    /// All of these.
    pub rules: Vec<Rule>,
}

/// So many approvals by holders of any one of these roles.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rule {
    /// Any one of them; empty: everyone who may deploy.
    pub roles: Vec<String>,
    /// How many.
    pub count: u32,
    /// Those given.
    pub given: Vec<Given>,
}

/// One approval.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Given {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Something that a person can do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionView {
    /// `approve`, `reject`, `cancel`.
    pub id: String,
    /// In words.
    pub label: String,
    /// The HTTP method.
    pub method: String,
    /// The path below the API's root.
    pub href: String,
    /// The gate it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// What to present with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// `firm` or `destructive`.
    pub severity: String,
    /// What may be filled in.
    pub fields: Vec<Field>,
    /// Whether the one who looks may do it.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<DeniedView>,
    /// The command line.
    pub cli: String,
}

/// Something to fill in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Field {
    /// Its name in the body.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// At most so many characters.
    pub max: usize,
}

/// Why an action is not allowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeniedView {
    /// Stable.
    pub code: String,
    /// Any one of these would do.
    pub needs: Vec<String>,
}

/// The longest comment.
pub(crate) const MAX_COMMENT: usize = 2000;

/// Who looks: what is offered to them depends on it.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    /// What they may decide.
    pub approver: Approver,
    /// Whether they may deploy at all.
    pub may_deploy: bool,
}

/// Everything that a pipeline waits for; never empty while it is not over.
pub(super) fn waiting(pipeline: &Pipeline, viewer: &Viewer, now: Timestamp) -> Vec<Waiting> {
    if let Some(parked) = &pipeline.parked {
        return vec![Waiting {
            id: "parked".to_owned(),
            kind: "operator".to_owned(),
            subject: Subject::default(),
            since: pipeline.changed_at,
            until: None,
            until_then: None,
            reason: reason(
                "parked",
                json!({"version": parked.version}),
                format!(
                    "{}; nothing is done for this pipeline until a control plane that can read it runs",
                    parked.message
                ),
            ),
            blockers: Vec::new(),
            need: None,
            actions: Vec::new(),
        }];
    }
    if pipeline.is_final() {
        return Vec::new();
    }
    let cancel = cancel_action(pipeline, viewer);
    let mut waits = Vec::new();
    for target in pipeline.targets.values() {
        let gates = target
            .standing_gates()
            .map(|(_, gate)| at_gate(pipeline, target, gate, viewer));
        waits.extend(gates);
        waits.extend(beside_gates(pipeline, target, now));
    }
    for wait in &mut waits {
        wait.actions.push(cancel.clone());
    }
    waits
}

fn reason(code: &str, args: Value, text: String) -> Reason {
    Reason {
        code: code.to_owned(),
        args,
        text,
    }
}

fn wait(target: &Deployment, kind: &str, since: Timestamp, reason: Reason) -> Waiting {
    Waiting {
        id: format!("{}/{kind}", target.name),
        kind: kind.to_owned(),
        subject: Subject {
            target: Some(target.name.clone()),
            ..Subject::default()
        },
        since,
        until: None,
        until_then: None,
        reason,
        blockers: Vec::new(),
        need: None,
        actions: Vec::new(),
    }
}

fn at_gate(pipeline: &Pipeline, target: &Deployment, gate: &Gate, viewer: &Viewer) -> Waiting {
    let at = GateRef::new(&target.name, gate.place);
    let since = gate.standing_since().unwrap_or(pipeline.submitted_at);
    let (kind, reason, then) = match &gate.pause {
        Pause::Timed(span) => (
            "timer",
            reason(
                "timer",
                json!({"seconds": span.as_secs()}),
                format!("target `{}` waits {span}", target.name),
            ),
            "open",
        ),
        Pause::Approval(approval) => {
            let by = if approval.roles.is_empty() {
                "somebody who may deploy".to_owned()
            } else {
                approval.roles.join(" or ")
            };
            let text = format!("target `{}` waits for an approval by {by}", target.name);
            let args = json!({"roles": approval.roles, "given": 0, "of": 1});
            ("approval", reason("approval.missing", args, text), "rollback")
        }
    };
    let mut wait = wait(target, kind, since, reason);
    wait.id = at.to_string();
    wait.until = gate.until();
    wait.until_then = wait.until.map(|_| then.to_owned());
    wait.subject.gate = Some(at.to_string());
    wait.subject.step = match gate.place {
        Place::Step(step) => Some(step),
        Place::Before(_) | Place::After(_) => None,
    };
    if let Some(away) = &target.away {
        wait.blockers.push(blocker("agent", away.message.clone()));
    }
    wait.blockers.extend(paused_by_hand(target));
    if let Pause::Approval(approval) = &gate.pause {
        wait.need = Some(Need {
            rules: vec![Rule {
                roles: approval.roles.clone(),
                count: 1,
                given: Vec::new(),
            }],
        });
        wait.actions = vec![
            gate_action(pipeline, target, gate, &at, viewer, true),
            gate_action(pipeline, target, gate, &at, viewer, false),
        ];
    }
    wait
}

fn blocker(kind: &str, text: String) -> Blocker {
    Blocker {
        kind: kind.to_owned(),
        text,
    }
}

fn paused_by_hand(target: &Deployment) -> impl Iterator<Item = Blocker> {
    target
        .levels
        .values()
        .filter(|seen| seen.level.standing == Standing::PausedByHand)
        .map(|seen| {
            blocker(
                "person",
                format!(
                    "{} is paused by hand; resume it in the cluster",
                    seen.level.object
                ),
            )
        })
}

/// What a target waits for besides gates.
fn beside_gates(pipeline: &Pipeline, target: &Deployment, now: Timestamp) -> Option<Waiting> {
    let name = &target.name;
    match &target.phase {
        Phase::Waiting | Phase::Before if rules::may_begin(pipeline, target) => {
            let text = format!("target `{name}` is about to start");
            Some(wait(
                target,
                "start",
                pipeline.changed_at,
                reason("start", json!({}), text),
            ))
        }
        Phase::Waiting => {
            let open: Vec<&String> = target
                .depends_on
                .iter()
                .filter(|d| {
                    pipeline
                        .targets
                        .get(*d)
                        .is_none_or(|t| !t.ended_as(End::Succeeded))
                })
                .collect();
            let names: Vec<String> = open.iter().map(|d| format!("`{d}`")).collect();
            let text = format!("target `{name}` starts when {} succeeded", names.join(" and "));
            let since = pipeline.submitted_at;
            let mut wait = wait(
                target,
                "dependency",
                since,
                reason("dependency", json!({"targets": open}), text),
            );
            wait.blockers = open
                .iter()
                .filter_map(|d| pipeline.targets.get(*d))
                .map(|t| {
                    blocker(
                        "target",
                        format!("target `{}` is {}", t.name, pipeline.target_state(t).name()),
                    )
                })
                .collect();
            Some(wait)
        }
        Phase::Running(run) => {
            if let Some(away) = &target.away {
                let args = json!({"agent": target.account, "code": away.code});
                let text = format!(
                    "target `{name}` waits for the agent `{}`: {}; start or reconnect it",
                    target.account, away.message
                );
                let mut wait = wait(target, "agent", away.since, reason("agent.away", args, text));
                wait.blockers = vec![blocker("agent", away.message.clone())];
                deadline(pipeline, target, run, &mut wait);
                return Some(wait);
            }
            in_run(pipeline, target, run, now)
        }
        Phase::Before | Phase::After | Phase::Ended { .. } => None,
    }
}

fn in_run(pipeline: &Pipeline, target: &Deployment, run: &Run, now: Timestamp) -> Option<Waiting> {
    let name = &target.name;
    let back = run.direction == Direction::Back;
    let code = |word: &str| {
        if back {
            format!("rollback.{word}")
        } else {
            word.to_owned()
        }
    };
    let prefix = if back { "rolling back: " } else { "" };
    let mut wait = match run.stage {
        Stage::Applying => {
            let text = format!(
                "{prefix}the agent `{}` applies the plan of target `{name}`",
                target.account
            );
            wait(
                target,
                "apply",
                run.since,
                reason(&code("apply"), json!({}), text),
            )
        }
        Stage::Finishing => {
            let text = format!(
                "{prefix}the agent `{}` removes what left the plan of target `{name}`",
                target.account
            );
            wait(
                target,
                "finish",
                run.since,
                reason(&code("finish"), json!({}), text),
            )
        }
        Stage::Moving if target.standing_gates().next().is_some() => return None,
        Stage::Moving => moving(target, run, now, prefix, &code("progress")),
    };
    deadline(pipeline, target, run, &mut wait);
    Some(wait)
}

fn moving(target: &Deployment, run: &Run, now: Timestamp, prefix: &str, code: &str) -> Waiting {
    let next = target
        .gates
        .iter()
        .find_map(|gate| match (gate.place, &gate.state) {
            (Place::Step(step), GateState::Ahead) => Some(step),
            _ => None,
        });
    let late = |level: &crate::progress::Progress| match next {
        Some(step) => rules::gate_rollouts(target, step)
            .find(|(name, ..)| *name == level.object.name)
            .is_some_and(|(_, index, _)| rules::reached(level, index) == rules::Reached::No),
        None => level.standing != Standing::Done,
    };
    let mut blockers: Vec<Blocker> = Vec::new();
    for seen in target.levels.values().filter(|seen| late(&seen.level)) {
        let unseen =
            seen.level.standing == Standing::NotObserved && now >= later(seen.since, rules::NOT_SEEN_FOR);
        let text = if unseen {
            format!(
                "{} was not taken up since {}; perhaps no controller watches it (missing, stopped, or another instance id)",
                seen.level.object, seen.since
            )
        } else {
            rules::describe(&seen.level)
        };
        blockers.push(blocker("workload", text));
    }
    blockers.extend(paused_by_hand(target));
    blockers.extend(rules::own_pauses(target, run).map(|level| {
        let object = &level.object;
        blocker(
            "person",
            format!(
                "{object} stands at a pause of its own, which the deploy file does not know; go on with \
                 `kubectl argo rollouts promote {} -n {}`",
                object.name, object.namespace
            ),
        )
    }));
    let unanswered = run.acts.iter().filter(|act| act.answer.is_none()).count();
    let towards = match next {
        Some(step) if run.direction == Direction::Forward && !target.is_first() => {
            format!("its gate at step {}", step + 1)
        }
        _ => "its end".to_owned(),
    };
    let text = if target.levels.is_empty() {
        format!(
            "{prefix}target `{}` waits for the first report of its workloads",
            target.name
        )
    } else if unanswered > 0 {
        format!(
            "{prefix}target `{}` moves on to {towards}: {unanswered} act(s) are under way",
            target.name
        )
    } else {
        format!("{prefix}target `{}` moves to {towards}", target.name)
    };
    let args: BTreeMap<&str, Value> = [("unanswered", json!(unanswered)), ("nextStep", json!(next))].into();
    let mut wait = wait(target, "progress", run.since, reason(code, json!(args), text));
    wait.since = run.clock.unwrap_or(run.since);
    wait.blockers = blockers;
    wait
}

fn deadline(pipeline: &Pipeline, target: &Deployment, run: &Run, wait: &mut Waiting) {
    let counts = rules::own_pauses(target, run).next().is_none();
    let clock = run.clock.filter(|_| counts);
    wait.until = clock.map(|from| later(from, pipeline.timeout.as_duration()));
    let then = match run.direction {
        Direction::Forward if target.last_good.is_some() => "rollback",
        Direction::Forward | Direction::Back => "fail",
    };
    wait.until_then = wait.until.map(|_| then.to_owned());
}

fn gate_action(
    pipeline: &Pipeline,
    target: &Deployment,
    gate: &Gate,
    at: &GateRef,
    viewer: &Viewer,
    yes: bool,
) -> ActionView {
    let (id, severity) = if yes {
        ("approve", "firm")
    } else {
        ("reject", "destructive")
    };
    let label = if yes {
        format!("Approve: {}", next_in_words(target, gate))
    } else {
        "Reject: end the pipeline and roll back".to_owned()
    };
    let denied = match gate_denial(viewer, gate) {
        Some(denied) => Some(denied),
        None => stopping_denial(pipeline),
    };
    ActionView {
        id: id.to_owned(),
        label,
        method: "POST".to_owned(),
        href: format!("/pipelines/{}/actions/{id}", pipeline.id),
        gate: Some(at.to_string()),
        expect: pipeline.gate_expect(at),
        severity: severity.to_owned(),
        fields: vec![comment_field()],
        allowed: denied.is_none(),
        denied,
        cli: format!("aurora deploy {id} {} --gate {at}", pipeline.id),
    }
}

fn comment_field() -> Field {
    Field {
        name: "comment".to_owned(),
        required: false,
        max: MAX_COMMENT,
    }
}

fn gate_denial(viewer: &Viewer, gate: &Gate) -> Option<DeniedView> {
    if !viewer.may_deploy {
        return Some(scope_denial());
    }
    viewer.approver.basis(gate).err().map(|needs| DeniedView {
        code: "role.missing".to_owned(),
        needs,
    })
}

fn scope_denial() -> DeniedView {
    DeniedView {
        code: "scope.missing".to_owned(),
        needs: vec!["manage:deploy".to_owned()],
    }
}

fn stopping_denial(pipeline: &Pipeline) -> Option<DeniedView> {
    pipeline.stopping.as_ref().map(|_| DeniedView {
        code: "pipeline.stopping".to_owned(),
        needs: Vec::new(),
    })
}

fn next_in_words(target: &Deployment, gate: &Gate) -> String {
    let name = &target.name;
    let Place::Step(step) = gate.place else {
        return match gate.place {
            Place::Before(_) => format!("start target `{name}`"),
            _ => format!("target `{name}` is good"),
        };
    };
    let steps = target.strategy.as_ref().map(|s| s.steps()).unwrap_or_default();
    let weight = steps.iter().skip(step + 1).find_map(|next| match next {
        Step::SetWeight(weight) => Some(*weight),
        Step::Pause(_) => None,
    });
    format!("send {} % of `{name}` to the new version", weight.unwrap_or(100))
}

/// Ending the pipeline, as an action.
pub(super) fn cancel_action(pipeline: &Pipeline, viewer: &Viewer) -> ActionView {
    let denied = if viewer.may_deploy {
        stopping_denial(pipeline)
    } else {
        Some(scope_denial())
    };
    ActionView {
        id: "cancel".to_owned(),
        label: "Cancel: end the pipeline and roll back what is running".to_owned(),
        method: "POST".to_owned(),
        href: format!("/pipelines/{}/actions/cancel", pipeline.id),
        gate: None,
        expect: None,
        severity: "destructive".to_owned(),
        fields: vec![comment_field()],
        allowed: denied.is_none(),
        denied,
        cli: format!("aurora deploy cancel {}", pipeline.id),
    }
}
