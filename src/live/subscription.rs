//! One subscription: a stream of messages. A slow reader keeps nothing in memory: what it has not taken is read again, or
//! replaced by newer values.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use event::limits::{
    FEED_BEHIND_POSITIONS_MAX, FEED_PLACE_INTERVAL, VALUE_INTERVAL_MIN, VALUE_WAIT_DURATION_MAX,
};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep, timeout};

use super::cursor::Cursor;
use super::feed::{Feed, FeedPage, Next, TailReceiver};
use super::feed_source::FeedError;
use super::message::{About, Message, ResetReason};
use super::other_nodes::Watcher;
use super::replays::{ReplayedPage, Replays};
use super::stream_page::EventFilter;
use super::value_feed::{Value, ValueReceiver};

pub type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// Returns the messages about a value: the present value, and then each change of it. `after` is the place of the last
/// message that the reader has.
pub fn values(about: About, receiver: ValueReceiver, after: Option<Cursor>, watcher: Watcher) -> Messages {
    let state =
        ValueState { about, receiver, known: after, waiting: None, is_first: true, _watcher: watcher };
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
    is_first: bool,
    _watcher: Watcher,
}

impl ValueState {
    async fn next(&mut self) -> Message {
        let value = match self.waiting.take() {
            Some(value) => value,
            None => {
                let value = self.next_value().await;
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

    /// Waits for the next value. The first one may be older than what the reader has got from another node. Then a newer
    /// one comes within a moment, unless the database is away.
    async fn next_value(&mut self) -> Value {
        let mut value = self.receiver.next().await;
        if std::mem::take(&mut self.is_first)
            && let Some(known) = &self.known
        {
            let begun = Instant::now();
            while !value.at.has_reached(known)
                && reset_between(known, &value.at).is_none_or(|reason| reason == ResetReason::RowsReplaced)
                && begun.elapsed() < VALUE_WAIT_DURATION_MAX
            {
                self.receiver.read_again();
                sleep(VALUE_INTERVAL_MIN).await;
                value = self.receiver.present().unwrap_or(value);
            }
        }
        value
    }
}

/// Returns why a value that was read at `now` does not follow on one that was read at `known`.
fn reset_between(known: &Cursor, now: &Cursor) -> Option<ResetReason> {
    let has = |cursor: &Cursor, log| cursor.positions().iter().any(|(known, _)| *known == log);
    if known.is_replaced_by(now.generation) {
        Some(ResetReason::RowsReplaced)
    } else if known.positions().iter().any(|(log, _)| !has(now, *log)) {
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
pub fn items(
    feed: Arc<Feed>,
    filter: Option<EventFilter>,
    begin: Begin,
    replays: Replays,
    watcher: Watcher,
) -> Messages {
    let state = ItemState {
        about: feed.source.about(),
        feed,
        filter,
        replays,
        begin: Some(begin),
        at: Cursor::default(),
        tail: None,
        page: None,
        is_behind: false,
        was_up_to_date: false,
        told: Instant::now(),
        has_moved: false,
        _watcher: watcher,
    };
    Box::pin(unfold(state, |mut state| async {
        let message = state.next().await;
        (state.told, state.has_moved) = (Instant::now(), false);
        Some((message, state))
    }))
}

struct ItemState {
    about: About,
    feed: Arc<Feed>,
    filter: Option<EventFilter>,
    replays: Replays,
    /// `None` once the reader has its place.
    begin: Option<Begin>,
    /// The reader has everything before this place.
    at: Cursor,
    tail: Option<TailReceiver>,
    page: Option<OpenPage>,
    /// The reader reads its own pages.
    is_behind: bool,
    /// The reader has been up to date, so that it may miss something if it falls far behind.
    was_up_to_date: bool,
    /// The time of the last message.
    told: Instant,
    /// The reader has passed events since then.
    has_moved: bool,
    _watcher: Watcher,
}

/// A page, as far as the reader has it.
struct OpenPage {
    page: Weak<FeedPage>,
    next_item: usize,
    /// Set for a page that only this reader has.
    _replayed: Option<ReplayedPage>,
}

impl ItemState {
    async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.next_of_page() {
                return message;
            }
            // A reader that selects few events resumes here, if its connection breaks.
            if self.has_moved && self.told.elapsed() >= FEED_PLACE_INTERVAL {
                return Message::Place { place: self.at.to_string().into() };
            }
            let stepped = if self.begin.is_some() {
                self.begin().await
            } else if self.is_behind {
                self.replay().await
            } else {
                Ok(self.wait().await)
            };
            match stepped {
                Ok(Some(message)) => return message,
                Ok(None) => {}
                Err(error) => {
                    self.feed.source.note(&error);
                    self.feed.source.wait_after_error().await;
                }
            }
        }
    }

    /// Returns the next item of the open page.
    fn next_of_page(&mut self) -> Option<Message> {
        let open = self.page.as_mut()?;
        let Some(page) = open.page.upgrade() else {
            // The page had to go while the reader did not need it.
            (self.page, self.is_behind) = (None, true);
            return None;
        };
        if let Some(reason) = page.reset {
            self.at.clone_from(&page.next);
            self.page = None;
            return Some(Message::reset(&self.about, reason, self.at.to_string()));
        }
        while let Some(item) = page.items.get(open.next_item) {
            open.next_item += 1;
            let is_new = item.position >= self.at.position(item.log);
            if is_new && self.filter.as_ref().is_none_or(|filter| filter.matches(&item.selected_by)) {
                self.at.set_position(item.log, item.position + 1);
                // With several logs, the reader may be further in the others than the page.
                let is_alone = self.at.positions().len() == 1;
                let place = if is_alone { item.place.clone() } else { self.at.to_string().into() };
                return Some(Message::Change { place, content: item.content.clone() });
            }
        }
        self.at.advance_to(&page.next);
        (self.page, self.has_moved) = (None, true);
        None
    }

    /// Finds the place at which the reader begins.
    async fn begin(&mut self) -> Result<Option<Message>, FeedError> {
        let after = match &self.begin {
            Some(Begin::After(after)) => Some(after.clone()),
            _ => None,
        };
        let beginning = self.replays.begin(&self.feed, after).await?;
        let (tail, sent) = self.feed.follow(&beginning.end);
        let reset = beginning.reset.map(|(reason, again)| {
            self.at = again;
            reason
        });
        match self.begin.take() {
            Some(Begin::At(at)) => self.at = at,
            Some(Begin::After(after)) if reset.is_none() => self.at = after,
            Some(Begin::Now) | None => self.at = beginning.end,
            Some(Begin::After(_)) => {}
        }
        self.is_behind = !self.at.has_reached(&sent) || self.at.is_replaced_by(sent.generation);
        self.tail = Some(tail);
        // At once, so that a reader whose connection breaks now resumes here.
        let place = self.at.to_string();
        Ok(Some(match reset {
            Some(reason) => Message::reset(&self.about, reason, place),
            None => Message::Place { place: place.into() },
        }))
    }

    /// Reads the next page for this reader only.
    async fn replay(&mut self) -> Result<Option<Message>, FeedError> {
        if self.was_up_to_date {
            let end = self.replays.end(&self.feed).await?;
            let behind = self.at.behind(&end);
            if behind > FEED_BEHIND_POSITIONS_MAX && !self.at.is_replaced_by(end.generation) {
                let missed = Message::missed(&self.about, behind, self.at.to_string());
                self.at = end;
                return Ok(Some(missed));
            }
        }
        let sent = self.tail.as_ref().map(TailReceiver::sent);
        let page = self.replays.read(&self.feed, &self.at, self.filter.as_ref()).await?;
        let is_last = page.next == self.at;
        // The reader receives all later pages over the channel.
        if is_last || sent.is_some_and(|sent| page.next.has_reached(&sent)) {
            (self.is_behind, self.was_up_to_date) = (false, true);
        }
        if !is_last && page.items.is_empty() && page.reset.is_none() {
            self.at = page.next;
            self.has_moved = true;
        } else if !is_last {
            let replayed = self.replays.keep(page);
            self.page =
                Some(OpenPage { page: replayed.page.clone(), next_item: 0, _replayed: Some(replayed) });
        }
        Ok(None)
    }

    /// Waits for the next page that was read for all.
    async fn wait(&mut self) -> Option<Message> {
        let Some(tail) = &mut self.tail else { return None };
        self.was_up_to_date = true;
        match timeout(FEED_PLACE_INTERVAL, tail.next(&self.at)).await {
            Ok(Next::Page(page)) => {
                self.page = Some(OpenPage { page, next_item: 0, _replayed: None });
                None
            }
            Ok(Next::Behind) => {
                self.is_behind = true;
                None
            }
            Err(_) => match tail.idle_place(&self.at) {
                Some(place) if self.at.has_reached(&place) => None,
                Some(place) => {
                    self.at.advance_to(&place);
                    Some(Message::Place { place: self.at.to_string().into() })
                }
                None => {
                    // Pages that nobody sends again are missing, unless some have just come.
                    self.is_behind = true;
                    None
                }
            },
        }
    }
}
