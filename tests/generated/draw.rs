//! Generates requests for every route: valid, mutated, arbitrary and malformed ones. None of them changes a
//! sale that is checked.

use journal::simulation::Rng;

use crate::wire::Request;

/// Every route with a method that it accepts. `{}` stands for a name, an id or a key.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/liveEvent"),
    ("POST", "/event"),
    ("POST", "/events/ingest"),
    ("GET", "/userEvents/{}"),
    ("GET", "/stats"),
    ("POST", "/v1/streams/{}/events"),
    ("GET", "/v1/streams/{}/events"),
    ("GET", "/v1/streams/{}/uploads/{}"),
    ("POST", "/v1/streams/{}/erasures"),
    ("GET", "/v1/erasures"),
    ("GET", "/v1/erasures/{}"),
    ("GET", "/v1/events/{}"),
    ("GET", "/v1/status"),
    ("GET", "/v1/streams"),
    ("GET", "/v1/views"),
    ("GET", "/v1/views/{}"),
    ("GET", "/v1/views/{}/balances"),
    ("GET", "/v1/views/{}/balances/{}"),
    ("GET", "/v1/views/{}/rows"),
    ("GET", "/v1/views/{}/stats"),
    ("POST", "/v1/views/{}/reconcile"),
    ("POST", "/v1/views/{}/rebuild"),
    ("GET", "/v1/dead-letters"),
    ("GET", "/v1/dead-letters/{}"),
    ("POST", "/v1/dead-letters/{}/retry"),
    ("POST", "/v1/dead-letters/{}/drop"),
    ("GET", "/v1/notifications"),
    ("GET", "/v1/notifications/{}"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/{}"),
    ("GET", "/v1/backup"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
];
const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"];
const NAMES: &[&str] = &[
    "revenue",
    "site_events",
    "site_stats",
    "notifications",
    "inventory",
    "wild-1",
    "wild-2",
    "site-111",
    "nothing",
    "",
    "%00",
    "%2F",
    "..",
    "%F0%9F%98%80",
    "a%20",
    "-1",
    "0",
    "18446744073709551616",
    "%FF",
    "x%",
    "'%20OR%201=1%20--",
    "00000000-0000-5000-8000-000000000000",
    "00000000-0000-8000-8000-000000000001",
    "ffffffff-ffff-8fff-8000-ffffffffffff",
];
const PARAMETERS: &[&str] = &[
    "wait",
    "check",
    "partial",
    "from",
    "to",
    "limit",
    "after",
    "status",
    "from_line",
    "site_id",
    "date",
    "view",
    "group",
    "by",
    "top",
    "product_id",
    "price",
    "timestamp",
    "id",
    "key",
    "x",
    "%00",
    "",
];
const VALUES: &[&str] = &[
    "applied",
    "only",
    "true",
    "open",
    "0",
    "1",
    "2",
    "1000",
    "-1",
    "1.5",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999",
    "2025-11-01",
    "2025-13-41",
    "null",
    "site-111",
    "revenue",
    "path",
    "%F0%9F%98%80",
    "%00",
    "%FF",
    "",
    "%",
    "a&a=b",
    "1e400",
];
const HEADERS: &[(&str, &[&str])] = &[
    (
        "Content-Type",
        &[
            "application/json",
            "application/x-ndjson",
            "text/plain",
            "application/json; charset=utf-8",
            "",
            ";",
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "application/JSON",
        ],
    ),
    ("Content-Encoding", &["gzip", "zstd", "identity", "br", "gzip, gzip", ""]),
    ("Authorization", &["", "wrong", "Bearer", "Bearer wrong", "Basic dTpw", "\u{e9}"]),
    ("X-API-Key", &["", "wrong"]),
    ("Idempotency-Key", &["", "wild", "wild \u{e9}", "a\tb"]),
    ("Millrace-Upload", &["wild", "", "\u{e9}"]),
    ("Millrace-First-Line", &["1", "2", "0", "x", "1152921504606846975", "18446744073709551615"]),
    ("Host", &["localhost:1", "127.0.0.1", "[::1]", "evil.example", "", "[", ":"]),
    ("Origin", &["null", "https://shop.example", "http://localhost", "", "\u{e9}"]),
    ("Sec-Fetch-Site", &["cross-site", "same-origin", "none"]),
    ("Access-Control-Request-Method", &["POST"]),
    ("X-Forwarded-For", &["1.2.3.4", "x, y", ",,,"]),
    ("Expect", &["100-continue"]),
    ("Accept", &["text/html", "*/*"]),
    ("ce-specversion", &["1.0"]),
    ("traceparent", &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x"]),
];
/// Valid events: the stream, the path of its contract's source (empty without one), and the event.
const EVENTS: &[(&str, &str, &str)] = &[
    ("revenue", "/liveEvent", r#"{"userId":"wild-1","name":"add_revenue","value":0.25}"#),
    ("revenue", "/liveEvent", r#"{"userId":7,"name":"subtract_revenue","value":1e3,"x":{"y":[1e400]}}"#),
    (
        "site_events",
        "/event",
        r#"{"site_id":"site-111","event_type":"page_view","path":"/pricing","user_id":"u1"}"#,
    ),
    (
        "site_events",
        "/event",
        r#"{"site_id":1,"event_type":"e","path":null,"timestamp":"2025-11-01T10:00:00+02:00"}"#,
    ),
    (
        "notifications",
        "/events/ingest",
        r#"{"eventType":"user_signup","timestamp":"2023-10-27T10:00:00Z","payload":{"userId":"u","email":"user@example.com","username":"testuser"}}"#,
    ),
    (
        "inventory",
        "",
        r#"{"productId":23,"productName":"Product 1","quantity":50,"price":10.99,"timestamp":1}"#,
    ),
];
/// Bodies that are invalid for most routes.
const BODIES: &[&str] = &[
    "",
    " ",
    "{",
    "[]",
    "[1]",
    "null",
    "{}",
    "NaN",
    "[{},",
    "\u{0}",
    "\u{feff}{}",
    "{\"a\":1}x",
    "{\"takesBack\":\"x\"}",
    r#"{"takesBack":null,"takesBack":1}"#,
    r#"{"userId":"wild-1","name":"add_revenue","value":NaN}"#,
    r#"{"userId":"wild-1","name":"add_revenue","value":1e400}"#,
    r#"{"userId":"wild-1","userId":"wild-2","name":"add_revenue","value":1}"#,
    r#"{"userId":"\ud800","name":"add_revenue","value":1}"#,
    r#"{"userId":"a\u0000","name":"add_revenue","value":1}"#,
    r#"{"userId":"wild-1","name":"add_revenue","value":"1"}"#,
];
const KEYS: &[&str] = &[
    r#"{"name":"k","scopes":["send"]}"#,
    r#"{"name":"k","scopes":["read"],"viewKey":"wild-1"}"#,
    r#"{"name":"k","scopes":["send","read"],"streams":["revenue"]}"#,
    r#"{"name":"","scopes":["x"],"streams":["y"]}"#,
];
const PERSONS: &[&str] = &[
    r#"{"value":"nobody"}"#,
    r#"{"value":"wild-2"}"#,
    r#"{"value":"u1","field":"user_id"}"#,
    r#"{"value":1}"#,
];
const NO_EVENT: &str = "00000000-0000-8000-8000-000000000001";
/// Bytes that replace a byte of a valid body, or are inserted into it.
const BYTES: &[u8] = b"\0\n\"\\{}[],:0-.eE \xff\xc3x";

/// Returns bodies that are meant for a route.
fn bodies_for(route: &str) -> &'static [&'static str] {
    match route {
        "/v1/keys" => KEYS,
        "/v1/streams/{}/erasures" => PERSONS,
        _ => &[""],
    }
}

/// Returns true for requests that fold, search or copy the whole log, which takes long if it is long.
fn takes_long(path: &str) -> bool {
    ["/reconcile", "/rebuild", "/erasures", "/backup"].iter().any(|end| path.ends_with(end))
}

/// Generates the requests of one sender.
pub struct Generator {
    pub rng: Rng,
    /// Ids of existing events, dead letters, erasures and keys. No id belongs to a sale that is checked.
    pub ids: Vec<String>,
    /// Ids of dead letters. No id belongs to a sale that is checked.
    pub dead_letters: Vec<String>,
    /// Ids of sales that are checked. They are only read, never changed.
    pub reading_ids: Vec<String>,
}

impl Generator {
    fn pick<'a>(&mut self, list: &'a [&'a str]) -> &'a str {
        list[self.rng.below(list.len() as u64) as usize]
    }

    /// Returns a request that the server must accept.
    pub fn valid(&mut self) -> Request {
        if self.rng.times_in_100(50) {
            return self.valid_event();
        }
        let id = self.id_to_read();
        let paths = [
            "/userEvents/wild-1",
            "/v1/status",
            "/v1/streams",
            "/v1/views",
            "/v1/views/revenue",
            "/v1/views/revenue/balances?limit=3",
            "/v1/views/inventory/rows?limit=2",
            "/v1/views/revenue/balances?after=wild&limit=2",
            "/v1/dead-letters?limit=2",
            "/health",
            "/ready",
            "/v1/streams/revenue/events?limit=2",
            "/v1/streams/revenue/events?from=0&limit=1",
            "/v1/streams/revenue/uploads/wild",
            "/v1/events/{}",
        ];
        let path = self.pick(&paths).replace("{}", &id);
        Request::new("GET", &path, b"")
    }

    fn valid_event(&mut self) -> Request {
        let (stream, source_path, text) = EVENTS[self.rng.below(EVENTS.len() as u64) as usize];
        let native = format!("/v1/streams/{stream}/events");
        match self.rng.below(4) {
            0 if !source_path.is_empty() => Request::new("POST", source_path, text.as_bytes()),
            1 => Request::new("POST", &native, format!("[{text},{text}]").as_bytes()),
            2 => Request::new("POST", &native, format!("{text}\n{text}\n").as_bytes())
                .with("Content-Type", "application/x-ndjson"),
            _ => Request::new("POST", &native, text.as_bytes()),
        }
    }

    fn id_to_read(&mut self) -> String {
        // The ids of keys are shorter.
        let ids = || self.ids.iter().chain(&self.reading_ids).filter(|id| id.len() == NO_EVENT.len());
        let at = self.rng.below(ids().count().max(1) as u64) as usize;
        ids().nth(at).map_or_else(|| NO_EVENT.to_owned(), String::clone)
    }

    /// Returns a valid request with one or two changes.
    pub fn mutated(&mut self) -> Request {
        let mut request = self.valid();
        for _ in 0..=self.rng.below(2) {
            match self.rng.below(7) {
                // The key is used repeatedly, with different bodies.
                6 => request.set("Idempotency-Key", b"wild"),
                0 => request.method = self.pick(METHODS).to_owned(),
                1 => request.path = format!("{}?{}", request.route(), self.query()),
                2 => self.header(&mut request),
                3 => request.body = self.pick(BODIES).as_bytes().to_vec(),
                4 => request.path = request.path.replacen("revenue", self.pick(NAMES), 1),
                _ => self.mutate_body(&mut request.body),
            }
        }
        request
    }

    fn mutate_body(&mut self, body: &mut Vec<u8>) {
        if body.is_empty() {
            return;
        }
        let at = self.rng.below(body.len() as u64) as usize;
        let byte = BYTES[self.rng.below(BYTES.len() as u64) as usize];
        match self.rng.below(4) {
            0 => body[at] = byte,
            1 => body.insert(at, byte),
            2 => body.truncate(at),
            _ => {
                let nested = b"[".repeat(self.rng.below(3_000) as usize);
                body.splice(at..at, nested);
            }
        }
    }

    /// Returns a request for a route or for a similar path, with arbitrary parts.
    pub fn arbitrary(&mut self) -> Request {
        let (method, route) = ROUTES[self.rng.below(ROUTES.len() as u64) as usize];
        let method = if self.rng.times_in_100(70) { method } else { self.pick(METHODS) };
        let changes = method == "POST" || method == "DELETE";
        let mut path = String::new();
        for part in route.split_inclusive("{}") {
            let dead_letters =
                if part.starts_with("/v1/dead-letters") { self.dead_letters.len() as u64 } else { 0 };
            if dead_letters > 0 && self.rng.times_in_100(50) {
                path.push_str(&part.replace("{}", &self.dead_letters[self.rng.below(dead_letters) as usize]));
                continue;
            }
            let name = match (self.rng.below(3), changes, self.ids.is_empty()) {
                (0, true, false) => self.ids[self.rng.below(self.ids.len() as u64) as usize].clone(),
                (0, false, _) => self.id_to_read(),
                _ => self.pick(NAMES).to_owned(),
            };
            let notification = part.starts_with("/v1/notifications") && self.rng.times_in_100(50);
            let name = if notification { format!("notif-{name}") } else { name };
            path.push_str(&part.replace("{}", &name));
        }
        if takes_long(&path) && self.rng.below(100) > 0 {
            path = path.replace("revenue", "nothing").replace("site_", "no_").replace("inventory", "nothing");
            path = path.replace("backup", "balances");
        }
        if self.rng.times_in_100(40) {
            path = format!("{path}?{}", self.query());
        }
        let body = match self.rng.below(5) {
            0 if changes => EVENTS[self.rng.below(EVENTS.len() as u64) as usize].2,
            1 if changes => self.pick(BODIES),
            2..4 if changes => self.pick(bodies_for(route)),
            _ => "",
        };
        let mut request = Request::new(method, &path, body.as_bytes());
        if self.rng.times_in_100(10) && changes && !self.ids.is_empty() {
            let at = self.rng.below(self.ids.len() as u64) as usize;
            request.body = format!(r#"{{"takesBack":"{}"}}"#, self.ids[at]).into_bytes();
        }
        while self.rng.times_in_100(40) {
            self.header(&mut request);
        }
        request.chunked = self.rng.times_in_100(10);
        request
    }

    fn query(&mut self) -> String {
        let mut pairs = Vec::new();
        while pairs.is_empty() || self.rng.times_in_100(40) {
            let (name, value) = (self.pick(PARAMETERS), self.pick(VALUES));
            // Do not wait for events that may never come.
            let value =
                if name == "wait" && value.starts_with(|c: char| c.is_ascii_digit()) { "0" } else { value };
            pairs.push(format!("{name}={value}"));
        }
        pairs.join("&")
    }

    fn header(&mut self, request: &mut Request) {
        let (name, values) = HEADERS[self.rng.below(HEADERS.len() as u64) as usize];
        let value = self.pick(values);
        request.set(name, value.as_bytes());
    }

    /// Returns a request that the server refuses before or while it parses its head.
    pub fn malformed(&mut self) -> Request {
        let mut request = self.arbitrary();
        request.malformed = true;
        request.chunked = false;
        match self.rng.below(5) {
            0 => request.path = format!("/v1/events/{}", "x".repeat(70_000)),
            1 => request.path = " /x y\u{7f}".to_owned(),
            2 => request.set("Content-Length", b"x"),
            3 => request.set("X", &vec![b'x'; 40_000]),
            _ => request.method = "G\u{e9}T".to_owned(),
        }
        request
    }
}
