//! When a key was last used. All requests with the key share the value, so they write it only once a minute.

use std::sync::atomic::{AtomicI64, Ordering};

use event::Millis;
use event::limits::KEY_USE_NOTED_INTERVAL;

/// When a key was last used, to the minute; 0 if it never was. Requests set it, and it is stored from time to time.
#[derive(Debug, Default)]
pub struct LastUse(AtomicI64);

impl LastUse {
    pub fn at(time: Option<Millis>) -> Self {
        Self(AtomicI64::new(time.map_or(0, |time| time.0)))
    }

    pub fn time(&self) -> Option<Millis> {
        Some(Millis(self.0.load(Ordering::Relaxed))).filter(|time| time.0 > 0)
    }

    /// Notes a use, and writes only once a minute: all requests with a key share this value.
    pub fn note(&self, now: Millis) {
        let noted = self.0.load(Ordering::Relaxed);
        if now.0 - noted >= KEY_USE_NOTED_INTERVAL.as_millis() as i64 {
            self.0.fetch_max(now.0, Ordering::Relaxed);
        }
    }
}

impl Clone for LastUse {
    fn clone(&self) -> Self {
        Self::at(self.time())
    }
}

/// Two keys with the same properties are equal, whenever they were used.
impl PartialEq for LastUse {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastUse {}
