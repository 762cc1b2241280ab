//! New runs that come from a run that is over: the same plans for what had not succeeded, or an earlier plan.

use std::collections::{BTreeMap, BTreeSet};

use super::Pipeline;
use super::decide::{Refused, again};
use super::deployment::Deployment;
use super::event::{End, Origin, OriginKind, Submitted, SubmittedTarget};
use crate::id::PipelineId;

/// The targets that a retry of a run that is over deploys: those that did not succeed, or the one that is named
/// together with what never started because of it.
///
/// # Errors
/// [`Refused`] when everything has succeeded, the target is unknown or depends on one that failed too.
pub fn to_retry(pipeline: &Pipeline, target: Option<&str>) -> Result<BTreeSet<String>, Refused> {
    let succeeded = |t: &Deployment| t.ended_as(End::Succeeded);
    let Some(name) = target else {
        let open = pipeline.targets.values().filter(|t| !succeeded(t));
        let open: BTreeSet<String> = open.map(|t| t.name.clone()).collect();
        if open.is_empty() {
            let why = "every target has succeeded; redeploy it to deploy it again";
            return Err(Refused::NothingToRetry { why });
        }
        return Ok(open);
    };
    again::may_retry(pipeline, again::find(pipeline, name)?)?;
    let mut chosen = BTreeSet::from([name.to_owned()]);
    loop {
        let ready =
            |name: &String| chosen.contains(name) || pipeline.targets.get(name).is_some_and(&succeeded);
        let next = pipeline.targets.values().find(|t| {
            !chosen.contains(&t.name)
                && t.ended_as(End::NeverStarted)
                && t.depends_on.iter().any(|name| chosen.contains(name))
                && t.depends_on.iter().all(ready)
        });
        let Some(next) = next.map(|t| t.name.clone()) else {
            return Ok(chosen);
        };
        chosen.insert(next);
    }
}

/// The same plans once more, for these targets; what they depend on besides has succeeded.
pub fn retry_of(of: PipelineId, submitted: &Submitted, chosen: &BTreeSet<String>) -> Submitted {
    let mut targets: BTreeMap<String, SubmittedTarget> = submitted.targets.clone();
    targets.retain(|name, _| chosen.contains(name));
    for target in targets.values_mut() {
        target.depends_on.retain(|name| chosen.contains(name));
    }
    Submitted {
        targets,
        origin: Some(Origin {
            kind: OriginKind::Retry,
            of,
        }),
        behind: None,
        ..submitted.clone()
    }
}

/// Back to the plan that a run brought to one target; `None` where it has no such target.
pub fn back_to(to: PipelineId, submitted: &Submitted, target: &str) -> Option<Submitted> {
    let found = submitted.targets.get(target)?;
    let target = (
        target.to_owned(),
        SubmittedTarget {
            depends_on: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            back: true,
            ..found.clone()
        },
    );
    Some(Submitted {
        targets: BTreeMap::from([target]),
        origin: Some(Origin {
            kind: OriginKind::RollBack,
            of: to,
        }),
        behind: None,
        ..submitted.clone()
    })
}

impl Pipeline {
    /// The target that is named, or the only one there is.
    ///
    /// # Errors
    /// [`Refused`] for an unknown name, or for none where there are several.
    pub fn one_target(&self, name: Option<&str>) -> Result<&Deployment, Refused> {
        match name {
            Some(name) => again::find(self, name),
            None => again::only(self),
        }
    }

    /// Whether a target can be taken back: to the plan before it, or (`named`) to one that a person names.
    ///
    /// # Errors
    /// [`Refused`] with what stands against it.
    pub fn may_go_back(&self, target: &Deployment, named: bool) -> Result<(), Refused> {
        again::may_roll_back(self, target, named)
    }
}
