//! `millrace config`: prints or checks the configuration that a server would start with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::exit::{Failure, exit_code};
use super::output::print;
use crate::config::{Config, ConfigError, DEFAULT, Overrides, Preset, effective, user_file};

#[derive(Args)]
pub struct ConfigCommand {
    /// Configuration file [default: millrace.toml in the working directory, if it exists]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check the configuration, and print nothing on stdout
    #[arg(long)]
    check: bool,
    /// Print the reference instead: all settings with their defaults, and all presets, with comments
    #[arg(long, conflicts_with = "check")]
    default: bool,
}

pub fn run(command: ConfigCommand) -> ExitCode {
    exit_code(show(command))
}

fn show(command: ConfigCommand) -> Result<(), Failure> {
    if command.default {
        let presets = Preset::ALL.map(|preset| format!("\n{}", preset.text));
        return print(&format!("{DEFAULT}{}", presets.concat()));
    }
    let path = user_file(command.config);
    let config = Config::load(path.as_deref(), &Overrides::default()).map_err(failure)?;
    let names: Vec<&str> = config.presets.iter().map(|preset| preset.name).collect();
    let presets = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let file = path.as_ref().map_or("no configuration file".to_owned(), |path| path.display().to_string());
    if command.check {
        eprintln!("the configuration is valid ({file}; presets: {presets})");
        return Ok(());
    }
    let effective = effective(path.as_deref(), &config.presets).map_err(failure)?;
    let hidden = if effective.contains("***") { "# `***` replaces the store's password.\n" } else { "" };
    print(&format!("# The configuration in force: {file}; presets: {presets}.\n{hidden}\n{effective}"))
}

fn failure(error: ConfigError) -> Failure {
    Failure::Failed(error.to_string())
}
