//! The commands' way to a server: its URL, a key, and errors in one line that say what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::Failure;
use crate::config::LegacyEnv;

const CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// Where a server listens that is not told otherwise.
const PORT: u16 = 8000;

/// Which server, and by which key.
#[derive(Args, Clone)]
#[command(next_help_heading = "Server")]
pub struct Server {
    /// The server [default: http://localhost:8000, or the PORT of the environment or a .env file]
    #[arg(long, global = true, env = "MILLRACE_URL", value_name = "URL", value_parser = url)]
    url: Option<String>,
    /// The key to show [default: the one in the data folder, or, without a URL, the API_KEY of the environment
    /// or a .env file]
    #[arg(
        long = "key",
        id = "key-to-show",
        global = true,
        env = "MILLRACE_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    key: Option<String>,
    /// Data folder to take the key from, if this machine is the server's
    #[arg(long, global = true, env = "MILLRACE_DATA", value_name = "DIR", default_value = "data")]
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
    /// For looking at; its numbers may be rounded. `text` is what was said.
    pub body: Value,
    pub text: String,
    key_shown: bool,
}

impl Server {
    pub fn client(&self) -> Result<Client, Failure> {
        let from_file = || std::fs::read_to_string(self.data.join("api-key")).ok();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DURATION_MAX)
            .build()
            .map_err(|error| Failure::Failed(format!("no HTTP client can be made: {error}")))?;
        let (url, originals_key) = match &self.url {
            Some(url) => (url.clone(), None),
            // As the server here was told. The key is for no other.
            None => {
                let legacy_env = LegacyEnv::here().map_err(Failure::Failed)?;
                let port = legacy_env.port.unwrap_or(PORT);
                (format!("http://localhost:{port}"), legacy_env.api_key)
            }
        };
        let key = self.key.clone().or_else(from_file).or(originals_key).map(|key| key.trim().to_owned());
        Ok(Client { http, url, key: key.filter(|key| !key.is_empty()) })
    }
}

impl Client {
    /// `T` holds numbers that must not be rounded as `RawValue`.
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

    /// What was said of an unknown view or stream, with the names that there are.
    pub async fn with_names(&self, failure: Failure) -> Failure {
        let Failure::NotFound(said) = failure else { return failure };
        let field = match said.as_str() {
            _ if said.starts_with("there is no view") => "name",
            _ if said.starts_with("there is no stream") => "stream",
            _ => return Failure::NotFound(said),
        };
        let listed = self.get::<Value>("/v1/views").await.unwrap_or_default();
        let views = listed["views"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: BTreeSet<&str> = views.iter().filter_map(|view| view[field].as_str()).collect();
        match names.is_empty() {
            true => Failure::NotFound(said),
            false => {
                let names = Vec::from_iter(names).join("`, `");
                Failure::NotFound(format!("{said}; there is `{names}`"))
            }
        }
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
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.whole(response).await
    }

    /// Asks for what is too large to be held; a refusal is a failure.
    pub async fn open(&self, path: &str) -> Result<reqwest::Response, Failure> {
        let request = self.request(reqwest::Method::GET, path);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        match response.status().is_success() {
            true => Ok(response),
            false => {
                let refused = self.whole(response).await?.good();
                Err(refused.err().unwrap_or(Failure::Failed("the server's answer is none".to_owned())))
            }
        }
    }

    /// An answer that broke off, or never came.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        match error.is_builder() {
            // Trying again would not help a URL that is none.
            true => Failure::Failed(format!("`{}` is no URL of a server: {}", self.url, root(error))),
            false => Failure::Unreachable(format!(
                "no answer from {}: {}; is it running? `millrace serve` starts one, `--url` names another",
                self.url,
                root(error)
            )),
        }
    }

    async fn whole(&self, response: reqwest::Response) -> Result<Answer, Failure> {
        let status = response.status().as_u16();
        let seconds = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        let retry_after = seconds.map(Duration::from_secs);
        Ok(Answer { status, retry_after, body, text, key_shown: self.key.is_some() })
    }
}

impl Answer {
    /// The body of a 2xx; anything else as the failure it is.
    pub fn good(self) -> Result<Value, Failure> {
        self.checked().map(|answer| answer.body)
    }

    /// The same, out of the text as it was said.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let answer = self.checked()?;
        serde_json::from_str(&answer.text).map_err(|error| {
            Failure::Failed(format!("the answer is not what a millrace of this version says: {error}"))
        })
    }

    fn is(&self, code: &str) -> bool {
        self.body["type"].as_str().is_some_and(|kind| kind.rsplit(':').next() == Some(code))
    }

    fn checked(self) -> Result<Self, Failure> {
        let said = self.body["detail"].as_str().or_else(|| self.body["error"].as_str());
        let known = said.is_some();
        let said = said.map_or_else(|| format!("the server answered {}", self.status), str::to_owned);
        match self.status {
            200..=299 => Ok(self),
            401 if self.key_shown => Err(Failure::NotAllowed(
                "the server does not know this key; say another with `--key` or MILLRACE_API_KEY, or with `--data` where the server's data folder is".to_owned(),
            )),
            401 => Err(Failure::NotAllowed(
                "the server asks for a key; say `--key` or MILLRACE_API_KEY, or with `--data` where the server's data folder is".to_owned(),
            )),
            403 => Err(Failure::NotAllowed(
                "this key may not do that; `millrace keys list` shows what each may, `millrace keys add` makes another".to_owned(),
            )),
            404 if !known => Err(Failure::NotFound(format!("{said}: is this a millrace server?"))),
            404 => Err(Failure::NotFound(said)),
            // Lines of a source and events with an id may be sent again, whatever became of them.
            500 if self.is("log-failed") => Err(Failure::Unreachable(said)),
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

fn url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("it has to be like http://localhost:8000".to_owned()),
    }
}

/// One part of a path, whatever it is made of.
pub fn escaped(part: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    part.bytes().map(escape).collect()
}
