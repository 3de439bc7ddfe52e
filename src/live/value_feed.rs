//! Present values of one view for all their subscribers. A value is read once after a change, however many subscribers it
//! has, at most once in a while. If several changes come in between, the newest value wins.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::limits::{
    VALUE_AGE_MAX, VALUE_FAILED_INTERVAL, VALUE_INTERVAL_MIN, VALUES_READ_MAX, VALUES_RETRY_INTERVAL,
};
use event::{LogSample, Stop};
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
    /// Wakes the feed when somebody begins to watch a value.
    added: Notify,
}

/// A watched value, by its number.
struct WatchedValue {
    query: ValueQuery,
    sender: watch::Sender<Option<Value>>,
    /// When the value has to be read; `None` if it has not changed.
    due: Option<Instant>,
    /// When the value was read last.
    read: Option<Instant>,
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
    /// `None` once it is dropped.
    receiver: Option<watch::Receiver<Option<Value>>>,
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
        let number = known.unwrap_or_else(|| watched.add(query, self.view.changes.watch(query.row())));
        // A new reader also gets what somebody else has changed with SQL, of which the view does not know.
        watched.read_again(number, Instant::now());
        self.added.notify_one();
        let mut receiver = watched.all[&number].sender.subscribe();
        // The first one is the present value, if it is known already.
        receiver.mark_changed();
        ValueReceiver { feed: Arc::clone(self), number, receiver: Some(receiver) }
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
            Changed::Rows { rows, any } => {
                let of_any = any.then_some(None);
                for row in rows.into_iter().map(Some).chain(of_any) {
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
                Err(StoreError::Transient(_) | StoreError::Closed) => {
                    let numbers = due.iter().map(|(number, _)| *number);
                    numbers.for_each(|number| watched.set_due_in(number, now, VALUES_RETRY_INTERVAL));
                    return;
                }
                Err(_) => {
                    drop(watched);
                    self.publish_alone(&due).await;
                }
            }
        }
    }

    /// Reads values one by one, because one of them cannot be read.
    async fn publish_alone(&self, due: &[(u64, ValueQuery)]) {
        for (number, query) in due {
            let read = value::read(&self.store, &self.view.view, &[query]).await;
            let (mut watched, now) = (event::lock(&self.watched), Instant::now());
            match read {
                Ok(values) => watched.publish([*number].into_iter(), values, now),
                Err(error) => {
                    self.note_failure(&error);
                    let is_outage = matches!(error, StoreError::Transient(_) | StoreError::Closed);
                    let delay = if is_outage { VALUES_RETRY_INTERVAL } else { VALUE_FAILED_INTERVAL };
                    watched.set_due_in(*number, now, delay);
                }
            }
        }
    }

    /// The server reports an outage of the store.
    fn note_failure(&self, error: &StoreError) {
        static LINES: LogSample = LogSample::new();
        let view = &self.view.view.name;
        match error {
            StoreError::Transient(_) | StoreError::Closed => {
                tracing::debug!(view, %error, "a value for subscribers could not be read; trying again");
            }
            _ => {
                if let Some(left_out) = LINES.next() {
                    tracing::warn!(view, %error, left_out, "a value for subscribers could not be read; trying again");
                }
            }
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
            read: None,
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

    /// Lets a value be read as soon as the time between two reads, and so between two messages, allows it.
    fn set_due(&mut self, number: u64, now: Instant) {
        let Some(value) = self.all.get(&number) else { return };
        let earliest = value.read.map_or(now, |read| read + VALUE_INTERVAL_MIN);
        self.set_due_in(number, now, earliest.saturating_duration_since(now));
    }

    /// Lets a value be read that was not read for a while.
    fn read_again(&mut self, number: u64, now: Instant) {
        let read = self.all.get(&number).and_then(|value| value.read);
        if read.is_some_and(|read| now >= read + VALUE_AGE_MAX) {
            self.set_due(number, now);
        }
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
            value.read = Some(now);
            let at = &values.place;
            value.sender.send_if_modified(|known| {
                let is_same = known.as_ref().is_some_and(|known| {
                    *known.content == *content && !known.at.is_replaced_by(at.generation)
                });
                // Also for the same value: it is true at the later place, too.
                *known = Some(Value { content: content.into(), at: at.clone(), place: Arc::clone(&place) });
                !is_same
            });
        }
    }
}

impl ValueReceiver {
    /// Waits for a value that was not returned yet. The first one is the present value.
    pub async fn next(&mut self) -> Value {
        let Some(receiver) = &mut self.receiver else { return std::future::pending().await };
        loop {
            // The feed holds the sender as long as there is a receiver.
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(value) = receiver.borrow_and_update().clone() {
                return value;
            }
        }
    }

    /// Returns the present value, which counts as returned.
    pub fn present(&mut self) -> Option<Value> {
        self.receiver.as_mut()?.borrow_and_update().clone()
    }

    /// Lets the value be read again, although it may not have changed.
    pub fn read_again(&self) {
        event::lock(&self.feed.watched).set_due(self.number, Instant::now());
        self.feed.added.notify_one();
    }
}

impl Drop for ValueReceiver {
    fn drop(&mut self) {
        let mut watched = event::lock(&self.feed.watched);
        // Under the lock, so that the last two that are dropped together do not both count the other.
        self.receiver = None;
        if watched.all.get(&self.number).is_some_and(|value| value.sender.receiver_count() == 0) {
            watched.remove(self.number);
        }
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
        // A change that leaves the value as it was is not sent.
        watched.publish([number].into_iter(), values(&["1"]), later);
        assert!(!receiver.has_changed().expect("open"));
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
