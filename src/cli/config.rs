//! `millrace config`: the configuration that a server would start with, or what is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::exit::{Failure, ended};
use super::output::print;
use crate::config::{Config, ConfigError, DEFAULT, Overrides, outcome, user_file};

#[derive(Args)]
pub struct ConfigCommand {
    /// Configuration, laid over the built-in one [default: millrace.toml, if it is there]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check it
    #[arg(long)]
    check: bool,
    /// Print the built-in configuration with its comments: the reference, to copy from
    #[arg(long, conflicts_with = "check")]
    default: bool,
}

pub fn run(command: ConfigCommand) -> ExitCode {
    ended(show(command))
}

fn show(command: ConfigCommand) -> Result<(), Failure> {
    if command.default {
        return print(DEFAULT);
    }
    let path = user_file(command.config);
    Config::load(path.as_deref(), &Overrides::default()).map_err(wrong)?;
    let named = match &path {
        Some(path) => format!("the built-in configuration with {} laid over it", path.display()),
        None => "the built-in configuration".to_owned(),
    };
    match command.check {
        true => {
            eprintln!("{named} is sound");
            Ok(())
        }
        false => {
            let outcome = outcome(path.as_deref()).map_err(wrong)?;
            let hidden = match outcome.contains("***") {
                true => "# `***` stands for the store's password, which is not shown.\n",
                false => "",
            };
            print(&format!("# This is {named}.\n{hidden}\n{outcome}"))
        }
    }
}

fn wrong(error: ConfigError) -> Failure {
    Failure::Failed(error.to_string())
}
