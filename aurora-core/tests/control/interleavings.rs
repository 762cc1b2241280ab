//! Random inputs in any order, sensible or not, on random pipelines: what must hold after each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aurora_core::account::AgentName;
use aurora_core::command::{Acted, Action, Applied, Direction, Failure};
use aurora_core::digest::Digest;
use aurora_core::error::ErrorKind;
use aurora_core::id::{CommandId, PipelineId};
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{
    ActState, Answer, Approver, Deed, Deployment, EffectKind, End, Event, Gate, GateRef, GateState, Heard,
    Input, LastGood, Person, Phase, Pipeline, Place, Submitted, SubmittedTarget, Viewer, What, decide,
    decode, encode, evolve, next_wake, outstanding, view,
};
use aurora_core::plan::{MappedStep, StepMap};
use aurora_core::principal::{Actor, Channel};
use aurora_core::progress::{ExpectToken, PodCounts, Progress, Standing, StepPosition, Weight, WeightSource};
use aurora_core::strategy::{Approval, BlueGreen, Canary, Pause, Rolling, Span, Step, Strategy};
use jiff::Timestamp;
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use crate::world::principal;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Numbers that a case is made of; where they run out they are zero.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn below(&mut self, bound: u8) -> u8 {
        self.0.next().copied().unwrap_or_default() % bound
    }

    fn index(&mut self, len: usize) -> usize {
        usize::from(self.below(u8::try_from(len.clamp(1, 200)).unwrap()))
    }

    fn left(&self) -> bool {
        !self.0.as_slice().is_empty()
    }
}

fn pause(dice: &mut Dice<'_>) -> Pause {
    match dice.below(3) {
        0 => Pause::Timed(Span::from_secs(u64::from(dice.below(100)))),
        1 => Pause::Approval(Approval {
            roles: vec!["lead".into()],
            expires_after: Some(Span::from_secs(300)),
        }),
        _ => Pause::Approval(Approval::default()),
    }
}

fn canary(dice: &mut Dice<'_>, rollouts: &BTreeSet<String>) -> (Strategy, StepMap) {
    let steps: Vec<Step> = (0..dice.below(5))
        .map(|_| match dice.below(2) {
            0 => Step::SetWeight(dice.below(101)),
            _ => Step::Pause(pause(dice)),
        })
        .collect();
    let mapped = steps.iter().enumerate().map(|(index, step)| MappedStep {
        index: rollouts.iter().map(|name| (name.clone(), index)).collect(),
        gate: matches!(step, Step::Pause(_)),
        weight: 50,
    });
    let map = StepMap {
        steps: mapped.collect(),
        rollouts: rollouts.iter().map(|name| (name.clone(), steps.len())).collect(),
        ..StepMap::default()
    };
    (Strategy::Canary(Canary { steps }), map)
}

fn strategy(dice: &mut Dice<'_>) -> (Strategy, StepMap) {
    let rollouts: BTreeSet<String> = (0..dice.below(3)).map(|n| format!("r{n}")).collect();
    let without_steps = || StepMap {
        rollouts: rollouts.iter().map(|name| (name.clone(), 0)).collect(),
        ..StepMap::default()
    };
    match dice.below(5) {
        0 => (Strategy::Rolling(Rolling::default()), without_steps()),
        1 | 2 => canary(dice, &rollouts),
        _ => {
            let blue_green = BlueGreen {
                redirect_after: (0..dice.below(3)).map(|_| pause(dice)).collect(),
                shut_down_after: (0..dice.below(3)).map(|_| pause(dice)).collect(),
            };
            let map = StepMap {
                blue_green: rollouts.clone(),
                ..without_steps()
            };
            (Strategy::BlueGreen(blue_green), map)
        }
    }
}

fn target(dice: &mut Dice<'_>, index: usize) -> SubmittedTarget {
    let (strategy, steps) = strategy(dice);
    SubmittedTarget {
        account: AgentName::new("agent").unwrap(),
        namespace: NAMES[index].to_owned(),
        depends_on: NAMES[..index]
            .iter()
            .filter(|_| dice.below(2) == 0)
            .map(|n| (*n).to_owned())
            .collect(),
        before: (0..dice.below(2)).map(|_| pause(dice)).collect(),
        after: (0..dice.below(2)).map(|_| pause(dice)).collect(),
        plan: Digest::of(NAMES[index].as_bytes()),
        steps,
        strategy: Some(strategy),
        notes: Vec::new(),
        back: dice.below(8) == 0,
    }
}

fn submitted(dice: &mut Dice<'_>, at: Timestamp) -> Event {
    let count = usize::from(dice.below(3)) + 1;
    Event {
        at,
        by: Some(deed()),
        fence: None,
        what: What::Submitted(Box::new(Submitted {
            application: "shop".into(),
            description: String::new(),
            context: BTreeMap::new(),
            source_control: None,
            source: None,
            file: Digest::of(b""),
            timeout: Span::from_secs(600),
            targets: (0..count)
                .map(|i| (NAMES[i].to_owned(), target(dice, i)))
                .collect(),
            warnings: Vec::new(),
            origin: None,
            behind: (dice.below(8) == 0).then(|| PipelineId::at(at, [9; 10])),
        })),
    }
}

fn deed() -> Deed {
    Deed {
        actor: Actor::of(&principal("ada", &[], &[]), Channel::Api, None),
        comment: None,
    }
}

fn person(dice: &mut Dice<'_>) -> Person {
    let roles = if dice.below(2) == 0 {
        vec!["lead".to_owned()]
    } else {
        Vec::new()
    };
    Person {
        actor: deed().actor,
        comment: None,
        approver: Approver {
            roles: roles.into_iter().collect(),
            full: false,
        },
    }
}

fn level(dice: &mut Dice<'_>, deployment: &Deployment, name: &str, at: Timestamp) -> Progress {
    let namespace = &deployment.namespace;
    let blue_green = deployment.steps.blue_green.contains(name);
    let index = usize::from(dice.below(if blue_green { 1 } else { 5 }));
    let standing = match dice.below(12) {
        0 => Standing::Aborted,
        1 => Standing::ChangedElsewhere { by: "kubectl".into() },
        2 => Standing::Degraded,
        3 => Standing::Invalid,
        4 => Standing::Missing,
        5 => Standing::NotObserved,
        6 => Standing::PausedByHand,
        7 => Standing::Moving,
        8 | 9 => Standing::Done,
        _ => Standing::AtPause {
            index,
            ready: dice.below(4) > 0,
            inconclusive: false,
        },
    };
    Progress {
        object: ObjectRef::new("argoproj.io", "Rollout", namespace, name),
        revision: "new".into(),
        stable: ["old", "new", ""][dice.index(3)].into(),
        step: (!blue_green).then_some(StepPosition { index, total: 5 }),
        weight: blue_green.then(|| Weight {
            wanted: 100,
            real: [0, 100][dice.index(2)],
            source: WeightSource::Router,
        }),
        pods: PodCounts {
            old: u32::from(dice.below(2)),
            ..PodCounts::default()
        },
        expect: (dice.below(4) > 0)
            .then(|| ExpectToken::new(format!("{name}-{index}")))
            .flatten(),
        standing,
        message: String::new(),
        failing: Vec::new(),
        observed_at: at,
    }
}

fn last_good(pipeline: &Pipeline, target: &Deployment, plan: &[u8]) -> LastGood {
    LastGood {
        pipeline: pipeline.id,
        plan: Digest::of(plan),
        steps: target.steps.clone(),
    }
}

/// Something that may come next: mostly what is outstanding, sometimes anything.
fn input(dice: &mut Dice<'_>, pipeline: &Pipeline, now: Timestamp) -> Input {
    let names: Vec<String> = pipeline.targets.keys().cloned().collect();
    let target = names[dice.index(names.len())].clone();
    let deployment = &pipeline.targets[&target];
    let any_gate = || {
        let gate = deployment.standing_gates().next().map(|(place, _)| place);
        gate.or_else(|| deployment.gates.first().map(|gate| gate.place))
            .map(|place| GateRef::new(&target, place))
    };
    let effects = outstanding(pipeline);
    match dice.below(20) {
        0 | 1 => Input::Tick,
        2 => match any_gate() {
            Some(gate) => Input::Approve {
                gate,
                expect: None,
                person: person(dice),
            },
            None => Input::Tick,
        },
        3 if dice.below(4) == 0 => match any_gate() {
            Some(gate) => Input::Reject {
                gate,
                expect: None,
                person: person(dice),
            },
            None => Input::Tick,
        },
        4 if dice.below(8) == 0 => Input::Cancel { person: person(dice) },
        5 => {
            let (code, message) = ("agent.offline".into(), "gone".into());
            Input::Heard(Heard::Away {
                target,
                code,
                message,
            })
        }
        6 => Input::Heard(Heard::Reached { target }),
        7..=10 => {
            let tag = deployment.run().map_or(0, |run| run.tag);
            let rollouts: Vec<String> = deployment.steps.rollouts.keys().cloned().collect();
            let levels = rollouts
                .iter()
                .map(|name| level(dice, deployment, name, now))
                .collect();
            Input::Heard(Heard::Levels { target, tag, levels })
        }
        11 => match any_gate() {
            Some(gate) => Input::Skip {
                gate,
                expect: None,
                person: person(dice),
            },
            None => Input::Tick,
        },
        12 => Input::Retry {
            target: (dice.below(3) > 0).then_some(target),
            person: person(dice),
        },
        13 if dice.below(3) == 0 => Input::RollBack {
            target: (dice.below(3) > 0).then_some(target),
            to: (dice.below(2) == 0).then(|| last_good(pipeline, deployment, b"older")),
            person: person(dice),
        },
        14 if pipeline.is_queued() && dice.below(4) == 0 => Input::Supersede {
            by: PipelineId::at(now, [4; 10]),
            deed: deed(),
        },
        _ if effects.is_empty() => Input::Tick,
        _ if pipeline.is_queued() => Input::Turn,
        _ => {
            let effect = effects[dice.index(effects.len())].clone();
            let target = effect.target;
            Input::Heard(match effect.kind {
                EffectKind::AwaitAgent => Heard::Reached { target },
                EffectKind::Begin => {
                    let last_good =
                        (dice.below(3) > 0).then(|| last_good(pipeline, &pipeline.targets[&target], b"old"));
                    Heard::Begin { target, last_good }
                }
                EffectKind::Observe { .. } | EffectKind::TakeTurn => Heard::Reached { target },
                EffectKind::Command {
                    asked,
                    ordinal,
                    order,
                    ..
                } => match (dice.below(12), order) {
                    (0, _) => Heard::Failed {
                        target,
                        asked,
                        ordinal,
                        failure: Failure::new(ErrorKind::Denied, "forbidden", "no"),
                    },
                    (1, _) => Heard::Failed {
                        target,
                        asked,
                        ordinal,
                        failure: Failure::new(ErrorKind::Conflict, "wrongGate", "elsewhere"),
                    },
                    (2 | 3, _) => Heard::Accepted { target, asked },
                    (_, aurora_core::pipeline::Asked::Act(_)) => {
                        let acted = [
                            Acted::Done,
                            Acted::Unchanged,
                            Acted::WaitForPods,
                            Acted::NothingToAbort,
                        ];
                        let answer = Answer::Acted(acted[dice.index(4)]);
                        Heard::Acted {
                            target,
                            asked,
                            ordinal,
                            answer,
                        }
                    }
                    (_, aurora_core::pipeline::Asked::Apply { .. }) => Heard::Applied {
                        target,
                        asked,
                        applied: Applied::default(),
                    },
                    (_, aurora_core::pipeline::Asked::Finish { .. }) => Heard::Finished {
                        target,
                        asked,
                        applied: Applied::default(),
                    },
                },
            })
        }
    }
}

/// What must hold of every state in which a batch ends.
fn check(pipeline: &Pipeline, now: Timestamp, ids: &mut BTreeMap<CommandId, String>) {
    assert_eq!(pipeline.parked, None);
    let again = decide(pipeline, Input::Tick, now).unwrap();
    assert!(
        again.is_empty(),
        "nothing more follows at the same time: {again:?}"
    );
    let effects = outstanding(pipeline);
    let mut seen = BTreeSet::new();
    for effect in &effects {
        if let EffectKind::Command { id, order, .. } = &effect.kind {
            assert!(seen.insert(*id), "two commands with one id");
            let what = format!("{} {order:?}", effect.target);
            let before = ids.entry(*id).or_insert_with(|| what.clone());
            assert_eq!(*before, what, "one id means one command for ever");
        }
    }
    let seen = view(pipeline, &Viewer::default(), now);
    assert_eq!(seen.waiting.is_empty(), pipeline.is_final(), "{seen:#?}");
    assert!(!pipeline.is_final() || (effects.is_empty() && next_wake(pipeline, now).is_none()));
    for target in pipeline.targets.values() {
        check_side_by_side(target);
        let started = target.started_at.is_some();
        let free = target
            .depends_on
            .iter()
            .map(|name| &pipeline.targets[name])
            // What had succeeded may have been taken back by a person since.
            .all(|t| t.ended_as(End::Succeeded) || t.taken_back.is_some() || t.retried > 0);
        assert!(
            !started || free,
            "{} started before its dependencies succeeded",
            target.name
        );
        if let Phase::Running(run) = &target.phase {
            assert!(pipeline.stopping.is_none() || run.undo);
            assert!(!pipeline.is_queued());
        }
    }
}

/// Gates of one place are reached together, whatever becomes of each.
fn check_side_by_side(target: &Deployment) {
    for wanted in [is_redirect, is_shut_down] {
        let beside: Vec<&Gate> = target.gates.iter().filter(|gate| wanted(gate.place)).collect();
        let ahead = beside
            .iter()
            .filter(|gate| gate.state == GateState::Ahead)
            .count();
        assert!(ahead == 0 || ahead == beside.len(), "{beside:?}");
    }
}

const fn is_redirect(place: Place) -> bool {
    matches!(place, Place::Redirect(_))
}

const fn is_shut_down(place: Place) -> bool {
    matches!(place, Place::ShutDown(_))
}

/// No Rollout is promoted while a gate before its redirect is shut, and an old version ends only once, after its
/// gates, in a target that goes forward.
fn check_acts(pipeline: &Pipeline, event: &Event) {
    let behind = |target: &Deployment, wanted: fn(Place) -> bool| {
        let mut gates = target.gates.iter().filter(|gate| wanted(gate.place));
        gates.all(Gate::is_behind)
    };
    match &event.what {
        What::ActsAsked { target, acts, .. } => {
            let target = &pipeline.targets[target];
            let run = target.run().expect("only a plan that is brought in is acted on");
            let forward = run.direction == Direction::Forward && pipeline.stopping.is_none();
            for act in acts {
                let moves = target.steps.blue_green.contains(&act.object.name);
                match act.action {
                    Action::Promote if moves => {
                        assert!(forward && behind(target, is_redirect), "{target:#?}")
                    }
                    Action::ShutDownOld => {
                        assert!(forward && behind(target, is_redirect) && behind(target, is_shut_down));
                        assert!(target.gates.iter().any(|gate| is_shut_down(gate.place)));
                        let before = |state: &ActState| {
                            state.act.action == Action::ShutDownOld && state.act.object == act.object
                        };
                        assert!(!run.acts.iter().any(before), "asked twice: {run:#?}");
                    }
                    _ => {}
                }
            }
        }
        What::FinishAsked { target } => {
            let target = &pipeline.targets[target];
            let run = target.run().expect("only a plan that is brought in is finished");
            let gates = behind(target, is_redirect) && behind(target, is_shut_down);
            assert!(run.direction == Direction::Back || gates, "{target:#?}");
        }
        _ => {}
    }
}

fn play(numbers: &[u8]) {
    let mut dice = Dice(numbers.iter());
    let mut now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
    let first = submitted(&mut dice, now);
    let mut log = vec![encode(&first)];
    let id = PipelineId::at(now, [3; 10]);
    let mut pipeline = evolve(Pipeline::new(id), &first);
    let mut ids = BTreeMap::new();
    let mut first_look = true;
    while dice.left() && !pipeline.is_final() {
        let next = if first_look {
            Input::Tick
        } else {
            input(&mut dice, &pipeline, now)
        };
        first_look = false;
        let Ok(events) = decide(&pipeline, next, now) else {
            continue;
        };
        for event in &events {
            if let What::GateOpened { gate } | What::GateSkipped { gate } = &event.what {
                assert!(
                    pipeline_gate_stands(&pipeline, &events, gate),
                    "{gate} opened without standing"
                );
            }
            check_acts(&pipeline, event);
            let bytes = encode(event);
            assert_eq!(decode(&bytes).unwrap(), *event);
            log.push(bytes);
            pipeline = evolve(pipeline, event);
        }
        check(&pipeline, now, &mut ids);
        now = now
            .checked_add(Duration::from_secs(u64::from(dice.below(40))))
            .unwrap();
    }
    let folded = Pipeline::new(id).fold(log.iter().map(Vec::as_slice));
    assert_eq!(folded, pipeline, "the log is all there is");
    finish(pipeline, now);
}

/// A gate may be reached and opened in one batch (a timer of no length).
fn pipeline_gate_stands(pipeline: &Pipeline, events: &[Event], gate: &GateRef) -> bool {
    pipeline
        .gate(gate)
        .is_some_and(|gate| gate.standing_since().is_some())
        || events
            .iter()
            .any(|event| matches!(&event.what, What::GateReached { gate: reached } if reached == gate))
}

/// Whatever happened: cancelled and answered, every pipeline comes to its end.
fn finish(mut pipeline: Pipeline, mut now: Timestamp) {
    let step = |pipeline: Pipeline, input: Input, now: Timestamp| {
        let events = decide(&pipeline, input, now).unwrap_or_default();
        events.iter().fold(pipeline, evolve)
    };
    pipeline = step(
        pipeline,
        Input::Cancel {
            person: person(&mut Dice([].iter())),
        },
        now,
    );
    for _ in 0..50 {
        if pipeline.is_final() {
            return;
        }
        for effect in outstanding(&pipeline) {
            let target = effect.target;
            let heard = match effect.kind {
                EffectKind::AwaitAgent => Heard::Reached { target },
                EffectKind::Command {
                    asked,
                    ordinal,
                    order,
                    ..
                } => match order {
                    aurora_core::pipeline::Asked::Act(_) => {
                        let answer = Answer::Acted(Acted::Done);
                        Heard::Acted {
                            target,
                            asked,
                            ordinal,
                            answer,
                        }
                    }
                    aurora_core::pipeline::Asked::Apply { .. } => Heard::Applied {
                        target,
                        asked,
                        applied: Applied::default(),
                    },
                    aurora_core::pipeline::Asked::Finish { .. } => Heard::Finished {
                        target,
                        asked,
                        applied: Applied::default(),
                    },
                },
                EffectKind::Begin | EffectKind::Observe { .. } | EffectKind::TakeTurn => continue,
            };
            pipeline = step(pipeline, Input::Heard(heard), now);
        }
        now = now.checked_add(Duration::from_secs(601)).unwrap();
        pipeline = step(pipeline, Input::Tick, now);
    }
    panic!("it does not end: {pipeline:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn any_inputs_in_any_order_keep_the_rules(numbers in prop::collection::vec(any::<u8>(), 20..1500)) {
        play(&numbers);
    }
}
