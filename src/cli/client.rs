//! HTTP client of the commands: server URL, key, and errors as one line that says what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::Failure;
use super::server_options::EnvFile;

const CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// The port of a server without other settings.
const PORT: u16 = 8000;

/// Options that select the server and the key.
#[derive(Args, Clone)]
#[command(next_help_heading = "Server")]
pub struct Server {
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
    #[command(flatten)]
    env_file: EnvFile,
}

pub struct Client {
    http: reqwest::Client,
    url: String,
    key: Option<String>,
}

/// The response of a server, with any status.
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// The body as JSON. Its numbers may be rounded.
    pub body: Value,
    /// The body as the server sent it.
    pub text: String,
    key_sent: bool,
}

impl Server {
    pub fn client(&self) -> Result<Client, Failure> {
        let from_file = || std::fs::read_to_string(self.data.join("api-key")).ok();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DURATION_MAX)
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
        Ok(Client { http, url, key: key.filter(|key| !key.is_empty()) })
    }
}

impl Client {
    /// Returns the decoded body. `T` has to hold numbers that must not be rounded as `RawValue`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(self.request(reqwest::Method::GET, path)).await?.read()
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, Failure> {
        let request = self.request(reqwest::Method::POST, path).header("content-type", "application/json");
        self.ask(request.body(body)).await?.read()
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(self.request(reqwest::Method::DELETE, path)).await?.read()
    }

    /// Adds the existing names to a failure about an unknown view or stream. Any other outcome stays as it is.
    pub async fn with_names<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let Err(Failure::NotFound(message)) = outcome else { return outcome };
        let field = match message.as_str() {
            _ if message.starts_with("there is no view") => "name",
            _ if message.starts_with("there is no stream") => "stream",
            _ => return Err(Failure::NotFound(message)),
        };
        let listed = self.get::<Value>("/v1/views").await.unwrap_or_default();
        let views = listed["views"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: BTreeSet<&str> = views.iter().filter_map(|view| view[field].as_str()).collect();
        if names.is_empty() {
            return Err(Failure::NotFound(message));
        }
        let names = Vec::from_iter(names).join("`, `");
        Err(Failure::NotFound(format!("{message}; choose one of `{names}`")))
    }

    /// Starts a request that contains the key.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request and returns the response, also a refusal. Fails if there is no response.
    pub async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.receive(response).await
    }

    /// Requests a body that may be too large for memory. Fails if the server refuses.
    pub async fn open(&self, path: &str) -> Result<reqwest::Response, Failure> {
        let request = self.request(reqwest::Method::GET, path);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            let refused = self.receive(response).await?.good();
            let other = || Failure::Failed("the server's response has an invalid status".to_owned());
            Err(refused.err().unwrap_or_else(other))
        }
    }

    /// Returns the failure for a response that broke off or did not arrive.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            Failure::Failed(format!("`{}` is not a valid server URL: {}", self.url, root(error)))
        } else {
            Failure::Unreachable(format!(
                "no answer from {}: {}; start a server with `millrace serve`, or name another with `--url`",
                self.url,
                root(error)
            ))
        }
    }

    async fn receive(&self, response: reqwest::Response) -> Result<Answer, Failure> {
        let status = response.status().as_u16();
        let seconds = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        let retry_after = seconds.map(Duration::from_secs);
        Ok(Answer { status, retry_after, body, text, key_sent: self.key.is_some() })
    }
}

impl Answer {
    /// Returns the body of a 2xx response. Fails with any other status.
    pub fn good(self) -> Result<Value, Failure> {
        self.checked().map(|answer| answer.body)
    }

    /// Like `good`, but decodes the text of the body, so that numbers keep all their digits.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let answer = self.checked()?;
        serde_json::from_str(&answer.text).map_err(|error| {
            Failure::Failed(format!("cannot decode the response: {error}; use a server of the same version"))
        })
    }

    /// Returns true if the response is a problem with this code.
    fn is_problem(&self, code: &str) -> bool {
        self.body["type"].as_str().is_some_and(|kind| kind.rsplit(':').next() == Some(code))
    }

    /// Fails if the status is not 2xx, with the message of the server if it sent one.
    fn checked(self) -> Result<Self, Failure> {
        let sent = self.body["detail"].as_str().or_else(|| self.body["error"].as_str());
        let has_message = sent.is_some();
        let message = sent.map_or_else(|| format!("the server answered {}", self.status), str::to_owned);
        match self.status {
            200..=299 => Ok(self),
            401 if self.key_sent => Err(Failure::NotAllowed(
                "the server does not know this key; set another with `--key` or MILLRACE_API_KEY, \
                 or name the server's data folder with `--data`"
                    .to_owned(),
            )),
            401 => Err(Failure::NotAllowed(
                "the server requires a key; set it with `--key` or MILLRACE_API_KEY, \
                 or name the server's data folder with `--data`"
                    .to_owned(),
            )),
            403 => Err(Failure::NotAllowed(
                "this key may not do that; `millrace keys list` shows the scopes of each key, \
                 `millrace keys add` creates a key"
                    .to_owned(),
            )),
            404 if !has_message => {
                Err(Failure::NotFound(format!("{message}; check that `--url` names a millrace server")))
            }
            404 => Err(Failure::NotFound(message)),
            // The outcome is unknown. Lines of an upload and events with an id can be sent again safely.
            500 if self.is_problem("log-failed") => Err(Failure::Unreachable(message)),
            408 | 429 | 502..=504 | 507 => Err(Failure::Unreachable(message)),
            _ => Err(Failure::Failed(message)),
        }
    }
}

/// Returns the innermost cause, which is the most specific one.
fn root(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

fn url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("expected a URL such as http://localhost:8000".to_owned()),
    }
}

/// Percent-encodes a part of a path or of a query.
pub fn escaped(part: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    part.bytes().map(escape).collect()
}
