//! Listens, accepts connections up to a limit, and ends them when the server stops. At the limit no connection is
//! accepted: clients wait in the kernel's queue and are not reset.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use event::Stop;
use event::limits::{
    CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_READ_DURATION_MAX, IDLE_CONNECTION_CHECK_INTERVAL,
    READ_BUFFER_BYTES_MAX, RESPONSE_BYTES_SMALL_MAX, RESPONSE_IDLE_DURATION_MAX, SOCKETS_MAX,
    STOP_ENDLESS_DURATION_MAX, STOP_IDLE_DURATION_MAX, STOP_REQUESTS_DURATION_MAX,
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
use super::idle_timeout::IdleTimeoutStream;
use super::open_connections::{OpenConnection, OpenConnections, RequestNumber};
use super::response_budget::HeldBytes;
use super::router::RequestRouter;
use super::tls::Certificate;
use crate::config::ListenAt;
use crate::http::{EndlessAnswer, Sockets};

const BACKLOG: u32 = 4_096;
/// Open files that are reserved for uses other than connections.
const FILES_RESERVED: u64 = 256;
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

    /// Exits at once at the next signal, without waiting for pending work.
    pub async fn exit_at_the_next(mut self) {
        let signal = self.wait().await;
        tracing::warn!(
            signal,
            "second signal while stopping: the process exits at once; no acknowledged event is lost"
        );
        std::process::exit(1);
    }
}

pub struct Listener {
    listener: TcpListener,
    tls: Option<Arc<Certificate>>,
}

/// Binds every address, and returns the listeners and their URLs. The second address of `localhost` is optional.
pub async fn bind(
    listen: &[ListenAt],
    certificate: Option<&Arc<Certificate>>,
) -> Result<(Vec<Listener>, Vec<String>), ServeError> {
    let (mut listeners, mut urls) = (Vec::new(), Vec::new());
    for at in listen {
        let certificate = || Arc::clone(certificate.expect("checked: every `https://` address has one"));
        let mut port = at.port;
        for (index, address) in at.addresses().into_iter().enumerate() {
            let address = SocketAddr::new(address.ip(), port);
            match listener(address) {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    listeners.push(Listener { listener, tls: at.tls.then(certificate) });
                }
                Err(error) if index > 0 => {
                    tracing::warn!(%address, %error, "cannot listen on the second address of localhost");
                }
                Err(error) => {
                    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
                    let reason = if taken {
                        "the address is in use; choose another with `--listen localhost:PORT`".to_owned()
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

/// How many connections and sockets there may be at one time.
pub struct Capacity {
    pub connections: usize,
    pub sockets: usize,
}

/// Raises the limit of open files, and returns what it allows. If it is low, sockets get two thirds of it:
/// further connections wait, but further sockets are refused.
pub fn capacity() -> Capacity {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let files = limit.current.unwrap_or(u64::MAX);
    let files = usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX);
    let connections = (files / 3).max(files.saturating_sub(SOCKETS_MAX)).clamp(16, CONNECTIONS_MAX);
    Capacity { connections, sockets: files.saturating_sub(connections).clamp(16, SOCKETS_MAX) }
}

/// Waits until all sockets are closed, for a bounded time.
pub async fn close_sockets(sockets: &Sockets) {
    if !sockets.all_closed(STOP_REQUESTS_DURATION_MAX).await {
        tracing::warn!("some sockets did not close in time; their connections are cut");
    }
}

/// The tasks that serve, until the server stops.
pub struct Serving {
    acceptors: Vec<JoinHandle<()>>,
    permits: Arc<Semaphore>,
    connections_max: usize,
}

impl Serving {
    /// Waits until the last pending request is answered, for a bounded time.
    pub async fn drained(self) {
        // Acceptors may still accept connections, and need permits for them. So all permits are acquired only after
        // they end.
        for acceptor in self.acceptors {
            drop(acceptor.await);
        }
        let all = self.permits.acquire_many(self.connections_max as u32);
        if tokio::time::timeout(STOP_REQUESTS_DURATION_MAX, all).await.is_err() {
            tracing::warn!("some requests did not end in time; their connections are closed");
        }
    }
}

pub fn serve(
    listeners: Vec<Listener>,
    router: RequestRouter,
    stop: &Stop,
    connections_max: usize,
) -> Serving {
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
                () = self.stop.wait() => return self.accept_pending(listener),
            };
            match accepted {
                Ok((stream, peer)) => {
                    let permit = tokio::select! {
                        permit = self.permit() => Some(permit),
                        () = self.stop.wait() => Arc::clone(&self.permits).try_acquire_owned().ok(),
                    };
                    if let Some(permit) = permit {
                        self.spawn(permit, stream, peer);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until one more connection is allowed. Meanwhile closes connections that have waited long for a request.
    async fn permit(&self) -> OwnedSemaphorePermit {
        let mut permit = std::pin::pin!(Arc::clone(&self.permits).acquire_owned());
        loop {
            match timeout(IDLE_CONNECTION_CHECK_INTERVAL, permit.as_mut()).await {
                Ok(permit) => return permit.expect("the semaphore is never closed"),
                Err(_) => self.open.close_longest_waiting(),
            }
        }
    }

    fn spawn(&self, permit: OwnedSemaphorePermit, stream: TcpStream, peer: SocketAddr) {
        let client = Client {
            address: peer.ip(),
            router: Arc::clone(&self.router),
            stop: self.stop.clone(),
            open: self.open.add(),
            permit,
        };
        tokio::spawn(client.connected(stream, self.tls.clone()));
    }

    /// Accepts the connections that are in the kernel's queue already: closing the listener would reset them.
    fn accept_pending(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let Ok((stream, peer)) = listener.accept() else { return };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.spawn(permit, stream, peer);
            }
        }
    }
}

/// One connection.
struct Client {
    address: IpAddr,
    router: Arc<RequestRouter>,
    stop: Stop,
    open: OpenConnection,
    permit: OwnedSemaphorePermit,
}

impl Client {
    async fn connected(self, stream: TcpStream, tls: Option<Arc<Certificate>>) {
        // Nagle's algorithm would delay small answers.
        drop(stream.set_nodelay(true));
        let stream = IdleTimeoutStream::new(stream, RESPONSE_IDLE_DURATION_MAX);
        let Some(tls) = tls else { return self.serve(stream).await };
        let encrypted = tokio::select! {
            encrypted = tls.handshake(stream) => encrypted,
            () = self.stop.wait() => None,
        };
        if let Some(stream) = encrypted {
            self.serve(stream).await;
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { address, router, stop, open, permit } = self;
        let (router, open, permit) = (router.as_ref(), Arc::new(open), Mutex::new(Some(permit)));
        let service = service_fn(async |request: Request<Incoming>| {
            let Some(number) = open.begin_request() else {
                // The connection is being closed, and the request is dropped with it, unread.
                return std::future::pending().await;
            };
            let answer = router.answer(address, request).await;
            let is_endless = answer.extensions().get::<EndlessAnswer>().is_some();
            let mut answer = track_sending(answer, &open, number);
            if is_endless {
                // From now on it counts among the sockets. No further request comes over this connection.
                drop(event::lock(&permit).take());
                open.leave_requests();
            }
            if is_endless || stop.asked() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response, Infallible>(answer)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_DURATION_MAX)
            // hyper allows at most 100 headers. To set that limit here would cost an allocation per request.
            .max_header_size(HEADER_BYTES_MAX)
            // After a large body, a connection keeps a buffer of this size for as long as it stays open.
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            // A client may close its sending side and still read the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            // A WebSocket leaves the connection, which then ends here.
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // A connection that the client ends badly is not an error of the server.
            _ = connection.as_mut() => {}
            () = open.closed() => {}
            () = stop.wait() => {
                let ended = async {
                    if timeout(STOP_IDLE_DURATION_MAX, connection.as_mut()).await.is_err() {
                        connection.as_mut().graceful_shutdown();
                        // A reader of an endless answer may not read, so that its end cannot be sent.
                        let wait_max = if open.has_left() { STOP_ENDLESS_DURATION_MAX } else { Duration::MAX };
                        drop(timeout(wait_max, connection).await);
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

/// Marks the request as finished once the answer is handed to the kernel: at once if it is small and complete,
/// otherwise after its last piece.
fn track_sending(answer: Response, open: &Arc<OpenConnection>, request: RequestNumber) -> Response {
    if answer.body().size_hint().exact().is_some_and(|bytes| bytes <= RESPONSE_BYTES_SMALL_MAX as u64) {
        open.finish_request(request);
        return answer;
    }
    let guard = Arc::new(SendingGuard { open: Arc::clone(open), request });
    answer.map(|body| {
        let guarded = move |bytes| Bytes::from_owner(HeldBytes { bytes, _held: Arc::clone(&guard) });
        Body::new(body.map_frame(move |frame| frame.map_data(&guarded)))
    })
}

/// Marks a request as finished when it is dropped, with the last piece of the answer.
struct SendingGuard {
    open: Arc<OpenConnection>,
    request: RequestNumber,
}

impl Drop for SendingGuard {
    fn drop(&mut self) {
        self.open.finish_request(self.request);
    }
}
