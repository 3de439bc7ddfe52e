//! The greeting at start: the addresses, the data folder, the key, and two commands that work when pasted into a
//! shell.

use std::path::Path;

use event::{Fields, Random, Sample, Value};

use super::Settings;
use crate::config::{Config, ReadConfig, ReadShape};
use crate::sources::{HttpSource, Source};

pub fn print(settings: &Settings, addresses: &[String], first_key: bool) {
    let data = settings.data.canonicalize().unwrap_or_else(|_| settings.data.clone());
    let key = data.join("api-key");
    println!("millrace {} is ready", env!("CARGO_PKG_VERSION"));
    println!();
    println!("  listening  {}", addresses.join("  "));
    println!("  data       {}", data.display());
    let presets: Vec<&str> = settings.config.presets.iter().map(|preset| preset.name).collect();
    println!("  presets    {}", if presets.is_empty() { "none".to_owned() } else { presets.join("  ") });
    if settings.dev {
        println!("  keys       not needed: --dev opens every source to this machine");
    } else {
        println!("  key        {}{}", key.display(), if first_key { "  (created now; keep it)" } else { "" });
    }
    let decisions = settings.legacy_env.decisions();
    for (index, decision) in decisions.iter().enumerate() {
        println!("  {:<9}  {decision}", if index == 0 { "variables" } else { "" });
    }
    let sources = || settings.config.sources.values().filter_map(Source::http);
    // A source whose result can be read is preferred.
    let readable = sources().find(|source| row_read(settings, source).is_some());
    let source = readable.or_else(|| sources().next());
    // A plain address is preferred: a certificate rarely names the address that the server listens on.
    let plain = addresses.iter().find(|address| address.starts_with("http://"));
    let (Some(source), Some(address)) = (source, plain.or(addresses.first())) else { return };
    let Some((event, event_key)) = sample(&settings.config.streams[&source.stream]) else { return };
    println!();
    println!("Send an event and read the result:");
    println!();
    let header =
        if settings.dev { String::new() } else { format!(" -H \"Authorization: $(cat {})\"", quoted(&key)) };
    let event = event.replace('\'', r"'\''");
    println!(
        "  curl{header} -H 'Content-Type: application/json' -d '{event}' {address}{}",
        source.path.as_str()
    );
    if let Some(read) = row_read(settings, source) {
        println!("  curl{header} {address}{}", read.path.replace("{key}", &event_key));
    }
    println!();
}

/// Returns the read that shows the rows of a source's stream.
fn row_read<'s>(settings: &'s Settings, source: &HttpSource) -> Option<&'s ReadConfig> {
    let Config { reads, views, .. } = &settings.config;
    let shows =
        |read: &&ReadConfig| read.shape == ReadShape::Row && views[&read.view].stream == source.stream;
    reads.values().find(shows)
}

/// Returns a valid event and its key.
fn sample(fields: &Fields) -> Option<(String, String)> {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    Sample::of(fields).event(0, 1, &mut Random(0), &mut bytes);
    let event = String::from_utf8(bytes).ok()?;
    fields.read(&event, &[fields.key()], &mut values).ok()?;
    let key = match values.into_iter().next()? {
        Value::Text(text) => text.into_owned(),
        Value::Integer(number) => number.to_string(),
        _ => return None,
    };
    Some((event, key))
}

/// Quotes a path for the shell, where it is inside `$(...)` and double quotes.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
