//! Notifications on their way to receivers of webhooks: how many a second, how soon, beside a receiver that hangs, and
//! with a million that wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::visible::quantile;
use crate::Outcome;
use crate::load::{Protocol, Target, exchange};
use crate::receiver::Receiver;
use crate::servers::databases::{Kind, Server};
use crate::servers::millrace::Millrace;
use crate::servers::{Folder, wait_for};
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table};

const ROUNDS: usize = 3;
const WEBHOOKS: u64 = 50_000;
const SQLITE_PER_SECOND_MIN: f64 = 5_000.0;
const POSTGRES_PER_SECOND_MIN: f64 = 3_000.0;
const EVENTS_PER_SECOND: u32 = 500;
const SENDERS: u32 = 20;
const TIME: Duration = Duration::from_secs(10);
const MILLISECONDS_MAX: f64 = 50.0;
const VIEWS: usize = 20;
const DESTINATIONS_OF_VIEW: usize = 5;
const DESTINATIONS: usize = VIEWS * DESTINATIONS_OF_VIEW;
/// Notifications for each of the destinations.
const FOR_EACH: u64 = 300;
const SHARE: f64 = 0.95;
const WAITING: u64 = 1_000_000;
const LINES: u64 = 50_000;
const WAITING_MEBIBYTES_MAX: f64 = 200.0;
const LEASE_MILLISECONDS_MAX: f64 = 5.0;
const LEASES: usize = 100;

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    rate(setting, table)?;
    latency(setting, table)?;
    hanging(setting, table)?;
    waiting(setting, table)
}

/// Starts millrace with the preset of notifications and these sections instead of its view.
fn start(setting: &Setting, store: Option<&str>, sections: &str) -> Outcome<Millrace> {
    let folder = Folder::new(&setting.folder, "millrace")?;
    let store = store.map_or(String::new(), |url| format!("[store]\nurl = \"{url}\"\n"));
    let config = format!("presets = [\"notifications\"]\n{store}{sections}");
    std::fs::write(folder.path().join("millrace.toml"), config)?;
    Millrace::start_in(&setting.build().path, folder, None)
}

fn view(name: &str, deliver: &[String], more: &str) -> String {
    let deliver: Vec<String> = deliver.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "[view.{name}]\nkind = \"notifications\"\nfrom = \"notifications\"\ntable = \"{name}\"\n\
         to = \"payload.email\"\ntype = \"eventType\"\npayload = \"payload\"\n\
         message = \"Hello {{payload.username}}\"\ndeliver = [{}]\n{more}\n",
        deliver.join(", ")
    )
}

fn destination(name: &str, url: &str) -> String {
    format!(
        "[destination.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\n\
         secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n"
    )
}

/// Returns a configuration with one view and one destination.
fn one_destination(receiver: &Receiver) -> String {
    view("notifications", &["hooks".to_owned()], "") + &destination("hooks", &receiver.url(0))
}

fn event(number: u64, kind: &str) -> String {
    format!(
        r#"{{"eventType":"{kind}","timestamp":"2025-11-20T10:00:00Z","payload":{{"userId":"user-{}","email":"user@shop.example","username":"ann","number":{number}}}}}"#,
        number % 10_000
    )
}

fn events(range: std::ops::Range<u64>, kind: &str) -> String {
    range.map(|number| event(number, kind) + "\n").collect()
}

/// Pauses or resumes destinations.
fn set_destination(server: &Millrace, name: &str, action: &str) -> Outcome<()> {
    server.command(&["destination", action, name])
}

/// Lets notifications queue while their destination is paused, and counts from its resumption.
fn rate(setting: &Setting, table: &mut Table) -> Outcome<()> {
    for (name, least) in [("SQLite", SQLITE_PER_SECOND_MIN), ("PostgreSQL", POSTGRES_PER_SECOND_MIN)] {
        let database = match name {
            "SQLite" => None,
            _ => Some(Server::start(Kind::Postgres, &setting.folder)?),
        };
        let mut rates = Rounds::default();
        for _ in 0..ROUNDS {
            let receiver = Receiver::start(1)?;
            let url = database.as_ref().map(Server::new_database).transpose()?;
            let server = start(setting, url.as_deref(), &one_destination(&receiver))?;
            set_destination(&server, "hooks", "pause")?;
            server.client()?.send_lines_to("notifications", &server.key, &events(0..WEBHOOKS, "a"), 1)?;
            server.settle()?;
            let begun = Instant::now();
            set_destination(&server, "hooks", "resume")?;
            wait_for("the webhooks", || Ok(receiver.count(0..1) >= WEBHOOKS))?;
            rates.push(WEBHOOKS as f64 / begun.elapsed().as_secs_f64());
            receiver.expect_signed()?;
            let arrived: HashSet<u64> =
                receiver.take_arrivals().into_iter().map(|(number, _)| number).collect();
            if arrived.len() as u64 != WEBHOOKS || receiver.count(0..1) != WEBHOOKS {
                return Err(format!("{} of {WEBHOOKS} events arrived", arrived.len()).into());
            }
            drop(server);
            if let (Some(database), Some(url)) = (&database, &url) {
                database.drop_database(url)?;
            }
        }
        table.row(Row {
            what: format!("signed webhooks to one local receiver, {name}"),
            measured: format!("{:.0}/s", rates.median()),
            target: format!("at least {least:.0}/s"),
            met: rates.median() >= least,
        });
        table.figure(&format!("signed webhooks, {name}"), &rates, "webhooks/s");
    }
    table.note(
        "Webhooks: 50,000 notifications are queued while their destination is paused. The time runs from the command \
         that resumes it to the last webhook. Each is a signed `POST`, of which the store has the attempt, its answer, \
         and the new status of the notification. The receiver is a part of the benchmark, on the same cores.",
    );
    Ok(())
}

/// The time from an event to the first byte of its webhook.
fn latency(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let [mut high, mut middle] = <[Rounds; 2]>::default();
    for _ in 0..ROUNDS {
        let receiver = Receiver::start(1)?;
        let server = start(setting, None, &one_destination(&receiver))?;
        let count = TIME.as_secs() * u64::from(EVENTS_PER_SECOND);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let begin = runtime.block_on(send_evenly(&server, count))?;
        wait_for("the webhooks", || Ok(receiver.count(0..1) >= count))?;
        let due = |number: u64| begin + period() * number as u32;
        let arrivals = receiver.take_arrivals();
        let mut times: Vec<Duration> =
            arrivals.iter().map(|(number, at)| at.saturating_duration_since(due(*number))).collect();
        high.push(quantile(&mut times, 0.99));
        middle.push(quantile(&mut times, 0.5));
    }
    table.row(Row {
        what: format!("event to the first byte of its webhook at {EVENTS_PER_SECOND}/s, p99"),
        measured: format!("{:.1} ms", high.median()),
        target: format!("below {MILLISECONDS_MAX:.0} ms"),
        met: high.median() < MILLISECONDS_MAX,
    });
    table.figure("event to webhook, p50", &middle, "ms");
    table.figure("event to webhook, p99", &high, "ms");
    table.note(
        "Event to webhook: an open loop over 20 connections sends 500 events to `POST /v1/streams/notifications/events` a second. The \
         time runs from the moment at which an event was due to the first byte at the receiver, so it includes \
         acceptance and is an upper bound. SQLite.",
    );
    Ok(())
}

/// Returns the time between two events.
fn period() -> Duration {
    Duration::from_secs(1) / EVENTS_PER_SECOND
}

/// Sends events in even intervals. Returns when the first one was due.
async fn send_evenly(server: &Millrace, count: u64) -> Outcome<Instant> {
    let target = Target {
        address: server.address.clone(),
        protocol: Protocol::Http,
        requests: std::sync::Arc::default(),
        opening: None,
    };
    let begin = Instant::now() + Duration::from_millis(500);
    let mut senders = JoinSet::new();
    for sender in 0..u64::from(SENDERS) {
        let mut stream = target.connect().await?;
        let of_sender = (sender..count).step_by(SENDERS as usize);
        let requests: Vec<(u64, Vec<u8>)> = of_sender
            .map(|number| (number, server.post("/v1/streams/notifications/events", &event(number, "a"))))
            .collect();
        senders.spawn(async move {
            let mut buffer = vec![0; 8 * 1024];
            for (number, request) in requests {
                tokio::time::sleep_until((begin + period() * number as u32).into()).await;
                exchange(&mut stream, &request, Protocol::Http, &mut buffer).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(begin)
}

/// The rate to 99 destinations with and without a hundredth one that hangs, in turn.
fn hanging(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let [mut alone, mut beside] = <[Rounds; 2]>::default();
    for round in 0..2 * ROUNDS {
        let hangs = round % 2 == 1;
        let receiver = Receiver::start(DESTINATIONS)?;
        receiver.hang(0, hangs);
        let name = |number: usize| format!("d{number}");
        let mut sections = String::new();
        for number in 0..VIEWS {
            let first = number * DESTINATIONS_OF_VIEW;
            let deliver: Vec<String> = (first..first + DESTINATIONS_OF_VIEW).map(name).collect();
            let condition = format!("where = {{ eventType = \"k{number}\" }}");
            let of_preset = if number == 0 { "notifications".to_owned() } else { format!("n{number}") };
            sections += &view(&of_preset, &deliver, &condition);
        }
        for number in 0..DESTINATIONS {
            sections += &destination(&name(number), &receiver.url(number));
        }
        let server = start(setting, None, &sections)?;
        let mut lines = String::new();
        for number in 0..FOR_EACH {
            (0..VIEWS).for_each(|view| lines += &events(number..number + 1, &format!("k{view}")));
        }
        let begun = Instant::now();
        server.client()?.send_lines_to("notifications", &server.key, &lines, 1)?;
        let total = FOR_EACH * (DESTINATIONS as u64 - 1);
        wait_for("the webhooks", || Ok(receiver.count(1..DESTINATIONS) >= total))?;
        let rate = total as f64 / begun.elapsed().as_secs_f64();
        if hangs { &mut beside } else { &mut alone }.push(rate);
    }
    table.ratio(
        "webhooks to 99 destinations beside one that hangs, compared with one that answers",
        &beside,
        &alone,
        SHARE,
    );
    table.figure("webhooks to 99 destinations, all answer", &alone, "webhooks/s");
    table.figure("webhooks to 99 destinations, one more hangs", &beside, "webhooks/s");
    table.note(
        "One of 100 destinations hangs: 20 views select events by their type and send each to 5 destinations. The time \
         runs from the request with all events to the last webhook of 99 destinations.",
    );
    Ok(())
}

/// Memory and the query for a lease with a million notifications that wait for a receiver that hangs.
fn waiting(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let receiver = Receiver::start(1)?;
    receiver.hang(0, true);
    let server = start(setting, None, &one_destination(&receiver))?;
    for first in (0..WAITING).step_by(LINES as usize) {
        let lines = events(first..first + LINES, "a");
        server.client()?.send_lines_to("notifications", &server.key, &lines, 1)?;
    }
    server.settle()?;
    let (peak, now) = (server.memory_peak()?, server.memory_now()?);
    table.row(Row {
        what: "memory with 1,000,000 notifications that wait".to_owned(),
        measured: format!("{now:.0} MiB, at most {peak:.0} MiB"),
        target: format!("below {WAITING_MEBIBYTES_MAX:.0} MiB"),
        met: peak < WAITING_MEBIBYTES_MAX,
    });
    let database = server.database()?;
    let mut query = database.prepare(
        "SELECT view, notification, destination, failed, begun, attempts, created, lease, updated \
         FROM millrace_deliveries WHERE lane = 'hooks' AND state = 0 AND due <= ? \
         AND (owner IS NULL OR owner <> x'00' OR due = 0) ORDER BY due LIMIT 256",
    )?;
    let mut times = Vec::new();
    for _ in 0..LEASES {
        let begun = Instant::now();
        let count = query.query_map([i64::MAX], |row| row.get::<_, String>(1))?.count();
        if count != 256 {
            return Err(format!("the query for a lease found {count} rows").into());
        }
        times.push(begun.elapsed());
    }
    let high = quantile(&mut times, 0.99);
    table.row(Row {
        what: "the query for a lease among them, p99".to_owned(),
        measured: format!("{high:.2} ms"),
        target: format!("below {LEASE_MILLISECONDS_MAX:.0} ms"),
        met: high < LEASE_MILLISECONDS_MAX,
    });
    table.note(
        "Notifications that wait: their receiver takes requests and never answers. The query reads the next 256 that \
         are due, from another process. SQLite.",
    );
    Ok(())
}
