//! `aurora completions`: a script for a shell, made from the command line's own description.

use anyhow::Result;
use aurora_bin::exit::Exit;
use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs};
use crate::print;

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "aurora", &mut script);
    print::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Succeeded)
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "aurora", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["deploy", "approve", "doctor", "context-file"] {
                assert!(script.contains(word), "{shell} lacks {word}");
            }
        }
    }
}
