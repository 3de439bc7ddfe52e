//! Headless Chromium with a new, empty profile. It is killed when it is dropped, and after two minutes at most.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Limits the run time of the browser, because a killed test process cannot end it.
const SECONDS_MAX: &str = "120";

pub struct Chromium {
    group: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    pub fn visit(address: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("timeout");
        // Its processes form a group, so that they can be killed together.
        command.process_group(0).args(["--signal=KILL", SECONDS_MAX, "chromium"]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        // A container's /dev/shm may be too small for a browser.
        command.arg("--disable-dev-shm-usage");
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(address);
        command.env_clear().env("HOME", profile.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let group = command.spawn().expect("the commands `timeout` and `chromium` are installed");
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
