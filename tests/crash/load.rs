//! The load: requests of every kind, drawn from a seed, sent by several threads until the server goes
//! away or they are told to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use journal::simulation::Rng;

use crate::checker::Checker;
use crate::harness::Client;
use crate::history::{Request, Sale, Source};

pub const SENDERS: u64 = 4;
const USERS: u64 = 12;
/// Events of one request are numbered within this.
pub const SALES_MAX: u64 = 10_000;

/// What senders have in common.
pub struct Load<'a> {
    pub checker: &'a Checker,
    pub client: Client,
    next: AtomicU64,
    over: AtomicBool,
    /// Between two requests of one sender, to leave a small machine's time to others.
    pub pause: Duration,
}

impl<'a> Load<'a> {
    pub fn new(checker: &'a Checker, client: Client) -> Self {
        let next = AtomicU64::new(checker.history.next_number());
        Self { checker, client, next, over: AtomicBool::new(false), pause: Duration::ZERO }
    }

    /// One object a request, so many events, each this long.
    pub fn objects(&self, count: u64, pad: usize) {
        for _ in 0..count {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let user = format!("user-{}", number % USERS);
            let sales = vec![Sale { number: number * SALES_MAX, user, units: 10_001, pad }];
            let request =
                Request { number, source: Source::Object { id: format!("object-{number}") }, sales };
            if self.checker.send(&self.client, &request).is_none() {
                return;
            }
        }
    }

    /// One sale each of so many users, as lines.
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
        let request = Request { number, source, sales: (0..users).map(sale).collect() };
        assert_eq!(self.checker.send(&self.client, &request), Some(200));
    }

    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Sends with all senders while `meanwhile` runs, and until the server is gone or it ends.
    pub fn run<T>(&self, seed: u64, meanwhile: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let chance = Rng::new(seed ^ (sender + 1).wrapping_mul(0x9E37_79B9));
                scope.spawn(move || self.send_on(sender, chance));
            }
            let stop = StopAtEnd(self);
            let outcome = meanwhile();
            drop(stop);
            outcome
        })
    }

    fn send_on(&self, sender: u64, mut chance: Rng) {
        let mut sent: Vec<Request> = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let repeat = !sent.is_empty() && chance.times_in_100(8);
            let request = match repeat {
                // What was acknowledged and is sent again must not count again.
                true => sent.swap_remove(chance.below(sent.len() as u64) as usize),
                false => self.draw(sender, &mut chance),
            };
            match self.checker.send(&self.client, &request) {
                Some(_) if request.source != Source::LiveEvent => sent.push(request),
                Some(_) => {}
                None => return,
            }
            std::thread::sleep(self.pause);
        }
    }

    fn draw(&self, sender: u64, chance: &mut Rng) -> Request {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (source, count) = match chance.below(100) {
            0..35 => (Source::LiveEvent, 1),
            35..65 => (Source::Object { id: format!("object-{number}") }, 1),
            65..83 => (Source::Array { key: format!("array-{number}") }, 1 + chance.below(30)),
            kind => {
                // Lines of one source follow on each other; a request of several chunks now and then.
                let (upload, first_line) = (format!("file-{sender}"), 1 + number * SALES_MAX);
                let count = if kind == 99 { 1_000 + chance.below(300) } else { 1 + chance.below(60) };
                (Source::Lines { upload, first_line }, count)
            }
        };
        let sales = (0..count).map(|index| sale(number * SALES_MAX + index, chance)).collect();
        Request { number, source, sales }
    }
}

struct StopAtEnd<'a>(&'a Load<'a>);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Most amounts are small; some have all the digits an amount may have, which no float can add.
fn sale(number: u64, chance: &mut Rng) -> Sale {
    let units = match chance.times_in_100(10) {
        true => i128::from(chance.below(10_u64.pow(19))),
        false => i128::from(chance.below(1_000_000)),
    };
    let units = if chance.times_in_100(40) { -units } else { units };
    Sale { number, user: format!("user-{}", chance.below(USERS)), units, pad: 0 }
}

/// What each user's balance comes to.
pub fn sums<'s>(sales: impl Iterator<Item = &'s Sale>) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for sale in sales {
        *sums.entry(sale.user.clone()).or_default() += sale.units;
    }
    sums
}

/// `123.45`: the shortest exact text of so many ten-thousandths.
pub fn amount_text(units: i128) -> String {
    let (whole, part) = (units.unsigned_abs() / 10_000, units.unsigned_abs() % 10_000);
    let sign = if units < 0 { "-" } else { "" };
    match part {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{}", format!("{part:04}").trim_end_matches('0')),
    }
}

/// The event as it is sent. Its number rides along, so that it is known again in the log.
pub fn event_text(sale: &Sale, id: Option<&str>) -> String {
    let name = if sale.units < 0 { "subtract_revenue" } else { "add_revenue" };
    let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
    let pad = match sale.pad {
        0 => String::new(),
        letters => format!(r#","pad":"{}""#, "x".repeat(letters)),
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
