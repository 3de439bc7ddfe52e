//! `millrace completions`: prints a completion script for a shell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::exit_code;
use super::output::print;

#[derive(Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(command: Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut super::Cli::command(), "millrace", &mut script);
    exit_code(print(&String::from_utf8_lossy(&script)))
}
