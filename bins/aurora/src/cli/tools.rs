//! Arguments of what looks after the command line itself: completions and doctor.

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
