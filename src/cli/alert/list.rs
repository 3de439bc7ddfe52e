//! `millrace alert list`: lists the alerts of a server.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonLines, Output};

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    to: Option<String>,
    alerts: Vec<Box<RawValue>>,
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct Alert {
    message: String,
    since: String,
    state: String,
    sent: bool,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let listed: Listed = client.get("/v1/alerts").await?;
        let mut output = Output::stdout();
        if self.format.json {
            listed.alerts.iter().try_for_each(|alert| output.line(alert.get()))?;
            return output.flush();
        }
        let Some(to) = listed.to else {
            output.line("Alerts are off: the configuration has no [alert] section.")?;
            return output.flush();
        };
        if listed.alerts.is_empty() {
            output.line(&format!("Nothing to report. Alerts go to {to}."))?;
        }
        for alert in &listed.alerts {
            let Alert { message, since, state, sent } = decode(alert, "an alert")?;
            let told = match (state.as_str(), sent) {
                ("over", _) => format!("over, but {to} has not been told yet"),
                (_, true) => format!("{to} has been told"),
                (_, false) => format!("{to} has not been told yet"),
            };
            output.line(&format!("{since}  {message} ({told})"))?;
        }
        if let Some(error) = listed.last_error {
            output.line(&format!("The last attempt to send an alert failed: {error}"))?;
        }
        output.flush()
    }
}
