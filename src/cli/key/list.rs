//! `millrace key list`: lists the keys, without their secret text.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output};

const HEADING: [&str; 9] =
    ["ID", "NAME", "SCOPES", "STREAMS", "ROWS", "ID SCOPE", "CREATED", "EXPIRES", "LAST USED"];

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    name: String,
    id_scope: String,
    scopes: Vec<String>,
    streams: Vec<String>,
    view_key: Option<String>,
    created_at: String,
    expires: Option<String>,
    last_used: Option<String>,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let listed: Listed = client.get("/v1/keys").await?;
        let mut output = Output::stdout();
        if self.format.json {
            listed.keys.iter().try_for_each(|key| output.line(key.get()))?;
            return output.flush();
        }
        let rows = listed.keys.iter().map(|key| Ok(row(decode(key, "a key")?)));
        Columns::left(HEADING).page(&mut output, rows.collect::<Result<Vec<_>, Failure>>()?)
    }
}

fn row(key: Key) -> [String; 9] {
    let streams = if key.streams.is_empty() { "all".to_owned() } else { key.streams.join(",") };
    let row = key.view_key.unwrap_or_else(|| "all".to_owned());
    let never = || "never".to_owned();
    let (expires, used) = (key.expires.unwrap_or_else(never), key.last_used.unwrap_or_else(never));
    [key.id, key.name, key.scopes.join(","), streams, row, key.id_scope, key.created_at, expires, used]
}
