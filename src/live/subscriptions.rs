//! The subscriptions of one connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{SelectAll, Stream, StreamExt};

use super::message::Message;
use super::subscription::Messages;

/// The subscriptions of one connection, each with its number.
#[derive(Default)]
pub struct Subscriptions {
    all: SelectAll<Numbered>,
    /// The place of each subscription, by its number; `None` for one that was ended.
    places: Vec<Option<Arc<str>>>,
}

struct Numbered {
    number: usize,
    messages: Messages,
}

impl Subscriptions {
    /// Adds a subscription, and returns its number. `place` is where it begins, if that is known.
    pub fn add(&mut self, messages: Messages, place: Option<&str>) -> usize {
        let number = self.places.len();
        self.places.push(Some(place.unwrap_or_default().into()));
        self.all.push(Numbered { number, messages });
        number
    }

    /// Ends a subscription. Returns `false` if there is none with this number.
    pub fn remove(&mut self, number: usize) -> bool {
        let Some(place) = self.places.get_mut(number).filter(|place| place.is_some()) else { return false };
        *place = None;
        let others = std::mem::take(&mut self.all);
        self.all.extend(others.into_iter().filter(|one| one.number != number));
        true
    }

    /// Returns how many subscriptions there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Waits for the next message of any of them. Never ends, also without subscriptions.
    pub async fn next(&mut self) -> (usize, Message) {
        match self.all.next().await {
            Some((number, message)) => {
                self.places[number] = Some(Arc::clone(message.place()));
                (number, message)
            }
            None => std::future::pending().await,
        }
    }

    /// Returns the places of all subscriptions as one text, in the order in which they were added.
    pub fn place(&self) -> String {
        let places: Vec<&str> =
            self.places.iter().map(|place| place.as_deref().unwrap_or_default()).collect();
        places.join(SEPARATOR)
    }
}

/// Stands between the places of several subscriptions.
const SEPARATOR: &str = "~";

/// Splits the text that `Subscriptions::place` has returned.
pub fn split_places(text: &str) -> Vec<&str> {
    text.split(SEPARATOR).collect()
}

impl Stream for Numbered {
    type Item = (usize, Message);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let number = self.number;
        self.messages.as_mut().poll_next(context).map(|message| message.map(|message| (number, message)))
    }
}
