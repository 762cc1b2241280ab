//! `aurora deploy`: start, follow, list and decide about pipelines, all over the REST API.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use aurora_core::control::PipelineQuery;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::PipelineView;
use aurora_transport::rest::client::{Client, SubmitRequest};

use crate::acts::{self, GateAct};
use crate::cli::{DeployCommand, ListArgs, Output, StartArgs, StatusArgs};
use crate::online::{client, pipeline_id, refused};
use crate::watch::follow::{Followed, Screen, exit_of, follow};
use crate::watch::tree::{serde_name, tree};
use crate::words::StateWord;
use crate::{print, submission};
use aurora_bin::exit::Exit;

/// Does what was asked.
pub(crate) async fn run(command: &DeployCommand, output: Output, context: Option<&Path>) -> Result<Exit> {
    let client = client(context)?;
    match command {
        DeployCommand::Approve(args) => acts::decide(&client, args, output, GateAct::Approve).await,
        DeployCommand::Cancel(args) => acts::cancel(&client, args, output).await,
        DeployCommand::List(args) => list(&client, args, output).await,
        DeployCommand::Redeploy(args) => acts::redeploy(&client, args, output).await,
        DeployCommand::Reject(args) => acts::decide(&client, args, output, GateAct::Reject).await,
        DeployCommand::Retry(args) => acts::retry(&client, args, output).await,
        DeployCommand::Rollback(args) => acts::roll_back(&client, args, output).await,
        DeployCommand::Skip(args) => acts::decide(&client, args, output, GateAct::Skip).await,
        DeployCommand::Start(args) => start(&client, args, output).await,
        DeployCommand::Status(args) => status(&client, args, output).await,
    }
}

async fn start(client: &Client, args: &StartArgs, output: Output) -> Result<Exit> {
    let overrides = submission::Overrides {
        application: args.file.application.as_deref(),
        context: &args.add_context,
    };
    let read = match submission::read_with(&args.file.file, overrides) {
        Ok(read) => read,
        Err(problems) => return Ok(print::invalid(output, &problems)),
    };
    let mut request = SubmitRequest::new(read.text, args.file.file.display().to_string(), read.files);
    request.targets.clone_from(&args.targets);
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
    let id = match pipeline_id(&args.id) {
        Ok(id) => id,
        Err(problem) => return print::failure(output, "id.malformed", &problem, Exit::Usage),
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
pub(crate) async fn watch(
    client: &Client,
    id: PipelineId,
    output: Output,
    timeout: Option<u64>,
) -> Result<Exit> {
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
    for text in &args.status {
        match StateWord::read(text) {
            Some(StateWord::Armory(status)) => query.statuses.push(status),
            Some(StateWord::Own(state)) => query.states.push(state),
            None => {
                let problem = format!("`{text}` is not a state; there are {}", StateWord::known());
                return print::failure(output, "state.unknown", &problem, Exit::Usage);
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
