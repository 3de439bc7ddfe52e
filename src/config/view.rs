//! `[view.NAME]`: the name of a view and its stream. The settings belong to the kind of the view.

use std::collections::BTreeMap;

use event::{SettingErrors, nearest, suggestion};

use super::Streams;
use super::checks::Checks;
use super::names::check_name;
use crate::destinations::DeclaredDestinations;
use crate::store::{DEDUP_NAME, DEDUP_STORED_NAME};
use crate::views::{View, ViewSection};

/// Checks all views, and that no two write the same table. Returns those without errors. `declared` are the names of
/// all streams, also of those with errors.
pub fn check_views(
    sections: &BTreeMap<String, ViewSection>,
    streams: &Streams,
    declared: &[&str],
    destinations: &DeclaredDestinations,
    checks: &mut Checks<'_>,
) -> BTreeMap<String, View> {
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    for (name, section) in sections {
        if !checks.is_complete(&["view", name]) {
            continue;
        }
        let mut errors = SettingErrors::default();
        let view = check(name, section, streams, declared, destinations, &mut errors);
        checks.section("view", name, errors);
        let Some(view) = view else { continue };
        if let Some((other, table)) =
            views.values().find_map(|other| Some((&other.name, shared_table(other, &view)?)))
        {
            // The user's view comes first: a built-in one cannot be changed.
            let is_built_in = checks.locations.of(&["view", name]).built_in;
            let (one, two) = if is_built_in { (other, name) } else { (name, other) };
            let reason = format!("view `{one}` and view `{two}` both write table `{table}`");
            checks.conflict([&["view", name, "table"], &["view", other, "table"]], reason);
        }
        views.insert(name.clone(), view);
    }
    views
}

fn check(
    name: &str,
    section: &ViewSection,
    streams: &Streams,
    declared: &[&str],
    destinations: &DeclaredDestinations,
    errors: &mut SettingErrors,
) -> Option<View> {
    check_name(name, errors);
    if [DEDUP_NAME, DEDUP_STORED_NAME].contains(&name) {
        errors.add(&[], "needs another name: the deduplicator uses this one");
    }
    let mut from = section.stream();
    if !declared.contains(&from) {
        let names = suggestion(from, "streams", declared.iter().copied());
        errors.add(&["from"], format!("reads stream `{from}`, which is not declared{names}"));
        // With the stream that was meant, the other settings can be checked as well.
        from = nearest(from, declared.iter().copied())?;
    }
    section.build(name, from, streams.get(from)?, destinations, errors)
}

/// Returns the name of a table that both views write. Some databases ignore case in table names.
fn shared_table(one: &View, other: &View) -> Option<String> {
    let names = one.table_names();
    other.table_names().into_iter().find(|table| names.iter().any(|name| name.eq_ignore_ascii_case(table)))
}
