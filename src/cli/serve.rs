//! `millrace serve`: runs the server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use event::limits::BLOCKING_THREADS_MAX;
use rustix::fs::Mode;

use super::config_options::ConfigOptions;
use super::exit::{Failure, exit_code};
use crate::server::{self, Settings};
use crate::telemetry::{LogFormat, abort_on_panic, start_logging};

#[derive(Args)]
pub struct Serve {
    /// Data folder; created if it does not exist
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(flatten)]
    options: ConfigOptions,
    /// Storage of the log; `journal:` is the data folder [default: `[log]` in the configuration, or journal:]
    #[arg(long, env = "MILLRACE_LOG", value_name = "URL")]
    log: Option<String>,
    /// Database for the views: `sqlite:` (a file in the data folder), `sqlite:PATH`, `postgres://USER@HOST/NAME` or
    /// `mysql://USER@HOST/NAME`. Set a password in MILLRACE_STORE_PASSWORD or with `password_file` under `[store]`,
    /// not in the URL [default: `[store]` in the configuration, or sqlite:]
    #[arg(long, env = "MILLRACE_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
    /// Start even if the store was filled from another log, or lacks events that retention deleted from this log
    #[arg(long)]
    accept_new_log: bool,
    /// Format of the program log on stderr
    #[arg(long, env = "MILLRACE_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Least severe level in the program log: error, warn, info, debug or trace
    #[arg(long, env = "MILLRACE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

pub fn run(command: Serve) -> ExitCode {
    start_logging(command.log_format, command.log_level);
    abort_on_panic();
    // Only the owner may read the files of the log and the store, whatever the mode of the folder is.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    exit_code(serve(command))
}

fn serve(command: Serve) -> Result<(), Failure> {
    let checked = command.options.check(command.log, command.store)?;
    let (mut config, legacy_env) = (checked.config, checked.legacy_env);
    config.allow_origins(&legacy_env.origins, command.options.dev);
    let settings = Settings {
        data: command.data,
        config,
        legacy_env,
        warnings: checked.warnings,
        dev: command.options.dev,
        accept_new_log: command.accept_new_log,
        welcome: command.log_format == LogFormat::Text,
    };
    run_server(settings).map_err(|error| Failure::Failed(error.to_string()))
}

fn run_server(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    server::address_space();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()?;
    runtime.block_on(server::run(settings))?;
    Ok(())
}
