//! Arguments of what looks after the command line and its state: completions, backup and restore.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `aurora completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora completions bash > ~/.local/share/bash-completion/completions/aurora
  aurora completions zsh > ~/.zfunc/_aurora
  aurora completions fish > ~/.config/fish/completions/aurora.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

/// `aurora backup`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  aurora backup --to /backups/2026-01-02
  aurora backup --state-dir ./state --to ./copy
  aurora backup --file /var/lib/aurora/api.sqlite --to ./api.sqlite

The copy is sound and of one moment, also while `aurora up` runs. It holds the keys that open it, so it is as
secret as the original. Clusters, simulated ones too, are not part of it. An existing place is never written to.")]
pub(crate) struct BackupArgs {
    /// The state directory; that of `aurora up` without one unless given.
    #[arg(long, env = "AURORA_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Copy this store of a role instead; its master key is kept elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    pub file: Option<PathBuf>,
    /// Where to; a directory that is empty or absent, or with --file an absent file.
    #[arg(long, value_name = "PLACE")]
    pub to: PathBuf,
}

/// `aurora restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  aurora restore --from /backups/2026-01-02 --state-dir ./state && aurora up --state-dir ./state

Stop what runs on the lost state first. What was done after the backup is seen in the clusters again; commands
of the restored state have newer fences than all before.")]
pub(crate) struct RestoreArgs {
    /// The backup.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The state directory to make; empty or absent.
    #[arg(long, env = "AURORA_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
}
