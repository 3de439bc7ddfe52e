//! Tells subscribers which rows a committed batch has changed. A view costs nothing more while nobody watches it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{View, ViewKind};
use crate::store::{Cell, NotificationChange, Plan};

/// The changes of one view. Clones share them.
#[derive(Clone)]
pub struct Changes(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Changes with each change that somebody waits for.
    signal: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// The rows that somebody watches, and how many do.
    watched: HashMap<Arc<str>, usize>,
    /// Somebody watches all rows.
    all_watched: usize,
    changed: Changed,
}

/// What has changed since the last look.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// These watched rows; with `any`, other rows may have changed, too.
    Rows { rows: HashSet<Arc<str>>, any: bool },
    /// Any row may have changed.
    All,
}

impl Default for Changed {
    fn default() -> Self {
        Self::Rows { rows: HashSet::new(), any: false }
    }
}

/// The interest of somebody in one row, or in all rows, until it is dropped.
pub struct Watching {
    changes: Changes,
    row: Option<Arc<str>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), signal: watch::Sender::new(()) }))
    }
}

impl Changes {
    /// Watches a row, or all rows (`None`).
    pub fn watch(&self, row: Option<&Arc<str>>) -> Watching {
        let mut state = event::lock(&self.0.state);
        match row {
            Some(row) => *state.watched.entry(Arc::clone(row)).or_default() += 1,
            None => state.all_watched += 1,
        }
        Watching { changes: self.clone(), row: row.cloned() }
    }

    /// Returns a signal that changes after each change that somebody watches.
    pub fn signal(&self) -> watch::Receiver<()> {
        self.0.signal.subscribe()
    }

    /// Returns what has changed since the last call.
    pub fn take(&self) -> Changed {
        std::mem::take(&mut event::lock(&self.0.state).changed)
    }

    /// Notes that the rows of a plan are committed.
    pub fn note(&self, view: &View, plan: &Plan) {
        self.note_rows(view.rows_written(plan));
    }

    /// Notes that these rows have changed.
    pub fn note_rows<'r>(&self, changed_rows: impl Iterator<Item = &'r str>) {
        let mut state = event::lock(&self.0.state);
        let State { watched, all_watched, changed } = &mut *state;
        if watched.is_empty() && *all_watched == 0 {
            return;
        }
        if let Changed::Rows { rows, any } = changed {
            *any |= *all_watched > 0;
            rows.extend(
                changed_rows.filter_map(|row| watched.get_key_value(row)).map(|(row, _)| Arc::clone(row)),
            );
        }
        let is_of_interest = *changed != Changed::default();
        drop(state);
        if is_of_interest {
            self.0.signal.send_replace(());
        }
    }

    /// Notes that any row may have changed.
    pub fn note_all(&self) {
        event::lock(&self.0.state).changed = Changed::All;
        self.0.signal.send_replace(());
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = event::lock(&self.changes.0.state);
        match &self.row {
            None => state.all_watched -= 1,
            Some(row) => {
                if let Some(count) = state.watched.get_mut(row) {
                    *count -= 1;
                    if *count == 0 {
                        state.watched.remove(row);
                    }
                }
            }
        }
    }
}

impl View {
    /// Returns the rows that a plan of this view writes, as readers name them: the key of a balance, the group of
    /// statistics, the id of a notification. A table has no such name for its rows.
    fn rows_written<'p>(&self, plan: &'p Plan) -> impl Iterator<Item = &'p str> {
        let named = !matches!(self.kind, ViewKind::Table(_));
        let rows = plan.writes.iter().filter(move |_| named).flat_map(crate::store::Write::rows);
        let named = rows.filter_map(|row| match row.first() {
            Some(Cell::Text(name)) => Some(name.as_str()),
            _ => None,
        });
        let notifications = plan.notifications.iter().flat_map(|notifications| &notifications.changes);
        named.chain(notifications.map(|change| match change {
            NotificationChange::Queue(notification) => notification.id.as_str(),
            NotificationChange::Cancel { id } => id.as_str(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use event::{Decimal, LogId};

    use super::*;
    use crate::store::{Claim, Verb, Write};
    use crate::views::{Amount, Ledger, Rule};

    fn view() -> (View, Ledger) {
        let rule = Rule::By { field: 1, amounts: BTreeMap::from([("a".to_owned(), AMOUNT)]) };
        let ledger = Ledger::new("t", ["k", "v"], 0, rule);
        let kind = ViewKind::Ledger(ledger.clone());
        (View { name: "v".to_owned(), stream: "s".to_owned(), kind, batch: None }, ledger)
    }

    const AMOUNT: Amount = Amount { field: 2, negative: false };

    fn plan(ledger: &Ledger, keys: &[&str]) -> Plan {
        let claim = Claim { view: "v".to_owned(), log: LogId([1; 16]), from: 0, to: 1, definition: None };
        let cells = keys.iter().flat_map(|key| [Cell::Text((*key).to_owned()), Cell::Decimal(Decimal::ZERO)]);
        let write = Write { table: ledger.table(), verb: Verb::Add, cells: cells.collect() };
        Plan { writes: vec![write], ..Plan::new(claim) }
    }

    #[test]
    fn only_changes_of_watched_rows_are_noted() {
        let ((view, ledger), changes) = (view(), Changes::default());
        let signal = changes.signal();
        changes.note(&view, &plan(&ledger, &["a"]));
        assert!(!signal.has_changed().expect("open"));
        let row: Arc<str> = "b".into();
        let (first, second) = (changes.watch(Some(&row)), changes.watch(Some(&row)));
        changes.note(&view, &plan(&ledger, &["a"]));
        assert!(!signal.has_changed().expect("open"));
        changes.note(&view, &plan(&ledger, &["a", "b", "c"]));
        assert!(signal.has_changed().expect("open"));
        assert_eq!(changes.take(), Changed::Rows { rows: HashSet::from([Arc::clone(&row)]), any: false });
        drop(first);
        changes.note(&view, &plan(&ledger, &["b"]));
        assert_eq!(
            changes.take(),
            Changed::Rows { rows: HashSet::from([row]), any: false },
            "one of two still watches"
        );
        drop(second);
        changes.note(&view, &plan(&ledger, &["b"]));
        assert_eq!(changes.take(), Changed::default());
    }

    #[test]
    fn all_rows_may_have_changed_whether_somebody_watches_them_or_not() {
        let changes = Changes::default();
        changes.note_all();
        assert_eq!((changes.take(), changes.take()), (Changed::All, Changed::default()));
    }
}
