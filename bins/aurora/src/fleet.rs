//! `aurora agent list` and `aurora account list`.

use std::path::Path;

use anyhow::Result;

use crate::cli::Output;
use crate::online::{client, refused};
use crate::print;
use aurora_bin::exit::Exit;

/// Lists the agents that were seen.
pub(crate) async fn agents(output: Output, context: Option<&Path>) -> Result<Exit> {
    let answer = match client(context)?.agents().await {
        Ok(answer) => answer,
        Err(error) => return refused(&error, output),
    };
    print::document(output, &answer, |answer| {
        if answer.agents.is_empty() {
            return "no agent was seen yet: run one with `aurora agent run`\n".to_owned();
        }
        let rows: Vec<Vec<String>> = answer
            .agents
            .iter()
            .map(|agent| {
                let software = agent.instances.first().map(|instance| instance.software.clone());
                vec![
                    agent.name.to_string(),
                    if agent.online { "connected" } else { "offline" }.to_owned(),
                    agent.instances.len().to_string(),
                    agent
                        .last_seen
                        .map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
                        .unwrap_or_default(),
                    software.unwrap_or_default(),
                ]
            })
            .collect();
        print::table(&["AGENT", "STATE", "INSTANCES", "LAST SEEN", "SOFTWARE"], &rows)
    })?;
    Ok(Exit::Succeeded)
}

/// Lists the accounts and what their agents last reported.
pub(crate) async fn accounts(output: Output, context: Option<&Path>) -> Result<Exit> {
    let answer = match client(context)?.accounts().await {
        Ok(answer) => answer,
        Err(error) => return refused(&error, output),
    };
    print::document(output, &answer, |answer| {
        if answer.accounts.is_empty() {
            return "no account yet: an account is the name of an agent that was seen\n".to_owned();
        }
        let rows: Vec<Vec<String>> = answer
            .accounts
            .iter()
            .map(|account| {
                let counts: Vec<_> = account
                    .counts
                    .iter()
                    .map(|(kind, count)| format!("{count} {kind}(s)"))
                    .collect();
                let state = if account.online { "connected" } else { "offline" };
                vec![account.name.to_string(), state.to_owned(), counts.join(", ")]
            })
            .collect();
        print::table(&["ACCOUNT", "STATE", "HAS"], &rows)
    })?;
    Ok(Exit::Succeeded)
}
