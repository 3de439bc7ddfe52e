//! `millrace notification show`: shows one notification.

use clap::Args;
use serde_json::value::RawValue;

use super::{Body, Delivery};
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print, print_properties};

#[derive(Args)]
pub struct Show {
    /// Id of the notification, as `list` shows it
    id: String,
    /// The view, of kind notifications, if there are several [default: notifications]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    #[command(flatten)]
    format: JsonDocument,
}

impl Show {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let view = self.view.as_ref().map(|view| format!("?view={}", escaped(view))).unwrap_or_default();
        let path = format!("/v1/notifications/{}{view}", escaped(&self.id));
        let response: Box<RawValue> = client.get(&path).await?;
        if self.format.json {
            return print(response.get());
        }
        let one: Body = decode(&response, "a notification")?;
        let never = || "never".to_owned();
        let mut lines = vec![
            ("id", one.id),
            ("status", one.status),
            ("to", one.recipient),
            ("channel", one.channel),
            ("message", one.message),
            ("tries", one.attempts.to_string()),
            ("last try", one.last_attempt_at.unwrap_or_else(never)),
            ("next try", one.next_attempt_at.unwrap_or_else(never)),
            ("since", one.created_at),
            ("type", one.event_type),
            ("event id", one.event_id),
            ("payload", one.payload.get().to_owned()),
        ];
        lines.extend(one.deliveries.into_iter().flat_map(Delivery::lines));
        print_properties(&lines)
    }
}
