//! A web site with another origin than millrace's. It serves one page at each path, to one browser.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const SILENCE_DURATION_MAX: Duration = Duration::from_secs(30);

pub struct Site {
    address: SocketAddr,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    /// The paths that browsers have asked for.
    asked: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Page {
    text: String,
    /// The number of loads that remain.
    loads: u32,
}

impl Site {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut site = Self {
            address: listener.local_addr().unwrap(),
            pages: Arc::default(),
            asked: Arc::default(),
            closed: Arc::default(),
            thread: None,
        };
        let (pages, asked, closed) =
            (Arc::clone(&site.pages), Arc::clone(&site.asked), Arc::clone(&site.closed));
        site.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                // A browser opens connections on which it sends no request for a while.
                let (stream, pages, asked) = (stream.unwrap(), Arc::clone(&pages), Arc::clone(&asked));
                std::thread::spawn(move || drop(answer(&stream, &pages, &asked)));
            }
        }));
        site
    }

    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// Returns whether a browser has asked for this path.
    pub fn was_asked(&self, path: &str) -> bool {
        self.times_asked(path) > 0
    }

    pub fn times_asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    /// Serves a page at `path`, and returns its URL. The page reloads itself until it was loaded `loads` times.
    pub fn show(&self, path: &str, text: &str, loads: u32) -> String {
        self.pages.lock().unwrap().insert(path.to_owned(), Page { text: text.to_owned(), loads });
        format!("{}{path}", self.origin())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(
    mut stream: &TcpStream,
    pages: &Mutex<BTreeMap<String, Page>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_DURATION_MAX))?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    asked.lock().unwrap().push(path.to_owned());
    let (status, again, text) = match pages.lock().unwrap().get_mut(path) {
        Some(page) => {
            page.loads = page.loads.saturating_sub(1);
            ("200 OK", if page.loads > 0 { "Refresh: 0\r\n" } else { "" }, page.text.clone())
        }
        None => ("404 Not Found", "", String::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n{again}\
         Connection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}
