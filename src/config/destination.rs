//! `[destination.NAME]`: the names of destinations. The settings belong to the kind of the destination. `[alert]`: the one
//! that gets alerts.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::SettingErrors;
use serde::Deserialize;

use super::checks::Checks;
use super::names::check_name;
use crate::alerts::{AlertSection, AlertSettings};
use crate::destinations::{
    DeclaredDestinations, Destination, DestinationSection, LOG_DESTINATION, RetrySchedule,
};

/// `[delivery]`: what destinations have in common.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySection {
    /// For destinations without their own `retry`.
    retry: RetrySchedule,
}

/// Checks where alerts go.
pub fn check_alerts(
    section: Option<&AlertSection>,
    destinations: &DeclaredDestinations,
    checks: &mut Checks<'_>,
) -> Option<AlertSettings> {
    let section = section.filter(|_| checks.is_complete(&["alert"]))?;
    let mut errors = SettingErrors::default();
    let settings = section.build(destinations, &mut errors);
    for error in errors {
        let path: Vec<&str> = std::iter::once("alert").chain(error.path.iter().map(String::as_str)).collect();
        checks.error(&path, format!("`[alert]` {}", error.reason));
    }
    settings
}

/// Checks all destinations, and adds the built-in one.
pub fn check_destinations(
    sections: &BTreeMap<String, DestinationSection>,
    delivery: &DeliverySection,
    checks: &mut Checks<'_>,
) -> DeclaredDestinations {
    let log = Destination::log(delivery.retry.clone());
    let mut destinations = BTreeMap::from([(LOG_DESTINATION.to_owned(), Some(Arc::new(log)))]);
    for (name, section) in sections {
        let mut built = None;
        if checks.is_complete(&["destination", name]) {
            let mut errors = SettingErrors::default();
            check_name(name, &mut errors);
            let destination = section.build(name, &delivery.retry, &mut errors);
            if checks.section("destination", name, errors) {
                built = destination.map(Arc::new);
            }
        }
        destinations.insert(name.clone(), built);
    }
    destinations
}
