//! One sender: draws, asks, judges what it is answered, and keeps in mind what it needs to go on.

use std::collections::BTreeMap;
use std::fmt;

use journal::simulation::Rng;

use crate::draw::{Drawing, ROUTES};
use crate::judge::Judge;
use crate::sales::{Meaning, Sales};
use crate::wire::{Answered, Asked, Connection};

const IDS_MAX: usize = 500;

pub struct Sender<'a> {
    seed: u64,
    drawing: Drawing,
    connection: Connection,
    key: &'a str,
    judge: &'a Judge,
    pub sales: Sales,
    pub tally: Tally,
}

enum Drawn {
    Counted(Meaning),
    Sound,
    Any,
}

impl<'a> Sender<'a> {
    pub fn new(number: u64, seed: u64, address: &str, key: &'a str, judge: &'a Judge) -> Self {
        let chance = Rng::new(seed ^ (number + 1).wrapping_mul(0x9E37_79B9));
        Self {
            seed,
            drawing: Drawing { chance, ids: Vec::new(), letters: Vec::new(), reading_ids: Vec::new() },
            connection: Connection::new(address),
            key,
            judge,
            sales: Sales::new(number),
            tally: Tally::default(),
        }
    }

    pub fn run(mut self, requests: u64) -> Self {
        for _ in 0..requests {
            let (mut asked, drawn) = match self.drawing.chance.below(100) {
                0..35 => {
                    let (asked, meaning) = self.sales.draw(&mut self.drawing.chance);
                    (asked, Drawn::Counted(meaning))
                }
                35..50 => (self.drawing.sound(), Drawn::Sound),
                50..75 => (self.drawing.nearly(), Drawn::Any),
                75..98 => (self.drawing.wild(), Drawn::Any),
                _ => (self.drawing.broken(), Drawn::Any),
            };
            self.introduce(&mut asked);
            let said = format!("{} {:?} {}", asked.method, asked.path, String::from_utf8_lossy(&asked.body));
            let wrong = |what: String| panic!("seed {}: {said}\n  {what}", self.seed);
            let answered = match self.connection.ask(&asked) {
                Ok(answered) => answered,
                Err(error) => wrong(error.to_string()),
            };
            let text = || format!("{} {}", answered.status, String::from_utf8_lossy(&answered.body));
            if let Err(reason) = self.judge.expect_sound(&asked, &answered) {
                wrong(format!("{reason}: {}", text()));
            }
            let overloaded = [503, 507].contains(&answered.status);
            if overloaded {
                println!("{said}\n  {}", text());
            }
            if !matches!(drawn, Drawn::Any) && !overloaded && !may_be_sound(&asked, answered.status) {
                wrong(format!("is not to be refused: {}", text()));
            }
            self.note(asked, drawn, &answered);
        }
        self.tally.ended = self.connection.ended;
        self
    }

    /// Says who it is and what it brings, unless the request has something else to say.
    fn introduce(&self, asked: &mut Asked) {
        for (name, value) in
            [("Host", "localhost"), ("Authorization", self.key), ("Content-Type", "application/json")]
        {
            if !asked.headers.iter().any(|(known, _)| known == name) {
                asked.headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
        }
    }

    fn note(&mut self, asked: Asked, drawn: Drawn, answered: &Answered) {
        self.tally.note(&asked, answered.status);
        let yes = (200..300).contains(&answered.status);
        match drawn {
            Drawn::Counted(meaning) if yes => {
                self.sales.acknowledged(&mut self.drawing.chance, asked, meaning, answered);
                if let Some(id) = self.sales.known_id(&mut self.drawing.chance) {
                    keep(&mut self.drawing.reading_ids, id);
                }
            }
            _ if yes && asked.method != "GET" => {
                let body = answered.json();
                for id in [&body["eventId"], &body["eventIds"][0], &body["id"]] {
                    keep(&mut self.drawing.ids, id.as_str().unwrap_or_default());
                }
            }
            _ if yes && asked.route() == "/v1/dead-letters" => {
                let body = answered.json();
                let letters = body["deadLetters"].as_array().into_iter().flatten();
                letters.for_each(|letter| {
                    keep(&mut self.drawing.letters, letter["id"].as_str().unwrap_or_default());
                });
            }
            _ => {}
        }
    }
}

fn keep(ids: &mut Vec<String>, id: &str) {
    if !id.is_empty() {
        ids.push(id.to_owned());
    }
    if ids.len() > IDS_MAX {
        ids.swap_remove(0);
    }
}

/// A row, or an event of somebody who was erased, may not be there.
fn may_be_sound(asked: &Asked, status: u16) -> bool {
    (200..300).contains(&status) || (status == 404 && asked.method == "GET")
}

/// How often each route was asked, and what was answered.
#[derive(Default)]
pub struct Tally {
    routes: BTreeMap<(&'static str, &'static str), BTreeMap<u16, u64>>,
    statuses: BTreeMap<u16, u64>,
    /// Connections that the server ended between two requests.
    ended: u64,
}

impl Tally {
    fn note(&mut self, asked: &Asked, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
        let steps: Vec<&str> = asked.route().split('/').collect();
        let is = |route: &str| {
            let known: Vec<&str> = route.split('/').collect();
            known.len() == steps.len() && known.iter().zip(&steps).all(|(a, b)| *a == "{}" || a == b)
        };
        if let Some((method, route)) =
            ROUTES.iter().find(|(method, route)| *method == asked.method && is(route))
        {
            *self.routes.entry((*method, *route)).or_default().entry(status).or_default() += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (route, statuses) in &other.routes {
            for (status, count) in statuses {
                *self.routes.entry(*route).or_default().entry(*status).or_default() += count;
            }
        }
    }

    /// A generator that leaves out a route, or never gets past a refusal, would prove little.
    pub fn expect_everything(&self) {
        for route in ROUTES.iter().filter(|(_, route)| *route != "/v1/backup") {
            assert!(self.routes.contains_key(route), "{route:?} was never asked");
        }
        for status in [200, 202, 400, 401, 403, 404, 405, 409, 415, 421] {
            assert!(self.statuses.contains_key(&status), "{status} was never answered");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((method, route), statuses) in &self.routes {
            writeln!(f, "{method} {route}: {statuses:?}")?;
        }
        write!(f, "in all: {:?}; connections ended by the server: {}", self.statuses, self.ended)
    }
}
