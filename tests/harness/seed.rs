//! The seed of a random schedule: the clock, or `MILLRACE_CRASH_SEED` to repeat a schedule.

use std::time::SystemTime;

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// A seed that is printed if the test fails.
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
