//! `millrace config`: prints or checks the configuration that a server would start with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::config_options::{CheckedConfig, ConfigOptions};
use super::exit::{Failure, exit_code};
use super::output::{counted, print};
use crate::config::{DEFAULT, OpenError, Preset, effective};

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
    ///
    /// With `--store`, also looks at the database: whether it can be used, and whether the views fit the tables that
    /// exist. All faults are printed with the SQL that repairs them, and the exit code is 7. Nothing is changed.
    Check(CheckOptions),
    /// Print the reference: all settings with their defaults, and all presets, with comments
    Default,
}

#[derive(Args)]
struct Options {
    #[command(flatten)]
    server: ConfigOptions,
}

#[derive(Args)]
struct CheckOptions {
    #[command(flatten)]
    options: Options,
    /// Also check the database and the tables of the views, without a change to them
    #[arg(long)]
    store: bool,
    /// Data folder, where the database is unless the configuration names another
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
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

fn check(command: &CheckOptions) -> Result<(), Failure> {
    let checked = command.options.checked()?;
    for warning in checked.warnings.iter().chain(&checked.legacy_env.unusable) {
        eprintln!("warning: {warning}");
    }
    for decision in checked.legacy_env.decisions() {
        eprintln!("{decision}");
    }
    eprintln!("the configuration is valid ({})", description(&checked));
    if command.store { check_store(&checked, &command.data) } else { Ok(()) }
}

/// Prints everything because of which a view cannot use its tables.
fn check_store(checked: &CheckedConfig, data: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start a runtime: {error}")))?;
    let found = runtime.block_on(checked.config.inspect_store(data)).map_err(|error| match error {
        OpenError::Unreachable { .. } => Failure::Unreachable(error.to_string()),
        error => Failure::Failed(error.to_string()),
    })?;
    for warning in &found.warnings {
        eprintln!("warning: {warning}");
    }
    for (view, fault) in &found.faults {
        print(&format!("view `{view}`: {fault}"))?;
    }
    let name = &found.name;
    match (found.exists, found.faults.len()) {
        (false, _) => eprintln!("the database does not exist yet: {name}"),
        (true, 0) => eprintln!("the database can be used: {name}"),
        (true, faults) => {
            let tables = counted(faults as u64, "table");
            return Err(Failure::Different(format!("{tables} in {name} cannot be used as they are")));
        }
    }
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
