//! Live: tells readers what changes, as it changes. It knows no transport: a subscription is a stream of messages, which
//! Server-Sent Events, WebSockets and Socket.IO carry.
//!
//! There are two kinds. A value (a balance, statistics, the status of a notification) is always sent as a whole, and
//! never replayed. Events and rows are sent one by one, and a reader that comes again gets what it has missed.

mod cursor;
mod event_body;
mod feed;
mod feed_source;
mod message;
mod other_nodes;
mod replays;
mod row_page;
mod stream_page;
mod subscription;
mod subscriptions;
mod target;
mod value;
mod value_feed;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};

use event::{Fields, Stop};

use crate::log::EventLog;
use crate::store::Store;
use crate::views::{ParameterError, Running, ViewKind};

use cursor::Cursor;
use feed::Feed;
use feed_source::{EventSource, FeedSource};
use message::About;
use other_nodes::Watchers;
use replays::Replays;
use row_page::RowSource;
use subscription::{Begin, Messages};
use target::TargetKind;
use value_feed::ValueFeed;

pub use event_body::{EventBody, LeftOut};
pub use message::Message;
pub use stream_page::{EventFilter, stream_page};
pub use subscriptions::{Subscriptions, split_places};
pub use target::{SubscriptionRequest, Target, TargetError};

/// Everything that can be watched. Clones share it.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    log: EventLog,
    store: Store,
    streams: BTreeMap<String, Arc<Fields>>,
    views: BTreeMap<String, Running>,
    values: BTreeMap<String, Arc<ValueFeed>>,
    /// The feeds that somebody has watched, of streams and of tables.
    streams_watched: Mutex<BTreeMap<String, Arc<Feed>>>,
    tables_watched: Mutex<BTreeMap<String, Arc<Feed>>>,
    replays: Replays,
    watchers: Watchers,
    stop: Stop,
}

impl Live {
    pub fn start(
        log: &EventLog,
        store: &Store,
        streams: &BTreeMap<String, Arc<Fields>>,
        views: &BTreeMap<String, Running>,
        stop: &Stop,
    ) -> Self {
        let has_values = |running: &&Running| !matches!(running.view.kind, ViewKind::Table(_));
        let values = views.values().filter(has_values);
        let values =
            values.map(|running| (running.view.name.clone(), ValueFeed::start(running, store, stop)));
        let watchers = Watchers::new();
        let (of_nodes, of_store) = (watchers.clone(), store.clone());
        tokio::spawn(other_nodes::watch_positions(of_store, log.id(), views.clone(), of_nodes, stop.clone()));
        Self(Arc::new(Shared {
            log: log.clone(),
            store: store.clone(),
            streams: streams.clone(),
            views: views.clone(),
            values: values.collect(),
            streams_watched: Mutex::default(),
            tables_watched: Mutex::default(),
            replays: Replays::new(),
            watchers,
            stop: stop.clone(),
        }))
    }

    /// Checks a request against the streams and views that there are.
    pub fn target(&self, request: &SubscriptionRequest) -> Result<Target, TargetError> {
        request.target(&self.0.streams, &self.0.views)
    }

    /// Subscribes to a target, whose reader is known to be allowed to.
    pub fn subscribe(&self, target: &Target) -> Result<Messages, TargetError> {
        let watcher = self.0.watchers.add();
        let messages = match (&target.kind, &target.view) {
            (TargetKind::Events { filter, from }, _) => {
                let begin = match (&target.after, from) {
                    (Some(after), _) => Begin::After(after.clone()),
                    (None, Some(from)) => Begin::At(self.place_in_log(*from)?),
                    // The reader gets what is sent after its request was answered.
                    (None, None) => Begin::At(Cursor::in_log(self.0.log.id(), self.0.log.end())),
                };
                let own_filter = (!filter.selects_all()).then(|| filter.clone());
                subscription::items(self.events(filter), own_filter, begin, self.0.replays.clone(), watcher)
            }
            (TargetKind::Rows, Some(view)) => {
                let begin = target.after.clone().map_or(Begin::Now, Begin::After);
                subscription::items(self.rows(view)?, None, begin, self.0.replays.clone(), watcher)
            }
            (TargetKind::Value(query), Some(view)) => {
                let unknown = || TargetError::NoView(view.clone());
                let receiver = self.0.values.get(view).ok_or_else(unknown)?.watch(query);
                let about = About::View(view.clone());
                subscription::values(about, receiver, target.after.clone(), watcher)
            }
            (TargetKind::Rows | TargetKind::Value(_), None) => {
                return Err(TargetError::NoView(String::new()));
            }
        };
        Ok(messages)
    }

    fn place_in_log(&self, position: u64) -> Result<Cursor, TargetError> {
        let end = self.0.log.end();
        if position > end {
            let reason = format!("position {position} is beyond the end of the log, {end}");
            return Err(ParameterError { name: "from", reason }.into());
        }
        Ok(Cursor::in_log(self.0.log.id(), position.max(self.0.log.begin())))
    }

    fn events(&self, filter: &EventFilter) -> Arc<Feed> {
        let mut feeds = event::lock(&self.0.streams_watched);
        let feed = feeds.entry(filter.stream.clone()).or_insert_with(|| {
            let source = FeedSource::Events(EventSource::new(&self.0.log, filter));
            Feed::new(source, &self.0.stop)
        });
        Arc::clone(feed)
    }

    fn rows(&self, view: &str) -> Result<Arc<Feed>, TargetError> {
        let unknown = || TargetError::NoView(view.to_owned());
        let running = self.0.views.get(view).ok_or_else(unknown)?;
        let table = running.view.row_table().ok_or_else(unknown)?;
        match event::lock(&self.0.tables_watched).entry(view.to_owned()) {
            Entry::Occupied(feed) => Ok(Arc::clone(feed.get())),
            Entry::Vacant(place) => {
                let source =
                    FeedSource::Rows(Box::new(RowSource::new(running, table, &self.0.log, &self.0.store)));
                Ok(Arc::clone(place.insert(Feed::new(source, &self.0.stop))))
            }
        }
    }
}
