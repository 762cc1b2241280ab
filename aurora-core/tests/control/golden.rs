//! Stored events are for ever: each file of `tests/golden/events` was written by a released program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aurora_core::command::Action;
use aurora_core::pipeline::{
    Asked, EffectKind, End, Gate, GateState, OriginKind, Phase, Pipeline, Place, RolledBack, State, decode,
    encode, outstanding,
};
use aurora_core::strategy::Strategy;
use serde_json::Value;

/// Every type of event, with the version of its golden files.
const TYPES: [&str; 28] = [
    "actAnswered",
    "actsAsked",
    "agentAway",
    "agentReached",
    "applied",
    "applyAsked",
    "cancelAsked",
    "commandAccepted",
    "dequeued",
    "externalSeen",
    "finishAsked",
    "finished",
    "gateExpired",
    "gateNotExercised",
    "gateOpened",
    "gatePassed",
    "gateReached",
    "gateRejected",
    "gateSkipped",
    "pipelineEnded",
    "progressSeen",
    "rollbackStarted",
    "submitted",
    "superseded",
    "targetEnded",
    "targetFailed",
    "targetRetried",
    "targetStarted",
];

/// The files of a folder in order of their names: together they are the log of one pipeline.
fn log(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/events")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// Logs of their own, for what came later.
const LOGS: [&str; 4] = ["", "acts", "blueGreen", "superseded"];

fn folded(folder: &str) -> Pipeline {
    let files = log(folder);
    let id = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
    let pipeline = Pipeline::new(id).fold(files.iter().map(|(_, bytes)| bytes.as_slice()));
    assert_eq!(pipeline.parked, None);
    assert_eq!(pipeline.version, files.len() as u64);
    pipeline
}

fn assert_contains(whole: &Value, part: &Value, place: &str) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, part) in part {
                let place = format!("{place}/{key}");
                let whole = whole.get(key).unwrap_or_else(|| panic!("{place} got lost"));
                assert_contains(whole, part, &place);
            }
        }
        (Value::Array(whole), Value::Array(part)) if whole.len() == part.len() => {
            for (index, (whole, part)) in whole.iter().zip(part).enumerate() {
                assert_contains(whole, part, &format!("{place}/{index}"));
            }
        }
        _ => assert_eq!(whole, part, "{place}"),
    }
}

#[test]
fn every_golden_event_decodes_and_encodes_to_itself() {
    let mut types = BTreeSet::new();
    for (name, bytes) in LOGS.iter().flat_map(|folder| log(folder)) {
        let event = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let stored: Value = serde_json::from_slice(&bytes).unwrap();
        let again: Value = serde_json::from_slice(&encode(&event)).unwrap();
        // Later programs may add to it; nothing that was stored may get lost.
        assert_contains(&again, &stored, &name);
        types.insert(stored["type"].as_str().unwrap().to_owned());
    }
    let known: BTreeSet<String> = TYPES.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(types, known, "each type of event has a golden file");
}

#[test]
fn the_golden_log_folds_to_the_state_that_it_told_of() {
    let pipeline = folded("");
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    let ends: Vec<_> = pipeline
        .targets
        .values()
        .map(|target| match target.phase {
            Phase::Ended { end, .. } => (target.name.as_str(), end),
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [("prod", End::RolledBack), ("staging", End::Succeeded)]);
    assert_eq!(pipeline.actor.display, "Ada");
    let failed = pipeline.targets["prod"].failed.as_ref().unwrap();
    assert_eq!(failed.code, "failingPod");
    assert_eq!(pipeline.targets["prod"].evidence[0].pod.exit_code, Some(1));
}

#[test]
fn the_golden_log_of_a_blue_green_move_folds_to_the_state_that_it_told_of() {
    let files = log("blueGreen");
    let id = "0192f0c1-2345-7abc-8def-0123456789ac".parse().unwrap();
    let fold = |upto: usize| Pipeline::new(id).fold(files[..upto].iter().map(|(_, bytes)| bytes.as_slice()));
    let whole = fold(files.len());
    assert_eq!((&whole.parked, whole.version), (&None, files.len() as u64));
    assert_eq!(whole.state(), State::Succeeded);
    let (prod, edge) = (&whole.targets["prod"], &whole.targets["edge"]);
    assert!(prod.gates.iter().all(Gate::is_behind) && prod.gates.len() == 3);
    assert!(prod.steps.blue_green.contains("shop"));
    assert!(matches!(edge.strategy, Some(Strategy::Rolling(_))) && edge.is_first() && edge.gates.is_empty());
    let at = |place: Place, upto: usize| fold(upto).targets["prod"].gate(place).unwrap().state.clone();
    assert!(matches!(at(Place::Redirect(1), 8), GateState::Standing { .. }));
    assert!(matches!(at(Place::Redirect(1), 9), GateState::Open { .. }));
    assert!(matches!(at(Place::ShutDown(0), 13), GateState::Standing { .. }));
    // What is outstanding can be read off in the middle of it: the promotion, then the end of the old version.
    for (upto, action) in [(10, Action::Promote), (17, Action::ShutDownOld)] {
        let asked = outstanding(&fold(upto))
            .into_iter()
            .find_map(|effect| match effect.kind {
                EffectKind::Command {
                    order: Asked::Act(act),
                    ..
                } => Some(act.action),
                _ => None,
            });
        assert_eq!(asked, Some(action));
    }
}

#[test]
fn acts_of_people_fold_to_the_state_that_they_told_of() {
    let pipeline = folded("acts");
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(pipeline.reason_code(), Some("target.takenBack"));
    assert_eq!(pipeline.origin.unwrap().kind, OriginKind::Retry);
    assert_eq!((pipeline.behind, pipeline.replaced_by), (None, None));
    let eu = &pipeline.targets["eu"];
    assert!(eu.ended_as(End::RolledBack));
    assert_eq!((eu.retried, &eu.failed), (1, &None));
    assert_eq!(
        eu.back_to.as_ref().unwrap().plan.to_string(),
        format!("sha256:{}", "e".repeat(64))
    );
    let by = eu.taken_back.as_ref().unwrap();
    assert_eq!(
        (by.actor.display.as_str(), by.comment.as_deref()),
        ("Ada", Some("further back"))
    );
    assert!(pipeline.targets["us"].ended_as(End::NeverStarted));

    let replaced = folded("superseded");
    assert_eq!(replaced.state(), State::Cancelled);
    assert_eq!(replaced.reason_code(), Some("superseded"));
    assert!(replaced.replaced_by.is_some() && replaced.targets["eu"].back);
}

#[test]
fn what_a_newer_program_stored_is_refused_by_name() {
    let (_, first) = log("").remove(0);
    let mut newer: Value = serde_json::from_slice(&first).unwrap();
    newer["v"] = 2.into();
    let error = decode(newer.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("`submitted` version 2"), "{error}");
    assert!(decode(b"{}").is_err() && decode(b"").is_err());
}
