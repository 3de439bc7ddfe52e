//! The yardstick for HTTP: a bare axum server in its own process, with the same runtime and allocator as millrace. It
//! reads the body and answers a constant of the same length as millrace's answer.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::header;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::{Process, free_port, wait_for_port};
use crate::Outcome;

const ANSWER: &str = r#"{"message":"Event received","eventId":"00000000-0000-0000-0000-000000000000"}"#;
const PORT: &str = "BARE_PORT";

pub struct Bare {
    _process: Process,
    pub address: String,
}

impl Bare {
    pub fn start() -> Outcome<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let process = Process::start(&std::env::current_exe()?, |command| {
            command.arg("bare-server").env(PORT, &address);
        })?;
        wait_for_port(&address)?;
        Ok(Self { _process: process, address })
    }
}

async fn send_back(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Runs the server; the main function of the child process.
pub fn serve() -> Outcome<()> {
    let address: SocketAddr = std::env::var(PORT)?.parse()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let constant = |_body: Bytes| async { ([(header::CONTENT_TYPE, "application/json")], ANSWER) };
        let echo = |upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(send_back) };
        let routes = Router::new().route("/liveEvent", post(constant)).route("/echo", get(echo));
        let listener = TcpListener::bind(address).await?.tap_io(|stream| drop(stream.set_nodelay(true)));
        Ok(axum::serve(listener, routes).await?)
    })
}
