//! Events of a stream, or rows of a table, for all their subscribers. Each is read once while its subscribers are up to
//! date. A subscriber that comes again, or that is behind, reads its own pages until it is up to date.

use std::sync::{Arc, Mutex};

use event::limits::{FEED_BEHIND_POSITIONS_MAX, FEED_INTERVAL_MIN, FEED_PAGES_MAX};
use event::{LogId, Stop};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::cursor::Cursor;
use super::feed_source::FeedSource;
use super::message::ResetReason;

/// Consecutive events or rows.
pub struct FeedPage {
    pub from: Cursor,
    pub next: Cursor,
    pub items: Vec<FeedItem>,
    /// Readers at `from` have to start again at `next`.
    pub reset: Option<ResetReason>,
}

/// An event or a row.
pub struct FeedItem {
    pub log: LogId,
    pub position: u64,
    /// The text of the cursor after this item.
    pub place: Arc<str>,
    pub content: Arc<str>,
    /// The bytes of the content that are the event's own text; empty if there is none.
    pub event: std::ops::Range<usize>,
}

impl FeedPage {
    pub fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.content.len()).sum()
    }
}

impl FeedItem {
    /// Returns the event's own text.
    pub fn event(&self) -> &str {
        &self.content[self.event.clone()]
    }
}

/// The state that the subscribers of one stream or table share.
pub struct Feed {
    pub source: FeedSource,
    stop: Stop,
    tail: Mutex<Option<Tail>>,
}

/// The pages that are read for the subscribers that are up to date, while there are any.
#[derive(Clone)]
struct Tail {
    pages: broadcast::Sender<Arc<FeedPage>>,
    /// Everything before this place was sent.
    sent: Arc<Mutex<Cursor>>,
}

/// The channel over which a subscriber gets new pages.
pub struct TailReceiver {
    pages: broadcast::Receiver<Arc<FeedPage>>,
    sent: Arc<Mutex<Cursor>>,
}

/// The next thing that a subscriber gets.
pub enum Next {
    Page(Arc<FeedPage>),
    /// Some pages are not there any more.
    Behind,
}

impl Feed {
    pub fn new(source: FeedSource, stop: &Stop) -> Arc<Self> {
        Arc::new(Self { source, stop: stop.clone(), tail: Mutex::default() })
    }

    /// Returns the pages that are read from now on. `end` is a place that is not behind the present end.
    pub fn follow(self: &Arc<Self>, end: &Cursor) -> TailReceiver {
        let mut tail = event::lock(&self.tail);
        let Tail { pages, sent } = tail.get_or_insert_with(|| {
            let pages = broadcast::Sender::new(FEED_PAGES_MAX);
            let new = Tail { pages, sent: Arc::new(Mutex::new(end.clone())) };
            tokio::spawn(Arc::clone(self).run(new.clone()));
            new
        });
        TailReceiver { pages: pages.subscribe(), sent: Arc::clone(sent) }
    }

    async fn run(self: Arc<Self>, tail: Tail) {
        let mut at = event::lock(&tail.sent).clone();
        let mut sent_up_to = at.clone();
        loop {
            tokio::select! {
                () = self.stop.wait() => return,
                () = tail.pages.closed() => {}
                () = self.source.beyond(&at) => {}
            }
            if self.ends_without_subscribers(&tail) {
                return;
            }
            self.send_pages(&tail, &mut at, &mut sent_up_to).await;
            tokio::time::sleep(FEED_INTERVAL_MIN).await;
        }
    }

    fn ends_without_subscribers(&self, tail: &Tail) -> bool {
        let mut current = event::lock(&self.tail);
        let ends = tail.pages.receiver_count() == 0;
        if ends {
            *current = None;
        }
        ends
    }

    async fn send_pages(&self, tail: &Tail, at: &mut Cursor, sent_up_to: &mut Cursor) {
        for pages in 1_usize.. {
            let page = match self.source.page(at, None).await {
                Ok(page) => page,
                Err(error) => return self.source.wait_after(&error).await,
            };
            if page.next == *at {
                return;
            }
            at.clone_from(&page.next);
            // Nobody has to wake up for a page without content: the next one follows on it.
            if !page.items.is_empty() || page.reset.is_some() {
                let from = std::mem::replace(sent_up_to, at.clone());
                // Without a receiver, it is sent to nobody.
                let _ = tail.pages.send(Arc::new(FeedPage { from, ..page }));
            }
            if pages % FEED_PAGES_MAX == 0 && self.skip_ahead(at).await {
                sent_up_to.clone_from(at);
            }
            event::lock(&tail.sent).clone_from(at);
        }
    }

    /// While much more arrives than can be sent, the subscribers' pages continue at the end. Returns whether they do.
    async fn skip_ahead(&self, at: &mut Cursor) -> bool {
        let end = self.source.end().await;
        let end = end.ok().filter(|end| at.behind(end) > FEED_BEHIND_POSITIONS_MAX);
        let skips = end.is_some();
        end.into_iter().for_each(|end| *at = end);
        skips
    }
}

impl TailReceiver {
    /// Waits for what follows on `at`.
    pub async fn next(&mut self, at: &Cursor) -> Next {
        loop {
            match self.pages.recv().await {
                Ok(page) if page.reset.is_some() => {
                    if page.next.generation != at.generation {
                        return Next::Page(page);
                    }
                }
                Ok(page) if at.has_reached(&page.next) => {}
                Ok(page) if at.has_reached(&page.from) => return Next::Page(page),
                Ok(_) | Err(RecvError::Lagged(_)) => return Next::Behind,
                // The server stops.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Returns the place up to which everything was sent.
    pub fn sent(&self) -> Cursor {
        event::lock(&self.sent).clone()
    }

    /// Returns the place up to which there is nothing that the subscriber has not got; `None` if pages wait for it.
    pub fn idle_place(&self) -> Option<Cursor> {
        // Read before the pages are counted: a page is counted before its place is noted.
        let sent = self.sent();
        self.pages.is_empty().then_some(sent)
    }
}
