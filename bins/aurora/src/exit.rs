//! How the command line ends: its exit codes.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Cancelled by a person, rejected, expired or superseded.
    Cancelled,
    /// It failed, or something broke.
    Failed,
    /// Another run holds the application.
    Held,
    /// The command did what it was asked, or the pipeline succeeded.
    Succeeded,
    /// The watch timed out.
    TimedOut,
    /// Wrong usage or an invalid file.
    Usage,
    /// A server's configuration is wrong.
    WrongConfiguration,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
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
