//! Sales that count: what was acknowledged of them is what the balances have to be at the end.

use std::collections::BTreeMap;

use journal::simulation::Rng;

use crate::wire::{Answered, Asked};

const EVENTS: &str = "/v1/streams/revenue/events";
const USERS: u64 = 40;
const UNITS: i128 = 10_000;
/// Sales that may still be sent again or taken back.
const REMEMBERED: usize = 200;

/// What a request does if it is acknowledged.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// These sales, by user, in ten-thousandths.
    Counts(Vec<(String, i128)>),
    /// It was acknowledged before, and changes nothing.
    Again,
    /// The sale at this place of those that are remembered is taken back.
    TakesBack(usize),
}

struct Remembered {
    asked: Asked,
    sales: Vec<(String, i128)>,
    id: String,
    named: bool,
    taken_back: bool,
}

/// One sender's.
pub struct Sales {
    sender: u64,
    next: u64,
    remembered: Vec<Remembered>,
    pub balances: BTreeMap<String, i128>,
}

impl Sales {
    pub fn new(sender: u64) -> Self {
        Self { sender, next: 0, remembered: Vec::new(), balances: BTreeMap::new() }
    }

    pub fn draw(&mut self, chance: &mut Rng) -> (Asked, Meaning) {
        self.next += 1;
        match (chance.below(100), self.remembered.len() as u64) {
            (0..8, known @ 1..) => {
                let at = chance.below(known) as usize;
                let sale = &self.remembered[at];
                if sale.named {
                    return (sale.asked.clone(), Meaning::Again);
                }
            }
            (8..16, known @ 1..) => {
                let at = chance.below(known) as usize;
                let sale = &self.remembered[at];
                let body = format!(r#"{{"takesBack":"{}"}}"#, sale.id);
                let meaning = if sale.taken_back { Meaning::Again } else { Meaning::TakesBack(at) };
                return (Asked::new("POST", EVENTS, body.as_bytes()), meaning);
            }
            _ => {}
        }
        self.fresh(chance)
    }

    fn fresh(&self, chance: &mut Rng) -> (Asked, Meaning) {
        let name = format!("counted-{}-{}", self.sender, self.next);
        let count = 1 + chance.below(5);
        let sales: Vec<(String, i128)> = (0..count).map(|_| sale(chance)).collect();
        let texts: Vec<String> = sales.iter().map(|(user, units)| text(user, *units, None)).collect();
        let (user, units) = &sales[0];
        let one = vec![sales[0].clone()];
        let wait = if chance.times_in_100(10) { "?wait=applied" } else { "" };
        let path = format!("{EVENTS}{wait}");
        let post = |body: &str| Asked::new("POST", &path, body.as_bytes());
        let (mut asked, sales) = match chance.below(6) {
            0 => (Asked::new("POST", "/liveEvent", texts[0].as_bytes()), one),
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
        asked.chunked = chance.times_in_100(10);
        match chance.below(20) {
            0 => asked.compress("gzip"),
            1 => asked.compress("zstd"),
            _ => {}
        }
        (asked, Meaning::Counts(sales))
    }

    /// Notes what was said yes to.
    pub fn acknowledged(&mut self, chance: &mut Rng, asked: Asked, meaning: Meaning, answer: &Answered) {
        match meaning {
            Meaning::Again => {}
            Meaning::TakesBack(at) => {
                let sale = &mut self.remembered[at];
                sale.taken_back = true;
                for (user, units) in sale.sales.drain(..) {
                    *self.balances.entry(user).or_default() -= units;
                }
            }
            Meaning::Counts(sales) => {
                for (user, units) in &sales {
                    *self.balances.entry(user.clone()).or_default() += units;
                }
                let Some(id) = answer.json()["eventId"].as_str().map(str::to_owned) else { return };
                // An id that was made of its client's says so; any other is a place in the log.
                let named = id.as_bytes()[14] == b'5';
                let sale = Remembered { asked, sales, id, named, taken_back: false };
                match self.remembered.len() == REMEMBERED {
                    true => {
                        let at = chance.below(REMEMBERED as u64) as usize;
                        self.remembered[at] = sale;
                    }
                    false => self.remembered.push(sale),
                }
            }
        }
    }

    /// The id of an event that is there.
    pub fn known_id(&self, chance: &mut Rng) -> Option<&str> {
        let known = self.remembered.len() as u64;
        (known > 0).then(|| self.remembered[chance.below(known) as usize].id.as_str())
    }
}

fn sale(chance: &mut Rng) -> (String, i128) {
    let units = match chance.below(10) {
        0 => i128::from(chance.below(10_u64.pow(19))),
        _ => i128::from(chance.below(100_000_000)),
    };
    let units = if chance.times_in_100(40) { -units } else { units };
    (format!("counted-{}", chance.below(USERS)), units)
}

fn text(user: &str, units: i128, id: Option<&str>) -> String {
    let name = if units < 0 { "subtract_revenue" } else { "add_revenue" };
    let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
    let (whole, part) = (units.abs() / UNITS, units.abs() % UNITS);
    format!(r#"{{{id}"userId":"{user}","name":"{name}","value":{whole}.{part:04}}}"#)
}

/// A balance as it is shown, in ten-thousandths.
pub fn units_of(balance: &str) -> i128 {
    let (sign, digits) = balance.strip_prefix('-').map_or((1, balance), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    sign * (whole.parse::<i128>().unwrap() * UNITS + format!("{part:0<4}").parse::<i128>().unwrap())
}
