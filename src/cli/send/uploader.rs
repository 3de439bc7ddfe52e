//! Requests to the server, each repeated until it is answered: a chunk has a name, so that sending it
//! once more counts nothing twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event::Stop;
use event::limits::{ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::lines::Chunk;
use super::progress::Progress;
use super::resume::Run;
use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;

/// A server that has accepted a request and says nothing for this long is asked again.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(120);
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// What is under way when the order to stop comes may still be answered.
const STOP_DURATION_MAX: Duration = Duration::from_secs(5);

pub struct Uploader {
    pub client: Client,
    pub stream: String,
    /// The lines are those of an export of this stream.
    pub exported: Option<String>,
    pub give_up_after: Option<Duration>,
    pub stop: Stop,
}

/// What a server says to a chunk that it took.
#[derive(Debug, Deserialize)]
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
    /// What the server takes of a line.
    pub fn line_bytes_max(&self) -> usize {
        EVENT_BYTES_MAX + if self.exported.is_some() { ENVELOPE_BYTES_MAX } else { 0 }
    }

    /// Brings a chunk of `source` to the server; the answer says that it is on stable storage.
    pub async fn send(&self, upload: &str, chunk: &Chunk, progress: &Progress) -> Result<Receipt, Failure> {
        self.chunk(upload, chunk, "?partial=true", progress).await
    }

    /// What the server would say to a chunk, without sending it.
    pub async fn check(&self, upload: &str, chunk: &Chunk, progress: &Progress) -> Result<Receipt, Failure> {
        self.chunk(upload, chunk, "?partial=true&check=only", progress).await
    }

    async fn chunk(
        &self,
        upload: &str,
        chunk: &Chunk,
        query: &str,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        let exported = self.exported.as_deref().map(escaped);
        let exported = exported.map(|stream| format!("&exported={stream}")).unwrap_or_default();
        let path = format!("/v1/streams/{}/events{query}{exported}", escaped(&self.stream));
        let request = || {
            self.client
                .request(Method::POST, &path)
                .header("content-type", "application/x-ndjson")
                .header("millrace-upload", upload)
                .header("millrace-first-line", chunk.first)
                .body(chunk.bytes.clone())
        };
        let receipt: Receipt = understood(self.insist(request, progress).await?)?;
        match receipt.refused().len() as u64 == receipt.refused {
            true => Ok(receipt),
            false => Err(Failure::Failed(format!(
                "the server refused {} lines and listed {} of them",
                receipt.refused,
                receipt.refused().len()
            ))),
        }
    }

    /// The runs of a source from a line on, in order, and whether there may be more.
    pub async fn runs(
        &self,
        upload: &str,
        from_line: u64,
        progress: &Progress,
    ) -> Result<(Vec<Run>, bool), Failure> {
        let path = format!("/v1/streams/{}/uploads/{upload}?from_line={from_line}", escaped(&self.stream));
        let page: RunsPage =
            understood(self.insist(|| self.client.request(Method::GET, &path), progress).await?)?;
        let run = |known: KnownRun| {
            let number = u64::from_str_radix(&known.hash, 16).ok().filter(|_| known.hash.len() == 16);
            let hash = number.ok_or_else(|| strange(&format!("`{}` is no hash", known.hash)))?;
            Ok(Run { first: known.first_line, lines: known.lines, hash: hash.to_be_bytes() })
        };
        Ok((page.runs.into_iter().map(run).collect::<Result<_, Failure>>()?, page.more))
    }

    /// What the server has of an event, if it has it and this key may know.
    pub async fn event(&self, id: &str, progress: &Progress) -> Result<Option<Value>, Failure> {
        let path = format!("/v1/events/{}", escaped(id));
        match self.insist(|| self.client.request(Method::GET, &path), progress).await {
            Err(Failure::NotFound(_) | Failure::NotAllowed(_)) => Ok(None),
            event => event.map(Some),
        }
    }

    /// Asks until there is an answer that another try would not change.
    async fn insist(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        progress: &Progress,
    ) -> Result<Value, Failure> {
        let (begun, mut tries) = (Instant::now(), 0);
        loop {
            let stopped = async {
                self.stop.wait().await;
                tokio::time::sleep(STOP_DURATION_MAX).await;
            };
            let answer = tokio::select! {
                answer = self.client.ask(request().timeout(ANSWER_DURATION_MAX)) => answer,
                () = stopped => return Err(Failure::Unreachable("stopped before the server answered; the next run goes on from there".to_owned())),
            };
            let (reason, retry_after) = match answer.map(|answer| (answer.retry_after, answer.good())) {
                Ok((_, Ok(body))) => {
                    if tries > 0 {
                        progress.note("the server answers again");
                    }
                    return Ok(body);
                }
                Ok((retry_after, Err(Failure::Unreachable(reason)))) => (reason, retry_after),
                Err(Failure::Unreachable(reason)) => (reason, None),
                Ok((_, Err(failure))) | Err(failure) => return Err(failure),
            };
            let pause = delay(tries, chance()).max(retry_after.unwrap_or_default());
            if self.give_up_after.is_some_and(|patience| begun.elapsed() + pause > patience) {
                return Err(Failure::Unreachable(format!("given up: {reason}")));
            }
            if tries == 0 {
                progress.note(&format!("{reason}; trying again until it does"));
            }
            tries += 1;
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

/// Doubling up to a bound, half of it left to chance, so that many clients do not come back as one.
fn delay(tries: u32, chance: f64) -> Duration {
    let whole = DELAY_MIN.saturating_mul(1 << tries.min(16)).min(DELAY_MAX);
    whole.mul_f64(0.5 + chance / 2.0)
}

fn chance() -> f64 {
    let random = getrandom::u32().unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

fn understood<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body).map_err(|error| strange(&error.to_string()))
}

fn strange(what: &str) -> Failure {
    Failure::Failed(format!("the answer is not millrace's: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_are_spread() {
        assert_eq!((delay(0, 0.0), delay(0, 1.0)), (DELAY_MIN / 2, DELAY_MIN));
        assert_eq!((delay(3, 1.0), delay(40, 0.0)), (DELAY_MIN * 8, DELAY_MAX / 2));
    }
}
