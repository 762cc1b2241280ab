//! The `aurora` command line: reads what is asked for, does it, and ends with a code that says how it went.

mod acts;
mod agent;
mod backup;
mod cli;
mod completions;
mod context;
mod demo;
mod deploy;
mod doctor;
mod fleet;
mod offline;
mod online;
mod print;
mod sim;
mod submission;
mod template;
mod up;
mod watch;
mod words;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::cli::{AccountCommand, AgentCommand, Cli, Command};
use aurora_bin::exit::Exit;
use aurora_bin::signals;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let filter = EnvFilter::try_from_env("AURORA_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // Only fails when a provider is installed already, and then that one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(cli.output, &format!("no runtime: {error}")).into();
        }
    };
    match runtime.block_on(run(&cli)) {
        Ok(exit) => exit.into(),
        Err(error) => failed(cli.output, &format!("{error:#}")).into(),
    }
}

/// Help and version are asked for; everything else is wrong usage.
fn usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Succeeded;
    }
    let words: Vec<_> = std::env::args().collect();
    let is_json = |pair: &[String]| matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json";
    let joined = |word: &String| matches!(word.as_str(), "-ojson" | "-o=json" | "--output=json");
    if words.windows(2).any(is_json) || words.iter().any(joined) {
        let text = error.to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        let _ = print::failure(cli::Output::Json, "usage", text, Exit::Usage);
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// Something broke, or is not there; what an API said is printed where it is heard.
fn failed(output: cli::Output, words: &str) -> Exit {
    print::failure(output, "failed", words, Exit::Failed).unwrap_or(Exit::Failed)
}

async fn run(cli: &Cli) -> Result<Exit> {
    let (output, context) = (cli.output, cli.context_file.as_deref());
    match &cli.command {
        Command::Account(AccountCommand::List) => fleet::accounts(output, context).await,
        Command::Agent(AgentCommand::List) => fleet::agents(output, context).await,
        Command::Agent(AgentCommand::Run(args)) => agent::run(args, output, signals::stop_token()?).await,
        Command::Backup(args) => backup::backup(args, output),
        Command::Completions(args) => completions::run(args),
        Command::Demo(args) => demo::run(args, output, signals::stop_token()?).await,
        Command::Deploy(command) => deploy::run(command, output, context).await,
        Command::Doctor => doctor::run(output, context).await,
        Command::Render(args) => offline::render(args, output).await,
        Command::Restore(args) => backup::restore(args, output),
        Command::Schema => template::schema(output),
        Command::Sim(args) => sim::run(args, output, signals::stop_token()?).await,
        Command::Template(args) => template::template(args, output),
        Command::Up(args) => up::run(args, output, signals::stop_token()?).await,
        Command::Validate(args) => offline::validate(args, output).await,
    }
}
