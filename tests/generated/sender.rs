//! A sender: generates requests, sends them, checks the responses, and remembers ids for later requests.

use std::collections::BTreeMap;
use std::fmt;

use journal::simulation::Rng;

use crate::draw::{Generator, ROUTES};
use crate::judge::Judge;
use crate::sales::{Effect, Sales};
use crate::wire::{Connection, Request, Response};

const IDS_MAX: usize = 500;

pub struct Sender<'a> {
    seed: u64,
    generator: Generator,
    connection: Connection,
    key: &'a str,
    judge: &'a Judge,
    pub sales: Sales,
    pub tally: Tally,
}

/// The response that a request must get.
enum Expectation {
    /// An acknowledgement, after which the balances change by this effect.
    Counted(Effect),
    Accepted,
    Any,
}

impl<'a> Sender<'a> {
    pub fn new(number: u64, seed: u64, address: &str, key: &'a str, judge: &'a Judge) -> Self {
        let rng = Rng::new(seed ^ (number + 1).wrapping_mul(0x9E37_79B9));
        Self {
            seed,
            generator: Generator { rng, ids: Vec::new(), dead_letters: Vec::new(), reading_ids: Vec::new() },
            connection: Connection::new(address),
            key,
            judge,
            sales: Sales::new(number),
            tally: Tally::default(),
        }
    }

    pub fn run(mut self, requests: u64) -> Self {
        for _ in 0..requests {
            let (mut request, expectation) = match self.generator.rng.below(100) {
                0..35 => {
                    let (request, effect) = self.sales.draw(&mut self.generator.rng);
                    (request, Expectation::Counted(effect))
                }
                35..50 => (self.generator.valid(), Expectation::Accepted),
                50..75 => (self.generator.mutated(), Expectation::Any),
                75..98 => (self.generator.arbitrary(), Expectation::Any),
                _ => (self.generator.malformed(), Expectation::Any),
            };
            self.add_default_headers(&mut request);
            let sent =
                format!("{} {:?} {}", request.method, request.path, String::from_utf8_lossy(&request.body));
            let wrong = |what: String| panic!("seed {}: {sent}\n  {what}", self.seed);
            let response = match self.connection.send(&request) {
                Ok(response) => response,
                Err(error) => wrong(error.to_string()),
            };
            let text = || format!("{} {}", response.status, String::from_utf8_lossy(&response.body));
            if let Err(reason) = self.judge.check(&request, &response) {
                wrong(format!("{reason}: {}", text()));
            }
            let overloaded = [503, 507].contains(&response.status);
            if overloaded {
                println!("{sent}\n  {}", text());
            }
            if !matches!(expectation, Expectation::Any)
                && !overloaded
                && !is_success(&request, response.status)
            {
                wrong(format!("a valid request was refused: {}", text()));
            }
            self.record(request, expectation, &response);
        }
        self.tally.closed = self.connection.closed;
        self
    }

    /// Adds the host, the key and the content type, unless the request has its own.
    fn add_default_headers(&self, request: &mut Request) {
        for (name, value) in
            [("Host", "localhost"), ("Authorization", self.key), ("Content-Type", "application/json")]
        {
            if !request.headers.iter().any(|(known, _)| known == name) {
                request.headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
        }
    }

    fn record(&mut self, request: Request, expectation: Expectation, response: &Response) {
        self.tally.record(&request, response.status);
        let acknowledged = (200..300).contains(&response.status);
        match expectation {
            Expectation::Counted(effect) if acknowledged => {
                self.sales.acknowledged(&mut self.generator.rng, request, effect, response);
                if let Some(id) = self.sales.known_id(&mut self.generator.rng) {
                    remember(&mut self.generator.reading_ids, id);
                }
            }
            _ if acknowledged && request.method != "GET" => {
                let body = response.json();
                for id in [&body["eventId"], &body["eventIds"][0], &body["id"]] {
                    remember(&mut self.generator.ids, id.as_str().unwrap_or_default());
                }
            }
            _ if acknowledged && request.route() == "/v1/dead-letters" => {
                let body = response.json();
                let dead_letters = body["deadLetters"].as_array().into_iter().flatten();
                dead_letters.for_each(|dead_letter| {
                    remember(
                        &mut self.generator.dead_letters,
                        dead_letter["id"].as_str().unwrap_or_default(),
                    );
                });
            }
            _ => {}
        }
    }
}

fn remember(ids: &mut Vec<String>, id: &str) {
    if !id.is_empty() {
        ids.push(id.to_owned());
    }
    if ids.len() > IDS_MAX {
        ids.swap_remove(0);
    }
}

/// Returns true for 2xx, and for 404 to a GET: a row or an erased event may not exist.
fn is_success(request: &Request, status: u16) -> bool {
    (200..300).contains(&status) || (status == 404 && request.method == "GET")
}

/// Counts requests by route and status.
#[derive(Default)]
pub struct Tally {
    routes: BTreeMap<(&'static str, &'static str), BTreeMap<u16, u64>>,
    statuses: BTreeMap<u16, u64>,
    /// Connections that the server closed between two requests.
    closed: u64,
}

impl Tally {
    fn record(&mut self, request: &Request, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
        let steps: Vec<&str> = request.route().split('/').collect();
        let is = |route: &str| {
            let known: Vec<&str> = route.split('/').collect();
            known.len() == steps.len() && known.iter().zip(&steps).all(|(a, b)| *a == "{}" || a == b)
        };
        if let Some((method, route)) =
            ROUTES.iter().find(|(method, route)| *method == request.method && is(route))
        {
            *self.routes.entry((*method, *route)).or_default().entry(status).or_default() += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.closed += other.closed;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (route, statuses) in &other.routes {
            for (status, count) in statuses {
                *self.routes.entry(*route).or_default().entry(*status).or_default() += count;
            }
        }
    }

    /// Fails if a route was never requested, or an expected status never returned: such a run proves little.
    pub fn expect_everything(&self) {
        for route in ROUTES.iter().filter(|(_, route)| *route != "/v1/backup") {
            assert!(self.routes.contains_key(route), "{route:?} was never requested");
        }
        for status in [200, 202, 400, 401, 403, 404, 405, 409, 415, 421] {
            assert!(self.statuses.contains_key(&status), "{status} was never returned");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((method, route), statuses) in &self.routes {
            writeln!(f, "{method} {route}: {statuses:?}")?;
        }
        write!(f, "in all: {:?}; connections closed by the server: {}", self.statuses, self.closed)
    }
}
