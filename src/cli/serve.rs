//! `millrace serve`: the server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use event::limits::BLOCKING_THREADS_MAX;
use rustix::fs::Mode;

use super::exit::{Failure, ended};
use crate::config::{Config, LegacyEnv, Overrides, user_file};
use crate::server::{self, Settings};
use crate::telemetry::{LogFormat, end_with_a_panic, start_logging};

#[derive(Args)]
pub struct Serve {
    /// Folder for all that this node keeps; made if it is not there
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Configuration, laid over the built-in one [default: millrace.toml, if it is there]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, such as localhost:8000; may be repeated
    #[arg(long, env = "MILLRACE_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    listen: Vec<String>,
    /// Where events are kept: `journal:` is the data folder
    #[arg(long, env = "MILLRACE_LOG", value_name = "URL")]
    log: Option<String>,
    /// The database of the views: `sqlite:` is the data folder, `sqlite:PATH` any file,
    /// `postgres://USER@HOST/NAME` and `mysql://USER@HOST/NAME` are servers; a password is best kept out of
    /// the URL, in MILLRACE_STORE_PASSWORD or in the `password_file` of `[store]`
    #[arg(long, env = "MILLRACE_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
    /// Open every door, ask for no key; on loopback only
    #[arg(long)]
    dev: bool,
    /// A proxy with TLS stands before this server, so that it may listen beyond loopback
    #[arg(long)]
    behind_proxy: bool,
    /// Start although the store knows another log, which is gone or elsewhere, or lacks what retention gave up of
    /// this one
    #[arg(long)]
    accept_new_log: bool,
    /// Form of log lines
    #[arg(long, env = "MILLRACE_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Least level of log lines: error, warn, info, debug or trace
    #[arg(long, env = "MILLRACE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

pub fn run(command: Serve) -> ExitCode {
    start_logging(command.log_format, command.log_level);
    end_with_a_panic();
    // Whatever the folder's own mode is, what is in the log and the store is its owner's alone.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    ended(serve(command).map_err(|error| Failure::Failed(error.to_string())))
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
        original_store_url: legacy_env.store_url.clone(),
        original_password_in: legacy_env.password_in(),
    };
    if let Some(port) = legacy_env.port {
        overrides.listen.push(format!("localhost:{port}"));
    }
    let config = Config::load(user_file(command.config).as_deref(), &overrides)?;
    if legacy_env.store_url.as_ref().is_none_or(|url| url.as_ref() != Ok(&config.store.url)) {
        legacy_env.leave_store();
    }
    let settings = Settings {
        data: command.data,
        config,
        legacy_env,
        dev: command.dev,
        behind_proxy: command.behind_proxy,
        accept_new_log: command.accept_new_log,
        welcome: command.log_format == LogFormat::Text,
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()?;
    runtime.block_on(server::run(settings))?;
    Ok(())
}
