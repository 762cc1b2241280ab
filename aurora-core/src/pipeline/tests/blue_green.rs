//! Blue/green and rolling targets, by levels made by hand: what stands, what moves, what goes back.

use super::*;
use crate::progress::{Weight, WeightSource};
use crate::strategy::{BlueGreen, Portion, Rolling};

fn approval(roles: &[&str], expires_after: Option<u64>) -> Pause {
    Pause::Approval(Approval {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        expires_after: expires_after.map(Span::from_secs),
    })
}

fn timed(seconds: u64) -> Pause {
    Pause::Timed(Span::from_secs(seconds))
}

fn blue_green_map() -> StepMap {
    StepMap {
        rollouts: BTreeMap::from([("shop".to_owned(), 0), ("worker".to_owned(), 0)]),
        blue_green: ["shop".to_owned(), "worker".to_owned()].into(),
        ..StepMap::default()
    }
}

fn target_of(strategy: Strategy, steps: StepMap) -> SubmittedTarget {
    SubmittedTarget {
        strategy: Some(strategy),
        steps,
        ..canary_target()
    }
}

fn blue_green(redirect_after: Vec<Pause>, shut_down_after: Vec<Pause>) -> SubmittedTarget {
    let strategy = BlueGreen {
        redirect_after,
        shut_down_after,
    };
    target_of(Strategy::BlueGreen(strategy), blue_green_map())
}

/// Two gates before the redirect, two before the end of the old version.
fn gated() -> SubmittedTarget {
    blue_green(
        vec![approval(&["lead"], None), timed(60)],
        vec![timed(30), approval(&[], Some(300))],
    )
}

/// A blue/green Rollout: where it stands, the share of traffic that the new version has, and old pods. What moves is
/// told to redirect.
fn green(name: &str, standing: Standing, real: u8, old: u32) -> Progress {
    let mut green = level(name, standing, 0);
    green.step = None;
    green.weight = Some(Weight {
        wanted: if green.standing == Standing::Moving {
            100
        } else {
            real
        },
        real,
        source: WeightSource::Router,
    });
    green.pods = PodCounts {
        desired: 2,
        new: 2,
        new_available: 2,
        old,
        old_available: old,
    };
    green
}

fn before_redirect(name: &str, ready: bool) -> Progress {
    let standing = Standing::AtPause {
        index: 0,
        ready,
        inconclusive: false,
    };
    green(name, standing, 0, 2)
}

fn done(name: &str, old: u32) -> Progress {
    green(name, Standing::Done, 100, old)
}

fn both(make: impl Fn(&str) -> Progress) -> Vec<Progress> {
    vec![make("shop"), make("worker")]
}

/// What was asked of which object, in order.
fn asked(play: &Play) -> Vec<(Action, String)> {
    let acts = play.run().acts.iter();
    acts.map(|state| (state.act.action, state.act.object.name.clone()))
        .collect()
}

fn gate(play: &Play, place: Place) -> GateState {
    play.target().gate(place).unwrap().state.clone()
}

fn stands(play: &Play, place: Place) -> bool {
    matches!(gate(play, place), GateState::Standing { .. })
}

fn states(play: &Play) -> Vec<String> {
    let seen = view(&play.pipeline, &Viewer::default(), at(play.now));
    let steps = seen.targets[0].steps.iter();
    steps
        .map(|step| format!("{} {}", step.kind, step.state))
        .collect()
}

fn says(play: &Play) -> String {
    let seen = view(&play.pipeline, &Viewer::default(), at(play.now));
    let texts = seen.waiting.iter().map(|wait| {
        let blockers: Vec<&str> = wait
            .blockers
            .iter()
            .map(|blocker| blocker.text.as_str())
            .collect();
        format!("{} [{}]", wait.reason.text, blockers.join("; "))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// At the gates before the redirect.
fn at_redirect(target: SubmittedTarget) -> Play {
    let mut play = Play::moving_with(target, false);
    play.see(both(|name| before_redirect(name, true)));
    play
}

/// At the gates before the end of the old version.
fn at_shut_down(target: SubmittedTarget) -> Play {
    let mut play = at_redirect(target);
    if play.target().standing_gates().next().is_some() {
        play.approve_gate("prod/redirect/0", &["lead"]).unwrap();
        play.tick_at(60);
    }
    for act in 0..play.run().acts.len() {
        play.answer(act, Acted::Done);
    }
    play.see(both(|name| done(name, 2)));
    play
}

#[test]
fn gates_before_the_redirect_stand_side_by_side_once_every_rollout_has_its_pods() {
    let mut play = Play::moving_with(gated(), false);
    assert_eq!(
        kinds(&play.see(vec![
            before_redirect("shop", true),
            green("worker", Standing::Moving, 0, 2)
        ])),
        ["progressSeen"]
    );
    assert_eq!(
        kinds(&play.see(vec![before_redirect("worker", false)])),
        ["progressSeen"]
    );
    assert!(
        says(&play).contains("moves to its redirect [Rollout shop/worker: paused before its redirect, its")
    );
    let reached = play.see(vec![before_redirect("worker", true)]);
    assert_eq!(kinds(&reached), ["progressSeen", "gateReached", "gateReached"]);
    assert!(stands(&play, Place::Redirect(0)) && stands(&play, Place::Redirect(1)));
    assert_eq!(play.pipeline.state(), State::WaitingForApproval);
    assert_eq!(play.run().clock, None, "the timeout stands still at gates");
    assert!(says(&play).contains("waits for an approval by lead before traffic goes to the new version"));
}

#[test]
fn all_redirect_gates_open_promote_each_rollout_once() {
    let mut play = at_redirect(gated());
    assert_eq!(
        kinds(&play.tick_at(60)),
        ["gateOpened"],
        "the timer alone moves nothing"
    );
    assert_eq!(play.run().clock, None, "the other gate stands still");
    play.now = 100;
    let opened = play.approve_gate("prod/redirect/0", &["lead"]).unwrap();
    assert_eq!(kinds(&opened), ["gateOpened", "actsAsked"]);
    let promotes = [
        (Action::Promote, "shop".to_owned()),
        (Action::Promote, "worker".to_owned()),
    ];
    assert_eq!(asked(&play), promotes);
    assert_eq!(play.run().acts[0].act.expect, ExpectToken::new("shop-0"));
    assert_eq!(play.run().clock, Some(at(100)));
    play.answer(0, Acted::Done);
    play.answer(1, Acted::Unchanged);
    play.see(both(|name| green(name, Standing::Moving, 0, 2)));
    play.see(both(|name| green(name, Standing::Moving, 100, 2)));
    let reached = play.see(vec![done("shop", 2), done("worker", 2)]);
    assert_eq!(kinds(&reached), ["progressSeen", "gateReached", "gateReached"]);
    assert_eq!(asked(&play), promotes, "nothing was asked twice");
}

#[test]
fn a_rollout_that_stands_before_its_redirect_again_is_asked_again() {
    let mut play = at_redirect(blue_green(vec![timed(10)], Vec::new()));
    play.tick_at(10);
    play.answer(0, Acted::Done);
    play.answer(1, Acted::WaitForPods);
    assert!(play.tick_at(14).is_empty());
    let again = play.tick_at(15);
    assert_eq!(kinds(&again), ["actsAsked"]);
    assert!(
        matches!(&again[0], What::ActsAsked { why, acts, .. } if why == "standsAgain" && acts.len() == 2)
    );
    let mut anew = before_redirect("shop", true);
    anew.expect = ExpectToken::new("another pause");
    play.answer(2, Acted::Done);
    let asked = play.see(vec![anew]);
    assert!(
        matches!(&asked[1], What::ActsAsked { acts, .. } if acts.len() == 1),
        "{asked:?}"
    );
}

#[test]
fn without_gates_the_redirect_waits_only_for_the_last_rollout() {
    let mut play = Play::moving_with(blue_green(Vec::new(), Vec::new()), false);
    play.see(vec![before_redirect("shop", true)]);
    play.see(vec![before_redirect("worker", false)]);
    assert_eq!(asked(&play), [], "they move together");
    let seen = play.see(vec![before_redirect("worker", true)]);
    assert_eq!(kinds(&seen), ["progressSeen", "actsAsked"]);
    assert_eq!(asked(&play).len(), 2);
    play.answer(0, Acted::Done);
    play.answer(1, Acted::WaitForPods);
    play.see(vec![green("shop", Standing::Moving, 0, 2)]);
    assert_eq!(
        kinds(&play.tick_at(5)),
        ["actsAsked"],
        "the one that is left is asked again though the other is on its way"
    );
    play.answer(2, Acted::Done);
    let ended = play.see(both(|name| done(name, 2)));
    assert_eq!(
        kinds(&ended),
        ["progressSeen", "finishAsked"],
        "the old version goes by its delay"
    );
}

#[test]
fn gates_before_the_end_of_the_old_version_end_it_once() {
    let mut play = at_shut_down(gated());
    assert!(stands(&play, Place::ShutDown(0)) && stands(&play, Place::ShutDown(1)));
    assert_eq!(play.run().clock, None);
    assert!(
        says(&play)
            .contains("waits for an approval by somebody who may deploy before the old version is shut down")
    );
    assert_eq!(kinds(&play.tick_at(90)), ["gateOpened"]);
    let opened = play.approve_gate("prod/shutdown/1", &[]).unwrap();
    assert_eq!(kinds(&opened), ["gateOpened", "actsAsked"]);
    assert_eq!(
        asked(&play)[2..],
        [
            (Action::ShutDownOld, "shop".to_owned()),
            (Action::ShutDownOld, "worker".to_owned())
        ]
    );
    assert_eq!(
        kinds(&play.answer(2, Acted::Done)),
        ["actAnswered"],
        "the other is under way"
    );
    assert_eq!(
        kinds(&play.answer(3, Acted::Unchanged)),
        ["actAnswered", "finishAsked"]
    );
    play.finish();
    assert_eq!(play.pipeline.state(), State::Succeeded);
}

#[test]
fn an_agent_that_may_not_end_the_old_version_leaves_it_to_its_delay() {
    let mut play = at_shut_down(blue_green(Vec::new(), vec![timed(30)]));
    play.tick_at(30);
    let asked = play.run().acts[2].asked;
    for ordinal in [0, 1] {
        play.hear(Heard::Failed {
            target: "prod".into(),
            asked,
            ordinal,
            failure: Failure::new(
                ErrorKind::Denied,
                "forbidden",
                "the agent may not patch replicasets",
            ),
        });
    }
    assert_eq!(play.failure(), None);
    assert_eq!(play.run().stage, Stage::Finishing);
}

#[test]
fn what_did_not_change_asks_nobody_on_either_side() {
    let mut play = Play::moving_with(gated(), false);
    let seen = play.see(both(|name| done(name, 0)));
    let not = "gateNotExercised";
    assert_eq!(kinds(&seen), ["progressSeen", not, not, not, not, "finishAsked"]);
    assert_eq!(asked(&play), []);
}

#[test]
fn one_rollout_that_did_not_change_is_not_promoted_and_keeps_no_gate_shut() {
    let mut play = Play::moving_with(blue_green(vec![timed(10)], vec![timed(10)]), false);
    play.see(vec![before_redirect("shop", true), done("worker", 0)]);
    play.tick_at(10);
    assert_eq!(asked(&play), [(Action::Promote, "shop".to_owned())]);
    play.answer(0, Acted::Done);
    play.see(vec![done("shop", 2)]);
    play.tick_at(20);
    assert_eq!(asked(&play)[1..], [(Action::ShutDownOld, "shop".to_owned())]);
}

#[test]
fn a_first_deployment_is_promoted_in_full_and_exercises_no_gate() {
    let mut play = Play::moving_with(gated(), true);
    for place in [
        Place::Redirect(0),
        Place::Redirect(1),
        Place::ShutDown(0),
        Place::ShutDown(1),
    ] {
        assert!(matches!(gate(&play, place), GateState::NotExercised { .. }));
    }
    let first = view(&play.pipeline, &Viewer::default(), at(0)).targets.remove(0);
    assert!(first.first_deployment);
    assert!(
        first.steps.iter().all(|step| step.state == "notExercised"),
        "{:?}",
        first.steps
    );
    let leftover = play.see(vec![before_redirect("shop", true), done("worker", 0)]);
    assert_eq!(kinds(&leftover), ["progressSeen", "actsAsked"]);
    assert_eq!(asked(&play), [(Action::PromoteFull, "shop".to_owned())]);
    play.answer(0, Acted::Done);
    let ended = play.see(vec![done("shop", 2)]);
    assert_eq!(
        kinds(&ended),
        ["progressSeen", "finishAsked"],
        "no old version is shut down"
    );
}

/// What ends a pipeline early, at gates on either side, and how each Rollout comes back.
#[test]
fn every_way_to_end_it_goes_back_before_and_after_the_redirect() {
    type Way = fn(&mut Play, &str);
    let ways: [(&str, Way); 4] = [
        ("cancelled", |play, _| {
            play.input(Input::Cancel { person: person(&[]) });
        }),
        ("rejected", |play, gate| {
            play.input(Input::Reject {
                gate: gate.parse().unwrap(),
                expect: None,
                person: person(&["lead"]),
            });
        }),
        ("expired", |play, _| {
            play.tick_at(play.now + 300);
        }),
        ("failed", |play, _| {
            play.see(vec![crash_looping("worker")]);
        }),
    ];
    let target = || {
        blue_green(
            vec![approval(&["lead"], Some(300))],
            vec![approval(&["lead"], Some(300))],
        )
    };
    for (how, way) in ways {
        for redirected in [false, true] {
            let mut play = at_redirect(target());
            if redirected {
                play.approve_gate("prod/redirect/0", &["lead"]).unwrap();
                play.see(both(|name| done(name, 2)));
            }
            let gate = if redirected {
                "prod/shutdown/0"
            } else {
                "prod/redirect/0"
            };
            assert!(
                stands(&play, gate.parse::<GateRef>().unwrap().place),
                "{how} {gate}"
            );
            way(&mut play, gate);
            assert_eq!(play.run().direction, Direction::Back, "{how} {gate}");
            assert!(play.target().standing_gates().next().is_none());
            play.apply();
            // Before the redirect, or within the delay, the old version is there: nothing is to be promoted.
            let mut back = both(|name| done(name, 2));
            for level in &mut back {
                (level.revision, level.stable) = ("old".into(), "old".into());
            }
            assert_eq!(
                kinds(&play.see(back)),
                ["progressSeen", "finishAsked"],
                "{how} {gate}"
            );
            assert!(
                asked(&play)
                    .iter()
                    .all(|(action, _)| *action != Action::ShutDownOld)
            );
            play.finish();
            assert_eq!(play.pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
            let state = if how == "failed" {
                State::Failed
            } else {
                State::Cancelled
            };
            assert_eq!(play.pipeline.state(), state);
        }
    }
}

#[test]
fn going_back_after_the_delay_is_promoted_in_full_and_asks_at_no_gate() {
    let mut play = at_shut_down(gated());
    play.input(Input::Cancel { person: person(&[]) });
    play.apply();
    let back = |name: &str| {
        let mut level = before_redirect(name, true);
        (level.revision, level.stable) = ("old".into(), "new".into());
        level
    };
    let events = play.see(both(back));
    assert_eq!(kinds(&events), ["progressSeen", "actsAsked"]);
    assert!(
        asked(&play)
            .iter()
            .all(|(action, _)| *action == Action::PromoteFull)
    );
    assert_eq!(asked(&play).len(), 2);
}

fn crash_looping(name: &str) -> Progress {
    let mut bad = green(name, Standing::Moving, 0, 2);
    bad.failing = vec![failing_pod(3)];
    bad
}

fn failing_pod(restarts: u32) -> FailingPod {
    FailingPod {
        pod: "a-pod".into(),
        container: "app".into(),
        reason: "CrashLoopBackOff".into(),
        restarts,
        exit_code: Some(1),
        message: String::new(),
        log: vec!["panic".into()],
        since: at(0),
        unpullable: false,
    }
}

#[test]
fn somebody_who_promotes_past_the_redirect_is_shown_and_the_gates_are_passed() {
    let mut play = at_redirect(gated());
    let one = play.see(vec![green("shop", Standing::Moving, 0, 2)]);
    assert_eq!(kinds(&one), ["progressSeen", "externalSeen"]);
    assert!(
        matches!(&one[1], What::ExternalSeen { deed: ExternalDeed::Promoted, object, .. } if object.name == "shop")
    );
    assert!(
        stands(&play, Place::Redirect(0)),
        "the other one is still asked about"
    );
    play.see(vec![green("shop", Standing::Moving, 100, 2)]);
    let two = play.see(vec![done("worker", 2)]);
    assert_eq!(
        kinds(&two),
        ["progressSeen", "externalSeen", "gatePassed", "gatePassed"]
    );
    assert_eq!(asked(&play), [], "nothing was asked of the cluster");
    assert_eq!(
        kinds(&play.see(vec![done("shop", 2)]))[1..],
        ["gateReached", "gateReached"]
    );
}

#[test]
fn what_was_promoted_by_us_is_nobody_elses_deed() {
    let mut play = at_redirect(blue_green(vec![timed(10)], Vec::new()));
    play.tick_at(10);
    let moved = play.see(both(|name| green(name, Standing::Moving, 0, 2)));
    assert_eq!(kinds(&moved), ["progressSeen"], "not yet answered");
    play.answer(0, Acted::Done);
    assert_eq!(kinds(&play.see(vec![done("shop", 2)])), ["progressSeen"]);
}

#[test]
fn an_abort_by_somebody_else_is_a_failure() {
    let mut play = at_redirect(gated());
    let mut stopping = green("shop", Standing::Moving, 0, 2);
    stopping.weight.as_mut().unwrap().wanted = 0;
    assert_eq!(
        kinds(&play.see(vec![stopping])),
        ["progressSeen"],
        "nobody promoted it"
    );
    let events = play.see(vec![green("shop", Standing::Aborted, 0, 2)]);
    assert_eq!(
        kinds(&events),
        ["progressSeen", "externalSeen", "targetFailed", "rollbackStarted"]
    );
    assert_eq!(play.failure(), Some("aborted"));
}

#[test]
fn an_old_version_that_somebody_shut_down_is_shown_and_its_gates_still_ask() {
    let mut play = at_shut_down(gated());
    play.now += 10;
    let gone = play.see(both(|name| done(name, 0)));
    assert_eq!(kinds(&gone), ["progressSeen", "externalSeen", "externalSeen"]);
    assert!(matches!(
        &gone[1],
        What::ExternalSeen {
            deed: ExternalDeed::ShutDown,
            ..
        }
    ));
    assert!(stands(&play, Place::ShutDown(1)));
    assert!(says(&play).contains("the old version of target `prod` has no pods any more"));
    let entry = timeline_entry(
        play.pipeline.id,
        1,
        &Event {
            at: at(0),
            by: None,
            fence: None,
            what: gone[1].clone(),
        },
    );
    assert_eq!(
        entry.text,
        "target `prod`: somebody, or its delay, shut down the old version of Rollout shop/shop in the cluster"
    );
}

#[test]
fn the_timeout_counts_to_the_redirect_to_done_and_stands_still_at_gates() {
    // 600 s from the apply to the redirect.
    let mut play = Play::moving_with(gated(), false);
    play.see(both(|name| before_redirect(name, false)));
    play.tick_at(599);
    assert_eq!(play.failure(), None);
    play.tick_at(600);
    assert_eq!(play.failure(), Some("timeout"));
    // None while gates stand, 600 s from the last of them to done.
    let mut play = at_redirect(gated());
    play.tick_at(5000);
    play.approve_gate("prod/redirect/0", &["lead"]).unwrap();
    play.see(both(|name| green(name, Standing::Moving, 100, 2)));
    play.tick_at(5599);
    assert_eq!(play.failure(), None);
    assert_eq!(next_wake(&play.pipeline, at(play.now)), Some(at(5600)));
    play.tick_at(5600);
    assert_eq!(play.failure(), Some("timeout"));
    // None at the gates before the old version's end.
    let mut play = at_shut_down(blue_green(Vec::new(), vec![approval(&[], None)]));
    assert!(play.tick_at(50_000).is_empty());
    assert_eq!(next_wake(&play.pipeline, at(play.now)), None);
    play.approve_gate("prod/shutdown/0", &[]).unwrap();
    play.tick_at(50_599);
    assert_eq!(play.failure(), None);
    play.tick_at(50_600);
    assert_eq!(
        play.failure(),
        Some("timeout"),
        "acts that nobody answers are not waited for without end"
    );
}

#[test]
fn an_opted_out_deployment_beside_them_moves_and_fails_with_them() {
    let database = ObjectRef::new("apps", "Deployment", "shop", "database");
    let target = || {
        let mut target = blue_green(vec![timed(10)], Vec::new());
        target.steps.workloads = vec![database.clone()];
        target
    };
    let of_database = |standing: Standing, restarts: Option<u32>| {
        let mut seen = level("database", standing, 0);
        seen.object = database.clone();
        seen.failing = restarts.map(failing_pod).into_iter().collect();
        seen
    };
    let mut play = Play::moving_with(target(), false);
    let mut levels = both(|name| before_redirect(name, true));
    levels.push(of_database(Standing::Moving, Some(2)));
    assert_eq!(kinds(&play.see(levels))[1..], ["gateReached"]);
    play.see(vec![of_database(Standing::Moving, Some(3))]);
    assert_eq!(play.failure(), Some("failingPod"));
    assert_eq!(play.target().evidence[0].object, database);
    assert_eq!(play.run().direction, Direction::Back);

    let mut play = at_redirect(target());
    play.see(vec![of_database(Standing::Moving, None)]);
    play.tick_at(10);
    play.see(both(|name| done(name, 2)));
    assert_eq!(
        play.run().stage,
        Stage::Moving,
        "it is not done without its database"
    );
    play.see(vec![of_database(Standing::Done, None)]);
    assert_eq!(play.run().stage, Stage::Finishing);
}

#[test]
fn a_new_sibling_that_is_not_done_keeps_the_redirect_shut() {
    let mut play = Play::moving_with(gated(), false);
    let mut new = green("worker", Standing::Moving, 100, 0);
    new.stable = new.revision.clone();
    play.see(vec![before_redirect("shop", true), new]);
    assert_eq!(gate(&play, Place::Redirect(0)), GateState::Ahead);
    play.see(vec![done("worker", 0)]);
    assert!(stands(&play, Place::Redirect(0)));
}

#[test]
fn the_steps_of_a_blue_green_target_tell_how_far_it_is() {
    let target = || blue_green(vec![timed(10)], vec![timed(10)]);
    let mut play = Play::moving_with(target(), false);
    let mut shown = vec![states(&play)];
    play.see(both(|name| before_redirect(name, true)));
    shown.push(states(&play));
    play.tick_at(10);
    shown.push(states(&play));
    play.see(both(|name| done(name, 2)));
    shown.push(states(&play));
    play.tick_at(20);
    shown.push(states(&play));
    play.answer(2, Acted::Done);
    play.answer(3, Acted::Done);
    play.finish();
    shown.push(states(&play));
    let line = |parts: [&str; 5]| {
        let kinds = ["deploy", "pause", "redirect", "pause", "shutDown"];
        let line = kinds.iter().zip(parts);
        line.map(|(kind, state)| format!("{kind} {state}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown,
        [
            line(["current", "ahead", "ahead", "ahead", "ahead"]),
            line(["done", "current", "ahead", "ahead", "ahead"]),
            line(["done", "done", "current", "ahead", "ahead"]),
            line(["done", "done", "done", "current", "ahead"]),
            line(["done", "done", "done", "done", "current"]),
            line(["done", "done", "done", "done", "done"]),
        ]
    );
    let row = summary(&play.pipeline).targets.remove(0);
    assert_eq!((row.step, row.total), (5, 5));
    let seen = view(&play.pipeline, &Viewer::default(), at(play.now))
        .targets
        .remove(0);
    assert_eq!(seen.strategy, "blueGreen");
    let weights: Vec<u8> = seen.steps.iter().map(|step| step.weight).collect();
    assert_eq!(weights, [0, 0, 100, 100, 100]);
}

#[test]
fn an_approval_says_what_follows_and_what_else_holds_it() {
    let play = at_redirect(gated());
    let viewer = Viewer {
        may_deploy: true,
        ..Viewer::default()
    };
    let seen = view(&play.pipeline, &viewer, at(0));
    let labels: Vec<&str> = seen
        .actions
        .iter()
        .filter(|action| action.id == "approve")
        .map(|action| action.label.as_str())
        .collect();
    assert_eq!(
        labels,
        ["Approve: send all traffic of `prod` to the new version, once the other gate is open too"]
    );
    let approve = &seen.actions[0];
    assert_eq!(approve.gate.as_deref(), Some("prod/redirect/0"));
    assert!(approve.cli.ends_with("--gate prod/redirect/0"), "{}", approve.cli);
}

#[test]
fn a_rolling_target_is_done_by_readiness_without_a_gate() {
    let strategy = Strategy::Rolling(Rolling {
        max_surge: Some(Portion::Percent(25)),
        max_unavailable: Some(Portion::Count(0)),
    });
    let steps = StepMap {
        blue_green: Default::default(),
        ..blue_green_map()
    };
    let mut play = Play::moving_with(target_of(strategy, steps), false);
    assert!(play.target().gates.is_empty());
    play.see(both(|name| green(name, Standing::Moving, 50, 1)));
    assert_eq!(states(&play), ["roll current"]);
    assert_eq!(asked(&play), []);
    let ended = play.see(both(|name| done(name, 0)));
    assert_eq!(kinds(&ended), ["progressSeen", "finishAsked"]);
    let seen = view(&play.pipeline, &Viewer::default(), at(0)).targets.remove(0);
    assert_eq!(
        seen.steps[0].text,
        "replace pods as they become available, at most 25 % more and at most 0 fewer"
    );
    assert_eq!((seen.strategy.as_str(), seen.step, seen.total), ("rolling", 1, 1));
}

#[test]
fn a_failed_job_or_stateful_set_fails_its_target_with_evidence() {
    for kind in ["Job", "StatefulSet"] {
        let group = if kind == "Job" { "batch" } else { "apps" };
        let object = ObjectRef::new(group, kind, "shop", "data");
        let mut target = target_of(Strategy::Rolling(Rolling::default()), StepMap::default());
        target.strategy = None;
        target.steps.workloads = vec![object.clone()];
        let mut play = Play::moving_with(target, false);
        let mut bad = level("data", Standing::Degraded, 0);
        bad.object = object.clone();
        bad.message = "BackoffLimitExceeded".into();
        bad.failing = vec![failing_pod(1)];
        play.see(vec![bad]);
        assert_eq!(play.failure(), None);
        play.tick_at(30);
        assert_eq!(play.failure(), Some("degraded"), "{kind}");
        let cause = play.target().failed.clone().unwrap();
        assert!(
            cause.message.contains(&object.to_string()) && cause.message.contains("BackoffLimit"),
            "{cause:?}"
        );
        assert_eq!(play.target().evidence.len(), 1);
        assert_eq!(play.run().direction, Direction::Back);
    }
}
