//! `millrace config`: prints or checks the configuration that a server would start with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config_options::{CheckedConfig, ConfigOptions};
use super::exit::{Failure, exit_code};
use super::output::{JsonDocument, counted, print};
use super::printable::printable_lines;
use crate::config::{ConfigError, DEFAULT, Preset, effective, effective_settings, user_file};
use crate::server::{OpenError, StoreInspection, inspect_store};

#[derive(Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the configuration in force: the file, the presets that it lists, options and variables
    ///
    /// Give the options that you give to `serve`. For its `--log` and `--store`, set MILLRACE_LOG and MILLRACE_STORE.
    Show(Options),
    /// Check the configuration, and print all errors with file, line and column
    ///
    /// Says everything that `serve` would say before it opens the log or the store, so give the options that you give to
    /// `serve`. For its `--log` and `--store`, set MILLRACE_LOG and MILLRACE_STORE: here, `--store` has no value. The
    /// exit code is 8 if there are errors. Warnings do not change it.
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
    format: JsonDocument,
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
    if options.format.json {
        let body = json!({
            "file": &checked.file,
            "presets": presets(&checked),
            "fromVariables": checked.legacy_env.decisions(),
            "configuration": effective_settings(checked.file.as_deref(), &checked.overrides),
        });
        return print(&body.to_string());
    }
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
    let checked = command.options.checked();
    if command.options.format.json {
        return check_as_json(command, checked);
    }
    let checked = checked?;
    for warning in warnings(&checked) {
        eprintln!("warning: {warning}");
    }
    for decision in checked.legacy_env.decisions() {
        eprintln!("{decision}");
    }
    eprintln!("the configuration is valid ({})", description(&checked));
    if command.store { print_store(&look_at_store(&checked, &command.data)?) } else { Ok(()) }
}

/// Prints the outcome as one object. The errors are also on stderr, as without `--json`.
fn check_as_json(command: &CheckOptions, checked: Result<CheckedConfig, Failure>) -> Result<(), Failure> {
    let checked = match checked {
        Ok(checked) => checked,
        Err(Failure::Configuration(errors)) => {
            let file = user_file(command.options.server.config.clone());
            let list: Vec<Value> = errors.iter().map(error_as_json).collect();
            let body = json!({ "valid": false, "file": file, "errors": list });
            // The exit code tells of errors even if nobody reads them.
            drop(print(&body.to_string()));
            return Err(Failure::Configuration(errors));
        }
        Err(failure) => return Err(failure),
    };
    let found = if command.store { Some(look_at_store(&checked, &command.data)?) } else { None };
    let body = json!({
        "valid": true,
        "file": &checked.file,
        "presets": presets(&checked),
        "errors": [],
        "warnings": warnings(&checked),
        "fromVariables": checked.legacy_env.decisions(),
        "store": found.as_ref().map(store_as_json),
    });
    let printed = print(&body.to_string());
    found.as_ref().map_or(Ok(()), store_verdict).and(printed)
}

fn error_as_json(error: &ConfigError) -> Value {
    let location = &error.location;
    // An option or a variable has no lines.
    let (line, column) = match location.line {
        0 => (None, None),
        line => (Some(line), Some(location.column)),
    };
    json!({ "file": location.file, "line": line, "column": column, "reason": error.reason })
}

fn store_as_json(found: &StoreInspection) -> Value {
    let faults = found.faults.iter().map(|(view, fault)| {
        json!({ "view": view, "table": fault.table, "problems": fault.problems, "repair": fault.repair })
    });
    let faults: Vec<Value> = faults.collect();
    json!({ "name": found.name, "exists": found.exists, "warnings": found.warnings, "faults": faults })
}

/// Looks at the database without a change to it.
fn look_at_store(checked: &CheckedConfig, data: &Path) -> Result<StoreInspection, Failure> {
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(inspect_store(&checked.config, data)).map_err(|error| match error {
        OpenError::Unreachable { .. } => Failure::Unreachable(error.to_string()),
        error => Failure::Failed(error.to_string()),
    })
}

/// Prints everything because of which a view cannot use its tables.
fn print_store(found: &StoreInspection) -> Result<(), Failure> {
    for warning in &found.warnings {
        eprintln!("warning: {}", printable_lines(warning));
    }
    for (view, fault) in &found.faults {
        print(&format!("view `{view}`: {}", printable_lines(&fault.to_string())))?;
    }
    match (found.exists, found.faults.is_empty()) {
        (false, _) => eprintln!("the database does not exist yet: {}", found.name),
        (true, true) => eprintln!("the database can be used: {}", found.name),
        (true, false) => {}
    }
    store_verdict(found)
}

fn store_verdict(found: &StoreInspection) -> Result<(), Failure> {
    if found.faults.is_empty() {
        return Ok(());
    }
    let tables = counted(found.faults.len() as u64, "table");
    let are = if found.faults.len() == 1 { "it is" } else { "they are" };
    Err(Failure::Different(format!("{tables} in {} cannot be used as {are}", found.name)))
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

/// Returns the warnings, and why variables that are set are not used.
fn warnings(checked: &CheckedConfig) -> Vec<&String> {
    checked.warnings.iter().chain(&checked.legacy_env.unusable).collect()
}

fn presets(checked: &CheckedConfig) -> Vec<&'static str> {
    checked.config.presets.iter().map(|preset| preset.name).collect()
}

/// Returns the file and the presets, for people.
fn description(checked: &CheckedConfig) -> String {
    let presets = presets(checked);
    let presets = if presets.is_empty() { "none".to_owned() } else { presets.join(", ") };
    let file = checked.file.as_deref().map(Path::display);
    let file = file.map_or("no configuration file".to_owned(), |file| file.to_string());
    format!("{file}; presets: {presets}")
}
