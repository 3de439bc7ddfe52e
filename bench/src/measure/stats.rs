//! How soon a site's numbers are answered over ten million visits, while 10,000 more a second come in.

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
const EVENTS_A_SECOND: f64 = 10_000.0;
const QUESTIONS_A_SECOND: f64 = 200.0;
const MILLISECONDS_MAX: f64 = 5.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let server = Millrace::start(&setting.build().path, &setting.folder)?;
    let begun = Instant::now();
    for begin in (0..EVENTS).step_by(PIECE as usize) {
        let lines = visits(begin..begin + PIECE, SPREAD);
        server.client()?.send_lines_to("site_events", &server.key, &lines, 1)?;
    }
    server.settle()?;
    let mut filled = Rounds::default();
    filled.push(EVENTS as f64 / begun.elapsed().as_secs_f64());
    let events = (EVENTS..EVENTS + 200_000).map(|number| server.post("/event", &visit(number, SPREAD)));
    let events = target(&server, events.collect());
    let questions = |date: &str| {
        let headers = format!("Authorization: {}\r\n", server.key);
        target(&server, vec![request("GET", &format!("/stats?site_id=site-0{date}"), &headers, "")])
    };
    let (whole, dated) = (questions(""), questions("&date=2025-11-14"));
    let [mut of_all, mut of_a_day] = [const { Rounds::new() }; 2];
    for _ in 0..ROUNDS {
        let ask =
            |target: &Target| Stream { target: target.clone(), connections: 8, a_second: QUESTIONS_A_SECOND };
        let before = server.log_end()?;
        let sent = Stream { target: events.clone(), connections: 48, a_second: EVENTS_A_SECOND };
        let mut times = open_loop(vec![sent, ask(&whole), ask(&dated)], TIME)?;
        let came = (server.log_end()? - before) as f64;
        if came < 0.99 * EVENTS_A_SECOND * TIME.as_secs_f64() {
            return Err(format!("only {came} events were sent").into());
        }
        of_all.push(quantile(&mut times[1], 0.99));
        of_a_day.push(quantile(&mut times[2], 0.99));
    }
    for (what, rounds) in [("all time", &of_all), ("one day", &of_a_day)] {
        table.row(Row {
            what: format!("`GET /stats` over 10 million visits, {what}, while 10,000/s come in, p99"),
            measured: format!("{:.1} ms", rounds.median()),
            target: format!("below {MILLISECONDS_MAX:.0} ms"),
            met: rounds.median() < MILLISECONDS_MAX,
        });
        table.figure(&format!("`GET /stats`, {what}, p99"), rounds, "ms");
    }
    table.figure("visits taken, stored and counted by every view", &filled, "events/s");
    server.settle()?;
    table.note(
        "Stats: one site with 10,000,000 visits of 1,000,000 users to 1,000,000 paths over 28 days, in the order of time, all views of the \
         default configuration running; then an open loop of 10,000 `POST /event` a second over 48 connections, and \
         200 questions a second of each kind over 8. Times are counted from when a question was due.",
    );
    server.stop()?;
    Ok(())
}

fn target(server: &Millrace, requests: Vec<Vec<u8>>) -> Target {
    Target { address: server.address.clone(), protocol: Protocol::Http, requests: Arc::new(requests) }
}
