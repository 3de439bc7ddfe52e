//! `[view.NAME]`: the name of a view and its stream. The settings belong to the kind of the view.

use std::collections::BTreeMap;

use super::location::{Declared, user_location};
use super::names::is_name;
use super::{ConfigError, Streams};
use crate::store::{DEDUP_NAME, DEDUP_STORED_NAME};
use crate::views::{View, ViewSection};

/// Checks all views, and that no two write the same table.
pub fn check_views(
    sections: &BTreeMap<String, Declared<ViewSection>>,
    streams: &Streams,
) -> Result<BTreeMap<String, View>, ConfigError> {
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    for (name, section) in sections {
        let wrong = |reason: String| ConfigError::at(&section.location, format!("view `{name}` {reason}"));
        let view = check(name, &section.value, streams).map_err(wrong)?;
        if let Some((other, table)) =
            views.values().find_map(|other| Some((other, shared_table(other, &view)?)))
        {
            // The error names the user's view first, with its line: a built-in one cannot be changed.
            let (one, two) =
                if section.location.built_in { (&other.name, name) } else { (name, &other.name) };
            let reason = format!("view `{one}` and view `{two}` both write table `{table}`");
            let locations = [&section.location, &sections[&other.name].location];
            return Err(ConfigError::at(user_location(locations), reason));
        }
        views.insert(name.clone(), view);
    }
    Ok(views)
}

fn check(name: &str, section: &ViewSection, streams: &Streams) -> Result<View, String> {
    if !is_name(name) {
        return Err("needs a name of at most 64 lower-case letters, digits, `-` and `_`".to_owned());
    }
    if [DEDUP_NAME, DEDUP_STORED_NAME].contains(&name) {
        return Err("needs another name: the deduplicator uses this one".to_owned());
    }
    let from = section.stream();
    let stream = streams.get(from).ok_or_else(|| format!("reads stream `{from}`, which is not declared"))?;
    section.build(name, stream)
}

/// Returns the name of a table that both views write. Some databases ignore case in table names.
fn shared_table(one: &View, other: &View) -> Option<String> {
    let names = one.table_names();
    other.table_names().into_iter().find(|table| names.iter().any(|name| name.eq_ignore_ascii_case(table)))
}
