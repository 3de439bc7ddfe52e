//! Listening, connections and their limits, and the end of both. At the limit of connections none is
//! accepted: clients wait in the kernel's queue, and are not reset.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use event::Stop;
use event::limits::{
    ANSWER_BYTES_SMALL_MAX, ANSWER_IDLE_DURATION_MAX, CONNECTIONS_MAX, HEADER_BYTES_MAX,
    HEADER_READ_DURATION_MAX, IDLE_CONNECTION_LOOK_INTERVAL, READ_BUFFER_BYTES_MAX, STOP_IDLE_DURATION_MAX,
    STOP_REQUESTS_DURATION_MAX,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ServeError;
use super::idle_timeout::Patient;
use super::open_connections::{OpenConnection, OpenConnections, RequestNumber};
use super::router::RequestRouter;
use super::tls::Certificate;
use crate::config::ListenAt;

const BACKLOG: u32 = 4_096;
/// Files that are not connections.
const FILES_KEPT: u64 = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

pub fn stop_signals() -> std::io::Result<StopSignals> {
    Ok(StopSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl StopSignals {
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Whoever asks again while the server stops does not want to wait for what it still does.
    pub async fn end_by_the_next(mut self) {
        let signal = self.wait().await;
        tracing::warn!(
            signal,
            "asked again while stopping: the process ends at once, and loses nothing by it"
        );
        std::process::exit(1);
    }
}

pub struct Listener {
    listener: TcpListener,
    tls: Option<Arc<Certificate>>,
}

/// Binds every address; of `localhost`, the second family may be missing. Answers the URLs.
pub async fn bind(
    listen: &[ListenAt],
    certificate: Option<&Arc<Certificate>>,
) -> Result<(Vec<Listener>, Vec<String>), ServeError> {
    let (mut listeners, mut urls) = (Vec::new(), Vec::new());
    for at in listen {
        let certificate = || Arc::clone(certificate.expect("the configuration has one where it is needed"));
        let mut port = at.port;
        for (index, address) in at.addresses().into_iter().enumerate() {
            let address = SocketAddr::new(address.ip(), port);
            match listener(address) {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    listeners.push(Listener { listener, tls: at.tls.then(certificate) });
                }
                Err(error) if index > 0 => tracing::warn!(%address, %error, "not listening here as well"),
                Err(error) => {
                    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
                    let reason = if taken {
                        "the address is in use; `--listen localhost:PORT` takes another".to_owned()
                    } else {
                        error.to_string()
                    };
                    return Err(ServeError::Listen { address: address.to_string(), reason });
                }
            }
        }
        urls.push(at.to_string().replace(&format!(":{}", at.port), &format!(":{port}")));
    }
    Ok((listeners, urls))
}

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// As many as the process may have files open, up to our own bound.
fn connections_max() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let files = limit.current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(FILES_KEPT)).unwrap_or(usize::MAX).clamp(16, CONNECTIONS_MAX)
}

/// What serves, until it is told to stop.
pub struct Serving {
    acceptors: Vec<JoinHandle<()>>,
    permits: Arc<Semaphore>,
    connections_max: usize,
}

impl Serving {
    /// Ends when the last request under way is answered, or patience is over.
    pub async fn drained(self) {
        // They may still take some, for whom there has to be room before all of it is asked for.
        for acceptor in self.acceptors {
            drop(acceptor.await);
        }
        let all = self.permits.acquire_many(self.connections_max as u32);
        if tokio::time::timeout(STOP_REQUESTS_DURATION_MAX, all).await.is_err() {
            tracing::warn!("some requests did not end in time and are cut off");
        }
    }
}

pub fn serve(listeners: Vec<Listener>, router: RequestRouter, stop: &Stop) -> Serving {
    let connections_max = connections_max();
    let permits = Arc::new(Semaphore::new(connections_max));
    metrics::gauge!("millrace_connections_max").set(connections_max as f64);
    let router = Arc::new(router);
    let open = OpenConnections::new();
    let accept = |Listener { listener, tls }| {
        let (permits, router) = (Arc::clone(&permits), Arc::clone(&router));
        let acceptor = Acceptor { permits, open: open.clone(), tls, router, stop: stop.clone() };
        tokio::spawn(acceptor.run(listener))
    };
    let acceptors = listeners.into_iter().map(accept).collect();
    Serving { acceptors, permits, connections_max }
}

struct Acceptor {
    permits: Arc<Semaphore>,
    open: OpenConnections,
    tls: Option<Arc<Certificate>>,
    router: Arc<RequestRouter>,
    stop: Stop,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.wait() => return self.take_last(listener),
            };
            match accepted {
                Ok((stream, peer)) => {
                    let permit = tokio::select! {
                        permit = self.permit() => Some(permit),
                        () = self.stop.wait() => Arc::clone(&self.permits).try_acquire_owned().ok(),
                    };
                    if let Some(permit) = permit {
                        self.take(permit, stream, peer);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for room for one more connection, and makes some if there are connections without requests.
    async fn permit(&self) -> OwnedSemaphorePermit {
        let mut permit = std::pin::pin!(Arc::clone(&self.permits).acquire_owned());
        loop {
            match timeout(IDLE_CONNECTION_LOOK_INTERVAL, permit.as_mut()).await {
                Ok(permit) => return permit.expect("the semaphore is never closed"),
                Err(_) => self.open.close_longest_waiting(),
            }
        }
    }

    fn take(&self, permit: OwnedSemaphorePermit, stream: TcpStream, peer: SocketAddr) {
        let client = Client {
            address: peer.ip(),
            router: Arc::clone(&self.router),
            stop: self.stop.clone(),
            open: self.open.add(),
            _permit: permit,
        };
        tokio::spawn(client.connected(stream, self.tls.clone()));
    }

    /// Those who are in the kernel's queue already would be reset with the listener.
    fn take_last(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let Ok((stream, peer)) = listener.accept() else { return };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.take(permit, stream, peer);
            }
        }
    }
}

/// One connection, and what its requests need.
struct Client {
    address: IpAddr,
    router: Arc<RequestRouter>,
    stop: Stop,
    open: OpenConnection,
    _permit: OwnedSemaphorePermit,
}

impl Client {
    async fn connected(self, stream: TcpStream, tls: Option<Arc<Certificate>>) {
        // Small answers must not wait for more to send.
        drop(stream.set_nodelay(true));
        let stream = Patient::new(stream, ANSWER_IDLE_DURATION_MAX);
        let Some(tls) = tls else { return self.serve(stream).await };
        let encrypted = tokio::select! {
            encrypted = tls.handshake(stream) => encrypted,
            () = self.stop.wait() => None,
        };
        if let Some(stream) = encrypted {
            self.serve(stream).await;
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let Self { address, router, stop, open, _permit } = self;
        let (router, open) = (router.as_ref(), Arc::new(open));
        let service = service_fn(async |request: Request<Incoming>| {
            let Some(number) = open.begins_request() else {
                // Dropped with its connection, which is closed just now: nothing of it was looked at.
                return std::future::pending().await;
            };
            let answer = router.answer(address, request).await;
            let mut answer = until_sent(answer, &open, number);
            if stop.asked() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response, Infallible>(answer)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_DURATION_MAX)
            // A hundred headers at most are hyper's own bound; said here, it would cost an allocation a request.
            .max_header_size(HEADER_BYTES_MAX)
            // Kept by a connection that once sent a large body, for as long as it stays open.
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            // A client that has said all it has to say may still want the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // How a connection ends is its client's affair.
            _ = connection.as_mut() => {}
            () = open.closed() => {}
            () = stop.wait() => {
                let ended = async {
                    if timeout(STOP_IDLE_DURATION_MAX, connection.as_mut()).await.is_err() {
                        connection.as_mut().graceful_shutdown();
                        drop(connection.await);
                    }
                };
                tokio::select! {
                    () = ended => {}
                    () = open.closed() => {}
                }
            }
        }
    }
}

/// The connection waits for its next request once this answer is handed over: at once where it is small and whole,
/// otherwise with the last of its pieces.
fn until_sent(answer: Response, open: &Arc<OpenConnection>, request: RequestNumber) -> Response {
    if answer.body().size_hint().exact().is_some_and(|bytes| bytes <= ANSWER_BYTES_SMALL_MAX as u64) {
        open.waits_after(request);
        return answer;
    }
    let sent = Arc::new(Sent { open: Arc::clone(open), request });
    answer.map(|body| {
        let marked = move |bytes| Bytes::from_owner(Marked { bytes, _sent: Arc::clone(&sent) });
        Body::new(body.map_frame(move |frame| frame.map_data(&marked)))
    })
}

/// A piece of an answer, which is kept until it is written to the connection.
struct Marked {
    bytes: Bytes,
    _sent: Arc<Sent>,
}

impl AsRef<[u8]> for Marked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Dropped with the last piece of an answer.
struct Sent {
    open: Arc<OpenConnection>,
    request: RequestNumber,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.open.waits_after(self.request);
    }
}
