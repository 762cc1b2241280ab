//! `aurora demo`: an application in two versions over two simulated clusters, everything real but the clusters.

mod example;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aurora_core::account::AgentName;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::PipelineView;
use aurora_transport::http::EgressRules;
use aurora_transport::rest::ActRequest;
use aurora_transport::rest::client::{Client, ClientError, SubmitRequest};
use tokio_util::sync::CancellationToken;

use crate::cli::{DemoArgs, Output};
use crate::deploy::result;
use crate::online::{client_of, refused};
use crate::up::{Fleet, Services};
use crate::watch::follow::{Followed, Screen, exit_of, follow};
use crate::watch::history::History;
use crate::{print, submission};
use aurora_bin::exit::Exit;

/// How long agents may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long a gate stands before the demo says yes, so that one can see it.
const LOOK: Duration = Duration::from_secs(2);

/// Deploys, and ends as the last pipeline ended.
pub(crate) async fn run(args: &DemoArgs, output: Output, stop: CancellationToken) -> Result<Exit> {
    let temporary = tempfile::tempdir()?;
    let directory = args
        .state_dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let files = match &args.deploy_file {
        Some(file) => vec![file.clone()],
        None => {
            let last = if args.fail {
                &example::V2_BROKEN
            } else {
                &example::V2
            };
            vec![example::V1.write(&directory)?, last.write(&directory)?]
        }
    };
    let Some(accounts) = accounts(&files, output)? else {
        return Ok(Exit::Usage);
    };
    say(
        output,
        "starting hub, API, token issuer, simulated clusters and their agents in this process",
    );
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let services = Services::start(&directory, listen, &accounts, EgressRules::public_only()).await?;
    let mut fleet = Fleet::default();
    for account in &accounts {
        let cluster = fleet.simulate(&services, account).await?;
        if output == Output::Text {
            print::note(&format!(
                "  cluster {account}: kubectl --kubeconfig {}",
                cluster.kubeconfig().display()
            ));
        } else {
            print::event(
                output,
                &serde_json::json!({
                    "type": "cluster", "account": account, "kubeconfig": cluster.kubeconfig(),
                }),
            )?;
        }
    }
    let context = directory.join("context.json");
    services.cli_context().write(&context)?;
    say(
        output,
        &format!(
            "  to look and decide from another terminal: export AURORA_CONTEXT_FILE={}",
            context.display()
        ),
    );
    let client = client_of(&services.cli_context())?;
    let exit = tokio::select! {
        biased;
        () = stop.cancelled() => {
            print::note("stopped before the pipelines ended");
            if let Some(kept) = &args.state_dir {
                print::note(&format!(
                    "  what was under way is kept; it goes on with: aurora demo --state-dir {}",
                    kept.display()
                ));
            }
            Exit::Failed
        }
        exit = pipelines(args, output, &client, &files, accounts.len()) => exit?,
    };
    if args.hold && !stop.is_cancelled() {
        say(
            output,
            &format!(
                "everything keeps running until Ctrl-C; in another terminal:\n  export AURORA_CONTEXT_FILE={}\n  aurora deploy list\n  aurora agent list",
                context.display()
            ),
        );
        stop.cancelled().await;
    }
    fleet.stop().await?;
    services.stop().await?;
    Ok(exit)
}

/// The accounts that the files name: each becomes a simulated cluster.
fn accounts(files: &[PathBuf], output: Output) -> Result<Option<Vec<AgentName>>> {
    let mut accounts = BTreeSet::new();
    for file in files {
        match submission::read(file, None) {
            Ok(read) => accounts.extend(read.deploy.targets.into_values().map(|target| target.account)),
            Err(problems) => {
                print::invalid(output, &problems);
                return Ok(None);
            }
        }
    }
    Ok(Some(accounts.into_iter().collect()))
}

async fn pipelines(
    args: &DemoArgs,
    output: Output,
    client: &Client,
    files: &[PathBuf],
    agents: usize,
) -> Result<Exit> {
    connected(client, agents).await?;
    let mut exit = Exit::Succeeded;
    for (index, file) in files.iter().enumerate() {
        say(output, &format!("\ndeploying {}", description(file)));
        let read = submission::read(file, None).map_err(|problems| {
            anyhow::anyhow!("{} changed: {} problem(s)", file.display(), problems.len())
        })?;
        let request = SubmitRequest::new(read.text, file.display().to_string(), read.files);
        let decide = |view: PipelineView| approve(args, client, view);
        let id = loop {
            let error = match client.submit(&request).await {
                Ok(submitted) => break submitted.pipeline_id,
                Err(error) => error,
            };
            let Some(held) = held_by(&error) else {
                return refused(&error, output);
            };
            // An earlier demo on this directory was stopped in the middle: what it left goes on by itself.
            say(
                output,
                &format!(
                    "pipeline {held} of an earlier start still holds the application; it is followed to its end first"
                ),
            );
            if let Err(error) = follow(client, held, Screen::new(output, index + 1), None, decide).await {
                return refused(&error, output);
            }
        };
        let screen = Screen::new(output, index + 1);
        let (view, history) = match follow(client, id, screen, None, decide).await {
            Ok(Followed::Ended(view, history)) => (view, history),
            Ok(Followed::TimedOut(_)) => bail!("the pipeline did not end"),
            Err(error) => return refused(&error, output),
        };
        exit = exit_of(&view);
        let last = index + 1 == files.len() || exit != Exit::Succeeded;
        if output == Output::Text {
            print::write(&summary(&view, &history))?;
        } else if last {
            print::event(output, &result(&view, &history)?)?;
        }
        if exit != Exit::Succeeded {
            break;
        }
    }
    Ok(exit)
}

/// The pipeline that stands in the way of a submit.
fn held_by(error: &ClientError) -> Option<PipelineId> {
    let problem = error
        .problem()
        .filter(|problem| problem.code == "application.busy")?;
    problem.pipeline_id
}

/// Says yes at gates that have stood for a moment.
async fn approve(args: &DemoArgs, client: &Client, view: PipelineView) {
    if args.no_approve {
        return;
    }
    for waiting in view.waiting.iter().filter(|waiting| waiting.kind == "approval") {
        let stood = view.now.duration_since(waiting.since);
        if stood.unsigned_abs() < LOOK {
            continue;
        }
        let expect = waiting
            .actions
            .iter()
            .find(|action| action.id == "approve")
            .and_then(|action| action.expect.clone());
        let act = ActRequest {
            gate: waiting.subject.gate.clone(),
            expect,
            comment: Some("approved by the demo itself".to_owned()),
            ..ActRequest::default()
        };
        // Somebody else may have been faster; the next view tells.
        let _ = client.approve(view.id, &act).await;
    }
}

async fn connected(client: &Client, wanted: usize) -> Result<()> {
    let all = async {
        loop {
            if let Ok(answer) = client.agents().await
                && answer.agents.iter().filter(|agent| agent.online).count() >= wanted
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(CONNECT_WITHIN, all)
        .await
        .context("the agents did not connect within 30 s")
}

fn description(file: &Path) -> String {
    let version = file
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    format!("{} ({})", version.unwrap_or_default(), file.display())
}

/// What the pipeline did, in a few lines.
fn summary(view: &PipelineView, history: &History) -> String {
    let mut text = format!("summary: {}\n", crate::watch::tree::state_words(view));
    for target in crate::watch::tree::in_order(view) {
        let exercised = if target.first_deployment {
            "first deployment, strategy not exercised"
        } else {
            "canary"
        };
        text.push_str(&format!(
            "  {}: {} ({exercised})\n",
            target.name,
            crate::watch::tree::target_words(target)
        ));
        text.push_str(&history.summary(&target.name));
        for words in crate::watch::tree::error_lines(target) {
            text.push_str(&format!("    {words}\n"));
        }
    }
    text
}

fn say(output: Output, words: &str) {
    if output == Output::Text {
        print::note(words);
    }
}
