//! `millrace key add`: creates a key.

use clap::{Args, ValueEnum};
use event::Millis;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
#[command(
    after_help = "Example:\n  millrace key add shop --scopes send --stream revenue --expires 90d > shop-key"
)]
pub struct Add {
    /// Name of the sender or reader; no other key may have it
    name: String,
    /// Scopes of the key: what it may do; separate several with commas
    #[arg(long, value_enum, value_delimiter = ',', required = true, value_name = "SCOPE,...")]
    scopes: Vec<Scope>,
    /// When the key expires: after a duration such as 90d or 12h, or at a time such as 2026-01-31T00:00:00Z
    /// [default: never]
    #[arg(long, value_name = "DURATION|TIME", value_parser = expiry)]
    expires: Option<String>,
    /// Limit the key to this stream and its views; may be repeated [default: all streams]
    #[arg(long, value_name = "STREAM")]
    stream: Vec<String>,
    /// Limit the key to reading the row with this key, such as one user's balance [default: all rows]
    #[arg(long, value_name = "KEY")]
    view_key: Option<String>,
    /// Name of the scope that the ids of events belong to. Keys and sources with the same scope share their ids: an
    /// event that comes by several of them counts once [default: the name of the key]
    #[arg(long, value_name = "NAME")]
    id_scope: Option<String>,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Send events
    Send,
    /// Read views, streams and dead letters
    Read,
    /// Manage keys, decide about dead letters, rebuild views, erase events, take backups
    Admin,
}

#[derive(Deserialize)]
struct Created {
    id: String,
    name: String,
    key: String,
}

impl Add {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let scopes = self.scopes.iter().filter_map(ValueEnum::to_possible_value);
        let scopes: Vec<String> = scopes.map(|scope| scope.get_name().to_owned()).collect();
        let mut body = json!({
            "name": self.name,
            "idScope": self.id_scope,
            "scopes": scopes,
            "streams": self.stream,
            "viewKey": self.view_key,
        });
        if let Some(expires) = &self.expires {
            body["expires"] = json!(expires);
        }
        let response: Box<RawValue> = client.post("/v1/keys", body.to_string()).await?;
        if self.format.json {
            return print(response.get());
        }
        let Created { id, name, key } = decode(&response, "the key")?;
        print(&key)?;
        let expires = self.expires.as_ref().map(|time| format!(", expires {time}")).unwrap_or_default();
        eprintln!("created key `{name}` with id {id}{expires}; it cannot be shown again");
        Ok(())
    }
}

/// Returns the time that `text` means, as RFC 3339.
fn expiry(text: &str) -> Result<String, String> {
    if let Ok(duration) = event::parse_duration(text) {
        let millis = i64::try_from(duration.as_millis()).map_err(|error| error.to_string())?;
        return Ok(Millis(Millis::now().0.saturating_add(millis)).to_text());
    }
    let invalid =
        |_| "expected a duration such as 90d or 12h, or a time such as 2026-01-31T00:00:00Z".to_owned();
    text.parse::<Millis>().map(Millis::to_text).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_or_a_time() {
        assert_eq!(expiry("2026-01-31T00:00:00Z").as_deref(), Ok("2026-01-31T00:00:00.000Z"));
        assert_eq!(expiry("2026-01-31").as_deref(), Ok("2026-01-31T00:00:00.000Z"));
        let day = 24 * 3_600 * 1_000;
        let in_90_days: Millis = expiry("90d").expect("a duration").parse().expect("a time");
        let left = in_90_days.0 - Millis::now().0;
        assert!((89 * day..=90 * day).contains(&left), "{left}");
        assert!(expiry("soon").is_err());
    }
}
