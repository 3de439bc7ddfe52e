//! `millrace keys`: lists, creates and revokes keys.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, print};

#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// List the keys, without their secret text, which the server does not store
    List,
    /// Create a key and print it on stdout; it cannot be shown again
    Add(Add),
    /// Revoke a key; requests with it are refused at once
    Revoke {
        /// Id of the key, as `list` shows it
        id: String,
    },
}

#[derive(Args)]
struct Add {
    /// Name of the sender or reader. The ids of events belong to this name, unless `--id-scope` is given. To replace a
    /// key, add one with the same name, then revoke the old one
    name: String,
    /// Name of the scope that the ids of events belong to. Keys and sources with the same scope share their ids: an
    /// event that comes by several of them counts once [default: the name of the key]
    #[arg(long, value_name = "NAME")]
    id_scope: Option<String>,
    /// Scopes of the key: what it may do; separate several with commas
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    scope: Vec<Scope>,
    /// Limit the key to this stream and its views; may be repeated [default: all streams]
    #[arg(long, value_name = "STREAM")]
    stream: Vec<String>,
    /// Limit the key to reading the row with this key, such as one user's balance [default: all rows]
    #[arg(long, value_name = "KEY")]
    view_key: Option<String>,
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

pub fn run(command: Keys) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::List => list(&client, command.json).await,
            Action::Add(wanted) => add(&client, &wanted, command.json).await,
            Action::Revoke { id } => {
                let response: Box<RawValue> = client.delete(&format!("/v1/keys/{}", escaped(&id))).await?;
                let text = if command.json { response.get().to_owned() } else { format!("{id} revoked") };
                print(&text)
            }
        }
    })
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
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<Box<RawValue>>,
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let listed: Listed = client.get("/v1/keys").await?;
    let mut output = Output::stdout();
    if json {
        listed.keys.iter().try_for_each(|key| output.line(key.get()))?;
        return output.flush();
    }
    let mut rows = Vec::with_capacity(listed.keys.len());
    for listed_key in &listed.keys {
        let key: Key = serde_json::from_str(listed_key.get()).map_err(|error| {
            Failure::Failed(format!("cannot decode a key in the server's response: {error}"))
        })?;
        let streams = if key.streams.is_empty() { "all".to_owned() } else { key.streams.join(",") };
        let row = key.view_key.unwrap_or_else(|| "all".to_owned());
        rows.push([key.id, key.name, key.scopes.join(","), streams, row, key.id_scope, key.created_at]);
    }
    let heading =
        ["ID", "NAME", "SCOPES", "STREAMS", "ROWS", "ID SCOPE", "CREATED"].map(|name| (name, Side::Left));
    Columns::new(heading).page(&mut output, rows)
}

async fn add(client: &Client, wanted: &Add, json: bool) -> Result<(), Failure> {
    let scopes: Vec<String> = wanted
        .scope
        .iter()
        .filter_map(|scope| Some(scope.to_possible_value()?.get_name().to_owned()))
        .collect();
    let body = json!({
        "name": wanted.name,
        "idScope": wanted.id_scope,
        "scopes": scopes,
        "streams": wanted.stream,
        "viewKey": wanted.view_key,
    });
    let created: Value = client.post("/v1/keys", body.to_string()).await?;
    if json {
        return print(&created.to_string());
    }
    let text = |field: &str| created[field].as_str().unwrap_or_default().to_owned();
    print(&text("key"))?;
    eprintln!("created key `{}` with id {}; it cannot be shown again", text("name"), text("id"));
    Ok(())
}
