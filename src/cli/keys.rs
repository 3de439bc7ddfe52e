//! `millrace keys`: who may send, read and administer.

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
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// List keys; what they read like is kept nowhere
    List,
    /// Make a key and print it, this once, alone on stdout
    Add(Add),
    /// Make a key good for nothing, from now on
    Revoke {
        /// As `list` shows it
        id: String,
    },
}

#[derive(Args)]
struct Add {
    /// Whose key. Events' ids are told apart by it: a new key of the same name goes on where the old one was,
    /// which is good until it is revoked
    name: String,
    /// What it may do
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    scope: Vec<Scope>,
    /// Only for this stream and its views; may be repeated
    #[arg(long, value_name = "STREAM")]
    stream: Vec<String>,
    /// Only to read this row of a view, such as one user's balance
    #[arg(long, value_name = "KEY")]
    view_key: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Send events
    Send,
    /// Read views, streams and dead letters
    Read,
    /// Keys, dead letters, rebuild and reconcile
    Admin,
}

pub fn run(command: Keys) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::List => list(&client, command.json).await,
            Action::Add(wanted) => add(&client, &wanted, command.json).await,
            Action::Revoke { id } => {
                let said: Box<RawValue> = client.delete(&format!("/v1/keys/{}", escaped(&id))).await?;
                let text = if command.json { said.get().to_owned() } else { format!("{id} revoked") };
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
        listed.keys.iter().try_for_each(|said| output.line(said.get()))?;
        return output.flush();
    }
    let mut rows = Vec::with_capacity(listed.keys.len());
    for said in &listed.keys {
        let key: Key = serde_json::from_str(said.get())
            .map_err(|error| Failure::Failed(format!("the server answered a key that is none: {error}")))?;
        let streams = if key.streams.is_empty() { "all".to_owned() } else { key.streams.join(",") };
        let row = key.view_key.unwrap_or_else(|| "all".to_owned());
        rows.push([key.id, key.name, key.scopes.join(","), streams, row, key.created_at]);
    }
    let heading = ["ID", "NAME", "SCOPES", "STREAMS", "ROWS", "CREATED"].map(|name| (name, Side::Left));
    Columns::new(heading).page(&mut output, &rows)
}

async fn add(client: &Client, wanted: &Add, json: bool) -> Result<(), Failure> {
    let scopes: Vec<String> = wanted
        .scope
        .iter()
        .filter_map(|scope| Some(scope.to_possible_value()?.get_name().to_owned()))
        .collect();
    let body = json!({
        "name": wanted.name,
        "scopes": scopes,
        "streams": wanted.stream,
        "viewKey": wanted.view_key,
    });
    let made: Value = client.post("/v1/keys", body.to_string()).await?;
    if json {
        return print(&made.to_string());
    }
    let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
    print(&text("key"))?;
    eprintln!("key `{}` made, id {}; it is shown this once", text("name"), text("id"));
    Ok(())
}
