//! Where chance comes from: the clock, or `MILLRACE_CRASH_SEED`, which repeats a schedule.

use std::time::SystemTime;

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Says which seed it was, should the test fail.
pub struct Seed(pub u64);

impl Seed {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self(number("MILLRACE_CRASH_SEED").unwrap_or(u64::from(now.subsec_nanos())))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MILLRACE_CRASH_SEED={}", self.0);
        }
    }
}
