//! The checker. It runs outside the server's process and trusts only its own history. It demands that every
//! acknowledged event is applied once, that every balance is right to the last digit, and that the order is kept.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::harness::{Answer, Client, TestApp, wait_for};
use crate::history::{History, KnownRequest, Outcome, Request, Sale, Source, Transport};
use crate::load::{amount_text, event_texts, sums};
use crate::sockets::Sockets;

const EVENTS: &str = "/v1/streams/revenue/events";
const PAGE: usize = 1_000;

pub struct Checker {
    pub history: History,
}

/// The counts of a run, so that a test can require a minimum: an idle run proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    pub acknowledged: usize,
    /// The acknowledged requests over Socket.IO and over WebSockets.
    pub socketio: usize,
    pub websocket: usize,
    pub unknown: usize,
    pub resent: usize,
    pub events: usize,
    pub repeats_in_log: usize,
}

impl Proof {
    fn add_acknowledged(&mut self, known: &KnownRequest) {
        let count = usize::from(known.acknowledged.is_some());
        self.acknowledged += count;
        match known.request.source.transport() {
            Transport::Http => {}
            Transport::SocketIo => self.socketio += count,
            Transport::WebSocket => self.websocket += count,
        }
    }
}

impl std::ops::AddAssign for Proof {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.socketio += other.socketio;
        self.websocket += other.websocket;
        self.unknown += other.unknown;
        self.resent += other.resent;
        self.events += other.events;
        self.repeats_in_log += other.repeats_in_log;
    }
}

impl Checker {
    pub fn open(history: &Path) -> Self {
        Self { history: History::open(history) }
    }

    /// Sends a request over HTTP and records it in the history. Returns the status, or `None` if the connection broke and
    /// the outcome is unknown.
    pub fn send(&self, client: &Client, request: &Request) -> Option<u16> {
        self.history.sending(std::slice::from_ref(request));
        let answer = post(client, request).ok()?;
        match answer.status {
            200 => {
                let ids = ids(&request.source, &answer)?;
                self.history.ended(request.number, Outcome::Acknowledged { ids });
            }
            // If lines are refused, the chunks before the refused one may be stored.
            507 if !matches!(request.source, Source::Lines { .. }) => {
                self.history.ended(request.number, Outcome::Refused);
            }
            503 | 507 => {}
            status => panic!("answer {status} to {request:?}: {}", answer.text()),
        }
        Some(answer.status)
    }

    /// Sends each request of unknown outcome again, under the same identity, until it is acknowledged. A request
    /// without an identity cannot be sent again; the log shows later if it was stored.
    pub fn resend(&self, client: &Client) -> usize {
        let open = |known: &KnownRequest| known.acknowledged.is_none() && known.request.source.has_identity();
        let requests: Vec<Request> =
            self.history.requests().into_iter().filter(open).map(|known| known.request).collect();
        let over = |transport| requests.iter().filter(move |request| request.source.transport() == transport);
        for request in over(Transport::Http) {
            let what = format!("request {} to be acknowledged", request.number);
            wait_for(&what, || self.send(client, request) == Some(200));
        }
        let mut sockets = Sockets::new(&self.history, client.clone());
        for transport in [Transport::SocketIo, Transport::WebSocket] {
            sockets.send_until_acknowledged(over(transport).cloned().collect());
        }
        requests.len()
    }

    /// Resends, waits until everything is applied, and compares the server's state with the history.
    pub fn demand_equality(&self, app: &TestApp) -> Result<Proof, String> {
        let resent = self.resend(&app.client());
        app.settle();
        let log = read_log(&app.client());
        let known = self.history.requests();
        let mut proof = Proof { resent, events: log.len(), ..Proof::default() };
        let positions = self.positions(&known, &log, &mut proof)?;
        in_order(&known, &positions)?;
        sockets_in_order(&known, &positions)?;
        let counted = known
            .iter()
            .flat_map(|known| &known.request.sales)
            .filter(|sale| positions.contains_key(&sale.number));
        same_balances(&app.client(), &sums(counted))?;
        no_problems_reported(&app.client())?;
        Ok(proof)
    }

    /// Returns the first position of each event in the log. Fails if an acknowledged event is missing, or if the log
    /// contains an event that was refused or never sent.
    fn positions(
        &self,
        known: &[KnownRequest],
        log: &[LoggedEvent],
        proof: &mut Proof,
    ) -> Result<HashMap<u64, u64>, String> {
        let mut first: HashMap<u64, &LoggedEvent> = HashMap::new();
        for logged in log {
            match first.get(&logged.number) {
                None => drop(first.insert(logged.number, logged)),
                Some(_) => proof.repeats_in_log += 1,
            }
        }
        let mut positions = HashMap::new();
        for known in known {
            proof.add_acknowledged(known);
            proof.unknown += usize::from(known.is_unknown());
            let texts = event_texts(&known.request);
            for (index, sale) in known.request.sales.iter().enumerate() {
                match (first.remove(&sale.number), &known.acknowledged) {
                    (None, Some(_)) => {
                        return Err(format!("event {} was acknowledged but is not in the log", sale.number));
                    }
                    (None, None) => {}
                    (Some(_), None) if known.refused => {
                        return Err(format!("event {} was refused but is in the log", sale.number));
                    }
                    (Some(logged), acknowledged) => {
                        same_event(&texts[index], logged)?;
                        let id = acknowledged.as_ref().and_then(|(_, ids)| ids.get(index));
                        if id.is_some_and(|id| *id != logged.id) {
                            let number = sale.number;
                            return Err(format!("event {number} is {} in the log, not {id:?}", logged.id));
                        }
                        positions.insert(sale.number, logged.position);
                    }
                }
            }
        }
        match first.values().next() {
            Some(unsent) => Err(format!("event {} is in the log, but was never sent", unsent.number)),
            None => self.once(known, log).map(|()| positions),
        }
    }

    /// Fails if an event without an identity is in the log twice: such an event is sent only once.
    fn once(&self, known: &[KnownRequest], log: &[LoggedEvent]) -> Result<(), String> {
        let mut times: HashMap<u64, usize> = HashMap::new();
        log.iter().for_each(|logged| *times.entry(logged.number).or_default() += 1);
        let bare = known.iter().filter(|known| !known.request.source.has_identity());
        for sale in bare.flat_map(|known| &known.request.sales) {
            if times.get(&sale.number).is_some_and(|times| *times > 1) {
                return Err(format!("event {} was sent once but is in the log twice", sale.number));
            }
        }
        Ok(())
    }
}

fn post(client: &Client, request: &Request) -> std::io::Result<Answer> {
    let texts = event_texts(request);
    let json = |client: &Client, path: &str, body: &str| {
        client.try_request("POST", path, Some(("application/json", body.as_bytes())))
    };
    match &request.source {
        Source::LiveEvent => json(client, "/liveEvent", &texts[0]),
        Source::Object { .. } => json(client, EVENTS, &texts[0]),
        Source::Array { key } => {
            let client = client.clone().with_header("Idempotency-Key", key);
            json(&client, EVENTS, &format!("[{}]", texts.join(",")))
        }
        Source::Lines { upload, first_line } => {
            let client = client
                .clone()
                .with_header("Millrace-Upload", upload)
                .with_header("Millrace-First-Line", &first_line.to_string());
            let body = texts.join("\n");
            client.try_request("POST", EVENTS, Some(("application/x-ndjson", body.as_bytes())))
        }
        Source::SocketIo { .. } | Source::Frame { .. } => unreachable!("sent over a socket"),
    }
}

/// Returns the event ids of an acknowledgement, or `None` if the answer is incomplete.
fn ids(source: &Source, answer: &Answer) -> Option<Vec<String>> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    match source {
        Source::LiveEvent | Source::Object { .. } => Some(vec![text(&body["eventId"])?]),
        Source::Array { .. } => body["eventIds"].as_array()?.iter().map(text).collect(),
        Source::Lines { .. } => Some(Vec::new()),
        Source::SocketIo { .. } | Source::Frame { .. } => unreachable!("sent over a socket"),
    }
}

/// An event of the log.
pub struct LoggedEvent {
    pub position: u64,
    pub id: String,
    pub number: u64,
    pub text: String,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<PageEvent>,
    next: u64,
}

#[derive(Deserialize)]
struct PageEvent {
    position: u64,
    id: String,
    event: Box<RawValue>,
}

#[derive(Deserialize)]
struct Numbered {
    number: u64,
}

/// Reads all events of the stream through the API.
pub fn read_log(client: &Client) -> Vec<LoggedEvent> {
    let (mut log, mut from) = (Vec::new(), 0);
    loop {
        let answer = client.get(&format!("{EVENTS}?from={from}&limit={PAGE}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page: Page = serde_json::from_slice(&answer.body).unwrap();
        if page.events.is_empty() {
            return log;
        }
        from = page.next;
        log.extend(page.events.into_iter().map(|shown| {
            let text = shown.event.get().to_owned();
            let Numbered { number } = serde_json::from_str(&text).unwrap();
            LoggedEvent { position: shown.position, id: shown.id, number, text }
        }));
    }
}

fn same_event(sent: &str, logged: &LoggedEvent) -> Result<(), String> {
    if logged.text == sent { Ok(()) } else { Err(format!("the log shows `{}` for `{sent}`", logged.text)) }
}

/// Fails if an event was sent after an acknowledgement but has a lower position than the acknowledged events.
fn in_order(known: &[KnownRequest], by_number: &HashMap<u64, u64>) -> Result<(), String> {
    // Each moment is (line of the history, is an acknowledgement, lowest or highest position).
    let mut moments: Vec<(usize, bool, u64)> = Vec::new();
    for known in known {
        let positions = known.request.sales.iter().filter_map(|sale| by_number.get(&sale.number));
        let Some(lowest) = positions.clone().min() else { continue };
        moments.push((known.sent, false, *lowest));
        if let Some((when, _)) = known.acknowledged {
            moments.extend(positions.max().map(|highest| (when, true, *highest)));
        }
        let positions: Vec<u64> =
            known.request.sales.iter().filter_map(|sale| by_number.get(&sale.number).copied()).collect();
        if !positions.is_sorted() {
            return Err(format!("the events of request {} are not in order", known.request.number));
        }
    }
    moments.sort_unstable();
    let mut acknowledged = None;
    for (_, is_acknowledgement, position) in moments {
        if is_acknowledgement {
            acknowledged = acknowledged.max(Some(position));
        } else if acknowledged.is_some_and(|before| position < before) {
            return Err(format!("position {position} was sent after {acknowledged:?} was acknowledged"));
        }
    }
    Ok(())
}

/// Fails if the events of a socket are in the log in another order than they were sent. Requests that were sent again
/// are left out, because the first attempt may not have been stored.
fn sockets_in_order(known: &[KnownRequest], by_number: &HashMap<u64, u64>) -> Result<(), String> {
    let mut sent_once: Vec<&KnownRequest> = known.iter().filter(|known| known.sends == 1).collect();
    sent_once.sort_unstable_by_key(|known| known.sent);
    let mut ends: HashMap<u64, u64> = HashMap::new();
    for Request { number, connection, sales, .. } in sent_once.iter().map(|known| &known.request) {
        let Some(connection) = connection else { continue };
        let positions = sales.iter().filter_map(|sale| by_number.get(&sale.number));
        let Some((first, last)) = positions.clone().min().zip(positions.max()) else { continue };
        if ends.insert(*connection, *last).is_some_and(|before| *first < before) {
            return Err(format!("request {number} is in the log before an earlier one of its socket"));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Balances {
    balances: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    balance: Box<RawValue>,
}

/// Reads every balance of the view, as text, so that no digit is lost in a float.
pub fn balances(client: &Client) -> BTreeMap<String, String> {
    let (mut all, mut after) = (BTreeMap::new(), String::new());
    loop {
        let answer = client.get(&format!("/v1/views/revenue/balances?limit={PAGE}{after}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let read: Balances = serde_json::from_slice(&answer.body).unwrap();
        let Some(last) = read.balances.last() else { return all };
        after = format!("&after={}", last.key);
        all.extend(read.balances.into_iter().map(|row| (row.key, row.balance.get().to_owned())));
    }
}

fn same_balances(client: &Client, expected: &BTreeMap<String, i128>) -> Result<(), String> {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(user, units)| (user.clone(), amount_text(*units))).collect();
    let found = balances(client);
    if found == expected {
        Ok(())
    } else {
        Err(format!("balances differ\n   in the store {found:?}\n   expected {expected:?}"))
    }
}

/// Fails if there are dead letters, or if the server's own `reconcile` finds differences.
fn no_problems_reported(client: &Client) -> Result<(), String> {
    let dead_letters = client.get("/v1/dead-letters").json();
    if dead_letters["deadLetters"].as_array().is_none_or(|dead_letters| !dead_letters.is_empty()) {
        return Err(format!("dead letters: {dead_letters}"));
    }
    let report = client.post("/v1/views/revenue/reconcile", "").json();
    if report["differenceCount"] == 0 { Ok(()) } else { Err(format!("reconcile says {report}")) }
}

#[test]
fn the_order_of_a_socket_is_checked_for_requests_that_were_sent_once() {
    let sale = |number| Sale { number, user: "u".to_owned(), units: 1, pad: 0 };
    let known = |number: u64, connection, sends| KnownRequest {
        request: Request {
            number,
            source: Source::SocketIo { id: None },
            sales: vec![sale(number)],
            connection: Some(connection),
        },
        sent: number as usize,
        sends,
        acknowledged: None,
        refused: false,
    };
    let positions: HashMap<u64, u64> = [(1, 5), (2, 6), (3, 4), (4, 7)].into();
    for (third, is_in_order) in [(known(3, 1, 1), false), (known(3, 1, 2), true), (known(3, 2, 1), true)] {
        let all = [known(1, 1, 1), known(2, 1, 1), third, known(4, 1, 1)];
        assert_eq!(sockets_in_order(&all, &positions).is_ok(), is_in_order);
    }
}
