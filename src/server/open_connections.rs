//! Connections that are open, and for how long each has waited for a request. At the limit of connections, one that
//! has waited for long is closed for a new one, so that clients that only hold connections keep nobody out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event::limits::IDLE_CONNECTION_KEPT_DURATION;
use tokio::sync::Notify;

/// All that are open. Clones share them.
#[derive(Clone)]
pub struct OpenConnections(Arc<Shared>);

struct Shared {
    begun: Instant,
    next: AtomicU64,
    all: Mutex<HashMap<u64, Arc<State>>>,
    gauge: metrics::Gauge,
}

/// One of them, for as long as it is there.
pub struct OpenConnection {
    number: u64,
    state: Arc<State>,
    shared: Arc<Shared>,
}

struct State {
    /// The second since which it waits for a request; from `BUSY` on, the request that it is at work with.
    waits_since: AtomicU64,
    requests: AtomicU64,
    closed: Notify,
}

const BUSY: u64 = 1 << 32;
const CLOSED: u64 = u64::MAX;

/// One request of a connection.
#[derive(Clone, Copy)]
pub struct RequestNumber(u64);

impl OpenConnections {
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            begun: Instant::now(),
            next: AtomicU64::new(0),
            all: Mutex::default(),
            gauge: metrics::gauge!("millrace_connections"),
        }))
    }

    pub fn add(&self) -> OpenConnection {
        let shared = Arc::clone(&self.0);
        let (waits_since, requests) = (AtomicU64::new(shared.second()), AtomicU64::new(BUSY));
        let state = Arc::new(State { waits_since, requests, closed: Notify::new() });
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.all().insert(number, Arc::clone(&state));
        shared.gauge.increment(1.0);
        OpenConnection { number, state, shared }
    }

    /// Closes the one that has waited longest for a request, if that is long enough.
    pub fn close_longest_waiting(&self) {
        let latest = self.0.second().checked_sub(IDLE_CONNECTION_KEPT_DURATION.as_secs());
        let Some(latest) = latest else { return };
        let all = self.0.all();
        let waiting = all.values().map(|state| (state.waits_since.load(Ordering::Relaxed), state));
        let Some((since, state)) =
            waiting.filter(|(since, _)| *since <= latest).min_by_key(|(since, _)| *since)
        else {
            return;
        };
        // A request may have come just now.
        if state.waits_since.compare_exchange(since, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            state.closed.notify_one();
        }
    }
}

impl OpenConnection {
    /// A request has come. Returns nothing if the connection is being closed: the request must not be begun then.
    pub fn begins_request(&self) -> Option<RequestNumber> {
        let number = self.state.requests.fetch_add(1, Ordering::Relaxed);
        let begin = |since| (since != CLOSED).then_some(number);
        let begun = self.state.waits_since.fetch_update(Ordering::AcqRel, Ordering::Relaxed, begin);
        begun.ok().map(|_| RequestNumber(number))
    }

    /// The answer is sent. The connection waits for the next request from now on, unless that has come already.
    pub fn waits_after(&self, request: RequestNumber) {
        let second = self.shared.second();
        let _ =
            self.state.waits_since.compare_exchange(request.0, second, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Ends once the connection is to be closed.
    pub async fn closed(&self) {
        self.state.closed.notified().await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.all().remove(&self.number);
        self.shared.gauge.decrement(1.0);
    }
}

impl Shared {
    fn second(&self) -> u64 {
        self.begun.elapsed().as_secs().min(BUSY - 1)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closes one as if so many seconds had passed.
    fn close_after(open: &OpenConnections, seconds: u64) {
        let shared = &open.0;
        let begun = shared.begun.checked_sub(std::time::Duration::from_secs(seconds)).expect("a time");
        let later = Shared {
            begun,
            next: AtomicU64::new(0),
            all: Mutex::new(shared.all().clone()),
            gauge: shared.gauge.clone(),
        };
        OpenConnections(Arc::new(later)).close_longest_waiting();
    }

    fn is_closed(connection: &OpenConnection) -> bool {
        connection.state.waits_since.load(Ordering::Relaxed) == CLOSED
    }

    #[test]
    fn only_one_that_has_waited_for_long_is_closed_and_never_one_with_a_request() {
        let open = OpenConnections::new();
        let (waiting, busy) = (open.add(), open.add());
        let first = busy.begins_request().expect("open");
        let storage = IDLE_CONNECTION_KEPT_DURATION.as_secs();
        close_after(&open, storage - 1);
        assert!(!is_closed(&waiting));
        close_after(&open, storage + 1);
        assert!(is_closed(&waiting) && waiting.begins_request().is_none());
        close_after(&open, storage + 1);
        assert!(!is_closed(&busy));
        // The next request has come before all of the first answer was written.
        let second = busy.begins_request().expect("open");
        busy.waits_after(first);
        close_after(&open, storage + 1);
        assert!(!is_closed(&busy));
        busy.waits_after(second);
        close_after(&open, storage + 1);
        assert!(is_closed(&busy));
        drop((waiting, busy));
        assert!(open.0.all().is_empty());
    }
}
