//! The yardstick for Socket.IO: the server of the package `socket.io` on Node, which answers and does nothing else.

use std::path::Path;

use super::{Process, free_port, wait_for_port};
use crate::Outcome;

/// It answers as the replaced service does, with the event and the callback, and stores nothing.
const PROGRAM: &str = r#"
const { Server } = require("socket.io");
const server = new Server(Number(process.env.PORT), { transports: ["websocket"] });
server.on("connection", (socket) => {
  socket.emit("welcome", { message: "Connected to server", timestamp: Date.now() });
  socket.on("clientData", (data, answer) => {
    const received = { status: "success", messageId: "00000000-0000-0000-0000-000000000000", timestamp: Date.now() };
    socket.emit("messageReceived", received);
    answer(received);
  });
});
"#;

pub struct Node {
    process: Process,
    pub address: String,
}

impl Node {
    /// Starts the server with the packages in `folder/node`.
    pub fn start(folder: &Path) -> Outcome<Self> {
        let port = free_port()?;
        let process = Process::start(Path::new("node"), |command| {
            command
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .env("NODE_PATH", folder.join("node/node_modules"))
                .env("PORT", port.to_string())
                .args(["-e", PROGRAM]);
        })?;
        let address = format!("127.0.0.1:{port}");
        wait_for_port(&address)?;
        Ok(Self { process, address })
    }

    /// Returns the processor time that the server has used.
    pub fn processor_seconds(&self) -> Outcome<f64> {
        self.process.processor_seconds()
    }
}
