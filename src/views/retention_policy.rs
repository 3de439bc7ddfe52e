//! `[retention]`: how long events and rows are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use event::limits::RETENTION_DURATION_MIN;
use event::{SettingErrors, WrittenDuration, suggestion};
use serde::Deserialize;

use super::View;

/// How long data is kept. `None` and missing entries mean that it is kept without a limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Events of all streams.
    pub log: Option<KeptFor>,
    /// The maximum size of the log.
    pub log_bytes: Option<ByteCount>,
    /// The events of one stream, if they are kept for a shorter time.
    pub streams: BTreeMap<String, KeptFor>,
    /// The rows of a view.
    pub rows: BTreeMap<String, KeptFor>,
}

/// A time that is long enough for retention.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct KeptFor(pub Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteCount(pub u64);

impl RetentionPolicy {
    /// Adds an error for each stream or view that does not exist, and for each view whose rows have no age. `streams`
    /// and `views` are all declared names; `valid` are the views without errors.
    pub fn check(
        &self,
        streams: &[&str],
        views: &[&str],
        valid: &BTreeMap<String, View>,
        errors: &mut SettingErrors,
    ) {
        for stream in self.streams.keys().filter(|stream| !streams.contains(&stream.as_str())) {
            let names = suggestion(stream, "streams", streams.iter().copied());
            let reason = format!("names stream `{stream}`, which is not declared{names}");
            errors.add(&["streams", stream], reason);
        }
        for name in self.rows.keys() {
            if !views.contains(&name.as_str()) {
                let names = suggestion(name, "views", views.iter().copied());
                errors.add(&["rows", name], format!("names view `{name}`, which is not declared{names}"));
            } else if valid.get(name).is_some_and(|view| view.row_table().is_none()) {
                let reason =
                    format!("names view `{name}`, which is not of kind `table`: its rows have no age");
                errors.add(&["rows", name], reason);
            }
        }
    }

    pub fn keeps_everything(&self) -> bool {
        self.log.is_none() && self.log_bytes.is_none() && self.streams.is_empty() && self.rows.is_empty()
    }

    /// Returns the shortest time for which events are kept.
    pub fn shortest(&self) -> Option<Duration> {
        let bytes = self.log_bytes.map(|_| RETENTION_DURATION_MIN);
        let kept = self.log.iter().chain(self.streams.values()).map(|kept| kept.0);
        kept.chain(bytes).min()
    }
}

impl TryFrom<String> for KeptFor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match WrittenDuration::try_from(text.clone())?.0 {
            kept if kept < RETENTION_DURATION_MIN => {
                Err(format!("`{text}` is too short: nothing may be deleted within 7 days"))
            }
            kept => Ok(Self(kept)),
        }
    }
}

/// Parses a size such as `512MiB`, `20GiB` or `1TiB`.
impl TryFrom<String> for ByteCount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size such as `512MiB` or `20GiB`");
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
        let shift = match text[unit_at..].trim_start() {
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_or_refused() {
        let bytes = |text: &str| ByteCount::try_from(text.to_owned()).map(|bytes| bytes.0);
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("20 GiB"), Ok(20 << 30));
        for text in ["", "20", "GiB", "20GB", "-1GiB", "0MiB", "99999999999999TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
