//! `millrace serve`: runs the server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use event::limits::BLOCKING_THREADS_MAX;
use rustix::fs::Mode;

use super::exit::{Failure, exit_code};
use crate::config::{Config, LegacyEnv, Overrides, user_file};
use crate::server::{self, Settings};
use crate::telemetry::{LogFormat, abort_on_panic, start_logging};

#[derive(Args)]
pub struct Serve {
    /// Data folder; created if it does not exist
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Configuration file [default: millrace.toml in the working directory, if it exists]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; may be repeated [default: `listen` in the configuration, or localhost:8000]
    #[arg(long, env = "MILLRACE_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    listen: Vec<String>,
    /// Storage of the log; `journal:` is the data folder [default: `[log]` in the configuration, or journal:]
    #[arg(long, env = "MILLRACE_LOG", value_name = "URL")]
    log: Option<String>,
    /// Database for the views: `sqlite:` (a file in the data folder), `sqlite:PATH`, `postgres://USER@HOST/NAME` or
    /// `mysql://USER@HOST/NAME`. Set a password in MILLRACE_STORE_PASSWORD or with `password_file` under `[store]`,
    /// not in the URL [default: `[store]` in the configuration, or sqlite:]
    #[arg(long, env = "MILLRACE_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
    /// Require no keys, for development; only loopback addresses are allowed then
    #[arg(long)]
    dev: bool,
    /// Allow addresses beyond loopback without TLS, because a proxy in front of this server provides it
    #[arg(long)]
    behind_proxy: bool,
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
    exit_code(serve(command).map_err(|error| Failure::Failed(error.to_string())))
}

fn serve(command: Serve) -> Result<(), Box<dyn std::error::Error>> {
    let mut legacy_env = LegacyEnv::here()?;
    if !command.listen.is_empty() {
        legacy_env.leave_port();
    }
    let mut overrides = Overrides {
        listen: command.listen,
        log_url: command.log,
        store_url: command.store,
        store_password: std::env::var("MILLRACE_STORE_PASSWORD").ok().filter(|password| !password.is_empty()),
        legacy_store_url: legacy_env.store_url.clone(),
        legacy_password_in: legacy_env.password_in(),
    };
    if let Some(port) = legacy_env.port {
        overrides.listen.push(format!("localhost:{port}"));
    }
    let mut config = Config::load(user_file(command.config).as_deref(), &overrides)?;
    if legacy_env.store_url.as_ref().is_none_or(|url| url.as_ref() != Ok(&config.store.url)) {
        legacy_env.leave_store();
    }
    config.allow_origins(&legacy_env.origins, command.dev);
    let settings = Settings {
        data: command.data,
        config,
        legacy_env,
        dev: command.dev,
        behind_proxy: command.behind_proxy,
        accept_new_log: command.accept_new_log,
        welcome: command.log_format == LogFormat::Text,
    };
    server::address_space();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()?;
    runtime.block_on(server::run(settings))?;
    Ok(())
}
