//! The `aurora` command line: reads what is asked for, does it, and ends with a code that says how it went.

mod agent;
mod backup;
mod cli;
mod context;
mod demo;
mod deploy;
mod fleet;
mod offline;
mod online;
mod print;
mod sim;
mod submission;
mod template;
mod up;
mod watch;

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
        Err(error) => {
            // Help and version are asked for; everything else is wrong usage.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Succeeded
            };
            let _ = error.print();
            return exit.into();
        }
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
            print::note(&format!("error: no runtime: {error}"));
            return Exit::Failed.into();
        }
    };
    match runtime.block_on(run(&cli)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            print::note(&format!("error: {error:#}"));
            Exit::Failed.into()
        }
    }
}

async fn run(cli: &Cli) -> Result<Exit> {
    let (output, context) = (cli.output, cli.context_file.as_deref());
    match &cli.command {
        Command::Account(AccountCommand::List) => fleet::accounts(output, context).await,
        Command::Agent(AgentCommand::List) => fleet::agents(output, context).await,
        Command::Agent(AgentCommand::Run(args)) => agent::run(args, output, signals::stop_token()?).await,
        Command::Backup(args) => backup::backup(args, output),
        Command::Demo(args) => demo::run(args, output, signals::stop_token()?).await,
        Command::Deploy(command) => deploy::run(command, output, context).await,
        Command::Render(args) => offline::render(args, output).await,
        Command::Restore(args) => backup::restore(args, output),
        Command::Schema => template::schema(output),
        Command::Sim(args) => sim::run(args, output, signals::stop_token()?).await,
        Command::Template(args) => template::template(args, output),
        Command::Up(args) => up::run(args, output, signals::stop_token()?).await,
        Command::Validate(args) => offline::validate(args, output).await,
    }
}
