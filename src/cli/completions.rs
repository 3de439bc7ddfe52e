//! `millrace completions`: what a shell needs to complete this command line.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::ended;
use super::output::print;

#[derive(Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(command: Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut super::Cli::command(), "millrace", &mut script);
    ended(print(&String::from_utf8_lossy(&script)))
}
