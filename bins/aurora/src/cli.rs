//! The command line: what can be asked for, with help and examples.

mod acts;
mod tools;

use std::net::SocketAddr;
use std::path::PathBuf;

use aurora_core::account::AgentName;
use aurora_core::tenant::InvalidName;
use aurora_transport::http::Network;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use acts::{HistoryArgs, RedeployArgs, RetryArgs, RollbackArgs, WatchArgs};
pub(crate) use tools::{BackupArgs, CompletionsArgs, RestoreArgs};

/// Deploys new versions of applications to many Kubernetes clusters, step by step.
#[derive(Debug, Parser)]
#[command(
    name = "aurora",
    version,
    arg_required_else_help = true,
    propagate_version = true,
    after_help = "\
Examples:
  aurora demo                                   watch an application roll out to two simulated clusters
  aurora up --simulate staging --simulate prod  run everything in one process and keep its state
  aurora deploy start -f deploy.yaml --watch    deploy, and follow it to its end
  aurora deploy approve 0199… --comment \"ok\"    say yes at the gate it waits at

Exit codes: 0 succeeded, 1 failed, 2 wrong usage or invalid file, 3 another run holds the application,
4 cancelled, rejected, expired or superseded, 5 the watch timed out, 64 wrong configuration of a server."
)]
pub(crate) struct Cli {
    /// How to print: text for people, json or yaml for programs.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The file that says which Aurora to talk to and as whom.
    #[arg(long, global = true, env = "AURORA_CONTEXT_FILE", value_name = "FILE")]
    pub context_file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// JSON: one document, or one line per change where things change.
    Json,
    /// Text for people.
    Text,
    /// YAML documents.
    Yaml,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the places that can be deployed to.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Run an agent, or list those that are known.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Copy the state of `aurora up`, or a store of a role, while it is in use.
    Backup(BackupArgs),
    /// Print a script that completes commands and flags in a shell.
    Completions(CompletionsArgs),
    /// Deploy two versions of an application to two simulated clusters, all in this process.
    Demo(DemoArgs),
    /// Start, follow and decide about pipelines.
    #[command(subcommand)]
    Deploy(DeployCommand),
    /// Look at everything between this command line and its API, and say how to mend what is wrong.
    #[command(
        after_help = "Examples:\n  aurora doctor\n  aurora doctor --context-file other.json -o json\n\nExit code 1 when something failed; warnings alone are 0."
    )]
    Doctor,
    /// Print exactly what would be applied, without any server.
    Render(RenderArgs),
    /// Bring a backup back as a state directory.
    Restore(RestoreArgs),
    /// Print the JSON Schema of deploy files, for editors.
    #[command(after_help = "Example:\n  aurora schema > deploy-file.schema.json")]
    Schema,
    /// Run a simulated Kubernetes cluster with Argo Rollouts as a process of its own.
    Sim(SimArgs),
    /// Print a commented deploy file to start from.
    Template(TemplateArgs),
    /// Run hub, API and token issuer in one process, with its state in a directory.
    Up(UpArgs),
    /// Check a deploy file and its manifests, without any server.
    Validate(FileArgs),
}

/// Accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// List the accounts of this tenant and what their agents last reported.
    #[command(after_help = "Example:\n  aurora account list -o json")]
    List,
}

/// Agents.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// List the agents that were seen, connected or not.
    #[command(after_help = "Example:\n  aurora agent list")]
    List,
    /// Run an agent beside a cluster until it is told to stop.
    Run(AgentRunArgs),
}

/// `aurora agent run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora agent run --name prod --kubeconfig ~/.kube/config --context prod
  aurora agent run --name prod --in-cluster --hub https://hub.example.test:8443 --credentials agent.json
  aurora agent run --name play --simulate

Without --credentials the agent uses those that `aurora up` keeps in its default state directory; it
lets agents connect whose names it was started with (--allow-agent NAME).")]
pub(crate) struct AgentRunArgs {
    /// The agent's name: the account that deploy files name.
    #[arg(long, value_parser = agent_name)]
    pub name: AgentName,
    /// Act in the cluster of this kubeconfig; needs --context.
    #[arg(long, value_name = "FILE", requires = "context", conflicts_with_all = ["in_cluster", "simulate"])]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; the current one is never taken by itself.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Act in the cluster that this process runs in, with its service account.
    #[arg(long, conflicts_with = "simulate")]
    pub in_cluster: bool,
    /// Act in a simulated cluster inside this process.
    #[arg(long)]
    pub simulate: bool,
    /// Where the hub is; from the credentials file unless given.
    #[arg(long, env = "AURORA_HUB", value_name = "URL")]
    pub hub: Option<String>,
    /// A file with the agent's client id, secret, issuer and the hub's certificate authority.
    #[arg(long, env = "AURORA_AGENT_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Only act in these namespaces; repeat for more.
    #[arg(long = "namespace", value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Also apply kinds that belong to no namespace.
    #[arg(long)]
    pub allow_cluster_kinds: bool,
    /// Also create the namespaces of targets whose manifests bring them.
    #[arg(long)]
    pub allow_namespace_creation: bool,
}

/// `aurora demo`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora demo                          version 1, then version 2 by canary: Succeeded, exit 0
  aurora demo --fail                   version 2 crashes: Failed and rolled back, exit 1
  aurora demo --hold                   keep everything running and say how to use it
  aurora demo --deploy-file my.yaml    deploy another file (its accounts become simulated clusters)
  aurora demo -o json | jq .           a JSON line per change; the last one is the final pipeline")]
pub(crate) struct DemoArgs {
    /// Ship a version 2 whose web server crashes.
    #[arg(long, conflicts_with = "deploy_file")]
    pub fail: bool,
    /// Deploy this file instead of the example.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub deploy_file: Option<PathBuf>,
    /// Keep everything running after the last pipeline ended.
    #[arg(long)]
    pub hold: bool,
    /// Keep state, kubeconfigs and request logs here instead of a temporary directory.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Do not approve by itself: gates wait for `aurora deploy approve` from another terminal.
    #[arg(long)]
    pub no_approve: bool,
}

/// Pipelines.
#[derive(Debug, Subcommand)]
pub(crate) enum DeployCommand {
    /// Say yes at a gate that waits for approval.
    #[command(
        after_help = "Examples:\n  aurora deploy approve 0199…\n  aurora deploy approve 0199… --target prod --comment \"numbers look good\""
    )]
    Approve(DecideArgs),
    /// End a pipeline: what runs is rolled back, what succeeded stays, what waits never starts.
    #[command(after_help = "Example:\n  aurora deploy cancel 0199… --comment \"wrong version\"")]
    Cancel(CancelArgs),
    /// Show how the weights and pods of a target moved.
    #[command(after_help = "Example:\n  aurora deploy history 0199… --target prod")]
    History(HistoryArgs),
    /// List pipelines, the newest first.
    #[command(
        after_help = "Examples:\n  aurora deploy list\n  aurora deploy list --application shop --status awaiting_approval -o json"
    )]
    List(ListArgs),
    /// Say no at a gate that waits for approval: the pipeline is cancelled and rolled back.
    #[command(after_help = "Example:\n  aurora deploy reject 0199… --target prod --comment \"error rate\"")]
    Reject(DecideArgs),
    /// Deploy the deploy file of an earlier pipeline again.
    Redeploy(RedeployArgs),
    /// Deploy once more what did not succeed.
    Retry(RetryArgs),
    /// Take a target back to an earlier version, its configuration included.
    Rollback(RollbackArgs),
    /// Do not wait any longer at a gate that a timer opens.
    #[command(after_help = "Example:\n  aurora deploy skip 0199… --target prod --comment \"seen enough\"")]
    Skip(DecideArgs),
    /// Start a pipeline from a deploy file.
    Start(StartArgs),
    /// Show one pipeline: where it stands, why it waits and what would end that.
    #[command(after_help = "Examples:\n  aurora deploy status 0199…\n  aurora deploy status 0199… --watch")]
    Status(StatusArgs),
}

/// `aurora deploy start`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora deploy start -f deploy.yaml
  aurora deploy start -f deploy.yaml --watch
  aurora deploy start -f deploy.yaml --target staging --add-context build=1234
  aurora deploy start -f https://files.example.test/deploy.yaml     the server reads it
  aurora deploy start -f deploy.yaml --application shop-2 --watch --timeout 1800 -o json")]
pub(crate) struct StartArgs {
    /// The deploy file.
    #[command(flatten)]
    pub file: FileArgs,
    /// Follow the pipeline to its end; the exit code tells how it ended.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Stop watching after so many seconds, with exit code 5.
    #[arg(long, value_name = "SECONDS", requires = "watch")]
    pub timeout: Option<u64>,
    /// Only this target; repeat for more, all unless given.
    #[arg(long = "target", short = 't', alias = "targetFilters", value_name = "NAME")]
    pub targets: Vec<String>,
    /// A run-wide variable beside those of the file, which it overrides; repeat, or put commas between them.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = variable)]
    pub add_context: Vec<(String, String)>,
    /// Every target goes to this account; only for a deploy file at a URL.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Makes repeats of this call start one pipeline only; made up unless given.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// A deploy file.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// The deploy file; paths in it are relative to it.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: PathBuf,
    /// Use this application name instead of the file's.
    #[arg(long, short = 'n', value_name = "NAME")]
    pub application: Option<String>,
}

/// `aurora template`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  aurora template canary > deploy.yaml\n  aurora template bluegreen --out deploy.yaml"
)]
pub(crate) struct TemplateArgs {
    /// How it moves to a new version.
    #[arg(value_enum)]
    pub kind: TemplateKind,
    /// Write it to this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Which deploy file to start from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum TemplateKind {
    /// All traffic at once, with the old version kept for a while.
    Bluegreen,
    /// Step by step, by weight.
    Canary,
    /// Pod by pod, without a stop.
    Rolling,
}

/// `aurora render`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  aurora render -f deploy.yaml\n  aurora render -f deploy.yaml --target prod -o json"
)]
pub(crate) struct RenderArgs {
    /// The deploy file.
    #[command(flatten)]
    pub file: FileArgs,
    /// Only this target; all unless given.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Also print the values of Secrets.
    #[arg(long)]
    pub show_secrets: bool,
}

/// `aurora deploy status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The pipeline's id.
    pub id: String,
    /// Follow it to its end.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Stop watching after so many seconds, with exit code 5.
    #[arg(long, value_name = "SECONDS", requires = "watch")]
    pub timeout: Option<u64>,
}

/// `aurora deploy approve` and `reject`.
#[derive(Args, Debug)]
pub(crate) struct DecideArgs {
    /// The pipeline's id.
    pub id: String,
    /// The target whose gate is meant; needed when several wait.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// The gate's id; needed when a target waits at several.
    #[arg(long, value_name = "ID")]
    pub gate: Option<String>,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub comment: String,
}

/// `aurora deploy cancel`.
#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The pipeline's id.
    pub id: String,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub comment: String,
}

/// `aurora deploy list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only pipelines of this application.
    #[arg(long, value_name = "NAME")]
    pub application: Option<String>,
    /// Only pipelines in these states, by any word that a list or a tree prints: running, failed, "waiting for
    /// approval", AWAITING_APPROVAL; repeat, or put commas between them.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub status: Vec<String>,
    /// At most so many, 1 to 500.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Go on from the cursor that the last page printed.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// `aurora sim`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora sim --state-dir ./staging-cluster
  kubectl --kubeconfig ./staging-cluster/kubeconfig get rollouts -A

A stopped cluster goes on where it was when it is started on the same directory.")]
pub(crate) struct SimArgs {
    /// The directory of the cluster's state, kubeconfig and request log; made if absent.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Where to listen; the same port again after a restart unless given.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// `aurora up`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora up --simulate staging --simulate prod
  aurora up --kubeconfig ~/.kube/config --context kind-dev --agent dev

It writes a context, so `aurora deploy list` works in the next terminal.")]
pub(crate) struct UpArgs {
    /// The directory of its state; one process at a time uses it.
    #[arg(long, env = "AURORA_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where agents and clients connect.
    #[arg(long, env = "AURORA_LISTEN", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Where health and metrics are served.
    #[arg(long, env = "AURORA_HEALTH_LISTEN", default_value = "127.0.0.1:9080")]
    pub health_listen: SocketAddr,
    /// Run an agent of this name over a simulated cluster; repeat for more.
    #[arg(long, value_name = "AGENT", value_parser = agent_name)]
    pub simulate: Vec<AgentName>,
    /// Run an agent over the cluster of this kubeconfig; with --context and --agent, as often as needed.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Vec<PathBuf>,
    /// The context of the kubeconfig; the current one is never taken by itself.
    #[arg(long, value_name = "NAME")]
    pub context: Vec<String>,
    /// The name of the agent over the kubeconfig's cluster.
    #[arg(long, value_name = "NAME", value_parser = agent_name)]
    pub agent: Vec<AgentName>,
    /// Let an agent of this name connect that runs elsewhere; remembered for later starts.
    #[arg(long, value_name = "NAME", value_parser = agent_name)]
    pub allow_agent: Vec<AgentName>,
    /// Also read manifests by URL and deploy files by link from this network; repeat for more. Without it only
    /// the public internet is read from.
    #[arg(long, value_name = "NETWORK")]
    pub fetch_allow: Vec<Network>,
    /// Where to write the context; beside the other contexts, or into --state-dir where that is given.
    #[arg(long, value_name = "FILE")]
    pub context_out: Option<PathBuf>,
}

fn agent_name(text: &str) -> Result<AgentName, InvalidName> {
    AgentName::new(text)
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("a variable is written KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_one() {
        Cli::command().debug_assert();
    }

    #[test]
    fn variables_are_pairs() {
        assert_eq!(variable("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("a="), Ok(("a".to_owned(), String::new())));
        assert!(variable("a").is_err() && variable("=b").is_err());
    }

    #[test]
    fn wrong_values_are_refused_where_they_are_read() {
        for wrong in [
            &["aurora", "up", "--simulate", "BAD NAME"][..],
            &["aurora", "up", "--allow-agent", "-x"],
            &["aurora", "agent", "run", "--name", "BAD NAME", "--simulate"],
            &["aurora", "deploy", "list", "--limit", "0"],
            &["aurora", "deploy", "list", "--limit", "501"],
            &["aurora", "deploy", "redeploy", "x", "--add-context", "novalue"],
            &["aurora", "completions", "tcsh"],
        ] {
            let error = Cli::try_parse_from(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
