//! Sends webhooks: one HTTP request for each attempt.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use event::limits::{ANSWER_BYTES_MAX, ATTEMPTS_AT_ONCE_DEFAULT, RETRY_AFTER_DURATION_MAX};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;
use tower_service::Service;

use super::address_policy::{AddressPolicy, CheckedResolver};
use super::outcome::{Outcome, Verdict};
use super::signature::{Secret, sign};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const USER_AGENT: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));
/// How long an unused connection stays open. Most servers close theirs after 60 seconds or more.
const IDLE_DURATION_MAX: Duration = Duration::from_secs(30);

/// A request as it is stored until it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRequest {
    pub url: String,
    pub body: String,
}

/// The settings of all requests of a destination.
pub struct RequestSettings {
    pub method: Method,
    pub headers: HeaderMap,
    /// The secrets that sign each request. Without any, requests are not signed.
    pub secrets: Vec<Secret>,
    pub policy: AddressPolicy,
    /// Time to look up the host and to connect.
    pub connect_within: Duration,
    /// Time for a whole attempt, from the look-up to the end of the answer.
    pub send_within: Duration,
}

pub struct WebhookSender {
    settings: RequestSettings,
    /// Keeps connections open for later attempts.
    pooled: Client,
    /// Opens a new connection for each request.
    unpooled: Client,
}

impl WebhookSender {
    /// Fails if the system's certificates cannot be loaded.
    pub fn new(settings: RequestSettings) -> Result<Self, String> {
        let resolver = CheckedResolver::new(settings.policy);
        Self::with_resolver(settings, resolver)
    }

    fn with_resolver(settings: RequestSettings, resolver: CheckedResolver) -> Result<Self, String> {
        let resolver = Arc::new(resolver);
        let client = |idle_connections| {
            Client::builder()
                .user_agent(USER_AGENT)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(Arc::clone(&resolver))
                .connector_layer(NoteConnections)
                .connect_timeout(settings.connect_within)
                .http1_only()
                .tcp_nodelay(true)
                .pool_idle_timeout(IDLE_DURATION_MAX)
                .pool_max_idle_per_host(idle_connections)
                .build()
                .map_err(|error| format!("cannot create an HTTP client: {}", root_cause(&error)))
        };
        let (pooled, unpooled) = (client(ATTEMPTS_AT_ONCE_DEFAULT)?, client(0)?);
        Ok(Self { settings, pooled, unpooled })
    }

    /// Makes one attempt. The status alone decides about its success, even if the rest of the answer does not arrive.
    pub async fn send(&self, id: &str, request: &WebhookRequest) -> Outcome {
        let deadline = Instant::now() + self.settings.send_within;
        let checked = Url::parse(&request.url).map_err(|error| format!("the URL is invalid: {error}"));
        let checked = checked.and_then(|url| self.settings.policy.check_url(&url).map(|()| url));
        let url = match checked {
            Ok(url) => url,
            Err(reason) => return Outcome::failed(reason),
        };
        let place = place(&url);
        let answered = timeout_at(deadline, self.exchange(id, url, &request.body)).await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Outcome::failed(describe(&error, &place)),
            Err(_) => {
                return Outcome::failed(format!(
                    "{place} did not answer within {:?}",
                    self.settings.send_within
                ));
            }
        };
        let mut answer = Vec::new();
        // Whatever arrives in time is kept.
        drop(timeout_at(deadline, read_beginning(&mut response, &mut answer)).await);
        judge(response.status(), response.headers(), &String::from_utf8_lossy(&answer), Timestamp::now())
    }

    /// Sends the request and returns the response without its body. A receiver may close an idle connection just when a
    /// request is sent on it. Such a request is sent once more on a new connection. It has the same id, so a receiver
    /// that has taken it can ignore the second one.
    async fn exchange(&self, id: &str, url: Url, body: &str) -> Result<Response, reqwest::Error> {
        let first = CONNECTS.scope(Cell::new(false), async {
            let outcome = self.request(&self.pooled, id, url.clone(), body).send().await;
            (outcome, CONNECTS.with(Cell::get))
        });
        match first.await {
            (Err(error), false) if is_closed(&error) => {
                self.request(&self.unpooled, id, url, body).send().await
            }
            (outcome, _) => outcome,
        }
    }

    fn request(&self, client: &Client, id: &str, url: Url, body: &str) -> reqwest::RequestBuilder {
        let timestamp = Timestamp::now().as_second();
        let mut headers = self.settings.headers.clone();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let request = client.request(self.settings.method.clone(), url).headers(headers);
        let request =
            request.header(WEBHOOK_ID, id).header(WEBHOOK_TIMESTAMP, timestamp).body(body.to_owned());
        if self.settings.secrets.is_empty() {
            return request;
        }
        request.header(WEBHOOK_SIGNATURE, sign(&self.settings.secrets, id, timestamp, body.as_bytes()))
    }
}

tokio::task_local! {
    /// Whether the request of this task opened a connection.
    static CONNECTS: Cell<bool>;
}

/// Notes in `CONNECTS` that a connection is opened.
#[derive(Clone)]
struct NoteConnections;

#[derive(Clone)]
struct NotingConnector<C>(C);

impl<C> Layer<C> for NoteConnections {
    type Service = NotingConnector<C>;

    fn layer(&self, connector: C) -> Self::Service {
        NotingConnector(connector)
    }
}

impl<C: Service<R>, R> Service<R> for NotingConnector<C> {
    type Response = C::Response;
    type Error = C::Error;
    type Future = C::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> C::Future {
        // A connection that is opened ahead for another request has no task to note it for.
        CONNECTS.try_with(|connects| connects.set(true)).ok();
        self.0.call(request)
    }
}

/// Reads until the end of the body or the limit. The connection is closed if a part of the body is left.
async fn read_beginning(response: &mut Response, answer: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        answer.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - answer.len())]);
        if answer.len() == ANSWER_BYTES_MAX {
            return;
        }
    }
}

fn judge(status: StatusCode, headers: &HeaderMap, answer: &str, now: Timestamp) -> Outcome {
    let code = Some(status.as_u16());
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| parse_retry_after(text, now));
    let failed = Verdict::Failed { retry_after };
    if status.is_success() {
        Outcome::sent(code, answer)
    } else if status == StatusCode::GONE {
        Outcome::answered(Verdict::Gone, code, answer, "answered 410: it wants no more webhooks")
    } else if status.is_redirection() {
        let error = format!("answered {} and wants a redirect, which is not followed", status.as_u16());
        Outcome::answered(failed, code, answer, error)
    } else {
        // The reason is the registered one, not the text that the receiver sent.
        Outcome::answered(
            failed,
            code,
            answer,
            format!("answered {status}").replace(" <unknown status code>", ""),
        )
    }
}

/// Returns the delay that `Retry-After` asks for, in seconds or as a date.
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let delay = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is larger than any limit.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(delay.min(RETRY_AFTER_DURATION_MAX))
}

/// Returns the part of a URL that can be shown. Its path and its query may contain a secret.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn describe(error: &reqwest::Error, place: &str) -> String {
    let reason = root_cause(error);
    if error.is_builder() {
        format!("the request to {place} is invalid: {reason}")
    } else if error.is_dns() {
        // `CheckedResolver` names the host itself.
        reason
    } else if reason.contains("certificate") {
        format!("the certificate of {place} is not accepted: {reason}")
    } else if error.is_connect() {
        format!("cannot connect to {place}: {reason}")
    } else if is_closed(error) {
        format!("{place} closed the connection before it answered")
    } else {
        format!("no valid answer from {place}: {reason}")
    }
}

/// Returns true if the other side closed the connection before the head of its answer was complete.
fn is_closed(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    causes(error).any(|cause| {
        let http = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        http || matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    })
}

/// Returns the innermost cause, which is the most specific one. The outer ones may contain the URL.
fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const LONG: Duration = Duration::from_secs(60);

    /// Serves one connection after the other, each with its answers, and closes it after the last one. Returns each
    /// request that arrives.
    fn serve(connections: &'static [&'static [&'static str]]) -> (SocketAddr, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (arrived, requests) = channel();
        thread::spawn(move || {
            for answers in connections {
                let (mut stream, _) = listener.accept().expect("a connection");
                for answer in *answers {
                    let Some(request) = read_request(&mut stream) else { break };
                    stream.write_all(answer.as_bytes()).expect("written");
                    arrived.send(request).expect("the test is running");
                }
            }
        });
        (address, requests)
    }

    fn read_request(stream: &mut TcpStream) -> Option<String> {
        let mut text = Vec::new();
        // All bodies of these tests end with a brace.
        while !text.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            text.push(byte[0]);
        }
        Some(String::from_utf8(text).expect("UTF-8"))
    }

    /// Returns a sender for which every name has the address 127.0.0.1.
    fn sender(allow_private: bool, change: impl FnOnce(&mut RequestSettings)) -> WebhookSender {
        drop(rustls::crypto::ring::default_provider().install_default());
        let policy = AddressPolicy { allow_private };
        let secrets = vec![Secret::parse(SECRET).expect("a secret")];
        let (method, headers) = (Method::POST, HeaderMap::new());
        let mut settings =
            RequestSettings { method, headers, secrets, policy, connect_within: LONG, send_within: LONG };
        change(&mut settings);
        let lookup = |_: &str| {
            let found = Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
            Box::pin(std::future::ready(found)) as futures_util::future::BoxFuture<'static, _>
        };
        WebhookSender::with_resolver(settings, CheckedResolver::with_lookup(policy, Arc::new(lookup)))
            .expect("a sender")
    }

    fn to(address: SocketAddr) -> WebhookRequest {
        let url = format!("http://hooks.example:{}/path?token=hidden", address.port());
        WebhookRequest { url, body: r#"{"test": 2432232314}"#.to_owned() }
    }

    fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
        request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[tokio::test]
    async fn a_request_has_the_headers_of_standard_webhooks() {
        let (address, requests) = serve(&[&[OK], &[OK]]);
        let outcome = sender(true, |_| ()).send("msg_1", &to(address)).await;
        assert_eq!(outcome, Outcome::sent(Some(200), "done"));
        let request = requests.recv().expect("a request");
        assert!(request.starts_with("POST /path?token=hidden HTTP/1.1\r\n"), "{request}");
        let timestamp =
            header(&request, "webhook-timestamp").and_then(|text| text.parse().ok()).expect("a timestamp");
        assert!((Timestamp::now().as_second() - 60..=Timestamp::now().as_second()).contains(&timestamp));
        let signature = sign(
            &[Secret::parse(SECRET).expect("a secret")],
            "msg_1",
            timestamp,
            to(address).body.as_bytes(),
        );
        assert_eq!(header(&request, "webhook-signature"), Some(signature.as_str()));
        assert_eq!(header(&request, "webhook-id"), Some("msg_1"));
        assert_eq!(header(&request, "content-type"), Some("application/json"));
        assert_eq!(header(&request, "user-agent"), Some(USER_AGENT));

        let other = sender(true, |settings| {
            settings.method = Method::PUT;
            settings.secrets.clear();
            settings.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            settings.headers.insert(WEBHOOK_ID, HeaderValue::from_static("chosen"));
        });
        other.send("msg_2", &to(address)).await;
        let request = requests.recv().expect("a request");
        assert!(request.starts_with("PUT ") && request.matches("content-type").count() == 1, "{request}");
        assert_eq!(header(&request, "content-type"), Some("text/plain"));
        assert_eq!(header(&request, "webhook-signature"), None);
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_a_request_on_a_closed_one_is_sent_once_more() {
        // The receiver reads the second request of the first connection and closes it without an answer.
        let (address, requests) = serve(&[&[OK, OK, ""], &[OK]]);
        let sender = sender(true, |_| ());
        for id in ["msg_1", "msg_2", "msg_3"] {
            assert_eq!(sender.send(id, &to(address)).await, Outcome::sent(Some(200), "done"), "{id}");
        }
        let ids: Vec<_> =
            requests.iter().map(|request| header(&request, "webhook-id").map(str::to_owned)).collect();
        assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["msg_1", "msg_2", "msg_3", "msg_3"]);
    }

    #[tokio::test]
    async fn a_request_on_a_new_connection_is_sent_only_once() {
        let literal =
            |address: SocketAddr| WebhookRequest { url: format!("http://{address}/"), ..to(address) };
        for request_to in [to, literal] {
            let (address, requests) = serve(&[&[""]]);
            let outcome = sender(true, |_| ()).send("msg_1", &request_to(address)).await;
            assert_eq!(outcome.verdict, Verdict::Failed { retry_after: None });
            assert!(
                outcome
                    .error
                    .as_ref()
                    .is_some_and(|error| error.ends_with("closed the connection before it answered"))
            );
            assert_eq!(requests.iter().count(), 1);
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (address, requests) =
            serve(&[&["HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"]]);
        let outcome = sender(true, |_| ()).send("msg_1", &to(address)).await;
        assert_eq!(
            outcome.error.as_deref(),
            Some("answered 302 and wants a redirect, which is not followed")
        );
        assert_eq!(requests.iter().count(), 1);
    }

    #[tokio::test]
    async fn a_refused_address_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("not blocking");
        let address = listener.local_addr().expect("an address");
        let strict = sender(false, |_| ());
        let by_name = strict.send("msg_1", &to(address)).await.error.expect("an error");
        assert!(
            by_name.starts_with("hooks.example has the address 127.0.0.1, which is a loopback address;"),
            "{by_name}"
        );
        let url = format!("http://{address}/?token=hidden");
        let literal =
            strict.send("msg_1", &WebhookRequest { url, body: String::new() }).await.error.expect("an error");
        assert!(literal.starts_with("the address 127.0.0.1 is a loopback address;"), "{literal}");
        assert_eq!(listener.accept().expect_err("no connection").kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn errors_name_the_host_and_the_cause_and_no_secret() {
        let closed =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
        let (invalid, _requests) = serve(&[&["SSH-2.0-OpenSSH\r\n\r\n"]]);
        let sender = sender(true, |_| ());
        for (id, address, expected) in [
            (
                "msg_1",
                closed,
                format!("cannot connect to hooks.example:{}: Connection refused", closed.port()),
            ),
            (
                "msg_1",
                invalid,
                format!("no valid answer from hooks.example:{}: invalid HTTP", invalid.port()),
            ),
            ("line\nbreak", closed, format!("the request to hooks.example:{} is invalid", closed.port())),
        ] {
            let error = sender.send(id, &to(address)).await.error.expect("an error");
            assert!(error.starts_with(&expected) && !error.contains("hidden"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_slow_receiver_runs_into_the_time_out_and_its_status_decides() {
        let (silent, _silent_requests) = serve(&[&["HTTP/1.1 200 OK\r\n", OK]]);
        let (slow, _slow_requests) = serve(&[&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegi", OK]]);
        let sender = sender(true, |settings| settings.send_within = Duration::from_millis(300));
        let error = sender.send("msg_1", &to(silent)).await.error.expect("an error");
        assert_eq!(error, format!("hooks.example:{} did not answer within 300ms", silent.port()));
        assert_eq!(sender.send("msg_1", &to(slow)).await, Outcome::sent(Some(200), "begi"));
    }

    #[tokio::test]
    async fn only_the_beginning_of_an_answer_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let endless = tokio::task::spawn_blocking(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            read_request(&mut stream).expect("a request");
            stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").expect("written");
            // Ends when the other side closes the connection.
            while stream.write_all(&[b'a'; 4096]).is_ok() {}
        });
        let outcome = sender(true, |_| ()).send("msg_1", &to(address)).await;
        assert_eq!(outcome.error.as_deref(), Some("answered 500 Internal Server Error"));
        assert!(outcome.answer.starts_with("aaaa"));
        endless.await.expect("the connection was closed");
    }

    #[test]
    fn the_status_decides_about_the_verdict() {
        let judged = |status: u16, retry_after: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers
                .extend(retry_after.map(|text| (RETRY_AFTER, HeaderValue::from_str(text).expect("a value"))));
            let outcome =
                judge(StatusCode::from_u16(status).expect("a status"), &headers, "", Timestamp::UNIX_EPOCH);
            assert_eq!(outcome.status, Some(status));
            (outcome.verdict, outcome.error.unwrap_or_default())
        };
        let failed = |seconds: u64| Verdict::Failed { retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(judged(204, Some("5")), (Verdict::Sent, String::new()));
        assert_eq!(judged(410, Some("5")).0, Verdict::Gone);
        assert_eq!(
            judged(302, Some("5")),
            (failed(5), "answered 302 and wants a redirect, which is not followed".to_owned())
        );
        assert_eq!(judged(429, Some(" 120 ")), (failed(120), "answered 429 Too Many Requests".to_owned()));
        assert_eq!(judged(503, Some("Thu, 01 Jan 1970 00:01:00 GMT")).0, failed(60));
        assert_eq!(judged(503, Some("Wed, 31 Dec 1969 00:00:00 GMT")).0, failed(0));
        for (endless, text) in
            [(599, "99999999999999999999999"), (400, "86401"), (500, "Thu, 31 Dec 9998 23:59:59 GMT")]
        {
            assert_eq!(judged(endless, Some(text)).0, failed(RETRY_AFTER_DURATION_MAX.as_secs()), "{text}");
        }
        assert_eq!(judged(599, None).1, "answered 599");
        for text in ["", "soon", "-1", "1.5"] {
            assert_eq!(judged(503, Some(text)).0, Verdict::Failed { retry_after: None }, "{text}");
        }
    }
}
