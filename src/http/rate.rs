//! Rates as people write them: `1000/s`, `60/m`.

use std::time::Duration;

use serde::Deserialize;

/// A number of requests per time. Those of one second may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// The time between two requests that come evenly.
    pub interval: Duration,
    /// The number of requests that may come at once.
    pub burst: u32,
}

/// The request rates that are allowed. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub per_key: Option<Rate>,
    pub per_address: Option<Rate>,
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        rate(&text).ok_or_else(|| format!("`{text}` is not a rate such as `1000/s` or `60/m`"))
    }
}

fn rate(text: &str) -> Option<Rate> {
    let (number, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        _ => return None,
    };
    let number = number.parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number))?;
    Some(Rate { interval: Duration::from_secs(seconds) / number, burst: (number / seconds as u32).max(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_allows_a_burst_of_one_second() {
        let of = |text: &str| rate(text).map(|rate| (rate.interval.as_micros(), rate.burst));
        assert_eq!(of("1000/s"), Some((1_000, 1_000)));
        assert_eq!(of("600/m"), Some((100_000, 10)));
        assert_eq!(of("6/m"), Some((10_000_000, 1)));
        for text in ["", "10", "0/s", "-1/s", "1/h", "1.5/s", "2000000/s", "ten/s", "1 /s", "+/s"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
