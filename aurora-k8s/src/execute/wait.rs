//! Waiting for what a stage made: usable definitions and namespaces, observed workloads.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;

use aurora_core::manifest::ObjectRef;
use aurora_core::port::executor::ExecutorError;
use aurora_core::progress::{Progress, Standing};

use super::accept::fenced;
use super::apply::Work;
use super::errors::rejected;
use super::kinds::Resource;
use super::observe::{self, is_rollout};
use super::stages::Stage;
use crate::argo::status::{NEVER_TAKEN_UP, NOT_TAKEN_UP};

/// How often a definition or namespace is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How often the applied set is looked at while workloads are waited for.
const FENCE: Duration = Duration::from_secs(5);

/// From this long on it is said that perhaps no controller watches.
const SUSPICIOUS: Duration = Duration::from_secs(60);

/// Waits until a CRD serves its kind or a namespace takes objects.
pub(crate) async fn until_usable(
    work: &Work<'_>,
    object: &ObjectRef,
    resource: &Resource,
) -> Result<(), ExecutorError> {
    loop {
        let found = work.api.find(&resource.path(object)).await;
        let found = found.map_err(|problem| problem.into_error("get", object))?;
        let Some(found) = found else {
            return Err(rejected(
                object,
                "it was deleted while it was waited for: apply again",
            ));
        };
        let condition = |kind: &str| {
            let conditions = found["status"]["conditions"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            conditions
                .iter()
                .find(|condition| condition["type"] == kind)
                .cloned()
        };
        if object.kind == "Namespace" {
            // One that was just made may say nothing of its phase yet.
            if found["status"]["phase"] != "Terminating"
                && found["metadata"].get("deletionTimestamp").is_none()
            {
                return Ok(());
            }
        } else {
            if condition("Established").is_some_and(|condition| condition["status"] == "True") {
                return Ok(());
            }
            if let Some(refused) =
                condition("NamesAccepted").filter(|condition| condition["status"] == "False")
            {
                let words = refused["message"].as_str().unwrap_or("its names are taken");
                return Err(rejected(object, words));
            }
        }
        work.news.say(format!("waiting until {object} can be used"));
        fenced(&work.api, work.apply).await?;
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until every workload of a stage is taken up, however it fares then.
pub(crate) async fn until_observed(work: &Work<'_>, stage: Stage) -> Result<(), ExecutorError> {
    let mut levels = observe::observe(&work.api, work.kinds, work.plan, work.clock.clone()).await?;
    let began = tokio::time::Instant::now();
    let since = work.clock.now();
    let mut waiting: BTreeMap<ObjectRef, Progress> = BTreeMap::new();
    let mut fences = tokio::time::interval(FENCE);
    fences.tick().await;
    loop {
        tokio::select! {
            biased;
            news = levels.next() => {
                let Some(news) = news else {
                    return Err(ExecutorError::Unavailable { source: "the watches have ended".into() });
                };
                for progress in news?.into_iter().filter(|progress| is_of(stage, &progress.object)) {
                    if progress.standing == Standing::NotObserved {
                        waiting.insert(progress.object.clone(), progress);
                    } else {
                        waiting.remove(&progress.object);
                    }
                }
                if waiting.is_empty() {
                    return Ok(());
                }
            }
            _ = fences.tick() => {
                fenced(&work.api, work.apply).await?;
            }
        }
        if let Some(progress) = waiting.values().next() {
            work.news.say(waiting_for(progress, since, began.elapsed()));
        }
    }
}

fn is_of(stage: Stage, object: &ObjectRef) -> bool {
    is_rollout(object) == (stage == Stage::Rollouts)
}

fn waiting_for(progress: &Progress, since: Timestamp, waited: Duration) -> String {
    let object = &progress.object;
    // With other words the controller itself says what keeps it.
    let silent = [NEVER_TAKEN_UP, NOT_TAKEN_UP].contains(&progress.message.as_str());
    if waited < SUSPICIOUS || !silent {
        return format!("waiting until {object} is taken up: {}", progress.message);
    }
    let what = if is_rollout(object) { "Rollout " } else { "" };
    let name = if is_rollout(object) {
        object.name.clone()
    } else {
        object.to_string()
    };
    format!(
        "no controller seems to be watching {what}{name} since {since}: is the controller running, are all its CRDs \
         installed, does its instance id match? ({})",
        progress.message
    )
}

#[cfg(test)]
mod tests {
    use aurora_core::progress::PodCounts;

    use super::*;

    #[test]
    fn a_missing_controller_is_suspected_after_a_minute() {
        let progress = Progress {
            object: ObjectRef::new("argoproj.io", "Rollout", "shop", "web"),
            standing: Standing::NotObserved,
            revision: String::new(),
            stable: String::new(),
            step: None,
            weight: None,
            pods: PodCounts::default(),
            expect: None,
            message: NEVER_TAKEN_UP.to_owned(),
            failing: Vec::new(),
            observed_at: Timestamp::UNIX_EPOCH,
        };
        let early = waiting_for(&progress, Timestamp::UNIX_EPOCH, Duration::from_secs(59));
        assert!(
            early.starts_with("waiting until Rollout shop/web is taken up"),
            "{early}"
        );
        let late = waiting_for(&progress, Timestamp::UNIX_EPOCH, Duration::from_secs(60));
        assert!(
            late.starts_with("no controller seems to be watching Rollout web since 1970-01-01"),
            "{late}"
        );
    }
}
