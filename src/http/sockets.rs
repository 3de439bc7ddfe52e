//! The budget of sockets: connections that stay open after their request. It is separate from the budget of requests,
//! so that idle sockets cannot keep senders out, and it bounds the sockets of one address. Subscribers are sockets, too,
//! with a bound that keeps room for sockets that send.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::Stop;
use event::limits::{SOCKETS_OF_ADDRESS_EIGHTHS, STRANGERS_OF_ADDRESS_MAX, SUBSCRIBERS_EIGHTHS};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Peer;
use super::rate_limits::network;
use crate::admission::Refusal;

/// All open sockets. Clones share them.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    sockets_max: usize,
    of_address_max: usize,
    free: Arc<Semaphore>,
    /// Sessions that poll: each holds a connection of the requests' budget, too.
    polling_free: Arc<Semaphore>,
    subscribers_free: Arc<Semaphore>,
    /// The sockets by the network of their client. A network without sockets has no entry.
    networks: Mutex<HashMap<u128, Count>>,
    stop: Stop,
    gauge: metrics::Gauge,
}

#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    strangers: usize,
}

/// One open socket. Dropping it gives its place back.
pub struct OpenSocket {
    sockets: Sockets,
    network: u128,
    is_stranger: bool,
    polling: Option<OwnedSemaphorePermit>,
    _subscriber: Option<OwnedSemaphorePermit>,
    _permit: OwnedSemaphorePermit,
}

impl Sockets {
    /// At most `polling_max` of the sockets are sessions that poll.
    pub fn new(sockets_max: usize, polling_max: usize, stop: &Stop) -> Self {
        metrics::gauge!("millrace_sockets_max").set(sockets_max as f64);
        Self(Arc::new(Shared {
            sockets_max,
            of_address_max: (sockets_max * SOCKETS_OF_ADDRESS_EIGHTHS / 8).max(1),
            free: Arc::new(Semaphore::new(sockets_max)),
            polling_free: Arc::new(Semaphore::new(polling_max)),
            subscribers_free: Arc::new(Semaphore::new((sockets_max * SUBSCRIBERS_EIGHTHS / 8).max(1))),
            networks: Mutex::default(),
            stop: stop.clone(),
            gauge: metrics::gauge!("millrace_sockets"),
        }))
    }

    /// Takes a place for a socket of somebody who has not shown a key yet. Fails if there is none.
    pub fn open(&self, peer: Peer) -> Result<OpenSocket, Refusal> {
        if self.0.stop.asked() {
            return Err(Refusal::Stopping);
        }
        let permit = Arc::clone(&self.0.free).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let network = network(peer.0);
        let mut networks = event::lock(&self.0.networks);
        let count = networks.get(&network).copied().unwrap_or_default();
        if count.all >= self.0.of_address_max || count.strangers >= STRANGERS_OF_ADDRESS_MAX {
            return Err(Refusal::Overloaded);
        }
        networks.insert(network, Count { all: count.all + 1, strangers: count.strangers + 1 });
        self.0.gauge.increment(1.0);
        Ok(OpenSocket {
            sockets: self.clone(),
            network,
            is_stranger: true,
            polling: None,
            _subscriber: None,
            _permit: permit,
        })
    }

    /// The same for a session that polls.
    pub fn open_polling(&self, peer: Peer) -> Result<OpenSocket, Refusal> {
        let polling =
            Arc::clone(&self.0.polling_free).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let mut place = self.open(peer)?;
        place.polling = Some(polling);
        Ok(place)
    }

    /// The same for a connection that only subscribes.
    pub fn open_subscriber(&self, peer: Peer) -> Result<OpenSocket, Refusal> {
        let subscriber =
            Arc::clone(&self.0.subscribers_free).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let mut place = self.open(peer)?;
        place._subscriber = Some(subscriber);
        Ok(place)
    }

    /// Returns the signal at which sockets answer what they have received, and close.
    pub fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Waits until all sockets are closed. Returns `false` if that takes too long.
    pub async fn all_closed(&self, wait_max: Duration) -> bool {
        let all = self.0.free.acquire_many(self.0.sockets_max as u32);
        tokio::time::timeout(wait_max, all).await.is_ok()
    }
}

impl OpenSocket {
    /// Notes that the client may send or read here, so that the socket no longer counts as one of a stranger.
    pub fn signed_in(&mut self) {
        if std::mem::take(&mut self.is_stranger) {
            self.change(|count| count.strangers -= 1);
        }
    }

    /// Notes that the session has a WebSocket now.
    pub fn stops_polling(&mut self) {
        self.polling = None;
    }

    fn change(&self, change: impl FnOnce(&mut Count)) {
        if let Entry::Occupied(mut entry) = event::lock(&self.sockets.0.networks).entry(self.network) {
            change(entry.get_mut());
            if entry.get().all == 0 {
                entry.remove();
            }
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.signed_in();
        self.change(|count| count.all -= 1);
        self.sockets.0.gauge.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer(text.parse().expect("an address"))
    }

    #[tokio::test]
    async fn strangers_of_one_address_are_bounded_and_leave_room_for_others() {
        let sockets = Sockets::new(2 * STRANGERS_OF_ADDRESS_MAX, 1, &Stop::default());
        let mut open: Vec<OpenSocket> =
            (0..STRANGERS_OF_ADDRESS_MAX).map(|_| sockets.open(peer("10.0.0.1")).expect("room")).collect();
        assert_eq!(sockets.open(peer("10.0.0.1")).err(), Some(Refusal::Overloaded));
        let other = sockets.open(peer("10.0.0.2")).expect("room");
        open[0].signed_in();
        open[0].signed_in();
        let last = sockets.open(peer("10.0.0.1")).expect("a known client makes room for a stranger");
        let more: Vec<OpenSocket> = (0..STRANGERS_OF_ADDRESS_MAX - 2)
            .map(|_| sockets.open(peer("10.0.0.3")).expect("room"))
            .collect();
        assert_eq!(sockets.open(peer("10.0.0.4")).err(), Some(Refusal::Overloaded), "all places are taken");
        assert!(!sockets.all_closed(Duration::from_millis(1)).await);
        drop((open, other, last, more));
        assert!(sockets.all_closed(Duration::from_millis(1)).await);
        assert!(event::lock(&sockets.0.networks).is_empty());
    }

    #[test]
    fn sessions_that_poll_are_a_part_of_the_sockets() {
        let sockets = Sockets::new(8, 1, &Stop::default());
        let mut polling = sockets.open_polling(peer("10.0.0.1")).expect("room");
        assert_eq!(sockets.open_polling(peer("10.0.0.1")).err(), Some(Refusal::Overloaded));
        let _other = sockets.open(peer("10.0.0.1")).expect("room");
        polling.stops_polling();
        let _next = sockets.open_polling(peer("10.0.0.1")).expect("room");
    }

    #[test]
    fn subscribers_keep_room_for_sockets_that_send() {
        let sockets = Sockets::new(16, 1, &Stop::default());
        let address = |number: usize| peer(&format!("10.0.0.{number}"));
        let subscribers: Vec<OpenSocket> =
            (0..16).filter_map(|number| sockets.open_subscriber(address(number)).ok()).collect();
        assert_eq!(subscribers.len(), 14);
        let _sender = sockets.open(address(20)).expect("room");
    }

    #[test]
    fn one_address_does_not_get_all_places_however_few_there_are() {
        let sockets = Sockets::new(8, 1, &Stop::default());
        let open: Vec<OpenSocket> = std::iter::from_fn(|| sockets.open(peer("10.0.0.1")).ok()).collect();
        assert_eq!(open.len(), 7);
        assert!(sockets.open(peer("10.0.0.2")).is_ok());
    }

    #[test]
    fn no_socket_is_opened_while_the_server_stops() {
        let stop = Stop::default();
        let sockets = Sockets::new(2, 1, &stop);
        stop.ask();
        assert_eq!(sockets.open(peer("10.0.0.1")).err(), Some(Refusal::Stopping));
    }
}
