//! A subscription to changes, over Server-Sent Events. It connects again after a lost connection, and continues after
//! the last message that it has.

use std::time::Duration;

use event::limits::{LIVE_MESSAGE_BYTES_MAX, LIVE_RETRY_DELAY_MIN, LIVE_SILENCE_DURATION_MAX};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Client, root_cause};
use super::event_stream::{EventStream, Message, MessageTooLarge};
use super::exit::Failure;
use super::output::bytes_text;

/// The server proposes a delay. A longer one than this is not accepted.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

pub struct Live<'a> {
    client: &'a Client,
    path: String,
    /// The id of the last message, after which the next connection continues.
    after: Option<String>,
    response: Option<Response>,
    /// The messages of the response that have arrived.
    messages: EventStream,
    retry_delay: Duration,
    connect_at: Instant,
    /// The connection is lost, and the caller knows it.
    loss_reported: bool,
}

/// What a subscriber gets.
#[derive(Debug)]
pub enum Update {
    /// A value, an event or a row.
    Change(Box<RawValue>),
    /// The server cannot continue after the last message, for this reason.
    Reset(String),
    /// The connection is lost, for this reason. `Live` connects again until it succeeds, and reports this only once.
    Lost(String),
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

#[derive(Deserialize)]
struct Missed {
    after: String,
}

impl<'a> Live<'a> {
    /// Creates a subscription. It connects when it is asked for the first update.
    pub fn new(client: &'a Client, path: String) -> Self {
        Self {
            client,
            path,
            after: None,
            response: None,
            messages: EventStream::default(),
            retry_delay: LIVE_RETRY_DELAY_MIN,
            connect_at: Instant::now(),
            loss_reported: false,
        }
    }

    /// Subscribes to `path` from now on, and forgets the last message.
    pub fn start_again(&mut self, path: String) {
        self.path = path;
        self.after = None;
        self.disconnect(Duration::ZERO);
    }

    /// Waits for the next update. Fails if the server refuses the subscription.
    pub async fn next(&mut self) -> Result<Update, Failure> {
        loop {
            while let Some(message) = self.messages.pop() {
                if let Some(update) = self.take(message)? {
                    return Ok(update);
                }
            }
            let done = match self.response {
                Some(_) => self.receive().await,
                None => self.connect().await,
            };
            match done {
                Err(Failure::Unreachable(reason)) => {
                    if let Some(lost) = self.lose(reason) {
                        return Ok(lost);
                    }
                }
                done => done?,
            }
        }
    }

    /// Returns the next update if it is a change that has arrived already.
    pub fn arrived_change(&mut self) -> Result<Option<Box<RawValue>>, Failure> {
        let Some(message) = self.messages.pop_unnamed() else { return Ok(None) };
        match self.take(message)? {
            Some(Update::Change(change)) => Ok(Some(change)),
            _ => Ok(None),
        }
    }

    fn take(&mut self, message: Message) -> Result<Option<Update>, Failure> {
        if let Some(delay) = message.retry {
            self.retry_delay = delay.min(RETRY_DELAY_MAX);
        }
        if let Some(id) = message.id {
            self.after = Some(id);
        }
        match message.name.as_str() {
            "" if message.data.is_empty() => Ok(None),
            "" => Ok(Some(Update::Change(decode(&message.data)?))),
            "reset" => Ok(Some(Update::Reset(decode::<Reason>(&message.data)?.reason))),
            "missed" => {
                // What follows on this connection comes after what is missing.
                self.after = Some(decode::<Missed>(&message.data)?.after);
                self.disconnect(Duration::ZERO);
                Ok(None)
            }
            "end" => match decode::<Reason>(&message.data)?.reason.as_str() {
                "stopping" => Ok(self.lose(format!("the server at {} is stopping", self.client.url()))),
                // The answer to the next connection says why.
                _ => {
                    self.disconnect(self.retry_delay);
                    Ok(None)
                }
            },
            // A server of a later version may have other messages.
            _ => Ok(None),
        }
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        sleep_until(self.connect_at).await;
        let mut request = self.client.request(Method::GET, &self.path).header("accept", "text/event-stream");
        if let Some(after) = &self.after {
            request = request.header("last-event-id", after);
        }
        let opened = timeout(LIVE_SILENCE_DURATION_MAX, self.client.open(request)).await;
        let response = opened.map_err(|_| self.silent())??;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(Failure::Failed(format!(
                "{} does not send live changes; use a server of the same version",
                self.client.url()
            )));
        }
        self.response = Some(response);
        Ok(())
    }

    /// Waits for the next piece of the response.
    async fn receive(&mut self) -> Result<(), Failure> {
        let Some(response) = &mut self.response else { return Ok(()) };
        let url = self.client.url();
        let lost = |reason: &str| Failure::Unreachable(format!("the connection to {url} was lost: {reason}"));
        match timeout(LIVE_SILENCE_DURATION_MAX, response.chunk()).await {
            Err(_) => Err(self.silent()),
            Ok(Err(error)) => Err(lost(&root_cause(&error))),
            Ok(Ok(None)) => Err(lost("the server closed it")),
            Ok(Ok(Some(piece))) => {
                self.loss_reported = false;
                self.messages.push(&piece).map_err(too_large)
            }
        }
    }

    fn silent(&self) -> Failure {
        let (url, seconds) = (self.client.url(), LIVE_SILENCE_DURATION_MAX.as_secs());
        Failure::Unreachable(format!("the connection to {url} was lost: nothing arrived for {seconds} s"))
    }

    /// Ends the connection. Returns the loss unless it was reported before.
    fn lose(&mut self, reason: String) -> Option<Update> {
        self.disconnect(self.retry_delay);
        let is_known = std::mem::replace(&mut self.loss_reported, true);
        (!is_known).then_some(Update::Lost(reason))
    }

    /// Ends the connection, and forgets the messages that nobody has taken.
    fn disconnect(&mut self, delay: Duration) {
        self.response = None;
        self.messages = EventStream::default();
        self.connect_at = Instant::now() + delay;
    }
}

fn decode<T: DeserializeOwned>(data: &str) -> Result<T, Failure> {
    serde_json::from_str(data).map_err(|error| {
        Failure::Failed(format!(
            "cannot decode a message of the server: {error}; use a server of the same version"
        ))
    })
}

fn too_large(_: MessageTooLarge) -> Failure {
    Failure::Failed(format!(
        "the server sent a message of more than {}; use a server of the same version",
        bytes_text(LIVE_MESSAGE_BYTES_MAX as u64)
    ))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    fn client(address: SocketAddr) -> Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Client::new(http, format!("http://{address}"), None)
    }

    /// Accepts a connection, answers with `text`, and returns the request's head and the connection.
    async fn answer(listener: &TcpListener, text: &str) -> (String, TcpStream) {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4_096];
        let mut filled = 0;
        while !head[..filled].ends_with(b"\r\n\r\n") {
            filled += stream.read(&mut head[filled..]).await.expect("a request");
        }
        stream.write_all(text.as_bytes()).await.expect("sent");
        (String::from_utf8_lossy(&head[..filled]).to_lowercase(), stream)
    }

    async fn change(live: &mut Live<'_>) -> String {
        match live.next().await {
            Ok(Update::Change(value)) => value.get().to_owned(),
            other => panic!("no change, but {other:?}"),
        }
    }

    async fn loss(live: &mut Live<'_>) -> String {
        match live.next().await {
            Ok(Update::Lost(reason)) => reason,
            other => panic!("no loss, but {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_lost_connection_is_reported_once_and_continues_after_the_last_message() {
        let (listener, address) = listener().await;
        let client = client(address);
        let server = tokio::spawn(async move {
            let text = format!("{HEAD}retry: 1\n\nid: 7\ndata: 1\n\nid: 8\ndata: incompl");
            let first = answer(&listener, &text).await.0;
            answer(&listener, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
            let second = answer(&listener, &format!("{HEAD}id: 8\ndata: 2\n\n")).await.0;
            (first, second)
        });
        let mut live = Live::new(&client, "/live?from=0".to_owned());
        assert_eq!(change(&mut live).await, "1");
        assert!(loss(&mut live).await.starts_with(&format!("the connection to http://{address} was lost: ")));
        assert_eq!(change(&mut live).await, "2");
        let (first, second) = server.await.expect("the server");
        assert!(
            first.starts_with("get /live?from=0 http/1.1\r\n") && !first.contains("last-event-id"),
            "{first}"
        );
        assert!(second.contains("last-event-id: 7\r\n"), "{second}");
    }

    #[tokio::test]
    async fn what_was_missed_is_read_after_the_place_that_the_server_names() {
        let (listener, address) = listener().await;
        let client = client(address);
        let server = tokio::spawn(async move {
            let missed = "id: 9\nevent: missed\ndata: {\"stream\":\"s\",\"positions\":5,\"after\":\"3\"}\n\n";
            let text = format!("{HEAD}id: 3\ndata: 1\n\n{missed}id: 10\ndata: 10\n\n");
            let _first = answer(&listener, &text).await;
            let reset = "id: 12\nevent: reset\ndata: {\"stream\":\"s\",\"reason\":\"deleted\"}\n\n";
            let second = answer(&listener, &format!("{HEAD}id: 4\ndata: 4\n\n{reset}data: 13\n\n")).await;
            let end = "event: end\ndata: {\"reason\":\"stopping\"}\n\n";
            let third = answer(&listener, &format!("{HEAD}retry: 1\n\n{end}")).await;
            let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
            let _last = answer(&listener, refusal).await;
            (second.0, third.0)
        });
        let mut live = Live::new(&client, "/live".to_owned());
        assert_eq!((change(&mut live).await, change(&mut live).await), ("1".to_owned(), "4".to_owned()));
        assert!(live.arrived_change().expect("valid messages").is_none());
        assert!(matches!(live.next().await, Ok(Update::Reset(reason)) if reason == "deleted"));
        live.start_again("/live?from=4".to_owned());
        assert!(loss(&mut live).await.ends_with(" is stopping"));
        assert!(matches!(live.next().await, Err(Failure::NotAllowed(_))));
        let (second, third) = server.await.expect("the server");
        assert!(second.contains("last-event-id: 3\r\n"), "{second}");
        assert!(third.starts_with("get /live?from=4 ") && !third.contains("last-event-id"), "{third}");
    }

    #[tokio::test]
    async fn a_silent_connection_counts_as_lost() {
        let (listener, address) = listener().await;
        let client = client(address);
        let mut live = Live::new(&client, "/live".to_owned());
        let text = format!("{HEAD}data: 1\n\n");
        let ((_head, _open), first) = tokio::join!(answer(&listener, &text), change(&mut live));
        assert_eq!(first, "1");
        // From now on, time passes as soon as everything waits.
        tokio::time::pause();
        let begun = Instant::now();
        assert!(loss(&mut live).await.ends_with("was lost: nothing arrived for 45 s"));
        assert!(begun.elapsed() >= LIVE_SILENCE_DURATION_MAX);
    }
}
