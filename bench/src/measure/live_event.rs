//! One event per request, durable before the answer, with views running and keys checked. Compared with a bare axum
//! server and with Redis, which only appends.

use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::events::{USERS, sale};
use crate::load::{Protocol, Target, closed_loop};
use crate::servers::bare::Bare;
use crate::servers::millrace::Millrace;
use crate::servers::redis::{Redis, xadd};
use crate::setting::Setting;
use crate::table::{Rounds, Table};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1_500);
/// The minimum share of the bare server's rate, by number of connections.
const BARE_SHARES: [(usize, f64); 3] = [(64, 0.75), (16, 0.5), (256, 0.5)];
const REDIS_SHARE: f64 = 0.85;

struct Contestant<'a> {
    name: &'a str,
    target: Target,
    server: Option<&'a Millrace>,
}

pub fn measure(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let mut servers = Vec::new();
    for build in &setting.builds {
        servers.push((build.name, Millrace::start(&build.path, &setting.folder)?));
    }
    let (bare, redis) = (Bare::start()?, Redis::start(&setting.folder)?);
    let mut contestants: Vec<Contestant<'_>> = servers
        .iter()
        .map(|(name, server)| Contestant { name, target: live_events(server), server: Some(server) })
        .collect();
    let same_requests = Arc::clone(&contestants[0].target.requests);
    let target = Target {
        address: bare.address.clone(),
        protocol: Protocol::Http,
        requests: same_requests,
        opening: None,
    };
    contestants.push(Contestant { name: "bare axum", target, server: None });
    let entries = (0..USERS as u64).map(|number| xadd(&sale(number))).collect();
    let target = Target {
        address: redis.address.clone(),
        protocol: Protocol::Redis,
        requests: Arc::new(entries),
        opening: None,
    };
    contestants.push(Contestant { name: "Redis XADD", target, server: None });

    for (connections, share) in BARE_SHARES {
        let rates = rounds(&contestants, connections)?;
        let (bare, redis) = (&rates[rates.len() - 2], &rates[rates.len() - 1]);
        let what = format!("`POST /liveEvent`, {connections} connections, compared with a bare axum server");
        table.ratio(&what, &rates[0], bare, share);
        if connections == 64 {
            let against_redis =
                "`POST /liveEvent`, 64 connections, compared with Redis `XADD`, `appendfsync always`";
            table.ratio(against_redis, &rates[0], redis, REDIS_SHARE);
        }
        for (contestant, rates) in contestants.iter().zip(&rates) {
            let what = format!("{connections} connections, {}", contestant.name);
            table.figure(&what, rates, "requests/s");
        }
    }
    table.note(
        "`POST /liveEvent`: a request has about 220 bytes and carries one sale of one of 10,000 users, and \
         a key. Its answer follows the sync, while the ledger view and SQLite run. After every round the \
         log must hold exactly the answered events, and the view catches up before the next contestant \
         begins. The bare server is axum with the same tokio runtime and allocator. It takes the same \
         requests, reads the body, and answers a constant of the same length. Redis gets the same event as \
         the only field of an entry.",
    );
    Ok(())
}

pub fn live_events(server: &Millrace) -> Target {
    let requests = (0..USERS as u64).map(|number| server.post("/liveEvent", &sale(number))).collect();
    Target {
        address: server.address.clone(),
        protocol: Protocol::Http,
        requests: Arc::new(requests),
        opening: None,
    }
}

/// Returns the rates of each contestant. They take turns, and each round another one begins.
fn rounds(contestants: &[Contestant<'_>], connections: usize) -> Outcome<Vec<Rounds>> {
    let mut rates = vec![Rounds::default(); contestants.len()];
    for round in 0..ROUNDS {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            let Contestant { name, target, server } = &contestants[index];
            let before = server.map_or(Ok(0), Millrace::log_end)?;
            let answered =
                closed_loop(target, connections, ROUND).map_err(|error| format!("{name}: {error}"))?;
            if let Some(server) = server {
                let stored = server.log_end()? - before;
                if stored != answered.total {
                    return Err(format!(
                        "{} requests were answered, but {stored} events are stored",
                        answered.total
                    )
                    .into());
                }
                server.settle()?;
            }
            rates[index].push(answered.per_second);
        }
    }
    Ok(rates)
}
