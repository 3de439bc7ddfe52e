//! `millrace notification render`: shows what a view would send for an event.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, Output};
use crate::cli::printable::printable_lines;

#[derive(Args)]
pub struct Render {
    /// The view, of kind notifications
    view: String,
    /// File with an event, as a client would send it; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    format: JsonDocument,
}

impl Render {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let read = if self.file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(&self.file)
        };
        let event = read.map_err(|error| Failure::Failed(format!("{}: {error}", self.file.display())))?;
        let path = format!("/v1/views/{}/preview", escaped(&self.view));
        let response: Box<RawValue> = client.post(&path, event).await?;
        let mut output = Output::stdout();
        if self.format.json {
            output.line(response.get())?;
            return output.flush();
        }
        let preview: Value = serde_json::from_str(response.get()).unwrap_or_default();
        let notifications = preview["write"].as_array().cloned().unwrap_or_default();
        if notifications.is_empty() {
            eprintln!("the view sends nothing for this event: its filter leaves it out");
        }
        for (destination, content) in notifications.iter().flat_map(|one| one["send"].as_object()).flatten() {
            output.line(&format!("== {destination}"))?;
            for (name, value) in content.as_object().into_iter().flatten().filter(|(name, _)| *name != "kind")
            {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let text = printable_lines(text.trim_end());
                output.line(&if text.contains('\n') {
                    format!("{name}:\n{text}")
                } else {
                    format!("{name}: {text}")
                })?;
            }
        }
        output.flush()
    }
}
