//! Lists of ids in statements.

use std::collections::BTreeMap;

use crate::store::cell::Cell;
use crate::store::delivery::DeliveryKey;

/// Returns the marks of a list of parameters. Its length is a power of two, so that few statements differ, and a database
/// can keep them prepared.
pub fn marks(count: usize) -> String {
    vec!["?"; count.next_power_of_two()].join(", ")
}

/// Returns the ids as parameters for such marks: the last one is repeated.
pub fn padded<S: AsRef<str>>(ids: &[S]) -> impl Iterator<Item = Cell> + '_ {
    let last = ids.last().into_iter().cycle();
    ids.iter().chain(last).take(ids.len().next_power_of_two()).map(|id| id.as_ref().into())
}

/// Returns the notifications of each view and destination, in order.
pub fn by_view_and_destination<'k>(
    keys: impl Iterator<Item = &'k DeliveryKey>,
) -> BTreeMap<(String, String), Vec<String>> {
    let mut groups: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for key in keys {
        groups.entry((key.view.clone(), key.destination.clone())).or_default().push(key.notification.clone());
    }
    groups.values_mut().for_each(|ids| ids.sort_unstable());
    groups
}
