//! The yardstick for an append that is durable before its answer: Redis that syncs every write.

use std::path::Path;
use std::process::Stdio;

use super::{Folder, Process, free_port, wait_for_port};
use crate::Outcome;

pub struct Redis {
    _process: Process,
    _folder: Folder,
    pub address: String,
}

impl Redis {
    pub fn start(above: &Path) -> Outcome<Self> {
        let folder = Folder::new(above, "redis")?;
        let port = free_port()?.to_string();
        let process = Process::start(Path::new("redis-server"), |command| {
            // No snapshots and no rewrites, which would slow Redis down.
            command
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
                .args(["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"])
                .arg("--dir")
                .arg(folder.path())
                .stdout(Stdio::null());
        })?;
        let address = format!("127.0.0.1:{port}");
        wait_for_port(&address)?;
        Ok(Self { _process: process, _folder: folder, address })
    }
}

/// Returns an `XADD` command with the event as the only field of the entry.
pub fn xadd(event: &str) -> Vec<u8> {
    let words = ["XADD", "sales", "*", "e", event];
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    bytes.into_bytes()
}
