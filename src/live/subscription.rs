//! One subscription: a stream of messages. It never waits for its reader: what a slow reader has not taken is not kept,
//! but read again, or replaced by newer values.

use std::pin::Pin;
use std::sync::Arc;

use event::limits::{FEED_BEHIND_POSITIONS_MAX, FEED_PAGE_BYTES_MAX, FEED_PLACE_INTERVAL};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::cursor::Cursor;
use super::feed::{Feed, FeedPage, Next, TailReceiver};
use super::feed_source::FeedError;
use super::message::{About, Message, ResetReason};
use super::other_nodes::Watcher;
use super::stream_page::EventFilter;
use super::value_feed::{Value, ValueReceiver};

pub type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// Limits the subscribers that read by themselves. Clones share it.
#[derive(Clone)]
pub struct ReplayLimits {
    /// Permits to read.
    pub reads: Arc<Semaphore>,
    /// A permit for each byte that was read and is not sent yet.
    pub bytes: Arc<Semaphore>,
}

/// The shared limits and the count, for each reader of a feed.
pub struct Reading {
    pub limits: ReplayLimits,
    pub _watcher: Watcher,
}

/// Returns the messages about a value: the present value, and then each change of it. `after` is the place of the last
/// message that the reader has.
pub fn values(about: About, receiver: ValueReceiver, after: Option<Cursor>, watcher: Watcher) -> Messages {
    let state = ValueState { about, receiver, known: after, waiting: None, _watcher: watcher };
    Box::pin(unfold(state, |mut state| async {
        let message = state.next().await;
        Some((message, state))
    }))
}

struct ValueState {
    about: About,
    receiver: ValueReceiver,
    /// The place of the last value.
    known: Option<Cursor>,
    /// The value that follows on a reset.
    waiting: Option<Value>,
    _watcher: Watcher,
}

impl ValueState {
    async fn next(&mut self) -> Message {
        let value = match self.waiting.take() {
            Some(value) => value,
            None => {
                let value = self.receiver.next().await;
                if let Some(reason) = self.known.as_ref().and_then(|known| reset_between(known, &value.at)) {
                    let reset = Message::reset(&self.about, reason, value.place.to_string());
                    self.waiting = Some(value);
                    return reset;
                }
                value
            }
        };
        self.known = Some(value.at);
        Message::Change { place: value.place, content: value.content }
    }
}

/// Returns why a value that was read at `now` does not follow on one that was read at `known`.
fn reset_between(known: &Cursor, now: &Cursor) -> Option<ResetReason> {
    let logs = |cursor: &Cursor| cursor.positions().iter().map(|(log, _)| *log).collect::<Vec<_>>();
    if known.is_replaced_by(now.generation) {
        Some(ResetReason::RowsReplaced)
    } else if logs(known).iter().any(|log| !logs(now).contains(log)) {
        Some(ResetReason::OtherLog)
    } else {
        None
    }
}

/// The beginning of a reader of a feed.
pub enum Begin {
    /// With what comes next.
    Now,
    /// After the last message that it has.
    After(Cursor),
    /// At a place that it has chosen.
    At(Cursor),
}

/// Returns the events or rows of a feed, beginning as `begin` says. Skips none, unless a message says so.
pub fn items(feed: Arc<Feed>, filter: Option<EventFilter>, begin: Begin, reading: Reading) -> Messages {
    let state = ItemState {
        about: feed.source.about(),
        feed,
        filter,
        reading,
        begin: Some(begin),
        at: Cursor::default(),
        tail: None,
        page: None,
        replays: false,
        was_up_to_date: false,
    };
    Box::pin(unfold(state, |mut state| async {
        let message = state.next().await;
        Some((message, state))
    }))
}

struct ItemState {
    about: About,
    feed: Arc<Feed>,
    filter: Option<EventFilter>,
    reading: Reading,
    /// `None` once the reader has its place.
    begin: Option<Begin>,
    /// The reader has everything before this place.
    at: Cursor,
    tail: Option<TailReceiver>,
    page: Option<OpenPage>,
    /// The reader is behind, and reads its own pages.
    replays: bool,
    /// The reader has been up to date, so that it may miss something if it falls far behind.
    was_up_to_date: bool,
}

/// A page, as far as the reader has it.
struct OpenPage {
    page: Arc<FeedPage>,
    next_item: usize,
    /// The memory of a page that only this reader has.
    _memory: Option<OwnedSemaphorePermit>,
}

impl ItemState {
    async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.next_of_page() {
                return message;
            }
            let stepped = if self.begin.is_some() {
                self.begin().await
            } else if self.replays {
                self.replay().await
            } else {
                Ok(self.wait().await)
            };
            match stepped {
                Ok(Some(message)) => return message,
                Ok(None) => {}
                Err(error) => self.feed.source.wait_after(&error).await,
            }
        }
    }

    /// Returns the next item of the open page.
    fn next_of_page(&mut self) -> Option<Message> {
        let open = self.page.as_mut()?;
        if let Some(reason) = open.page.reset.filter(|_| open.next_item == 0) {
            self.at.clone_from(&open.page.next);
            self.page = None;
            return Some(Message::reset(&self.about, reason, self.at.to_string()));
        }
        while let Some(item) = open.page.items.get(open.next_item) {
            open.next_item += 1;
            let is_new = item.position >= self.at.position(item.log);
            if is_new && self.filter.as_ref().is_none_or(|filter| filter.matches(item.event())) {
                self.at.set_position(item.log, item.position + 1);
                return Some(Message::Change { place: item.place.clone(), content: item.content.clone() });
            }
        }
        self.at.clone_from(&open.page.next);
        self.page = None;
        None
    }

    /// Finds the place at which the reader begins.
    async fn begin(&mut self) -> Result<Option<Message>, FeedError> {
        let end = self.feed.source.end().await?;
        let tail = self.feed.follow(&end);
        let mut reset = None;
        match &self.begin {
            Some(Begin::At(at)) => self.at.clone_from(at),
            Some(Begin::After(at)) => {
                reset = self.feed.source.reset_at(at).await?;
                self.at.clone_from(reset.as_ref().map_or(at, |(_, again)| again));
            }
            Some(Begin::Now) | None => self.at.clone_from(&end),
        }
        // Before it came, pages may have been sent that it has not got.
        self.replays = !self.at.has_reached(&tail.sent()) || self.at.generation != end.generation;
        (self.tail, self.begin) = (Some(tail), None);
        // At once, so that a reader whose connection breaks now resumes here.
        let place = self.at.to_string();
        Ok(Some(match reset {
            Some((reason, _)) => Message::reset(&self.about, reason, place),
            None => Message::Place { place: place.into() },
        }))
    }

    /// Reads the next page for this reader only, when it is its turn.
    async fn replay(&mut self) -> Result<Option<Message>, FeedError> {
        let memory = FEED_PAGE_BYTES_MAX as u32;
        let memory = Arc::clone(&self.reading.limits.bytes).acquire_many_owned(memory).await;
        let turn = self.reading.limits.reads.acquire().await;
        if self.was_up_to_date {
            let end = self.feed.source.end().await?;
            let behind = self.at.behind(&end);
            if behind > FEED_BEHIND_POSITIONS_MAX {
                let missed = Message::missed(&self.about, behind, self.at.to_string());
                self.at = end;
                return Ok(Some(missed));
            }
        }
        let page = self.feed.source.page(&self.at, self.filter.as_ref()).await?;
        drop(turn);
        let has_more = page.next != self.at;
        if has_more {
            self.page = Some(OpenPage { page: Arc::new(page), next_item: 0, _memory: memory.ok() });
        }
        let sent = self.tail.as_ref().map(TailReceiver::sent);
        let reached = self.page.as_ref().map_or(&self.at, |open| &open.page.next);
        // The reader receives all later pages over the channel.
        if !has_more || sent.is_some_and(|sent| reached.has_reached(&sent)) {
            (self.replays, self.was_up_to_date) = (false, true);
        }
        Ok(None)
    }

    /// Waits for the next page that was read for all.
    async fn wait(&mut self) -> Option<Message> {
        let Some(tail) = &mut self.tail else { return None };
        self.was_up_to_date = true;
        match timeout(FEED_PLACE_INTERVAL, tail.next(&self.at)).await {
            Ok(Next::Page(page)) => {
                self.page = Some(OpenPage { page, next_item: 0, _memory: None });
                None
            }
            Ok(Next::Behind) => {
                self.replays = true;
                None
            }
            Err(_) => {
                let place = tail.idle_place().filter(|place| !self.at.has_reached(place))?;
                self.at = place;
                Some(Message::Place { place: self.at.to_string().into() })
            }
        }
    }
}
