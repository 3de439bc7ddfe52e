//! The pages of readers that read for themselves, because they are behind. Their memory is bounded for all readers
//! together: if it is full, the oldest page goes, and its reader reads it again when it gets to it. So a reader that does
//! not read its connection keeps nothing, and keeps nobody waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use event::limits::{FEED_REPLAYED_BYTES_MAX, FEED_REPLAYS_AT_ONCE_MAX};
use tokio::sync::Semaphore;

use super::cursor::Cursor;
use super::feed::{Feed, FeedPage};
use super::feed_source::FeedError;
use super::message::ResetReason;
use super::stream_page::EventFilter;

/// Clones share the limits.
#[derive(Clone)]
pub struct Replays(Arc<Shared>);

struct Shared {
    /// Turns to read the log, and to read the store: an outage of the store does not keep readers of streams waiting.
    log_reads: Semaphore,
    store_reads: Semaphore,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    last: u64,
    all: BTreeMap<u64, (usize, Arc<FeedPage>)>,
    bytes: usize,
}

/// A page of one reader. It may go while the reader does not need it.
pub struct ReplayedPage {
    pub page: Weak<FeedPage>,
    number: u64,
    replays: Replays,
}

/// The beginning of a reader: the end of the feed, and why it has to start again, and where, if it has to.
pub struct Beginning {
    pub end: Cursor,
    pub reset: Option<(ResetReason, Cursor)>,
}

impl Replays {
    pub fn new() -> Self {
        let turns = || Semaphore::new(FEED_REPLAYS_AT_ONCE_MAX);
        Self(Arc::new(Shared { log_reads: turns(), store_reads: turns(), pages: Mutex::default() }))
    }

    /// Finds out where a reader begins that has everything before `after`.
    pub async fn begin(&self, feed: &Arc<Feed>, after: Option<Cursor>) -> Result<Beginning, FeedError> {
        let (shared, feed) = (Arc::clone(&self.0), Arc::clone(feed));
        let uses_store = feed.source.uses_store();
        in_turn(shared, uses_store, async move {
            let end = feed.source.end().await?;
            let reset = match after {
                Some(after) => feed.source.reset_at(&after).await?,
                None => None,
            };
            Ok(Beginning { end, reset })
        })
        .await
    }

    /// Returns the end of a feed.
    pub async fn end(&self, feed: &Arc<Feed>) -> Result<Cursor, FeedError> {
        Ok(self.begin(feed, None).await?.end)
    }

    /// Reads the page that follows on `at`. If the reader has to start again, returns an empty page that says so.
    pub async fn read(
        &self,
        feed: &Arc<Feed>,
        at: &Cursor,
        filter: Option<&EventFilter>,
    ) -> Result<FeedPage, FeedError> {
        let (shared, feed, at, filter) = (Arc::clone(&self.0), Arc::clone(feed), at.clone(), filter.cloned());
        let uses_store = feed.source.uses_store();
        in_turn(shared, uses_store, async move {
            let page = feed.source.page(&at, filter.as_ref()).await?;
            // Asked after the page: what was deleted meanwhile may be missing in it.
            match feed.source.reset_at(&at).await? {
                Some((reason, next)) => Ok(FeedPage::restart(&at, next, reason)),
                None => Ok(page),
            }
        })
        .await
    }

    /// Keeps a page for its reader, as long as there is memory.
    pub fn keep(&self, page: FeedPage) -> ReplayedPage {
        let (bytes, page) = (page.bytes(), Arc::new(page));
        let mut pages = event::lock(&self.0.pages);
        pages.last += 1;
        let (number, reference) = (pages.last, Arc::downgrade(&page));
        pages.all.insert(number, (bytes, page));
        pages.bytes += bytes;
        // The newest page stays, however large it is.
        while pages.bytes > FEED_REPLAYED_BYTES_MAX && pages.all.len() > 1 {
            if let Some((_, (bytes, _))) = pages.all.pop_first() {
                pages.bytes -= bytes;
            }
        }
        ReplayedPage { page: reference, number, replays: self.clone() }
    }
}

/// Does this work when it is its turn. It runs to its end in a task: a reader that is not asked for more would keep its
/// turn from others.
async fn in_turn<T: Send + 'static>(
    shared: Arc<Shared>,
    uses_store: bool,
    work: impl Future<Output = Result<T, FeedError>> + Send + 'static,
) -> Result<T, FeedError> {
    let task = tokio::spawn(async move {
        let reads = if uses_store { &shared.store_reads } else { &shared.log_reads };
        let _turn = reads.acquire().await.map_err(|_| FeedError::Stopped)?;
        work.await
    });
    task.await.unwrap_or(Err(FeedError::Stopped))
}

impl Drop for ReplayedPage {
    fn drop(&mut self) {
        let mut pages = event::lock(&self.replays.0.pages);
        if let Some((bytes, _)) = pages.all.remove(&self.number) {
            pages.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use event::LogId;

    use super::*;
    use crate::live::feed::FeedItem;

    fn page(bytes: usize) -> FeedPage {
        let (log, content) = (LogId([1; 16]), "x".repeat(bytes).into());
        let item = FeedItem { log, position: 0, place: "".into(), content, selected_by: "".into() };
        FeedPage { from: Cursor::default(), next: Cursor::default(), items: vec![item], reset: None }
    }

    #[test]
    fn the_oldest_pages_go_when_there_are_too_many_bytes() {
        let (replays, half) = (Replays::new(), FEED_REPLAYED_BYTES_MAX / 2);
        let pages: Vec<ReplayedPage> = (0..3).map(|_| replays.keep(page(half))).collect();
        let kept = |pages: &[ReplayedPage]| -> Vec<bool> {
            pages.iter().map(|page| page.page.upgrade().is_some()).collect()
        };
        assert_eq!(kept(&pages), [false, true, true]);
        drop(pages);
        assert_eq!(event::lock(&replays.0.pages).bytes, 0);
        let large = replays.keep(page(2 * FEED_REPLAYED_BYTES_MAX));
        assert!(large.page.upgrade().is_some());
    }
}
