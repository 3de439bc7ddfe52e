//! Writes the built-in configuration and the user's file as one file, which people can read and millrace can load.

use std::path::Path;

use toml::{Table, Value};

use super::file::DEFAULT;
use super::store::without_password;
use super::{ConfigError, Preset, read};

/// Returns the settings that `Config::load` reads from the same files, as a file without the password of the store.
/// The files must be valid.
pub fn effective(path: Option<&Path>, presets: &[Preset]) -> Result<String, ConfigError> {
    let user = path.map(|path| parse(&read(path)?, path)).transpose()?;
    let mut whole = parse(DEFAULT, Path::new("default.toml"))?;
    let mut names = Vec::new();
    for preset in presets {
        lay_over(&mut whole, parse(preset.text(), Path::new(preset.name()))?);
        names.push(Value::from(preset.name()));
    }
    if let Some(user) = user {
        lay_over(&mut whole, user);
    }
    whole.insert("presets".to_owned(), Value::Array(names));
    let store = whole.get_mut("store").and_then(Value::as_table_mut);
    if let Some(Value::String(url)) = store.and_then(|store| store.get_mut("url")) {
        *url = without_password(url);
    }
    Ok(written(&whole))
}

fn parse(text: &str, path: &Path) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| ConfigError::Unreadable {
        path: path.to_owned(),
        reason: error.message().replace('\n', " "),
    })
}

/// Merges like `File::lay_over`: streams and views are replaced as a whole, sources and reads setting by setting.
fn lay_over(whole: &mut Table, other: Table) {
    for (name, value) in other {
        match (whole.get_mut(&name), value) {
            (Some(Value::Table(here)), Value::Table(there)) if name == "source" || name == "read" => {
                there.into_iter().for_each(|(source, lines)| match (here.get_mut(&source), lines) {
                    (Some(Value::Table(here)), Value::Table(there)) => here.extend(there),
                    (_, lines) => drop(here.insert(source, lines)),
                });
            }
            (Some(Value::Table(here)), Value::Table(there)) => here.extend(there),
            (_, value) => drop(whole.insert(name, value)),
        }
    }
}

/// Writes sections as people do: one for each stream, view, source and read, and a line for each field.
fn written(whole: &Table) -> String {
    let (sections, single): (Vec<_>, Vec<_>) =
        whole.iter().partition(|(_, value)| matches!(value, Value::Table(_)));
    let mut text: String = single.iter().map(|(name, value)| format!("{} = {value}\n", key(name))).collect();
    for (name, section) in sections {
        let Value::Table(section) = section else { continue };
        let named = section.values().all(Value::is_table) && !section.is_empty();
        if !named {
            text.push_str(&format!("\n[{}]\n{}", key(name), lines(section)));
        } else {
            for (inner, section) in section {
                let section = section.as_table().map(lines).unwrap_or_default();
                text.push_str(&format!("\n[{}.{}]\n{section}", key(name), key(inner)));
            }
        }
    }
    text
}

fn lines(section: &Table) -> String {
    let line = |(name, value): (&String, &Value)| match value {
        Value::Table(fields) if name == "fields" => {
            fields.iter().map(|(field, value)| format!("fields.{} = {value}\n", key(field))).collect()
        }
        value => format!("{} = {value}\n", key(name)),
    };
    let (fields, single): (Vec<_>, Vec<_>) = section.iter().partition(|(name, _)| *name == "fields");
    single.into_iter().chain(fields).map(line).collect()
}

fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        Value::String(name.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    #[test]
    fn the_written_file_loads_as_the_same_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mine, whole) = (folder.path().join("mine.toml"), folder.path().join("whole.toml"));
        let text = r#"
            presets = ["revenue", "analytics"]
            listen = ["localhost:3333"]
            [dedup]
            window = "12h"
            [limits]
            per_address = "5/s"
            [tls]
            certificate = "certificate.pem"
            key = "key.pem"
            [stream.refunds]
            key = "who is it"
            fields."who is it" = { type = "text", required = true }
            fields.cents = { type = "integer", required = true, min = 1 }
            [view.refunds]
            kind = "ledger"
            from = "refunds"
            amount = "-cents"
            [view.revenue]
            kind = "ledger"
            from = "revenue"
            table = "other"
            amount = "+value"
            [source.site_event]
            access = "open"
            errors = { invalid = "no: {reason}" }
            origins = ["https://shop.example", "null"]
            [source.refunds]
            kind = "http"
            path = "/refunds"
            stream = "refunds"
            answer = '{"id": "{eventId}"}'
        "#;
        for text in ["", text] {
            std::fs::write(&mine, text).expect("written");
            let written = |path: &Path| {
                let presets = Config::load(Some(path), &Overrides::default()).expect("valid").presets;
                effective(Some(path), &presets).expect("valid")
            };
            std::fs::write(&whole, written(&mine)).expect("written");
            let load = |path: &Path| Config::load(Some(path), &Overrides::default()).expect("valid");
            assert_eq!(format!("{:?}", load(&mine)), format!("{:?}", load(&whole)));
            assert_eq!(written(&whole), written(&mine));
        }
    }
}
