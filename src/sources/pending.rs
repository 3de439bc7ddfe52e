//! The messages of one connection whose outcome is not known yet, in the order in which they came. They become durable
//! side by side, and are answered in that order.

use std::collections::VecDeque;
use std::pin::{Pin, pin};

use event::limits::{SOCKET_EVENTS_PENDING_BYTES_MAX, SOCKET_EVENTS_PENDING_MAX};
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};

pub struct Pending<T> {
    outcomes: FuturesOrdered<Outcome<T>>,
    /// Outcomes that came while something else was done.
    known: VecDeque<(usize, T)>,
    bytes: usize,
}

/// The future outcome of a message, with the size of the message.
type Outcome<T> = Pin<Box<dyn Future<Output = (usize, T)> + Send>>;

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { outcomes: FuturesOrdered::new(), known: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Send + 'static> Pending<T> {
    /// Adds a message of this size. `outcome` starts when the outcomes are waited for.
    pub fn push(&mut self, bytes: usize, outcome: impl Future<Output = T> + Send + 'static) {
        self.bytes += bytes;
        self.outcomes.push_back(Box::pin(outcome.map(move |outcome| (bytes, outcome))));
    }

    /// Waits for the outcome of the oldest message; `None` if there is none.
    pub async fn next(&mut self) -> Option<T> {
        let (bytes, outcome) = match self.known.pop_front() {
            Some(known) => known,
            None => self.outcomes.next().await?,
        };
        self.bytes -= bytes;
        Some(outcome)
    }

    /// Returns the outcome of the oldest message if it is known already.
    pub fn next_known(&mut self) -> Option<T> {
        self.next().now_or_never().flatten()
    }

    /// Does `work`, and lets the messages make progress meanwhile: they may hold locks that others wait for.
    pub async fn during<R>(&mut self, work: impl Future<Output = R>) -> R {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                Some(known) = self.outcomes.next() => self.known.push_back(known),
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.known.is_empty()
    }

    /// Returns whether another message may be read now.
    pub fn has_room(&self) -> bool {
        self.outcomes.len() + self.known.len() < SOCKET_EVENTS_PENDING_MAX
            && self.bytes < SOCKET_EVENTS_PENDING_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn outcomes_come_in_the_order_of_their_messages() {
        let mut pending = Pending::default();
        let (first, outcome) = oneshot::channel::<u32>();
        pending.push(10, async { outcome.await.expect("sent") });
        pending.push(10, std::future::ready(2));
        assert_eq!(pending.next_known(), None);
        first.send(1).expect("received");
        assert_eq!(
            (pending.next_known(), pending.next().await, pending.next().await),
            (Some(1), Some(2), None)
        );
    }

    #[tokio::test]
    async fn messages_make_progress_while_something_else_is_done() {
        let mut pending = Pending::default();
        let (done, work) = oneshot::channel();
        pending.push(1, async { done.send(()).expect("received") });
        pending.push(1, std::future::pending());
        pending.during(work).await.expect("the first message did it");
        assert!(pending.next_known().is_some() && pending.next_known().is_none() && !pending.is_empty());
    }

    #[tokio::test]
    async fn the_number_and_the_bytes_of_messages_are_bounded() {
        let mut pending = Pending::default();
        (1..SOCKET_EVENTS_PENDING_MAX).for_each(|_| pending.push(1, std::future::ready(())));
        assert!(pending.has_room());
        pending.push(1, std::future::ready(()));
        assert!(!pending.has_room());
        pending.next().await;
        assert!(pending.has_room());
        pending.push(SOCKET_EVENTS_PENDING_BYTES_MAX, std::future::ready(()));
        pending.next().await;
        assert!(!pending.has_room(), "one message is as large as all may be together");
        while pending.next().await.is_some() {}
        assert!(pending.has_room());
    }
}
