//! Finding what a pipeline waits for, read off its state.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{cancel_action, gate_action, skip_action};
use super::{Blocker, Need, Reason, Rule, Subject, Viewer, Waiting};
use crate::command::Direction;
use crate::pipeline::decide::rules;
use crate::pipeline::deployment::{Deployment, Phase, Run, SeenLevel, Stage};
use crate::pipeline::event::End;
use crate::pipeline::gate::{Gate, GateRef, GateState, Place};
use crate::pipeline::{Pipeline, later};
use crate::progress::{Progress, Standing};
use crate::strategy::Pause;

/// Everything that a pipeline waits for; never empty while it is not over.
pub(in crate::pipeline) fn waiting(pipeline: &Pipeline, viewer: &Viewer, now: Timestamp) -> Vec<Waiting> {
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
    if let Some(behind) = pipeline.behind {
        let text = format!(
            "pipeline {behind} deploys `{}`; this one is next",
            pipeline.application
        );
        return vec![Waiting {
            id: "queue".to_owned(),
            kind: "queue".to_owned(),
            subject: Subject::default(),
            since: pipeline.submitted_at,
            until: None,
            until_then: None,
            reason: reason("queued", json!({"behind": behind}), text),
            blockers: vec![blocker("pipeline", format!("pipeline {behind} is not over"))],
            need: None,
            actions: vec![cancel],
        }];
    }
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
                format!("target `{}` waits {span}{}", target.name, before_what(gate)),
            ),
            "open",
        ),
        Pause::Approval(approval) => {
            let by = if approval.roles.is_empty() {
                "somebody who may deploy".to_owned()
            } else {
                approval.roles.join(" or ")
            };
            let before = before_what(gate);
            let text = format!("target `{}` waits for an approval by {by}{before}", target.name);
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
        Place::Before(_) | Place::Redirect(_) | Place::ShutDown(_) | Place::After(_) => None,
    };
    if let Some(away) = &target.away {
        wait.blockers.push(blocker("agent", away.message.clone()));
    }
    wait.blockers.extend(paused_by_hand(target));
    wait.blockers.extend(gone_already(target, gate));
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
    } else {
        wait.actions = vec![skip_action(pipeline, target, gate, &at, viewer)];
    }
    wait
}

/// Of gates that stand side by side people want to know what they hold up.
const fn before_what(gate: &Gate) -> &'static str {
    match gate.place {
        Place::Redirect(_) => " before traffic goes to the new version",
        Place::ShutDown(_) => " before the old version is shut down",
        Place::After(_) | Place::Before(_) | Place::Step(_) => "",
    }
}

/// The old version that a gate holds is gone, by hand or by its delay: no way back that is quick.
fn gone_already(target: &Deployment, gate: &Gate) -> Option<Blocker> {
    let mut levels = rules::blue_green(target).filter_map(|(_, seen)| Some(&seen?.level));
    let gone = matches!(gate.place, Place::ShutDown(_)) && levels.all(|level| level.pods.old == 0);
    gone.then(|| {
        let text = format!(
            "the old version of target `{}` has no pods any more: going back starts them anew",
            target.name
        );
        blocker("workload", text)
    })
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
        Phase::Waiting | Phase::Before if !pipeline.dependencies_succeeded(target) => {
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
                let todo = if away.code.starts_with("agent.") {
                    "; start or reconnect it"
                } else {
                    ""
                };
                let text = format!(
                    "target `{name}` waits for the agent `{}`: {}{todo}",
                    target.account, away.message
                );
                let mut wait = wait(target, "agent", away.since, reason("agent.away", args, text));
                wait.blockers = vec![blocker("agent", away.message.clone())];
                deadline(pipeline, target, run, &mut wait);
                return Some(wait);
            }
            in_run(pipeline, target, run, now)
        }
        Phase::Waiting | Phase::Before | Phase::After | Phase::Ended { .. } => None,
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
        Stage::Aborting => {
            let text =
                format!("{prefix}it cannot be applied, so the Rollouts of target `{name}` are aborted");
            wait(
                target,
                "abort",
                run.since,
                reason(&code("abort"), json!({}), text),
            )
        }
        Stage::Applying => {
            let text = format!(
                "{prefix}the agent `{}` applies the plan of target `{name}`",
                target.account
            );
            let mut wait = wait(
                target,
                "apply",
                run.since,
                reason(&code("apply"), json!({}), text),
            );
            wait.blockers = unseen(target, now).collect();
            wait
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

fn is_unseen(seen: &SeenLevel, now: Timestamp) -> bool {
    seen.level.standing == Standing::NotObserved && now >= later(seen.since, rules::NOT_SEEN_FOR)
}

/// Workloads that nobody took up for a minute.
fn unseen(target: &Deployment, now: Timestamp) -> impl Iterator<Item = Blocker> {
    target
        .levels
        .values()
        .filter(move |seen| is_unseen(seen, now))
        .map(|seen| {
            let (object, since) = (&seen.level.object, seen.since);
            let text = format!(
                "{object} was not taken up since {since}; perhaps no controller watches it (missing, stopped, or \
                 another instance id)"
            );
            blocker("workload", text)
        })
}

fn moving(target: &Deployment, run: &Run, now: Timestamp, prefix: &str, code: &str) -> Waiting {
    let straight = run.direction == Direction::Back || target.is_first();
    let next = target
        .gates
        .iter()
        .find_map(|gate| match (gate.place, &gate.state) {
            (Place::Step(step), GateState::Ahead) => Some(step),
            _ => None,
        });
    let redirects = |name: &str| rules::blue_green(target).any(|(other, _)| other == name);
    let before_redirect = !straight && is_before_redirect(target, run);
    let late = |level: &Progress| match next {
        Some(step) => rules::gate_rollouts(target, step)
            .find(|(name, ..)| *name == level.object.name)
            .is_some_and(|(_, index, _)| rules::reached(level, index) == rules::Reached::No),
        None if before_redirect && redirects(&level.object.name) => {
            rules::redirected(level) == rules::Reached::No
        }
        None => level.standing != Standing::Done,
    };
    let mut blockers: Vec<Blocker> = unseen(target, now).collect();
    let others = target
        .levels
        .values()
        .filter(|seen| !is_unseen(seen, now) && late(&seen.level));
    blockers.extend(others.map(|seen| blocker("workload", rules::describe(&seen.level))));
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
        Some(step) if !straight => format!("its gate at step {}", step + 1),
        None if before_redirect => "its redirect".to_owned(),
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

/// Whether a blue/green target has its redirect ahead.
fn is_before_redirect(target: &Deployment, run: &Run) -> bool {
    let mut gates = target.gates_where(|place| matches!(place, Place::Redirect(_)));
    let ahead = gates.any(|gate| gate.state == GateState::Ahead);
    let told = rules::is_redirecting(run);
    let gateless = target
        .gates_where(|place| matches!(place, Place::Redirect(_)))
        .next()
        .is_none();
    ahead || (gateless && !told && rules::blue_green(target).next().is_some())
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
