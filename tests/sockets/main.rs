//! Socket.IO and WebSocket sources, driven by the JavaScript clients that applications use.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod programs;
mod socketio;
mod websocket;
