//! The acts of `aurora deploy`: what a person decides about a pipeline, and what comes of it.

use anyhow::Result;
use aurora_bin::exit::Exit;
use aurora_core::id::PipelineId;
use aurora_transport::rest::client::{Client, ClientError};
use aurora_transport::rest::{ActAnswer, ActRequest};

use crate::cli::{CancelArgs, DecideArgs, Output, RedeployArgs, RetryArgs, RollbackArgs, WatchArgs};
use crate::deploy::watch;
use crate::online::{pipeline_id, refused};
use crate::print;

/// What can be decided about a gate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GateAct {
    /// Yes.
    Approve,
    /// No.
    Reject,
    /// Not to wait any longer.
    Skip,
}

/// Approves, rejects or skips a gate.
pub(crate) async fn decide(client: &Client, args: &DecideArgs, output: Output, act: GateAct) -> Result<Exit> {
    let id = match pipeline_id(&args.id) {
        Ok(id) => id,
        Err(problem) => return no_id(output, &problem),
    };
    let request = ActRequest {
        target: args.target.clone(),
        gate: args.gate.clone(),
        comment: said(&args.comment),
        ..ActRequest::default()
    };
    let (answer, word) = match act {
        GateAct::Approve => (client.approve(id, &request).await, "approved"),
        GateAct::Reject => (client.reject(id, &request).await, "rejected"),
        GateAct::Skip => (client.skip(id, &request).await, "skipped"),
    };
    recorded(client, answer, id, output, word, None).await
}

/// Ends a pipeline.
pub(crate) async fn cancel(client: &Client, args: &CancelArgs, output: Output) -> Result<Exit> {
    let id = match pipeline_id(&args.id) {
        Ok(id) => id,
        Err(problem) => return no_id(output, &problem),
    };
    let answer = client.cancel(id, said(&args.comment)).await;
    recorded(client, answer, id, output, "being cancelled", None).await
}

/// Deploys once more what did not succeed.
pub(crate) async fn retry(client: &Client, args: &RetryArgs, output: Output) -> Result<Exit> {
    let id = match pipeline_id(&args.id) {
        Ok(id) => id,
        Err(problem) => return no_id(output, &problem),
    };
    let request = ActRequest {
        target: args.target.clone(),
        comment: said(&args.comment),
        ..ActRequest::default()
    };
    let answer = client.retry(id, &request).await;
    recorded(client, answer, id, output, "tried again", Some(args.watch)).await
}

/// Takes a target back.
pub(crate) async fn roll_back(client: &Client, args: &RollbackArgs, output: Output) -> Result<Exit> {
    let ids = pipeline_id(&args.id).and_then(|id| {
        let to = args.to.as_deref().map(pipeline_id).transpose()?;
        Ok((id, to))
    });
    let (id, to_run) = match ids {
        Ok(ids) => ids,
        Err(problem) => return no_id(output, &problem),
    };
    let request = ActRequest {
        target: args.target.clone(),
        to_run,
        comment: said(&args.comment),
        ..ActRequest::default()
    };
    let answer = client.roll_back(id, &request).await;
    recorded(client, answer, id, output, "rolling back", Some(args.watch)).await
}

/// Deploys an earlier run again.
pub(crate) async fn redeploy(client: &Client, args: &RedeployArgs, output: Output) -> Result<Exit> {
    let id = match pipeline_id(&args.id) {
        Ok(id) => id,
        Err(problem) => return no_id(output, &problem),
    };
    let request = ActRequest {
        targets: (!args.targets.is_empty()).then(|| args.targets.clone()),
        context: args.add_context.iter().cloned().collect(),
        comment: said(&args.comment),
        ..ActRequest::default()
    };
    let answer = client.redeploy(id, &request).await;
    recorded(client, answer, id, output, "deployed again", Some(args.watch)).await
}

fn said(comment: &str) -> Option<String> {
    (!comment.is_empty()).then(|| comment.to_owned())
}

fn no_id(output: Output, problem: &str) -> Result<Exit> {
    print::failure(output, "id.malformed", problem, Exit::Usage)
}

/// Says what came of an act, and follows that where it is wanted.
async fn recorded(
    client: &Client,
    answer: Result<ActAnswer, ClientError>,
    on: PipelineId,
    output: Output,
    word: &str,
    watching: Option<WatchArgs>,
) -> Result<Exit> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            // Another run's lock has exit code 3; an act that came too late is an error like others.
            let held = error
                .problem()
                .is_some_and(|problem| problem.code == "application.busy");
            return Ok(match refused(&error, output)? {
                Exit::Held if !held => Exit::Failed,
                exit => exit,
            });
        }
    };
    let id = answer.pipeline_id;
    let new = if id == on { "" } else { "new " };
    if let Some(WatchArgs { watch: true, timeout }) = watching {
        if output == Output::Text {
            print::write(&format!("{word}: {new}pipeline {id}\n"))?;
        }
        return watch(client, id, output, timeout).await;
    }
    print::document(output, &answer, |_| {
        format!("{word}: {new}pipeline {id}\n  aurora deploy status {id} --watch\n")
    })?;
    Ok(Exit::Succeeded)
}
