//! Tables over the pure functions: what the in-memory cluster cannot show.

mod blue_green;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::decide::rules::{self, Reached};
use super::*;
use crate::account::AgentName;
use crate::command::{Acted, Action, Applied, Direction, Failure};
use crate::error::ErrorKind;
use crate::manifest::ObjectRef;
use crate::plan::{MappedStep, StepMap};
use crate::principal::{Channel, PrincipalKind};
use crate::progress::{ExpectToken, FailingPod, PodCounts, Progress, Standing, StepPosition};
use crate::strategy::{Approval, Canary, Pause, Step, Strategy};

const START: &str = "2026-11-24T08:00:00Z";

fn at(seconds: u64) -> Timestamp {
    later(START.parse().unwrap(), Duration::from_secs(seconds))
}

fn rollout(name: &str) -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", "shop", name)
}

/// Steps 25 %, approval, 50 %, one minute; two Rollouts, one of which has one step more in front.
fn map() -> StepMap {
    let step = |index: usize, gate, weight| MappedStep {
        index: BTreeMap::from([("shop".to_owned(), index), ("worker".to_owned(), index + 1)]),
        gate,
        weight,
    };
    StepMap {
        steps: vec![
            step(0, false, 25),
            step(1, true, 25),
            step(2, false, 50),
            step(3, true, 50),
        ],
        rollouts: BTreeMap::from([("shop".to_owned(), 4), ("worker".to_owned(), 5)]),
        workloads: Vec::new(),
        ..StepMap::default()
    }
}

fn level(name: &str, standing: Standing, step: usize) -> Progress {
    let moving = standing != Standing::Done;
    Progress {
        object: rollout(name),
        revision: "new".into(),
        stable: if moving { "old" } else { "new" }.into(),
        step: Some(StepPosition {
            index: step,
            total: 5,
        }),
        weight: None,
        pods: PodCounts::default(),
        expect: match standing {
            Standing::AtPause { index, .. } => ExpectToken::new(format!("{name}-{index}")),
            _ => None,
        },
        standing,
        message: String::new(),
        failing: Vec::new(),
        observed_at: at(0),
    }
}

fn paused(name: &str, index: usize) -> Progress {
    let standing = Standing::AtPause {
        index,
        ready: true,
        inconclusive: false,
    };
    level(name, standing, index)
}

/// A pipeline that is driven by hand.
struct Play {
    pipeline: Pipeline,
    now: u64,
}

fn canary_target() -> SubmittedTarget {
    let approval = Pause::Approval(Approval {
        roles: vec!["lead".into()],
        expires_after: None,
    });
    let steps = vec![
        Step::SetWeight(25),
        Step::Pause(approval),
        Step::SetWeight(50),
        Step::Pause(Pause::Timed(Span::from_secs(60))),
    ];
    SubmittedTarget {
        account: AgentName::new("prod").unwrap(),
        namespace: "shop".into(),
        depends_on: Vec::new(),
        before: Vec::new(),
        after: Vec::new(),
        strategy: Some(Strategy::Canary(Canary { steps })),
        plan: Digest::of(b"new"),
        steps: map(),
        notes: Vec::new(),
        back: false,
    }
}

impl Play {
    fn new() -> Self {
        Self::with(canary_target())
    }

    fn with(target: SubmittedTarget) -> Self {
        let submitted = Submitted {
            application: "shop".into(),
            description: String::new(),
            context: BTreeMap::new(),
            source_control: None,
            source: None,
            file: Digest::of(b"file"),
            timeout: Span::from_secs(600),
            targets: BTreeMap::from([("prod".to_owned(), target)]),
            warnings: Vec::new(),
            origin: None,
            behind: None,
        };
        let event = Event {
            at: at(0),
            by: Some(deed("ada")),
            fence: None,
            what: What::Submitted(Box::new(submitted)),
        };
        let id = PipelineId::at(at(0), [1; 10]);
        Self {
            pipeline: evolve(Pipeline::new(id), &event),
            now: 0,
        }
    }

    /// A play whose plan is applied, over an earlier version or not.
    fn moving(first: bool) -> Self {
        Self::moving_with(canary_target(), first)
    }

    fn moving_with(target: SubmittedTarget, first: bool) -> Self {
        let steps = target.steps.clone();
        let mut play = Self::with(target);
        let last_good = (!first).then(|| LastGood {
            pipeline: play.pipeline.id,
            plan: Digest::of(b"old"),
            steps,
        });
        play.hear(Heard::Begin {
            target: "prod".into(),
            last_good,
        });
        play.hear(Heard::Accepted {
            target: "prod".into(),
            asked: 2,
        });
        play.apply();
        play
    }

    fn input(&mut self, input: Input) -> Vec<What> {
        let events = decide(&self.pipeline, input, at(self.now)).unwrap();
        for event in &events {
            self.pipeline = evolve(self.pipeline.clone(), event);
        }
        events.into_iter().map(|event| event.what).collect()
    }

    fn hear(&mut self, heard: Heard) -> Vec<What> {
        self.input(Input::Heard(heard))
    }

    fn run(&self) -> &Run {
        self.target().run().unwrap()
    }

    fn target(&self) -> &Deployment {
        &self.pipeline.targets["prod"]
    }

    fn apply(&mut self) -> Vec<What> {
        let asked = self.run().asked;
        self.hear(Heard::Applied {
            target: "prod".into(),
            asked,
            applied: Applied::default(),
        })
    }

    fn see(&mut self, levels: Vec<Progress>) -> Vec<What> {
        let tag = self.run().tag;
        self.hear(Heard::Levels {
            target: "prod".into(),
            tag,
            levels,
        })
    }

    fn answer(&mut self, act: usize, acted: Acted) -> Vec<What> {
        let state = &self.run().acts[act];
        let (asked, ordinal) = (state.asked, state.ordinal);
        self.hear(Heard::Acted {
            target: "prod".into(),
            asked,
            ordinal,
            answer: Answer::Acted(acted),
        })
    }

    fn tick_at(&mut self, now: u64) -> Vec<What> {
        self.now = now;
        self.input(Input::Tick)
    }

    fn finish(&mut self) -> Vec<What> {
        let asked = self.run().finish_asked;
        self.hear(Heard::Finished {
            target: "prod".into(),
            asked,
            applied: Applied::default(),
        })
    }

    fn approve(&mut self, roles: &[&str]) -> Result<Vec<What>, Refused> {
        self.approve_gate("prod/step/1", roles)
    }

    fn approve_gate(&mut self, gate: &str, roles: &[&str]) -> Result<Vec<What>, Refused> {
        let input = Input::Approve {
            gate: gate.parse().unwrap(),
            expect: None,
            person: person(roles),
        };
        decide(&self.pipeline, input.clone(), at(self.now))?;
        Ok(self.input(input))
    }

    fn failure(&self) -> Option<&str> {
        self.target().failed.as_ref().map(|cause| cause.code.as_str())
    }
}

fn deed(name: &str) -> Deed {
    Deed {
        actor: person(&[]).actor.clone(),
        comment: Some(name.to_owned()),
    }
}

fn person(roles: &[&str]) -> Person {
    Person {
        actor: Actor {
            kind: PrincipalKind::User,
            id: "ada".into(),
            display: "Ada".into(),
            via: Channel::Api,
            client: None,
            on_behalf_of: None,
            basis: None,
        },
        comment: None,
        approver: Approver {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            full: false,
        },
    }
}

fn kinds(events: &[What]) -> Vec<String> {
    events
        .iter()
        .map(|what| {
            serde_json::to_value(what).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn a_gate_is_reached_as_the_rules_say() {
    let unready = Standing::AtPause {
        index: 1,
        ready: false,
        inconclusive: false,
    };
    let new = |mut progress: Progress| {
        progress.stable = String::new();
        progress
    };
    let table = [
        (paused("shop", 1), Reached::Stands),
        (level("shop", unready, 1), Reached::No),
        (paused("shop", 0), Reached::No),
        (paused("shop", 3), Reached::Beyond),
        (level("shop", Standing::Moving, 1), Reached::No),
        (level("shop", Standing::Moving, 2), Reached::Beyond),
        (new(level("shop", Standing::Moving, 4)), Reached::No),
        (level("shop", Standing::Done, 4), Reached::Beyond),
        (level("shop", Standing::Degraded, 2), Reached::No),
        (level("shop", Standing::NotObserved, 2), Reached::No),
        (level("shop", Standing::PausedByHand, 1), Reached::No),
    ];
    for (progress, expected) in table {
        assert_eq!(rules::reached(&progress, 1), expected, "{progress:?}");
    }
}

#[test]
fn a_gate_waits_for_the_last_rollout() {
    let mut play = Play::moving(false);
    assert_eq!(kinds(&play.see(vec![paused("shop", 1)])), ["progressSeen"]);
    assert_eq!(
        kinds(&play.see(vec![level("worker", Standing::Moving, 1)])),
        ["progressSeen"]
    );
    assert_eq!(
        kinds(&play.see(vec![paused("worker", 2)])),
        ["progressSeen", "gateReached"]
    );
    assert_eq!(play.pipeline.state(), State::WaitingForApproval);
}

#[test]
fn an_opened_gate_promotes_each_rollout_that_stands_at_it_with_what_was_seen() {
    let mut play = Play::moving(false);
    play.see(vec![paused("shop", 1), level("worker", Standing::Done, 5)]);
    assert!(matches!(play.approve(&["intern"]), Err(Refused::Denied { .. })));
    let events = play.approve(&["LEAD"]).unwrap();
    assert_eq!(kinds(&events), ["gateOpened", "actsAsked"]);
    let What::ActsAsked { acts, .. } = &events[1] else {
        panic!("{events:?}");
    };
    assert_eq!(acts.len(), 1, "the one that is done has nothing to do");
    assert_eq!(acts[0].expect.as_ref().unwrap().as_str(), "shop-1");
    let commands: Vec<_> = outstanding(&play.pipeline)
        .into_iter()
        .filter_map(|effect| match effect.kind {
            EffectKind::Command { id, asked, .. } => Some((id, asked)),
            _ => None,
        })
        .collect();
    let version = play.pipeline.version;
    assert_eq!(
        commands,
        [(
            crate::id::CommandId::derive(play.pipeline.id, version, 0),
            version
        )]
    );
    play.answer(0, Acted::Done);
    assert!(
        outstanding(&play.pipeline)
            .iter()
            .all(|e| matches!(e.kind, EffectKind::Observe { .. }))
    );
}

#[test]
fn a_gate_that_stands_again_is_asked_again_later_and_later() {
    let mut play = Play::moving(false);
    play.see(vec![paused("shop", 1), level("worker", Standing::Done, 5)]);
    play.approve(&["lead"]).unwrap();
    play.answer(0, Acted::WaitForPods);
    assert!(play.tick_at(4).is_empty());
    assert_eq!(next_wake(&play.pipeline, at(play.now)), Some(at(5)));
    assert_eq!(kinds(&play.tick_at(5)), ["actsAsked"]);
    assert!(play.tick_at(100).is_empty(), "it is not answered yet");
    play.answer(1, Acted::Done);
    assert!(play.tick_at(109).is_empty());
    assert_eq!(kinds(&play.tick_at(110)), ["actsAsked"]);
    play.answer(2, Acted::Unchanged);
    let mut other = paused("shop", 1);
    other.expect = ExpectToken::new("another pause");
    assert_eq!(
        kinds(&play.see(vec![other])),
        ["progressSeen", "actsAsked"],
        "a new pause is asked at once"
    );
}

#[test]
fn times_of_failure_are_counted_from_the_first_sight() {
    type Case = (&'static str, fn() -> Progress, u64);
    fn failing(change: fn(&mut FailingPod)) -> Progress {
        let mut pod = FailingPod {
            pod: "shop-1".into(),
            container: "app".into(),
            reason: "CrashLoopBackOff".into(),
            restarts: 0,
            exit_code: Some(1),
            message: String::new(),
            log: Vec::new(),
            since: at(0),
            unpullable: false,
        };
        change(&mut pod);
        let mut progress = level("shop", Standing::Moving, 0);
        progress.failing = vec![pod];
        progress
    }
    let table: [Case; 6] = [
        ("aborted", || level("shop", Standing::Aborted, 0), 0),
        ("failingPod", || failing(|pod| pod.restarts = 3), 0),
        ("degraded", || level("shop", Standing::Degraded, 0), 30),
        ("invalid", || level("shop", Standing::Invalid, 0), 30),
        ("failingPod", || failing(|pod| pod.unpullable = true), 60),
        ("timeout", || level("shop", Standing::NotObserved, 0), 590),
    ];
    for (code, bad, after) in table {
        let mut play = Play::moving(false);
        play.see(vec![level("shop", Standing::NotObserved, 0)]);
        play.now = 10;
        let mut events = play.see(vec![bad(), level("worker", Standing::Moving, 0)]);
        if after > 0 {
            assert_eq!(play.failure(), None, "{code}");
            assert_eq!(
                next_wake(&play.pipeline, at(play.now)),
                Some(at(10 + after)),
                "{code}"
            );
            assert!(play.tick_at(9 + after).is_empty(), "{code}");
            events = play.tick_at(10 + after);
        }
        assert_eq!(play.failure(), Some(code));
        assert!(
            kinds(&events).contains(&"rollbackStarted".to_owned()),
            "{events:?}"
        );
        assert_eq!(play.run().direction, Direction::Back);
        assert_eq!(play.run().plan, Digest::of(b"old"));
    }
}

#[test]
fn an_abort_that_is_older_than_the_move_is_taken_back_once() {
    let mut play = Play::moving(false);
    let events = play.see(vec![level("shop", Standing::Aborted, 0)]);
    assert_eq!(
        kinds(&events),
        ["progressSeen", "actsAsked"],
        "nobody else is blamed"
    );
    assert_eq!(play.run().acts[0].act.action, Action::Retry);
    assert!(play.tick_at(100).is_empty(), "it waits for the answer");
    play.answer(0, Acted::Done);
    assert_eq!(next_wake(&play.pipeline, at(play.now)), Some(at(130)));
    assert!(play.tick_at(129).is_empty());
    play.tick_at(130);
    assert_eq!(play.failure(), Some("aborted"));

    let mut play = Play::moving(false);
    play.see(vec![level("shop", Standing::Aborted, 0)]);
    play.answer(0, Acted::Done);
    play.see(vec![level("shop", Standing::Moving, 0)]);
    let events = play.see(vec![level("shop", Standing::Aborted, 0)]);
    assert!(kinds(&events).contains(&"externalSeen".to_owned()), "{events:?}");
    assert_eq!(play.failure(), Some("aborted"), "this one is somebody's");
}

#[test]
fn an_abort_seen_after_the_plan_was_applied_again_is_somebodys() {
    let mut play = Play::moving(false);
    let changed = Standing::ChangedElsewhere { by: String::new() };
    let events = play.see(vec![level("shop", changed, 0)]);
    assert!(kinds(&events).contains(&"applyAsked".to_owned()), "{events:?}");
    play.apply();
    play.see(vec![level("shop", Standing::Aborted, 0)]);
    assert_eq!(play.failure(), Some("aborted"), "it may be of this very moment");
}

#[test]
fn trouble_that_passes_is_forgotten() {
    let mut play = Play::moving(false);
    play.see(vec![level("shop", Standing::Degraded, 0)]);
    play.now = 29;
    play.see(vec![level("shop", Standing::Moving, 0)]);
    play.now = 31;
    play.see(vec![level("shop", Standing::Degraded, 0)]);
    assert!(play.tick_at(60).is_empty());
    assert_eq!(play.failure(), None);
    play.tick_at(61);
    assert_eq!(play.failure(), Some("degraded"));
}

#[test]
fn old_pods_that_fail_before_our_revision_is_taken_up_count_for_nothing() {
    let mut play = Play::moving(false);
    let mut old = level("shop", Standing::NotObserved, 0);
    old.failing = vec![FailingPod {
        pod: "shop-0".into(),
        container: "app".into(),
        reason: "CrashLoopBackOff".into(),
        restarts: 40,
        exit_code: None,
        message: String::new(),
        log: Vec::new(),
        since: at(0),
        unpullable: false,
    }];
    play.see(vec![old]);
    assert_eq!(play.failure(), None);
}

#[test]
fn what_is_out_of_date_has_no_consequence() {
    let mut play = Play::moving(false);
    let version = play.pipeline.version;
    let stale = Heard::Levels {
        target: "prod".into(),
        tag: 2,
        levels: vec![level("shop", Standing::Aborted, 0)],
    };
    assert!(play.hear(stale).is_empty());
    let again = Heard::Applied {
        target: "prod".into(),
        asked: 2,
        applied: Applied::default(),
    };
    assert!(play.hear(again).is_empty());
    let unknown = Heard::Reached {
        target: "moon".into(),
    };
    assert!(play.hear(unknown).is_empty());
    let failure = Failure::new(ErrorKind::Denied, "forbidden", "no");
    let late = Heard::Failed {
        target: "prod".into(),
        asked: 2,
        ordinal: 0,
        failure,
    };
    assert!(play.hear(late).is_empty());
    assert_eq!(play.pipeline.version, version);
}

#[test]
fn going_back_promotes_in_full_what_had_finished_and_ends_when_done() {
    let mut play = Play::moving(false);
    play.see(vec![level("shop", Standing::Moving, 0)]);
    play.see(vec![
        level("shop", Standing::Aborted, 0),
        level("worker", Standing::Done, 5),
    ]);
    play.apply();
    let mut finished = paused("worker", 1);
    (finished.revision, finished.stable) = ("old".into(), "new".into());
    let mut back = level("shop", Standing::Done, 4);
    (back.revision, back.stable) = ("old".into(), "old".into());
    let events = play.see(vec![back, finished]);
    assert_eq!(kinds(&events), ["progressSeen", "actsAsked"]);
    play.answer(0, Acted::Done);
    let mut done = level("worker", Standing::Done, 5);
    (done.revision, done.stable) = ("old".into(), "old".into());
    assert_eq!(kinds(&play.see(vec![done])), ["progressSeen", "finishAsked"]);
    let asked = play.run().finish_asked;
    let events = play.hear(Heard::Finished {
        target: "prod".into(),
        asked,
        applied: Applied::default(),
    });
    assert_eq!(kinds(&events), ["finished", "targetEnded", "pipelineEnded"]);
    assert_eq!(play.pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    assert_eq!(
        (
            outstanding(&play.pipeline),
            next_wake(&play.pipeline, at(play.now))
        ),
        (Vec::new(), None)
    );
}

#[test]
fn where_going_back_cannot_be_applied_traffic_is_sent_back_at_least() {
    let mut play = Play::moving(false);
    play.see(vec![level("shop", Standing::Moving, 0)]);
    play.see(vec![level("shop", Standing::Aborted, 0)]);
    let refuse = |play: &mut Play, asked, ordinal, kind| {
        play.hear(Heard::Failed {
            target: "prod".into(),
            asked,
            ordinal,
            failure: Failure::new(kind, "forbidden", "the agent may not patch Rollout shop/shop"),
        })
    };
    let asked = play.run().asked;
    let events = refuse(&mut play, asked, 0, ErrorKind::Denied);
    assert_eq!(kinds(&events), ["targetFailed", "actsAsked"]);
    let acts: Vec<_> = play
        .run()
        .acts
        .iter()
        .map(|act| (act.act.action, act.act.object.name.as_str()))
        .collect();
    assert_eq!(acts, [(Action::Abort, "shop"), (Action::Abort, "worker")]);
    assert_eq!(play.pipeline.state(), State::RollingBack);
    assert_eq!(kinds(&play.answer(0, Acted::NothingToAbort)), ["actAnswered"]);
    let asked = play.run().acts[1].asked;
    let events = refuse(&mut play, asked, 1, ErrorKind::Denied);
    assert_eq!(kinds(&events), ["actAnswered", "targetEnded", "pipelineEnded"]);
    assert_eq!(play.pipeline.ended.unwrap().rolled_back, Some(RolledBack::Failed));
    assert_eq!(play.failure(), Some("aborted"), "the first cause stays the cause");
}

#[test]
fn a_rollout_that_nobody_takes_up_is_named_after_a_minute() {
    let mut play = Play::moving(false);
    play.see(vec![level("shop", Standing::NotObserved, 0)]);
    let said = |play: &Play, now| {
        let seen = view(&play.pipeline, &Viewer::default(), at(now));
        seen.waiting
            .iter()
            .flat_map(|wait| &wait.blockers)
            .any(|b| b.text.contains("no controller"))
    };
    assert!(!said(&play, 59));
    assert!(said(&play, 60));
}

#[test]
fn a_gate_whose_pods_went_away_after_the_act_does_not_wake_for_what_is_past() {
    let mut play = Play::moving(false);
    play.see(vec![paused("shop", 1), level("worker", Standing::Done, 5)]);
    play.approve(&["lead"]).unwrap();
    play.answer(0, Acted::WaitForPods);
    let unready = Standing::AtPause {
        index: 1,
        ready: false,
        inconclusive: false,
    };
    play.see(vec![level("shop", unready, 1)]);
    assert!(play.tick_at(60).is_empty(), "it waits for its pods");
    assert_eq!(
        next_wake(&play.pipeline, at(60)),
        Some(at(600)),
        "only the timeout is ahead"
    );
}

#[test]
fn a_failed_command_says_what_and_where() {
    let mut play = Play::new();
    play.hear(Heard::Begin {
        target: "prod".into(),
        last_good: None,
    });
    let mut failure = Failure::new(ErrorKind::Conflict, "superseded", "a newer plan 9.9 was accepted");
    failure.details = vec![crate::command::FailureDetail {
        object: rollout("shop"),
        message: "is newer".into(),
    }];
    let events = play.hear(Heard::Failed {
        target: "prod".into(),
        asked: 2,
        ordinal: 0,
        failure,
    });
    assert_eq!(kinds(&events), ["targetFailed", "targetEnded", "pipelineEnded"]);
    let cause = play.target().failed.clone().unwrap();
    assert_eq!(cause.details, ["Rollout shop/shop: is newer"]);
    assert!(
        cause.message.starts_with("target `prod`: a newer plan"),
        "{}",
        cause.message
    );
    assert_eq!(play.pipeline.ended.unwrap().rolled_back, Some(RolledBack::No));
}

#[test]
fn a_pause_of_a_rollouts_own_is_waited_out_and_said() {
    let mut play = Play::moving(false);
    play.see(vec![paused("shop", 2), level("worker", Standing::Done, 5)]);
    assert!(
        play.tick_at(6000).is_empty(),
        "no timeout counts at a pause that only a person ends"
    );
    let seen = view(&play.pipeline, &Viewer::default(), at(6000));
    let said = seen.waiting.iter().flat_map(|wait| &wait.blockers);
    assert!(
        said.clone().any(|blocker| blocker
            .text
            .contains("kubectl argo rollouts promote shop -n shop")),
        "{:#?}",
        seen.waiting
    );
    play.see(vec![level("shop", Standing::Moving, 3)]);
    assert!(
        play.tick_at(6599).is_empty(),
        "the time counts from when it went on"
    );
    play.tick_at(6600);
    assert_eq!(play.failure(), Some("timeout"));
}

#[test]
fn counts_alone_are_stored_at_most_every_two_seconds() {
    let mut play = Play::moving(false);
    play.see(vec![level("shop", Standing::Moving, 0)]);
    let mut more = level("shop", Standing::Moving, 0);
    more.pods.new = 1;
    assert!(play.see(vec![more.clone()]).is_empty());
    play.now = 2;
    assert_eq!(kinds(&play.see(vec![more.clone()])), ["progressSeen"]);
    assert!(play.see(vec![more]).is_empty());
}

#[test]
fn an_event_that_does_not_fit_parks_the_pipeline() {
    let play = Play::moving(false);
    let what = What::FinishAsked {
        target: "moon".into(),
    };
    let event = Event {
        at: at(1),
        by: None,
        fence: None,
        what,
    };
    let parked = evolve(play.pipeline.clone(), &event);
    assert_eq!(parked.state(), State::Parked);
    assert!(parked.parked.as_ref().unwrap().message.contains("`moon`"));
    assert_eq!(
        (outstanding(&parked), next_wake(&parked, at(1))),
        (Vec::new(), None)
    );
    let first = evolve(Pipeline::new(play.pipeline.id), &event);
    assert!(first.parked.is_some(), "a log begins with a submit");
}
