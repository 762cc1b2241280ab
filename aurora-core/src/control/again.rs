//! Acts that bring a target or a run to another version: retry, roll back, redeploy.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::json;

use super::act_key::ActKey;
use super::acts::{ATTEMPTS, not_found, person};
use super::feed::Cursor;
use super::start::{Attempt, NewRun};
use super::submit::{Submission, SubmitError};
use super::{ControlError, ControlPlane, Door, Recorded, journal};
use crate::authz::{Deploy, Grant};
use crate::deploy_file::{DeployFile, Files, InProgress, Problem, manifests, parse_submit};
use crate::id::PipelineId;
use crate::pipeline::{
    Deployment, End, Input, LastGood, Origin, OriginKind, Person, Pipeline, Refused, Submitted, back_to,
    retry_of, to_retry,
};
use crate::port::store::{Scope, StoreError};

/// What somebody wants done with a target of a run.
#[derive(Clone, Debug, Default)]
pub struct TargetAct {
    /// Which target; absent: the only one of the run, or for a retry everything that did not succeed.
    pub target: Option<String>,
    /// For going back: the earlier run to whose plan; absent: to the plan before this run's.
    pub to: Option<PipelineId>,
    /// Their words.
    pub comment: Option<String>,
}

/// How an earlier run is deployed again.
#[derive(Clone, Debug, Default)]
pub struct Redeploy {
    /// Only these targets, what they depend on besides counts as done; absent: those of the earlier run.
    pub targets: Option<BTreeSet<String>>,
    /// Run-wide variables beside those of the earlier run.
    pub context: BTreeMap<String, String>,
    /// Their words.
    pub comment: Option<String>,
}

impl ControlPlane {
    /// Deploys the same plans once more to what did not succeed.
    ///
    /// In a run that goes on, a target that is over begins again in place, with fresh gates, and what never
    /// started because of it waits again. Of a run that is over, a new run is made: [`Recorded::pipeline`].
    ///
    /// # Errors
    /// [`ControlError`]; `Refused` where nothing can be tried again, `NotTaken` while another run of the
    /// application is under way.
    ///
    /// # Cancel safety
    /// The act may or may not be stored; the same idempotency key finds out.
    pub async fn retry(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        act: TargetAct,
    ) -> Result<Recorded, ControlError> {
        if act.to.is_some() {
            let problem = "a retry deploys the same plans and takes no run to go back to; roll back instead";
            return Err(ControlError::Invalid {
                problem: problem.to_owned(),
            });
        }
        let person = person(grant, door, act.comment)?;
        let what = json!(["retry", id, act.target, person.comment]);
        let scope = Scope::from(grant.tenant());
        let key = ActKey::of(grant, door, &what);
        for _ in 0..ATTEMPTS {
            if let Some(answer) = self.answered(&scope, key.as_ref()).await? {
                return Ok(answer);
            }
            let pipeline = self.known(&scope, id).await?;
            let recorded = if pipeline.is_final() {
                let run = self.retry_run(&scope, &pipeline, act.target.as_deref()).await;
                let run = self.noting(&scope, id, &person, "retry", run).await?;
                self.start_run(door, &scope, run, &person, key.as_ref()).await?
            } else {
                let (target, person) = (act.target.clone(), person.clone());
                let input = Input::Retry { target, person };
                self.record_once(&scope, &pipeline, &input, key.as_ref()).await?
            };
            if let Some(recorded) = recorded {
                return Ok(recorded);
            }
        }
        Err(ControlError::Contended { id: id.to_string() })
    }

    /// Takes a target back to the plan before this run's, or to that of an earlier run, its configuration included.
    ///
    /// In a run that goes on, the target goes back in place. Of a run that is over, a new run is made whose one
    /// target goes back in full and without gates: [`Recorded::pipeline`].
    ///
    /// # Errors
    /// [`ControlError`]; `Refused` where there is nothing to go back to, `NotFound` for an unknown run,
    /// `NotTaken` while another run of the application is under way.
    ///
    /// # Cancel safety
    /// The act may or may not be stored; the same idempotency key finds out.
    pub async fn roll_back(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        act: TargetAct,
    ) -> Result<Recorded, ControlError> {
        let person = person(grant, door, act.comment)?;
        let what = json!(["rollback", id, act.target, act.to, person.comment]);
        let scope = Scope::from(grant.tenant());
        let key = ActKey::of(grant, door, &what);
        for _ in 0..ATTEMPTS {
            if let Some(answer) = self.answered(&scope, key.as_ref()).await? {
                return Ok(answer);
            }
            let pipeline = self.known(&scope, id).await?;
            let target = act.target.as_deref();
            let recorded = if pipeline.is_final() {
                let run = self.roll_back_run(&scope, &pipeline, target, act.to).await;
                let run = self.noting(&scope, id, &person, "rollback", run).await?;
                self.start_run(door, &scope, run, &person, key.as_ref()).await?
            } else {
                let to = self.named(&scope, &pipeline, target, act.to).await;
                let to = self.noting(&scope, id, &person, "rollback", to).await?;
                let (target, person) = (act.target.clone(), person.clone());
                let input = Input::RollBack { target, to, person };
                self.record_once(&scope, &pipeline, &input, key.as_ref()).await?
            };
            if let Some(recorded) = recorded {
                return Ok(recorded);
            }
        }
        Err(ControlError::Contended { id: id.to_string() })
    }

    /// Deploys the stored deploy file of an earlier run again, rendered anew: a new run.
    ///
    /// # Errors
    /// [`ControlError`]; `NotTaken` as for [`ControlPlane::submit`].
    ///
    /// # Cancel safety
    /// The run may or may not be stored; the same idempotency key finds out.
    pub async fn redeploy(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        wanted: Redeploy,
    ) -> Result<Recorded, ControlError> {
        let person = person(grant, door, wanted.comment)?;
        let scope = Scope::from(grant.tenant());
        let pipeline = self.known(&scope, id).await?;
        if let Some(parked) = &pipeline.parked {
            let message = parked.message.clone();
            return Err(Refused::Parked { message }.into());
        }
        let store = self.inner.store.as_ref();
        let config = store.get_blob(&scope, &pipeline.file).await?;
        let config = config.ok_or_else(|| ControlError::NotFound {
            what: format!("stored deploy file of pipeline {id}"),
        })?;
        let mut submission = read_config(config).await?;
        submission.only = Some(match wanted.targets {
            Some(targets) => targets,
            None => pipeline.targets.keys().cloned().collect(),
        });
        submission.context = pipeline.context.clone();
        submission.context.extend(wanted.context);
        submission.source = door.client.clone();
        submission.source_control = pipeline.source_control.clone();
        submission.idempotency = door.idempotency.clone();
        submission.comment = person.comment;
        submission.origin = Some(Origin {
            kind: OriginKind::Redeploy,
            of: id,
        });
        let (submitted, mut feed) = self.submit_at(grant, door, submission).await?;
        if submitted.repeated {
            let stream = journal::name(submitted.pipeline);
            let first = store.read_stream(&scope, &stream, 0, 1).await?;
            feed = first.first().map_or(0, |event| event.feed);
        }
        Ok(Recorded {
            pipeline: submitted.pipeline,
            version: 1,
            cursor: Cursor::at(feed),
        })
    }

    /// An act that is refused is on record too.
    async fn noting<T>(
        &self,
        scope: &Scope,
        id: PipelineId,
        person: &Person,
        action: &str,
        found: Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        if let Err(ControlError::Refused(refused)) = &found {
            self.note_refused(scope, id, person, action, refused).await?;
        }
        found
    }

    async fn answered(&self, scope: &Scope, key: Option<&ActKey>) -> Result<Option<Recorded>, ControlError> {
        match key {
            Some(key) => key.answered(self.inner.store.as_ref(), scope).await,
            None => Ok(None),
        }
    }

    pub(super) async fn known(&self, scope: &Scope, id: PipelineId) -> Result<Pipeline, ControlError> {
        let pipeline = journal::load(self.inner.store.as_ref(), scope, id).await?;
        pipeline.ok_or_else(|| not_found(id))
    }

    pub(super) async fn submitted(&self, scope: &Scope, id: PipelineId) -> Result<Submitted, ControlError> {
        let submitted = journal::submitted(self.inner.store.as_ref(), scope, id).await?;
        submitted.ok_or_else(|| not_found(id))
    }

    /// The run that tries again what did not succeed in a run that is over.
    pub(super) async fn retry_run(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        target: Option<&str>,
    ) -> Result<Submitted, ControlError> {
        let chosen = to_retry(pipeline, target)?;
        for name in &chosen {
            let Some(target) = pipeline.targets.get(name) else {
                continue;
            };
            let live = self.live(scope, pipeline, target).await?;
            if let Some(newer) = live.filter(|live| live.pipeline > pipeline.id) {
                let why = format!(
                    "was deployed by pipeline {} since; redeploy this one to bring its version back",
                    newer.pipeline
                );
                return Err(not_ready(target, why));
            }
            self.plan_is_kept(scope, target, target.plan).await?;
        }
        let submitted = self.submitted(scope, pipeline.id).await?;
        Ok(retry_of(pipeline.id, &submitted, &chosen))
    }

    /// The run that takes a target of a run that is over back.
    pub(super) async fn roll_back_run(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        target: Option<&str>,
        to: Option<PipelineId>,
    ) -> Result<Submitted, ControlError> {
        let target = pipeline.one_target(target)?;
        pipeline.may_go_back(target, to.is_some())?;
        let live = self.live(scope, pipeline, target).await?;
        let to = match (to, &target.last_good) {
            (Some(to), _) => to,
            (None, Some(before)) => {
                // Where going back failed before, what was live then is still on record.
                let expected = |live: &&LastGood| {
                    live.pipeline == pipeline.id
                        || (live.pipeline == before.pipeline && !target.ended_as(End::Succeeded))
                };
                if let Some(live) = live.as_ref().filter(|live| !expected(live)) {
                    let why = format!(
                        "is not what runs there any more: that is from pipeline {}; roll that one back, or name \
                         the run to go back to",
                        live.pipeline
                    );
                    return Err(not_ready(target, why));
                }
                before.pipeline
            }
            // Refused above.
            (None, None) => return Err(not_ready(target, "has no earlier plan".to_owned())),
        };
        let (name, good) = self.earlier(scope, pipeline, target, to).await?;
        if live.is_some_and(|live| live.plan == good.plan) && !target.ended_as(End::RollbackFailed) {
            let why = format!("holds the plan of pipeline {to} already");
            return Err(not_ready(target, why));
        }
        let submitted = self.submitted(scope, to).await?;
        back_to(to, &submitted, &name).ok_or_else(|| not_found(to))
    }

    /// The plan of the run that a person names, for a target of a run that goes on.
    pub(super) async fn named(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        target: Option<&str>,
        to: Option<PipelineId>,
    ) -> Result<Option<LastGood>, ControlError> {
        let Some(to) = to else {
            return Ok(None);
        };
        let target = pipeline.one_target(target)?;
        let (_, good) = self.earlier(scope, pipeline, target, to).await?;
        if good.plan == target.plan {
            let why = format!("is being deployed by the very plan of pipeline {to}");
            return Err(not_ready(target, why));
        }
        Ok(Some(good))
    }

    /// The plan that an earlier run brought to the place of a target, and what the target is called there.
    async fn earlier(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        target: &Deployment,
        to: PipelineId,
    ) -> Result<(String, LastGood), ControlError> {
        let unsuitable = |why: String| Err(Refused::Unsuitable { to, why }.into());
        let earlier = self.known(scope, to).await?;
        if let Some(parked) = &earlier.parked {
            return unsuitable(parked.message.clone());
        }
        if earlier.application != pipeline.application {
            return unsuitable(format!(
                "it deployed `{}`, not `{}`",
                earlier.application, pipeline.application
            ));
        }
        let there = |t: &&Deployment| t.account == target.account && t.namespace == target.namespace;
        let Some(found) = earlier.targets.values().find(there) else {
            return unsuitable(format!(
                "it had no target in namespace `{}` of account `{}`",
                target.namespace, target.account
            ));
        };
        if !found.ended_as(End::Succeeded) {
            return unsuitable(format!(
                "its target `{}` did not succeed: it is {}",
                found.name,
                earlier.target_state(found).name()
            ));
        }
        self.plan_is_kept(scope, found, found.plan).await?;
        let good = LastGood {
            pipeline: to,
            plan: found.plan,
            steps: found.steps.clone(),
        };
        Ok((found.name.clone(), good))
    }

    async fn plan_is_kept(
        &self,
        scope: &Scope,
        target: &Deployment,
        plan: crate::digest::Digest,
    ) -> Result<(), ControlError> {
        if self.inner.store.get_blob(scope, &plan).await?.is_some() {
            return Ok(());
        }
        let why =
            format!("cannot have the plan {plan}: it is not kept any more; submit the deploy file again");
        Err(not_ready(target, why))
    }

    /// What runs at the place of a target: the last plan that succeeded there.
    async fn live(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        target: &Deployment,
    ) -> Result<Option<LastGood>, ControlError> {
        let (account, namespace) = (target.account.as_str(), &target.namespace);
        self.live_at(scope, &pipeline.application, account, namespace)
            .await
    }

    pub(super) async fn live_at(
        &self,
        scope: &Scope,
        application: &str,
        account: &str,
        namespace: &str,
    ) -> Result<Option<LastGood>, ControlError> {
        let store = self.inner.store.as_ref();
        Ok(journal::read_last_good(store, scope, application, account, namespace).await?)
    }

    /// `None`: something changed meanwhile.
    async fn start_run(
        &self,
        door: &Door,
        scope: &Scope,
        mut submitted: Submitted,
        person: &Person,
        key: Option<&ActKey>,
    ) -> Result<Option<Recorded>, ControlError> {
        submitted.source = door.client.clone();
        let new = NewRun {
            scope,
            submitted: &submitted,
            deed: person.deed(),
            in_progress: InProgress::Reject,
        };
        let remember = |batch: &mut _, id| {
            if let Some(key) = key {
                key.remember(batch, id, 1);
            }
        };
        match self.start(&new, remember).await? {
            Attempt::Again => Ok(None),
            Attempt::Busy(pipeline) => {
                // The run in the way may be the one that the same key has made meanwhile.
                if let Some(key) = key
                    && let Some(answer) = key.answered(self.inner.store.as_ref(), scope).await?
                {
                    return Ok(Some(answer));
                }
                let application = submitted.application;
                Err(SubmitError::Busy {
                    application,
                    pipeline,
                }
                .into())
            }
            Attempt::Started { pipeline, feed, .. } => Ok(Some(Recorded {
                pipeline,
                version: 1,
                cursor: Cursor::at(feed),
            })),
        }
    }
}

fn not_ready(target: &Deployment, why: String) -> ControlError {
    let target = target.name.clone();
    Refused::TargetNotReady { target, why }.into()
}

/// Reads a stored deploy file on a thread that may be busy for long.
async fn read_config(config: Bytes) -> Result<Submission, ControlError> {
    let read = tokio::task::spawn_blocking(move || read_now(config)).await;
    match read {
        Ok(Ok(submission)) => Ok(submission),
        Ok(Err(problems)) => Err(SubmitError::Invalid { problems }.into()),
        Err(error) => Err(StoreError::Corrupt {
            what: "the stored deploy file".to_owned(),
            source: error.into(),
        }
        .into()),
    }
}

/// It was stored as it came: as text, or, from an embedder, as the file that passed every check.
fn read_now(config: Bytes) -> Result<Submission, Vec<Problem>> {
    const NAME: &str = "deploy file";
    if let Ok(file) = serde_json::from_slice::<DeployFile>(&config) {
        let manifests = manifests(&file, &Files::default(), NAME)?;
        return Ok(with_config(Submission::new(file, manifests), config));
    }
    let text = std::str::from_utf8(&config).map_err(|_| {
        let problem = Problem::error("encoding", "", "the deploy file is not UTF-8 text");
        vec![problem.at(NAME, 0, 0)]
    })?;
    let parsed = parse_submit(text, NAME)?;
    let of_targets = manifests(&parsed.deploy, &parsed.files, NAME)?;
    let mut submission = Submission::new(parsed.deploy, of_targets);
    submission.warnings = parsed.warnings;
    submission.document = Some(parsed.document);
    Ok(with_config(submission, config))
}

fn with_config(mut submission: Submission, config: Bytes) -> Submission {
    submission.config = Some(config);
    submission
}
