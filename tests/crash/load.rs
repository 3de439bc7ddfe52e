//! The load: random requests of every kind from a seed, sent by several threads until the server ends or the load is
//! stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use journal::simulation::Rng;

use crate::checker::Checker;
use crate::harness::Client;
use crate::history::{FrameForm, Request, Sale, Source, Transport};
use crate::sockets::Sockets;

pub const SENDERS: u64 = 4;
const USERS: u64 = 12;
/// The maximum of events per request. Request `N` numbers its events from `N * SALES_MAX`.
pub const SALES_MAX: u64 = 10_000;
/// The maximum of requests that a sender sends over a socket without a pause.
const BURST_MAX: u64 = 24;
/// The transports from which a load draws. A draw is one request over HTTP, but several over a socket.
const TRANSPORTS: [Transport; 6] = [
    Transport::Http,
    Transport::Http,
    Transport::Http,
    Transport::Http,
    Transport::SocketIo,
    Transport::WebSocket,
];

/// The state that the senders share.
pub struct Load<'a> {
    pub checker: &'a Checker,
    pub client: Client,
    next: AtomicU64,
    over: AtomicBool,
    /// The pause between two requests of a sender, so that a small machine has time for other processes.
    pub pause: Duration,
    /// The only transport of the requests. Without it, a load uses all of them.
    pub only: Option<Transport>,
}

impl<'a> Load<'a> {
    pub fn new(checker: &'a Checker, client: Client) -> Self {
        let next = AtomicU64::new(checker.history.next_number());
        Self { checker, client, next, over: AtomicBool::new(false), pause: Duration::ZERO, only: None }
    }

    /// Sends `count` events, one object per request, each `pad` characters longer than usual.
    pub fn objects(&self, count: u64, pad: usize) {
        for _ in 0..count {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let user = format!("user-{}", number % USERS);
            let sales = vec![Sale { number: number * SALES_MAX, user, units: 10_001, pad }];
            let source = Source::Object { id: format!("object-{number}") };
            let request = Request { number, source, sales, connection: None };
            if self.checker.send(&self.client, &request).is_none() {
                return;
            }
        }
    }

    /// Sends one sale for each of `users` new users, as lines of one request.
    pub fn many_users(&self, users: u64) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(users <= SALES_MAX);
        let sale = |index| Sale {
            number: number * SALES_MAX + index,
            user: format!("user-{number}-{index}"),
            units: i128::from(index) + 1,
            pad: 0,
        };
        let source = Source::Lines { upload: format!("users-{number}"), first_line: 1 };
        let request = Request { number, source, sales: (0..users).map(sale).collect(), connection: None };
        assert_eq!(self.checker.send(&self.client, &request), Some(200));
    }

    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Runs `meanwhile` while all senders send. A sender ends when `meanwhile` returns or the server is gone.
    pub fn run<T>(&self, seed: u64, meanwhile: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let rng = Rng::new(seed ^ (sender + 1).wrapping_mul(0x9E37_79B9));
                scope.spawn(move || self.send_on(sender, rng));
            }
            let stop = StopAtEnd(self);
            let outcome = meanwhile();
            drop(stop);
            outcome
        })
    }

    fn send_on(&self, sender: u64, mut rng: Rng) {
        let mut sockets = Sockets::new(&self.checker.history, self.client.clone());
        let mut sent: Vec<Request> = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let repeat = !sent.is_empty() && rng.times_in_100(8);
            let mut requests = if repeat {
                vec![sent.swap_remove(rng.below(sent.len() as u64) as usize)]
            } else {
                self.draw(sender, &mut rng)
            };
            let is_reached = match requests[0].source.transport() {
                Transport::Http => self.checker.send(&self.client, &requests[0]).is_some(),
                Transport::SocketIo | Transport::WebSocket => sockets.send(&mut requests),
            };
            if !is_reached {
                return;
            }
            sent.extend(requests.into_iter().filter(|request| request.source.has_identity()));
            std::thread::sleep(self.pause);
        }
    }

    /// Returns one request over HTTP, or several that are sent together over a socket.
    fn draw(&self, sender: u64, rng: &mut Rng) -> Vec<Request> {
        let transport = self.only.unwrap_or_else(|| TRANSPORTS[rng.below(TRANSPORTS.len() as u64) as usize]);
        let requests = match transport {
            Transport::SocketIo | Transport::WebSocket if rng.times_in_100(60) => {
                2 + rng.below(BURST_MAX - 1)
            }
            _ => 1,
        };
        (0..requests).map(|_| self.draw_one(sender, transport, rng)).collect()
    }

    fn draw_one(&self, sender: u64, transport: Transport, rng: &mut Rng) -> Request {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (source, count) = match transport {
            Transport::Http => draw_http(sender, number, rng),
            Transport::SocketIo => {
                (Source::SocketIo { id: rng.times_in_100(65).then(|| format!("socket-{number}")) }, 1)
            }
            Transport::WebSocket => draw_frame(number, rng),
        };
        let sales = (0..count).map(|index| sale(number * SALES_MAX + index, rng)).collect();
        Request { number, source, sales, connection: None }
    }
}

/// Returns the source of a request over HTTP, and the number of its events.
fn draw_http(sender: u64, number: u64, rng: &mut Rng) -> (Source, u64) {
    match rng.below(100) {
        0..35 => (Source::LiveEvent, 1),
        35..65 => (Source::Object { id: format!("object-{number}") }, 1),
        65..83 => (Source::Array { key: format!("array-{number}") }, 1 + rng.below(30)),
        kind => {
            // All lines of a sender belong to one upload. Now and then a request has several chunks.
            let (upload, first_line) = (format!("file-{sender}"), 1 + number * SALES_MAX);
            let count = if kind == 99 { 1_000 + rng.below(300) } else { 1 + rng.below(60) };
            (Source::Lines { upload, first_line }, count)
        }
    }
}

/// The same for a frame of a WebSocket.
fn draw_frame(number: u64, rng: &mut Rng) -> (Source, u64) {
    let name = rng.times_in_100(65).then(|| format!("frame-{number}"));
    let (form, count) = match rng.below(3) {
        0 => (FrameForm::Object, 1),
        1 => (FrameForm::Array, 1 + rng.below(30)),
        _ => (FrameForm::Lines, 2 + rng.below(30)),
    };
    (Source::Frame { form, name }, count)
}

struct StopAtEnd<'a>(&'a Load<'a>);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Returns a random sale. Most amounts are small; some have the maximum of digits, which a float cannot add.
fn sale(number: u64, rng: &mut Rng) -> Sale {
    let units = if rng.times_in_100(10) {
        i128::from(rng.below(10_u64.pow(19)))
    } else {
        i128::from(rng.below(1_000_000))
    };
    let units = if rng.times_in_100(40) { -units } else { units };
    Sale { number, user: format!("user-{}", rng.below(USERS)), units, pad: 0 }
}

/// Returns the balance of each user.
pub fn sums<'s>(sales: impl Iterator<Item = &'s Sale>) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for sale in sales {
        *sums.entry(sale.user.clone()).or_default() += sale.units;
    }
    sums
}

/// Returns the shortest exact text of an amount in ten-thousandths, for example `123.45`.
pub fn amount_text(units: i128) -> String {
    let (whole, part) = (units.unsigned_abs() / 10_000, units.unsigned_abs() % 10_000);
    let sign = if units < 0 { "-" } else { "" };
    match part {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{}", format!("{part:04}").trim_end_matches('0')),
    }
}

/// Returns the events of a request as they are sent.
pub fn event_texts(request: &Request) -> Vec<String> {
    let text = |(index, sale): (usize, &Sale)| event_text(sale, request.source.event_id(index).as_deref());
    request.sales.iter().enumerate().map(text).collect()
}

/// Returns the event as it is sent. It contains its number, so that the checker finds it in the log.
fn event_text(sale: &Sale, id: Option<&str>) -> String {
    let name = if sale.units < 0 { "subtract_revenue" } else { "add_revenue" };
    let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
    let pad = match sale.pad {
        0 => String::new(),
        count => format!(r#","pad":"{}""#, "x".repeat(count)),
    };
    format!(
        r#"{{{id}"userId":"{}","name":"{name}","value":{},"number":{}{pad}}}"#,
        sale.user,
        amount_text(sale.units.abs()),
        sale.number
    )
}

#[test]
fn amounts_are_written_with_all_their_digits() {
    let texts = [0, 5, -10_000, 123_400, 9_999_999_999_999_999_999].map(amount_text);
    assert_eq!(texts, ["0", "0.0005", "-1", "12.34", "999999999999999.9999"]);
}
