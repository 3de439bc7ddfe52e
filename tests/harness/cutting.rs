//! A proxy between millrace and its database that fails as networks do. It refuses connections, stalls them or
//! cuts them. It can also cut a connection at a COMMIT: before the database receives it, or after the database
//! has executed it and before millrace receives the answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::servers::{Kind, Server};
use super::wire::{Frames, commits, committed};

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The behaviour of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Refuses new connections, as if no server listened. Open connections continue.
    Refuse,
    /// Forwards nothing in either direction, and closes nothing.
    Stall,
}

/// The moment at which the connection of a COMMIT is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The database has not received the COMMIT, and rolls back.
    Before,
    /// The database has executed the COMMIT; its answer is lost.
    After,
}

/// Selects the COMMITs that are cut.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    None,
    /// The next `n` COMMITs.
    Next(u32),
    /// Every `n`th COMMIT, counted from the last cut.
    Every(u32),
    /// About one in `one_in` COMMITs; the seed decides which.
    Drawn {
        seed: u64,
        one_in: u32,
    },
}

struct State {
    mode: Mode,
    listening: bool,
    ended: bool,
    which: Which,
    moment: Moment,
    /// The number of COMMITs since the last cut.
    since: u32,
    seen: u64,
    cut: u64,
    /// Both ends of each open connection.
    open: Vec<[TcpStream; 2]>,
}

struct Shared {
    kind: Kind,
    server_port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy that forwards everything.
    pub fn in_front_of(server: &Server) -> Self {
        assert!(!server.setup.tls, "the proxy cannot read connections with TLS");
        let port = super::servers::free_port();
        let state = State {
            mode: Mode::Pass,
            listening: true,
            ended: false,
            which: Which::None,
            moment: Moment::After,
            since: 0,
            seen: 0,
            cut: 0,
            open: Vec::new(),
        };
        let shared = Arc::new(Shared {
            kind: server.kind,
            server_port: server.port,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let listener = listen(port);
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.accept(port, listener))
        };
        Self { port, shared, accepting: Some(accepting) }
    }

    /// Returns the URL of a database of the server, with the port of this proxy.
    pub fn url(&self, url: &str) -> String {
        let direct = format!("@127.0.0.1:{}/", self.shared.server_port);
        assert!(url.contains(&direct), "{url} is not a database of the proxied server");
        url.replace(&direct, &format!("@127.0.0.1:{}/", self.port))
    }

    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Refuses new connections. Open connections continue until they are cut.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    pub fn stall(&self) {
        self.set(Mode::Stall);
    }

    /// Blocks until the mode is in effect, so that the next connection already meets it.
    fn set(&self, mode: Mode) {
        let mut state = self.shared.state.lock().unwrap();
        state.mode = mode;
        self.shared.changed.notify_all();
        let differs = |state: &mut State| state.listening == (mode == Mode::Refuse);
        drop(self.shared.changed.wait_while(state, differs).unwrap());
    }

    /// Cuts every open connection.
    pub fn cut(&self) {
        cut_all(&mut self.shared.state.lock().unwrap());
    }

    /// Sets which COMMITs are cut from now on, and at which moment.
    pub fn cut_commits(&self, moment: Moment, which: Which) {
        let mut state = self.shared.state.lock().unwrap();
        (state.moment, state.which, state.since) = (moment, which, 0);
    }

    /// Returns the number of connections that were opened since the last `cut`.
    pub fn open_connections(&self) -> usize {
        self.shared.state.lock().unwrap().open.len()
    }

    pub fn commits_seen(&self) -> u64 {
        self.shared.state.lock().unwrap().seen
    }

    pub fn commits_cut(&self) -> u64 {
        self.shared.state.lock().unwrap().cut
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock().unwrap();
            state.ended = true;
            cut_all(&mut state);
        }
        self.shared.changed.notify_all();
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn listen(port: u16) -> TcpListener {
    // Another process may use the port for an outgoing connection for a moment, so retry.
    let bound = (0..500).find_map(|_| {
        let bound = TcpListener::bind(("127.0.0.1", port));
        bound.inspect_err(|_| std::thread::sleep(std::time::Duration::from_millis(10))).ok()
    });
    let listener = bound.unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn cut_all(state: &mut State) {
    for end in state.open.drain(..).flatten() {
        // The other end may already be closed.
        drop(end.shutdown(Shutdown::Both));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, port: u16, listener: TcpListener) {
        let mut listening = Some(listener);
        loop {
            let (ended, mode) = {
                let state = self.state.lock().unwrap();
                (state.ended, state.mode)
            };
            match (&listening, mode) {
                _ if ended => return,
                (Some(_), Mode::Refuse) => {
                    // Shut it down explicitly: a process that another test forks now keeps it open until `exec`.
                    let listener = listening.take().map(|listener| TcpStream::from(OwnedFd::from(listener)));
                    listener.into_iter().for_each(|listener| drop(listener.shutdown(Shutdown::Both)));
                    self.set_listening(false);
                }
                (None, Mode::Refuse) => {}
                (None, _) => {
                    listening = Some(listen(port));
                    self.set_listening(true);
                }
                (Some(listener), _) => {
                    if let Ok((client, _)) = listener.accept() {
                        self.connect(client);
                        continue;
                    }
                }
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn set_listening(&self, listening: bool) {
        self.state.lock().unwrap().listening = listening;
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server_port)) else { return };
        client.set_nonblocking(false).unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        let mut state = self.state.lock().unwrap();
        state.open.push([clone(&client), clone(&server)]);
        // Is true while the answer to a COMMIT is expected that must not reach the client.
        let lost = Arc::new(Mutex::new(false));
        let (there, back) = (Arc::clone(self), Arc::clone(self));
        let (lost_there, from, to) = (Arc::clone(&lost), clone(&client), clone(&server));
        std::thread::spawn(move || there.forward(from, to, &lost_there));
        std::thread::spawn(move || back.answer(server, client, &lost));
    }

    /// Forwards frames from the client to the server.
    fn forward(&self, mut from: TcpStream, mut to: TcpStream, lost: &Mutex<bool>) {
        let mut frames = Frames::of_client(self.kind);
        while let Some(bytes) = read(&mut from) {
            for frame in frames.take(bytes) {
                self.wait_while_stalled();
                match commits(self.kind, &frame).then(|| self.cuts()).flatten() {
                    Some(Moment::Before) => return cut(&from, &to),
                    Some(Moment::After) => *lost.lock().unwrap() = true,
                    None => {}
                }
                if to.write_all(&frame).is_err() {
                    return cut(&from, &to);
                }
            }
        }
        cut(&from, &to);
    }

    /// Forwards frames from the server to the client. The answer that must be lost is read before the cut, so that
    /// the commit is complete.
    fn answer(&self, mut from: TcpStream, mut to: TcpStream, lost: &Mutex<bool>) {
        let mut frames = Frames::of_server(self.kind);
        while let Some(bytes) = read(&mut from) {
            for frame in frames.take(bytes) {
                self.wait_while_stalled();
                let mut lost = lost.lock().unwrap();
                match lost.then(|| committed(self.kind, &frame)).flatten() {
                    Some(true) => {
                        self.state.lock().unwrap().cut += 1;
                        return cut(&from, &to);
                    }
                    Some(false) => *lost = false,
                    None => {}
                }
                drop(lost);
                if to.write_all(&frame).is_err() {
                    return cut(&from, &to);
                }
            }
        }
        cut(&from, &to);
    }

    fn wait_while_stalled(&self) {
        let stalled = |state: &mut State| state.mode == Mode::Stall && !state.ended;
        drop(self.changed.wait_while(self.state.lock().unwrap(), stalled).unwrap());
    }

    /// Counts a COMMIT. Returns the moment at which to cut it, or `None` if it passes.
    fn cuts(&self) -> Option<Moment> {
        let mut state = self.state.lock().unwrap();
        state.seen += 1;
        state.since += 1;
        let since = state.since;
        let cuts = match &mut state.which {
            Which::None | Which::Next(0) => false,
            Which::Next(left) => {
                *left -= 1;
                true
            }
            Which::Every(count) => since >= *count,
            Which::Drawn { seed, one_in } => {
                // A step of xorshift, which gives the same sequence on every machine.
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                seed.is_multiple_of(u64::from(*one_in))
            }
        };
        if !cuts {
            return None;
        }
        state.since = 0;
        if state.moment == Moment::Before {
            state.cut += 1;
        }
        Some(state.moment)
    }
}

fn read(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 64 << 10];
    let count = from.read(&mut bytes).ok().filter(|count| *count > 0)?;
    bytes.truncate(count);
    Some(bytes)
}

fn cut(one: &TcpStream, other: &TcpStream) {
    drop(one.shutdown(Shutdown::Both));
    drop(other.shutdown(Shutdown::Both));
}
