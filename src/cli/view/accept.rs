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
    effect: String,
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
        let Accepted { view, effect, changes, from } = decode(&response, "the accepted change")?;
        for change in &changes {
            print(&change.text())?;
        }
        match (effect.as_str(), from) {
            ("unchanged", _) => eprintln!("view `{view}` has this definition already"),
            (_, Some(from)) => {
                eprintln!(
                    "view `{view}` continues: the new definition applies to events from position {from} on"
                );
            }
            _ if self.config.is_some() => eprintln!(
                "view `{view}`: the new definition will apply once the server is started with this configuration"
            ),
            _ => eprintln!("view `{view}` may continue with this definition, beside rows of other logs"),
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
    // With a password, `password_file` is not read: it may exist on the server only, and the store is not opened here.
    let overrides = Overrides { store_password: Some(String::new()), ..Overrides::default() };
    let config = Config::load(Some(path), &overrides);
    let config = config.map_err(Failure::Configuration)?;
    let unknown = || Failure::NotFound(format!("{} does not declare view `{view}`", path.display()));
    config.definition_of(view).map(|definition| definition.stored().text.clone()).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_read_without_the_password_file_of_the_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new.toml");
        let text = "presets = [\"revenue\"]\n[store]\nurl = \"postgres://u@h/d\"\npassword_file = \"/none/password\"\n";
        std::fs::write(&path, text).expect("written");
        let definition = definition_in(&path, "revenue").expect("read");
        assert!(definition.contains("value"), "{definition}");
        assert!(matches!(definition_in(&path, "none"), Err(Failure::NotFound(_))));
    }
}
