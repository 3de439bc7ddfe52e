//! `millrace event take-back`: sends a correction that undoes an event.

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::show::Receipt;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
#[command(
    after_help = "Example:\n  millrace event take-back order-7 --stream revenue --reason 'cancelled by the customer'"
)]
pub struct TakeBack {
    /// Id of the event, as the server returned it in `eventId`; with --stream, also the id that the sender gave it
    id: String,
    /// Stream of the event [default: the stream that the event's receipt names]
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Why the event is undone; stored with the correction
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    event_id: String,
    applied: bool,
    #[serde(default)]
    dead_letters: Vec<DeadLetter>,
}

/// A view that could not apply the correction.
#[derive(Deserialize)]
struct DeadLetter {
    view: String,
    reason: String,
}

impl TakeBack {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let id = &self.id;
        let stream = match &self.stream {
            Some(stream) => stream.clone(),
            None => {
                let (_, receipt) = Receipt::get(client, id).await?;
                if let Some(correction) = receipt.taken_back_by {
                    let reason = format!("event {id} was undone before, by correction {correction}");
                    return Err(Failure::Failed(reason));
                }
                receipt.stream
            }
        };
        let mut correction = json!({ "takesBack": id });
        if let Some(reason) = &self.reason {
            correction["reason"] = json!(reason);
        }
        let path = format!("/v1/streams/{}/events?wait=applied", escaped(&stream));
        let answer = client.post(&path, correction.to_string()).await;
        let response: Box<RawValue> = answer.map_err(|failure| match failure {
            Failure::Failed(reason) => {
                let reason = reason.strip_prefix("takesBack: ").unwrap_or(&reason);
                Failure::Failed(format!("`{id}` cannot be undone in stream `{stream}`: {reason}"))
            }
            failure => failure,
        })?;
        let Accepted { event_id, applied, dead_letters } = decode(&response, "the answer")?;
        if self.format.json {
            print(response.get())?;
        }
        if let Some(DeadLetter { view, reason }) = dead_letters.first() {
            let reason =
                format!("correction {event_id} is stored, but view `{view}` could not apply it: {reason}");
            return Err(Failure::Refused(reason));
        }
        if self.format.json {
            Ok(())
        } else if applied {
            print(&format!("event {id} is undone; the correction {event_id} is stored"))
        } else {
            print(&format!(
                "correction {event_id} is stored, but not every view has undone event {id} yet; see `millrace status`"
            ))
        }
    }
}
