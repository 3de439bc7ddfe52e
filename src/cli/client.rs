//! The commands' way to a server: its URL, a key, and errors in one line that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::exit::Failure;

const CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);

/// Which server, and by which key.
#[derive(Args, Clone)]
pub struct Server {
    /// The server
    #[arg(long, env = "MILLRACE_URL", value_name = "URL", default_value = "http://localhost:8000")]
    url: String,
    /// The key to show [default: the one in the data folder]
    #[arg(long, env = "MILLRACE_API_KEY", value_name = "KEY", hide_env_values = true)]
    key: Option<String>,
    /// Data folder to take the key from
    #[arg(long, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

pub struct Client {
    http: reqwest::Client,
    url: String,
    key: Option<String>,
}

/// What a server answered, whatever its status.
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Value,
}

impl Server {
    pub fn client(&self) -> Result<Client, Failure> {
        let from_file =
            || std::fs::read_to_string(self.data.join("api-key")).ok().map(|key| key.trim().to_owned());
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DURATION_MAX)
            .build()
            .map_err(|error| Failure::Failed(format!("no HTTP client can be made: {error}")))?;
        let url = self.url.trim_end_matches('/').to_owned();
        Ok(Client { http, url, key: self.key.clone().or_else(from_file) })
    }
}

impl Client {
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(self.request(reqwest::Method::GET, path)).await?.good()
    }

    pub async fn post(&self, path: &str, body: String) -> Result<Value, Failure> {
        let request = self.request(reqwest::Method::POST, path).header("content-type", "application/json");
        self.ask(request.body(body)).await?.good()
    }

    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(self.request(reqwest::Method::DELETE, path)).await?.good()
    }

    /// A request to be added to, which already shows the key.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request. No answer at all is a failure; a refusal is an answer.
    pub async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let unreachable = |error: reqwest::Error| match error.is_builder() {
            // Trying again would not help a URL that is none.
            true => Failure::Failed(format!("`{}` is no URL of a server: {}", self.url, root(&error))),
            false => Failure::Unreachable(format!(
                "no answer from {}: {}; is it running? `millrace serve` starts one",
                self.url,
                root(&error)
            )),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let seconds = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let text = response.text().await.map_err(unreachable)?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, retry_after: seconds.map(Duration::from_secs), body })
    }
}

impl Answer {
    /// The body of a 2xx; anything else as the failure it is.
    pub fn good(self) -> Result<Value, Failure> {
        let said = self.body["detail"].as_str().or_else(|| self.body["error"].as_str());
        let said = said.map_or_else(|| format!("the server answered {}", self.status), str::to_owned);
        match self.status {
            200..=299 => Ok(self.body),
            401 | 403 => Err(Failure::NotAllowed(format!(
                "{said}: no key, or one that may not do this; say `--key`, MILLRACE_API_KEY, or `--data` with the server's data folder"
            ))),
            404 => Err(Failure::NotFound(said)),
            408 | 429 | 502..=504 | 507 => Err(Failure::Unreachable(said)),
            _ => Err(Failure::Failed(said)),
        }
    }
}

/// The innermost reason, which is the one that helps.
fn root(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// One part of a path, whatever it is made of.
pub fn escaped(part: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    part.bytes().map(escape).collect()
}
