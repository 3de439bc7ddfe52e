//! The options of every command that talks to a server: its URL, its certificate, and the key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::Certificate;

use super::client::Client;
use super::config_options::EnvFile;
use super::exit::Failure;

const CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// The port of a server without other settings.
const PORT: u16 = 8000;

#[derive(Args, Clone)]
#[command(next_help_heading = "Server")]
pub struct ClientOptions {
    /// URL of the server [default: http://localhost:8000; PORT or API_PORT in the environment or in a .env file replaces 8000]
    #[arg(long, global = true, env = "MILLRACE_URL", value_name = "URL", value_parser = url)]
    url: Option<String>,
    /// API key [default: the file api-key in the data folder, or, if no URL is given, API_KEY in the environment or
    /// in a .env file]
    #[arg(
        long = "key",
        id = "key-to-show",
        global = true,
        env = "MILLRACE_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    key: Option<String>,
    /// Data folder to read the key from, if the server runs on this machine
    #[arg(long, global = true, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// PEM file with the certificates to trust, instead of those that the system trusts
    #[arg(long, global = true, env = "MILLRACE_CACERT", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Accept any certificate of the server; somebody on the way can then read the key and the events
    #[arg(long, global = true)]
    insecure: bool,
    #[command(flatten)]
    env_file: EnvFile,
}

impl ClientOptions {
    pub fn client(&self) -> Result<Client, Failure> {
        let from_file = || std::fs::read_to_string(self.data.join("api-key")).ok();
        let mut http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DURATION_MAX);
        if self.insecure {
            http = http.tls_danger_accept_invalid_certs(true);
        } else if let Some(path) = &self.cacert {
            http = http.tls_certs_only(certificates(path)?);
        }
        let http = http
            .build()
            .map_err(|error| Failure::Failed(format!("cannot create an HTTP client: {error}")))?;
        let (url, legacy_key) = match &self.url {
            Some(url) => (url.clone(), None),
            // The server on this machine reads the same settings. Its key must not be sent to another server.
            None => {
                let legacy_env = self.env_file.legacy_env()?;
                let port = legacy_env.port.unwrap_or(PORT);
                (format!("http://localhost:{port}"), legacy_env.api_key)
            }
        };
        let key = self.key.clone().or_else(from_file).or(legacy_key).map(|key| key.trim().to_owned());
        Ok(Client::new(http, url, key.filter(|key| !key.is_empty())))
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let failed = |reason: String| Failure::Failed(format!("`--cacert {}`: {reason}", path.display()));
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(failed("the file contains no PEM certificate".to_owned())),
    }
}

fn url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("expected a URL such as http://localhost:8000".to_owned()),
    }
}
