//! The time until an accepted event is visible in its view, at a constant 10,000 events/s.

use std::sync::Arc;
use std::time::Duration;

use super::live_event::live_events;
use crate::Outcome;
use crate::events::{USERS, sale};
use crate::load::{Protocol, Stream, Target, open_loop};
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table};

const TIME: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
const SAMPLES_PER_SECOND: f64 = 400.0;
const EVENTS_PER_SECOND: f64 = 10_000.0;
const MILLISECONDS_MAX: f64 = 20.0;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let server = Millrace::start(&setting.build().path, &setting.folder)?;
    let samples = (0..USERS as u64)
        .map(|number| server.post("/v1/streams/revenue/events?wait=applied", &sale(number)))
        .collect();
    let samples = Target {
        address: server.address.clone(),
        protocol: Protocol::Http,
        requests: Arc::new(samples),
        opening: None,
    };
    let [mut high, mut middle, mut accepted] = <[Rounds; 3]>::default();
    for _ in 0..ROUNDS {
        let streams = vec![
            Stream {
                target: live_events(&server),
                connections: 48,
                per_second: EVENTS_PER_SECOND - SAMPLES_PER_SECOND,
            },
            Stream { target: samples.clone(), connections: 16, per_second: SAMPLES_PER_SECOND },
        ];
        let before = server.log_end()?;
        let mut times = open_loop(streams, TIME)?;
        let events = (server.log_end()? - before) as f64;
        if events < 0.99 * EVENTS_PER_SECOND * TIME.as_secs_f64() {
            return Err(format!("only {events} events were accepted").into());
        }
        high.push(quantile(&mut times[1], 0.99));
        middle.push(quantile(&mut times[1], 0.5));
        accepted.push(quantile(&mut times[0], 0.99));
    }
    table.row(Row {
        what: "accepted to visible at 10,000 events/s, p99".to_owned(),
        measured: format!("{:.1} ms", high.median()),
        target: format!("below {MILLISECONDS_MAX:.0} ms"),
        met: high.median() < MILLISECONDS_MAX,
    });
    table.figure("from due to visible, p50", &middle, "ms");
    table.figure("from due to visible, p99", &high, "ms");
    table.figure("from due to accepted (`/liveEvent`), p99", &accepted, "ms");
    table.note(
        "Visible: an open loop over 64 connections. It sends 10,000 events a second. 400 of them, over 16 \
         of the connections, ask `?wait=applied`: they are answered once the view's transaction is \
         committed. Their time is counted from the moment at which the request was due, so it includes \
         acceptance and is an upper bound.",
    );
    Ok(())
}

/// Returns a quantile in milliseconds.
pub fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}
