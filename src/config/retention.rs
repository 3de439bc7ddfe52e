//! `[retention]`: how long events and rows are kept. Without the section, everything is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use event::limits::RETENTION_DURATION_MIN;
use serde::Deserialize;

use super::duration::duration;
use super::location::Location;
use super::{ConfigError, Stream};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long events of all streams are kept.
    pub log: Option<Duration>,
    /// The maximum size of the log.
    pub log_bytes: Option<u64>,
    /// How long the events of one stream are kept, if that is shorter.
    pub streams: BTreeMap<String, Duration>,
    /// How long the rows of a view are kept.
    pub rows: BTreeMap<String, Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSection {
    log: Option<String>,
    log_bytes: Option<String>,
    #[serde(default)]
    streams: BTreeMap<String, String>,
    #[serde(default)]
    rows: BTreeMap<String, String>,
}

impl RetentionSection {
    /// `keeps_rows` fails if the view does not exist, or if its rows have no age.
    pub fn check(
        &self,
        location: &Location,
        streams: &BTreeMap<String, Stream>,
        keeps_rows: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Retention, ConfigError> {
        let wrong = |reason: String| ConfigError::at(location, format!("`[retention]` {reason}"));
        let keep = |text: &String| {
            let keep = duration(text).map_err(|reason| wrong(format!("is invalid: {reason}")))?;
            if keep < RETENTION_DURATION_MIN {
                Err(wrong(format!("has `{text}`; no time may be shorter than 7 days")))
            } else {
                Ok(keep)
            }
        };
        let mut retention = Retention {
            log: self.log.as_ref().map(keep).transpose()?,
            log_bytes: self.log_bytes.as_ref().map(|text| bytes(text).map_err(wrong)).transpose()?,
            ..Retention::default()
        };
        for (stream, text) in &self.streams {
            if !streams.contains_key(stream) {
                return Err(wrong(format!("names stream `{stream}`, which is not declared")));
            }
            retention.streams.insert(stream.clone(), keep(text)?);
        }
        for (view, text) in &self.rows {
            keeps_rows(view).map_err(wrong)?;
            retention.rows.insert(view.clone(), keep(text)?);
        }
        Ok(retention)
    }
}

/// Parses a size such as `512MiB`, `20GiB` or `1TiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("has `{text}`, which is not a size such as `512MiB` or `20GiB`");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let shift = match text[unit_at..].trim_start() {
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_or_refused() {
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("20 GiB"), Ok(20 << 30));
        for text in ["", "20", "GiB", "20GB", "-1GiB", "0MiB", "99999999999999TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
