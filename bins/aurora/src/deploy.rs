//! `aurora deploy`: start, follow, list and decide about pipelines, all over the REST API.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use aurora_core::control::PipelineQuery;
use aurora_core::deploy_file::is_url;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::PipelineView;
use aurora_transport::rest::client::{Client, LinkRequest, SubmitRequest};

use crate::acts::{self, GateAct};
use crate::cli::{DeployCommand, HistoryArgs, ListArgs, Output, StartArgs, StatusArgs};
use crate::online::{client, pipeline_id, refused};
use crate::watch::follow::{Followed, Screen, exit_of, follow};
use crate::watch::tree::{serde_name, tree};
use crate::{print, submission, words};
use aurora_bin::exit::Exit;

/// Does what was asked.
pub(crate) async fn run(command: &DeployCommand, output: Output, context: Option<&Path>) -> Result<Exit> {
    let client = client(context)?;
    match command {
        DeployCommand::Approve(args) => acts::decide(&client, args, output, GateAct::Approve).await,
        DeployCommand::Cancel(args) => acts::cancel(&client, args, output).await,
        DeployCommand::History(args) => history(&client, args, output).await,
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
    if let Some(url) = args.file.file.to_str().filter(|text| is_url(text)) {
        return start_by_link(client, args, url, output).await;
    }
    if args.account.is_some() {
        let problem = "--account is for a deploy file at a URL; write the account into the file";
        return print::failure(output, "usage", problem, Exit::Usage);
    }
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
    started(client, args, output, answer.pipeline_id, &answer).await
}

/// Has the server read a deploy file, and what lies beside it.
async fn start_by_link(client: &Client, args: &StartArgs, url: &str, output: Output) -> Result<Exit> {
    if args.file.application.is_some() || !args.add_context.is_empty() {
        let problem = "--application and --add-context are for a deploy file on this machine: the server reads the one at the URL as it is";
        return print::failure(output, "usage", problem, Exit::Usage);
    }
    let mut link = LinkRequest::new(url);
    link.account.clone_from(&args.account);
    link.targets.clone_from(&args.targets);
    if let Some(key) = &args.idempotency_key {
        link.key.clone_from(key);
    }
    let answer = match client.submit_link(&link).await {
        Ok(answer) => answer,
        Err(error) => return refused(&error, output),
    };
    for warning in &answer.warnings {
        print::note(&format!("warning: {warning}"));
    }
    started(client, args, output, answer.pipeline_id, &answer).await
}

/// Says which pipeline it is, and follows it where that is wanted.
async fn started<T: serde::Serialize>(
    client: &Client,
    args: &StartArgs,
    output: Output,
    id: PipelineId,
    answer: &T,
) -> Result<Exit> {
    if !args.watch {
        print::document(output, answer, |_| {
            format!("pipeline {id}\n  aurora deploy status {id} --watch\n")
        })?;
        return Ok(Exit::Succeeded);
    }
    if output == Output::Text {
        print::write(&format!("pipeline {id}\n"))?;
    }
    watch(client, id, output, args.timeout).await
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

/// The points of each target, in the order of time.
async fn history(client: &Client, args: &HistoryArgs, output: Output) -> Result<Exit> {
    let id = match pipeline_id(&args.id) {
        Ok(id) => id,
        Err(problem) => return print::failure(output, "id.malformed", &problem, Exit::Usage),
    };
    let targets = match &args.target {
        Some(target) => vec![target.clone()],
        None => match client.view(id).await {
            Ok(view) => view.body.targets.into_iter().map(|target| target.name).collect(),
            Err(error) => return refused(&error, output),
        },
    };
    let mut answers = Vec::new();
    for target in &targets {
        match client.history(id, target).await {
            Ok(answer) => answers.push(answer.history),
            Err(error) => return refused(&error, output),
        }
    }
    print::document(output, &answers, |answers| {
        let percent = |weight: Option<u8>| weight.map(|weight| format!("{weight} %")).unwrap_or_default();
        let mut rows = Vec::new();
        for history in answers {
            rows.extend(history.points.iter().map(|point| {
                vec![
                    point.at.strftime("%H:%M:%SZ").to_string(),
                    history.target.clone(),
                    point.rollout.name.clone(),
                    percent(point.real),
                    percent(point.wanted),
                    point.new_available.to_string(),
                    point.old_available.to_string(),
                    point.phase.clone(),
                ]
            }));
        }
        let heading = [
            "AT", "TARGET", "ROLLOUT", "WEIGHT", "ASKED", "NEW", "OLD", "STANDING",
        ];
        print::table(&heading, &rows)
    })?;
    Ok(Exit::Succeeded)
}

async fn list(client: &Client, args: &ListArgs, output: Output) -> Result<Exit> {
    let mut query = PipelineQuery {
        application: args.application.clone(),
        page: args.cursor.clone(),
        limit: Some(usize::try_from(args.limit).unwrap_or(usize::MAX)),
        ..PipelineQuery::default()
    };
    for text in &args.status {
        let Some(states) = words::states(text) else {
            let problem = format!("`{text}` is not a state; there are {}", words::known());
            return print::failure(output, "state.unknown", &problem, Exit::Usage);
        };
        query.states.extend(states);
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
                    words::of_row(row),
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
