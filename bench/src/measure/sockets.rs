//! One event per message over Socket.IO and WebSocket, durable before the answer. Compared with servers that only
//! answer.

use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::events::{USERS, sale};
use crate::load::{Opening, Protocol, Target, closed_loop};
use crate::servers::bare::Bare;
use crate::servers::millrace::Millrace;
use crate::servers::node::Node;
use crate::setting::Setting;
use crate::table::{Rounds, Row, Table};
use crate::websocket::{text_frame, upgrade_request};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1_500);
const CONNECTIONS: usize = 64;
/// The rate as a multiple of Node's, or else the processor time per event as a share of Node's.
const NODE_RATE: f64 = 1.5;
const NODE_PROCESSOR_SHARE: f64 = 0.5;
const ECHO_SHARE: f64 = 0.5;

enum Server<'a> {
    Millrace(&'a Millrace),
    Node(&'a Node),
    Bare,
}

struct Contestant<'a> {
    name: &'a str,
    target: Target,
    server: Server<'a>,
}

/// The rates of a contestant, and the processor time of its server per event, in microseconds.
#[derive(Default)]
struct Measured {
    rates: Rounds,
    processor: Rounds,
}

pub fn socketio(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (server, node) =
        (Millrace::start(&setting.build().path, &setting.folder)?, Node::start(&setting.folder)?);
    let contestants = [
        Contestant {
            name: "millrace",
            target: client_data(&server.address, &format!(r#"40{{"token":"{}"}}"#, server.key)),
            server: Server::Millrace(&server),
        },
        Contestant {
            name: "Node's socket.io server, which only answers",
            target: client_data(&node.address, "40"),
            server: Server::Node(&node),
        },
    ];
    let measured = rounds(&contestants)?;
    let [ours, theirs] = &measured[..] else { return Err("two contestants".into()) };
    let rate = ours.rates.median() / theirs.rates.median();
    let processor = ours.processor.median() / theirs.processor.median();
    table.row(Row {
        what: "Socket.IO with callbacks, 64 connections, durable, compared with Node's socket.io server, which only answers".to_owned(),
        measured: format!("{rate:.2} times the rate, {processor:.2} of the processor time per event"),
        target: format!("at least {NODE_RATE} times the rate, or at most {NODE_PROCESSOR_SHARE} of the time"),
        met: rate >= NODE_RATE || processor <= NODE_PROCESSOR_SHARE,
    });
    figures(table, "Socket.IO", &contestants, &measured);
    table.note(
        "Socket.IO: each of 64 connections over WebSocket sends an event of about 80 bytes with a callback, and the \
         next one once it has the event `messageReceived` and the callback's answer. One generator, written in Rust, \
         drives both servers. Millrace checks a key, syncs before it answers, and runs its views on SQLite; Node's \
         server answers the same and stores nothing. After every round the log must hold exactly the answered events.",
    );
    Ok(())
}

pub fn websocket(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (server, bare) = (Millrace::start(&setting.build().path, &setting.folder)?, Bare::start()?);
    let key = format!("Authorization: {}\r\n", server.key);
    let contestants = [
        Contestant {
            name: "millrace",
            target: sales(&server.address, upgrade_request("/v1/streams/revenue/socket", &key)),
            server: Server::Millrace(&server),
        },
        Contestant {
            name: "bare axum echo",
            target: sales(&bare.address, upgrade_request("/echo", "")),
            server: Server::Bare,
        },
    ];
    let measured = rounds(&contestants)?;
    let what = "WebSocket, one event a frame, 64 connections, durable, compared with a bare axum echo";
    table.ratio(what, &measured[0].rates, &measured[1].rates, ECHO_SHARE);
    figures(table, "WebSocket", &contestants, &measured);
    table.note(
        "WebSocket: each of 64 connections sends a frame with one sale, and the next one once it is answered. Millrace \
         answers after the sync, while the ledger view and SQLite run. The bare server is axum's WebSocket with the \
         same tokio runtime and allocator, and sends the frame back.",
    );
    Ok(())
}

fn client_data(address: &str, sign_in: &str) -> Target {
    let event = |number: usize| {
        format!(
            r#"421["clientData",{{"productId":{number},"productName":"Product {number}","quantity":{},"price":{}.99}}]"#,
            number % 100,
            number % 50
        )
    };
    Target {
        address: address.to_owned(),
        protocol: Protocol::SocketIo,
        requests: Arc::new((0..USERS).map(|number| text_frame(&event(number))).collect()),
        opening: Some(Opening {
            request: upgrade_request("/socket.io/?EIO=4&transport=websocket", ""),
            sign_in: Some(text_frame(sign_in)),
        }),
    }
}

fn sales(address: &str, request: Vec<u8>) -> Target {
    Target {
        address: address.to_owned(),
        protocol: Protocol::WebSocket,
        requests: Arc::new((0..USERS as u64).map(|number| text_frame(&sale(number))).collect()),
        opening: Some(Opening { request, sign_in: None }),
    }
}

fn rounds(contestants: &[Contestant<'_>; 2]) -> Outcome<Vec<Measured>> {
    let mut measured = vec![Measured::default(), Measured::default()];
    for round in 0..ROUNDS {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            let Contestant { name, target, server } = &contestants[index];
            let (stored, used) = (server.log_end()?, server.processor_seconds()?);
            let answered =
                closed_loop(target, CONNECTIONS, ROUND).map_err(|error| format!("{name}: {error}"))?;
            let used = server.processor_seconds()? - used;
            if let Server::Millrace(server) = server {
                let stored = server.log_end()? - stored;
                if stored != answered.total {
                    return Err(format!("{} answers, but {stored} events are stored", answered.total).into());
                }
                server.settle()?;
            }
            measured[index].rates.push(answered.per_second);
            measured[index].processor.push(used / answered.total as f64 * 1e6);
        }
    }
    Ok(measured)
}

impl Server<'_> {
    fn log_end(&self) -> Outcome<u64> {
        match self {
            Self::Millrace(server) => server.log_end(),
            Self::Node(_) | Self::Bare => Ok(0),
        }
    }

    fn processor_seconds(&self) -> Outcome<f64> {
        match self {
            Self::Millrace(server) => server.processor_seconds(),
            Self::Node(server) => server.processor_seconds(),
            Self::Bare => Ok(0.0),
        }
    }
}

fn figures(table: &mut Table, what: &str, contestants: &[Contestant<'_>; 2], measured: &[Measured]) {
    for (contestant, measured) in contestants.iter().zip(measured) {
        table.figure(&format!("{what}, {}", contestant.name), &measured.rates, "events/s");
        if !matches!(contestant.server, Server::Bare) {
            let what = format!("{what}, {}, processor time per event", contestant.name);
            table.figure(&what, &measured.processor, "µs");
        }
    }
}
