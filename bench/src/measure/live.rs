//! Subscribers to live balances: the time from a change to its subscriber, what many subscribers cost, and what senders
//! notice of them.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::live_event::live_events;
use super::visible::quantile;
use crate::Outcome;
use crate::events::user_id;
use crate::load::{Protocol, Stream, closed_loop, exchange, open_loop};
use crate::servers::millrace::Millrace;
use crate::setting::Setting;
use crate::subscribers::{OPENED_AT_ONCE, Seen, Subscribers};
use crate::table::{NO_TARGET, Rounds, Row, Table};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(10);
const CHANGES_PER_SECOND: usize = 1_000;
const SENDERS: usize = 50;
const MANY: usize = 1_000;
const WATCHED_BY_ONE: usize = 100;
const MANY_MILLISECONDS_MAX: f64 = 50.0;
const ONE_MILLISECONDS_MAX: f64 = 15.0;
const CROWD: usize = 10_000;
const CROWD_SECONDS_MAX: f64 = 1.0;
const CROWD_MEBIBYTES_MAX: f64 = 300.0;
const BACK_TIME: Duration = Duration::from_secs(4);
const INGEST_ROUNDS: usize = 7;
const INGEST_ROUND: Duration = Duration::from_millis(1_500);
const INGEST_CONNECTIONS: usize = 64;
const INGEST_SHARE: f64 = 0.9;
const WAIT_MAX: Duration = Duration::from_secs(30);

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    latency(setting, table)?;
    crowd(setting, table)?;
    coming_back(setting, table)?;
    ingest(setting, table)
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn latency(setting: &Setting, table: &mut Table) -> Outcome<()> {
    for (readers, subscribers, users, most) in [
        ("1,000 subscribers", MANY, MANY, MANY_MILLISECONDS_MAX),
        ("1 subscriber", 1, WATCHED_BY_ONE, ONE_MILLISECONDS_MAX),
    ] {
        let [mut high, mut middle] = <[Rounds; 2]>::default();
        for _ in 0..ROUNDS {
            let server = Millrace::start(&setting.build().path, &setting.folder)?;
            let mut times = runtime()?.block_on(changes(&server, subscribers, users))?;
            high.push(quantile(&mut times, 0.99));
            middle.push(quantile(&mut times, 0.5));
        }
        table.row(Row {
            what: format!("change to subscriber at {CHANGES_PER_SECOND} changes/s with {readers}, p99"),
            measured: format!("{:.1} ms", high.median()),
            target: format!("below {most:.0} ms"),
            met: high.median() < most,
        });
        table.figure(&format!("change to subscriber, {readers}, p50"), &middle, "ms");
        table.figure(&format!("change to subscriber, {readers}, p99"), &high, "ms");
    }
    table.note(
        "Change to subscriber: an open loop over 50 connections sends 1,000 `POST /liveEvent` a second, each adding 1 to \
         the balance of the next user: of 1,000 users, each with a subscriber of its own, or of 100 users, who are all \
         watched by one subscriber over one connection. The time runs from the moment at which the event was due to the moment at which the subscriber \
         has its balance, so it includes acceptance, dedup and view, and is an upper bound. Server-Sent Events, SQLite.",
    );
    Ok(())
}

/// Changes the balances of these users in turn. Returns the times from when a change was due to its subscriber.
async fn changes(server: &Millrace, subscribers: usize, users: usize) -> Outcome<Vec<Duration>> {
    let readers = match subscribers {
        1 => Subscribers::open_one(server, 0..users).await?,
        _ => Subscribers::open(server, 0..users).await?,
    };
    readers.take();
    let period = Duration::from_secs(1) / CHANGES_PER_SECOND as u32;
    let begin = Instant::now() + Duration::from_millis(500);
    let count = (TIME.as_secs_f64() / period.as_secs_f64()) as usize;
    let target = live_events(server);
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let mut stream = target.connect().await?;
        let requests: Vec<(usize, Vec<u8>)> =
            (sender..count).step_by(SENDERS).map(|number| (number, add(server, number % users))).collect();
        senders.spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            for (number, request) in requests {
                tokio::time::sleep_until((begin + period * number as u32).into()).await;
                exchange(&mut stream, &request, Protocol::Http, &mut buffer).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    let last = (count / users) as u64;
    let mut seen = wait_for(&readers, users, |seen| seen.balance == last).await?;
    seen.retain(|seen| seen.balance > 0);
    let due = |seen: &Seen| begin + period * ((seen.balance as usize - 1) * users + seen.user) as u32;
    Ok(seen.iter().map(|seen| seen.at.saturating_duration_since(due(seen))).collect())
}

fn add(server: &Millrace, user: usize) -> Vec<u8> {
    server.post("/liveEvent", &format!(r#"{{"userId":"{}","name":"add_revenue","value":1}}"#, user_id(user)))
}

/// Returns everything that came until `count` balances met the condition.
async fn wait_for(
    readers: &Subscribers,
    count: usize,
    is_last: impl Fn(&Seen) -> bool,
) -> Outcome<Vec<Seen>> {
    let (mut all, begun) = (readers.take(), Instant::now());
    while all.iter().filter(|seen| is_last(seen)).count() < count {
        if begun.elapsed() > WAIT_MAX {
            return Err("some subscribers did not get the last balance".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        all.extend(readers.take());
    }
    Ok(all)
}

/// Many subscribers of one balance: their memory, and when the last of them has a change.
fn crowd(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let server = Millrace::start(&setting.build().path, &setting.folder)?;
    let mut last = Rounds::default();
    let memory = runtime()?.block_on(async {
        let readers = Subscribers::open(&server, std::iter::repeat_n(0, CROWD)).await?;
        let memory = server.memory_now()?;
        readers.take();
        let target = live_events(&server);
        let mut stream = target.connect().await?;
        let mut buffer = vec![0; 64 * 1024];
        for balance in 1..=ROUNDS as u64 {
            let begun = Instant::now();
            exchange(&mut stream, &add(&server, 0), Protocol::Http, &mut buffer).await?;
            let seen = wait_for(&readers, CROWD, |seen| seen.balance == balance).await?;
            let latest = seen.iter().map(|seen| seen.at).max().unwrap_or(begun);
            last.push((latest - begun).as_secs_f64());
        }
        Outcome::Ok(memory)
    })?;
    table.row(Row {
        what: format!("a change of one balance with {CROWD} subscribers, until the last one has it"),
        measured: format!("{:.2} s", last.median()),
        target: format!("within {CROWD_SECONDS_MAX:.0} s"),
        met: last.median() < CROWD_SECONDS_MAX,
    });
    table.row(Row {
        what: format!("memory with {CROWD} idle subscribers"),
        measured: format!("{memory:.0} MiB"),
        target: format!("below {CROWD_MEBIBYTES_MAX:.0} MiB"),
        met: memory < CROWD_MEBIBYTES_MAX,
    });
    table.figure("one balance with many subscribers, until the last one has a change", &last, "s");
    table.note(
        "Many subscribers: each has a connection of its own, all watch the same balance. The time runs from sending the \
         event to the moment at which the last one has the new balance. Memory: VmRSS of the server while all are idle.",
    );
    Ok(())
}

/// Many subscribers, each with a value of its own, that connect at the same moment, as after a restart: what senders
/// notice of it.
fn coming_back(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let [mut alone, mut beside, mut until_all] = <[Rounds; 3]>::default();
    let accepted = |server: &Millrace| -> Outcome<f64> {
        let target = live_events(server);
        let streams = vec![Stream { target, connections: 16, per_second: CHANGES_PER_SECOND as f64 }];
        Ok(quantile(&mut open_loop(streams, BACK_TIME)?[0], 0.99))
    };
    for _ in 0..ROUNDS {
        let server = Millrace::start(&setting.build().path, &setting.folder)?;
        alone.push(accepted(&server)?);
        let (address, key) = (server.address.clone(), server.key.clone());
        let readers = std::thread::spawn(move || {
            let begun = Instant::now();
            runtime()?.block_on(async {
                Subscribers::open_at(&address, &key, 0..CROWD, CROWD).await.map(|_| begun.elapsed())
            })
        });
        beside.push(accepted(&server)?);
        let took = readers.join().map_err(|_| "the subscribers' thread panicked")??;
        until_all.push(took.as_secs_f64());
    }
    table.row(Row {
        what: format!(
            "`POST /liveEvent` at {CHANGES_PER_SECOND}/s, p99, while {CROWD} subscribers come at once"
        ),
        measured: format!("{:.0} ms; {:.1} ms without them", beside.median(), alone.median()),
        target: NO_TARGET.to_owned(),
        met: true,
    });
    table.figure("10,000 subscribers that come at once, until each has its value", &until_all, "s");
    table.note(
        "Subscribers that come at once: 10,000 connections are opened at the same moment, each for another balance, while \
         an open loop over 16 connections sends 1,000 events a second for 4 s. Opening takes most of that time, and all \
         of it is on the same cores.",
    );
    Ok(())
}

/// The rate of senders with and without subscribers, in turn.
fn ingest(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let server = Millrace::start(&setting.build().path, &setting.folder)?;
    let target = live_events(&server);
    let [mut with, mut without] = <[Rounds; 2]>::default();
    for round in 0..2 * INGEST_ROUNDS {
        let watched = round % 2 == 1;
        let subscribers = if watched { Some(SubscriberThread::start(&server)?) } else { None };
        let rate = closed_loop(&target, INGEST_CONNECTIONS, INGEST_ROUND)?.per_second;
        subscribers.map_or(Ok(()), SubscriberThread::stop)?;
        if watched { &mut with } else { &mut without }.push(rate);
        server.settle()?;
    }
    let what = format!(
        "`POST /liveEvent`, {INGEST_CONNECTIONS} connections, with {MANY} subscribers, compared with none"
    );
    table.ratio(&what, &with, &without, INGEST_SHARE);
    table.figure("`POST /liveEvent` with 1,000 subscribers", &with, "requests/s");
    table.figure("`POST /liveEvent` without subscribers", &without, "requests/s");
    table.note(
        "Senders beside subscribers: 1,000 of the 10,000 users whose balances change have a subscriber each. The \
         subscribers are a part of the load generator, and use the same cores.",
    );
    Ok(())
}

/// Subscribers that read in a thread of their own.
struct SubscriberThread {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<Outcome<()>>,
}

impl SubscriberThread {
    fn start(server: &Millrace) -> Outcome<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (address, key) = (server.address.clone(), server.key.clone());
        let thread = std::thread::spawn(move || {
            runtime()?.block_on(async {
                let opened = Subscribers::open_at(&address, &key, 0..MANY, OPENED_AT_ONCE).await;
                // Both ends wait for each other.
                let _ = ready.send(());
                let readers = opened?;
                let _ = stopped.await;
                drop(readers);
                Ok(())
            })
        });
        is_ready.recv()?;
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Outcome<()> {
        drop(self.stop);
        self.thread.join().map_err(|_| "the subscribers' thread panicked")?
    }
}
