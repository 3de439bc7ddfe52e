//! The greeting of a start at a terminal: where it listens, and two lines to try, which work as pasted.

use std::path::Path;

use super::Settings;

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
    // A certificate is seldom for the address that is listened at.
    let plain = addresses.iter().find(|address| address.starts_with("http://"));
    let (Some(_), Some(address)) = (&settings.config.live_event, plain.or(addresses.first())) else { return };
    println!();
    println!("Send an event, and see what it became:");
    println!();
    let header =
        if settings.dev { String::new() } else { format!(" -H \"Authorization: $(cat {})\"", quoted(&key)) };
    println!(
        "  curl{header} -H 'Content-Type: application/json' -d '{{\"userId\":\"user1\",\"name\":\"add_revenue\",\"value\":100}}' {address}/liveEvent"
    );
    println!("  curl{header} {address}/userEvents/user1");
    println!();
}

/// For a shell, inside double quotes.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
