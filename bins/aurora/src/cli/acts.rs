//! Arguments of what is done with a run besides starting it: to another version, and how it moved.

use clap::Args;

/// Following what comes of an act.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct WatchArgs {
    /// Follow what comes of it to its end; the exit code tells how it ended.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Stop watching after so many seconds, with exit code 5.
    #[arg(long, value_name = "SECONDS", requires = "watch")]
    pub timeout: Option<u64>,
}

/// `aurora deploy history`.
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// The pipeline's id.
    pub id: String,
    /// Only this target; all of the pipeline unless given.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
}

/// `aurora deploy retry`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora deploy retry 0199…                    everything that did not succeed
  aurora deploy retry 0199… --target prod --watch

In a pipeline that goes on, the target begins again; of one that is over, a new pipeline comes of it.")]
pub(crate) struct RetryArgs {
    /// The pipeline's id.
    pub id: String,
    /// Only this target; everything that did not succeed unless given.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub comment: String,
    /// Whether to follow it.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// `aurora deploy rollback`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora deploy rollback 0199…                 to the version before this pipeline's
  aurora deploy rollback 0199… --target prod --to 0198… --comment \"slower since Tuesday\"

The target's configuration goes back with it, at once and without gates. In a pipeline that goes on, the
target goes back; of one that is over, a new pipeline comes of it.")]
pub(crate) struct RollbackArgs {
    /// The pipeline's id.
    pub id: String,
    /// The target; needed when the pipeline has several.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// The earlier pipeline to whose version; the one before this unless given.
    #[arg(long, value_name = "ID")]
    pub to: Option<String>,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub comment: String,
    /// Whether to follow it.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// `aurora deploy redeploy`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora deploy redeploy 0199… --watch
  aurora deploy redeploy 0199… --target staging --target prod --add-context reason=again

The deploy file and the manifests of the earlier pipeline are rendered and deployed again, with its strategy
and gates: a new pipeline.")]
pub(crate) struct RedeployArgs {
    /// The earlier pipeline's id.
    pub id: String,
    /// Only this target; repeat for more, all unless given.
    #[arg(long = "target", short = 't', value_name = "NAME")]
    pub targets: Vec<String>,
    /// A run-wide variable beside those of the earlier pipeline; repeat, or put commas between them.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = super::variable)]
    pub add_context: Vec<(String, String)>,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub comment: String,
    /// Whether to follow it.
    #[command(flatten)]
    pub watch: WatchArgs,
}
