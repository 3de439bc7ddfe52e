//! Event texts, checked against every stream of the built-in configuration. A fold can read each accepted text, and
//! reads the same values field by field and all at once.

use std::sync::OnceLock;

use event::limits::CLIENT_ID_CHARS_MAX;
use event::{Decimal, Fields, Value};
use millrace::config::{Config, Overrides};
use serde_json::value::RawValue;

pub fn run(bytes: &[u8]) {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        Config::load(None, &Overrides::default()).expect("the built-in configuration is valid")
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for fields in config.streams.values() {
        let (named, unnamed) = (fields.check(text, true), fields.check(text, false));
        let Ok(checked) = named else { continue };
        assert!(unnamed.is_ok(), "accepted with its id, but refused without");
        if let Some(id) = &checked.client_id {
            assert!(!id.is_empty() && !id.contains('\0') && id.chars().count() <= CLIENT_ID_CHARS_MAX);
        }
        serde_json::from_str::<&RawValue>(text).expect("an accepted event is JSON");
        check_reads(fields, text);
    }
}

fn check_reads(fields: &Fields, text: &str) {
    let all: Vec<usize> = (0..fields.iter().count()).collect();
    let (mut values, mut alone) = (Vec::new(), Vec::new());
    fields.read(text, &all, &mut values).expect("an accepted event can be read");
    for (index, value) in values.iter().enumerate() {
        let field = fields.get(index);
        assert!(!field.required || *value != Value::Absent, "{} was accepted without a value", field.name);
        fields.read(text, &[index], &mut alone).expect("each field can be read alone");
        assert_eq!(alone.first(), Some(value), "{} reads differently alone", field.name);
        match value {
            Value::Text(text) => assert!(!text.is_empty() && !text.contains('\0'), "{}", field.name),
            Value::Decimal(number) => assert_eq!(number.to_string().parse::<Decimal>(), Ok(*number)),
            _ => {}
        }
    }
}
