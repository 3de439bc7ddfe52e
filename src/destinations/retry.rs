//! When a failed attempt is repeated.

use std::time::Duration;

use event::limits::{RETRIES_MAX, RETRY_AFTER_DURATION_MAX, RETRY_SCHEDULE_DEFAULT};
use event::parse_duration;
use serde::Deserialize;

/// The delays before the attempts that follow a failed one. After the last of them, a notification becomes a dead
/// letter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct RetrySchedule(Vec<Duration>);

impl Default for RetrySchedule {
    fn default() -> Self {
        Self(RETRY_SCHEDULE_DEFAULT.to_vec())
    }
}

impl TryFrom<Vec<String>> for RetrySchedule {
    type Error = String;

    fn try_from(delays: Vec<String>) -> Result<Self, String> {
        if delays.len() > RETRIES_MAX {
            return Err(format!("lists more than {RETRIES_MAX} delays"));
        }
        let delay = |text: &String| match parse_duration(text)? {
            delay if delay > RETRY_AFTER_DURATION_MAX => Err(format!("`{text}` is more than a day")),
            delay => Ok(delay),
        };
        delays.iter().map(delay).collect::<Result<_, _>>().map(Self)
    }
}

impl RetrySchedule {
    /// Returns the delay before the next attempt after `failed` attempts have failed; `None` if there is none.
    /// `asked` is the delay that the receiver asks for, which only makes the delay longer. `fraction` is a random number
    /// between 0 and 1, and adds up to a tenth, so that notifications that failed together do not come back together.
    pub fn delay(&self, failed: u32, asked: Option<Duration>, fraction: f64) -> Option<Duration> {
        let delay = *self.0.get(usize::try_from(failed).ok()?.checked_sub(1)?)?;
        let asked = asked.unwrap_or_default().min(RETRY_AFTER_DURATION_MAX);
        Some(delay.max(asked) + delay.mul_f64(fraction / 10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_default_has_four_attempts_in_all() {
        let schedule = RetrySchedule::default();
        let delays: Vec<_> = (1..=4).map(|failed| schedule.delay(failed, None, 0.0)).collect();
        assert_eq!(delays, [Some(seconds(1)), Some(seconds(5)), Some(seconds(30)), None]);
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_delay_and_jitter_adds_up_to_a_tenth() {
        let schedule = RetrySchedule::default();
        assert_eq!(schedule.delay(1, Some(seconds(7)), 0.0), Some(seconds(7)));
        assert_eq!(schedule.delay(3, Some(seconds(7)), 0.0), Some(seconds(30)));
        assert_eq!(schedule.delay(3, None, 1.0), Some(seconds(33)));
        assert_eq!(schedule.delay(1, Some(seconds(10_000_000)), 0.0), Some(RETRY_AFTER_DURATION_MAX));
    }

    #[test]
    fn a_written_schedule_may_be_empty_but_not_endless() {
        let read = |list: &[&str]| {
            RetrySchedule::try_from(list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]).map(|schedule| schedule.delay(1, None, 0.5)), Ok(None));
        assert_eq!(read(&["2m"]).map(|schedule| schedule.delay(1, None, 0.0)), Ok(Some(seconds(120))));
        assert!(read(&["2 weeks"]).is_err() && read(&["2d"]).is_err() && read(&["1s"; 101]).is_err());
    }
}
