//! Requests to the server. Each is repeated until it is answered. A chunk has a name, so a repeated chunk counts
//! nothing twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event::limits::{ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX};
use event::{Backoff, Stop};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::lines::Chunk;
use super::progress::Progress;
use super::resume::Run;
use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::counted;

/// How long a response may take before the request is repeated.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(120);
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// How long a pending request may still take after a stop signal.
const STOP_DURATION_MAX: Duration = Duration::from_secs(5);

/// The stream and the name of an upload.
#[derive(Clone, Debug)]
pub struct UploadName {
    pub stream: String,
    pub name: String,
}

pub struct Uploader {
    pub client: Client,
    /// The stream that the lines were exported from, if they are an export.
    pub exported: Option<String>,
    pub give_up_after: Option<Duration>,
    pub stop: Stop,
}

/// The server's response to a chunk.
#[derive(Debug, Default, Deserialize)]
pub struct Receipt {
    pub accepted: u64,
    refused: u64,
    #[serde(default)]
    errors: Vec<LineFault>,
}

#[derive(Debug, Deserialize)]
struct LineFault {
    line: u64,
    field: String,
    reason: String,
}

#[derive(Deserialize)]
struct StreamList {
    streams: Vec<StreamName>,
}

#[derive(Deserialize)]
struct StreamName {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KnownRun {
    first_line: u64,
    lines: u64,
    hash: String,
}

#[derive(Deserialize)]
struct RunsPage {
    runs: Vec<KnownRun>,
    more: bool,
}

impl Uploader {
    /// Returns the maximum length of a line that the server accepts.
    pub fn line_bytes_max(&self) -> usize {
        EVENT_BYTES_MAX + if self.exported.is_some() { ENVELOPE_BYTES_MAX } else { 0 }
    }

    /// Sends a chunk of an upload. When this returns, the accepted lines are on stable storage. With `check_only`,
    /// nothing is stored, and the receipt is the one that the server would give. A blank chunk is not sent.
    pub async fn send(
        &self,
        upload: &UploadName,
        chunk: &Chunk,
        check_only: bool,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        if chunk.is_blank() {
            return Ok(Receipt::default());
        }
        let check = if check_only { "&check=only" } else { "" };
        let exported = self.exported.as_deref().map(escaped);
        let exported = exported.map(|stream| format!("&exported={stream}")).unwrap_or_default();
        let path = format!("/v1/streams/{}/events?partial=true{check}{exported}", escaped(&upload.stream));
        let request = || {
            self.client
                .request(Method::POST, &path)
                .header("content-type", "application/x-ndjson")
                .header("millrace-upload", &upload.name)
                .header("millrace-first-line", chunk.first)
                .body(chunk.bytes.clone())
        };
        let receipt: Receipt = decode(self.retry_until_answered(request, progress).await?)?;
        if receipt.refused().len() as u64 == receipt.refused {
            Ok(receipt)
        } else {
            Err(Failure::Failed(format!(
                "the server refused {}, but listed only {} of them",
                counted(receipt.refused, "line"),
                receipt.refused().len()
            )))
        }
    }

    /// Returns the runs of an upload from a line on, in order, and true if there may be more.
    pub async fn runs(
        &self,
        upload: &UploadName,
        from_line: u64,
        progress: &Progress,
    ) -> Result<(Vec<Run>, bool), Failure> {
        let UploadName { stream, name } = upload;
        let path = format!("/v1/streams/{}/uploads/{name}?from_line={from_line}", escaped(stream));
        let page: RunsPage =
            decode(self.retry_until_answered(|| self.client.request(Method::GET, &path), progress).await?)?;
        let run = |known: KnownRun| {
            let number = u64::from_str_radix(&known.hash, 16).ok().filter(|_| known.hash.len() == 16);
            let hash = number.ok_or_else(|| unexpected(&format!("`{}` is not a hash", known.hash)))?;
            Ok(Run { first: known.first_line, lines: known.lines, hash: hash.to_be_bytes() })
        };
        Ok((page.runs.into_iter().map(run).collect::<Result<_, Failure>>()?, page.more))
    }

    /// Returns the names of the streams that this key may use.
    pub async fn streams(&self, progress: &Progress) -> Result<Vec<String>, Failure> {
        let request = || self.client.request(Method::GET, "/v1/streams");
        let listed: StreamList = decode(self.retry_until_answered(request, progress).await?)?;
        Ok(listed.streams.into_iter().map(|stream| stream.name).collect())
    }

    /// Returns the event of this id, if the server has it and this key may read it.
    pub async fn event(&self, id: &str, progress: &Progress) -> Result<Option<Value>, Failure> {
        let path = format!("/v1/events/{}", escaped(id));
        match self.retry_until_answered(|| self.client.request(Method::GET, &path), progress).await {
            Err(Failure::NotFound(_) | Failure::NotAllowed(_)) => Ok(None),
            event => event.map(Some),
        }
    }

    /// Repeats a request until the server answers, and another attempt would not change the answer.
    async fn retry_until_answered(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        progress: &Progress,
    ) -> Result<Value, Failure> {
        let (begun, mut retrying) = (Instant::now(), false);
        let mut backoff = Backoff::new(DELAY_MIN, DELAY_MAX);
        loop {
            let stopped = async {
                self.stop.wait().await;
                tokio::time::sleep(STOP_DURATION_MAX).await;
            };
            let answer = tokio::select! {
                answer = self.client.ask(request().timeout(ANSWER_DURATION_MAX)) => answer,
                () = stopped => {
                    let reason = "stopped before the server answered; run the command again to send the rest";
                    return Err(Failure::Unreachable(reason.to_owned()));
                }
            };
            let (reason, retry_after) = match answer.map(|answer| (answer.retry_after, answer.good())) {
                Ok((_, Ok(body))) => {
                    if retrying {
                        progress.note("the server answers again");
                    }
                    return Ok(body);
                }
                Ok((retry_after, Err(Failure::Unreachable(reason) | Failure::StoreUnusable(reason)))) => {
                    (reason, retry_after)
                }
                Err(Failure::Unreachable(reason)) => (reason, None),
                Ok((_, Err(failure))) | Err(failure) => return Err(failure),
            };
            let pause = backoff.pause_with_jitter(random_fraction()).max(retry_after.unwrap_or_default());
            if self.give_up_after.is_some_and(|limit| begun.elapsed() + pause > limit) {
                return Err(Failure::Unreachable(format!("gave up: {reason}")));
            }
            if !retrying {
                progress.note(&format!("{reason}; retrying until it answers"));
            }
            retrying = true;
            if self.stop.within(pause).await {
                return Err(Failure::Unreachable(reason));
            }
        }
    }
}

impl Receipt {
    /// Returns the refused lines by number, each with all its faults as one reason.
    pub fn refused(&self) -> BTreeMap<u64, String> {
        let mut lines: BTreeMap<u64, String> = BTreeMap::new();
        for LineFault { line, field, reason } in &self.errors {
            let text = lines.entry(*line).or_default();
            let separator = if text.is_empty() { "" } else { "; " };
            let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
            text.push_str(&format!("{separator}{field}{reason}"));
        }
        lines
    }
}

/// Returns a random number between 0 and 1.
fn random_fraction() -> f64 {
    let random = getrandom::u32().unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

fn decode<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body).map_err(|error| unexpected(&error.to_string()))
}

fn unexpected(what: &str) -> Failure {
    Failure::Failed(format!(
        "unexpected response: {what}; check that `--url` names a millrace server of this version"
    ))
}
