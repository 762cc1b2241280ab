//! How a server process ends.

use std::process::ExitCode;

/// Why the process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// It was told to, and finished what it had in hand.
    Clean,
    /// Something broke, or did not end within the grace period.
    Failed,
    /// The command line is not one.
    Usage,
    /// The configuration is wrong; everything that is wrong was said.
    Configuration,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Configuration => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
