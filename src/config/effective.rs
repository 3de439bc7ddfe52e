//! Writes the built-in configuration and the user's file as one file, which people can read and millrace can load.

use std::path::Path;

use serde::Deserialize;
use toml::de::DeValue;
use toml::{Table, Value};

use super::Overrides;
use super::loaded::Files;
use super::store::without_password;
use super::toml_reader::Reader;

/// Returns the settings that `Config::load` reads from the same files and overrides, as a file without the password of
/// the store. The configuration must be valid.
pub fn effective(path: Option<&Path>, overrides: &Overrides) -> String {
    written(&effective_settings(path, overrides))
}

/// Returns the same settings as a tree.
pub fn effective_settings(path: Option<&Path>, overrides: &Overrides) -> Table {
    let files = Files::open(path, overrides);
    let (merged, _) = files.layers.merged();
    let mut whole = Table::deserialize(Reader::new(&DeValue::Table(merged))).unwrap_or_default();
    let names = files.presets.iter().map(|preset| Value::from(preset.name)).collect();
    whole.insert("presets".to_owned(), Value::Array(names));
    let store = whole.get_mut("store").and_then(Value::as_table_mut);
    if let Some(Value::String(url)) = store.and_then(|store| store.get_mut("url")) {
        *url = without_password(url);
    }
    for section in
        whole.get_mut("destination").and_then(Value::as_table_mut).into_iter().flat_map(Table::iter_mut)
    {
        hide_secrets(section.1);
    }
    whole
}

/// Replaces the values of a destination's settings that may be secrets.
fn hide_secrets(destination: &mut Value) {
    let Some(section) = destination.as_table_mut() else { return };
    for (name, value) in section.iter_mut() {
        match (name.as_str(), value) {
            ("password", value) => *value = Value::from("***"),
            ("secrets", Value::Array(secrets)) => {
                secrets.iter_mut().for_each(|secret| *secret = "***".into());
            }
            ("headers", Value::Table(headers)) => {
                headers.iter_mut().for_each(|(_, header)| *header = "***".into());
            }
            _ => {}
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
            let written = |path: &Path| effective(Some(path), &Overrides::default());
            std::fs::write(&whole, written(&mine)).expect("written");
            let load = |path: &Path| Config::load(Some(path), &Overrides::default()).expect("valid");
            assert_eq!(format!("{:?}", load(&mine)), format!("{:?}", load(&whole)));
            assert_eq!(written(&whole), written(&mine));
        }
    }
}
