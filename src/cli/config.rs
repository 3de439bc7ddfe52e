//! `millrace config`: prints or checks the configuration that a server would start with.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit::{Failure, exit_code};
use super::output::print;
use super::serve_options::{CheckedConfig, ServeOptions};
use crate::config::{DEFAULT, Preset, effective};

#[derive(Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the configuration in force: the file, the presets that it lists, options and variables
    Show(Options),
    /// Check the configuration, and print all errors with file, line and column
    ///
    /// Says everything that `serve` would say before it opens the log or the store, so give the options that you give to
    /// `serve`. The exit code is 8 if there are errors. Warnings do not change it.
    Check(Options),
    /// Print the reference: all settings with their defaults, and all presets, with comments
    Default,
}

#[derive(Args)]
struct Options {
    #[command(flatten)]
    server: ServeOptions,
}

pub fn run(command: ConfigCommand) -> ExitCode {
    exit_code(match command.action {
        Action::Show(options) => show(&options),
        Action::Check(options) => check(&options),
        Action::Default => print_default(),
    })
}

fn show(options: &Options) -> Result<(), Failure> {
    let checked = options.checked()?;
    let effective = effective(checked.file.as_deref(), &checked.overrides);
    let mut head = format!("# The configuration in force: {}.\n", description(&checked));
    for decision in checked.legacy_env.decisions() {
        head.push_str(&format!("# {decision}\n"));
    }
    if effective.contains("***") {
        head.push_str("# `***` replaces the store's password.\n");
    }
    print(&format!("{head}\n{effective}"))
}

fn check(options: &Options) -> Result<(), Failure> {
    let checked = options.checked()?;
    // The configuration is valid from here on. A check that opens the store belongs here, not in `checked`, which
    // `config show` uses as well.
    for warning in checked.warnings.iter().chain(&checked.legacy_env.unusable) {
        eprintln!("warning: {warning}");
    }
    for decision in checked.legacy_env.decisions() {
        eprintln!("{decision}");
    }
    eprintln!("the configuration is valid ({})", description(&checked));
    Ok(())
}

fn print_default() -> Result<(), Failure> {
    let presets = Preset::ALL.map(|preset| format!("\n{}", preset.text));
    print(&format!("{DEFAULT}{}", presets.concat()))
}

impl Options {
    /// Checks the configuration with the variables that `serve` reads as options.
    fn checked(&self) -> Result<CheckedConfig, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        self.server.check(variable("MILLRACE_LOG"), variable("MILLRACE_STORE"))
    }
}

/// Returns the file and the presets, for people.
fn description(checked: &CheckedConfig) -> String {
    let presets: Vec<&str> = checked.config.presets.iter().map(|preset| preset.name).collect();
    let presets = if presets.is_empty() { "none".to_owned() } else { presets.join(", ") };
    let file = checked.file.as_deref().map(Path::display);
    let file = file.map_or("no configuration file".to_owned(), |file| file.to_string());
    format!("{file}; presets: {presets}")
}
