//! How commands end: the documented exit codes, each with its one line on stderr.

use std::process::ExitCode;

/// The codes below, for `millrace --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, with the reason on stderr
  2  wrong usage
  3  no answer, or the server cannot take more now: trying again later helps
  4  no key, or one that may not do this
  5  there is nothing of that name
  6  done, but some of it was refused
  7  a comparison found differences, or a check found damage";

/// A command that did not do what it was asked. Code 2 is clap's, for wrong usage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 0: whoever read the output has seen enough.
    #[error("nobody reads the output any more")]
    ReaderGone,
    /// 1: anything without a code of its own.
    #[error("{0}")]
    Failed(String),
    /// 3: no answer, or the server cannot take more now; trying again later helps.
    #[error("{0}")]
    Unreachable(String),
    /// 4: no key, or one that may not do this.
    #[error("{0}")]
    NotAllowed(String),
    /// 5: there is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// 6: done, but some of it was refused.
    #[error("{0}")]
    Refused(String),
    /// 7: a comparison found differences, or a check found damage.
    #[error("{0}")]
    Different(String),
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed(_) => 1,
            Self::Unreachable(_) => 3,
            Self::NotAllowed(_) => 4,
            Self::NotFound(_) => 5,
            Self::Refused(_) => 6,
            Self::Different(_) => 7,
        }
    }
}

/// Says what went wrong, and ends with its code.
pub fn ended(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("millrace: {}", failure.to_string().replace('\n', " "));
            ExitCode::from(failure.code())
        }
    }
}

/// Runs a command that talks to a server.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ended(runtime.block_on(command)),
        Err(error) => ended(Err(Failure::Failed(error.to_string()))),
    }
}
