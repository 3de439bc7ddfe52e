//! Sales whose sums are checked: at the end, the balances must equal the acknowledged sales.

use std::collections::BTreeMap;

use journal::simulation::Rng;

use crate::wire::{Request, Response};

const EVENTS: &str = "/v1/streams/revenue/events";
const USERS: u64 = 40;
const UNITS: i128 = 10_000;
/// Number of earlier sales that a sender keeps to repeat or correct them.
const SENT_MAX: usize = 200;

/// The effect of a request on the balances if it is acknowledged.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Adds these sales, by user, in ten-thousandths.
    Adds(Vec<(String, i128)>),
    /// Changes nothing, because it is a repeat.
    Nothing,
    /// Undoes the sale at this index of `Sales::sent`.
    Corrects(usize),
}

struct SentSale {
    request: Request,
    sales: Vec<(String, i128)>,
    id: String,
    has_client_id: bool,
    corrected: bool,
}

/// The sales of one sender.
pub struct Sales {
    sender: u64,
    next: u64,
    sent: Vec<SentSale>,
    pub balances: BTreeMap<String, i128>,
}

impl Sales {
    pub fn new(sender: u64) -> Self {
        Self { sender, next: 0, sent: Vec::new(), balances: BTreeMap::new() }
    }

    pub fn draw(&mut self, rng: &mut Rng) -> (Request, Effect) {
        self.next += 1;
        match (rng.below(100), self.sent.len() as u64) {
            (0..8, known @ 1..) => {
                let at = rng.below(known) as usize;
                let sale = &self.sent[at];
                if sale.has_client_id {
                    return (sale.request.clone(), Effect::Nothing);
                }
            }
            (8..16, known @ 1..) => {
                let at = rng.below(known) as usize;
                let sale = &self.sent[at];
                let body = format!(r#"{{"takesBack":"{}"}}"#, sale.id);
                let effect = if sale.corrected { Effect::Nothing } else { Effect::Corrects(at) };
                return (Request::new("POST", EVENTS, body.as_bytes()), effect);
            }
            _ => {}
        }
        self.new_sale(rng)
    }

    fn new_sale(&self, rng: &mut Rng) -> (Request, Effect) {
        let name = format!("counted-{}-{}", self.sender, self.next);
        let count = 1 + rng.below(5);
        let sales: Vec<(String, i128)> = (0..count).map(|_| sale(rng)).collect();
        let texts: Vec<String> = sales.iter().map(|(user, units)| text(user, *units, None)).collect();
        let (user, units) = &sales[0];
        let one = vec![sales[0].clone()];
        let wait = if rng.times_in_100(10) { "?wait=applied" } else { "" };
        let path = format!("{EVENTS}{wait}");
        let post = |body: &str| Request::new("POST", &path, body.as_bytes());
        let (mut request, sales) = match rng.below(6) {
            0 => (Request::new("POST", "/liveEvent", texts[0].as_bytes()), one),
            1 => (post(&texts[0]), one),
            2 => (post(&text(user, *units, Some(&name))), one),
            3 => (post(&texts[0]).with("Idempotency-Key", &name), one),
            4 => (post(&format!("[{}]", texts.join(","))).with("Idempotency-Key", &name), sales),
            _ => {
                let lines = post(&format!("{}\n", texts.join("\n")));
                let lines = lines.with("Content-Type", "application/x-ndjson");
                (lines.with("Millrace-Upload", &name).with("Millrace-First-Line", "1"), sales)
            }
        };
        request.chunked = rng.times_in_100(10);
        match rng.below(20) {
            0 => request.compress("gzip"),
            1 => request.compress("zstd"),
            _ => {}
        }
        (request, Effect::Adds(sales))
    }

    /// Applies the effect of an acknowledged request to the expected balances.
    pub fn acknowledged(&mut self, rng: &mut Rng, request: Request, effect: Effect, response: &Response) {
        match effect {
            Effect::Nothing => {}
            Effect::Corrects(at) => {
                let sale = &mut self.sent[at];
                sale.corrected = true;
                for (user, units) in sale.sales.drain(..) {
                    *self.balances.entry(user).or_default() -= units;
                }
            }
            Effect::Adds(sales) => {
                for (user, units) in &sales {
                    *self.balances.entry(user.clone()).or_default() += units;
                }
                let Some(id) = response.json()["eventId"].as_str().map(str::to_owned) else { return };
                // An event id is a UUID of version 5 if it derives from a client id; otherwise it is a position.
                let has_client_id = id.as_bytes()[14] == b'5';
                let sale = SentSale { request, sales, id, has_client_id, corrected: false };
                if self.sent.len() == SENT_MAX {
                    let at = rng.below(SENT_MAX as u64) as usize;
                    self.sent[at] = sale;
                } else {
                    self.sent.push(sale);
                }
            }
        }
    }

    /// Returns the id of an acknowledged event.
    pub fn known_id(&self, rng: &mut Rng) -> Option<&str> {
        let known = self.sent.len() as u64;
        (known > 0).then(|| self.sent[rng.below(known) as usize].id.as_str())
    }
}

fn sale(rng: &mut Rng) -> (String, i128) {
    let units = match rng.below(10) {
        0 => i128::from(rng.below(10_u64.pow(19))),
        _ => i128::from(rng.below(100_000_000)),
    };
    let units = if rng.times_in_100(40) { -units } else { units };
    (format!("counted-{}", rng.below(USERS)), units)
}

fn text(user: &str, units: i128, id: Option<&str>) -> String {
    let name = if units < 0 { "subtract_revenue" } else { "add_revenue" };
    let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
    let (whole, part) = (units.abs() / UNITS, units.abs() % UNITS);
    format!(r#"{{{id}"userId":"{user}","name":"{name}","value":{whole}.{part:04}}}"#)
}

/// Parses a balance of the API into ten-thousandths.
pub fn units_of(balance: &str) -> i128 {
    let (sign, digits) = balance.strip_prefix('-').map_or((1, balance), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    sign * (whole.parse::<i128>().unwrap() * UNITS + format!("{part:0<4}").parse::<i128>().unwrap())
}
