//! What the tree says of runs of every sort, from views as the API sends them.

use serde_json::{Value, json};

use super::*;

const ID: &str = "01900000-0000-7000-8000-000000000001";
const OTHER: &str = "01900000-0000-7000-8000-000000000002";

fn actor(name: &str) -> Value {
    json!({"kind": "user", "id": name, "display": name, "via": "cli"})
}

fn view(change: impl FnOnce(&mut Value)) -> PipelineView {
    let mut view = json!({
        "id": ID, "version": 7, "now": "2026-11-24T08:01:00Z", "application": "shop", "description": "",
        "status": "RUNNING", "state": "running", "actor": actor("Ada"), "startedAt": "2026-11-24T08:00:00Z",
        "targets": [], "waiting": [], "actions": [], "evidence": [], "lastDecisions": [],
    });
    change(&mut view);
    serde_json::from_value(view).unwrap()
}

fn target(steps: Value) -> Value {
    json!({
        "name": "prod", "account": "prod", "namespace": "shop", "wave": 0, "dependsOn": [], "status": "PAUSED",
        "state": "waiting", "phase": "moving", "rollingBack": false, "firstDeployment": false,
        "strategy": "blueGreen", "plan": format!("sha256:{}", "0".repeat(64)), "before": [], "after": [],
        "steps": steps, "step": 1, "total": 4, "rollouts": [], "freshness": "live", "retried": 0,
    })
}

#[test]
fn the_steps_of_a_blue_green_move_and_their_gates_are_shown_like_any_others() {
    let gate = |state: &str, by: Value| {
        let mut gate = json!({"id": "prod/redirect/0", "kind": "timer", "state": state, "seconds": 60});
        if !by.is_null() {
            gate["by"] = by;
        }
        gate
    };
    let step = |index: usize, state: &str, text: &str, gate: Value| {
        let mut step = json!({"index": index, "kind": "pause", "text": text, "weight": 0, "state": state});
        if !gate.is_null() {
            step["gate"] = gate;
        }
        step
    };
    let skipped = gate("open", actor("Grace"));
    let mut by_time = gate("open", actor("Aurora"));
    by_time["by"]["via"] = json!("system");
    let steps = json!([
        step(
            0,
            "done",
            "deploy the new version beside the old one",
            Value::Null
        ),
        step(1, "done", "wait 1 min before the redirect", skipped),
        step(2, "done", "wait 1 min", by_time),
        step(3, "current", "shut the old version down", Value::Null),
    ]);
    let text = tree(&view(|view| view["targets"] = json!([target(steps)])));
    for line in [
        "  ◍ prod (account prod, namespace shop)  step 1 of 4\n",
        "    ✓ deploy the new version beside the old one\n",
        "    ✓ wait 1 min before the redirect (skipped by Grace)\n",
        "    ✓ wait 1 min\n",
        "    ▸ shut the old version down\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_run_in_the_queue_says_behind_which_one_it_waits() {
    let queued = view(|view| {
        view["state"] = json!("queued");
        view["waiting"] = json!([{
            "id": "queue", "kind": "queue", "subject": {}, "since": "2026-11-24T08:00:00Z",
            "reason": {"code": "queued", "text": format!("pipeline {OTHER} deploys `shop`; this one is next")},
        }]);
    });
    let text = tree(&queued);
    assert!(text.starts_with("○ shop  queued"), "{text}");
    assert!(text.contains(&format!("… pipeline {OTHER} deploys")), "{text}");
}

#[test]
fn after_a_run_that_did_not_succeed_it_says_what_can_be_done() {
    let failed = view(|view| {
        view["state"] = json!("failed");
        view["endedAt"] = json!("2026-11-24T08:02:00Z");
        view["origin"] = json!({"kind": "redeploy", "of": OTHER});
        let action = |id: &str, allowed: bool| {
            json!({
                "id": id, "label": "", "method": "POST", "href": "", "severity": "firm", "fields": [],
                "allowed": allowed, "cli": format!("aurora deploy {id} {ID}"),
            })
        };
        view["actions"] = json!([action("retry", true), action("rollback", false)]);
    });
    let text = tree(&failed);
    assert!(
        text.contains(&format!("  retry: aurora deploy retry {ID}\n")),
        "{text}"
    );
    assert!(!text.contains("rollback"), "{text}");
    assert!(
        text.contains(&format!("deploys again what was deployed by pipeline {OTHER}")),
        "{text}"
    );
}

#[test]
fn a_live_picture_fits_the_terminal_and_leaves_commands_whole() {
    let cli = format!("aurora deploy approve {ID} --gate prod/before/0");
    let waiting = view(|view| {
        view["waiting"] = json!([{
            "id": "w", "kind": "approval", "subject": {"target": "prod"}, "since": "2026-11-24T08:00:00Z",
            "reason": {"code": "approval", "text": "target `prod` waits for an approval by somebody who may deploy"},
            "actions": [{
                "id": "approve", "label": "", "method": "POST", "href": "", "severity": "firm", "fields": [],
                "allowed": true, "cli": cli,
            }],
        }]);
    });
    let text = live(&waiting, Some(40));
    assert!(text.contains(&cli), "{text}");
    let (commands, words): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.contains("aurora deploy"));
    assert_eq!(commands.len(), 1);
    assert!(
        words.iter().all(|line| console::measure_text_width(line) <= 40),
        "{text}"
    );
    assert!(words.iter().any(|line| line.ends_with('…')), "{text}");
}
