//! Exit codes. A command that fails prints one line on stderr, or a line for each error of the configuration.

use std::process::ExitCode;

use super::printable::printable;
use crate::config::ConfigErrors;

/// The list of exit codes for `millrace --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the reason is on stderr
  2  wrong usage
  3  no answer, or the server cannot accept more now; try again later
  4  no key, or a key that may not do this
  5  nothing of that name exists
  6  done, but a part was refused
  7  a comparison found differences, a check found damage, or a table does not fit its view
  8  the configuration has errors; each is a line on stderr";

/// The reason why a command ended early or failed. Each variant has its own exit code; clap exits with 2 itself
/// for wrong usage that it recognises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 0: the reader of stdout closed it, for example `head`.
    #[error("the reader closed stdout")]
    ReaderGone,
    /// 1: every failure that has no other code.
    #[error("{0}")]
    Failed(String),
    /// 1: the server's database has to be mended by a person. Only a command that waits for that tries again.
    #[error("{0}")]
    StoreUnusable(String),
    /// 2: an option is missing that only the server's answer shows to be needed.
    #[error("{0}")]
    WrongUsage(String),
    /// 3: no answer, or the server cannot accept more now. A later attempt may succeed.
    #[error("{0}")]
    Unreachable(String),
    /// 4: no key, or a key that may not do this.
    #[error("{0}")]
    NotAllowed(String),
    /// 5: nothing of that name exists.
    #[error("{0}")]
    NotFound(String),
    /// 6: done, but a part was refused.
    #[error("{0}")]
    Refused(String),
    /// 7: a comparison found differences, a check found damage, or a table does not fit its view.
    #[error("{0}")]
    Different(String),
    /// 8: the configuration has errors.
    #[error("{0}")]
    Configuration(ConfigErrors),
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed(_) | Self::StoreUnusable(_) => 1,
            Self::WrongUsage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::NotAllowed(_) => 4,
            Self::NotFound(_) => 5,
            Self::Refused(_) => 6,
            Self::Different(_) => 7,
            Self::Configuration(_) => 8,
        }
    }
}

/// Prints a failure on stderr, and returns the exit code.
pub fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        // The lines begin with file, line and column, so that editors and terminals can link to the place.
        Err(Failure::Configuration(errors)) => {
            eprintln!("{errors}\nmillrace: {}", errors.summary());
            ExitCode::from(Failure::Configuration(errors).code())
        }
        Err(failure) => {
            eprintln!("millrace: {}", one_line(&failure));
            ExitCode::from(failure.code())
        }
    }
}

/// Returns the message of a failure as one line. It may contain text from a server or a database.
fn one_line(failure: &Failure) -> String {
    printable(&failure.to_string().replace('\n', " "))
}

/// Runs a command that talks to a server, and returns the exit code.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => exit_code(runtime.block_on(command)),
        Err(error) => exit_code(Err(Failure::Failed(error.to_string()))),
    }
}

/// Runs a command that has no end of its own. Ctrl-C ends it, and is not an error.
pub async fn until_interrupted(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        done = command => done,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_without_control_characters() {
        let failure = Failure::Failed("first\nsecond\u{1b}[2J".to_owned());
        assert_eq!(one_line(&failure), "first second\\u{1b}[2J");
    }
}
