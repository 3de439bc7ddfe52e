//! Present values of one view for all their subscribers. A value is read once after a change, however many subscribers it
//! has, at most once in a while. If several changes come in between, the newest value wins.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::Stop;
use event::limits::{VALUE_INTERVAL_MIN, VALUES_READ_MAX, VALUES_RETRY_INTERVAL};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cursor::Cursor;
use super::value::{self, ValueQuery, Values};
use crate::store::{Store, StoreError};
use crate::views::{Changed, Running, Watching};

/// A value that was read.
#[derive(Clone, Debug)]
pub struct Value {
    pub content: Arc<str>,
    pub at: Cursor,
    /// The text of `at`.
    pub place: Arc<str>,
}

/// The values of one view that somebody watches.
pub struct ValueFeed {
    view: Running,
    store: Store,
    watched: Mutex<WatchedValues>,
    /// Told when a value is watched that was not before.
    added: Notify,
}

/// A watched value, by its number.
struct WatchedValue {
    query: ValueQuery,
    sender: watch::Sender<Option<Value>>,
    /// When the value has to be read; `None` if it has not changed.
    due: Option<Instant>,
    published: Option<Instant>,
    _watching: Watching,
}

#[derive(Default)]
struct WatchedValues {
    last: u64,
    all: HashMap<u64, WatchedValue>,
    numbers: HashMap<ValueQuery, u64>,
    /// The values that change with a row; under `None` those that change with any row.
    of_row: HashMap<Option<Arc<str>>, Vec<u64>>,
    due: BTreeSet<(Instant, u64)>,
}

/// A subscriber's view of one value. It holds the value in memory until it is dropped.
pub struct ValueReceiver {
    feed: Arc<ValueFeed>,
    number: u64,
    receiver: watch::Receiver<Option<Value>>,
}

impl ValueFeed {
    /// Starts to follow a view.
    pub fn start(view: &Running, store: &Store, stop: &Stop) -> Arc<Self> {
        let (view, store) = (view.clone(), store.clone());
        let feed = Arc::new(Self { view, store, watched: Mutex::default(), added: Notify::new() });
        tokio::spawn(Arc::clone(&feed).run(stop.clone()));
        feed
    }

    /// Watches a value.
    pub fn watch(self: &Arc<Self>, query: &ValueQuery) -> ValueReceiver {
        let mut watched = event::lock(&self.watched);
        let known = watched.numbers.get(query).copied();
        let number = known.unwrap_or_else(|| {
            self.added.notify_one();
            watched.add(query, self.view.changes.watch(query.row()))
        });
        let receiver = watched.all[&number].sender.subscribe();
        ValueReceiver { feed: Arc::clone(self), number, receiver }
    }

    async fn run(self: Arc<Self>, stop: Stop) {
        let mut signal = self.view.changes.signal();
        loop {
            let due = event::lock(&self.watched).next_due();
            tokio::select! {
                () = stop.wait() => return,
                // The sender is a part of the view.
                _ = signal.changed() => {}
                () = self.added.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            self.note_changes();
            self.publish_due().await;
        }
    }

    fn note_changes(&self) {
        let (changed, now) = (self.view.changes.take(), Instant::now());
        let mut watched = event::lock(&self.watched);
        match changed {
            Changed::All => {
                let all: Vec<u64> = watched.all.keys().copied().collect();
                all.into_iter().for_each(|number| watched.set_due(number, now));
            }
            Changed::Rows(rows) => {
                for row in rows.into_iter().map(Some).chain([None]) {
                    let numbers = watched.of_row.get(&row).cloned().unwrap_or_default();
                    numbers.into_iter().for_each(|number| watched.set_due(number, now));
                }
            }
        }
    }

    /// Reads the values that are due, and sends those that have changed.
    async fn publish_due(&self) {
        loop {
            let due = event::lock(&self.watched).take_due(Instant::now());
            if due.is_empty() {
                return;
            }
            let queries: Vec<&ValueQuery> = due.iter().map(|(_, query)| query).collect();
            let read = value::read(&self.store, &self.view.view, &queries).await;
            let mut watched = event::lock(&self.watched);
            let now = Instant::now();
            match read {
                Ok(values) => watched.publish(due.iter().map(|(number, _)| *number), values, now),
                Err(error) => {
                    self.note_failure(&error);
                    for (number, _) in &due {
                        watched.set_due_in(*number, now, VALUES_RETRY_INTERVAL);
                    }
                    return;
                }
            }
        }
    }

    /// The server reports an outage of the store.
    fn note_failure(&self, error: &StoreError) {
        let view = &self.view.view.name;
        match error {
            StoreError::Transient(_) | StoreError::Closed => {
                tracing::debug!(view, %error, "values for subscribers could not be read; trying again");
            }
            _ => tracing::warn!(view, %error, "values for subscribers could not be read; trying again"),
        }
    }

    fn remove_unwatched(&self, number: u64) {
        let mut watched = event::lock(&self.watched);
        // The last receiver still exists while it is dropped.
        if watched.all.get(&number).is_some_and(|value| value.sender.receiver_count() <= 1) {
            watched.remove(number);
        }
    }
}

impl WatchedValues {
    fn add(&mut self, query: &ValueQuery, watching: Watching) -> u64 {
        self.last += 1;
        let number = self.last;
        let value = WatchedValue {
            query: query.clone(),
            sender: watch::Sender::new(None),
            due: None,
            published: None,
            _watching: watching,
        };
        self.numbers.insert(query.clone(), number);
        self.of_row.entry(query.row().cloned()).or_default().push(number);
        self.all.insert(number, value);
        self.set_due(number, Instant::now());
        number
    }

    fn remove(&mut self, number: u64) {
        let Some(value) = self.all.remove(&number) else { return };
        self.numbers.remove(&value.query);
        let row = value.query.row().cloned();
        if let Some(numbers) = self.of_row.get_mut(&row) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.of_row.remove(&row);
            }
        }
        if let Some(due) = value.due {
            self.due.remove(&(due, number));
        }
    }

    /// Lets a value be read as soon as the time between two messages allows it.
    fn set_due(&mut self, number: u64, now: Instant) {
        let Some(value) = self.all.get(&number) else { return };
        let earliest = value.published.map_or(now, |published| published + VALUE_INTERVAL_MIN);
        self.set_due_in(number, now, earliest.saturating_duration_since(now));
    }

    fn set_due_in(&mut self, number: u64, now: Instant, delay: Duration) {
        let Some(value) = self.all.get_mut(&number) else { return };
        if value.due.is_none() {
            value.due = Some(now + delay);
            self.due.insert((now + delay, number));
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes some of the values that are due now.
    fn take_due(&mut self, now: Instant) -> Vec<(u64, ValueQuery)> {
        let mut taken = Vec::new();
        while taken.len() < VALUES_READ_MAX
            && let Some((due, number)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            if let Some(value) = self.all.get_mut(&number) {
                value.due = None;
                taken.push((number, value.query.clone()));
            }
        }
        taken
    }

    fn publish(&mut self, numbers: impl Iterator<Item = u64>, values: Values, now: Instant) {
        let place: Arc<str> = values.place.to_string().into();
        for (number, content) in numbers.zip(values.contents) {
            let Some(value) = self.all.get_mut(&number) else { continue };
            let at = &values.place;
            let is_new = value.sender.send_if_modified(|known| {
                let is_same = known.as_ref().is_some_and(|known| {
                    *known.content == *content && !known.at.is_replaced_by(at.generation)
                });
                if !is_same {
                    let (at, place) = (at.clone(), Arc::clone(&place));
                    *known = Some(Value { content: content.into(), at, place });
                }
                !is_same
            });
            if is_new {
                value.published = Some(now);
            }
        }
    }
}

impl ValueReceiver {
    /// Waits for a value that was not returned yet. The first one is the present value.
    pub async fn next(&mut self) -> Value {
        loop {
            // The feed holds the sender as long as there is a receiver.
            if self.receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(value) = self.receiver.borrow_and_update().clone() {
                return value;
            }
        }
    }

    /// Lets `next` return the present value first, if it is known already.
    pub fn with_present(mut self) -> Self {
        self.receiver.mark_changed();
        self
    }
}

impl Drop for ValueReceiver {
    fn drop(&mut self) {
        self.feed.remove_unwatched(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::Changes;

    fn query(key: &str) -> ValueQuery {
        ValueQuery::Balance { key: key.into() }
    }

    fn values(contents: &[&str]) -> Values {
        Values { contents: contents.iter().map(|&text| text.to_owned()).collect(), place: Cursor::default() }
    }

    fn numbers(taken: &[(u64, ValueQuery)]) -> Vec<u64> {
        taken.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_value_that_changes_often_is_read_at_intervals() {
        let (changes, mut watched) = (Changes::default(), WatchedValues::default());
        let number = watched.add(&query("a"), changes.watch(None));
        let begun = Instant::now();
        assert_eq!(numbers(&watched.take_due(begun)), [number]);
        let mut receiver = watched.all[&number].sender.subscribe();
        watched.publish([number].into_iter(), values(&["1"]), begun);
        assert!(receiver.has_changed().expect("open"));
        receiver.mark_unchanged();
        // Changes in the same interval are read once, at its end.
        let soon = begun + VALUE_INTERVAL_MIN / 2;
        watched.set_due(number, soon);
        watched.set_due(number, soon);
        assert!(watched.take_due(soon).is_empty());
        assert_eq!(watched.next_due(), Some(begun + VALUE_INTERVAL_MIN));
        let later = begun + VALUE_INTERVAL_MIN;
        assert_eq!(numbers(&watched.take_due(later)), [number]);
        // A change that leaves the value as it was is not sent, and delays no other.
        watched.publish([number].into_iter(), values(&["1"]), later);
        assert!(!receiver.has_changed().expect("open"));
        watched.set_due(number, later);
        assert_eq!(watched.next_due(), Some(later));
        watched.remove(number);
        assert!(watched.due.is_empty() && watched.of_row.is_empty() && watched.numbers.is_empty());
    }

    #[test]
    fn many_values_are_read_in_parts() {
        let (changes, mut watched) = (Changes::default(), WatchedValues::default());
        for key in 0..=VALUES_READ_MAX {
            watched.add(&query(&key.to_string()), changes.watch(None));
        }
        let later = Instant::now() + VALUE_INTERVAL_MIN;
        assert_eq!(watched.take_due(later).len(), VALUES_READ_MAX);
        assert_eq!(watched.take_due(later).len(), 1);
    }
}
