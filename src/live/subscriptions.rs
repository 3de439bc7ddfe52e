//! The subscriptions of one connection.

use std::collections::BTreeMap;
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
    /// The places of the subscriptions, by their numbers.
    places: BTreeMap<usize, Arc<str>>,
    next_number: usize,
}

struct Numbered {
    number: usize,
    messages: Messages,
}

/// Stands between the places of several subscriptions.
const SEPARATOR: &str = "~";
/// Stands for the log that was named last.
const SAME_LOG: &str = "*";

impl Subscriptions {
    /// Adds a subscription, and returns its number. `place` is where it begins, if that is known.
    pub fn add(&mut self, messages: Messages, place: Option<&str>) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        self.places.insert(number, place.unwrap_or_default().into());
        self.all.push(Numbered { number, messages });
        number
    }

    /// Ends a subscription. Returns `false` if there is none with this number.
    pub fn remove(&mut self, number: usize) -> bool {
        if self.places.remove(&number).is_none() {
            return false;
        }
        let others = std::mem::take(&mut self.all);
        self.all.extend(others.into_iter().filter(|one| one.number != number));
        true
    }

    /// Returns how many subscriptions there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Waits for the next message of any of them. Never ends, also without subscriptions.
    pub async fn next(&mut self) -> (usize, Message) {
        match self.all.next().await {
            Some((number, message)) => {
                self.places.insert(number, Arc::clone(message.place()));
                (number, message)
            }
            None => std::future::pending().await,
        }
    }

    /// Returns the places of all subscriptions as one text, in the order in which they were added.
    pub fn place(&self) -> Arc<str> {
        match self.places.first_key_value() {
            Some((_, place)) if self.places.len() == 1 => Arc::clone(place),
            _ => joined(self.places.values()).into(),
        }
    }
}

/// Joins places. Most of them are in the same log, which is named once.
fn joined<'p>(places: impl Iterator<Item = &'p Arc<str>>) -> String {
    let mut last = "";
    let short = |place: &'p Arc<str>| {
        let part = |(index, part): (usize, &'p str)| {
            let is_log = index % 2 == 1;
            if is_log && part == last {
                return SAME_LOG;
            }
            if is_log {
                last = part;
            }
            part
        };
        place.split('.').enumerate().map(part).collect::<Vec<_>>().join(".")
    };
    places.map(short).collect::<Vec<_>>().join(SEPARATOR)
}

/// Splits the text that `Subscriptions::place` has returned.
pub fn split_places(text: &str) -> Vec<String> {
    let mut last = "";
    let whole = |place| {
        let parts = str::split(place, '.').enumerate().map(|(index, part)| {
            let part = if part == SAME_LOG { last } else { part };
            if index % 2 == 1 {
                last = part;
            }
            part
        });
        parts.collect::<Vec<_>>().join(".")
    };
    text.split(SEPARATOR).map(whole).collect()
}

impl Stream for Numbered {
    type Item = (usize, Message);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let number = self.number;
        self.messages.as_mut().poll_next(context).map(|message| message.map(|message| (number, message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_joined_with_each_log_once_and_split_again() {
        for (places, text) in [
            (&["0.aa.1", "7.aa.2", "7.aa.3.bb.4", "0.bb.5"][..], "0.aa.1~7.*.2~7.*.3.bb.4~0.*.5"),
            (&["", "0", "5.aa.1", ""], "~0~5.aa.1~"),
            (&["0.aa.1"], "0.aa.1"),
        ] {
            let all: Vec<Arc<str>> = places.iter().map(|&place| place.into()).collect();
            assert_eq!(joined(all.iter()), text);
            assert_eq!(split_places(text), places);
        }
    }
}
