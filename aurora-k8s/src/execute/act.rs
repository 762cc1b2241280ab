//! Acts on one Rollout: read, compare with what was expected, patch against exactly what was read.

use std::time::Duration;

use serde_json::{Value, json};

use aurora_core::command::{Act, Acted, Action, FailureDetail};
use aurora_core::manifest::ObjectRef;
use aurora_core::port::clock::Clock;
use aurora_core::port::executor::ExecutorError;

use super::api::{Api, Patch};
use super::applied_set;
use super::apply::{CONFLICTS, foreign, stand_back};
use super::errors::{Problem, rejected};
use super::kinds;
use super::live::{is_ours, version};
use super::observe::is_rollout;
use super::shut_down;
use crate::argo::status::{Place, Rollout, is_available};
use crate::argo::template;

/// How often, and how far apart, it is looked whether an abort holds.
const ABORT_LOOKS: (u32, Duration) = (40, Duration::from_millis(250));

/// How often an abort that was dropped is ordered again.
const ABORTS: u32 = 3;

/// What is to be done about an act, given what is live.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Nothing: this is the answer.
    Answer(Acted),
    /// A merge patch of the object, or of its status.
    Patch { of_status: bool, body: Value },
    /// The object is not where the act expects it; what is there instead.
    Refuse(String),
}

/// Carries out an act.
pub(crate) async fn act(api: &Api, act: &Act, clock: &dyn Clock) -> Result<Acted, ExecutorError> {
    let object = &act.object;
    if !is_rollout(object) {
        return Err(ExecutorError::Unsupported {
            what: format!("act on a {}: only Rollouts have steps", object.kind),
        });
    }
    let path = kinds::rollouts().path(object);
    if act.action == Action::ShutDownOld {
        return shut_down::old_version(api, act, &path, clock).await;
    }
    let failed = |verb: &'static str| move |problem: Problem| problem.into_error(verb, object);
    let mut aborts = 0;
    for _ in 0..CONFLICTS {
        let Some(live) = read(api, act, &path).await? else {
            return Err(wrong(act, "it is not on the cluster".to_owned()));
        };
        let sets =
            kinds::well_known("apps", "ReplicaSet").map(|resource| resource.collection(&object.namespace));
        let sets = api
            .list(&sets.unwrap_or_default())
            .await
            .map_err(failed("list"))?;
        let sets: Vec<_> = sets.iter().collect();
        let (of_status, mut body) = match decide(act, &live, &sets)? {
            Decision::Answer(answer) => return Ok(answer),
            Decision::Refuse(found) => return Err(wrong(act, found)),
            Decision::Patch { of_status, body } => (of_status, body),
        };
        body["metadata"]["resourceVersion"] = json!(version(&live));
        let patched = if of_status {
            format!("{path}/status")
        } else {
            path.clone()
        };
        match api.patch(&patched, Patch::Merge, &body).await {
            Ok(_) if act.action == Action::Abort => {
                match abort_holds(api, &path, &live).await.map_err(failed("get"))? {
                    Some(answer) => return Ok(answer),
                    // Dropped by a promotion that was under way.
                    None if aborts < ABORTS => aborts += 1,
                    None => {
                        return Err(wrong(
                            act,
                            "the abort is dropped by the controller again and again".to_owned(),
                        ));
                    }
                }
            }
            Ok(_) => return Ok(Acted::Done),
            Err(problem) if problem.is_conflict() => stand_back().await,
            Err(problem) => return Err(problem.into_error("patch", object)),
        }
    }
    Err(ExecutorError::Contended {
        object: object.clone(),
    })
}

/// Reads the Rollout, if it is ours and the act is not older than the plan.
pub(super) async fn read(api: &Api, act: &Act, path: &str) -> Result<Option<Value>, ExecutorError> {
    let object = &act.object;
    let stored = applied_set::read(api, &act.set).await?;
    let Some(stored) = stored else {
        let objects = vec![FailureDetail {
            object: object.clone(),
            message: format!("{object} is in no applied set: apply its plan first"),
        }];
        return Err(ExecutorError::Foreign { objects });
    };
    stored.set.fence(act.stamp)?;
    let live = api
        .find(path)
        .await
        .map_err(|problem| problem.into_error("get", object))?;
    match live {
        Some(live) if !is_ours(stored.set.entry(object), &live) => Err(foreign(object, &live)),
        live => Ok(live),
    }
}

pub(super) fn wrong(act: &Act, found: String) -> ExecutorError {
    ExecutorError::WrongGate {
        object: act.object.clone(),
        found,
    }
}

/// Waits until an abort is carried out; none when it was dropped.
async fn abort_holds(api: &Api, path: &str, before: &Value) -> Result<Option<Acted>, Problem> {
    let hash = Rollout::of(before).current();
    for _ in 0..ABORT_LOOKS.0 {
        let Some(live) = api.find(path).await? else {
            return Ok(Some(Acted::Done));
        };
        let rollout = Rollout::of(&live);
        if rollout.is_aborted() && live["status"]["phase"] == "Degraded" {
            return Ok(Some(Acted::Done));
        }
        if rollout.current() != hash {
            return Ok(Some(Acted::Unchanged));
        }
        if rollout.is_settled() {
            return Ok(Some(Acted::NothingToAbort));
        }
        if !rollout.is_aborted() {
            return Ok(None);
        }
        tokio::time::sleep(ABORT_LOOKS.1).await;
    }
    // The order stands; a controller that is down carries it out when it is back.
    Ok(Some(Acted::Done))
}

/// Decides what an act does to a live Rollout.
///
/// # Errors
/// [`ExecutorError::Rejected`] when the act lacks what was seen, or it was not seen here.
pub(crate) fn decide(act: &Act, live: &Value, replica_sets: &[&Value]) -> Result<Decision, ExecutorError> {
    let rollout = Rollout::of(live);
    let place = match expected(act, &rollout) {
        Ok(place) => place,
        Err(found) => return Ok(Decision::Refuse(found)),
    };
    Ok(match act.action {
        Action::Abort => abort(&rollout),
        Action::Pause if rollout.is_paused_by_hand() => Decision::Answer(Acted::Unchanged),
        Action::Pause => spec(json!({"paused": true})),
        Action::Promote | Action::Skip => {
            let Some(place) = place else {
                return Err(without_expectation(&act.object));
            };
            move_on(act.action, &rollout, &place, replica_sets)
        }
        Action::PromoteFull => promote_full(&rollout, replica_sets),
        Action::ShutDownOld => refuse("shutting down an old version is no patch of the Rollout"),
        Action::Resume if !rollout.is_paused_by_hand() => Decision::Answer(Acted::Unchanged),
        Action::Resume => spec(json!({"paused": null})),
        Action::Retry if !rollout.is_aborted() => Decision::Answer(Acted::Unchanged),
        Action::Retry => status(json!({"abort": false, "promoteFull": null})),
    })
}

/// Where an act expects the Rollout, if it is still that object at that revision; else what is there.
pub(super) fn expected<'t>(act: &'t Act, rollout: &Rollout<'_>) -> Result<Option<Place<'t>>, String> {
    let Some(token) = &act.expect else {
        return Ok(None);
    };
    let Some(place) = Place::from_token(token) else {
        return Err("the token was not made for a Rollout".to_owned());
    };
    if place.uid != rollout.uid() {
        return Err("it was deleted and created again".to_owned());
    }
    if place.hash != rollout.current() {
        return Err(format!(
            "it is at revision {}, the act is for {}",
            rollout.current(),
            place.hash
        ));
    }
    Ok(Some(place))
}

fn refuse(found: &str) -> Decision {
    Decision::Refuse(found.to_owned())
}

fn status(fields: Value) -> Decision {
    Decision::Patch {
        of_status: true,
        body: json!({"status": fields}),
    }
}

fn spec(fields: Value) -> Decision {
    Decision::Patch {
        of_status: false,
        body: json!({"spec": fields}),
    }
}

fn without_expectation(object: &ObjectRef) -> ExecutorError {
    rejected(
        object,
        "the act does not say what was seen: send the token of the progress along",
    )
}

fn abort(rollout: &Rollout<'_>) -> Decision {
    if !rollout.is_taken_up() {
        return refuse("its last change was not taken up yet, so an abort would be lost");
    }
    if rollout.is_settled() {
        return Decision::Answer(Acted::NothingToAbort);
    }
    if rollout.is_aborted() {
        return Decision::Answer(Acted::Unchanged);
    }
    // Without the null a full promotion that is under way wins.
    status(json!({"abort": true, "promoteFull": null}))
}

fn promote_full(rollout: &Rollout<'_>, replica_sets: &[&Value]) -> Decision {
    if !rollout.is_taken_up() {
        return refuse("its last change was not taken up yet, so a promotion would be lost");
    }
    if rollout.is_settled() || rollout.is_promoted_full() {
        return Decision::Answer(Acted::Unchanged);
    }
    if rollout.is_paused_by_hand() {
        return refuse("it is paused by hand: resume it first");
    }
    let declared = template::digest_of(&rollout.body["spec"]["template"]);
    let running = rollout
        .new_set(replica_sets)
        .and_then(|set| template::digest_of(&set["spec"]["template"]));
    if declared.is_some() && running != declared {
        return refuse("its new ReplicaSet is not of the declared template yet");
    }
    status(json!({"promoteFull": true}))
}

fn move_on(action: Action, rollout: &Rollout<'_>, place: &Place<'_>, replica_sets: &[&Value]) -> Decision {
    if rollout.is_aborted() {
        return refuse("it was aborted");
    }
    if rollout.is_beyond(place.index) {
        return Decision::Answer(Acted::Unchanged);
    }
    if rollout.index() < place.index {
        return refuse(&format!(
            "it is at step {}, before that gate",
            rollout.index().unwrap_or(0)
        ));
    }
    // Between an act and the controller's answer to it: the act was done.
    if rollout.is_resuming() {
        return Decision::Answer(Acted::Unchanged);
    }
    let start = rollout.pause().map_or("", |(_, start)| start);
    if start != place.start {
        return refuse("it has come to this step anew since");
    }
    let reason = rollout.pause().map(|(reason, _)| reason);
    if action == Action::Promote && reason.is_none() {
        return refuse("it does not stand at a pause");
    }
    if rollout.is_paused_by_hand() {
        return refuse("it is paused by hand: resume it first");
    }
    if !rollout.is_taken_up() {
        return Decision::Answer(Acted::WaitForPods);
    }
    if action == Action::Promote && !is_available(rollout.new_set(replica_sets)) {
        return Decision::Answer(Acted::WaitForPods);
    }
    let plain = matches!(reason, Some("BlueGreenPause" | "CanaryPauseStep"));
    match (action, place.index) {
        // Blue/green has no steps: there is only the pause itself.
        (_, None) => status(json!({"pauseConditions": null})),
        (Action::Promote, _) if plain => status(json!({"pauseConditions": null})),
        // Without controllerPause false the index alone also runs over a pause that follows, and an
        // inconclusive analysis would be run again.
        (_, Some(index)) => status(json!({
            "pauseConditions": null, "controllerPause": false, "currentStepIndex": index + 1,
        })),
    }
}

#[cfg(test)]
mod tests;
