//! Events of a stream, or rows of a table, for all their subscribers. Each is read once while its subscribers are up to
//! date. A subscriber that comes again, or that is behind, reads its own pages until it is up to date.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::{Arc, Mutex, Weak};

use event::limits::{FEED_BEHIND_POSITIONS_MAX, FEED_INTERVAL_MIN, FEED_PAGES_MAX, FEED_RECENT_BYTES_MAX};
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
    /// The text by which filters select the item: the event, or the event that a correction undoes.
    pub selected_by: Box<str>,
}

impl FeedPage {
    pub fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.content.len() + item.selected_by.len()).sum()
    }

    /// Returns a page that makes readers at `from` start again at `next`.
    pub fn restart(from: &Cursor, next: Cursor, reason: ResetReason) -> Self {
        Self { from: from.clone(), next, items: Vec::new(), reset: Some(reason) }
    }
}

/// The state that the subscribers of one stream or table share.
pub struct Feed {
    pub source: FeedSource,
    stop: Stop,
    tail: Mutex<Option<Arc<Tail>>>,
}

/// The pages that are read for the subscribers that are up to date, while there are any.
struct Tail {
    pages: broadcast::Sender<Weak<FeedPage>>,
    sent: Mutex<Sent>,
}

struct Sent {
    /// Everything before this place was sent or passed over.
    place: Cursor,
    /// The end of the last page. A reader that has not reached it has missed pages.
    last_page: Cursor,
    /// The last pages, and their bytes. Readers refer to them without keeping them in memory.
    recent: VecDeque<Arc<FeedPage>>,
    recent_bytes: usize,
}

/// The channel over which a subscriber gets new pages.
pub struct TailReceiver {
    tail: Arc<Tail>,
    pages: broadcast::Receiver<Weak<FeedPage>>,
}

/// The next thing that a subscriber gets.
pub enum Next {
    Page(Weak<FeedPage>),
    /// The channel does not hold some pages any more.
    Behind,
}

impl Feed {
    pub fn new(source: FeedSource, stop: &Stop) -> Arc<Self> {
        Arc::new(Self { source, stop: stop.clone(), tail: Mutex::default() })
    }

    /// Returns the pages that are read from now on, and the place after which they begin. `end` is a place that was the
    /// end a moment ago.
    pub fn follow(self: &Arc<Self>, end: &Cursor) -> (TailReceiver, Cursor) {
        let mut current = event::lock(&self.tail);
        let tail = Arc::clone(current.get_or_insert_with(|| {
            let sent =
                Sent { place: end.clone(), last_page: end.clone(), recent: VecDeque::new(), recent_bytes: 0 };
            let tail =
                Arc::new(Tail { pages: broadcast::Sender::new(FEED_PAGES_MAX), sent: Mutex::new(sent) });
            tokio::spawn(Arc::clone(self).run(Arc::clone(&tail)));
            tail
        }));
        // No page is sent between the two, so the receiver has all pages after this place.
        let sent = event::lock(&tail.sent);
        let (pages, place) = (tail.pages.subscribe(), sent.place.clone());
        drop(sent);
        (TailReceiver { tail, pages }, place)
    }

    async fn run(self: Arc<Self>, tail: Arc<Tail>) {
        // From here on, the source notes changes. Those before are found by the first read.
        let mut changes = self.source.changes();
        let mut at = event::lock(&tail.sent).place.clone();
        loop {
            let is_at_end = self.send_pages(&tail, &mut at).await;
            tokio::time::sleep(FEED_INTERVAL_MIN).await;
            tokio::select! {
                () = self.stop.wait() => return,
                () = tail.pages.closed() => {}
                () = changes.beyond(&self.source, &at), if is_at_end => {}
                () = ready(()), if !is_at_end => {}
            }
            if self.ends_without_subscribers(&tail) {
                return;
            }
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

    /// Sends everything that there is. After a failure, tries again while somebody waits for it. Returns whether it has
    /// come to the end.
    async fn send_pages(&self, tail: &Tail, at: &mut Cursor) -> bool {
        let mut pages = 0_usize;
        while !self.stop.asked() && tail.pages.receiver_count() > 0 {
            let page = match self.source.page(at, None).await {
                Ok(page) => page,
                Err(error) => {
                    self.source.note(&error);
                    self.source.wait_after_error().await;
                    continue;
                }
            };
            if page.next == *at {
                return true;
            }
            at.clone_from(&page.next);
            tail.send(page);
            pages += 1;
            if pages.is_multiple_of(FEED_PAGES_MAX)
                && let Ok(end) = self.source.end().await
                && at.behind(&end) > FEED_BEHIND_POSITIONS_MAX
            {
                // While much more arrives than can be sent, the subscribers' pages continue at the end.
                tail.skip_to(&end);
                *at = end;
            }
        }
        false
    }
}

impl Tail {
    fn send(&self, page: FeedPage) {
        let mut sent = event::lock(&self.sent);
        sent.place.clone_from(&page.next);
        // Nobody has to wake up for a page without content: the next one follows on it.
        if page.items.is_empty() && page.reset.is_none() {
            return;
        }
        let from = std::mem::replace(&mut sent.last_page, page.next.clone());
        let page = Arc::new(FeedPage { from, ..page });
        let reference = Arc::downgrade(&page);
        sent.recent_bytes += page.bytes();
        sent.recent.push_back(page);
        // The newest page stays, however large it is.
        while sent.recent.len() > FEED_PAGES_MAX || sent.recent_bytes > FEED_RECENT_BYTES_MAX {
            let Some(oldest) = sent.recent.pop_front().filter(|_| !sent.recent.is_empty()) else { break };
            sent.recent_bytes -= oldest.bytes();
        }
        // Without a receiver, it is sent to nobody.
        let _ = self.pages.send(reference);
    }

    fn skip_to(&self, place: &Cursor) {
        let mut sent = event::lock(&self.sent);
        (sent.place, sent.last_page) = (place.clone(), place.clone());
    }
}

impl TailReceiver {
    /// Waits for what follows on `at`.
    pub async fn next(&mut self, at: &Cursor) -> Next {
        loop {
            let received = match self.pages.recv().await {
                Ok(page) => page,
                Err(RecvError::Lagged(_)) => return Next::Behind,
                // The server stops.
                Err(RecvError::Closed) => std::future::pending().await,
            };
            let Some(page) = received.upgrade() else { return Next::Behind };
            let is_known = match page.reset {
                Some(ResetReason::RowsReplaced) => at.generation >= page.next.generation,
                _ => at.has_reached(&page.next),
            };
            if is_known {
                continue;
            }
            // A reader of an earlier generation finds its reset when it reads for itself.
            let follows = at.has_reached(&page.from) && !at.is_replaced_by(page.from.generation);
            return if follows || page.reset.is_some() { Next::Page(received) } else { Next::Behind };
        }
    }

    /// Returns the place up to which everything was sent.
    pub fn sent(&self) -> Cursor {
        event::lock(&self.tail.sent).place.clone()
    }

    /// Returns the place up to which there is nothing that a reader at `at` has not got. Returns `None` if pages wait for
    /// it, or if it has missed some.
    pub fn idle_place(&self, at: &Cursor) -> Option<Cursor> {
        let sent = event::lock(&self.tail.sent);
        (self.pages.is_empty() && at.has_reached(&sent.last_page)).then(|| sent.place.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId([1; 16]);

    fn at(position: u64) -> Cursor {
        Cursor::in_log(LOG, position)
    }

    fn page(from: u64, next: u64, has_items: bool) -> FeedPage {
        let (content, place) = ("{}".into(), "".into());
        let item = FeedItem { log: LOG, position: from, place, content, selected_by: "".into() };
        let items = if has_items { vec![item] } else { Vec::new() };
        FeedPage { from: at(from), next: at(next), items, reset: None }
    }

    fn tail() -> (Arc<Tail>, TailReceiver) {
        let sent = Sent { place: at(0), last_page: at(0), recent: VecDeque::new(), recent_bytes: 0 };
        let tail = Arc::new(Tail { pages: broadcast::Sender::new(FEED_PAGES_MAX), sent: Mutex::new(sent) });
        let receiver = TailReceiver { tail: Arc::clone(&tail), pages: tail.pages.subscribe() };
        (tail, receiver)
    }

    #[tokio::test]
    async fn pages_follow_on_each_other_also_if_some_between_them_are_empty() {
        let (tail, mut receiver) = tail();
        tail.send(page(0, 5, false));
        assert_eq!(receiver.idle_place(&at(0)), Some(at(5)));
        tail.send(page(5, 7, true));
        assert_eq!(receiver.idle_place(&at(0)), None, "a page waits");
        let Next::Page(received) = receiver.next(&at(0)).await else { panic!("the page follows on 0") };
        assert_eq!(received.upgrade().expect("kept").from, at(0));
        assert_eq!(receiver.idle_place(&at(7)), Some(at(7)));
    }

    #[tokio::test]
    async fn a_reader_learns_of_pages_that_were_left_out_also_if_no_further_page_comes() {
        let (tail, mut receiver) = tail();
        tail.send(page(0, 5, true));
        assert!(matches!(receiver.next(&at(0)).await, Next::Page(_)));
        tail.skip_to(&at(1_000_000));
        assert_eq!(receiver.idle_place(&at(5)), None);
        tail.send(page(1_000_000, 1_000_001, true));
        assert!(matches!(receiver.next(&at(5)).await, Next::Behind));
        // A page that the reader has got already is passed over.
        tail.send(page(1_000_001, 1_000_002, true));
        tail.send(page(1_000_002, 1_000_003, true));
        let Next::Page(received) = receiver.next(&at(1_000_002)).await else { panic!("a page follows") };
        assert_eq!(received.upgrade().expect("kept").next, at(1_000_003));
    }

    #[tokio::test]
    async fn a_reader_that_is_slower_than_the_channel_is_behind() {
        let (tail, mut receiver) = tail();
        let pages = FEED_PAGES_MAX as u64 + 1;
        (0..pages).for_each(|number| tail.send(page(number, number + 1, true)));
        assert!(matches!(receiver.next(&at(0)).await, Next::Behind));
    }
}
