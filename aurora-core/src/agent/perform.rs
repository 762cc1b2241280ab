//! Doing one command on an executor: verbs to port calls, results to outcomes.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::command::{Applied, Apply, Command, Failure, Observe, Outcome, Reply, Update, Verb};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::hub::mailbox::Mailbox;
use crate::plan::Plan;
use crate::port::executor::{ClusterExecutor, ExecutorError};

/// News of stages that wait to be passed on; when full they are lost, which the port allows.
const STAGE_CAPACITY: usize = 16;

/// An observe ends by itself this share of its time before its deadline, so that its answer is in time.
const OBSERVE_MARGIN: u32 = 20;

/// The most that an observe ends before its deadline.
const OBSERVE_MARGIN_CAP: Duration = Duration::from_secs(2);

/// Where the plans that commands name come from.
#[async_trait]
pub(crate) trait PlanSource: Debug + Send + Sync + 'static {
    /// The plan with this digest.
    async fn plan(&self, digest: Digest) -> Result<Arc<Plan>, Failure>;
}

/// Does a command; `due` is when its time is over.
///
/// A panic of the executor is the failure of this command alone.
pub(crate) async fn perform(
    executor: &dyn ClusterExecutor,
    plans: &dyn PlanSource,
    command: &Command,
    due: Instant,
    news: &Mailbox,
) -> Outcome {
    let work = AssertUnwindSafe(run(executor, plans, command, due, news)).catch_unwind();
    match tokio::time::timeout_at(due, work).await {
        Ok(Ok(Ok(reply))) => Outcome::Ok(reply),
        Ok(Ok(Err(failure))) => Outcome::Failed(failure),
        Ok(Err(_panic)) => {
            tracing::error!(command.id = %command.id, verb = command.verb.name(), "executor panicked");
            Outcome::Failed(Failure::new(
                ErrorKind::Internal,
                "executorPanicked",
                format!(
                    "the agent's executor broke down in `{}`; other commands go on. Look into the agent's log",
                    command.verb.name()
                ),
            ))
        }
        Err(_elapsed) => Outcome::DeadlineExceeded,
    }
}

async fn run(
    executor: &dyn ClusterExecutor,
    plans: &dyn PlanSource,
    command: &Command,
    due: Instant,
    news: &Mailbox,
) -> Result<Reply, Failure> {
    let failed = |error: ExecutorError| error.to_failure();
    match &command.verb {
        Verb::Act(act) => executor.act(act).await.map(Reply::Acted).map_err(failed),
        Verb::Apply(apply) => staged(executor, plans, apply, Staged::Apply, news).await,
        Verb::Delete { set, object } => {
            executor.delete(set, object).await.map_err(failed)?;
            Ok(Reply::Deleted)
        }
        Verb::Finish(apply) => staged(executor, plans, apply, Staged::Finish, news).await,
        Verb::Get { object } => executor.get(object).await.map(Reply::Object).map_err(failed),
        Verb::Observe(observe) => follow(executor, plans, observe, command.deadline, due, news).await,
        Verb::Ping { payload } => Ok(Reply::Pong(payload.clone())),
    }
}

#[derive(Clone, Copy)]
enum Staged {
    Apply,
    Finish,
}

async fn staged(
    executor: &dyn ClusterExecutor,
    plans: &dyn PlanSource,
    apply: &Apply,
    which: Staged,
    news: &Mailbox,
) -> Result<Reply, Failure> {
    let plan = plans.plan(apply.plan).await?;
    let (sink, mut stages) = mpsc::channel(STAGE_CAPACITY);
    let work = async {
        let done: Result<Applied, ExecutorError> = match which {
            Staged::Apply => executor.apply(apply, &plan, &sink).await,
            Staged::Finish => executor.finish(apply, &plan, &sink).await,
        };
        drop(sink);
        done
    };
    let pass_on = async {
        while let Some((done, total, doing)) = stages.recv().await {
            news.post(Update::Stage { done, total, doing });
        }
    };
    let (applied, ()) = tokio::join!(work, pass_on);
    applied.map(Reply::Applied).map_err(|error| error.to_failure())
}

async fn follow(
    executor: &dyn ClusterExecutor,
    plans: &dyn PlanSource,
    observe: &Observe,
    time: Duration,
    due: Instant,
    news: &Mailbox,
) -> Result<Reply, Failure> {
    let ends = due - (time / OBSERVE_MARGIN).min(OBSERVE_MARGIN_CAP);
    let watching = async {
        let plan = plans.plan(observe.plan).await?;
        let mut levels = executor
            .observe(observe, &plan)
            .await
            .map_err(|error| error.to_failure())?;
        while let Some(seen) = levels.next().await {
            news.post(Update::Progress(seen.map_err(|error| error.to_failure())?));
        }
        Ok(Reply::Observed)
    };
    match tokio::time::timeout_at(ends, watching).await {
        Ok(ended) => ended,
        Err(_elapsed) => Ok(Reply::Observed),
    }
}
