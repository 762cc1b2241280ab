//! Submitting: everything that can be known before anything is done, then one batch.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::start::{Attempt, NewRun};
use super::{ControlPlane, Door, actor, filter, fleet, journal};
use crate::authz::{Deploy, Grant};
use crate::deploy_file::{DeployFile, Document, Problem};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::id::PipelineId;
use crate::manifest::Manifest;
use crate::pipeline::{self, Deed, Origin, SubmittedTarget, What};
use crate::plan::Plan;
use crate::port::renderer::RenderRequest;
use crate::port::router::RouteError;
use crate::port::store::{Batch, Precondition, RecordKey, Scope, StoreError};
use crate::principal::ClientProduct;

/// How often a submit looks again when the lock or the key was taken and then was not.
const ATTEMPTS: usize = 20;

/// What somebody wants deployed.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The deploy file, valid by construction.
    pub file: DeployFile,
    /// The manifests of each target.
    pub manifests: BTreeMap<String, Vec<Manifest>>,
    /// What reading them warned of.
    pub warnings: Vec<Problem>,
    /// Run-wide variables beside those of the file.
    pub context: BTreeMap<String, String>,
    /// The program that submits.
    pub source: Option<ClientProduct>,
    /// Which commit and who pushed it.
    pub source_control: Option<Value>,
    /// The submit as it came, to be shown and to be submitted again; the file as JSON where absent.
    pub config: Option<Bytes>,
    /// A key that makes a repeat of the same submit have no second effect.
    pub idempotency: Option<String>,
    /// Only these targets, whatever the file says; what they depend on besides counts as done.
    pub only: Option<BTreeSet<String>>,
    /// Why it is submitted, in the submitter's words.
    pub comment: Option<String>,
    /// The earlier run that it repeats.
    pub origin: Option<Origin>,
    /// The file as it was written: gives problems their lines.
    pub document: Option<Document>,
}

impl Submission {
    /// A deploy file and the manifests of its targets.
    pub const fn new(file: DeployFile, manifests: BTreeMap<String, Vec<Manifest>>) -> Self {
        Self {
            file,
            manifests,
            warnings: Vec::new(),
            context: BTreeMap::new(),
            source: None,
            source_control: None,
            config: None,
            idempotency: None,
            only: None,
            comment: None,
            origin: None,
            document: None,
        }
    }
}

/// A submit that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// What is worth knowing about what was submitted.
    pub warnings: Vec<Problem>,
    /// The same key had been used for the same submit: this is its pipeline.
    pub repeated: bool,
    /// It waits for its turn behind this run.
    pub behind: Option<PipelineId>,
}

/// Why a submit was not taken; nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No agent of this name was ever seen.
    #[error("{}", unknown_accounts(accounts))]
    AccountUnknown {
        /// Target and account of each.
        accounts: Vec<(String, String)>,
    },
    /// Another run of the application is under way.
    #[error(
        "application `{application}` is being deployed by pipeline {pipeline}; wait for its end or cancel it"
    )]
    Busy {
        /// The application.
        application: String,
        /// The pipeline that holds it.
        pipeline: PipelineId,
    },
    /// The key was used for another submit.
    #[error(
        "the idempotency key was used for another submit, pipeline {pipeline}; use a new key for each submit"
    )]
    KeyReused {
        /// The pipeline of the other submit.
        pipeline: PipelineId,
    },
    /// It cannot be deployed as it is.
    #[error("the deploy file cannot be deployed: {} problem(s)", problems.len())]
    Invalid {
        /// Every problem, errors and warnings.
        problems: Vec<Problem>,
    },
    /// Whether the agents exist cannot be found out.
    #[error("the agents cannot be asked for")]
    Router {
        /// Why.
        source: RouteError,
    },
    /// The store does not work.
    #[error("the pipeline cannot be stored")]
    Store {
        /// Why.
        source: StoreError,
    },
}

impl SubmitError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::AccountUnknown { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Busy { .. } | Self::KeyReused { .. } => ErrorKind::Conflict,
            Self::Router { source } => source.kind(),
            Self::Store { source } => source.kind(),
        }
    }
}

impl From<StoreError> for SubmitError {
    fn from(source: StoreError) -> Self {
        Self::Store { source }
    }
}

fn unknown_accounts(accounts: &[(String, String)]) -> String {
    let each: Vec<String> = accounts
        .iter()
        .map(|(target, account)| format!("target `{target}`: no agent named `{account}` was ever seen"))
        .collect();
    format!(
        "{}; connect the agent, or name one that `aurora agent list` shows",
        each.join("; ")
    )
}

#[derive(Deserialize, Serialize)]
struct UsedKey {
    pipeline: PipelineId,
    submit: Digest,
}

impl ControlPlane {
    /// Takes a deploy file: renders every target, checks the accounts, stores the pipeline.
    ///
    /// # Errors
    /// [`SubmitError`]; all problems of all targets at once.
    ///
    /// # Cancel safety
    /// The pipeline may or may not be stored; the same idempotency key finds out.
    pub async fn submit(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        submission: Submission,
    ) -> Result<Submitted, SubmitError> {
        let (submitted, _) = self.submit_at(grant, door, submission).await?;
        Ok(submitted)
    }

    /// Submits, and tells the place in the feed at which it is stored; 0 for a repeat.
    pub(super) async fn submit_at(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        mut submission: Submission,
    ) -> Result<(Submitted, u64), SubmitError> {
        let scope = Scope::from(grant.tenant());
        let config = match &submission.config {
            Some(config) => config.clone(),
            None => serde_json::to_vec(&submission.file).unwrap_or_default().into(),
        };
        filter::narrow(&mut submission)?;
        let plans = self.render(grant, &submission)?;
        self.check_accounts(grant, &submission.file).await?;
        let file = self.inner.store.put_blob(&scope, config).await?;
        for plan in plans.values() {
            self.inner.store.put_blob(&scope, plan.to_bytes().into()).await?;
        }
        let what = submitted_event(&submission, &plans, file);
        let fingerprint = Digest::of_json(
            &serde_json::to_value(What::Submitted(Box::new(what.clone()))).unwrap_or_default(),
        );
        let key = submission
            .idempotency
            .as_ref()
            .map(|key| idempotency_key(&grant.principal().id, key));
        let mut by = actor(grant, door);
        by.basis = Some("deploy".to_owned());
        let new = NewRun {
            scope: &scope,
            submitted: &what,
            deed: Deed {
                actor: by,
                comment: submission.comment.clone(),
            },
            in_progress: submission.file.in_progress,
        };
        for _ in 0..ATTEMPTS {
            if let Some(answer) = self
                .used_before(&scope, key.as_ref(), fingerprint, &submission)
                .await?
            {
                return Ok((answer, 0));
            }
            let remember = |batch: &mut Batch, pipeline| {
                if let Some(key) = &key {
                    remember(batch, key, pipeline, fingerprint);
                }
            };
            match self.start(&new, remember).await? {
                Attempt::Again => {}
                Attempt::Busy(pipeline) => {
                    // The run in the way may be the one that the same key has made meanwhile.
                    if let Some(answer) = self
                        .used_before(&scope, key.as_ref(), fingerprint, &submission)
                        .await?
                    {
                        return Ok((answer, 0));
                    }
                    return Err(SubmitError::Busy {
                        application: submission.file.application,
                        pipeline,
                    });
                }
                Attempt::Started {
                    pipeline,
                    behind,
                    feed,
                } => {
                    let submitted = Submitted {
                        pipeline,
                        warnings: submission.warnings,
                        repeated: false,
                        behind,
                    };
                    return Ok((submitted, feed));
                }
            }
        }
        Err(StoreError::Conflict {
            what: journal::lock_key(&submission.file.application).id,
        }
        .into())
    }

    fn render(
        &self,
        grant: &Grant<Deploy>,
        submission: &Submission,
    ) -> Result<BTreeMap<String, Plan>, SubmitError> {
        let file = &submission.file;
        let mut plans = BTreeMap::new();
        let mut problems = file.not_yet();
        for (name, target) in &file.targets {
            let request = RenderRequest {
                services: target.services.clone(),
                tenant: grant.tenant().clone(),
                application: file.application.clone(),
                target: name.clone(),
                namespace: target.namespace.clone(),
                strategy: target
                    .strategy
                    .as_ref()
                    .and_then(|strategy| file.strategies.get(strategy))
                    .cloned(),
                manifests: submission.manifests.get(name).cloned().unwrap_or_default(),
            };
            match self.inner.renderer.render(&request) {
                Ok(plan) => {
                    plans.insert(name.clone(), plan);
                }
                Err(error) => problems.extend(error.problems),
            }
        }
        problems.extend(shared_places(file, &plans));
        // Targets share manifests: what is wrong for all of them is said once.
        let mut said = BTreeSet::new();
        problems.retain(|problem: &Problem| said.insert(problem.to_string()));
        if problems.is_empty() {
            return Ok(plans);
        }
        if let Some(document) = &submission.document {
            problems = problems
                .into_iter()
                .map(|problem| document.locate(problem))
                .collect();
        }
        problems.extend(submission.warnings.iter().cloned());
        Err(SubmitError::Invalid { problems })
    }

    async fn check_accounts(&self, grant: &Grant<Deploy>, file: &DeployFile) -> Result<(), SubmitError> {
        let scope = Scope::from(grant.tenant());
        let mut unseen = Vec::new();
        for (name, target) in &file.targets {
            let key = fleet::seen_key(target.account.as_str());
            if self.inner.store.get(&scope, &key).await?.is_none() {
                unseen.push((name, &target.account));
            }
        }
        if unseen.is_empty() {
            return Ok(());
        }
        let connected = self
            .seen_agents(grant.tenant())
            .await
            .map_err(|source| SubmitError::Router { source })?;
        let accounts: Vec<_> = unseen
            .into_iter()
            .filter(|(_, account)| !connected.iter().any(|agent| agent.name == **account))
            .map(|(target, account)| (target.clone(), account.to_string()))
            .collect();
        if accounts.is_empty() {
            return Ok(());
        }
        Err(SubmitError::AccountUnknown { accounts })
    }

    async fn used_before(
        &self,
        scope: &Scope,
        key: Option<&RecordKey>,
        fingerprint: Digest,
        submission: &Submission,
    ) -> Result<Option<Submitted>, SubmitError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let Some(record) = self.inner.store.get(scope, key).await? else {
            return Ok(None);
        };
        let used: UsedKey = serde_json::from_slice(&record.value).map_err(|source| StoreError::Corrupt {
            what: format!("record `{}`", key.kind),
            source: source.into(),
        })?;
        if used.submit != fingerprint {
            return Err(SubmitError::KeyReused {
                pipeline: used.pipeline,
            });
        }
        Ok(Some(Submitted {
            pipeline: used.pipeline,
            warnings: submission.warnings.clone(),
            repeated: true,
            behind: None,
        }))
    }
}

fn remember(batch: &mut Batch, key: &RecordKey, pipeline: PipelineId, submit: Digest) {
    let used = serde_json::to_vec(&UsedKey { pipeline, submit }).unwrap_or_default();
    batch.preconditions.push(Precondition::Absent(key.clone()));
    batch.puts.push((key.clone(), used.into()));
}

/// One applied set belongs to one target: two in the same place would remove each other's objects.
fn shared_places(file: &DeployFile, plans: &BTreeMap<String, Plan>) -> Vec<Problem> {
    let mut places: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, plan) in plans {
        let Some(target) = file.targets.get(name) else {
            continue;
        };
        let place = (target.account.as_str(), plan.namespace.as_str());
        if let Some(other) = places.insert(place, name) {
            let message = format!(
                "targets `{other}` and `{name}` both go to namespace `{}` of account `{}`",
                place.1, place.0
            );
            problems.push(
                Problem::error("sharedPlace", format!("/targets/{name}"), message)
                    .with_hint("give each its own namespace or account, or make them one target"),
            );
        }
    }
    problems
}

/// Two principals may use the same key for different things.
fn idempotency_key(principal: &str, key: &str) -> RecordKey {
    let digest = Digest::of(format!("{principal}\n{key}").as_bytes());
    RecordKey::new("idempotency", format!("submit/{digest}"))
}

fn submitted_event(
    submission: &Submission,
    plans: &BTreeMap<String, Plan>,
    config: Digest,
) -> pipeline::Submitted {
    let file = &submission.file;
    let mut context = file.context.clone();
    context.extend(submission.context.clone());
    let targets = file
        .targets
        .iter()
        .filter_map(|(name, target)| {
            let plan = plans.get(name)?;
            let strategy = target
                .strategy
                .as_ref()
                .and_then(|strategy| file.strategies.get(strategy));
            let submitted = SubmittedTarget {
                account: target.account.clone(),
                namespace: plan.namespace.clone(),
                depends_on: target.depends_on.clone(),
                before: target.before.clone(),
                after: target.after.clone(),
                strategy: strategy.cloned(),
                plan: plan.digest(),
                steps: plan.steps.clone(),
                notes: plan.notes.clone(),
                back: false,
            };
            Some((name.clone(), submitted))
        })
        .collect();
    pipeline::Submitted {
        application: file.application.clone(),
        description: file.description.clone(),
        context,
        source_control: submission.source_control.clone(),
        source: submission.source.clone(),
        file: config,
        timeout: file.timeout,
        targets,
        warnings: submission.warnings.clone(),
        origin: submission.origin,
        behind: None,
    }
}
