//! The open connections, and how long each has waited for a request. At the limit of connections, one that has waited
//! long is closed to admit a new one, so that idle clients do not keep others out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use event::limits::IDLE_CONNECTION_DURATION_MIN;
use tokio::sync::Notify;

/// All open connections. Clones share them.
#[derive(Clone)]
pub struct OpenConnections(Arc<Shared>);

struct Shared {
    begun: Instant,
    next: AtomicU64,
    all: Mutex<HashMap<u64, Arc<State>>>,
    gauge: metrics::Gauge,
}

/// One open connection. Dropping it removes it from the list.
pub struct OpenConnection {
    number: u64,
    state: Arc<State>,
    shared: Arc<Shared>,
}

struct State {
    /// The second since which it waits for a request. Values from `BUSY` on are the number of the request in
    /// progress.
    waiting_since: AtomicU64,
    /// The number of the next request.
    requests: AtomicU64,
    closed: Notify,
    /// It does not count among the connections of requests any more.
    has_left: AtomicBool,
}

const BUSY: u64 = 1 << 32;
const CLOSED: u64 = u64::MAX;

/// Identifies one request of a connection.
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
        let (waiting_since, requests) = (AtomicU64::new(shared.second()), AtomicU64::new(BUSY));
        let state = Arc::new(State {
            waiting_since,
            requests,
            closed: Notify::new(),
            has_left: AtomicBool::new(false),
        });
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.all().insert(number, Arc::clone(&state));
        shared.gauge.increment(1.0);
        OpenConnection { number, state, shared }
    }

    /// Closes the connection that has waited longest for a request, if it has waited long enough.
    pub fn close_longest_waiting(&self) {
        let latest = self.0.second().checked_sub(IDLE_CONNECTION_DURATION_MIN.as_secs());
        let Some(latest) = latest else { return };
        let all = self.0.all();
        let waiting = all.values().map(|state| (state.waiting_since.load(Ordering::Relaxed), state));
        let Some((since, state)) =
            waiting.filter(|(since, _)| *since <= latest).min_by_key(|(since, _)| *since)
        else {
            return;
        };
        // A request may have arrived in the meantime.
        if state.waiting_since.compare_exchange(since, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            state.closed.notify_one();
        }
    }
}

impl OpenConnection {
    /// Notes that a request has arrived. Returns `None` if the connection is being closed: the request must not be
    /// handled then.
    pub fn begin_request(&self) -> Option<RequestNumber> {
        let number = self.state.requests.fetch_add(1, Ordering::Relaxed);
        let begin = |since| (since != CLOSED).then_some(number);
        let begun = self.state.waiting_since.fetch_update(Ordering::AcqRel, Ordering::Relaxed, begin);
        begun.ok().map(|_| RequestNumber(number))
    }

    /// Notes that the answer is sent. The connection waits from now on, unless the next request has arrived already.
    pub fn finish_request(&self, request: RequestNumber) {
        let second = self.shared.second();
        let _ =
            self.state.waiting_since.compare_exchange(request.0, second, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Notes that the connection counts elsewhere from now on.
    pub fn leave_requests(&self) {
        if !self.state.has_left.swap(true, Ordering::Relaxed) {
            self.shared.gauge.decrement(1.0);
        }
    }

    /// Returns whether the connection counts elsewhere.
    pub fn has_left(&self) -> bool {
        self.state.has_left.load(Ordering::Relaxed)
    }

    /// Waits until the connection has to be closed.
    pub async fn closed(&self) {
        self.state.closed.notified().await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.all().remove(&self.number);
        self.leave_requests();
    }
}

impl Shared {
    fn second(&self) -> u64 {
        self.begun.elapsed().as_secs().min(BUSY - 1)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        event::lock(&self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closes one connection as if this many seconds had passed.
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
        connection.state.waiting_since.load(Ordering::Relaxed) == CLOSED
    }

    #[test]
    fn only_a_connection_that_has_waited_long_is_closed_and_never_one_with_a_request() {
        let open = OpenConnections::new();
        let (waiting, busy) = (open.add(), open.add());
        let first = busy.begin_request().expect("open");
        let minimum = IDLE_CONNECTION_DURATION_MIN.as_secs();
        close_after(&open, minimum - 1);
        assert!(!is_closed(&waiting));
        close_after(&open, minimum + 1);
        assert!(is_closed(&waiting) && waiting.begin_request().is_none());
        close_after(&open, minimum + 1);
        assert!(!is_closed(&busy));
        // The next request arrives before all of the first answer is written.
        let second = busy.begin_request().expect("open");
        busy.finish_request(first);
        close_after(&open, minimum + 1);
        assert!(!is_closed(&busy));
        busy.finish_request(second);
        close_after(&open, minimum + 1);
        assert!(is_closed(&busy));
        drop((waiting, busy));
        assert!(open.0.all().is_empty());
    }
}
