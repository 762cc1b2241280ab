//! Random histories of applies and updates, held to what the API server's own merge library made of them.
//!
//! `recorded.jsonl` has one history per line; each step has its request and the object and owners after it, or
//! the conflicts or the error with which it was refused.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::managed::{Manager, Managers};
use super::schema::Ty;
use super::{ApplyError, apply, record_update};
use crate::sim::patch::merge;

const RECORDED: &str = include_str!("recorded.jsonl");
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What a step leaves, in the form of the recording.
fn take(live: &mut Option<Value>, step: &Value, api_version: &str, kind: &str) -> Value {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let ty = Ty::of_kind(group, kind);
    let name = step["manager"].as_str().unwrap();
    let mut object = step["object"].clone();
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    let next = if step["op"] == "apply" {
        let manager = Manager::applier(name, api_version, "");
        match apply(
            live.as_ref(),
            &object,
            ty,
            &manager,
            false,
            step["force"] == true,
            NOW,
        ) {
            Ok(next) => next,
            Err(ApplyError::Untyped(error)) => return json!({"error": error}),
            Err(ApplyError::Conflicts(conflicts)) => {
                let mut told: Vec<String> = conflicts
                    .iter()
                    .map(|it| format!("{} {}", it.manager.split('"').nth(1).unwrap(), it.field))
                    .collect();
                told.sort();
                return json!({"conflicts": told});
            }
        }
    } else {
        let mut next = live
            .clone()
            .unwrap_or_else(|| json!({"apiVersion": api_version, "kind": kind, "metadata": {}}));
        merge(&mut next, &object);
        let manager = Manager::updater(name, api_version, "");
        record_update(live.as_ref(), &mut next, ty, &manager, false, NOW);
        next
    };
    let owners: BTreeMap<String, Value> = Managers::of(&next)
        .owners()
        .map(|(manager, owned)| (manager.name.clone(), owned.fields.encode()))
        .collect();
    let mut shown = next.clone();
    shown["metadata"].as_object_mut().unwrap().remove("managedFields");
    *live = Some(next);
    json!({"live": shown, "managers": owners})
}

#[test]
fn histories_leave_the_objects_and_owners_that_were_recorded() {
    let mut steps = 0;
    for (number, line) in RECORDED.lines().enumerate() {
        let history: Value = serde_json::from_str(line).unwrap();
        let (api_version, kind) = (
            history["apiVersion"].as_str().unwrap(),
            history["kind"].as_str().unwrap(),
        );
        let mut live = None;
        for (at, step) in history["steps"].as_array().unwrap().iter().enumerate() {
            let left = take(&mut live, step, api_version, kind);
            for part in ["live", "managers", "conflicts", "error"] {
                assert_eq!(
                    left.get(part),
                    step.get(part),
                    "history {number}, step {at}: {step}"
                );
            }
            steps += 1;
        }
    }
    assert!(steps > 200, "{steps}");
}
