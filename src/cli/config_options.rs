//! The options and variables that decide the configuration of a server. `serve` and `config` read the same.

use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
use crate::config::{Config, LegacyEnv, Loaded, Overrides, user_file};
use crate::server::{Exposure, check_config};

#[derive(Args, Clone)]
pub struct ConfigOptions {
    /// Configuration file [default: millrace.toml in the working directory, if it exists]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on; may be repeated [default: `listen` in the configuration, or localhost:8000]
    #[arg(long, env = "MILLRACE_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    listen: Vec<String>,
    /// Require no keys, for development; only loopback addresses are allowed then
    #[arg(long)]
    pub dev: bool,
    /// Allow addresses beyond loopback without TLS, because a proxy in front of this server provides it
    #[arg(long)]
    behind_proxy: bool,
    #[command(flatten)]
    env_file: EnvFile,
}

/// The option that turns off the `.env` file.
#[derive(Args, Clone, Copy)]
pub struct EnvFile {
    /// Do not read the file .env in the working directory
    #[arg(long, global = true)]
    no_env_file: bool,
}

impl EnvFile {
    /// Returns the settings of the replaced services, from the environment and the `.env` file.
    pub fn legacy_env(self) -> Result<LegacyEnv, Failure> {
        LegacyEnv::here(self.no_env_file).map_err(Failure::Failed)
    }
}

/// A configuration without errors.
pub struct CheckedConfig {
    pub file: Option<PathBuf>,
    pub config: Config,
    pub overrides: Overrides,
    /// The variables of the replaced services that have an effect.
    pub legacy_env: LegacyEnv,
    pub warnings: Vec<String>,
}

impl ConfigOptions {
    /// Loads and checks the configuration. `log_url` and `store_url` win over it.
    pub fn check(
        &self,
        log_url: Option<String>,
        store_url: Option<String>,
    ) -> Result<CheckedConfig, Failure> {
        let mut legacy_env = self.env_file.legacy_env()?;
        if !self.listen.is_empty() {
            legacy_env.leave_port("`--listen` or `MILLRACE_LISTEN`");
        }
        let store_password = std::env::var("MILLRACE_STORE_PASSWORD").ok();
        let overrides = Overrides {
            listen: self.listen.clone(),
            log_url,
            store_url,
            store_password: store_password.filter(|password| !password.is_empty()),
            legacy_env: legacy_env.clone(),
        };
        let file = user_file(self.config.clone());
        let loaded = Loaded::read(file.as_deref(), &overrides);
        let url = &loaded.config.store.url;
        if legacy_env.store_url.as_ref().is_none_or(|legacy| legacy.as_ref() != Ok(url)) {
            let winner =
                if overrides.store_url.is_some() { "`--store` or `MILLRACE_STORE`" } else { "`[store] url`" };
            legacy_env.leave_store(winner);
        }
        legacy_env.leave_batch_unless_used(&loaded.config);
        let exposure = Exposure { dev: self.dev, behind_proxy: self.behind_proxy };
        let checked = check_config(loaded, &legacy_env, exposure);
        let (config, warnings) = checked.map_err(Failure::Configuration)?;
        Ok(CheckedConfig { file, config, overrides, legacy_env, warnings })
    }
}
