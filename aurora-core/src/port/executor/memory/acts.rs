//! Acts on the Rollouts of the in-memory cluster.

use serde_json::json;

use super::Write;
use super::canary::{Declared, Workload};
use super::world::World;
use crate::command::{Act, Acted, Action, FailureDetail};
use crate::manifest::ObjectRef;
use crate::port::executor::ExecutorError;
use crate::progress::ExpectToken;

/// Where the rollout stood when an act was decided.
struct Expected<'a> {
    uid: &'a str,
    revision: &'a str,
    step: usize,
    pause: &'a str,
}

impl<'a> Expected<'a> {
    fn read(token: &'a ExpectToken) -> Option<Self> {
        let mut parts = token.as_str().split('/');
        let read = Self {
            uid: parts.next()?,
            revision: parts.next()?,
            step: parts.next()?.parse().ok()?,
            pause: parts.next()?,
        };
        parts.next().is_none().then_some(read)
    }
}

impl World {
    /// Does one thing with one Rollout, if it still stands where the act expects it.
    pub(super) fn act(&mut self, act: &Act) -> Result<Acted, ExecutorError> {
        self.fence(&act.set, act.stamp)?;
        let wrong = |found: &str| ExecutorError::WrongGate {
            object: act.object.clone(),
            found: found.to_owned(),
        };
        let (Some(held), Some(workload)) = (self.objects.get(&act.object), self.workloads.get(&act.object))
        else {
            return Err(wrong("it is not on the cluster"));
        };
        let expected = match &act.expect {
            Some(token) => Some(Expected::read(token).ok_or_else(|| wrong("the token was not made here"))?),
            None => None,
        };
        if let Some(expected) = &expected {
            if expected.uid != held.uid {
                return Err(wrong("it was deleted and created again"));
            }
            if expected.revision != workload.revision {
                return Err(wrong(&format!("it is at revision {}", workload.revision)));
            }
        }
        let observed = workload.observed_generation == held.generation;
        let settled = workload.stable == workload.revision;
        let declared = Declared::by(&held.body);
        let paused = held.body["spec"]["paused"] == true;
        match act.action {
            Action::Abort if !observed => return Err(wrong("its last change was not taken up yet")),
            Action::Abort if settled => return Ok(Acted::NothingToAbort),
            Action::Abort if workload.aborted => return Ok(Acted::Unchanged),
            Action::Pause if paused => return Ok(Acted::Unchanged),
            Action::Resume if !paused => return Ok(Acted::Unchanged),
            Action::Retry if !workload.aborted => return Ok(Acted::Unchanged),
            Action::PromoteFull if !observed => return Err(wrong("its last change was not taken up yet")),
            Action::PromoteFull if settled || workload.is_past_steps(&declared) => {
                return Ok(Acted::Unchanged);
            }
            Action::ShutDownOld => {
                if declared.blue_green.is_none() {
                    return Err(not_blue_green(&act.object));
                }
                if !observed {
                    return Err(wrong("its last change was not taken up yet"));
                }
                if !workload.is_redirected() {
                    return Err(wrong("its traffic was not redirected yet"));
                }
                if !workload.keeps_old() {
                    return Ok(Acted::Unchanged);
                }
            }
            Action::PromoteFull if paused => return Err(wrong("it is paused by hand")),
            Action::Promote | Action::Skip => {
                let Some(expected) = expected else {
                    return Err(without_expectation(&act.object));
                };
                if let Some(answer) = at_place(&expected, workload, &wrong)? {
                    return Ok(answer);
                }
                if paused {
                    return Err(wrong("it is paused by hand"));
                }
                if act.action == Action::Promote && !workload.has_new_pods(&declared) {
                    return Ok(Acted::WaitForPods);
                }
            }
            _ => {}
        }
        self.writes.push(Write::Acted {
            object: act.object.clone(),
            action: act.action,
            revision: workload.revision.clone(),
            step: workload.step,
        });
        self.carry_out(&act.object, act.action, &declared);
        Ok(Acted::Done)
    }

    /// Does it, whatever stands there.
    pub(super) fn carry_out(&mut self, object: &ObjectRef, action: Action, declared: &Declared) {
        let (Some(held), Some(workload)) = (self.objects.get_mut(object), self.workloads.get_mut(object))
        else {
            return;
        };
        match action {
            Action::Abort => workload.set_aborted(true),
            Action::Pause => {
                held.body["spec"]["paused"] = json!(true);
                held.generation += 1;
            }
            Action::Promote | Action::Skip => workload.pass(),
            Action::PromoteFull => workload.promote_full(declared),
            Action::Resume => {
                if let Some(spec) = held.body["spec"].as_object_mut() {
                    spec.remove("paused");
                }
                held.generation += 1;
            }
            Action::Retry => workload.set_aborted(false),
            Action::ShutDownOld => workload.shut_down_old(),
        }
        held.version += 1;
    }
}

/// The answer when the act has had its effect already; none when it stands right there.
fn at_place(
    expected: &Expected<'_>,
    workload: &Workload,
    wrong: &dyn Fn(&str) -> ExecutorError,
) -> Result<Option<Acted>, ExecutorError> {
    let pause = workload
        .pause
        .map_or_else(|| "-".to_owned(), |serial| serial.to_string());
    if workload.aborted {
        return Err(wrong("it was aborted"));
    }
    if workload.step > expected.step {
        return Ok(Some(Acted::Unchanged));
    }
    if workload.step < expected.step {
        return Err(wrong(&format!("it is at step {}", workload.step)));
    }
    if pause != expected.pause {
        return Err(wrong("it has come to this step anew since"));
    }
    Ok(None)
}

fn not_blue_green(object: &ObjectRef) -> ExecutorError {
    let message =
        format!("{object} does not move by blue/green: it keeps no old version that could be shut down");
    ExecutorError::Rejected {
        objects: vec![FailureDetail {
            object: object.clone(),
            message,
        }],
    }
}

fn without_expectation(object: &ObjectRef) -> ExecutorError {
    let message = format!("the act on {object} does not say what was seen: send the progress' token along");
    ExecutorError::Rejected {
        objects: vec![FailureDetail {
            object: object.clone(),
            message,
        }],
    }
}
