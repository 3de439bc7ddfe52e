//! `[source.NAME]`: the names of sources, and what they need of the rest. The settings belong to the kind of the
//! source.

use std::collections::BTreeMap;

use super::location::{Declared, user_location};
use super::names::is_name;
use super::{ConfigError, Streams};
use crate::sources::Source;

/// Checks all sources, and that no two have the same path.
pub fn check_sources(
    sources: &BTreeMap<String, Declared<Source>>,
    streams: &Streams,
) -> Result<(), ConfigError> {
    let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, Declared { value: source, location }) in sources {
        let wrong = |reason: String| ConfigError::at(location, format!("source `{name}` {reason}"));
        if !is_name(name) {
            let reason = "needs a name of at most 64 lower-case letters, digits, `-` and `_`";
            return Err(wrong(reason.to_owned()));
        }
        if !streams.contains_key(source.stream()) {
            return Err(wrong(format!("names stream `{}`, which is not declared", source.stream())));
        }
        source.check().map_err(wrong)?;
        let Some(source) = source.http() else { continue };
        let path = source.path.as_str();
        if let Some(other) = paths.insert(path, name) {
            let reason = format!("source `{other}` and source `{name}` both have path `{path}`");
            let locations = [location, &sources[other].location];
            return Err(ConfigError::at(user_location(locations), reason));
        }
    }
    Ok(())
}
