//! The source of a feed: the events of a stream in the log, or the rows of a table in the store.

use event::LogSample;
use event::limits::{FEED_PAGE_BYTES_MAX, FEED_PAGE_ITEMS_MAX, VALUES_RETRY_INTERVAL};
use tokio::sync::watch;

use super::cursor::Cursor;
use super::feed::{FeedItem, FeedPage};
use super::message::{About, ResetReason};
use super::row_page::{RowSource, RowsWatched};
use super::stream_page::{EventFilter, StreamEvent, StreamPage, stream_page};
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

    /// Returns whether reading waits for the store.
    pub fn uses_store(&self) -> bool {
        matches!(self, Self::Rows(_))
    }

    /// Returns the place after all events or rows that there are now.
    pub async fn end(&self) -> Result<Cursor, FeedError> {
        match self {
            Self::Events(events) => Ok(events.end()),
            Self::Rows(rows) => Ok(rows.end().await?),
        }
    }

    /// Begins to note changes.
    pub fn changes(&self) -> FeedChanges {
        match self {
            Self::Events(events) => FeedChanges::Events(events.log.follow()),
            Self::Rows(rows) => FeedChanges::Rows(rows.changes()),
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

    /// Logs an error. The server reports an outage of the store.
    pub fn note(&self, error: &FeedError) {
        static LINES: LogSample = LogSample::new();
        let about = self.about();
        match error {
            FeedError::Store(StoreError::Transient(_) | StoreError::Closed) | FeedError::Stopped => {
                tracing::debug!(?about, %error, "cannot read for subscribers; trying again");
            }
            _ => {
                if let Some(left_out) = LINES.next() {
                    tracing::warn!(?about, %error, left_out, "cannot read for subscribers; trying again");
                }
            }
        }
    }

    /// Waits before the next attempt.
    pub async fn wait_after_error(&self) {
        tokio::time::sleep(VALUES_RETRY_INTERVAL).await;
    }
}

/// Changes of a source since this was made.
pub enum FeedChanges {
    Events(watch::Receiver<u64>),
    Rows(RowsWatched),
}

impl FeedChanges {
    /// Waits until there may be something after `at` that was not there at the last call.
    pub async fn beyond(&mut self, source: &FeedSource, at: &Cursor) {
        match (self, source) {
            (Self::Events(end), FeedSource::Events(events)) => {
                let position = at.position(events.log.id());
                // The log exists as long as the server.
                let _ = end.wait_for(|end| *end > position).await;
            }
            (Self::Rows(rows), _) => rows.change().await,
            (Self::Events(_), FeedSource::Rows(_)) => std::future::pending().await,
        }
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
        let (log, filter) = (self.log.clone(), filter.unwrap_or(&self.all).with_corrections());
        let position = from.position(log.id());
        // Reading waits for the disk.
        let read = tokio::task::spawn_blocking(move || {
            stream_page(&log, &filter, position, FEED_PAGE_ITEMS_MAX, FEED_PAGE_BYTES_MAX)
        });
        match read.await.map_err(|_| FeedError::Stopped)? {
            Ok(StreamPage { events, next, .. }) => {
                let (from, next) = (from.clone(), Cursor::in_log(self.log.id(), next));
                let items = events.into_iter().map(|event| self.item(event)).collect();
                Ok(FeedPage { from, next, items, reset: None })
            }
            // Retention has deleted events meanwhile.
            Err(ReadError::BelowBegin { .. }) => {
                Ok(FeedPage::restart(from, self.begin(), ResetReason::Deleted))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn item(&self, StreamEvent { body, selected_by }: StreamEvent) -> FeedItem {
        let content = serde_json::to_string(&body).expect("texts and numbers are serializable").into();
        let (log, position) = (self.log.id(), body.position);
        let place = Cursor::in_log(log, position + 1).to_string().into();
        FeedItem { log, position, place, content, selected_by: selected_by.into() }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event::{Field, Fields, Kind, Millis};

    use super::*;
    use crate::log::{Entry, Header, RecordBuilder, Shape};

    async fn append(log: &EventLog, stream: &str) {
        let shape = Shape { ids: false, corrections: false, lines: false };
        let mut record = RecordBuilder::new(&Header::of(stream, Millis::now()), shape, 0);
        record.push(&Entry { text: r#"{"who":"ann"}"#, ..Entry::default() });
        log.append(&record).await.expect("appended");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_whose_place_was_deleted_continues_with_what_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, _) = EventLog::open("journal:", folder.path()).expect("open");
        for stream in ["s", "other", "s"] {
            append(&log, stream).await;
        }
        let of_trim = log.clone();
        let begin = tokio::task::spawn_blocking(move || {
            let end = of_trim.seal().expect("sealed");
            of_trim.trim(end).expect("trimmed")
        });
        let begin = begin.await.expect("joined");
        append(&log, "s").await;
        let who = Field { name: "who".to_owned(), kind: Kind::text(9), required: true, one_of: Vec::new() };
        let filter = EventFilter::new("s", &Arc::new(Fields::new(vec![who], 0)), None, None).expect("valid");
        let source = EventSource::new(&log, &filter);
        let at = |position| Cursor::in_log(log.id(), position);
        assert_eq!(source.reset_at(&at(1)), Some((ResetReason::Deleted, at(begin))));
        assert_eq!(source.reset_at(&at(begin)), None);
        assert_eq!(source.reset_at(&at(9)), Some((ResetReason::OtherLog, source.end())));
        // Retention may delete events while somebody reads them.
        let page = source.page(&at(1), None).await.expect("read");
        assert_eq!((page.reset, page.items.len(), &page.next), (Some(ResetReason::Deleted), 0, &at(begin)));
        let page = source.page(&page.next, None).await.expect("read");
        assert_eq!((page.reset, page.items.len(), page.next), (None, 1, source.end()));
        tokio::task::spawn_blocking(move || log.close()).await.expect("joined").expect("closed");
    }
}
