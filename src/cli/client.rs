//! HTTP client of the commands: requests with the key, and errors as one line that says what to do.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::exit::Failure;

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

impl Client {
    pub fn new(http: reqwest::Client, url: String, key: Option<String>) -> Self {
        Self { http, url, key }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

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
        let kind = match message.as_str() {
            _ if message.starts_with("there is no view") => "views",
            _ if message.starts_with("there is no stream") => "streams",
            _ => return Err(Failure::NotFound(message)),
        };
        let listed = self.get::<Value>(&format!("/v1/{kind}")).await.unwrap_or_default();
        let listed = listed[kind].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = listed.iter().filter_map(|one| one["name"].as_str()).collect();
        if names.is_empty() {
            return Err(Failure::NotFound(message));
        }
        Err(Failure::NotFound(format!("{message}; choose one of `{}`", names.join("`, `"))))
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

    /// Requests a body that may be too large for memory, or has no end. Fails if the server refuses.
    pub async fn open(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
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
        let reason = root_cause(error);
        if error.is_builder() {
            Failure::Failed(format!("`{}` is not a valid server URL: {reason}", self.url))
        } else if reason.contains("certificate") {
            Failure::Failed(format!(
                "the certificate of {} is not accepted: {reason}; if the system does not trust its issuer, name a PEM \
                 file with `--cacert`",
                self.url
            ))
        } else {
            Failure::Unreachable(format!(
                "no answer from {}: {reason}; start a server with `millrace serve`, or name another with `--url`",
                self.url
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
            401 if self.key_sent => {
                // The rest of the server's message says how to send a key, which this command does.
                let fault = message.split("; ").next().unwrap_or(&message);
                Err(Failure::NotAllowed(format!(
                    "{fault}; set another key with `--key` or MILLRACE_API_KEY, \
                     or name the server's data folder with `--data`"
                )))
            }
            401 => Err(Failure::NotAllowed(
                "the server requires a key; set it with `--key` or MILLRACE_API_KEY, \
                 or name the server's data folder with `--data`"
                    .to_owned(),
            )),
            403 => Err(Failure::NotAllowed(format!(
                "this key may not do that: {message}; `millrace key list` shows the scopes of each key, \
                 `millrace key add` creates a key"
            ))),
            404 if !has_message => {
                Err(Failure::NotFound(format!("{message}; check that `--url` names a millrace server")))
            }
            404 => Err(Failure::NotFound(message)),
            // The outcome is unknown. Lines of an upload and events with an id can be sent again safely.
            500 if self.is_problem("log-failed") => Err(Failure::Unreachable(message)),
            503 if self.is_problem("store-unusable") => Err(Failure::StoreUnusable(message)),
            408 | 429 | 502..=504 | 507 => Err(Failure::Unreachable(message)),
            _ => Err(Failure::Failed(message)),
        }
    }
}

/// Returns the innermost cause, which is the most specific one.
pub fn root_cause(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// Decodes a part of a response. `what` names it in the error.
pub fn decode<T: DeserializeOwned>(text: &RawValue, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text.get())
        .map_err(|error| Failure::Failed(format!("cannot decode {what} in the server's response: {error}")))
}

/// Percent-encodes a part of a path or of a query.
pub fn escaped(part: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    part.bytes().map(escape).collect()
}
