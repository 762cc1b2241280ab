//! Doing one thing that is outstanding, as often as it takes, and telling the driver what was heard.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::{Inner, journal};
use crate::account::{AccountName, AgentKey};
use crate::backoff::Backoff;
use crate::command::{
    Act, AppliedSetKey, Apply, Command, Failure, Observe, Outcome, Reply, Stamp, Update, Verb,
};
use crate::digest::Digest;
use crate::error::{ErrorChain, ErrorKind};
use crate::id::{CommandId, PipelineId};
use crate::pipeline::{Answer, Asked, Effect, EffectKind, Heard};
use crate::port::router::{Order, RouteError, Updates};
use crate::port::store::Scope;
use crate::tenant::Tenant;

/// First bound of the wait before something is tried again; doubles.
const RETRY_FROM: Duration = Duration::from_millis(500);

/// Last bound of that wait.
const RETRY_TO: Duration = Duration::from_secs(15);

/// The longest that an agent which comes and goes is left alone.
const MOST_PATIENCE: Duration = Duration::from_secs(10);

/// How often an absent hub is tried again before it is said that the agent is away.
const HUB_ATTEMPTS: u32 = 3;

/// An act is one patch: an agent that has not answered after this is asked again.
const ACT_DEADLINE: Duration = Duration::from_secs(60);

/// Pruning waits for ReplicaSets to go.
const FINISH_DEADLINE: Duration = Duration::from_secs(900);

/// An apply is given this much beyond the target's timeout, so that the timeout, which is stored, decides.
const APPLY_BEYOND: Duration = Duration::from_secs(60);

/// What an effect tells its driver.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) key: String,
    pub(super) heard: Option<Heard>,
    pub(super) ended: bool,
}

/// One effect and everything it needs.
pub(super) struct Job {
    pub(super) inner: Arc<Inner>,
    pub(super) tenant: Tenant,
    pub(super) scope: Scope,
    pub(super) fence: u64,
    pub(super) pipeline: PipelineId,
    pub(super) application: String,
    pub(super) account: AccountName,
    pub(super) namespace: String,
    pub(super) initiator: String,
    pub(super) timeout: Duration,
    pub(super) key: String,
    /// How often in a row the agent was away: so much longer is waited before it is tried again.
    pub(super) patience: u32,
    pub(super) effect: Effect,
    pub(super) reports: mpsc::Sender<Report>,
}

/// Names an effect: the same while it is the same thing that is outstanding.
pub(super) fn key(effect: &Effect) -> String {
    let target = &effect.target;
    match &effect.kind {
        EffectKind::AwaitAgent => format!("{target}/await"),
        EffectKind::Begin => format!("{target}/begin"),
        EffectKind::Command { id, .. } => format!("{target}/command/{id}"),
        EffectKind::Observe { tag, .. } => format!("{target}/observe/{tag}"),
        EffectKind::TakeTurn => "turn".to_owned(),
    }
}

impl Job {
    /// The span of everything that this effect does.
    pub(super) fn span(&self) -> tracing::Span {
        let deployment = format!("{}/{}", self.pipeline, self.effect.target);
        let name = self.name();
        let command = match &self.effect.kind {
            EffectKind::Command { id, .. } => Some(tracing::field::display(*id)),
            _ => None,
        };
        tracing::info_span!(
            "deployment",
            tenant = %self.tenant,
            deployment.id = deployment,
            agent.id = %self.account,
            command.id = command,
            effect = name,
        )
    }

    /// What kind of effect it is, one of [`EFFECTS`](super::EFFECTS).
    const fn name(&self) -> &'static str {
        match &self.effect.kind {
            EffectKind::AwaitAgent => "awaitAgent",
            EffectKind::Begin => "begin",
            EffectKind::Command { order, .. } => match order {
                Asked::Act(_) => "act",
                Asked::Apply { .. } => "apply",
                Asked::Finish { .. } => "finish",
            },
            EffectKind::Observe { .. } => "observe",
            EffectKind::TakeTurn => "takeTurn",
        }
    }

    pub(super) async fn run(self) {
        let _counted = self.inner.tally.effect(self.name());
        let heard = match &self.effect.kind {
            EffectKind::AwaitAgent => self.await_agent().await,
            EffectKind::Begin => self.begin().await,
            EffectKind::Command {
                id,
                asked,
                ordinal,
                order,
            } => self.command(*id, *asked, *ordinal, order).await,
            EffectKind::Observe { tag, plan, direction } => {
                let set = self.set();
                let observe = Observe {
                    set,
                    plan: *plan,
                    direction: *direction,
                };
                self.observe(*tag, observe).await
            }
            // The driver sees to it: it is about no target.
            EffectKind::TakeTurn => return,
        };
        self.tell(Some(heard), true).await;
    }

    /// A driver that is gone needs no news.
    async fn tell(&self, heard: Option<Heard>, ended: bool) {
        let report = Report {
            key: self.key.clone(),
            heard,
            ended,
        };
        let _ = self.reports.send(report).await;
    }

    fn agent(&self) -> AgentKey {
        AgentKey::new(self.tenant.clone(), self.account.clone())
    }

    fn set(&self) -> AppliedSetKey {
        AppliedSetKey {
            tenant: self.tenant.to_string(),
            application: self.application.clone(),
            namespace: self.namespace.clone(),
        }
    }

    const fn target(&self) -> &String {
        &self.effect.target
    }

    async fn wait(&self, backoff: &mut Backoff) {
        let wait = backoff.next(self.inner.entropy.next_u64());
        // Never at once: what fails at once would fail in a busy loop.
        tokio::time::sleep(wait.max(Duration::from_millis(50))).await;
    }

    async fn await_agent(&self) -> Heard {
        let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
        // Whoever comes and goes all the time is not believed at once: each time is two stored events.
        let patience = RETRY_FROM.saturating_mul(1_u32.checked_shl(self.patience).unwrap_or(u32::MAX));
        if self.patience > 1 {
            tokio::time::sleep(patience.min(MOST_PATIENCE)).await;
        }
        loop {
            self.wait(&mut backoff).await;
            if let Ok(agents) = self.inner.router.agents(&self.tenant).await {
                let there = agents
                    .iter()
                    .any(|agent| agent.name == self.account && !agent.instances.is_empty());
                if there {
                    return Heard::Reached {
                        target: self.target().clone(),
                    };
                }
            }
        }
    }

    async fn begin(&self) -> Heard {
        let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
        loop {
            let store = self.inner.store.as_ref();
            let last_good = journal::read_last_good(
                store,
                &self.scope,
                &self.application,
                self.account.as_str(),
                &self.namespace,
            )
            .await;
            match last_good {
                Ok(last_good) => {
                    return Heard::Begin {
                        target: self.target().clone(),
                        last_good,
                    };
                }
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "the last plan that succeeded cannot be read");
                    self.wait(&mut backoff).await;
                }
            }
        }
    }

    async fn command(&self, id: CommandId, asked: u64, ordinal: u32, order: &Asked) -> Heard {
        let stamp = Stamp {
            fence: self.fence,
            version: asked,
        };
        let apply = |plan, direction| Apply {
            set: self.set(),
            target: self.target().clone(),
            plan,
            stamp,
            direction,
        };
        let (verb, deadline, plan) = match order {
            Asked::Act(act) => {
                let act = Act {
                    set: self.set(),
                    object: act.object.clone(),
                    action: act.action,
                    expect: act.expect.clone(),
                    stamp,
                };
                (Verb::Act(act), ACT_DEADLINE, None)
            }
            Asked::Apply { plan, direction } => {
                let deadline = self.timeout.saturating_add(APPLY_BEYOND);
                (Verb::Apply(apply(*plan, *direction)), deadline, Some(*plan))
            }
            Asked::Finish { plan, direction } => (
                Verb::Finish(apply(*plan, *direction)),
                FINISH_DEADLINE,
                Some(*plan),
            ),
        };
        let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
        let mut absent = 0;
        loop {
            // The semaphore is never closed; were it, the order of commands would still be right.
            let permit = Arc::clone(&self.inner.commands).acquire_owned().await;
            let command = Command {
                id,
                pipeline: Some(self.pipeline),
                initiator: self.initiator.clone(),
                deadline,
                trace_parent: None,
                verb: verb.clone(),
            };
            let tried = self.send(command, plan, asked).await;
            drop(permit);
            match tried {
                Tried::Answered(reply) => return self.answer(asked, ordinal, reply),
                Tried::Failed(failure)
                    if failure.kind.is_transient() || failure.kind == ErrorKind::Cancelled =>
                {
                    absent += 1;
                    if absent == HUB_ATTEMPTS {
                        return self.troubled(failure);
                    }
                }
                Tried::Failed(failure) => {
                    return Heard::Failed {
                        target: self.target().clone(),
                        asked,
                        ordinal,
                        failure,
                    };
                }
                Tried::Away(heard) => {
                    absent += 1;
                    if absent == HUB_ATTEMPTS || !is_hub(&heard) {
                        return heard;
                    }
                }
                Tried::Again => absent = 0,
            }
            self.wait(&mut backoff).await;
        }
    }

    /// Sends a command once and follows it to its outcome.
    async fn send(&self, command: Command, plan: Option<Digest>, asked: u64) -> Tried {
        let order = match self.order(command, plan).await {
            Ok(order) => order,
            Err(tried) => return tried,
        };
        let verb = order.command.verb.name();
        let mut updates = match self.inner.router.route(&self.agent(), order).await {
            Ok(updates) => updates,
            Err(error) => return self.unroutable(&error),
        };
        while let Some(update) = updates.next().await {
            match update {
                Update::Accepted | Update::Stage { .. } | Update::Progress(_) => self.accepted(asked).await,
                Update::Finished(outcome) => {
                    self.inner.tally.command(verb, &outcome);
                    return match outcome {
                        Outcome::Ok(reply) => Tried::Answered(reply),
                        Outcome::Failed(failure) => Tried::Failed(failure),
                        Outcome::AgentLost { dispatched } => {
                            if dispatched {
                                self.accepted(asked).await;
                            }
                            Tried::Again
                        }
                        Outcome::Cancelled | Outcome::DeadlineExceeded => Tried::Again,
                    };
                }
            }
        }
        Tried::Again
    }

    async fn accepted(&self, asked: u64) {
        let target = self.target().clone();
        self.tell(Some(Heard::Accepted { target, asked }), false).await;
    }

    async fn order(&self, command: Command, plan: Option<Digest>) -> Result<Order, Tried> {
        let order = Order::new(command);
        let Some(digest) = plan else {
            return Ok(order);
        };
        match self.inner.store.get_blob(&self.scope, &digest).await {
            Ok(Some(body)) => Ok(order.with_blob(body)),
            Ok(None) => Err(Tried::Failed(Failure::new(
                ErrorKind::Internal,
                "planMissing",
                format!("the stored plan {digest} is not there; submit the deploy file again"),
            ))),
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the plan cannot be read");
                Err(Tried::Again)
            }
        }
    }

    fn unroutable(&self, error: &RouteError) -> Tried {
        let code = match error {
            RouteError::Exhausted { .. } => return Tried::Again,
            RouteError::Offline { .. } => "agent.offline",
            RouteError::NotFound { .. } => "agent.unknown",
            RouteError::Denied { .. } => "hub.denied",
            RouteError::Unavailable { .. } => "hub.unavailable",
            RouteError::Invalid { problem } => {
                return Tried::Failed(Failure::new(
                    ErrorKind::Invalid,
                    "commandInvalid",
                    problem.clone(),
                ));
            }
        };
        Tried::Away(Heard::Away {
            target: self.target().clone(),
            code: code.to_owned(),
            message: ErrorChain(error).to_string(),
        })
    }

    /// The agent is there and its cluster is not: people see why it waits.
    fn troubled(&self, failure: Failure) -> Heard {
        Heard::Away {
            target: self.target().clone(),
            code: failure.code,
            message: failure.message,
        }
    }

    fn answer(&self, asked: u64, ordinal: u32, reply: Reply) -> Heard {
        let target = self.target().clone();
        match (&self.effect.kind, reply) {
            (
                EffectKind::Command {
                    order: Asked::Apply { .. },
                    ..
                },
                Reply::Applied(applied),
            ) => Heard::Applied {
                target,
                asked,
                applied,
            },
            (
                EffectKind::Command {
                    order: Asked::Finish { .. },
                    ..
                },
                Reply::Applied(applied),
            ) => Heard::Finished {
                target,
                asked,
                applied,
            },
            (_, Reply::Acted(acted)) => Heard::Acted {
                target,
                asked,
                ordinal,
                answer: Answer::Acted(acted),
            },
            (_, reply) => Heard::Failed {
                target,
                asked,
                ordinal,
                failure: Failure::new(
                    ErrorKind::Internal,
                    "wrongReply",
                    format!("the agent answered with something else than was asked: {reply:?}"),
                ),
            },
        }
    }

    /// Follows workloads, renewing the query; ends only when the agent is away.
    async fn observe(&self, tag: u64, observe: Observe) -> Heard {
        let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
        let mut absent = 0;
        loop {
            let command = Command {
                // A query has no effect to repeat, so each renewal is a new one.
                id: CommandId::at(self.inner.clock.now(), self.inner.entropy.ten_bytes()),
                pipeline: Some(self.pipeline),
                initiator: self.initiator.clone(),
                deadline: self.inner.options.observe,
                trace_parent: None,
                verb: Verb::Observe(observe.clone()),
            };
            match self.order(command, Some(observe.plan)).await {
                Ok(order) => match self.inner.router.route(&self.agent(), order).await {
                    Ok(mut updates) => match self.follow(tag, &mut updates).await {
                        Followed::Failed(failure) => {
                            absent += 1;
                            if absent == HUB_ATTEMPTS {
                                return self.troubled(failure);
                            }
                        }
                        Followed::Seen => {
                            absent = 0;
                            backoff.reset();
                        }
                        Followed::Nothing => absent = 0,
                    },
                    Err(error) => {
                        if let Tried::Away(heard) = self.unroutable(&error) {
                            absent += 1;
                            if absent == HUB_ATTEMPTS || !is_hub(&heard) {
                                return heard;
                            }
                        }
                    }
                },
                Err(_) => tracing::debug!("the plan to observe cannot be had; trying again"),
            }
            self.wait(&mut backoff).await;
        }
    }

    async fn follow(&self, tag: u64, updates: &mut Updates) -> Followed {
        let mut seen = Followed::Nothing;
        while let Some(update) = updates.next().await {
            match update {
                Update::Progress(levels) => {
                    seen = Followed::Seen;
                    let target = self.target().clone();
                    self.tell(Some(Heard::Levels { target, tag, levels }), false)
                        .await;
                }
                Update::Finished(Outcome::Failed(failure)) => return Followed::Failed(failure),
                Update::Finished(_) => return seen,
                Update::Accepted | Update::Stage { .. } => {}
            }
        }
        seen
    }
}

/// The hub may be back in a moment; an agent that the hub knows to be away is away.
fn is_hub(heard: &Heard) -> bool {
    matches!(heard, Heard::Away { code, .. } if code == "hub.unavailable")
}

/// What an observation came to.
enum Followed {
    /// The agent says that it failed.
    Failed(Failure),
    /// It ended before anything was seen.
    Nothing,
    /// Levels were seen.
    Seen,
}

/// What came of sending a command once.
enum Tried {
    /// Try it again, with the same id.
    Again,
    /// It was answered.
    Answered(Reply),
    /// The agent cannot be reached.
    Away(Heard),
    /// The agent says that it failed.
    Failed(Failure),
}
