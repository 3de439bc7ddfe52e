//! The greeting of a start at a terminal: where it listens, and two lines to try, which work as pasted.

use std::path::Path;

use event::{Fields, Random, Sample, Value};

use super::Settings;
use crate::config::{Config, Door, ReadConfig, ReadShape};

pub fn print(settings: &Settings, addresses: &[String], first_key: bool) {
    let data = settings.data.canonicalize().unwrap_or_else(|_| settings.data.clone());
    let key = data.join("api-key");
    println!("millrace {} is ready", env!("CARGO_PKG_VERSION"));
    println!();
    println!("  listening  {}", addresses.join("  "));
    println!("  data       {}", data.display());
    match settings.dev {
        true => println!("  keys       none asked for: --dev opens every door, on this machine only"),
        false => {
            println!(
                "  key        {}{}",
                key.display(),
                if first_key { "  (made now; keep it)" } else { "" }
            );
        }
    }
    let doors = &settings.config.doors;
    // One whose outcome can be looked at, before any other.
    let door = doors.values().find(|door| shown(settings, door).is_some()).or_else(|| doors.values().next());
    // A certificate is seldom for the address that is listened at.
    let plain = addresses.iter().find(|address| address.starts_with("http://"));
    let (Some(door), Some(address)) = (door, plain.or(addresses.first())) else { return };
    let Some((event, event_key)) = sample(&settings.config.streams[&door.stream].fields) else { return };
    println!();
    println!("Send an event, and see what it became:");
    println!();
    let header =
        if settings.dev { String::new() } else { format!(" -H \"Authorization: $(cat {})\"", quoted(&key)) };
    let event = event.replace('\'', r"'\''");
    println!("  curl{header} -H 'Content-Type: application/json' -d '{event}' {address}{}", door.path);
    if let Some(read) = shown(settings, door) {
        println!("  curl{header} {address}{}", read.path.replace("{key}", &event_key));
    }
    println!();
}

/// Where the row is shown that a door's events go to.
fn shown<'s>(settings: &'s Settings, door: &Door) -> Option<&'s ReadConfig> {
    let Config { reads, views, .. } = &settings.config;
    let shows = |read: &&ReadConfig| read.shape == ReadShape::Row && views[&read.view].stream == door.stream;
    reads.values().find(shows)
}

/// An event that fits, and its key.
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

/// For a shell, inside double quotes.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
