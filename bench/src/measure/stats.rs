//! The response time of `GET /stats` over 10,000,000 visits, while 10,000 more arrive per second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::visible::quantile;
use crate::Outcome;
use crate::events::{Spread, visit, visits};
use crate::http::request;
use crate::load::{Protocol, Stream, Target, open_loop};
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table};

const EVENTS: u64 = 10_000_000;
const PIECE: u64 = 500_000;
const SPREAD: Spread = Spread { sites: 1, paths: 1_000_000, users: 1_000_000, events: EVENTS };
const TIME: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
const EVENTS_PER_SECOND: f64 = 10_000.0;
const QUERIES_PER_SECOND: f64 = 200.0;
const MILLISECONDS_MAX: f64 = 5.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let mut servers = Vec::new();
    for build in &setting.builds {
        servers.push((build.name, StatsServer::filled(Millrace::start(&build.path, &setting.folder)?)?));
    }
    for _ in 0..ROUNDS {
        for (_, stats_server) in &mut servers {
            stats_server.round()?;
        }
    }
    let [of_all, of_a_day] = [&servers[0].1.of_all, &servers[0].1.of_a_day];
    for (what, rounds) in [("all time", of_all), ("one day", of_a_day)] {
        table.row(Row {
            what: format!("`GET /stats` over 10 million visits, {what}, while 10,000/s arrive, p99"),
            measured: format!("{:.1} ms", rounds.median()),
            target: format!("below {MILLISECONDS_MAX:.0} ms"),
            met: rounds.median() < MILLISECONDS_MAX,
        });
    }
    for (name, stats_server) in &servers {
        table.figure(&format!("`GET /stats`, {name}, all time, p99"), &stats_server.of_all, "ms");
        table.figure(&format!("`GET /stats`, {name}, one day, p99"), &stats_server.of_a_day, "ms");
        table.figure(
            &format!("visits accepted, stored and counted by every view, {name}"),
            &stats_server.filled,
            "events/s",
        );
    }
    table.note(
        "Stats: one site with 10,000,000 visits of 1,000,000 users to 1,000,000 paths over 28 days, in the \
         order of time, while all views of the default configuration run. Then an open loop sends 10,000 \
         `POST /event` a second over 48 connections, and 200 queries of each kind a second over 8. Times \
         are counted from the moment at which a query was due.",
    );
    servers.into_iter().try_for_each(|(_, stats_server)| stats_server.server.stop().map(drop))
}

/// A server that has the visits, and its response times.
struct StatsServer {
    server: Millrace,
    events: Target,
    filled: Rounds,
    of_all: Rounds,
    of_a_day: Rounds,
}

impl StatsServer {
    fn filled(server: Millrace) -> Outcome<Self> {
        let begun = Instant::now();
        for begin in (0..EVENTS).step_by(PIECE as usize) {
            let lines = visits(begin..begin + PIECE, SPREAD);
            server.client()?.send_lines_to("site_events", &server.key, &lines, 1)?;
        }
        server.settle()?;
        let [mut filled, of_all, of_a_day] = <[Rounds; 3]>::default();
        filled.push(EVENTS as f64 / begun.elapsed().as_secs_f64());
        let events = (EVENTS..EVENTS + 200_000).map(|number| server.post("/event", &visit(number, SPREAD)));
        let events = target(&server, events.collect());
        Ok(Self { server, events, filled, of_all, of_a_day })
    }

    fn round(&mut self) -> Outcome<()> {
        let headers = format!("Authorization: {}\r\n", self.server.key);
        let queries = |date: &str| {
            let query = request("GET", &format!("/stats?site_id=site-0{date}"), &headers, "");
            let target = target(&self.server, vec![query]);
            Stream { target, connections: 8, per_second: QUERIES_PER_SECOND }
        };
        let before = self.server.log_end()?;
        let sent = Stream { target: self.events.clone(), connections: 48, per_second: EVENTS_PER_SECOND };
        let mut times = open_loop(vec![sent, queries(""), queries("&date=2025-11-14")], TIME)?;
        let accepted = (self.server.log_end()? - before) as f64;
        if accepted < 0.99 * EVENTS_PER_SECOND * TIME.as_secs_f64() {
            return Err(format!("only {accepted} events were accepted").into());
        }
        self.of_all.push(quantile(&mut times[1], 0.99));
        self.of_a_day.push(quantile(&mut times[2], 0.99));
        self.server.settle()
    }
}

fn target(server: &Millrace, requests: Vec<Vec<u8>>) -> Target {
    Target {
        address: server.address.clone(),
        protocol: Protocol::Http,
        requests: Arc::new(requests),
        opening: None,
    }
}
