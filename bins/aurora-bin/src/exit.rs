//! How a process ends: its exit codes.

use std::process::ExitCode;

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// What it followed was cancelled by a person, rejected, expired or superseded.
    Cancelled,
    /// Something broke, failed, or did not end within the grace period.
    Failed,
    /// Another run holds the application.
    Held,
    /// It did what it was asked, or was told to stop and finished what it had in hand.
    Succeeded,
    /// The time to watch ran out.
    TimedOut,
    /// The command line is not one, or a file is not valid.
    Usage,
    /// A server's configuration is wrong; everything that is wrong was said.
    WrongConfiguration,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Held => 3,
            Self::Cancelled => 4,
            Self::TimedOut => 5,
            Self::WrongConfiguration => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
