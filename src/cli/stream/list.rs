//! `millrace stream list`: lists the streams with their fields.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output};

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
struct Listed {
    streams: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    key: String,
    fields: Vec<Field>,
    sources: Vec<String>,
    views: Vec<String>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    r#type: String,
    required: bool,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let listed: Listed = client.get("/v1/streams").await?;
        let mut output = Output::stdout();
        if self.format.json {
            listed.streams.iter().try_for_each(|stream| output.line(stream.get()))?;
            return output.flush();
        }
        if listed.streams.is_empty() {
            eprintln!("the configuration declares no streams");
        }
        let mut rows = Vec::with_capacity(listed.streams.len());
        for stream in &listed.streams {
            let Stream { name, key, fields, sources, views } = decode(stream, "a stream")?;
            let fields: Vec<String> = fields.iter().map(Field::text).collect();
            rows.push([name, key, sources.join(", "), views.join(", "), fields.join(", ")]);
        }
        Columns::left(["STREAM", "KEY", "SOURCES", "VIEWS", "FIELDS"]).page(&mut output, rows)
    }
}

impl Field {
    fn text(&self) -> String {
        format!("{} {}{}", self.name, self.r#type, if self.required { "*" } else { "" })
    }
}
