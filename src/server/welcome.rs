//! The greeting of a start at a terminal: where it listens, and two lines to try, which work as pasted.

use std::path::Path;

use super::Settings;
use crate::config::{ReadConfig, ReadShape};

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
    let (Some(door), Some(address)) = (&settings.config.live_event, addresses.first()) else { return };
    println!();
    println!("Send an event, and see what it became:");
    println!();
    let header =
        if settings.dev { String::new() } else { format!(" -H \"Authorization: $(cat {})\"", quoted(&key)) };
    println!(
        "  curl{header} -H 'Content-Type: application/json' -d '{{\"userId\":\"user1\",\"name\":\"add_revenue\",\"value\":100}}' {address}/liveEvent"
    );
    let of_stream = |read: &ReadConfig| settings.config.views[&read.view].stream == door.stream;
    let shows = |read: &&ReadConfig| read.shape == ReadShape::Row && of_stream(read);
    if let Some(read) = settings.config.reads.values().find(shows) {
        println!("  curl{header} {address}{}", read.path.replace("{key}", "user1"));
    }
    println!();
}

/// For a shell, inside double quotes.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
