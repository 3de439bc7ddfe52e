//! The source of a feed: the events of a stream in the log, or the rows of a table in the store.

use event::limits::{FEED_PAGE_BYTES_MAX, FEED_PAGE_ITEMS_MAX, VALUES_RETRY_INTERVAL};

use super::cursor::Cursor;
use super::event_body::EventBody;
use super::feed::{FeedItem, FeedPage};
use super::message::{About, ResetReason};
use super::row_page::RowSource;
use super::stream_page::{EventFilter, StreamPage, stream_page};
use crate::log::{EventLog, ReadError};
use crate::store::StoreError;

pub enum FeedSource {
    Events(EventSource),
    Rows(Box<RowSource>),
}

/// The events of one stream.
pub struct EventSource {
    pub log: EventLog,
    pub stream: String,
    /// Selects all of them.
    pub all: EventFilter,
}

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("{0}")]
    Log(#[from] ReadError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the server stops")]
    Stopped,
}

impl FeedSource {
    pub fn about(&self) -> About {
        match self {
            Self::Events(events) => About::Stream(events.stream.clone()),
            Self::Rows(rows) => About::View(rows.name().to_owned()),
        }
    }

    /// Returns the place after all events or rows that there are now.
    pub async fn end(&self) -> Result<Cursor, FeedError> {
        match self {
            Self::Events(events) => Ok(events.end()),
            Self::Rows(rows) => Ok(rows.end().await?),
        }
    }

    /// Waits until there may be something after `at`.
    pub async fn beyond(&self, at: &Cursor) {
        match self {
            Self::Events(events) => {
                let position = at.position(events.log.id());
                // The log exists as long as the server.
                let _ = events.log.follow().wait_for(|end| *end > position).await;
            }
            Self::Rows(rows) => rows.change().await,
        }
    }

    /// Reads what follows on `from`; with a filter, only the events that it selects. Searches a bounded part, so a page may
    /// be empty. A page that ends where it begins is the last one.
    pub async fn page(&self, from: &Cursor, filter: Option<&EventFilter>) -> Result<FeedPage, FeedError> {
        match self {
            Self::Events(events) => events.page(from, filter).await,
            Self::Rows(rows) => Ok(rows.page(from).await?),
        }
    }

    /// Returns why a reader at this place has to start again, and where, if it has to.
    pub async fn reset_at(&self, at: &Cursor) -> Result<Option<(ResetReason, Cursor)>, FeedError> {
        match self {
            Self::Events(events) => Ok(events.reset_at(at)),
            Self::Rows(rows) => Ok(rows.reset_at(at).await?),
        }
    }

    /// Waits before the next attempt after an error. The server reports an outage of the store.
    pub async fn wait_after(&self, error: &FeedError) {
        let about = self.about();
        match error {
            FeedError::Store(StoreError::Transient(_) | StoreError::Closed) | FeedError::Stopped => {
                tracing::debug!(?about, %error, "cannot read for subscribers; trying again");
            }
            _ => tracing::warn!(?about, %error, "cannot read for subscribers; trying again"),
        }
        tokio::time::sleep(VALUES_RETRY_INTERVAL).await;
    }
}

impl EventSource {
    pub fn new(log: &EventLog, filter: &EventFilter) -> Self {
        Self { log: log.clone(), stream: filter.stream.clone(), all: filter.without_value() }
    }

    pub fn end(&self) -> Cursor {
        Cursor::in_log(self.log.id(), self.log.end())
    }

    fn begin(&self) -> Cursor {
        Cursor::in_log(self.log.id(), self.log.begin())
    }

    async fn page(&self, from: &Cursor, filter: Option<&EventFilter>) -> Result<FeedPage, FeedError> {
        let (log, filter) = (self.log.clone(), filter.unwrap_or(&self.all).clone());
        let position = from.position(log.id());
        // Reading waits for the disk.
        let read = tokio::task::spawn_blocking(move || {
            stream_page(&log, &filter, position, FEED_PAGE_ITEMS_MAX, FEED_PAGE_BYTES_MAX)
        });
        match read.await.map_err(|_| FeedError::Stopped)? {
            Ok(StreamPage { events, next, .. }) => {
                let (from, next) = (from.clone(), Cursor::in_log(self.log.id(), next));
                let items = events.iter().map(|event| self.item(event)).collect();
                Ok(FeedPage { from, next, items, reset: None })
            }
            // Retention has deleted events meanwhile.
            Err(ReadError::BelowBegin { .. }) => {
                let reset = Some(ResetReason::Deleted);
                Ok(FeedPage { from: from.clone(), next: self.begin(), items: Vec::new(), reset })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn item(&self, event: &EventBody) -> FeedItem {
        let content = serde_json::to_string(event).expect("texts and numbers are serializable");
        // The event's own text is the last member.
        let end = content.len() - 1;
        let begin = end - event.event.as_ref().map_or(0, |event| event.get().len());
        let (log, position) = (self.log.id(), event.position);
        let place = Cursor::in_log(log, position + 1).to_string().into();
        FeedItem { log, position, place, content: content.into(), event: begin..end }
    }

    fn reset_at(&self, at: &Cursor) -> Option<(ResetReason, Cursor)> {
        match at.positions() {
            [(log, position)] if *log == self.log.id() && *position <= self.log.end() => {
                // All that is left is new for a reader that has not seen what was before it.
                (*position < self.log.begin()).then(|| (ResetReason::Deleted, self.begin()))
            }
            _ => Some((ResetReason::OtherLog, self.end())),
        }
    }
}
