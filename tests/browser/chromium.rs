//! Chromium without a window, in an empty profile of its own, and its end, whatever happens.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Should this process be killed, nobody else would end the browser.
const SECONDS_MAX: &str = "120";

pub struct Chromium {
    group: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    pub fn visit(address: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("timeout");
        // Its processes are a group, which is ended as a whole.
        command.process_group(0).args(["--signal=KILL", SECONDS_MAX, "chromium"]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        // A container may have little of the memory that browsers like to share.
        command.arg("--disable-dev-shm-usage");
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(address);
        command.env_clear().env("HOME", profile.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let group = command.spawn().expect("the commands `timeout` and `chromium` are there");
        Self { group, _profile: profile }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = format!("-{}", self.group.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.group.wait());
    }
}
