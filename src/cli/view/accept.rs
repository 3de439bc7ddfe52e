//! `millrace view accept`: continues a view under a changed definition.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};
use crate::config::{Config, Overrides};

#[derive(Args)]
#[command(
    after_help = "To deploy a change without a pause, accept it while the old configuration still runs:\n  millrace view accept revenue --config new.toml"
)]
pub struct Accept {
    /// The view, such as revenue
    view: String,
    /// Accept the definition in this configuration file, which the server will be started with later [default: the
    /// definition in the configuration of the running server]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Deserialize)]
struct Accepted {
    view: String,
    changes: Vec<Change>,
    from: Option<u64>,
}

#[derive(Deserialize)]
struct Change {
    setting: String,
    was: Option<Value>,
    is: Option<Value>,
}

impl Accept {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let body = match &self.config {
            Some(path) => definition_in(path, &self.view)?,
            None => String::new(),
        };
        let path = format!("/v1/views/{}/accept", escaped(&self.view));
        let response: Box<RawValue> = client.post(&path, body).await?;
        if self.format.json {
            return print(response.get());
        }
        let Accepted { view, changes, from } = decode(&response, "the accepted change")?;
        for change in &changes {
            print(&change.text())?;
        }
        match (changes.is_empty(), from) {
            (true, _) => eprintln!("view `{view}` already has this definition; nothing was changed"),
            (false, Some(from)) => {
                eprintln!(
                    "view `{view}` continues: the new definition applies to events from position {from} on"
                );
            }
            (false, None) => eprintln!(
                "view `{view}`: the new definition will apply once the server is started with this configuration"
            ),
        }
        Ok(())
    }
}

impl Change {
    fn text(&self) -> String {
        let value =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "absent".to_owned(), Value::to_string);
        format!("{}: was {}, is now {}", self.setting, value(&self.was), value(&self.is))
    }
}

/// Returns the definition of a view in a configuration file.
fn definition_in(path: &Path, view: &str) -> Result<String, Failure> {
    let config = Config::load(Some(path), &Overrides::default());
    let config = config.map_err(Failure::Configuration)?;
    let unknown = || Failure::NotFound(format!("{} does not declare view `{view}`", path.display()));
    config.definition_of(view).map(|definition| definition.stored().text.clone()).ok_or_else(unknown)
}
