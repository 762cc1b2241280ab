//! `aurora deploy`: start, follow, list and decide about pipelines, all over the REST API.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use aurora_core::control::PipelineQuery;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{ArmoryStatus, PipelineView};
use aurora_transport::rest::ActRequest;
use aurora_transport::rest::client::{Client, ClientError, SubmitRequest};

use crate::cli::{CancelArgs, DecideArgs, DeployCommand, ListArgs, Output, StartArgs, StatusArgs};
use aurora_bin::exit::Exit;
use crate::online::{client, pipeline_id, refused};
use crate::watch::follow::{Followed, Screen, exit_of, follow};
use crate::watch::tree::{serde_name, tree};
use crate::{print, submission};

/// Does what was asked.
pub(crate) async fn run(command: &DeployCommand, output: Output, context: Option<&Path>) -> Result<Exit> {
    let client = client(context)?;
    match command {
        DeployCommand::Approve(args) => decide(&client, args, output, true).await,
        DeployCommand::Cancel(args) => cancel(&client, args, output).await,
        DeployCommand::List(args) => list(&client, args, output).await,
        DeployCommand::Reject(args) => decide(&client, args, output, false).await,
        DeployCommand::Start(args) => start(&client, args, output).await,
        DeployCommand::Status(args) => status(&client, args, output).await,
    }
}

async fn start(client: &Client, args: &StartArgs, output: Output) -> Result<Exit> {
    let read = match submission::read(&args.file.file, args.file.application.as_deref()) {
        Ok(read) => read,
        Err(problems) => {
            print::problems(output, &problems)?;
            return Ok(Exit::Usage);
        }
    };
    let mut request = SubmitRequest::new(read.text, args.file.file.display().to_string(), read.files);
    if let Some(key) = &args.idempotency_key {
        request.key.clone_from(key);
    }
    let answer = match client.submit(&request).await {
        Ok(answer) => answer,
        Err(error) => return refused(&error, output),
    };
    for warning in &answer.warnings {
        print::note(&format!("warning: {warning}"));
    }
    if !args.watch {
        print::document(output, &answer, |answer| {
            format!(
                "pipeline {id}\n  aurora deploy status {id} --watch\n",
                id = answer.pipeline_id
            )
        })?;
        return Ok(Exit::Succeeded);
    }
    if output == Output::Text {
        print::write(&format!("pipeline {}\n", answer.pipeline_id))?;
    }
    watch(client, answer.pipeline_id, output, args.timeout).await
}

async fn status(client: &Client, args: &StatusArgs, output: Output) -> Result<Exit> {
    let Some(id) = known(&args.id) else {
        return Ok(Exit::Usage);
    };
    if args.watch {
        return watch(client, id, output, args.timeout).await;
    }
    match client.view(id).await {
        Ok(document) => {
            print::document(output, &document.body, tree)?;
            Ok(Exit::Succeeded)
        }
        Err(error) => refused(&error, output),
    }
}

/// Follows to the end; the exit code tells how it ended.
async fn watch(client: &Client, id: PipelineId, output: Output, timeout: Option<u64>) -> Result<Exit> {
    let screen = Screen::new(output, 1);
    match follow(client, id, screen, timeout.map(Duration::from_secs), |_| {
        std::future::ready(())
    })
    .await
    {
        Ok(Followed::Ended(view, history)) => {
            if output != Output::Text {
                print::event(output, &result(&view, &history)?)?;
            }
            Ok(exit_of(&view))
        }
        Ok(Followed::TimedOut(view)) => {
            print::note(&format!("the watch timed out; pipeline {} goes on", view.id));
            if output != Output::Text {
                let exit = Exit::TimedOut.code();
                print::event(
                    output,
                    &serde_json::json!({"type": "result", "exit": exit, "pipeline": view}),
                )?;
            }
            Ok(Exit::TimedOut)
        }
        Err(error) => refused(&error, output),
    }
}

/// The last line of a watch: the whole final pipeline and what was seen on the way.
pub(crate) fn result<H: serde::Serialize>(view: &PipelineView, history: &H) -> Result<serde_json::Value> {
    let mut pipeline = serde_json::to_value(view)?;
    pipeline["history"] = serde_json::to_value(history)?;
    Ok(serde_json::json!({"type": "result", "exit": exit_of(view).code(), "pipeline": pipeline}))
}

async fn list(client: &Client, args: &ListArgs, output: Output) -> Result<Exit> {
    let mut query = PipelineQuery {
        application: args.application.clone(),
        page: args.cursor.clone(),
        limit: Some(usize::try_from(args.limit).unwrap_or(usize::MAX)),
        ..PipelineQuery::default()
    };
    if let Some(text) = &args.status {
        let word = text.to_uppercase().replace('-', "_");
        match serde_json::from_value::<ArmoryStatus>(word.into()) {
            Ok(status) => query.statuses = vec![status],
            Err(_) => {
                print::note(&format!(
                    "error: `{text}` is not a state; there are running, awaiting_approval, paused, succeeded, failed, cancelled"
                ));
                return Ok(Exit::Usage);
            }
        }
    }
    let page = match client.list(&query).await {
        Ok(page) => page,
        Err(error) => return refused(&error, output),
    };
    print::document(output, &page, |page| {
        if page.rows.is_empty() {
            return "no pipelines\n".to_owned();
        }
        let rows: Vec<Vec<String>> = page
            .rows
            .iter()
            .map(|row| {
                let targets: Vec<_> = row
                    .targets
                    .iter()
                    .map(|target| format!("{} {}", target.name, serde_name(&target.status).to_lowercase()))
                    .collect();
                vec![
                    row.id.to_string(),
                    row.application.clone(),
                    serde_name(&row.status),
                    row.started_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                    row.actor.display.clone(),
                    targets.join(", "),
                ]
            })
            .collect();
        let mut text = print::table(
            &["PIPELINE", "APPLICATION", "STATUS", "STARTED", "BY", "TARGETS"],
            &rows,
        );
        if let Some(next) = &page.page.next {
            text.push_str(&format!("more: --cursor {next}\n"));
        }
        text
    })?;
    Ok(Exit::Succeeded)
}

async fn decide(client: &Client, args: &DecideArgs, output: Output, yes: bool) -> Result<Exit> {
    let Some(id) = known(&args.id) else {
        return Ok(Exit::Usage);
    };
    let act = ActRequest {
        target: args.target.clone(),
        gate: args.gate.clone(),
        expect: None,
        comment: (!args.comment.is_empty()).then(|| args.comment.clone()),
    };
    let answer = if yes {
        client.approve(id, &act).await
    } else {
        client.reject(id, &act).await
    };
    recorded(answer, output, if yes { "approved" } else { "rejected" })
}

async fn cancel(client: &Client, args: &CancelArgs, output: Output) -> Result<Exit> {
    let Some(id) = known(&args.id) else {
        return Ok(Exit::Usage);
    };
    let comment = (!args.comment.is_empty()).then(|| args.comment.clone());
    recorded(client.cancel(id, comment).await, output, "being cancelled")
}

fn recorded(
    answer: Result<aurora_transport::rest::ActAnswer, ClientError>,
    output: Output,
    word: &str,
) -> Result<Exit> {
    match answer {
        Ok(answer) => {
            print::document(output, &answer, |answer| {
                format!(
                    "{word}: pipeline {id}\n  aurora deploy status {id} --watch\n",
                    id = answer.pipeline_id
                )
            })?;
            Ok(Exit::Succeeded)
        }
        Err(error) => match refused(&error, output)? {
            // Another run's lock has exit code 3; a decision that came too late is an error like others.
            Exit::Held => Ok(Exit::Failed),
            exit => Ok(exit),
        },
    }
}

fn known(text: &str) -> Option<PipelineId> {
    pipeline_id(text)
        .map_err(|problem| print::note(&format!("error: {problem}")))
        .ok()
}
