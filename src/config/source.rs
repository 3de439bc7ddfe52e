//! `[source.NAME]`: the names of sources, and what they need of the rest. The settings belong to the kind of the
//! source.

use std::collections::BTreeMap;

use event::{SettingErrors, suggestion};

use super::checks::Checks;
use super::names::check_name;
use crate::sources::Source;

/// Checks all sources, and that no two have the same path. Returns those that could be read completely.
pub fn check_sources(
    sources: BTreeMap<String, Source>,
    streams: &[&str],
    checks: &mut Checks<'_>,
) -> BTreeMap<String, Source> {
    let mut checked: BTreeMap<String, Source> = BTreeMap::new();
    for (name, source) in sources {
        if !checks.is_complete(&["source", &name]) {
            continue;
        }
        let mut errors = SettingErrors::default();
        check_name(&name, &mut errors);
        let stream = source.stream();
        if !streams.contains(&stream) {
            let names = suggestion(stream, "streams", streams.iter().copied());
            errors.add(&["stream"], format!("names stream `{stream}`, which is not declared{names}"));
        }
        source.check(&mut errors);
        checks.section("source", &name, errors);
        let same_path = checked.iter().filter(|(_, other)| other.path() == source.path());
        let mut conflicts =
            same_path.filter_map(|(other, there)| Some((other.clone(), there.conflict_at_path(&source)?)));
        if let Some((other, why)) = conflicts.next() {
            let reason = format!("source `{other}` and source `{name}` {why}");
            checks.conflict([&["source", &name, "path"], &["source", &other, "path"]], reason);
        }
        checked.insert(name, source);
    }
    checked
}
